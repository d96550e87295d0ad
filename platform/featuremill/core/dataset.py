"""Datasets: transformed rows in shards by split, and the manifest that makes them one.

Workers write each fragment's rows into files of their own, named by fragment and attempt, in a hidden folder beside the
place where the run will be. The launcher takes the files that successful attempts reported, gives them their final
names, writes the manifest, and moves the whole folder into place in one step: a run is there complete, or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

from featuremill.artifacts.errors import JobError, RequestError
from featuremill.artifacts.schemas import schema_to_json
from featuremill.core.backends import BackendsTold
from featuremill.core.job_fragment import JobFragment, Split
from featuremill.core.jobfile import NAME
from featuremill.core.parquet_sink import ShardFile
from featuremill.transforms.fragments import TransformedBatch, TransformedFragment
from featuremill.transforms.onnx_backend import choices
from featuremill.transforms.texts_told import TextsTold
from featuremill.transforms.vector_memory import working_for
from featuremill.transforms.widened import origin

__all__ = [
    "FragmentResult",
    "Shard",
    "Staging",
    "WriteShards",
    "commit",
    "leave_dead_letters",
    "publish_run",
    "save_results",
]

MANIFEST = "manifest.json"
RECORD = "run.json"
UNSPLIT = "all"
"""The name of the one split of a job that has no split."""
REJECTED = "_rejected"
"""The folder of the dead letters in a run; readers of Parquet folders skip names that start with an underscore."""


@dataclass(frozen=True)
class Shard:
    """One file that a worker wrote."""

    split: str
    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class FragmentResult:
    """What one successful attempt made of one fragment."""

    fragment: str
    read: int
    """Rows that the fragment gave, after the job's filter."""
    promised: int | None
    """Rows that the fragment said it has; None under a filter."""
    shards: tuple[Shard, ...]
    left_out: int = 0
    """Of the rows read, those that the job does not want, being of another split."""
    models: Mapping[str, int] = field(default_factory=dict)
    """Rows by the versions of the models that predicted them."""

    @property
    def balanced(self) -> bool:
        """Whether every row that was read went somewhere, and none twice."""
        return self.read == self.left_out + self.written + self.aside

    @property
    def written(self) -> int:
        return sum(s.rows for s in self.shards if s.split != REJECTED)

    @property
    def aside(self) -> int:
        return sum(s.rows for s in self.shards if s.split == REJECTED)


class Staging:
    """The hidden folder of a run that is under way.

    Parameters
    ----------
    dataset
        The dataset's folder.
    run
        The run's name.
    """

    def __init__(self, dataset: str, run: str) -> None:
        self.run = run
        # Absolute, since workers may stand elsewhere.
        self.final = Path(dataset).absolute() / run
        self.path = self.final.parent / f".{run}.staging"

    @property
    def artifact(self) -> Path:
        """Where MLTransform writes."""
        return self.path / "artifact"

    @property
    def shards(self) -> Path:
        """Where workers write."""
        return self.path / "shards"

    @property
    def results(self) -> Path:
        """Where the pipeline leaves its list of :class:`FragmentResult`."""
        return self.path / "results.json"

    @property
    def progress(self) -> Path:
        """Where workers note their progress."""
        return self.path / "progress.tsv"

    def open(self) -> None:
        """An empty staging folder; what a failed or killed run of the same name left behind is removed.

        Raises
        ------
        RequestError
            When the run's folder is already there, or the dataset's folder cannot be written to.
        """
        if not NAME.fullmatch(self.run):
            raise RequestError(
                f"The run id got {self.run!r}, expected letters, digits, '.', '_' and '-', first a letter or digit.",
                run=self.run,
            )
        if (self.final / MANIFEST).exists() or (self.final.exists() and not (self.final / RECORD).exists()):
            raise RequestError(
                f"The output {self.final} already holds a run. Choose another --run-id or path, or remove it.",
                path=str(self.final),
            )
        try:
            for leftover in (self.path, self.final):
                if leftover.exists():
                    shutil.rmtree(leftover)
            self.shards.mkdir(parents=True)
        except OSError as error:
            raise RequestError(
                f"The output folder {self.final.parent} cannot be written to: {error.strerror or error}. "
                "Choose another path or mend its permissions.",
                path=str(self.final.parent),
            ) from error

    def load_results(self) -> list[FragmentResult]:
        """What the pipeline reported, in the order of the fragments; nothing when there was no fragment."""
        items = json.loads(self.results.read_text()) if self.results.exists() else []
        found = [FragmentResult(**{**item, "shards": tuple(Shard(**s) for s in item["shards"])}) for item in items]
        return sorted(found, key=lambda r: r.fragment)

    def close(self) -> None:
        """Remove whatever is left."""
        shutil.rmtree(self.path, ignore_errors=True)


class WriteShards(beam.PTransform):  # type: ignore[misc]
    """Transformed fragments in; their rows in files, and one element out, when the list of results is written."""

    def __init__(self, staging: Staging, schema: pa.Schema, split: Split | None, compression: str) -> None:
        super().__init__()
        self.staging = staging
        self.schema = schema
        self.split = split
        self.compression = compression

    def expand(self, fragments: beam.PCollection[TransformedFragment]) -> beam.PCollection[str]:
        return (
            fragments
            | "Write" >> beam.ParDo(_WriteFragment(str(self.staging.shards), self.schema, self.split, self.compression))
            | "Results" >> beam.GroupByKey()
            | "WriteResults" >> beam.Map(_write_results, str(self.staging.results))
        )


def _write_results(keyed: tuple[None, Iterable[FragmentResult]], path: str) -> str:
    return save_results(keyed[1], path)


def save_results(results: Iterable[FragmentResult], path: str) -> str:
    """Leave the results where :meth:`Staging.load_results` finds them, complete or not at all; the path."""
    content = json.dumps([asdict(r) for r in sorted(results, key=lambda r: r.fragment)])
    attempt = f"{path}.{uuid.uuid4().hex}"
    Path(attempt).write_text(content)
    os.replace(attempt, path)
    return path


class _WriteFragment(beam.DoFn):  # type: ignore[misc]
    def __init__(self, folder: str, schema: pa.Schema, split: Split | None, compression: str) -> None:
        self.folder = folder
        self.schema = schema
        self.split = split
        self.compression = compression
        self.written = Metrics.counter("featuremill", "rows_written")
        self.aside = Metrics.counter("featuremill", "rows_aside")
        self.backends = BackendsTold()
        self.texts = TextsTold()

    def process(self, fragment: TransformedFragment) -> Iterator[tuple[None, FragmentResult]]:
        files = _FragmentFiles(self.folder, fragment.key, self.compression)
        job: JobFragment = origin(fragment)  # a job's fragments are made of JobFragments
        read = 0
        try:
            with working_for(job.memory) as counts:
                for item in fragment.transformed():
                    for name, batch in _by_split(item, self.split):
                        files.write(name, batch if batch.schema.equals(self.schema) else batch.cast(self.schema))
                    if item.rejects:
                        files.write(REJECTED, _dead_letters(item, fragment.key, read))
                    read += item.source.num_rows + item.rejected.num_rows
            shards = files.close()
        except BaseException:
            files.discard()
            raise
        result = FragmentResult(fragment.key, read, job.source.rows, shards)
        self.written.inc(result.written)
        self.aside.inc(result.aside)
        self.backends.tell(choices())
        self.texts.tell(counts)
        job.note("write", read)
        yield None, result


def _by_split(item: TransformedBatch, split: Split | None) -> Iterator[tuple[str, pa.RecordBatch]]:
    if split is None:
        yield UNSPLIT, item.result
        return
    codes = split.codes(item.source)
    for position, name in enumerate(split.names):
        yield name, item.result.filter(pa.array(codes == position))


def _dead_letters(item: TransformedBatch, fragment: str, before: int) -> pa.RecordBatch:
    """The rows set aside as they were read, and why: columns `_reason`, `_transform`, `_column`, `_fragment`, `_row`.

    `_row` is the row's position among those that its fragment gives; `before` of them came in earlier batches.
    """
    rejected = item.rejected
    arrays = [a.dictionary_decode() if pa.types.is_dictionary(a.type) else a for a in rejected.columns]
    extra = {
        "_reason": pa.array([r.reason for r in item.rejects], pa.string()),
        "_transform": pa.array([r.transform for r in item.rejects], pa.string()),
        "_column": pa.array([r.column for r in item.rejects], pa.string()),
        "_fragment": pa.array([fragment] * len(item.rejects), pa.string()),
        "_row": pa.array([before + r.row for r in item.rejects], pa.int64()),
    }
    return pa.RecordBatch.from_arrays([*arrays, *extra.values()], [*rejected.schema.names, *extra])


class _FragmentFiles:
    """The files of one attempt at one fragment, one for each split that has rows."""

    def __init__(self, folder: str, fragment: str, compression: str) -> None:
        self._folder = folder
        self._name = f"{fragment}.{uuid.uuid4().hex}.parquet"
        self._compression = compression
        self._files: dict[str, ShardFile] = {}

    def write(self, split: str, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        if split not in self._files:
            path = os.path.join(self._folder, split, self._name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._files[split] = ShardFile(path, batch.schema, self._compression)
        self._files[split].write(batch)

    def close(self) -> tuple[Shard, ...]:
        shards = []
        for split, file in self._files.items():
            file.close()
            with open(file.path, "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            shards.append(Shard(split, file.path, file.rows, os.path.getsize(file.path), digest))
        return tuple(shards)

    def discard(self) -> None:
        for file in self._files.values():
            file.discard()


def commit(
    staging: Staging, results: Sequence[FragmentResult], schema: pa.Schema, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the staged shards a dataset: final names, the manifest, one move. Returns the manifest's content.

    Parameters
    ----------
    facts
        What else the manifest says: artifact version, source, job digest, splits.

    Raises
    ------
    JobError
        When a shard is missing or was changed, or another run took the place meanwhile.
    """
    ready = staging.path / "run"
    ready.mkdir()
    files = []
    by_split: dict[str, list[Shard]] = {}
    for result in sorted(results, key=lambda r: r.fragment):
        for shard in result.shards:
            by_split.setdefault(shard.split, []).append(shard)
    for split, shards in sorted(by_split.items()):
        (ready / split).mkdir()
        for number, shard in enumerate(shards):
            name = f"{split}/part-{number:05d}-of-{len(shards):05d}.parquet"
            if not os.path.exists(shard.path):
                raise JobError(f"The shard {shard.path} that a worker wrote has gone.", path=shard.path)
            os.rename(shard.path, ready / name)
            facts_of = {"rows": shard.rows, "bytes": shard.bytes, "sha256": shard.sha256}
            files.append({"path": name, "split": split, **facts_of})
    manifest = {
        "format_version": 1,
        **facts,
        "rows": {s: sum(x.rows for x in shards) for s, shards in sorted(by_split.items())},
        "schema": schema_to_json(schema),
        "files": files,
    }
    (ready / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False, default=str) + "\n")
    return manifest


def publish_run(staging: Staging, record: str) -> None:
    """Move the finished run into place, with its record. The last step: before it there is no run."""
    ready = staging.path / "run"
    (ready / RECORD).write_text(record)
    try:
        os.rename(ready, staging.final)
    except OSError as error:
        raise JobError(
            f"The run could not be moved to {staging.final}: {error.strerror}. Another run may have taken the place.",
            path=str(staging.final),
        ) from error
    staging.close()


def leave_dead_letters(staging: Staging, record: str, *, keep: bool) -> None:
    """After a failed run: its record, and the rows set aside when `keep`. No manifest: it is no dataset."""
    try:
        ready = staging.path / "run"
        if ready.exists():
            shutil.rmtree(ready)
        ready.mkdir()
        if keep:
            shards = [s for r in staging.load_results() for s in r.shards if s.split == REJECTED]
            (ready / REJECTED).mkdir()
            for number, shard in enumerate(shards):
                os.rename(shard.path, ready / REJECTED / f"part-{number:05d}-of-{len(shards):05d}.parquet")
        publish_run(staging, record)
    finally:
        staging.close()

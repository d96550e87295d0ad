"""Datasets: transformed rows in shards by split, and the manifest that makes them one.

Workers write each fragment's rows into files of their own, named by fragment and attempt, in a hidden place beside the
one where the run will be (see `staging.py`). The launcher takes the files that successful attempts reported, gives them
their final names, writes the manifest, and publishes: a run is there complete, or not at all. Rows may as well go to a
table (see `unfinished.py`); the run's folder then holds the manifest, the record and the rows set aside.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from featuremill.artifacts.errors import MissingArtifactError, RequestError
from featuremill.artifacts.schemas import schema_to_json
from featuremill.artifacts.store import open_store
from featuremill.core.backends import BackendsTold
from featuremill.core.files import Place
from featuremill.core.job_fragment import JobFragment, Split
from featuremill.core.quality.fragment_quality import FragmentQuality
from featuremill.core.quality.riding import Riding
from featuremill.core.quality.statistics.collecting import QUALITY
from featuremill.core.quality.statistics.combine import combine_quality
from featuremill.core.shards import REJECTED, UNSPLIT, RowSink, Shard
from featuremill.core.staging import MANIFEST, RECORD, way_of
from featuremill.core.strict import NAME
from featuremill.transforms.fragments import TransformedBatch, TransformedFragment
from featuremill.transforms.onnx_backend import choices
from featuremill.transforms.texts_told import TextsTold
from featuremill.transforms.vector_memory import working_for
from featuremill.transforms.widened import origin

__all__ = [
    "REJECTED",
    "UNSPLIT",
    "FragmentResult",
    "Shard",
    "Staging",
    "WriteShards",
    "commit",
    "leave_dead_letters",
    "publish_run",
    "save_results",
]


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
    quarantined: int = 0
    """Of the rows set aside, those that a check took out."""

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
    """The hidden place of a run that is under way.

    Parameters
    ----------
    dataset
        The dataset's folder, or its address in a bucket.
    run
        The run's name.
    shared_disk
        Whether workers see the files of this machine, so that they can note their progress in one of them.
    hidden
        The staging place of a run that was killed, to go on with it; None: one of its own.
    """

    def __init__(self, dataset: str, run: str, *, shared_disk: bool = True, hidden: str | None = None) -> None:
        self.run = run
        # Absolute, since workers may stand elsewhere.
        self._store = open_store(dataset)
        self._way = way_of(self._store, run, hidden)
        self.final = Place(self._store.root) / run
        self.path = Place(self._store.root) / self._way.hidden
        self._texts: dict[str, str] = {}
        self._taken: dict[str, str] = {}
        self._shared_disk = shared_disk
        self._scratch = ""

    @property
    def artifact(self) -> Place:
        """Where the fitted artifact is written."""
        return self.path / "artifact"

    @property
    def shards(self) -> Place:
        """Where workers write."""
        return self.path / "shards"

    @property
    def results(self) -> Place:
        """Where the pipeline leaves its list of :class:`FragmentResult`."""
        return self.path / "results.json"

    @property
    def quality(self) -> Place:
        """Where the states of the checks and profiles lie."""
        return self.path / "quality"

    @property
    def progress(self) -> Place | None:
        """Where workers note their progress; None when they share no disk with the launcher."""
        if self._store.local_path("") is not None:
            return self.path / "progress.tsv"
        return Place(self._scratch) / "progress.tsv" if self._scratch else None

    def open(self) -> None:
        """An empty staging place; what a failed or killed run of the same name left behind is removed.

        Raises
        ------
        RequestError
            When there is a run of that name already, or the dataset's place is missing or cannot be written to.
        """
        if not NAME.fullmatch(self.run):
            raise RequestError(
                f"The run id got {self.run!r}, expected letters, digits, '.', '_' and '-', first a letter or digit.",
                run=self.run,
            )
        if self._way.is_taken():
            raise RequestError(
                f"The output {self.final} already holds a run. Choose another --run-id or path, or remove it.",
                path=str(self.final),
            )
        self._way.clear()
        self._drop_scratch()
        if self._shared_disk and self._store.local_path("") is None:
            self._scratch = tempfile.mkdtemp(prefix="featuremill-")

    def is_published(self) -> bool:
        """Whether there is a complete run of that name."""
        return self._store.exists(f"{self.run}/{MANIFEST}")

    def is_open(self) -> bool:
        """Whether it is there, and not closed nor taken over by another run of the same name."""
        return self._way.is_open()

    def load_results(self) -> list[FragmentResult]:
        """What the pipeline reported, in the order of the fragments; nothing when there was no fragment."""
        try:
            items = json.loads(self._store.get(f"{self._way.hidden}/results.json"))
        except MissingArtifactError:
            return []
        found = [FragmentResult(**{**item, "shards": tuple(Shard(**s) for s in item["shards"])}) for item in items]
        return sorted(found, key=lambda r: r.fragment)

    def shard_name(self, split: str, number: int, of: int, sha256: str) -> str:
        """What a shard is called in the run: ``train/part-00000-of-00008.parquet``, in a bucket with its digest."""
        return f"{split}/part-{number:05d}-of-{of:05d}{self._way.suffix(sha256)}.parquet"

    def take(self, shards: Mapping[str, str]) -> None:
        """Let shards be part of the run: their paths, and their names in it.

        Raises
        ------
        JobError
            When one has gone.
        """
        self._taken |= shards
        self._way.take(shards)

    def to_note(self) -> dict[str, Any]:
        """What another process needs to publish the run, JSON-ready."""
        return {"hidden": self._way.hidden, "taken": self._taken, "texts": self._texts}

    @classmethod
    def from_note(cls, dataset: str, run: str, note: Mapping[str, Any]) -> Staging:
        """The staging place of a run that was killed, as it was when it was noted."""
        staging = cls(dataset, run, shared_disk=False, hidden=note["hidden"])
        if not staging.is_published():
            staging.take(note["taken"])
        for name, text in note["texts"].items():
            staging.write_text(name, text)
        return staging

    def write_text(self, name: str, text: str) -> None:
        """Let a small file, such as a report, be part of the run, whether it succeeds or fails.

        Parameters
        ----------
        name
            Relative to the run, with ``/`` between the parts.
        """
        self._texts[name] = text

    def forget_texts(self, folder: str) -> None:
        """Let no small file below a folder of the run be part of it."""
        self._texts = {name: text for name, text in self._texts.items() if not name.startswith(f"{folder}/")}

    def forget(self) -> None:
        """Let no shard be part of the run, and no manifest."""
        self._texts.pop(MANIFEST, None)
        self._way.forget()

    def publish(self) -> None:
        """Let the run be there, and close. The last step: before it there is no run.

        Raises
        ------
        JobError
            When another run took the place meanwhile.
        """
        self._way.publish(self._texts)
        self.close()

    def close(self) -> None:
        """Remove whatever is left."""
        self._drop_scratch()
        self._way.close()

    def _drop_scratch(self) -> None:
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = ""


class WriteShards(beam.PTransform):  # type: ignore[misc]
    """Transformed fragments in; their rows in a sink, and one element out, when the list of results is written.

    What `riding` says is done along the way, and the states that it collects land in the staging place.
    """

    def __init__(
        self, staging: Staging, schema: pa.Schema, split: Split | None, sink: RowSink, riding: Riding | None = None
    ) -> None:
        super().__init__()
        self.riding = riding
        self.staging = staging
        self.schema = schema
        self.split = split
        self.sink = sink

    def expand(self, fragments: beam.PCollection[TransformedFragment]) -> beam.PCollection[str]:
        write = _WriteFragment(self.sink, self.schema, self.split, self.riding)
        results = fragments | "Write" >> beam.ParDo(write).with_outputs(QUALITY, main="results")
        if self.riding is not None:
            combine_quality(results[QUALITY], self.riding.collecting, self.staging.quality)
        return (
            results.results
            | "Results" >> beam.GroupByKey()
            | "WriteResults" >> beam.Map(_write_results, self.staging.results)
        )


def _write_results(keyed: tuple[None, Iterable[FragmentResult]], path: str) -> str:
    return save_results(keyed[1], path)


def save_results(results: Iterable[FragmentResult], path: str) -> str:
    """Leave the results where :meth:`Staging.load_results` finds them, complete or not at all; the path."""
    content = json.dumps([asdict(r) for r in sorted(results, key=lambda r: r.fragment)])
    folder, _, name = path.rpartition("/")
    open_store(folder).put(name, content.encode())
    return path


class _WriteFragment(beam.DoFn):  # type: ignore[misc]
    def __init__(self, sink: RowSink, schema: pa.Schema, split: Split | None, riding: Riding | None) -> None:
        self.riding = riding
        self.sink = sink
        self.schema = schema
        self.split = split
        self.written = Metrics.counter("featuremill", "rows_written")
        self.aside = Metrics.counter("featuremill", "rows_aside")
        self.backends = BackendsTold()
        self.texts = TextsTold()

    def process(self, fragment: TransformedFragment) -> Iterator[Any]:
        attempt = self.sink.attempt(fragment.key)
        job: JobFragment = origin(fragment)  # a job's fragments are made of JobFragments
        read = quarantined = 0
        quality = FragmentQuality(self.riding, fragment.key)
        try:
            with working_for(job.memory) as counts:
                for made in fragment.transformed(quality.screen):
                    item = quality.look(made, read)
                    for name, batch in _by_split(item, self.split):
                        attempt.write(name, batch if batch.schema.equals(self.schema) else batch.cast(self.schema))
                    if item.rejects:
                        attempt.write(REJECTED, _dead_letters(item, fragment.key, read))
                    read += item.read.num_rows
                    quarantined += sum(reject.quarantined for reject in item.rejects)
            shards = attempt.close()
        except BaseException:
            attempt.discard()
            raise
        result = FragmentResult(fragment.key, read, job.source.rows, shards, quarantined=quarantined)
        self.written.inc(result.written)
        self.aside.inc(result.aside)
        self.backends.tell(choices())
        self.texts.tell(counts)
        job.note("write", read)
        yield None, result
        for placed in quality.partials():
            yield TaggedOutput(QUALITY, placed)


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


def commit(
    staging: Staging,
    results: Sequence[FragmentResult],
    schema: pa.Schema,
    facts: Mapping[str, Any],
    *,
    only_aside: bool = False,
) -> dict[str, Any]:
    """Make the staged shards a dataset: final names, and the manifest. Returns the manifest's content.

    Parameters
    ----------
    facts
        What else the manifest says: artifact version, source, job digest, splits.
    only_aside
        Whether the rows went elsewhere, and there are files of those set aside only.

    Raises
    ------
    JobError
        When a shard is missing or was changed, or another run took the place meanwhile.
    """
    files = []
    by_split: dict[str, list[Shard]] = {}
    for result in sorted(results, key=lambda r: r.fragment):
        for shard in result.shards:
            by_split.setdefault(shard.split, []).append(shard)
    names: dict[str, str] = {}
    for split, shards in sorted(by_split.items()):
        for number, shard in enumerate(() if only_aside and split != REJECTED else shards):
            name = names[shard.path] = staging.shard_name(split, number, len(shards), shard.sha256)
            facts_of = {"rows": shard.rows, "bytes": shard.bytes, "sha256": shard.sha256}
            files.append({"path": name, "split": split, **facts_of})
    staging.take(names)
    manifest = {
        "format_version": 1,
        **facts,
        "rows": {s: sum(x.rows for x in shards) for s, shards in sorted(by_split.items())},
        "schema": schema_to_json(schema),
        "files": files,
    }
    staging.write_text(MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False, default=str) + "\n")
    return manifest


def publish_run(staging: Staging, record: str) -> None:
    """Let the finished run be there, with its record. The last step: before it there is no run."""
    staging.write_text(RECORD, record)
    staging.publish()


def leave_dead_letters(staging: Staging, record: str, *, keep: bool) -> None:
    """After a failed run: its record, and the rows set aside when `keep`. No manifest: it is no dataset."""
    try:
        staging.forget()
        if keep:
            shards = [s for r in staging.load_results() for s in r.shards if s.split == REJECTED]
            names = [staging.shard_name(REJECTED, n, len(shards), s.sha256) for n, s in enumerate(shards)]
            staging.take({s.path: name for s, name in zip(shards, names, strict=True)})
        publish_run(staging, record)
    finally:
        staging.close()

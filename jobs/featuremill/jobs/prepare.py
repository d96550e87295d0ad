"""The prepare job: rows to features, an artifact and a dataset.

::

    fragments ─► MLTransform ─► transformed fragments ─► shards ─► commit: artifact, dataset, alias, run record
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from featuremill.artifacts.errors import AliasMoved, JobError, MissingArtifactError, RequestError
from featuremill.artifacts.store import is_url
from featuremill.core.job_run import JobRun, opened_split
from featuremill.core.jobfile import PrepareJob
from featuremill.core.parquet_sink import stored_schema
from featuremill.core.progress import Progress
from featuremill.core.record import RowAccount, RunRecord
from featuremill.core.texts_plan import STAGE, TextPlan, plan_texts
from featuremill.transforms.artifact_cache import bound_pipeline
from featuremill.transforms.contract import Transform
from featuremill.transforms.onnx_backend import models_of
from featuremill.transforms.pipeline import Pipeline
from featuremill.transforms.plan import Scan
from featuremill.transforms.rejects import apply_or_reject
from featuremill.transforms.splitting import split_sql
from featuremill.transforms.stock_stages import check_fits_on_a_split, check_installed, passes

if TYPE_CHECKING:
    from featuremill.core.dataset import Staging
    from featuremill.transforms.vector_memory import VectorMemory

__all__ = ["PreparePlan", "plan", "run"]

FRAGMENTS_PER_SHARD = 16
"""A vocabulary is combined in one piece up to so many fragments, then in one more for each further so many."""
MOST_SHARDS = 64
GOLDEN_ROWS = 8
LARGEST_VOCABULARIES = 5
TOP_TOKENS = 5


@dataclass(frozen=True)
class PreparePlan:
    """What a job would do; nothing has run."""

    job: PrepareJob
    run: str
    source: Mapping[str, Any]
    """Paths, files, rows, bytes, digest."""
    fragments: int
    input_schema: pa.Schema
    output_schema: pa.Schema
    scans: tuple[Scan, ...]
    """The passes that collect statistics; one more applies the transforms and writes."""
    made_by: Mapping[str, str | None]
    """Output column to the last transform that writes it; None: passed through."""
    texts: tuple[TextPlan, ...]
    """When the texts of each column that is embedded become vectors."""
    split_sql: str | None
    """BigQuery's expression for the name of a row's split."""
    dataset: str
    artifact: str
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-ready values."""
        return {
            "job": self.job.name,
            "kind": self.job.kind,
            "run": self.run,
            "source": dict(self.source),
            "fragments": self.fragments,
            "input": [{"name": f.name, "type": str(f.type)} for f in self.input_schema],
            "output": [
                {"name": f.name, "type": str(f.type), "made_by": self.made_by[f.name]} for f in self.output_schema
            ],
            "scans": [{"why": s.why, "columns": list(s.columns), "statistics": len(s.slots)} for s in self.scans],
            "embeddings": [t.to_json() for t in self.texts],
            "split_sql": self.split_sql,
            "dataset": self.dataset,
            "artifact": self.artifact,
            "warnings": list(self.warnings),
        }


def plan(job: PrepareJob, run_id: str | None = None) -> PreparePlan:
    """Everything that can be known of a job before it runs: the source is looked at, its metadata read, no rows.

    Raises
    ------
    RequestError
        When the source is missing or broken, a column is missing or of a type that a transform cannot take.
    """
    return _Prepared(job, run_id).plan


def run(
    job: PrepareJob,
    *,
    run_id: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    beam_options: Sequence[str] = (),
) -> RunRecord:
    """Run the job, and return its record, which is also written as ``run.json`` beside the dataset.

    Parameters
    ----------
    run_id
        The name of the run's folder in the dataset; by default the time and four random digits.
    progress
        Called from another thread as the run moves on.
    beam_options
        Further options for Beam, such as ``["--parallelism=8"]``.

    Raises
    ------
    RequestError
        When the job cannot run as it is; nothing was written.
    JobError
        When it failed on the way; nothing was published, and the dead letters, if any, say which rows and why.
    """
    return _Prepared(job, run_id).run(progress, beam_options)


class _Prepared(JobRun):
    """A prepare job with its source opened and its plan made."""

    def __init__(self, job: PrepareJob, run_id: str | None) -> None:
        super().__init__(job, run_id, job.dataset.path)
        self.job = job
        self.transforms: list[Transform] = list(job.transforms)
        check_installed(self.transforms)
        self.pipeline = Pipeline(self.transforms, self.source.schema)
        self.scans = passes(self.transforms)
        made = {name for t in self.transforms for name in t.output_names}
        self.stored = stored_schema(self.pipeline.output_schema, made)
        self.split = opened_split(job.split, self.source.schema) if job.split else None
        if job.split:
            check_fits_on_a_split(self.transforms)
        self.sql = split_sql(job.split.by, job.split.shares) if job.split else None
        self.describe()
        self.runner = job.runner.sized(self.described["rows"] * len(self.source.schema))
        self.texts = plan_texts(
            self.pipeline.transforms, self.fragments, rows=self.described["rows"],
            cached=job.artifact.embedding_cache is not False, alone=self.runner.mode == "in_memory",
        )  # fmt: skip

    @property
    def plan(self) -> PreparePlan:
        job, pipeline = self.job, self.pipeline
        made_by: dict[str, str | None] = dict.fromkeys(pipeline.output_schema.names)
        for transform in self.transforms:
            made_by.update(dict.fromkeys(transform.output_names, transform.type_name))
        return PreparePlan(
            job=job,
            run=self.name,
            source=self.described,
            fragments=len(self.fragments),
            input_schema=pipeline.input_schema,
            output_schema=pipeline.output_schema,
            scans=self.scans,
            made_by=made_by,
            texts=self.texts,
            split_sql=self.sql,
            dataset=str(Path(job.dataset.path) / self.name),
            artifact=f"{job.artifact.root}/{job.artifact_name}",
            warnings=(),
        )

    @property
    def progress_stages(self) -> list[str]:
        first = [STAGE] if any(t.first for t in self.texts) else []
        return [*first, *(f"scan {i + 1}" for i in range(len(self.scans))), "write"]

    def prepare_to_run(self) -> None:
        self._check_artifact_root()
        self.alias = self._alias() if self.job.artifact.alias else None

    def run_pipeline(self, staging: Staging, beam_options: Sequence[str]) -> None:
        import apache_beam as beam

        from featuremill.core.dataset import WriteShards
        from featuremill.core.job_fragment import JobFragment
        from featuremill.core.runner import pipeline_options, run_pipeline
        from featuremill.core.texts_first import after
        from featuremill.transforms.beam import Transforms
        from featuremill.transforms.beam_ml import MLTransform

        schema = self.source.schema
        runner, memory = self.runner, self._memory(staging)
        fragments = [JobFragment(f, schema, self.split, str(staging.progress), memory) for f in self.fragments]
        shards = min(MOST_SHARDS, 1 + len(fragments) // FRAGMENTS_PER_SHARD)

        def build(pipeline: beam.Pipeline) -> Any:
            created = pipeline | "Fragments" >> beam.Create(fragments, reshuffle=runner.mode != "in_memory")
            return (
                after(created, self.texts, memory, str(staging.artifact.absolute()), workers=runner.threads)
                | "MLTransform"
                >> MLTransform(
                    write_artifact_location=str(staging.artifact.absolute()),
                    transforms=[Transforms(self.transforms, shards=shards, schema=schema)],
                )
                | "Dataset" >> WriteShards(staging, self.stored, self.split, self.job.dataset.compression)
            )

        self.result = run_pipeline(pipeline_options(runner, beam_options), build)

    def commit(self, staging: Staging) -> RunRecord:
        from featuremill.core.backends import backends_of
        from featuremill.core.dataset import REJECTED, commit, publish_run

        results = staging.load_results()
        rows = self.account(staging, results, self.job.max_bad_rows)
        with self.timed("artifact"):
            artifact, states, warnings = self._publish_artifact(staging, rows, self._fitted(results))
        embeddings, told = self._keep_vectors(staging)
        with self.timed("dataset"):
            manifest = commit(
                staging,
                results,
                self.stored,
                {
                    "run": self.name,
                    "job": self.job.name,
                    "artifact": artifact,
                    "source": dict(self.described),
                    "split": self.job.split.model_dump() if self.job.split else None,
                },
            )
        record = self.record(
            status="done",
            rows=rows,
            splits={s: n for s, n in manifest["rows"].items() if s != REJECTED},
            dataset=str(staging.final),
            dead_letters=str(staging.final / REJECTED) if rows.aside else None,
            artifact=artifact,
            features=tuple(
                {"name": f.name, "type": str(f.type), "made_by": self.plan.made_by[f.name]}
                for f in self.pipeline.output_schema
            ),
            backends=backends_of(self.result, models_of(self.transforms)),
            embeddings=embeddings,
            vocabularies=_vocabularies(self.pipeline, states),
            warnings=(*warnings, *told),
        )
        # The run's folder comes last, so that a job that is killed between the two can be run again under its name.
        moved: AliasMoved | None = None
        try:
            if self.job.artifact.alias:
                self._move_alias(self.alias, artifact["version"])
        except AliasMoved as error:
            moved = error
        publish_run(staging, record.to_json())
        if moved is not None:
            raise moved
        return record

    def _memory(self, staging: Staging) -> VectorMemory | None:
        """Where vectors are that need not be computed; None where there are none in the job."""
        from featuremill.core.texts_first import memory_of

        spec = self.job.artifact
        return memory_of(spec.embedding_cache, spec.root, staging.path / "embeddings") if self.texts else None

    def _keep_vectors(self, staging: Staging) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What the record says of texts that became vectors, when these are in the cache; and warnings."""
        from featuremill.core.texts_first import embedding_facts

        memory = self._memory(staging)
        if memory is None:
            return {}, ()
        with self.timed("embeddings"):
            return embedding_facts(memory, self.texts, self.result)

    def _fitted(self, results: Sequence[Any]) -> int:
        """How many of the rows written are those that the statistics were computed on."""
        from featuremill.core.dataset import UNSPLIT

        names = [self.split.fitted] if self.split else [UNSPLIT]
        used: int = sum(s.rows for r in results for s in r.shards if s.split in names)
        if not used:
            what = f"The split {names[0]!r}, which statistics are computed on," if self.split else "The job"
            raise JobError(f"{what} has no rows. Check the source, its filter and the shares of the split.")
        return used

    def _publish_artifact(
        self, staging: Staging, rows: RowAccount, fitted: int
    ) -> tuple[dict[str, Any], Mapping[str, pa.Table], Sequence[str]]:
        """Complete the fitted artifact with what the job knows, and publish it."""
        from featuremill.artifacts.build import read_state, write_fitted
        from featuremill.artifacts.publish import publish
        from featuremill.artifacts.store import open_store
        from featuremill.transforms.beam import attributes

        job = self.job
        (folder,) = (entry for entry in staging.artifact.iterdir() if entry.is_dir())
        store = open_store(folder)
        paths = {slot.key: f"states/{slot.key}.arrow" for slot in self.pipeline.slots()}
        states = {key: read_state(store, path) for key, path in paths.items()}
        warnings = [w for i, t in enumerate(self.transforms) for w in t.warnings(self._own(i, states))]
        golden = self._golden_rows(str(folder))
        manifest = write_fitted(
            store,
            self.pipeline,
            paths,
            name=job.artifact_name,
            golden=golden,
            bound=bound_pipeline(str(folder)) if golden is not None else None,
            rows={"seen": rows.source, "used": fitted, "set_aside": rows.aside},
            provenance={
                "job": job.name,
                "job_digest": job_digest(job),
                "run": self.name,
                "source": dict(self.described),
                "fitted_on": job.split.fitted if job.split else "all rows",
            },
            warnings=warnings,
            attributes=attributes(self.transforms),
        )
        publish(job.artifact.root, job.artifact_name, folder)
        version = manifest.version
        name = f"{job.artifact.root}/{job.artifact_name}"
        artifact = {
            "root": job.artifact.root,
            "name": job.artifact_name,
            "version": version,
            "alias": job.artifact.alias,
            "reference": f"{name}@{version}",
            "path": f"{name}/versions/{version}",
        }
        return artifact, states, warnings

    def _own(self, transform: int, states: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
        return {s.slot: states[s.key] for s in self.pipeline.slots() if s.transform == transform}

    def _golden_rows(self, folder: str) -> pa.RecordBatch | None:
        """The first few rows of the source that can be processed, to be kept with what becomes of them."""
        if any(t.beam_only for t in self.transforms):
            return None
        found = [pa.RecordBatch.from_pylist([], schema=self.pipeline.input_schema)]
        few = [replace(fragment, batch_rows=2 * GOLDEN_ROWS) for fragment in self.fragments]
        for batch in (batch for fragment in few for batch in fragment.batches(None)):
            kept, _, _ = apply_or_reject(bound_pipeline(folder).apply, batch.slice(0, 2 * GOLDEN_ROWS))
            found.append(kept)
            if sum(part.num_rows for part in found) >= GOLDEN_ROWS:
                break
        return pa.concat_batches(found).slice(0, GOLDEN_ROWS)

    def _alias(self) -> str | None:
        """The version that the job's alias stands for now."""
        from featuremill.artifacts.aliases import list_aliases

        try:
            found = list_aliases(self.job.artifact.root, self.job.artifact_name).get(self.job.artifact.alias or "")
        except MissingArtifactError:
            return None
        return found.version if found else None

    def _move_alias(self, before: str | None, version: str) -> None:
        """Let the alias stand for the new version, unless somebody moved it while the job was running."""
        from featuremill.artifacts.aliases import move

        job, now = self.job, self._alias()
        if now == version:
            return
        name = job.artifact.alias or ""
        if now != before:
            raise AliasMoved(
                f"{job.artifact_name}@{name} was moved to {now} while the job was running, and was left there. The run "
                f"itself is complete: its artifact is {version}. Look at both, then move the alias.",
                artifact=job.artifact_name,
                alias=name,
                version=version,
            )
        move(job.artifact.root, job.artifact_name, name, version, why=f"run {self.name}", expected=before)

    def _check_artifact_root(self) -> None:
        """Refuse a folder that cannot be written to before the work rather than after it."""
        root = self.job.artifact.root
        if is_url(root):
            return
        place = Path(root).expanduser().absolute()
        while not place.exists() and place != place.parent:
            place = place.parent
        try:
            os.rmdir(tempfile.mkdtemp(prefix=".featuremill-", dir=place))
        except OSError as error:
            raise RequestError(
                f"The artifact folder {root} cannot be written to: {error.strerror or error}. Choose another "
                "artifact root or mend its permissions.",
                path=root,
            ) from error


def _vocabularies(pipeline: Pipeline, states: Mapping[str, pa.Table]) -> tuple[dict[str, Any], ...]:
    """The largest vocabularies, with their most frequent tokens."""
    found = []
    for slot in pipeline.slots():
        table = states[slot.key]
        if table.column_names[:2] == ["token", "count"]:
            top = table.slice(0, TOP_TOKENS).to_pylist()
            found.append(
                {
                    "column": slot.slot,
                    "size": table.num_rows,
                    "made_by": type(pipeline.transforms[slot.transform]).__name__,
                    "top": [[row["token"], row["count"]] for row in top],
                }
            )
    return tuple(sorted(found, key=lambda v: (-v["size"], v["column"]))[:LARGEST_VOCABULARIES])


def job_digest(job: PrepareJob) -> str:
    """A digest of what a job says, wherever its outputs go."""
    content = job.model_dump(mode="json", exclude={"runner", "dataset", "artifact"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

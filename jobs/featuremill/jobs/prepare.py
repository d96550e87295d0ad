"""The prepare job: rows to features, an artifact and a dataset.

::

    fragments ─► MLTransform ─► transformed fragments ─► shards ─► commit: artifact, dataset, alias, run record
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from featuremill.artifacts.errors import AliasMoved, JobError, ParameterError
from featuremill.artifacts.layout import state_path
from featuremill.artifacts.store import open_store
from featuremill.core.files import Place
from featuremill.core.job_run import JobRun, opened_split
from featuremill.core.jobfile import PrepareJob, RunnerSpec
from featuremill.core.parquet_sink import stored_schema
from featuremill.core.progress import Progress
from featuremill.core.quality.profiles.references import Reference, alias_reference
from featuremill.core.quality.reports.learned import what_was_learned
from featuremill.core.quality.run_quality import RunQuality
from featuremill.core.record import RowAccount, RunRecord
from featuremill.core.run_table import completed
from featuremill.core.shards import letters_schema
from featuremill.core.texts_plan import STAGE, TextPlan, plan_texts
from featuremill.jobs.prepare_artifact import (
    alias_version,
    check_root,
    job_digest,
    largest_vocabularies,
    move_alias,
)
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
    table: Mapping[str, Any] | None
    """The BigQuery table that rows go to, how, and its columns."""
    artifact: str
    warnings: tuple[str, ...]
    quality: Mapping[str, Any]
    """What is checked, and where."""

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
            "table": None if self.table is None else dict(self.table),
            "artifact": self.artifact,
            "quality": dict(self.quality),
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
    found = completed(job, job.dataset, run_id, _finish)
    return found or _Prepared(job, run_id).run(progress, beam_options)


def _finish(staging: Staging, record: RunRecord, then: Mapping[str, Any]) -> None:
    """Publish a run whose rows were committed: its alias moves, and it is there."""
    from featuremill.core.dataset import publish_run

    moved: AliasMoved | None = None
    try:
        if then["alias"]:
            move_alias(**then["alias"], why=f"run {record.run}")
    except AliasMoved as error:
        moved = error
    publish_run(staging, record.to_json())
    if moved is not None:
        raise moved


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
        self.quality = self.checks = RunQuality(
            job.quality,
            run=self.name,
            folder=job.dataset.path,
            raw=self.source.schema,
            output=self.stored,
            own=self._own_reference(),
        )
        table = job.dataset.bigquery
        column = table.split_column if table and job.split else None
        self.open_table(table, self.stored, column, letters_schema(self.source.schema))
        self.describe()
        self.texts = plan_texts(
            self.pipeline.transforms, self.fragments, rows=self.described["rows"],
            cached=job.artifact.embedding_cache is not False, alone=self.runner.mode == "in_memory",
        )  # fmt: skip

    @property
    def runner(self) -> RunnerSpec:
        """What runs the job, sized by its rows; those of a query are known when it has run."""
        rows = self.described["rows"]
        return self.job.runner if rows is None else self.job.runner.sized(rows * len(self.source.schema))

    def _own_reference(self) -> Reference | None:
        """The profiles of what the job published last, where it is to be compared with that."""
        job = self.job
        if job.quality.drift.against != "artifact":
            return None
        if not job.artifact.alias:
            raise ParameterError(
                "drift.against: artifact compares with what artifact.alias stands for, and there is none. Write "
                "artifact.alias, or previous, or ROOT/NAME@VERSION.",
                key=("quality", "drift", "against"),
            )
        return alias_reference(f"{job.artifact.root}/{job.artifact_name}@{job.artifact.alias}")

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
            dataset=Place(job.dataset.path) / self.name,
            table=self.table.describe() if self.table else None,
            artifact=f"{job.artifact.root}/{job.artifact_name}",
            warnings=(),
            quality=self.checks.plan(),
        )

    @property
    def progress_stages(self) -> list[str]:
        first = [STAGE] if any(t.first for t in self.texts) else []
        return [*first, *(f"scan {i + 1}" for i in range(len(self.scans))), "write"]

    @property
    def reads(self) -> list[list[str]]:
        """Texts to be counted, each scan's columns, the split's keys and what takes rows out; all, to write them."""
        keys = [*(self.split.by if self.split else ()), *(self.checks.screen.columns if self.checks.screen else ())]
        texts = list(dict.fromkeys(t.column for t in self.texts if t.first))
        scans = [[*scan.columns, *keys] for scan in self.scans]
        return [*([texts] if texts else []), *scans, list(self.source.schema.names)]

    def prepare_to_run(self) -> None:
        check_root(self.job.artifact.root)
        artifact = self.job.artifact
        self.alias = alias_version(artifact.root, self.job.artifact_name, artifact.alias) if artifact.alias else None

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
        riding = self.checks.riding(len(self.fragments))
        fragments = [
            JobFragment(f, schema, self.split, staging.progress, riding.screen, memory) for f in self.fragments
        ]
        shards = min(MOST_SHARDS, 1 + len(fragments) // FRAGMENTS_PER_SHARD)
        sink = self.sink(staging, self.job.dataset.compression)

        def build(pipeline: beam.Pipeline) -> Any:
            created = pipeline | "Fragments" >> beam.Create(fragments, reshuffle=runner.mode != "in_memory")
            return (
                after(created, self.texts, memory, staging.artifact, workers=runner.threads)
                | "MLTransform"
                >> MLTransform(
                    write_artifact_location=scratch,
                    transforms=[
                        Transforms(self.transforms, shards=shards, schema=schema, folder=staging.artifact)
                    ],
                )
                | "Dataset" >> WriteShards(staging, self.stored, self.split, sink, riding)
            )

        # MLTransform leaves a note of its own where it is told to, which it can on a disk only; the artifact goes to
        # the staging place.
        with tempfile.TemporaryDirectory(prefix="featuremill-") as scratch:
            self.result = run_pipeline(pipeline_options(runner, beam_options), build)

    def commit(self, staging: Staging) -> RunRecord:
        from featuremill.core.backends import backends_of
        from featuremill.core.dataset import REJECTED, commit

        results, states = staging.load_results(), self._states(staging)
        self.look(staging, results, what_was_learned(self.transforms, self.pipeline.slots(), states))
        rows = self.account(staging, results, self.job.max_bad_rows)
        wrong = self.pass_gates(rows)
        letters = self.letters(results)
        with self.timed("artifact"):
            artifact, warnings = self._publish_artifact(staging, states, rows, self._fitted(results))
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
                    **({"table": self.table.describe()} if self.table else {}),
                },
                only_aside=self.table is not None,
            )
        record = self.record(
            status="done",
            rows=rows,
            splits={s: n for s, n in manifest["rows"].items() if s != REJECTED},
            dataset=staging.final,
            table=self.table.name if self.table else None,
            dead_letters=staging.final / REJECTED if rows.aside else None,
            artifact=artifact,
            features=tuple(
                {"name": f.name, "type": str(f.type), "made_by": self.plan.made_by[f.name]}
                for f in self.pipeline.output_schema
            ),
            backends=backends_of(self.result, models_of(self.transforms)),
            embeddings=embeddings,
            vocabularies=largest_vocabularies(self.pipeline, states),
            warnings=(*warnings, *wrong, *told),
        )
        record = self.report(staging, record)
        # The run's folder comes last, so that a job that is killed before can be run again under its name.
        alias = {k: artifact[k] for k in ("root", "name", "alias", "version")} if artifact["alias"] else None
        then = {"alias": alias and {**alias, "before": self.alias}}
        return self.publish(staging, results, letters, record, _finish, then)

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

    def _states(self, staging: Staging) -> dict[str, pa.Table]:
        """What the scans left, by slot."""
        from featuremill.artifacts.build import read_state

        store = open_store(staging.artifact)
        return {slot.key: read_state(store, state_path(slot.key)) for slot in self.pipeline.slots()}

    def _publish_artifact(
        self, staging: Staging, states: Mapping[str, pa.Table], rows: RowAccount, fitted: int
    ) -> tuple[dict[str, Any], Sequence[str]]:
        """Complete the fitted artifact with what the job knows, and publish it."""
        from featuremill.artifacts.build import write_fitted
        from featuremill.artifacts.publish import publish
        from featuremill.transforms.beam import attributes

        job = self.job
        folder = staging.artifact
        store = open_store(folder)
        paths = {key: state_path(key) for key in states}
        warnings = [w for i, t in enumerate(self.transforms) for w in t.warnings(self._own(i, states))]
        golden = self._golden_rows(folder)
        manifest = write_fitted(
            store,
            self.pipeline,
            paths,
            name=job.artifact_name,
            golden=golden,
            bound=bound_pipeline(folder) if golden is not None else None,
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
            more=self.checks.artifact_files(),
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
        return artifact, warnings

    def _own(self, transform: int, states: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
        return {s.slot: states[s.key] for s in self.pipeline.slots() if s.transform == transform}

    def _golden_rows(self, folder: str) -> pa.RecordBatch | None:
        """The first few rows of the source that can be processed, to be kept with what becomes of them."""
        if any(t.beam_only for t in self.transforms):
            return None
        found = [pa.RecordBatch.from_pylist([], schema=self.pipeline.input_schema)]
        # Made anew, since those of the pipeline may have expired by now.
        fragments = self.source.fragments([self.source.schema.names])
        few = [replace(fragment, batch_rows=2 * GOLDEN_ROWS) for fragment in fragments]
        for batch in (batch for fragment in few for batch in fragment.batches(None)):
            kept, _, _ = apply_or_reject(bound_pipeline(folder).apply, batch.slice(0, 2 * GOLDEN_ROWS))
            found.append(kept)
            if sum(part.num_rows for part in found) >= GOLDEN_ROWS:
                break
        return pa.concat_batches(found).slice(0, GOLDEN_ROWS)

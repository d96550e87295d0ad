"""The score job over rows that arrive: the same plan, and a pipeline that runs until it is stopped.

::

    files or messages ─► features (the artifact, by its alias) ─► models (the newest) ─► files that appear whole
          └────────────── rows set aside ◄──────────────────────────┘

After the rows are read nothing waits for other rows: each batch goes on to its file within one bundle of Beam's.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from featuremill.artifacts.errors import JobError, ParameterError
from featuremill.artifacts.names import split_reference
from featuremill.artifacts.reader import Artifact, load
from featuremill.artifacts.store import open_store
from featuremill.core.models.spec import ModelSpec
from featuremill.core.progress import Progress
from featuremill.core.record import RowAccount, RunRecord, package_versions
from featuremill.core.scorefile import ScoreJob
from featuremill.core.streaming.spec import PubSubSpec, RefreshSpec
from featuremill.jobs.scoring import Scoring

if TYPE_CHECKING:
    import apache_beam as beam

    from featuremill.core.inference.planning import PlannedStep

__all__ = ["StreamScoring"]

PREDICTIONS, REJECTED = "predictions", "_rejected"


class StreamScoring(Scoring):
    """A score job with an endless source: its artifact and models looked at as they are now, and its plan made."""

    def __init__(self, job: ScoreJob, run_id: str | None) -> None:
        from featuremill.core.streaming.model_files import StampsFit, pinned

        self.given = job
        self.refresh = job.refresh or RefreshSpec()
        self._first = None if job.artifact is None else load(job.artifact)
        version = None if self._first is None else self._first.version
        self.fits = StampsFit(None if self._first is None else self._first.name)
        models = pinned(job.the_models, lambda spec, path: self.fits(spec, path, version))
        super().__init__(job.model_copy(update={"model" if job.model is not None else "models": models}), run_id)
        if self.refresh.artifact is not None and split_reference(str(job.artifact))[2] == version:
            raise ParameterError(
                f"refresh.artifact follows an alias, and {job.artifact} names a version. Write ROOT/NAME@ALIAS.",
                key=("artifact",),
            )

    def open_source(self) -> Any:
        """The source, with the columns that the artifact was fitted on."""
        from featuremill.core.streaming.source import ArrivingSource

        spec = self.given.source.arriving
        assert spec is not None  # or it would be another kind of job
        return ArrivingSource(spec, None if self._first is None else self._first.input_schema)

    def describe(self) -> None:
        """What is known of the source; rows may be there or not."""
        self.described = self.source.describe()

    def _artifact(self) -> Artifact | None:
        return self._first

    def _quality(self) -> None:
        """None: what must hold for all rows cannot be told while they arrive."""

    # --- the run ----------------------------------------------------------------------------------------------------

    def run(self, progress: Callable[[Progress], None] | None, beam_options: Sequence[str]) -> RunRecord:
        """Run until the source ends or the job is stopped, and return the record; `progress` is not called."""
        import featuremill.transforms.beam  # noqa: F401  # imported for its time
        from featuremill.core.runner import run_pipeline
        from featuremill.core.streaming.following import logger
        from featuremill.core.streaming.runner import streaming_options

        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
        spec = self.given.source.arriving
        assert spec is not None
        self._began = time.monotonic()
        self._facts = {
            "run": self.name,
            "job": self.job.name,
            "kind": self.job.kind,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": package_versions(),
        }
        options = streaming_options(self.job.runner, spec, beam_options)
        try:
            with self.timed("pipeline"):
                result = run_pipeline(options, self.build)
            return self._leave(self._record(_account(result)))
        except KeyboardInterrupt:
            # The way to stop a job that has no end; how many rows there were Beam does not tell any more.
            self._leave(self._record(None, warnings=("The job was stopped by hand.",)))
            raise
        except BaseException as error:
            self._leave(self.record(status="failed", rows=None, error=str(error) or type(error).__name__))
            raise

    @property
    def folder(self) -> str:
        """Where the run's files go."""
        from featuremill.core.files import is_local

        path = self.given.output.path.rstrip("/")
        return f"{os.path.abspath(os.path.expanduser(path)) if is_local(path) else path}/{self.name}"

    def _record(self, rows: RowAccount | None, **facts: Any) -> RunRecord:
        made_by = self.made_by_column()
        return self.record(
            status="done",
            rows=rows,
            dataset=self.folder,
            dead_letters=f"{self.folder}/{REJECTED}" if rows is None or rows.aside else None,
            artifact=self.artifact_facts(),
            features=tuple({"name": f.name, "type": str(f.type), "made_by": made_by[f.name]} for f in self.stored),
            **facts,
        )

    def _leave(self, record: RunRecord) -> RunRecord:
        open_store(self.folder).put("run.json", record.to_json().encode())
        return record

    # --- the pipeline -----------------------------------------------------------------------------------------------

    def build(self, pipeline: beam.Pipeline, messages: beam.PCollection[Any] | None = None) -> None:
        """Add the job to a pipeline; `messages` take the place of those of Pub/Sub."""
        import apache_beam as beam

        from featuremill.core.score_io import as_letters, letters_schema
        from featuremill.core.streaming.features import MakeFeatures
        from featuremill.core.streaming.letters import streaming_letters_schema
        from featuremill.core.streaming.runner import is_local_runner
        from featuremill.core.streaming.sink import AppendFiles

        spec = self.given.source.arriving
        by_message = isinstance(spec, PubSubSpec)
        rows = letters_schema(self.bound)
        letters = streaming_letters_schema(rows, messages=by_message)

        def write(batches: Any, label: str, kind: str, schema: pa.Schema) -> None:
            sink = AppendFiles(
                f"{self.folder}/{kind}",
                schema,
                compression=self.job.output.compression,
                by_fragment=not by_message,
                counter="rows_aside" if kind == REJECTED else "rows_written",
            )
            _ = batches | f"Write {label}" >> beam.ParDo(sink)

        if messages is None:
            read = self.source.read(pipeline, self.bound.reads, local=is_local_runner(self.job.runner))
        else:
            schema = pa.schema([self.source.schema.field(n) for n in self.bound.reads])
            read = self.source.read_messages(messages, schema)
        write(read.rejected, "what could not be read", REJECTED, letters)
        features = beam.ParDo(MakeFeatures(self.recipe, self._artifact_refresh()))
        made = read.batches | "Features" >> features.with_outputs(REJECTED, main="features")
        write(made[REJECTED], "rows without features", REJECTED, letters)
        batches = made.features
        for step in self.steps:
            scored = batches | f"Model {step.label}" >> self._score(pipeline, step)
            aside = scored.rejected | f"Letters {step.label}" >> beam.Map(as_letters, rows)
            write(aside, f"rows without {step.label}", REJECTED, letters)
            batches = scored.scored
        write(batches, PREDICTIONS, PREDICTIONS, self.stored)

    def _artifact_refresh(self) -> Any:
        from featuremill.core.streaming.features import ArtifactRefresh
        from featuremill.core.streaming.model_refresh import ModelsFit

        if self.refresh.artifact is None:
            return None
        followed = self.refresh.models is not None and self.refresh.through == "workers"
        models = self.given.the_models if followed else self.job.the_models
        root, name, alias = split_reference(str(self.job.artifact))
        if self._first is not None and self._first.location.startswith(os.path.abspath(root)):
            root = os.path.abspath(root)
        return ArtifactRefresh(f"{root}/{name}@{alias}", self.refresh.artifact, ModelsFit(models, self.fits))

    def _score(self, pipeline: beam.Pipeline, step: PlannedStep) -> Any:
        """One step, with its models followed where the job says so."""
        from featuremill.core.inference.steps import Score
        from featuremill.core.streaming.model_files import is_pattern
        from featuremill.core.streaming.model_refresh import FollowingScore
        from featuremill.core.streaming.runner import is_local_runner

        schema, every = self.bound.schema, self.refresh.models
        given = self.routed(self.given.the_models)
        mine = given[self.steps.index(step)] if isinstance(given, list) else given
        if every is None:
            return Score(mine, schema, steps=[step])
        if self.refresh.through == "workers":
            return FollowingScore(mine, schema, step, every=every, fits=self.fits)
        if is_local_runner(self.job.runner):
            raise ParameterError(
                "refresh through beam needs a runner that updates side inputs while rows flow; Beam's direct runner "
                "waits for the last of them. Write through: workers.",
                key=("refresh", "through"),
            )
        if not isinstance(mine, ModelSpec) or not is_pattern(mine.path):
            raise ParameterError(
                f"{step.label}: refresh through beam is for single models whose path is a pattern, such as "
                "models/late-*.onnx. Write that, or through: workers.",
                key=("refresh", "through"),
            )
        from apache_beam.ml.inference.utils import WatchFilePattern

        newer = pipeline | f"Watch {step.label}" >> WatchFilePattern(str(mine.path), interval=every)
        return Score(mine, schema, steps=[step], refresh={step.label: newer})


def _account(result: Any) -> RowAccount | None:
    """Where every row went, and the proof that none is missing; None where the runner does not count.

    Raises
    ------
    JobError
        When rows are missing.
    """
    found = result.metrics().query()["counters"]
    if not found:
        return None
    counters: Counter[str] = Counter()
    for counter in found:
        counters[counter.key.metric.name] += counter.committed or 0
    # A file that cannot be read has a dead letter, and nobody knows how many rows.
    aside = counters["rows_aside"] - counters["files_not_read"]
    rows = RowAccount(counters["rows_read"], 0, counters["rows_written"], aside)
    if not rows.balanced:
        raise JobError(
            f"Rows are missing: {rows.source:,} were read, {rows.written:,} written, {rows.aside:,} set aside.",
            rows=rows,
        )
    return rows

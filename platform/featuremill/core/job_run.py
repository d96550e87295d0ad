"""One run of a job, whatever its kind: the source opened, the staging folder, progress, the account, the record."""

from __future__ import annotations

import contextlib
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from featuremill.artifacts.errors import FeaturemillError, JobError, MissingColumnError, RequestError, suggest
from featuremill.core.fragments import FragmentsExpired
from featuremill.core.job_fragment import Split
from featuremill.core.jobfile import RunnerSpec, SplitSpec
from featuremill.core.memory import share_memory
from featuremill.core.parquet_source import ParquetSource
from featuremill.core.progress import Progress, ProgressReader
from featuremill.core.quality.gates import QualityFailed
from featuremill.core.quality.reports.report_files import REPORT_FOLDER
from featuremill.core.record import RowAccount, RunRecord, package_versions
from featuremill.core.run_table import RunTable
from featuremill.core.shards import REJECTED, ParquetShards, RowSink
from featuremill.core.unfinished import make_commits
from featuremill.transforms.arrays import value_type

if TYPE_CHECKING:
    from featuremill.core.dataset import FragmentResult, Staging
    from featuremill.core.quality.reports.learned import Learnt
    from featuremill.core.quality.run_quality import RunQuality

__all__ = ["JobRun", "TooManyBadRows", "empty_batch", "opened_split"]

PIPELINES = 3
"""So often a pipeline is run, where the fragments expire before it is through."""


class TooManyBadRows(JobError):
    """More rows were set aside than the job allows."""


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """No rows of a schema, in the types that values have once they are read.

    >>> empty_batch(pa.schema([("x", pa.int64())])).num_rows
    0
    """
    return pa.RecordBatch.from_arrays([pa.array([], value_type(f.type)) for f in schema], names=schema.names)


def opened_split(spec: SplitSpec, schema: pa.Schema) -> Split:
    """The split of a source's rows, its key columns looked up.

    Raises
    ------
    MissingColumnError, ColumnTypeError
        For a key that the source does not have, or whose text is not the same everywhere.
    """
    for column in spec.by:
        if column not in schema.names:
            raise MissingColumnError(
                f"split.by: there is no column {column!r}. {suggest(column, schema.names)}", column=column
            )
    split = Split(tuple(spec.by), spec.shares, spec.fitted)
    split.codes(empty_batch(schema))
    return split


class JobRun(ABC):
    """A job with its source opened, ready to be run once.

    A kind of job says what its pipeline is and what becomes of the results; the rest is the same for all: nothing is
    written before everything was checked, what a killed run left is removed, a failed run leaves its record and the
    rows set aside, and a run is there complete or not at all.

    Parameters
    ----------
    job
        The job; it has a name, a kind, a source and a runner.
    run_id
        The run's name; None: the time and four random digits.
    output
        The folder that the run's folder goes into.

    Raises
    ------
    RequestError
        When the source is missing, broken or without rows.
    """

    def __init__(self, job: Any, run_id: str | None, output: str) -> None:
        self.name = run_id or f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        self.output = output
        self.stages: dict[str, float] = {}
        self.quality: RunQuality | None = None
        """The checks and profiles, which a kind of job sets up when it knows the columns."""
        self.notices: list[str] = []
        """What happened on the way and should be known; warnings of the run's record."""
        self._job = job
        self._runner: RunnerSpec = job.runner
        self.table: RunTable | None = None
        """Where the rows go, if not into files; see :meth:`open_table`."""
        self.source = self.open_source()
        self.fragments = self.source.fragments()

    def open_source(self) -> Any:
        """The source of the rows: something with a schema, fragments, and a description."""
        source = self._job.source
        if source.bigquery is not None:
            from featuremill.core.bigquery.query import open_bigquery

            return open_bigquery(source.bigquery)
        spec = source.parquet
        return ParquetSource(
            spec.path,
            where=spec.where,
            columns=spec.columns,
            fragment_rows=spec.fragment_rows,
            batch_rows=spec.batch_rows,
        )

    def open_table(self, spec: Any, schema: pa.Schema, split_column: str | None, letters: pa.Schema) -> None:
        """Look at the table that rows of a schema, and those set aside, go to; nothing happens without a `spec`."""
        if spec is not None:
            self.table = RunTable(self._job, self.output, self.name, spec, schema, split_column, letters)

    def sink(self, staging: Staging, compression: str) -> RowSink:
        """What workers write with."""
        files = ParquetShards(staging.shards, compression)
        return files if self.table is None else self.table.sink(files)

    def letters(self, results: Sequence[FragmentResult]) -> list[dict[str, Any]]:
        """Commits of the rows set aside to their table, where there is one; before their files are taken."""
        return [] if self.table is None else self.table.letters(results)

    def publish(
        self,
        staging: Staging,
        results: Sequence[FragmentResult],
        letters: Sequence[Mapping[str, Any]],
        record: RunRecord,
        finish: Callable[[Staging, RunRecord, Mapping[str, Any]], None],
        then: Mapping[str, Any] | None = None,
    ) -> RunRecord:
        """Let the rows be in their table, where they go to one, and the run be there; the record as it was published.

        Parameters
        ----------
        letters
            What :meth:`letters` gave.
        finish
            Publishes the run, given also `then`; another process does it if this one ends before that.

        Raises
        ------
        JobError
            When the rows are not in the table, or it cannot be told whether they are.
        """
        then = then or {}
        if self.table is None:
            finish(staging, record, then)
            return record
        with self.timed("table"):
            record = self.table.commit(staging, results, letters, record, then)
        with self.table.publishing(staging):
            finish(staging, record, then)
        return record

    def describe(self) -> None:
        """Look at the source as a whole; after the checks that cost less."""
        self.described: Mapping[str, Any] = self.source.describe()
        if self.described["rows"] == 0:
            facts = {key: self.described[key] for key in ("path", "table", "query") if self.described.get(key)}
            shown = next((v if isinstance(v, str) else ", ".join(v) for v in facts.values()), "")
            raise RequestError(f"The source {shown} has no rows; there is nothing to {self._job.kind}.", **facts)

    # --- what a kind of job says ------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def progress_stages(self) -> Sequence[str]:
        """The stages that workers note their progress in; each goes through all fragments."""

    @property
    def reads(self) -> Sequence[Sequence[str]]:
        """The sets of columns that the pipeline reads of the source; by default all columns at once."""
        return [self.source.schema.names]

    def prepare_to_run(self) -> None:  # noqa: B027  # most kinds have nothing to do
        """What can be checked only shortly before the run; nothing has been written yet."""

    @abstractmethod
    def run_pipeline(self, staging: Staging, beam_options: Sequence[str]) -> None:
        """Run, to the end; the list of results is in the staging folder afterwards."""

    @abstractmethod
    def commit(self, staging: Staging) -> RunRecord:
        """Turn what the pipeline left into the run's results."""

    # --- the run ----------------------------------------------------------------------------------------------------

    def run(self, progress: Callable[[Progress], None] | None, beam_options: Sequence[str]) -> RunRecord:
        """Run the job to its end and return its record."""
        share_memory(self._runner)
        # Importing Beam takes a second or two, which is the start of the process and not of the run.
        import featuremill.core.runner
        import featuremill.transforms.beam  # noqa: F401  # imported for its time
        from featuremill.core.dataset import Staging

        self._began, started = time.monotonic(), datetime.now(UTC)
        staging = Staging(self.output, self.name, shared_disk=self._runner.is_direct)
        self.prepare_to_run()
        staging.open()
        self._facts: dict[str, Any] = {
            "run": self.name,
            "job": self._job.name,
            "kind": self._job.kind,
            "started": started.isoformat(timespec="seconds"),
            "versions": package_versions(),
        }
        try:
            if self.table is not None:
                self.table.open()
            with self.reading():
                self._run_pipeline(staging, progress, beam_options)
                return self.commit(staging)
        except BaseException as error:
            self._leave_failure(staging, error)
            raise
        finally:
            if self.table is not None:
                self.table.clean_up()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read the source within the block: a query runs first, and is known better afterwards."""
        planned = self.source
        with planned.reading() as self.source:
            if self.source is not planned:
                self.describe()
            yield

    def _run_pipeline(
        self, staging: Staging, progress: Callable[[Progress], None] | None, beam_options: Sequence[str]
    ) -> None:
        """The pipeline, again from its start where its fragments expired; nothing was published by then."""
        for left in reversed(range(PIPELINES)):
            self.fragments = self.source.fragments(self.reads)
            try:
                with self._following(staging, progress), self.timed("pipeline"):
                    self.run_pipeline(staging, beam_options)
            except FragmentsExpired as error:
                if not left:
                    raise
                self.notices.append(f"The pipeline ran again from its start: {error}")
                staging.open()
            else:
                return

    def record(self, **facts: Any) -> RunRecord:
        """The run's record as of now."""
        seconds = round(time.monotonic() - self._began, 3)
        facts["warnings"] = (*self.notices, *facts.get("warnings", ()))
        known = {**self._facts, "source": dict(self.described), **facts}
        return RunRecord(**known, seconds=seconds, stages=self.stages)

    def look(self, staging: Staging, results: Sequence[FragmentResult], learned: Learnt | None = None) -> None:
        """Judge what the workers collected for the checks and profiles; before any of the run's gates."""
        if self.quality is not None and not self.quality.is_idle:
            with self.timed("quality"):
                found = self.quality.look(staging, results, learned)
            self._facts["checks"] = found.counts

    def pass_gates(self, rows: RowAccount) -> list[str]:
        """What is to be said of data that are not as they should be, where the run may go on.

        Raises
        ------
        QualityFailed
            When it may not.
        """
        return [] if self.quality is None else self.quality.gate(rows)

    def report(self, staging: Staging, record: RunRecord) -> RunRecord:
        """Let the report be part of the run; the record with its place."""
        if self.quality is None or self.quality.found is None or record.rows is None:
            return record
        with self.timed("report"):
            return self.quality.report(staging, record)

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note the seconds that a stage takes."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.stages[stage] = round(time.monotonic() - began, 3)

    @contextlib.contextmanager
    def _following(self, staging: Staging, progress: Callable[[Progress], None] | None) -> Iterator[None]:
        if progress is None or staging.progress is None:
            yield
            return
        stages = dict.fromkeys(self.progress_stages, len(self.fragments))
        with ProgressReader(Path(staging.progress), stages, progress):
            yield

    def account(self, staging: Staging, results: Sequence[FragmentResult], most_aside: int) -> RowAccount:
        """Where every row went, and the proof that none is missing.

        Raises
        ------
        JobError
            When a row is missing or came twice, or more than `most_aside` were set aside.
        """
        source, kept = self.described["rows"], sum(r.read - r.left_out for r in results)
        read, promised = sum(r.read for r in results), self.source.rows
        rows = RowAccount(
            source=source,
            filtered=source - kept,
            written=sum(r.written for r in results),
            aside=sum(r.aside for r in results),
            quarantined=sum(r.quarantined for r in results),
        )
        lost = [r.fragment for r in results if not r.balanced or r.promised not in (None, r.read)]
        everyone = sorted(r.fragment for r in results) == sorted(f.key for f in self.fragments)
        if lost or not rows.balanced or not everyone or promised not in (None, read) or rows.filtered < 0:
            raise JobError(
                f"Rows are missing: {rows.source:,} in the source, {read:,} read, {rows.filtered:,} filtered out, "
                f"{rows.written:,} written, {rows.aside:,} set aside (fragments {lost[:5]}). Nothing was published.",
                rows=rows,
            )
        bad = rows.aside - rows.quarantined
        if bad > most_aside:
            raise TooManyBadRows(
                f"{bad:,} rows could not be processed, and max_bad_rows is {most_aside:,}. The rows and the reasons "
                f"are in {staging.final / REJECTED}.",
                rows=rows,
            )
        return rows

    def _leave_failure(self, staging: Staging, error: BaseException) -> None:
        """What a failed run leaves: the rows set aside, and a record that says that it failed."""
        from featuremill.core.dataset import leave_dead_letters

        if self.table is not None and self.table.noted:
            # Whether the rows are in their table is not known; who runs the job again finds out.
            return
        rows = getattr(error, "rows", None) if isinstance(error, TooManyBadRows | QualityFailed) else None
        if not staging.is_open():
            staging.close()
            return
        record = self.record(
            status="failed",
            rows=rows,
            error=str(error) or type(error).__name__,
            dead_letters=staging.final / REJECTED if rows is not None and rows.aside else None,
        )
        # Where not even that can be written, the first error is the one to tell.
        with contextlib.suppress(Exception):
            record = self.report(staging, record)
        if record.report is None:
            # What was found before the run failed otherwise is no report.
            staging.forget_texts(REPORT_FOLDER)
        with contextlib.suppress(FeaturemillError, OSError):
            if rows is not None and (letters := self.letters(staging.load_results())):
                make_commits(letters)
        with contextlib.suppress(FeaturemillError, OSError):
            leave_dead_letters(staging, record.to_json(), keep=record.dead_letters is not None)


"""The table that a run's rows go to, from the plan to the run's being there.

The order is: rows into the table's waiting place, a note of what is to be committed, the commit, the run's folder, the
note away. Whatever happens in between, :func:`completed` or a new start gives the same rows once.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from featuremill.artifacts.errors import JobError
from featuremill.core.files import Place, filesystem
from featuremill.core.record import RunRecord
from featuremill.core.shards import REJECTED, ParquetShards, RowSink, Shard
from featuremill.core.unfinished import CommitNote, NotCommitted, complete, make_commits

if TYPE_CHECKING:
    from featuremill.core.dataset import FragmentResult, Staging

__all__ = ["RunTable", "completed"]


class RunTable:
    """A run's table.

    Parameters
    ----------
    job
        What is run; one that says something else cannot complete it.
    output, run
        The folder that the run's folder goes into, and the run's name.
    spec, schema, split_column, letters
        See :class:`~featuremill.core.bigquery.write.TableOutput`.
    """

    def __init__(
        self,
        job: Any,
        output: str,
        run: str,
        spec: Any,
        schema: pa.Schema,
        split_column: str | None,
        letters: pa.Schema,
    ) -> None:
        from featuremill.core.bigquery.write import TableOutput

        self._job = job
        self._run = run
        self._note = CommitNote(output, run)
        self._output = TableOutput(spec, schema, split_column, letters, Place(output) / run)
        self.name = str(self._output.table)
        """``project.dataset.table``."""
        self.noted = False
        """Whether it is not known to this process if the rows are in the table, so that another finds out."""
        self._opened = False

    def describe(self) -> dict[str, Any]:
        """What is written and how, JSON-ready."""
        return self._output.describe()

    def open(self) -> None:
        """Make what rows wait in."""
        self._opened = True
        self._output.open(self._run)

    def sink(self, aside: ParquetShards) -> RowSink:
        """What workers write with; rows that are set aside go to files."""
        return self._output.sink(aside)

    def letters(self, results: Sequence[FragmentResult]) -> list[dict[str, Any]]:
        """Commits of the rows set aside, written to their table where there is one."""
        shards = [s for r in results for s in r.shards if s.split == REJECTED]
        planned = self._output.letters(_batches(shards)) if shards else None
        return [] if planned is None else [planned]

    def commit(
        self,
        staging: Staging,
        results: Sequence[FragmentResult],
        letters: Sequence[Mapping[str, Any]],
        record: RunRecord,
        then: Mapping[str, Any],
    ) -> RunRecord:
        """Let the rows be in the table, all or none; the record, with what went wrong on the way.

        Raises
        ------
        JobError
            When they are not, or it cannot be told whether they are.
        """
        commits = [self._output.commit_of([s for r in results for s in r.shards]), *letters]
        self._note.put(
            {
                "job": _digest(self._job),
                "commits": commits,
                "staging": staging.to_note(),
                "record": asdict(record),
                "then": dict(then),
                "leftovers": self._output.leftovers(),
            }
        )
        self.noted = True
        try:
            if staging.is_published() or not staging.is_open():
                raise NotCommitted(f"Another run of the name {self._run} took the place. Nothing was committed.")
            warnings = make_commits(commits)
        except NotCommitted:
            self._forget()
            raise
        except JobError as error:
            raise JobError(
                f"{error} Whether the rows are in {self.name} is not known. Run again with --run-id {self._run}, which "
                "finds out and completes the run.",
                **error.facts,
            ) from error
        return replace(record, warnings=(*record.warnings, *warnings))

    @contextlib.contextmanager
    def publishing(self, staging: Staging) -> Iterator[None]:
        """Publish the run within the block; afterwards nobody has to complete it."""
        try:
            yield
        finally:
            if staging.is_published():
                self._forget()

    def _forget(self) -> None:
        self._note.remove()
        self.noted = False

    def clean_up(self) -> None:
        """Take away what rows waited in, unless another process is to commit them."""
        if self._opened and not self.noted:
            from featuremill.core.bigquery.write import clean_up

            clean_up(self._output.leftovers())


def completed(
    job: Any, output: Any, run_id: str | None, finish: Callable[[Staging, RunRecord, Mapping[str, Any]], None]
) -> RunRecord | None:
    """The record of a run that was killed while its rows were being committed to a table, and is completed now.

    None where there is nothing to complete.

    Parameters
    ----------
    output
        The part of the job that says where rows go.
    finish
        Publishes the run, given what it was to be told.

    Raises
    ------
    JobError, RequestError
        See :func:`~featuremill.core.unfinished.complete`.
    """
    if run_id is None:
        return None

    def publish(note: Mapping[str, Any], record: RunRecord) -> None:
        from featuremill.core.bigquery.write import clean_up
        from featuremill.core.dataset import Staging

        staging = Staging.from_note(output.path, run_id, note["staging"])
        if not staging.is_published():
            finish(staging, record, note["then"])
        clean_up(note["leftovers"])

    return complete(output.path, run_id, _digest(job), publish)


def _digest(job: Any) -> str:
    """A digest of what a job says, whatever runs it."""
    return hashlib.sha256(job.model_dump_json(exclude={"runner"}).encode()).hexdigest()


def _batches(shards: Sequence[Shard]) -> Iterator[pa.RecordBatch]:
    """The rows of files, a batch at a time."""
    import pyarrow.parquet as pq

    for shard in shards:
        system, path = filesystem(shard.path)
        with system.open_input_file(path) as file:
            yield from pq.ParquetFile(file).iter_batches()

"""Runs that were killed while their rows were being committed to a table outside of the run's folder.

A run's folder and a table cannot be changed in one step. So before the table is touched, the run writes down what it
is about to commit, and what it would say of itself afterwards: the note ``.<run>.commit.json`` beside the run's folder.
The note is put there only where there is none: of two processes with one run's name, one commits. Whoever runs the job
again under the same name finds the note, makes the commit (which BigQuery makes once, however often it is asked) and
publishes the run, without reading a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from featuremill.artifacts.errors import AliasMoved, AlreadyExists, JobError, MissingArtifactError, RequestError
from featuremill.artifacts.store import open_store
from featuremill.core.record import RowAccount, RunRecord

__all__ = ["CommitNote", "NotCommitted", "complete", "make_commits"]


class NotCommitted(JobError):
    """A commit was refused: nothing of it is in the table, nor will ever be."""


class CommitNote:
    """What a run is about to commit.

    Parameters
    ----------
    output, run
        The folder that the run's folder goes into, and the run's name.
    """

    def __init__(self, output: str, run: str) -> None:
        self._store = open_store(output)
        self._path = f".{run}.commit.json"
        self.run = run

    def find(self) -> dict[str, Any] | None:
        """The note, where there is one."""
        try:
            found: dict[str, Any] = json.loads(self._store.get(self._path))
        except MissingArtifactError:
            return None
        return found

    def put(self, content: Mapping[str, Any]) -> None:
        """Write it down.

        Raises
        ------
        JobError
            When another process has.
        """
        try:
            self._store.put(self._path, json.dumps(content, indent=2, default=str).encode(), create_only=True)
        except AlreadyExists as error:
            raise JobError(
                f"{self._store.root}/{self._path} is there: another process is committing the run {self.run}. Run "
                "again under another --run-id; or, should it have been killed, under the same.",
                path=f"{self._store.root}/{self._path}",
            ) from error

    def remove(self) -> None:
        """Take it away."""
        self._store.delete(self._path)


def make_commits(commits: Sequence[Mapping[str, Any]], *, resumed: bool = False) -> list[str]:
    """Commit the rows, and then those that were set aside; what went wrong with the latter, which does not undo a run.

    Raises
    ------
    NotCommitted
        When no rows are in their table, nor will ever be.
    JobError
        When that cannot be told now.
    """
    from featuremill.core.bigquery.write_commit import make_commit

    rows, *aside = commits
    make_commit(rows, resumed=resumed)
    warnings = []
    for planned in aside:
        try:
            make_commit(planned, resumed=resumed)
        except JobError as error:
            warnings.append(f"The rows set aside are in the run's folder only: {error}")
    return warnings


def complete(
    output: str, run: str, digest: str, publish: Callable[[Mapping[str, Any], RunRecord], None]
) -> RunRecord | None:
    """Complete a run that was killed while it was committing; None where there is nothing to complete.

    Parameters
    ----------
    digest
        Of the job, which has to be the one that was killed.
    publish
        What follows on the commit, given the note and the record.

    Raises
    ------
    RequestError
        When it was another job.
    JobError
        When it cannot be told whether the rows are in the table.
    """
    note = CommitNote(output, run)
    found = note.find()
    if found is None:
        return None
    if found["job"] != digest:
        raise RequestError(
            f"The run {run} was killed while it was committing, and its job said something else. Run that again to "
            "complete it, or choose another --run-id.",
            run=run,
        )
    try:
        warnings = make_commits(found["commits"], resumed=True)
    except NotCommitted:
        note.remove()
        return None
    done = "The run was killed while it was committing, and completed afterwards."
    record = _record(found["record"])
    record = replace(record, warnings=(*record.warnings, done, *warnings))
    try:
        publish(found, record)
    except AliasMoved:
        # That is told after the run was published.
        note.remove()
        raise
    note.remove()
    return record


def _record(content: Mapping[str, Any]) -> RunRecord:
    known = {f.name for f in fields(RunRecord)}
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items() if k in known}
    if given.get("rows") is not None:
        given["rows"] = RowAccount(**given["rows"])
    return RunRecord(**given)

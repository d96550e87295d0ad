"""Letting written rows be in their table: all at once, once, however often it is asked for.

A commit is data: the streams that hold the rows, and the job that brings them where they belong. It is written down
before it is made, so whoever takes over from a process that was killed makes the same one again. That does no harm:
BigQuery commits a stream once only and tells whether it has, and runs a job of one name once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from featuremill.artifacts.errors import JobError
from featuremill.core.bigquery.client import jobs_client, one_line, patience, told, write_client
from featuremill.core.bigquery.spec import BigQueryAccess, table_name
from featuremill.core.bigquery.write_stream import CONNECTION_SECONDS, NEEDED, again
from featuremill.core.unfinished import NotCommitted

__all__ = ["make_commit"]


def make_commit(planned: Mapping[str, Any], *, resumed: bool = False) -> None:
    """Make a commit, or find that it is made.

    Parameters
    ----------
    planned
        ``access``; ``table``, and ``rows`` for it; ``into`` and ``streams``: the table that the pending streams are of,
        which may be the same; ``job``: None, or ``{id, location, sql}``, or ``{id, location, load, uris}``;
        ``expires``: when a table that is loaded goes, or None.
    resumed
        Whether another process may have made it.

    Raises
    ------
    NotCommitted
        When nothing of it is in the table, nor will ever be.
    JobError
        When that cannot be told now; the same commit may be made again.
    """
    access = BigQueryAccess.model_validate(planned["access"])
    job = planned["job"]
    if job is not None and _is_done(access, job, planned):
        return
    if planned["streams"]:
        _commit_streams(access, planned, resumed)
    if job is not None:
        _run(access, job, planned)


def _commit_streams(access: BigQueryAccess, planned: Mapping[str, Any], resumed: bool) -> None:
    from google.cloud.bigquery_storage_v1 import types

    table, streams = planned["into"], list(planned["streams"])
    with told(f"committing to {table}", kind=NotCommitted, needed=NEEDED, table=table):
        answer = write_client(access).batch_commit_write_streams(
            request=types.BatchCommitWriteStreamsRequest(parent=table_name(table).path, write_streams=streams),
            retry=again(access),
            timeout=CONNECTION_SECONDS,
        )
    codes = types.StorageError.StorageErrorCode
    wrong = [e for e in answer.stream_errors if e.code != codes.STREAM_ALREADY_COMMITTED]
    if not wrong:
        return
    lost = any(e.code in (codes.STREAM_NOT_FOUND, codes.TABLE_NOT_FOUND) for e in wrong)
    told_so = f"{wrong[0].error_message or wrong[0].code.name} ({len(wrong)} of {len(streams)} streams)"
    if lost and planned["job"] is None and resumed:
        raise JobError(
            f"{table}: the streams of the run that was killed are gone, so it cannot be told any more whether its "
            f"{planned['rows']:,} rows are in the table ({told_so}). Look there, and use another --run-id.",
            table=table,
        )
    raise NotCommitted(f"{table}: BigQuery did not commit the rows: {told_so}. Run again.", table=table)


def _is_done(access: BigQueryAccess, job: Mapping[str, Any], planned: Mapping[str, Any]) -> bool:
    """Whether the job has run; one that is still running is waited for."""
    found = _found(access, job, planned)
    if found is None:
        return False
    _wait(access, found, planned)
    return True


def _found(access: BigQueryAccess, job: Mapping[str, Any], planned: Mapping[str, Any]) -> Any:
    from google.api_core.exceptions import NotFound
    from google.cloud.bigquery import DEFAULT_RETRY

    with told(f"looking for the job {job['id']}", kind=JobError, needed=NEEDED, table=planned["table"]):
        try:
            return jobs_client(access).get_job(
                job["id"], location=job["location"], retry=DEFAULT_RETRY.with_timeout(patience(access))
            )
        except NotFound:
            return None


def _run(access: BigQueryAccess, job: Mapping[str, Any], planned: Mapping[str, Any]) -> None:
    from google.api_core.exceptions import Conflict
    from google.cloud.bigquery import DEFAULT_RETRY, LoadJobConfig

    client, retry = jobs_client(access), DEFAULT_RETRY.with_timeout(patience(access))
    named = {"job_id": job["id"], "location": job["location"]}
    with told(f"bringing the rows to {planned['table']}", kind=NotCommitted, needed=NEEDED, table=planned["table"]):
        try:
            if "sql" in job:
                started = client.query(job["sql"], **named, retry=retry, job_retry=None)
            else:
                config = LoadJobConfig.from_api_repr(job["load"])
                started = client.load_table_from_uri(
                    job["uris"], planned["table"], **named, job_config=config, retry=retry
                )
        except Conflict as error:
            # Sent twice, or the table that is to be created is there.
            started = _found(access, job, planned)
            if started is None:
                raise NotCommitted(
                    f"BigQuery, writing {planned['table']}: {one_line(error)} Nothing was written.",
                    table=planned["table"],
                ) from error
    _wait(access, started, planned)


def _wait(access: BigQueryAccess, job: Any, planned: Mapping[str, Any]) -> None:
    """The end of a job, and then what a load job cannot say of its table."""
    from google.cloud.bigquery import DEFAULT_RETRY

    retry = DEFAULT_RETRY.with_timeout(patience(access))
    table = planned["table"]
    with told(f"writing {table}", kind=NotCommitted, needed=NEEDED, table=table):
        job.result(retry=retry)
    if planned.get("expires"):
        with told(f"letting {table} expire", kind=JobError, needed=NEEDED, table=table):
            found = jobs_client(access).get_table(table, retry=retry)
            found.expires = datetime.fromisoformat(planned["expires"])
            jobs_client(access).update_table(found, ["expires"], retry=retry)

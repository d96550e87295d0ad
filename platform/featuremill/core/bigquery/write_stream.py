"""Rows into a pending stream of the Storage Write API, as Arrow record batches.

Nothing of a pending stream can be seen before it is committed, and what is never committed BigQuery throws away. Every
append says at which row of the stream it begins, so one that is sent again after a broken connection is taken once.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from featuremill.artifacts.errors import JobError
from featuremill.core.bigquery.client import one_line, patience, told, write_client
from featuremill.core.bigquery.spec import BigQueryAccess, TableName

__all__ = ["NEEDED", "PendingStream", "again"]

NEEDED = (
    "Writing takes bigquery.tables.create, .get, .getData, .updateData, .update and .delete on the dataset (the role "
    "BigQuery Data Editor), and bigquery.jobs.create on the billing project (the role BigQuery Job User)."
)
APPEND_BYTES = 8 << 20
"""Rows are sent in pieces of about so many bytes."""
LARGEST_APPEND = 10_000_000 - 65_536
"""What the service takes at a time, less what is not rows."""
ATTEMPTS = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds between attempts; the pause doubles with every failure."""
CONNECTION_SECONDS = 600.0
"""So long a connection lives; an answer that does not come by then counts as broken."""
OK, ALREADY_EXISTS = 0, 6
PASSING = frozenset({4, 8, 10, 13, 14})
"""Codes of answers that are others a little later: deadline, quota, aborted, internal, unavailable."""
ROW_ERRORS = 3


def again(access: BigQueryAccess) -> Any:
    """Retries of a call that may be made twice."""
    from google.api_core import exceptions
    from google.api_core.retry import Retry, if_exception_type

    passing = (
        exceptions.ServiceUnavailable,
        exceptions.DeadlineExceeded,
        exceptions.InternalServerError,
        exceptions.Aborted,
        exceptions.ResourceExhausted,
        exceptions.Unknown,
        exceptions.Cancelled,
    )
    return Retry(predicate=if_exception_type(*passing), initial=0.1, maximum=30.0, timeout=patience(access))


class PendingStream:
    """One attempt at writing rows; to be closed, or else discarded. For one thread.

    Parameters
    ----------
    access, table
        How to get there, and the table, which is there.
    schema
        A :func:`~featuremill.core.bigquery.write_types.table_schema`.
    """

    def __init__(self, access: BigQueryAccess, table: TableName, schema: pa.Schema) -> None:
        from google.cloud.bigquery_storage_v1 import types

        self.rows = 0
        self.bytes = 0
        """As they were sent."""
        self._access = access
        self._table = table
        self._schema = schema
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._connection: _Connection | None = None
        with told(f"opening a stream to {table}", kind=JobError, needed=NEEDED, table=str(table)):
            stream = write_client(access).create_write_stream(
                parent=table.path,
                write_stream=types.WriteStream(type_=types.WriteStream.Type.PENDING),
                retry=again(access),
                timeout=CONNECTION_SECONDS,
            )
        self.path: str = stream.name
        """The stream's name, by which it is committed."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch of the schema; it is in the stream by :meth:`close` at the latest.

        Raises
        ------
        JobError
            When the service refuses the rows or cannot be reached.
        """
        size = max(1, batch.nbytes)
        step = max(1, batch.num_rows * APPEND_BYTES // size)
        for at in range(0, batch.num_rows, step):
            part = batch.slice(at, step)
            if self._waiting and self._waiting_bytes + part.nbytes > APPEND_BYTES:
                self._flush()
            self._waiting.append(part)
            self._waiting_bytes += part.nbytes

    def close(self) -> None:
        """Send what is left, and let the stream take no more rows; it can be committed now."""
        self._flush()
        self._disconnect()
        with told(f"closing a stream to {self._table}", kind=JobError, needed=NEEDED, table=str(self._table)):
            found = write_client(self._access).finalize_write_stream(
                name=self.path, retry=again(self._access), timeout=CONNECTION_SECONDS
            )
        if found.row_count != self.rows:
            raise JobError(
                f"{self._table}: BigQuery has {found.row_count} rows in the stream, {self.rows} were sent.",
                table=str(self._table),
            )

    def discard(self) -> None:
        """Forget it; BigQuery throws away what nobody commits."""
        self._waiting, self._waiting_bytes = [], 0
        self._disconnect()

    # --- sending ----------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._waiting:
            waiting = self._waiting
            self._waiting, self._waiting_bytes = [], 0
            self._send(pa.concat_batches(waiting) if len(waiting) > 1 else waiting[0])

    def _send(self, batch: pa.RecordBatch) -> None:
        message = _message(batch)
        if len(message) > LARGEST_APPEND:
            if batch.num_rows == 1:
                raise JobError(
                    f"{self._table}: one row takes {len(message):,} bytes, and BigQuery takes 10 MB at a time. Leave "
                    "out the column that is so large, or use method: load.",
                    table=str(self._table),
                )
            half = batch.num_rows // 2
            self._send(batch.slice(0, half))
            self._send(batch.slice(half))
            return
        failures = 0
        while True:
            try:
                self._append(message, repeated=failures > 0)
                break
            except _Broken as broken:
                self._disconnect()
                failures += 1
                if failures >= ATTEMPTS:
                    raise JobError(
                        f"{self._table}: the stream broke {ATTEMPTS} times after {self.rows:,} rows ({broken}). Run "
                        "again.",
                        table=str(self._table),
                    ) from broken.__cause__
                time.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1)))
        self.rows += batch.num_rows
        self.bytes += len(message)

    def _append(self, message: bytes, *, repeated: bool) -> None:
        from google.api_core import exceptions
        from google.cloud.bigquery_storage_v1 import types

        passing = (
            exceptions.ServiceUnavailable,
            exceptions.InternalServerError,
            exceptions.Aborted,
            exceptions.Cancelled,
            exceptions.DeadlineExceeded,
            exceptions.Unknown,
            exceptions.ResourceExhausted,
        )
        rows = types.AppendRowsRequest.ArrowData(rows=types.ArrowRecordBatch(serialized_record_batch=message))
        request = types.AppendRowsRequest(write_stream=self.path, offset=self.rows, arrow_rows=rows)
        with told(f"writing to {self._table}", kind=JobError, needed=NEEDED, table=str(self._table)):
            try:
                if self._connection is None:
                    rows.writer_schema = types.ArrowSchema(serialized_schema=self._schema.serialize().to_pybytes())
                    request.arrow_rows = rows
                    self._connection = _Connection(write_client(self._access), self.path)
                answer = self._connection.ask(request)
            except passing as error:
                raise _Broken(one_line(error)) from error
        code = answer.error.code
        if code in PASSING:
            raise _Broken(answer.error.message)
        # An append that was sent again may have been taken the first time, its answer lost.
        if code == OK or (code == ALREADY_EXISTS and repeated):
            return
        rows_wrong = "; ".join(f"row {self.rows + e.index}: {e.message}" for e in answer.row_errors[:ROW_ERRORS])
        raise JobError(
            f"{self._table}: BigQuery refuses the rows: {answer.error.message} {rows_wrong}".rstrip(),
            table=str(self._table),
        )

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Broken(Exception):
    """A connection ended, or the service could not answer."""


class _Connection:
    """Requests and answers, one after the other."""

    def __init__(self, client: Any, stream: str) -> None:
        self._client = client
        self._stream = stream
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: Iterator[Any] | None = None

    def ask(self, request: Any) -> Any:
        from google.api_core.exceptions import Unknown

        self._requests.put(request)
        if self._answers is None:
            # Where the stream is the service knows by this header only.
            header = (("x-goog-request-params", f"write_stream={self._stream}"),)
            self._answers = self._client.append_rows(
                requests=iter(self._requests.get, None), retry=None, timeout=CONNECTION_SECONDS, metadata=header
            )
        answer = next(self._answers, None)
        if answer is None:
            raise Unknown("the connection was closed")
        return answer

    def close(self) -> None:
        self._requests.put(None)
        if self._answers is not None:
            self._answers.cancel()  # type: ignore[attr-defined]  # a call is more than an iterator


def _message(batch: pa.RecordBatch) -> bytes:
    """A batch as one IPC message, without the schema."""
    return bytes(batch.serialize())

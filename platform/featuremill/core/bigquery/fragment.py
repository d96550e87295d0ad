"""Reading BigQuery: one stream of a read session after the other, as batches of bounded size with exact types.

The service sends Arrow record batches of a few thousand rows, compressed with lz4, and waits until they are taken: a
worker holds what it is putting together and no more, however large the table. A stream that breaks is taken up again
at the next row, so its rows come once each, in an order that does not change within a session.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from featuremill.artifacts.errors import JobError, MissingColumnError, suggest
from featuremill.core.bigquery.client import one_line, read_client, told
from featuremill.core.bigquery.spec import BigQueryAccess
from featuremill.core.fragments import FragmentsExpired

__all__ = ["BigQueryFragment", "SessionStreams", "rebatched"]

ATTEMPTS = 8
"""So often in a row a stream may break without giving a row in between."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before a broken stream is taken up again; the pause doubles with every failure."""


@dataclass(frozen=True)
class SessionStreams:
    """What a fragment reads of one read session.

    Parameters
    ----------
    columns
        The session's columns, in its order.
    streams
        The streams' names; there may be none.
    """

    columns: tuple[str, ...]
    streams: tuple[str, ...]


@dataclass(frozen=True)
class BigQueryFragment:
    """Some of the rows of a table; made by :class:`BigQuerySource`. See :class:`Fragment`.

    Each session deals the rows out anew, so the same fragment may hold other rows for other columns. Statistics, which
    are the same however the rows are cut, do not mind.

    Parameters
    ----------
    key, table
        Its name, and the table's.
    schema
        All columns of the source, in its order.
    sessions
        The read sessions at hand, of which the one with the fewest columns is read that has all those wanted.
    access
        How to get there.
    bytes
        About how many bytes reading all columns takes.
    batch_rows, batch_bytes
        Bounds of a batch.
    """

    key: str
    table: str
    schema: pa.Schema
    sessions: tuple[SessionStreams, ...]
    access: BigQueryAccess
    bytes: int | None = None
    batch_rows: int = 131_072
    batch_bytes: int = 128 << 20

    @property
    def rows(self) -> int | None:
        # How the service deals rows out among streams is known when they have been read.
        return None

    def batches(
        self, columns: Sequence[str] | None = None, *, dictionary: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """The rows; see :meth:`Fragment.batches`.

        Texts come as they are, `dictionary` or not: encoding the four text columns of the flights takes as long as
        counting or applying saves by it.

        Raises
        ------
        MissingColumnError
            For a column that the source does not have; at once, not with the first batch.
        FragmentsExpired
            When the session is older than BigQuery keeps one, six hours.
        JobError
            When the stream cannot be read to its end.
        """
        wanted = list(self.schema.names if columns is None else columns)
        for name in wanted:
            if name not in self.schema.names:
                raise MissingColumnError(
                    f"{self.table}: there is no column {name!r}. {suggest(name, self.schema.names)}",
                    column=name,
                    table=self.table,
                )
        fitting = [s for s in self.sessions if set(wanted) <= set(s.columns)]
        if not fitting:
            raise JobError(
                f"{self.table}: the fragment {self.key} was made without a read session for {', '.join(wanted[:5])}. "
                "Ask the source for fragments that are to be read.",
                table=self.table,
                fragment=self.key,
            )
        return self._read(min(fitting, key=lambda s: len(s.columns)), wanted)

    def _read(self, session: SessionStreams, wanted: list[str]) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([self.schema.field(n) for n in session.columns])
        sent = (batch.select(wanted) for stream in session.streams for batch in self._stream(stream, schema))
        yield from rebatched(sent, self.batch_rows, self.batch_bytes)

    def _stream(self, stream: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        offset = failures = 0
        while True:
            try:
                for batch in self._from(stream, schema, offset):
                    offset, failures = offset + batch.num_rows, 0
                    yield batch
                return
            except _Broken as broken:
                failures += 1
                if failures >= ATTEMPTS:
                    raise JobError(
                        f"{self.table}: the stream of the fragment {self.key} broke {ATTEMPTS} times after {offset:,} "
                        f"rows ({broken}). Run again.",
                        table=self.table,
                        fragment=self.key,
                    ) from broken.__cause__
                time.sleep(max(broken.wait, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1))))

    def _from(self, stream: str, schema: pa.Schema, offset: int) -> Iterator[pa.RecordBatch]:
        """The stream's batches from a row on."""
        from google.api_core import exceptions

        passing = (
            exceptions.ServiceUnavailable,
            exceptions.InternalServerError,
            exceptions.Aborted,
            exceptions.DeadlineExceeded,
            exceptions.Unknown,
            exceptions.ResourceExhausted,
        )
        call: Any = None
        try:
            with told(f"reading {self.table}", kind=JobError, table=self.table, fragment=self.key):
                try:
                    call = read_client(self.access).read_rows(read_stream=stream, offset=offset, retry=None)
                    for response in call:
                        batch = self._batch(response, schema)
                        del response
                        yield batch
                except passing as error:
                    raise _Broken(one_line(error), _asked_to_wait(error)) from error
                except (exceptions.FailedPrecondition, exceptions.NotFound) as error:
                    raise FragmentsExpired(
                        f"{self.table}: the read session has expired ({one_line(error)}). Run again, with more workers "
                        "if it was six hours old.",
                        table=self.table,
                        fragment=self.key,
                    ) from error
        finally:
            if call is not None:
                call.cancel()

    def _batch(self, response: Any, schema: pa.Schema) -> pa.RecordBatch:
        message = type(response).pb(response)
        data = message.arrow_record_batch.serialized_record_batch
        try:
            batch = pa.ipc.read_record_batch(pa.py_buffer(data), schema)
        except (OSError, pa.ArrowException) as error:
            raise JobError(
                f"{self.table}: the service sent what is no record batch ({error}).",
                table=self.table,
                fragment=self.key,
            ) from error
        if batch.num_rows != message.row_count:
            raise JobError(
                f"{self.table}: the service announced {message.row_count} rows and sent {batch.num_rows}.",
                table=self.table,
                fragment=self.key,
            )
        return batch


class _Broken(Exception):
    """A stream ended before its end; `wait`: how many seconds the service asks for."""

    def __init__(self, why: str, wait: float) -> None:
        super().__init__(why)
        self.wait = wait


def _asked_to_wait(error: Any) -> float:
    from google.rpc import error_details_pb2

    asked = [d.retry_delay for d in error.details if isinstance(d, error_details_pb2.RetryInfo)]
    return max((d.seconds + d.nanos / 1e9 for d in asked), default=0.0)


def rebatched(batches: Iterable[pa.RecordBatch], rows: int, size: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `rows`, the last one shorter; of fewer where they would exceed `size` bytes.

    >>> parts = [pa.record_batch({"x": [1, 2, 3]}), pa.record_batch({"x": [4]}), pa.record_batch({"x": [5]})]
    >>> [batch.column("x").to_pylist() for batch in rebatched(parts, 2, 1 << 20)]
    [[1, 2], [3, 4], [5]]
    """
    held: list[pa.RecordBatch] = []
    held_rows = held_size = 0
    for batch in batches:
        held.append(batch)
        held_rows += batch.num_rows
        held_size += batch.nbytes
        # What is put together must not be held while the consumer works.
        del batch
        if held_rows < rows and held_size < size:
            continue
        whole = pa.concat_batches(held) if len(held) > 1 else held[0]
        held.clear()
        step = min(rows, max(1, held_rows * size // max(held_size, 1)))
        at = 0
        while held_rows - at >= step:
            yield whole.slice(at, step)
            at += step
        rest = whole.slice(at)
        held, held_rows, held_size = ([rest] if rest.num_rows else []), rest.num_rows, rest.nbytes
    if held_rows:
        yield pa.concat_batches(held) if len(held) > 1 else held[0]

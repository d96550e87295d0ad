"""A server of the Storage Read API that can be told to fail, for what bqemulator does not do.

What the real service does, and this one after it:

* A session reads its table as it was at ``table_modifiers.snapshot_time``; a moment before the table was there, or one
  still to come, is INVALID_ARGUMENT.
* A session has up to ``max_stream_count`` streams, often fewer; none where no row is left.
* ``ReadRows`` takes an offset, in rows of the stream, and goes on from there. The rows of a stream stay the same, in
  the same order, as long as the session lives; how they are cut into messages does not.
* A session lives for six hours. Afterwards its streams are FAILED_PRECONDITION, "session expired at …".
* A stream may break at any time, as UNAVAILABLE, as INTERNAL ("RST_STREAM closed stream …"), or as RESOURCE_EXHAUSTED
  with the seconds to wait for.
* A row restriction that does not parse or does not fit the table is INVALID_ARGUMENT when the session is opened, as is
  a selected field that is not there; a table that is not there is NOT_FOUND, no permission is PERMISSION_DENIED.
* Columns come in the table's order, whatever the order of ``selected_fields``.
* Buffers are compressed as ``arrow_serialization_options`` asks.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import grpc
import numpy as np
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types

__all__ = ["FakeBigQueryRead"]

SERVICE = "google.cloud.bigquery.storage.v1.BigQueryRead"


@dataclass
class _Session:
    streams: list[pa.Table]
    compressed: bool
    expired: bool = False


@dataclass
class FakeBigQueryRead:
    """The server; a context manager. Change its attributes to make it fail.

    Parameters
    ----------
    streams
        The most streams that a session gets.
    message_rows
        Rows in a message.
    """

    streams: int = 4
    message_rows: int = 100
    breaks: list[tuple[int, grpc.StatusCode, str]] = field(default_factory=list)
    """Each breaks one ReadRows after so many rows."""
    denied: str | None = None
    """What the service says to whoever opens a session."""
    restrictions: Mapping[str, Any] = field(default_factory=dict)
    """The row restrictions that it understands, each a mask over the table's rows; any other is an error."""
    opened: list[Any] = field(default_factory=list)
    """The requests for sessions."""
    read: list[tuple[str, int]] = field(default_factory=list)
    """The streams read and the offsets asked for."""
    wrong_count: bool = False
    """Announce another number of rows than is sent."""

    def __post_init__(self) -> None:
        self._versions: dict[str, list[tuple[datetime, pa.Table]]] = {}
        self._sessions: dict[str, _Session] = {}
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1)])
        handlers = {
            "CreateReadSession": grpc.unary_unary_rpc_method_handler(
                self._create, types.CreateReadSessionRequest.deserialize, types.ReadSession.serialize
            ),
            "ReadRows": grpc.unary_stream_rpc_method_handler(
                self._rows, types.ReadRowsRequest.deserialize, types.ReadRowsResponse.serialize
            ),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    def put(self, table: str, rows: pa.Table, at: datetime | None = None) -> None:
        """From a moment on, by default now, ``project.dataset.table`` holds these rows."""
        project, dataset, name = table.split(".")
        path = f"projects/{project}/datasets/{dataset}/tables/{name}"
        self._versions.setdefault(path, []).append((at or datetime.now(UTC), rows))

    def expire(self) -> None:
        """The sessions that are open have had their six hours."""
        for session in self._sessions.values():
            session.expired = True

    # --- the service ------------------------------------------------------------------------------------------------

    def _create(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.opened.append(request)
        asked = request.read_session
        if self.denied:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, self.denied)
        if asked.table not in self._versions:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Not found: Table {asked.table}")
        table = self._at(asked, context)
        options = asked.read_options
        if options.row_restriction:
            if options.row_restriction not in self.restrictions:
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"request failed: Query error: {options.row_restriction} at [1:1]",
                )
            table = table.filter(self.restrictions[options.row_restriction])
        for name in options.selected_fields:
            if name not in table.column_names:
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"request failed: The following selected fields do not exist in the table schema: {name}.",
                )
        if options.selected_fields:
            table = table.select([n for n in table.column_names if n in set(options.selected_fields)])
        count = min(self.streams, request.max_stream_count or self.streams) if table.num_rows else 0
        name = f"{request.parent}/locations/us/sessions/{uuid.uuid4().hex}"
        codec = types.ArrowSerializationOptions.CompressionCodec.LZ4_FRAME
        self._sessions[name] = _Session(
            [table.take(pa.array(np.arange(i, table.num_rows, count))) for i in range(count)],
            compressed=options.arrow_serialization_options.buffer_compression == codec,
        )
        return types.ReadSession(
            name=name,
            table=asked.table,
            data_format=types.DataFormat.ARROW,
            arrow_schema=types.ArrowSchema(serialized_schema=table.schema.serialize().to_pybytes()),
            streams=[types.ReadStream(name=f"{name}/streams/{i}") for i in range(count)],
        )

    def _at(self, asked: Any, context: grpc.ServicerContext) -> pa.Table:
        moment = asked.table_modifiers.snapshot_time
        versions = self._versions[asked.table]
        if not moment:
            return versions[-1][1]
        there = [rows for at, rows in versions if at <= moment]
        if not there or moment > datetime.now(UTC):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"request failed: Invalid snapshot time {moment}")
        return there[-1]

    def _rows(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.read.append((request.read_stream, request.offset))
        name, _, number = request.read_stream.partition("/streams/")
        session = self._sessions[name]
        if session.expired:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"there was an error operating on '{request.read_stream}': "
                "session expired at 2026-01-31T18:00:00+00:00",
            )
        left, code, why = self.breaks.pop(0) if self.breaks else (None, grpc.StatusCode.OK, "")
        table = session.streams[int(number)].slice(request.offset)
        for batch in table.to_batches(max_chunksize=self.message_rows):
            if left is not None and left < batch.num_rows:
                context.abort(code, why)
            left = None if left is None else left - batch.num_rows
            yield types.ReadRowsResponse(
                row_count=batch.num_rows + self.wrong_count,
                arrow_record_batch=types.ArrowRecordBatch(serialized_record_batch=_message(batch, session.compressed)),
            )


def _message(batch: pa.RecordBatch, compressed: bool) -> bytes:
    """The batch as one message, without the schema."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4" if compressed else None)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    reader = pa.ipc.MessageReader.open_stream(sink.getvalue())
    reader.read_next_message()
    return bytes(reader.read_next_message().serialize())

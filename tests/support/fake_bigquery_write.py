"""A server of the Storage Write API that can be told to fail, for what bqemulator does not do.

What the real service does, and this one after it:

* ``BatchCommitWriteStreams`` commits all streams or none. A stream is committed once: asked again, the answer names it
  with STREAM_ALREADY_COMMITTED. (bqemulator says INVALID_STREAM_STATE, and inserts stream after stream.)
* ``AppendRows`` with an offset that is there already is answered by ALREADY_EXISTS, one beyond the end by OUT_OF_RANGE.
* A request of more than 10 MB is INVALID_ARGUMENT.
* The connection may break at any time, before a request was taken or after, its answer lost.
* Rows whose values do not fit the table are named one by one, and none of the request is taken.
* Streams that nobody commits are thrown away after some days; they are STREAM_NOT_FOUND then.
* Structs are taken as they are. (bqemulator loses their fields.)
* The header ``x-goog-request-params`` says where a stream is; without it the service does not know.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types
from google.rpc import status_pb2

__all__ = ["FakeBigQueryWrite"]

SERVICE = "google.cloud.bigquery.storage.v1.BigQueryWrite"
LARGEST = 10_000_000
Codes = types.StorageError.StorageErrorCode


@dataclass
class _Stream:
    table: str
    batches: list[pa.RecordBatch] = field(default_factory=list)
    final: bool = False
    committed: bool = False

    @property
    def rows(self) -> int:
        return sum(b.num_rows for b in self.batches)


@dataclass
class FakeBigQueryWrite:
    """The server; a context manager. Change its attributes to make it fail."""

    breaks: list[str] = field(default_factory=list)
    """Each breaks one append: ``before`` it is taken, or ``after``; ``quota`` answers that it is too much for now."""
    denied: str | None = None
    """What the service says to whoever opens a stream."""
    refused: str | None = None
    """What is wrong with the first row of every append."""
    lost_answers: int = 0
    """So many commits are made and not answered."""
    appends: list[tuple[int, int]] = field(default_factory=list)
    """The offset and the size of every request."""
    finalised_short: int = 0
    """So many rows fewer than there are, a stream that is closed is said to have."""

    def __post_init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
        unary, both = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        handlers = {
            "CreateWriteStream": unary(
                self._create, types.CreateWriteStreamRequest.deserialize, types.WriteStream.serialize
            ),
            "AppendRows": both(self._append, types.AppendRowsRequest.deserialize, types.AppendRowsResponse.serialize),
            "FinalizeWriteStream": unary(
                self._finalise,
                types.FinalizeWriteStreamRequest.deserialize,
                types.FinalizeWriteStreamResponse.serialize,
            ),
            "BatchCommitWriteStreams": unary(
                self._commit,
                types.BatchCommitWriteStreamsRequest.deserialize,
                types.BatchCommitWriteStreamsResponse.serialize,
            ),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of ``project.dataset.table`` that can be seen."""
        project, dataset, name = table.split(".")
        path = f"projects/{project}/datasets/{dataset}/tables/{name}"
        seen = [s for s in self._streams.values() if s.table == path and s.committed]
        return [row for s in seen for batch in s.batches for row in batch.to_pylist()]

    def forget(self) -> None:
        """The streams that are there have become too old."""
        self._streams.clear()

    # --- the service ------------------------------------------------------------------------------------------------

    def _create(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.denied:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, self.denied)
        if request.write_stream.type_ != types.WriteStream.Type.PENDING:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this server has pending streams only")
        name = f"{request.parent}/streams/{uuid.uuid4().hex}"
        self._streams[name] = _Stream(request.parent)
        return types.WriteStream(name=name, type_=types.WriteStream.Type.PENDING)

    def _append(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        schema: bytes | None = None
        headers = [value for key, value in context.invocation_metadata() if key == "x-goog-request-params"]
        for request in requests:
            size = request._pb.ByteSize()
            self.appends.append((request.offset, size))
            if f"write_stream={request.write_stream}" not in headers:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no routing header, got {headers}")
            if size >= LARGEST:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"request of {size} bytes")
            how = self.breaks.pop(0) if self.breaks else None
            if how == "before":
                context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
            if how == "quota":
                yield _error(8, "Exceeds 'AppendRows throughput' quota")
                continue
            schema = request.arrow_rows.writer_schema.serialized_schema or schema
            assert schema is not None
            answer = self._take(self._streams[request.write_stream], request, schema)
            if how == "after":
                context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
            yield answer

    def _take(self, stream: _Stream, request: Any, schema: bytes) -> Any:
        if stream.final:
            return _error(9, "the stream is finalized")
        if request.offset != stream.rows:
            return _error(6, "offset is there") if request.offset < stream.rows else _error(11, "offset is beyond")
        if self.refused:
            answer = _error(3, "Errors found while processing rows.")
            answer.row_errors = [types.RowError(index=0, message=self.refused)]
            return answer
        data = request.arrow_rows.rows.serialized_record_batch
        arrow = pa.ipc.read_schema(pa.py_buffer(schema))
        stream.batches.append(pa.ipc.read_record_batch(pa.py_buffer(data), arrow))
        return types.AppendRowsResponse(append_result={"offset": request.offset})

    def _finalise(self, request: Any, context: grpc.ServicerContext) -> Any:
        stream = self._streams[request.name]
        stream.final = True
        return types.FinalizeWriteStreamResponse(row_count=stream.rows - self.finalised_short)

    def _commit(self, request: Any, context: grpc.ServicerContext) -> Any:
        errors = []
        for name in request.write_streams:
            stream = self._streams.get(name)
            if stream is None or stream.table != request.parent:
                errors.append(types.StorageError(code=Codes.STREAM_NOT_FOUND, entity=name, error_message="not found"))
            elif stream.committed:
                errors.append(types.StorageError(code=Codes.STREAM_ALREADY_COMMITTED, entity=name))
            elif not stream.final:
                errors.append(types.StorageError(code=Codes.INVALID_STREAM_STATE, entity=name))
        if errors:
            return types.BatchCommitWriteStreamsResponse(stream_errors=errors)
        for name in request.write_streams:
            self._streams[name].committed = True
        if self.lost_answers:
            self.lost_answers -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        return types.BatchCommitWriteStreamsResponse(commit_time={"seconds": 1})


def _error(code: int, message: str) -> Any:
    return types.AppendRowsResponse(error=status_pb2.Status(code=code, message=message))

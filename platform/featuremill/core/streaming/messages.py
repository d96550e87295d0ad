"""Messages of one JSON object each, gathered for a bounded time and read into record batches.

Arrow's JSON reader makes the columns. It is not given a message before Python's own reader took it for one object: a
message ``null`` ends the process in a segmentation fault (pyarrow 25), and two objects in one message would be two
rows.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from apache_beam.metrics import Metrics

from featuremill.artifacts.errors import BadRows
from featuremill.core.feature_recipe import FRAGMENT, ROW, dictionary_of
from featuremill.core.streaming.letters import letters_without_rows
from featuremill.transforms.arrays import value_type
from featuremill.transforms.rejects import Reject, apply_or_reject

__all__ = ["ReadMessages", "parse_json"]

REJECTED = "rejected"
PAYLOAD = "payload"

_CHANGED = re.compile(r"Column\(/([^/)]*)[^)]*\) changed from (\w+) to (\w+)")
_UNFIT = re.compile(r"Failed to convert JSON to ([^,]+), couldn't parse")
_TWICE = re.compile(r"Column\(/([^/)]*)[^)]*\) was specified twice")

Message = tuple[bytes, str]
"""What a message holds, and its id; the id may be empty."""


def parse_json(payloads: Sequence[bytes], schema: pa.Schema) -> tuple[pa.RecordBatch, list[Reject]]:
    """The rows of messages that hold one JSON object each, and the messages that do not fit.

    Keys that are no columns are left out, and a column without its key is null. Times are texts in ISO 8601, decimals
    and whole numbers are read exactly.

    Returns
    -------
    The rows in order, without those of `rejects`; columns as `schema` says.

    >>> schema = pa.schema([("id", pa.int64()), ("when", pa.date32())])
    >>> rows, rejects = parse_json([b'{"id": 1, "when": "2013-01-31"}', b'null', b'{"id": "x"}'], schema)
    >>> rows.to_pylist()
    [{'id': 1, 'when': datetime.date(2013, 1, 31)}]
    >>> for r in rejects:
    ...     print(r.row, r.reason)
    1 The message is not a JSON object.
    2 The message has a string in the column 'id', which is int64.
    """
    batch = pa.RecordBatch.from_arrays([pa.array(payloads, pa.binary())], [PAYLOAD])
    _, rows, rejects = apply_or_reject(lambda part: _parse(part, schema), batch)
    return rows, rejects


def _parse(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    payloads = batch.column(PAYLOAD).to_pylist()
    bad = [i for i, payload in enumerate(payloads) if not _is_object(payload)]
    if bad:
        raise BadRows("The message is not a JSON object.", rows=bad)
    try:
        return _read(payloads, schema)
    except pa.ArrowException as error:
        if len(payloads) != 1:
            raise
        reason, column = _in_words(str(error), schema)
        raise BadRows(reason, rows=[0], column=column) from error


def _is_object(payload: bytes) -> bool:
    try:
        return isinstance(json.loads(payload.decode("utf-8")), dict)
    except (ValueError, RecursionError):
        return False


def _read(payloads: Sequence[bytes], schema: pa.Schema) -> pa.RecordBatch:
    from pyarrow import json as arrow_json

    wire = pa.schema([(f.name, _wire_type(f.type)) for f in schema])
    if not payloads:
        return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)
    # Between its parts an object may have line breaks, where the reader would look for the next one.
    data = b"\n".join(p.replace(b"\n", b" ").replace(b"\r", b" ") for p in payloads) + b"\n"
    table = arrow_json.read_json(
        pa.BufferReader(data),
        read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(data)),
        parse_options=arrow_json.ParseOptions(explicit_schema=wire, unexpected_field_behavior="ignore"),
    )
    arrays = [_to_type(table.column(f.name).combine_chunks(), f) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _wire_type(type_: pa.DataType) -> pa.DataType:
    """The type that Arrow's JSON reader can make, from which the wanted one is a cast away."""
    if pt.is_dictionary(type_):
        return _wire_type(value_type(type_))
    if pt.is_date(type_) or pt.is_time(type_):
        return pa.string()
    if pt.is_list(type_) or pt.is_large_list(type_) or pt.is_fixed_size_list(type_):
        return pa.list_(_wire_type(type_.value_type))
    return type_


def _to_type(array: pa.Array, field: pa.Field) -> pa.Array:
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks else pa.array([], array.type)
    if array.type == field.type:
        return array
    if pt.is_time(field.type):
        # Arrow has no cast from a text to a time of day: it is the time of a day.
        stamps = pc.strptime(array, format="%H:%M:%S", unit="s")
        return stamps.cast(pa.timestamp(field.type.unit)).cast(field.type)
    return array.cast(field.type)


def _in_words(text: str, schema: pa.Schema) -> tuple[str, str | None]:
    """Arrow's complaint about one message, without the message's values; and the column, where it is known."""
    if found := _CHANGED.search(text):
        name = found[1]
        type_ = schema.field(name).type if name in schema.names else found[2]
        got = f"an {found[3]}" if found[3][0] in "ao" else f"a {found[3]}"
        return f"The message has {got} in the column {name!r}, which is {type_}.", name
    if found := _TWICE.search(text):
        return f"The message has the key {found[1]!r} twice.", found[1]
    if found := _UNFIT.search(text):
        return f"The message has a value that is no {found[1]}.", None
    return f"The message does not fit the columns: {text.splitlines()[0].partition(':')[0].rstrip('.')}.", None


class ReadMessages(beam.PTransform):  # type: ignore[misc]
    """Messages in (bytes, or Pub/Sub's ``PubsubMessage``); out ``batches``, and ``rejected`` with the dead letters.

    Parameters
    ----------
    schema
        The columns of a message; all may be null.
    batch_rows, max_delay
        A batch is made when so many messages have come, or so many seconds after its first.
    message_id
        The name of a column that gets the message's id; None: no such column.
    clock
        The time now, as for Beam's ``GroupIntoBatches``: for tests.
    """

    def __init__(
        self,
        schema: pa.Schema,
        *,
        batch_rows: int = 10_000,
        max_delay: float = 1.0,
        message_id: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.schema = schema
        self.batch_rows = batch_rows
        self.max_delay = max_delay
        self.message_id = message_id
        self.clock = clock

    def expand(self, messages: beam.PCollection[Any]) -> Any:
        return (
            messages
            | "Payload" >> beam.Map(_message).with_output_types(tuple[int, Message])
            | "Gather"
            >> beam.GroupIntoBatches.WithShardedKey(self.batch_rows, self.max_delay, clock=self.clock)
            | "Values" >> beam.Values()
            | "Parse" >> beam.ParDo(_ParseBatch(self.schema, self.message_id)).with_outputs(REJECTED, main="batches")
        )


def _message(element: Any) -> tuple[int, Message]:
    if isinstance(element, bytes):
        return 0, (element, "")
    return 0, (element.data, element.message_id or "")


class _ParseBatch(beam.DoFn):  # type: ignore[misc]
    def __init__(self, schema: pa.Schema, message_id: str | None) -> None:
        self.schema = schema
        self.message_id = message_id
        self.read = Metrics.counter("featuremill", "rows_read")
        self.unread = Metrics.counter("featuremill", "messages_not_understood")

    def process(self, found: Iterable[Message]) -> Iterator[Any]:
        messages = list(found)
        fragment = f"messages-{messages[0][1] or uuid.uuid4().hex}"
        rows, rejects = parse_json([data for data, _ in messages], self.schema)
        self.read.inc(len(messages))
        if rejects:
            self.unread.inc(len(rejects))
            payloads = [messages[r.row][0] for r in rejects]
            yield beam.pvalue.TaggedOutput(REJECTED, letters_without_rows(rejects, fragment, payloads))
        if rows.num_rows:
            yield self._complete(rows, fragment, messages, {r.row for r in rejects})

    def _complete(
        self, rows: pa.RecordBatch, fragment: str, messages: Sequence[Message], bad: set[int]
    ) -> pa.RecordBatch:
        kept = [i for i in range(len(messages)) if i not in bad]
        arrays, names = list(rows.columns), list(rows.schema.names)
        if self.message_id is not None:
            arrays.append(pa.array([messages[i][1] for i in kept], pa.string()))
            names.append(self.message_id)
        arrays += [dictionary_of(fragment, len(kept)), pa.array(kept, pa.int64())]
        return pa.RecordBatch.from_arrays(arrays, [*names, FRAGMENT, ROW])

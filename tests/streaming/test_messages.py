"""Messages into batches: what they hold, when a batch is made, and what becomes of those that cannot be read."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.testing.test_stream import TestStream as Stream  # pytest takes Test… for tests
from hypothesis import given
from hypothesis import strategies as st

from featuremill.core.streaming.messages import ReadMessages, parse_json
from support.streams import run_stream

SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.float64()), ("s", pa.string())])


def one(type_: pa.DataType, value: str) -> Any:
    """What a column of one message holds, or why not."""
    rows, rejects = parse_json([b'{"a": %s}' % value.encode()], pa.schema([("a", type_)]))
    return rows.column("a")[0].as_py() if rows.num_rows else rejects[0].reason


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        (pa.int64(), "9007199254740993", 9007199254740993),
        (pa.int8(), "null", None),
        (pa.float32(), "0.5", 0.5),
        (pa.decimal128(10, 2), '"1.25"', Decimal("1.25")),
        (pa.bool_(), "true", True),
        (pa.string(), '"\\u00e9\\u0000"', "é\0"),
        (pa.large_string(), '"x"', "x"),
        (pa.dictionary(pa.int32(), pa.string()), '"x"', "x"),
        (pa.date32(), '"2013-01-31"', date(2013, 1, 31)),
        (pa.time64("us"), '"23:59:01"', time(23, 59, 1)),
        (pa.timestamp("us"), '"2013-01-31T12:00:00.5"', datetime(2013, 1, 31, 12, 0, 0, 500_000)),
        (pa.timestamp("us", "UTC"), '"2013-01-31T12:00:00Z"', datetime(2013, 1, 31, 12, tzinfo=UTC)),
        (pa.list_(pa.int64()), "[1, null]", [1, None]),
        (pa.list_(pa.float32(), 2), "[1, 2]", [1.0, 2.0]),
        (pa.large_list(pa.string()), '["a"]', ["a"]),
        (pa.struct([("b", pa.int32())]), '{"b": 1}', {"b": 1}),
    ],
)
def test_values_get_the_columns_type(type_: pa.DataType, value: str, expected: Any) -> None:
    assert one(type_, value) == expected


@pytest.mark.parametrize(
    ("type_", "value", "reason"),
    [
        (pa.int64(), "1.5", "The message has a value that is no int64."),
        (pa.int8(), "300", "The message has a value that is no int8."),
        (pa.int64(), '"5"', "The message has a string in the column 'a', which is int64."),
        (pa.string(), "5", "The message has a number in the column 'a', which is string."),
        (pa.int64(), "[1]", "The message has an array in the column 'a', which is int64."),
        (pa.date32(), '"yesterday"', "The message does not fit the columns: Failed to parse string."),
        (pa.int64(), '1, "a": 2', "The message has the key 'a' twice."),
    ],
)
def test_values_that_do_not_fit(type_: pa.DataType, value: str, reason: str) -> None:
    assert one(type_, value) == reason


@pytest.mark.parametrize(
    "payload",
    # The first ends the process when Arrow's reader is given it; a rejected one could, too, between two objects.
    [b"null", b'{"id": 1} null',
     b'{"id": 1}{"id": 2}', b"", b" ", b"5", b"[1]", b'{"id": ', b"\xff\xfe", b"[" * 100_000],
)
def test_what_is_no_object_costs_itself(payload: bytes) -> None:
    rows, rejects = parse_json([b'{"id": 1}', payload, b'{"id": 2}'], SCHEMA)
    assert rows.column("id").to_pylist() == [1, 2]
    assert [(r.row, r.reason) for r in rejects] == [(1, "The message is not a JSON object.")]


def test_unknown_keys_are_left_out_and_missing_ones_null() -> None:
    rows, rejects = parse_json([b'{"zz": {"a": [1]}, "x": 1}', b'{\r\n "s":\n "a"\n}'], SCHEMA)
    assert rows.to_pylist() == [{"id": None, "x": 1.0, "s": None}, {"id": None, "x": None, "s": "a"}]
    assert rejects == []


def test_no_messages_give_no_rows() -> None:
    rows, rejects = parse_json([], SCHEMA)
    assert rows.schema == SCHEMA and rows.num_rows == 0 and rejects == []


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "id": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.just("x")),
                "x": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-9, 9)),
                "s": st.one_of(st.none(), st.text().filter(lambda t: t.isprintable()), st.booleans()),
            },
        ),
        max_size=12,
    )
)
def test_rows_are_what_pythons_reader_says(values: list[dict[str, Any]]) -> None:
    rows, rejects = parse_json([json.dumps(v).encode() for v in values], SCHEMA)
    bad = {i for i, v in enumerate(values) if v.get("id") == "x" or isinstance(v.get("s"), bool)}
    assert {r.row for r in rejects} == bad
    assert rows.to_pylist() == [{n: v.get(n) for n in SCHEMA.names} for i, v in enumerate(values) if i not in bad]


class Kept(beam.DoFn):  # type: ignore[misc]
    """Batches in the order they came; the runner is of this process."""

    found: list[list[dict[str, Any]]] = []  # noqa: RUF012  # emptied by each test

    def process(self, batch: pa.RecordBatch) -> None:
        self.found.append(batch.to_pylist())


def message(i: int) -> PubsubMessage:
    return PubsubMessage(json.dumps({"id": i, "x": i / 2}).encode(), {}, message_id=f"m{i}")


def gathered(stream: Stream, **options: Any) -> list[list[dict[str, Any]]]:
    Kept.found.clear()

    def build(pipeline: beam.Pipeline) -> None:
        # A clock that stands still: with the stream's own, which starts at 0, timers are as exact as the stream.
        read = pipeline | stream | ReadMessages(SCHEMA, clock=_zero, **options)
        _ = read.batches | beam.ParDo(Kept())
        _ = read.rejected | "rejected" >> beam.ParDo(Kept())

    run_stream(build)
    return list(Kept.found)


def _zero() -> float:
    return 0.0


def test_a_batch_waits_no_longer_than_it_may() -> None:
    stream = Stream().advance_watermark_to(0)
    stream.add_elements([message(i) for i in range(3)]).advance_processing_time(1.9)
    stream.add_elements([message(3)]).advance_processing_time(0.2)
    stream.add_elements([message(4)]).advance_watermark_to_infinity()
    found = gathered(stream, batch_rows=100, max_delay=2.0)
    assert [[r["id"] for r in batch] for batch in found] == [[0, 1, 2, 3], [4]]


def test_a_full_batch_does_not_wait() -> None:
    stream = Stream().advance_watermark_to(0).add_elements([message(i) for i in range(5)])
    stream.advance_watermark_to_infinity()
    found = gathered(stream, batch_rows=2, max_delay=1000.0)
    assert [[r["id"] for r in batch] for batch in found] == [[0, 1], [2, 3], [4]]


def test_messages_know_their_ids_and_places_and_the_bad_ones_go_aside() -> None:
    bad = PubsubMessage(b"oops", {}, message_id="m9")
    stream = Stream().advance_watermark_to(0).add_elements([message(0), bad, message(2)])
    stream.advance_watermark_to_infinity()
    rejected, rows = sorted(gathered(stream, max_delay=1.0, message_id="mid"), key=len)
    assert [(r["id"], r["mid"], r["_fragment"], r["_row"]) for r in rows] == [
        (0, "m0", "messages-m0", 0), (2, "m2", "messages-m0", 2),
    ]
    assert rejected == [
        {"_reason": "The message is not a JSON object.", "_column": None, "_fragment": "messages-m0", "_row": 1,
         "_message": b"oops"}
    ]


def test_plain_bytes_are_messages_too(tmp_path: Path) -> None:
    stream = Stream().advance_watermark_to(0).add_elements([b'{"id": 7}']).advance_watermark_to_infinity()
    (rows,) = gathered(stream)
    assert [(r["id"], r["_row"]) for r in rows] == [(7, 0)]

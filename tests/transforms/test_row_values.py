"""Single values read as a column's type: what Arrow would hold, or a clear refusal."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuremill.artifacts.errors import RequestError
from featuremill.transforms.row_values import row_reader

TYPES = [
    pa.float64(),
    pa.float32(),
    pa.float16(),
    pa.int64(),
    pa.int8(),
    pa.uint16(),
    pa.bool_(),
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.date32(),
    pa.timestamp("us"),
    pa.timestamp("ms", "UTC"),
    pa.decimal128(10, 2),
    pa.list_(pa.float32()),
    pa.list_(pa.string()),
    pa.dictionary(pa.int8(), pa.string()),
    pa.null(),
]


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_none_is_null_in_every_type(type_: pa.DataType) -> None:
    assert row_reader(pa.field("x", type_))(None) is None


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        (pa.float64(), 3, 3.0),
        (pa.float64(), True, 1.0),
        (pa.int64(), True, 1),
        (pa.float64(), Decimal("1.5"), 1.5),
        (pa.timestamp("us"), dt.date(2013, 1, 2), dt.datetime(2013, 1, 2)),
        (pa.struct({"a": pa.int8(), "b": pa.string()}), {"b": "t", "a": 1}, {"a": 1, "b": "t"}),
        (pa.list_(pa.int64()), [], []),
        (pa.list_(pa.int64()), 5, [5]),
        (pa.large_list(pa.string()), "ab", ["ab"]),
        (pa.float32(), 0.1, 0.10000000149011612),
        (pa.float32(), 3, 3.0),
        (pa.int64(), 3.0, 3),
        (pa.int8(), -128, -128),
        (pa.string(), "ä", "ä"),
        (pa.dictionary(pa.int8(), pa.string()), "ä", "ä"),
        (pa.binary(), b"\xff", b"\xff"),
        (pa.date32(), dt.date(2013, 1, 2), dt.date(2013, 1, 2)),
        (pa.timestamp("us"), dt.datetime(2013, 1, 2, 3), dt.datetime(2013, 1, 2, 3)),
        (pa.decimal128(10, 2), Decimal("1.5"), Decimal("1.50")),
        (pa.list_(pa.float32()), [0.1, None], [0.10000000149011612, None]),
        (pa.list_(pa.string()), ("a", "b"), ["a", "b"]),
    ],
    ids=str,
)
def test_values_that_fit(type_: pa.DataType, value: Any, expected: Any) -> None:
    found = row_reader(pa.field("x", type_))(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (pa.float64(), "1"),
        (pa.float32(), "1"),
        (pa.int64(), "1"),
        (pa.int64(), 1.5),
        (pa.int64(), 2**63),
        (pa.int64(), -(2**63) - 1),
        (pa.int8(), 128),
        (pa.uint16(), -1),
        (pa.string(), 1),
        (pa.string(), 1.5),
        (pa.bool_(), "yes"),
        (pa.date32(), "2013-01-02"),
        (pa.list_(pa.float32(), 2), 1.0),
        (pa.list_(pa.int64()), "a"),
        (pa.list_(pa.int64()), ["a"]),
        (pa.list_(pa.int64()), [1.5]),
        (pa.date32(), 5),
        (pa.int64(), dt.datetime(2013, 1, 1)),
        (pa.timestamp("s"), "2013"),
        (pa.timestamp("s"), dt.datetime(2013, 1, 1, 1, 1, 1, 500)),
        (pa.int64(), Decimal("1.5")),
        (pa.float64(), [1.0]),
        pytest.param(pa.float64(), object(), id="double-object"),
        (pa.null(), 1),
        (pa.decimal128(3, 2), Decimal("1.555")),
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_refused(type_: pa.DataType, value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        row_reader(pa.field("price", type_))(value)
    assert str(caught.value).startswith("price: ")
    assert caught.value.column == "price"


@given(st.floats(), st.sampled_from([pa.float64(), pa.float32()]))
def test_floats_are_what_a_batch_holds(value: float, type_: pa.DataType) -> None:
    found = row_reader(pa.field("x", type_))(value)
    held = pa.array([value], pa.float64()).cast(type_)
    assert pa.array([found], type_).equals(held) or (found != found and value != value)


@given(st.integers(-(2**70), 2**70), st.sampled_from([pa.int64(), pa.int16(), pa.uint32(), pa.uint64()]))
def test_integers_fit_or_are_refused(value: int, type_: pa.DataType) -> None:
    bits, signed = type_.bit_width, pa.types.is_signed_integer(type_)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    read = row_reader(pa.field("x", type_))
    if low <= value < high:
        assert read(value) == value
    else:
        with pytest.raises(RequestError):
            read(value)

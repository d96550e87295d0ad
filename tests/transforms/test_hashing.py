"""HashStrings: against the stock op, the one-value hashes, and itself row by row."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError, ParameterError, ParameterTypeError
from featuremill.transforms.fingerprint import fingerprint64_of, siphash64_of
from featuremill.transforms.hashing import HashStrings
from support.fitting import apply, apply_rows
from support.stock import run_stock, stock_ops

KEY = (12345678901234567, 2**64 - 1)
LAYOUTS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.binary_view(),
    pa.dictionary(pa.int8(), pa.string()),
]


def batch_of(array: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([array], ["x"])


@settings(deadline=None)
@given(st.lists(st.none() | st.text(max_size=40), max_size=20), st.integers(1, 2**62), st.sampled_from(LAYOUTS))
def test_batches_and_rows_equal_the_hash_of_each_value(
    values: list[str | None], buckets: int, type_: pa.DataType
) -> None:
    batch = batch_of(pa.array(values, pa.string()).cast(type_))
    for key in (None, KEY):
        op = HashStrings(["x"], buckets, key)
        hashed = fingerprint64_of if key is None else lambda text: siphash64_of(text, KEY)
        expected = [None if v is None else hashed(v) % buckets for v in values]
        assert apply(op, batch)["x"].to_pylist() == expected
        assert apply_rows(op, batch) == [{"x": e} for e in expected]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1, -20, None]),
        pa.array([2**64 - 1, 0], pa.uint64()),
        pa.array([True, False, None]),
        pa.array([dt.date(2013, 1, 1), None]),
    ],
)
def test_values_that_are_no_text_hash_their_text(array: pa.Array) -> None:
    texts = [None if v is None else str(v).lower() for v in array.to_pylist()]
    op = HashStrings(["x"], 1000)
    expected = apply(op, batch_of(pa.array(texts, pa.string())))["x"].to_pylist()
    assert apply(op, batch_of(array))["x"].to_pylist() == expected
    assert [row["x"] for row in apply_rows(op, batch_of(array))] == expected


def test_lists_keep_their_shape() -> None:
    batch = batch_of(pa.array([["a", None], None, [], ["b", "a"]]))
    a, b = (fingerprint64_of(t) % 7 for t in "ab")
    op = HashStrings(["x"], 7, output="bucket")
    assert apply(op, batch)["bucket"].to_pylist() == [[a, None], None, [], [b, a]]
    assert [row["bucket"] for row in apply_rows(op, batch)] == [[a, None], None, [], [b, a]]


def test_no_rows() -> None:
    for type_ in (pa.string(), pa.list_(pa.string()), pa.null(), pa.dictionary(pa.int32(), pa.string())):
        assert len(apply(HashStrings(["x"], 3), batch_of(pa.array([], type_)))["x"]) == 0


@pytest.mark.parametrize(
    ("buckets", "key", "error", "message"),
    [
        (0, None, ParameterError, "hash_buckets got 0, expected an integer of at least 1"),
        (2.0, None, ParameterTypeError, "hash_buckets got 2.0"),
        (3, (1,), ParameterError, r"key got \[1\], expected two integers from 0 to 2\*\*64 - 1"),
        (3, (-1, 2), ParameterError, "key got"),
        (3, (1, 2**64), ParameterError, "key got"),
        (3, ("a", "b"), ParameterTypeError, "key got"),
        (3, 5, ParameterTypeError, "key got 5"),
    ],
)
def test_wrong_parameters(buckets: Any, key: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        HashStrings(["x"], buckets, key)


@pytest.mark.parametrize("type_", [pa.float64(), pa.timestamp("s"), pa.list_(pa.float32()), pa.decimal128(4, 1)])
def test_wrong_columns(type_: pa.DataType) -> None:
    with pytest.raises(ColumnTypeError, match="expected text, bytes, integers, booleans or dates"):
        HashStrings(["x"], 3).output_fields(pa.schema([("x", type_)]))


def test_config_round_trip() -> None:
    op = HashStrings(["x"], 3, [1, 2])
    assert op.config() == {"columns": ["x"], "hash_buckets": 3, "key": [1, 2]}
    assert HashStrings(**op.config()) == op


@pytest.mark.differential
@pytest.mark.parametrize("key", [None, (12345678901234567, 2**63 - 5)])
def test_equals_stock(key: tuple[int, int] | None) -> None:
    values = ["", "a", "é→𝄞", "line\nbreak", *("word " * n for n in range(1, 20))]
    stock = run_stock(stock_ops().HashStrings(columns=["x"], hash_buckets=9973, key=key), [{"x": v} for v in values])
    ours = apply(HashStrings(["x"], 9973, key), batch_of(pa.array(values)))["x"].to_pylist()
    assert [np.asarray(row["x"]).ravel().tolist() for row in stock] == [[v] for v in ours]

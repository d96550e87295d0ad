"""FrequencyEncode and OneHot: against plain Python readings of the rules, and themselves row by row."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError, ParameterError, ParameterTypeError
from featuremill.transforms.encoding import FrequencyEncode, OneHot
from featuremill.transforms.fingerprint import fingerprint64_of
from featuremill.transforms.vocabulary import Vocabulary
from support.fitting import apply, apply_rows, fit

TYPED: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.string(), st.text("abé", max_size=2)),
    (pa.dictionary(pa.int16(), pa.string()), st.text("ab", max_size=2)),
    (pa.string_view(), st.text("ab", max_size=2)),
    (pa.int8(), st.integers(-3, 3)),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.dates(dt.date(2020, 1, 1), dt.date(2020, 1, 4))),
    (pa.timestamp("ns"), st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 2))),
    (pa.list_(pa.int64()), st.lists(st.none() | st.integers(0, 3), max_size=3)),
    (
        pa.list_(pa.list_(pa.string()), 2),
        st.lists(st.lists(st.text("ab", max_size=1), max_size=2), min_size=2, max_size=2),
    ),
]
by_type = pytest.mark.parametrize(
    ("type_", "values"), TYPED, ids=lambda p: str(p) if isinstance(p, pa.DataType) else ""
)


def batch_of(array: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([array], ["x"])


def array_of(values: list[Any], type_: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(type_):
        return pa.array(values, type_.value_type).cast(type_)
    return pa.array(values, type_)


def leaves_of(value: Any) -> list[Any]:
    return [leaf for v in value for leaf in leaves_of(v)] if isinstance(value, list) else [value]


def mapped(value: Any, numbers: dict[Any, Any]) -> Any:
    if isinstance(value, list):
        return [mapped(v, numbers) for v in value]
    return None if value is None else numbers.get(value, 0)


@by_type
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_frequencies_follow_the_rule(type_: pa.DataType, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    rows = st.lists(st.none() | values, max_size=20)
    fitted, applied = (batch_of(array_of(data.draw(rows), type_)) for _ in range(2))
    counts = Counter(leaf for leaf in leaves_of(fitted["x"].to_pylist()) if leaf is not None)
    total = max(1, counts.total())
    for op, number in (
        (FrequencyEncode(["x"]), lambda n: float(np.float32(n / total))),
        (FrequencyEncode(["x"], dtype="float64"), lambda n: n / total),
        (FrequencyEncode(["x"], normalize=False, dtype="int64"), lambda n: n),
    ):
        states = fit(op, [fitted])
        expected = [mapped(v, {t: number(n) for t, n in counts.items()}) for v in applied["x"].to_pylist()]
        assert apply(op, applied, states)["x"].to_pylist() == expected
        assert [row["x"] for row in apply_rows(op, applied, states)] == expected


@by_type
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_vectors_follow_the_rule(type_: pa.DataType, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    batch = batch_of(array_of(data.draw(st.lists(st.none() | values, max_size=15)), type_))
    op = OneHot(["x"], top_k=3, dtype=data.draw(st.sampled_from(["float32", "int8"])))
    states = fit(op, [batch])
    tokens = states["x"]["token"].to_pylist()
    expected = [[int(i < len(tokens) and tokens[i] in leaves_of(v)) for i in range(3)] for v in batch["x"].to_pylist()]
    assert apply(op, batch, states)["x"].to_pylist() == expected
    assert [row["x"] for row in apply_rows(op, batch, states)] == expected


def test_the_most_frequent_values_are_those_of_a_vocabulary() -> None:
    assert OneHot(["x"], top_k=5).analyzer("x") == Vocabulary("x", top_k=5)
    assert OneHot(["x"], categories=["a"]).analyzers() == {}


def test_buckets_come_after_all_positions() -> None:
    op = OneHot(["x"], top_k=4, num_oov_buckets=2)
    states = fit(op, [batch_of(pa.array(["a"]))])
    bucket = 4 + fingerprint64_of("new") % 2
    batch = batch_of(pa.array(["a", "new", None]))
    expected = [[1.0, 0, 0, 0, 0, 0], [float(i == bucket) for i in range(6)], [0.0] * 6]
    assert apply(op, batch, states)["x"].to_pylist() == expected
    assert [row["x"] for row in apply_rows(op, batch, states)] == expected


@pytest.mark.parametrize(
    ("categories", "array"),
    [
        (["b", "a"], pa.array(["a", "b", "z", None])),
        (["b", "a"], pa.array([b"a", b"b", b"z", None])),
        ([2, 1], pa.array([1, 2, 9, None], pa.int8())),
        ([True, False], pa.array([False, True, None, None])),
        (["2020-01-02", "2020-01-01"], pa.array([dt.date(2020, 1, d) for d in (1, 2, 9)] + [None])),
    ],
)
def test_given_categories(categories: list[Any], array: pa.Array) -> None:
    op = OneHot(["x"], categories=categories)
    expected = [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert apply(op, batch_of(array))["x"].to_pylist() == expected
    assert [row["x"] for row in apply_rows(op, batch_of(array))] == expected
    assert OneHot(**op.config()) == op


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"top_k": 0}, ParameterError, "top_k got 0"),
        ({"num_oov_buckets": -1}, ParameterError, "num_oov_buckets got -1"),
        ({"dtype": "float16"}, ParameterError, "dtype got 'float16', expected one of 'float32'"),
        ({"categories": "ab"}, ParameterTypeError, "categories got 'ab', expected a list of values"),
        ({"categories": []}, ParameterError, "at least one category"),
        ({"categories": ["a", None]}, ParameterError, "a null has no position"),
        ({"categories": [1, 1]}, ParameterError, "remove the repeated 1"),
    ],
)
def test_wrong_parameters_of_one_hot(parameters: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        OneHot(["x"], **parameters)


@pytest.mark.parametrize(
    ("categories", "type_"),
    [
        (["a"], pa.int64()),
        ([1], pa.string()),
        ([1], pa.bool_()),
        ([True], pa.int8()),
        ([300], pa.int8()),
        ([1, "a"], pa.string()),
        (["x"], pa.date32()),
        (["2020-01-01", "2020-1-1"], pa.date32()),
    ],
)
def test_categories_must_be_of_the_columns_type(categories: list[Any], type_: pa.DataType) -> None:
    with pytest.raises(ParameterTypeError, match="categories got .*expected values"):
        OneHot(["x"], categories=categories).output_fields(pa.schema([("x", type_)]))


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"dtype": "int64"}, ParameterError, "shares are no integers, set normalize=False"),
        ({"dtype": "int8"}, ParameterError, "dtype got 'int8'"),
        ({"normalize": 1}, ParameterTypeError, "normalize got 1"),
    ],
)
def test_wrong_parameters_of_frequency(parameters: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FrequencyEncode(["x"], **parameters)


@pytest.mark.parametrize("op", [FrequencyEncode(["x"]), OneHot(["x"])])
def test_measurements_are_no_categories(op: FrequencyEncode | OneHot) -> None:
    with pytest.raises(ColumnTypeError, match=r"Use Bucketize for measurements, or cast to an integer"):
        op.output_fields(pa.schema([("x", pa.float32())]))

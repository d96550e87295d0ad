"""Columns of numbers for the tests of the numeric families, and what is asked of every transform over them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from featuremill.transforms.contract import Analyzer, Transform
from support.fitting import apply, apply_rows, fit, table_bytes

__all__ = ["COLUMNS", "assert_cut_independent", "assert_rows_equal_batch", "batch_of", "cuts", "fit_apply", "numbers"]

NAN, INF = float("nan"), float("inf")

COLUMNS: dict[str, pa.Array] = {
    "float64": pa.array([1.5, -2.25, None, 1e6, 0.1, NAN, -0.0]),
    "float32": pa.array([1.5, 0.1, None, -3.0, NAN], pa.float32()),
    "float16": pa.array([1.5, 0.25, None, -3.0], pa.float16()),
    "int64": pa.array([1, 5, None, -7, 2**53 + 1]),
    "uint8": pa.array([1, 255, None, 0], pa.uint8()),
    "bool": pa.array([True, False, None, True]),
    "decimal": pa.array([Decimal("1.10"), None, Decimal("-7.25"), Decimal("123456789.01")], pa.decimal128(18, 2)),
    "dictionary": pa.array([2.5, None, 2.5, 7.0, -1.0]).dictionary_encode(),
    "list": pa.array([[1.0, None], None, [], [2.5, 8.0, NAN]]),
    "nested": pa.array([[[1, 2], None], [[3]], None, [[], [None, 9]]]),
    "large_list": pa.array([[1], None, [2, 3]], pa.large_list(pa.int32())),
    "fixed": pa.array([[1.0, 5.0], None, [2.0, None], [4.0, 9.0]], pa.list_(pa.float64(), 2)),
    "sliced": pa.array([[9.0, 9.0], [1.0, 5.0], None, [2.0, None], [4.0, 9.0]], pa.list_(pa.float64(), 2)).slice(1),
    "empty": pa.array([], pa.float64()),
    "one_row": pa.array([3.0]),
    "all_null": pa.array([None, None], pa.int32()),
    "null": pa.nulls(3),
    "constant": pa.array([4, 4, None, 4]),
    "infinite": pa.array([1.0, INF, 2.0, -INF, None]),
}
"""A column of every type and kind that the numeric transforms take."""


def numbers(**options: Any) -> st.SearchStrategy[float | None]:
    """Any float64, NaN and null."""
    return st.none() | st.floats(**options) | st.sampled_from([0.0, -0.0, 1.0, 2.0, NAN])


def batch_of(values: Any, type_: pa.DataType | None = None) -> pa.RecordBatch:
    """One column, "x"."""
    array = values if isinstance(values, pa.Array) else pa.array(values, type=type_)
    return pa.RecordBatch.from_arrays([array], names=["x"])


def fit_apply(op: Transform, values: Any, type_: pa.DataType | None = None) -> list[Any]:
    """The first output for one column, fitted on itself, as Python values; checked on the way to equal the row path."""
    batch = batch_of(values, type_)
    assert_rows_equal_batch(op, batch)
    found: list[Any] = apply(op, batch)[op.output_names[0]].to_pylist()
    return found


def bits(value: Any) -> Any:
    """A value that equals another only where all bits do (any NaN equals any other)."""
    if isinstance(value, list):
        return [bits(v) for v in value]
    if isinstance(value, float):
        return "nan" if value != value else struct.pack("d", value)
    return value


def assert_rows_equal_batch(op: Transform, batch: pa.RecordBatch) -> None:
    """Single rows come out as in a batch, to the bit; and so do the halves of a batch."""
    states = fit(op, [batch])
    whole = {name: array.to_pylist() for name, array in apply(op, batch, states).items()}
    rows = apply_rows(op, batch, states)
    assert bits([[row[n] for row in rows] for n in whole]) == bits(list(whole.values()))
    half = batch.num_rows // 2
    halves = [apply(op, part, states) for part in (batch.slice(0, half), batch.slice(half))]
    joined = [[v for part in halves for v in part[n].to_pylist()] for n in whole]
    assert bits(joined) == bits(list(whole.values()))


def cuts(rows: int) -> st.SearchStrategy[tuple[list[int], list[int]]]:
    """Where to cut so many rows into batches, and in which order to merge what comes of them."""
    points = st.lists(st.integers(0, rows), max_size=5).map(lambda found: sorted([0, *found, rows]))
    return points.flatmap(lambda p: st.tuples(st.just(p), st.permutations(range(len(p) - 1)).map(list)))


def assert_cut_independent(analyzer: Analyzer, array: pa.Array, cut: tuple[Sequence[int], Sequence[int]]) -> None:
    """Partials of any batches, merged in any order and grouping, have the bytes of the one partial of all rows."""
    points, order = cut
    whole = analyzer.accumulator()
    whole.update(array)
    expected = table_bytes(analyzer.merge([whole.partial()]))
    assert table_bytes(whole.partial()) == expected

    parts = [array.slice(a, b - a) for a, b in pairwise(points)]
    together = analyzer.accumulator()
    for i in order:
        together.update(parts[i])
    assert table_bytes(together.partial()) == expected

    partials = []
    for i in order:
        accumulator = analyzer.accumulator()
        accumulator.update(parts[i])
        partials.append(accumulator.partial())
    assert table_bytes(analyzer.merge(partials)) == expected
    in_turn = partials[0]
    for one in partials[1:]:
        in_turn = analyzer.merge([in_turn, one])
    assert table_bytes(in_turn) == expected

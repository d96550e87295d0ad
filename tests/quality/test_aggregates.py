"""Sums are exact, and statistics of some rows are those of the rows alone."""

from __future__ import annotations

from fractions import Fraction
from math import inf, isnan, sqrt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.core.quality.statistics.aggregates import EdgeCounts, Extremes, Filtered
from featuremill.core.quality.statistics.row_conditions import parse_row_condition
from featuremill.core.quality.statistics.sums import Sums, deviation_of, mean_of, sum_of
from featuremill.transforms.contract import Analyzer, State


def state_of(analyzer: Analyzer, *arrays: pa.Array) -> State:
    parts = []
    for array in arrays:
        tally = analyzer.accumulator()
        tally.update(analyzer.array_of(pa.record_batch({"x": array})))
        parts.append(tally.partial())
    return analyzer.finish(analyzer.trim(analyzer.merge(parts)))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([pa.int64(), pa.uint64(), pa.int32(), pa.uint8(), pa.int16()]).flatmap(
        lambda t: st.tuples(st.just(t), st.lists(st.integers(*limits(t)), max_size=30))
    ),
    st.integers(0, 30),
)
def test_sums_of_integers_are_exact(typed: tuple[pa.DataType, list[int]], at: int) -> None:
    type_, values = typed
    array = pa.array([*values, None], type_)
    state = state_of(Sums("x"), array.slice(0, at), array.slice(at))
    assert sum_of(state) == sum(values)
    if values:
        assert mean_of(state) == float(Fraction(sum(values), len(values)))
    if len(values) > 1:
        mean = Fraction(sum(values), len(values))
        exact = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
        assert deviation_of(state) == pytest.approx(sqrt(exact), rel=1e-15)
    else:
        assert deviation_of(state) is None


def limits(type_: pa.DataType) -> tuple[int, int]:
    info = np.iinfo(type_.to_pandas_dtype())
    return int(info.min), int(info.max)


def test_infinite_values_are_told() -> None:
    state = state_of(Sums("x"), pa.array([1.0, inf, float("nan"), None]))
    assert (sum_of(state), mean_of(state), isnan(deviation_of(state) or 0)) == (inf, inf, True)
    both = state_of(Sums("x"), pa.array([inf]), pa.array([-inf]))
    assert isnan(sum_of(both))


def test_sums_of_floats_do_not_round_on_the_way() -> None:
    state = state_of(Sums("x"), pa.array([1e100, 1.0]), pa.array([-1e100]))
    assert sum_of(state) == 1.0


@pytest.mark.parametrize("type_", [pa.int64(), pa.float64(), pa.string(), pa.date32(), pa.bool_(), pa.decimal128(9, 2)])
def test_extremes_of_nothing_are_no_row(type_: pa.DataType) -> None:
    assert state_of(Extremes("x", type_), pa.array([None, None], type_), pa.array([], type_)).num_rows == 0


def test_extremes_of_a_dictionary_are_those_of_values_in_use() -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([1, None, 1]), pa.array(["a", "b", "c"]))
    assert state_of(Extremes("x", pa.string()), array).to_pylist() == [{"min": "b", "max": "b"}]


def test_zero_is_one_value() -> None:
    for order in ([-0.0, 0.0], [0.0, -0.0]):
        state = state_of(Extremes("x", pa.float64()), *(pa.array([v]) for v in order))
        assert str(state.to_pylist()) == "[{'min': 0.0, 'max': 0.0}]"


def test_edges_count_as_numpy_counts() -> None:
    values = np.array([0.0, 1.0, 1.5, 2.0, 3.0, -1.0, np.nan])
    edges = (0.0, 1.0, 2.0)
    expected = np.histogram(values[:-1], edges)[0].tolist()
    assert state_of(EdgeCounts("x", edges), pa.array(values)).column("count").to_pylist() == expected


def test_a_statistic_of_some_rows_sees_no_others() -> None:
    where = parse_row_condition("x > 2", "pandas")
    assert where is not None
    assert sum_of(state_of(Filtered("x", Sums("x"), where), pa.array([1, 2, 3, None, 4]))) == 7

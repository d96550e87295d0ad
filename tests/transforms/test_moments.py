"""The moments analyzer: against NumPy, on every kind of column, and in any cut of the data."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuremill.transforms.contract import State
from featuremill.transforms.moments import Moments
from support.numbers import COLUMNS, INF, NAN, assert_cut_independent, cuts, numbers


def state_of(array: pa.Array, *, elementwise: bool = False) -> State:
    analyzer = Moments("x", elementwise=elementwise)
    accumulator = analyzer.accumulator()
    accumulator.update(array)
    return analyzer.finish(analyzer.merge([accumulator.partial()]))


@given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=50))
def test_moments_are_those_of_numpy(values: list[float]) -> None:
    row = state_of(pa.array(values)).to_pylist()[0]
    assert row["count"] == len(values)
    assert row["min"] == min(values)
    assert row["max"] == max(values)
    scale = max(abs(v) for v in values)
    assert row["mean"] == pytest.approx(np.mean(values), rel=1e-12, abs=1e-13 * scale)
    assert row["variance"] == pytest.approx(np.var(values), rel=1e-9, abs=1e-13 * scale**2)


def test_what_is_not_finite_is_counted_and_skipped() -> None:
    row = state_of(pa.array([1.0, NAN, None, 3.0, INF, -INF, None, NAN, INF])).to_pylist()[0]
    assert row == {
        "count": 2, "mean": 2.0, "variance": 1.0, "min": 1.0, "max": 3.0, "nulls": 2, "nans": 2, "infinities": 3,
    }


def test_integers_and_cancellation_lose_nothing() -> None:
    row = state_of(pa.array([10**15 + 1, 10**15 + 2, 10**15 + 3])).to_pylist()[0]
    assert (row["mean"], row["variance"]) == (10**15 + 2, 2 / 3)


@pytest.mark.parametrize("name", COLUMNS)
def test_every_kind_of_column(name: str) -> None:
    array = COLUMNS[name]
    row = state_of(array).to_pylist()[0]
    flat = array
    while pa.types.is_nested(flat.type):
        flat = flat.flatten()
    values = [float(v) for v in flat.to_pylist() if v is not None]
    finite = [v for v in values if np.isfinite(v)]
    assert row["count"] == len(finite)
    assert row["nans"] == sum(np.isnan(values))
    assert row["mean"] == (pytest.approx(np.mean(finite)) if finite else None)
    assert row["min"] == (min(finite) if finite else None)


def test_a_null_list_is_one_null() -> None:
    row = state_of(COLUMNS["list"]).to_pylist()[0]
    assert (row["count"], row["nulls"], row["nans"]) == (3, 2, 1)


@pytest.mark.parametrize("name", ["fixed", "sliced"])
def test_elementwise_has_a_row_per_position(name: str) -> None:
    state = state_of(COLUMNS[name], elementwise=True)
    assert state["count"].to_pylist() == [3, 2]
    assert state["mean"].to_pylist() == [7 / 3, 7.0]
    assert state["nulls"].to_pylist() == [1, 2]


def test_no_data_at_all() -> None:
    assert state_of(pa.array([], pa.float64())).to_pylist()[0] == {
        "count": 0, "mean": None, "variance": None, "min": None, "max": None, "nulls": 0, "nans": 0, "infinities": 0,
    }
    assert state_of(pa.array([], pa.list_(pa.float64(), 2)), elementwise=True).num_rows == 0


def test_the_sign_of_zero_does_not_depend_on_the_order() -> None:
    for values in ([0.0, -0.0], [-0.0, 0.0], [-0.0, -0.0]):
        assert str(state_of(pa.array(values))["min"][0].as_py()) == "0.0"


@given(st.data())
def test_any_cut_gives_the_same_bytes(data: st.DataObject) -> None:
    array = pa.array(data.draw(st.lists(numbers(), max_size=40)), pa.float64())
    assert_cut_independent(Moments("x"), array, data.draw(cuts(len(array))))


@given(st.data())
def test_any_cut_of_lists_gives_the_same_bytes(data: st.DataObject) -> None:
    rows = st.none() | st.lists(numbers(), min_size=3, max_size=3)
    array = pa.array(data.draw(st.lists(rows, max_size=15)), pa.list_(pa.float64(), 3))
    cut = data.draw(cuts(len(array)))
    assert_cut_independent(Moments("x"), array, cut)
    assert_cut_independent(Moments("x", elementwise=True), array, cut)

"""Scaling: against scikit-learn, SciPy and the stock ops, on every kind of column, single rows as batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import lambertw
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from featuremill.artifacts.errors import ColumnTypeError, JobError, ParameterError, ParameterTypeError
from featuremill.transforms import tukey
from featuremill.transforms.contract import Transform
from featuremill.transforms.histogram import Bins
from featuremill.transforms.scaling import ScaleByMinMax, ScaleTo01, ScaleToGaussian, ScaleToZScore
from support.fitting import apply, fit
from support.numbers import COLUMNS, INF, NAN, assert_rows_equal_batch, batch_of, fit_apply, numbers
from support.stock import run_stock, stock_ops

OPS: list[Transform] = [
    ScaleToZScore(columns=["x"]),
    ScaleToZScore(columns=["x"], dtype="float64"),
    ScaleTo01(columns=["x"]),
    ScaleTo01(columns=["x"], on_constant="sigmoid", dtype="float64"),
    ScaleByMinMax(columns=["x"], min_value=-2, max_value=5),
    ScaleToGaussian(columns=["x"]),
    ScaleToGaussian(columns=["x"], dtype="float64"),
]
ELEMENTWISE: list[Transform] = [
    ScaleToZScore(columns=["x"], elementwise=True),
    ScaleTo01(columns=["x"], elementwise=True, dtype="float64"),
    ScaleByMinMax(columns=["x"], elementwise=True),
    ScaleToGaussian(columns=["x"], elementwise=True),
]
SKEWED = [1.0, 1.1, 0.9, 1.05, 0.95, 1.2, 0.8, 1.0, 40.0, -9.0, 1.01, 0.99]
identify = str


@pytest.mark.parametrize("op", OPS, ids=identify)
@pytest.mark.parametrize("name", COLUMNS)
def test_every_kind_of_column(op: Transform, name: str) -> None:
    if name in ("float64", "float16"):
        assert_rows_equal_batch(op, batch_of(COLUMNS[name].drop_null().take([0, 1])))
    assert_rows_equal_batch(op, batch_of(COLUMNS[name]))


@pytest.mark.parametrize("op", ELEMENTWISE, ids=identify)
@pytest.mark.parametrize("name", ["fixed", "sliced"])
def test_elementwise_single_rows_are_as_batches(op: Transform, name: str) -> None:
    assert_rows_equal_batch(op, batch_of(COLUMNS[name]))


@pytest.mark.parametrize("op", OPS, ids=identify)
@given(values=st.lists(numbers(min_value=-1e100, max_value=1e100), max_size=12))
@settings(max_examples=30)
def test_single_rows_are_as_batches(op: Transform, values: list[float | None]) -> None:
    assert_rows_equal_batch(op, batch_of(values, pa.float64()))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=30).filter(lambda v: np.std(v) > 1e-3))
@settings(max_examples=30)
def test_z_score_and_range_are_those_of_scikit_learn(values: list[float]) -> None:
    column = np.array(values)[:, None]
    z = fit_apply(ScaleToZScore(columns=["x"], dtype="float64"), values, pa.float64())
    np.testing.assert_allclose(z, StandardScaler().fit_transform(column)[:, 0], rtol=1e-6, atol=1e-6)
    unit = fit_apply(ScaleTo01(columns=["x"], dtype="float64"), values, pa.float64())
    np.testing.assert_allclose(unit, MinMaxScaler().fit_transform(column)[:, 0], rtol=1e-9, atol=1e-9)
    ranged = fit_apply(ScaleByMinMax(columns=["x"], min_value=-1, max_value=3, dtype="float64"), values, pa.float64())
    np.testing.assert_allclose(ranged, MinMaxScaler((-1, 3)).fit_transform(column)[:, 0], rtol=1e-9, atol=1e-9)


def test_results_are_rounded_once() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    narrow = fit_apply(ScaleTo01(columns=["x"]), values)
    wide = fit_apply(ScaleTo01(columns=["x"], dtype="float64"), values)
    assert narrow == np.array(wide).astype(np.float32).tolist()


def test_a_z_score_subtracts_in_float64_and_divides_in_float32() -> None:
    seconds = 1.7e9 + np.arange(1000.0)  # in float32, all of these are one of nine numbers
    narrow = np.array(fit_apply(ScaleToZScore(columns=["x"]), seconds))
    wide = np.array(fit_apply(ScaleToZScore(columns=["x"], dtype="float64"), seconds))
    np.testing.assert_allclose(narrow, wide, rtol=3e-7)
    assert len(set(narrow)) == 1000
    for spread in (1e-30, 1e30):  # out of what float32 can divide
        values = np.array([-spread, spread])
        assert fit_apply(ScaleToZScore(columns=["x"]), values) == [-1.0, 1.0]


def test_nulls_and_nan_pass_and_take_no_part() -> None:
    found = fit_apply(ScaleTo01(columns=["x"]), [0.0, None, NAN, 10.0, 5.0])
    assert found[:2] == [0.0, None]
    assert np.isnan(found[2])
    assert found[3:] == [1.0, 0.5]


def test_infinite_values_stay_and_take_no_part() -> None:
    assert fit_apply(ScaleToZScore(columns=["x"]), [1.0, 3.0, INF, -INF]) == [-1.0, 1.0, INF, -INF]


def test_lists_share_one_statistic_and_elementwise_has_one_per_position() -> None:
    values, type_ = [[0.0, 10.0], [5.0, 20.0], None], pa.list_(pa.float32(), 2)
    assert fit_apply(ScaleTo01(columns=["x"]), values, type_) == [[0.0, 0.5], [0.25, 1.0], None]
    assert fit_apply(ScaleTo01(columns=["x"], elementwise=True), values, type_) == [[0.0, 0.0], [1.0, 1.0], None]
    assert fit_apply(ScaleToZScore(columns=["x"], elementwise=True), values, type_) == [[-1.0, -1.0], [1.0, 1.0], None]


def test_a_constant_column() -> None:
    values = [3.0, None, 3.0]
    assert fit_apply(ScaleToZScore(columns=["x"]), values) == [0.0, None, 0.0]
    assert fit_apply(ScaleTo01(columns=["x"]), values) == [0.0, None, 0.0]
    assert fit_apply(ScaleByMinMax(columns=["x"], min_value=2, max_value=4), values) == [2.0, None, 2.0]
    sigmoid = 1 / (1 + np.exp(-3.0))
    assert fit_apply(ScaleTo01(columns=["x"], on_constant="sigmoid", dtype="float64"), values)[0] == sigmoid
    assert fit_apply(ScaleToGaussian(columns=["x"]), values) == [0.0, None, 0.0]


@pytest.mark.parametrize("op", OPS, ids=identify)
def test_people_are_told_of_constant_and_empty_columns(op: Transform) -> None:
    assert any("one distinct value, 3.0" in w for w in op.warnings(fit(op, [batch_of([3, 3])])))
    assert any("no values" in w for w in op.warnings(fit(op, [batch_of([None], pa.int64())])))
    assert op.warnings(fit(op, [batch_of([3, 4])])) == []


def test_a_range_beyond_float64_is_an_error() -> None:
    for op in (ScaleTo01(columns=["x"]), ScaleToZScore(columns=["x"]), ScaleToGaussian(columns=["x"])):
        batch = batch_of([1.7e308, -1.7e308])
        with pytest.raises(JobError, match="beyond the range of float64"):
            op.prepare(fit(op, [batch]), batch.schema)


def test_wrong_requests() -> None:
    with pytest.raises(ColumnTypeError, match=r"ScaleToZScore\('x'\): the column is string"):
        ScaleToZScore(columns=["x"]).output_fields(pa.schema({"x": pa.string()}))
    with pytest.raises(ColumnTypeError, match="fixed-size list"):
        ScaleTo01(columns=["x"], elementwise=True).output_fields(pa.schema({"x": pa.list_(pa.float64())}))
    with pytest.raises(ParameterError, match="max_value got 1, expected a number above min_value"):
        ScaleByMinMax(columns=["x"], min_value=1, max_value=1)
    with pytest.raises(ParameterTypeError, match="min_value got 'a'"):
        ScaleByMinMax(columns=["x"], min_value="a")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="dtype got 'float16', expected 'float32' or 'float64'"):
        ScaleToZScore(columns=["x"], dtype="float16")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ScaleToZScore(["x"], True)  # type: ignore[misc]


@pytest.mark.parametrize("op", [*OPS, *ELEMENTWISE], ids=identify)
def test_parameters_come_back_from_the_config(op: Transform) -> None:
    assert type(op)(**op.config()) == op


# --- Tukey's HH distribution ----------------------------------------------------------------------------------------


@given(st.lists(st.floats(-100, 100, width=32), min_size=10, max_size=12, unique=True))
def test_sample_l_moments_are_averages_over_subsets(values: list[float]) -> None:
    from itertools import combinations

    data = sorted(values)
    low = np.array(data)
    found = tukey.l_moments(Bins(low, low, np.ones(len(low), np.int64)))
    weights = [[1], [-1, 1], [1, -2, 1], [-1, 3, -3, 1]]
    for order, (weight, moment) in enumerate(zip(weights, found, strict=True), start=1):
        subsets = list(combinations(data, order))
        expected = sum(np.dot(weight, s) for s in subsets) / order / len(subsets)
        assert moment == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_frequent_values_count_as_often_as_they_come() -> None:
    once = np.array([1.0, 1.0, 1.0, 2.0, 5.0, 5.0, 5.0, 6.0, 6.0, 9.0])
    low, counts = np.unique(once, return_counts=True)
    many = tukey.l_moments(Bins(low, low, counts))
    one = tukey.l_moments(Bins(once, once, np.ones(10, np.int64)))
    assert many == pytest.approx(one)


@pytest.mark.parametrize(("left", "right"), [(0.1, 0.3), (0.2, 0.2), (0.3, 0.05), (0.6, 0.7)])
def test_a_fit_finds_the_parameters_of_the_distribution(left: float, right: float) -> None:
    mean, scale, l3, l4 = tukey._hh_moments(left, right)
    found = tukey.fit((10 + 3 * mean, 3 * scale, 3 * l3, 3 * l4))
    # As near as the search of tft.scale_to_gaussian gets, which ours repeats.
    assert (found.left, found.right) == pytest.approx((left, right), abs=0.02)
    assert (found.location, found.scale) == pytest.approx((10, 3), rel=0.02)


def test_lambert_w_is_that_of_scipy() -> None:
    x = np.concatenate([[0.0, np.e], 10.0 ** np.linspace(-12, 300, 500)])
    np.testing.assert_allclose(tukey.lambert_w(x), lambertw(x).real, rtol=1e-15)
    assert tukey.lambert_w(np.array([INF])) == INF


@given(st.floats(-30, 30), st.floats(0, 0.9), st.floats(0, 0.9))
def test_the_inverse_undoes_the_function(u: float, left: float, right: float) -> None:
    h = left if u < 0 else right
    x = u * np.exp(h * u * u / 2)
    if abs(x) < 1e150:
        assert tukey.inverse_of_one(x, left, right) == pytest.approx(u, rel=1e-6)
    assert tukey.inverse(np.array([x]), np.array([left]), np.array([right]))[0] == tukey.inverse_of_one(x, left, right)


def test_long_tails_are_bent_in() -> None:
    random = np.random.default_rng(1)
    normal = random.normal(size=20_000)
    found = np.array(fit_apply(ScaleToGaussian(columns=["x"]), normal * np.exp(0.3 * normal**2 / 2)))
    assert abs(found.mean()) < 0.02
    assert abs(found.std() - 1) < 0.02
    np.testing.assert_allclose(found, normal, atol=0.2)
    light = random.random(1000)
    assert fit_apply(ScaleToGaussian(columns=["x"]), light) == fit_apply(ScaleToZScore(columns=["x"]), light)


def test_a_binned_fit_is_close_to_the_exact_one() -> None:
    values = np.exp(np.random.default_rng(2).normal(size=100_000))
    low = np.sort(values)
    exact = tukey.fit(tukey.l_moments(Bins(low, low, np.ones(len(low), np.int64))))
    op = ScaleToGaussian(columns=["x"])
    batch = batch_of(values)
    prepared = op.prepare(fit(op, [batch]), batch.schema)[0]
    assert prepared.right[0] == pytest.approx(exact.right, abs=1e-3)
    assert prepared.scale.centre[0] == pytest.approx(exact.location, abs=1e-3)


def test_of_few_values_tails_are_not_told() -> None:
    # The numbers that apache_beam/ml/transforms/tft_test.py expects.
    expected = [-0.87733847, -0.78498703, -0.6002842, -0.23087855, 0.5079328, 1.9855555]
    found = fit_apply(ScaleToGaussian(columns=["x"]), [[1, 2, 4], [8, 16, 32]], pa.list_(pa.int64()))
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-6)


# --- against stock --------------------------------------------------------------------------------------------------

DATA: dict[str, list[Any]] = {
    "integers": [1, 2, 3, 4, 5, 6],
    "skewed": SKEWED,
    "left": [-v for v in SKEWED],
    "constant": [3.0, 3.0],
    "lists": [[1.0, 2.0], [4.0], [100.0, -3.0, 2.5, 2.25], [1.5, 1.75, 1.625, 1.875]],
}


@pytest.mark.differential
@pytest.mark.parametrize("name", DATA)
def test_every_op_gives_what_stock_gives(name: str) -> None:
    stock = stock_ops()
    # All ops in one pipeline, each on a copy of the column: a pipeline of stock costs seconds.
    ours: dict[str, Transform] = {
        "z": ScaleToZScore(columns=["x"]),
        "unit": ScaleTo01(columns=["x"], on_constant="sigmoid"),
        "range": ScaleByMinMax(columns=["x"], min_value=-1, max_value=4, on_constant="sigmoid"),
        "gaussian": ScaleToGaussian(columns=["x"]),
    }
    theirs = [
        stock.ScaleToZScore(columns=["z"]),
        stock.ScaleTo01(columns=["unit"]),
        stock.ScaleByMinMax(columns=["range"], min_value=-1, max_value=4),
        stock.ScaleToGaussian(columns=["gaussian"]),
    ]
    rows = run_stock(theirs, [dict.fromkeys(ours, value) for value in DATA[name]])
    for column, op in ours.items():
        found = apply(op, batch_of(DATA[name]))["x"].to_pylist()
        for mine, row in zip(found, rows, strict=True):
            # Stock searches for the tails' parameters in float32, whose noise stops it early.
            slack = 3e-3 if column == "gaussian" else 2e-6
            np.testing.assert_allclose(np.atleast_1d(mine), row[column], rtol=2e-5, atol=slack, err_msg=column)

"""Bucketing: against the definition and the stock ops, on every kind of column, single rows as batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError, JobError, ParameterError, ParameterTypeError
from featuremill.transforms.bucketing import ApplyBuckets, ApplyBucketsWithInterpolation, Bucketize
from featuremill.transforms.contract import Transform
from support.fitting import apply, fit
from support.numbers import COLUMNS, INF, NAN, assert_rows_equal_batch, batch_of, fit_apply, numbers
from support.stock import run_stock, stock_ops

OPS: list[Transform] = [
    Bucketize(columns=["x"], num_buckets=3),
    Bucketize(columns=["x"], num_buckets=1),
    Bucketize(columns=["x"], num_buckets=4, exact=True),
    ApplyBuckets(columns=["x"], bucket_boundaries=[0, 1.5, 5]),
    ApplyBucketsWithInterpolation(columns=["x"], bucket_boundaries=[-1, 0.25, 5, 8]),
    ApplyBucketsWithInterpolation(columns=["x"], bucket_boundaries=[2]),
]
increasing = st.lists(st.integers(-20, 20), min_size=1, max_size=6, unique=True).map(sorted)


@pytest.mark.parametrize("op", OPS, ids=str)
@pytest.mark.parametrize("name", COLUMNS)
def test_every_kind_of_column(op: Transform, name: str) -> None:
    assert_rows_equal_batch(op, batch_of(COLUMNS[name]))


@pytest.mark.parametrize("op", OPS, ids=str)
@given(values=st.lists(numbers(), max_size=12))
@settings(max_examples=30)
def test_single_rows_are_as_batches(op: Transform, values: list[float | None]) -> None:
    assert_rows_equal_batch(op, batch_of(values, pa.float64()))


@pytest.mark.parametrize("name", ["fixed", "sliced"])
def test_elementwise_has_boundaries_for_each_position(name: str) -> None:
    op = Bucketize(columns=["x"], num_buckets=2, elementwise=True)
    assert_rows_equal_batch(op, batch_of(COLUMNS[name]))
    assert fit_apply(op, [[1.0, 30.0], [2.0, 20.0], [3.0, 10.0], [4.0, None]], pa.list_(pa.float64(), 2)) == [
        [0, 1], [0, 1], [1, 0], [1, None],
    ]


@given(st.lists(st.integers(-30, 30) | st.none(), max_size=20), increasing)
def test_buckets_are_as_defined(values: list[int | None], boundaries: list[int]) -> None:
    found = fit_apply(ApplyBuckets(columns=["x"], bucket_boundaries=boundaries), values, pa.int64())
    assert found == [None if v is None else sum(b <= v for b in boundaries) for v in values]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50), st.integers(1, 8))
def test_quantile_buckets_hold_even_shares_of_distinct_values(values: list[float], buckets: int) -> None:
    values = sorted(set(values))
    found = fit_apply(Bucketize(columns=["x"], num_buckets=buckets), values)
    sizes = np.bincount(found, minlength=buckets)
    assert found == sorted(found)
    if len(values) >= buckets:
        assert sizes.max() - sizes.min() <= 1


def test_nan_goes_into_the_last_bucket_and_null_stays() -> None:
    values = [4.0, NAN, 1.0, -INF, 7.5, INF, None]
    assert fit_apply(ApplyBuckets(columns=["x"], bucket_boundaries=[2, 5, 10]), values) == [1, 3, 0, 0, 2, 3, None]
    assert fit_apply(Bucketize(columns=["x"], num_buckets=2), [1.0, 2.0, NAN, None]) == [0, 1, 1, None]


def test_a_column_without_values_is_one_bucket() -> None:
    op = Bucketize(columns=["x"], num_buckets=4)
    states = fit(op, [batch_of([None, None], pa.float64())])
    assert apply(op, batch_of([1.0, -5.0, None]), states)["x"].to_pylist() == [0, 0, None]
    assert op.warnings(states) == ["Bucketize('x'): the column has no values; they will all be in bucket 0."]


def test_any_iterable_gives_boundaries() -> None:
    op = ApplyBuckets(columns=["x"], bucket_boundaries=range(0, 30, 10))
    assert op.bucket_boundaries == (0.0, 10.0, 20.0)
    assert op.config() == {"columns": ["x"], "bucket_boundaries": [0.0, 10.0, 20.0]}
    assert ApplyBuckets(**op.config()) == op
    assert ApplyBuckets(columns=["x"], bucket_boundaries=np.array([1, 2])).bucket_boundaries == (1.0, 2.0)


def test_integers_are_compared_as_float64_in_batches_and_rows() -> None:
    op = ApplyBuckets(columns=["x"], bucket_boundaries=[2.0**53 + 2])
    assert fit_apply(op, [2**53 + 1, 2**53 + 2, 2**53 + 3]) == [0, 1, 1]


def test_spread_out_values_need_exact() -> None:
    random = np.random.default_rng(0)
    everywhere = random.choice([-1, 1], 200_000) * 10.0 ** random.uniform(-300, 300, 200_000)
    values = np.concatenate([1e9 + random.random(200_000), everywhere])
    op = Bucketize(columns=["x"], num_buckets=10)
    batch = batch_of(values)
    with pytest.raises(JobError, match=r"may be off by 0\.\d+ of the data; epsilon allows 0.01. Pass exact=True"):
        op.prepare(fit(op, [batch]), batch.schema)
    exact = Bucketize(columns=["x"], num_buckets=10, exact=True)
    assert np.bincount(apply(exact, batch)["x"].to_numpy()).tolist() == [40_000] * 10


def test_many_distinct_values_keep_to_the_tolerance() -> None:
    values = np.random.default_rng(1).lognormal(0, 2, 300_000)
    found = apply(Bucketize(columns=["x"], num_buckets=100), batch_of(values))["x"].to_numpy()
    sizes = np.bincount(found, minlength=100) / len(values)
    assert np.abs(sizes - 0.01).max() < 0.001


@pytest.mark.parametrize(
    ("boundaries", "message"),
    [
        ([0, 10, 10], r"ApplyBuckets\('price'\): boundaries must increase, got \[0, 10, 10\]. Remove the repeated 10."),
        ([3, 1.5], r"boundaries must increase, got \[3, 1.5\]. Sort them."),
        ([], "there must be at least one"),
        ([1, NAN], "expected numbers that can be compared"),
    ],
)
def test_wrong_boundaries(boundaries: list[float], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        ApplyBuckets(columns=["price"], bucket_boundaries=boundaries)


def test_wrong_requests() -> None:
    for boundaries in ("012", 5, ["a"], [True]):
        with pytest.raises(ParameterTypeError, match="bucket_boundaries"):
            ApplyBuckets(columns=["x"], bucket_boundaries=boundaries)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="must have a finite one"):
        ApplyBucketsWithInterpolation(columns=["x"], bucket_boundaries=[-INF, INF])
    with pytest.raises(ParameterTypeError, match="num_buckets got 2.5"):
        Bucketize(columns=["x"], num_buckets=2.5)  # type: ignore[arg-type]
    for epsilon in (0, -0.1, 1.0):
        with pytest.raises(ParameterError, match="epsilon got"):
            Bucketize(columns=["x"], num_buckets=2, epsilon=epsilon)
    with pytest.raises(ColumnTypeError, match="the column is string"):
        ApplyBuckets(columns=["x"], bucket_boundaries=[1]).output_fields(pa.schema({"x": pa.string()}))
    with pytest.raises(ColumnTypeError, match="fixed-size list"):
        Bucketize(columns=["x"], num_buckets=2, elementwise=True).output_fields(pa.schema({"x": pa.int64()}))


def test_interpolation() -> None:
    op = ApplyBucketsWithInterpolation(columns=["x"], bucket_boundaries=[-INF, 10, 20, 40, INF])
    assert fit_apply(op, [5.0, 10.0, 15.0, 20.0, 30.0, 40.0, INF, -INF, NAN, None]) == [
        0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.0, 0.5, None,
    ]


# --- against stock --------------------------------------------------------------------------------------------------

DATA: dict[str, list[Any]] = {
    "distinct": [float(v) for v in np.random.default_rng(0).permutation(23)],
    "repeated": [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0],
    "uneven": [0.5, -4.0, 0.25, 1024.0, 3.0],
    "constant": [7.0, 7.0, 7.0],
    "lists": [[1.0, 2.0, 3.0], [4.0], [5.0, 6.0]],
}


@pytest.mark.differential
@pytest.mark.parametrize("name", DATA)
def test_every_op_gives_what_stock_gives(name: str) -> None:
    stock = stock_ops()
    boundaries = [0.25, 2, 5]
    ours: dict[str, Transform] = {
        f"q{n}": Bucketize(columns=["x"], num_buckets=n) for n in (2, 3, 4, 7, 10)
    }
    ours["given"] = ApplyBuckets(columns=["x"], bucket_boundaries=boundaries)
    ours["place"] = ApplyBucketsWithInterpolation(columns=["x"], bucket_boundaries=boundaries)
    theirs = [stock.Bucketize(columns=[f"q{n}"], num_buckets=n) for n in (2, 3, 4, 7, 10)]
    theirs.append(stock.ApplyBuckets(columns=["given"], bucket_boundaries=boundaries))
    theirs.append(stock.ApplyBucketsWithInterpolation(columns=["place"], bucket_boundaries=boundaries))
    rows = run_stock(theirs, [dict.fromkeys(ours, value) for value in DATA[name]])
    for column, op in ours.items():
        found = apply(op, batch_of(DATA[name]))["x"].to_pylist()
        for mine, row in zip(found, rows, strict=True):
            np.testing.assert_allclose(np.atleast_1d(mine), row[column], rtol=1e-6, err_msg=column)


@pytest.mark.differential
def test_boundaries_are_those_of_the_quantile_sketch_of_stock() -> None:
    stock_ops()
    from tfx_bsl.sketches import QuantilesSketch

    random = np.random.default_rng(7)
    for _ in range(200):
        values = random.integers(0, random.integers(2, 60), random.integers(1, 80)).astype(float)
        buckets = int(random.integers(2, 15))
        sketch = QuantilesSketch(min(1 / buckets, 0.01), 1 << 32, 1)
        sketch.AddValues(pa.array(values))
        expected = sketch.GetQuantiles(buckets).to_pylist()[0][1:-1]
        op = Bucketize(columns=["x"], num_buckets=buckets)
        batch = batch_of(values)
        assert op.prepare(fit(op, [batch]), batch.schema)[0].tolist() == expected

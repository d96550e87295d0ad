"""The adaptive histogram: exact while it can be, bounded in error beyond, and the same bytes in any cut."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from featuremill.transforms.histogram import (
    Bins,
    Histogram,
    bins_of,
    from_keys,
    median,
    quantile,
    quantile_boundaries,
    rank_error,
    to_keys,
)
from support.numbers import COLUMNS, INF, NAN, assert_cut_independent, cuts, numbers

ordered = st.floats(allow_nan=False)


def histogram_of(values: object, max_bins: int | None = 65536) -> Bins:
    analyzer = Histogram("x", max_bins=max_bins)
    accumulator = analyzer.accumulator()
    accumulator.update(pa.array(values))
    return bins_of(analyzer.finish(analyzer.merge([accumulator.partial()])))


@given(arrays(np.float64, st.integers(0, 30), elements=ordered))
def test_keys_keep_the_order_and_come_back(values: np.ndarray) -> None:
    keys = to_keys(values)
    assert np.array_equal(from_keys(keys), values)
    assert np.array_equal(np.argsort(keys, kind="stable"), np.argsort(values, kind="stable"))


@given(st.lists(ordered, max_size=60))
def test_few_values_are_counted_exactly(values: list[float]) -> None:
    bins = histogram_of(pa.array(values, pa.float64()))
    low, counts = np.unique(np.array(values) + 0.0, return_counts=True)
    assert np.array_equal(bins.low, low)
    assert np.array_equal(bins.high, low)
    assert np.array_equal(bins.counts, counts)
    assert bins.bits == 64


@given(st.lists(ordered, min_size=1, max_size=60), st.integers(2, 20))
def test_many_values_share_bins_and_none_is_lost(values: list[float], max_bins: int) -> None:
    bins = histogram_of(values, max_bins)
    assert bins.count == len(values)
    assert len(bins.low) <= max_bins
    assert (bins.low[1:] > bins.high[:-1]).all()
    data = np.sort(np.array(values) + 0.0)
    for low, high, count in zip(bins.low, bins.high, bins.counts, strict=True):
        inside = data[(data >= low) & (data <= high)]
        assert (inside[0], inside[-1], len(inside)) == (low, high, count)
    if bins.bits < 64:
        one_more = np.unique(to_keys(data) >> np.uint64(63 - bins.bits))
        assert len(one_more) > max_bins


@given(st.data(), st.sampled_from([2, 3, 8, None, 65536]))
def test_any_cut_gives_the_same_bytes(data: st.DataObject, max_bins: int | None) -> None:
    array = pa.array(data.draw(st.lists(numbers(), max_size=40)), pa.float64())
    assert_cut_independent(Histogram("x", max_bins=max_bins), array, data.draw(cuts(len(array))))


@pytest.mark.parametrize("max_bins", [1000, None])
def test_any_cut_of_many_rows_gives_the_same_bytes(max_bins: int | None) -> None:
    random = np.random.default_rng(5)
    array = pa.array(np.concatenate([random.normal(size=500_000), random.lognormal(0, 4, size=200_000)]))
    assert_cut_independent(Histogram("x", max_bins=max_bins), array, ([0, 10, 300_000, 650_000, 700_000], [2, 0, 3, 1]))


@given(st.data())
def test_any_cut_of_lists_gives_the_same_bytes(data: st.DataObject) -> None:
    rows = st.none() | st.lists(numbers(), min_size=2, max_size=2)
    array = pa.array(data.draw(st.lists(rows, max_size=15)), pa.list_(pa.float64(), 2))
    assert_cut_independent(Histogram("x", elementwise=True, max_bins=4), array, data.draw(cuts(len(array))))


@pytest.mark.parametrize("name", COLUMNS)
def test_every_kind_of_column(name: str) -> None:
    flat = COLUMNS[name]
    bins = histogram_of(flat)
    while pa.types.is_nested(flat.type):
        flat = flat.flatten()
    values = np.array([float(v) for v in flat.to_pylist() if v is not None])
    assert np.array_equal(bins.low, np.unique(values[~np.isnan(values)] + 0.0))


def test_nulls_and_nans_are_counted() -> None:
    accumulator = Histogram("x").accumulator()
    accumulator.update(pa.array([1.0, None, NAN, INF, None]))
    row = accumulator.partial().to_pylist()[0]
    assert (row["count"], row["nulls"], row["nans"]) == (2, 2, 1)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40), st.integers(1, 12))
def test_boundaries_are_values_at_even_ranks(values: list[int], buckets: int) -> None:
    found = quantile_boundaries(histogram_of(values), buckets)
    assert found == [sorted(values)[i * len(values) // buckets] for i in range(1, buckets)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.floats(0, 1))
def test_quantile_and_median_are_those_of_numpy(values: list[float], fraction: float) -> None:
    bins = histogram_of(values)
    assert quantile(bins, fraction) == np.quantile(values, fraction, method="inverted_cdf")
    assert median(bins) == pytest.approx(np.median(values))


def test_no_data_has_no_quantiles() -> None:
    bins = histogram_of(pa.array([], pa.float64()))
    assert (quantile(bins, 0.5), median(bins)) == (None, None)
    assert (quantile_boundaries(bins, 4), rank_error(bins, [])) == ([], 0.0)


def test_the_rank_error_is_kept_to() -> None:
    values = np.sort(np.random.default_rng(3).lognormal(0, 2, 50_000))
    bins = histogram_of(values, 500)
    boundaries = quantile_boundaries(bins, 20)
    error = rank_error(bins, boundaries)
    assert 0 < error < 0.02
    for i, boundary in enumerate(boundaries, start=1):
        rank = np.searchsorted(values, boundary)
        assert abs(rank / len(values) - i / 20) <= error


def test_a_frequent_value_alone_in_its_bin_is_no_error() -> None:
    values = np.concatenate([np.zeros(10_000), np.random.default_rng(3).random(10_000) + 1])
    bins = histogram_of(values, 100)
    assert bins.bits < 64
    assert rank_error(bins, [0.0]) == 0.0
    assert histogram_of(values, None).bits == 64


def test_distinct_values_without_a_limit_are_all_kept() -> None:
    values = np.random.default_rng(4).normal(size=600_000)
    bins = histogram_of(values, None)
    assert np.array_equal(bins.low, np.sort(values))

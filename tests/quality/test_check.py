import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from featuremill.artifacts.errors import MissingColumnError, ParameterTypeError
from featuremill.core.quality.expectations.check import check, collect
from featuremill.core.quality.expectations.evaluate import EXACTNESS
from featuremill.core.quality.expectations.findings import check_results
from featuremill.core.quality.expectations.suite_plan import SuitePlan
from featuremill.core.quality.expectations.suites import load_suite

SUITE = {
    "expectations": [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "x", "max_value": 2}},
        {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 3}},
    ]
}
COLUMNS = {"id": ["a", "b", "c"], "x": [1.0, None, 3.0]}
TABLE = pa.table(COLUMNS)


@pytest.mark.parametrize(
    "data",
    [
        TABLE,
        TABLE.to_batches()[0],
        TABLE.to_reader(max_chunksize=1),
        TABLE.to_batches(max_chunksize=2),
        iter(TABLE.to_batches(max_chunksize=1)),
        COLUMNS,
        pd.DataFrame(COLUMNS),
        pl.DataFrame(COLUMNS),
    ],
    ids=lambda data: type(data).__name__,
)
def test_rows_of_any_kind(data):
    between, count = check(data, SUITE, keys=["id"]).results
    assert between.result["partial_unexpected_index_list"] == [{"id": "c", "x": 3.0}]
    assert between.result["missing_count"] == 1
    assert count.success


@pytest.mark.parametrize("data", [[], [1], 3, "rows.parquet", {"x": [1], "y": [1, 2]}, {"x": 1}])
def test_what_is_no_rows(data):
    with pytest.raises(ParameterTypeError, match="^check got"):
        check(data, SUITE)


def test_batches_of_other_columns():
    with pytest.raises(ParameterTypeError, match="different schemas"):
        check([TABLE.to_batches()[0], pa.record_batch({"x": [1]})], SUITE)


def test_dictionary_encoded_texts_are_checked_as_texts():
    table = pa.table({"x": pa.array(["a", "b", None, "a"]).dictionary_encode()})
    expectations = [
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "x", "value_set": ["a"]}},
        {"type": "expect_column_value_lengths_to_equal", "kwargs": {"column": "x", "value": 1}},
        {"type": "expect_column_unique_value_count_to_be_between", "kwargs": {"column": "x", "max_value": 2}},
        {"type": "expect_column_values_to_be_of_type", "kwargs": {"column": "x", "type_": "str"}},
    ]
    results = check(table, {"expectations": expectations}).results
    assert [r.success for r in results] == [False, True, True, True]
    assert results[0].result["partial_unexpected_list"] == ["b"]


def test_like_patterns():
    def failing(kind, **kwargs):
        kwargs = {"column": "x", **kwargs}
        spec = {"expectations": [{"type": f"expect_column_values_to_{kind}", "kwargs": kwargs}]}
        return check({"x": ["apple", "a%b", "b", None]}, spec).results[0].result["partial_unexpected_list"]

    assert failing("match_like_pattern", like_pattern="a%") == ["b"]
    assert failing("not_match_like_pattern", like_pattern="_") == ["b"]
    assert failing("match_like_pattern_list", like_pattern_list=["b%", "%le"]) == ["a%b"]
    assert failing("not_match_like_pattern_list", like_pattern_list=["b", "apple"]) == ["apple", "b"]


def test_what_is_not_exact_is_told_and_true():
    values = np.random.default_rng(5).normal(size=150_000)
    quantiles = [0.1, 0.5, 0.9]
    kwargs = {"column": "x", "quantile_ranges": {"quantiles": quantiles, "value_ranges": [[None, 9.0]] * 3}}
    suite = load_suite({"expectations": [{"type": "expect_column_quantile_values_to_be_between", "kwargs": kwargs}]})
    table = pa.table({"x": values})
    plan = SuitePlan(suite, table.schema)
    states = collect(plan, table.to_batches(max_chunksize=20_000))
    result = plan.evaluate(states)
    error = result.results[0].meta[EXACTNESS]["rank_error"]
    assert 0 < error < 0.01
    ranks = np.searchsorted(np.sort(values), result.results[0].result["observed_value"]["values"]) / len(values)
    assert np.all(np.abs(ranks - quantiles) <= error + 1 / len(values))
    assert "of the rows" in check_results(plan, result, states)[0].notes[0]


def test_a_missing_key_column():
    with pytest.raises(MissingColumnError, match="keys: there is no column 'ids'. Did you mean 'id'"):
        check(TABLE, SUITE, keys=["ids"])

from datetime import date

import pyarrow as pa
import pytest

from featuremill.core.quality.expectations.check import collect
from featuremill.core.quality.expectations.findings import check_results, sentence
from featuremill.core.quality.expectations.suite_plan import RESULT_FORMATS, SuitePlan
from featuremill.core.quality.expectations.suites import load_suite

TABLE = pa.table({
    "id": ["a", "b", "c", "d"], "x": [1, 50, None, 70], "s": ["p", "q", "p", None], "when": [date(2024, 1, 1)] * 4,
})
EXPECTATIONS = [
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "x", "max_value": 9}, "severity": "warning"},
    {"type": "expect_column_max_to_be_between", "kwargs": {"column": "x", "max_value": 90}},
    {"type": "expect_column_quantile_values_to_be_between",
     "kwargs": {"column": "when", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 1]]}}},
    {"type": "expect_column_pair_values_to_be_equal", "kwargs": {"column_A": "id", "column_B": "s"}},
    {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 4}},
]


def results(result_format="SUMMARY", keys=("id",)):
    plan = SuitePlan(load_suite({"expectations": EXPECTATIONS}), TABLE.schema, keys=keys, result_format=result_format)
    states = collect(plan, TABLE.to_batches())
    return check_results(plan, plan.evaluate(states), states, suite="raw")


@pytest.mark.parametrize("result_format", RESULT_FORMATS)
def test_every_format_has_samples_with_their_keys(result_format):
    between, largest, wrong, pair, count = results(result_format)
    assert (between.success, between.severity, between.gates) == (False, "warning", False)
    assert between.samples == ({"id": "b", "x": 50}, {"id": "d", "x": 70})
    assert between.kwargs == {"max_value": 9.0}
    assert largest.success and largest.samples == () and largest.columns == ("x",)
    assert not wrong.success and "TypeError" in wrong.error and wrong.gates
    assert pair.columns == ("id", "s") and {"id": "d", "s": None} in pair.samples
    assert count.success and count.columns == ()


def test_what_was_found():
    between, largest, _, _, count = results()
    assert (between.elements, between.unexpected) == (4, 2)
    assert between.unexpected_percent == pytest.approx(200 / 3)
    assert largest.observed == 70 and count.observed == 4
    assert between.description == "x values must be less than or equal to 9."


@pytest.mark.parametrize(
    ("kind", "kwargs", "told"),
    [
        ("expect_column_quantile_values_to_be_between",
         {"column": "x", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 1]]}}, "quantiles"),
        ("expect_column_values_to_be_in_set", {"column": "x", "value_set": ["a", "b"]}, "a b"),
        ("expect_column_kl_divergence_to_be_less_than",
         {"column": "x", "threshold": 0.1, "partition_object": {"values": ["a"], "weights": [1]}}, "Kullback"),
    ],
)
def test_sentences(kind, kwargs, told):
    expectation = load_suite({"expectations": [{"type": kind, "kwargs": kwargs}]}).expectations[0]
    assert told in sentence(expectation)
    assert "$" not in sentence(expectation)

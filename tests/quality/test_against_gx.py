"""Every covered expectation beside Great Expectations' pandas engine: the same success, the same values.

Both sides see the same table; results are compared as the JSON that Great Expectations writes. Left out of the
comparison is what ``docs/quality.md`` names as different: there is no query for a data frame, and Great Expectations
counts each NaN by itself, lists a set in any order, and stumbles over the largest of no moments.
"""

import json
import math
import warnings
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from featuremill.core.feature_recipe import numbered
from featuremill.core.quality.expectations.check import check, collect
from featuremill.core.quality.expectations.refusals import REFUSED
from featuremill.core.quality.expectations.suite_plan import RESULT_FORMATS, SuitePlan
from featuremill.core.quality.expectations.suites import expectation_types, load_suite
from featuremill.core.quality.statistics.collector import Collector, merge_partials
from featuremill.jobs.flights import FLIGHTS_ROWS, find_data, read_flights

FLIGHTS_SUITE = Path(__file__).parents[2] / "benchmarks" / "jobs" / "flights-suite.json"

NOT_IN_PANDAS = {
    "expect_column_values_to_match_like_pattern",
    "expect_column_values_to_match_like_pattern_list",
    "expect_column_values_to_not_match_like_pattern",
    "expect_column_values_to_not_match_like_pattern_list",
}
"""Great Expectations has these for SQL alone."""


def expectation(kind, **kwargs):
    return {"type": f"expect_{kind}", "kwargs": kwargs}


def only(condition):
    return {"row_condition": condition, "condition_parser": "great_expectations"}


COMPARED = {"type": "comparison", "column": {"name": "group"}, "operator": "==", "parameter": "a"}
NESTED = {
    "type": "and",
    "conditions": [
        {"type": "nullity", "column": {"name": "real"}, "is_null": False},
        {"type": "comparison", "column": {"name": "whole"}, "operator": ">", "parameter": 1},
        {"type": "comparison", "column": {"name": "group"}, "operator": "IN", "parameter": ["a", "b"]},
    ],
}
EITHER = {
    "type": "or",
    "conditions": [
        {"type": "nullity", "column": {"name": "text"}, "is_null": True},
        {"type": "comparison", "column": {"name": "real"}, "operator": "<=", "parameter": 0.5},
        {"type": "comparison", "column": {"name": "group"}, "operator": "NOT_IN", "parameter": ["a"]},
    ],
}
QUANTILES = {"quantiles": [0.0, 0.25, 0.5, 1.0], "value_ranges": [[None, 0], [0, 2], [1, 3], [0, None]]}

COLUMNS = {
    "key": pa.int64(),
    "whole": pa.int32(),
    "other": pa.int32(),
    "real": pa.float64(),
    "text": pa.string(),
    "group": pa.string(),
    "money": pa.decimal128(9, 2),
    "when": pa.timestamp("us", tz="UTC"),
    "day": pa.date32(),
    "stamp_text": pa.string(),
    "json": pa.string(),
    "good_json": pa.string(),
}
SCHEMA = pa.schema(COLUMNS)

CASES = [
    # --- the table ---
    expectation("table_row_count_to_be_between", min_value=1, max_value=100),
    expectation("table_row_count_to_equal", value=40),
    expectation("table_column_count_to_be_between", min_value=1, max_value=3),
    expectation("table_column_count_to_equal", value=len(COLUMNS)),
    expectation("table_columns_to_match_ordered_list", column_list=["key", "whole"]),
    expectation("table_columns_to_match_set", column_set=["whole", "key"], exact_match=False),
    expectation("table_columns_to_match_set", column_set=["whole", "none"]),
    expectation("column_to_exist", column="whole"),
    expectation("column_to_exist", column="none"),
    expectation("column_to_exist", column="whole", column_index=1),
    # --- one column, row by row ---
    expectation("column_values_to_not_be_null", column="real"),
    expectation("column_values_to_not_be_null", column="text", mostly=0.5),
    expectation("column_values_to_not_be_null", column="real", **only('col("group") == "a"')),
    expectation("column_values_to_be_null", column="whole", mostly=0.1),
    expectation("column_values_to_be_between", column="whole", min_value=2, max_value=5),
    expectation("column_values_to_be_between", column="real", min_value=0, max_value=1.5, strict_min=True, mostly=0.6),
    expectation("column_values_to_be_between", column="real", max_value=1.5, strict_max=True, row_condition=NESTED),
    expectation("column_values_to_be_between", column="money", min_value=1, max_value=2.5),
    expectation("column_values_to_be_between", column="when", min_value="2024-01-05T00:00:00+00:00"),
    expectation("column_values_to_be_between", column="day", min_value="2024-01-05", max_value="2024-01-09"),
    expectation("column_values_to_be_in_set", column="group", value_set=["a", "b"]),
    expectation("column_values_to_be_in_set", column="whole", value_set=[1, 2, 3], row_condition=COMPARED),
    expectation("column_values_to_be_in_set", column="real", value_set=[0.5, 1.5], mostly=0.2),
    expectation("column_values_to_not_be_in_set", column="text", value_set=["ünïcode", "x"]),
    expectation("column_values_to_not_be_in_set", column="whole", value_set=[3]),
    expectation("column_values_to_match_regex", column="text", regex="[a-mü]"),
    expectation("column_values_to_not_match_regex", column="text", regex="^x$", row_condition=EITHER),
    expectation("column_values_to_match_regex_list", column="text", regex_list=["^x", "ü"]),
    expectation("column_values_to_match_regex_list", column="text", regex_list=["^.", "."], match_on="all"),
    expectation("column_values_to_not_match_regex_list", column="text", regex_list=["^x", "ü"]),
    expectation("column_value_lengths_to_equal", column="text", value=1),
    expectation("column_value_lengths_to_be_between", column="text", min_value=1, max_value=4, mostly=0.5),
    expectation("column_value_lengths_to_be_between", column="text", min_value=1, strict_min=True),
    expectation("column_values_to_match_strftime_format", column="stamp_text", strftime_format="%Y-%m-%d"),
    expectation("column_values_to_be_dateutil_parseable", column="stamp_text"),
    expectation("column_values_to_be_json_parseable", column="json"),
    expectation("column_values_to_match_json_schema", column="good_json", json_schema={"required": ["a"]}),
    expectation("column_values_to_be_unique", column="key"),
    expectation("column_values_to_be_unique", column="text"),
    expectation("column_values_to_be_unique", column="real", **only('col("whole") > 2')),
    # --- types ---
    expectation("column_values_to_be_of_type", column="text", type_="str"),
    expectation("column_values_to_be_of_type", column="key", type_="int64"),
    expectation("column_values_to_be_in_type_list", column="key", type_list=["int64", "float64"]),
    expectation("column_values_to_be_in_type_list", column="real", type_list=["int64", "str"]),
    expectation("column_type_to_be", column="key", type_="int64"),
    expectation("column_type_to_be", column="real", type_="int64"),
    # --- one column, aggregates ---
    expectation("column_max_to_be_between", column="whole", min_value=3, max_value=9),
    expectation("column_max_to_be_between", column="real", max_value=1, row_condition=COMPARED),
    expectation("column_min_to_be_between", column="real", min_value=0, strict_min=True),
    expectation("column_min_to_be_between", column="money", min_value=0),
    expectation("column_max_to_be_between", column="when", min_value="2024-01-01T00:00:00+00:00"),
    expectation("column_mean_to_be_between", column="whole", min_value=1, max_value=4),
    expectation("column_mean_to_be_between", column="real", min_value=1, max_value=4, row_condition=NESTED),
    expectation("column_stdev_to_be_between", column="real", min_value=0.1, max_value=4),
    expectation("column_stdev_to_be_between", column="whole", min_value=0.1, row_condition=COMPARED),
    expectation("column_sum_to_be_between", column="whole", min_value=10, max_value=200),
    expectation("column_sum_to_be_between", column="real", min_value=10, max_value=200),
    expectation("column_median_to_be_between", column="whole", min_value=1, max_value=3),
    expectation("column_median_to_be_between", column="real", min_value=1, max_value=3, row_condition=COMPARED),
    expectation("column_quantile_values_to_be_between", column="real", quantile_ranges=QUANTILES),
    expectation("column_quantile_values_to_be_between", column="whole", quantile_ranges=QUANTILES,
                allow_relative_error="linear"),
    expectation("column_unique_value_count_to_be_between", column="text", min_value=2, max_value=4),
    expectation("column_unique_value_count_to_be_between", column="real", min_value=2, row_condition=COMPARED),
    expectation("column_proportion_of_unique_values_to_be_between", column="whole", min_value=0.01, max_value=0.5),
    expectation("column_proportion_of_non_null_values_to_be_between", column="real", min_value=0.7),
    expectation("column_most_common_value_to_be_in_set", column="group", value_set=["a"]),
    expectation("column_most_common_value_to_be_in_set", column="whole", value_set=[1, 2], ties_okay=True),
    expectation("column_distinct_values_to_be_in_set", column="group", value_set=["a", "b"]),
    expectation("column_distinct_values_to_contain_set", column="whole", value_set=[1, 2, 99]),
    expectation("column_distinct_values_to_equal_set", column="group", value_set=["a", "b", "c"]),
    expectation("column_kl_divergence_to_be_less_than", column="group", threshold=0.5,
                partition_object={"values": ["a", "b", "c"], "weights": [0.4, 0.3, 0.3]}),
    # --- several columns ---
    expectation("column_pair_values_to_be_equal", column_A="whole", column_B="real"),
    expectation("column_pair_values_to_be_equal", column_A="whole", column_B="other",
                ignore_row_if="either_value_is_missing"),
    expectation("column_pair_values_a_to_be_greater_than_b", column_A="whole", column_B="real",
                ignore_row_if="either_value_is_missing"),
    expectation("column_pair_values_a_to_be_greater_than_b", column_A="whole", column_B="other", or_equal=True,
                ignore_row_if="either_value_is_missing", mostly=0.5),
    expectation("column_pair_values_to_be_in_set", column_A="group", column_B="whole",
                value_pairs_set=[["a", 1], ["b", 2]]),
    expectation("compound_columns_to_be_unique", column_list=["group", "whole"]),
    expectation("compound_columns_to_be_unique", column_list=["key", "group"], row_condition=COMPARED),
    expectation("select_column_values_to_be_unique_within_record", column_list=["whole", "other"]),
    expectation("select_column_values_to_be_unique_within_record", column_list=["whole", "other"],
                ignore_row_if="any_value_is_missing", row_condition=COMPARED),
    expectation("multicolumn_sum_to_equal", column_list=["key", "other"], sum_total=7),
    expectation("multicolumn_values_to_be_equal", column_list=["whole", "other"], ignore_row_if="any_value_is_missing"),
]

def some_rows(count):
    """Rows with nulls, NaN, repeats, text beyond ASCII, decimals and times."""

    def turn(values, i):
        return values[i % len(values)]

    return [
        {
            "key": i,
            "whole": turn([1, 2, 3, None, 5, 2, 7], i),
            "other": turn([1, 2, 2, None, 4], i),
            "real": turn([0.5, 1.5, math.nan, None, -2.25, 3.0, 0.0, 1e10], i),
            "text": turn(["x", "ünïcode", None, "", "日本", "zz top", "x"], i),
            "group": turn(["a", "b", "c", "a"], i),
            "money": turn([Decimal("1.10"), Decimal("2.50"), None, Decimal("-3.99")], i),
            "when": turn([datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=i, microseconds=7), None], i),
            "day": date(2024, 1, 1) + timedelta(days=i),
            "stamp_text": turn(["2024-02-29", "2023-02-29", "no date", None, "29 Feb 2024"], i),
            "json": turn(['{"a": 1}', "{}", "[1", None, '"text"', "nul"], i),
            "good_json": turn(['{"a": 1}', "{}", "[1]", None, '"text"'], i),
        }
        for i in range(count)
    ]


TABLES = {
    "some rows": pa.Table.from_pylist(some_rows(40), SCHEMA),
    "one row": pa.Table.from_pylist(some_rows(1), SCHEMA),
    "empty": SCHEMA.empty_table(),
    "only nulls": pa.Table.from_pylist([{"key": i, "group": "a"} for i in range(3)], SCHEMA),
}


@pytest.fixture(scope="module")
def stock():
    """Great Expectations' own results, by the position of the expectation."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("rows")
    whole = asset.add_batch_definition_whole_dataframe("all")

    def validate(table, expectations, result_format):
        marked = [{**e, "meta": {"position": i}} for i, e in enumerate(expectations)]
        suite = load_suite({"name": "stock", "expectations": marked})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = whole.get_batch({"dataframe": table.to_pandas()})
            found = batch.validate(suite.to_gx(), result_format=result_format).results
        return {r.expectation_config.meta["position"]: r for r in found}

    return validate


def same(ours, theirs):
    """Whether two JSON values are equal, numbers by value, floats but for the last bits of a sum."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float | int) and isinstance(theirs, float | int):
        return math.isclose(ours, theirs, rel_tol=1e-12)
    return ours == theirs


def content(result):
    """What is compared of one result."""
    found = json.loads(json.dumps(result.to_json_dict()["result"]))
    found.pop("unexpected_index_query", None)
    for name in ("partial_missing_list", "partial_unexpected_list"):
        if "missing_count" in found and name in found and "element_count" not in found:
            found[name] = sorted(found[name])
    if "null" in json.dumps(found.get("unexpected_list", found.get("partial_unexpected_list"))):
        found.pop("partial_unexpected_counts", None)
    if found.get("observed_value") == "NaT":
        found["observed_value"] = None
    return found


def raised(result):
    """Whether an expectation could not be judged; where a metric failed, the facts stand under its name."""
    return result.exception_info.get("raised_exception", True)


def assert_equal(ours, theirs, expectations):
    wrong = []
    for i, expected in enumerate(expectations):
        mine, other = ours.results[i], theirs[i]
        assert not raised(mine), mine.exception_info
        if raised(other):
            if "Cannot compare NaT" not in str(other.exception_info) or mine.success or mine.result["observed_value"]:
                wrong.append((expected, "raised", other.exception_info))
        elif str(mine.success) != str(other.success) or not same(content(mine), content(other)):
            wrong.append((expected, (mine.success, content(mine)), (other.success, content(other))))
    assert not wrong, "\n".join([f"{len(wrong)} differ", *("\n".join(map(str, w)) for w in wrong)])


def test_the_cases_cover_the_catalogue():
    covered = {e["type"] for e in CASES}
    types = set(expectation_types())
    assert types - covered == set(REFUSED) | NOT_IN_PANDAS
    assert len(covered) >= 45


@pytest.mark.parametrize("name", TABLES)
def test_generated_tables(stock, name):
    for result_format in ("SUMMARY",) if name != "some rows" else RESULT_FORMATS:
        ours = check(TABLES[name], {"expectations": CASES}, result_format=result_format)
        assert_equal(ours, stock(TABLES[name], CASES, result_format), CASES)


def test_rows_that_fail_are_named_by_their_keys(stock):
    keys = ["key", "group"]
    asked = {"result_format": "COMPLETE", "unexpected_index_column_names": keys, "partial_unexpected_count": 5}
    ours = check(TABLES["some rows"], {"expectations": CASES}, result_format=asked)
    assert_equal(ours, stock(TABLES["some rows"], CASES, asked), CASES)


@pytest.mark.parametrize("sizes", [[13, 1, 26], [20, 0, 20]])
def test_any_cut_into_fragments_and_batches_gives_the_same_result(sizes):
    plan = SuitePlan(load_suite({"expectations": CASES}), SCHEMA, keys=["key"])
    partials, start = [], 0
    for i, size in enumerate(sizes):
        collector, rows = Collector(plan.statistics), TABLES["some rows"].slice(start, size)
        for before, batch in zip(range(0, size, 7), rows.to_batches(max_chunksize=7), strict=True):
            collector.update(numbered(batch, f"part-{i}", before))
        partials.append(collector.partials())
        start += size
    expected = plan.evaluate(collect(plan, TABLES["some rows"].to_batches())).results
    merged = plan.evaluate(merge_partials(plan.statistics, partials[::-1])).results
    assert [r.to_json_dict() for r in merged] == [r.to_json_dict() for r in expected]


@pytest.fixture(scope="module")
def flights():
    return read_flights(find_data())


def flights_cases():
    """Every covered type over columns of the flights: dates, moments, truth values, integers with nulls."""
    late = only('col("dep_delay") > 60')
    at_jfk = {"type": "comparison", "column": {"name": "origin"}, "operator": "==", "parameter": "JFK"}
    return [
        expectation("table_row_count_to_be_between", min_value=1, max_value=4000),
        expectation("table_row_count_to_equal", value=4000),
        expectation("table_column_count_to_be_between", min_value=30),
        expectation("table_column_count_to_equal", value=32),
        expectation("table_columns_to_match_ordered_list", column_list=["flight_id"]),
        expectation("table_columns_to_match_set", column_set=["flight_id"]),
        expectation("column_to_exist", column="date"),
        expectation("column_type_to_be", column="temp", type_="float64"),
        expectation("column_values_to_be_of_type", column="month", type_="int32"),
        expectation("column_values_to_be_in_type_list", column="carrier", type_list=["str"]),
        expectation("column_values_to_not_be_null", column="late", mostly=0.9),
        expectation("column_values_to_be_null", column="plane_seats", row_condition=at_jfk),
        expectation("column_values_to_be_between", column="dep_delay", min_value=-10, max_value=90, mostly=0.9),
        expectation("column_values_to_be_between", column="time_hour", max_value="2013-01-03T00:00:00+00:00"),
        expectation("column_values_to_be_in_set", column="origin", value_set=["EWR", "JFK"]),
        expectation("column_values_to_be_in_set", column="late", value_set=[False], mostly=0.7),
        expectation("column_values_to_not_be_in_set", column="dest", value_set=["BOS", "ATL"], **late),
        expectation("column_values_to_match_regex", column="tailnum", regex="^N[0-9]+[A-Z]*$", mostly=0.9),
        expectation("column_values_to_not_match_regex", column="dest_name", regex="Intl"),
        expectation("column_values_to_match_regex_list", column="carrier", regex_list=["^[A-M]", "9"]),
        expectation("column_values_to_not_match_regex_list", column="tailnum", regex_list=["JB$", "^N1"]),
        expectation("column_value_lengths_to_equal", column="tailnum", value=6),
        expectation("column_value_lengths_to_be_between", column="dest_name", min_value=10, max_value=20),
        expectation("column_values_to_match_strftime_format", column="flight_id", strftime_format="%Y-%m-%d"),
        expectation("column_values_to_be_dateutil_parseable", column="carrier"),
        expectation("column_values_to_be_json_parseable", column="tailnum"),
        expectation("column_values_to_match_json_schema", column="quoted", json_schema={"enum": ["JFK", "LGA"]}),
        expectation("column_values_to_be_unique", column="flight_id"),
        expectation("column_values_to_be_unique", column="tailnum", row_condition=at_jfk),
        expectation("column_max_to_be_between", column="arr_delay", max_value=500),
        expectation("column_max_to_be_between", column="time_hour", max_value="2014-01-01T00:00:00+00:00"),
        expectation("column_min_to_be_between", column="temp", min_value=20),
        expectation("column_mean_to_be_between", column="air_time", min_value=100, max_value=200, **late),
        expectation("column_stdev_to_be_between", column="wind_speed", max_value=6),
        expectation("column_sum_to_be_between", column="distance", min_value=1),
        expectation("column_median_to_be_between", column="dep_delay", min_value=-5, max_value=5),
        expectation("column_quantile_values_to_be_between", column="arr_delay", quantile_ranges=QUANTILES),
        expectation("column_unique_value_count_to_be_between", column="dest", min_value=50),
        expectation("column_proportion_of_unique_values_to_be_between", column="tailnum", max_value=0.5),
        expectation("column_proportion_of_non_null_values_to_be_between", column="plane_year", min_value=0.5),
        expectation("column_most_common_value_to_be_in_set", column="carrier", value_set=["UA"]),
        expectation("column_distinct_values_to_be_in_set", column="origin", value_set=["EWR", "JFK"]),
        expectation("column_distinct_values_to_contain_set", column="day", value_set=[1, 2]),
        expectation("column_distinct_values_to_equal_set", column="origin", value_set=["EWR", "JFK", "LGA"]),
        expectation("column_kl_divergence_to_be_less_than", column="origin", threshold=0.1,
                    partition_object={"values": ["EWR", "JFK", "LGA"], "weights": [0.4, 0.3, 0.3]}),
        expectation("column_kl_divergence_to_be_less_than", column="distance", threshold=0.5,
                    partition_object={"bins": [0, 500, 1000, 2000, 5000], "weights": [0.25, 0.25, 0.25, 0.25]}),
        expectation("column_pair_values_to_be_equal", column_A="sched_dep_time", column_B="dep_time"),
        expectation("column_pair_values_a_to_be_greater_than_b", column_A="arr_time", column_B="dep_time",
                    ignore_row_if="either_value_is_missing"),
        expectation("column_pair_values_to_be_in_set", column_A="origin", column_B="dest",
                    value_pairs_set=[["JFK", "BOS"], ["EWR", "ORD"]]),
        expectation("compound_columns_to_be_unique", column_list=["carrier", "flight", "date"]),
        expectation("select_column_values_to_be_unique_within_record", column_list=["dep_time", "sched_dep_time"]),
        expectation("multicolumn_sum_to_equal", column_list=["month", "day"], sum_total=2),
        expectation("multicolumn_values_to_be_equal", column_list=["day", "month"]),
    ]


def test_some_flights(stock, flights):
    table = flights.slice(0, 4000)
    quoted = [json.dumps(v) for v in table["origin"].to_pylist()]
    expectations = flights_cases()
    assert {e["type"] for e in expectations} == {e["type"] for e in CASES}
    table = table.append_column("quoted", pa.array(quoted))
    ours = check(table, {"expectations": expectations}, keys=["flight_id"])
    asked = {"result_format": "SUMMARY", "unexpected_index_column_names": ["flight_id"]}
    assert_equal(ours, stock(table, expectations, asked), expectations)


def test_a_text_that_is_no_json_fails_its_row_and_not_the_expectation(stock):
    schema = {"required": ["a"]}
    expectations = [expectation("column_values_to_match_json_schema", column="json", json_schema=schema)]
    ours = check(TABLES["some rows"], {"expectations": expectations}).results[0]
    assert ours.result["unexpected_count"] > 0 and "[1" in ours.result["partial_unexpected_list"]
    assert raised(stock(TABLES["some rows"], expectations, "SUMMARY")[0])


def test_a_condition_that_great_expectations_forgets_holds(stock, flights):
    condition = only('col("origin") == "JFK"')
    pairs = expectation("column_pair_values_to_be_in_set", column_A="origin", column_B="dest",
                        value_pairs_set=[["JFK", "BOS"]], **condition)
    rows = flights.slice(0, 4000)
    at_jfk = rows.filter(pc.equal(rows["origin"], "JFK"))
    expected = at_jfk.num_rows - pc.sum(pc.equal(at_jfk["dest"], "BOS")).as_py()
    assert check(rows, {"expectations": [pairs]}).results[0].result["unexpected_count"] == expected
    assert raised(stock(rows, [pairs], "SUMMARY")[0])


def test_failing_values_are_counted_where_some_are_missing():
    expectations = [expectation("column_pair_values_to_be_equal", column_A="whole", column_B="real")]
    counts = check(TABLES["some rows"], {"expectations": expectations}).results[0].result["partial_unexpected_counts"]
    assert {"value": [5, None], "count": 2} in counts


def test_all_flights(stock, flights):
    suite = json.loads(FLIGHTS_SUITE.read_text())["expectations"]
    ours = check(flights, str(FLIGHTS_SUITE))
    assert ours.results[0].result["observed_value"] == FLIGHTS_ROWS
    assert_equal(ours, stock(flights, suite, "SUMMARY"), suite)
    assert [r.success for r in ours.results].count(False) == 2

import pickle
import re
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from featuremill.artifacts.errors import ColumnTypeError, MissingColumnError, ParameterError, RequestError
from featuremill.core.quality.expectations.refusals import REFUSED
from featuremill.core.quality.expectations.suite_plan import SuitePlan
from featuremill.core.quality.expectations.suites import expectation_types, load_suite

SCHEMA = pa.schema({"flight": pa.string(), "dep_delay": pa.int32(), "origin": pa.string(), "seen": pa.timestamp("us")})

REFUSED_KWARGS = {
    "expect_column_value_z_scores_to_be_less_than": {"column": "dep_delay", "threshold": 2, "double_sided": True},
    "expect_column_values_to_not_be_outliers": {"column": "dep_delay"},
    "expect_column_values_to_be_increasing": {"column": "dep_delay"},
    "expect_column_values_to_be_decreasing": {"column": "dep_delay"},
    "expect_table_row_count_to_equal_other_table": {"other_table_name": "planes"},
    "expect_query_results_to_match_comparison": {
        "base_query": "select 1", "comparison_query": "select 1", "comparison_data_source_name": "x",
    },
    "unexpected_rows_expectation": {"unexpected_rows_query": "SELECT * FROM {batch} WHERE dep_delay > 1"},
}


def plan(*expectations, **options):
    return SuitePlan(load_suite({"expectations": list(expectations)}), SCHEMA, **options)


def one(kind, severity="critical", **kwargs):
    return {"type": f"expect_{kind}", "kwargs": kwargs, "severity": severity}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_one_pass_cannot_check_is_refused_by_name_and_with_the_reason(kind):
    with pytest.raises(ParameterError) as error:
        plan({"type": kind, "kwargs": REFUSED_KWARGS[kind]})
    assert str(error.value).startswith(f"suite, expectation 1 ({kind}")
    assert REFUSED[kind] in str(error.value)


@pytest.mark.parametrize(
    ("expectation", "options", "error", "told"),
    [
        (one("column_max_to_be_between", column="dep_dly", max_value=1), {}, MissingColumnError, "'dep_delay'?"),
        (one("column_pair_values_to_be_equal", column_A="origin", column_B="org"), {}, MissingColumnError, "'origin'"),
        (one("compound_columns_to_be_unique", column_list=["flight", "day"]), {}, MissingColumnError, "'day'"),
        (one("column_to_exist", column="x"), {"keys": ["id"]}, MissingColumnError, "keys: there is no column 'id'"),
        (one("column_mean_to_be_between", column="origin", max_value=1), {}, ColumnTypeError, "origin"),
        (one("column_stdev_to_be_between", column="flight", max_value=1), {}, ColumnTypeError, "flight"),
        (one("column_max_to_be_between", column="origin", max_value=1), {}, ColumnTypeError, "do not compare with 1"),
        (one("column_min_to_be_between", column="seen", min_value="2024-01-31"), {}, ColumnTypeError, "2024-01-31T"),
        (one("column_max_to_be_between", column="dep_delay", max_value="2024-01-31"), {}, ColumnTypeError, "int32"),
        (one("column_values_to_match_regex", column="origin", regex="("), {}, RequestError, "("),
        (one("column_to_exist", column="x"), {"result_format": "FULL"}, ParameterError, "expected one of BOOLEAN_ONLY"),
        (one("column_to_exist", column="x"), {"result_format": {"result": "BASIC"}}, ParameterError, "'result'"),
    ],
)
def test_what_cannot_be_is_told_before_a_row_is_read(expectation, options, error, told):
    with pytest.raises(error) as raised:
        plan(expectation, **options)
    assert told in str(raised.value)
    if not options:
        assert str(raised.value).startswith(f"suite, expectation 1 ({expectation['type']}")


@pytest.mark.parametrize("parser", ["pandas", "spark", None])
def test_conditions_that_would_be_run_as_code_are_refused(parser):
    condition = {"row_condition": "__import__('os').system('true')"} | ({"condition_parser": parser} if parser else {})
    with pytest.raises(ParameterError, match="would run as code"):
        plan(one("column_max_to_be_between", column="dep_delay", max_value=1, **condition))


def test_a_condition_on_a_missing_column():
    condition = {"type": "comparison", "column": {"name": "orgin"}, "operator": "==", "parameter": "JFK"}
    with pytest.raises(MissingColumnError, match="Did you mean 'origin'"):
        plan(one("column_max_to_be_between", column="dep_delay", max_value=1, row_condition=condition))


def test_statistics_are_shared_and_travel_without_great_expectations():
    made = plan(
        one("column_max_to_be_between", column="dep_delay", max_value=1),
        one("column_min_to_be_between", column="dep_delay", min_value=1),
        one("column_mean_to_be_between", column="dep_delay", min_value=1),
        one("table_row_count_to_equal", value=3),
        keys=["flight"],
    )
    assert len(made.statistics) <= 3
    travelled = pickle.dumps((made.statistics, made.row_checks))
    assert b"great_expectations" not in travelled
    assert pickle.loads(travelled) == (made.statistics, made.row_checks)


def test_rows_are_set_aside_by_critical_checks_of_single_rows_that_tolerate_none():
    made = plan(
        one("column_values_to_be_between", column="dep_delay", max_value=600),
        one("column_values_to_be_between", column="dep_delay", max_value=60, mostly=0.9),
        one("column_values_to_not_be_null", severity="warning", column="flight"),
        one("column_values_to_be_unique", column="flight"),
        one("column_max_to_be_between", column="dep_delay", max_value=600),
        one("column_pair_values_to_be_equal", column_A="flight", column_B="origin"),
    )
    assert [check.name for check in made.row_checks] == [
        "expect_column_values_to_be_between(dep_delay)",
        "expect_column_pair_values_to_be_equal(flight, origin)",
    ]


def test_a_plan_needs_no_pandas_data():
    assert "great_expectations" in sys.modules
    assert plan(one("column_type_to_be", column="dep_delay", type_="int32")).statistics is not None


def test_the_documentation_lists_every_expectation_and_what_is_refused():
    lines = (Path(__file__).parents[2] / "docs/quality.md").read_text().splitlines()
    told = {}
    for row in (line for line in lines if line.startswith("| `")):
        names, *rest = [cell.strip() for cell in row.strip("|").split("|")]
        for name in re.findall(r"`(\w+)`", names):
            told[name if name.endswith("_expectation") else f"expect_{name}"] = rest[0]
    types = set(expectation_types())
    assert types <= set(told)
    assert {name for name in types if told[name].startswith("refused")} == set(REFUSED)

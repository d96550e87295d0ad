"""What no pass over the rows can check, and what does not fit the rows: told before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa

from featuremill.artifacts.errors import ColumnTypeError, MissingColumnError, ParameterError, suggest
from featuremill.core.predicates import family
from featuremill.core.quality.expectations.suites import columns_of, quiet
from featuremill.transforms.arrays import value_type

__all__ = ["REFUSED", "check_bounds", "check_columns", "missing", "refuse"]

_ORDER = "it compares each row with the one before, and rows that are read in parallel have no order"
_QUERY = "it runs a query of its own, and there is no database here. Put the query into a BigQuery source"
REFUSED: Mapping[str, str] = {
    "expect_column_value_z_scores_to_be_less_than": (
        "the mean and the deviation of all rows have to be known before the first row is judged, which takes a second "
        "pass. Bound the values with expect_column_values_to_be_between"
    ),
    "expect_column_values_to_not_be_outliers": (
        "the quantiles of all rows have to be known before the first row is judged, which takes a second pass. "
        "Bound the values with expect_column_values_to_be_between, or the quantiles with "
        "expect_column_quantile_values_to_be_between"
    ),
    "expect_column_values_to_be_increasing": _ORDER,
    "expect_column_values_to_be_decreasing": _ORDER,
    "expect_table_row_count_to_equal_other_table": (
        "it reads another table. Give the number with expect_table_row_count_to_equal"
    ),
    "expect_query_results_to_match_comparison": _QUERY,
    "unexpected_rows_expectation": _QUERY,
}
"""The expectations that are refused, with the reason and the way out."""

EXTREMES = ("expect_column_min_to_be_between", "expect_column_max_to_be_between")
"""The expectations whose bounds are compared with values of the column."""


def refuse(expectation: Any, where: str) -> None:
    """Refuse what one pass cannot check, and conditions that would have to be executed."""
    kind = expectation.expectation_type
    if kind in REFUSED:
        raise ParameterError(f"{where} cannot be checked here: {REFUSED[kind]}.", expectation=kind)
    if kind == "expect_column_kl_divergence_to_be_less_than" and expectation.partition_object is None:
        raise ParameterError(
            f"{where} cannot be checked here: without a partition_object it has to find bins before it counts. "
            "Give one: {values: […], weights: […]} or {bins: […], weights: […]}.", expectation=kind,
        )
    condition = getattr(expectation, "row_condition", None)
    if condition is not None and not isinstance(condition, str) and condition.dict().get("type") == "pass_through":
        raise ParameterError(
            f"{where}: row_condition got {condition.pass_through_filter!r}, which pandas or Spark would run as code. "
            "Write a condition of Great Expectations: "
            "{type: comparison, column: {name: x}, operator: '>', parameter: 0}, "
            "or col(\"x\") > 0 with condition_parser: great_expectations.",
            parameter="row_condition",
        )


def condition_columns(condition: Any) -> list[str]:
    """The columns that a row condition reads.

    >>> both = {"type": "and", "conditions": [{"column": {"name": "x"}}, {"column": {"name": "y"}}]}
    >>> condition_columns(both), condition_columns(None)
    (['x', 'y'], [])
    """
    content = condition if isinstance(condition, Mapping) else condition.dict() if condition is not None else {}
    if "conditions" in content:
        return [name for part in content["conditions"] for name in condition_columns(part)]
    return [content["column"]["name"]] if "column" in content else []


def check_columns(expectation: Any, schema: pa.Schema, where: str) -> None:
    """Refuse an expectation about columns that are not there, or with a condition on such a one."""
    if expectation.expectation_type == "expect_column_to_exist":
        return
    for column in (*columns_of(expectation), *condition_columns(getattr(expectation, "row_condition", None))):
        if column not in schema.names:
            raise MissingColumnError(f"{where}: {missing(column, schema)}", column=column)


def check_bounds(expectation: Any, metrics: Iterable[Any], schema: pa.Schema, engine: Any, where: str) -> None:
    """Refuse bounds that do not compare with values of the column, by comparing one.

    `metrics` are Great Expectations' identifiers of what the expectation needs.
    """
    if expectation.expectation_type not in EXTREMES:
        return
    type_ = value_type(schema.field(expectation.column).type)
    if (example := example_of(type_)) is None:
        return
    try:
        with quiet():
            expectation.metrics_validate(dict.fromkeys(metrics, example), execution_engine=engine)
    except (TypeError, ValueError) as error:
        bounds = [b for b in (expectation.min_value, expectation.max_value) if b is not None]
        raise ColumnTypeError(
            f"{where}: the column is {type_}, whose values do not compare with {' and '.join(map(str, bounds))}. "
            "Give bounds of its type; a moment is written with its time and zone, 2024-01-31T00:00:00+00:00.",
            column=expectation.column, type=str(type_),
        ) from error


def example_of(type_: pa.DataType) -> Any:
    """A value of a type as Great Expectations compares it with bounds; None for types of which nothing is known.

    >>> example_of(pa.date32()), example_of(pa.decimal128(5, 2))
    (datetime.date(2000, 1, 1), Decimal('0'))
    """
    match family(type_):
        case "timestamp":
            return pa.array([0], type_).to_pandas()[0]
        case "date":
            return date(2000, 1, 1)
        case "text":
            # Of a text that is compared with a date, the date is read.
            return "2000-01-01"
        case "decimal":
            return Decimal(0)
        case "integer" | "float" | "boolean":
            return 0
        case _:
            return None


def missing(column: str, schema: pa.Schema) -> str:
    """What to say of a column that is not there."""
    return f"there is no column {column!r}. {suggest(column, schema.names)}"

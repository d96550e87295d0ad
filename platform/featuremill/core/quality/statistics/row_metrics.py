"""The metrics about single rows: which condition each counts, and over which rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import ColumnTypeError, MissingColumnError, ParameterError, suggest
from featuremill.core.predicates import family
from featuremill.core.quality.statistics.across import AllDifferent, AllEqual, PairCompares, PairInSet, SumEquals
from featuremill.core.quality.statistics.comparisons import parse_moment
from featuremill.core.quality.statistics.conditions import (
    Between,
    Condition,
    InSet,
    IsNull,
    LengthBetween,
    LengthEquals,
    MatchesLike,
    MatchesRegex,
    NotNull,
    OfTypes,
)
from featuremill.core.quality.statistics.domain import Domain
from featuremill.core.quality.statistics.formats import DateParseable, JsonParseable, MatchesJsonSchema, MatchesStrftime
from featuremill.core.quality.statistics.metric import Metric
from featuremill.core.quality.statistics.row_conditions import parse_row_condition
from featuremill.transforms.arrays import value_type

__all__ = ["PARTS", "ROWS_KEPT", "UNIQUE", "RowMetric", "row_metric"]

PARTS = (
    "unexpected_count", "unexpected_values", "unexpected_index_list", "unexpected_index_query", "unexpected_rows",
    "filtered_row_count", "unexpected_share", "expected_count",
)
"""What is asked of a condition: the last part of a metric's name, and the two last for metrics named otherwise."""

ALIASES = {
    "column.non_null_count": ("column_values.null", "unexpected_count"),
    "column.non_null_proportion": ("column_values.null", "unexpected_share"),
    "column_values.nonnull.count": ("column_values.null", "unexpected_count"),
    "column_values.null.count": ("column_values.nonnull", "unexpected_count"),
    "column_values.between.count": ("column_values.between", "expected_count"),
    "column_values.match_regex.count": ("column_values.not_match_regex", "unexpected_count"),
    "column_values.not_match_regex.count": ("column_values.match_regex", "unexpected_count"),
}
"""Metrics that count rows by a condition without saying so in their names."""

UNIQUE = ("column_values.unique", "compound_columns.unique")
"""Conditions that a row meets or not by what the other rows hold."""

LISTED = 200
"""How many failing values Great Expectations lists at most: its MAX_RESULT_RECORDS."""

ROWS_KEPT = 10_000
"""How many failing rows are kept for a list of all of them (the result format COMPLETE)."""

IGNORED = {
    "both_values_are_missing": "all", "either_value_is_missing": "any", "neither": "never",
    "all_values_are_missing": "all", "any_value_is_missing": "any", "never": "never",
}
"""The values of ``ignore_row_if``, as :class:`Domain` calls them."""


@dataclass(frozen=True)
class RowMetric:
    """A metric about single rows.

    Parameters
    ----------
    domain
        The rows and columns that it is asked of.
    condition
        The condition whose failing rows it counts; None for uniqueness.
    part
        Which of :data:`PARTS` it is.
    listed
        How many failing rows its value lists; None where the metric does not say.
    shown
        The columns, besides those of the domain, that its value shows of a failing row.
    """

    domain: Domain
    condition: Condition | None
    part: str
    listed: int | None
    shown: tuple[str, ...]


def row_metric(metric: Metric, schema: pa.Schema) -> RowMetric | None:
    """The metric's condition and rows, checked against the schema; None where it is no metric about single rows.

    Raises
    ------
    MissingColumnError, ColumnTypeError, ParameterError
        For a request that cannot work.
    """
    base, part = ALIASES.get(metric.name) or metric.name.rpartition(".")[::2]
    if part not in PARTS or (base not in CONDITIONS and base not in UNIQUE):
        return None
    domain = _domain(metric.domain, schema, single_unique=base == "column_values.unique")
    fields = [schema.field(c) for c in domain.columns]
    condition = None
    if base in CONDITIONS:
        condition = CONDITIONS[base](metric.values, fields)
        condition.check(fields)
    else:
        for field in fields:
            if family(field.type) == "other":
                raise ColumnTypeError(
                    f"{field.name!r} is {field.type}, whose values cannot be counted.",
                    column=field.name,
                    type=str(field.type),
                )
    listed, shown = _listed(metric, part, schema)
    return RowMetric(domain, condition, part, listed, shown)


def _domain(asked: Mapping[str, Any], schema: pa.Schema, *, single_unique: bool) -> Domain:
    if "column" in asked:
        columns: tuple[str, ...] = (asked["column"],)
    elif "column_A" in asked:
        columns = (asked["column_A"], asked["column_B"])
    else:
        columns = tuple(asked.get("column_list", ()))
    for column in columns:
        if column not in schema.names:
            raise MissingColumnError(
                f"there is no column {column!r}. {suggest(column, schema.names)}", column=column
            )
    if not columns:
        raise ParameterError(f"the domain {dict(asked)} names no column.", parameter="column_list")
    ignore = asked.get("ignore_row_if", "never")
    if ignore not in IGNORED:
        raise ParameterError(
            f"ignore_row_if got {ignore!r}, expected one of {', '.join(IGNORED)}.", parameter="ignore_row_if"
        )
    where = parse_row_condition(asked.get("row_condition"), asked.get("condition_parser"))
    if where is not None:
        where.check(schema)
    return Domain(columns, "any" if single_unique else IGNORED[ignore], where, pair="column_A" in asked)


def _listed(metric: Metric, part: str, schema: pa.Schema) -> tuple[int | None, tuple[str, ...]]:
    """How many failing rows the metric lists, and which further columns of them."""
    asked = metric.values.get("result_format") or {}
    shown = tuple(asked.get("unexpected_index_column_names") or ()) if part == "unexpected_index_list" else ()
    for column in shown:
        if column not in schema.names:
            raise MissingColumnError(
                f"unexpected_index_column_names: there is no column {column!r}. {suggest(column, schema.names)}",
                column=column,
            )
    if part == "unexpected_rows":
        shown = tuple(schema.names)
    if not part.startswith(("unexpected_values", "unexpected_index", "unexpected_rows")) or not asked:
        return None, shown
    complete = asked.get("result_format") == "COMPLETE"
    partial = int(asked.get("partial_unexpected_count", 20))
    if part in ("unexpected_index_list", "unexpected_index_query"):
        return ROWS_KEPT if complete else partial, shown
    return LISTED if complete else min(partial, LISTED), shown


# --- the conditions -------------------------------------------------------------------------------------------------

Values = Mapping[str, Any]
Fields = Sequence[pa.Field]


def _moment(value: Any, field: pa.Field) -> Any:
    """A bound; a text for a column of dates or moments is parsed."""
    return parse_moment(value) if isinstance(value, str) and family(field.type) == "timestamp" else value


def _between(values: Values, fields: Fields) -> Condition:
    low, high = (_moment(values.get(k), fields[0]) for k in ("min_value", "max_value"))
    if low is None and high is None:
        raise ParameterError("min_value and max_value are both missing; give at least one.", parameter="min_value")
    if low is not None and high is not None and type(low) is type(high) and low > high:
        raise ParameterError(f"min_value {low!r} is greater than max_value {high!r}.", parameter="min_value")
    return Between(low, high, bool(values.get("strict_min")), bool(values.get("strict_max")))


def _in_set(inside: bool) -> Callable[[Values, Fields], Condition]:
    def make(values: Values, fields: Fields) -> Condition:
        constants = values.get("value_set")
        if constants is None:
            return NotNull()
        _need_scalars("value_set", constants)
        if not inside and family(fields[0].type) == "timestamp":
            constants = [_moment(c, fields[0]) for c in constants]
        return InSet(tuple(constants), inside)

    return make


def _patterns(kind: type[MatchesRegex | MatchesLike], key: str, wanted: bool) -> Callable[[Values, Fields], Condition]:
    def make(values: Values, _fields: Fields) -> Condition:
        found = values.get(key)
        patterns = tuple(found) if isinstance(found, list) else (found,)
        if not patterns or not all(isinstance(p, str) for p in patterns):
            raise ParameterError(f"{key} got {found!r}, expected a text, or a list of texts.", parameter=key)
        match_on = values.get("match_on", "any")
        if match_on not in ("any", "all"):
            raise ParameterError(f"match_on got {match_on!r}, expected 'any' or 'all'.", parameter="match_on")
        every = match_on == "all"
        if kind is MatchesLike:
            return MatchesLike(patterns, every, wanted, values.get("escape"))
        return MatchesRegex(patterns, every, wanted)

    return make


def _length_between(values: Values, _fields: Fields) -> Condition:
    return LengthBetween(
        values.get("min_value"), values.get("max_value"), bool(values.get("strict_min")), bool(values.get("strict_max"))
    )


PYTHON_TYPES: tuple[tuple[Callable[[pa.DataType], bool], type], ...] = (
    (pt.is_boolean, bool), (pt.is_integer, int), (pt.is_floating, float), (pt.is_decimal, Decimal),
    (pt.is_date, date), (pt.is_timestamp, datetime), (pt.is_time, time), (pt.is_struct, dict),
)


TYPE_NAMES: Mapping[str, type] = {
    "bool": bool, "int": int, "long": int, "float": float, "bytes": bytes, "str": str, "string_types": str,
    "list": list, "dict": dict, "decimal": Decimal, "date": date, "datetime": datetime, "time": time,
}


def _of_types(values: Values, fields: Fields) -> Condition:
    """Whether the values, as pandas has them in a column of objects, are of types named as in Python."""
    type_ = value_type(fields[0].type)
    texts = {"text": str, "bytes": bytes}
    here = texts.get(family(type_)) or next((p for test, p in PYTHON_TYPES if test(type_)), None)
    named = [_type_named(n) for n in values.get("type_list") or [values.get("type_")]]
    # pandas holds lists as arrays, which are of no type that is named here.
    return OfTypes(here is not None and here in named)


def _type_named(name: Any) -> type | None:
    """The Python type of a name; None for NumPy's types, of which no Python object is."""
    found = TYPE_NAMES.get(str(name).lower())
    if found is None:
        try:
            np.dtype(name)
        except TypeError as error:
            raise ParameterError(
                f"{name!r} is no type of values. {suggest(str(name), list(TYPE_NAMES))}", parameter="type_", value=name
            ) from error
    return found


def _pairs(values: Values, _fields: Fields) -> Condition:
    pairs = values.get("value_pairs_set")
    if pairs is None or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        raise ParameterError(f"value_pairs_set got {pairs!r}, expected pairs of values.", parameter="value_pairs_set")
    _need_scalars("value_pairs_set", [value for pair in pairs for value in pair])
    return PairInSet(tuple((p[0], p[1]) for p in pairs))


def _need_scalars(key: str, constants: Sequence[Any]) -> None:
    for constant in constants:
        if isinstance(constant, list | dict):
            raise ParameterError(f"{key} holds {constant!r}, expected single values.", parameter=key, value=constant)


CONDITIONS: Mapping[str, Callable[[Values, Fields], Condition]] = {
    "column_values.nonnull": lambda _values, _fields: NotNull(),
    "column_values.null": lambda _values, _fields: IsNull(),
    "column_values.between": _between,
    "column_values.in_set": _in_set(True),
    "column_values.not_in_set": _in_set(False),
    "column_values.match_regex": _patterns(MatchesRegex, "regex", True),
    "column_values.not_match_regex": _patterns(MatchesRegex, "regex", False),
    "column_values.match_regex_list": _patterns(MatchesRegex, "regex_list", True),
    "column_values.not_match_regex_list": _patterns(MatchesRegex, "regex_list", False),
    "column_values.match_like_pattern": _patterns(MatchesLike, "like_pattern", True),
    "column_values.not_match_like_pattern": _patterns(MatchesLike, "like_pattern", False),
    "column_values.match_like_pattern_list": _patterns(MatchesLike, "like_pattern_list", True),
    "column_values.not_match_like_pattern_list": _patterns(MatchesLike, "like_pattern_list", False),
    "column_values.value_length.between": _length_between,
    "column_values.value_length.equals": lambda values, _fields: LengthEquals(values["value"]),
    "column_values.of_type": _of_types,
    "column_values.in_type_list": _of_types,
    "column_values.dateutil_parseable": lambda _values, _fields: DateParseable(),
    "column_values.match_strftime_format": lambda values, _fields: MatchesStrftime(values["strftime_format"]),
    "column_values.json_parseable": lambda _values, _fields: JsonParseable(),
    "column_values.match_json_schema": lambda values, _fields: MatchesJsonSchema(
        json.dumps(values["json_schema"], sort_keys=True)
    ),
    "column_pair_values.equal": lambda _values, _fields: PairCompares("="),
    "column_pair_values.a_greater_than_b": lambda values, _: PairCompares(">=" if values.get("or_equal") else ">"),
    "column_pair_values.in_set": _pairs,
    "multicolumn_sum.equal": lambda values, _fields: SumEquals(values["sum_total"]),
    "multicolumn_values.equal": lambda _values, _fields: AllEqual(),
    "select_column_values.unique.within_record": lambda _values, _fields: AllDifferent(),
}
"""The condition of each name, from the metric's values and the fields of its columns."""

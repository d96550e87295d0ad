"""The metrics of whole columns: which statistics each reads, and its value from their states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from itertools import pairwise
from math import floor, isnan
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import ColumnTypeError, ParameterError
from featuremill.core.predicates import family
from featuremill.core.quality.statistics.aggregates import EdgeCounts, Extremes, RowCounts
from featuremill.core.quality.statistics.comparisons import members, parse_moment
from featuremill.core.quality.statistics.pandas_values import column_types, series_items, storage_items, value_counts
from featuremill.core.quality.statistics.sums import Sums, deviation_of, mean_of, sum_of
from featuremill.transforms.arrays import value_type
from featuremill.transforms.contract import Analyzer, State
from featuremill.transforms.counts import Counts
from featuremill.transforms.histogram import Bins, Histogram, bins_of, rank_error

__all__ = ["READINGS", "Reading", "table_reading"]

INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")

MAX_LISTED = 1000
"""How many distinct values a metric lists; Great Expectations shows 20 of them."""


@dataclass(frozen=True)
class Reading:
    """How a metric is read from statistics.

    Parameters
    ----------
    statistics
        What has to be collected.
    value
        The metric's value from their states, in the same order.
    bound
        What is to be said of its exactness, from the same; empty where it is exact.
    """

    statistics: tuple[Analyzer, ...]
    value: Callable[[Sequence[State]], Any]
    bound: Callable[[Sequence[State]], dict[str, Any]] = field(default=lambda _: {})


def table_reading(name: str, schema: pa.Schema) -> Reading | None:
    """How a metric of the whole table is read; None where there is no such metric."""
    readings = {
        "table.row_count": Reading((RowCounts(),), lambda states: _rows(states[0])),
        "table.columns": Reading((), lambda _: list(schema.names)),
        "table.column_count": Reading((), lambda _: len(schema.names)),
        "table.column_types": Reading((), lambda _: column_types(schema)),
    }
    return readings.get(name)


def _rows(state: State) -> int:
    return int(pc.sum(state.column("count")).as_py() or 0)


def _need(column: pa.Field, kinds: Sequence[str], what: str) -> None:
    if family(column.type) not in (*kinds, "null"):
        raise ColumnTypeError(
            f"{column.name!r} is {column.type}; {what}.", column=column.name, type=str(column.type)
        )


NUMBERS = ("integer", "float", "decimal", "boolean")
ORDERED = (*NUMBERS, "text", "bytes", "date", "timestamp")


# --- extremes and moments -------------------------------------------------------------------------------------------


def _extreme(which: str) -> Callable[[pa.Field, Mapping[str, Any]], Reading]:
    def make(column: pa.Field, _values: Mapping[str, Any]) -> Reading:
        _need(column, ORDERED, "its values have no order")
        statistic = Extremes(column.name, _stored(column.type))
        return Reading((statistic,), lambda states: next(iter(series_items(states[0].column(which))), None))

    return make


def _stored(type_: pa.DataType) -> pa.DataType:
    views = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    return views.get(value_type(type_), value_type(type_))


def _sum(column: pa.Field, _values: Mapping[str, Any]) -> Reading:
    _need(column, NUMBERS, "a sum needs numbers")
    return Reading((Sums(column.name),), lambda states: sum_of(states[0]))


def _mean(column: pa.Field, _values: Mapping[str, Any]) -> Reading:
    _need(column, NUMBERS, "a mean needs numbers")
    return Reading((Sums(column.name),), lambda states: _known(mean_of(states[0])))


def _deviation(column: pa.Field, _values: Mapping[str, Any]) -> Reading:
    _need(column, NUMBERS, "a standard deviation needs numbers")
    return Reading((Sums(column.name),), lambda states: _known(deviation_of(states[0])))


def _known(value: float | None) -> float | None:
    return None if value is None or isnan(value) else value


# --- quantiles ------------------------------------------------------------------------------------------------------


def _quantiles(column: pa.Field, values: Mapping[str, Any]) -> Reading:
    fractions = [float(q) for q in values.get("quantiles", ())]
    interpolation = values.get("allow_relative_error") or "nearest"
    if interpolation not in INTERPOLATIONS:
        raise ParameterError(
            f"allow_relative_error got {interpolation!r}, expected one of {', '.join(INTERPOLATIONS)}.",
            parameter="allow_relative_error",
            value=interpolation,
        )
    if not all(0 <= q <= 1 for q in fractions):
        raise ParameterError(f"quantiles got {fractions}, expected numbers from 0 to 1.", parameter="quantiles")
    return _ranked(column, fractions, interpolation, lambda found: found)


def _median(column: pa.Field, _values: Mapping[str, Any]) -> Reading:
    return _ranked(column, [0.5], "midpoint", lambda found: found[0])


def _ranked(
    column: pa.Field, fractions: Sequence[float], interpolation: str, shaped: Callable[[list[Any]], Any]
) -> Reading:
    """Values at some ranks: of numbers from a histogram, of dates and moments from exact counts."""
    _need(column, (*NUMBERS, "date", "timestamp"), "quantiles need numbers, dates or moments")
    if family(column.type) in ("date", "timestamp"):
        if interpolation not in ("lower", "higher", "nearest"):
            _need(column, NUMBERS, "values between two of its values need numbers")
        return Reading((Counts(column.name),), lambda states: shaped(_of_counts(states[0], fractions, interpolation)))
    whole = pt.is_integer(value_type(column.type)) and interpolation in ("lower", "higher", "nearest")
    kind: Callable[[float], Any] = int if whole else float
    if pt.is_boolean(value_type(column.type)) and interpolation in ("lower", "higher", "nearest"):
        kind = bool

    def bound(states: Sequence[State]) -> dict[str, Any]:
        bins = bins_of(states[0])
        found = [v for v in _of_bins(bins, fractions, interpolation) if v is not None]
        error = rank_error(bins, found)
        return {"rank_error": error} if error else {}

    def value(states: Sequence[State]) -> Any:
        found = _of_bins(bins_of(states[0]), fractions, interpolation)
        return shaped([None if v is None else kind(v) if np.isfinite(v) else v for v in found])

    return Reading((Histogram(column.name),), value, bound)


def _of_bins(bins: Bins, fractions: Sequence[float], interpolation: str) -> list[float | None]:
    if not bins.count:
        return [None] * len(fractions)
    ends = np.cumsum(bins.counts)
    found: list[float | None] = []
    for fraction in fractions:
        low, high, share = _ranks(bins.count, fraction, interpolation)
        one, other = (float(v) for v in bins.low[np.searchsorted(ends, [low, high], side="right")])
        step = other - one
        # NumPy's linear interpolation, which is exact at both ends.
        if not share or not step:
            found.append(one)
        else:
            found.append(other - step * (1 - share) if share >= 0.5 else one + step * share)
    return found


def _of_counts(state: State, fractions: Sequence[float], interpolation: str) -> list[Any]:
    ends = np.cumsum(state.column("count").to_numpy())
    if not len(ends):
        return [None] * len(fractions)
    ranks = [_ranks(int(ends[-1]), q, interpolation)[0] for q in fractions]
    return series_items(state.column("token").take(pa.array(np.searchsorted(ends, ranks, side="right"))))


def _ranks(count: int, fraction: float, interpolation: str) -> tuple[int, int, float]:
    """The two ranks around a quantile, from 0, and how far it lies between their values."""
    position = fraction * (count - 1)
    low = floor(position)
    high = min(low + 1, count - 1)
    share = position - low
    if interpolation == "nearest":
        rank = int(np.around(position))
        return rank, rank, 0.0
    if interpolation == "lower" or not share:
        return low, low, 0.0
    if interpolation == "higher":
        return high, high, 0.0
    return low, high, 0.5 if interpolation == "midpoint" else share


# --- distinct values ------------------------------------------------------------------------------------------------


def _counted(column: pa.Field) -> Counts:
    _need(column, ORDERED, "its values cannot be counted")
    return Counts(column.name)


def _distinct(column: pa.Field, _values: Mapping[str, Any]) -> Reading:
    return Reading((_counted(column),), lambda states: states[0].num_rows)


def _few_distinct(column: pa.Field, values: Mapping[str, Any]) -> Reading:
    threshold = values["threshold"]
    return Reading((_counted(column),), lambda states: states[0].num_rows < threshold)


def _unique_share(column: pa.Field, _values: Mapping[str, Any]) -> Reading:
    def value(states: Sequence[State]) -> float | int:
        known = _rows(states[0])
        return states[0].num_rows / known if known else 0

    return Reading((_counted(column),), value)


def _coerced(column: pa.Field, values: Mapping[str, Any]) -> list[Any]:
    """The constants of a set; texts as dates or moments, where the column holds such."""
    found: list[Any] = []
    for value in values.get("value_set") or ():
        constant = _coerced_one(family(column.type), value)
        if not any(constant == v and type(constant) is type(v) for v in found):
            found.append(constant)
    return found


def _coerced_one(kind: str, value: Any) -> Any:
    if kind in ("date", "timestamp") and isinstance(value, str):
        return parse_moment(value).date() if kind == "date" else parse_moment(value)
    if kind == "timestamp" and isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value


def _not_in_set(column: pa.Field, values: Mapping[str, Any], shown: Callable[[pa.Array, pa.Array], Any]) -> Reading:
    constants = members(column.type, _coerced(column, values))

    def value(states: Sequence[State]) -> Any:
        tokens = states[0].column("token").combine_chunks()
        return shown(tokens, pc.invert(pc.is_in(_as(tokens, constants.type), value_set=constants)))

    return Reading((_counted(column),), value)


def _as(tokens: pa.Array, type_: pa.DataType) -> pa.Array:
    return tokens if tokens.type == type_ else tokens.cast(type_)


def _unexpected_distinct(column: pa.Field, values: Mapping[str, Any]) -> Reading:
    limit = min(values.get("limit") or MAX_LISTED, MAX_LISTED)
    return _not_in_set(column, values, lambda tokens, where: storage_items(tokens.filter(where).slice(0, limit)))


def _unexpected_distinct_count(column: pa.Field, values: Mapping[str, Any]) -> Reading:
    return _not_in_set(column, values, lambda _, unexpected: unexpected.true_count)


def _missing(column: pa.Field, values: Mapping[str, Any]) -> Callable[[Sequence[State]], list[Any]]:
    constants = _coerced(column, values)

    def value(states: Sequence[State]) -> list[Any]:
        tokens = states[0].column("token").combine_chunks()
        if not len(tokens):
            return list(dict.fromkeys(values.get("value_set") or ()))
        found = []
        for constant in constants:
            one = members(column.type, [constant])
            if not len(one) or not pc.is_in(one, value_set=_as(tokens, one.type))[0].as_py():
                found.append(constant)
        return found

    return value


def _missing_distinct(column: pa.Field, values: Mapping[str, Any]) -> Reading:
    find, limit = _missing(column, values), values.get("limit")
    return Reading((_counted(column),), lambda states: find(states)[:limit])


def _missing_distinct_count(column: pa.Field, values: Mapping[str, Any]) -> Reading:
    find = _missing(column, values)
    return Reading((_counted(column),), lambda states: len(find(states)))


def _modes(column: pa.Field, _values: Mapping[str, Any]) -> Reading:
    def value(states: Sequence[State]) -> list[Any]:
        counts = states[0].column("count")
        most = pc.max(counts)
        return storage_items(states[0].column("token").filter(pc.equal(counts, most))) if len(counts) else []

    return Reading((_counted(column),), value)


def _value_counts(column: pa.Field, values: Mapping[str, Any]) -> Reading:
    if values.get("sort", "value") not in ("value", "none") or values.get("collate") is not None:
        raise ParameterError(
            f"column.value_counts got {dict(values)}, expected sort 'value' and no collation.", parameter="sort"
        )
    return Reading((_counted(column),), lambda states: value_counts(states[0]))


def _histogram(column: pa.Field, values: Mapping[str, Any]) -> Reading:
    _need(column, NUMBERS, "a histogram needs numbers")
    bins = values.get("bins")
    if not isinstance(bins, list) or len(bins) < 2 or not all(isinstance(b, int | float) and b == b for b in bins):  # noqa: PLR0124  # NaN
        raise ParameterError(f"bins got {bins!r}, expected at least two edges, all numbers.", parameter="bins")
    if any(a > b for a, b in pairwise(bins)):
        raise ParameterError(f"bins got {bins!r}, expected edges that ascend.", parameter="bins")
    statistic = EdgeCounts(column.name, tuple(float(b) for b in bins))
    return Reading((statistic,), lambda states: states[0].column("count").to_pylist())


READINGS: Mapping[str, Callable[[pa.Field, Mapping[str, Any]], Reading]] = {
    "column.min": _extreme("min"),
    "column.max": _extreme("max"),
    "column.sum": _sum,
    "column.mean": _mean,
    "column.standard_deviation": _deviation,
    "column.quantile_values": _quantiles,
    "column.median": _median,
    "column.distinct_values.count": _distinct,
    "column.distinct_values.count.under_threshold": _few_distinct,
    "column.unique_proportion": _unique_share,
    "column.distinct_values.not_in_set": _unexpected_distinct,
    "column.distinct_values.not_in_set.count": _unexpected_distinct_count,
    "column.distinct_values.missing_from_column": _missing_distinct,
    "column.distinct_values.missing_from_column.count": _missing_distinct_count,
    "column.most_common_value": _modes,
    "column.value_counts": _value_counts,
    "column.histogram": _histogram,
}
"""How each metric of one column is read, from the column's field and the metric's values.

They raise ColumnTypeError when the column's type has no such metric, ParameterError for values that it cannot take.
"""

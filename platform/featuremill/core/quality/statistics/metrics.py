"""The metrics of Great Expectations, computed in one pass: which statistics they need, and their values from these.

An expectation asks for metrics by name ("column.mean", "column_values.between.unexpected_count"). :class:`Metrics`
plans them: several metrics read one statistic, the statistics ride on the pass that a job makes anyway, and
:meth:`Metrics.value` gives, from their states, what Great Expectations' pandas engine (1.24) gives for the metric.

Great Expectations is not imported here, and pandas only where :meth:`Metrics.value` answers with one of its objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from featuremill.artifacts.errors import MissingColumnError, suggest
from featuremill.core.feature_recipe import FRAGMENT, ROW
from featuremill.core.quality.statistics.aggregates import Filtered, RowCounts
from featuremill.core.quality.statistics.column_metrics import READINGS, Reading, table_reading
from featuremill.core.quality.statistics.conditions import Condition
from featuremill.core.quality.statistics.domain import Domain
from featuremill.core.quality.statistics.failing_rows import Check, FailingRows
from featuremill.core.quality.statistics.metric import Metric, UnsupportedMetric
from featuremill.core.quality.statistics.occurrences import Occurrences
from featuremill.core.quality.statistics.pandas_values import frame, series_items, storage_items
from featuremill.core.quality.statistics.row_conditions import parse_row_condition
from featuremill.core.quality.statistics.row_metrics import ROWS_KEPT, RowMetric, row_metric
from featuremill.core.quality.statistics.samples import rows_of_list, sample_schema
from featuremill.transforms.contract import Analyzer, State

__all__ = ["Metric", "Metrics", "UnsupportedMetric"]

REASONS: Mapping[str, str] = {
    "column_values.increasing": "the order of rows is not known where they are read in parallel",
    "column_values.decreasing": "the order of rows is not known where they are read in parallel",
    "column_values.z_score": "the mean of all rows is needed before the first can be judged, which is a second pass",
    "column_values.not_outliers": "quartiles of all rows are needed before the first can be judged: a second pass",
    "column.outlier_statistics": "quartiles of all rows are needed before the first can be judged: a second pass",
    "column.partition": "a partition that is not given needs the extremes of all rows first: a second pass",
    "column.bootstrapped_ks_test_p_value": "it draws rows at random",
    "column.parameterized_distribution_ks_test_p_value": "it needs the sorted values of the whole column",
    "query": "a query needs a database",
    "base_query": "a query needs a database",
    "comparison_query": "a query needs a database",
    "unexpected_rows_query": "a query needs a database",
}
"""Why a metric, by the start of its name, cannot be had."""


class Metrics:
    """The plan for some metrics over rows of one schema. Picklable.

    Parameters
    ----------
    metrics
        What is asked.
    schema
        Of the rows (without ``_fragment`` and ``_row``).
    keys
        The columns that name a failing row; they are kept in its sample.
    sample
        How many failing rows are kept for each metric about single rows, at least.

    Raises
    ------
    UnsupportedMetric
        For a metric that one pass cannot give.
    MissingColumnError, ColumnTypeError, ParameterError
        For a metric of a column that is not there, or of a type that it cannot be asked of, or with wrong values.

    Examples
    --------
    >>> from featuremill.core.feature_recipe import numbered
    >>> from featuremill.core.quality.statistics.collector import Collector, merge_partials
    >>> late = Metric.of("column_values.between.unexpected_count", {"column": "delay"}, {"max_value": 60})
    >>> mean = Metric.of("column.mean", {"column": "delay"})
    >>> batch = pa.record_batch({"delay": pa.array([10, 90, None, 20])})
    >>> metrics = Metrics([late, mean], batch.schema)
    >>> collector = Collector(metrics.statistics)
    >>> collector.update(numbered(batch, "part-0", 0))
    >>> states = merge_partials(metrics.statistics, [collector.partials()])
    >>> metrics.value(late, states), metrics.value(mean, states)
    (1, 40.0)
    >>> metrics.sample_rows(late, states).to_pylist()
    [{'_fragment': 'part-0', '_row': 1, 'delay': 90}]
    >>> Metrics([Metric.of("column_values.increasing.unexpected_count", {"column": "delay"})], batch.schema)
    Traceback (most recent call last):
    ...
    featuremill.core.quality.statistics.metric.UnsupportedMetric: the order of rows is not known where they are read
    in parallel
    """

    def __init__(
        self, metrics: Iterable[Metric], schema: pa.Schema, *, keys: Sequence[str] = (), sample: int = 20
    ) -> None:
        self._schema = schema
        self._keys = tuple(keys)
        self._sample = sample
        for key in self._keys:
            if key not in schema.names:
                raise MissingColumnError(f"keys: there is no column {key!r}. {suggest(key, schema.names)}", column=key)
        asked = list(dict.fromkeys(metrics))
        self._rows = {m: r for m in asked if (r := row_metric(m, schema)) is not None}
        self._readings = {m: _reading(m, schema) for m in asked if m not in self._rows}
        self._failing = self._grouped()
        analyzers = [a for r in self._readings.values() for a in r.statistics]
        analyzers += [a for a, _ in self._failing.values()]
        if any(r.part == "unexpected_index_list" for r in self._rows.values()):
            analyzers.append(RowCounts())
        self._slots = {a: f"check-{i:04d}" for i, a in enumerate(dict.fromkeys(analyzers))}

    def __getstate__(self) -> Any:
        return list(self._rows) + list(self._readings), self._schema, self._keys, self._sample

    def __setstate__(self, state: Any) -> None:
        metrics, schema, keys, sample = state
        # The functions of the readings do not travel: they are made anew.
        Metrics.__init__(self, metrics, schema, keys=keys, sample=sample)

    @property
    def statistics(self) -> dict[str, Analyzer]:
        """What a pass over the rows has to collect, by slot.

        The batches have the columns of the schema and ``_fragment`` and ``_row``
        (:func:`~featuremill.core.feature_recipe.numbered`).
        """
        return {slot: analyzer for analyzer, slot in self._slots.items()}

    def value(self, metric: Metric, states: Mapping[str, State]) -> Any:
        """The metric's value: what Great Expectations' pandas engine gives for a data frame of all rows.

        Missing values are None. Where pandas makes floats of integers because a column has nulls, they stay integers.
        Sums, means and deviations are the correctly rounded ones; pandas' own may differ in the last digits.
        """
        if metric in self._rows:
            return self._row_value(metric, states)
        reading = self._readings[metric]
        return reading.value([states[self._slots[a]] for a in reading.statistics])

    def error_bound(self, metric: Metric, states: Mapping[str, State]) -> dict[str, Any]:
        """What is to be said of the value's exactness, for a result's ``meta``; empty where it is exact.

        ``rank_error``: by what share of the values a quantile may be off. ``rows_kept``: how many failing rows a list
        of all of them holds, where there are more.
        """
        if metric in self._rows:
            if (self._rows[metric].listed or 0) < ROWS_KEPT or self._count(metric, "failing", states) <= ROWS_KEPT:
                return {}
            return {"rows_kept": ROWS_KEPT}
        reading = self._readings[metric]
        return reading.bound([states[self._slots[a]] for a in reading.statistics])

    def sample_rows(self, metric: Metric, states: Mapping[str, State]) -> pa.Table:
        """The first failing rows of a metric about single rows: ``_fragment``, ``_row``, the keys, then its columns.

        Ordered by ``_fragment`` and ``_row``; at most `sample`, or as many as some metric of the condition lists.
        """
        columns = dict.fromkeys([FRAGMENT, ROW, *self._keys, *self._rows[metric].domain.columns])
        return self._kept(metric, states).select(list(columns))

    # --- metrics about single rows ---------------------------------------------------------------------------------

    def _grouped(self) -> dict[RowMetric, tuple[FailingRows | Occurrences, int]]:
        """For each metric about rows, the statistic that it reads, and which of its checks."""
        by_domain: dict[Domain, dict[Condition | None, list[RowMetric]]] = {}
        for row in self._rows.values():
            by_domain.setdefault(row.domain, {}).setdefault(row.condition, []).append(row)
        found: dict[RowMetric, tuple[FailingRows | Occurrences, int]] = {}
        for domain, conditions in by_domain.items():
            shown = [c for rows in conditions.values() for row in rows for c in row.shown]
            kept = sample_schema(self._schema, [*self._keys, *domain.columns, *shown])
            keep = {c: max(self._sample, *(row.listed or 0 for row in rows)) for c, rows in conditions.items()}
            checks = tuple(Check(c, keep[c]) for c in conditions if c is not None)
            for condition, rows in conditions.items():
                if condition is None:
                    statistic: FailingRows | Occurrences = Occurrences(domain.columns[0], domain, keep[None], kept)
                    found |= dict.fromkeys(rows, (statistic, 0))
                else:
                    position = [check.condition for check in checks].index(condition)
                    found |= dict.fromkeys(rows, (FailingRows(domain.columns[0], domain, checks, kept), position))
        return found

    def _kept(self, metric: Metric, states: Mapping[str, State]) -> pa.Table:
        statistic, check = self._failing[self._rows[metric]]
        return rows_of_list(states[self._slots[statistic]].column("sample"), check, statistic.kept)

    def _count(self, metric: Metric, name: str, states: Mapping[str, State]) -> int:
        statistic, check = self._failing[self._rows[metric]]
        return int(states[self._slots[statistic]].column(name)[check].as_py())

    def _row_value(self, metric: Metric, states: Mapping[str, State]) -> Any:
        row = self._rows[metric]
        if row.part == "unexpected_count":
            return self._count(metric, "failing", states)
        if row.part == "filtered_row_count":
            return self._count(metric, "rows", states)
        if row.part == "expected_count":
            return self._count(metric, "valid", states) - self._count(metric, "failing", states)
        if row.part == "unexpected_share":
            rows = self._count(metric, "rows", states)
            return self._count(metric, "failing", states) / rows if rows else 0
        kept = self._kept(metric, states).slice(0, self._sample if row.listed is None else row.listed)
        if row.part == "unexpected_values":
            return _values(row.domain, kept)
        if row.part == "unexpected_rows":
            return frame(kept.select(self._schema.names))
        if row.part == "unexpected_index_list":
            return self._index_list(row, kept, states)
        # The query names all failing rows, of which only the first are kept.
        return None

    def _index_list(self, row: RowMetric, kept: pa.Table, states: Mapping[str, State]) -> list[Any]:
        """The failing rows by their key columns, or by their numbers among all rows of the source."""
        if row.shown:
            names = list(dict.fromkeys([*row.domain.columns, *row.shown]))
            items = [series_items(kept.column(name)) for name in names]
            return [dict(zip(names, values, strict=True)) for values in zip(*items, strict=True)]
        state = states[self._slots[RowCounts()]]
        before, numbers = 0, {}
        for fragment, count in zip(*(state.column(c).to_pylist() for c in ("token", "count")), strict=True):
            numbers[fragment], before = before, before + count
        places = zip(*(kept.column(c).to_pylist() for c in (FRAGMENT, ROW)), strict=True)
        return [numbers[fragment] + number for fragment, number in places]


def _values(domain: Domain, kept: pa.Table) -> list[Any]:
    """Failing values: of one column as they are, of a pair as tuples, of more as dictionaries."""
    if len(domain.columns) == 1:
        return series_items(kept.column(domain.columns[0]))
    if domain.pair:
        return list(zip(*(storage_items(kept.column(c)) for c in domain.columns), strict=True))
    items = [series_items(kept.column(c)) for c in domain.columns]
    return [dict(zip(domain.columns, values, strict=True)) for values in zip(*items, strict=True)]


def _reading(metric: Metric, schema: pa.Schema) -> Reading:
    """How a metric of a whole table or column is read."""
    domain, reading = metric.domain, table_reading(metric.name, schema)
    if reading is None:
        if metric.name not in READINGS:
            raise UnsupportedMetric(_reason(metric.name), metric=metric.name)
        name = str(domain.get("column"))
        if name not in schema.names:
            raise MissingColumnError(f"there is no column {name!r}. {suggest(name, schema.names)}", column=name)
        reading = READINGS[metric.name](schema.field(name), metric.values)
    where = parse_row_condition(domain.get("row_condition"), domain.get("condition_parser"))
    if where is None or not reading.statistics:
        return reading
    where.check(schema)
    return replace(reading, statistics=tuple(Filtered(a.column, a, where) for a in reading.statistics))


def _reason(name: str) -> str:
    found = next((reason for start, reason in REASONS.items() if name.startswith(start)), None)
    return found or f"the metric {name!r} is not known here"

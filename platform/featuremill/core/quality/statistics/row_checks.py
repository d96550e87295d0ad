"""Checks of single rows, applied to batches: which rows fail, and which checks.

What quarantine needs: the conditions that are counted for expectations, as masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.core.quality.statistics.comparisons import valid_mask
from featuremill.core.quality.statistics.domain import Asked
from featuremill.core.quality.statistics.failing_rows import Held
from featuremill.core.quality.statistics.metric import Metric, UnsupportedMetric
from featuremill.core.quality.statistics.row_metrics import RowMetric, row_metric

__all__ = ["RowCheck", "RowChecks"]

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RowCheck:
    """One check of single rows, and what a row that fails it is told.

    Parameters
    ----------
    name
        Such as "expect_column_values_to_be_between(dep_delay)".
    metric
        The ``....unexpected_count`` metric of the condition.
    """

    name: str
    metric: Metric


class RowChecks:
    """Checks bound to the schema of the batches; for one thread.

    Parameters
    ----------
    checks
        The checks.
    schema
        Of the rows.

    Raises
    ------
    UnsupportedMetric
        For a metric that says nothing of a single row: uniqueness, a whole column's.
    MissingColumnError, ColumnTypeError, ParameterError
        For a request that cannot work.

    Examples
    --------
    >>> known = RowCheck("x is known", Metric.of("column_values.nonnull.unexpected_count", {"column": "x"}))
    >>> between = Metric.of("column_values.between.unexpected_count", {"column": "x"}, {"max_value": 9})
    >>> low = RowCheck("x is low", between)
    >>> batch = pa.record_batch({"x": [1, None, 10]})
    >>> checks = RowChecks([known, low], batch.schema)
    >>> checks.failing(batch).tolist()
    [False, True, True]
    >>> rows, names = checks.failed(batch)
    >>> rows.tolist(), names
    ([1, 2], [('x is known',), ('x is low',)])
    >>> RowChecks([RowCheck("x", Metric.of("column.mean", {"column": "x"}))], batch.schema)
    Traceback (most recent call last):
    ...
    featuremill.core.quality.statistics.metric.UnsupportedMetric: column.mean says nothing of a single row
    """

    def __init__(self, checks: Sequence[RowCheck], schema: pa.Schema) -> None:
        self._checks = {check: _bound(check, schema) for check in checks}

    def mask(self, check: RowCheck, batch: pa.RecordBatch) -> Bool:
        """Which rows of a batch fail one of the checks, shape (n_rows,) bool."""
        asked, held = self._checks[check]
        columns = {name: batch.column(name) for name in asked.domain.inputs}
        arrays = [columns[c] for c in asked.domain.columns]
        valid = valid_mask(arrays[0]) if len(arrays) == 1 else None
        assert asked.condition is not None  # for the type checker: uniqueness was refused
        holds = held.of(arrays) if asked.condition.drops_missing else None
        asked_of = Asked(asked.condition, batch.num_rows, holds, valid, asked.domain.mask(columns))
        found: Bool = asked_of.mask().to_numpy(zero_copy_only=False)
        return found

    def failing(self, batch: pa.RecordBatch) -> Bool:
        """Which rows fail any check, shape (n_rows,) bool."""
        failing = np.zeros(batch.num_rows, bool)
        for check in self._checks:
            failing |= self.mask(check, batch)
        return failing

    def failed(self, batch: pa.RecordBatch) -> tuple[npt.NDArray[np.int64], list[tuple[str, ...]]]:
        """The positions of the rows that fail, ascending, shape (n_failing,); and of each the names of its checks."""
        masks = np.array([self.mask(check, batch) for check in self._checks])
        rows = np.flatnonzero(masks.any(axis=0))
        # Few combinations of checks fail, however many rows do.
        combinations, of = np.unique(masks[:, rows], axis=1, return_inverse=True)
        names = [check.name for check in self._checks]
        told = [tuple(n for n, fails in zip(names, column, strict=True) if fails) for column in combinations.T]
        return rows, [told[i] for i in of.ravel().tolist()]


def _bound(check: RowCheck, schema: pa.Schema) -> tuple[RowMetric, Held]:
    asked = row_metric(check.metric, schema)
    if asked is None:
        raise UnsupportedMetric(f"{check.metric.name} says nothing of a single row", metric=check.metric.name)
    if asked.condition is None:
        raise UnsupportedMetric(
            f"{check.metric.name}: whether a row repeats another is known only when all rows have been read",
            metric=check.metric.name,
        )
    return asked, Held(asked.condition)

"""Quarantine: rows that fail a check are taken out and set aside, each with the names of the checks that it fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.core.quality.statistics.metrics import Metrics
from featuremill.core.quality.statistics.row_checks import RowCheck, RowChecks
from featuremill.transforms.artifact_cache import once_per_process
from featuremill.transforms.fragments import TransformedBatch
from featuremill.transforms.rejects import Reject

__all__ = ["Screen", "Taken", "kept_rows", "screened", "take_out"]


@dataclass(frozen=True)
class Screen:
    """Checks that cost a row its place. Small and picklable.

    Parameters
    ----------
    checks
        The checks, of single rows.
    schema
        Of the rows.
    """

    checks: tuple[RowCheck, ...]
    schema: pa.Schema

    @cached_property
    def columns(self) -> list[str]:
        """The columns that the checks read, in the order of the schema."""
        statistics = Metrics([check.metric for check in self.checks], self.schema).statistics
        read = {column for analyzer in statistics.values() for column in analyzer.inputs}
        return [name for name in self.schema.names if name in read]

    @property
    def _bound(self) -> RowChecks:
        bound: RowChecks = once_per_process((Screen, self), lambda: RowChecks(self.checks, self.schema))
        return bound

    def passing(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Which rows of a batch fail no check, shape (n_rows,) bool; for who needs no reasons."""
        return ~self._bound.failing(batch)

    def rejects(self, batch: pa.RecordBatch) -> list[Reject]:
        """The rows of a batch that fail a check, in their order."""
        rows, names = self._bound.failed(batch)
        told = {failed: ("; ".join(failed), self._column(failed)) for failed in set(names)}
        return [
            Reject(row, told[failed][0], column=told[failed][1], quarantined=True)
            for row, failed in zip(rows.tolist(), names, strict=True)
        ]

    def _column(self, failed: Sequence[str]) -> str | None:
        """The column that the first check is about, where it is about one."""
        domain = next(check.metric.domain for check in self.checks if check.name == failed[0])
        column = domain.get("column")
        return column if isinstance(column, str) else None


@dataclass(frozen=True)
class Taken:
    """Rows that were taken out of a batch, and why; one reject for each row."""

    rows: pa.RecordBatch
    rejects: Sequence[Reject]


def take_out(batch: pa.RecordBatch, rejects: Sequence[Reject]) -> tuple[pa.RecordBatch, Taken]:
    """The rows of a batch that stay, and those that go."""
    if not rejects:
        return batch, Taken(batch.slice(0, 0), ())
    taken = batch.take(pa.array([r.row for r in rejects], pa.int64()))
    return batch.take(pa.array(kept_rows(batch.num_rows, rejects))), Taken(taken, rejects)


def kept_rows(rows: int, rejects: Sequence[Reject]) -> npt.NDArray[np.int64]:
    """The positions of the rows that were not set aside, of `rows`; ascending, shape (n_kept,) int64.

    >>> kept_rows(4, [Reject(1, "bad"), Reject(2, "bad")]).tolist()
    [0, 3]
    """
    keep = np.ones(rows, bool)
    keep[[r.row for r in rejects]] = False
    return np.flatnonzero(keep)


def screened(item: TransformedBatch, screen: Screen | None) -> TransformedBatch:
    """What became of a batch, after rows whose result fails a check were set aside too."""
    failing = [] if screen is None else screen.rejects(item.result)
    if not failing:
        return item
    read = kept_rows(item.read.num_rows, item.rejects)
    keep = pa.array(kept_rows(item.result.num_rows, failing))
    more = [Reject(int(read[r.row]), r.reason, column=r.column, quarantined=True) for r in failing]
    rejects = sorted([*item.rejects, *more], key=lambda r: r.row)
    aside = pa.array([r.row for r in rejects], pa.int64())
    return TransformedBatch(
        item.read, item.source.take(keep), item.result.take(keep), item.read.take(aside), tuple(rejects)
    )

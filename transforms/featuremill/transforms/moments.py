"""The moments of a column: how many values, their mean and variance, the smallest and the largest.

The sums are exact (see :mod:`featuremill.transforms.exact`), so the mean and the variance are the correctly rounded
ones of the data, in whatever batches it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.transforms.contract import Analyzer, State
from featuremill.transforms.exact import exact_sums, from_bytes, mean, to_bytes, variance
from featuremill.transforms.floats import numbers_by_position

__all__ = ["Moments"]

_COUNTS = [("nulls", pa.int64()), ("nans", pa.int64()), ("infinities", pa.int64())]

PARTIAL = pa.schema([
    ("count", pa.int64()), ("total", pa.large_binary()), ("squares", pa.large_binary()),
    ("min", pa.float64()), ("max", pa.float64()), *_COUNTS,
])
"""A partial: one row, or one per position. The exact sums are whole numbers as bytes."""

STATE = pa.schema([
    ("count", pa.int64()), ("mean", pa.float64()), ("variance", pa.float64()),
    ("min", pa.float64()), ("max", pa.float64()), *_COUNTS,
])
"""A state: one row, or one per position."""


@dataclass
class _Tally:
    """What is known of one position."""

    count: int = 0
    total: int = 0
    squares: int = 0
    min: float | None = None
    max: float | None = None
    nulls: int = 0
    nans: int = 0
    infinities: int = 0

    def update(self, values: npt.NDArray[np.float64], nulls: int) -> None:
        self.nulls += nulls
        if not len(values):
            return
        low, high = float(values.min()), float(values.max())
        if not (isfinite(low) and isfinite(high)):
            nans = int(np.count_nonzero(np.isnan(values)))
            kept = values[np.isfinite(values)]
            self.nans += nans
            self.infinities += len(values) - len(kept) - nans
            self.update(kept, 0)
            return
        total, squares = exact_sums(values)
        # Adding 0.0 turns -0.0 into 0.0: which of them is the smallest would depend on the order.
        self.add(_Tally(len(values), total, squares, low + 0.0, high + 0.0))

    def add(self, other: _Tally) -> None:
        if other.count:
            self.min = other.min if self.min is None else min(self.min, other.min)  # type: ignore[type-var]
            self.max = other.max if self.max is None else max(self.max, other.max)  # type: ignore[type-var]
        self.count += other.count
        self.total += other.total
        self.squares += other.squares
        self.nulls += other.nulls
        self.nans += other.nans
        self.infinities += other.infinities


@dataclass
class _MomentsAccumulator:
    elementwise: bool
    tallies: list[_Tally] = field(default_factory=list)

    def update(self, array: pa.Array) -> None:
        if self.elementwise and not len(array):
            return
        for position, (values, nulls) in enumerate(numbers_by_position(array, self.elementwise)):
            if position == len(self.tallies):
                self.tallies.append(_Tally())
            self.tallies[position].update(values, nulls)

    def partial(self) -> pa.Table:
        return _table(self.tallies or ([] if self.elementwise else [_Tally()]))


def _table(tallies: Sequence[_Tally]) -> pa.Table:
    rows = [vars(t) | {"total": to_bytes(t.total), "squares": to_bytes(t.squares)} for t in tallies]
    return pa.Table.from_pylist(rows, schema=PARTIAL)


def _tallies(partial: pa.Table) -> list[_Tally]:
    rows = partial.to_pylist()
    return [_Tally(**row | {"total": from_bytes(row["total"]), "squares": from_bytes(row["squares"])}) for row in rows]


@dataclass(frozen=True)
class Moments(Analyzer):
    """Count, mean, population variance, smallest and largest value of a numeric column.

    Statistics skip null, NaN and infinite values and count them. Integers beyond 2**53 and decimals are taken as the
    nearest float64.

    Parameters
    ----------
    column
        Numbers, or lists of them (the values of all lists together).
    elementwise
        For a fixed-size list: statistics for each position, one row each. Rows of no data have no positions.

    Examples
    --------
    >>> accumulator = Moments("x").accumulator()
    >>> accumulator.update(pa.array([1.0, 2.0, 3.0, None, float("nan")]))
    >>> Moments("x").finish(accumulator.partial()).to_pylist()[0]["variance"]
    0.6666666666666666
    """

    elementwise: bool = False

    def accumulator(self) -> _MomentsAccumulator:
        return _MomentsAccumulator(self.elementwise)

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        merged: list[_Tally] = []
        for partial in partials:
            for position, tally in enumerate(_tallies(partial)):
                if position == len(merged):
                    merged.append(_Tally())
                merged[position].add(tally)
        return _table(merged)

    def finish(self, partial: pa.Table) -> State:
        rows = []
        for tally in _tallies(partial):
            row = vars(tally)
            row["mean"] = mean(tally.total, tally.count)
            row["variance"] = variance(tally.total, tally.squares, tally.count)
            rows.append(row)
        return pa.Table.from_pylist(rows, schema=STATE)

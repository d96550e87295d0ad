"""The exact sum of a column and of its squares, for sums, means and deviations that do not depend on any order.

Integers add up as integers, everything else as :mod:`featuremill.transforms.exact` adds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from featuremill.core.quality.statistics.comparisons import plain
from featuremill.transforms.arrays import to_float64
from featuremill.transforms.contract import Accumulator, Analyzer, State
from featuremill.transforms.exact import UNIT, exact_sums, from_bytes, mean, to_bytes, variance

__all__ = ["Sums", "deviation_of", "mean_of", "sum_of"]

SUMS = pa.schema([
    ("count", pa.int64()), ("total", pa.large_binary()), ("squares", pa.large_binary()), ("scale", pa.int32()),
    ("plus", pa.int64()), ("minus", pa.int64()),
])
"""Of :class:`Sums`: the exact sums as whole numbers, of floats (`scale` null) in units of ``2**-1074``.

``plus`` and ``minus`` count infinite values."""


@dataclass
class _SumsTally:
    count: int = 0
    total: int = 0
    squares: int = 0
    scale: int | None = None
    plus: int = 0
    minus: int = 0

    def update(self, array: pa.Array) -> None:
        array = plain(array)
        if pt.is_integer(array.type) or pt.is_boolean(array.type):
            self._integers(array)
        else:
            self._floats(array)

    def _integers(self, array: pa.Array) -> None:
        self.scale = 0
        values = np.asarray(array.drop_null().cast(pa.uint8()) if pt.is_boolean(array.type) else array.drop_null())
        if not len(values):
            return
        self.count += len(values)
        bound = max(abs(int(values.min())), abs(int(values.max())))
        self.total += _exact_sum(values, bound)
        self.squares += _exact_squares(values, bound)

    def _floats(self, array: pa.Array) -> None:
        values, valid = to_float64(array)
        if valid is not None:
            values = values[valid]
        if len(values) and not np.isfinite(values.sum()):
            self.plus += int(np.count_nonzero(values == inf))
            self.minus += int(np.count_nonzero(values == -inf))
            values = values[np.isfinite(values)]
        total, squares = exact_sums(values)
        self.count += len(values)
        self.total += total
        self.squares += squares

    def add(self, row: Mapping[str, Any]) -> None:
        self.count += row["count"]
        self.total += from_bytes(row["total"])
        self.squares += from_bytes(row["squares"])
        self.scale = row["scale"] if self.scale is None else self.scale
        self.plus += row["plus"]
        self.minus += row["minus"]

    def partial(self) -> pa.Table:
        row = {"total": to_bytes(self.total), "squares": to_bytes(self.squares), "scale": self.scale}
        row |= {"count": self.count, "plus": self.plus, "minus": self.minus}
        return pa.Table.from_pylist([row], schema=SUMS)


def _exact_sum(values: npt.NDArray[Any], bound: int) -> int:
    """The sum of integers of at most `bound`, as 64-bit sums of their halves where it might overflow."""
    if bound * len(values) < 1 << 63:
        return int(values.sum(dtype=np.int64))
    return sum(int(limb.sum()) << shift for shift, limb in _limbs(values, 2, 32))


def _exact_squares(values: npt.NDArray[Any], bound: int) -> int:
    """The sum of squares of integers of at most `bound`, as 64-bit sums of products of their limbs where need be.

    A dot product of integers runs in one thread, while one of floats starts others that cost more than they save.
    """
    if bound * bound * len(values) < 1 << 63:
        wide = values.astype(np.int64)
        return int(np.dot(wide, wide))
    limbs = _limbs(values, 4, 16)
    return sum(int(np.dot(one, other)) << i + j for i, one in limbs for j, other in limbs)


def _limbs(values: npt.NDArray[Any], number: int, bits: int) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """Integers as sums of limbs times powers of two, the last one with the sign: ``(power, limb)``."""
    kind = np.uint64 if values.dtype.kind == "u" else np.int64
    wide, mask = values.astype(kind), kind((1 << bits) - 1)
    cut = [(bits * i, ((wide >> kind(bits * i)) & mask).astype(np.int64)) for i in range(number - 1)]
    last = bits * (number - 1)
    return [*cut, (last, (wide >> kind(last)).astype(np.int64))]


@dataclass(frozen=True)
class Sums(Analyzer):
    """The sum of a numeric column and the sum of its squares, both exact; nulls and NaN are skipped.

    Decimals are taken as the nearest float64. Infinite values are only counted (``plus``, ``minus``).
    """

    def accumulator(self) -> Accumulator:
        return _SumsTally()

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        merged = _SumsTally()
        for partial in partials:
            for row in partial.to_pylist():
                merged.add(row)
        return merged.partial()

    def finish(self, partial: pa.Table) -> State:
        return partial


def mean_of(state: State) -> float | None:
    """The mean, correctly rounded; None for no values; with infinite values one of them, or NaN for both kinds."""
    row = state.to_pylist()[0]
    if row["plus"] or row["minus"]:
        return float(sum_of(state))
    count, total = row["count"], from_bytes(row["total"])
    if row["scale"] is None:
        return mean(total, count)
    return total / count if count else None


def deviation_of(state: State) -> float | None:
    """The sample standard deviation (divided by n - 1); None for fewer than two values, NaN for infinite ones."""
    row = state.to_pylist()[0]
    if row["plus"] or row["minus"]:
        return nan
    count, total, squares = row["count"], from_bytes(row["total"]), from_bytes(row["squares"])
    if count < 2:
        return None
    if row["scale"] is None:
        spread = variance(total, squares, count) or 0.0
        return inf if spread == inf else sqrt(spread * count / (count - 1))
    return sqrt((count * squares - total * total) / (count * (count - 1)))


def sum_of(state: State) -> Any:
    """The sum: an integer of integers, else the nearest float64; 0 for no values."""
    row = state.to_pylist()[0]
    if row["plus"] or row["minus"]:
        return nan if row["plus"] and row["minus"] else (inf if row["plus"] else -inf)
    total = from_bytes(row["total"])
    return total if row["scale"] is not None else total / (1 << UNIT)

"""Counting small whole numbers in a vector: what most columns of counts, ages, flags and indices hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SmallNumbers", "whole_of"]

Int64 = npt.NDArray[np.int64]

LIMIT = 1 << 18
"""Whole numbers from -LIMIT up to below LIMIT are small (4 MiB of counts at most)."""

_DENSE = 16
"""The vector may be so many times as long as there are values."""

_STRAY = 8
"""Numbers are not counted here where more than this part of them is not small."""

_PROBE = 64
_STEP = 1024


def whole_of(values: Any) -> Int64 | None:
    """Finite numbers as int64; None where one of them is not whole, or too large for it.

    >>> whole_of(np.array([1.0, -0.0])).tolist(), whole_of(np.array([1.5]))
    ([1, 0], None)
    """
    if values.dtype == np.int64:
        found: Int64 = values
        return found
    if not np.array_equal(np.rint(values[:_PROBE]), values[:_PROBE]):
        return None
    with np.errstate(invalid="ignore"):
        found = values.astype(np.int64)
    return found if np.array_equal(found, values) else None


class SmallNumbers:
    """Counts of small whole numbers.

    >>> small = SmallNumbers()
    >>> rest, nulls = small.add(np.array([0, 2, 2, 1 << 40] * 4), 1, 0, 1 << 40)
    >>> small.taken()
    (array([], dtype=int64), array([], dtype=int64))
    >>> small.add(np.array([0.0, 2.0, 2.0]), 1, 0.0, 2.0)
    (array([], dtype=float64), 0)
    >>> small.taken()
    (array([2]), array([2]))
    """

    def __init__(self) -> None:
        self._start = 0
        self._counts: Int64 = np.zeros(0, np.int64)
        self._suited = True

    def add(self, values: Any, nulls: int, low: float, high: float) -> tuple[Any, int]:
        """Count what is small of finite values, of which so many zeros are none.

        Returns
        -------
        The values that are left to be counted elsewhere, shape (n,), and how many zeros of these are none.
        """
        first, last = max(low, -LIMIT), min(high, LIMIT - 1)
        if not self._suited or not 0 <= last - first < _DENSE * len(values):
            return values, nulls
        inner, rest = values, values[:0]
        if first > low or last < high:
            inner = np.clip(values, first, last)
            rest = values[values != inner]
        whole = whole_of(inner) if _STRAY * len(rest) <= len(values) else None
        if whole is None:
            self._suited = False
            return values, nulls
        self._cover(int(first), int(last))
        found = np.bincount(whole - self._start if self._start else whole)
        found[int(first) - self._start] -= int(np.count_nonzero(rest < first))
        found[int(last) - self._start] -= int(np.count_nonzero(rest > last))
        if nulls:
            found[-self._start] -= nulls
        self._counts[: len(found)] += found
        return rest, 0

    def _cover(self, first: int, last: int) -> None:
        start, end = self._start, self._start + len(self._counts)
        if len(self._counts) and start <= first and last < end:
            return
        new = min(start, first // _STEP * _STEP)
        length = 1 << max(last + 1 - new, end - new, _STEP - 1).bit_length()
        counts = np.zeros(length, np.int64)
        counts[start - new : end - new] = self._counts
        self._start, self._counts = new, counts

    def taken(self) -> tuple[Int64, Int64]:
        """The distinct numbers, ascending, and how often each was counted since this was asked last."""
        places = np.flatnonzero(self._counts != 0)
        counts = self._counts[places]
        self._counts[places] = 0
        return places + self._start, counts

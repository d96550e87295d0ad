"""What a profile knows of numbers, gathered from batches.

One vector of bins (:class:`~featuremill.core.quality.prefix_counts.PrefixCounts`) gives quantiles, histogram, sketch
and, while every bin is one distinct value, also the sums, the distinct count and the most frequent values. Past that
many distinct values the sums are added up exactly (:mod:`featuremill.transforms.exact`) and distinct values are
estimated from hashes. Nothing here depends on how the rows were cut.
"""

from __future__ import annotations

from math import isfinite, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featuremill.core.quality.distribution import Distribution
from featuremill.core.quality.prefix_counts import PrefixCounts, Smallest
from featuremill.core.quality.profile import QUANTILES, Histogram, NumberProfile, Sketch
from featuremill.transforms.exact import UNIT, exact_sums, from_bytes, mean, to_bytes, variance
from featuremill.transforms.histogram import from_keys, to_keys
from featuremill.transforms.token_index import hash_values

__all__ = ["MAX_BINS", "NumberTally"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

MAX_BINS = 4096
"""Up to so many distinct values everything is exact."""

HASHES = 2048
"""Hashes kept for the number of distinct values beyond that: a relative standard error of 2.2 %."""

SKETCH_BINS = 128
DRAWN_BINS = 40

_SIGN = np.uint64(1 << 63)
_ROUNDED = 1 << 53
_INT64 = 1 << 63

SCHEMA = pa.schema([
    ("nulls", pa.int64()), ("nans", pa.int64()), ("infinities", pa.int64()), ("zeros", pa.int64()),
    ("min", pa.uint64()), ("max", pa.uint64()), ("total", pa.large_binary()), ("squares", pa.large_binary()),
    ("bits", pa.int64()), ("keys", pa.large_list(pa.uint64())), ("counts", pa.large_list(pa.int64())),
    ("hashes", pa.large_list(pa.uint64())),
])
"""A partial and a state, one row. Smallest, largest and bins are order-preserving keys; the sums, in units of 2**-1074
and its square, are of the values that are not in bins of one distinct value each."""


class NumberTally:
    """The numbers of a column.

    Parameters
    ----------
    whole
        Whether they are whole numbers, int64, whose keys are the numbers themselves; otherwise float64.
    """

    def __init__(self, whole: bool) -> None:
        self.whole = whole
        self.nulls = self.nans = self.infinities = self.zeros = 0
        self._min: int | None = None
        self._max: int | None = None
        self._total = self._squares = 0
        self._counts = PrefixCounts(MAX_BINS)
        self._hashes = Smallest(HASHES)

    def update(self, values: Int64 | Float64, nulls: int = 0) -> None:
        """Take in values, shape (n,) of the tally's type, and so many nulls."""
        self.nulls += nulls
        if not len(values):
            return
        low, high = values.min(), values.max()
        if not (self.whole or (isfinite(low) and isfinite(high))):
            nans = int(np.count_nonzero(np.isnan(values)))
            kept = values[np.isfinite(values)]
            self.nans += nans
            self.infinities += len(values) - len(kept) - nans
            self.update(kept)
            return
        keys = self._keys(values)
        zeros = len(values) - int(np.count_nonzero(values))
        if zeros:
            # Counted apart: the keys of floats above and below zero are far away from that of zero.
            self.zeros += zeros
            self._counts.add_counts(np.array([_SIGN]), np.array([zeros]), 64)
            keys = keys[keys != _SIGN]
        ends = self._keys(np.array([low, high], values.dtype)).tolist()
        self._reach(*ends)
        if not self._counts.add(keys):
            self._sum(values, max(-int(low), int(high)) if self.whole else None)
            self._hashes.add(hash_values(pa.array(keys)))

    def _reach(self, low: int, high: int) -> None:
        self._min = low if self._min is None else min(low, self._min)
        self._max = high if self._max is None else max(high, self._max)

    def _keys(self, values: Any) -> UInt64:
        return values.view(np.uint64) ^ _SIGN if self.whole else to_keys(values)

    def _values(self, keys: UInt64) -> Int64 | Float64:
        return (keys ^ _SIGN).view(np.int64) if self.whole else from_keys(keys)

    def _sum(self, values: Any, largest: int | None) -> None:
        # Beyond 2**53 whole numbers count as the nearest float64, wherever they are added up.
        if largest is not None and largest <= _ROUNDED and largest * largest * len(values) < _INT64:
            self._total += int(values.sum()) << UNIT
            self._squares += int(np.dot(values, values)) << 2 * UNIT
            return
        total, squares = exact_sums(values.astype(np.float64, copy=False))
        self._total += total
        self._squares += squares

    def _settle(self) -> None:
        """Add up what was known in full by its bins, and is not any more."""
        for keys, counts in self._counts.spilled():
            total, squares = self._weighted(keys, counts)
            self._total += total
            self._squares += squares
            self._hashes.add(hash_values(pa.array(keys)))

    def _weighted(self, keys: UInt64, counts: Int64) -> tuple[int, int]:
        """The exact sums of distinct values that occur so often: one sum for each binary digit of the counts."""
        values = self._values(keys).astype(np.float64, copy=False)
        total = squares = 0
        for bit in range(int(counts.max()).bit_length() if len(counts) else 0):
            part = exact_sums(values[(counts >> bit) & 1 == 1])
            total += part[0] << bit
            squares += part[1] << bit
        return total, squares

    def table(self) -> pa.Table:
        """What was taken in, one row of :data:`SCHEMA`."""
        self._settle()
        keys, counts = self._counts.bins()
        row = {
            "nulls": self.nulls, "nans": self.nans, "infinities": self.infinities, "zeros": self.zeros,
            "min": self._min, "max": self._max, "total": to_bytes(self._total), "squares": to_bytes(self._squares),
            "bits": self._counts.bits, "keys": keys, "counts": counts, "hashes": self._hashes.hashes(),
        }
        return pa.Table.from_pylist([row], schema=SCHEMA)

    def absorb(self, table: pa.Table) -> None:
        """Take in what another tally left."""
        row = {name: table.column(name)[0] for name in table.column_names}
        scalars = {name: row[name].as_py() for name in ("nulls", "nans", "infinities", "zeros", "min", "max", "bits")}
        self.nulls += scalars["nulls"]
        self.nans += scalars["nans"]
        self.infinities += scalars["infinities"]
        self.zeros += scalars["zeros"]
        if scalars["min"] is not None:
            self._reach(scalars["min"], scalars["max"])
        self._total += from_bytes(row["total"].as_py())
        self._squares += from_bytes(row["squares"].as_py())
        keys, counts, hashes = (row[name].values.to_numpy() for name in ("keys", "counts", "hashes"))
        self._counts.add_counts(keys, counts, scalars["bits"])
        self._hashes.add(hashes)

    # --- what is read from it ---------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many finite numbers there are."""
        return int(self._counts.bins()[1].sum())

    @property
    def rows(self) -> int:
        """How many values came, nulls and all."""
        return self.count + self.nulls + self.nans + self.infinities

    @property
    def ends(self) -> tuple[int | float, int | float] | None:
        """The smallest and the largest finite number; None without any."""
        if self._min is None or self._max is None:
            return None
        low, high = self._values(np.array([self._min, self._max], np.uint64)).tolist()
        return low, high

    def distinct(self) -> tuple[int, float]:
        """How many different finite numbers there are, and the relative standard error of that."""
        self._settle()
        return (len(self._counts.bins()[0]), 0.0) if self._counts.bits == 64 else self._hashes.distinct()

    def moments(self) -> tuple[float | None, float | None]:
        """Mean and standard deviation of the population, of the correctly rounded variance."""
        self._settle()
        total, squares, count = self._total, self._squares, self.count
        if self._counts.bits == 64:
            total, squares = self._weighted(*self._counts.bins())
        spread = variance(total, squares, count)
        return mean(total, count), None if spread is None else sqrt(spread)

    def most_frequent(self, most: int) -> tuple[list[tuple[int | float, int]], bool]:
        """The most frequent numbers with their counts, and whether those are all; none where bins hold several."""
        keys, counts = self._counts.bins()
        if self._counts.bits < 64:
            return [], False
        order = np.lexsort((keys, -counts))[:most]
        return list(zip(self._values(keys[order]).tolist(), counts[order].tolist(), strict=True)), len(keys) <= most

    def distribution(self) -> Distribution:
        """The bins as values."""
        keys, counts = self._counts.bins()
        last = np.uint64((1 << 64 - self._counts.bits) - 1)
        low, high = self._values(keys), self._values(keys | last)
        if self.ends is not None:
            # The outermost bins reach beyond the data, where floats end even to NaN.
            low, high = np.fmax(low, self.ends[0]), np.fmin(high, self.ends[1])
        if last and self.zeros:
            low, high, counts = self._zero_apart(keys, low, high, counts)
        return Distribution(low, high, counts)

    def _zero_apart(self, keys: UInt64, low: Any, high: Any, counts: Int64) -> tuple[Any, Any, Int64]:
        """The bins with a step at zero, which often is a large one, and the rest of its bin behind it."""
        place = int(np.searchsorted(keys, _SIGN))
        rest = int(counts[place]) - self.zeros
        if rest:
            low, high, counts = (np.insert(a, place, 0) for a in (low, high, counts))
            counts[place], counts[place + 1] = self.zeros, rest
            low[place + 1] = self._values(np.array([_SIGN | np.uint64(1)]))[0]
        else:
            high[place] = 0
        return low, high, counts

    def profile(self) -> NumberProfile:
        """The numbers as a profile holds them."""
        bins = self.distribution()
        quantiles, rank_error = bins.quantiles(QUANTILES)
        average, deviation = self.moments()
        sketch = bins.regrouped(SKETCH_BINS)
        keys, counts = self._counts.bins()
        low, high = self.ends or (None, None)
        return NumberProfile(
            nans=self.nans, infinities=self.infinities, zeros=self.zeros,
            negatives=int(counts[keys < _SIGN].sum()),
            min=low, max=high,
            mean=average if average is None or isfinite(average) else None,
            std=deviation if deviation is None or isfinite(deviation) else None,
            quantiles=tuple(zip(QUANTILES, quantiles, strict=False)),
            rank_error=rank_error,
            histogram=_drawn(bins, dict(zip(QUANTILES, quantiles, strict=False))),
            sketch=Sketch(tuple(sketch.low.tolist()), tuple(sketch.high.tolist()), tuple(sketch.counts.tolist())),
        )


def _drawn(bins: Distribution, quantiles: dict[float, int | float]) -> Histogram:
    """The histogram for people; one bin for each whole number where these are few."""
    if not len(bins.counts):
        return Histogram((), ())
    low, high = bins.low[0].item(), bins.high[-1].item()
    edges: list[int | float]
    if low == high:
        return Histogram((low, high), (bins.count,))
    if isinstance(low, int) and high - low < DRAWN_BINS:
        edges = list(range(low, high + 2))
    else:
        # Halved, so that the range from the smallest to the largest float does not overflow.
        inner = (2 * np.linspace(quantiles[0.01] / 2, quantiles[0.99] / 2, DRAWN_BINS - 1)).tolist()
        edges = [low, *sorted({e for e in inner if low < e < high}), high]
    reached = np.floor(bins.below(np.array(edges[1:-1], np.float64))).astype(np.int64)
    counts = np.diff(reached, prepend=0, append=bins.count)
    return Histogram(tuple(edges), tuple(counts.tolist()))


def numbers_of(array: pa.Array) -> Int64 | Float64:
    """The numbers of an array without nulls: int64 where its type is whole, else float64."""
    if pa.types.is_boolean(array.type) or (pa.types.is_integer(array.type) and not pa.types.is_int64(array.type)):
        array = array.cast(pa.int64() if not pa.types.is_uint64(array.type) else pa.float64(), safe=False)
    elif not pa.types.is_int64(array.type) and not pa.types.is_float64(array.type):
        array = pc.cast(array, pa.float64(), safe=False)
    values: Int64 | Float64 = array.to_numpy(zero_copy_only=False)
    return values

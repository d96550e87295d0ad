"""What a profile knows of numbers, gathered from batches.

One vector of bins (:class:`~featuremill.core.quality.profiles.prefix_counts.PrefixCounts`) gives quantiles, histogram,
sketch and, while every bin is one distinct value, also the sums, the distinct count and the most frequent values. Past
that many distinct values the sums are added up exactly (:mod:`featuremill.transforms.exact`) and distinct values are
estimated from hashes. Nothing here depends on how the rows were cut.

How a batch is counted is a matter of speed alone, and there are three ways. Small whole numbers, of whatever type, are
counted in a vector, which costs two nanoseconds each. Values that repeat are counted by Arrow's hash table, so that
what costs more is done for distinct ones. All others go one by one: hashing those would cost more than it saves.
Where rows are null there are zeros meanwhile, which are taken out of the count again: leaving rows out is slower than
counting them.
"""

from __future__ import annotations

from math import isfinite, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featuremill.core.quality.profiles.distribution import Distribution
from featuremill.core.quality.profiles.prefix_counts import PrefixCounts, Smallest
from featuremill.core.quality.profiles.profile import QUANTILES, Histogram, NumberProfile, Sketch
from featuremill.core.quality.profiles.slots import zeroed
from featuremill.core.quality.profiles.small_numbers import SmallNumbers, whole_of
from featuremill.transforms.exact import UNIT, exact_sums, from_bytes, mean, to_bytes, variance
from featuremill.transforms.histogram import from_keys, to_keys
from featuremill.transforms.token_index import hash_values

__all__ = ["MAX_BINS", "NumberTally"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]

MAX_BINS = 4096
"""Up to so many distinct values everything is exact."""

HASHES = 2048
"""Hashes kept for the number of distinct values beyond that: a relative standard error of 2.2 %."""

SKETCH_BINS = 128
DRAWN_BINS = 40

_SAMPLE = 1 << 13
"""Values that are looked at to see whether they repeat: whether at most half of them are different."""

_MANY = 4
"""Values do not repeat enough to be hashed where more than this part of a batch is different."""

_SPILLED = 1 << 16
"""So many values, cut to prefixes since they were counted, wait to be added up."""

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
        self.nulls = self.nans = self.infinities = self._zeros = 0
        self._min: int | None = None
        self._max: int | None = None
        self._total = self._squares = 0
        self._counts = PrefixCounts(MAX_BINS)
        self._hashes = Smallest(HASHES)
        self._small = SmallNumbers()
        self._repeats: bool | None = None
        """Whether values come often enough to be counted by hashing; None: not known yet."""

    def update(self, values: Int64 | Float64 | Float32, valid: Bool | None = None) -> None:
        """Take in values, shape (n,), int64 for whole numbers, else floats; `valid` says which are not null."""
        nulls = 0 if valid is None else len(values) - int(np.count_nonzero(valid))
        self.nulls += nulls
        if len(values) == nulls:
            return
        if nulls and valid is not None:
            values = zeroed(values, valid)
        low, high = values.min().item(), values.max().item()
        if not (self.whole or (isfinite(low) and isfinite(high))):
            self.nans += int(np.count_nonzero(np.isnan(values)))
            self.infinities += int(np.count_nonzero(np.isinf(values)))
            finite = np.isfinite(values)
            self._take(values[finite if valid is None else finite & valid], 0)
        else:
            self._take(values, nulls, (low, high))

    def _take(self, values: Any, nulls: int, ends: tuple[int | float, int | float] | None = None) -> None:
        """Take in finite values, of which so many zeros are none; `ends` are the smallest and the largest."""
        if not len(values):
            return
        low, high = ends or (values.min().item(), values.max().item())
        values, nulls = self._small.add(values, nulls, low, high)
        if not len(values):
            return
        if self._repeat(values):
            self._count(values, nulls)
        else:
            self._add(values, nulls)

    def _repeat(self, values: Any) -> bool:
        if len(values) <= _SAMPLE:
            return True
        if self._repeats is None:
            self._repeats = 2 * pc.count_distinct(pa.array(values[:_SAMPLE])).as_py() <= _SAMPLE
        return self._repeats

    def _count(self, values: Any, nulls: int) -> None:
        """Take in values by way of their distinct ones."""
        found = pc.value_counts(pa.array(values))
        if len(values) > _SAMPLE and _MANY * len(found) > len(values):
            self._repeats = False
        keys, counts = self._keys(found.field("values").to_numpy()), found.field("counts").to_numpy()
        if nulls:
            zero = np.flatnonzero(keys == _SIGN)
            counts = counts.copy()
            # There may be two, of either sign.
            for place in zero:
                taken = min(nulls, int(counts[place]))
                counts[place] -= taken
                nulls -= taken
            keys, counts = keys[counts > 0], counts[counts > 0]
        self._counted(keys, counts)

    def _counted(self, keys: UInt64, counts: Int64) -> None:
        """Take in keys, and how often each occurs."""
        if not len(keys):
            return
        self._zeros += int(counts[keys == _SIGN].sum())
        self._reach(int(keys.min()), int(keys.max()))
        self._counts.add_counts(keys, counts, 64)
        if self._counts.spilling > _SPILLED:
            self._add_up()

    def _add(self, values: Any, nulls: int) -> None:
        """Take in values one by one."""
        keys = self._keys(values)
        zeros = len(values) - int(np.count_nonzero(values))
        if zeros:
            # Counted apart: the keys of floats above and below zero are far away from that of zero.
            if zeros > nulls:
                self._counted(np.array([_SIGN]), np.array([zeros - nulls]))
            keys = keys[keys != _SIGN]
        if not len(keys):
            return
        self._reach(int(keys.min()), int(keys.max()))
        if not self._counts.add(keys):
            self._sum(values)
            self._hashes.add(hash_values(pa.array(keys)))

    def _reach(self, low: int, high: int) -> None:
        self._min = low if self._min is None else min(low, self._min)
        self._max = high if self._max is None else max(high, self._max)

    def _keys(self, values: Any) -> UInt64:
        return values.view(np.uint64) ^ _SIGN if self.whole else to_keys(values.astype(np.float64, copy=False))

    def _values(self, keys: UInt64) -> Int64 | Float64:
        return (keys ^ _SIGN).view(np.int64) if self.whole else from_keys(keys)

    def _sum(self, values: Any) -> None:
        # Beyond 2**53 whole numbers count as the nearest float64, wherever they are added up.
        if self.whole and _fit(values, len(values)):
            self._total += int(values.sum()) << UNIT
            self._squares += int(np.dot(values, values)) << 2 * UNIT
            return
        total, squares = exact_sums(values.astype(np.float64, copy=False))
        self._total += total
        self._squares += squares

    def _settle(self) -> None:
        """Bring what was counted apart to where it is read."""
        values, counts = self._small.taken()
        if len(values):
            self._counted(self._keys(values if self.whole else values.astype(np.float64)), counts)
        self._add_up()

    def _add_up(self) -> None:
        """Add up what was known in full by its bins, and is not any more."""
        spilled = self._counts.spilled()
        if spilled:
            keys, counts = (np.concatenate(parts) for parts in zip(*spilled, strict=True))
            total, squares = self._weighted(keys, counts)
            self._total += total
            self._squares += squares
            self._hashes.add(hash_values(pa.array(keys)))

    def _weighted(self, keys: UInt64, counts: Int64) -> tuple[int, int]:
        """The exact sums of distinct values that occur so often: one sum for each binary digit of the counts."""
        values: Any = self._values(keys)
        if not self.whole:
            whole = whole_of(values)
            values = values if whole is None else whole
        if values.dtype == np.int64 and len(values) and _fit(values, int(counts.sum())):
            weighted = values * counts
            return int(weighted.sum()) << UNIT, int(np.dot(weighted, values)) << 2 * UNIT
        values = values.astype(np.float64, copy=False)
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
            "nulls": self.nulls, "nans": self.nans, "infinities": self.infinities, "zeros": self._zeros,
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
        self._zeros += scalars["zeros"]
        if scalars["min"] is not None:
            self._reach(scalars["min"], scalars["max"])
        self._total += from_bytes(row["total"].as_py())
        self._squares += from_bytes(row["squares"].as_py())
        keys, counts, hashes = (row[name].values.to_numpy() for name in ("keys", "counts", "hashes"))
        self._counts.add_counts(keys, counts, scalars["bits"])
        self._hashes.add(hashes)

    # --- what is read from it ---------------------------------------------------------------------------------------

    @property
    def zeros(self) -> int:
        """How many of them are zero."""
        self._settle()
        return self._zeros

    @property
    def count(self) -> int:
        """How many finite numbers there are."""
        self._settle()
        return int(self._counts.bins()[1].sum())

    @property
    def rows(self) -> int:
        """How many values came, nulls and all."""
        return self.count + self.nulls + self.nans + self.infinities

    @property
    def ends(self) -> tuple[int | float, int | float] | None:
        """The smallest and the largest finite number; None without any."""
        self._settle()
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
        self._settle()
        keys, counts = self._counts.bins()
        if self._counts.bits < 64:
            return [], False
        order = np.lexsort((keys, -counts))[:most]
        return list(zip(self._values(keys[order]).tolist(), counts[order].tolist(), strict=True)), len(keys) <= most

    def distribution(self) -> Distribution:
        """The bins as values."""
        self._settle()
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


def _fit(values: Int64, count: int) -> bool:
    """Whether so many such values, and their squares, add up within int64, each of them a float64."""
    largest = max(-int(values.min()), int(values.max()))
    return largest <= _ROUNDED and largest * largest * count < _INT64

"""Counting 64-bit keys in bounded memory, and how many different ones there are.

:class:`PrefixCounts` counts keys by their leading bits: all 64 of them, so one bin per distinct key, while there are at
most `max_bins` distinct keys, and after that as many as fit. It is the rule of
:mod:`featuremill.transforms.histogram`, whose keys of floats it is used with, made for speed: a bin keeps no smallest
and largest key, and keys are cut to the known length before they are counted. The length is a property of all keys
together, and no part of them needs a shorter one, so counts merge to the same result in any grouping.

:class:`Smallest` keeps the k smallest of 64-bit hashes, from which the number of distinct ones is estimated (Bar-Yossef
et al., "Counting distinct elements in a data stream", RANDOM 2002); it too depends on the set of hashes alone.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featuremill.transforms.histogram import longest_prefix

__all__ = ["PrefixCounts", "Smallest"]

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

_PENDING = 4
"""Bins may wait to be merged up to so many times `max_bins`."""

_DENSE = 8
"""Keys are counted in a vector when it is at most so many times as long as there are keys."""

_SAMPLE = 2
"""The length of prefixes is first looked for among so many times `max_bins` keys."""


def _count(keys: UInt64) -> tuple[UInt64, Int64]:
    """The distinct keys, in any order, and how often each occurs; at least one key."""
    # Keys of whole or short numbers end in zeros; without these they lie close together.
    used = int(np.bitwise_or.reduce(keys))
    shift = np.uint64((used & -used).bit_length() - 1 if used else 0)
    low, high = keys.min(), keys.max()
    if int(high >> shift) - int(low >> shift) <= _DENSE * len(keys):
        counts = np.bincount(((keys - low) >> shift).view(np.int64))
        found = np.flatnonzero(counts)
        return (found.view(np.uint64) << shift) + low, counts[found]
    counted = pc.value_counts(pa.array(keys))
    return counted.field("values").to_numpy(), counted.field("counts").to_numpy()


def distinct_keys(keys: UInt64) -> UInt64:
    """The distinct keys, ascending."""
    # NumPy's own `unique` hashes integers, at five times the time.
    keys = np.sort(keys)
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys


class PrefixCounts:
    """Counts of keys by prefix, in at most `max_bins` bins.

    >>> counts = PrefixCounts(2)
    >>> counts.add(np.array([8, 9, 8], np.uint64)), counts.bins()[1].tolist(), counts.bits
    (True, [2, 1], 64)
    >>> counts.add(np.array([1 << 63], np.uint64)), counts.bins()[1].tolist(), counts.bits
    (True, [3, 1], 63)
    >>> [(keys.tolist(), n.tolist()) for keys, n in counts.spilled()]
    [([8, 9, 9223372036854775808], [2, 1, 1])]
    """

    def __init__(self, max_bins: int) -> None:
        self.max_bins = max_bins
        self._bits = 64
        self._keys: list[UInt64] = []
        self._counts: list[Int64] = []
        self._waiting = 0
        self._spilled: list[tuple[UInt64, Int64]] = []

    @property
    def bits(self) -> int:
        """The length of the prefixes; 64 where every bin is one distinct key."""
        self._merge()
        return self._bits

    def bins(self) -> tuple[UInt64, Int64]:
        """The smallest key that each bin can hold, ascending, and the counts."""
        self._merge()
        if not self._keys:
            return np.zeros(0, np.uint64), np.zeros(0, np.int64)
        return self._keys[0], self._counts[0]

    @property
    def spilling(self) -> int:
        """How many keys :meth:`spilled` gives, at least."""
        return sum(len(keys) for keys, _ in self._spilled)

    def spilled(self) -> list[tuple[UInt64, Int64]]:
        """Distinct keys and their counts, as they were known before they were cut to prefixes; each is given once."""
        self._merge()
        spilled, self._spilled = self._spilled, []
        return spilled

    def add(self, keys: UInt64) -> bool:
        """Count keys, shape (n,). Whether they are known in full: in the bins, or in what :meth:`spilled` gives."""
        if not len(keys):
            return True
        sample = _SAMPLE * self.max_bins
        if self._bits == 64 and len(keys) > 2 * sample:
            # A part never needs shorter prefixes than the whole, and a few keys are soon sorted.
            few = distinct_keys(keys[:sample])
            if len(few) > self.max_bins:
                self._shorten(longest_prefix(few, 64, self.max_bins))
        shift = np.uint64(64 - self._bits)
        found, counts = _count(keys >> shift if shift else keys)
        known = self._bits == 64
        self.add_counts(found << shift if shift else found, counts, self._bits)
        return known

    def add_counts(self, keys: UInt64, counts: Int64, bits: int) -> None:
        """Count keys that were counted elsewhere, by prefixes of this length."""
        if bits == 64 and self._bits < 64 and len(keys):
            self._spilled.append((keys, counts))
        self._shorten(bits)
        self._keys.append(keys)
        self._counts.append(counts)
        self._waiting += len(keys)
        if self._waiting > _PENDING * self.max_bins:
            self._merge()

    def _shorten(self, bits: int) -> None:
        if bits < self._bits:
            # Merged first: what was known in full is to be spilled.
            self._merge()
        if bits < self._bits:
            if self._bits == 64 and self._keys:
                self._spilled.append((self._keys[0], self._counts[0]))
            self._bits, self._waiting = bits, sum(map(len, self._keys))

    def _merge(self) -> None:
        if not self._waiting:
            return
        keys, counts = np.concatenate(self._keys), np.concatenate(self._counts)
        if self._bits < 64:
            keys = _cut(keys, self._bits)
        if not (keys[1:] > keys[:-1]).all():
            order = np.argsort(keys, kind="stable")
            keys, counts = _added(keys[order], counts[order])
        if len(keys) > self.max_bins:
            if self._bits == 64:
                self._spilled.append((keys, counts))
            self._bits = longest_prefix(keys, self._bits, self.max_bins)
            keys, counts = _added(_cut(keys, self._bits), counts)
        self._keys, self._counts, self._waiting = [keys], [counts], 0


def _cut(keys: UInt64, bits: int) -> UInt64:
    shift = np.uint64(64 - bits)
    return keys >> shift << shift


def _added(keys: UInt64, counts: Int64) -> tuple[UInt64, Int64]:
    """The counts of equal neighbours added up."""
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(counts, starts)


class Smallest:
    """The `size` smallest different hashes, and what they say of how many different ones there were.

    >>> smallest = Smallest(64)
    >>> smallest.add(np.array([5, 5, 7], np.uint64)); smallest.distinct()
    (2, 0.0)
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: UInt64 = np.zeros(0, np.uint64)
        self._pending: list[UInt64] = []
        self._waiting = 0

    def add(self, hashes: UInt64) -> None:
        """Take in hashes, shape (n,), equal ones for equal values."""
        start, step = 0, _PENDING * self.size
        while start < len(hashes):
            # Piece by piece, longer ones later: soon few hashes are among the smallest.
            piece = hashes[start : start + step]
            start, step = start + step, 4 * step
            if len(self._kept) == self.size:
                # Those that pass are often few and come again and again: hashing them is quicker than sorting.
                piece = pc.unique(pa.array(piece[piece < self._kept[-1]])).to_numpy()
            self._pending.append(piece)
            self._waiting += len(piece)
            if self._waiting >= _PENDING * self.size:
                self._merge()

    def hashes(self) -> UInt64:
        """What is kept, ascending."""
        self._merge()
        return self._kept

    def _merge(self) -> None:
        if not self._waiting:
            return
        self._kept = distinct_keys(np.concatenate([self._kept, *self._pending]))[: self.size].copy()
        self._pending, self._waiting = [], 0

    def distinct(self) -> tuple[int, float]:
        """How many different hashes there were, and the relative standard error of that; 0.0: exact."""
        kept = self.hashes()
        if len(kept) < self.size:
            return len(kept), 0.0
        return round((self.size - 1) / ((int(kept[-1]) + 1) / 2.0**64)), 1 / sqrt(self.size - 2)

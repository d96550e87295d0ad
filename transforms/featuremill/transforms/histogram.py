"""A histogram that adapts to the data and merges exactly: what quantiles are read from.

A float64 has an order-preserving key: an unsigned 64-bit integer with ``key(a) < key(b)`` where ``a < b``. Its leading
bits are sign, exponent and the leading bits of the mantissa, so the values that share a *prefix* of the key are the
values of an interval. The histogram counts values by prefix, with the longest prefixes for which there are at most
`max_bins` of them: 64 bits, so one bin per distinct value, while there are that few distinct values; after that as many
as fit.

The length is a property of the data alone: a part of the data never needs shorter prefixes than the whole. So partials
merge to the same bytes in any grouping (a sketch that draws random numbers, such as KLL, does not). Each bin also keeps
its smallest and largest value: where they are equal the bin is one distinct value, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.transforms.contract import Analyzer, State
from featuremill.transforms.floats import numbers_by_position

__all__ = ["Bins", "Histogram", "bins_of", "longest_prefix", "median", "quantile", "quantile_boundaries", "rank_error"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

_SIGN = np.uint64(1 << 63)

_PENDING = 1 << 18
"""Values collected before they are sorted into the bins (2 MiB)."""

STATE = pa.schema([
    ("count", pa.int64()), ("nulls", pa.int64()), ("nans", pa.int64()), ("bits", pa.int64()),
    ("low", pa.large_list(pa.float64())), ("high", pa.large_list(pa.float64())), ("counts", pa.large_list(pa.int64())),
])
"""A partial and a state: one row, or one per position. Lists are over the bins, ascending; `bits` 64 means exact."""


@dataclass(frozen=True)
class Bins:
    """One row of a state: the bins of a histogram, ascending.

    Attributes
    ----------
    low, high
        The smallest and the largest value in each bin, shape (n_bins,) float64.
    counts
        How many values each holds, shape (n_bins,) int64.
    bits
        The length of the prefixes; 64 where every bin is one distinct value.
    """

    low: Float64
    high: Float64
    counts: Int64
    bits: int = 64

    @property
    def count(self) -> int:
        """How many values there are."""
        return int(self.counts.sum())


def bins_of(state: State, position: int = 0) -> Bins:
    """The bins of one position of a state; none where the state has no such row (there was no data)."""
    if position >= state.num_rows:
        return Bins(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64))
    row = state.slice(position, 1)
    low, high, counts = (
        row.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False) for name in ("low", "high", "counts")
    )
    return Bins(low, high, counts, row.column("bits")[0].as_py())


def quantile_boundaries(bins: Bins, num_buckets: int) -> list[float]:
    """The values that cut the data into `num_buckets` buckets of about equal size: ``num_buckets - 1``, ascending.

    Boundary ``i`` is the value at position ``floor(i * n / num_buckets)`` of the sorted data, counted from 0, as
    ``tft.quantiles`` gives it for small data; for a bin of several values, the smallest of them. A frequent value may
    come several times. No data gives no boundaries.

    >>> quantile_boundaries(Bins(np.arange(6.0), np.arange(6.0), np.ones(6, np.int64)), 3)
    [2.0, 4.0]
    """
    count = bins.count
    if not count:
        return []
    ranks = [i * count // num_buckets for i in range(1, num_buckets)]
    return [float(v) for v in bins.low[_bins_at(bins, ranks)]]


def quantile(bins: Bins, fraction: float) -> float | None:
    """The smallest value with at least `fraction` of the data at or below it (NumPy's ``inverted_cdf``); None for none.

    For a bin of several values, the smallest of them.
    """
    count = bins.count
    if not count:
        return None
    rank = max(int(np.ceil(fraction * count)) - 1, 0)
    return float(bins.low[_bins_at(bins, [rank])][0])


def median(bins: Bins) -> float | None:
    """The median (the mean of the two middle values for an even count); None for no data.

    For a bin of several values, the smallest of them stands for each.
    """
    count = bins.count
    if not count:
        return None
    low, high = (float(v) for v in bins.low[_bins_at(bins, [(count - 1) // 2, count // 2])])
    return low if low == high else low / 2 + high / 2


def rank_error(bins: Bins, boundaries: Sequence[float]) -> float:
    """By what share of the data a boundary may be off: the largest bin of several values that a boundary lies in.

    0.0 where every boundary is exact.
    """
    count = bins.count
    if not count or not len(boundaries):
        return 0.0
    at = np.unique(np.searchsorted(bins.low, boundaries, side="right") - 1)
    at = at[at >= 0]
    cut = at[bins.low[at] < bins.high[at]]
    return float(bins.counts[cut].max()) / count if len(cut) else 0.0


def _bins_at(bins: Bins, ranks: Sequence[int]) -> Int64:
    """The bins that hold the values at these positions of the sorted data, counted from 0."""
    return np.searchsorted(np.cumsum(bins.counts), ranks, side="right").astype(np.int64)


# --- keys -----------------------------------------------------------------------------------------------------------


def to_keys(values: Float64) -> UInt64:
    """Order-preserving keys of numbers that are not NaN; -0.0 and 0.0 have the same."""
    signed = (values + 0.0).view(np.int64)
    return (signed ^ ((signed >> 63) & np.int64(0x7FFF_FFFF_FFFF_FFFF))).view(np.uint64) ^ _SIGN


def from_keys(keys: UInt64) -> Float64:
    """The numbers of keys."""
    signed = (keys ^ _SIGN).view(np.int64)
    return (signed ^ ((signed >> 63) & np.int64(0x7FFF_FFFF_FFFF_FFFF))).view(np.float64)


@dataclass(frozen=True)
class _Prefixes:
    """Bins by key, no two of which share their leading `bits`; `low` ascends in what :func:`_merge` gives."""

    low: UInt64
    high: UInt64
    counts: Int64
    bits: int


_EMPTY = _Prefixes(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64), 64)


def _count_keys(keys: UInt64) -> _Prefixes:
    """The bins of keys, one per distinct key, shape (n,), n > 0."""
    keys = np.sort(keys)
    starts = _starts(keys, 64)
    return _Prefixes(keys[starts], keys[starts], np.diff(starts, append=len(keys)), 64)


def _fold(bins: _Prefixes, keys: UInt64) -> _Prefixes:
    """The bins with keys counted in, and new ones at the end: several times as fast as sorting where bins are few."""
    known = len(bins.low)
    prefixes = np.concatenate([bins.low, keys])
    if bins.bits < 64:
        prefixes >>= np.uint64(64 - bins.bits)
    # Codes come in the order of appearance: those of the known bins are their positions.
    encoded = pa.array(prefixes).dictionary_encode()
    codes = encoded.indices.to_numpy()[known:]
    counts = np.bincount(codes, minlength=len(encoded.dictionary))
    counts[:known] += bins.counts
    if bins.bits == 64:
        low = encoded.dictionary.to_numpy()
        return _Prefixes(low, low, counts, 64)
    low = np.full(len(counts), ~np.uint64(0))
    high = np.zeros(len(counts), np.uint64)
    low[:known], high[:known] = bins.low, bins.high
    np.minimum.at(low, codes, keys)
    np.maximum.at(high, codes, keys)
    return _Prefixes(low, high, counts, bins.bits)


def _starts(keys: UInt64, bits: int) -> Int64:
    """Where a new prefix begins in ascending keys."""
    prefixes = keys >> np.uint64(64 - bits) if bits < 64 else keys
    return np.concatenate([np.zeros(1, np.int64), np.flatnonzero(prefixes[1:] != prefixes[:-1]) + 1])


def _merge(parts: Sequence[_Prefixes], max_bins: int | None) -> _Prefixes:
    """The bins of all parts together, with prefixes as long as `max_bins` allows."""
    parts = [part for part in parts if len(part.low)]
    if not parts:
        return _EMPTY
    bits = min(part.bits for part in parts)
    low = np.concatenate([part.low for part in parts])
    # Mostly a few ascending runs one after the other: what a stable sort merges in linear time.
    order = np.argsort(low, kind="stable")
    merged = _Prefixes(
        low[order],
        np.concatenate([part.high for part in parts])[order],
        np.concatenate([part.counts for part in parts])[order],
        bits,
    )
    merged = _shorten(merged, bits)
    if max_bins is not None and len(merged.low) > max_bins:
        merged = _shorten(merged, longest_prefix(merged.low, bits, max_bins))
    return merged


def _shorten(prefixes: _Prefixes, bits: int) -> _Prefixes:
    starts = _starts(prefixes.low, bits)
    if len(starts) == len(prefixes.low):
        return _Prefixes(prefixes.low, prefixes.high, prefixes.counts, bits)
    return _Prefixes(
        prefixes.low[starts], np.maximum.reduceat(prefixes.high, starts), np.add.reduceat(prefixes.counts, starts), bits
    )


def longest_prefix(keys: UInt64, bits: int, max_bins: int) -> int:
    """The longest prefix, below `bits`, of which distinct ascending keys have at most `max_bins`."""
    differing = keys[1:] ^ keys[:-1]
    upper, lower = differing >> np.uint64(32), differing & np.uint64(0xFFFF_FFFF)
    length = np.where(upper > 0, 32 + np.frexp(upper.astype(float))[1], np.frexp(lower.astype(float))[1])
    common = np.bincount(64 - length, minlength=64)
    # Neighbours with c leading bits in common are told apart by c + 1 bits.
    distinct = 1 + np.concatenate([[0], np.cumsum(common)])
    return int(np.flatnonzero(distinct[:bits] <= max_bins)[-1])


# --- the analyzer ---------------------------------------------------------------------------------------------------


@dataclass
class _Tally:
    """What is known of one position."""

    max_bins: int | None
    nulls: int = 0
    nans: int = 0
    bins: _Prefixes = _EMPTY
    pending: list[UInt64] = field(default_factory=list)
    waiting: int = 0

    def update(self, values: Float64, nulls: int) -> None:
        self.nulls += nulls
        missing = np.isnan(values)
        nans = int(np.count_nonzero(missing))
        if nans:
            self.nans += nans
            values = values[~missing]
        if len(values):
            self.pending.append(to_keys(values))
            self.waiting += len(values)
            # Without a limit the bins grow: collecting more between merges keeps the total work linear.
            if self.waiting >= max(_PENDING, len(self.bins.low) // 2 if self.max_bins is None else 0):
                self.flush()

    def flush(self) -> None:
        if not self.waiting:
            return
        keys = np.concatenate(self.pending)
        self.pending, self.waiting = [], 0
        if self.max_bins is None or not len(self.bins.low):
            self.bins = _merge([self.bins, _count_keys(keys)], self.max_bins)
        else:
            self.bins = _fold(self.bins, keys)
            if len(self.bins.low) > self.max_bins:
                self.bins = _merge([self.bins], self.max_bins)

    def row(self) -> dict[str, object]:
        self.flush()
        return _row(_merge([self.bins], self.max_bins), self.nulls, self.nans)


def _row(bins: _Prefixes, nulls: int, nans: int) -> dict[str, object]:
    return {
        "count": int(bins.counts.sum()), "nulls": nulls, "nans": nans, "bits": bins.bits,
        "low": from_keys(bins.low), "high": from_keys(bins.high), "counts": bins.counts,
    }


def _table(rows: Sequence[dict[str, object]]) -> pa.Table:
    columns = {}
    for f in STATE:
        values = [row[f.name] for row in rows]
        if pa.types.is_large_list(f.type):
            offsets = np.cumsum([0, *(len(v) for v in values)], dtype=np.int64)  # type: ignore[arg-type]
            flat = np.concatenate(values) if values else np.zeros(0)  # type: ignore[arg-type]
            columns[f.name] = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat, type=f.type.value_type))
        else:
            columns[f.name] = pa.array(values, type=f.type)
    return pa.table(columns, schema=STATE)


@dataclass
class _HistogramAccumulator:
    elementwise: bool
    max_bins: int | None
    tallies: list[_Tally] = field(default_factory=list)

    def update(self, array: pa.Array) -> None:
        if self.elementwise and not len(array):
            return
        for position, (values, nulls) in enumerate(numbers_by_position(array, self.elementwise)):
            if position == len(self.tallies):
                self.tallies.append(_Tally(self.max_bins))
            self.tallies[position].update(values, nulls)

    def partial(self) -> pa.Table:
        tallies = self.tallies or ([] if self.elementwise else [_Tally(self.max_bins)])
        return _table([tally.row() for tally in tallies])


@dataclass(frozen=True)
class Histogram(Analyzer):
    """How the values of a numeric column are distributed, in at most `max_bins` bins.

    Null and NaN are skipped and counted; infinite values are the outermost ones.

    Parameters
    ----------
    column
        Numbers, or lists of them (the values of all lists together).
    elementwise
        For a fixed-size list: a histogram for each position, one row each.
    max_bins
        How many bins there may be, at least 2. None: one for each distinct value, however many there are; 24 bytes
        each.

    Examples
    --------
    >>> accumulator = Histogram("x").accumulator()
    >>> accumulator.update(pa.array([1, 2, 2, None, 5]))
    >>> state = Histogram("x").finish(accumulator.partial())
    >>> bins_of(state).low, bins_of(state).counts
    (array([1., 2., 5.]), array([1, 2, 1]))
    >>> quantile_boundaries(bins_of(state), 2)
    [2.0]
    """

    elementwise: bool = False
    max_bins: int | None = 65536

    def accumulator(self) -> _HistogramAccumulator:
        return _HistogramAccumulator(self.elementwise, self.max_bins)

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        rows = []
        for position in range(max(partial.num_rows for partial in partials)):
            present = [partial for partial in partials if position < partial.num_rows]
            parts = [_prefixes(bins_of(partial, position)) for partial in present]
            nulls, nans = (sum(p.column(name)[position].as_py() for p in present) for name in ("nulls", "nans"))
            rows.append(_row(_merge(parts, self.max_bins), nulls, nans))
        return _table(rows)

    def finish(self, partial: pa.Table) -> State:
        return partial


def _prefixes(bins: Bins) -> _Prefixes:
    return _Prefixes(to_keys(bins.low), to_keys(bins.high), bins.counts, bins.bits)

"""A distribution over bins, as quantiles, histograms and distances between distributions need it.

Within a bin values are taken to be spread evenly; a bin of one value is a step. Distributions are at one with how
:class:`~featuremill.core.quality.profiles.profile.Sketch` keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Distribution"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_TAIL = 2.0**-60
"""No tail is halved more often."""


@dataclass(frozen=True)
class Distribution:
    """Ascending bins: ``counts[i]`` values from ``low[i]`` to ``high[i]``, both included; shape (n_bins,).

    `low` and `high` are int64 for whole numbers, else float64; finite.
    """

    low: npt.NDArray[np.int64] | Float64
    high: npt.NDArray[np.int64] | Float64
    counts: Int64

    @property
    def count(self) -> int:
        """How many values there are."""
        return int(self.counts.sum())

    def below(self, points: Float64) -> Float64:
        """How many values are less than each of the points, shape (n_points,).

        >>> d = Distribution(np.array([0.0, 1.0]), np.array([0.0, 3.0]), np.array([5, 2]))
        >>> d.below(np.array([0.0, 0.5, 2.0, 9.0])).tolist()
        [0.0, 5.0, 6.0, 7.0]
        """
        return self._reached(np.searchsorted(self.low, points, side="left"), points)

    def upto(self, points: Float64) -> Float64:
        """How many values are at most each of the points, shape (n_points,)."""
        return self._reached(np.searchsorted(self.low, points, side="right"), points)

    def _reached(self, bins: Int64, points: Float64) -> Float64:
        """Of the bins before each position all but the last counts in full; of that, the part up to the point."""
        ends = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.float64)
        found = ends[bins]
        inside = np.flatnonzero(bins > 0)
        last = bins[inside] - 1
        low, high = self.low[last].astype(np.float64), self.high[last].astype(np.float64)
        cut = points[inside] < high
        inside, last, low, high = inside[cut], last[cut], low[cut], high[cut]
        # Halved, so that the width of a bin from the smallest to the largest float does not overflow.
        share = (points[inside] / 2 - low / 2) / (high / 2 - low / 2)
        found[inside] -= self.counts[last] * (1 - np.clip(share, 0.0, 1.0))
        return found

    def _at_ranks(self, ranks: Int64) -> tuple[list[int | float], Int64]:
        """The values at these positions of the sorted data, counted from 0, and the bins that they are in."""
        ends = np.cumsum(self.counts)
        bins = np.searchsorted(ends, ranks, side="right").astype(np.int64)
        values: list[int | float] = []
        for i, rank in zip(bins.tolist(), ranks.tolist(), strict=True):
            low, high = self.low[i].item(), self.high[i].item()
            share = (rank - int(ends[i]) + int(self.counts[i]) + 0.5) / int(self.counts[i])
            if isinstance(low, int):
                values.append(low + int((high - low) * share) if low < high else low)
            else:
                values.append(low * (1 - share) + high * share if low < high else low)
        return values, bins

    def quantiles(self, fractions: tuple[float, ...]) -> tuple[list[int | float], float]:
        """The smallest values with at least those shares at or below them, and by what share they may be off.

        The definition is that of NumPy's ``inverted_cdf``. No values give none.

        >>> Distribution(np.array([1, 2]), np.array([1, 2]), np.array([3, 1])).quantiles((0.5, 0.99))
        ([1, 2], 0.0)
        """
        if not self.count:
            return [], 0.0
        ranks = np.maximum(np.ceil(np.array(fractions) * self.count).astype(np.int64) - 1, 0)
        values, bins = self._at_ranks(ranks)
        wide = bins[self.low[bins] < self.high[bins]]
        return values, float(self.counts[wide].max()) / self.count if len(wide) else 0.0

    def regrouped(self, groups: int) -> Distribution:
        """Neighbours put together to about that many bins of equal counts; frequent single bins stay alone.

        The outermost groups are halved again and again, down to single bins: within a group values count as spread
        evenly, which in a long tail would be far from the truth.
        """
        if len(self.counts) <= groups:
            return self
        ends = np.cumsum(self.counts)
        starts = ends - self.counts
        heavy = self.counts * groups >= self.count
        group = np.floor(starts / self.count * groups)
        low = np.floor(np.log2(np.maximum(ends / self.count * groups, _TAIL)))
        high = np.floor(np.log2(np.maximum((self.count - starts) / self.count * groups, _TAIL)))
        group += np.minimum(low, 0.0) - np.minimum(high, 0.0)
        new = np.ones(len(ends), bool)
        new[1:] = (group[1:] != group[:-1]) | heavy[1:] | heavy[:-1]
        firsts = np.flatnonzero(new)
        return Distribution(
            self.low[firsts], self.high[np.append(firsts[1:], len(ends)) - 1], np.add.reduceat(self.counts, firsts)
        )

"""Measures of how far apart two distributions are, computed from two profiles.

Categories are the values that both profiles know the count of, and for the rest 64 buckets by hash: merging categories
makes none of the measures larger, so what is found is there. Numbers are put into bins: those of equal counts in the
two samples together, which are the same whichever is the reference; for the population stability index, by custom, ten
of equal counts in the reference.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.core.quality.profiles.distribution import Distribution
from featuremill.core.quality.profiles.profile import ColumnProfile, Scalar, Sketch
from featuremill.core.quality.profiles.text_stats import buckets_of
from featuremill.transforms.token_index import hash_values

__all__ = ["distributions", "jensen_shannon", "l_infinity", "new_values", "population_stability", "wasserstein"]

Float64 = npt.NDArray[np.float64]

BINS = 20
PSI_BINS = 10

LEAST_SHARE = 1e-4
"""Stands for an empty bin in the population stability index, whose logarithm there would be infinite."""


def jensen_shannon(one: Float64, other: Float64) -> float:
    """The Jensen-Shannon distance of two distributions over the same categories, shape (n,): from 0 to 1, symmetric.

    The square root of ``(KL(p | m) + KL(q | m)) / 2`` with ``m = (p + q) / 2`` and logarithms to base 2 (Lin,
    "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37(1), 1991; that its root is a metric:
    Endres and Schindelin, 2003).

    >>> jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])), jensen_shannon(np.array([1.0]), np.array([1.0]))
    (1.0, 0.0)
    """
    middle = (one + other) / 2
    divergence = 0.0
    for p in (one, other):
        used = p > 0
        divergence += float(np.sum(p[used] * np.log2(p[used] / middle[used]))) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def population_stability(current: Float64, reference: Float64) -> float:
    """The population stability index: ``sum((p - q) * ln(p / q))``, from 0 up; empty categories count 0.0001.

    It is the symmetrised Kullback-Leibler divergence (Yurdakul, "Statistical properties of population stability
    index", 2018).

    >>> round(population_stability(np.array([0.6, 0.4]), np.array([0.5, 0.5])), 4)
    0.0405
    """
    p, q = (np.maximum(x, LEAST_SHARE) for x in (current, reference))
    either = (current > 0) | (reference > 0)
    return float(np.sum(((p - q) * np.log(p / q))[either]))


def l_infinity(one: Float64, other: Float64) -> float:
    """The largest difference of the shares of one category (as TensorFlow Data Validation compares categories).

    >>> l_infinity(np.array([0.5, 0.5]), np.array([0.25, 0.75]))
    0.25
    """
    return float(np.max(np.abs(one - other), initial=0.0))


def wasserstein(one: Sketch, other: Sketch) -> float | None:
    """The first Wasserstein distance (earth mover's), in the unit of the values; None where a side has none.

    The area between the two distribution functions (Vallender, 1974), within bins taken as straight lines.

    >>> wasserstein(Sketch((0,), (0,), (5,)), Sketch((2, 4), (2, 4), (1, 1)))
    3.0
    """
    if not one.counts or not other.counts:
        return None
    sides = [_distribution(one), _distribution(other)]
    points = np.unique(np.concatenate([[*d.low, *d.high] for d in sides]).astype(np.float64))
    # To the right of each point but the last, and to the left of each but the first: straight lines between.
    left = np.subtract(*(d.upto(points[:-1]) / d.count for d in sides))
    right = np.subtract(*(d.below(points[1:]) / d.count for d in sides))
    both = np.abs(left) + np.abs(right)
    crossing = left * right < 0
    # Where the lines cross there are two triangles in place of a trapezium.
    area = np.where(crossing, (left**2 + right**2) / np.where(both > 0, both, 1.0), both) / 2
    return float(np.sum(area * np.diff(points)))


def new_values(current: ColumnProfile, reference: ColumnProfile) -> float | None:
    """The share of the current values that the reference did not have; None where it is not known to be complete."""
    total = current.values
    if not reference.complete or not total:
        return None
    known = {t.value for t in reference.top}
    counts = {t.value: t.count for t in current.top}
    if current.complete:
        return sum(n for value, n in counts.items() if value not in known) / total
    # A value that is not among the most frequent is new: as many as those, the reference has none of.
    return 1 - sum(n for value, n in counts.items() if value in known) / total


def distributions(
    current: ColumnProfile, reference: ColumnProfile, *, by_reference: bool = False
) -> tuple[Float64, Float64] | None:
    """The shares of the same categories, or bins, in two columns of one kind, each adding up to 1; None without values.

    Parameters
    ----------
    by_reference
        For numbers, take bins of equal counts in the reference rather than in both.
    """
    if current.numbers is not None and reference.numbers is not None:
        sides = [_distribution(numbers.sketch) for numbers in (current.numbers, reference.numbers)]
        if not all(d.count for d in sides):
            return None
        one, other = _binned(*sides, by_reference=by_reference)
        return one, other
    counts = _categories(current, reference)
    if counts is None or not all(c.sum() for c in counts):
        return None
    one, other = (c / c.sum() for c in counts)
    return one, other


def _distribution(sketch: Sketch) -> Distribution:
    return Distribution(np.array(sketch.low), np.array(sketch.high), np.array(sketch.counts, np.int64))


def _binned(current: Distribution, reference: Distribution, *, by_reference: bool) -> tuple[Float64, Float64]:
    """Shares of bins, each from behind an edge up to and with the next one."""
    if by_reference:
        edges = np.array(reference.quantiles(tuple(i / PSI_BINS for i in range(1, PSI_BINS)))[0], np.float64)
    else:
        edges = _pooled_edges(current, reference)
    edges = np.unique(edges)
    one, other = (
        np.diff(side.upto(edges), prepend=0.0, append=float(side.count)) / side.count for side in (current, reference)
    )
    return one, other


def _pooled_edges(current: Distribution, reference: Distribution) -> Float64:
    """Where the mean of the two distribution functions crosses equal shares: points of either sketch."""
    points = np.unique(np.concatenate([current.low, current.high, reference.low, reference.high]).astype(np.float64))
    level = (current.upto(points) / current.count + reference.upto(points) / reference.count) / 2
    wanted = np.arange(1, BINS) / BINS
    return points[np.minimum(np.searchsorted(level, wanted - 1e-12), len(points) - 1)]


def _categories(current: ColumnProfile, reference: ColumnProfile) -> tuple[Float64, Float64] | None:
    """Counts by value where both are known, and by bucket for the rest."""
    mine, theirs = ({t.value: t.count for t in c.top} for c in (current, reference))
    if current.complete and reference.complete:
        values = list(dict.fromkeys([*mine, *theirs]))
    elif current.buckets and reference.buckets:
        both = [v for v in dict.fromkeys([*mine, *theirs]) if _known(v, mine, current) and _known(v, theirs, reference)]
        # Of a text that was cut the bucket is not known: it stays there among the rest.
        values = [v for v in both if not str(v).endswith("…")]
    else:
        return None
    named = [np.array([side.get(v, 0) for v in values], np.float64) for side in (mine, theirs)]
    if current.complete and reference.complete:
        return named[0], named[1]
    texts = [bytes.fromhex(str(v)) for v in values] if current.kind == "binary" else [str(v) for v in values]
    buckets = buckets_of(hash_values(pa.array(texts, pa.binary() if current.kind == "binary" else pa.string())))
    rests = []
    for column, counts in zip((current, reference), named, strict=True):
        rest = np.array(column.buckets, np.float64)
        np.subtract.at(rest, buckets, counts)
        rests.append(np.maximum(rest, 0.0))
    return np.concatenate([named[0], rests[0]]), np.concatenate([named[1], rests[1]])


def _known(value: Scalar, counts: dict[Scalar, int], column: ColumnProfile) -> bool:
    return value in counts or column.complete

"""Tukey's HH distribution: fitted to data by L-moments, and inverted to make long-tailed data normal.

A variable ``x = u * exp(h * u**2 / 2)`` with ``u`` normal has heavier tails the larger ``h`` is; the HH distribution
has one ``h`` for negative ``u`` and one for positive. Its L-moments are those of Headrick and Pant, "Characterizing
Tukey h and hh-distributions through L-moments and the L-correlation", ISRN Applied Mathematics 2012,
doi:10.5402/2012/980153. L-moments exist where the variance does not, and one outlier does not decide them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import atan, copysign, cos, isinf, pi, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.transforms.histogram import Bins

__all__ = ["TukeyParameters", "fit", "inverse", "inverse_of_one", "l_moments", "lambert_w"]

Float64 = npt.NDArray[np.float64]

NORMAL_L_KURTOSIS = 0.1226017
"""L-kurtosis of the normal distribution: data below it has no long tails."""

_LARGEST_L_KURTOSIS = 1 - 1e-5
_LARGEST_H = 1 - 1e-7
_FEWEST = 10
"""Of fewer values nothing is said about tails. Four would do for the formula, but the L-kurtosis of so few says
nothing, and stock, which sees its first rows in batches of one and two, makes z-scores of them."""
_ROUNDS, _HALVINGS, _TOLERANCE = 20, 11, 1e-6
"""Effort of the search for the parameters: stock's, so that the fit is the same and not only as good."""
SMALL = 1e-7
"""Below this ``h * x**2``, u is x to 14 digits, and the formula nears 0 / 0."""
HALLEY_STEPS = 3
"""Steps for Lambert's W: from the starting point used here, three reach the last bits."""


@dataclass(frozen=True)
class TukeyParameters:
    """``(x - location) / scale`` is HH-distributed with these parameters; both 0 where no tail is long."""

    location: float
    scale: float
    left: float
    right: float

    @property
    def long_tailed(self) -> bool:
        """Whether either tail is longer than the normal distribution's."""
        return self.left > 0 or self.right > 0


def l_moments(bins: Bins) -> tuple[float, float, float, float]:
    """The first four sample L-moments (unbiased) of the finite values; the third and fourth are 0 for too few values.

    Computed from probability-weighted moments over the ascending bins, so it depends on the histogram alone; a bin of
    several values counts as its middle. Hosking, "L-moments", J. R. Stat. Soc. B 52(1), 1990.
    """
    finite = np.isfinite(bins.low) & np.isfinite(bins.high)
    low, high, counts = bins.low[finite], bins.high[finite], bins.counts[finite]
    n = int(counts.sum())
    if n == 0:
        return 0.0, 0.0, 0.0, 0.0
    values = np.where(low == high, low, low / 2 + high / 2)
    last = np.cumsum(counts)
    centre = float(values[np.searchsorted(last, n // 2, side="right")])
    ends = np.concatenate([[0], last]).astype(np.float64)
    weighted = []
    share = np.ones(len(ends))
    for r in range(min(n, 4)):
        # The share of the r+1-subsets of the sample that lie in the first `ends` values.
        share = share * np.maximum(ends - r, 0.0) / (n - r)
        weighted.append(float(np.dot(np.diff(share), values - centre)) / (r + 1))
    b0, b1, b2, b3 = weighted + [0.0] * (4 - len(weighted))
    l1, l2 = b0 + centre, (2 * b1 - b0 if n > 1 else 0.0)
    if n < _FEWEST:
        return l1, l2, 0.0, 0.0
    return l1, l2, 6 * b2 - 6 * b1 + b0, 20 * b3 - 30 * b2 + 12 * b1 - b0


def fit(moments: tuple[float, float, float, float]) -> TukeyParameters:
    """The parameters of the HH distribution with these L-moments, as nearly as there is one.

    >>> fit((3.5, 1.0, 0.0, 0.0)).long_tailed
    False
    """
    l1, l2, l3, l4 = moments
    skewness, kurtosis = (l3 / l2, l4 / l2) if l2 > 0 else (0.0, 0.0)
    left, right = _shape(skewness, kurtosis)
    hh_mean, hh_scale, _, _ = _hh_moments(left, right)
    scale = l2 / hh_scale if l2 > 0 else 1.0
    return TukeyParameters(l1 - scale * hh_mean, scale, left, right)


def _shape(skewness: float, kurtosis: float) -> tuple[float, float]:
    """Left and right h for an L-skewness and L-kurtosis; ``(0, 0)`` for tails no longer than normal."""
    if kurtosis < NORMAL_L_KURTOSIS:
        return 0.0, 0.0
    if skewness < 0:
        left, right = _shape(-skewness, kurtosis)
        return right, left
    kurtosis = min(kurtosis, _LARGEST_L_KURTOSIS)

    # Equal parameters that give the kurtosis are known in closed form. From there the right one, `h`, and how much
    # smaller the left one is, `gap`, are bracketed in turn: the search of tft.scale_to_gaussian, with its accuracy.
    h, gap = max(3 - 1 / cos(pi / 15 * (kurtosis - 6)), 0.0), 0.0
    h_low, h_high, gap_low, gap_high = h, _LARGEST_H, 0.0, h

    def search_gap() -> tuple[float, float]:
        return _bracket(lambda g: _ratios(h - g, h)[0] - skewness, gap_low, gap_high)

    def search_h() -> tuple[float, float]:
        return _bracket(lambda x: _ratios(x - gap, x)[1] - kurtosis, h_low, h_high)

    for _ in range(_ROUNDS):
        before = h, gap
        if _ratios(h - gap_high, h)[0] > skewness:
            gap = gap_high = search_gap()[1]
            h = h_high = search_h()[1]
            gap = gap_low = search_gap()[0]
            h = h_low = search_h()[0]
        else:
            gap = gap_low = gap_high
            h = h_low = gap_high = search_h()[0]
        found = _ratios(h - gap, h)
        close = abs(found[0] - skewness) < _TOLERANCE and abs(found[1] - kurtosis) < _TOLERANCE
        if close or (abs(h - before[0]) < _TOLERANCE and abs(gap - before[1]) < _TOLERANCE):
            break
    return max(h - gap, 0.0), h


def _bracket(function: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """A narrower bracket of where an increasing function crosses zero."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        value = function(middle)
        if value < 0:
            low = middle
        else:
            high = middle
        if abs(value) < _TOLERANCE or high - low < _TOLERANCE:
            break
    return low, high


def _ratios(left: float, right: float) -> tuple[float, float]:
    """L-skewness and L-kurtosis of the HH distribution."""
    _, l2, l3, l4 = _hh_moments(left, right)
    return l3 / l2, l4 / l2


def _hh_moments(left: float, right: float) -> tuple[float, float, float, float]:
    """The first four L-moments of the HH distribution: those of its halves, with Legendre's polynomials as weights."""
    l0, l1, l2, l3 = _half(left)
    r0, r1, r2, r3 = _half(right)
    return r0 - l0, r1 + l1, (3 * (r2 - l2) - (r0 - l0)) / 2, (5 * (r3 + l3) - 3 * (r1 + l1)) / 2


def _half(h: float) -> tuple[float, float, float, float]:
    """The integrals of ``z * exp(h * z**2 / 2) * (2 * Phi(z) - 1)**k * phi(z)`` over z > 0, for k = 0, 1, 2, 3.

    By parts; what is left are integrals of ``exp(-a * z**2) * erf(b * z)**k``, which are arc tangents.
    """
    first = 1 / (sqrt(2 * pi) * (1 - h))
    root = sqrt(2 - h)
    second = first / root
    third = second * 4 / pi * atan(1 / root)
    fourth = second * 12 / pi * (atan(sqrt((4 - h) / (2 - h))) - pi / 4)
    return first, second, third, fourth


def lambert_w(x: Float64) -> Float64:
    """The principal branch of Lambert's W for x >= 0: w with ``w * exp(w) == x``. Shape (n,), NaN stays NaN.

    >>> lambert_w(np.array([0.0, np.e]))
    array([0., 1.])
    """
    infinite = np.isinf(x)
    return np.where(infinite, x, _lambert_w(np.where(infinite, 1.0, x)))


def _lambert_w(x: Any) -> Any:
    log = np.log1p(x)
    # The starting point of Iacono and Boyd, Adv. Comput. Math. 43, 2017: right to a few per cent for all x >= 0.
    w = log * (1.0 - np.log1p(log) / (2.0 + log))
    for _ in range(HALLEY_STEPS):
        error = w - x * np.exp(-w)
        w = w - error / (w + 1.0 - (w + 2.0) * error / (2.0 * w + 2.0))
    return w


def inverse(x: Float64, left: Float64, right: Float64) -> Float64:
    """u for ``x = u * exp(h * u**2 / 2)``, h being `left` below zero and `right` above. Shape of x; NaN stays NaN.

    Where ``h * x**2`` is beyond float64 (|x| above 1e154), u comes out infinite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        h = np.where(x < 0, left, right)
        argument = h * (x * x)
        bends = argument >= SMALL
        bent = np.sqrt(lambert_w(np.where(bends, argument, 1.0)) / np.where(bends, h, 1.0))
        return np.where(bends, np.copysign(bent, x), x)


def inverse_of_one(x: float, left: float, right: float) -> float:
    """:func:`inverse` for one number, equal to the bit."""
    h = left if x < 0 else right
    argument = h * (x * x)
    if not argument >= SMALL:
        return x
    # NumPy's exp and log: the standard library's may differ in the last bit.
    w = argument if isinf(argument) else float(_lambert_w(np.float64(argument)))
    return copysign(sqrt(w / h), x)

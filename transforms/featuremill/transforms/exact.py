"""Exact sums of float64 values, so that a mean or a variance does not depend on how the data was cut.

Floating-point addition rounds, and so its result depends on the order. Here nothing rounds: every finite float64 is an
integer multiple of 2**-1074, so a sum of values is a whole number of units of 2**-1074, and a sum of squares one of
units of 2**-2148. Both are Python integers, which add up to the same number in any order.

To be quick about it, a chunk of values is cut into *pieces*: the leading 20 bits of each value, relative to the largest
exponent of the chunk, then the next 20 bits, and so on until nothing is left (the extraction of Rump, Ogita and Oishi,
"Accurate floating-point summation", SIAM J. Sci. Comput. 31(1), 2008). In units of its own a piece is an integer of at
most 2**19, so the sum of a chunk's pieces, and of the products of two of its pieces, stays below 2**53: float64
arithmetic is exact there in any order, and NumPy's fast sums and dot products may be used. Values far smaller than the
largest of their chunk would need many pieces: they are set aside and become a chunk of their own.
"""

from __future__ import annotations

from math import frexp, inf

import numpy as np
import numpy.typing as npt

__all__ = ["exact_sums", "from_bytes", "mean", "to_bytes", "variance"]

Float64 = npt.NDArray[np.float64]

UNIT = 1074
"""A sum counts units of 2**-1074 (the smallest positive float64), a sum of squares units of its square, 2**-2148."""

_CHUNK = 1 << 13
"""Values per chunk: the products of two pieces, 2**38 at most, sum to less than 2**53. It is also below the 10,000
values from which OpenBLAS starts threads for a dot product, which here would cost ten times what they save."""

_BITS = 20
"""Bits per piece, the sign included."""

_MAX_PIECES = 5
"""Pieces cut before what is left is set aside: 99 bits below the largest exponent."""

_FEW = 8
"""Values with bits left are set aside once they are fewer than a chunk's length over this."""

_HUGE, _TINY = 450, -350
"""A chunk whose largest exponent is beyond these is scaled first: no product of pieces must over- or underflow."""


def exact_sums(values: Float64) -> tuple[int, int]:
    """The sum and the sum of squares of finite numbers, exactly: ``(units of 2**-1074, units of 2**-2148)``.

    Parameters
    ----------
    values
        Shape (n,), finite: NaN and infinities have been taken out. Not changed.

    Examples
    --------
    >>> total, squares = exact_sums(np.array([1e100, 1.0, -1e100]))
    >>> total == 1 << 1074, mean(total, 3)
    (True, 0.3333333333333333)
    >>> exact_sums(np.array([]))
    (0, 0)
    """
    total = squares = 0
    # Every round takes out the values of the largest exponents of each chunk, so it ends.
    while len(values):
        aside: list[Float64] = []
        for start in range(0, len(values), _CHUNK):
            chunk_total, chunk_squares = _chunk_sums(values[start : start + _CHUNK], aside)
            total += chunk_total
            squares += chunk_squares
        values = np.concatenate(aside) if aside else values[:0]
    return total, squares


def mean(total: int, count: int) -> float | None:
    """The mean, correctly rounded, of `count` values with that exact sum; None for no values.

    >>> mean(0, 0) is None
    True
    """
    return total / (count << UNIT) if count else None


def variance(total: int, squares: int, count: int) -> float | None:
    """The population variance (divided by n), correctly rounded; None for no values, inf beyond the range of float64.

    >>> variance(*exact_sums(np.array([1.0, 2.0, 3.0])), 3)
    0.6666666666666666
    """
    if not count:
        return None
    try:
        return (count * squares - total * total) / (count * count << 2 * UNIT)
    except OverflowError:
        return inf


def to_bytes(number: int) -> bytes:
    r"""A whole number of any size as bytes: the shortest little-endian two's complement.

    >>> to_bytes(-3), from_bytes(to_bytes(-3))
    (b'\xfd', -3)
    """
    return number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)


def from_bytes(encoded: bytes) -> int:
    """The number that :func:`to_bytes` encoded."""
    return int.from_bytes(encoded, "little", signed=True)


def _chunk_sums(values: Float64, aside: list[Float64]) -> tuple[int, int]:
    """The exact sums of one chunk, but for the values that it appends to `aside`."""
    exponent = frexp(max(values.max(), -values.min()))[1]
    scale = 0
    if exponent > _HUGE:
        huge = np.abs(values) >= 2.0**300
        aside.append(values[~huge])
        values, scale = values[huge] * 2.0**-600, 600
    elif exponent < _TINY:
        values, scale = values * 2.0**700, -700
    total, squares, rest = _cut(values, exponent - scale, scale)
    if len(rest):
        aside.append(rest * 2.0**scale)
    return total, squares


def _cut(values: Float64, exponent: int, scale: int) -> tuple[int, int, Float64]:
    """The exact sums of ``values * 2**scale``, all below ``2**exponent``, but for those set aside, returned third."""
    left = values.copy()
    pieces: list[Float64] = []
    units: list[int] = []
    while True:
        unit = exponent - (_BITS - 1) - _BITS * len(pieces)
        # Adding and taking away 1.5 * 2**52 units rounds to whole units; both subtractions are exact.
        rounder = 1.5 * 2.0 ** (52 + unit)
        piece = left + rounder
        piece -= rounder
        left -= piece
        pieces.append(piece)
        units.append(unit)
        unfinished = left != 0
        remaining = int(np.count_nonzero(unfinished))
        if remaining * _FEW < len(left) or len(pieces) == _MAX_PIECES:
            break
    if remaining:
        for piece in pieces:
            piece[unfinished] = 0
    total = squares = 0
    for i, (piece, unit) in enumerate(zip(pieces, units, strict=True)):
        total += _whole(float(piece.sum()), unit, scale + UNIT)
        squares += _whole(float(np.dot(piece, piece)), 2 * unit, 2 * (scale + UNIT))
        for other, other_unit in zip(pieces[:i], units[:i], strict=True):
            squares += _whole(2 * float(np.dot(piece, other)), unit + other_unit, 2 * (scale + UNIT))
    return total, squares, values[unfinished]


def _whole(value: float, unit: int, scale: int) -> int:
    """``value * 2**scale``, a whole number; `value` is a whole number of ``2**unit``."""
    number, shift = int(value * 2.0**-unit), unit + scale
    # A piece may be counted in units below 2**-1074, of which it then is a multiple: nothing is shifted out.
    return number << shift if shift >= 0 else number >> -shift

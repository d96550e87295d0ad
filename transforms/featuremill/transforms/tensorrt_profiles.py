"""The sizes that a TensorRT engine is built for: it takes no others.

An optimisation profile bounds the shape of each input, and says for which shape within the bounds the engine is tuned.
Texts of 10 tokens and of 200 want different kernels, so that each bucket of lengths has a profile of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from featuremill.artifacts.errors import ParameterError

__all__ = ["Bounds", "Profile", "Profiles", "Shape", "bounds_of", "rows_only", "token_profiles"]

Shape = tuple[int, ...]
SHORTEST_BUCKET = 16


@dataclass(frozen=True)
class Bounds:
    """Shapes of one input that an engine takes, and the one that it is tuned for."""

    least: Shape
    best: Shape
    most: Shape

    def hold(self, shape: Shape) -> bool:
        """Whether a shape is within."""
        sizes = zip(self.least, shape, self.most, strict=False)
        return len(shape) == len(self.least) and all(low <= n <= high for low, n, high in sizes)


Profile: TypeAlias = Mapping[str, Bounds]
"""Bounds by input."""
Profiles: TypeAlias = Callable[[Mapping[str, Shape]], Sequence[Profile]]
"""From the shapes of the inputs, -1 where they vary, to the profiles; none when nothing varies."""


def bounds_of(name: str, shape: Shape, length: tuple[int, int] | None, rows: int, where: str, hint: str) -> Bounds:
    """The bounds of an input whose first axis are rows, and another at most varies.

    Parameters
    ----------
    length
        The least and greatest size of the other axis that varies; None: not known.
    rows
        The most rows.
    hint
        What to do, for the error.

    Raises
    ------
    ParameterError
        When a size is not known.

    >>> bounds_of("x", (-1, 4), None, 64, "m.onnx", "")
    Bounds(least=(1, 4), best=(64, 4), most=(64, 4))
    """
    inner = [i for i, n in enumerate(shape) if n < 0 and i > 0]
    if len(inner) > 1 or (inner and length is None):
        raise ParameterError(
            f"{where}: the input {name!r} has the shape {shape}, and nothing says how long its rows get. {hint}",
            parameter="profiles", input=name,
        )  # fmt: skip
    low, high = length if inner and length is not None else (0, 0)
    first_low, first_high = (1, rows) if shape[0] < 0 else (shape[0], shape[0])
    least = (first_low, *(low if n < 0 else n for n in shape[1:]))
    most = (first_high, *(high if n < 0 else n for n in shape[1:]))
    return Bounds(least, most, most)


def varies(shapes: Mapping[str, Shape]) -> bool:
    """Whether any size does."""
    return any(n < 0 for shape in shapes.values() for n in shape)


def rows_only(rows: int, where: str, inner: Shape | None = None) -> Profiles:
    """Profiles for inputs of which only the rows vary; `inner` are the other sizes, where the file has none.

    >>> rows_only(32, "m.onnx", (3, 8, 8))({"pixels": (-1, 3, -1, -1)})[0]["pixels"].most
    (32, 3, 8, 8)
    """

    def profiles(shapes: Mapping[str, Shape]) -> Sequence[Profile]:
        told = {n: s if inner is None else (s[0], *inner) for n, s in shapes.items()}
        if not varies(told):
            return ()
        hint = "Export the model with fixed sizes but for the rows."
        return ({name: bounds_of(name, shape, None, rows, where, hint) for name, shape in told.items()},)

    return profiles


def token_profiles(longest: int, tokens: int, where: str) -> Profiles:
    """Profiles for texts as rows of tokens, one for each bucket of lengths: up to 16, 32, 64 … and `longest`.

    Parameters
    ----------
    longest
        The most tokens of a text.
    tokens
        The most tokens of a call.

    >>> token_profiles(100, 1024, "m.onnx")({"ids": (-1, -1)})[1]["ids"]
    Bounds(least=(1, 17), best=(32, 32), most=(32, 32))
    """
    ends = [longest]
    size = SHORTEST_BUCKET
    while size < longest:
        ends.insert(-1, size)
        size *= 2
    buckets = [(low, high) for low, high in zip([1, *(end + 1 for end in ends)], ends, strict=False)]

    def profiles(shapes: Mapping[str, Shape]) -> Sequence[Profile]:
        if not varies(shapes):
            return ()
        hint = "Export the model with texts and tokens as its only sizes that vary."
        return tuple(
            {name: bounds_of(name, s, bucket, max(1, tokens // bucket[1]), where, hint) for name, s in shapes.items()}
            for bucket in buckets
        )

    return profiles

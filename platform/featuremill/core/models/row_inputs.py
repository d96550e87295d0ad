"""One row as inputs of a model, for serving: without Arrow, and the very arrays that a batch of it would give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.core.models.gather import Column, ListInput, MatrixInput, VectorInput
from featuremill.core.models.leaves import TEXT

__all__ = ["row_function"]

Array = npt.NDArray[Any]
Row = Mapping[str, Any]
EXACT_INTEGERS = {2: 2**11, 4: 2**24, 8: 2**53}
"""Up to where every integer is a floating-point number of so many bytes; Arrow takes none beyond."""


class _UnusualError(Exception):
    """A value that Arrow has to look at."""


def row_function(parts: tuple[VectorInput | MatrixInput | ListInput, ...]) -> Callable[[Row], dict[str, Array] | None]:
    """A function from a row to the arrays of one row; None for a row that has to go the way of batches.

    That is so for values of other types than their columns', nulls with no value in the input, and lists that may have
    different sizes. A column that is missing is a KeyError.
    """
    makers = [(part.name, _maker(part)) for part in parts]

    def arrays(row: Row) -> dict[str, Array] | None:
        try:
            return {name: make(row) for name, make in makers}
        except (_UnusualError, ValueError, TypeError, OverflowError):
            return None

    return arrays


def _maker(part: VectorInput | MatrixInput | ListInput) -> Callable[[Row], Array]:
    if isinstance(part, VectorInput):
        name, read = part.column.name, _reader(part.column.natural, part.dtype, part.nulls)
        return lambda row: read([row[name]])
    if isinstance(part, MatrixInput):
        return _matrix(part)
    if any(part.variable):
        return _unusual
    return _fixed(part)


def _unusual(_: Row) -> Array:
    raise _UnusualError


def _matrix(part: MatrixInput) -> Callable[[Row], Array]:
    if any(c.width is not None for c in part.columns):
        return _unusual
    kinds = {c.natural for c in part.columns}
    if len(kinds) == 1:
        names, read = [c.name for c in part.columns], _reader(kinds.pop(), part.dtype, part.nulls)
        return lambda row: read([row[name] for name in names]).reshape(1, -1)
    groups = []
    for kind in kinds:
        at = [i for i, c in enumerate(part.columns) if c.natural == kind]
        groups.append((at, [part.columns[i].name for i in at], _reader(kind, part.dtype, part.nulls)))
    width, dtype = part.width, part.dtype

    def read_groups(row: Row) -> Array:
        out = np.empty((1, width), dtype=dtype)
        for at, names, read in groups:
            out[0, at] = read([row[name] for name in names])
        return out

    return read_groups


def _fixed(part: ListInput) -> Callable[[Row], Array]:
    column: Column = part.column
    sizes = tuple(int(s or 0) for s in part.sizes)
    shape = (1, *(part.shape or sizes))
    if column.natural.kind not in "fiu" or part.dtype == TEXT:
        return _unusual
    name, natural, dtype = column.name, column.natural, part.dtype

    def read(row: Row) -> Array:
        values = row[name]
        array = np.asarray(values)
        # NumPy would take booleans among numbers for numbers.
        mixed = not isinstance(values, np.ndarray) and (len(sizes) > 1 or bool in map(type, values))
        if mixed or array.shape != sizes:
            raise _UnusualError
        return _converted(array, natural, dtype).reshape(shape)

    return read


def _reader(natural: np.dtype[Any], dtype: np.dtype[Any], nulls: str) -> Callable[[list[Any]], Array]:
    """From the values of columns of one type to an array of the input's."""
    if natural == TEXT:
        return _texts if dtype == TEXT else _never
    if dtype == TEXT:
        return _never
    nan = float("nan")

    def read(values: list[Any]) -> Array:
        if None in values:
            if nulls != "nan" or natural.kind != "f":
                raise _UnusualError
            values = [nan if v is None else v for v in values]
        if natural.kind != "b" and bool in map(type, values):
            raise _UnusualError
        return _converted(np.array(values), natural, dtype)

    return read


def _never(_: list[Any]) -> Array:
    raise _UnusualError


def _texts(values: list[Any]) -> Array:
    if not all(type(v) is str for v in values):
        raise _UnusualError
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _converted(array: Array, natural: np.dtype[Any], dtype: np.dtype[Any]) -> Array:
    """Python's values through the column's type, as Arrow would hold them, to the input's."""
    kind = array.dtype.kind
    if kind in "fi" and natural.kind == "f":
        # Among floating-point numbers an integer is not seen any more.
        if (np.abs(array) > EXACT_INTEGERS[natural.itemsize]).any():
            raise _UnusualError
        through = array.astype(natural, copy=False)
    elif kind == "i" and natural.kind in "iu":
        if natural != array.dtype and not _within(array, natural):
            raise _UnusualError
        through = array.astype(natural, copy=False)
    elif kind == "b" and natural.kind == "b":
        through = array
    else:
        raise _UnusualError
    narrower = dtype.kind in "iu" and not np.can_cast(through.dtype, dtype)
    if narrower and not _within(through, dtype):
        raise _UnusualError
    if through.dtype == dtype:
        return through
    with np.errstate(over="ignore"):
        return through.astype(dtype)


def _within(array: Array, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return not array.size or (int(array.min()) >= limits.min and int(array.max()) <= limits.max)

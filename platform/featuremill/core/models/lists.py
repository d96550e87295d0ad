"""Columns of lists as arrays: reshaped where all rows have one size, filled up where they have not.

All work goes by offsets, with no Python object per row. A list of lists is one array with as many axes more, so that
images of different sizes are filled up on every side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.transforms.arrays import is_list

__all__ = ["Nested", "dimensions", "fill", "open_lists", "tensor_storage"]

Ints = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


def tensor_storage(type_: pa.DataType) -> tuple[pa.DataType, tuple[int, ...] | None]:
    """The plain type behind a column, and the shape that an Arrow tensor declares.

    >>> tensor_storage(pa.fixed_shape_tensor(pa.float32(), [2, 3]))
    (FixedSizeListType(fixed_size_list<item: float>[6]), (2, 3))
    """
    if isinstance(type_, pa.FixedShapeTensorType):
        return type_.storage_type, tuple(int(s) for s in type_.shape)
    return type_, None


def dimensions(type_: pa.DataType) -> tuple[tuple[int | None, ...], pa.DataType]:
    """The sizes of the lists of a column from the outside in, None where rows differ, and the type inside.

    >>> dimensions(pa.list_(pa.list_(pa.float32(), 3)))
    ((None, 3), DataType(float))
    """
    sizes: list[int | None] = []
    while is_list(type_):
        sizes.append(type_.list_size if pt.is_fixed_size_list(type_) else None)
        type_ = type_.value_type
    return tuple(sizes), type_


@dataclass(frozen=True)
class Nested:
    """A column of lists, taken apart.

    Parameters
    ----------
    rows
        How many rows the column has.
    lengths
        For each level from the outside in, the sizes of its lists; a null list has the size 0, or that of its type.
    nulls
        For each level which lists are null; None: none is.
    leaves
        What is inside, end to end.
    fixed
        Which levels have one size by type.
    """

    rows: int
    lengths: tuple[Ints, ...]
    nulls: tuple[Bool | None, ...]
    leaves: pa.Array
    fixed: tuple[bool, ...]

    def row_of(self, level: int) -> Ints:
        """For each list of a level, or each leaf for the level after the last, the row that it is in."""
        rows = np.arange(self.rows, dtype=np.int64)
        for lengths in self.lengths[:level]:
            rows = np.repeat(rows, lengths)
        return rows

    def sizes(self) -> Ints:
        """The size of each row on each axis, shape (n_rows, n_levels): that of the largest list of a level in it."""
        found = np.zeros((self.rows, len(self.lengths)), dtype=np.int64)
        for level, lengths in enumerate(self.lengths):
            if level == 0:
                found[:, 0] = lengths
            else:
                np.maximum.at(found[:, level], self.row_of(level), lengths)
        return found


def open_lists(array: pa.Array) -> Nested:
    """The lists of a column, whatever their layout, and what they hold.

    >>> nested = open_lists(pa.array([[1, 2], None, [3]]))
    >>> nested.lengths, nested.leaves.to_pylist()
    ((array([2, 0, 1]),), [1, 2, 3])
    """
    rows = len(array)
    lengths: list[Ints] = []
    nulls: list[Bool | None] = []
    fixed: list[bool] = []
    while is_list(array.type):
        null = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
        if pt.is_fixed_size_list(array.type):
            size = array.type.list_size
            lengths.append(np.full(len(array), size, dtype=np.int64))
            fixed.append(True)
            # `.values` ignores the offset of a slice, `.flatten()` drops null lists: slice by hand to keep every slot.
            inner = array.values.slice(array.offset * size, len(array) * size)
        else:
            found = pc.list_value_length(array)
            found = found.fill_null(0) if null is not None else found
            lengths.append(found.to_numpy(zero_copy_only=False).astype(np.int64, copy=False))
            fixed.append(False)
            inner = array.flatten()
        nulls.append(null)
        array = inner
    return Nested(rows, tuple(lengths), tuple(nulls), array, tuple(fixed))


def fill(
    nested: Nested, values: npt.NDArray[Any], sizes: Sequence[int], value: Any, *, masked: int = 0
) -> tuple[npt.NDArray[Any], Bool | None]:
    """The lists as one array, rows first and then an axis for each level, and where it holds values.

    Parameters
    ----------
    values
        The leaves, converted.
    sizes
        Of each axis; what lies beyond is cut off.
    value
        What fills the rest.
    masked
        On how many of the axes the mask is wanted; 0: no mask.

    >>> nested = open_lists(pa.array([[1, 2], [3]]))
    >>> fill(nested, np.array([1, 2, 3]), [2], 0, masked=1)
    (array([[1, 2],
           [3, 0]]), array([[ True,  True],
           [ True, False]]))
    """
    shape = (nested.rows, *sizes)
    even = all((lengths == size).all() for lengths, size in zip(nested.lengths, sizes, strict=True))
    if even:
        mask = np.ones(shape[: masked + 1], dtype=bool) if masked else None
        return values.reshape(shape), mask
    target, mask = _places(nested, sizes, masked)
    out = np.full(int(np.prod(shape)), value, dtype=values.dtype)
    inside = target >= 0
    if inside.all():
        out[target] = values
    else:
        out[target[inside]] = values[inside]
    return out.reshape(shape), mask


def _places(nested: Nested, sizes: Sequence[int], masked: int) -> tuple[Ints, Bool | None]:
    """For each leaf its place in the flat result, -1 when it is cut off; and the mask."""
    place = np.arange(nested.rows, dtype=np.int64)
    mask = None
    for level, (lengths, size) in enumerate(zip(nested.lengths, sizes, strict=True)):
        starts = np.cumsum(lengths) - lengths
        within = np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(starts, lengths)
        above = np.repeat(place, lengths)
        place = np.where((above < 0) | (within >= size), -1, above * size + within)
        if level + 1 == masked:
            shape = (nested.rows, *sizes[:masked])
            mask = np.zeros(int(np.prod(shape)), dtype=bool)
            mask[place[place >= 0]] = True
            mask = mask.reshape(shape)
    return place, mask

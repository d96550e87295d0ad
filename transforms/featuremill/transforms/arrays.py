"""Arrow columns seen as what transforms work on: numbers, texts, and the leaves of lists.

The only place that knows how Arrow lays out validity, dictionaries and lists; the families of transforms build on it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

__all__ = [
    "dictionary_parts",
    "from_numpy",
    "is_list",
    "is_numeric",
    "is_text",
    "leaf_type",
    "leaves",
    "map_leaves",
    "replace_leaf_type",
    "to_float64",
    "value_type",
]

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


def is_list(type_: pa.DataType) -> bool:
    """Whether values are lists: variable, large, view or fixed-size."""
    return bool(
        pt.is_list(type_)
        or pt.is_large_list(type_)
        or pt.is_fixed_size_list(type_)
        or pt.is_list_view(type_)
        or pt.is_large_list_view(type_)
    )


def value_type(type_: pa.DataType) -> pa.DataType:
    """The type of the values behind a dictionary encoding; any other type as it is."""
    return type_.value_type if pt.is_dictionary(type_) else type_


def leaf_type(type_: pa.DataType) -> pa.DataType:
    """The type of the values inside lists of any depth, dictionary encoding removed.

    >>> leaf_type(pa.list_(pa.dictionary(pa.int32(), pa.string())))
    DataType(string)
    """
    type_ = value_type(type_)
    while is_list(type_):
        type_ = value_type(type_.value_type)
    return type_


def replace_leaf_type(type_: pa.DataType, leaf: pa.DataType) -> pa.DataType:
    """The same nesting of lists around another leaf type; views become plain lists.

    >>> replace_leaf_type(pa.list_(pa.string(), 3), pa.int64())
    FixedSizeListType(fixed_size_list<item: int64>[3])
    """
    type_ = value_type(type_)
    if pt.is_fixed_size_list(type_):
        return pa.list_(replace_leaf_type(type_.value_type, leaf), type_.list_size)
    if pt.is_large_list(type_) or pt.is_large_list_view(type_):
        return pa.large_list(replace_leaf_type(type_.value_type, leaf))
    if is_list(type_):
        return pa.list_(replace_leaf_type(type_.value_type, leaf))
    return leaf


def is_numeric(type_: pa.DataType) -> bool:
    """Whether the leaves are numbers: integers, floats, decimals, booleans (as 0 and 1) or all null."""
    leaf = leaf_type(type_)
    numbers = pt.is_integer(leaf) or pt.is_floating(leaf) or pt.is_decimal(leaf)
    return bool(numbers or pt.is_boolean(leaf) or pt.is_null(leaf))


def is_text(type_: pa.DataType) -> bool:
    """Whether the leaves are strings or bytes, in any of Arrow's layouts."""
    leaf = leaf_type(type_)
    return bool(
        pt.is_string(leaf)
        or pt.is_large_string(leaf)
        or pt.is_string_view(leaf)
        or pt.is_binary(leaf)
        or pt.is_large_binary(leaf)
        or pt.is_binary_view(leaf)
        or pt.is_fixed_size_binary(leaf)
    )


def leaves(array: pa.Array) -> pa.Array:
    """The values of a column without its lists: what statistics see. Null lists have no leaves; null leaves stay.

    A column that is no list comes back as it is (dictionary-encoded stays so).
    """
    while is_list(array.type):
        array = array.flatten()
    return array


def map_leaves(array: pa.Array, function: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """`function` (length-preserving) over the leaves, the lists around them kept; null lists stay null.

    >>> map_leaves(pa.array([[1, 2], None, [3]]), lambda v: pc.multiply(v, 2)).to_pylist()
    [[2, 4], None, [6]]
    """
    type_ = array.type
    if not is_list(type_):
        return function(array)
    if pt.is_fixed_size_list(type_):
        size = type_.list_size
        # `.values` ignores the offset of a slice, `.flatten()` drops null lists: slice by hand to keep every slot.
        inner = map_leaves(array.values.slice(array.offset * size, len(array) * size), function)
        return pa.FixedSizeListArray.from_arrays(inner, size, mask=_null_mask(array))
    # Not by a cast from views to plain lists: that of Arrow 25 leaves out the last offset where there are nulls.
    inner = map_leaves(array.flatten(), function)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    large = pt.is_large_list(type_) or pt.is_large_list_view(type_)
    offsets = np.zeros(len(array) + 1, dtype=np.int64 if large else np.int32)
    np.cumsum(lengths, out=offsets[1:])
    kind = pa.LargeListArray if large else pa.ListArray
    return kind.from_arrays(pa.array(offsets), inner, mask=_null_mask(array))


def _null_mask(array: pa.Array) -> pa.Array | None:
    return array.is_null() if array.null_count else None


def to_float64(array: pa.Array) -> tuple[Float64, Bool | None]:
    """The leaves' numbers as float64, shape (n,), and which are valid (None: all); invalid slots hold 0.0, NaN counts.

    Integers beyond 2**53 round to the nearest float64; decimals likewise. `array` must not be a list.
    """
    if pt.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pt.is_null(array.type):
        return np.zeros(len(array)), np.zeros(len(array), dtype=bool)
    valid = None
    if array.null_count:
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        array = array.fill_null(False if pt.is_boolean(array.type) else pa.scalar(0, pa.int8()).cast(array.type))
    if pt.is_boolean(array.type):
        return array.to_numpy(zero_copy_only=False).astype(np.float64), valid
    if not pt.is_float64(array.type):
        array = array.cast(pa.float64(), safe=False)
    return array.to_numpy(zero_copy_only=False), valid


def from_numpy(values: npt.NDArray[np.generic], valid: Bool | None, type_: pa.DataType | None = None) -> pa.Array:
    """An Arrow array from numbers, shape (n,), null where `valid` is False. NaN stays NaN."""
    return pa.array(values, type=type_, mask=None if valid is None else ~valid, from_pandas=False)


def dictionary_parts(array: pa.Array) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The distinct values of a column and, for each row, which one: ``(values, indices)``, -1 where null.

    A dictionary-encoded column gives its own dictionary (which may hold values that no row uses); others are encoded.
    Nulls inside a dictionary count as null rows.
    """
    if not pt.is_dictionary(array.type):
        array = pc.dictionary_encode(array)
    indices = array.indices
    if indices.null_count:
        indices = indices.fill_null(pa.scalar(-1, indices.type) if pt.is_signed_integer(indices.type) else 0)
        codes = indices.to_numpy(zero_copy_only=False).astype(np.int64)
        codes[array.indices.is_null().to_numpy(zero_copy_only=False)] = -1
    else:
        codes = indices.to_numpy(zero_copy_only=False).astype(np.int64)
    values = array.dictionary
    if values.null_count:
        dead = values.is_null().to_numpy(zero_copy_only=False)
        codes = np.where((codes >= 0) & dead[codes], -1, codes)
    return values, codes

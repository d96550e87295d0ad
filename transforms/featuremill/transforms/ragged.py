"""A column of lists as one flat array of values and the positions where its rows begin.

The text transforms and TF-IDF work on this form: every step is then one kernel over all values of a batch, and a row is
nothing but a range. A scalar column is a column of lists of one value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.transforms.arrays import is_list, value_type

__all__ = ["Ragged", "distinct", "flat_leaf_type", "list_of", "over_dictionary", "ragged", "without_view"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of values: row ``i`` has ``values[offsets[i]:offsets[i + 1]]``.

    Parameters
    ----------
    values
        All values, shape (n_values,), none null, neither dictionary-encoded nor views.
    offsets
        Shape (n_rows + 1,), int64, from 0 to n_values.
    nulls
        Which rows are null, shape (n_rows,); None: none is. A null row has no values.
    """

    values: pa.Array
    offsets: Int64
    nulls: pa.Array | None

    @property
    def lengths(self) -> Int64:
        """How many values each row has, shape (n_rows,), int64."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> Int64:
        """The row of each value, shape (n_values,), int64, ascending."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    def to_lists(self, type_: pa.DataType) -> pa.Array:
        """The rows as a list array of `type_`, shape (n_rows,); null rows are null."""
        large = pt.is_large_list(type_)
        kind = pa.LargeListArray if large else pa.ListArray
        offsets = pa.array(self.offsets, pa.int64() if large else pa.int32())
        return kind.from_arrays(offsets, self.values, type=type_, mask=self.nulls)


def ragged(array: pa.Array) -> Ragged:
    """A column of lists or of scalars as flat values; nulls inside lists are left out, and a scalar is a list of one.

    >>> found = ragged(pa.array([["a", None, "b"], None, []]))
    >>> found.values.to_pylist(), found.offsets.tolist(), found.nulls.to_pylist()
    (['a', 'b'], [0, 2, 2, 2], [False, True, False])
    """
    nulls = array.is_null() if array.null_count else None
    if is_list(array.type):
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        offsets = np.zeros(len(array) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        values = array.flatten()
    else:
        offsets = np.arange(len(array) + 1, dtype=np.int64)
        values = array
    if pt.is_dictionary(values.type):
        values = values.dictionary_decode()
    if without_view(values.type) != values.type:
        values = values.cast(without_view(values.type))
    if values.null_count:
        kept = np.zeros(len(values) + 1, dtype=np.int64)
        np.cumsum(values.is_valid().to_numpy(zero_copy_only=False), out=kept[1:])
        offsets = kept[offsets]
        # A null behind a dictionary's valid index makes the row of a scalar column null too.
        if not is_list(array.type):
            nulls = values.is_null()
        values = values.drop_null()
    return Ragged(values, offsets, nulls)


def without_view(type_: pa.DataType) -> pa.DataType:
    """Plain strings or bytes for views of them, which few of Arrow's kernels take; any other type as it is."""
    if pt.is_string_view(type_):
        return pa.string()
    return pa.binary() if pt.is_binary_view(type_) else type_


def flat_leaf_type(type_: pa.DataType) -> pa.DataType | None:
    """The type of the values of a scalar column or of lists of depth one, dictionary encoding removed; None if deeper.

    Views of strings or bytes count as plain ones.

    >>> flat_leaf_type(pa.list_(pa.dictionary(pa.int8(), pa.string()))), flat_leaf_type(pa.list_(pa.list_(pa.int8())))
    (DataType(string), None)
    """
    leaf = value_type(type_)
    if is_list(leaf):
        leaf = value_type(leaf.value_type)
    return None if is_list(leaf) else without_view(leaf)


def list_of(type_: pa.DataType, leaf: pa.DataType) -> pa.DataType:
    """The type of lists of any length that `type_` (lists or scalars) turns into: large lists stay large."""
    type_ = value_type(type_)
    large = pt.is_large_list(type_) or pt.is_large_list_view(type_)
    return pa.large_list(leaf) if large else pa.list_(leaf)


def over_dictionary(array: pa.Array, function: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """`function` (length-preserving, null to null) of a column; of a dictionary-encoded one, on its distinct values.

    >>> over_dictionary(pa.array(["a", None, "a"]).dictionary_encode(), pc.utf8_upper).to_pylist()
    ['A', None, 'A']
    """
    if not pt.is_dictionary(array.type):
        return function(array)
    if len(array.dictionary) > len(array):
        return function(array.dictionary_decode())
    return function(array.dictionary).take(array.indices)


def distinct(rows: Ragged) -> Ragged:
    """The distinct values of each row in the order in which they first come up.

    All NaNs count as one value, and so do 0.0 and -0.0. The values' type is one that Arrow can dictionary-encode, or
    float16.

    >>> distinct(ragged(pa.array([["b", "a", "b"], ["b"]]))).to_lists(pa.list_(pa.string())).to_pylist()
    [['b', 'a'], ['b']]
    """
    keys = rows.values
    if len(keys) == 0:
        return rows
    if pt.is_floating(keys.type):
        # Arrow tells -0.0 from 0.0, and NaN from NaN, by their bits; adding 0.0 makes one of the former.
        keys = pc.add(keys.cast(pa.float64()), 0.0)
        keys = pc.if_else(pc.is_nan(keys), math.nan, keys)
    encoded = pc.dictionary_encode(keys)
    codes = encoded.indices.to_numpy().astype(np.int64)
    first = first_of_each(rows.rows * len(encoded.dictionary) + codes)
    kept = np.zeros(len(first) + 1, dtype=np.int64)
    np.cumsum(first, out=kept[1:])
    return Ragged(rows.values.filter(pa.array(first)), kept[rows.offsets], rows.nulls)


def first_of_each(keys: Int64) -> npt.NDArray[np.bool_]:
    """Where each distinct key comes up for the first time, shape (n,)."""
    # Arrow numbers values in the order of their first appearance: a new one raises the highest number so far.
    numbers = pc.dictionary_encode(pa.array(keys)).indices.to_numpy()
    highest = np.maximum.accumulate(numbers)
    first = np.ones(len(keys), dtype=bool)
    first[1:] = highest[1:] > highest[:-1]
    return first

"""A function of single values, applied to whole columns by way of their distinct values.

What looks up, hashes or encodes categories costs much more than copying its result. For a dictionary-encoded column it
is computed once for the dictionary, and not again for the next batch when that has the same dictionary: the batches of
a Parquet row group do.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import local

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.transforms.arrays import dictionary_parts, from_numpy

__all__ = ["PerValue", "same_values", "without_views"]

SPARSE_SHARE = 4
"""Of a dictionary with more than this many values per row, only those that the rows use are computed."""

SAMPLE = 1024
"""Values of a plain column that are looked at to see whether values repeat so often that encoding it first pays."""

Bool = npt.NDArray[np.bool_]
Values = npt.NDArray[np.generic]


def same_values(one: pa.Array, other: pa.Array) -> bool:
    """Whether two arrays that are no lists are equal; at once where they are the same memory."""
    if len(one) != len(other) or not one.type.equals(other.type):
        return False
    if one.offset == other.offset:
        places = [[None if b is None else b.address for b in a.buffers()] for a in (one, other)]
        if places[0] == places[1]:
            return True
    return bool(one.equals(other))


def without_views(array: pa.Array) -> pa.Array:
    """String views as strings, binary views as bytes, also in a dictionary: Arrow's kernels take few views."""
    if pt.is_dictionary(array.type) and _is_view(array.type.value_type):
        return pa.DictionaryArray.from_arrays(array.indices, without_views(array.dictionary))
    if not _is_view(array.type):
        return array
    return array.cast(pa.string() if pt.is_string_view(array.type) else pa.binary())


def _is_view(type_: pa.DataType) -> bool:
    return bool(pt.is_string_view(type_) or pt.is_binary_view(type_))


def _repeats(array: pa.Array) -> bool:
    """Whether a plain column is long, and at most half as many values as rows are at its start."""
    if len(array) < 4 * SAMPLE or pt.is_dictionary(array.type) or pt.is_null(array.type):
        return False
    return bool(pc.count_distinct(array.slice(0, SAMPLE), mode="all").as_py() <= SAMPLE // 2)


class PerValue:
    """`function` over columns. Threads may share it.

    Parameters
    ----------
    function
        From values, shape (n,), neither lists nor dictionary-encoded, to numbers, shape (n,); what it gives for a null
        is not used. Equal values must give equal numbers.

    >>> lengths = PerValue(lambda values: np.array([len(v or "") for v in values.to_pylist()]))
    >>> lengths.arrow(pa.array(["a", None, "bcd"]).dictionary_encode(), pa.int64()).to_pylist()
    [1, None, 3]
    """

    def __init__(self, function: Callable[[pa.Array], Values]) -> None:
        self._function = function
        # One memory for each thread: threads work on different row groups, and would drive out each other's dictionary.
        self._memory = local()

    def numpy(self, array: pa.Array) -> tuple[Values, Bool | None]:
        """The numbers, shape (n_rows,), and which rows are valid (None: all)."""
        array = without_views(array)
        if _repeats(array):
            array = array.dictionary_encode()
        if not pt.is_dictionary(array.type):
            valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
            return self._function(array), valid
        dictionary, codes = dictionary_parts(array)
        results = self._of_dictionary(dictionary, codes)
        valid = codes >= 0
        if valid.all():
            return results[codes], None
        # With an empty dictionary there is nothing to take from, and every row is null.
        return results[np.maximum(codes, 0)] if len(results) else np.zeros(len(codes), results.dtype), valid

    def arrow(self, array: pa.Array, type_: pa.DataType) -> pa.Array:
        """The numbers as an Arrow array of `type_`, shape (n_rows,); null for null."""
        array = without_views(array)
        if not pt.is_dictionary(array.type) or len(array.dictionary) > SPARSE_SHARE * len(array):
            return from_numpy(*self.numpy(array), type_)
        # One kernel from indices to results, which carries the nulls along.
        results = self._of_dictionary(array.dictionary, None)
        dead = array.dictionary.is_null().to_numpy(zero_copy_only=False) if array.dictionary.null_count else None
        return pa.array(results, type_, mask=dead).take(array.indices)

    def _of_dictionary(self, dictionary: pa.Array, codes: npt.NDArray[np.int64] | None) -> Values:
        last: tuple[pa.Array, Values] | None = getattr(self._memory, "last", None)
        if last is not None and same_values(last[0], dictionary):
            return last[1]
        if codes is not None and len(dictionary) > SPARSE_SHARE * len(codes):
            used = np.unique(codes[codes >= 0])
            found = self._function(dictionary.take(pa.array(used)))
            results = np.zeros(len(dictionary), found.dtype)
            results[used] = found
            return results
        results = self._function(dictionary)
        self._memory.last = (dictionary, results)
        return results

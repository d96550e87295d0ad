"""One input of a model made from its columns: side by side in a matrix, or one column of lists.

What is built has been checked against the schema (:mod:`featuremill.core.models.inputs`), so that only values can be
wrong here, and they cost their rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.artifacts.errors import ParameterError
from featuremill.core.models.leaves import TEXT, Nulls, bad_leaves, leaf_array
from featuremill.core.models.lists import Nested, fill, open_lists
from featuremill.core.models.spec import Padding

__all__ = ["Bad", "Column", "ListInput", "MatrixInput", "VectorInput"]

Bool = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]
BLOCK_ROWS = 4096
"""Rows of a matrix that are filled together, so that they stay in the processor's cache from column to column."""


@dataclass(frozen=True)
class Bad:
    """Rows that cannot become an input, and why."""

    rows: Bool
    column: str
    reason: str


@dataclass(frozen=True)
class Column:
    """A column of the schema, as a part of an input."""

    name: str
    leaf: pa.DataType
    natural: np.dtype[Any]
    """The type of its values in NumPy."""
    width: int | None = None
    """Of a fixed-size list of values; None: single values."""


def _storage(batch: pa.RecordBatch, name: str) -> pa.Array:
    array = batch.column(name)
    return array.storage if isinstance(array, pa.ExtensionArray) else array


@dataclass(frozen=True)
class VectorInput:
    """One column of single values: shape (n_rows,)."""

    name: str
    column: Column
    dtype: np.dtype[Any]
    nulls: Nulls

    def bad(self, batch: pa.RecordBatch) -> list[Bad]:
        return _bad_values(batch, self.column, self.dtype, self.nulls)

    def bucket(self, batch: pa.RecordBatch) -> Ints | None:
        return None

    def build(self, batch: pa.RecordBatch, bucket: int | None) -> dict[str, Array]:
        return {self.name: leaf_array(_storage(batch, self.column.name), self.dtype, self.nulls)}


@dataclass(frozen=True)
class MatrixInput:
    """Columns side by side, single values or fixed-size lists: shape (n_rows, width), C-contiguous."""

    name: str
    columns: tuple[Column, ...]
    dtype: np.dtype[Any]
    nulls: Nulls

    @cached_property
    def width(self) -> int:
        return sum(1 if c.width is None else c.width for c in self.columns)

    def bad(self, batch: pa.RecordBatch) -> list[Bad]:
        return [bad for c in self.columns for bad in _bad_values(batch, c, self.dtype, self.nulls)]

    def bucket(self, batch: pa.RecordBatch) -> Ints | None:
        return None

    def build(self, batch: pa.RecordBatch, bucket: int | None) -> dict[str, Array]:
        parts = [self._part(batch, column) for column in self.columns]
        if len(parts) == 1:
            return {self.name: parts[0].reshape(batch.num_rows, self.width)}
        out = np.empty((batch.num_rows, self.width), dtype=self.dtype)
        # What is beyond the range of float32 is infinite in it.
        with np.errstate(over="ignore"):
            self._lay(out, parts)
        return {self.name: out}

    @staticmethod
    def _lay(out: Array, parts: Sequence[Array]) -> None:
        for start in range(0, len(out), BLOCK_ROWS):
            block, at = out[start : start + BLOCK_ROWS], 0
            for part in parts:
                piece = part[start : start + BLOCK_ROWS]
                if piece.ndim == 1:
                    block[:, at] = piece
                    at += 1
                else:
                    block[:, at : at + piece.shape[1]] = piece
                    at += piece.shape[1]

    def _part(self, batch: pa.RecordBatch, column: Column) -> Array:
        # Values are converted while they are laid side by side, unless the column alone is the matrix.
        alone = len(self.columns) == 1
        array = _storage(batch, column.name)
        wanted = self.dtype if alone or array.null_count or self.dtype == TEXT else None
        if column.width is None:
            return leaf_array(array, wanted, self.nulls)
        nested = open_lists(array)
        values = leaf_array(nested.leaves, self.dtype, self.nulls)
        return _null_lists(nested, values, self.nulls).reshape(batch.num_rows, column.width)


def _bad_values(batch: pa.RecordBatch, column: Column, dtype: np.dtype[Any], nulls: Nulls) -> list[Bad]:
    array = _storage(batch, column.name)
    if column.width is None:
        return [Bad(mask, column.name, reason) for mask, reason in bad_leaves(array, dtype, nulls)]
    return _bad_lists(open_lists(array), column.name, dtype, nulls)


def _bad_lists(nested: Nested, column: str, dtype: np.dtype[Any], nulls: Nulls) -> list[Bad]:
    """Rows with null lists, or values in them, for which the input has no value."""
    found = []
    for level, null in enumerate(nested.nulls):
        # A list of one size by type has as many NaN; of any other it is not known how many.
        if null is not None and nulls != "zero" and (nulls == "reject" or dtype.kind != "f" or not nested.fixed[level]):
            why = "it is null" if level == 0 else "a list in it is null"
            found.append(Bad(_any_in_row(nested, level, null), column, why))
    for mask, reason in bad_leaves(nested.leaves, dtype, nulls):
        in_lists = reason.replace("it is", "a value in it is", 1)
        found.append(Bad(_any_in_row(nested, len(nested.lengths), mask), column, in_lists))
    return found


def _any_in_row(nested: Nested, level: int, mask: Bool) -> Bool:
    rows = np.zeros(nested.rows, dtype=bool)
    rows[nested.row_of(level)[mask]] = True
    return rows


def _null_lists(nested: Nested, values: Array, nulls: Nulls) -> Array:
    """The leaves, with what lies under null lists of one size overwritten: it can be anything."""
    for level, null in enumerate(nested.nulls):
        if null is None or not null.any():
            continue
        under = null
        for lengths in nested.lengths[level:]:
            under = np.repeat(under, lengths)
        if under.any():
            nothing: Any = "" if values.dtype == TEXT else 0 if nulls == "zero" else np.nan
            values = np.where(under, np.array(nothing, dtype=values.dtype), values)
    return values


@dataclass(frozen=True)
class ListInput:
    """One column of lists: shape (n_rows, …), filled up where lists are shorter.

    Parameters
    ----------
    sizes
        What the size of each axis has to be; None: that of the batch, or of the bucket.
    variable
        Which axes differ between rows by type.
    shape
        Into what a row is reshaped.
    mask_dtype
        Of the mask, where `pad` names one.
    """

    name: str
    column: Column
    dtype: np.dtype[Any]
    nulls: Nulls
    sizes: tuple[int | None, ...]
    variable: tuple[bool, ...]
    pad: Padding | None = None
    max_length: int | None = None
    truncate: bool = False
    shape: tuple[int, ...] | None = None
    mask_dtype: np.dtype[Any] | None = None

    def bad(self, batch: pa.RecordBatch) -> list[Bad]:
        nested = open_lists(_storage(batch, self.column.name))
        found = _bad_lists(nested, self.column.name, self.dtype, self.nulls)
        if not any(self.variable):
            return found
        sizes = nested.sizes()
        for axis in np.flatnonzero(self.variable):
            found += self._bad_sizes(sizes[:, axis], int(axis))
        if self.pad is None:
            found += self._uneven(nested)
        return found

    def _bad_sizes(self, sizes: Ints, axis: int) -> list[Bad]:
        most, exact = self._most(axis), self.sizes[axis] if self.pad is None else None
        if exact is not None:
            wrong = (sizes < exact) if self.truncate and most == exact else (sizes != exact)
            return self._of(sizes, wrong, axis, f"the model takes {exact}")
        if most is not None and not self.truncate:
            return self._of(sizes, sizes > most, axis, f"the most is {most}; set a larger one, or truncate: true")
        return []

    def _of(self, sizes: Ints, wrong: Bool, axis: int, expected: str) -> list[Bad]:
        where = f" on axis {axis}" if len(self.sizes) > 1 else ""
        return [
            Bad(wrong & (sizes == size), self.column.name, f"its length{where} is {size}, {expected}")
            for size in np.unique(sizes[wrong])
        ]

    def _uneven(self, nested: Nested) -> list[Bad]:
        """Rows whose inner lists have different sizes, where a size is required and nothing may be filled."""
        found = []
        for level in range(1, len(self.sizes)):
            exact = self.sizes[level]
            if exact is not None and self.variable[level]:
                wrong = _any_in_row(nested, level, nested.lengths[level] != exact)
                found.append(Bad(wrong, self.column.name, f"a list in it is not of length {exact}"))
        return found

    def _most(self, axis: int) -> int | None:
        """The longest list that there may be."""
        limits = [self.max_length]
        if self.pad is not None and isinstance(self.pad.to, int):
            limits.append(self.pad.to)
        if self.pad is not None and self.pad.buckets:
            limits.append(self.pad.buckets[-1])
        known = [limit for limit in limits if limit is not None]
        return min(known) if known else None

    def bucket(self, batch: pa.RecordBatch) -> Ints | None:
        """For each row the size of its bucket; None where there are no buckets."""
        if self.pad is None or self.pad.to != "bucket":
            return None
        nested = open_lists(_storage(batch, self.column.name))
        longest = nested.sizes()[:, np.asarray(self.variable)].max(axis=1, initial=1)
        most = self._most(0)
        if most is not None:
            longest = np.minimum(longest, most)
        if self.pad.buckets:
            edges = np.asarray(self.pad.buckets, dtype=np.int64)
            found: Ints = edges[np.searchsorted(edges, longest)]
            return found
        powers: Ints = np.left_shift(1, np.ceil(np.log2(longest)).astype(np.int64))
        return powers if most is None else np.minimum(powers, most)

    def build(self, batch: pa.RecordBatch, bucket: int | None) -> dict[str, Array]:
        nested = open_lists(_storage(batch, self.column.name))
        sizes = self._target(nested, bucket)
        values = _null_lists(nested, leaf_array(nested.leaves, self.dtype, self.nulls), self.nulls)
        filler: Any = "" if self.dtype == TEXT else (self.pad.value if self.pad else 0)
        masked = max((i + 1 for i, v in enumerate(self.variable) if v), default=1) if self.mask_dtype is not None else 0
        array, mask = fill(nested, values, sizes, filler, masked=masked)
        out = {self.name: array.reshape(batch.num_rows, *self.shape) if self.shape else array}
        if mask is not None and self.pad is not None and self.pad.mask is not None:
            out[self.pad.mask] = mask.astype(self.mask_dtype)
        return out

    def _target(self, nested: Nested, bucket: int | None) -> list[int]:
        sizes = []
        for axis, (lengths, size) in enumerate(zip(nested.lengths, self.sizes, strict=True)):
            if not self.variable[axis] or (size is not None and bucket is None):
                sizes.append(int(size or 0))
            elif bucket is not None:
                sizes.append(bucket)
            elif self.pad is None:
                sizes.append(self._only(nested, axis))
            else:
                longest = int(lengths.max(initial=1))
                most = self._most(axis)
                sizes.append(longest if most is None else min(longest, most))
        return sizes

    def _only(self, nested: Nested, axis: int) -> int:
        """The one size that all lists of an axis have."""
        lengths, most = nested.lengths[axis], self.max_length
        if most is not None:
            lengths = np.minimum(lengths, most)
        if len(lengths) == 0:
            return 0
        other = np.flatnonzero(lengths != lengths[0])
        if len(other):
            rows = nested.row_of(axis)
            two = [int(lengths[0]), int(lengths[other[0]])]
            raise self._differ(nested, int(rows[0]), int(rows[other[0]]), axis, two)
        return int(lengths[0])

    def _differ(self, nested: Nested, first: int, row: int, axis: int, lengths: Sequence[int]) -> ParameterError:
        sizes = nested.sizes()
        shapes = [tuple(int(s) for s in sizes[r]) for r in (first, row)]
        if shapes[0] == shapes[1]:
            what = f"row {row} has lists of lengths {lengths[0]} and {lengths[1]} on axis {axis}"
        else:
            what = f"row {first} has the shape {shapes[0]}, row {row} has {shapes[1]}"
        return ParameterError(
            f"Input {self.name!r}: the lists of column {self.column.name!r} differ in size, and one array holds only "
            f"lists of one size: {what}. Set pad: {{to: longest}} to fill them up, or pad: {{to: bucket}}.",
            input=self.name, column=self.column.name, row=row, shapes=shapes, parameter="pad",
        )

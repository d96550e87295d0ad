"""Bucketing: numbers become the index of the bucket they fall in, or their place among the buckets.

Bucket ``i`` holds ``boundaries[i-1] <= x < boundaries[i]``; values below the first boundary are in bucket 0, values
from the last boundary on, and NaN, in bucket ``len(boundaries)``. Boundaries are given, or are quantiles of the data.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from ctypes import c_float
from dataclasses import dataclass, field
from math import isfinite, isnan
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import JobError, ParameterError
from featuremill.transforms.arrays import leaf_type, replace_leaf_type
from featuremill.transforms.contract import Analyzer, ColumnTransform, RowFunction, State
from featuremill.transforms.floats import (
    check_flag,
    check_number,
    check_numeric_column,
    map_numbers,
    over_lists,
    over_positions,
    width,
)
from featuremill.transforms.histogram import Histogram, bins_of, quantile_boundaries, rank_error

__all__ = ["ApplyBuckets", "ApplyBucketsWithInterpolation", "Bucketize"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

LARGEST_TOLERANCE = 0.01
"""By what share of the data a boundary may be off where nothing is said; with many buckets, one over their number."""


def bucket_indices(values: Float64, boundaries: Float64) -> Int64:
    """The bucket of each value, int64, the shape of `values`.

    Parameters
    ----------
    values
        Shape (n,), or (n, p) with boundaries by position.
    boundaries
        Not descending, shape (b,) or (p, b).

    Examples
    --------
    >>> bucket_indices(np.array([4.0, np.nan, 1.0, -np.inf, 10.0]), np.array([2.0, 5.0, 10.0]))
    array([1, 3, 0, 0, 3])
    """
    if boundaries.ndim == 1:
        return np.searchsorted(boundaries, values, side="right")
    columns = [np.searchsorted(b, v, side="right") for b, v in zip(boundaries, values.T, strict=True)]
    return np.stack(columns, axis=1) if columns else np.zeros(values.shape, np.int64)


def interpolate(values: Float64, boundaries: Float64) -> Float64:
    """The place of each value among the buckets, from 0 at the first boundary to 1 at the last; NaN is at 0.5.

    Between two boundaries it grows evenly, and every bucket takes up the same share. With one boundary, values below it
    are 0 and the others 1. Shape (n,).

    >>> interpolate(np.array([15.0, 20.0, 27.5, np.nan]), np.array([10.0, 20.0, 30.0]))
    array([0.25 , 0.5  , 0.875, 0.5  ])
    """
    count = len(boundaries)
    found = np.searchsorted(boundaries, values, side="right")
    if count == 1:
        return np.where(np.isnan(values), 0.5, found.astype(np.float64))
    inside = np.clip(found, 1, count - 1)
    low = boundaries[inside - 1]
    place = (inside - 1) + (values - low) / (boundaries[inside] - low)
    place = np.where(found == 0, 0.0, np.where(found == count, count - 1.0, place)) / (count - 1)
    return np.where(np.isnan(values), 0.5, place)


def _bucket_row(boundaries: Sequence[float], type_: pa.DataType) -> RowFunction:
    """The bucket of one number; NaN compares as above every boundary."""
    if pt.is_floating(leaf_type(type_)) or pt.is_decimal(leaf_type(type_)):
        return lambda v: None if v is None else bisect_right(boundaries, v)
    # Batches compare float64, to which an integer beyond 2**53 is rounded.
    return lambda v: None if v is None else bisect_right(boundaries, float(v))


@dataclass(frozen=True)
class _Buckets(ColumnTransform):
    """Transforms that give bucket indices; what they prepare is boundaries, shape (b,), or (p, b) by position."""

    def output_type(self, column: pa.Field) -> pa.DataType:
        check_numeric_column(self, column)
        return replace_leaf_type(column.type, pa.int64())

    def apply_column(self, array: pa.Array, prepared: Float64) -> pa.Array:
        size = len(prepared) if prepared.ndim == 2 else None
        return map_numbers(array, lambda values: bucket_indices(values, prepared), pa.int64(), size=size)

    def row_function(self, prepared: Float64, column: pa.Field) -> RowFunction:
        if prepared.ndim == 1:
            return over_lists(_bucket_row(prepared.tolist(), column.type), column.type)
        leaf = column.type.value_type
        return over_positions([over_lists(_bucket_row(b, leaf), leaf) for b in prepared.tolist()])


@dataclass(frozen=True)
class Bucketize(_Buckets):
    """The columns cut into buckets of about equal size: int64 from 0 to ``num_buckets - 1``.

    The boundaries are the values at positions ``floor(i * n / num_buckets)`` of the sorted data. They are read from a
    histogram, which is exact for up to 65,536 distinct values; above that a boundary may be off by a share of the data,
    usually about 0.0001. A value so frequent that it fills buckets leaves some of them empty. Fitting skips nulls and
    NaN; infinite values count. Applying keeps nulls, and puts NaN into the last bucket. Without any data there is one
    bucket, 0.

    Parameters
    ----------
    columns
        Numbers of any Arrow type, or lists of them: all values of a column have the same boundaries.
    num_buckets
        How many buckets, at least 1.
    epsilon
        By what share of the data a boundary may be off, above 0. By default 0.01, or ``1 / num_buckets`` if that is
        less.
    elementwise
        For fixed-size lists: boundaries for each position.
    exact
        Keep every distinct value, however many: no error, at 24 bytes of memory for each.

    Raises
    ------
    JobError
        When the data is so spread out that the histogram cannot keep to `epsilon`.

    Examples
    --------
    >>> op = Bucketize(columns=["x"], num_buckets=3)
    >>> batch = pa.record_batch({"x": [1, 2, 3, 4, 5, None, 6]})
    >>> accumulator = op.analyzers()["x"].accumulator()
    >>> accumulator.update(batch["x"])
    >>> state = op.analyzers()["x"].finish(accumulator.partial())
    >>> op.apply(batch, op.prepare({"x": state}, batch.schema))[0].to_pylist()
    [0, 0, 1, 1, 2, None, 2]
    >>> Bucketize(columns=["x"], num_buckets=0)
    Traceback (most recent call last):
        ...
    featuremill.artifacts.errors.ParameterError: Bucketize('x'): num_buckets got 0, expected a whole number, at least 1.
    """

    num_buckets: int
    epsilon: float | None = field(default=None, kw_only=True)
    elementwise: bool = field(default=False, kw_only=True)
    exact: bool = field(default=False, kw_only=True)

    def check(self) -> None:
        if isinstance(self.num_buckets, bool) or not isinstance(self.num_buckets, int):
            raise self.wrong("num_buckets", self.num_buckets, "a whole number, at least 1", wrong_type=True)
        if self.num_buckets < 1:
            raise self.wrong("num_buckets", self.num_buckets, "a whole number, at least 1")
        if self.epsilon is not None and not 0 < check_number(self, "epsilon", self.epsilon) < 1:
            raise self.wrong("epsilon", self.epsilon, "a share of the data, above 0 and below 1")
        check_flag(self, "elementwise", self.elementwise)
        check_flag(self, "exact", self.exact)

    def output_type(self, column: pa.Field) -> pa.DataType:
        check_numeric_column(self, column, elementwise=self.elementwise)
        return replace_leaf_type(column.type, pa.int64())

    def analyzer(self, column: str) -> Analyzer | None:
        if self.exact:
            return Histogram(column, elementwise=self.elementwise, max_bins=None)
        return Histogram(column, elementwise=self.elementwise)

    def prepare_column(self, state: State | None, column: pa.Field) -> Float64:
        if state is None:
            raise self.wrong("states", None, f"the histogram of {column.name!r}")
        rows = []
        for position in range(width(column.type, self.elementwise)):
            bins = bins_of(state, position)
            boundaries = quantile_boundaries(bins, self.num_buckets)
            self._check_error(rank_error(bins, boundaries), column)
            # A position without data among others has one bucket too: nothing is at or above infinity but infinity.
            rows.append(boundaries or [np.inf] * (self.num_buckets - 1))
        found = np.array(rows)
        return found if self.elementwise else found[0] if bins.count else np.zeros(0)

    def warnings(self, states: Mapping[str, State]) -> list[str]:
        empty = [c for c in self.columns if c in states and not sum(states[c]["count"].to_pylist())]
        return [f"Bucketize({c!r}): the column has no values; they will all be in bucket 0." for c in empty]

    def _check_error(self, error: float, column: pa.Field) -> None:
        tolerance = min(1 / self.num_buckets, LARGEST_TOLERANCE) if self.epsilon is None else self.epsilon
        if error > tolerance:
            raise JobError(
                f"Bucketize({column.name!r}): the values are so spread out that a boundary may be off by {error:.2g} "
                f"of the data; epsilon allows {tolerance:.2g}. Pass exact=True, or a larger epsilon.",
                transform="Bucketize", column=column.name, error=error,
            )


@dataclass(frozen=True)
class _GivenBoundaries(ColumnTransform):
    bucket_boundaries: Iterable[float]

    def check(self) -> None:
        given: Any = self.bucket_boundaries
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise self.wrong("bucket_boundaries", given, "a list of numbers", wrong_type=True)
        boundaries = tuple(self._number(b) for b in given)
        object.__setattr__(self, "bucket_boundaries", boundaries)
        shown = [int(b) if isfinite(b) and b == int(b) else b for b in boundaries]
        if not boundaries:
            raise self._wrong("there must be at least one, got [].", "Give one or more numbers.")
        for before, after, text in zip(boundaries, boundaries[1:], shown[1:], strict=False):
            if not before < after:
                mend = f"Remove the repeated {text}." if before == after else "Sort them."
                raise self._wrong(f"must increase, got {shown}.", mend)

    def config(self) -> dict[str, Any]:
        # JSON has no infinite numbers.
        written = [b if isfinite(b) else str(b) for b in self.bucket_boundaries]
        return super().config() | {"bucket_boundaries": written}

    def _number(self, value: object) -> float:
        if value in ("inf", "-inf"):
            return float(str(value))
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise self.wrong("bucket_boundaries", value, "numbers", wrong_type=True)
        if isnan(value):
            raise self.wrong("bucket_boundaries", value, "numbers that can be compared")
        return float(value)

    def _wrong(self, what: str, mend: str) -> ParameterError:
        place = f"{type(self).__name__}({', '.join(repr(c) for c in self.columns)})"
        return ParameterError(
            f"{place}: boundaries {what} {mend}",
            transform=type(self).__name__, columns=list(self.columns), parameter="bucket_boundaries",
            value=list(self.bucket_boundaries),
        )


@dataclass(frozen=True)
class ApplyBuckets(_GivenBoundaries, _Buckets):
    """The bucket of each value for given boundaries: int64 from 0 to ``len(bucket_boundaries)``.

    Needs no pass over the data. Nulls stay null; NaN goes into the last bucket.

    Parameters
    ----------
    columns
        Numbers of any Arrow type, or lists of them.
    bucket_boundaries
        Increasing numbers, at least one; any iterable, such as ``range(0, 100, 10)``. Infinities are allowed, also as
        "inf" and "-inf".

    Examples
    --------
    >>> op = ApplyBuckets(columns=["x"], bucket_boundaries=[2, 5, 10])
    >>> batch = pa.record_batch({"x": [4, 1, None, 10]})
    >>> op.apply(batch, op.prepare({}, batch.schema))[0].to_pylist()
    [1, 0, None, 3]
    >>> ApplyBuckets(columns=["price"], bucket_boundaries=[0, 10, 10])
    Traceback (most recent call last):
        ...
    featuremill.artifacts.errors.ParameterError: ApplyBuckets('price'): boundaries must increase, got [0, 10, 10].
    Remove the repeated 10.
    """

    def prepare_column(self, state: State | None, column: pa.Field) -> Float64:
        return np.array(self.bucket_boundaries, dtype=np.float64)


@dataclass(frozen=True)
class ApplyBucketsWithInterpolation(_GivenBoundaries):
    """The place of each value among given boundaries: float32 from 0 at the first to 1 at the last.

    Every bucket takes up the same share, and within it the place grows evenly with the value. Values outside the
    boundaries are 0 and 1; with one boundary, values below it are 0 and the others 1. Nulls stay null; NaN becomes 0.5.
    Needs no pass over the data.

    Parameters
    ----------
    columns
        Numbers of any Arrow type, or lists of them.
    bucket_boundaries
        Increasing numbers, at least one of them finite; any iterable. Infinite ones are left out.

    Examples
    --------
    >>> op = ApplyBucketsWithInterpolation(columns=["x"], bucket_boundaries=[10, 20])
    >>> batch = pa.record_batch({"x": [15, 20, None, 25]})
    >>> op.apply(batch, op.prepare({}, batch.schema))[0].to_pylist()
    [0.5, 1.0, None, 1.0]
    >>> ApplyBucketsWithInterpolation(columns=["x"], bucket_boundaries=[20, 10])
    Traceback (most recent call last):
        ...
    featuremill.artifacts.errors.ParameterError: ApplyBucketsWithInterpolation('x'): boundaries must increase, got [20,
    10]. Sort them.
    """

    def check(self) -> None:
        super().check()
        if not any(map(isfinite, self.bucket_boundaries)):
            raise self._wrong(f"must have a finite one, got {list(self.bucket_boundaries)}.", "Give finite numbers.")

    def output_type(self, column: pa.Field) -> pa.DataType:
        check_numeric_column(self, column)
        return replace_leaf_type(column.type, pa.float32())

    def prepare_column(self, state: State | None, column: pa.Field) -> Float64:
        return np.array([b for b in self.bucket_boundaries if isfinite(b)])

    def apply_column(self, array: pa.Array, prepared: Float64) -> pa.Array:
        return map_numbers(array, lambda values: interpolate(values, prepared), pa.float32())

    def row_function(self, prepared: Float64, column: pa.Field) -> RowFunction:
        boundaries: list[float] = prepared.tolist()
        count = len(boundaries)
        steps = max(count - 1, 1)

        def place(value: Any) -> float | None:
            if value is None:
                return None
            x = float(value)
            if isnan(x):
                return 0.5
            found = bisect_right(boundaries, x)
            if found == 0:
                return 0.0
            if found == count:
                return 1.0
            low = boundaries[found - 1]
            return c_float((found - 1 + (x - low) / (boundaries[found] - low)) / steps).value

        return over_lists(place, column.type)

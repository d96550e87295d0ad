"""Scaling: z-scores, min-max ranges, and long-tailed columns made normal.

The statistics are exact (:mod:`featuremill.transforms.moments`) or read from a mergeable histogram; the arithmetic is
float64, rounded once to the output type. Nulls and NaN take no part in the statistics and come out as they went in.
"""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import c_float
from dataclasses import dataclass, field
from math import isfinite, isnan, sqrt
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.artifacts.errors import JobError
from featuremill.transforms.arrays import replace_leaf_type
from featuremill.transforms.contract import Analyzer, ColumnTransform, RowFunction, State
from featuremill.transforms.floats import (
    FLOAT_TYPES,
    FloatType,
    check_choice,
    check_flag,
    check_number,
    check_numeric_column,
    map_numbers,
    over_lists,
    over_positions,
    rounder,
    statistic,
    width,
)
from featuremill.transforms.histogram import Histogram, bins_of
from featuremill.transforms.moments import Moments
from featuremill.transforms.tukey import TukeyParameters, fit, inverse, inverse_of_one, l_moments

__all__ = ["ScaleByMinMax", "ScaleTo01", "ScaleToGaussian", "ScaleToZScore"]

Float64 = npt.NDArray[np.float64]
OnConstant = Literal["zero", "sigmoid"]


SINGLE_RANGE = (1e-20, 1e20)
"""Deviations by which float32 can divide without leaving its range on the way."""


@dataclass(frozen=True)
class _ZScore:
    """``(x - centre) / spread`` by position; a spread of 0 has become 1.

    With `single` the difference, taken in float64, is rounded to float32 and divided there. That is how TensorFlow
    Transform divides, so that results agree with it to the last bit where its differences are exact; the difference
    itself stays in float64, since in float32 large numbers that lie close together, such as times, lose everything.
    """

    centre: Float64
    spread: Float64
    single: bool = False

    def kernel(self, values: Float64) -> npt.NDArray[np.floating]:
        scaled = values - self.centre
        if self.in_single().all():
            scaled32 = scaled.astype(np.float32)
            scaled32 /= self.spread.astype(np.float32)
            return scaled32
        scaled /= self.spread
        return scaled

    def in_single(self) -> npt.NDArray[np.bool_]:
        """Where the division is one of float32; it is for all positions or for none."""
        low, high = SINGLE_RANGE
        inside: npt.NDArray[np.bool_] = (self.spread > low) & (self.spread < high) & self.single
        return inside

    def row(self, position: int, type_: pa.DataType) -> RowFunction:
        centre, spread = float(self.centre[position]), float(self.spread[position])
        if self.in_single().all():
            spread = float(np.float32(spread))
            # The quotient of two float32, taken in float64 and rounded, is the float32 quotient.
            return lambda v: None if v is None else c_float(c_float(v - centre).value / spread).value
        if pa.types.is_float32(type_):
            return lambda v: None if v is None else c_float((v - centre) / spread).value
        return lambda v: None if v is None else (v - centre) / spread


@dataclass(frozen=True)
class _MinMax:
    """``(x - low) / span * (end - start) + start`` by position; where the span is 0, `start` or a sigmoid of x."""

    low: Float64
    span: Float64
    start: float
    end: float
    sigmoid: bool

    def kernel(self, values: Float64) -> Float64:
        constant = self.span == 0
        scaled = values - self.low
        scaled /= np.where(constant, 1.0, self.span)
        scaled *= self.end - self.start
        scaled += self.start
        if constant.any():
            flat = np.where(np.isnan(values), values, self.start)
            if self.sigmoid:
                flat = _sigmoid(values) * (self.end - self.start) + self.start
            scaled = np.where(constant, flat, scaled)
        return scaled

    def row(self, position: int, type_: pa.DataType) -> RowFunction:
        low, span = float(self.low[position]), float(self.span[position])
        start, size = self.start, self.end - self.start
        to_type = rounder(type_)
        if span == 0:
            if self.sigmoid:
                return lambda v: None if v is None else to_type(float(_sigmoid(np.float64(v))) * size + start)
            flat = to_type(start)
            return lambda v: None if v is None else float(v) if isnan(v) else flat
        if pa.types.is_float32(type_):
            return lambda v: None if v is None else c_float((v - low) / span * size + start).value
        return lambda v: None if v is None else (v - low) / span * size + start


def _sigmoid(values: Any) -> Any:
    # NumPy's exp for single rows too: the standard library's may differ in the last bit.
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-values))


@dataclass(frozen=True)
class _Gaussian:
    """A z-score, then the inverse of Tukey's HH function; without long tails (both parameters 0) the z-score alone."""

    scale: _ZScore
    left: Float64
    right: Float64

    def kernel(self, values: Float64) -> npt.NDArray[np.floating]:
        scaled = self.scale.kernel(values)
        if not (self.left.any() or self.right.any()):
            return scaled
        return inverse(scaled.astype(np.float64, copy=False), self.left, self.right)

    def row(self, position: int, type_: pa.DataType) -> RowFunction:
        left, right = float(self.left[position]), float(self.right[position])
        if left == right == 0:
            return self.scale.row(position, type_)
        scale, to_type = self.scale.row(position, pa.float64()), rounder(type_)
        return lambda v: None if v is None else to_type(inverse_of_one(scale(v), left, right))


@dataclass(frozen=True)
class _Scaling(ColumnTransform):
    """What the scaling transforms share: how a prepared formula is laid over a column and over a row."""

    moments_slot: ClassVar[str] = "{column}"
    """The analyzer slot of a column's moments."""

    elementwise: bool = False
    dtype: FloatType = field(default="float32", kw_only=True)

    def check(self) -> None:
        check_flag(self, "elementwise", self.elementwise)
        check_choice(self, "dtype", self.dtype, tuple(FLOAT_TYPES))

    def output_type(self, column: pa.Field) -> pa.DataType:
        check_numeric_column(self, column, elementwise=self.elementwise)
        return replace_leaf_type(column.type, FLOAT_TYPES[self.dtype])

    def analyzer(self, column: str) -> Analyzer | None:
        return Moments(column, elementwise=self.elementwise)

    def apply_column(self, array: pa.Array, prepared: _ZScore | _MinMax | _Gaussian) -> pa.Array:
        size = width(array.type, self.elementwise) if self.elementwise else None
        return map_numbers(array, prepared.kernel, FLOAT_TYPES[self.dtype], size=size)

    def row_function(self, prepared: _ZScore | _MinMax | _Gaussian, column: pa.Field) -> RowFunction:
        out = FLOAT_TYPES[self.dtype]
        if not self.elementwise:
            return over_lists(prepared.row(0, out), column.type)
        leaf = column.type.value_type
        return over_positions([over_lists(prepared.row(i, out), leaf) for i in range(column.type.list_size)])

    def warnings(self, states: Mapping[str, State]) -> list[str]:
        found = []
        for column in self.columns:
            state = states.get(self.moments_slot.format(column=column))
            for row in [] if state is None else state.to_pylist():
                if not row["count"]:
                    found.append(f"{type(self).__name__}({column!r}): the column has no values to be fitted to.")
                elif row["min"] == row["max"]:
                    value = row["min"]
                    found.append(f"{type(self).__name__}({column!r}): the column has one distinct value, {value!r}.")
        return found

    def overflow(self, column: pa.Field, what: str) -> JobError:
        """The error for values too large to compute with, to be raised by the caller."""
        return JobError(
            f"{type(self).__name__}({column.name!r}): {what} is beyond the range of float64. Clip the column first.",
            transform=type(self).__name__, column=column.name,
        )


@dataclass(frozen=True)
class ScaleToZScore(_Scaling):
    """The columns as z-scores: ``(x - mean) / standard deviation``, with the population variance (divided by n).

    Fitting skips nulls, NaN and infinities; the mean and variance are the correctly rounded ones of the data, however
    it was cut. Applying keeps nulls and NaN. A column of one distinct value, or of none, is only centred: the deviation
    is taken as 1 (and without any data the mean as 0). The difference is taken in float64, and for float32 results
    divided in float32, as TensorFlow Transform does.

    Parameters
    ----------
    columns
        Numbers of any Arrow type (booleans as 0 and 1), or lists of them: all values of a column have one mean.
    elementwise
        For fixed-size lists: a mean and a variance for each position.
    dtype
        The output type, "float32" or "float64"; lists stay lists.

    Raises
    ------
    ColumnTypeError
        For a column that holds no numbers, or with `elementwise` no fixed-size list of them.

    Examples
    --------
    >>> op = ScaleToZScore(columns=["x"])
    >>> batch = pa.record_batch({"x": [1.0, 2.0, 3.0, None]})
    >>> accumulator = op.analyzers()["x"].accumulator()
    >>> accumulator.update(batch["x"])
    >>> state = op.analyzers()["x"].finish(accumulator.partial())
    >>> op.apply(batch, op.prepare({"x": state}, batch.schema))[0].to_pylist()
    [-1.2247447967529297, 0.0, 1.2247447967529297, None]
    >>> op.output_fields(pa.schema({"x": pa.string()}))
    Traceback (most recent call last):
        ...
    featuremill.artifacts.errors.ColumnTypeError: ScaleToZScore('x'): the column is string, expected numbers, or lists
    of them.
    """

    elementwise: bool = field(default=False, kw_only=True)

    def prepare_column(self, state: State | None, column: pa.Field) -> _ZScore:
        size = width(column.type, self.elementwise)
        variances = statistic(state, "variance", size, default=0.0)
        if not np.isfinite(variances).all():
            raise self.overflow(column, "the variance")
        spread = np.sqrt(variances)
        means = statistic(state, "mean", size, default=0.0)
        return _ZScore(means, np.where(spread == 0, 1.0, spread), single=self.dtype == "float32")


@dataclass(frozen=True)
class _RangeScaling(_Scaling):
    on_constant: OnConstant = field(default="zero", kw_only=True)

    def check(self) -> None:
        super().check()
        check_choice(self, "on_constant", self.on_constant, ("zero", "sigmoid"))

    def range(self, state: State | None, column: pa.Field, start: float, end: float) -> _MinMax:
        size = width(column.type, self.elementwise)
        low, high = (statistic(state, name, size, default=0.0) for name in ("min", "max"))
        with np.errstate(over="ignore"):
            span = high - low
        if not np.isfinite(span).all():
            raise self.overflow(column, "the distance from the smallest to the largest value")
        return _MinMax(low, span, start, end, self.on_constant == "sigmoid")


@dataclass(frozen=True)
class ScaleTo01(_RangeScaling):
    """The columns with their smallest value at 0 and their largest at 1: ``(x - min) / (max - min)``.

    Fitting skips nulls, NaN and infinities. Applying keeps nulls and NaN, and puts values outside the fitted range
    outside [0, 1].

    Parameters
    ----------
    columns
        Numbers of any Arrow type, or lists of them: all values of a column have one range.
    elementwise
        For fixed-size lists: a range for each position.
    dtype
        The output type, "float32" or "float64"; lists stay lists.
    on_constant
        What becomes of a column with one distinct value, or none: "zero" gives 0.0; "sigmoid" gives
        ``1 / (1 + exp(-x))``, as TensorFlow Transform does.

    Examples
    --------
    >>> ScaleTo01(columns=["x"]).analyzers()
    {'x': Moments(column='x', elementwise=False)}
    >>> ScaleTo01(columns=["x"], on_constant="one")
    Traceback (most recent call last):
        ...
    featuremill.artifacts.errors.ParameterError: ScaleTo01('x'): on_constant got 'one', expected 'zero' or 'sigmoid'.
    """

    def prepare_column(self, state: State | None, column: pa.Field) -> _MinMax:
        return self.range(state, column, 0.0, 1.0)


@dataclass(frozen=True)
class ScaleByMinMax(_RangeScaling):
    """The columns with their smallest value at `min_value` and their largest at `max_value`.

    ``(x - min) / (max - min) * (max_value - min_value) + min_value``. Fitting and applying as :class:`ScaleTo01`.

    Parameters
    ----------
    columns
        Numbers of any Arrow type, or lists of them.
    min_value, max_value
        The output range; `max_value` is the larger.
    elementwise
        For fixed-size lists: a range for each position.
    dtype
        The output type, "float32" or "float64"; lists stay lists.
    on_constant
        What becomes of a column with one distinct value, or none: "zero" gives `min_value`; "sigmoid" puts
        ``1 / (1 + exp(-x))`` into the range, as TensorFlow Transform does.

    Examples
    --------
    >>> ScaleByMinMax(columns=["x"], min_value=2, max_value=1)
    Traceback (most recent call last):
        ...
    featuremill.artifacts.errors.ParameterError: ScaleByMinMax('x'): max_value got 1, expected a number above min_value,
    2.
    """

    min_value: float = 0.0
    max_value: float = 1.0
    elementwise: bool = field(default=False, kw_only=True)

    def check(self) -> None:
        super().check()
        low, high = check_number(self, "min_value", self.min_value), check_number(self, "max_value", self.max_value)
        if low >= high:
            raise self.wrong("max_value", self.max_value, f"a number above min_value, {self.min_value!r}")
        if not isfinite(high - low):
            raise self.wrong("max_value", self.max_value, f"a range from min_value, {low!r}, that float64 can hold")

    def prepare_column(self, state: State | None, column: pa.Field) -> _MinMax:
        return self.range(state, column, float(self.min_value), float(self.max_value))


@dataclass(frozen=True)
class ScaleToGaussian(_Scaling):
    """The columns made about normal, with mean 0 and variance 1: long tails are bent in.

    Tukey's HH distribution is fitted by L-moments and inverted (:mod:`featuremill.transforms.tukey`), each tail with a
    parameter of its own. Columns without long tails (an L-kurtosis below the normal distribution's), or with fewer than
    10 values, get their z-score. The fit is read from a histogram: up to 65,536 distinct values it is exact; above,
    values within about 0.03 % of one another count as one. The L-moments are those of all the data, where TensorFlow
    Transform averages those of its batches; for data that it sees in one batch the results are the same.

    Fitting skips nulls, NaN and infinities. Applying keeps nulls and NaN.

    Parameters
    ----------
    columns
        Numbers of any Arrow type, or lists of them: all values of a column have one fit.
    elementwise
        For fixed-size lists: a fit for each position.
    dtype
        The output type, "float32" or "float64"; lists stay lists.

    Examples
    --------
    >>> sorted(ScaleToGaussian(columns=["x"]).analyzers())
    ['x.histogram', 'x.moments']
    >>> ScaleToGaussian(columns="x")
    Traceback (most recent call last):
        ...
    featuremill.artifacts.errors.ParameterTypeError: ScaleToGaussian: columns must be a list of names, got the string
    'x'. Write columns=['x'].
    """

    moments_slot: ClassVar[str] = "{column}.moments"
    histogram_slot: ClassVar[str] = "{column}.histogram"

    def analyzers(self) -> dict[str, Analyzer]:
        found: dict[str, Analyzer] = {}
        for column in self.columns:
            found[self.moments_slot.format(column=column)] = Moments(column, elementwise=self.elementwise)
            found[self.histogram_slot.format(column=column)] = Histogram(column, elementwise=self.elementwise)
        return found

    def prepare(self, states: Mapping[str, State], schema: pa.Schema) -> list[_Gaussian]:
        made = []
        for column in self.columns:
            moments, histogram = (
                states[slot.format(column=column)] for slot in (self.moments_slot, self.histogram_slot)
            )
            made.append(self._fit(moments, histogram, self.field_of(schema, column)))
        return made

    def _fit(self, moments: State, histogram: State, column: pa.Field) -> _Gaussian:
        size = width(column.type, self.elementwise)
        means = statistic(moments, "mean", size, default=0.0)
        variances = statistic(moments, "variance", size, default=0.0)
        if not np.isfinite(variances).all():
            raise self.overflow(column, "the variance")
        fits = []
        for position in range(size):
            _, l2, l3, l4 = l_moments(bins_of(histogram, position))
            # The mean is known exactly, and is the first L-moment.
            fitted = fit((float(means[position]), l2, l3, l4))
            if not fitted.long_tailed:
                fitted = TukeyParameters(float(means[position]), sqrt(variances[position]) or 1.0, 0.0, 0.0)
            fits.append(fitted)
        location, scale, left, right = (
            np.array([getattr(f, name) for f in fits]) for name in ("location", "scale", "left", "right")
        )
        tails = bool(left.any() or right.any())
        return _Gaussian(_ZScore(location, scale, single=self.dtype == "float32" and not tails), left, right)

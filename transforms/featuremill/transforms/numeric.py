"""Numbers one by one: clipped to a range, or their logarithm."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Context, Decimal
from math import isfinite, log
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import BadRows, JobError
from featuremill.transforms.arrays import from_numpy, is_numeric, leaf_type, map_leaves, replace_leaf_type
from featuremill.transforms.contract import Analyzer, ColumnTransform, RowFunction, State
from featuremill.transforms.floats import (
    FLOAT_TYPES,
    FloatType,
    check_choice,
    check_number,
    check_numeric_column,
    map_numbers,
    over_lists,
    rounder,
    rows_where,
)
from featuremill.transforms.histogram import Histogram, bins_of, quantile

__all__ = ["Clip", "LogTransform"]

Float64 = npt.NDArray[np.float64]
Limit = int | float | Decimal
_DECIMALS = Context(prec=76)
"""The digits of Arrow's longest decimals."""


@dataclass(frozen=True)
class Clip(ColumnTransform):
    """The columns with values below a lower limit raised to it, and values above an upper limit lowered to it.

    The type stays as it is; so the limits of an integer column must be whole. Nulls and NaN stay. With quantiles the
    limits are fitted: the smallest value with at least that share of the data at or below it, read from a histogram
    that is exact for up to 65,536 distinct values; fitting skips nulls and NaN, and where there is no data nothing is
    clipped.

    Parameters
    ----------
    columns
        Integers, floats or decimals, or lists of them.
    min_value, max_value
        The limits; None for no limit.
    lower_quantile, upper_quantile
        Limits as shares of the data, from 0 to 1, instead of values.

    Examples
    --------
    >>> op = Clip(columns=["x"], min_value=0, max_value=10)
    >>> schema = pa.schema({"x": pa.int64()})
    >>> op.apply(pa.record_batch({"x": [-5, 3, None, 12]}), op.prepare({}, schema))[0].to_pylist()
    [0, 3, None, 10]
    >>> Clip(columns=["x"], min_value=2, max_value=1)
    Traceback (most recent call last):
        ...
    featuremill.artifacts.errors.ParameterError: Clip('x'): max_value got 1, expected at least min_value, 2.
    """

    min_value: float | None = None
    max_value: float | None = None
    lower_quantile: float | None = field(default=None, kw_only=True)
    upper_quantile: float | None = field(default=None, kw_only=True)

    def check(self) -> None:
        sides = (("min_value", "lower_quantile"), ("max_value", "upper_quantile"))
        for value, share in sides:
            given, quantile_given = getattr(self, value), getattr(self, share)
            if given is not None:
                check_number(self, value, given)
            if quantile_given is not None and not 0 <= check_number(self, share, quantile_given) <= 1:
                raise self.wrong(share, quantile_given, "a share of the data, from 0 to 1")
            if given is not None and quantile_given is not None:
                raise self.wrong(share, quantile_given, f"either {value} or {share}")
        if all(getattr(self, name) is None for side in sides for name in side):
            raise self.wrong("min_value", None, "at least one limit")
        if self.min_value is not None and self.max_value is not None and self.min_value > self.max_value:
            raise self.wrong("max_value", self.max_value, f"at least min_value, {self.min_value!r}")
        shares = self.lower_quantile, self.upper_quantile
        if shares[0] is not None and shares[1] is not None and shares[0] > shares[1]:
            raise self.wrong("upper_quantile", shares[1], f"at least lower_quantile, {shares[0]!r}")

    def output_type(self, column: pa.Field) -> pa.DataType:
        leaf = leaf_type(column.type)
        if not is_numeric(column.type) or pt.is_boolean(leaf):
            raise self.wrong_column(column, "integers, floats or decimals, or lists of them")
        for name in ("min_value", "max_value"):
            if getattr(self, name) is not None:
                self._limit(name, getattr(self, name), column)
        return replace_leaf_type(column.type, leaf)

    def analyzer(self, column: str) -> Analyzer | None:
        return None if self.lower_quantile is None and self.upper_quantile is None else Histogram(column)

    def prepare_column(self, state: State | None, column: pa.Field) -> tuple[Limit | None, Limit | None]:
        low, high = self.min_value, self.max_value
        if state is not None:
            bins = bins_of(state)
            low = quantile(bins, self.lower_quantile) if self.lower_quantile is not None else low
            high = quantile(bins, self.upper_quantile) if self.upper_quantile is not None else high
        if low is not None and high is not None and low > high:
            raise JobError(
                f"Clip({column.name!r}): the lower limit, {low!r}, is above the upper one, {high!r}, and one is "
                "a quantile of the data. Give both limits as values, or both as quantiles.",
                transform="Clip", column=column.name,
            )
        return (
            None if low is None else self._limit("min_value", low, column, fitted=self.lower_quantile is not None),
            None if high is None else self._limit("max_value", high, column, fitted=self.upper_quantile is not None),
        )

    def _limit(self, name: str, value: float, column: pa.Field, *, fitted: bool = False) -> Limit | None:
        """The limit as a Python value that the column's type holds exactly; None where no value can be beyond it.

        A `fitted` one is a value of the column that went through float64, and is rounded back to the type.
        """
        leaf = leaf_type(column.type)
        if pt.is_null(leaf):
            return None
        if pt.is_floating(leaf):
            with np.errstate(over="ignore"):
                return float(leaf.to_pandas_dtype()(value))
        if not isfinite(value):
            return None
        if pt.is_decimal(leaf):
            exact = Decimal(str(value))
            if fitted:
                exact = exact.quantize(Decimal(1).scaleb(-leaf.scale), context=_DECIMALS)
            try:
                return pa.scalar(exact, leaf).as_py()  # type: ignore[no-any-return]
            except pa.ArrowInvalid as error:
                raise self.wrong(name, value, f"a number that {leaf} of column {column.name!r} can hold") from error
        if value != int(value):
            raise self.wrong(name, value, f"a whole number, because column {column.name!r} is {leaf}")
        info = np.iinfo(leaf.to_pandas_dtype())
        beyond = value > info.max if name == "min_value" else value < info.min
        if beyond and not fitted:
            raise self.wrong(name, value, f"a number that {leaf} of column {column.name!r} can hold")
        return min(max(int(value), int(info.min)), int(info.max))

    def apply_column(self, array: pa.Array, prepared: tuple[Limit | None, Limit | None]) -> pa.Array:
        return map_leaves(array, lambda leaf: _clip(leaf, *prepared))

    def row_function(self, prepared: tuple[Limit | None, Limit | None], column: pa.Field) -> RowFunction:
        low, high = prepared

        def clip(value: Any) -> Any:
            if value is None or (low is not None and value < low):
                return value if value is None else low
            return high if high is not None and value > high else value

        return over_lists(clip, column.type, decimals=True)


def _clip(leaf: pa.Array, low: Limit | None, high: Limit | None) -> pa.Array:
    if pt.is_dictionary(leaf.type):
        return _clip(leaf.dictionary, low, high).take(leaf.indices)
    if pt.is_decimal(leaf.type):
        if low is not None:
            leaf = pc.if_else(pc.less(leaf, pa.scalar(low, leaf.type)), pa.scalar(low, leaf.type), leaf)
        if high is not None:
            leaf = pc.if_else(pc.greater(leaf, pa.scalar(high, leaf.type)), pa.scalar(high, leaf.type), leaf)
        return leaf
    if pt.is_null(leaf.type) or (low is None and high is None):
        return leaf
    dtype = leaf.type.to_pandas_dtype()
    valid = leaf.is_valid().to_numpy(zero_copy_only=False) if leaf.null_count else None
    values = (leaf if valid is None else leaf.fill_null(pa.scalar(0, pa.int8()).cast(leaf.type))).to_numpy()
    # Not np.clip: it may turn -0.0 into 0.0, which a single row would not.
    if low is not None:
        values = np.where(values < dtype(low), dtype(low), values)
    if high is not None:
        values = np.where(values > dtype(high), dtype(high), values)
    return from_numpy(values, valid, leaf.type)


_LOGS: dict[str, np.ufunc] = {"e": np.log, "2": np.log2, "10": np.log10}


@dataclass(frozen=True)
class LogTransform(ColumnTransform):
    """The logarithm of the columns: ``log(x + offset)`` to a base.

    Nulls and NaN stay. Needs no pass over the data.

    Parameters
    ----------
    columns
        Numbers of any Arrow type, or lists of them.
    base
        "e", "2", "10", or a positive number other than 1.
    offset
        Added first; 1 makes counts from 0 upwards fit.
    on_invalid
        What becomes of ``x + offset <= 0``: "error" sets the row aside as bad; "null" makes the value null.
    dtype
        The output type, "float32" or "float64"; lists stay lists.

    Raises
    ------
    BadRows
        With ``on_invalid="error"``, naming the rows that hold a value without a logarithm.

    Examples
    --------
    >>> op = LogTransform(columns=["x"], base="10", dtype="float64")
    >>> prepared = op.prepare({}, pa.schema({"x": pa.int64()}))
    >>> op.apply(pa.record_batch({"x": [1, 1000, None]}), prepared)[0].to_pylist()
    [0.0, 3.0, None]
    >>> op.apply(pa.record_batch({"x": [1, 0]}), prepared)
    Traceback (most recent call last):
        ...
    featuremill.artifacts.errors.BadRows: LogTransform('x'): x + offset must be above 0 to have a logarithm.
    """

    base: str | float = field(default="e", kw_only=True)
    offset: float = field(default=0.0, kw_only=True)
    on_invalid: Literal["error", "null"] = field(default="error", kw_only=True)
    dtype: FloatType = field(default="float32", kw_only=True)

    def check(self) -> None:
        if isinstance(self.base, str):
            if self.base not in _LOGS:
                raise self.wrong("base", self.base, "'e', '2', '10' or a number")
        elif check_number(self, "base", self.base) <= 0 or self.base == 1:
            raise self.wrong("base", self.base, "a positive number other than 1")
        check_number(self, "offset", self.offset)
        check_choice(self, "on_invalid", self.on_invalid, ("error", "null"))
        check_choice(self, "dtype", self.dtype, tuple(FLOAT_TYPES))

    def output_type(self, column: pa.Field) -> pa.DataType:
        check_numeric_column(self, column)
        return replace_leaf_type(column.type, FLOAT_TYPES[self.dtype])

    def prepare_column(self, state: State | None, column: pa.Field) -> str:
        # The column's name, for the error; the rest is parameters.
        return str(column.name)

    def apply_column(self, array: pa.Array, prepared: str) -> pa.Array:
        function, divisor, offset = self._formula()

        def kernel(values: Float64) -> Float64:
            found: Float64 = function(values + offset)
            return found if divisor == 1 else found / divisor

        def invalid(values: Float64) -> npt.NDArray[np.bool_]:
            return values + offset <= 0

        if self.on_invalid == "error":
            rows = rows_where(array, invalid)
            if rows:
                raise self._bad(prepared, rows)
            return map_numbers(array, kernel, FLOAT_TYPES[self.dtype])
        return map_numbers(array, kernel, FLOAT_TYPES[self.dtype], to_null=invalid)

    def row_function(self, prepared: str, column: pa.Field) -> RowFunction:
        function, divisor, offset = self._formula()
        to_type, strict = rounder(FLOAT_TYPES[self.dtype]), self.on_invalid == "error"

        def logarithm(value: Any) -> float | None:
            if value is None:
                return None
            x = value + offset
            if x <= 0:
                if strict:
                    raise self._bad(prepared, [0])
                return None
            return to_type(float(function(x)) / divisor)

        return over_lists(logarithm, column.type)

    def _formula(self) -> tuple[np.ufunc, float, float]:
        if isinstance(self.base, str):
            return _LOGS[self.base], 1.0, float(self.offset)
        return np.log, log(self.base), float(self.offset)

    def _bad(self, column: str, rows: list[int]) -> BadRows:
        return BadRows(
            f"LogTransform({column!r}): x + offset must be above 0 to have a logarithm.",
            rows=rows, transform="LogTransform", column=column,
        )

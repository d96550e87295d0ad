"""Imputation: missing values become the mean, the median, the most frequent value, or a constant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from math import isnan
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import JobError
from featuremill.transforms.arrays import (
    dictionary_parts,
    is_list,
    is_numeric,
    leaf_type,
    leaves,
    map_leaves,
    replace_leaf_type,
)
from featuremill.transforms.contract import Analyzer, ColumnTransform, RowFunction, State
from featuremill.transforms.floats import check_choice, check_flag, over_lists
from featuremill.transforms.histogram import Histogram, bins_of, median
from featuremill.transforms.moments import Moments
from featuremill.transforms.ragged import without_view

__all__ = ["Impute"]

Strategy = Literal["mean", "median", "most_frequent", "constant"]


@dataclass(frozen=True)
class _Fill:
    """What missing values of a column become: a scalar of the output's leaf type, null where the data had no value."""

    value: pa.Scalar
    leaf: pa.DataType
    column: str


@dataclass(frozen=True)
class Impute(ColumnTransform):
    """The columns with missing values filled in: one value per column, a statistic of the data or a constant.

    Missing are nulls, and NaN in float columns. Fitting skips them (the mean also skips infinities). The type stays as
    it is, but for the mean and the median of columns that hold no floats, which come out as float64. In lists, missing
    values inside them are filled from one statistic of all lists; a null list stays null.

    Parameters
    ----------
    columns
        For the mean and the median, numbers; else any type that Arrow can compare.
    strategy
        "mean"; "median" (the mean of the two middle values for an even count; from a histogram that is exact for up to
        65,536 distinct values); "most_frequent" (of several the smallest); or "constant".
    fill_value
        The constant, convertible to the type of each column without loss; dates and times as ISO text.
    indicator
        Also give a boolean column ``<output>_missing`` for each, after all the filled ones, which is true where a value
        was missing.
    nan_as_missing
        Whether NaN is filled; False leaves it.

    Raises
    ------
    JobError
        When a value is missing and the data gave nothing to fill it with.

    Examples
    --------
    >>> op = Impute(columns=["x"], strategy="constant", fill_value=0, indicator=True)
    >>> batch = pa.record_batch({"x": [4, None]})
    >>> [a.to_pylist() for a in op.apply(batch, op.prepare({}, batch.schema))]
    [[4, 0], [False, True]]
    >>> op.output_names
    ['x', 'x_missing']
    >>> Impute(columns=["x"], strategy="constant")
    Traceback (most recent call last):
        ...
    featuremill.artifacts.errors.ParameterError: Impute('x'): fill_value got None, expected a value, because
    strategy='constant'.
    """

    strategy: Strategy = field(kw_only=True)
    fill_value: Any = field(default=None, kw_only=True)
    indicator: bool = field(default=False, kw_only=True)
    nan_as_missing: bool = field(default=True, kw_only=True)

    def check(self) -> None:
        check_choice(self, "strategy", self.strategy, ("mean", "median", "most_frequent", "constant"))
        check_flag(self, "indicator", self.indicator)
        check_flag(self, "nan_as_missing", self.nan_as_missing)
        if self.strategy == "constant":
            if self.fill_value is None:
                raise self.wrong("fill_value", None, "a value, because strategy='constant'")
            if not isinstance(self.fill_value, str | int | float):
                raise self.wrong("fill_value", self.fill_value, "a number, a string, True or False", wrong_type=True)
        elif self.fill_value is not None:
            raise self.wrong("fill_value", self.fill_value, f"none, because strategy={self.strategy!r}")

    @property
    def output_names(self) -> list[str]:
        names = super().output_names
        return names + [f"{name}_missing" for name in names] if self.indicator else names

    def output_fields(self, schema: pa.Schema) -> list[pa.Field]:
        inputs = [self.field_of(schema, c) for c in self.columns]
        types = [self.output_type(f) for f in inputs]
        if self.indicator:
            types += [replace_leaf_type(f.type, pa.bool_()) for f in inputs]
        return [pa.field(n, t) for n, t in zip(self.output_names, types, strict=True)]

    def output_type(self, column: pa.Field) -> pa.DataType:
        return replace_leaf_type(column.type, self._leaf(column))

    def _leaf(self, column: pa.Field) -> pa.DataType:
        """The type of the output's leaves; dictionary-encoded ones stay so, with room for one more value."""
        leaf = leaf_type(column.type)
        if self.strategy in ("mean", "median"):
            if not is_numeric(column.type):
                raise self.wrong_column(column, f"numbers, because strategy={self.strategy!r}")
            return leaf if pt.is_floating(leaf) else pa.float64()
        if pt.is_nested(leaf):
            raise self.wrong_column(column, "single values, or lists of them")
        if self.strategy == "constant":
            self._constant(column, leaf)
        elif pt.is_float16(leaf):
            raise self.wrong_column(column, "values that Arrow can count. Cast half floats to float32 in the source")
        inner = column.type
        while is_list(inner):
            inner = inner.value_type
        if not pt.is_dictionary(inner):
            return leaf
        index = inner.index_type if inner.index_type.bit_width >= 32 else pa.int32()
        return pa.dictionary(index, inner.value_type, inner.ordered)

    def _constant(self, column: pa.Field, leaf: pa.DataType) -> pa.Scalar:
        fill = self.fill_value
        try:
            if pt.is_boolean(leaf) != isinstance(fill, bool):
                raise TypeError("a boolean is no number")
            if pt.is_decimal(leaf):
                return pa.scalar(Decimal(str(fill)), leaf)
            if pt.is_temporal(leaf):
                return pa.scalar(fill, pa.string()).cast(leaf)
            # Arrow itself cuts the fraction off without a word.
            if pt.is_integer(leaf) and fill != int(fill):
                raise ValueError("not whole")
            return pa.scalar(int(fill) if pt.is_integer(leaf) else fill, leaf)
        except (pa.ArrowException, ArithmeticError, TypeError, ValueError) as error:
            raise self.wrong("fill_value", fill, f"a value for column {column.name!r}, which is {leaf}") from error

    def analyzer(self, column: str) -> Analyzer | None:
        if self.strategy == "mean":
            return Moments(column)
        if self.strategy == "median":
            return Histogram(column)
        if self.strategy == "most_frequent":
            from featuremill.transforms.counts import Counts

            return Counts(column)
        return None

    def prepare_column(self, state: State | None, column: pa.Field) -> _Fill:
        leaf = self._leaf(column)
        plain = leaf.value_type if pt.is_dictionary(leaf) else leaf
        if self.strategy == "constant" or state is None:
            return _Fill(self._constant(column, plain), leaf, column.name)
        if self.strategy == "most_frequent":
            return _Fill(_most_frequent(state).cast(plain), leaf, column.name)
        found = median(bins_of(state)) if self.strategy == "median" else state.column("mean")[0].as_py()
        return _Fill(pa.scalar(found, pa.float64()).cast(plain, safe=False), leaf, column.name)

    def apply(self, batch: pa.RecordBatch, prepared: list[_Fill]) -> list[pa.Array]:
        filled = super().apply(batch, prepared)
        if self.indicator:
            filled += [map_leaves(batch.column(c), self._missing) for c in self.columns]
        return filled

    def apply_column(self, array: pa.Array, prepared: _Fill) -> pa.Array:
        if not prepared.value.is_valid and pc.any(self._missing(leaves(array))).as_py():
            raise self._nothing(prepared)
        return map_leaves(array, lambda leaf: self._filled(leaf, prepared))

    def _missing(self, leaf: pa.Array) -> pa.Array:
        """Which values are missing, boolean without nulls, shape (n,)."""
        if pt.is_dictionary(leaf.type):
            values, codes = dictionary_parts(leaf)
            lost = np.append(self._missing(values).to_numpy(zero_copy_only=False), True)
            return pa.array(lost[codes])
        if pt.is_floating(leaf.type):
            return pc.is_null(leaf, nan_is_null=self.nan_as_missing)
        return pc.is_null(leaf)

    def _filled(self, leaf: pa.Array, fill: _Fill) -> pa.Array:
        missing = self._missing(leaf)
        # What is missing under null lists is not seen, and needs no value.
        some = fill.value.is_valid and bool(pc.any(missing).as_py())
        if pt.is_dictionary(fill.leaf):
            return _fill_dictionary(leaf, missing, fill) if some or leaf.type != fill.leaf else leaf
        if leaf.type != fill.leaf:
            leaf = (leaf.dictionary_decode() if pt.is_dictionary(leaf.type) else leaf).cast(fill.leaf, safe=False)
        if not some:
            return leaf
        if without_view(leaf.type) != leaf.type:
            plain = without_view(leaf.type)
            return pc.if_else(missing, fill.value.cast(plain), leaf.cast(plain)).cast(leaf.type)
        return pc.if_else(missing, fill.value, leaf)

    def row_step(self, prepared: list[_Fill], schema: pa.Schema) -> Callable[[dict[str, Any]], None] | None:
        if not self.indicator:
            return super().row_step(prepared, schema)
        fields = [self.field_of(schema, c) for c in self.columns]
        functions = [self.row_function(p, f) for p, f in zip(prepared, fields, strict=True)]
        functions += [_over_nesting(self._is_missing, f.type) for f in fields]
        steps = list(zip(self.output_names, [*self.columns, *self.columns], functions, strict=True))

        def step(row: dict[str, Any]) -> None:
            row.update([(name, function(row[column])) for name, column, function in steps])

        return step

    def _is_missing(self, value: Any) -> bool:
        return value is None or (self.nan_as_missing and isinstance(value, float) and isnan(value))

    def row_function(self, prepared: _Fill, column: pa.Field) -> RowFunction:
        fill, is_missing = prepared.value.as_py(), self._is_missing
        to_float = pt.is_floating(prepared.leaf) and not pt.is_floating(leaf_type(column.type))

        def impute(value: Any) -> Any:
            if is_missing(value):
                if fill is None:
                    raise self._nothing(prepared)
                return fill
            return float(value) if to_float else value

        return over_lists(impute, column.type, decimals=not to_float)

    def _nothing(self, fill: _Fill) -> JobError:
        return JobError(
            f"Impute({fill.column!r}): a value is missing, and the data had none to take the {self.strategy} of. "
            "Use strategy='constant'.",
            transform="Impute", column=fill.column,
        )


def _over_nesting(function: RowFunction, type_: pa.DataType) -> RowFunction:
    """`function` over the values inside lists, None for a null list."""
    if not is_list(type_):
        return function
    inner = _over_nesting(function, type_.value_type)
    return lambda value: None if value is None else [inner(v) for v in value]


def _most_frequent(counts: State) -> pa.Scalar:
    """The token with the highest count, of several the smallest; null for no tokens."""
    if not counts.num_rows:
        return pa.scalar(None, counts.schema.field("token").type)
    # The counts are in ascending order of the tokens.
    return counts.filter(pc.equal(counts["count"], pc.max(counts["count"])))["token"][0]


def _fill_dictionary(leaf: pa.Array, missing: pa.Array, fill: _Fill) -> pa.Array:
    """A dictionary-encoded array with the missing rows pointing at the fill value, which the dictionary may gain."""
    values, codes = dictionary_parts(leaf)
    lost = missing.to_numpy(zero_copy_only=False)
    if lost.any():
        # Arrow looks for no durations; their ticks do as well.
        known, wanted = (v.cast(pa.int64()) if pt.is_duration(v.type) else v for v in (values, fill.value))
        at = pc.index(known, wanted).as_py()
        if at < 0:
            at = len(values)
            values = pa.concat_arrays([values, pa.array([fill.value.as_py()], type=values.type)])
        codes = np.where(lost, at, codes)
    return pa.DictionaryArray.from_arrays(
        pa.array(codes, type=fill.leaf.index_type, mask=codes < 0), values, ordered=fill.leaf.ordered
    )

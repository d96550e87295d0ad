"""Statistics of whole columns that no transform needs: row counts, typed extremes, counts between edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.core.feature_recipe import FRAGMENT
from featuremill.core.quality.statistics.comparisons import plain, valid_mask
from featuremill.core.quality.statistics.row_conditions import RowCondition
from featuremill.transforms.arrays import is_text, to_float64
from featuremill.transforms.contract import Accumulator, Analyzer, State
from featuremill.transforms.counts import by_token, count_tokens, merge_counts

__all__ = ["EdgeCounts", "Extremes", "Filtered", "RowCounts"]


# --- rows -----------------------------------------------------------------------------------------------------------


class _RowTally:
    def __init__(self) -> None:
        self._tables: list[pa.Table] = []

    def update(self, array: pa.Array) -> None:
        names, counts = count_tokens(array)
        if pt.is_dictionary(names.type):
            names = names.dictionary_decode()
        self._tables.append(pa.table({"token": names.cast(pa.string()), "count": pa.array(counts, pa.int64())}))
        if len(self._tables) > 64:
            self._tables = [merge_counts(self._tables)]

    def partial(self) -> pa.Table:
        empty = pa.schema([("token", pa.string()), ("count", pa.int64())]).empty_table()
        return merge_counts([empty, *self._tables])


@dataclass(frozen=True)
class RowCounts(Analyzer):
    """How many rows each fragment has: columns ``token`` (the fragment's name) and ``count``, ordered by name.

    >>> tally = RowCounts("_fragment").accumulator()
    >>> tally.update(pa.array(["b", "a", "b"]))
    >>> RowCounts("_fragment").finish(tally.partial()).to_pydict()
    {'token': ['a', 'b'], 'count': [1, 2]}
    """

    column: str = FRAGMENT

    def accumulator(self) -> _RowTally:
        return _RowTally()

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        return merge_counts(partials)

    def finish(self, partial: pa.Table) -> State:
        return by_token(merge_counts([partial])).combine_chunks().replace_schema_metadata(None)


# --- the smallest and the largest -----------------------------------------------------------------------------------


class _ExtremesTally:
    def __init__(self, type_: pa.DataType) -> None:
        self._type = type_
        self._found: list[pa.Table] = []

    def update(self, array: pa.Array) -> None:
        if pt.is_dictionary(array.type):
            array, _ = count_tokens(array) if is_text(array.type) else (array.dictionary_decode(), None)
        array = plain(array)
        if pt.is_floating(array.type) and (valid := _known(array)) is not None:
            array = array.filter(valid)
        if array.null_count == len(array):
            return
        found = _extremes(array)
        self._found.append(pa.table({name: pa.array([found[name]]).cast(self._type) for name in ("min", "max")}))
        if len(self._found) > 64:
            self._found = [_of_extremes(self._found, self._type)]

    def partial(self) -> pa.Table:
        return _of_extremes(self._found, self._type)


def _known(array: pa.Array) -> pa.BooleanArray | None:
    """Which rows hold a value, or None where all do; NaN is the smallest value of those that hold it, for NumPy."""
    if not array.null_count and not np.isnan(array.to_numpy().min(initial=inf)):
        return None
    return valid_mask(array)


def _extremes(array: pa.Array) -> dict[str, Any]:
    if not array.null_count and (pt.is_integer(array.type) or pt.is_float64(array.type)):
        # NumPy's reductions are several times as fast as Arrow's, which look for nulls.
        values = array.to_numpy()
        return {name: pa.scalar(getattr(values, name)() + values.dtype.type(0), array.type) for name in ("min", "max")}
    found = pc.min_max(array.cast(pa.uint8()) if pt.is_boolean(array.type) else array)
    if pt.is_floating(array.type):
        # Which of -0.0 and 0.0 is found depends on the order.
        return {name: pc.add(found[name], pa.scalar(0, pa.int8()).cast(array.type)) for name in ("min", "max")}
    return {name: found[name].cast(array.type) for name in ("min", "max")}


def _of_extremes(tables: Sequence[pa.Table], type_: pa.DataType) -> pa.Table:
    schema = pa.schema([("min", type_), ("max", type_)])
    whole = pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()
    if not whole.num_rows:
        return schema.empty_table()
    low, high = (_extremes(whole.column(name).chunk(0))[name] for name in ("min", "max"))
    return pa.table([pa.array([low]).cast(type_), pa.array([high]).cast(type_)], schema=schema)


@dataclass(frozen=True)
class Extremes(Analyzer):
    """The smallest and the largest value: columns ``min`` and ``max`` of the column's type; no row for no value.

    Nulls and NaN are skipped, infinities are values, -0.0 is 0.0; texts compare by code point.
    """

    type: pa.DataType

    def accumulator(self) -> Accumulator:
        return _ExtremesTally(self.type)

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        return _of_extremes(partials, self.type)

    def finish(self, partial: pa.Table) -> State:
        return partial.combine_chunks()


# --- counts between edges -------------------------------------------------------------------------------------------


class _EdgeTally:
    def __init__(self, edges: tuple[float, ...]) -> None:
        self._edges = np.array(edges)
        self._counts = np.zeros(len(edges) - 1, np.int64)

    def update(self, array: pa.Array) -> None:
        values, valid = to_float64(plain(array))
        values = values if valid is None else values[valid]
        self._counts += np.histogram(values[~np.isnan(values)], self._edges)[0]

    def partial(self) -> pa.Table:
        return pa.table({"count": self._counts})


@dataclass(frozen=True)
class EdgeCounts(Analyzer):
    """How many values lie between neighbouring edges, in the last interval its upper edge too; NaN is skipped."""

    edges: tuple[float, ...]

    def accumulator(self) -> Accumulator:
        return _EdgeTally(self.edges)

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        return pa.table({"count": np.sum([p.column("count").to_numpy() for p in partials], axis=0, dtype=np.int64)})

    def finish(self, partial: pa.Table) -> State:
        return partial


# --- of some rows ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filtered(Analyzer):
    """Another statistic, of the rows for which a condition is true."""

    statistic: Analyzer
    where: RowCondition

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.statistic.inputs, *self.where.columns]))

    def array_of(self, batch: pa.RecordBatch) -> pa.Array:
        mask = self.where.mask({name: batch.column(name) for name in self.where.columns})
        if mask.true_count < len(mask):
            kept = batch.select(list(self.statistic.inputs))
            batch = pa.RecordBatch.from_arrays([c.filter(mask) for c in kept.columns], schema=kept.schema)
        return self.statistic.array_of(batch)

    def accumulator(self) -> Accumulator:
        return self.statistic.accumulator()

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        return self.statistic.merge(partials)

    def finish(self, partial: pa.Table) -> State:
        return self.statistic.finish(partial)

    def split(self, partial: pa.Table, shards: int) -> list[pa.Table]:
        return self.statistic.split(partial, shards)

    def trim(self, partial: pa.Table) -> pa.Table:
        return self.statistic.trim(partial)

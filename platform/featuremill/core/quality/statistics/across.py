"""Conditions on the values of several columns of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featuremill.artifacts.errors import ColumnTypeError
from featuremill.core.predicates import Predicate, bind, family
from featuremill.core.quality.statistics.comparisons import (
    comparable,
    compare,
    is_missing,
    members,
    valid_mask,
)
from featuremill.core.quality.statistics.conditions import Condition
from featuremill.core.where import PLAIN, Column, Compare, Where, render

__all__ = ["AllDifferent", "AllEqual", "PairCompares", "PairInSet", "SumEquals"]


def _compared(op: str, left: pa.Array, right: pa.Array) -> pa.BooleanArray:
    """Where ``left op right``; null where either is null, False for NaN."""
    columns = {"a": comparable(left), "b": comparable(right)}
    found = _comparison(op, columns["a"].type, columns["b"].type).mask(columns.__getitem__)
    return pa.array([found.as_py()] * len(left), pa.bool_()) if isinstance(found, pa.Scalar) else found


@lru_cache(maxsize=1024)
def _comparison(op: str, left: pa.DataType, right: pa.DataType) -> Predicate:
    text = render(Compare(op, Column("a"), Column("b")), PLAIN)
    return bind(Where(text), pa.schema([("a", left), ("b", right)]))


def _check_compared(op: str, left: pa.Field, right: pa.Field) -> None:
    try:
        _compared(op, pa.array([], left.type), pa.array([], right.type))
    except ColumnTypeError as error:
        raise ColumnTypeError(
            f"{left.name!r} is {left.type} and {right.name!r} is {right.type}; they do not compare with {op}.",
            column=left.name,
            type=str(left.type),
        ) from error


def _both_missing(left: pa.Array, right: pa.Array) -> pa.BooleanArray | None:
    """Where neither column has a value; None where there is no such row."""
    masks = [valid_mask(left), valid_mask(right)]
    if masks[0] is None or masks[1] is None:
        return None
    return pc.invert(pc.or_(*masks))


@dataclass(frozen=True)
class PairCompares(Condition):
    """``a op b`` of two columns, `op` one of ``= > >=``; a missing value on either side fails."""

    op: str

    def holds(self, arrays: Sequence[pa.Array]) -> pa.BooleanArray:
        return _compared(self.op, arrays[0], arrays[1])

    def check(self, fields: Sequence[pa.Field]) -> None:
        _check_compared(self.op, fields[0], fields[1])


@dataclass(frozen=True)
class PairInSet(Condition):
    """The values of two columns are one of some pairs, in which None stands for a missing value."""

    pairs: tuple[tuple[Any, Any], ...]

    def holds(self, arrays: Sequence[pa.Array]) -> pa.BooleanArray:
        sides = [members(a.type, dict.fromkeys(p[i] for p in self.pairs)) for i, a in enumerate(arrays)]
        codes = [_codes(a, side) for a, side in zip(arrays, sides, strict=True)]
        allowed = np.zeros((len(sides[0]) + 2, len(sides[1]) + 2), bool)
        for pair in self.pairs:
            one, other = (_code_of(value, side) for value, side in zip(pair, sides, strict=True))
            if one is not None and other is not None:
                allowed[one, other] = True
        return pa.array(allowed[codes[0], codes[1]])

    def check(self, fields: Sequence[pa.Field]) -> None:
        for field in fields:
            if family(field.type) == "other":
                raise ColumnTypeError(
                    f"{field.name!r} is {field.type}, whose values are in no set of constants.",
                    column=field.name,
                    type=str(field.type),
                )


def _codes(array: pa.Array, side: pa.Array) -> npt.NDArray[np.int64]:
    """0 for a missing value, 1 for one that is in no pair, from 2 on the position among `side`."""
    found = pc.index_in(comparable(array), value_set=side)
    codes = pc.fill_null(pc.add(found.cast(pa.int64()), 2), 1).to_numpy(zero_copy_only=False)
    valid = valid_mask(array)
    return codes if valid is None else np.where(valid.to_numpy(zero_copy_only=False), codes, 0)


def _code_of(value: Any, side: pa.Array) -> int | None:
    if is_missing(value):
        return 0
    one = members(side.type, [value])
    return None if not len(one) else 2 + int(pc.index_in(one, value_set=side)[0].as_py())


@dataclass(frozen=True)
class SumEquals(Condition):
    """The values of all columns add up to a number; a missing value fails.

    Integers add up in 64 bits, decimals as decimals, everything else in float64, from the first column to the last.
    """

    total: int | float

    def holds(self, arrays: Sequence[pa.Array]) -> pa.BooleanArray:
        numbers = [comparable(a) for a in arrays]
        kinds = {family(a.type) for a in numbers}
        if kinds == {"integer"}:
            numbers = [a.cast(pa.int64(), safe=False) for a in numbers]
        elif "float" in kinds:
            numbers = [a.cast(pa.float64(), safe=False) for a in numbers]
        return compare(reduce(pc.add, numbers), "=", self.total)

    def check(self, fields: Sequence[pa.Field]) -> None:
        for field in fields:
            if family(field.type) not in ("integer", "float", "decimal", "boolean"):
                raise ColumnTypeError(
                    f"{field.name!r} is {field.type}; a sum needs numbers.", column=field.name, type=str(field.type)
                )


@dataclass(frozen=True)
class AllEqual(Condition):
    """All columns have the same value, or all have none."""

    def holds(self, arrays: Sequence[pa.Array]) -> pa.BooleanArray:
        found = [_same(arrays[0], other) for other in arrays[1:]]
        return reduce(pc.and_, found) if found else pa.array(np.ones(len(arrays[0]), bool))

    def check(self, fields: Sequence[pa.Field]) -> None:
        for other in fields[1:]:
            _check_compared("=", fields[0], other)


@dataclass(frozen=True)
class AllDifferent(Condition):
    """No two of the columns have the same value, and at most one has none."""

    def holds(self, arrays: Sequence[pa.Array]) -> pa.BooleanArray:
        found = [_same(one, other) for one, other in combinations(arrays, 2)]
        return pc.invert(reduce(pc.or_, found)) if found else pa.array(np.ones(len(arrays[0]), bool))

    def check(self, fields: Sequence[pa.Field]) -> None:
        for field in fields:
            if family(field.type) == "other":
                raise ColumnTypeError(
                    f"{field.name!r} is {field.type}, whose values do not compare.",
                    column=field.name,
                    type=str(field.type),
                )


def _same(left: pa.Array, right: pa.Array) -> pa.BooleanArray:
    """Where two columns have the same value or none; values of kinds that do not compare are never the same."""
    try:
        same = pc.fill_null(_compared("=", left, right), False)
    except ColumnTypeError:
        same = pa.array(np.zeros(len(left), bool))
    missing = _both_missing(left, right)
    return same if missing is None else pc.or_(same, missing)

"""Conditions on the values of one column, and the base of all conditions on rows.

A condition says of which rows it holds; it is plain, hashable configuration and looks at whole arrays. What is asked of
a text is asked of each distinct text once: of a dictionary-encoded column only the dictionary is looked at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import ColumnTypeError
from featuremill.core.predicates import family
from featuremill.core.quality.statistics.comparisons import comparable, compare, members, plain
from featuremill.core.quality.statistics.patterns import found_in, matches_like
from featuremill.transforms.arrays import is_text

__all__ = [
    "Between", "Condition", "InSet", "IsNull", "LengthBetween", "LengthEquals", "MatchesLike", "MatchesRegex",
    "NotNull", "OfTypes", "ValueCondition", "as_text", "can_be_text",
]

FEW = 8
"""Up to this many constants, comparing with each costs less than looking up in a hash table."""


SAMPLE = 1024
"""Values of a plain column that are looked at to see whether encoding it first pays."""


class Condition(ABC):
    """A condition on rows; subclasses are frozen dataclasses."""

    drops_missing: ClassVar[bool] = True
    """Whether rows without a value are left out (of one column), instead of failing."""

    @abstractmethod
    def holds(self, arrays: Sequence[pa.Array]) -> pa.BooleanArray:
        """Where the condition holds, over the columns that it is asked of, shape (n_rows,); null: it does not."""

    @abstractmethod
    def check(self, fields: Sequence[pa.Field]) -> None:
        """Refuse columns of types that the condition cannot be asked of.

        Raises
        ------
        ColumnTypeError
            Naming the column.
        """


class ValueCondition(Condition):
    """A condition on the values of one column."""

    reads_text: ClassVar[bool] = False
    """Whether it is asked of the values as text."""

    costly: ClassVar[bool] = False
    """Whether it runs Python for each value, so that plain columns are encoded to distinct values first."""

    @abstractmethod
    def of_values(self, values: pa.Array) -> pa.BooleanArray:
        """Where it holds, of values without dictionary encoding; anything for null and NaN."""

    def holds(self, arrays: Sequence[pa.Array]) -> pa.BooleanArray:
        array = as_text(arrays[0]) if self.reads_text else arrays[0]
        if pt.is_dictionary(array.type):
            return self.of_values(plain(array.dictionary)).take(array.indices)
        if (self.costly or (self.reads_text and _repeats(array))) and not pt.is_null(array.type):
            encoded = pc.dictionary_encode(plain(array))
            return self.of_values(encoded.dictionary).take(encoded.indices)
        return self.of_values(plain(array))

    def check(self, fields: Sequence[pa.Field]) -> None:
        field = fields[0]
        if self.reads_text and not can_be_text(field.type):
            raise ColumnTypeError(
                f"{field.name!r} is {field.type}; {type(self).__name__} is asked of texts and numbers.",
                column=field.name,
                type=str(field.type),
            )
        try:
            self.holds([pa.array([], field.type)])
        except (ColumnTypeError, pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise ColumnTypeError(f"{field.name!r}: {error}.", column=field.name, type=str(field.type)) from error


def _repeats(array: pa.Array) -> bool:
    """Whether a plain column is long, and at most half of the values at its start are distinct."""
    return len(array) >= 4 * SAMPLE and pc.count_distinct(plain(array.slice(0, SAMPLE))).as_py() <= SAMPLE // 2


def can_be_text(type_: pa.DataType) -> bool:
    """Whether values of the type have one way to be written: text, numbers, booleans, decimals, dates."""
    return family(type_) in ("text", "integer", "float", "boolean", "decimal", "date", "null")


def as_text(array: pa.Array) -> pa.Array:
    """The values as Python writes them, dictionary-encoded where they were no texts.

    >>> as_text(pa.array([1.0, None, 2.5])).to_pylist()
    ['1.0', None, '2.5']
    """
    if is_text(array.type):
        return array
    if not pt.is_dictionary(array.type):
        array = pc.dictionary_encode(array)
    numbers = array.dictionary
    if pt.is_float32(numbers.type) or pt.is_float16(numbers.type):
        texts = [None if v is None else str(v) for v in numbers.to_numpy(zero_copy_only=False)]
    else:
        texts = [None if v is None else str(v) for v in numbers.to_pylist()]
    return pa.DictionaryArray.from_arrays(array.indices, pa.array(texts, pa.string()))


def _all(array: pa.Array, value: bool) -> pa.BooleanArray:
    return pa.array(np.full(len(array), value))


@dataclass(frozen=True)
class NotNull(ValueCondition):
    """There is a value: neither null nor NaN."""

    drops_missing: ClassVar[bool] = False

    def of_values(self, values: pa.Array) -> pa.BooleanArray:
        return _all(values, True)


@dataclass(frozen=True)
class IsNull(ValueCondition):
    """There is no value."""

    def of_values(self, values: pa.Array) -> pa.BooleanArray:
        return _all(values, False)


@dataclass(frozen=True)
class Between(ValueCondition):
    """The value lies between two bounds, one of which may be None; numbers, texts (by code point), dates, moments."""

    low: Any = None
    high: Any = None
    strict_low: bool = False
    strict_high: bool = False

    def of_values(self, values: pa.Array) -> pa.BooleanArray:
        return _between(values, self.low, self.high, self.strict_low, self.strict_high)


def _between(values: pa.Array, low: Any, high: Any, strict_low: bool, strict_high: bool) -> pa.BooleanArray:
    above = None if low is None else compare(values, ">" if strict_low else ">=", low)
    if high is None:
        return _all(values, True) if above is None else above
    below = compare(values, "<" if strict_high else "<=", high)
    return below if above is None else pc.and_(above, below)


@dataclass(frozen=True)
class InSet(ValueCondition):
    """The value is one of some constants, or (`inside` False) none of them."""

    constants: tuple[Any, ...]
    inside: bool = True

    def of_values(self, values: pa.Array) -> pa.BooleanArray:
        values = comparable(values)
        wanted = _members(values.type, self.constants)
        if 0 < len(wanted) <= FEW and not is_text(values.type):
            found = pc.equal(values, wanted[0])
            for scalar in wanted[1:]:
                found = pc.or_(found, pc.equal(values, scalar))
        else:
            found = pc.is_in(values, value_set=wanted)
        return found if self.inside else pc.invert(found)

    def check(self, fields: Sequence[pa.Field]) -> None:
        if family(fields[0].type) == "other":
            raise ColumnTypeError(
                f"{fields[0].name!r} is {fields[0].type}, whose values are in no set of constants.",
                column=fields[0].name,
                type=str(fields[0].type),
            )


@lru_cache(maxsize=256)
def _members(type_: pa.DataType, constants: tuple[Any, ...]) -> pa.Array:
    return members(type_, constants)


@dataclass(frozen=True)
class MatchesRegex(ValueCondition):
    """A regular expression (Python's) is found in the text of the value.

    Parameters
    ----------
    patterns
        The expressions.
    every
        All of them are to be found, instead of any.
    wanted
        False: the condition is that they are not found.
    """

    patterns: tuple[str, ...]
    every: bool = False
    wanted: bool = True
    reads_text: ClassVar[bool] = True

    def of_values(self, values: pa.Array) -> pa.BooleanArray:
        return _combined([found_in(values, p) for p in self.patterns], values, self.every, self.wanted)


@dataclass(frozen=True)
class MatchesLike(ValueCondition):
    """The text is like SQL patterns: % is any text, _ one character; case counts.

    `escape` is the character that takes the next one as it is; without one there is none.
    """

    patterns: tuple[str, ...]
    every: bool = False
    wanted: bool = True
    escape: str | None = None

    def of_values(self, values: pa.Array) -> pa.BooleanArray:
        return _combined([matches_like(values, p, self.escape) for p in self.patterns], values, self.every, self.wanted)

    def check(self, fields: Sequence[pa.Field]) -> None:
        if family(fields[0].type) not in ("text", "null"):
            raise ColumnTypeError(
                f"{fields[0].name!r} is {fields[0].type}; like is for texts.",
                column=fields[0].name,
                type=str(fields[0].type),
            )
        super().check(fields)


def _combined(found: list[pa.BooleanArray], values: pa.Array, every: bool, wanted: bool) -> pa.BooleanArray:
    result = found[0] if found else _all(values, every)
    for other in found[1:]:
        result = (pc.and_ if every else pc.or_)(result, other)
    return result if wanted else pc.invert(result)


@dataclass(frozen=True)
class LengthBetween(ValueCondition):
    """The number of characters (code points) of the value's text lies between two bounds."""

    low: int | float | None = None
    high: int | float | None = None
    strict_low: bool = False
    strict_high: bool = False
    reads_text: ClassVar[bool] = True

    def of_values(self, values: pa.Array) -> pa.BooleanArray:
        return _between(_lengths(values), self.low, self.high, self.strict_low, self.strict_high)


@dataclass(frozen=True)
class LengthEquals(ValueCondition):
    """The number of characters (code points) of the value's text."""

    length: int | float
    reads_text: ClassVar[bool] = True

    def of_values(self, values: pa.Array) -> pa.BooleanArray:
        return compare(_lengths(values), "=", self.length)


def _lengths(values: pa.Array) -> pa.Array:
    return pc.utf8_length(values.cast(pa.string()) if pt.is_null(values.type) else values)


@dataclass(frozen=True)
class OfTypes(ValueCondition):
    """The value is of one of some Python types: true or false of a whole column, whose type is known."""

    holds_here: bool

    def of_values(self, values: pa.Array) -> pa.BooleanArray:
        return _all(values, self.holds_here)

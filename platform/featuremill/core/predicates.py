"""What a filter means for the types of a schema: masks over batches, and what statistics can rule out.

Comparisons with a literal are exact. A number compared with an integer or a decimal column is first brought onto the
column's grid (``x < 1.5`` becomes ``x <= 1``; ``x = 1.5`` is false for every integer), so that nothing passes through a
float on the way; timestamps likewise. A number compared with a float32 column is rounded to float32, so that
``x = 0.1`` finds the float32 nearest to 0.1. NaN compares as IEEE 754 says: only ``!=`` is true of it.

Pruning asks which of the three truth values a filter can take over a group of rows, given the smallest and the largest
value and the number of nulls (:meth:`Predicate.outcomes`). Sets of truth values combine through and, or and not, so a
group is dropped only when true is not among them; where nothing is known, everything is possible.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import ColumnTypeError, MissingColumnError, suggest
from featuremill.core.where import (
    Column,
    Compare,
    In,
    IsNull,
    Join,
    Like,
    Literal,
    Node,
    Not,
    Truth,
    Where,
    number_text,
    point_at,
)

__all__ = ["Predicate", "Range", "bind", "family", "normal_type"]

T, F, N = 1, 2, 4
"""Truth values as bits: true, false, null. A set of them is their sum."""

ANY = T | F | N

NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?",
    re.IGNORECASE | re.ASCII,
)

Look = Callable[[str], Any]
"""From a column's name to its array, or to an Expression that stands for it; in the column's `normal_type`."""

COMPARE: dict[str, Callable[..., Any]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


@dataclass(frozen=True)
class Range:
    """What is known of one column over a group of rows.

    Parameters
    ----------
    low, high
        Bounds of the values that are neither null nor NaN, or None when unknown: int for integers, booleans, days and
        timestamps (in the column's unit), float, Decimal, bytes (UTF-8) for texts.
    may_null, all_null
        Whether nulls can be there; whether there is nothing else.
    may_nan
        Whether NaN can be there.
    """

    low: Any = None
    high: Any = None
    may_null: bool = True
    all_null: bool = False
    may_nan: bool = True


UNKNOWN = Range()


def normal_type(type_: pa.DataType) -> pa.DataType:
    """The type in which a column is compared: dictionaries and views decoded, small floats and decimals widened."""
    if pt.is_dictionary(type_):
        return normal_type(type_.value_type)
    if pt.is_string_view(type_):
        return pa.string()
    if pt.is_binary_view(type_) or pt.is_fixed_size_binary(type_):
        return pa.binary()
    if pt.is_float16(type_):
        return pa.float32()
    if pt.is_date64(type_):
        return pa.date32()
    if pt.is_decimal32(type_) or pt.is_decimal64(type_):
        return pa.decimal128(type_.precision, type_.scale)
    return type_


def family(type_: pa.DataType) -> str:
    """What a column compares with: integer, float, decimal, text, bytes, boolean, date, timestamp, null; else other."""
    type_ = normal_type(type_)
    tests: tuple[tuple[str, Callable[[pa.DataType], bool]], ...] = (
        ("integer", pt.is_integer),
        ("float", pt.is_floating),
        ("decimal", pt.is_decimal),
        ("boolean", pt.is_boolean),
        ("text", lambda t: pt.is_string(t) or pt.is_large_string(t)),
        ("bytes", lambda t: pt.is_binary(t) or pt.is_large_binary(t)),
        ("date", pt.is_date32),
        ("timestamp", pt.is_timestamp),
        ("null", pt.is_null),
    )
    return next((name for name, test in tests if test(type_)), "other")


class Predicate(ABC):
    """A filter bound to the types of a schema."""

    @abstractmethod
    def mask(self, look: Look) -> Any:
        """The truth values, null where unknown: a boolean array, scalar or Expression, as `look` gives."""

    @abstractmethod
    def outcomes(self, ranges: Mapping[str, Range]) -> int:
        """The set of truth values that rows within these ranges can give; a superset where it is not known."""

    def can_match(self, ranges: Mapping[str, Range]) -> bool:
        """False only when no row within these ranges is kept. Columns left out can be anything."""
        return bool(self.outcomes(ranges) & T)

    def filter(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a batch for which the filter is true, in order; the batch itself when it is true of all."""
        seen: dict[str, pa.Array] = {}

        def look(name: str) -> pa.Array:
            if name not in seen:
                array = batch.column(name)
                wanted = normal_type(array.type)
                seen[name] = array if array.type == wanted else array.cast(wanted)
            return seen[name]

        mask = self.mask(look)
        if isinstance(mask, pa.Scalar):
            return batch if mask.as_py() else batch.slice(0, 0)
        kept = mask.true_count
        return batch if kept == batch.num_rows else _filtered(batch, mask) if kept else batch.slice(0, 0)

    def expression(self, schema: pa.Schema) -> pc.Expression:
        """The filter as an Arrow expression over `schema`, for `pyarrow.dataset` and the like."""

        def look(name: str) -> pc.Expression:
            type_ = schema.field(name).type
            wanted = normal_type(type_)
            return pc.field(name) if type_ == wanted else pc.field(name).cast(wanted)

        mask = self.mask(look)
        return pc.scalar(mask) if isinstance(mask, pa.Scalar) else mask


def _filtered(batch: pa.RecordBatch, mask: pa.Array) -> pa.RecordBatch:
    arrays = [
        column.filter(mask)
        if column.type == (plain := _selectable(column.type))
        else column.cast(plain).filter(mask).cast(column.type)
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _selectable(type_: pa.DataType) -> pa.DataType:
    """The type without views of texts: Arrow has no kernel that selects from those."""
    if pt.is_string_view(type_):
        return pa.string()
    if pt.is_binary_view(type_):
        return pa.binary()
    if pt.is_list(type_):
        return pa.list_(_selectable(type_.value_type))
    if pt.is_large_list(type_):
        return pa.large_list(_selectable(type_.value_type))
    return type_


@dataclass(frozen=True)
class Constant(Predicate):
    """The same for every row; with a column, null where that column is null."""

    value: bool
    column: str | None = None

    def mask(self, look: Look) -> Any:
        if self.column is None:
            return pa.scalar(self.value)
        return pc.if_else(pc.is_valid(look(self.column)), pa.scalar(self.value), pa.scalar(None, pa.bool_()))

    def outcomes(self, ranges: Mapping[str, Range]) -> int:
        found = T if self.value else F
        if self.column is None:
            return found
        known = ranges.get(self.column, UNKNOWN)
        return N if known.all_null else found | (N if known.may_null else 0)


@dataclass(frozen=True)
class Compared(Predicate):
    """A column against one value; `value` is the scalar in the terms of :class:`Range`."""

    column: str
    op: str
    scalar: pa.Scalar
    value: Any

    def mask(self, look: Look) -> Any:
        return COMPARE[self.op](look(self.column), self.scalar)

    def outcomes(self, ranges: Mapping[str, Range]) -> int:
        known = ranges.get(self.column, UNKNOWN)
        if known.all_null:
            return N
        found = self._of_values(known) | (N if known.may_null else 0)
        if pt.is_floating(self.scalar.type) and known.may_nan:
            found |= T if self.op == "!=" else F
        return found

    def _of_values(self, known: Range) -> int:
        low, high, value = known.low, known.high, self.value
        if low is None or high is None:
            return T | F
        can: dict[str, tuple[bool, bool]] = {
            "=": (low <= value <= high, not low == value == high),
            "<": (low < value, high >= value),
            "<=": (low <= value, high > value),
        }
        negation = {"!=": "=", ">=": "<", ">": "<="}
        if self.op in negation:
            false, true = can[negation[self.op]]
        else:
            true, false = can[self.op]
        return (T if true else 0) | (F if false else 0)


@dataclass(frozen=True)
class Pair(Predicate):
    """A column against another, both brought to `type`."""

    left: str
    op: str
    right: str
    type: pa.DataType

    def mask(self, look: Look) -> Any:
        # Only the way to float64 rounds; a moment that does not fit the finer unit is an error, never a wrong answer.
        safe = not pt.is_float64(self.type)
        return COMPARE[self.op](look(self.left).cast(self.type, safe=safe), look(self.right).cast(self.type, safe=safe))

    def outcomes(self, ranges: Mapping[str, Range]) -> int:
        return ANY


@dataclass(frozen=True)
class Member(Predicate):
    """A column against a list of values; `has_null`: the list holds null, so that no match is null instead of false."""

    column: str
    scalars: pa.Array
    values: tuple[Any, ...]
    has_null: bool

    def mask(self, look: Look) -> Any:
        column = look(self.column)
        found = pc.is_in(column, value_set=self.scalars)
        unknown = pa.scalar(None, pa.bool_())
        if self.has_null:
            return pc.if_else(found, pa.scalar(True), unknown)
        return pc.if_else(pc.is_valid(column), found, unknown)

    def outcomes(self, ranges: Mapping[str, Range]) -> int:
        known = ranges.get(self.column, UNKNOWN)
        if known.all_null:
            return N
        found = N if known.may_null or self.has_null else 0
        if known.low is None or known.high is None:
            return found | T | F
        if any(known.low <= v <= known.high for v in self.values):
            found |= T
        return found | F


@dataclass(frozen=True)
class Matches(Predicate):
    """A text column against a pattern; `prefix`: what every match begins with, as UTF-8."""

    column: str
    pattern: str
    prefix: bytes

    def mask(self, look: Look) -> Any:
        return pc.match_like(look(self.column), self.pattern)

    def outcomes(self, ranges: Mapping[str, Range]) -> int:
        known = ranges.get(self.column, UNKNOWN)
        if known.all_null:
            return N
        found = F | (N if known.may_null else 0)
        if known.low is None or known.high is None:
            return found | T
        possible = known.high >= self.prefix and known.low[: len(self.prefix)] <= self.prefix
        return found | (T if possible else 0)


@dataclass(frozen=True)
class Missing(Predicate):
    """Whether a column is null; NaN is not."""

    column: str

    def mask(self, look: Look) -> Any:
        return pc.is_null(look(self.column))

    def outcomes(self, ranges: Mapping[str, Range]) -> int:
        known = ranges.get(self.column, UNKNOWN)
        return T if known.all_null else (T | F if known.may_null else F)


@dataclass(frozen=True)
class Flag(Predicate):
    """A boolean column as it is."""

    column: str

    def mask(self, look: Look) -> Any:
        return look(self.column)

    def outcomes(self, ranges: Mapping[str, Range]) -> int:
        return Compared(self.column, "=", pa.scalar(True), 1).outcomes(ranges)


@dataclass(frozen=True)
class Negated(Predicate):
    """``not``; null stays null."""

    item: Predicate

    def mask(self, look: Look) -> Any:
        return pc.invert(self.item.mask(look))

    def outcomes(self, ranges: Mapping[str, Range]) -> int:
        found = self.item.outcomes(ranges)
        return (T if found & F else 0) | (F if found & T else 0) | (found & N)


@dataclass(frozen=True)
class Joined(Predicate):
    """``and`` / ``or`` after Kleene: false and null is false, true or null is true."""

    op: str
    items: tuple[Predicate, ...]

    def mask(self, look: Look) -> Any:
        join = pc.and_kleene if self.op == "and" else pc.or_kleene
        result = self.items[0].mask(look)
        for item in self.items[1:]:
            result = join(result, item.mask(look))
        return result

    def outcomes(self, ranges: Mapping[str, Range]) -> int:
        strong, weak = (F, T) if self.op == "and" else (T, F)
        found = weak
        for item in self.items:
            other = item.outcomes(ranges)
            both = (strong if (found | other) & strong else 0) | (weak if found & other & weak else 0)
            nulls = (found & N and other & (N | weak)) or (other & N and found & (N | weak))
            found = both | (N if nulls else 0)
        return found


# --- binding --------------------------------------------------------------------------------------------------------


def bind(where: Where, schema: pa.Schema) -> Predicate:
    """The filter for the types of `schema`; see :meth:`Where.bind`."""
    return _Binder(where, schema).bind(where.node)


@dataclass(frozen=True)
class _Binder:
    where: Where
    schema: pa.Schema

    def bind(self, node: Node) -> Predicate:
        match node:
            case Join(op, items):
                return Joined(op, tuple(self.bind(i) for i in items))
            case Not(item):
                return Negated(self.bind(item))
            case IsNull(column):
                self.type_of(column)
                return Missing(column.name)
            case Truth(bool() as value):
                return Constant(value)
            case Truth(Column() as column):
                return self.flag(column)
            case Compare(op, left, Column() as right):
                return self.pair(op, left, right)
            case Compare(op, left, Literal() as right):
                return self.compare(op, left, right)
            case In(column, values):
                return self.member(column, values)
            case Like(column, pattern):
                return self.like(column, pattern)
            case _:
                raise TypeError(node)

    def wrong(self, at: int, column: Column, message: str) -> NoReturn:
        point_at(self.where.text, at, message, ColumnTypeError, column=column.name, type=str(self.type_of(column)))

    def type_of(self, column: Column) -> pa.DataType:
        index = self.schema.get_field_index(column.name)
        if index < 0:
            message = f"there is no column {column.name!r}. {suggest(column.name, self.schema.names)}"
            if self.where.text[column.at : column.at + 1] == '"':
                message += " Double quotes hold a column's name; a text goes in 'single quotes'."
            point_at(self.where.text, column.at, message, MissingColumnError, column=column.name)
        return self.schema.field(index).type

    def flag(self, column: Column) -> Predicate:
        kind = family(self.type_of(column))
        if kind == "null":
            return Constant(False, column.name)
        if kind != "boolean":
            self.wrong(
                column.at, column, f"{column.name!r} is {self.type_of(column)}, no boolean; compare it with something."
            )
        return Flag(column.name)

    def like(self, column: Column, pattern: str) -> Predicate:
        kind = family(self.type_of(column))
        if kind == "null":
            return Constant(False, column.name)
        if kind != "text":
            self.wrong(column.at, column, f"like is for texts; {column.name!r} is {self.type_of(column)}.")
        return Matches(column.name, pattern, re.split(r"[%_\\]", pattern, maxsplit=1)[0].encode())

    def member(self, column: Column, values: tuple[Literal, ...]) -> Predicate:
        found = [self.compare("=", column, v) for v in values if v.kind != "null"]
        hits = [f for f in found if isinstance(f, Compared)]
        type_ = normal_type(self.type_of(column))
        scalars = pa.array([h.scalar for h in hits], type_) if hits else pa.array([], type_)
        if family(type_) == "other":
            self.no_order(column)
        return Member(column.name, scalars, tuple(h.value for h in hits), any(v.kind == "null" for v in values))

    def pair(self, op: str, left: Column, right: Column) -> Predicate:
        types = [normal_type(self.type_of(c)) for c in (left, right)]
        kinds = {family(t) for t in types}
        for column, kind in ((left, family(types[0])), (right, family(types[1]))):
            if kind == "other":
                self.no_order(column)
            if kind == "null":
                return Constant(False, column.name)
        common = _common_type(types[0], types[1])
        if common is None or (kinds == {"boolean"} and op not in ("=", "!=")):
            message = f"{left.name!r} is {types[0]} and {right.name!r} is {types[1]}; they do not compare with {op}."
            self.wrong(right.at, right, message)
        return Pair(left.name, op, right.name, common)

    def no_order(self, column: Column) -> NoReturn:
        self.wrong(
            column.at,
            column,
            f"{column.name!r} is {self.type_of(column)}; such columns can only be tested with is null and is not null.",
        )

    def compare(self, op: str, column: Column, literal: Literal) -> Predicate:
        type_ = normal_type(self.type_of(column))
        match family(type_), literal.kind:
            case "null", _:
                return Constant(False, column.name)
            case "other", _:
                self.no_order(column)
            case "integer" | "decimal", "number":
                return _on_grid(op, column.name, type_, Fraction(literal.value))
            case "float", "number":
                return _float(op, column.name, type_, literal.value)
            case "text" | "bytes", "text":
                value = literal.value.encode()
                return Compared(column.name, op, pa.scalar(value, pa.binary()).cast(type_), value)
            case "boolean", "bool" if op in ("=", "!="):
                return Compared(column.name, op, pa.scalar(literal.value), int(literal.value))
            case "date", "date" | "text":
                days = (self.day(literal, column) - EPOCH.date()).days
                return _on_grid(op, column.name, type_, Fraction(days))
            case "timestamp", "timestamp" | "date" | "text":
                return _on_grid(op, column.name, type_, self.moment(literal, column, type_))
        self.mismatch(column, literal)

    def mismatch(self, column: Column, literal: Literal) -> NoReturn:
        kind = family(self.type_of(column))
        writers: dict[str, Callable[[Any], str]] = {
            "number": number_text,
            "text": lambda v: f"'{v}'",
            "bool": lambda v: str(v).lower(),
            "date": lambda v: f"DATE '{v}'",
            "timestamp": lambda v: f"TIMESTAMP '{v}'",
        }
        shown = writers[literal.kind](literal.value)
        advice = {
            "text": "Write a text in 'quotes'.",
            "bytes": "Write a text in 'quotes'.",
            "boolean": "Write = true or = false.",
            "date": "Write DATE '2013-01-31'.",
            "timestamp": "Write TIMESTAMP '2013-01-31 12:00:00'.",
        }.get(kind, "Write a number without quotes.")
        self.wrong(
            literal.at,
            column,
            f"{column.name!r} is {self.type_of(column)} and cannot be compared with {shown}. {advice}",
        )

    def day(self, literal: Literal, column: Column) -> date:
        try:
            if re.fullmatch(r"\d{4}-\d\d-\d\d", literal.value, re.ASCII):
                return date.fromisoformat(literal.value)
        except ValueError:
            pass  # a day that does not exist is reported like any other text
        self.wrong(
            literal.at, column, f"{literal.value!r} is no date such as '2013-01-31', and {column.name!r} is a date."
        )

    def moment(self, literal: Literal, column: Column, type_: pa.DataType) -> Fraction:
        """The literal in the column's unit since the epoch; without an offset it is UTC, as in BigQuery."""
        match = TIMESTAMP.fullmatch(literal.value.strip())
        if match is None or (literal.kind == "date" and match[2]):
            self.wrong(literal.at, column, f"{literal.value!r} is no moment such as '2013-01-31 12:00:00'.")
        day, hour, minute, second, fraction, offset = match.groups()
        if offset and type_.tz is None:
            self.wrong(literal.at, column, f"{column.name!r} has no time zone; write the moment without {offset!r}.")
        try:
            moment = datetime.fromisoformat(f"{day}T{hour or '00'}:{minute or '00'}:{second or '00'}+00:00")
            shift = _offset(offset)
        except ValueError:
            self.wrong(literal.at, column, f"{literal.value!r} is no moment that exists.")
        seconds = (moment - EPOCH - shift) // timedelta(seconds=1)
        nanoseconds = seconds * 10**9 + int((fraction or "").ljust(9, "0"))
        return Fraction(nanoseconds, NANOSECONDS[type_.unit])


def _offset(text: str | None) -> timedelta:
    if text is None or text.upper() in ("Z", "UTC"):
        return timedelta(0)
    digits = text[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 14 or minutes > 59:
        raise ValueError(text)
    return timedelta(hours=hours, minutes=minutes) * (-1 if text[0] == "-" else 1)


def _on_grid(op: str, column: str, type_: pa.DataType, value: Fraction) -> Predicate:
    """A comparison with a column whose values are the multiples of some unit, made exact; see the module's text."""
    scale = type_.scale if pt.is_decimal(type_) else 0
    scaled = value * Fraction(10) ** scale
    below = math.floor(scaled)
    if below != scaled:
        if op in ("=", "!="):
            return Constant(op == "!=", column)
        op = {"<": "<=", ">=": ">"}.get(op, op)
    low, high = _limits(type_)
    if not low <= below <= high:
        above = below > high
        return Constant({"=": False, "!=": True}.get(op, above if op in ("<", "<=") else not above), column)
    if pt.is_decimal(type_):
        digits = tuple(int(d) for d in str(abs(below)))
        exact = Decimal((int(below < 0), digits, -scale))
        return Compared(column, op, pa.scalar(exact, type_), exact)
    return Compared(column, op, pa.scalar(below, type_), below)


def _limits(type_: pa.DataType) -> tuple[int, int]:
    """The smallest and largest multiple of the unit that a type holds."""
    if pt.is_decimal(type_):
        top: int = 10**type_.precision - 1
        return -top, top
    if pt.is_unsigned_integer(type_):
        return 0, 2**type_.bit_width - 1
    return -(2 ** (type_.bit_width - 1)), 2 ** (type_.bit_width - 1) - 1


def _float(op: str, column: str, type_: pa.DataType, value: Decimal) -> Predicate:
    exact = float(value)
    scalar = pa.scalar(exact, type_)
    if math.isinf(scalar.as_py()):
        # Rounded to infinity it would equal infinities in the data; as float64 it still lies between.
        scalar = pa.scalar(exact, pa.float64())
    return Compared(column, op, scalar, scalar.as_py())


def _common_type(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """The type in which two columns compare, or None: numbers as float64 unless both are integers of like sign."""
    kinds = {family(left), family(right)}
    if left == right:
        return left
    if kinds == {"integer"}:
        unsigned = [pt.is_unsigned_integer(t) for t in (left, right)]
        if all(unsigned):
            return pa.uint64()
        wide = any(pt.is_uint64(t) for t in (left, right))
        return pa.float64() if wide else pa.int64()
    if kinds <= {"integer", "float", "decimal"}:
        return pa.float64()
    if kinds == {"text"}:
        return pa.large_string()
    if kinds == {"bytes"}:
        return pa.large_binary()
    if kinds == {"timestamp"} and (left.tz is None) == (right.tz is None):
        finest = min((left.unit, right.unit), key=lambda unit: NANOSECONDS[unit])
        return pa.timestamp(finest, left.tz)
    return None

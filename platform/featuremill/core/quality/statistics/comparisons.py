"""Values of a column against constants, as pandas compares them: null is never true, numbers compare by value.

The comparison itself is the exact one of :mod:`featuremill.core.predicates`: a bound of an integer, decimal, date or
timestamp column is brought onto the column's grid first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import ColumnTypeError, MissingExtraError, ParameterError
from featuremill.core.predicates import Compared, Constant, Predicate, bind, family, normal_type
from featuremill.core.where import PLAIN, Column, Compare, Literal, Where, render
from featuremill.transforms.arrays import is_text

__all__ = ["comparable", "comparable_type", "compare", "is_missing", "members", "parse_moment", "plain", "valid_mask"]

VALUE = "value"
"""The name that a column goes by in a comparison."""


def plain(array: pa.Array) -> pa.Array:
    """The column without dictionary encoding or views; the same array where it has neither."""
    if pt.is_dictionary(array.type):
        array = array.dictionary_decode()
    wanted = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(array.type)
    return array if wanted is None else array.cast(wanted)


def comparable_type(type_: pa.DataType) -> pa.DataType:
    """The type in which a column is compared: booleans as numbers, all floats as float64."""
    type_ = normal_type(type_)
    if pt.is_boolean(type_):
        return pa.uint8()
    return pa.float64() if pt.is_floating(type_) else type_


def comparable(array: pa.Array) -> pa.Array:
    """The column in its :func:`comparable_type`."""
    wanted = comparable_type(array.type)
    return array if array.type == wanted else array.cast(wanted)


def valid_mask(array: pa.Array) -> pa.BooleanArray | None:
    """Which rows hold a value: neither null nor NaN. None where all do.

    >>> valid_mask(pa.array([1.0, float("nan"), None])).to_pylist()
    [True, False, False]
    """
    if pt.is_dictionary(array.type) and (not is_text(array.type) or array.dictionary.null_count):
        array = array.dictionary_decode()
    if pt.is_floating(array.type):
        nan = pc.is_nan(array)
        if nan.true_count:
            return pc.fill_null(pc.invert(nan), False)
    return array.is_valid() if array.null_count else None


def is_missing(value: Any) -> bool:
    """Whether a constant stands for a missing value."""
    return value is None or value != value  # noqa: PLR0124  # so is NaN


def compare(array: pa.Array, op: str, value: Any) -> pa.BooleanArray:
    """Where ``array op value`` holds, `op` one of ``= != < <= > >=``; null or False where a row holds no value.

    Parameters
    ----------
    value
        A number, a text, a date or a datetime. A text is parsed where the column holds dates or timestamps.

    Raises
    ------
    ColumnTypeError
        For values that do not compare.

    >>> compare(pa.array([1, 2, None, 3]), ">=", 1.5).to_pylist()
    [False, True, None, True]
    """
    found = _comparison(comparable_type(array.type), op, value).mask(lambda _: comparable(array))
    return pa.array([found.as_py()] * len(array), pa.bool_()) if isinstance(found, pa.Scalar) else found


@lru_cache(maxsize=4096)
def _comparison(type_: pa.DataType, op: str, value: Any) -> Predicate:
    """The comparison bound to a type. 1 and True are one key of the cache, and one number here."""
    if isinstance(value, float) and math.isinf(value) and family(type_) in ("integer", "decimal", "float"):
        if family(type_) != "float":
            return Constant(op == "!=" or ((op in ("<", "<=")) == (value > 0) and op != "="), VALUE)
        return Compared(VALUE, op, pa.scalar(value), value)
    column = Column(VALUE)
    try:
        text = render(Compare(op, column, _literal(type_, value)), PLAIN)
        return bind(Where(text), pa.schema([(VALUE, type_)]))
    except (ColumnTypeError, ParameterError) as error:
        raise ColumnTypeError(f"values of {type_} do not compare with {value!r}", type=str(type_)) from error


def _literal(type_: pa.DataType, value: Any) -> Literal:
    kind = family(type_)
    if kind in ("date", "timestamp") and isinstance(value, str):
        value = parse_moment(value)
        if kind == "date" and isinstance(value, datetime) and value.time() == datetime.min.time():
            value = value.date()
    if isinstance(value, bool):
        return Literal("number", Decimal(int(value)))
    if isinstance(value, int | float | Decimal) and not is_missing(value):
        return Literal("number", Decimal(value))
    if isinstance(value, datetime):
        return Literal("timestamp", value.isoformat(" "))
    if isinstance(value, date):
        return Literal("date", value.isoformat())
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        return Literal("text", value)
    raise ColumnTypeError(f"{value!r} is no value that a column compares with", type=str(type_))


def parse_moment(text: str) -> datetime:
    """A date and time in any of the ways that ``dateutil`` reads.

    Raises
    ------
    ColumnTypeError
        When it cannot be read.
    """
    try:
        from dateutil.parser import parse
    except ImportError as error:
        raise MissingExtraError(
            'Dates in checks need python-dateutil: pip install "featuremill[quality]".', package="python-dateutil"
        ) from error
    try:
        found: datetime = parse(text)
    except (ValueError, OverflowError) as error:
        raise ColumnTypeError(f"{text!r} is no date or time", value=text) from error
    return found


def members(type_: pa.DataType, values: Iterable[Any]) -> pa.Array:
    """The constants that a column of the type can hold, as an array of its :func:`comparable_type`; no others.

    Equality is Python's: 1 is 1.0 and True, a text is no number, a date is no moment.

    >>> members(pa.int64(), [1, 2.0, 2.5, "3", None]).to_pylist()
    [1, 2]
    """
    type_ = comparable_type(type_)
    kept = [v for v in (_member(type_, value) for value in values) if v is not None]
    return pa.array(kept, type_)


def _member(type_: pa.DataType, value: Any) -> Any:
    """The constant in the terms of a type, or None where no value of the type equals it."""
    if is_missing(value):
        return None
    kind = family(type_)
    if kind in ("integer", "float", "decimal") and isinstance(value, bool | int | float | Decimal):
        return _number(type_, kind, value)
    fits = {
        "text": isinstance(value, str),
        "bytes": isinstance(value, bytes),
        "date": isinstance(value, date) and not isinstance(value, datetime),
        "timestamp": isinstance(value, datetime),
    }
    if not fits.get(kind, False):
        return None
    if kind == "timestamp" and (value.tzinfo is None) != (type_.tz is None):
        return None
    return value


def _number(type_: pa.DataType, kind: str, value: Any) -> Any:
    if kind == "float":
        number = float(value)
        return number if number == value else None
    if isinstance(value, float) and math.isinf(value):
        return None
    exact = Decimal(value)
    try:
        found = pa.scalar(exact, type_) if kind == "decimal" else pa.scalar(int(exact), type_)
    except (pa.ArrowInvalid, OverflowError):
        return None
    return found.as_py() if found.as_py() == exact else None

"""A source's `where` as BigQuery's ``row_restriction``, with the very meaning that it has for Parquet.

What is written down is not the user's text but the filter bound to the columns' types (:mod:`predicates`), with every
literal in its column's own type: BigQuery would compare ``x < 1.5`` of an INT64 column in floating point, which is not
exact beyond 2^53, and reads ``'2013-01-31'`` in the session's time zone. Null is handled alike on both sides: a row is
kept only where the condition is true. NaN equals nothing, itself included, in both.

Every name is quoted and every text escaped, so no filter can say anything but a filter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import ColumnTypeError
from featuremill.core.bigquery.types import UNCOMPARABLE, arrow_schema
from featuremill.core.predicates import (
    Compared,
    Constant,
    Flag,
    Joined,
    Matches,
    Member,
    Missing,
    Negated,
    Pair,
    Predicate,
)
from featuremill.core.where import GOOGLESQL, Column, In, IsNull, Join, Node, Not, Truth, Where, point_at

__all__ = ["row_restriction"]

NULL = "CAST(NULL AS BOOL)"


def row_restriction(where: Where, fields: Sequence[Any]) -> str:
    """The condition in GoogleSQL, for a table with these fields (``google.cloud.bigquery.SchemaField``).

    Raises
    ------
    MissingColumnError
        For a column that the table does not have.
    ColumnTypeError
        For a comparison that its column's type does not know: arrays, structs, ranges, intervals, times of day, JSON
        and geographies can only be tested with ``is null``.

    >>> from types import SimpleNamespace
    >>> day = SimpleNamespace(name="day", field_type="DATE", mode="NULLABLE")
    >>> row_restriction(Where("day >= '2013-06-01' or day is null"), [day])
    "(`day` >= DATE '2013-06-01') OR (`day` IS NULL)"
    """
    opaque = {f.name: f.field_type for f in fields if f.field_type in UNCOMPARABLE}
    for column in _compared(where.node):
        if column.name in opaque:
            message = f"{column.name!r} is {opaque[column.name]}; such columns can only be tested with is null."
            point_at(where.text, column.at, message, ColumnTypeError, column=column.name, type=opaque[column.name])
    return _sql(where.bind(arrow_schema(fields)))


def _compared(node: Node) -> list[Column]:
    """The columns that a filter does more with than test them for null."""
    match node:
        case IsNull() | Truth(bool()):
            return []
        case Truth(Column() as column):
            return [column]
        case Not(item):
            return _compared(item)
        case Join(_, items):
            return [column for item in items for column in _compared(item)]
        case In(column, _):
            return [column]
        case _:
            sides = (getattr(node, name, None) for name in ("left", "right", "column"))
            return [side for side in sides if isinstance(side, Column)]


# --- predicates -----------------------------------------------------------------------------------------------------


@singledispatch
def _sql(predicate: Predicate) -> str:
    raise TypeError(predicate)


@_sql.register
def _constant(predicate: Constant) -> str:
    if predicate.column is None:
        return str(predicate.value).upper()
    # Null where the column is null, otherwise the constant.
    name, test = GOOGLESQL.name(predicate.column), "IS NOT NULL OR" if predicate.value else "IS NULL AND"
    return f"{name} {test} {NULL}"


@_sql.register
def _compared_with(predicate: Compared) -> str:
    return f"{GOOGLESQL.name(predicate.column)} {predicate.op} {_literal(predicate.scalar)}"


@_sql.register
def _pair(predicate: Pair) -> str:
    names = [GOOGLESQL.name(n) for n in (predicate.left, predicate.right)]
    if pt.is_float64(predicate.type):
        names = [f"CAST({n} AS FLOAT64)" for n in names]
    return f"{names[0]} {predicate.op} {names[1]}"


@_sql.register
def _member(predicate: Member) -> str:
    literals = [_literal(s) for s in predicate.scalars] + ["NULL"] * predicate.has_null
    if not predicate.scalars:
        return NULL if predicate.has_null else _sql(Constant(False, predicate.column))
    return f"{GOOGLESQL.name(predicate.column)} IN ({', '.join(literals)})"


@_sql.register
def _matches(predicate: Matches) -> str:
    # A backslash before any other character is ours alone.
    pattern = re.sub(r"\\(.)", lambda m: m[0] if m[1] in "%_\\" else m[1], predicate.pattern, flags=re.DOTALL)
    return f"{GOOGLESQL.name(predicate.column)} LIKE {GOOGLESQL.text(pattern)}"


@_sql.register
def _missing(predicate: Missing) -> str:
    return f"{GOOGLESQL.name(predicate.column)} IS NULL"


@_sql.register
def _flag(predicate: Flag) -> str:
    return GOOGLESQL.name(predicate.column)


@_sql.register
def _negated(predicate: Negated) -> str:
    return f"NOT ({_sql(predicate.item)})"


@_sql.register
def _joined(predicate: Joined) -> str:
    return f" {predicate.op.upper()} ".join(f"({_sql(item)})" for item in predicate.items)


def _literal(scalar: pa.Scalar) -> str:
    """A value in the words of its own type."""
    type_, value = scalar.type, scalar.as_py()
    if pt.is_boolean(type_):
        return str(value).upper()
    if pt.is_integer(type_):
        return str(value)
    if pt.is_floating(type_):
        return repr(float(value)) if math.isfinite(value) else f"CAST('{value}' AS FLOAT64)"
    if pt.is_decimal(type_):
        return f"{'BIGNUMERIC' if pt.is_decimal256(type_) else 'NUMERIC'} '{value:f}'"
    if pt.is_date(type_):
        return f"DATE '{value.isoformat()}'"
    if pt.is_timestamp(type_):
        kind = "DATETIME" if type_.tz is None else "TIMESTAMP"
        return f"{kind} '{value.isoformat(sep=' ')}'"
    if pt.is_binary(type_) or pt.is_large_binary(type_):
        return "b'" + "".join(f"\\x{byte:02x}" for byte in value) + "'"
    return GOOGLESQL.text(value)

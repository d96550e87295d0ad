"""BigQuery's types as Arrow types, as the Storage Read API gives them.

============== ============================== ==========================================================================
BigQuery       Arrow
============== ============================== ==========================================================================
INT64          int64
FLOAT64        double
NUMERIC        decimal128(38, 9)              whatever precision and scale the column declares
BIGNUMERIC     decimal256(76, 38)             the same
BOOL           bool
STRING         string
BYTES          binary
DATE           date32[day]
TIME           time64[us]
DATETIME       timestamp[us]                  a local time: it has no zone
TIMESTAMP      timestamp[us, tz=UTC]
JSON           string                         its text
GEOGRAPHY      string                         as well-known text (WKT)
INTERVAL       month_day_nano_interval
RANGE<T>       struct<start: T, end: T>       an end that is not bounded is null
ARRAY<T>       list<item: T>                  never null: BigQuery stores a null array as an empty one
STRUCT<...>    struct<...>
============== ============================== ==========================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from featuremill.artifacts.errors import RequestError
from featuremill.core.parquet_source import loose_type

__all__ = ["UNCOMPARABLE", "arrow_schema", "declared_schema"]

SCALARS: dict[str, pa.DataType] = {
    "BIGNUMERIC": pa.decimal256(76, 38),
    "BOOLEAN": pa.bool_(),
    "BYTES": pa.binary(),
    "DATE": pa.date32(),
    "DATETIME": pa.timestamp("us"),
    "FLOAT": pa.float64(),
    "GEOGRAPHY": pa.string(),
    "INTEGER": pa.int64(),
    "INTERVAL": pa.month_day_nano_interval(),
    "JSON": pa.string(),
    "NUMERIC": pa.decimal128(38, 9),
    "STRING": pa.string(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
}
"""By the names that the REST API uses."""

ALIASES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}

UNCOMPARABLE = frozenset({"JSON", "GEOGRAPHY"})
"""Types that are texts in Arrow, and that BigQuery does not compare with texts."""


def arrow_schema(fields: Sequence[Any]) -> pa.Schema:
    """The Arrow schema of BigQuery's fields (``google.cloud.bigquery.SchemaField``).

    Raises
    ------
    RequestError
        For a type that is not known.
    """
    return pa.schema([(f.name, _type_of(f)) for f in fields])


def _type_of(field: Any) -> pa.DataType:
    inner = _value_type(field)
    return pa.list_(inner) if field.mode == "REPEATED" else inner


def _value_type(field: Any) -> pa.DataType:
    name = ALIASES.get(field.field_type, field.field_type)
    if name in ("RECORD", "STRUCT"):
        return pa.struct([(f.name, _type_of(f)) for f in field.fields])
    if name == "RANGE":
        bound = SCALARS[field.range_element_type.element_type]
        return pa.struct([("start", bound), ("end", bound)])
    if name not in SCALARS:
        raise RequestError(
            f"BigQuery: the column {field.name!r} is {name}, a type that is not known here. Leave it out with columns, "
            "or cast it in a query.",
            column=field.name,
            type=name,
        )
    return SCALARS[name]


def declared_schema(wire: pa.Schema) -> pa.Schema:
    """The schema of a read session without what concerns only its layout: nullability, metadata, names inside lists.

    >>> declared_schema(pa.schema([pa.field("x", pa.list_(pa.field("element", pa.int64(), nullable=False)))]))
    x: list<item: int64>
      child 0, item: int64
    """
    return pa.schema([(f.name, loose_type(_storage(f.type))) for f in wire])


def _storage(type_: pa.DataType) -> pa.DataType:
    # Some package in the process may have registered a class for JSON or GEOGRAPHY.
    return type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_

"""Arrow's types as BigQuery's: the schema of a table that is to hold rows, and rows in the types that it takes.

=========================================== ============ ==============================================================
Arrow                                       BigQuery
=========================================== ============ ==============================================================
int8 to int64, uint8 to uint32              INT64
half_float, float, double                   FLOAT64
bool                                        BOOL
string, large_string                        STRING
binary, large_binary, fixed_size_binary     BYTES
date32, date64                              DATE
time32, time64                              TIME         no finer than microseconds
timestamp without zone                      DATETIME     the same
timestamp with zone                         TIMESTAMP    the same; the moment stays, the zone goes
decimal                                     NUMERIC      or BIGNUMERIC where it needs more digits
list, large_list, fixed_size_list           ARRAY        a null list becomes an empty one; nulls in a list are refused
struct                                      STRUCT
dictionary                                  that of its values
=========================================== ============ ==============================================================
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import ColumnTypeError, JobError, ParameterError
from featuremill.transforms.arrays import is_list

__all__ = ["converted", "misfit", "schema_fields", "table_schema"]

NAMES: dict[pa.DataType, str] = {
    pa.int64(): "INTEGER",
    pa.float64(): "FLOAT",
    pa.bool_(): "BOOLEAN",
    pa.string(): "STRING",
    pa.binary(): "BYTES",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.timestamp("us"): "DATETIME",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP",
    pa.decimal128(38, 9): "NUMERIC",
    pa.decimal256(76, 38): "BIGNUMERIC",
}
ALIASES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}
TEXTS = frozenset({"JSON", "GEOGRAPHY"})
"""Types that take texts."""
NOT_IN_NAMES = frozenset("!\"$()*,./;?@[\\]^`{}~\n\r\t")
RESERVED = ("_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER")
LONGEST_NAME = 300


def table_schema(schema: pa.Schema) -> pa.Schema:
    """The Arrow schema that rows of `schema` have in BigQuery.

    Raises
    ------
    ColumnTypeError
        For a type that BigQuery has not.
    ParameterError
        For a name that it does not take, or two that differ in case only.

    >>> table_schema(pa.schema([("n", pa.uint8()), ("v", pa.list_(pa.float32(), 2))]))
    n: int64
    v: list<item: double>
      child 0, item: double
    >>> table_schema(pa.schema([("n", pa.uint64())]))
    Traceback (most recent call last):
    featuremill.artifacts.errors.ColumnTypeError: The column 'n' is uint64, which BigQuery has not: ...
    """
    _check_names(schema.names, "")
    return pa.schema([(f.name, _stored(f.type, f.name)) for f in schema])


def _check_names(names: list[str], within: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        shown = f"{within}{name}"
        wrong = sorted(NOT_IN_NAMES & set(name))
        if not name or wrong or len(name) > LONGEST_NAME or name.upper().startswith(RESERVED):
            why = f"{wrong[0]!r} is in it" if wrong else "it is empty, too long, or begins as only its own may"
            raise ParameterError(
                f"The column {shown!r} cannot have that name in BigQuery: {why}. Rename it.", column=shown
            )
        if name.lower() in seen:
            raise ParameterError(
                f"The columns {seen[name.lower()]!r} and {shown!r} are one to BigQuery, which takes no notice of case. "
                "Rename one of them.",
                column=shown,
            )
        seen[name.lower()] = shown


def _stored(type_: pa.DataType, place: str) -> pa.DataType:
    if pt.is_dictionary(type_):
        return _stored(type_.value_type, place)
    if is_list(type_):
        if is_list(type_.value_type):
            raise _unheld(place, type_, "an array of arrays. Leave it out or make it flat")
        return pa.list_(_stored(type_.value_type, place))
    if pt.is_struct(type_):
        names = [f.name for f in type_]
        if not names:
            raise _unheld(place, type_, "a struct without fields. Leave it out")
        _check_names(names, f"{place}.")
        return pa.struct([(f.name, _stored(f.type, f"{place}.{f.name}")) for f in type_])
    return _scalar(type_, place)


def _scalar(type_: pa.DataType, place: str) -> pa.DataType:
    if pt.is_uint64(type_):
        raise _unheld(place, type_, "its largest integer is 2^63 - 1. Cast the column to int64 or a decimal")
    if pt.is_integer(type_):
        return pa.int64()
    if pt.is_floating(type_):
        return pa.float64()
    if pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_):
        return pa.string()
    if pt.is_binary(type_) or pt.is_large_binary(type_) or pt.is_fixed_size_binary(type_) or pt.is_binary_view(type_):
        return pa.binary()
    if pt.is_boolean(type_):
        return pa.bool_()
    if pt.is_date(type_):
        return pa.date32()
    if pt.is_time(type_):
        return pa.time64("us")
    if pt.is_timestamp(type_):
        return pa.timestamp("us", tz=None if type_.tz is None else "UTC")
    if pt.is_decimal(type_):
        for fitting in (pa.decimal128(38, 9), pa.decimal256(76, 38)):
            if type_.scale <= fitting.scale and type_.precision - type_.scale <= fitting.precision - fitting.scale:
                return fitting
    raise _unheld(place, type_, "no type of its own holds it. Leave the column out or cast it")


def _unheld(place: str, type_: pa.DataType, why: str) -> ColumnTypeError:
    return ColumnTypeError(
        f"The column {place!r} is {type_}, which BigQuery has not: {why}.", column=place, type=str(type_)
    )


def schema_fields(schema: pa.Schema) -> list[Any]:
    """BigQuery's fields (``google.cloud.bigquery.SchemaField``) for a :func:`table_schema`."""
    return [_field(f.name, f.type) for f in schema]


def _field(name: str, type_: pa.DataType) -> Any:
    from google.cloud.bigquery import SchemaField

    mode = "REPEATED" if is_list(type_) else "NULLABLE"
    inner = type_.value_type if is_list(type_) else type_
    if pt.is_struct(inner):
        return SchemaField(name, "RECORD", mode=mode, fields=[_field(f.name, f.type) for f in inner])
    return SchemaField(name, NAMES[inner], mode=mode)


def misfit(wanted: list[Any], there: list[Any], within: str = "") -> str | None:
    """Why rows with the fields `wanted` cannot be added to a table with those of `there`; None: they can."""
    known = {f.name.lower(): f for f in there}
    for field in wanted:
        name, found = f"{within}{field.name}", known.get(field.name.lower())
        if found is None:
            return f"it has no column {name!r} ({field.field_type})"
        ours, theirs = (ALIASES.get(f.field_type, f.field_type) for f in (field, found))
        if ours != theirs and not (ours == "STRING" and theirs in TEXTS):
            return f"its column {name!r} is {theirs}, the rows have {ours}"
        if (field.mode == "REPEATED") != (found.mode == "REPEATED"):
            return f"of its column {name!r} and the rows', one is an array and the other is not"
        inner = misfit(list(field.fields), list(found.fields), f"{name}.") if ours == "RECORD" else None
        if inner:
            return inner
    given = {f.name.lower() for f in wanted}
    needed = [f.name for f in there if f.mode == "REQUIRED" and f.name.lower() not in given]
    return f"its column {within + needed[0]!r} is REQUIRED, and the rows have none" if needed else None


# --- rows -----------------------------------------------------------------------------------------------------------


def converted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch in the types of a :func:`table_schema`.

    Raises
    ------
    JobError
        For a value that BigQuery cannot hold: a null in a list, a moment finer than microseconds.

    >>> rows = pa.record_batch({"v": pa.array([[1, 2], None], pa.list_(pa.int32()))})
    >>> converted(rows, table_schema(rows.schema)).to_pylist()
    [{'v': [1, 2]}, {'v': []}]
    >>> rows = pa.record_batch({"v": [[1, None]]})
    >>> converted(rows, table_schema(rows.schema))
    Traceback (most recent call last):
    featuremill.artifacts.errors.JobError: The column 'v' has a null within a list, which BigQuery's arrays have not...
    """
    arrays = [_converted(a, f.type, f.name) for a, f in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _converted(array: pa.Array, type_: pa.DataType, place: str) -> pa.Array:
    if pt.is_dictionary(array.type):
        array = array.dictionary_decode()
    if is_list(type_):
        return _list(array, type_, place)
    if pt.is_struct(type_):
        parts = [_converted(a, f.type, f"{place}.{f.name}") for a, f in zip(array.flatten(), type_, strict=True)]
        return pa.StructArray.from_arrays(parts, fields=list(type_), mask=array.is_null() if array.null_count else None)
    if array.type == type_:
        return array
    try:
        return array.cast(type_)
    except pa.ArrowInvalid as error:
        raise JobError(
            f"The column {place!r} has a value that BigQuery cannot hold: {error}. Round or cast the column.",
            column=place,
        ) from error


def _list(array: pa.Array, type_: pa.DataType, place: str) -> pa.Array:
    values = pc.list_flatten(array)
    if values.null_count:
        raise JobError(
            f"The column {place!r} has a null within a list, which BigQuery's arrays have not. Leave the column out, "
            "or fill it.",
            column=place,
        )
    lengths = pc.fill_null(pc.list_value_length(array), 0).cast(pa.int32())
    ends = pc.cumulative_sum(lengths)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    return pa.ListArray.from_arrays(offsets, _converted(values, type_.value_type, place), type=type_)

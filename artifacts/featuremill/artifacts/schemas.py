"""Arrow schemas as JSON: a part for people to read, and the exact schema beside it.

Metadata is left out on purpose, at every depth: field ids of the Parquet writer, pandas' notes about its index and the
like say nothing about the data and would make equal schemas look different. Arrow's own extension types are part of the
type and stay.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import ArtifactError

__all__ = ["bare_schema", "schema_from_json", "schema_to_json"]

_EXTENSION = b"ARROW:extension:"


def bare_schema(schema: pa.Schema) -> pa.Schema:
    """The schema without metadata, at any depth.

    >>> noisy = pa.schema([pa.field("x", pa.int64(), metadata={"PARQUET:field_id": "1"})], metadata={"pandas": "{}"})
    >>> bare_schema(noisy).equals(pa.schema([("x", pa.int64())]), check_metadata=True)
    True
    """
    return pa.schema([_bare_field(f) for f in schema])


def _bare_field(field: pa.Field) -> pa.Field:
    # An extension type that is not registered here is carried by its metadata alone.
    kept = {k: v for k, v in (field.metadata or {}).items() if k.startswith(_EXTENSION)}
    return pa.field(field.name, _bare_type(field.type), field.nullable, metadata=kept or None)


def _bare_type(type_: pa.DataType) -> pa.DataType:
    if pt.is_struct(type_):
        return pa.struct([_bare_field(f) for f in type_])
    if pt.is_map(type_):
        # Arrow's files know the two fields by these names only.
        key, value = _bare_field(type_.key_field).with_name("key"), _bare_field(type_.item_field).with_name("value")
        return pa.map_(key, value, keys_sorted=type_.keys_sorted)
    if pt.is_fixed_size_list(type_):
        return pa.list_(_bare_field(type_.value_field), type_.list_size)
    for is_kind, make in (
        (pt.is_list, pa.list_),
        (pt.is_large_list, pa.large_list),
        (pt.is_list_view, pa.list_view),
        (pt.is_large_list_view, pa.large_list_view),
    ):
        if is_kind(type_):
            return make(_bare_field(type_.value_field))
    return type_


def schema_to_json(schema: pa.Schema) -> dict[str, Any]:
    """A JSON-ready description; :func:`schema_from_json` gives the schema back exactly, less its metadata.

    >>> schema_to_json(pa.schema([("x", pa.int64())]))["fields"]
    [{'name': 'x', 'type': 'int64', 'nullable': True}]
    """
    schema = bare_schema(schema)
    return {
        "fields": [{"name": f.name, "type": str(f.type), "nullable": f.nullable} for f in schema],
        "arrow": base64.b64encode(schema.serialize().to_pybytes()).decode("ascii"),
    }


def schema_from_json(record: Any, where: str) -> pa.Schema:
    """The schema behind a description; `where` names the place in errors.

    Raises
    ------
    ArtifactError
        When it is not what :func:`schema_to_json` writes.

    >>> schema = pa.schema([pa.field("x", pa.dictionary(pa.int8(), pa.string()), nullable=False)])
    >>> schema_from_json(schema_to_json(schema), "manifest.json").equals(schema)
    True
    >>> schema_from_json({"fields": [], "arrow": "AAAA"}, "manifest.json")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ArtifactError: manifest.json does not hold an Arrow schema.
    """
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(record["arrow"], validate=True)))
        names = [f["name"] for f in record["fields"]]
        known = set(record) == {"fields", "arrow"}
    except (pa.ArrowException, binascii.Error, KeyError, TypeError, ValueError, OSError) as error:
        raise ArtifactError(f"{where} does not hold an Arrow schema.", where=where) from error
    if names != schema.names or not known:
        raise ArtifactError(
            f"{where}: the readable fields {names} do not match the schema {schema.names}.", where=where
        )
    return schema

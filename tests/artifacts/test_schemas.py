"""Schemas as JSON and back."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from featuremill.artifacts.errors import ArtifactError
from featuremill.artifacts.schemas import bare_schema, schema_from_json, schema_to_json

NOTE = {"PARQUET:field_id": "7"}
TYPES = [
    pa.int8(),
    pa.uint64(),
    pa.float16(),
    pa.bool_(),
    pa.null(),
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(5),
    pa.date32(),
    pa.time64("ns"),
    pa.timestamp("us", tz="Europe/Berlin"),
    pa.duration("ms"),
    pa.decimal128(12, 3),
    pa.dictionary(pa.int8(), pa.large_string(), ordered=True),
    pa.list_(pa.field("element", pa.int64(), nullable=False, metadata=NOTE)),
    pa.list_(pa.float32(), 3),
    pa.large_list(pa.list_(pa.string())),
    pa.list_view(pa.int32()),
    pa.large_list_view(pa.int32()),
    pa.struct(
        [pa.field("a", pa.int64(), metadata=NOTE), pa.field("b", pa.list_(pa.field("x", pa.int8(), metadata=NOTE)))]
    ),
    pa.map_(pa.string(), pa.field("v", pa.int64(), metadata=NOTE)),
    pa.run_end_encoded(pa.int32(), pa.string()),
    pa.fixed_shape_tensor(pa.float32(), [2, 3]),
    pa.uuid(),
    pa.json_(),
]


@pytest.mark.parametrize("type_", TYPES, ids=str)
@pytest.mark.parametrize("nullable", [True, False])
def test_round_trip(type_: pa.DataType, nullable: bool) -> None:
    nullable = nullable or type_ == pa.null()
    schema = pa.schema([pa.field("x y", type_, nullable, metadata=NOTE)], metadata={"pandas": "{}"})
    record = schema_to_json(schema)
    back = schema_from_json(json.loads(json.dumps(record)), "here")
    assert back.equals(schema)
    assert back.equals(bare_schema(schema), check_metadata=True)
    assert schema_to_json(back) == record
    assert "PARQUET" not in str(back.to_string(show_field_metadata=True))


def test_metadata_makes_no_difference() -> None:
    plain = pa.schema([("x", pa.list_(pa.int64()))])
    noisy = pa.schema(
        [pa.field("x", pa.list_(pa.field("item", pa.int64(), metadata=NOTE)), metadata=NOTE)], metadata=NOTE
    )
    assert schema_to_json(plain) == schema_to_json(noisy)


def test_an_empty_schema() -> None:
    assert schema_from_json(schema_to_json(pa.schema([])), "here") == pa.schema([])


@pytest.mark.parametrize(
    "record",
    [
        None,
        {},
        [],
        {"fields": [], "arrow": 7},
        {"fields": [], "arrow": "no base64!"},
        {"fields": [], "arrow": "AAAA"},
        {**schema_to_json(pa.schema([("x", pa.int8())])), "fields": []},
        {**schema_to_json(pa.schema([("x", pa.int8())])), "more": 1},
    ],
    ids=repr,
)
def test_wrong_descriptions(record: object) -> None:
    with pytest.raises(ArtifactError, match="here"):
        schema_from_json(record, "here")

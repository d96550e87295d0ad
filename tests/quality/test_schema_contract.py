"""The schema contract of a source: what its schema shows, and what is left to rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from featuremill.artifacts.errors import RequestError
from featuremill.core.quality.schema_contract import (
    SchemaContract,
    check_schema,
    load_contract,
    refuse,
    row_expectations,
)

TEXT = """
new_columns: freeze
columns:
  - {name: id, type: int64, nullable: false, description: the key}
  - {name: origin, type: string}
  - {name: note, type: string, required: false}
"""
SCHEMA = pa.schema([("id", pa.int64()), ("origin", pa.dictionary(pa.int32(), pa.large_string()))])


def contract(text: str, folder: Path) -> SchemaContract:
    path = folder / "schema.yaml"
    path.write_text(text)
    return load_contract(path)


def test_a_source_that_keeps_its_contract(tmp_path: Path) -> None:
    found = contract(TEXT, tmp_path)
    assert check_schema(found, SCHEMA) == ()
    refuse((), "the source")
    assert [c.nullable for c in found.columns] == [False, True, True]


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    schema = pa.schema([("id", pa.string()), ("orign", pa.string())])
    findings = check_schema(contract(TEXT, tmp_path), schema)
    assert [(f.column, f.kind, f.severity) for f in findings] == [
        ("id", "type", "error"), ("origin", "missing", "error"), ("orign", "new", "error"),
    ]
    with pytest.raises(RequestError) as raised:
        refuse(findings, "flights.parquet")
    assert str(raised.value) == (
        "flights.parquet does not keep its schema contract. The column 'id' is string, the contract says int64. "
        "The column 'origin' is missing. Did you mean 'orign'? "
        "The column 'orign' is new and is not allowed (new_columns: freeze). Mend the source, or change the contract."
    )
    assert len(raised.value.findings) == 3


@pytest.mark.parametrize(("mode", "severity"), [("evolve", "info"), ("discard_row", "info"), ("freeze", "error")])
def test_new_columns(tmp_path: Path, mode: str, severity: str) -> None:
    found = contract(TEXT.replace("freeze", mode), tmp_path)
    wider = SCHEMA.append(pa.field("extra", pa.float64()))
    (finding,) = check_schema(found, wider)
    assert (finding.column, finding.severity, finding.found) == ("extra", severity, "double")
    asked = {(e["type"], e["kwargs"]["column"]) for e in row_expectations(found, wider)}
    expected = {("expect_column_values_to_not_be_null", "id")}
    if mode == "discard_row":
        expected.add(("expect_column_values_to_be_null", "extra"))
    assert asked == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("columns: []", "columns: List should have at least 1 item"),
        ("columns: [{name: a, type: int64}, {name: a, type: int64}]", "the column 'a' comes twice"),
        ("columns: [{name: a, type: int64}]\nnew_columns: maybe", "new_columns: Input should be 'evolve'"),
        ("columns: [{name: a, type: int64, nulls: true}]", "columns.0.nulls: Extra inputs"),
        ("- a", "the whole: Input should be"),
        ("columns: [", "is neither YAML nor JSON"),
        ("!!python/object/apply:os.system ['true']", "is neither YAML nor JSON"),
    ],
)
def test_a_malformed_contract_is_one_clear_error(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(RequestError, match=told) as raised:
        contract(text, tmp_path)
    assert "schema.yaml" in str(raised.value)


def test_a_contract_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read: there is no such file"):
        load_contract(str(tmp_path / "none.yaml"))

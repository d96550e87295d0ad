"""The schema contract: which columns a source has, of which types, and whether they may be null.

Most of it can be told from the schema of the source, before anything runs (:func:`check_schema`). What only shows in
rows is left to checks of rows (:func:`row_expectations`), in the form that Great Expectations writes.

A contract is a file (YAML or JSON) or stands in the job file::

    new_columns: freeze
    columns:
      - {name: flight_id, type: int64, nullable: false, description: the key}
      - {name: origin, type: string}
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import yaml
from pydantic import Field, ValidationError, field_validator

from featuremill.artifacts.errors import MissingArtifactError, RequestError, StoreError, suggest
from featuremill.artifacts.store import open_store
from featuremill.core.strict import Strict
from featuremill.transforms.arrays import value_type

__all__ = ["ColumnContract", "SchemaContract", "SchemaFinding", "check_schema", "load_contract", "row_expectations"]


class ColumnContract(Strict):
    """What one column must be."""

    name: Annotated[str, Field(min_length=1)]
    type: str
    """The Arrow type, as ``featuremill schema`` and profiles write it: int64, double, string, timestamp[us, tz=UTC]."""
    nullable: bool = True
    required: bool = True
    """Whether a source without the column is refused."""
    description: str | None = None


class SchemaContract(Strict):
    """What the columns of a source must be."""

    columns: Annotated[list[ColumnContract], Field(min_length=1)]
    new_columns: Literal["evolve", "freeze", "discard_row"] = "evolve"
    """A column that is not named: let it in; refuse the source; or refuse every row that has a value in it."""

    @field_validator("columns")
    @classmethod
    def _once(cls, columns: list[ColumnContract]) -> list[ColumnContract]:
        names = [c.name for c in columns]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the column {name!r} comes twice")
        return columns


@dataclass(frozen=True)
class SchemaFinding:
    """One way in which a source differs from its contract."""

    column: str
    kind: Literal["missing", "type", "new"]
    severity: Literal["error", "info"]
    """An error refuses the source."""
    expected: str
    found: str
    message: str


def load_contract(given: str | Path | Mapping[str, Any], *, where: str = "quality.schema") -> SchemaContract:
    """The contract from a file (a path or a URL), or from what stands in a job file.

    Raises
    ------
    RequestError
        Naming the file and the first thing that is wrong with it.

    >>> load_contract({"columns": [{"name": "x", "typ": "int64"}]})
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.RequestError: quality.schema: columns.0.type: Field required. Expected {new_columns: \
evolve | freeze | discard_row, columns: [{name: …, type: …, nullable: …}]}.
    """
    if isinstance(given, Mapping):
        return _validated(dict(given), where)
    folder, file = posixpath.split(str(given))
    try:
        content = yaml.safe_load(open_store(folder or ".").get(file).decode("utf-8"))
    except MissingArtifactError as error:
        raise RequestError(f"{where}: {given} cannot be read: there is no such file.", path=str(given)) from error
    except StoreError as error:
        raise RequestError(f"{where}: {error}", path=str(given)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())
        raise RequestError(f"{where}: {given} is neither YAML nor JSON: {told}.", path=str(given)) from error
    return _validated(content, str(given))


def _validated(content: Any, where: str) -> SchemaContract:
    try:
        return SchemaContract.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise RequestError(
            f"{where}: {place}: {first['msg'].removeprefix('Value error, ')}. "
            "Expected {new_columns: evolve | freeze | discard_row, columns: [{name: …, type: …, nullable: …}]}.",
            where=where,
        ) from error


def check_schema(contract: SchemaContract, schema: pa.Schema) -> tuple[SchemaFinding, ...]:
    """How a source differs from its contract: the columns of the contract in their order, then new ones.

    Types are compared without dictionary encoding; string, large_string and string_view are one type, and so are the
    layouts of bytes. Where a finding is an error, the source is to be refused: :func:`refuse` does.

    >>> contract = SchemaContract(columns=[ColumnContract(name="x", type="int64")], new_columns="freeze")
    >>> [(f.column, f.kind, f.severity) for f in check_schema(contract, pa.schema([("y", pa.int64())]))]
    [('x', 'missing', 'error'), ('y', 'new', 'error')]
    """
    found = []
    for column in contract.columns:
        index = schema.get_field_index(column.name)
        if index < 0:
            if column.required:
                said = f"The column {column.name!r} is missing. {suggest(column.name, schema.names)}"
                found.append(SchemaFinding(column.name, "missing", "error", column.type, "", said))
            continue
        type_ = str(value_type(schema.field(index).type))
        if _plain(type_) != _plain(column.type):
            said = f"The column {column.name!r} is {type_}, the contract says {column.type}."
            found.append(SchemaFinding(column.name, "type", "error", column.type, type_, said))
    known = {c.name for c in contract.columns}
    frozen = contract.new_columns == "freeze"
    for f in schema:
        if f.name not in known:
            mode = contract.new_columns
            allowed = {"evolve": "is let in", "freeze": "is not allowed", "discard_row": "must stay empty"}[mode]
            said = f"The column {f.name!r} is new and {allowed} (new_columns: {mode})."
            found.append(SchemaFinding(f.name, "new", "error" if frozen else "info", "", str(value_type(f.type)), said))
    return tuple(found)


def refuse(findings: tuple[SchemaFinding, ...], where: str) -> None:
    """Raise one error that names all findings that are errors; nothing without any.

    Raises
    ------
    RequestError
        With the findings as `findings`.
    """
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        said = " ".join(f.message for f in errors[:5])
        more = f" And {len(errors) - 5} more." if len(errors) > 5 else ""
        raise RequestError(
            f"{where} does not keep its schema contract. {said}{more} Mend the source, or change the contract.",
            findings=tuple(errors),
        )


def row_expectations(contract: SchemaContract, schema: pa.Schema) -> list[dict[str, Any]]:
    """What the contract asks of rows, as expectations for a suite: of columns that the source has.

    A column that is not nullable has no nulls; with ``new_columns: discard_row`` a new column has nothing else.

    >>> contract = SchemaContract(columns=[ColumnContract(name="x", type="int64", nullable=False)])
    >>> row_expectations(contract, pa.schema([("x", pa.int64())]))[0]["type"]
    'expect_column_values_to_not_be_null'
    """
    asked = {c.name: "expect_column_values_to_not_be_null" for c in contract.columns if not c.nullable}
    if contract.new_columns == "discard_row":
        known = {c.name for c in contract.columns}
        asked |= {name: "expect_column_values_to_be_null" for name in schema.names if name not in known}
    return [
        {
            "type": type_, "kwargs": {"column": column}, "severity": "critical",
            "meta": {"notes": {"format": "markdown", "content": ["The schema contract asks for it."]}},
        }
        for column, type_ in asked.items()
        if column in schema.names
    ]


def _plain(type_: str) -> str:
    """Types that differ in layout alone as one."""
    text = type_.strip()
    for layout, plain in (("large_string", "string"), ("string_view", "string"), ("large_binary", "binary"),
                          ("binary_view", "binary"), ("float64", "double"), ("float32", "float")):
        text = plain if text == layout else text
    return text

"""The manifest: exact, strict, and of one version for one content."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from featuremill.artifacts.errors import ArtifactError, ParameterError
from featuremill.artifacts.manifest import FORMAT_VERSION, FileEntry, Manifest, StateEntry, canonical_json, digest
from featuremill.artifacts.schemas import schema_to_json

SCHEMA = schema_to_json(pa.schema([("x", pa.int64())]))
ENTRY = FileEntry("ab" * 32, 3)


def manifest(**changes: Any) -> Manifest:
    base = Manifest(
        name="flights",
        transforms=({"type": "Clip", "config": {"columns": ["x"], "max_value": 1.5}},),
        states=(StateEntry("00-Clip-x", 0, "x", "states/00-Clip-x.arrow", ENTRY.sha256, 3, 1),),
        schemas={"input": SCHEMA, "output": SCHEMA},
        rows={"seen": 3, "used": 2, "set_aside": 1},
        provenance={"created": "2024-05-01T12:00:00+00:00", "source": "ünïcode \u2028"},
        files={"states/00-Clip-x.arrow": ENTRY, "golden.arrow": ENTRY},
        warnings=("careful",),
    )
    return replace(base, **changes)


def signed(record: dict[str, Any]) -> bytes:
    """A manifest with a right digest, whatever is in it."""
    record.pop("digest", None)
    record["digest"] = digest(canonical_json(record))
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


def test_round_trip() -> None:
    data = manifest().to_json()
    back = Manifest.from_json(data)
    assert back == manifest()
    assert back.to_json() == data
    assert back.input_schema == pa.schema([("x", pa.int64())])


def test_every_single_byte_counts() -> None:
    data = manifest().to_json()
    for position in range(len(data)):
        for changed in (data[position] ^ 1, data[position] ^ 0x20, 0x20):
            if changed != data[position]:
                with pytest.raises(ArtifactError, match="the/manifest"):
                    Manifest.from_json(data[:position] + bytes([changed]) + data[position + 1 :], "the/manifest")


@pytest.mark.parametrize("cut", [0, 1, 10, 500, -1, -2])
def test_truncated(cut: int) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged"):
        Manifest.from_json(manifest().to_json()[:cut])


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"7", b"\xff", b'{"a": NaN}', b"[" * 100_000, b'{"format_version": 1, "format_version": 1}'],
)
def test_no_manifest_at_all(data: bytes) -> None:
    with pytest.raises(ArtifactError):
        Manifest.from_json(data)


def test_a_newer_format_names_both_and_the_way_out() -> None:
    record = json.loads(manifest().to_json())
    record.update(format_version=FORMAT_VERSION + 6, something_new={})
    with pytest.raises(
        ArtifactError, match="has format 7, this featuremill reads up to format 1.*pip install --upgrade"
    ) as caught:
        Manifest.from_json(signed(record))
    assert (caught.value.format_version, caught.value.supported) == (7, 1)


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "unknown key": lambda r: r.update(extra=1),
    "missing key": lambda r: r.pop("warnings"),
    "wrong type": lambda r: r.update(transforms={}),
    "bool for a number": lambda r: r["rows"].update(seen=True),
    "negative number": lambda r: r["rows"].update(seen=-1),
    "another version": lambda r: r.update(version="0" * 16),
    "another transform": lambda r: r["transforms"][0]["config"].update(max_value=2.5),
    "state without file": lambda r: r["files"].pop("states/00-Clip-x.arrow"),
    "state twice": lambda r: r["states"].append(r["states"][0]),
    "absolute path": lambda r: r["files"].update({"/etc/passwd": r["files"]["golden.arrow"]}),
    "path out of it": lambda r: r["files"].update({"a/../../b": r["files"]["golden.arrow"]}),
    "backslash": lambda r: r["files"].update({"a\\..\\b": r["files"]["golden.arrow"]}),
    "drive": lambda r: r["files"].update({"C:/b": r["files"]["golden.arrow"]}),
    "the manifest itself": lambda r: r["files"].update({"manifest.json": r["files"]["golden.arrow"]}),
    "no digest": lambda r: r["files"]["golden.arrow"].update(sha256="xyz"),
    "no time": lambda r: r["provenance"].update(created="yesterday"),
    "no time zone": lambda r: r["provenance"].update(created="2024-05-01T12:00:00"),
    "no schema": lambda r: r["schemas"]["input"].update(arrow="AAAA"),
    "bad name": lambda r: r.update(name="../x"),
    "warning that is no text": lambda r: r.update(warnings=[1]),
}


@pytest.mark.parametrize("what", WRONG)
def test_strict_even_when_the_digest_is_right(what: str) -> None:
    record = json.loads(manifest().to_json())
    WRONG[what](record)
    with pytest.raises((ArtifactError, ParameterError)):
        Manifest.from_json(signed(record))


def test_the_version_is_the_content() -> None:
    base = manifest().version
    same = [
        manifest(name="other"),
        manifest(provenance={"created": "2025-01-01T00:00:00+00:00"}),
        manifest(rows={"seen": 9, "used": 9, "set_aside": 0}),
        manifest(warnings=()),
        manifest(files={"states/00-Clip-x.arrow": ENTRY}),
    ]
    assert {m.version for m in same} == {base}
    state = replace(manifest().states[0], sha256="cd" * 32)
    other = schema_to_json(pa.schema([("x", pa.int32())]))
    different = [
        manifest(states=(state,)),
        manifest(schemas={"input": other, "output": SCHEMA}),
        manifest(schemas={"input": SCHEMA, "output": other}),
        manifest(transforms=({"type": "Clip", "config": {"columns": ["x"], "max_value": 1.25}},)),
        manifest(transforms=()),
        manifest(states=()),
    ]
    assert len({m.version for m in different} | {base}) == len(different) + 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", "\ud800"])
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(ParameterError, match="'flights' cannot be written as JSON"):
        manifest(provenance={"created": "2024-05-01T12:00:00+00:00", "x": value}).to_json()

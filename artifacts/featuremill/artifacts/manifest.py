"""The manifest: what an artifact is made of, and how to know that nothing in it changed.

It is JSON for people to read, in exactly one possible spelling for a given content: it holds its own digest, and every
other file's. The *version* is a digest of what the artifact computes (transforms, states, schemas) and of nothing else,
so that the same data and job give the same version wherever and whenever they run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any

import pyarrow as pa

from featuremill.artifacts.errors import ArtifactError, ParameterError
from featuremill.artifacts.layout import CONTENT
from featuremill.artifacts.names import check_name
from featuremill.artifacts.schemas import schema_from_json

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "FileEntry",
    "Manifest",
    "StateEntry",
    "canonical_json",
    "digest",
    "parse_json",
]

FORMAT_VERSION = 1
"""The newest format that this release writes and reads."""

MANIFEST = "manifest.json"
VERSION_DIGITS = 16
ROW_COUNTS = ("seen", "used", "set_aside")

_SHA256 = re.compile(r"[0-9a-f]{64}")


def digest(data: Any) -> str:
    """The SHA-256 of bytes (or any buffer), in hex."""
    return sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON in one spelling: sorted keys, no spaces, UTF-8. ValueError for NaN and infinity, which JSON does not have.

    >>> canonical_json({"b": [1.0, "ä"], "a": None}).decode()
    '{"a":null,"b":[1.0,"ä"]}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class StateEntry:
    """One state: which transform it belongs to, by position, for which of its slots (mostly a column), and its file."""

    key: str
    transform: int
    slot: str
    file: str
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class Manifest:
    """What an artifact is made of. Everything is plain data; :meth:`to_json` and :meth:`from_json` are exact inverses.

    Parameters
    ----------
    name
        The artifact's.
    transforms
        ``{"type": …, "config": {…}}``, in order.
    states
        One entry per state, by key.
    schemas
        ``{"input": …, "output": …}`` as :func:`~featuremill.artifacts.schemas.schema_to_json` writes them.
    rows
        How many rows were ``seen`` in the source, ``used`` for the statistics, and ``set_aside`` as bad.
    provenance
        Where it comes from. ``created`` (ISO 8601, with a time zone) is always there.
    files
        Every file but the manifest, by relative path.
    warnings
        What people should know about the data, one sentence each.
    """

    name: str
    transforms: tuple[Mapping[str, Any], ...]
    states: tuple[StateEntry, ...]
    schemas: Mapping[str, Any]
    rows: Mapping[str, int]
    provenance: Mapping[str, Any]
    files: Mapping[str, FileEntry]
    warnings: tuple[str, ...] = ()
    format_version: int = field(default=FORMAT_VERSION, kw_only=True)

    @cached_property
    def version(self) -> str:
        """16 hex digits that stand for the format, the transforms, the states and the schemas; nothing else counts.

        What Beam's own transforms wrote counts as a state, and so does a model that a transform brings.
        """
        # The stored bytes of the schemas, not the schemas: another release of Arrow may serialise them otherwise.
        content = [
            self.format_version,
            list(self.transforms),
            [[s.key, s.sha256] for s in self.states],
            [self.schemas[side]["arrow"] for side in ("input", "output")],
            *([path, self.files[path].sha256] for path in sorted(self.files) if path.startswith(CONTENT)),
        ]
        return digest(canonical_json(content))[:VERSION_DIGITS]

    @cached_property
    def input_schema(self) -> pa.Schema:
        """The source's columns."""
        return schema_from_json(self.schemas["input"], f"{MANIFEST} (schemas.input)")

    @cached_property
    def output_schema(self) -> pa.Schema:
        """The columns after the last transform."""
        return schema_from_json(self.schemas["output"], f"{MANIFEST} (schemas.output)")

    @property
    def created(self) -> datetime:
        """When it was built, with a time zone."""
        return datetime.fromisoformat(self.provenance["created"])

    def with_files(self, files: Mapping[str, FileEntry]) -> Manifest:
        """The same artifact with other accompanying files; the version does not change."""
        return replace(self, files=dict(files))

    def record(self) -> dict[str, Any]:
        """The manifest as JSON-ready data, without its digest."""
        return {
            "format_version": self.format_version,
            "name": self.name,
            "version": self.version,
            "transforms": [dict(t) for t in self.transforms],
            "states": [asdict(s) for s in self.states],
            "schemas": dict(self.schemas),
            "rows": dict(self.rows),
            "provenance": dict(self.provenance),
            "files": {path: asdict(self.files[path]) for path in sorted(self.files)},
            "warnings": list(self.warnings),
        }

    def to_json(self) -> bytes:
        """The one spelling of this manifest.

        Raises
        ------
        ParameterError
            When a parameter or a fact of the provenance is nothing that JSON can hold, NaN and infinity included.
        """
        record = self.record()
        try:
            record["digest"] = digest(canonical_json(record))
            return (json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
        except (TypeError, ValueError) as error:
            raise ParameterError(f"The manifest of {self.name!r} cannot be written as JSON: {error}.") from error

    @classmethod
    def from_json(cls, data: bytes, where: str = MANIFEST) -> Manifest:
        """The manifest from its bytes, every one of which counts; `where` names the file in errors.

        Raises
        ------
        ArtifactError
            When it is of a newer format, or not byte for byte what :meth:`to_json` wrote.

        >>> Manifest.from_json(b'{"format_version": 7}')
        Traceback (most recent call last):
        ...
        featuremill.artifacts.errors.ArtifactError: manifest.json has format 7, this featuremill reads up to format 1. \
Upgrade it: pip install --upgrade featuremill.
        """
        record = parse_json(data, where)
        _check_format(record, where)
        try:
            stated = record.pop("digest")
            same = digest(canonical_json(record)) == stated
        except (KeyError, ValueError, RecursionError):
            same = False
        if not same:
            raise _damaged(where, "its digest does not match")
        manifest = cls._from_record(record, where)
        if manifest.version != record["version"]:
            raise _damaged(where, f"its version is {record['version']}, its content is {manifest.version}")
        if manifest.to_json() != data:
            raise _damaged(where, "it is not spelled as it was written")
        return manifest

    @classmethod
    def _from_record(cls, record: dict[str, Any], where: str) -> Manifest:
        """Strict: the digest tells an accident from the real thing, this tells a wrong manifest from a right one."""
        expected = {
            "format_version": int, "name": str, "version": str, "transforms": list, "states": list, "schemas": dict,
            "rows": dict, "provenance": dict, "files": dict, "warnings": list,
        }
        _check_keys(record, expected, where)
        for transform in record["transforms"]:
            _check_keys(transform, {"type": str, "config": dict}, f"{where} (transforms)")
        for state in record["states"]:
            kinds = {"key": str, "transform": int, "slot": str, "file": str, "sha256": str, "bytes": int, "rows": int}
            _check_keys(state, kinds, f"{where} (states)")
        _check_keys(record["schemas"], {"input": dict, "output": dict}, f"{where} (schemas)")
        _check_keys(record["rows"], dict.fromkeys(ROW_COUNTS, int), f"{where} (rows)")
        for path, entry in record["files"].items():
            _check_keys(entry, {"sha256": str, "bytes": int}, f"{where} (files)")
            _check_file(path, entry, where)
        if not all(isinstance(w, str) for w in record["warnings"]):
            raise _damaged(where, "warnings must be texts")
        _check_created(record["provenance"], where)
        check_name(record["name"], "artifact")
        manifest = cls(
            name=record["name"],
            transforms=tuple(record["transforms"]),
            states=tuple(StateEntry(**s) for s in record["states"]),
            schemas=record["schemas"],
            rows=record["rows"],
            provenance=record["provenance"],
            files={path: FileEntry(**entry) for path, entry in record["files"].items()},
            warnings=tuple(record["warnings"]),
            format_version=record["format_version"],
        )
        _check_states(manifest.states, manifest.files, where)
        manifest.input_schema, manifest.output_schema  # noqa: B018 -- decoded now, so that a wrong one shows now
        return manifest


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object, read strictly: no key twice, no NaN. ArtifactError naming `where` for anything else."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key comes twice")
        return dict(pairs)

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    try:
        record = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise _damaged(where, f"it is no valid JSON ({error})") from error
    if not isinstance(record, dict):
        raise _damaged(where, "it holds no JSON object")
    return record


def _check_format(record: dict[str, Any], where: str) -> None:
    found = record.get("format_version")
    if type(found) is not int or found < 1:
        raise _damaged(where, f"format_version is {found!r}")
    if found > FORMAT_VERSION:
        raise ArtifactError(
            f"{where} has format {found}, this featuremill reads up to format {FORMAT_VERSION}. "
            "Upgrade it: pip install --upgrade featuremill.",
            file=where, format_version=found, supported=FORMAT_VERSION,
        )


def _check_keys(record: Any, kinds: Mapping[str, type], where: str) -> None:
    if not isinstance(record, dict):
        raise _damaged(where, "an object is missing")
    if set(record) != set(kinds):
        wrong = ", ".join(repr(k) for k in sorted(set(record) ^ set(kinds)))
        raise _damaged(where, f"these keys are missing or not known: {wrong}")
    for key, kind in kinds.items():
        value = record[key]
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise _damaged(where, f"{key} is {value!r}")


def _check_file(path: str, entry: dict[str, Any], where: str) -> None:
    parts = path.split("/")
    inside = path and "\\" not in path and "\0" not in path and not {"", ".", ".."} & set(parts) and path != MANIFEST
    # A colon at the second place would be a drive on Windows.
    if not inside or path[1:2] == ":":
        raise _damaged(where, f"the file {path!r} is not inside the artifact")
    if not _SHA256.fullmatch(entry["sha256"]):
        raise _damaged(where, f"the digest of {path!r} is {entry['sha256']!r}")


def _check_created(provenance: Mapping[str, Any], where: str) -> None:
    try:
        zone = datetime.fromisoformat(provenance["created"]).tzinfo
    except (KeyError, TypeError, ValueError):
        zone = None
    if zone is None:
        raise _damaged(where, "provenance.created is no time with a time zone")


def _check_states(states: Iterable[StateEntry], files: Mapping[str, FileEntry], where: str) -> None:
    seen: set[str] = set()
    for state in states:
        if files.get(state.file) != FileEntry(state.sha256, state.bytes):
            raise _damaged(where, f"the state {state.key!r} and its file {state.file!r} do not match")
        if state.key in seen:
            raise _damaged(where, f"the state {state.key!r} comes twice")
        seen.add(state.key)


def _damaged(where: str, what: str) -> ArtifactError:
    return ArtifactError(f"{where} is damaged: {what}. Restore it, or publish the artifact again.", file=where)

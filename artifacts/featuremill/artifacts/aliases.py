"""Aliases: movable names for versions, as logs of create-only entries.

Moving an alias from entry 6 means creating entry 7. Of several who try, one succeeds; nothing is ever overwritten, and
the history stays.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from featuremill.artifacts.errors import AliasMoved, AlreadyExists, ArtifactError, MissingArtifactError, suggest
from featuremill.artifacts.layout import (
    alias_folder,
    alias_number,
    alias_path,
    aliases_folder,
    join,
    version_folder,
    versions_folder,
)
from featuremill.artifacts.manifest import MANIFEST, canonical_json, parse_json
from featuremill.artifacts.names import check_name, check_version, is_version
from featuremill.artifacts.store import Store, as_store

__all__ = ["AliasEntry", "history", "list_aliases", "move", "read_alias", "resolve", "version_exists", "versions"]

Root = Store | str | os.PathLike[str]


@dataclass(frozen=True)
class AliasEntry:
    """One step of an alias."""

    alias: str
    number: int
    version: str
    previous: str | None
    when: datetime
    why: str


def version_exists(store: Store, name: str, version: str) -> bool:
    """Whether a version is published: its manifest is there."""
    return store.exists(join(version_folder(name, version), MANIFEST))


def versions(root: Root, name: str) -> list[str]:
    """The published versions of an artifact, sorted by their digits; what lacks its manifest is no version."""
    store = as_store(root)
    check_name(name, "artifact")
    return [v for v in store.folders(versions_folder(name)) if is_version(v) and version_exists(store, name, v)]


def list_aliases(root: Root, name: str) -> dict[str, AliasEntry]:
    """The aliases of an artifact, by name, each with its newest entry."""
    store = as_store(root)
    check_name(name, "artifact")
    found = {}
    for alias in store.folders(aliases_folder(name)):
        numbers = _numbers(store, name, alias)
        if numbers:
            found[alias] = _read(store, name, alias, numbers[-1])
    return found


def read_alias(root: Root, name: str, alias: str) -> AliasEntry:
    """The newest entry of an alias.

    Raises
    ------
    MissingArtifactError
        When there is no such alias; the message names those that are.
    """
    store = as_store(root)
    check_name(name, "artifact")
    check_name(alias, "alias")
    numbers = _numbers(store, name, alias)
    if not numbers:
        raise _no_alias(store, name, alias)
    return _read(store, name, alias, numbers[-1])


def history(root: Root, name: str, alias: str) -> list[AliasEntry]:
    """All entries of an alias, oldest first."""
    store = as_store(root)
    newest = read_alias(store, name, alias)
    return [_read(store, name, alias, n) for n in _numbers(store, name, alias) if n < newest.number] + [newest]


def resolve(root: Root, name: str, wanted: str) -> str:
    """The version that an alias stands for, or the version itself, when it is published.

    Raises
    ------
    MissingArtifactError
        When there is no such alias or version.
    """
    store = as_store(root)
    version = wanted if is_version(wanted) else read_alias(store, name, wanted).version
    if not version_exists(store, name, version):
        raise _no_version(store, name, version)
    return version


def move(root: Root, name: str, alias: str, version: str, why: str = "", *, expected: str | None = None) -> AliasEntry:
    """The newest entry of an alias, after letting it stand for `version`.

    When it does already, nothing is written.

    Parameters
    ----------
    version
        A published version. (To follow another alias, pass what :func:`resolve` gives for it.)
    why
        The reason, for the history.
    expected
        The version that the alias must stand for now; without it, whatever it is.

    Raises
    ------
    AliasMoved
        When another move came first, or the alias does not stand for `expected`. Its `entry` is the newest one.
    MissingArtifactError
        When the version is not published.
    """
    store = as_store(root)
    check_name(name, "artifact")
    check_name(alias, "alias")
    check_version(version)
    if not version_exists(store, name, version):
        raise _no_version(store, name, version)
    numbers = _numbers(store, name, alias)
    current = _read(store, name, alias, numbers[-1]) if numbers else None
    if expected is not None and (current is None or current.version != expected):
        raise _moved(name, alias, version, current)
    if current is not None and current.version == version:
        return current
    entry = _append(store, name, alias, current, version, why)
    # A collector deletes a manifest and then reads the aliases; we wrote the alias and now look for the manifest: one
    # of the two sees the other.
    if not version_exists(store, name, version):
        if current is not None:
            _append(store, name, alias, entry, current.version, f"moved back: {version} was collected at that moment")
        raise _no_version(store, name, version)
    return entry


def _append(
    store: Store, name: str, alias: str, current: AliasEntry | None, version: str, why: str
) -> AliasEntry:
    number = current.number + 1 if current else 1
    entry = AliasEntry(
        alias, number, version, current.version if current else None, datetime.now(UTC).replace(microsecond=0), why
    )
    record = {"version": version, "previous": entry.previous, "when": entry.when.isoformat(), "why": why}
    try:
        store.put(alias_path(name, alias, number), canonical_json(record) + b"\n", create_only=True)
    except AlreadyExists as error:
        raise _moved(name, alias, version, read_alias(store, name, alias)) from error
    return entry


def _numbers(store: Store, name: str, alias: str) -> list[int]:
    found = (alias_number(path) for path in store.list(alias_folder(name, alias)))
    return sorted(n for n in found if n is not None)


def _read(store: Store, name: str, alias: str, number: int) -> AliasEntry:
    path = alias_path(name, alias, number)
    where = f"{store.root}/{path}"
    record: dict[str, Any] = parse_json(store.get(path), where)
    try:
        when = datetime.fromisoformat(record["when"])
        entry = AliasEntry(
            alias, number, check_version(record["version"]),
            None if record["previous"] is None else check_version(record["previous"]), when, str(record["why"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{where} is damaged: {error}. Remove it to go back to the entry before.", file=where
        ) from error
    return entry


def _moved(name: str, alias: str, version: str, current: AliasEntry | None) -> AliasMoved:
    if current is None:
        stands = "does not exist yet"
    else:
        stands = f"stands for {current.version} since {current.when.isoformat()} ({current.why or 'no reason given'})"
    return AliasMoved(
        f"{name}@{alias} was not moved to {version}: it {stands}. Look at it, then decide again.",
        artifact=name, alias=alias, entry=current,
    )


def _no_version(store: Store, name: str, version: str) -> MissingArtifactError:
    there = versions(store, name)
    hint = suggest(version, there) if there else "No version is published."
    return MissingArtifactError(
        f"{store.root}/{name} has no version {version}. {hint}", artifact=name, version=version
    )


def _no_alias(store: Store, name: str, alias: str) -> MissingArtifactError:
    there = sorted(list_aliases(store, name))
    if there:
        hint = suggest(alias, there)
    elif versions(store, name):
        hint = "It has versions but no alias."
    else:
        hint = f"There is no artifact {name!r} either."
    return MissingArtifactError(f"{store.root}/{name} has no alias {alias!r}. {hint}", artifact=name, alias=alias)

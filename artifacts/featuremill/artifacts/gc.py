"""Collecting what nobody needs: old versions that no alias stands for, and what unfinished publishers left.

What an alias stands for is never touched, nor what it stood for just before, so that rolling back works. The manifest
of a version goes first: a half-deleted version is no version.

A publisher or an alias may move while this runs. After each step the collector looks again, and puts back what turned
out to be wanted; the publisher and the alias look once more at their end. So whoever comes second sees the other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from featuremill.artifacts.aliases import history, list_aliases, version_exists, versions
from featuremill.artifacts.errors import AlreadyExists, ArtifactError, MissingArtifactError, ParameterError
from featuremill.artifacts.layout import EMBEDDINGS, join, version_folder, versions_folder
from featuremill.artifacts.manifest import MANIFEST, Manifest
from featuremill.artifacts.names import check_name, is_version
from featuremill.artifacts.store import Store, as_store

__all__ = ["Collected", "collect", "collect_vectors"]

GRACE = timedelta(hours=24)
"""Nothing younger is collected: somebody may be about to finish it, or to move an alias to it."""


@dataclass(frozen=True)
class Collected:
    """What was (or, in a dry run, would be) removed and kept, versions by their digits."""

    removed: tuple[str, ...]
    leftovers: tuple[str, ...]
    kept: tuple[str, ...]
    damaged: tuple[str, ...]
    """Versions whose manifest cannot be read: kept, for people to look at."""
    dry_run: bool


def collect(
    root: Store | str | os.PathLike[str],
    name: str,
    *,
    keep_last: int = 3,
    keep_history: int = 1,
    grace: timedelta = GRACE,
    dry_run: bool = False,
) -> Collected:
    """What was removed from an artifact's versions, and what was kept.

    Parameters
    ----------
    keep_last
        How many of the newest versions stay, whether or not an alias stands for them.
    keep_history
        How many versions before its present one stay for each alias, for rolling back.
    grace
        The age from which versions and leftovers may go.
    dry_run
        Say what would be removed, and remove nothing.

    Raises
    ------
    ParameterError
        For a negative number.
    MissingArtifactError
        When there is no such artifact.
    ArtifactError
        When an alias cannot be read: then nothing is removed, since it might stand for anything.
    """
    for parameter, value in (("keep_last", keep_last), ("keep_history", keep_history), ("grace", grace / GRACE)):
        if value < 0:
            raise ParameterError(f"collect: {parameter} must not be negative, got {value}.", parameter=parameter)
    store = as_store(root)
    check_name(name, "artifact")
    before = datetime.now(UTC) - grace
    there = versions(store, name)
    unfinished = [v for v in store.folders(versions_folder(name)) if is_version(v) and v not in there]
    if not there and not unfinished:
        raise MissingArtifactError(f"There is no artifact {name!r} in {store.root}.", artifact=name)
    created, damaged = _ages(store, name, there)
    newest = sorted(created, key=lambda v: (created[v], v), reverse=True)[:keep_last]
    wanted = _referenced(store, name, keep_history) | set(newest)
    old = [v for v in created if v not in wanted and created[v] <= before]
    left = [v for v in unfinished if _is_old(store, name, v, before)]
    if not dry_run:
        old = [v for v in old if _remove(store, name, v, keep_history, before)]
        left = [v for v in left if _empty(store, name, v, before)]
    kept = tuple(v for v in there if v not in old)
    return Collected(tuple(old), tuple(left), kept, tuple(damaged), dry_run)


def collect_vectors(
    root: Store | str | os.PathLike[str], *, older_than: timedelta, dry_run: bool = False
) -> Collected:
    """What was removed from the vectors that jobs keep beside the artifacts, and what was kept: paths of files.

    Any of them may go at any time; what is missing is computed again.

    Parameters
    ----------
    older_than
        The age from which they go.
    dry_run
        Say what would be removed, and remove nothing.

    Raises
    ------
    ParameterError
        For a negative age.
    """
    if older_than < timedelta():
        raise ParameterError(f"collect_vectors: older_than must not be negative, got {older_than}.")
    store, before = as_store(root), datetime.now(UTC) - older_than
    try:
        ages = {path: store.modified(path) for path in store.list(EMBEDDINGS)}
    except MissingArtifactError:
        ages = {}
    old = tuple(path for path in sorted(ages) if ages[path] <= before)
    if old and not dry_run:
        for path in old:
            store.delete(path)
        store.sweep(EMBEDDINGS, before)
    return Collected(old, (), tuple(path for path in sorted(ages) if path not in old), (), dry_run)


def _ages(store: Store, name: str, there: list[str]) -> tuple[dict[str, datetime], list[str]]:
    created, damaged = {}, []
    for version in there:
        path = join(version_folder(name, version), MANIFEST)
        try:
            created[version] = Manifest.from_json(store.get(path), path).created
        except ArtifactError:
            damaged.append(version)
    return created, damaged


def _referenced(store: Store, name: str, keep_history: int) -> set[str]:
    """The versions that an alias stands for, and the `keep_history` different ones it stood for before."""
    found: set[str] = set()
    for alias in list_aliases(store, name):
        distinct: list[str] = []
        for entry in reversed(history(store, name, alias)):
            if entry.version not in distinct:
                distinct.append(entry.version)
        found.update(distinct[: keep_history + 1])
    return found


def _is_old(store: Store, name: str, version: str, before: datetime) -> bool:
    """Whether all that is in the folder of an unfinished version was written before that time; none counts as old."""
    try:
        return all(store.modified(path) <= before for path in store.list(version_folder(name, version)))
    except MissingArtifactError:
        return False  # Files come or go right now: not this time.


def _remove(store: Store, name: str, version: str, keep_history: int, before: datetime) -> bool:
    path = join(version_folder(name, version), MANIFEST)
    try:
        manifest = store.get(path)
    except MissingArtifactError:
        return False  # Another collector has it.
    if version in _referenced(store, name, keep_history):
        return False
    store.delete(path)
    if version in _referenced(store, name, keep_history):
        _put_back(store, path, manifest)
        return False
    return _empty(store, name, version, before)


def _empty(store: Store, name: str, version: str, before: datetime) -> bool:
    """Delete the files of a version without a manifest; stop, and undo the last step, when a manifest appears."""
    folder = version_folder(name, version)
    for path in store.list(folder):
        if path.endswith("/" + MANIFEST):
            return False
        try:
            data = store.get(path)
        except MissingArtifactError:
            continue
        store.delete(path)
        if version_exists(store, name, version):
            _put_back(store, path, data)
            return False
    store.sweep(folder, before)
    return True


def _put_back(store: Store, path: str, data: bytes) -> None:
    try:
        store.put(path, data, create_only=True)
    except AlreadyExists:
        return

"""Publishing an artifact: create-only puts, the manifest last.

A version is there when its manifest is. Until then its files are leftovers that no reader looks at, and that the next
publisher of the same version takes over. Two publishers at once write the same version, since its name is its content,
and may only differ in what goes with it (the golden rows, the provenance): for every file the first one wins, and the
manifest describes the files that are there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from featuremill.artifacts.errors import AlreadyExists, ArtifactError, MissingArtifactError, ParameterError
from featuremill.artifacts.layout import CONTENT, join, version_folder
from featuremill.artifacts.manifest import MANIFEST, FileEntry, Manifest, digest
from featuremill.artifacts.names import check_name
from featuremill.artifacts.store import Store, as_store, open_store

__all__ = ["publish", "publish_once"]

Files = Mapping[str, bytes]


def publish(
    store_or_root: Store | str | os.PathLike[str], name: str, files: Files | str | os.PathLike[str]
) -> str:
    """The version of an artifact, after making it available as ``root/name@version``.

    Publishing a version that is there is no error and changes nothing, its provenance included.

    Parameters
    ----------
    store_or_root
        Where artifacts live.
    name
        The artifact's name there; it replaces the one in the manifest.
    files
        What :func:`~featuremill.artifacts.build.build_files` returns, or a folder that holds a complete artifact.

    Raises
    ------
    ArtifactError
        When the files do not match their manifest, or damaged leftovers are in the way.
    """
    store = as_store(store_or_root)
    check_name(name, "artifact")
    manifest, content = _complete(files)
    return publish_once(store, replace(manifest, name=name), content)


def _complete(files: Files | str | os.PathLike[str]) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and the files it lists, their digests checked."""
    if isinstance(files, Mapping):
        if MANIFEST not in files:
            raise ParameterError(f"The files to publish have no {MANIFEST}: {sorted(files)}.")
        manifest = Manifest.from_json(files[MANIFEST])
        lacking = sorted(set(manifest.files) - set(files))
        if lacking:
            raise ArtifactError(f"{lacking[0]} is missing, the manifest lists it.", file=lacking[0])
        content = {path: files[path] for path in manifest.files}
    else:
        staged = open_store(files)
        where = f"{staged.root}/{MANIFEST}"
        manifest = Manifest.from_json(staged.get(MANIFEST), where)
        content = {path: staged.get(path) for path in manifest.files}
    for path, data in content.items():
        if digest(data) != manifest.files[path].sha256:
            raise ArtifactError(f"{path} is damaged: its digest is not the one in the manifest.", file=path)
    return manifest, content


def publish_once(store: Store, manifest: Manifest, content: Mapping[str, bytes]) -> str:
    """Publish checked content; see :func:`publish`."""
    folder = version_folder(manifest.name, manifest.version)
    place = join(folder, MANIFEST)
    known = dict(content)
    if not store.exists(place):
        states = {s.file for s in manifest.states}
        for path in sorted(known):
            exact = path in states or path.startswith(CONTENT)
            known[path] = _put_or_adopt(store, join(folder, path), known[path], exact)
        entries = {
            path: manifest.files[path] if data is content[path] else FileEntry(digest(data), len(data))
            for path, data in known.items()
        }
        # Where somebody published the same version in the meantime, theirs stays, and is checked below.
        with suppress(AlreadyExists):
            store.put(place, manifest.with_files(entries).to_json(), create_only=True)
    winner = Manifest.from_json(store.get(place), f"{store.root}/{place}")
    if winner.version != manifest.version:
        raise ArtifactError(f"{store.root}/{place} describes version {winner.version}.", file=place)
    _mend(store, folder, winner, known)
    return manifest.version


def _put_or_adopt(store: Store, path: str, data: bytes, exact: bool) -> bytes:
    """What is at `path` afterwards: our bytes, or those of whoever came first, which for a state must be the same."""
    while True:
        try:
            store.put(path, data, create_only=True)
            return data
        except AlreadyExists:
            try:
                found = store.get(path)
            except MissingArtifactError:
                continue  # Collected between the two calls: ours can go there now.
        if found != data and exact:
            raise ArtifactError(
                f"{store.root}/{path} was left by a publisher that did not finish, and is damaged. "
                "Collect the leftovers (featuremill artifacts gc), then publish again.",
                file=path,
            )
        return found


def _mend(store: Store, folder: str, winner: Manifest, known: Mapping[str, bytes]) -> None:
    """Put back what a collector, who saw no manifest yet, took away under our hands.

    The manifest was written before this look, and the collector looks for a manifest after every file that it deletes,
    so one of the two sees the other.
    """
    present = set(store.list(folder))
    for path, entry in winner.files.items():
        if join(folder, path) in present:
            continue
        if path not in known or digest(known[path]) != entry.sha256:
            raise ArtifactError(
                f"{store.root}/{folder}/{path} is missing, and cannot be made again. Remove the version, then publish.",
                file=path,
            )
        try:
            store.put(join(folder, path), known[path], create_only=True)
        except AlreadyExists:
            continue

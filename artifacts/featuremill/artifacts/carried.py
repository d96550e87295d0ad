"""The files that transforms bring along: a model that one applies goes into the artifact, beside the statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from featuremill.artifacts.errors import MissingArtifactError
from featuremill.artifacts.layout import MODELS
from featuremill.artifacts.store import Store

__all__ = ["FolderFiles", "mapped_content"]

MAPPED_BYTES = 1 << 20
"""Local files from this size on are mapped into memory, and shared by the processes that read the same ones."""


def mapped_content(store: Store, path: str) -> Any:
    """The content of a file: a mapped buffer where it is large and on this machine's disk, else bytes.

    Raises
    ------
    MissingArtifactError
        When there is no such file.
    """
    local = store.local_path(path)
    try:
        if local is None or local.stat().st_size < MAPPED_BYTES:
            return store.get(path)
        with pa.memory_map(str(local)) as file:
            return file.read_buffer()
    except FileNotFoundError as error:
        raise MissingArtifactError(f"{store.root}/{path} does not exist.", path=path) from error


class FolderFiles(Mapping[str, Any]):
    """Those in the folder of an artifact in the making, by path; each is read when it is asked for.

    The caller vouches for them: no digest is known yet.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getitem__(self, path: str) -> Any:
        try:
            return mapped_content(self._store, path)
        except MissingArtifactError as error:
            raise KeyError(path) from error

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._store.exists(path)

    def __iter__(self) -> Iterator[str]:
        try:
            return iter(self._store.list(MODELS.rstrip("/")))
        except MissingArtifactError:
            return iter(())

    def __len__(self) -> int:
        return sum(1 for _ in self)

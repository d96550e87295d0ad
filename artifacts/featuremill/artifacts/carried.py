"""The files that transforms bring along: a model that one applies goes into the artifact, beside the statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from featuremill.artifacts.errors import MissingArtifactError
from featuremill.artifacts.layout import MODELS
from featuremill.artifacts.store import Store

__all__ = ["FolderFiles"]


class FolderFiles(Mapping[str, bytes]):
    """Those in the folder of an artifact in the making, by path; each is read when it is asked for.

    The caller vouches for them: no digest is known yet.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getitem__(self, path: str) -> bytes:
        try:
            return self._store.get(path)
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

"""A store that lets tests step in between the operations of another one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from featuremill.artifacts.store import Store

__all__ = ["InterruptedStore"]

Hook = Callable[[str, str], None]


class InterruptedStore:
    """The real store, with `before` and `after` called around each put and delete as ``hook(operation, path)``."""

    def __init__(self, store: Store, *, before: Hook | None = None, after: Hook | None = None) -> None:
        self.real = store
        self._before = before or (lambda *_: None)
        self._after = after or (lambda *_: None)
        self.list = store.list
        self.folders = store.folders
        self.get = store.get
        self.exists = store.exists
        self.copy = store.copy
        self.upload = store.upload
        self.download = store.download
        self.remove = store.remove

    @property
    def root(self) -> str:
        return self.real.root

    def put(self, path: str, data: bytes, *, create_only: bool = False) -> None:
        self._before("put", path)
        self.real.put(path, data, create_only=create_only)
        self._after("put", path)

    def delete(self, path: str) -> None:
        self._before("delete", path)
        self.real.delete(path)
        self._after("delete", path)

    def modified(self, path: str) -> datetime:
        return self.real.modified(path)

    def sweep(self, prefix: str, before: datetime) -> int:
        return self.real.sweep(prefix, before)

    def local_path(self, path: str) -> Path | None:
        return self.real.local_path(path)

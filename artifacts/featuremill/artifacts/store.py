"""Where artifacts live: a folder or a bucket, seen through the few operations that publishing safely takes.

One primitive carries the safety: a *create-only* put, which fails when the path is taken. Local disks, S3, GCS and
Azure all have it; update-if-unchanged is not to be had on a local disk, so nothing here needs it. A put is all or
nothing: a reader sees the whole file or none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore

from featuremill.artifacts.buckets import (
    cause,
    is_bucket,
    is_missing_bucket,
    is_url,
    open_bucket,
    what_went_wrong,
)
from featuremill.artifacts.errors import AlreadyExists, FeaturemillError, MissingArtifactError, RequestError, StoreError

__all__ = ["ObjectStore", "Store", "as_store", "is_bucket", "is_url", "open_store"]

# obstore stages a local put beside its target under this suffix, and never lists what ends so.
_STAGED = re.compile(r"#\d+$")
_REFUSED = (
    "permission denied", "read-only file system", "operation not permitted",
    # How listings say it, whose errors have no class of their own.
    "status code: 401", "status code: 403",
)  # fmt: skip
_CHUNK = 8 << 20
_COPIES = 16
"""So many copies within a bucket are under way at a time."""


@runtime_checkable
class Store(Protocol):
    """A place for files, by paths relative to its root, with ``/`` between the parts.

    Implementations subclass the conformance tests in ``tests/support/store_conformance.py``.
    """

    @property
    def root(self) -> str:
        """The folder or URL of the store, for messages and for opening it again."""

    def get(self, path: str) -> bytes:
        """The bytes of a file. MissingArtifactError when there is none."""

    def put(self, path: str, data: bytes, *, create_only: bool = False) -> None:
        """Write a whole file, atomically. With `create_only`, AlreadyExists when the path is taken."""

    def list(self, prefix: str = "") -> list[str]:
        """The paths of all files below the folder `prefix`, at any depth, sorted; none when there is no such folder."""

    def folders(self, prefix: str = "") -> Sequence[str]:
        """The names of the folders directly in the folder `prefix`, sorted; empty when there is no such folder."""

    def exists(self, path: str) -> bool:
        """Whether there is a file at `path`. A folder is no file."""

    def modified(self, path: str) -> datetime:
        """When the file was written, with a time zone. MissingArtifactError when there is none."""

    def delete(self, path: str) -> None:
        """Remove a file; nothing happens when there is none."""

    def copy(self, paths: Mapping[str, str]) -> None:
        """Copy files by ``{source: target}`` within the store. MissingArtifactError when one is not there."""

    def upload(self, path: str, file: Path) -> None:
        """Put the content of a local file, however large; as atomic as :meth:`put`."""

    def download(self, path: str, file: Path) -> None:
        """Write a file of the store to a local one, however large."""

    def remove(self, prefix: str, *, keep: Collection[str] = ()) -> None:
        """Delete all files below the folder `prefix` but those in `keep`; nothing happens when there is none."""

    def sweep(self, prefix: str, before: datetime) -> int:
        """Remove what puts that were killed before that time left below `prefix`, and empty folders: how many files."""

    def local_path(self, path: str) -> Path | None:
        """Where the file is on this machine's disk, for memory-mapping; None when it is elsewhere."""


class ObjectStore:
    """A :class:`Store` on any `obstore` backend.

    Parameters
    ----------
    backend
        An ``obstore.store`` object. None: the local `folder`, made by the first put when it is not there.
    root
        What to call the place in messages.
    folder
        The local folder behind it, when there is one.

    Raises
    ------
    MissingArtifactError
        By anything but :meth:`put` and :meth:`exists`, when the local folder is not there.
    RequestError
        When something may not be read or written.
    StoreError
        When the disk or the connection fails.

    >>> from obstore.store import MemoryStore
    >>> store = ObjectStore(MemoryStore(), "memory")
    >>> store.put("a/b.txt", b"hello", create_only=True)
    >>> store.get("a/b.txt"), store.list(), store.folders()
    (b'hello', ['a/b.txt'], ['a'])
    >>> store.put("a/b.txt", b"bye", create_only=True)
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.AlreadyExists: memory/a/b.txt is there already.
    """

    def __init__(self, backend: Any, root: str, *, folder: Path | None = None) -> None:
        self._opened = backend
        self._root = root
        self._folder = folder

    @property
    def root(self) -> str:
        return self._root

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._root}>"

    def get(self, path: str) -> bytes:
        with self._told("read", path) as backend:
            return bytes(obstore.get(backend, path).bytes())

    def put(self, path: str, data: bytes, *, create_only: bool = False) -> None:
        with self._told("write", path, make=True) as backend:
            obstore.put(backend, path, data, mode="create" if create_only else "overwrite")

    def list(self, prefix: str = "") -> list[str]:
        with self._told("list", prefix) as backend:
            return sorted(o["path"] for chunk in obstore.list(backend, prefix or None) for o in chunk)

    def folders(self, prefix: str = "") -> Sequence[str]:
        return [path.rpartition("/")[2] for path in self.listing(prefix)[1]]

    def exists(self, path: str) -> bool:
        try:
            self.modified(path)
        except MissingArtifactError:
            return False
        return True

    def modified(self, path: str) -> datetime:
        when: datetime = self.about(path)["last_modified"]
        return when

    def about(self, path: str) -> Mapping[str, Any]:
        """A file's ``size`` in bytes and when it was ``last_modified``. MissingArtifactError when there is none."""
        with self._told("look at", path) as backend:
            return obstore.head(backend, path)

    def listing(self, prefix: str = "") -> tuple[Sequence[Mapping[str, Any]], Sequence[str]]:
        """What is directly in a folder: its files, as :meth:`about` has them, with ``path``; its folders' paths."""
        with self._told("list", prefix) as backend:
            found = obstore.list_with_delimiter(backend, prefix or None)
        return found["objects"], sorted(p.rstrip("/") for p in found["common_prefixes"])

    def read(self, path: str, starts: Sequence[int], ends: Sequence[int]) -> Sequence[memoryview]:
        """The bytes of a file from each of `starts` up to its end, asked for at the same time."""
        with self._told("read", path) as backend:
            parts = obstore.get_ranges(backend, path, starts=starts, ends=ends, coalesce=0)
        return [memoryview(part) for part in parts]

    def delete(self, path: str) -> None:
        if not self.exists(path):
            return
        with suppress(MissingArtifactError), self._told("delete", path) as backend:
            obstore.delete(backend, path)

    def copy(self, paths: Mapping[str, str]) -> None:
        def one(source: str, target: str) -> None:
            with self._told("copy", source) as backend:
                obstore.copy(backend, source, target)

        if not paths:
            return
        with ThreadPoolExecutor(min(_COPIES, len(paths))) as pool:
            # Taken one by one, so that the first error is raised.
            for _ in pool.map(one, paths, paths.values()):
                pass

    def upload(self, path: str, file: Path) -> None:
        with self._told("write", path, make=True) as backend:
            obstore.put(backend, path, file)

    def download(self, path: str, file: Path) -> None:
        with self._told("read", path) as backend:
            chunks = obstore.get(backend, path).stream(min_chunk_size=_CHUNK)
            with file.open("wb") as target:
                for chunk in chunks:
                    target.write(chunk)

    def remove(self, prefix: str, *, keep: Collection[str] = ()) -> None:
        with suppress(MissingArtifactError):
            paths = [path for path in self.list(prefix) if path not in keep]
            with self._told("delete", prefix) as backend:
                if paths:
                    obstore.delete(backend, paths)

    def check_writable(self) -> None:
        """Put a small file and delete it again: RequestError where one of the two is not allowed or cannot be done."""
        probe = f".featuremill-{uuid4().hex}"
        try:
            self.put(probe, b"")
            self.delete(probe)
        except StoreError as error:
            raise RequestError(str(error), root=self._root) from error

    def sweep(self, prefix: str, before: datetime) -> int:
        # Buckets show no half-written objects, and folders there are only a way of naming.
        if self._folder is None:
            return 0
        removed = 0
        for folder, _, files in os.walk(self._folder / prefix, topdown=False):
            for name in files:
                path = Path(folder, name)
                if _STAGED.search(name) and _modified(path) < before.timestamp():
                    path.unlink(missing_ok=True)
                    removed += 1
            # Fails when somebody's files are in it, and then it is to stay.
            with suppress(OSError):
                os.rmdir(folder)
        return removed

    def local_path(self, path: str) -> Path | None:
        return None if self._folder is None else self._folder / path

    @contextmanager
    def _told(self, doing: str, path: str, *, make: bool = False) -> Iterator[Any]:
        """The backend, with obstore's errors as ours and the place in words."""
        where = f"{self._root}/{path}" if path else self._root
        try:
            if self._opened is None:
                self._opened = _open_folder(self._folder or Path(self._root), make)
            yield self._opened
        except FeaturemillError:
            raise
        except AlreadyExistsError as error:
            raise AlreadyExists(f"{where} is there already.", path=path) from cause(error)
        except FileNotFoundError as error:
            if is_missing_bucket(error):
                raise _no_bucket(where, path) from cause(error)
            raise MissingArtifactError(f"{where} does not exist.", path=path) from cause(error)
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise _refused(doing, where, error) from cause(error)
        except (BaseError, OSError) as error:
            if is_missing_bucket(error):
                raise _no_bucket(where, path) from cause(error)
            if any(sign in str(error).lower() for sign in _REFUSED):
                raise _refused(doing, where, error) from cause(error)
            raise StoreError(f"Cannot {doing} {where}: {what_went_wrong(error)}.", path=path) from cause(error)
        except ValueError as error:
            said = what_went_wrong(error)
            raise RequestError(f"{path!r} is no path inside {self._root}: {said}.", path=path) from cause(error)


def _open_folder(folder: Path, make: bool) -> LocalStore:
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder} is a file, expected a folder for artifacts.", root=str(folder))
    if not make and not folder.is_dir():
        raise MissingArtifactError(f"There is no folder {folder}.", root=str(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RequestError(f"Cannot make {folder}: a part of it is a file.", root=str(folder)) from error
    return LocalStore(folder)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _no_bucket(where: str, path: str) -> MissingArtifactError:
    bucket = where.partition("://")[2].partition("/")[0]
    return MissingArtifactError(
        f"{where}: there is no bucket {bucket!r}. Check its name and the endpoint, or make it.",
        path=path,
        bucket=bucket,
    )


def _refused(doing: str, where: str, error: BaseException) -> RequestError:
    return RequestError(
        f"Not allowed to {doing} {where}: {what_went_wrong(error)}. "
        "Choose a place where you may, or ask for the right to.",
        path=where,
    )


def open_store(root: str | os.PathLike[str]) -> ObjectStore:
    """The store at a folder (absolute, relative, ``~/…`` or ``file://…``) or a bucket URL.

    Opening touches nothing: a folder that is not there is made by the first put, as in a bucket, and reading from it is
    an error.

    How buckets are opened is in :mod:`featuremill.artifacts.buckets`. What is promised here is tested on local disks,
    and on local servers that speak as S3 and Cloud Storage do (moto, and gcp-storage-emulator with preconditions). No
    test has run against the clouds themselves, and none against Azure.

    Raises
    ------
    RequestError
        When the URL has an unknown scheme or cannot be understood.

    >>> open_store("/nowhere/to/be/found").list()
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.MissingArtifactError: There is no folder /nowhere/to/be/found.
    >>> open_store("ftp://x")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.RequestError: ftp://x: the scheme 'ftp' is not known. Use a folder, gs://, s3:// or az://.
    """
    text = os.fspath(root)
    if is_bucket(text):
        return ObjectStore(open_bucket(text), text.rstrip("/"))
    folder = Path(unquote(urlsplit(text).path) if is_url(text) else text).expanduser().absolute()
    return ObjectStore(None, str(folder), folder=folder)


def as_store(store_or_root: Store | str | os.PathLike[str]) -> Store:
    """A store as it is; a root opened."""
    if isinstance(store_or_root, (str, os.PathLike)):
        return open_store(store_or_root)
    return store_or_root

"""A bucket as a file system of Arrow's, for reading rows: through the same client as everything else.

Arrow has file systems of its own for S3, Cloud Storage and Azure, each with its own idea of endpoints and credentials.
Reading through `obstore` is as fast: 1,000,000 rows of 20 columns (108 MB) took 0.20 to 0.27 s through either from a
local server, and 0.55 to 0.62 s with 30 ms before each answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import pyarrow as pa
from pyarrow import fs

from featuremill.artifacts.buckets import open_bucket, taken_apart
from featuremill.artifacts.errors import MissingArtifactError
from featuremill.artifacts.store import ObjectStore

__all__ = ["bucket_filesystem"]

PART = 8 << 20
"""Bytes of one request: what is larger is asked for in so many at a time."""


def bucket_filesystem(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of all buckets of an address's scheme, and the path in it: ``bucket/path``.

    Raises
    ------
    RequestError
        For an address that cannot be opened, see :func:`~featuremill.artifacts.buckets.open_bucket`.
    """
    scheme, bucket, path = taken_apart(address)
    open_bucket(f"{scheme}://{bucket}")
    return fs.PyFileSystem(_Buckets(scheme)), f"{bucket}/{path}"


class _Buckets(fs.FileSystemHandler):  # type: ignore[misc]
    """The buckets of one scheme; paths begin with the bucket's name. Nothing is written through it."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Buckets) and other.scheme == self.scheme

    def __hash__(self) -> int:
        return hash(self.scheme)

    def get_type_name(self) -> str:
        return self.scheme

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: Sequence[str]) -> list[fs.FileInfo]:
        return [self._info(path.rstrip("/")) for path in paths]

    def _info(self, path: str) -> fs.FileInfo:
        store, inner = self._store(path)
        if inner:
            try:
                about = store.about(inner)
            except MissingArtifactError:
                pass
            else:
                return _file(path, about)
        files, folders = store.listing(inner)
        found = fs.FileType.Directory if files or folders or not inner else fs.FileType.NotFound
        return fs.FileInfo(path, found)

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        if selector.recursive:
            self._refuse()
        base = selector.base_dir.rstrip("/")
        store, inner = self._store(base)
        bucket = base.partition("/")[0]
        files, folders = store.listing(inner)
        # A folder that somebody made by hand is an empty object of its own name.
        infos = [_file(f"{bucket}/{f['path']}", f) for f in files if f["path"] != inner]
        return [*infos, *(fs.FileInfo(f"{bucket}/{f}", fs.FileType.Directory) for f in folders)]

    def open_input_file(self, path: str) -> pa.NativeFile:
        store, inner = self._store(path)
        return pa.PythonFile(_BucketFile(store, inner), mode="r")

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self.open_input_file(path)

    def _store(self, path: str) -> tuple[ObjectStore, str]:
        bucket, _, inner = path.partition("/")
        address = f"{self.scheme}://{bucket}"
        return ObjectStore(open_bucket(address), address), inner

    # What writes goes through the store, where puts are atomic and create-only.

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("Buckets are written through featuremill.artifacts.store.open_store.")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse


def _file(path: str, about: Mapping[str, Any]) -> fs.FileInfo:
    return fs.FileInfo(path, fs.FileType.File, size=about["size"], mtime=about["last_modified"])


class _BucketFile:
    """A file of a bucket for Arrow to read, which asks by position and length."""

    def __init__(self, store: ObjectStore, path: str) -> None:
        self._store = store
        self._path = path
        try:
            self._size = int(store.about(path)["size"])
        except MissingArtifactError as error:
            raise FileNotFoundError(str(error)) from error
        self._position = 0
        self.closed = False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def read(self, size: int | None = None) -> bytes:
        return bytes(self._take(size))

    def read_buffer(self, size: int | None = None) -> pa.Buffer:
        return pa.py_buffer(self._take(size))

    def _take(self, size: int | None) -> bytes | memoryview:
        begin = self._position
        end = self._size if size is None or size < 0 else min(begin + size, self._size)
        if end <= begin:
            return b""
        self._position = end
        starts = list(range(begin, end, PART))
        parts = self._store.read(self._path, starts, [*starts[1:], end])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

"""Which files a path means: a file, a folder, a pattern, here or in an object store; and what the folder names say.

Local paths, ``file://``, ``gs://``, ``s3://`` and ``az://`` are understood, as file systems of Arrow's. Patterns follow
the shell: ``*``, ``?`` and ``[…]`` within a name, ``**`` for folders of any depth. Names that begin with ``_`` or ``.``
are skipped unless they are asked for by name, as Hadoop and Spark do (``_SUCCESS``, ``_temporary``, ``.part-0.crc``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import NoReturn
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from featuremill.artifacts.buckets import is_bucket, is_url
from featuremill.artifacts.errors import ParameterTypeError, RequestError
from featuremill.core.bucket_files import bucket_filesystem

__all__ = [
    "Place",
    "SourceFile",
    "as_paths",
    "filesystem",
    "find_files",
    "is_local",
    "partition_columns",
    "partition_values",
]

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Parameters
    ----------
    path
        Where it is, such that :func:`filesystem` opens it from any process.
    name
        The path below what was asked for; a moved folder keeps its names.
    size
        In bytes.
    """

    path: str
    name: str
    size: int


def is_local(path: str) -> bool:
    """Whether a path is on this machine's file system.

    >>> is_local("data/a.parquet"), is_local("gs://bucket/a.parquet")
    (True, False)
    """
    return not is_bucket(path)


def filesystem(path: str) -> tuple[fs.FileSystem, str]:
    """Arrow's file system for a path, and the path inside it.

    Raises
    ------
    RequestError
        For an address that no file system here understands.
    """
    if is_bucket(path):
        return bucket_filesystem(path)
    local = unquote(urlsplit(path).path) if is_url(path) else os.path.expanduser(path)
    return fs.LocalFileSystem(), local


class Place(str):
    """A folder's path or address; ``/`` goes below it.

    >>> Place("data/") / "run" / "a.parquet", Place("s3://bucket/data/") / "run"
    ('data/run/a.parquet', 's3://bucket/data/run')
    """

    __slots__ = ()

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.rstrip('/')}/{name}" if is_bucket(self) else os.path.join(self, name))


def as_paths(paths: object) -> str | tuple[str, ...]:
    """A path or several as plain texts.

    >>> as_paths(["a", "b"])
    ('a', 'b')
    >>> as_paths(5)
    Traceback (most recent call last):
    featuremill.artifacts.errors.ParameterTypeError: path must be a path or a list of paths, got 5.
    """
    if isinstance(paths, str | os.PathLike) and str(paths):
        return str(paths)
    if isinstance(paths, list | tuple) and paths and all(isinstance(p, str | os.PathLike) and str(p) for p in paths):
        return tuple(map(str, paths))
    raise ParameterTypeError(f"path must be a path or a list of paths, got {paths!r}.", parameter="path", value=paths)


def find_files(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[SourceFile]:
    """The files that a path, or several, stand for; sorted by path, never empty.

    Raises
    ------
    RequestError
        When a path does not exist or cannot be listed, a pattern matches nothing, a folder holds no file, or two paths
        name the same file.
    ParameterTypeError
        When a path is no text.

    Examples
    --------
    >>> find_files("no/such/*.parquet")
    Traceback (most recent call last):
    featuremill.artifacts.errors.RequestError: no/such/*.parquet: no file matches...
    """
    given = as_paths(paths)
    found: dict[str, SourceFile] = {}
    for path in [given] if isinstance(given, str) else given:
        for file in _expand(path):
            place = os.path.abspath(file.path) if is_local(file.path) else file.path
            if place in found:
                raise RequestError(
                    f"{file.path} is named twice by path={paths!r}, and its rows would count twice. Name it once.",
                    path=file.path,
                )
            found[place] = file
    return sorted(found.values(), key=lambda file: file.path)


def _expand(path: str) -> list[SourceFile]:
    address, system, inner = _take_apart(path)
    try:
        if MAGIC.search(inner) and system.get_file_info(inner).type == fs.FileType.NotFound:
            infos, root, pattern = *_glob(system, inner), True
        else:
            infos, root, pattern = *_plain(system, inner, path), False
    except PermissionError as error:
        raise RequestError(
            f"{path}: no permission to list it. Ask for read access, or run as another user.", path=path
        ) from error
    except OSError as error:
        raise RequestError(f"{path}: it cannot be listed: {error}", path=path) from error
    if not infos:
        what = "no file matches; check the pattern and the folder" if pattern else "the folder holds no file to read"
        raise RequestError(f"{path}: {what} (names that begin with _ or . are skipped).", path=path)
    return [
        SourceFile(
            f"{address}{i.path.removeprefix('./')}",
            i.path[len(root) :].removeprefix("./").lstrip("/"),
            int(i.size),
        )
        for i in infos
    ]


def _take_apart(path: str) -> tuple[str, fs.FileSystem, str]:
    """What stands before the inner paths of a file system in the addresses of its files, and both."""
    system, inner = filesystem(path)
    return "" if is_local(path) else path[: len(path) - len(inner)], system, inner


def _plain(system: fs.FileSystem, inner: str, path: str) -> tuple[list[fs.FileInfo], str]:
    info = system.get_file_info(inner)
    if info.type == fs.FileType.NotFound:
        _missing(path)
    if info.type == fs.FileType.File:
        return [info], inner[: len(inner) - len(info.base_name)]
    return list(_below(system, inner)), inner


def _missing(path: str) -> NoReturn:
    parent = os.path.dirname(path.rstrip("/"))
    where = f" (looked from {os.getcwd()})" if is_local(path) and not os.path.isabs(os.path.expanduser(path)) else ""
    advice = (
        "" if not is_local(path) or os.path.isdir(parent or ".") else f" The folder {parent} does not exist either."
    )
    raise RequestError(f"{path}: there is no such file or folder{where}.{advice}", path=path)


def _hidden(name: str) -> bool:
    # `_year=2013` is a partition whose column begins with an underscore.
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _children(system: fs.FileSystem, folder: str) -> list[fs.FileInfo]:
    infos: list[fs.FileInfo] = system.get_file_info(fs.FileSelector(folder or ".", allow_not_found=True))
    return infos


def _below(system: fs.FileSystem, folder: str) -> Iterator[fs.FileInfo]:
    for info in _children(system, folder):
        if _hidden(info.base_name):
            continue
        if info.type == fs.FileType.Directory:
            yield from _below(system, info.path)
        elif info.type == fs.FileType.File:
            yield info


def _glob(system: fs.FileSystem, inner: str) -> tuple[list[fs.FileInfo], str]:
    segments = [s for i, s in enumerate(inner.split("/")) if s or i == 0]
    first = next(i for i, s in enumerate(segments) if MAGIC.search(s))
    root = "/".join(segments[:first])
    if inner.startswith("/") and not root:
        root = "/"
    # `**` can reach a file on several ways.
    found = {info.path: info for info in _match(system, root, segments[first:])}
    return list(found.values()), root


def _match(system: fs.FileSystem, folder: str, segments: Sequence[str]) -> Iterator[fs.FileInfo]:
    head, rest = segments[0], segments[1:]
    if head == "**":
        yield from _match(system, folder, rest or ["*"])
    for info in _children(system, folder):
        name, is_folder = info.base_name, info.type == fs.FileType.Directory
        if _hidden(name) and not head.startswith(name[0]):
            continue
        if head == "**":
            if is_folder:
                yield from _match(system, info.path, segments)
        elif not fnmatchcase(name, head):
            continue
        elif rest and is_folder:
            yield from _match(system, info.path, rest)
        elif not rest:
            yield from _below(system, info.path) if is_folder else [info]


# --- partitions: folders named column=value ---------------------------------------------------------------------------


def partition_values(path: str) -> dict[str, str | None]:
    """The columns that a file's folders stand for, by name, as text; None for Hive's name of null.

    >>> partition_values("data/dt=2013-01-01/carrier=A%2FB/part-0.parquet")
    {'dt': '2013-01-01', 'carrier': 'A/B'}
    """
    found: dict[str, str | None] = {}
    for folder in path.split("/")[:-1]:
        name, equals, value = folder.partition("=")
        if not name or not equals:
            continue
        if unquote(name) in found:
            raise RequestError(f"{path}: the folders name the column {unquote(name)!r} twice.", path=path)
        found[unquote(name)] = None if value == HIVE_NULL else unquote(value)
    return found


def partition_columns(files: Sequence[SourceFile]) -> tuple[pa.Schema, list[dict[str, int | date | str | None]]]:
    """The columns that the folder names stand for, and the values for each file.

    A column is int64 when all its values are whole numbers, date32 when all are ISO dates, else string.

    Raises
    ------
    RequestError
        When the files do not have the same columns in their folder names.
    """
    texts = [partition_values(f.path) for f in files]
    for file, values in zip(files, texts, strict=True):
        if values.keys() != texts[0].keys():
            raise RequestError(
                f"{file.path}: the folders name the columns {_listed(values)}, those of {files[0].path} name "
                f"{_listed(texts[0])}. Every file needs the same; give the paths apart, or read with hive=False.",
                path=file.path,
            )
    fields = []
    typed: list[dict[str, int | date | str | None]] = [{} for _ in files]
    for name in texts[0]:
        type_, column = _infer([t[name] for t in texts])
        fields.append(pa.field(name, type_))
        for values_of_file, value in zip(typed, column, strict=True):
            values_of_file[name] = value
    return pa.schema(fields), typed


def _listed(values: dict[str, str | None]) -> str:
    return ", ".join(values) or "no columns"


def _infer(texts: Sequence[str | None]) -> tuple[pa.DataType, Sequence[int | date | str | None]]:
    known = [t for t in texts if t is not None]
    if known and all(re.fullmatch(r"-?[0-9]{1,19}", t) for t in known):
        numbers = [None if t is None else int(t) for t in texts]
        if all(n is None or -(2**63) <= n < 2**63 for n in numbers):
            return pa.int64(), numbers
    if known and all(re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", t) for t in known):
        try:
            return pa.date32(), [None if t is None else date.fromisoformat(t) for t in texts]
        except ValueError:
            pass  # 2013-02-30 is a text like any other
    return pa.string(), texts

"""Where a model's file is on this machine's disk, and the digest that stands for it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from threading import Lock

from featuremill.artifacts.errors import suggest
from featuremill.artifacts.store import Store, is_url, open_store
from featuremill.core.models.contract import ModelFileError

__all__ = ["digest_of", "fetch", "local_path"]

SIDE_SUFFIXES = (".data", "_data")
"""Of files beside an ONNX model that hold its weights, as its exporters name them."""

_copies: dict[tuple[str, str], Path] = {}
_lock = Lock()
_folder: list[tempfile.TemporaryDirectory[str]] = []


def local_path(path: str) -> Path:
    """The file or folder itself, or the copy of one in a bucket, made once by each process for each of its versions.

    Raises
    ------
    ModelFileError
        When there is none.

    >>> local_path("/nowhere/late.onnx")
    Traceback (most recent call last):
    ...
    featuremill.transforms.onnx_sessions.ModelFileError: There is no model /nowhere/late.onnx, and no folder /nowhere.
    """
    if is_url(path):
        parent, _, name = path.rstrip("/").rpartition("/")
        store = open_store(parent)
        here = store.local_path(name)
        if here is None:
            with _lock:
                return fetch(store, name, Path(_temporary()))
    else:
        here = Path(os.path.expanduser(path)).absolute()
    if not here.exists():
        folder = here.parent
        if not folder.is_dir():
            raise ModelFileError(f"There is no model {path}, and no folder {folder}.", path=path)
        beside = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        hint = suggest(here.name, beside) if beside else f"The folder {folder} is empty."
        raise ModelFileError(f"There is no model {path}. {hint}", path=path)
    return here


def fetch(store: Store, name: str, folder: Path) -> Path:
    """A copy, in `folder`, of a file of a store with the files of its weights, or of a folder.

    Raises
    ------
    ModelFileError
        When the store has no such file or folder.
    """
    if store.exists(name):
        names = [name, *(n for n in (name + s for s in SIDE_SUFFIXES) if store.exists(n))]
    else:
        names = store.list(name)
    if not names:
        known = [n.partition("/")[0] for n in store.list()]
        hint = suggest(name, sorted(set(known))) if known else "The folder is empty."
        raise ModelFileError(f"There is no model {store.root}/{name}. {hint}", path=f"{store.root}/{name}")
    state = hashlib.sha256("\n".join(f"{n} {store.modified(n).isoformat()}" for n in names).encode()).hexdigest()
    key = (f"{store.root}/{name}", state)
    if key not in _copies:
        target = Path(tempfile.mkdtemp(dir=folder))
        for each in names:
            copy = target / each
            copy.parent.mkdir(parents=True, exist_ok=True)
            store.download(each, copy)
        _copies[key] = target / name
    return _copies[key]


def _temporary() -> str:
    if not _folder:
        # Lives as long as the process: frameworks map files of it into memory.
        _folder.append(tempfile.TemporaryDirectory(prefix="featuremill-models-"))
    return _folder[0].name


def digest_of(path: Path, *, weights: bool = False) -> str:
    """The SHA-256 of a file; of a folder, that of its files' names and digests.

    With `weights`, that of a file together with those beside it which hold its weights, if there are any.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "model").write_bytes(b"abc")
    ...     digest_of(Path(folder, "model"))[:16]
    'ba7816bf8f01cfea'
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return _digest_of_many({p.relative_to(path).as_posix(): p for p in files})
    beside = [path.with_name(path.name + s) for s in SIDE_SUFFIXES] if weights else []
    files = [path, *(p for p in beside if p.is_file())]
    return _digest_of_file(path) if len(files) == 1 else _digest_of_many({p.name: p for p in files})


def _digest_of_many(files: dict[str, Path]) -> str:
    lines = [f"{_digest_of_file(path)}  {name}\n" for name, path in files.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

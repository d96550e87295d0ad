"""What a model file is, by what it begins with: names can be wrong, and no framework says clearly that it was given
another's file. Nothing is loaded.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["looks_like", "looks_pickled"]

Found = tuple[str | None, str]
"""The framework, None where there is none for it here; and what to call the file."""

ONNX_VERSIONS = range(3, 32)
"""Versions of the format in the field that an ONNX file begins with; a SavedModel's is 1."""
HEAD_BYTES = 4096
OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


def looks_pickled(path: Path) -> bool:
    """Whether a file begins as a pickle does, plain or compressed as joblib does it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "model.onnx")
    ...     _ = file.write_bytes(pickle.dumps([1, 2]))
    ...     looks_pickled(file)
    True
    """
    head = _head(path)
    try:
        if head[:2] in OPENERS:
            with OPENERS[head[:2]](path) as file:
                head = file.read(2)
        elif head[:1] == b"\x78":
            head = zlib.decompressobj().decompress(head, 2)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return False
    # Protocols 2 to 5 begin with their number; what came before is text, and nothing of today writes it.
    return len(head) >= 2 and head[0] == 0x80 and 2 <= head[1] <= pickle.HIGHEST_PROTOCOL


def looks_like(path: Path) -> Found | None:
    """The framework of a file or folder and what to call it; None where nothing tells."""
    if path.is_dir():
        return ("tensorflow", "a SavedModel") if (path / "saved_model.pb").is_file() else None
    head = _head(path)
    if head[:2] == b"PK" and zipfile.is_zipfile(path):
        return _zipped(path)
    if looks_pickled(path):
        return None, "a pickle"
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return None, "an HDF5 file"
    if len(head) > 8 and head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < 1 << 30:
        return "pytorch", "a safetensors file"
    if head[:1] == b"{" and b"learner" in head:
        return "xgboost", "an XGBoost model"
    if head[:1] == b"\x08" and len(head) > 2 and head[1] in ONNX_VERSIONS:
        return "onnx", "an ONNX file"
    return None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _zipped(path: Path) -> Found | None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    last = {name.rpartition("/")[2] for name in names}
    if "schema.json" in names:
        return "sklearn", "a skops file"
    if {"config.json", "metadata.json"} <= set(names):
        return "tensorflow", "a .keras file"
    if {"archive_format", "serialized_exported_program.json"} & last:
        return "pytorch", "a program exported by PyTorch"
    if "data.pkl" in last:
        return "pytorch", "a file saved by PyTorch"
    return None

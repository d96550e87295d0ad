"""Which file of an artifact lies where, below a store's root.

::

    <name>/versions/<version>/manifest.json
                              states/*.arrow
                              golden.arrow
                              profile.json
                              vocabulary/*.txt
                              attributes.json
                              stock/<position>/...
                              models/<digest>/...
    <name>/aliases/<alias>/00000007.json
    _embeddings/<space>/<sha256>.arrow
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import quote

from featuremill.artifacts.errors import ParameterError

__all__ = [
    "ATTRIBUTES",
    "CONTENT",
    "EMBEDDINGS",
    "GOLDEN",
    "MODELS",
    "PROFILE",
    "STOCK",
    "alias_folder",
    "alias_number",
    "alias_path",
    "aliases_folder",
    "file_name",
    "join",
    "model_path",
    "state_path",
    "version_folder",
    "versions_folder",
]

GOLDEN = "golden.arrow"
PROFILE = "profile.json"
"""What the columns held that it was fitted on; it tells of the data and is no part of what the artifact computes."""
ATTRIBUTES = "attributes.json"
STOCK = "stock/"
"""Below it, by the position of the step, lies what Beam's own transforms wrote: a SavedModel and its metadata."""
MODELS = "models/"
"""Below it, by the digest of where each comes from, lie the models that transforms apply."""
EMBEDDINGS = "_embeddings"
"""The folder beside the artifacts with vectors of texts that jobs computed; see `vector_files`."""
CONTENT = (STOCK, MODELS)
"""Files below these are part of what an artifact computes, as its states are."""

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~%-]*")
_ENTRY = re.compile(r"(\d{8})\.json")
_LONGEST = 120


def join(*parts: str) -> str:
    """Parts of a path joined by ``/``, empty ones left out.

    >>> join("", "states", "x.arrow")
    'states/x.arrow'
    """
    return "/".join(p for p in parts if p)


def versions_folder(name: str) -> str:
    return join(name, "versions")


def version_folder(name: str, version: str) -> str:
    return join(versions_folder(name), version)


def aliases_folder(name: str) -> str:
    return join(name, "aliases")


def alias_folder(name: str, alias: str) -> str:
    return join(aliases_folder(name), alias)


def alias_path(name: str, alias: str, number: int) -> str:
    return join(alias_folder(name, alias), f"{number:08d}.json")


def alias_number(path: str) -> int | None:
    """The number of an alias entry from its path; None for other files."""
    match = _ENTRY.fullmatch(path.rpartition("/")[2])
    return int(match[1]) if match else None


def state_path(key: str) -> str:
    """The file of a state, relative to its artifact.

    >>> state_path("00-ScaleToZScore-air_time")
    'states/00-ScaleToZScore-air_time.arrow'
    """
    if not _KEY.fullmatch(key):
        raise ParameterError(f"The key {key!r} of a state cannot name a file.", key=key)
    return f"states/{key}.arrow"


def model_path(digest: str, name: str) -> str:
    """A file of a model, relative to its artifact.

    >>> model_path("53aa51172d142c89d9012cce15ae4d6c", "model.onnx")
    'models/53aa51172d142c89/model.onnx'
    """
    return f"{MODELS}{digest[:16]}/{name}"


def file_name(text: str, taken: Collection[str], suffix: str) -> str:
    """A file name made from any text: percent-encoded, not too long, and not in `taken` on any file system.

    >>> file_name("a/b", (), ".txt"), file_name("x", ("X.txt",), ".txt")
    ('a%2Fb.txt', 'x-2.txt')
    """
    base = quote(text, safe="")[:_LONGEST] or "column"
    # `.` would make names that mean folders, or are hidden.
    base = base.replace(".", "%2E") if base.startswith(".") else base
    lower = {t.lower() for t in taken}
    candidate, number = base, 2
    while (candidate + suffix).lower() in lower:
        candidate, number = f"{base}-{number}", number + 1
    return candidate + suffix

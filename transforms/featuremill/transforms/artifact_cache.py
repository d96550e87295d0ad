"""One loaded artifact for all threads of a worker process.

A vocabulary's index is worth building once, not once for every batch or thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from hashlib import sha256
from threading import Lock
from typing import Any

from featuremill.artifacts.reader import Artifact, load
from featuremill.artifacts.store import open_store
from featuremill.transforms.memory import release_memory
from featuremill.transforms.pipeline import BoundPipeline, Pipeline
from featuremill.transforms.stock_stages import substituted, widened_schema

__all__ = ["bound_pipeline", "once_per_process"]

KEPT = 4
"""How many loaded artifacts (or parts of them) a process keeps."""

_lock = Lock()
_entries: OrderedDict[Hashable, tuple[Lock, list[Any]]] = OrderedDict()


def once_per_process(key: Hashable, build: Callable[[], Any]) -> Any:
    """`build()`, run once per process for a key, by the first thread that asks; the others wait for it."""
    with _lock:
        lock, box = _entries.setdefault(key, (Lock(), []))
        _entries.move_to_end(key)
        while len(_entries) > KEPT:
            _entries.popitem(last=False)
    with lock:
        if not box:
            box.append(build())
        return box[0]


def bound_pipeline(folder: str) -> BoundPipeline:
    """The pipeline of the artifact in a folder, with its states.

    Where the artifact has steps that only Beam applies, it is the pipeline for rows that have what these made in added
    columns.

    Raises
    ------
    ArtifactError
        When there is no artifact, or a damaged one.
    """
    # The manifest's digest is part of the key: a folder may be written again, in tests and notebooks above all.
    manifest = open_store(folder).get("manifest.json")
    bound: BoundPipeline = once_per_process((folder, sha256(manifest).hexdigest()), lambda: _bind(load(folder)))
    return bound


def _bind(artifact: Artifact) -> BoundPipeline:
    release_memory()
    if not any(t.beam_only for t in artifact.transforms):
        bound: BoundPipeline = artifact.bound
        return bound
    schema = widened_schema(artifact.transforms, artifact.input_schema)
    return Pipeline(substituted(artifact.transforms), schema).bind(artifact.states, artifact.files)

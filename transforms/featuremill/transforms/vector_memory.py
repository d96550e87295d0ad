"""The vectors that a job need not compute: those that earlier jobs kept, and those that it has computed itself.

A worker of a job works inside ``with working_for(memory) as counts``: whatever computes vectors in that thread
meanwhile looks there first, and leaves there what it had to compute. Without a job nothing is looked up or left.

::

    <cache>/<space>/*.arrow           of earlier jobs
    <scratch>/first/<space>/*.arrow   of this job, computed before its last pass, and read in that pass
    <scratch>/later/<space>/*.arrow   of this job, computed in that pass

When the job has succeeded, :func:`keep` adds what is in the scratch folder to the cache.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import machine
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.manifest import canonical_json, digest
from featuremill.artifacts.vector_files import SMALL_BYTES, Digests, VectorFile, VectorStore, merged

__all__ = ["Counts", "Space", "VectorMemory", "in_use", "keep", "space_of", "working_for"]

FIRST, LATER = "first", "later"
KEPT = 4
"""So many memories of jobs a process has open, beside those in use."""
MOST_BYTES = 128 << 20
"""Vectors that a process has computed and not yet written, at most."""
INSTRUCTIONS = (
    "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve", "bf16", "i8mm",
)  # fmt: skip
"""Those of a processor for which ONNX Runtime has sums of their own, in another order."""

Floats = npt.NDArray[np.floating[Any]]
Found = npt.NDArray[np.bool_]


# --- what vectors depend on -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Space:
    """A model and everything else that a vector's bits depend on."""

    key: str
    """The name of its folder."""
    about: bytes
    """The same in words, as JSON."""


def space_of(model: str, *, packages: tuple[str, ...] = (), **facts: Any) -> Space:
    """The space of a model's vectors, computed by this process.

    Parameters
    ----------
    model
        Its digest.
    packages
        Of which the versions count: numbers and tokens may change with them.
    facts
        What else counts, JSON-ready.

    >>> space_of("ab" * 32, backend="cpu").key == space_of("ab" * 32, backend="cuda").key
    False
    """
    about = canonical_json({
        "model": model, **facts, "packages": {name: _version(name) for name in packages}, "processor": _processor(),
    })  # fmt: skip
    return Space(f"{model[:16]}-{digest(about)[:16]}", about)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _processor() -> list[str]:
    """The kind of processor and those of its instructions that matter, where they can be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return [machine()]
    told = (line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features")))
    flags = next(told, [])
    return [machine(), *(name for name in INSTRUCTIONS if name in flags)]


# --- a job's memory ---------------------------------------------------------------------------------------------------


@dataclass
class Counts:
    """What became of the distinct things that a worker had to have vectors of, while a memory was used."""

    looked_up: int = 0
    """Those that were found in the cache or computed, in the last pass once for each worker that asked."""
    found: int = 0
    """Of these, those that were in the cache."""
    computed: int = 0
    """Of these, those that were not."""


@dataclass(frozen=True)
class VectorMemory:
    """Where a job's vectors are. Small and picklable.

    Parameters
    ----------
    scratch
        The job's own folder, which all of its workers see.
    cache
        The folder or URL with the vectors of earlier jobs; None: there is none, and nothing is left for later jobs.
    first
        Whether this is the pass before the last one.
    """

    scratch: str
    cache: str | None
    first: bool = False

    @property
    def in_first_pass(self) -> VectorMemory:
        """The same for the pass before the last one."""
        return replace(self, first=True)

    def opened(self) -> OpenMemory:
        """It, ready to be used: one for all threads of a process that hold it at a time."""
        with _lock:
            found = _opened.get(self)
            if found is None:
                found = _opened[self] = OpenMemory(self)
            # Those of the latest jobs stay open between two pieces of work: opening checks the files.
            _latest[self] = found
            _latest.move_to_end(self)
            while len(_latest) > KEPT:
                _latest.popitem(last=False)
            return found


class OpenMemory:
    """A job's memory inside a worker's process. Threads may share it."""

    def __init__(self, memory: VectorMemory) -> None:
        self._cache = None if memory.cache is None else VectorStore(memory.cache)
        self._first = None if memory.first else VectorStore(os.path.join(memory.scratch, FIRST))
        # Without a cache, what is computed in the last pass is wanted by nobody.
        part = FIRST if memory.first else LATER
        kept = memory.first or memory.cache is not None
        self._own = VectorStore(os.path.join(memory.scratch, part)) if kept else None
        self._files: dict[Space, tuple[bool, list[VectorFile], list[VectorFile]]] = {}
        self._spaces: set[Space] = set()
        self._new: dict[Space, list[VectorFile]] = {}
        self._bytes = 0
        self._lock = Lock()

    @contextmanager
    def used(self, counts: Counts) -> Iterator[None]:
        """Vectors are looked up here, and left here, by this thread; the counts go up meanwhile."""
        token = _in_use.set((self, counts))
        try:
            yield
        finally:
            _in_use.reset(token)

    def find(self, space: Space, wanted: Digests, counts: Counts, into: Floats) -> Found:
        """Which of some things have a vector here, shape (n,); the vectors are written into their rows of `into`."""
        with self._lock:
            if space not in self._files:
                done = self._first is not None and self._first.about(space.key) is not None
                self._files[space] = (done, _read(self._first, space), _read(self._cache, space))
            done, first, kept = self._files[space]
            self._spaces.add(space)
        there = np.zeros(len(wanted), bool)
        _fill(first, wanted, there, into)
        before = int(there.sum())
        _fill(kept, wanted, there, into)
        # The pass before the last one has counted those that it found.
        found, computed = 0 if done else int(there.sum()) - before, int((~there).sum())
        counts.found += found
        counts.computed += computed
        counts.looked_up += found + computed
        return there

    def add(self, space: Space, digests: Digests, vectors: Floats) -> None:
        """Remember vectors that were computed."""
        if self._own is None or not len(digests):
            return
        with self._lock:
            self._new.setdefault(space, []).append(VectorFile(digests, vectors))
            self._bytes += vectors.nbytes
            full = self._bytes >= MOST_BYTES
        if full:
            self.flush()

    def flush(self) -> None:
        """Write what was computed; at the latest when a piece of work is done."""
        with self._lock:
            new, self._new, self._bytes = self._new, {}, 0
            spaces, self._spaces = self._spaces, set()
        if self._own is None:
            return
        for space in spaces:
            self._own.tell(space.key, space.about)
        for space, files in new.items():
            self._own.add(space.key, merged(files))


def _read(store: VectorStore | None, space: Space) -> list[VectorFile]:
    return [] if store is None else [file for _, file in store.readable(space.key)]


def _fill(files: list[VectorFile], wanted: Digests, there: Found, into: Floats) -> None:
    """The vectors of what is not `there` yet, from files that may have them."""
    for file in files:
        if there.all():
            return
        if file.vectors.shape[1:] != into.shape[1:] or file.vectors.dtype != into.dtype:
            continue
        open_ = np.flatnonzero(~there)
        at, hits = file.find(wanted[open_])
        into[open_[hits]] = file.vectors[at[hits]]
        there[open_[hits]] = True


_in_use: ContextVar[tuple[OpenMemory, Counts] | None] = ContextVar("featuremill_vectors", default=None)
_opened: WeakValueDictionary[VectorMemory, OpenMemory] = WeakValueDictionary()
_latest: OrderedDict[VectorMemory, OpenMemory] = OrderedDict()
_lock = Lock()


@contextmanager
def working_for(memory: VectorMemory | None) -> Iterator[Counts]:
    """This thread works for a job with that memory; what it computes is written at the end."""
    counts = Counts()
    if memory is None:
        yield counts
        return
    opened = memory.opened()
    with opened.used(counts):
        yield counts
    opened.flush()


def in_use() -> tuple[OpenMemory, Counts] | None:
    """The memory of the job that this thread works for, if any, and the counts to go up."""
    return _in_use.get()


def keep(memory: VectorMemory) -> Mapping[str, int]:
    """Add what the job computed to the cache, and return how many vectors were added to each space.

    Raises
    ------
    RequestError, StoreError
        When the cache cannot be written.
    """
    added: dict[str, int] = {}
    if memory.cache is None:
        return added
    cache = VectorStore(memory.cache)
    parts = [VectorStore(os.path.join(memory.scratch, part)) for part in (FIRST, LATER)]
    for space in sorted({name for part in parts for name in part.spaces}):
        for files in _groups(file for part in parts for _, file in part.readable(space)):
            cache.tell(space, next(about for part in parts for about in [part.about(space)] if about))
            added[space] = added.get(space, 0) + cache.keep(space, merged(files))
    return added


def _groups(files: Iterable[VectorFile]) -> Iterator[list[VectorFile]]:
    """Files together until they are no longer small: as many as are in memory at a time."""
    group: list[VectorFile] = []
    for file in files:
        group.append(file)
        if sum(f.vectors.nbytes for f in group) >= SMALL_BYTES:
            yield group
            group = []
    if group:
        yield group

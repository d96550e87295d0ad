"""Vectors of texts that were embedded before, kept beside the artifacts: tomorrow's job computes new texts only.

Below the root of the artifacts::

    _embeddings/<space>/about.json
                        <sha256>.arrow

A *space* is a model and everything else that a vector's bits depend on. A file has rows of a digest of 128 bits and a
vector, sorted by digest, and no texts. Its name is the SHA-256 of its content; it never changes. Jobs that run at the
same time add files of their own; when there are many, a job makes one of them and removes those it has merged, and
whoever has just listed these does without.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.carried import mapped_content
from featuremill.artifacts.errors import AlreadyExists, ArtifactError, FeaturemillError, MissingArtifactError
from featuremill.artifacts.layout import EMBEDDINGS, join
from featuremill.artifacts.manifest import digest
from featuremill.artifacts.store import ObjectStore, Store, open_store

__all__ = [
    "MOST_FILES", "Digests", "VectorFile", "VectorStore", "embeddings_folder", "merged", "vector_bytes",
]  # fmt: skip

LOG = logging.getLogger(__name__)

DIGEST_BYTES = 16
MOST_FILES = 8
"""So many small files a space has at most, before they are made one."""
SMALL_BYTES = 64 << 20
"""Vectors in a file that is small. Larger ones stay as they are: their number is bounded by what is in them."""
ABOUT = "about.json"
_NAME = re.compile(r"([0-9a-f]{64})\.arrow")
_SPACE = re.compile(r"[0-9a-f-]+")

Digests = npt.NDArray[np.bytes_]
"""Digests of things, dtype S16, shape (n,)."""
Floats = npt.NDArray[np.floating[Any]]


def embeddings_folder(root: str) -> str:
    """Where the vectors are that belong to a root of artifacts.

    >>> embeddings_folder("gs://bucket/artifacts/")
    'gs://bucket/artifacts/_embeddings'
    """
    return f"{root.rstrip('/')}/{EMBEDDINGS}"


@dataclass(frozen=True)
class VectorFile:
    """Vectors by digest.

    >>> file = VectorFile(np.array([b"a" * 16, b"c" * 16]), np.eye(2, dtype=np.float32))
    >>> file.find(np.array([b"c" * 16, b"b" * 16]))
    (array([1, 1]), array([ True, False]))
    """

    digests: Digests
    """Ascending, each once."""
    vectors: Floats
    """Shape (n, size)."""

    def find(self, wanted: Digests) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """The position of each digest that is wanted, and whether it is there; both of shape (n_wanted,)."""
        if not len(self.digests):
            return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), bool)
        at = np.minimum(np.searchsorted(self.digests, wanted), len(self.digests) - 1)
        return at, self.digests[at] == wanted


def merged(files: Sequence[VectorFile]) -> VectorFile:
    """One of several, of which there is at least one; of a digest that several have, the vector of the first."""
    digests, first = np.unique(np.concatenate([f.digests for f in files]), return_index=True)
    return VectorFile(digests, np.concatenate([f.vectors for f in files])[first])


def vector_bytes(file: VectorFile, space: str) -> bytes:
    """The content of a file; equal vectors give equal bytes."""
    count, size = file.vectors.shape
    keys = pa.Array.from_buffers(
        pa.binary(DIGEST_BYTES), count, [None, pa.py_buffer(file.digests.astype(f"S{DIGEST_BYTES}").tobytes())]
    )
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(file.vectors).reshape(-1)), size)
    table = pa.record_batch({"digest": keys, "vector": values}).replace_schema_metadata({"space": space})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_batch(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _parsed(data: Any, space: str, where: str) -> VectorFile:
    """The vectors in a file's content, not copied."""
    try:
        with pa.ipc.open_file(pa.BufferReader(data)) as reader:
            told = (reader.schema.metadata or {}).get(b"space", b"").decode()
            if told != space or reader.num_record_batches != 1:
                raise ArtifactError(f"{where} holds no vectors of {space}.", file=where)
            batch = reader.get_batch(0)
        keys, vectors = batch.column("digest"), batch.column("vector")
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{where} is no readable file of vectors: {error}.", file=where) from error
    if keys.type != pa.binary(DIGEST_BYTES) or not pt.is_fixed_size_list(vectors.type) or batch.num_rows == 0:
        raise ArtifactError(f"{where} holds no vectors.", file=where)
    digests = np.frombuffer(keys.buffers()[1], f"S{DIGEST_BYTES}", len(keys))
    return VectorFile(digests, vectors.values.to_numpy().reshape(len(keys), -1))


class VectorStore:
    """A folder of spaces, on a disk or in a bucket.

    Parameters
    ----------
    place
        The folder or URL; made by the first file.
    """

    def __init__(self, place: str | Store) -> None:
        self._store: Store | ObjectStore = open_store(place) if isinstance(place, str) else place
        # A file never changes, and reading it goes through all of it.
        self._known: dict[tuple[str, str], VectorFile] = {}

    @property
    def spaces(self) -> list[str]:
        """The spaces that have files, sorted."""
        try:
            return [name for name in self._store.folders() if _SPACE.fullmatch(name)]
        except MissingArtifactError:
            return []

    def names(self, space: str) -> list[str]:
        """The files of a space, sorted."""
        try:
            paths = self._store.list(space)
        except MissingArtifactError:
            return []
        return [name for path in paths for name in [path.rpartition("/")[2]] if _NAME.fullmatch(name)]

    def read(self, space: str, name: str) -> VectorFile:
        """The vectors in a file, mapped into memory where it is on a disk.

        Raises
        ------
        ArtifactError
            When its content is not what its name says, or no vectors of this space.
        MissingArtifactError
            When it has gone.
        """
        path = join(space, name)
        where = join(self._store.root, path)
        data = mapped_content(self._store, path)
        if digest(data) != name.partition(".")[0]:
            raise ArtifactError(f"{where} is damaged: its digest is not its name.", file=where)
        return _parsed(data, space, where)

    def readable(self, space: str) -> Iterator[tuple[str, VectorFile]]:
        """The files of a space by name; one that cannot be used is passed over with a warning in the log."""
        for name in self.names(space):
            try:
                if (space, name) not in self._known:
                    self._known[space, name] = self.read(space, name)
                yield name, self._known[space, name]
            except MissingArtifactError:
                continue  # Merged by another job in this moment.
            except (FeaturemillError, OSError) as error:
                LOG.warning("%s It is not used, its texts are computed again. Remove it.", error)

    def add(self, space: str, file: VectorFile) -> str:
        """Write a file, and return its name. One that is there already has the same content."""
        data = vector_bytes(file, space)
        name = f"{digest(data)}.arrow"
        try:
            self._store.put(join(space, name), data, create_only=True)
        except AlreadyExists:
            self._mend(space, name, data)
        return name

    def _mend(self, space: str, name: str, data: bytes) -> None:
        """Where a damaged file has the name that sound content would have, the sound content comes in its place."""
        try:
            self.read(space, name)
        except FeaturemillError:
            self._store.put(join(space, name), data)

    def tell(self, space: str, about: bytes) -> None:
        """Leave in words, for people, what a space is; the first to do so is right."""
        with suppress(AlreadyExists):
            self._store.put(join(space, ABOUT), about, create_only=True)

    def about(self, space: str) -> bytes | None:
        """What :meth:`tell` left."""
        try:
            return self._store.get(join(space, ABOUT))
        except MissingArtifactError:
            return None

    def keep(self, space: str, new: VectorFile) -> int:
        """Add the vectors that are not there yet, as one file, and merge small files that have become many.

        Returns
        -------
        int
            How many were added.
        """
        there = dict(self.readable(space))
        fresh = ~reduce(np.logical_or, (f.find(new.digests)[1] for f in there.values()), np.zeros(1, bool))
        fresh = np.broadcast_to(fresh, len(new.digests))
        if fresh.any():
            added = VectorFile(new.digests[fresh], new.vectors[fresh])
            there[self.add(space, added)] = added
        small = {name: file for name, file in there.items() if file.vectors.nbytes < SMALL_BYTES}
        if len(small) > MOST_FILES:
            one = self.add(space, merged(list(small.values())))
            for name in small:
                if name != one:
                    self._store.delete(join(space, name))
        return int(fresh.sum())

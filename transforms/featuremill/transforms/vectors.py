"""Columns of things to columns of vectors: each distinct thing is computed once, and the latest ones are remembered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import BadRows
from featuremill.transforms.arrays import dictionary_parts
from featuremill.transforms.per_value import without_views
from featuremill.transforms.vector_memory import Space, in_use

__all__ = ["DTYPES", "BadItems", "RememberedVectors", "VectorColumn", "finished", "most_remembered", "vector_array"]

DTYPES: Mapping[str, tuple[type[np.floating[Any]], pa.DataType]] = {
    "float32": (np.float32, pa.float32()),
    "float16": (np.float16, pa.float16()),
}
CACHE_BYTES = 64 << 20
"""Of the vectors that are remembered for a column."""
KEY_BYTES = 16
"""Of the digest that stands for a thing: that two have the same is out of the question."""
ITEMS_AT_A_TIME = 4096
"""Things whose intermediate forms, such as tokens, are in memory together."""

Floats = npt.NDArray[np.floating[Any]]
Float32 = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]
Item = TypeVar("Item", str, bytes)


class BadItems(Exception):
    """Things that have no vector; `reasons` by their positions. It never leaves this package's modules."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} have no vector")
        self.reasons = dict(reasons)


def finished(vectors: Float32, dimension: int, *, normalize: bool) -> Float32:
    """The first numbers of each vector, made of length 1 where that is wanted.

    >>> finished(np.array([[3, 4, 5]], np.float32), 2, normalize=True)
    array([[0.6, 0.8]], dtype=float32)
    """
    vectors = vectors[:, :dimension]
    if not normalize:
        return vectors
    lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def vector_array(vectors: Floats, nulls: npt.NDArray[np.bool_] | None, leaf: pa.DataType) -> pa.Array:
    """Vectors, shape (n_rows, size), as a column of lists of a fixed size; null where `nulls` says."""
    flat = pa.array(vectors.reshape(-1), leaf)
    mask = None if nulls is None or not nulls.any() else pa.array(nulls)
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=mask)


def most_remembered(dimension: int, dtype: np.dtype[Any]) -> int:
    """Of how many things a worker remembers the vectors.

    >>> most_remembered(384, np.dtype("float32"))
    43690
    """
    return max(1, CACHE_BYTES // (dimension * dtype.itemsize))


class RememberedVectors(ABC, Generic[Item]):
    """What computes vectors, and remembers those of recent things; threads may share it.

    Parameters
    ----------
    normalize
        Whether vectors get the length 1.
    dimension
        So many of the first numbers of each vector are kept, before it is normalised.
    dtype
        Of the vectors.
    space
        What the vectors depend on, where they may be kept for other jobs; None: they are not kept.
    """

    def __init__(
        self, *, normalize: bool, dimension: int, dtype: npt.DTypeLike = np.float32, space: Space | None = None
    ) -> None:
        self._normalize = normalize
        self._space = space
        self.dimension = dimension
        self.dtype = np.dtype(dtype)
        self._known: OrderedDict[bytes, Floats] = OrderedDict()
        self._most = most_remembered(dimension, self.dtype)
        self._lock = Lock()

    @abstractmethod
    def computed(self, items: Sequence[Item]) -> tuple[Floats, dict[int, str]]:
        """The vectors of distinct things, shape (n_items, dimension), and why some of them have none, by position."""

    def vectors(self, items: Sequence[Item]) -> Floats:
        """The vector of each thing, shape (n_items, dimension); one that comes twice is computed once.

        Raises
        ------
        BadItems
            For those that have none. The others are remembered.
        """
        found = np.empty((len(items), self.dimension), self.dtype)
        bad: dict[int, str] = {}
        for start in range(0, len(items), ITEMS_AT_A_TIME):
            stop = start + ITEMS_AT_A_TIME
            reasons = self._fill(items[start:stop], found[start:stop])
            bad.update((start + i, reason) for i, reason in reasons.items())
        if bad:
            raise BadItems(bad)
        return found

    def _fill(self, items: Sequence[Item], found: Floats) -> dict[int, str]:
        missing: dict[bytes, list[int]] = {}
        keys = [_key(item) for item in items]
        with self._lock:
            for i, key in enumerate(keys):
                if key in self._known:
                    self._known.move_to_end(key)
                    found[i] = self._known[key]
                else:
                    missing.setdefault(key, []).append(i)
        if not missing:
            return {}
        made, reasons = self._made(list(missing), [items[rows[0]] for rows in missing.values()])
        bad: dict[int, str] = {}
        for i, rows in enumerate(missing.values()):
            found[rows] = made[i]
            bad.update(dict.fromkeys(rows, reasons[i]) if i in reasons else {})
        with self._lock:
            for i, key in enumerate(missing):
                if i not in reasons:
                    self._known[key] = made[i].copy()
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return bad

    def _made(self, keys: Sequence[bytes], items: Sequence[Item]) -> tuple[Floats, dict[int, str]]:
        """:meth:`computed`, but for what the job that is at work has already."""
        used = None if self._space is None else in_use()
        if self._space is None or used is None:
            return self.computed(items)
        memory, counts = used
        digests = np.array(keys, f"S{KEY_BYTES}")
        made = np.empty((len(items), self.dimension), self.dtype)
        new = np.flatnonzero(~memory.find(self._space, digests, counts, made))
        if not len(new):
            return made, {}
        made[new], reasons = self.computed([items[i] for i in new.tolist()])
        good = new[[i not in reasons for i in range(len(new))]]
        memory.add(self._space, digests[good], made[good])
        return made, {int(new[i]): reason for i, reason in reasons.items()}


def _key(item: str | bytes) -> bytes:
    return blake2b(item if isinstance(item, bytes) else item.encode(), digest_size=KEY_BYTES).digest()


class VectorColumn(ABC, Generic[Item]):
    """What the things of a column become.

    Parameters
    ----------
    transform, name
        The transform and the column, for errors.
    vectors
        What computes them.
    """

    def __init__(self, transform: str, name: str, vectors: RememberedVectors[Item]) -> None:
        self._transform = transform
        self._name = name
        self._vectors: RememberedVectors[Item] = vectors

    @abstractmethod
    def item(self, value: Any) -> Item:
        """A value of the column as what vectors are computed of; a BadItems when it cannot be one."""

    def arrow(self, array: pa.Array, leaf: pa.DataType) -> pa.Array:
        """The vectors of a column, shape (n_rows,); null for null."""
        size = self._vectors.dimension
        if pt.is_null(array.type):
            return pa.nulls(len(array), pa.list_(leaf, size))
        values, codes = dictionary_parts(without_views(array))
        used, places = np.unique(codes, return_inverse=True)
        if len(used) and used[0] < 0:
            used, places = used[1:], places - 1
        # One row more than there are values: where a place is -1, the zeros below a null are taken.
        vectors = np.zeros((len(used) + 1, size), self._vectors.dtype)
        vectors[:-1] = self._of_values(values.take(pa.array(used)), codes, used)
        return vector_array(vectors[places], codes < 0, leaf)

    def _of_values(self, values: pa.Array, codes: Codes, used: Codes) -> Floats:
        """The vectors of distinct values; by way of bytes, since Arrow does not check strings that it reads."""
        if pt.is_fixed_size_binary(values.type) or pt.is_string(values.type) or pt.is_large_string(values.type):
            values = pc.cast(values, pa.large_binary())
        items: list[Item] = []
        reasons: dict[int, str] = {}
        for i, value in enumerate(values.to_pylist()):
            try:
                items.append(self.item(value))
            except BadItems as error:
                reasons[i] = error.reasons[0]
        try:
            if not reasons:
                return self._vectors.vectors(items)
        except BadItems as error:
            reasons = error.reasons
        # One reason at a time: the engine sets these rows aside and asks again.
        first = reasons[min(reasons)]
        wrong = [int(used[i]) for i, reason in reasons.items() if reason == first]
        raise self._bad(first, np.flatnonzero(np.isin(codes, wrong)).tolist())

    def of_value(self, value: Any) -> list[float] | None:
        """The vector of one value."""
        if value is None:
            return None
        try:
            vector: list[float] = self._vectors.vectors([self.item(value)])[0].tolist()
        except BadItems as error:
            raise self._bad(error.reasons[0], [0]) from error
        return vector

    def _bad(self, reason: str, rows: list[int]) -> BadRows:
        return BadRows(f"{self._transform}({self._name!r}): {reason}", rows=rows, column=self._name)

"""Which airports of the demo's dataset mean something alike, by the vectors of their names.

A check that a person can judge at a glance: the vectors were made from names alone, so an airport's nearest neighbours
are those of the same city, of the same kind or in the same part of the country.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featuremill.artifacts.errors import RequestError, suggest

__all__ = ["Neighbour", "nearest", "nearest_airports"]

AIRPORTS = ("Chicago Ohare Intl", "Metropolitan Oakland Intl", "Orlando Intl")
NEIGHBOURS = 3


@dataclass(frozen=True)
class Neighbour:
    """A text, and the cosine between its vector and that of the text asked about."""

    name: str
    cosine: float


def nearest(
    names: pa.Array, vectors: pa.Array, asked: Sequence[str], count: int = NEIGHBOURS
) -> dict[str, list[Neighbour]]:
    """For each of the names asked about, the others whose vectors are nearest, nearest first.

    Parameters
    ----------
    names
        Texts, shape (n_rows,); of a text that comes several times the first vector counts, and nulls are left out.
    vectors
        Lists of numbers of one length, shape (n_rows,); none of a text is null.

    Raises
    ------
    RequestError
        For a name that does not occur.

    >>> vectors = pa.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], pa.list_(pa.float32(), 2))
    >>> nearest(pa.array(["a", "b", "c"]), vectors, ["a"], count=1)["a"][0].name
    'b'
    >>> nearest(pa.array(["apple"]), vectors[:1], ["aple"])
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.RequestError: There is no name 'aple'. Did you mean 'apple'?
    """
    encoded = names.dictionary_encode()
    known = encoded.dictionary.to_pylist()
    codes = encoded.indices.fill_null(-1).to_numpy()
    found, first = np.unique(codes, return_index=True)
    chosen = vectors.take(pa.array(first[found >= 0]))
    matrix = chosen.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(known), -1)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    for name in asked:
        if name not in known:
            raise RequestError(f"There is no name {name!r}. {suggest(name, known)}", name=name)
    result = {}
    for name in asked:
        cosines = matrix @ matrix[known.index(name)]
        others = [i for i in np.argsort(-cosines, kind="stable") if known[i] != name][:count]
        result[name] = [Neighbour(known[i], float(cosines[i])) for i in others]
    return result


def nearest_airports(dataset: str, split: str = "eval") -> dict[str, list[Neighbour]]:
    """The nearest neighbours of three airports, by the vectors in the dataset of the flights."""
    table = pq.read_table(Path(dataset) / split, columns=["dest_name", "dest_name_vector"]).combine_chunks()
    names, vectors = (table.column(c).chunk(0) for c in table.column_names)
    return nearest(names, vectors, AIRPORTS)

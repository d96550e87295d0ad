"""What workers write: the rows of one attempt at a fragment, wherever they go, and what they tell of them.

A sink makes attempts. An attempt takes rows by split, and ends in one of two ways: closed, it tells which shards hold
its rows, and they count if Beam takes the bundle for done; discarded, it leaves nothing that anybody will see.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from featuremill.core.files import Place
from featuremill.core.parquet_sink import ShardFile, remove_shard
from featuremill.transforms.arrays import value_type

__all__ = ["REJECTED", "UNSPLIT", "Attempt", "ParquetShards", "RowSink", "Shard", "letters_schema"]

UNSPLIT = "all"
"""The name of the one split of a job that has no split."""
REJECTED = "_rejected"
"""The folder of the dead letters in a run; readers of Parquet folders skip names that start with an underscore."""


@dataclass(frozen=True)
class Shard:
    """Rows of one split that a worker wrote."""

    split: str
    path: str
    """Of a file; or what else they are found by, see :class:`RowSink`."""
    rows: int
    bytes: int
    sha256: str

    @classmethod
    def of(cls, split: str, file: ShardFile) -> Shard:
        """A closed file as a shard of a split."""
        return cls(split, file.path, file.rows, file.bytes, file.sha256)


def letters_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of the dead letters of rows of `schema`."""
    texts = ("_reason", "_transform", "_column", "_fragment")
    columns = [pa.field(f.name, value_type(f.type)) for f in schema]
    return pa.schema([*columns, *(pa.field(n, pa.string()) for n in texts), pa.field("_row", pa.int64())])


class Attempt(Protocol):
    """One attempt at writing the rows of a fragment."""

    def write(self, split: str, batch: pa.RecordBatch) -> None:
        """Take rows of a split."""

    def close(self) -> tuple[Shard, ...]:
        """What was written; there are shards of splits with rows only."""

    def discard(self) -> None:
        """Forget it all."""


class RowSink(Protocol):
    """Where rows go; sent to the workers."""

    def attempt(self, fragment: str) -> Attempt:
        """A new attempt at a fragment."""

    def remove(self, shard: Shard) -> None:
        """Take away the shard of an attempt that was closed and does not count."""


@dataclass(frozen=True)
class ParquetShards:
    """Rows into Parquet files, one for each split of an attempt: ``folder/split/fragment.….parquet``.

    Parameters
    ----------
    folder
        Here or in a bucket; folders are made when there is a first row.
    compression
        A codec's name, or "none".
    """

    folder: str
    compression: str

    def attempt(self, fragment: str) -> Attempt:
        return _Files(self, f"{fragment}.{uuid.uuid4().hex}.parquet")

    def remove(self, shard: Shard) -> None:
        remove_shard(shard.path)


class _Files:
    def __init__(self, sink: ParquetShards, name: str) -> None:
        self._sink = sink
        self._name = name
        self._files: dict[str, ShardFile] = {}

    def write(self, split: str, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        if split not in self._files:
            path = Place(self._sink.folder) / split / self._name
            self._files[split] = ShardFile(path, batch.schema, self._sink.compression)
        self._files[split].write(batch)

    def close(self) -> tuple[Shard, ...]:
        shards = []
        for split, file in self._files.items():
            file.close()
            shards.append(Shard.of(split, file))
        return tuple(shards)

    def discard(self) -> None:
        for file in self._files.values():
            file.discard()

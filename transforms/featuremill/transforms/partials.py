"""Partials of statistics as they travel between workers: bytes, under the slot and the shard where they merge."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from featuremill.transforms.contract import Analyzer

__all__ = ["Packed", "Placed", "pack", "place", "unpack"]

Packed = tuple[str, bytes]
"""A slot's key and a partial."""

Placed = tuple[tuple[str, int], Packed]
"""A partial under its slot and shard."""


def place(slot: str, analyzer: Analyzer, partial: pa.Table, shards: int) -> Iterator[Placed]:
    """A partial cut into shards, each under its slot and shard, ready to travel."""
    for shard, piece in enumerate(analyzer.split(partial, shards)):
        yield (slot, shard), (slot, pack(piece))


def pack(table: pa.Table, *, compressed: bool = True) -> bytes:
    """A table as it travels between workers.

    As bytes, and not as a pickled table: Beam writes bytes into its buffers in one go, while a pickler gives other
    threads a turn with an element half written, which Beam 2.77 does not guard against. Compressed, since partials of
    large vocabularies pass through several buffers on their way; but for those that stand in another table.
    """
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd" if compressed else None)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def unpack(data: bytes) -> pa.Table:
    """What :func:`pack` packed."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()

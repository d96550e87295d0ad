"""What workers do with rows for a BigQuery table: into a pending stream, or into a file to be loaded.

Rows that were set aside go to files in any case.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from featuremill.core.bigquery.spec import BigQueryAccess, TableName
from featuremill.core.bigquery.write_stream import PendingStream
from featuremill.core.bigquery.write_types import converted
from featuremill.core.files import Place
from featuremill.core.parquet_sink import ShardFile, remove_shard
from featuremill.core.shards import REJECTED, Attempt, ParquetShards, Shard

__all__ = ["TableFiles", "TableStreams"]


@dataclass(frozen=True)
class TableStreams:
    """Rows into pending streams, one for each attempt; a shard's path is its stream's name.

    Parameters
    ----------
    access, table
        How to get there, and the table that streams are opened to.
    schema
        A :func:`~featuremill.core.bigquery.write_types.table_schema`, with the splits' column where there is one.
    split_column
        The column for the name of a row's split; the schema's last.
    aside
        Where rows go that were set aside.
    """

    access: BigQueryAccess
    table: TableName
    schema: pa.Schema
    split_column: str | None
    aside: ParquetShards

    def attempt(self, fragment: str) -> Attempt:
        return _TableAttempt(self, fragment)

    def remove(self, shard: Shard) -> None:
        """Take away the shard of an attempt that does not count; a stream that nobody commits goes by itself."""
        if shard.split == REJECTED:
            self.aside.remove(shard)

    def opened(self, fragment: str) -> PendingStream:
        """A new stream."""
        return PendingStream(self.access, self.table, self.schema)


@dataclass(frozen=True)
class TableFiles:
    """Rows into Parquet files, one for each attempt, that a load job takes. As :class:`TableStreams` otherwise.

    Parameters
    ----------
    folder
        Where: in Cloud Storage.
    """

    folder: str
    schema: pa.Schema
    split_column: str | None
    aside: ParquetShards

    def attempt(self, fragment: str) -> Attempt:
        return _TableAttempt(self, fragment)

    def remove(self, shard: Shard) -> None:
        """Take away the shard of an attempt that does not count."""
        remove_shard(shard.path)

    def opened(self, fragment: str) -> ShardFile:
        """A new file."""
        return ShardFile(Place(self.folder) / f"{fragment}.{uuid.uuid4().hex}.parquet", self.schema, "snappy")


class _TableAttempt:
    def __init__(self, sink: TableStreams | TableFiles, fragment: str) -> None:
        self._sink = sink
        self._fragment = fragment
        self._aside = sink.aside.attempt(fragment)
        self._rows: PendingStream | ShardFile | None = None
        self._counts: Counter[str] = Counter()

    def write(self, split: str, batch: pa.RecordBatch) -> None:
        if split == REJECTED:
            self._aside.write(split, batch)
            return
        if not batch.num_rows:
            return
        if self._rows is None:
            self._rows = self._sink.opened(self._fragment)
        if self._sink.split_column is not None:
            batch = batch.append_column(self._sink.split_column, pa.repeat(pa.scalar(split), batch.num_rows))
        self._rows.write(converted(batch, self._sink.schema))
        self._counts[split] += batch.num_rows

    def close(self) -> tuple[Shard, ...]:
        aside = self._aside.close()
        if self._rows is None:
            return aside
        self._rows.close()
        path = self._rows.path
        return (*(Shard(split, path, rows, 0, "") for split, rows in self._counts.items()), *aside)

    def discard(self) -> None:
        self._aside.discard()
        if self._rows is not None:
            self._rows.discard()

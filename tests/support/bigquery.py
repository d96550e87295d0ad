"""BigQuery on this machine: bqemulator as a process, and tables loaded into it as into the real thing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featuremill.core.bigquery.client import jobs_client
from featuremill.core.bigquery.spec import BigQueryAccess
from support.servers import free_port, running, servers_bin

__all__ = ["PROJECT", "LocalBigQuery", "bigquery_types", "local_bigquery"]

PROJECT = "local"
MESSAGE_BYTES = 256 << 20
"""The server sends 65,536 rows at a time, the real one a megabyte or so. What is larger than its limit for writing, by
default 10 MiB, it neither sends nor reports."""


@dataclass(frozen=True)
class LocalBigQuery:
    """A server, and how to get to it."""

    endpoint: str
    storage_endpoint: str

    @property
    def keys(self) -> dict[str, str]:
        """What a job file says to get here."""
        return {"endpoint": self.endpoint, "storage_endpoint": self.storage_endpoint, "billing_project": PROJECT}

    @property
    def client(self) -> Any:
        return jobs_client(BigQueryAccess(**self.keys))

    def load(self, name: str, table: pa.Table, types: dict[str, str] | None = None) -> str:
        """The table's full name, once it holds these rows; `name` is ``dataset.table``, replaced if it is there.

        `types` are BigQuery's, where Parquet does not tell them.
        """
        from google.cloud import bigquery

        self.client.create_dataset(name.partition(".")[0], exists_ok=True, retry=None)
        self.client.delete_table(name, not_found_ok=True, retry=None)
        fields = [bigquery.SchemaField(f.name, (types or {}).get(f.name, _type_name(f.type))) for f in table.schema]
        config = bigquery.LoadJobConfig(source_format="PARQUET", schema=fields)
        content = io.BytesIO()
        pq.write_table(table, content)
        content.seek(0)
        self.client.load_table_from_file(content, name, job_config=config).result(retry=None)
        return f"{PROJECT}.{name}"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query; for statements as well."""
        return [tuple(row) for row in self.client.query(sql, retry=None, job_retry=None).result(retry=None)]

    def tables(self, dataset: str) -> Sequence[str]:
        return sorted(t.table_id for t in self.client.list_tables(dataset, retry=None))


def _type_name(type_: pa.DataType) -> str:
    names = {
        pa.string(): "STRING",
        pa.int64(): "INTEGER",
        pa.float64(): "FLOAT",
        pa.bool_(): "BOOLEAN",
        pa.binary(): "BYTES",
        pa.date32(): "DATE",
        pa.timestamp("us"): "DATETIME",
        pa.timestamp("us", tz="UTC"): "TIMESTAMP",
        pa.decimal128(38, 9): "NUMERIC",
        pa.time64("us"): "TIME",
    }
    return names[type_]


def bigquery_types(table: pa.Table) -> pa.Table:
    """The table with the types that BigQuery has: whole numbers are int64, and every column may be null."""
    fields = [(f.name, pa.int64() if pa.types.is_integer(f.type) else f.type) for f in table.schema]
    return table.cast(pa.schema(fields))


@contextlib.contextmanager
def local_bigquery() -> Iterator[LocalBigQuery]:
    """A server without any data, for as long as the block lasts."""
    rest, grpc = free_port(), free_port()
    command = [servers_bin("bqemulator"), "start", "--rest-port", str(rest), "--grpc-port", str(grpc)]
    options = ["--project", PROJECT, "--log-level", "error"]
    env = {"BQEMU_WRITE_API_MAX_REQUEST_BYTES": str(MESSAGE_BYTES)}
    with running([*command, *options], ports=[rest, grpc], env=env):
        yield LocalBigQuery(f"http://127.0.0.1:{rest}", f"127.0.0.1:{grpc}")

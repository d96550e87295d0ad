"""What a job file says of BigQuery: how to get there, and which rows."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from featuremill.core.streaming.durations import Seconds
from featuremill.core.strict import Strict

__all__ = ["BigQueryAccess", "BigQuerySpec", "TableName", "is_local_endpoint", "table_name"]

PROJECT = r"(?:[a-z0-9.-]+:)?[a-z0-9-]+"
"""A project; old ones have a domain before it."""
TABLE = re.compile(rf"(?:({PROJECT})[.:])?([A-Za-z0-9_]+)\.([^.`'\"\\$*/\n]+)")
DATASET = re.compile(rf"(?:{PROJECT}[.:])?[A-Za-z0-9_]+")
LOCAL = re.compile(r"(?:http://)?(?:localhost|127\.\d+\.\d+\.\d+|\[::1\]):\d+/?")
MOST_STREAMS = 1000
"""More than this the service gives no session."""


class TableName(Strict):
    """A table's full name.

    >>> str(TableName(project="p", dataset="d", table="t")), TableName(project="p", dataset="d", table="t").path
    ('p.d.t', 'projects/p/datasets/d/tables/t')
    """

    project: str
    dataset: str
    table: str

    def __str__(self) -> str:
        return f"{self.project}.{self.dataset}.{self.table}"

    @property
    def path(self) -> str:
        """As the Storage API writes it."""
        return f"projects/{self.project}/datasets/{self.dataset}/tables/{self.table}"


def table_name(text: str, project: str = "") -> TableName:
    """The parts of ``project.dataset.table``, or of ``dataset.table`` in `project`.

    Raises
    ------
    ValueError
        When it is no name of a table.

    >>> str(table_name("example.com:old.d.t")), str(table_name("d.t", "p"))
    ('example.com:old.d.t', 'p.d.t')
    >>> table_name("flights")
    Traceback (most recent call last):
    ValueError: a table is written project.dataset.table, got 'flights'
    """
    match = TABLE.fullmatch(text)
    if match is None:
        raise ValueError(f"a table is written project.dataset.table, got {text!r}")
    return TableName(project=match[1] or project, dataset=match[2], table=match[3])


def is_local_endpoint(endpoint: str | None) -> bool:
    """Whether an endpoint is a server of this machine, which is spoken to without encryption and credentials.

    >>> is_local_endpoint("http://127.0.0.1:9050"), is_local_endpoint("https://bigquery.googleapis.com")
    (True, False)
    """
    return endpoint is not None and LOCAL.fullmatch(endpoint) is not None


class BigQueryAccess(Strict):
    """How to get to BigQuery; by default as all of Google's programs do, by the environment.

    >>> BigQueryAccess(endpoint="http://localhost:9050")
    Traceback (most recent call last):
    ...
    pydantic_core._pydantic_core.ValidationError: 1 validation error for BigQueryAccess
      Value error, endpoint and storage_endpoint are both of this machine or neither is, got 'http://localhost:9050' and
      None ...
    """

    billing_project: str | None = None
    """The project that jobs and read sessions are billed to; by default the environment's, then the table's own."""
    quota_project: str | None = None
    """The project whose quota is used, where it is another."""
    location: str | None = None
    """Where jobs run, such as ``EU``; by default where the tables are."""
    credentials: str | None = None
    """A service account's key file, or ``env:NAME`` for an environment variable that holds its path. By default
    Google's application default credentials, which on Dataflow are the workers' service account."""
    endpoint: str | None = None
    """Another REST endpoint, such as ``http://127.0.0.1:9050`` of a local server."""
    storage_endpoint: str | None = None
    """Another endpoint of the Storage API, ``host:port``."""

    @field_validator("credentials")
    @classmethod
    def _a_reference(cls, value: str | None) -> str | None:
        if value is not None and value.lstrip().startswith("{"):
            # The value must not be shown: it may well be a key.
            raise ValueError("credentials are named, never written into a job file: a path, or env:NAME")
        return value

    @model_validator(mode="after")
    def _local_or_not(self) -> BigQueryAccess:
        if is_local_endpoint(self.endpoint) != is_local_endpoint(self.storage_endpoint):
            raise ValueError(
                "endpoint and storage_endpoint are both of this machine or neither is, got "
                f"{self.endpoint!r} and {self.storage_endpoint!r}"
            )
        return self


def _moment(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"a moment is written 2026-01-31T12:00:00Z, got {value!r}") from None
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


class BigQuerySpec(BigQueryAccess):
    """Rows of a BigQuery table, or of a query.

    >>> BigQuerySpec(table="p.d.t").fragment_rows
    250000
    >>> BigQuerySpec(query="select 1", where="x = 1", temporary_dataset="p.d")
    Traceback (most recent call last):
    ...
    pydantic_core._pydantic_core.ValidationError: 1 validation error for BigQuerySpec
      Value error, where goes with table; a query says it itself ...
    """

    table: str | None = None
    """``project.dataset.table``."""
    query: str | None = None
    """Or a query, one SELECT in GoogleSQL. It runs once for each run, into a temporary table."""
    columns: list[str] | None = None
    """Which columns of the table; without it, all."""
    where: str | None = None
    """Which rows of the table, as a SQL condition; BigQuery itself leaves the others out."""
    snapshot_time: Annotated[datetime, BeforeValidator(_moment)] | None = None
    """The table as it was then, up to seven days ago; by default as it is when the run begins."""
    temporary_dataset: str | None = None
    """``project.dataset`` for the temporary table of a query."""
    temporary_for: Seconds = 86_400.0
    """After so long BigQuery itself removes the temporary table, should the run not have done so."""
    max_bytes_billed: Annotated[int, Field(gt=0)] | None = None
    """A query that would read more fails, and costs nothing."""
    fragment_rows: Annotated[int, Field(gt=0)] = 250_000
    """About how many rows a fragment has: one stream, the unit of work, retry and output shards. BigQuery may give
    fewer streams, and for a small table gives one."""
    max_streams: Annotated[int, Field(gt=0, le=MOST_STREAMS)] = MOST_STREAMS
    """At most so many streams."""
    batch_rows: Annotated[int, Field(gt=0)] = 131_072
    """How many rows are in memory at a time, for each worker."""

    @field_validator("table")
    @classmethod
    def _a_table(cls, value: str | None) -> str | None:
        if value is not None:
            if "*" in value or "$" in value:
                raise ValueError(f"{value!r}: for several tables or one partition write a query, or a where")
            table_name(value)
        return value

    @field_validator("temporary_dataset")
    @classmethod
    def _a_dataset(cls, value: str | None) -> str | None:
        if value is not None and not DATASET.fullmatch(value):
            raise ValueError(f"a dataset is written project.dataset, got {value!r}")
        return value

    @model_validator(mode="after")
    def _table_or_query(self) -> BigQuerySpec:
        if (self.table is None) == (self.query is None):
            raise ValueError(f"bigquery needs one of table and query, got {'both' if self.table else 'neither'}")
        if self.query is None:
            wrong = next((n for n in ("temporary_dataset", "max_bytes_billed") if getattr(self, n) is not None), None)
            if wrong is not None:
                raise ValueError(f"{wrong} goes with query")
            return self
        if self.temporary_dataset is None:
            raise ValueError("a query needs temporary_dataset, project.dataset, for the table that holds its result")
        wrong = next((n for n in ("columns", "where", "snapshot_time") if getattr(self, n) is not None), None)
        if wrong is not None:
            raise ValueError(f"{wrong} goes with table; a query says it itself")
        return self

    @property
    def access(self) -> BigQueryAccess:
        """The part of it that says how to get there."""
        return BigQueryAccess.model_validate(self.model_dump(include=set(BigQueryAccess.model_fields)))

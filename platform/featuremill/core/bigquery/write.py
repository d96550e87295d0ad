"""A BigQuery table as the place that a run's rows go to.

Rows never go to a table that others read before all of them are there. To a table that is created or replaced they go
by way of a temporary one, and from there by one statement; to a table that is appended to they go by pending streams,
committed together. A load job is one step by itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from featuremill.artifacts.buckets import is_bucket
from featuremill.artifacts.errors import FeaturemillError, JobError, ParameterError, RequestError
from featuremill.artifacts.store import open_store
from featuremill.core.bigquery.client import billed, jobs_client, missing_table, patience, told
from featuremill.core.bigquery.spec import BigQueryAccess, TableName, is_local_endpoint, table_name
from featuremill.core.bigquery.write_sink import TableFiles, TableStreams
from featuremill.core.bigquery.write_spec import BigQueryTable
from featuremill.core.bigquery.write_statement import (
    check_clustering,
    expiry,
    load_config,
    partitions_by,
    statement,
    type_text,
)
from featuremill.core.bigquery.write_stream import NEEDED, PendingStream
from featuremill.core.bigquery.write_types import converted, misfit, schema_fields, table_schema
from featuremill.core.files import Place
from featuremill.core.shards import REJECTED, ParquetShards, Shard

__all__ = ["RUN", "TableOutput", "clean_up"]

LOG = logging.getLogger(__name__)
RUN = "_run"
"""The column of a table of dead letters that says which run they are of."""


class TableOutput:
    """The table of a run: looked at when the job is planned, written to while it runs.

    Parameters
    ----------
    spec
        What the job file says of it.
    schema
        Of the rows.
    split_column
        The column that is added for the name of a row's split; None: none.
    letters
        The schema of rows that are set aside.
    place
        The run's folder.

    Raises
    ------
    RequestError
        When the dataset is not there or may not be written to, the table is there and must not, or the rows do not fit
        it, in names, types or otherwise.
    """

    def __init__(
        self, spec: BigQueryTable, schema: pa.Schema, split_column: str | None, letters: pa.Schema, place: str
    ) -> None:
        self._spec = spec
        self._split = split_column
        if split_column is not None:
            if split_column in schema.names:
                raise ParameterError(
                    f"split_column: the rows have a column {split_column!r} already. Choose another name.",
                    parameter="split_column",
                    value=split_column,
                )
            schema = schema.append(pa.field(split_column, pa.string()))
        self.schema = table_schema(schema)
        self._letters = table_schema(letters.append(pa.field(RUN, pa.string()))) if spec.dead_letters else None
        self._place = place
        self._partition = partitions_by(spec.partition_by, self.schema)
        check_clustering(spec.cluster_by or (), self.schema)
        named = table_name(spec.table)
        self._access = billed(spec.access, named.project or None)
        self.table = self._named(named)
        self._location = self._dataset(self.table).location
        self._there = self._fitting(self.table, self.schema, "table") is not None
        if self._there and spec.write == "create":
            raise RequestError(
                f"table: {self.table} is there already, and write: create makes a new one. Choose another name, or "
                "write: replace or append.",
                parameter="table",
                value=str(self.table),
            )
        if spec.dead_letters is not None and self._letters is not None:
            self._aside = self._named(table_name(spec.dead_letters))
            self._dataset(self._aside)
            self._fitting(self._aside, self._letters, "dead_letters")
        if spec.method == "load":
            self._check_staging()
        self._temporary: TableName | None = None
        self._folder: Place | None = None

    def describe(self) -> dict[str, Any]:
        """What is written and how, JSON-ready: for plans and provenance."""
        spec = self._spec
        return {
            "kind": "bigquery",
            "table": str(self.table),
            "write": spec.write,
            "there": self._there,
            "method": spec.method,
            "partition_by": self._partition,
            "cluster_by": spec.cluster_by,
            "dead_letters": str(self._aside) if self._letters is not None else None,
            "schema": [{"name": f.name, "type": type_text(f.type)} for f in self.schema],
        }

    # --- while the job runs -----------------------------------------------------------------------------------------

    def open(self, run: str) -> None:
        """Make what rows wait in; nothing that anybody reads changes.

        Raises
        ------
        JobError
            When that is refused.
        """
        self._run = run
        self._attempt = f"featuremill_{_plain(run)}_{secrets.token_hex(8)}"
        if self._spec.method == "load":
            above = self._spec.staging or os.path.dirname(self._place)
            above = above if is_bucket(above) else os.path.abspath(os.path.expanduser(above))
            _remove(above, f".{run}.load")
            self._folder = Place(above) / f".{run}.load" / self._attempt
        elif not self._appends:
            self._temporary = self.table.model_copy(update={"table": self._attempt})
            expires = datetime.now(UTC) + timedelta(seconds=self._spec.temporary_for)
            self._make(self._temporary, self.schema, expires)

    def sink(self, aside: ParquetShards) -> TableFiles | TableStreams:
        """What workers write with; rows that are set aside go to `aside`."""
        if self._folder is not None:
            return TableFiles(self._folder, self.schema, self._split, aside)
        return TableStreams(self._access, self._temporary or self.table, self.schema, self._split, aside)

    def commit_of(self, shards: Sequence[Shard]) -> dict[str, Any]:
        """The commit of the shards that count, see :func:`~featuremill.core.bigquery.write_commit.make_commit`."""
        paths = list(dict.fromkeys(s.path for s in shards if s.split != REJECTED))
        if self._folder is not None and not paths:
            # A load job needs a file, and a table without rows is a table.
            empty = TableFiles(self._folder, self.schema, None, ParquetShards(self._folder, "none")).opened("empty")
            empty.close()
            paths = [empty.path]
        found: dict[str, Any] = {
            "access": self._access.model_dump(),
            "table": str(self.table),
            "rows": sum(s.rows for s in shards if s.split != REJECTED),
            "into": str(self._temporary or self.table),
            "streams": [] if self._folder is not None else paths,
            "job": None,
            "expires": None,
        }
        if self._folder is not None:
            uris = [path if is_bucket(path) else f"file://{path}" for path in paths]
            config = load_config(self._spec, None if self._appends else self.schema)
            found["job"] = {**self._job, "load": config, "uris": uris}
            if self._spec.expiration is not None and not self._appends:
                found["expires"] = expiry(self._spec.expiration).isoformat()
        elif self._temporary is not None:
            found["job"] = {**self._job, "sql": statement(self._spec, self.table, self._temporary, self._partition)}
        return found

    def letters(self, batches: Iterator[pa.RecordBatch]) -> dict[str, Any] | None:
        """Rows set aside, in a stream of their own, and its commit; None where no table was asked for.

        Raises
        ------
        JobError
            When they cannot be written.
        """
        if self._letters is None:
            return None
        if self._fitting(self._aside, self._letters, "dead_letters") is None:
            self._make(self._aside, self._letters, None)
        stream = PendingStream(self._access, self._aside, self._letters)
        try:
            for batch in batches:
                whole = batch.append_column(RUN, pa.repeat(pa.scalar(self._run), batch.num_rows))
                stream.write(converted(whole, self._letters))
            stream.close()
        except BaseException:
            stream.discard()
            raise
        return {
            "access": self._access.model_dump(),
            "table": str(self._aside),
            "rows": stream.rows,
            "into": str(self._aside),
            "streams": [stream.path],
            "job": None,
            "expires": None,
        }

    def leftovers(self) -> dict[str, Any]:
        """What :func:`clean_up` has to take away, by exact name."""
        return {
            "access": self._access.model_dump(),
            "temporary": str(self._temporary) if self._temporary else None,
            "folder": str(self._folder) if self._folder else None,
        }

    # --- looking ----------------------------------------------------------------------------------------------------

    @property
    def _appends(self) -> bool:
        return self._spec.write == "append" and self._there

    @property
    def _job(self) -> dict[str, Any]:
        return {"id": self._attempt, "location": self._access.location or self._location}

    def _named(self, table: TableName) -> TableName:
        return table if table.project else table.model_copy(update={"project": self._access.billing_project})

    def _dataset(self, table: TableName) -> Any:
        from google.api_core.exceptions import NotFound
        from google.cloud.bigquery import DEFAULT_RETRY

        client, seconds = jobs_client(self._access), patience(self._access)
        place = f"{table.project}.{table.dataset}"
        with told(f"looking at {place}", needed=NEEDED, parameter="table", value=str(table)):
            try:
                return client.get_dataset(place, retry=DEFAULT_RETRY.with_timeout(seconds), timeout=seconds)
            except NotFound:
                raise missing_table(client, table, seconds) from None

    def _fitting(self, table: TableName, schema: pa.Schema, parameter: str) -> Any:
        """The table where there is one; one that is appended to takes the rows."""
        from google.api_core.exceptions import NotFound
        from google.cloud.bigquery import DEFAULT_RETRY

        client, seconds = jobs_client(self._access), patience(self._access)
        with told(f"looking at {table}", needed=NEEDED, parameter=parameter, value=str(table)):
            try:
                found = client.get_table(str(table), retry=DEFAULT_RETRY.with_timeout(seconds), timeout=seconds)
            except NotFound:
                return None
        if found.table_type != "TABLE":
            raise RequestError(
                f"{parameter}: {table} is a {found.table_type.replace('_', ' ').lower()}, and rows go to tables only.",
                parameter=parameter,
                value=str(table),
            )
        why = misfit(schema_fields(schema), list(found.schema))
        if why is not None and (parameter == "dead_letters" or self._spec.write == "append"):
            raise RequestError(
                f"{parameter}: the rows cannot be appended to {table}: {why}. Change the table or the job, or choose "
                "another table.",
                parameter=parameter,
                value=str(table),
            )
        return found

    def _check_staging(self) -> None:
        place = self._spec.staging or self._place
        local = is_local_endpoint(self._access.endpoint) and not is_bucket(place)
        if not place.startswith("gs://") and not local:
            raise ParameterError(
                f"staging: a load job reads from Cloud Storage, and the files would be in {place}. Set staging to a "
                "place there, gs://bucket/path.",
                parameter="staging",
                value=place,
            )

    # --- making -----------------------------------------------------------------------------------------------------

    def _make(self, table: TableName, schema: pa.Schema, expires: datetime | None) -> None:
        from google.cloud.bigquery import DEFAULT_RETRY, Table

        made = Table(str(table), schema=schema_fields(schema))
        made.expires = expires
        seconds = patience(self._access)
        with told(f"making {table}", kind=JobError, needed=NEEDED, table=str(table)):
            jobs_client(self._access).create_table(
                made, exists_ok=True, retry=DEFAULT_RETRY.with_timeout(seconds), timeout=seconds
            )


def clean_up(leftovers: Mapping[str, Any]) -> None:
    """Take away what rows waited in; what cannot be, is told, and expires by itself."""
    from google.cloud.bigquery import DEFAULT_RETRY

    access, table = BigQueryAccess.model_validate(leftovers["access"]), leftovers["temporary"]
    seconds = patience(access)
    try:
        if leftovers["folder"] is not None:
            above, name = os.path.split(leftovers["folder"])
            _remove(above, name)
            if not is_bucket(above):
                with contextlib.suppress(OSError):
                    os.rmdir(above)
        if table is not None:
            with told(f"dropping {table}", kind=JobError, needed=NEEDED):
                jobs_client(access).delete_table(
                    table, not_found_ok=True, retry=DEFAULT_RETRY.with_timeout(seconds), timeout=seconds
                )
    except FeaturemillError as error:
        LOG.warning("%s What is left: %s", error, leftovers["folder"] or f"{table}, which expires by itself")


def _remove(above: str, name: str) -> None:
    """Take away a folder of files, here or in a bucket."""
    store = open_store(above)
    folder = store.local_path(name)
    if folder is None:
        store.remove(name)
        return
    shutil.rmtree(folder, ignore_errors=True)


def _plain(run: str) -> str:
    """A run's name as part of a table's and a job's."""
    return "".join(c if c.isalnum() else "_" for c in run)[:64]

"""A query as a source of rows: run once for each run of a job, into a table that is read like any other.

The table has a name that nobody else uses, in a dataset that the job names. It is dropped by that very name when the
run ends, well or not; should even that fail, it expires by itself. Nothing is ever looked for by pattern or label.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa

from featuremill.artifacts.errors import FeaturemillError, JobError, RequestError
from featuremill.core.bigquery.client import CALL_SECONDS, billed, jobs_client, patience, told
from featuremill.core.bigquery.fragment import BigQueryFragment
from featuremill.core.bigquery.source import BigQuerySource, moment
from featuremill.core.bigquery.spec import BigQueryAccess, BigQuerySpec, TableName, table_name
from featuremill.core.bigquery.types import arrow_schema

__all__ = ["BigQueryQuery", "open_bigquery"]

LOG = logging.getLogger(__name__)


def open_bigquery(spec: BigQuerySpec) -> BigQuerySource | BigQueryQuery:
    """The source that a job file describes."""
    return BigQuerySource(spec) if spec.query is None else BigQueryQuery(spec)


@dataclass(frozen=True)
class BigQueryQuery:
    """The rows of a query; what can be known before it runs, and :meth:`reading` to run it.

    Parameters
    ----------
    spec
        What a job file says of it; with a query, not a table.
    """

    spec: BigQuerySpec

    @property
    def schema(self) -> pa.Schema:
        """The columns that the query gives.

        Raises
        ------
        RequestError
            When BigQuery refuses the query, or it is anything but one SELECT.
        """
        return arrow_schema(self._checked.schema)

    @property
    def rows(self) -> int | None:
        """Unknown until the query has run."""
        return None

    def fragments(self, reads: Sequence[Sequence[str]] = ()) -> list[BigQueryFragment]:
        """None: there is nothing to read before the query has run."""
        return []

    def describe(self) -> dict[str, Any]:
        """What the source is, JSON-ready. ``bytes_processed`` is what BigQuery says that the query will read."""
        text = self._query
        return {
            "kind": "bigquery",
            **self._facts,
            "rows": None,
            "bytes": None,
            "digest": "sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        }

    @contextmanager
    def reading(self) -> Iterator[BigQuerySource]:
        """The query's result as a table, for as long as the block lasts.

        Raises
        ------
        JobError
            When the query fails, or gives other columns than planned.
        """
        table, access = self._temporary, self._access
        expires = datetime.now(UTC) + timedelta(seconds=self.spec.temporary_for)
        try:
            self._materialise(table, expires)
            LOG.info("BigQuery: the query's result is in %s", table)
            source = BigQuerySource(
                self.spec.model_copy(
                    update={"table": str(table), "query": None, "billing_project": access.billing_project}
                ),
                result_of=self._facts,
            )
            if source.schema != self.schema:
                raise JobError(
                    f"The query gave other columns than planned:\n{source.schema.to_string()}\ninstead of\n"
                    f"{self.schema.to_string()}\nRun again.",
                    table=str(table),
                )
            yield source
        finally:
            self._drop(table, expires)

    # --- the query --------------------------------------------------------------------------------------------------

    @property
    def _query(self) -> str:
        return str(self.spec.query).strip().rstrip(";")

    @property
    def _facts(self) -> dict[str, Any]:
        return {"query": self._query, "bytes_processed": int(self._checked.total_bytes_processed or 0)}

    @cached_property
    def _dataset(self) -> TableName:
        """The temporary dataset, as the name of a table in it."""
        return table_name(f"{self.spec.temporary_dataset}.t")

    @cached_property
    def _access(self) -> BigQueryAccess:
        return billed(self.spec.access, self._dataset.project or None)

    @property
    def _temporary(self) -> TableName:
        name = f"featuremill_{datetime.now(UTC):%Y%m%dT%H%M%S}_{secrets.token_hex(8)}"
        project = self._dataset.project or self._access.billing_project
        return self._dataset.model_copy(update={"project": project, "table": name})

    @cached_property
    def _checked(self) -> Any:
        """The query as BigQuery understands it; it is not run."""
        from google.cloud.bigquery import DEFAULT_RETRY, QueryJobConfig

        config = QueryJobConfig(dry_run=True, use_query_cache=False)
        seconds = patience(self._access)
        with told("checking the query", parameter="query"):
            job = jobs_client(self._access).query(
                self._query, job_config=config, retry=DEFAULT_RETRY.with_timeout(seconds), job_retry=None
            )
        if job.statement_type != "SELECT":
            raise RequestError(
                f"query: this is {job.statement_type}, expected one SELECT. A job only reads.",
                parameter="query",
                value=job.statement_type,
            )
        return job

    def _materialise(self, table: TableName, expires: datetime) -> None:
        from google.cloud.bigquery import DEFAULT_RETRY, QueryJobConfig

        config = QueryJobConfig(maximum_bytes_billed=self.spec.max_bytes_billed)
        retry = DEFAULT_RETRY.with_timeout(patience(self._access))
        # The query stands on lines of its own, so that a comment at its end is only that.
        sql = f"CREATE TABLE `{table}` OPTIONS(expiration_timestamp={moment(expires)}) AS\n{self._query}\n"
        with told(f"running the query into {table}", kind=JobError, parameter="query"):
            jobs_client(self._access).query(sql, job_config=config, retry=retry, job_retry=None).result(retry=retry)

    def _drop(self, table: TableName, expires: datetime) -> None:
        from google.cloud.bigquery import DEFAULT_RETRY

        seconds = patience(self._access)
        try:
            with told(f"dropping {table}", kind=JobError):
                jobs_client(self._access).delete_table(
                    str(table), not_found_ok=True, retry=DEFAULT_RETRY.with_timeout(seconds), timeout=CALL_SECONDS
                )
        except FeaturemillError as error:
            LOG.warning("%s The table expires by itself at %s.", error, expires.isoformat(timespec="seconds"))

"""A BigQuery table as a source of rows.

Planning looks at the table's metadata, counts its rows, and opens a read session that nobody reads; all three are free
of charge. So a permission that is missing, a column that is not there and a condition that BigQuery does not take are
told before anything runs, and the columns have the types that the rows will come in.

All sessions of a source read the table as it was at one moment, settled when the source is made: the passes of a job
see the same rows, whatever is written meanwhile. That takes a clock that is right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NoReturn

import pyarrow as pa

from featuremill.artifacts.errors import JobError, MissingColumnError, ParameterError, RequestError, suggest
from featuremill.core.bigquery.client import (
    CALL_SECONDS,
    billed,
    jobs_client,
    missing_table,
    patience,
    read_client,
    told,
)
from featuremill.core.bigquery.fragment import BigQueryFragment, SessionStreams
from featuremill.core.bigquery.restriction import row_restriction
from featuremill.core.bigquery.spec import BigQueryAccess, BigQuerySpec, TableName, table_name
from featuremill.core.bigquery.types import arrow_schema, declared_schema
from featuremill.core.where import Where

__all__ = ["BigQuerySource", "moment"]

READABLE = frozenset({"TABLE", "SNAPSHOT"})
"""Kinds of tables that the Storage Read API reads as they were at a moment."""


def moment(when: datetime) -> str:
    """A moment in GoogleSQL.

    >>> moment(datetime(2026, 1, 31, 12, tzinfo=UTC))
    "TIMESTAMP '2026-01-31 12:00:00.000000+00'"
    """
    return f"TIMESTAMP '{when.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'"


@dataclass(frozen=True)
class _Plan:
    """What planning found, once."""

    table: TableName
    access: BigQueryAccess
    fields: tuple[Any, ...]
    restriction: str
    schema: pa.Schema
    rows: int
    bytes: int
    modified: datetime


@dataclass(frozen=True)
class BigQuerySource:
    """Rows of a BigQuery table.

    Parameters
    ----------
    spec
        What a job file says of it; with a table, not a query.
    result_of
        For a table that holds a query's result: facts for :meth:`describe`. Nobody else writes such a table, so it is
        read as it is.

    Examples
    --------
    ::

        source = BigQuerySource(BigQuerySpec(table="my-project.flights.y2013", where="dep_delay >= 0"))
        for fragment in source.fragments([["origin"]]):
            for batch in fragment.batches(["origin"]):
                ...
    """

    spec: BigQuerySpec
    result_of: Mapping[str, Any] | None = None
    snapshot: datetime = field(init=False)

    def __post_init__(self) -> None:
        now = datetime.now(UTC)
        if self.spec.snapshot_time is not None and self.spec.snapshot_time > now:
            raise ParameterError(
                f"snapshot_time got {self.spec.snapshot_time.isoformat()}, which is still to come.",
                parameter="snapshot_time",
                value=self.spec.snapshot_time.isoformat(),
            )
        object.__setattr__(self, "snapshot", self.spec.snapshot_time or now)

    @property
    def schema(self) -> pa.Schema:
        """The columns of every batch, with their exact types; all nullable, no metadata.

        Raises
        ------
        RequestError
            When the table is not there, may not be read, or the columns or the filter do not fit it.
        """
        return self._plan.schema

    @property
    def rows(self) -> int | None:
        """How many rows the fragments give; None under a filter."""
        return self._plan.rows if self.spec.where is None else None

    def reading(self) -> AbstractContextManager[BigQuerySource]:
        """The source to read from, within the block: itself."""
        return nullcontext(self)

    def fragments(self, reads: Sequence[Sequence[str]] = ()) -> list[BigQueryFragment]:
        """The rows in pieces; one read session is opened for each of `reads`, the sets of columns to be read.

        Without `reads` nothing is opened, and the fragments can be counted but not read. A session lives for six hours.

        Raises
        ------
        JobError
            When the table's columns are others than those of the plan.
        """
        plan = self._plan
        count = min(self.spec.max_streams, -(-plan.rows // self.spec.fragment_rows))
        wanted = {frozenset(columns): list(columns) for columns in reads}
        if not count:
            return []
        # A session without columns gives them all; to count rows, one will do.
        sessions = [self._opened(columns or plan.schema.names[:1], count) for columns in wanted.values()]
        width = max(5, len(str(count)))
        return [
            BigQueryFragment(
                key=f"{i:0{width}d}",
                table=str(plan.table),
                schema=plan.schema,
                sessions=tuple(SessionStreams(s.columns, s.streams[i::count]) for s in sessions),
                access=plan.access,
                bytes=plan.bytes // count,
                batch_rows=self.spec.batch_rows,
            )
            for i in range(count)
        ]

    def describe(self) -> dict[str, Any]:
        """What the source is, JSON-ready: for plans and provenance.

        ``rows`` are the table's at the snapshot, before the filter (where the table insists on a filter: after it),
        ``bytes`` its logical size. ``digest`` is the same as long as nobody writes to the table.
        """
        plan = self._plan
        stamp: list[Any] = [str(plan.table), min(plan.modified, self.snapshot).isoformat()]
        if self.result_of is not None:
            stamp = [dict(self.result_of)]
        listing = [*stamp, plan.rows, plan.bytes, [[f.name, str(f.type)] for f in plan.schema]]
        text = json.dumps(listing, ensure_ascii=False, separators=(",", ":"))
        return {
            "kind": "bigquery",
            **(self.result_of or {}),
            "table": str(plan.table),
            "where": None if self.spec.where is None else str(Where(self.spec.where)),
            "columns": None if self.spec.columns is None else list(self.spec.columns),
            "snapshot_time": None if self.result_of else self.snapshot.astimezone(UTC).isoformat(),
            "billing_project": plan.access.billing_project,
            "rows": plan.rows,
            "bytes": plan.bytes,
            "digest": "sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        }

    # --- planning ---------------------------------------------------------------------------------------------------

    @cached_property
    def _plan(self) -> _Plan:
        named = table_name(str(self.spec.table), "")
        access = billed(self.spec.access, named.project or None)
        table = named if named.project else named.model_copy(update={"project": access.billing_project})
        found = self._metadata(access, table)
        whole = arrow_schema(found.schema)
        chosen = _chosen(self.spec.columns, whole)
        restriction = "" if self.spec.where is None else row_restriction(Where(self.spec.where), found.schema)
        plan = _Plan(
            table=table,
            access=access,
            fields=tuple(found.schema),
            restriction=restriction,
            schema=pa.schema([whole.field(n) for n in chosen]),
            rows=0,
            bytes=found.num_bytes or 0,
            modified=found.modified,
        )
        wire = declared_schema(_wire_schema(self._session(plan, chosen, 1)))
        rows = self._count(plan, restriction if found.require_partition_filter else "")
        return replace(plan, schema=pa.schema([wire.field(n) for n in chosen]), rows=rows)

    def _metadata(self, access: BigQueryAccess, table: TableName) -> Any:
        from google.api_core.exceptions import NotFound
        from google.cloud.bigquery import DEFAULT_RETRY

        client, seconds = jobs_client(access), patience(access)
        with told(f"looking at {table}", parameter="table", value=str(table)):
            try:
                retry = DEFAULT_RETRY.with_timeout(seconds)
                found = client.get_table(str(table), retry=retry, timeout=CALL_SECONDS)
            except NotFound:
                raise missing_table(client, table, seconds) from None
        if found.table_type not in READABLE:
            raise RequestError(
                f"table: {table} is a {found.table_type.replace('_', ' ').lower()}, and only tables can be read "
                "as they are. Write a query that selects from it.",
                parameter="table",
                value=str(table),
            )
        return found

    def _count(self, plan: _Plan, condition: str) -> int:
        """Rows at the snapshot; BigQuery knows them without reading any, unless there is a condition."""
        from google.cloud.bigquery import DEFAULT_RETRY

        retry = DEFAULT_RETRY.with_timeout(patience(plan.access))
        of = "" if self.result_of else f" FOR SYSTEM_TIME AS OF {moment(self.snapshot)}"
        where = f" WHERE {condition}" if condition else ""
        # The name was checked to be one, and the condition is written from parsed parts.
        sql = f"SELECT COUNT(*) FROM `{plan.table}`{of}{where}"  # noqa: S608  # names and condition were checked
        with told(f"counting the rows of {plan.table}", parameter="table", value=str(plan.table)):
            ((rows,),) = jobs_client(plan.access).query(sql, retry=retry, job_retry=None).result(retry=retry)
        return int(rows)

    # --- sessions ---------------------------------------------------------------------------------------------------

    def _opened(self, columns: Sequence[str], streams: int) -> SessionStreams:
        plan = self._plan
        try:
            session = self._session(plan, columns, streams)
        except RequestError as error:
            self._refuse_changes(arrow_schema(self._metadata(plan.access, plan.table).schema), columns, error)
            raise
        wire = declared_schema(_wire_schema(session))
        self._refuse_changes(wire, columns, None)
        return SessionStreams(tuple(wire.names), tuple(s.name for s in session.streams))

    def _session(self, plan: _Plan, columns: Sequence[str], streams: int) -> Any:
        """A read session of the columns, with at most so many streams."""
        from google.api_core.retry import Retry
        from google.cloud.bigquery_storage_v1 import types

        modifiers = None if self.result_of else types.ReadSession.TableModifiers(snapshot_time=self.snapshot)
        session = types.ReadSession(
            table=plan.table.path,
            data_format=types.DataFormat.ARROW,
            table_modifiers=modifiers,
            read_options=types.ReadSession.TableReadOptions(
                selected_fields=list(columns),
                row_restriction=plan.restriction,
                arrow_serialization_options=types.ArrowSerializationOptions(
                    buffer_compression=types.ArrowSerializationOptions.CompressionCodec.LZ4_FRAME
                ),
            ),
        )
        request = types.CreateReadSessionRequest(
            parent=f"projects/{plan.access.billing_project}",
            read_session=session,
            max_stream_count=streams,
            preferred_min_stream_count=streams,
        )
        retry = Retry(timeout=patience(plan.access))
        what = f"opening a read session of {plan.table}" + (f" where {plan.restriction}" if plan.restriction else "")
        with told(what, parameter="where" if plan.restriction else "table", value=str(plan.table)):
            return read_client(plan.access).create_read_session(request=request, retry=retry, timeout=CALL_SECONDS)

    def _refuse_changes(self, now: pa.Schema, columns: Sequence[str], cause: BaseException | None) -> None:
        for name in columns:
            planned = self._plan.schema.field(name).type
            if name not in now.names:
                self._changed(name, f"it was {planned}, and is gone", cause)
            if now.field(name).type != planned:
                self._changed(name, f"it was {planned}, and is {now.field(name).type}", cause)

    def _changed(self, column: str, how: str, cause: BaseException | None) -> NoReturn:
        table = str(self._plan.table)
        raise JobError(
            f"{table}: the column {column!r} has changed since the job was planned: {how}. Run again.",
            table=table,
            column=column,
        ) from cause


def _wire_schema(session: Any) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))


def _chosen(columns: Sequence[str] | None, whole: pa.Schema) -> list[str]:
    """The columns to read, in their order."""
    if columns is None:
        return list(whole.names)
    for name in columns:
        if name not in whole.names:
            raise MissingColumnError(
                f"columns: there is no column {name!r}. {suggest(name, whole.names)}",
                column=name,
                parameter="columns",
            )
    twice = sorted({c for c in columns if list(columns).count(c) > 1})
    if twice or not columns:
        got = f"{twice[0]!r} twice" if twice else "an empty list"
        raise ParameterError(f"columns got {got}, expected each column once, at least one.", parameter="columns")
    return list(columns)

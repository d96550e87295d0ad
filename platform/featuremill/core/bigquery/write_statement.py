"""The statement or load job that brings rows to their table, with what the table is to be like."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import ColumnTypeError, MissingColumnError, suggest
from featuremill.core.bigquery.source import moment
from featuremill.core.bigquery.spec import TableName
from featuremill.core.bigquery.write_spec import BigQueryTable, PartitionSpec
from featuremill.core.bigquery.write_types import NAMES, schema_fields
from featuremill.transforms.arrays import is_list

__all__ = ["check_clustering", "expiry", "load_config", "partitions_by", "statement", "type_text"]

TRUNCATED = {pa.timestamp("us"): "DATETIME_TRUNC", pa.timestamp("us", tz="UTC"): "TIMESTAMP_TRUNC"}
NOT_CLUSTERED = (pa.float64(), pa.binary(), pa.time64("us"))
SQL_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
DISPOSITIONS = {"create": "WRITE_EMPTY", "replace": "WRITE_TRUNCATE", "append": "WRITE_APPEND"}


def type_text(type_: pa.DataType) -> str:
    """A type of a :func:`~featuremill.core.bigquery.write_types.table_schema` in GoogleSQL.

    >>> type_text(pa.list_(pa.struct([("a", pa.float64())])))
    'ARRAY<STRUCT<a FLOAT64>>'
    """
    if is_list(type_):
        return f"ARRAY<{type_text(type_.value_type)}>"
    if pt.is_struct(type_):
        return f"STRUCT<{', '.join(f'{f.name} {type_text(f.type)}' for f in type_)}>"
    return SQL_NAMES.get(NAMES[type_], NAMES[type_])


def partitions_by(by: PartitionSpec | None, schema: pa.Schema) -> str | None:
    """The expression that BigQuery partitions by.

    Raises
    ------
    MissingColumnError, ColumnTypeError
        For a column that is not there, or has no such partitions.

    >>> schema = pa.schema([("day", pa.date32()), ("n", pa.int64())])
    >>> partitions_by(PartitionSpec(column="day", type="month"), schema)
    'DATE_TRUNC(`day`, MONTH)'
    >>> partitions_by(PartitionSpec(column="n", type="month"), schema)
    Traceback (most recent call last):
    featuremill.artifacts.errors.ColumnTypeError: partition_by: 'n' is INT64, which has no partitions by month. ...
    """
    if by is None:
        return None
    type_ = _column("partition_by", by.column, schema)
    if by.range is not None and type_ == pa.int64():
        return f"RANGE_BUCKET(`{by.column}`, GENERATE_ARRAY({by.range.start}, {by.range.end}, {by.range.interval}))"
    if by.type is not None and type_ in TRUNCATED:
        return f"{TRUNCATED[type_]}(`{by.column}`, {by.type.upper()})"
    if by.type not in (None, "hour") and type_ == pa.date32():
        return f"`{by.column}`" if by.type == "day" else f"DATE_TRUNC(`{by.column}`, {str(by.type).upper()})"
    raise ColumnTypeError(
        f"partition_by: {by.column!r} is {type_text(type_)}, which has no partitions by {by.type or 'range'}. "
        "Timestamps and datetimes have them by hour, day, month and year, dates by day, month and year, whole numbers "
        "by range.",
        column=by.column,
    )


def check_clustering(columns: Sequence[str], schema: pa.Schema) -> None:
    """Refuse columns by which BigQuery does not cluster.

    Raises
    ------
    MissingColumnError, ColumnTypeError
        For a column that is not there, or is of a type without an order.
    """
    for name in columns:
        type_ = _column("cluster_by", name, schema)
        if is_list(type_) or pt.is_struct(type_) or type_ in NOT_CLUSTERED:
            raise ColumnTypeError(
                f"cluster_by: {name!r} is {type_text(type_)}, by which BigQuery does not cluster.", column=name
            )


def _column(parameter: str, name: str, schema: pa.Schema) -> pa.DataType:
    if name not in schema.names:
        raise MissingColumnError(
            f"{parameter}: the rows have no column {name!r}. {suggest(name, schema.names)}", column=name
        )
    return schema.field(name).type


def expiry(seconds: float) -> datetime:
    """So many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def statement(spec: BigQueryTable, table: TableName, temporary: TableName, partitions: str | None) -> str:
    """What makes a table of the rows that wait in another; it fails if the table is there and is not to be replaced.

    A query, and not a copy: a copy of a table leaves out rows that were written to it a short while ago.
    """
    options = []
    if spec.labels:
        # Labels were checked to be of small letters, digits, '_' and '-'.
        options.append(f"labels=[{', '.join(f'({k!r}, {v!r})' for k, v in spec.labels.items())}]")
    if spec.expiration is not None:
        options.append(f"expiration_timestamp={moment(expiry(spec.expiration))}")
    parts = [
        f"CREATE {'OR REPLACE ' if spec.write == 'replace' else ''}TABLE `{table}`",
        f"PARTITION BY {partitions}" if partitions else "",
        f"CLUSTER BY {', '.join(f'`{c}`' for c in spec.cluster_by)}" if spec.cluster_by else "",
        f"OPTIONS({', '.join(options)})" if options else "",
        f"AS SELECT * FROM `{temporary}`",  # noqa: S608  # both names were checked to be names
    ]
    return "\n".join(part for part in parts if part)


def load_config(spec: BigQueryTable, schema: pa.Schema | None) -> dict[str, Any]:
    """The configuration of a load job, as the REST API writes it; `schema` is None for a table that is there."""
    from google.cloud import bigquery

    config = bigquery.LoadJobConfig(source_format="PARQUET")
    lists = bigquery.ParquetOptions()
    lists.enable_list_inference = True
    config.parquet_options = lists
    config.write_disposition = DISPOSITIONS[spec.write]
    if schema is None:
        return dict(config.to_api_repr())
    if spec.write == "append":
        config.write_disposition = DISPOSITIONS["create"]
    config.schema = schema_fields(schema)
    config.clustering_fields = spec.cluster_by
    by = spec.partition_by
    if by is not None and by.range is not None:
        interval = bigquery.PartitionRange(**by.range.model_dump())
        config.range_partitioning = bigquery.RangePartitioning(range_=interval, field=by.column)
    elif by is not None and by.type is not None:
        config.time_partitioning = bigquery.TimePartitioning(type_=by.type.upper(), field=by.column)
    content: dict[str, Any] = config.to_api_repr()
    if spec.labels:
        content["load"]["destinationTableProperties"] = {"labels": dict(spec.labels)}
    return content

"""What a job file says of a BigQuery table that rows are written to."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from featuremill.core.bigquery.spec import BigQueryAccess, table_name
from featuremill.core.streaming.durations import Seconds
from featuremill.core.strict import Strict

__all__ = ["BigQueryDataset", "BigQueryTable", "PartitionSpec", "RangeSpec"]

LABEL = re.compile(r"[a-z0-9_-]{0,63}")


class RangeSpec(Strict):
    """Ranges of whole numbers, each a partition: from `start` on, before `end`, each `interval` wide."""

    start: int
    end: int
    interval: Annotated[int, Field(gt=0)]

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"the end of a range is above its start, got {self.start} to {self.end}")
        return self


class PartitionSpec(Strict):
    """How the table is partitioned.

    >>> PartitionSpec(column="day", type="month").range
    >>> PartitionSpec(column="day")
    Traceback (most recent call last):
    ...
    pydantic_core._pydantic_core.ValidationError: 1 validation error for PartitionSpec
      Value error, partition_by needs one of type and range ...
    """

    column: str
    type: Literal["hour", "day", "month", "year"] | None = None
    """For a date or a time: how long a partition is."""
    range: RangeSpec | None = None
    """For a whole number: the ranges."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.type is None) == (self.range is None):
            raise ValueError("partition_by needs one of type and range")
        return self


class BigQueryTable(BigQueryAccess):
    """Rows into a BigQuery table, all of them or none.

    >>> BigQueryTable(table="p.d.t").write
    'create'
    >>> BigQueryTable(table="p.d.t", staging="gs://b/tmp")
    Traceback (most recent call last):
    ...
    pydantic_core._pydantic_core.ValidationError: 1 validation error for BigQueryTable
      Value error, staging goes with method: load ...
    """

    table: str
    """``project.dataset.table``. The dataset is there already."""
    write: Literal["create", "replace", "append"] = "create"
    """``create`` a table that must not be there, ``replace`` whatever is there, or ``append`` to a table, which is
    made where there is none."""
    method: Literal["storage_write", "load"] = "storage_write"
    """Arrow straight into BigQuery by the Storage Write API, or Parquet files and one load job."""
    staging: str | None = None
    """For ``load``: a place in Cloud Storage for the files, which are removed afterwards; by default the run's."""
    partition_by: PartitionSpec | None = None
    cluster_by: Annotated[list[str], Field(min_length=1, max_length=4)] | None = None
    """Up to four columns."""
    labels: dict[str, str] = Field(default_factory=dict)
    expiration: Seconds | None = None
    """After so long BigQuery removes the table."""
    temporary_for: Seconds = 86_400.0
    """After so long BigQuery removes the table that rows wait in, should the run not have done so."""
    dead_letters: str | None = None
    """A table that rows set aside are appended to, with the run's name; they are in the run's folder in any case."""

    @field_validator("table", "dead_letters")
    @classmethod
    def _a_table(cls, value: str | None) -> str | None:
        if value is not None:
            if "$" in value:
                raise ValueError(f"{value!r}: single partitions cannot be written; name the table")
            table_name(value)
        return value

    @field_validator("labels")
    @classmethod
    def _labels(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            if not key or not LABEL.fullmatch(key) or not LABEL.fullmatch(text) or not key[0].isalpha():
                raise ValueError(
                    f"{key}: {text} is no label; small letters, digits, '_' and '-', up to 63, first a letter"
                )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.staging is not None and self.method != "load":
            raise ValueError("staging goes with method: load")
        if self.dead_letters == self.table:
            raise ValueError("dead_letters names the table of the rows; it has other columns")
        return self

    @property
    def access(self) -> BigQueryAccess:
        """The part of it that says how to get there."""
        return BigQueryAccess.model_validate(self.model_dump(include=set(BigQueryAccess.model_fields)))


class BigQueryDataset(BigQueryTable):
    """As :class:`BigQueryTable`, for rows that are split."""

    split_column: str = "split"
    """The column with the name of a row's split; without a split there is none."""

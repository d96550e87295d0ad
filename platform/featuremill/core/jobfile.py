"""Job files: what can be in them, as pydantic models, and how they are read.

The models are strict: an unknown key, a wrong type or an unknown transform is an error before anything runs. The same
models are what a job is built from in Python.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, GetPydanticSchema, field_validator, model_validator
from pydantic_core import core_schema

from featuremill.artifacts.errors import RequestError
from featuremill.core.bigquery.spec import BigQuerySpec
from featuremill.core.bigquery.write_spec import BigQueryDataset
from featuremill.core.quality.spec import QualitySpec
from featuremill.core.strict import NAME, Name, Strict
from featuremill.transforms.contract import Transform
from featuremill.transforms.registry import build_transform, to_config

__all__ = [
    "ArtifactSpec",
    "DatasetSpec",
    "EmbeddingCache",
    "ParquetSpec",
    "PrepareJob",
    "RunnerSpec",
    "SourceSpec",
    "SplitSpec",
    "StockTransform",
]

SMALL_CELLS = 4_000_000
"""Values, rows by columns, up to which one thread is done sooner than several have started: measured, a third of a
second of work."""


class StockTransform(Strict):
    """One of Beam's own MLTransform providers, standing between featuremill's transforms.

    It runs row by row, as in Beam, and an artifact that has one can be read by Beam's MLTransform only. In a job it
    becomes a :class:`~featuremill.transforms.stock.Stock`.
    """

    type: str
    """The class, by its full path below ``apache_beam.ml.transforms``."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Its keyword arguments; and `outputs`, the types of the columns that it makes, where they are not known."""

    @field_validator("type")
    @classmethod
    def _below_beam(cls, value: str) -> str:
        if not value.startswith("apache_beam.ml.transforms."):
            raise ValueError("a stock transform is named by its full path below apache_beam.ml.transforms")
        return value


def _to_step(value: Any) -> Transform:
    if isinstance(value, Transform):
        return value
    if isinstance(value, StockTransform):
        value = value.model_dump()
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise ValueError('expected {type: NAME, config: {columns: [...], ...}}')  # noqa: TRY004 -- pydantic gathers ValueErrors with their place
    unknown = sorted(set(value) - {"type", "config"})
    if unknown:
        raise ValueError(f"a transform has the keys type and config, got {unknown[0]!r}; parameters go below config")
    name, config = value["type"], value.get("config") or {}
    if not isinstance(config, dict):
        raise ValueError(f"config must be a mapping of parameters, got {config!r}")  # noqa: TRY004 -- the same
    if "." in name:
        StockTransform(type=name, config=config)
    try:
        return build_transform(name, config)
    except RequestError as error:
        # pydantic gathers ValueErrors with their place; a TypeError would pass through without one.
        raise ValueError(str(error)) from error


def _step_to_json(step: Transform) -> dict[str, Any]:
    return to_config([step])[0]


def _step_json_schema(_schema: Any, _handler: Any) -> dict[str, Any]:
    # Only editors ask for it, and it imports every transform.
    from featuremill.core.job_schema import step_schema

    return step_schema()


Step = Annotated[
    Any,
    GetPydanticSchema(
        lambda _type, _handler: core_schema.no_info_plain_validator_function(
            _to_step,
            serialization=core_schema.plain_serializer_function_ser_schema(_step_to_json),
            metadata={"pydantic_js_functions": [_step_json_schema]},
        )
    ),
]
"""A transform: an object of its class, or ``{type: …, config: …}`` as in Beam YAML."""


class ParquetSpec(Strict):
    """Rows in Parquet files."""

    path: str | list[str]
    """A file, a folder, a glob, or a list of these. Folders named key=value become columns."""
    where: str | None = None
    """Which rows, as a SQL condition: ``dep_delay is not null and origin = 'JFK'``."""
    columns: list[str] | None = None
    """Which columns; without it, all."""
    fragment_rows: Annotated[int, Field(gt=0)] = 1_000_000
    """About how many rows a fragment has: the unit of work, retry and output shards."""
    batch_rows: Annotated[int, Field(gt=0)] = 131_072
    """How many rows are in memory at a time, for each worker."""


class SourceSpec(Strict):
    """Where the rows come from: one of two.

    >>> SourceSpec(parquet=ParquetSpec(path="data")).given.path
    'data'
    >>> SourceSpec()
    Traceback (most recent call last):
    ...
    pydantic_core._pydantic_core.ValidationError: 1 validation error for SourceSpec
      Value error, a source is one of parquet and bigquery, got none of them ...
    """

    parquet: ParquetSpec | None = None
    """Parquet files."""
    bigquery: BigQuerySpec | None = None
    """A table or a query of BigQuery."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        kinds = list(type(self).model_fields)
        given = [k for k in kinds if getattr(self, k) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none of them"
            raise ValueError(f"a source is one of {', '.join(kinds[:-1])} and {kinds[-1]}, got {got}")
        return self

    @property
    def given(self) -> Any:
        """The one that is given."""
        return next(found for k in type(self).model_fields if (found := getattr(self, k)) is not None)


class SplitSpec(Strict):
    """How rows are divided: by a hash of key columns, the same on every run and in BigQuery's SQL."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    by: Annotated[list[str], Field(min_length=1)]
    """The columns whose values decide; rows that share them stay together."""
    fit_on: str | None = None
    """The split that statistics are computed on; by default "train", or the first."""

    @model_validator(mode="before")
    @classmethod
    def _integers_are_shares_too(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {k: float(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in value.items()}
        return value

    @model_validator(mode="after")
    def _shares_make_one(self) -> SplitSpec:
        if not self.shares:
            raise ValueError("a split needs names with shares, such as train: 0.8, eval: 0.2")
        for name, share in self.shares.items():
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot name a split: letters, digits, '.', '_' and '-' only")
            if not 0 < share <= 1:
                raise ValueError(f"the share of {name} must be above 0 and at most 1, got {share}")
        if abs(sum(self.shares.values()) - 1) > 1e-9:
            raise ValueError(f"the shares must add up to 1, got {sum(self.shares.values()):g}")
        if self.fit_on is not None and self.fit_on not in self.shares:
            raise ValueError(f"fit_on names {self.fit_on!r}, which is none of the splits {list(self.shares)}")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Name of each split and its share of the keys, in the order of the job file."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def fitted(self) -> str:
        """The split that statistics are computed on."""
        return self.fit_on or ("train" if "train" in self.shares else next(iter(self.shares)))


EmbeddingCache = bool | Annotated[str, Field(min_length=1)]


class ArtifactSpec(Strict):
    """Where the transform artifact goes."""

    root: str
    name: Name | None = None
    """By default the job's name."""
    alias: Name | None = None
    """A movable name for the version that the job makes, such as candidate."""
    embedding_cache: EmbeddingCache = True
    """Where vectors of texts are kept for later jobs: true, with the artifacts; false, nowhere; or a folder or URL."""


class DatasetSpec(Strict):
    """Where the transformed rows go."""

    path: str
    """The folder; each run makes one of its own in it, with the rows, the manifest and the run's record."""
    bigquery: BigQueryDataset | None = None
    """A table for the rows; manifest, record and rows set aside are in the folder all the same."""
    format: Literal["parquet"] = "parquet"
    compression: Literal["snappy", "zstd", "lz4", "gzip", "none"] = "snappy"


class RunnerSpec(Strict):
    """What runs the pipeline."""

    name: str = "direct"
    """``direct`` is this machine, all cores; any other name is a Beam runner, such as FlinkRunner or DataflowRunner."""
    workers: Annotated[int, Field(gt=0)] | None = None
    """For ``direct``: how many workers; by default one for each core."""
    mode: Literal["auto", "multi_threading", "multi_processing", "in_memory"] = "auto"
    """For ``direct``: threads of this process, processes, or one after the other; by default threads, unless there is
    so little to do that starting them takes longer."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Beam's pipeline options, by name: ``{project: …, region: …}``."""

    @property
    def is_direct(self) -> bool:
        """Whether it is this machine."""
        return self.name.lower() in ("direct", "directrunner")

    @property
    def threads(self) -> int:
        """How many workers there are on this machine; a guess where it is another."""
        if self.mode == "in_memory":
            return 1
        return self.workers or len(os.sched_getaffinity(0))

    def sized(self, cells: int) -> RunnerSpec:
        """The same with its mode decided, for a job that reads so many values, rows by columns.

        >>> RunnerSpec().sized(1000).mode, RunnerSpec(workers=2).sized(1000).mode
        ('in_memory', 'multi_threading')
        """
        if self.mode != "auto" or not self.is_direct:
            return self
        small = self.workers is None and cells <= SMALL_CELLS
        return self.model_copy(update={"mode": "in_memory" if small else "multi_threading"})


class PrepareJob(Strict):
    """Rows to features: a transform artifact, and the transformed rows as a dataset."""

    kind: Literal["prepare"] = "prepare"
    name: Name
    source: SourceSpec
    transforms: Annotated[list[Step], Field(min_length=1)]
    split: SplitSpec | None = None
    artifact: ArtifactSpec
    dataset: DatasetSpec
    quality: QualitySpec = Field(default_factory=QualitySpec)
    """What is checked; without it the columns are profiled and reported on."""
    max_bad_rows: Annotated[int, Field(ge=0)] = 0
    """How many rows may be set aside before the job fails; those that a check sets aside do not count."""
    runner: RunnerSpec = Field(default_factory=RunnerSpec)

    @property
    def artifact_name(self) -> str:
        """The artifact's name below its root."""
        return self.artifact.name or self.name

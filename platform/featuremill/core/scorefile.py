"""The job file of a scoring job: rows, an artifact, models, and where the predictions go."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from featuremill.core.bigquery.write_spec import BigQueryTable
from featuremill.core.jobfile import EmbeddingCache, RunnerSpec, SplitSpec
from featuremill.core.models.groups import Models
from featuremill.core.models.spec import ModelSpec
from featuremill.core.quality.spec import QualitySpec
from featuremill.core.streaming.spec import RefreshSpec, ScoreSource
from featuremill.core.strict import Name, Strict

__all__ = ["PredictionsSpec", "ScoreJob", "ScoreSplit"]


class ScoreSplit(SplitSpec):
    """The split of the job that prepared the training data, word for word, and which of its parts are scored."""

    only: Annotated[list[str], Field(min_length=1)]
    """The splits whose rows are scored; all others are left out."""

    @model_validator(mode="after")
    def _names_splits(self) -> ScoreSplit:
        for name in self.only:
            if name not in self.shares:
                raise ValueError(f"only names {name!r}, which is none of the splits {list(self.shares)}")
        return self


class PredictionsSpec(Strict):
    """Where the predictions go, and what stands beside them."""

    path: str
    """The folder; each run makes one of its own in it."""
    keys: Annotated[list[str], Field(min_length=1)]
    """The columns that say which row it is, as the source has them."""
    columns: list[str] = Field(default_factory=list)
    """More columns of the source to be kept, such as the true answer."""
    bigquery: BigQueryTable | None = None
    """A table for the predictions; manifest, record and rows set aside are in the folder all the same."""
    compression: Literal["snappy", "zstd", "lz4", "gzip", "none"] = "snappy"

    @model_validator(mode="after")
    def _each_once(self) -> PredictionsSpec:
        names = [*self.keys, *self.columns]
        twice = [n for n in names if names.count(n) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} comes twice among keys and columns; name it once")
        return self


class ScoreJob(Strict):
    """Rows to predictions: an artifact's transforms, then one model or several.

    >>> job = ScoreJob.model_validate({
    ...     "name": "late", "source": {"parquet": {"path": "data/flights"}}, "artifact": "artifacts/flights@candidate",
    ...     "model": {"path": "models/late.onnx"}, "output": {"path": "predictions", "keys": ["flight_id"]}})
    >>> job.the_models.path
    'models/late.onnx'
    """

    kind: Literal["score"] = "score"
    name: Name
    source: ScoreSource
    split: ScoreSplit | None = None
    """Score only some of the splits, dealt out by the same hash as in the prepare job."""
    artifact: str | None = None
    """``root/name@alias`` or ``root/name@version``; without it the models are given columns of the source."""
    embedding_cache: EmbeddingCache = True
    """Where vectors of texts are kept for later jobs: true, with the artifacts; false, nowhere; or a folder or URL. A
    job with an endless source does without."""
    model: ModelSpec | None = None
    """The model, where there is one; otherwise `models`."""
    models: Models | None = None
    """Several: a list (in sequence), or a mapping with ``by``, ``share_by`` or ``combine``."""
    output: PredictionsSpec
    refresh: RefreshSpec | None = None
    """With an endless source: what may be replaced while the job runs."""
    quality: QualitySpec = Field(default_factory=QualitySpec)
    """What is checked; without it the columns are profiled, and compared with what the artifact was fitted on."""
    max_bad_rows: Annotated[int, Field(ge=0)] = 0
    """How many rows may be set aside before the job fails; a job with an endless source goes on in any case."""
    runner: RunnerSpec = Field(default_factory=RunnerSpec)

    @model_validator(mode="after")
    def _has_models(self) -> ScoreJob:
        if (self.model is None) == (self.models is None):
            got = "both" if self.model is not None else "neither"
            raise ValueError(f"a score job has one of the keys model and models, got {got}")
        return self

    @model_validator(mode="after")
    def _endless_or_not(self) -> ScoreJob:
        if self.source.arriving is None:
            if self.refresh is not None:
                raise ValueError("refresh is for jobs with an endless source, watch or pubsub")
        elif self.quality.is_given:
            raise ValueError(
                "quality is for rows that are there already: what must hold for all rows cannot be told while they "
                "arrive. Check them with a report job"
            )
        elif self.split is not None:
            raise ValueError("split is for rows that are there already; rows that arrive are all scored")
        elif self.output.bigquery is not None:
            raise ValueError("output.bigquery is for rows that are there already, which are committed all at once")
        if self.refresh is not None and self.refresh.artifact is not None and "@" not in (self.artifact or ""):
            raise ValueError("refresh.artifact follows an alias: write artifact: ROOT/NAME@ALIAS")
        return self

    @property
    def the_models(self) -> ModelSpec | Models:
        """What ``model`` or ``models`` says."""
        found = self.models if self.model is None else self.model
        assert found is not None  # by _has_models
        return found

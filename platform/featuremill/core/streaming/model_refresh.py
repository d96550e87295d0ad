"""Models that are replaced while a job runs, looked after by each worker process for itself.

Beam has a way of its own, a side input that names the newest model; it needs a runner that updates side inputs while
the main input flows, which the local one does not. This one works anywhere, for all kinds of groups, and it chooses a
model for the artifact that made a batch: where model and artifact are replaced together, no batch meets the wrong pair.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from threading import Lock
from typing import Any

import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from featuremill.artifacts.errors import ParameterError, RequestError
from featuremill.core.feature_recipe import ARTIFACT_VERSION
from featuremill.core.inference.beam_model import load_any
from featuremill.core.inference.handler import ArrowModelHandler, StepModels, members
from featuremill.core.inference.planning import PlannedStep
from featuremill.core.inference.pool import ModelPool
from featuremill.core.inference.predictions import Predictions
from featuremill.core.inference.steps import Score
from featuremill.core.models.groups import Models
from featuremill.core.models.spec import ModelSpec
from featuremill.core.streaming.following import Follower, Refused
from featuremill.core.streaming.model_files import ModelFile, candidates, newest, with_paths

__all__ = ["Fits", "FollowingHandler", "FollowingScore", "ModelsFit", "choose"]

Fits = Callable[[ModelSpec, str, str | None], str | None]
"""Why a model file (spec, path) cannot be used with a version of the artifact; None: it can."""

Chosen = tuple[tuple[str, ModelFile], ...]
"""The file of each model of a step that has one."""

Ready = tuple[ArrowModelHandler, ModelPool]

KEPT_VERSIONS = 2
"""Versions of the artifact whose models stay loaded: the one in use, and the one before while its batches end."""


def choose(models: StepModels, version: str | None, fits: Fits) -> Chosen:
    """The newest file of each model of a step, of those that can be used with a version of the artifact."""
    return tuple(
        (name, newest(spec.path, partial(_misfit, fits, spec, version)))
        for name, spec in members(models).items()
        if spec.path is not None
    )


def _misfit(fits: Fits, spec: ModelSpec, version: str | None, path: str) -> str | None:
    return fits(spec, path, version)


class ModelsFit:
    """Whether there are models for a version of the artifact; what
    :class:`~featuremill.core.streaming.features.ArtifactRefresh` asks before it lets go of the version in use. They are
    loaded once, and let go."""

    def __init__(self, models: ModelSpec | Models, fits: Fits) -> None:
        self.steps: list[StepModels] = list(models) if isinstance(models, list) else [models]
        self.fits = fits

    def __call__(self, version: str) -> None:
        try:
            for step in self.steps:
                for name, file in choose(step, version, self.fits):
                    load_any(members(step)[name].model_copy(update={"path": file.path}))
        except RequestError as error:
            # The model that goes with it may be on its way.
            raise Refused(str(error), again=True) from error


class _ModelsInUse:
    """The models of a step by the version of the artifact that they are used with."""

    def __init__(self, step: PlannedStep, models: StepModels, every: float, fits: Fits) -> None:
        self.step = step
        self.models = models
        self.every = every
        self.fits = fits
        self._followers: OrderedDict[str | None, Follower[Chosen, Ready]] = OrderedDict()
        self._lock = Lock()
        self._probe: pa.RecordBatch | None = None

    def get(self, batch: pa.RecordBatch) -> Ready:
        """The models for a batch."""
        version = _artifact_of(batch)
        with self._lock:
            follower = self._followers.get(version)
            if follower is None:
                follower = self._followers[version] = self._follow(version)
                while len(self._followers) > KEPT_VERSIONS:
                    self._followers.popitem(last=False)
        self._probe = batch.slice(0, 1)
        return follower.get()

    def _follow(self, version: str | None) -> Follower[Chosen, Ready]:
        chosen = self._planned(version) or choose(self.models, version, self.fits)
        return Follower(
            f"model {self.step.label}",
            chosen,
            self._load(chosen),
            find=lambda: choose(self.models, version, self.fits),
            make=self._tried,
            every=self.every,
            tell=lambda files: ", ".join(file.path for _, file in files),
            note=lambda what: Metrics.counter("featuremill", f"model_{what}").inc(),
        )

    def _planned(self, version: str | None) -> Chosen | None:
        """The files that the job was planned with, where they are still there and fit."""
        specs = {name: spec for name, spec in members(self.step.models).items() if spec.path is not None}
        found = {name: candidates(str(spec.path)) for name, spec in specs.items()}
        if any(not files or self.fits(specs[name], files[0].path, version) for name, files in found.items()):
            return None
        return tuple((name, files[0]) for name, files in found.items())

    def _load(self, chosen: Chosen) -> Ready:
        models = with_paths(self.models, {name: file.path for name, file in chosen})
        handler = ArrowModelHandler(models, name=self.step.name)
        return handler, handler.load_model()

    def _tried(self, chosen: Chosen) -> Ready:
        """The models loaded, and tried on a row that came."""
        handler, pool = self._load(chosen)
        if self._probe is not None and self._probe.num_rows:
            found: Predictions = handler.predict(self._probe, pool)
            if found.rejects:
                raise Refused(f"it cannot take the row it was tried on: {found.rejects[0].reason}", again=True)
            if not found.columns.schema.equals(self.step.columns):
                raise Refused(
                    f"it gives {_told(found.columns.schema)}, the job was planned with {_told(self.step.columns)}"
                )
        return handler, pool


def _artifact_of(batch: pa.RecordBatch) -> str | None:
    if ARTIFACT_VERSION not in batch.schema.names or not batch.num_rows:
        return None
    version: str | None = batch.column(ARTIFACT_VERSION)[0].as_py()
    return version


def _told(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name} ({f.type})" for f in schema) or "nothing"


class FollowingHandler(ModelHandler[pa.RecordBatch, PredictionResult, _ModelsInUse]):  # type: ignore[misc]  # beam: untyped
    """An :class:`~featuremill.core.inference.handler.ArrowModelHandler` whose models are replaced by newer ones.

    A new model is loaded beside the one in use, tried on one row, and refused when it cannot be loaded, gives other
    columns, or was made for another artifact.

    Parameters
    ----------
    step
        The step as it was planned, with the files of the start.
    models
        The same models with the paths of the job file, which may be patterns.
    every
        Seconds between two looks of a process.
    fits
        Which models can be used.

    Raises
    ------
    ParameterError
        For models that processes share, or whose digest the job names.
    """

    def __init__(self, step: PlannedStep, models: StepModels, *, every: float, fits: Fits) -> None:
        super().__init__()
        self._step = step
        self._models = models
        self._every = every
        self._fits = fits
        self._template = ArrowModelHandler(step.models, name=step.name)
        if self._template.share_model_across_processes():
            raise ParameterError(
                f"{step.label}: refresh by workers keeps a model in each process, so large_model and model_copies do "
                "not go with it. Set refresh: {through: beam}, on a runner that updates side inputs.",
                parameter="refresh",
            )
        for name, spec in members(models).items():
            if spec.sha256 is not None:
                raise ParameterError(
                    f"{name}: a model whose sha256 the job names is never replaced. Leave out refresh, or sha256.",
                    parameter="refresh",
                )

    def load_model(self) -> _ModelsInUse:
        return _ModelsInUse(self._step, self._models, self._every, self._fits)

    def run_inference(
        self, batch: pa.RecordBatch, model: _ModelsInUse, inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[PredictionResult]:
        handler, pool = model.get(batch)
        return handler.run_inference(batch, pool, inference_args)

    def should_skip_batching(self) -> bool:
        return True

    def get_num_bytes(self, batch: pa.RecordBatch) -> int:
        return self._template.get_num_bytes(batch)

    def get_metrics_namespace(self) -> str:
        return self._template.get_metrics_namespace()

    def get_resource_hints(self) -> dict[str, Any]:
        return self._template.get_resource_hints()

    def validate_inference_args(self, inference_args: Mapping[str, Any] | None) -> None:
        self._template.validate_inference_args(inference_args)


class FollowingScore(Score):
    """One step of :class:`~featuremill.core.inference.steps.Score` with models that are replaced while it runs.

    Parameters
    ----------
    models
        With the paths of the job file.
    schema
        The columns of the batches.
    step
        As it was planned, with the files of the start.
    every, fits
        As for :class:`FollowingHandler`.
    """

    def __init__(self, models: StepModels, schema: pa.Schema, step: PlannedStep, *, every: float, fits: Fits) -> None:
        super().__init__(models, schema, steps=[step])
        self._given = models
        self._every = every
        self._fits = fits

    def handler(self, step: PlannedStep) -> ModelHandler:
        if not any(spec.path for spec in members(self._given).values()):
            return super().handler(step)
        return FollowingHandler(step, self._given, every=self._every, fits=self._fits)

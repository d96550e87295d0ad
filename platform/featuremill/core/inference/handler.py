"""Beam's RunInference over record batches.

``batches | RunInference(ArrowModelHandler(ModelSpec(path="late.onnx")))``: each element is a batch of many rows and has
one result, so that what Beam costs for each element vanishes, and what it does for a model (sharing it, refreshing it,
counting) goes on working.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from featuremill.artifacts.errors import ParameterError, ParameterTypeError
from featuremill.core.backends import MODELS, BackendsTold
from featuremill.core.inference.attempts import Answer
from featuremill.core.inference.beam_model import beam_handler
from featuremill.core.inference.ensemble import combine
from featuremill.core.inference.pool import ModelPool
from featuremill.core.inference.predictions import Part, Predictions, Scorer, assemble, moved
from featuremill.core.inference.routing import DEFAULT, Route, by_key, by_share
from featuremill.core.models.contract import Arrays
from featuremill.core.models.groups import ByKey, Ensemble, Shares
from featuremill.core.models.spec import ModelSpec
from featuremill.transforms.onnx_sessions import Choice
from featuremill.transforms.rejects import Reject

__all__ = ["ArrowModelHandler", "StepModels", "called", "members", "model_tag"]

StepModels = ModelSpec | ByKey | Shares | Ensemble
"""What one step of scoring can be."""

Rows = npt.NDArray[np.int64]
TAG = "featuremill-model:"
ONE = "model"
"""The name, within its step, of a model that is alone."""


def members(models: StepModels) -> dict[str, ModelSpec]:
    """The models of a step by name, a default among them."""
    if isinstance(models, ModelSpec):
        return {ONE: models}
    if isinstance(models, ByKey) and models.default is not None:
        return {**models.members, DEFAULT: models.default}
    return dict(models.members)


def called(models: StepModels, name: str | None) -> dict[str, str]:
    """What the models of a step called `name` are called in messages and in the column `model_version`."""
    if isinstance(models, ModelSpec):
        return {ONE: name or (models.path or models.class_ or ONE).rstrip("/").rpartition("/")[2]}
    return {member: member for member in members(models)}


def model_tag(path: str) -> str:
    """A model's path as `model_id` of Beam's ``ModelMetadata``, for automatic refresh.

    Beam names lock files after it when processes share a model. With a plain path these would lie beside the model,
    where whatever watches the folder takes them for the next one; a bucket has no place for them at all.

    >>> model_tag("gs://models/late 2.onnx")
    'featuremill-model:...:gs%3A%2F%2Fmodels%2Flate%202.onnx'
    """
    return f"{TAG}{uuid4().hex[:8]}:{quote(path, safe='')}"


class ArrowModelHandler(ModelHandler[pa.RecordBatch, PredictionResult, ModelPool]):  # type: ignore[misc]  # beam: untyped
    """A Beam handler whose elements are ``pa.RecordBatch`` (or ``pa.Table``) of any number of rows.

    For each element there is one ``PredictionResult``: `example` is the batch, `inference` the
    :class:`~featuremill.core.inference.predictions.Predictions` with the prediction columns, the version behind each
    row, and the rows that were set aside.

    Parameters
    ----------
    models
        A model, or several: by key, by share, or as an ensemble.
    name
        What the step is called in messages, metrics and `model_version`.

    Raises
    ------
    ParameterError
        When models of one step are to be kept in memory in different ways.

    >>> handler = ArrowModelHandler(ModelSpec(path="models/late.onnx", large_model=True))
    >>> handler.share_model_across_processes(), handler.model_copies()
    (True, 1)
    """

    def __init__(self, models: StepModels, *, name: str | None = None) -> None:
        super().__init__()
        self._models = models
        self._name = name
        self._called = called(models, name)
        self._single = isinstance(models, ModelSpec)
        specs = members(models)
        handlers = {n: beam_handler(spec) for n, spec in specs.items()}
        memory = {n: _memory(spec, handlers[n]) for n, spec in specs.items()}
        (first, kept), *others = memory.items()
        for other, asked in others:
            if asked != kept:
                raise ParameterError(
                    f"Models of one step are kept in memory in one way: {first!r} has {_told(kept)}, {other!r} has "
                    f"{_told(asked)}. Set large_model and model_copies alike.",
                    parameter="large_model",
                )
        self._shared, self._copies = kept
        self._hints = {k: v for h in handlers.values() if h is not None for k, v in h.get_resource_hints().items()}
        self._backends = BackendsTold(MODELS)
        self._forget()

    def _forget(self) -> None:
        self._scorers: WeakKeyDictionary[Any, dict[str, tuple[pa.Schema, Scorer, Choice | None]]] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_scorers"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    # --- what Beam asks ---------------------------------------------------------------------------------------------

    def load_model(self) -> ModelPool:
        """The models, loaded; those by key when their first row comes."""
        if isinstance(self._models, ByKey):
            return ModelPool(members(self._models), keep=self._models.keep_loaded, called=self._called)
        pool = ModelPool(members(self._models), called=self._called)
        pool.load_all()
        return pool

    def run_inference(
        self,
        batch: pa.RecordBatch | pa.Table,
        model: ModelPool,
        inference_args: Mapping[str, Any] | None = None,
    ) -> Iterable[PredictionResult]:
        """One result for the element; `model` is a :class:`ModelPool`, or Beam's proxy of one in another process."""
        found = self.predict(batch, model)
        self._backends.tell(choice for _, _, choice in self._scorers[model].values() if choice is not None)
        versions = found.versions.dictionary
        model_id = versions[0].as_py() if self._single and len(versions) == 1 else None
        return [PredictionResult(batch, found, model_id)]

    def should_skip_batching(self) -> bool:
        return True

    def get_num_bytes(self, batch: pa.RecordBatch | pa.Table) -> int:
        return int(batch.nbytes)

    def get_metrics_namespace(self) -> str:
        return f"featuremill.{self._name}" if self._name else "featuremill"

    def get_resource_hints(self) -> dict[str, Any]:
        return dict(self._hints)

    def share_model_across_processes(self) -> bool:
        return self._shared

    def model_copies(self) -> int:
        return self._copies

    def validate_inference_args(self, inference_args: Mapping[str, Any] | None) -> None:
        if inference_args:
            raise ParameterError(
                f"ArrowModelHandler takes no inference_args, got {sorted(inference_args)}. What a framework needs goes "
                "into options of the model.",
                parameter="inference_args",
            )

    def update_model_path(self, model_path: str | None = None) -> None:
        """Load from here from now on: a path, or what :func:`model_tag` made of one."""
        if not model_path:
            return
        if not isinstance(self._models, ModelSpec):
            raise ParameterError(
                "Only a single model is refreshed while a job runs, not models by key, by share or combined.",
                parameter="model_path",
            )
        path = unquote(model_path.removeprefix(TAG).partition(":")[2]) if model_path.startswith(TAG) else model_path
        self._models = self._models.model_copy(update={"path": path})
        self._called = called(self._models, self._name)

    # --- predictions ------------------------------------------------------------------------------------------------

    def predict(self, batch: pa.RecordBatch | pa.Table, pool: ModelPool) -> Predictions:
        """The predictions for a batch."""
        batch = _as_batch(batch)
        if isinstance(self._models, Ensemble):
            each = [assemble(*self._parts(name, batch, pool), batch.num_rows) for name in self._called]
            return combine(each, self._models.combine, batch.num_rows)
        parts: list[Part] = []
        routes, unrouted = self._routes(batch)
        rejects: list[Reject] = list(unrouted)
        for route in routes:
            found, aside = self._parts(route.model, batch, pool, route.rows)
            parts += [part.within(route.rows) for part in found]
            rejects += moved(aside, route.rows)
        return assemble(parts, rejects, batch.num_rows)

    def _routes(self, batch: pa.RecordBatch) -> tuple[list[Route], tuple[Reject, ...]]:
        if isinstance(self._models, ByKey):
            default = self._models.default is not None
            return by_key(batch, self._models.by, list(self._models.members), default=default)
        if isinstance(self._models, Shares):
            return by_share(batch, self._models.share_by, self._models.shares), ()
        return [Route(ONE, None)], ()

    def _parts(
        self, name: str, batch: pa.RecordBatch, pool: ModelPool, rows: Rows | None = None
    ) -> tuple[list[Part], list[Reject]]:
        def answering(arrays: Arrays) -> tuple[Answer, str]:
            answer, version = pool.answer(name, arrays)
            return answer, version if plain else f"{self._called[name]}@{version}"

        plain = self._single and self._name is None
        scorer = self._scorer(name, batch.schema, pool)
        if rows is not None:
            batch = batch.select(scorer.columns).take(pa.array(rows))
        parts, rejects = scorer.parts(batch, answering)
        return parts, rejects if self._single else [replace(r, transform=self._label(name)) for r in rejects]

    def _label(self, name: str) -> str:
        """What one of several models is called where a rejected row tells who could not take it."""
        return f"{self._name}.{self._called[name]}" if self._name else self._called[name]

    def _scorer(self, name: str, schema: pa.Schema, pool: ModelPool) -> Scorer:
        # By pool: after a refresh it is another one, whose model may have another signature.
        known = self._scorers.setdefault(pool, {})
        found = known.get(name)
        if found is None or not found[0].equals(schema):
            told = pool.describe(name)
            found = (schema, Scorer(members(self._models)[name], told.signature, schema), told.choice)
            known[name] = found
        return found[1]


def _memory(spec: ModelSpec, handler: ModelHandler | None) -> tuple[bool, int]:
    """``(whether processes share the model, how many copies they share)``; a handler of Beam's may decide itself."""
    shared, copies = spec.large_model or spec.model_copies is not None, spec.model_copies or 1
    if handler is None:
        return shared, copies
    return shared or handler.share_model_across_processes(), max(copies, handler.model_copies())


def _told(memory: tuple[bool, int]) -> str:
    shared, copies = memory
    return "a copy in each process" if not shared else f"{copies} for all processes"


def _as_batch(element: Any) -> pa.RecordBatch:
    if isinstance(element, pa.RecordBatch):
        return element
    if isinstance(element, pa.Table):
        batches = element.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=element.schema)
    raise ParameterTypeError(
        f"ArrowModelHandler takes record batches or tables, got {type(element).__name__}. For single rows use Beam's "
        "own handlers, or make batches of them first."
    )

"""What scoring will give, and whether it can be done at all, from a schema and before anything runs.

The models are loaded once on the launcher, since only their files say what they take. One that should not be (a large
one, one that needs a device, a handler of Beam's) is taken at the job's word, which then has to be complete: `inputs`,
and `outputs` with their types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from featuremill.artifacts.errors import ParameterError, RequestError
from featuremill.artifacts.store import is_url
from featuremill.core.inference.beam_model import beam_handler, load_any
from featuremill.core.inference.ensemble import combined_schema
from featuremill.core.inference.handler import StepModels, called, members
from featuremill.core.inference.limits import Limit
from featuremill.core.inference.predictions import VERSIONS, Scorer
from featuremill.core.inference.routing import check_routing
from featuremill.core.models.contract import Signature
from featuremill.core.models.files import local_path
from featuremill.core.models.groups import ByKey, Ensemble, Models, Shares
from featuremill.core.models.loading import framework_of
from featuremill.core.models.onnx_model import on_launcher
from featuremill.core.models.spec import ModelSpec

__all__ = ["MODEL_VERSION", "PlannedModel", "PlannedStep", "plan_steps", "scored_schema"]

MODEL_VERSION = "model_version"
"""The column that says which model, or models, made a row's predictions."""


@dataclass(frozen=True)
class PlannedModel:
    """One model of a step."""

    name: str
    """What it is called in messages and in `model_version`."""
    member: str
    """Its name in the job file, within its step."""
    spec: ModelSpec
    reads: tuple[str, ...]
    """The columns that it is made inputs of."""
    signature: Signature | None = None
    """None: it was not loaded."""
    version: str | None = None


@dataclass(frozen=True)
class PlannedStep:
    """One model, or group of models, of a job, and what it adds to the batches."""

    name: str | None
    """None: the job's only model, which was given none."""
    models: StepModels
    columns: pa.Schema
    """The prediction columns."""
    planned: tuple[PlannedModel, ...] = ()
    """Its models."""

    @property
    def label(self) -> str:
        """What the step is called where it has to be called something."""
        return self.name or "model"


def plan_steps(models: ModelSpec | Models, schema: pa.Schema) -> list[PlannedStep]:
    """The steps of scoring batches with these columns, each checked against the columns that it will find.

    Parameters
    ----------
    models
        A model; a list of models and groups, in sequence; or a group: by key, by share, an ensemble.
    schema
        The columns of the batches.

    Raises
    ------
    RequestError
        When a model is missing or damaged, the columns do not fit it, its predictions have the name of a column that is
        there already, or their types are not known.
    """
    if MODEL_VERSION in schema.names:
        raise ParameterError(
            f"There is a column {MODEL_VERSION!r} already, and the versions of the models go into one of that name. "
            "Rename it.",
            column=MODEL_VERSION,
        )
    planned = []
    for name, step in _steps(models):
        columns, each = _columns(step, name, schema)
        for field in columns:
            if field.name in (*schema.names, MODEL_VERSION):
                raise ParameterError(
                    f"{name or 'The model'} gives a column {field.name!r}, and there is one already. Give it another "
                    f"name with outputs: {{NAME: {field.name}}}.",
                    column=field.name,
                    parameter="outputs",
                )
        schema = pa.schema([*schema, *columns])
        planned.append(PlannedStep(name, step, columns, each))
    return planned


def scored_schema(steps: Sequence[PlannedStep], schema: pa.Schema) -> pa.Schema:
    """The columns of batches after these steps: their own, the predictions, and `model_version`."""
    return pa.schema([*schema, *(f for step in steps for f in step.columns), (MODEL_VERSION, VERSIONS)])


def _steps(models: ModelSpec | Models) -> list[tuple[str | None, StepModels]]:
    if not isinstance(models, list):
        return [(getattr(models, "name", None), models)]
    return [(item.name or f"step{i}", item) for i, item in enumerate(models, 1)]


def _columns(models: StepModels, name: str | None, schema: pa.Schema) -> tuple[pa.Schema, tuple[PlannedModel, ...]]:
    if isinstance(models, ByKey):
        check_routing(schema, [models.by], parameter="by")
    if isinstance(models, Shares):
        check_routing(schema, models.share_by, parameter="share_by")
    names = called(models, name)
    found: dict[str, pa.Schema] = {}
    planned = []
    for member, spec in members(models).items():
        found[names[member]], model = _predictions(spec, names[member], schema)
        planned.append(replace(model, member=member))
    if isinstance(models, Ensemble):
        return combined_schema(list(found.values()), models.combine), tuple(planned)
    (first, columns), *others = found.items()
    for other, theirs in others:
        if not theirs.equals(columns):
            raise ParameterError(
                f"Models of one step must give the same columns: {first!r} gives {_shown(columns)}, {other!r} gives "
                f"{_shown(theirs)}. Give them the same names and types with outputs.",
                parameter="outputs",
            )
    return columns, tuple(planned)


def _predictions(spec: ModelSpec, what: str, schema: pa.Schema) -> tuple[pa.Schema, PlannedModel]:
    """The prediction columns of one model, and what is known of it."""
    try:
        here = not _declared(spec) or not _heavy(spec)
        version = None
        if here:
            limit = Limit(spec.load_timeout, what=f"{what}: loading", setting="load_timeout")
            model, version = limit.run(load_any, _here(spec))
            signature = model.signature
        else:
            signature = Signature()
            if spec.path is not None and not is_url(spec.path):
                local_path(spec.path)
        scorer = Scorer(spec, signature, schema)
        columns = scorer.schema
        if columns is None:
            raise ParameterError(
                "its file does not tell the types of its outputs. Name them, such as outputs: {score: {output: OUTPUT, "
                "type: float32}}.",
                parameter="outputs",
            )
    except RequestError as error:
        # The same class and facts; the message says which of the models it is about.
        message = str(error) if what in str(error) else f"{what}: {error}"
        raise type(error)(message, **{"model": what, **error.facts}) from error
    return columns, PlannedModel(what, what, spec, tuple(scorer.columns), signature if here else None, version)


def _here(spec: ModelSpec) -> ModelSpec:
    """The spec for a look at the model on the launcher; where it runs is for the workers to find out."""
    return on_launcher(spec) if framework_of(spec) == "onnx" else spec


def _declared(spec: ModelSpec) -> bool:
    return spec.inputs is not None and spec.outputs is not None and all(o.type for o in spec.outputs.values())


def _heavy(spec: ModelSpec) -> bool:
    """Whether a model had better not be loaded on the launcher."""
    shared = spec.large_model or spec.model_copies is not None
    return shared or spec.device != "cpu" or spec.framework == "tensorrt" or beam_handler(spec) is not None


def _shown(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name} ({f.type})" for f in schema)

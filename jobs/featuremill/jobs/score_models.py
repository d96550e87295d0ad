"""What a score job says of its models: facts for plans and records, and the place in the job file of what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from featuremill.artifacts.errors import FeaturemillError
from featuremill.core.explain import at
from featuremill.core.models.contract import TensorSpec
from featuremill.core.models.groups import ByKey, Models
from featuremill.core.models.spec import ModelSpec
from featuremill.core.scorefile import ScoreJob

if TYPE_CHECKING:
    from featuremill.core.inference.planning import PlannedModel, PlannedStep

__all__ = ["at", "at_model", "each_model", "model_facts", "model_record", "step_seconds", "tensor_facts"]

LATENCY = "inference_batch_latency_micro_secs"
"""Beam's name for the time that a model takes for a batch."""


def model_facts(step: PlannedStep, model: PlannedModel) -> dict[str, Any]:
    """What is known of a model before it runs; without a signature where it was not loaded."""
    from featuremill.core.models.loading import framework_of

    signature = model.signature
    return {
        "name": model.name,
        "step": step.label,
        "path": model.spec.path or model.spec.class_,
        "framework": framework_of(model.spec),
        "version": model.version,
        "reads": list(model.reads),
        "inputs": [tensor_facts(t) for t in signature.inputs] if signature else [],
        "outputs": [tensor_facts(t) for t in signature.outputs] if signature else [],
        "makes": [{"name": f.name, "type": str(f.type)} for f in step.columns],
    }


def tensor_facts(spec: TensorSpec) -> dict[str, Any]:
    """An input or output of a model, JSON-ready."""
    return {"name": spec.name, "dtype": spec.dtype, "shape": None if spec.shape is None else list(spec.shape)}


def model_record(
    steps: Sequence[PlannedStep], counts: Mapping[str, int], result: Any
) -> tuple[dict[str, Any], ...]:
    """Each model with the rows that it predicted and the seconds of its step.

    Parameters
    ----------
    counts
        Rows by what their column `model_version` says.
    result
        Of Beam's pipeline.
    """
    from featuremill.core.inference.handler import ArrowModelHandler

    rows: Counter[str] = Counter()
    for versions, n in counts.items():
        rows.update(dict.fromkeys(versions.split("+"), n))
    found = []
    for step in steps:
        seconds = step_seconds(result, ArrowModelHandler(step.models, name=step.name).get_metrics_namespace())
        alone = isinstance(step.models, ModelSpec) and step.name is None
        for model in step.planned:
            facts = model_facts(step, model)
            mine = {v: n for v, n in rows.items() if alone or v.rpartition("@")[0] == model.name}
            facts["version"] = facts["version"] or ", ".join(v.rpartition("@")[2] for v in sorted(mine)) or None
            found.append({**facts, "rows": sum(mine.values()), "seconds": seconds})
    return tuple(found)


def step_seconds(result: Any, namespace: str) -> float | None:
    """The seconds that a step's models took in all calls, as Beam counted them; None where the runner does not tell."""
    from apache_beam.metrics.metric import MetricsFilter

    wanted = MetricsFilter().with_namespace(namespace).with_name(LATENCY)
    found = result.metrics().query(wanted)["distributions"]
    sums = [m.result.sum for m in found if m.result is not None and m.result.sum is not None]
    return round(sum(sums) / 1e6, 3) if sums else None


@contextmanager
def at_model(job: ScoreJob) -> Iterator[None]:
    """Errors within are about one of the models: the one that they name."""
    try:
        yield
    except FeaturemillError as error:
        error.facts.setdefault("key", _key_of(job.the_models, error.facts.get("model")))
        raise


def each_model(models: ModelSpec | Models) -> Iterator[tuple[tuple[Any, ...], str | None, ModelSpec]]:
    """``(the keys that lead to it in the job file, its name, the model)`` of every model of a job."""
    if isinstance(models, ModelSpec):
        yield ("model",), None, models
        return
    for i, step in enumerate(models if isinstance(models, list) else [models]):
        place: tuple[Any, ...] = ("models", i) if isinstance(models, list) else ("models",)
        if isinstance(step, ModelSpec):
            yield place, step.name, step
            continue
        below = step.models if isinstance(step, ByKey) else {}
        for name, spec in step.members.items():
            yield (*place, "models", name) if name in below else (*place, name), name, spec
        if isinstance(step, ByKey) and step.default is not None:
            yield (*place, "default"), "default", step.default


def _key_of(models: ModelSpec | Models, name: Any) -> tuple[Any, ...]:
    """The keys that lead to the model of this name, or to all of them."""
    if isinstance(models, ModelSpec):
        return ("model",)
    return next((key for key, called, _ in each_model(models) if called == name), ("models",))

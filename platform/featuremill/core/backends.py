"""What workers tell the launcher of where ONNX models ran: a metric of Beam's, a set of texts.

Metrics come back from every runner that reports sets; from one that does not, the record says nothing of backends, and
the workers' logs do.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter

from featuremill.transforms.onnx_sessions import Choice

__all__ = ["MODELS", "TRANSFORMS", "BackendsTold", "backends_of"]

NAMESPACE = "featuremill"
TRANSFORMS, MODELS = "onnx_backends_of_transforms", "onnx_backends_of_models"
"""The metrics' names: of what a process has loaded for transforms, and of what a score job's models say themselves."""


class BackendsTold:
    """A metric, for a DoFn or a model handler to hold."""

    def __init__(self, name: str = TRANSFORMS) -> None:
        self._told = Metrics.string_set(NAMESPACE, name)

    def tell(self, choices: Iterable[Choice]) -> None:
        """Say where models run. At every bundle: what a bundle says that is tried again is forgotten with it."""
        for choice in choices:
            self._told.add(json.dumps(choice.to_json(), ensure_ascii=False))


def backends_of(result: Any, models: Collection[str], name: str = TRANSFORMS) -> tuple[dict[str, Any], ...]:
    """Where the models of these names ran, in the order of their names.

    A worker that runs in the launcher's own process may have loaded others, in jobs before; what it has loaded of the
    same model with other options before is told too.

    Parameters
    ----------
    result
        Of Beam's pipeline.
    """
    wanted = MetricsFilter().with_namespace(NAMESPACE).with_name(name)
    texts: set[str] = set()
    for metric in result.metrics().query(wanted).get("string_sets", []):
        texts |= set(metric.result or ())
    found = [json.loads(text) for text in sorted(texts)]
    return tuple(sorted((f for f in found if f["model"] in models), key=lambda f: str(f["model"])))

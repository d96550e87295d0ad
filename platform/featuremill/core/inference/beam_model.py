"""A subclass of Beam's ``ModelHandler``, named in a job file, as a model like any other.

The handler runs as it is: its own `load_model`, `run_inference`, functions before and after, environment variables,
`share_model_across_processes` and `model_copies`. It is given a list of examples made from the batch: the rows of its
one input, or a dict by name for each row when it has several. It must give one prediction for each, which Beam itself
does not check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from featuremill.artifacts.errors import ParameterError
from featuremill.core.models.contract import Arrays, Model, PredictionError, rows_of
from featuremill.core.models.custom_model import ONLY_OUTPUT, custom_class
from featuremill.core.models.loading import WEIGHTS, load_model, model_version
from featuremill.core.models.spec import ModelSpec

__all__ = ["BeamModel", "beam_handler", "load_any"]


def load_any(spec: ModelSpec) -> tuple[Model, str]:
    """``(the model, its version)``; of a custom class that is a handler of Beam's, what that loads."""
    handler = beam_handler(spec)
    # First the version: a file that is replaced in between must not pass for the one that was loaded before.
    version = model_version(spec)
    return (load_model(spec) if handler is None else BeamModel(handler)), version


def beam_handler(spec: ModelSpec) -> ModelHandler | None:
    """The handler of Beam's that a spec names, made with its arguments; None when it names none.

    Raises
    ------
    ParameterError
        When it cannot be made.
    """
    if spec.class_ is None or not _custom(spec):
        return None
    found = custom_class(spec)
    if not issubclass(found, ModelHandler):
        return None
    try:
        handler = found(**spec.arguments)
    except Exception as error:
        # The class is the user's, and so is what goes wrong in it.
        raise ParameterError(
            f"{spec.class_} cannot be made with the arguments {spec.arguments}: {error}", parameter="arguments"
        ) from error
    if spec.path is not None:
        handler.update_model_path(spec.path)
    return handler


def _custom(spec: ModelSpec) -> bool:
    """Whether the class is a model itself, and not what weights are put into. Without a look at the file."""
    weights = spec.path is not None and spec.path.lower().endswith(WEIGHTS)
    return spec.framework == "custom" or (spec.framework is None and not weights)


class BeamModel(Model):
    """What a handler of Beam's loads, and how it runs it."""

    def __init__(self, handler: ModelHandler) -> None:
        self._handler = handler
        self._before = list(handler.get_preprocess_fns())
        self._after = list(handler.get_postprocess_fns())
        handler.set_environment_vars()
        self._model = handler.load_model()

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        examples = examples_of(inputs)
        for step in self._before:
            examples = [step(e) for e in examples]
        found = list(self._handler.run_inference(examples, self._model, {}))
        if len(found) != len(examples):
            raise PredictionError(
                f"{type(self._handler).__name__} returned {len(found):,} predictions for {len(examples):,} examples. "
                "It must return one for each.",
                got=len(found),
                expected=len(examples),
            )
        for step in self._after:
            found = [step(p) for p in found]
        return _arrays([p.inference if isinstance(p, PredictionResult) else p for p in found])


def examples_of(inputs: Arrays) -> list[Any]:
    """One example for each row: the row of the only input, or a dict by name.

    >>> examples_of({"x": np.array([[1, 2], [3, 4]])})
    [array([1, 2]), array([3, 4])]
    >>> examples_of({"a": np.array([1, 2]), "b": np.array([3, 4])})[1] == {"a": 2, "b": 4}
    True
    """
    rows_of(inputs)
    if len(inputs) == 1:
        return list(next(iter(inputs.values())))
    names = list(inputs)
    return [dict(zip(names, row, strict=True)) for row in zip(*inputs.values(), strict=True)]


def _arrays(predictions: Sequence[Any]) -> dict[str, npt.NDArray[Any]]:
    if predictions and isinstance(predictions[0], Mapping):
        return {str(name): _stacked([p[name] for p in predictions]) for name in predictions[0]}
    return {ONLY_OUTPUT: _stacked(predictions)}


def _stacked(values: Sequence[Any]) -> npt.NDArray[Any]:
    first = values[0] if values else None
    if isinstance(first, str):
        return np.array(values, dtype=object)
    if getattr(first, "ndim", 0) or isinstance(first, (list, tuple)):
        # Tensors of torch and TensorFlow have __array__; those of a GPU say themselves that they must be moved first.
        return np.stack([np.asarray(v) for v in values])
    return np.asarray(values)

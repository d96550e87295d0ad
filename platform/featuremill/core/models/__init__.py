"""Models: loading them safely, columns to their inputs, their outputs to columns. Without Beam.

The names below are looked up when they are asked for; no framework is imported before a model needs it.

>>> from featuremill.core.models import ModelSpec
>>> ModelSpec(path="late.onnx", inputs={"x": ["air_time", "distance"]}).inputs["x"].matrix
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featuremill.core.models.contract import Model, ModelFileError, PredictionError, Signature, TensorSpec
    from featuremill.core.models.loading import framework_of, load_model, model_version
    from featuremill.core.models.predictor import Predicted, Predictor
    from featuremill.core.models.serving import ServedModel, load_predictor
    from featuremill.core.models.spec import InputSpec, ModelSpec, OutputSpec, Padding

__all__ = [
    "InputSpec",
    "Model",
    "ModelFileError",
    "ModelSpec",
    "OutputSpec",
    "Padding",
    "Predicted",
    "PredictionError",
    "Predictor",
    "ServedModel",
    "Signature",
    "TensorSpec",
    "framework_of",
    "load_model",
    "load_predictor",
    "model_version",
]

_MODULES = {
    **dict.fromkeys(("Model", "ModelFileError", "PredictionError", "Signature", "TensorSpec"), "contract"),
    **dict.fromkeys(("framework_of", "load_model", "model_version"), "loading"),
    **dict.fromkeys(("Predicted", "Predictor"), "predictor"),
    **dict.fromkeys(("ServedModel", "load_predictor"), "serving"),
    **dict.fromkeys(("InputSpec", "ModelSpec", "OutputSpec", "Padding"), "spec"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

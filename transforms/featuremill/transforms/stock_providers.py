"""Beam's own MLTransform providers, made from a class path and arguments, with secrets that only workers see."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference

from featuremill.artifacts.errors import MissingExtraError, RequestError
from featuremill.transforms.beam_ml import MLTransformProvider
from featuremill.transforms.stock import ENV, Stock, resolve_secrets

__all__ = ["processing", "provider_of", "refers"]


def provider_of(step: Stock, *, secrets: bool) -> MLTransformProvider:
    """The provider of a step, made from its class and arguments.

    Parameters
    ----------
    secrets
        Whether references are replaced by what the environment holds.

    Raises
    ------
    RequestError, MissingExtraError
        When there is no such class, it is no provider, or does not take these arguments; when a variable is not set.
    """
    module, _, name = step.provider.rpartition(".")
    try:
        kind = getattr(import_module(module), name, None)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name and module.startswith(error.name):
            raise RequestError(f"There is no class {step.provider}: no module {error.name}.") from error
        extra = "pip install 'featuremill[tft]'" if step.is_tft else f"pip install the package that has {error.name!r}"
        raise MissingExtraError(f"{step.provider} cannot be imported ({error}): {extra}.") from error
    if not isinstance(kind, type) or not issubclass(kind, MLTransformProvider):
        raise RequestError(f"{step.provider} is no MLTransformProvider of Beam's.", transform=step.provider)
    told = resolve_secrets(dict(step.parameters), step.provider) if secrets else step.parameters
    arguments = {k: _argument(v) for k, v in told.items()}
    try:
        provider: MLTransformProvider = kind(columns=list(step.columns), **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequestError(f"{step.provider}: {error}.", transform=step.provider) from error
    except ImportError as error:
        raise MissingExtraError(f"{step.provider}: {error}.", transform=step.provider) from error
    return provider


def processing(step: Stock, place: str) -> beam.PTransform:
    """What Beam's provider does with rows; where its parameters refer to secrets, these are looked up on the worker.

    The launcher makes the provider with the references themselves, and these go into the pipeline. A worker makes it
    anew, with the values from its own environment, when the model is loaded.

    Raises
    ------
    RequestError
        As :func:`provider_of`; and when a provider with references is none that Beam's RunInference runs.
    """
    transform = provider_of(step, secrets=False).get_ptransform_for_processing(artifact_location=place)
    if not refers(step.parameters):
        return transform
    if not isinstance(transform, RunInference):
        raise RequestError(
            f"{step.provider}: its parameters refer to the environment, which is for models behind an API. Give the "
            "values, or let the class read the environment itself.",
            transform=step.provider,
        )
    transform._model_handler = _with_late_secrets(step, place)
    return transform


def refers(parameters: Any) -> bool:
    """Whether a parameter, at any depth, is a reference to the environment.

    >>> refers({"a": [{"token": "env:HF_TOKEN"}]}), refers({"a": "environment"})
    (True, False)
    """
    if isinstance(parameters, Mapping):
        return any(map(refers, parameters.values()))
    if isinstance(parameters, list | tuple):
        return any(map(refers, parameters))
    return isinstance(parameters, str) and parameters.startswith(ENV)


def _with_late_secrets(step: Stock, place: str) -> Any:
    """The handler of a step with references in the place of secrets, until the first call that needs them.

    Pickled, it is how to make it: the values that it may hold by then stay where they are.
    """
    handler = provider_of(step, secrets=False).get_ptransform_for_processing(artifact_location=place)._model_handler
    kind = type(handler)

    def revealed(self: Any) -> Any:
        if not self.__dict__.get("_revealed"):
            made = provider_of(step, secrets=True).get_ptransform_for_processing(artifact_location=place)
            self.__dict__.update(made._model_handler.__dict__, _revealed=True)
        return super(late, self)

    late = type(kind.__name__, (kind,), {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__reduce__": lambda _: (_with_late_secrets, (step, place)),
        "load_model": lambda self: revealed(self).load_model(),
        "run_inference": lambda self, *args, **kwargs: revealed(self).run_inference(*args, **kwargs),
    })  # fmt: skip
    handler.__class__ = late
    return handler


def _argument(value: Any) -> Any:
    """JSON and YAML have no tuples, and ops such as NGrams compare with one."""
    return tuple(value) if isinstance(value, list) and len(value) == 2 and all(type(v) is int for v in value) else value

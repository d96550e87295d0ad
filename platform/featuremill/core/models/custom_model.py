"""Models of the user's own: a class that the job file names.

Naming a class is how a user says that its code may run. It needs no base class; what it must have is
``predict(inputs)``, and what it may have is told by :class:`CustomModel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import ParameterError
from featuremill.core.models.contract import Arrays, Model, PredictionError, Signature
from featuremill.core.models.extras import named_class
from featuremill.core.models.spec import ModelSpec

__all__ = ["ONLY_OUTPUT", "CustomModel", "custom_class", "load"]

ONLY_OUTPUT = "prediction"
"""The name of the output of a class that gives an array alone."""


class CustomModel(Model):
    """An object of the user's class, as a model.

    ``predict(inputs)`` gets a dict of arrays, the first axis being the row, and returns an array or a dict of them, a
    row for each. Before that ``load(path)`` is called once, where the class has it and the job names a path.
    ``signature``, an attribute or a method, may tell the inputs and outputs.

    >>> import numpy
    >>> class Sum:
    ...     def predict(self, inputs):
    ...         return inputs["x"].sum(axis=1)
    >>> CustomModel(Sum(), "my:Sum").predict({"x": numpy.ones((2, 3))})
    {'prediction': array([3., 3.])}
    """

    def __init__(self, made: Any, name: str) -> None:
        self._made = made
        self._name = name
        told = getattr(made, "signature", None)
        told = told() if callable(told) else told
        if told is not None and not isinstance(told, Signature):
            raise ParameterError(
                f"class {name}: signature is {type(told).__name__}, expected a featuremill.core.models.Signature.",
                parameter="class",
            )
        self._signature = told or Signature()

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        result = self._made.predict(dict(inputs))
        if not isinstance(result, Mapping):
            result = {ONLY_OUTPUT: result}
        return {str(name): self._array(str(name), value) for name, value in result.items()}

    def _array(self, name: str, value: Any) -> npt.NDArray[Any]:
        if value is None:
            raise PredictionError(f"class {self._name}: predict gave None for {name!r}, not an array.", output=name)
        array = np.asarray(value)
        return array.astype(object) if array.dtype.kind == "U" else array


def custom_class(spec: ModelSpec) -> type[Any]:
    """The class that a job file names, imported.

    Raises
    ------
    ParameterError
        When it cannot be imported, or is no class.

    >>> custom_class(ModelSpec.model_validate({"class": "collections:OrderedDict"}))
    <class 'collections.OrderedDict'>
    >>> custom_class(ModelSpec.model_validate({"class": "collections:OrderdDict"}))
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: class got 'collections:OrderdDict': collections has no 'OrderdDict'.
    Did you mean 'OrderedDict'...
    """
    if spec.class_ is None:
        raise ParameterError(
            "A custom model needs its class: package.module:Class.", parameter="class", path=spec.path
        )
    return named_class(spec.class_)


def load(path: str, spec: ModelSpec) -> Model:
    """The user's model: an object of the class, made with the arguments, with the file at `path` loaded ('': none).

    Raises
    ------
    ParameterError
        When the class cannot be imported or made, or has no `predict`, or no `load` for the path.
    """
    kind = custom_class(spec)
    if hasattr(kind, "run_inference") and hasattr(kind, "load_model"):
        raise ParameterError(
            f"class {spec.class_}: this is one of Beam's model handlers. It runs in jobs; here a class with "
            "predict(inputs) is needed.",
            parameter="class", value=spec.class_,
        )
    if not callable(getattr(kind, "predict", None)):
        raise ParameterError(
            f"class {spec.class_} has no predict(inputs), which takes a dict of arrays and returns an array or a "
            "dict of them.",
            parameter="class", value=spec.class_,
        )
    if path and not hasattr(kind, "load"):
        raise ParameterError(
            f"class {spec.class_} has no load(path), and the job names a path, {spec.path}. Add the method, or leave "
            "out the path.",
            parameter="class", value=spec.class_,
        )
    try:
        made = kind(**spec.arguments)
    except TypeError as error:
        raise ParameterError(
            f"class {spec.class_} cannot be made with arguments {sorted(spec.arguments)}: {error}.",
            parameter="arguments", value=spec.class_,
        ) from error
    if path:
        made.load(path)
    return made if isinstance(made, Model) else CustomModel(made, str(spec.class_))

"""Inputs held against what a model's file says it takes, before the framework says so in its own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import ParameterError, suggest
from featuremill.core.models.contract import Arrays, Signature, TensorSpec

__all__ = ["describe", "fitted"]


def fitted(inputs: Arrays, signature: Signature, where: str) -> dict[str, npt.NDArray[Any]]:
    """The inputs in the signature's order and types, copied only where a type changes; `where` names the model.

    An only input may have any name. Numbers are converted within their kind (float64 to float32, int64 to int32, whole
    numbers to floating-point ones), never from floating-point to whole numbers, and never between text and numbers.

    Raises
    ------
    ParameterError
        When an input is missing or not known, or has another shape or kind than the model takes.

    >>> signature = Signature(inputs=(TensorSpec("x", "float32", (2,)),))
    >>> fitted({"x": np.zeros((3, 2))}, signature, "m.keras")["x"].dtype
    dtype('float32')
    >>> fitted({"x": np.zeros((3, 5))}, signature, "m.keras")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: m.keras: the input 'x' is float64 of shape (3, 5), the model takes \
float32 of shape (n_rows, 2). Change the columns of inputs, or their dtype.
    """
    wanted = {t.name: t for t in signature.inputs}
    if len(inputs) == len(wanted) == 1:
        return {name: _fitted(array, wanted[name], where) for name, array in zip(wanted, inputs.values(), strict=True)}
    missing, unknown = wanted.keys() - inputs.keys(), inputs.keys() - wanted.keys()
    if missing or unknown:
        what = (
            f"the input {min(missing)!r} is missing, given: {', '.join(map(repr, inputs))}. Name its columns in inputs."
            if missing
            else f"the model has no input {min(unknown)!r}. {suggest(min(unknown), list(wanted))}"
        )
        raise ParameterError(f"{where}: {what}", where=where, inputs=list(inputs), wanted=list(wanted))
    return {name: _fitted(inputs[name], tensor, where) for name, tensor in wanted.items()}


def describe(inputs: Mapping[str, npt.NDArray[Any]]) -> str:
    """Names, types and shapes in one line.

    >>> describe({"x": np.zeros((3, 2)), "n": np.zeros(3, np.int64)})
    'x float64 (3, 2), n int64 (3,)'
    """
    return ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in inputs.items())


def _fitted(array: npt.NDArray[Any], wanted: TensorSpec, where: str) -> npt.NDArray[Any]:
    if wanted.shape is not None and not _same_shape(array.shape[1:], wanted.shape):
        raise _unfit(array, wanted, where)
    if wanted.dtype is None or array.dtype == np.dtype(wanted.dtype):
        return array
    target = np.dtype(wanted.dtype)
    if not np.can_cast(array.dtype, target, casting="same_kind"):
        raise _unfit(array, wanted, where)
    return array.astype(target)


def _same_shape(given: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(given) == len(wanted) and all(w is None or g == w for g, w in zip(given, wanted, strict=True))


def _unfit(array: npt.NDArray[Any], wanted: TensorSpec, where: str) -> ParameterError:
    sizes = None if wanted.shape is None else ["n_rows", *("any" if n is None else str(n) for n in wanted.shape)]
    shape = "any shape" if sizes is None else f"shape ({', '.join(sizes)})"
    return ParameterError(
        f"{where}: the input {wanted.name!r} is {array.dtype} of shape {array.shape}, the model takes "
        f"{wanted.dtype or 'numbers'} of {shape}. Change the columns of inputs, or their dtype.",
        where=where, input=wanted.name, shape=array.shape, dtype=str(array.dtype),
    )

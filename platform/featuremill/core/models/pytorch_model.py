"""PyTorch models: weights with a class that the user names, and exported programs.

=================  ===================================================================================================
``.safetensors``   weights; needs ``class: package.module:Class`` and its ``arguments``
``.pt``, ``.pth``  the same as a pickle of tensors. A checkpoint that keeps its weights under a key says which:
                   ``options: {state_dict: model}``. One that needs more than tensors is refused, unless it is trusted
                   by ``allow_pickle`` and its digest; then it may also hold a whole module, without a class.
``.pt2``           a program of ``torch.export.save``, which brings its own graph
=================  ===================================================================================================

TorchScript is not read: PyTorch deprecated it, and its archives hold code. Export such a model with ``torch.export``.

Arrays become tensors without a copy. Floating-point inputs get the type of the model's parameters, unless ``inputs``
gives a dtype. Outputs are named ``output``, or ``output_0``, ``output_1`` …, or after the keys of a dict and the fields
of a dataclass or named tuple.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import ParameterError
from featuremill.core.models.contract import Arrays, Model, PredictionError, Signature, TensorSpec
from featuremill.core.models.pytorch_files import Program, open_model
from featuremill.core.models.spec import ModelSpec
from featuremill.core.models.tensor_inputs import describe, fitted

__all__ = ["PyTorchModel", "load"]

CPU_ROWS = 16_384
"""Rows for one call on the CPU: what the layers hand on then stays in its cache, and memory used before is used again.
A network of 20, 64, 32 and 1 units took 0.5 s for a million rows in calls of 131,072, and 0.25 s in these."""

# What PyTorch says of inputs of a wrong shape or type, whatever their values.
NOT_TAKEN = re.compile(
    r"shapes cannot be multiplied|must have the same dtype|expected scalar type|mixed dtype|[Ee]xpected .*to have"
    r"|[Ee]xpected (tensor|input|\d+-?D|\d+D)|[Gg]iven (normalized_shape|groups)|must match the size of tensor"
)


def load(path: str, spec: ModelSpec) -> Model:
    """The model in a local file.

    Raises
    ------
    ModelFileError
        When the file is missing, damaged, of another framework, could run code, or does not fit the class.
    RequestError
        When the class cannot be imported or made, or the device is not there.
    MissingExtraError
        When PyTorch is not installed.
    """
    found = open_model(path, spec)
    if isinstance(found, Program):
        return PyTorchModel(_in_order(found.module, found.positional), found.signature, spec, where=path, checked=True)
    parameters, signature = _forward(found, spec)
    return PyTorchModel(
        _by_name(found, parameters), signature, spec, where=path, float_type=next(_float_types(found), None)
    )


class PyTorchModel(Model):
    """A module, called in inference mode.

    Parameters
    ----------
    call
        Takes the tensors by name.
    signature
        Of the module; with `checked`, inputs are held against it.
    float_type
        What floating-point inputs without a declared dtype become.

    The number of threads is PyTorch's own setting, which counts for the process, or with OpenMP for the calling thread;
    it is set again whenever somebody else changed it.
    """

    def __init__(
        self, call: Callable[[Mapping[str, Any]], Any], signature: Signature, spec: ModelSpec, *, where: str,
        checked: bool = False, float_type: Any = None,
    ) -> None:
        import torch

        self._call = call
        self._signature = signature
        self._where = where
        self._checked = checked
        self._float_type = float_type
        self._device = torch.device(spec.device)
        self._threads = spec.threads or 1
        self.batch_rows = CPU_ROWS if self._device.type == "cpu" else None
        self._typed = {name for name, given in (spec.inputs or {}).items() if given.dtype is not None}
        # The first call shows whether the model writes into its inputs; until then, and if so, it gets copies.
        self._copies = True
        self._tried = False

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        import torch

        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        arrays = fitted(inputs, self._signature, self._where) if self._checked else inputs
        copies = self._copies
        tensors = {name: self._tensor(name, array, copies) for name, array in arrays.items()}
        try:
            with torch.inference_mode():
                result = self._call(tensors)
        except RuntimeError as error:
            if not NOT_TAKEN.search(str(error)):
                raise
            raise ParameterError(
                f"{self._where} does not take {describe(arrays)}: {str(error).splitlines()[0].rstrip('.')}. Change the "
                "columns of inputs, or their dtype.",
                where=self._where,
            ) from error
        if not self._tried:
            self._tried, self._copies = True, any(t._version for t in tensors.values())
        return {name: _array(value, name, self._where) for name, value in _named(result, "output")}

    def _tensor(self, name: str, array: npt.NDArray[Any], copy: bool) -> Any:
        import torch

        if array.dtype.kind not in "fiub":
            raise ParameterError(
                f"{self._where}: the input {name!r} is {array.dtype}, PyTorch takes numbers. Make numbers of it with a "
                "transform, such as a vocabulary.",
                where=self._where, input=name,
            )
        tensor = torch.from_numpy(np.array(array) if copy else _writable(array))
        to_type = self._float_type if tensor.is_floating_point() and name not in self._typed else None
        return tensor.to(self._device, to_type or tensor.dtype)


# --- calling ----------------------------------------------------------------------------------------------------------


def _by_name(module: Any, parameters: Sequence[str]) -> Callable[[Mapping[str, Any]], Any]:
    def call(tensors: Mapping[str, Any]) -> Any:
        if len(tensors) == 1 and not tensors.keys() <= set(parameters):
            return module(*tensors.values())
        return module(**tensors)

    return call


def _in_order(module: Any, positional: int) -> Callable[[Mapping[str, Any]], Any]:
    def call(tensors: Mapping[str, Any]) -> Any:
        names = list(tensors)
        return module(*(tensors[n] for n in names[:positional]), **{n: tensors[n] for n in names[positional:]})

    return call


def _forward(module: Any, spec: ModelSpec) -> tuple[list[str], Signature]:
    """The names of forward's arguments, and of those that are tensors as far as can be told: needed, or asked for."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY) for p in parameters):
        return [], Signature()
    given = spec.inputs or {}
    masks = {i.pad.mask for i in given.values() if i.pad is not None}
    asked = [p.name for p in parameters if p.default is p.empty or p.name in given or p.name in masks]
    return [p.name for p in parameters], Signature(inputs=tuple(TensorSpec(name) for name in asked))


def _float_types(module: Any) -> Iterator[Any]:
    yield from (p.dtype for p in module.parameters() if p.is_floating_point())
    yield from (b.dtype for b in module.buffers() if b.is_floating_point())


def _writable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same memory as an array that PyTorch takes without a warning; a copy where it steps backwards."""
    if not array.dtype.isnative or any(step < 0 for step in array.strides):
        return np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return array if array.flags.writeable else np.asarray(_Unlocked(array))


class _Unlocked:
    """An array's memory, said to be writable. Nothing here writes to it: a model that works in place gets copies."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


# --- results ----------------------------------------------------------------------------------------------------------


def _named(result: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The parts of what a module returned; None is left out."""
    if dataclasses.is_dataclass(result) and not isinstance(result, Mapping):
        result = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    elif hasattr(result, "_fields"):
        result = dict(zip(result._fields, result, strict=True))
    outermost = name == "output"
    if isinstance(result, Mapping):
        for key, value in result.items():
            yield from _named(value, str(key) if outermost else f"{name}_{key}")
    elif isinstance(result, list | tuple):
        for i, value in enumerate(result):
            yield from _named(value, f"{name}_{i}")
    elif result is not None:
        yield name, result


def _array(value: Any, name: str, where: str) -> npt.NDArray[Any]:
    import torch

    if not isinstance(value, torch.Tensor):
        raise PredictionError(
            f"{where}: the model gave {type(value).__name__} for {name!r}, expected a tensor. Return tensors from "
            "forward.",
            output=name,
        )
    value = value.detach().cpu()
    if value.dtype == torch.bfloat16:  # NumPy has no such type
        value = value.float()
    array: npt.NDArray[Any] = value.resolve_conj().resolve_neg().numpy()
    return array

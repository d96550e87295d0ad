"""Loaded ONNX models: what they have in common wherever they run, and the sessions of ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import MissingExtraError, ParameterError, RequestError

__all__ = ["Choice", "ModelFileError", "Session", "Tensor", "dtype_of", "import_for", "open_cpu", "open_cuda"]

ERRORS_ONLY = 3
"""ONNX Runtime's level of its log."""
OUTSIDE = b"\n\x08location"
"""What an ONNX file has in it, as protobuf writes it, if weights of it are to be read from another file."""

Feeds = Mapping[str, npt.NDArray[Any]]


class ModelFileError(ParameterError):
    """A model file that is missing, damaged, of another framework, or not to be trusted."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model."""

    name: str
    type: str
    """ONNX Runtime's name, such as ``tensor(float)``."""
    shape: tuple[int | str | None, ...]
    """What is no number varies."""


@dataclass(frozen=True)
class Choice:
    """Where a model runs."""

    model: str
    """What it is called."""
    backend: str
    """``tensorrt``, ``cuda`` or ``cpu``."""
    device: str
    """The GPU, or ``cpu``."""
    refused: tuple[tuple[str, str], ...] = ()
    """The backends that were tried before, each with the reason why it is not the one."""

    def to_json(self) -> dict[str, Any]:
        """As JSON-ready values.

        >>> Choice("m.onnx", "cpu", "cpu", (("cuda", "no GPU"),)).to_json()
        {'model': 'm.onnx', 'backend': 'cpu', 'device': 'cpu', 'refused': {'cuda': 'no GPU'}}
        """
        return {
            "model": self.model, "backend": self.backend, "device": self.device, "refused": dict(self.refused),
        }  # fmt: skip

    def __str__(self) -> str:
        told = "".join(f" {name}: {reason}" for name, reason in self.refused)
        return f"{self.model} runs on {self.backend} ({self.device}).{told}"


class Session(Protocol):
    """A loaded model. Threads may share it."""

    @property
    def choice(self) -> Choice:
        """Where it runs."""

    @property
    def inputs(self) -> Sequence[Tensor]: ...

    @property
    def outputs(self) -> Sequence[Tensor]: ...

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[npt.NDArray[Any]]:
        """The outputs of these names, fresh arrays, for inputs by name."""


def import_for(module: str, extra: str, where: str) -> Any:
    """A package that a model needs.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'The model {where} needs the package {module}: pip install "featuremill[{extra}]".',
            package=module, extra=extra,
        ) from error  # fmt: skip


# --- ONNX Runtime -----------------------------------------------------------------------------------------------------


class _Runtime:
    """A session of ONNX Runtime."""

    def __init__(self, session: Any, choice: Choice) -> None:
        self._session = session
        self.choice = choice
        self.inputs = tuple(Tensor(i.name, i.type, tuple(i.shape)) for i in session.get_inputs())
        self.outputs = tuple(Tensor(o.name, o.type, tuple(o.shape)) for o in session.get_outputs())

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[npt.NDArray[Any]]:
        found: list[npt.NDArray[Any]] = self._session.run(list(outputs), dict(feeds))
        return found


def open_cpu(model: bytes | Path, where: str, *, threads: int = 1) -> Session:
    """The model on the processor, for a look at it: nothing is logged or kept.

    Raises
    ------
    ModelFileError
        When the bytes are no model that the runtime can load, or have their weights in another file.
    MissingExtraError
        When ONNX Runtime is not installed.
    """
    ort = import_for("onnxruntime", "embeddings", where)
    session = _session(ort, model, where, threads, ["CPUExecutionProvider"])
    if isinstance(model, bytes):
        # It keeps the file in memory, beside the weights, to start anew on another device, of which there is none.
        session._model_bytes = b""
    return _Runtime(session, Choice(where, "cpu", "cpu"))


def open_cuda(model: bytes | Path, where: str, *, gpu: int = 0, threads: int = 1) -> Session:
    """The model on a GPU.

    Raises
    ------
    RequestError
        When this ONNX Runtime has no CUDA, or CUDA does not work here.
    ModelFileError, MissingExtraError
        As :func:`open_cpu`.
    """
    ort = import_for("onnxruntime", "embeddings", where)
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise RequestError("this ONNX Runtime has no CUDA. Install onnxruntime-gpu instead of onnxruntime")
    if hasattr(ort, "preload_dlls"):
        # Finds the CUDA libraries that came as Python packages; without it torch has to have been imported before.
        ort.preload_dlls()
    cuda = ("CUDAExecutionProvider", {"device_id": gpu, "use_tf32": 0})
    session = _session(ort, model, where, threads, [cuda, "CPUExecutionProvider"])
    # Available means that this build has the provider; whether it works shows only now.
    got = session.get_providers()[0]
    if got != "CUDAExecutionProvider":
        raise RequestError(
            f"ONNX Runtime took {got} instead: CUDA does not work here. Check the driver and the CUDA libraries that "
            "this onnxruntime-gpu wants"
        )
    return _Runtime(session, Choice(where, "cuda", f"cuda:{gpu}"))


def _session(ort: Any, model: bytes | Path, where: str, threads: int, providers: Sequence[Any]) -> Any:
    if isinstance(model, bytes) and OUTSIDE in model:
        raise ModelFileError(
            f"The model {where} has its weights in another file. Save it as one file, without external data.",
            parameter="model", model=where,
        )  # fmt: skip
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    try:
        return ort.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=list(providers)
        )
    except Exception as error:  # ONNX Runtime has a class for each kind of failure, and no base class.
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelFileError(
            f"The model {where} is none that ONNX Runtime {ort.__version__} can load: {told}",
            parameter="model", model=where, path=where,
        ) from error  # fmt: skip


# --- types ------------------------------------------------------------------------------------------------------------

_NUMPY = {
    "float": "float32", "double": "float64", "float16": "float16", "int8": "int8", "int16": "int16", "int32": "int32",
    "int64": "int64", "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64", "bool": "bool",
    "string": "object",
}  # fmt: skip
_TENSOR = re.compile(r"tensor\((\w+)\)")


def dtype_of(tensor: Tensor) -> np.dtype[Any] | None:
    """NumPy's type of a tensor; None for what has none, such as a sequence of dicts.

    >>> dtype_of(Tensor("x", "tensor(float)", ())), dtype_of(Tensor("x", "seq(map(string,tensor(float)))", ()))
    (dtype('float32'), None)
    """
    kind = _TENSOR.fullmatch(tensor.type)
    return None if kind is None or kind[1] not in _NUMPY else np.dtype(_NUMPY[kind[1]])

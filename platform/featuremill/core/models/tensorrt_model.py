"""TensorRT: engines (``.engine``, ``.plan``), and ONNX files that engines are built from.

Inputs go by name, outputs are fresh arrays at every call, a batch that is longer than the engine takes is divided, and
a shorter rest is filled up and cut again. Works with the Python API of TensorRT 10 and 11; buffers are PyTorch's.

An engine is machine code for a GPU. Code for the processor, which TensorRT can put into engines too, is not loaded.
``device: cpu``, the default, stands for the first GPU.

No test has run this on a GPU with TensorRT so far: it is exercised on a stand-in for the engine's calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import JobError, ParameterError, RequestError
from featuremill.core.models.contract import Arrays, Model, ModelFileError, Signature, TensorSpec, rows_of
from featuremill.core.models.extras import import_extra
from featuremill.core.models.spec import ModelSpec
from featuremill.core.models.tensor_inputs import describe, fitted
from featuremill.core.models.tensorrt_engine import Bounds, Profile, engine_for

__all__ = ["TensorRTModel", "load"]

OLDEST = 10
TYPES = {
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT64": "int64", "INT32": "int32", "INT8": "int8",
    "UINT8": "uint8", "BOOL": "bool",
}
"""PyTorch's names for TensorRT's types."""


def load(path: str, spec: ModelSpec) -> Model:
    """The model in an engine file, or the engine built from an ONNX file.

    Raises
    ------
    MissingExtraError
        When TensorRT or PyTorch is not installed.
    RequestError
        When there is no GPU, or TensorRT is too old.
    ModelFileError
        When the file is missing, or no engine for this GPU and release, or cannot be parsed.
    """
    trt = import_extra("tensorrt", "tensorrt", path)
    torch = import_extra("torch", "torch", path)
    if int(trt.__version__.split(".")[0]) < OLDEST:
        raise RequestError(
            f"{path}: TensorRT {trt.__version__} is installed, expected {OLDEST} or newer. pip install -U tensorrt.",
            path=path,
        )
    if not Path(path).is_file():
        raise ModelFileError(f"{path}: there is no such file.", path=path)
    device = _gpu(torch, spec, path)
    if path.endswith(".onnx"):
        major, minor = torch.cuda.get_device_capability(device)
        kind = f"{torch.cuda.get_device_name(device)} {major}.{minor}"
        with torch.cuda.device(device):
            engine = engine_for(trt, path, spec, kind)
    else:
        with torch.cuda.device(device):
            engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(Path(path).read_bytes())
        if engine is None:
            raise ModelFileError(
                f"{path} is no engine for TensorRT {trt.__version__} on this GPU. Engines fit the release and the kind "
                "of GPU that they were built with: give the .onnx file, and one is built here.",
                path=path,
            )
    return TensorRTModel(trt, engine, device=device, where=path)


def _gpu(torch: Any, spec: ModelSpec, path: str) -> Any:
    name = "cuda" if spec.device == "cpu" else spec.device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = torch.device(name) if name == "cuda" or name.startswith("cuda:") else None
    if device is None or (device.index or 0) >= count:
        raise RequestError(
            f"{path}: TensorRT needs a GPU, and PyTorch {torch.__version__} sees {count or 'none'} here (device: "
            f"{spec.device}). Use a machine with one and a build of PyTorch with CUDA, or framework: onnx.",
            path=path, device=spec.device,
        )
    return torch.device("cuda", device.index or 0)


class TensorRTModel(Model):
    """An engine. Threads take turns: an execution context serves one call at a time."""

    def __init__(self, trt: Any, engine: Any, *, device: Any, where: str) -> None:
        import torch

        self._engine = engine
        self._where = where
        self._device = torch.device(device)
        self._lock = Lock()
        self._contexts: dict[int, Any] = {}
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self._outputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT]
        self._types = {n: _type(torch, engine.get_tensor_dtype(n), n, where) for n in names}
        self._profiles: list[Profile] = [
            {n: Bounds(*(tuple(s) for s in engine.get_tensor_profile_shape(n, p))) for n in self._inputs}
            for p in range(engine.num_optimization_profiles)
        ]
        self._signature = Signature(tuple(map(self._spec, self._inputs)), tuple(map(self._spec, self._outputs)))
        cuda: Any = torch.cuda  # without types of its own
        self._stream = cuda.Stream(self._device) if self._device.type == "cuda" else None

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        arrays = fitted(inputs, self._signature, self._where)
        rows = rows_of(arrays)
        number = self._profile(arrays)
        bounds = self._profiles[number]
        least = max(b.least[0] for b in bounds.values())
        most = min(b.most[0] for b in bounds.values())
        parts = []
        for start in range(0, max(rows, 1), most):
            size = min(most, rows - start)
            part = {name: _filled(array[start : start + size], least) for name, array in arrays.items()}
            with self._lock:
                results = self._run(number, part)
            parts.append({name: array[:size] for name, array in results.items()})
        return {n: np.concatenate([p[n] for p in parts]) if len(parts) > 1 else parts[0][n] for n in self._outputs}

    def _profile(self, arrays: Mapping[str, npt.NDArray[Any]]) -> int:
        """The first profile that takes these sizes, apart from the number of rows."""
        for number, profile in enumerate(self._profiles):
            if all(profile[n].hold((profile[n].most[0], *array.shape[1:])) for n, array in arrays.items()):
                return number
        known = "; ".join(
            ", ".join(f"{n} {b.least[1:]} to {b.most[1:]}" for n, b in profile.items()) for profile in self._profiles
        )
        raise ParameterError(
            f"{self._where}: no profile of the engine takes {describe(arrays)}; it takes rows of {known}. Change pad "
            "or max_length of inputs, or build the engine for these sizes.",
            where=self._where,
        )

    def _run(self, number: int, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        import torch

        with torch.cuda.stream(self._stream):  # does nothing for None
            context = self._context(number)
            # Named until the end: the engine knows addresses alone.
            given = {n: torch.from_numpy(array).to(self._device, self._types[n]) for n, array in arrays.items()}
            for name, tensor in given.items():
                if not context.set_input_shape(name, tuple(tensor.shape)):
                    raise JobError(f"{self._where}: TensorRT refuses the shape {tuple(tensor.shape)} for {name!r}.")
                context.set_tensor_address(name, tensor.data_ptr())
            if open_ := list(context.infer_shapes()):
                raise JobError(f"{self._where}: TensorRT cannot tell the shapes of {', '.join(open_)}.")
            results = dict(self._buffers(context))
            if not context.execute_async_v3(self._stream.cuda_stream if self._stream else 0):
                raise JobError(f"{self._where}: TensorRT could not run the engine; its log says why.")
            if self._stream:
                self._stream.synchronize()
            return {
                name: (t.float() if t.dtype == torch.bfloat16 else t).cpu().numpy() for name, t in results.items()
            }

    def _buffers(self, context: Any) -> Iterator[tuple[str, Any]]:
        """Fresh outputs: a result is never overwritten by the next call."""
        import torch

        for name in self._outputs:
            shape = tuple(context.get_tensor_shape(name))
            if any(n < 0 for n in shape):
                raise JobError(f"{self._where}: the size of {name!r} depends on the values, which is not supported.")
            buffer = torch.empty(shape, dtype=self._types[name], device=self._device)
            context.set_tensor_address(name, buffer.data_ptr())
            yield name, buffer

    def _context(self, number: int) -> Any:
        if number not in self._contexts:
            context = self._engine.create_execution_context()
            if context is None:
                raise MemoryError(f"{self._where}: TensorRT has no memory for another profile.")
            if not context.set_optimization_profile_async(number, self._stream.cuda_stream if self._stream else 0):
                raise JobError(f"{self._where}: TensorRT refuses its profile {number}.")
            self._contexts[number] = context
        return self._contexts[number]

    def _spec(self, name: str) -> TensorSpec:
        dtype = str(self._types[name]).removeprefix("torch.")
        shape = tuple(self._engine.get_tensor_shape(name))
        return TensorSpec(
            name, "float32" if dtype == "bfloat16" else dtype, tuple(None if n < 0 else n for n in shape[1:])
        )


def _type(torch: Any, dtype: Any, name: str, where: str) -> Any:
    if dtype.name not in TYPES:
        raise ModelFileError(
            f"{where}: the tensor {name!r} is {dtype.name}, expected one of {', '.join(TYPES)}. Build the engine with "
            "inputs and outputs of such a type.",
            path=where, tensor=name,
        )
    return getattr(torch, TYPES[dtype.name])


def _filled(array: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """An array of at least so many rows, its own or a copy in one piece: what is added are repetitions, or zeros."""
    if len(array) < rows:
        more = rows - len(array)
        rest = np.repeat(array[-1:], more, axis=0) if len(array) else np.zeros((more, *array.shape[1:]), array.dtype)
        array = np.concatenate([array, rest])
    return np.require(array, requirements=["C", "W"])

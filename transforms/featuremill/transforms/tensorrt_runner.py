"""TensorRT engines run: inputs by name, fresh outputs at every call, batches of any size.

A batch that is longer than the engine takes is divided, and a shorter rest is filled up and cut again. Works with the
Python API of TensorRT 10 and 11; buffers are PyTorch's.

No test has run this on a GPU with TensorRT so far: it is type-checked against the bindings of both, and exercised on a
stand-in for the engine's calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import JobError, ParameterError, RequestError
from featuremill.transforms.onnx_sessions import Choice, ModelFileError, Tensor, import_for
from featuremill.transforms.tensorrt_profiles import Bounds, Profile

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["TensorRTSession", "gpu_of", "open_engine", "require_tensorrt"]

OLDEST = 10
TYPES = {
    "FLOAT": ("float32", "float"), "HALF": ("float16", "float16"), "BF16": ("bfloat16", "float"),
    "INT64": ("int64", "int64"), "INT32": ("int32", "int32"), "INT8": ("int8", "int8"), "UINT8": ("uint8", "uint8"),
    "BOOL": ("bool", "bool"),
}  # fmt: skip
"""PyTorch's and ONNX's names for TensorRT's types; bfloat16, which NumPy does not have, goes in and out as float32."""


def require_tensorrt(where: str) -> None:
    """See that TensorRT and PyTorch are there.

    Raises
    ------
    MissingExtraError
        When one is not installed.
    RequestError
        When TensorRT is too old.
    """
    trt = import_for("tensorrt", "tensorrt", where)
    import_for("torch", "torch", where)
    if int(trt.__version__.split(".")[0]) < OLDEST:
        raise RequestError(
            f"{where}: TensorRT {trt.__version__} is installed, expected {OLDEST} or newer. pip install -U tensorrt.",
            path=where,
        )


def gpu_of(where: str, index: int) -> tuple[Any, str]:
    """``(PyTorch's device, what tells this kind of GPU from others)``.

    Raises
    ------
    RequestError
        When there is no such GPU.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise RequestError(
            f"{where}: TensorRT needs a GPU, and PyTorch {torch.__version__} sees {count or 'none'} here (device: "
            f"cuda:{index}). Use a machine with one and a build of PyTorch with CUDA, or run it with ONNX Runtime.",
            path=where, device=f"cuda:{index}",
        )  # fmt: skip
    major, minor = torch.cuda.get_device_capability(index)
    return torch.device("cuda", index), f"{torch.cuda.get_device_name(index)} {major}.{minor}"


def open_engine(path: Path, where: str, index: int) -> TensorRTSession:
    """The engine in a file that TensorRT wrote. Code for the processor, which it may hold, is not loaded.

    Raises
    ------
    ModelFileError
        When it is none for this release and this GPU.
    """
    import tensorrt as trt
    import torch

    device, gpu = gpu_of(where, index)
    with torch.cuda.device(device):
        engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise ModelFileError(
            f"{where} is no engine for TensorRT {trt.__version__} on this GPU. Engines fit the release and the kind "
            "of GPU that they were built with: give the .onnx file, and one is built here.",
            path=where,
        )
    return TensorRTSession(engine, device=device, where=where, gpu=gpu)


class TensorRTSession:
    """An engine. Threads take turns: an execution context serves one call at a time.

    Parameters
    ----------
    engine
        An ``ICudaEngine``.
    device
        PyTorch's.
    where
        What to call the model in errors.
    gpu
        What to call the GPU.
    """

    def __init__(self, engine: trt.ICudaEngine, *, device: Any, where: str, gpu: str) -> None:
        import tensorrt as trt
        import torch

        self.choice = Choice(where, "tensorrt", gpu)
        self._engine = engine
        self._where = where
        self._device = torch.device(device)
        self._lock = Lock()
        self._contexts: dict[int, trt.IExecutionContext] = {}
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        given = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self._made = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT]
        kinds = {n: _kind(engine.get_tensor_dtype(n), n, where) for n in names}
        self._types = {n: getattr(torch, kind) for n, (kind, _) in kinds.items()}
        self._profiles: list[Profile] = [
            {n: Bounds(*(tuple(s) for s in engine.get_tensor_profile_shape(n, p))) for n in given}
            for p in range(engine.num_optimization_profiles)
        ]
        shapes = {n: tuple(None if d < 0 else d for d in engine.get_tensor_shape(n)) for n in names}
        self.inputs, self.outputs = (
            tuple(Tensor(n, f"tensor({kinds[n][1]})", shapes[n]) for n in part) for part in (given, self._made)
        )
        cuda: Any = torch.cuda  # without types of its own
        self._stream = cuda.Stream(self._device) if self._device.type == "cuda" else None

    def run(self, outputs: Sequence[str], feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """The outputs of these names for inputs by name, each of shape (n_rows, …).

        Raises
        ------
        ParameterError
            When no profile takes inputs of these sizes.
        JobError
            When the engine fails.
        """
        rows = len(next(iter(feeds.values())))
        number = self._profile(feeds)
        bounds = self._profiles[number]
        least = max(b.least[0] for b in bounds.values())
        most = min(b.most[0] for b in bounds.values())
        parts: list[dict[str, npt.NDArray[Any]]] = []
        for start in range(0, max(rows, 1), most):
            size = min(most, rows - start)
            part = {name: _filled(array[start : start + size], least) for name, array in feeds.items()}
            with self._lock:
                results = self._run(number, part)
            parts.append({name: array[:size] for name, array in results.items()})
        return [np.concatenate([p[n] for p in parts]) if len(parts) > 1 else parts[0][n] for n in outputs]

    def _profile(self, arrays: Mapping[str, npt.NDArray[Any]]) -> int:
        """The first profile that takes these sizes, apart from the number of rows."""
        for number, profile in enumerate(self._profiles):
            if all(profile[n].hold((profile[n].most[0], *array.shape[1:])) for n, array in arrays.items()):
                return number
        known = "; ".join(
            ", ".join(f"{n} {b.least[1:]} to {b.most[1:]}" for n, b in profile.items()) for profile in self._profiles
        )
        got = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
        raise ParameterError(
            f"{self._where}: no profile of the engine takes {got}; it takes rows of {known}. Change pad or max_length "
            "of inputs, or build the engine for these sizes.",
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

    def _buffers(self, context: trt.IExecutionContext) -> Iterator[tuple[str, Any]]:
        """Fresh outputs: a result is never overwritten by the next call."""
        import torch

        for name in self._made:
            shape = tuple(context.get_tensor_shape(name))
            if any(n < 0 for n in shape):
                raise JobError(f"{self._where}: the size of {name!r} depends on the values, which is not supported.")
            buffer = torch.empty(shape, dtype=self._types[name], device=self._device)
            context.set_tensor_address(name, buffer.data_ptr())
            yield name, buffer

    def _context(self, number: int) -> trt.IExecutionContext:
        if number not in self._contexts:
            context = self._engine.create_execution_context()
            if context is None:
                raise MemoryError(f"{self._where}: TensorRT has no memory for another profile.")
            if not context.set_optimization_profile_async(number, self._stream.cuda_stream if self._stream else 0):
                raise JobError(f"{self._where}: TensorRT refuses its profile {number}.")
            self._contexts[number] = context
        return self._contexts[number]


def _kind(dtype: trt.DataType, name: str, where: str) -> tuple[str, str]:
    if dtype.name not in TYPES:
        raise ModelFileError(
            f"{where}: the tensor {name!r} is {dtype.name}, expected one of {', '.join(TYPES)}. Build the engine with "
            "inputs and outputs of such a type.",
            path=where, tensor=name,
        )  # fmt: skip
    return TYPES[dtype.name]


def _filled(array: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """An array of at least so many rows, its own or a copy in one piece: what is added are repetitions, or zeros."""
    if len(array) < rows:
        more = rows - len(array)
        rest = np.repeat(array[-1:], more, axis=0) if len(array) else np.zeros((more, *array.shape[1:]), array.dtype)
        array = np.concatenate([array, rest])
    return np.require(array, requirements=["C", "W"])

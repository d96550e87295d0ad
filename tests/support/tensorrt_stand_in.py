"""The part of TensorRT's Python API that is called here, on the CPU: a plan is the ONNX file with its profiles, and
running it is ONNX Runtime on raw addresses. It refuses what TensorRT refuses: shapes outside of a profile, damaged
plans.
"""

from __future__ import annotations

import base64
import ctypes
import enum
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

__version__ = "11.4.0.106"
MAGIC = b"stand-in plan "
BUILDS: list[str] = []
"""One entry for each engine that was built."""


class DataType(enum.Enum):
    FLOAT = 0
    INT64 = 8
    FP8 = 6


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 0


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class BuilderFlag(enum.Enum):
    TF32 = 7


class Logger:
    WARNING = 1

    def __init__(self, level: int) -> None:
        self.level = level


class _Tensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        self.name = value.name
        self.shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim)


class _Network:
    def __init__(self, flags: int) -> None:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        self.onnx = b""

    @property
    def num_inputs(self) -> int:
        return len(onnx.load_from_string(self.onnx).graph.input)

    def get_input(self, index: int) -> _Tensor:
        return _Tensor(onnx.load_from_string(self.onnx).graph.input[index])


class OnnxParser:
    def __init__(self, network: _Network, logger: Logger) -> None:
        self.network = network
        self.num_errors = 0

    def parse_from_file(self, path: str) -> bool:
        return self.parse(Path(path).read_bytes())

    def parse(self, model: bytes) -> bool:
        self.network.onnx = model
        try:
            onnx.checker.check_model(model)
        except (onnx.checker.ValidationError, ValueError):
            self.num_errors = 1
            return False
        return True

    def get_error(self, index: int) -> str:
        return "In node -1 (parseGraph): INVALID_GRAPH"


class _Timing:
    def serialize(self) -> bytes:
        return b"timings"


class _Profile(dict[str, Any]):
    def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
        self[name] = [list(least), list(best), list(most)]


class _Config:
    def __init__(self) -> None:
        self.profiles: list[_Profile] = []
        self.timing = b""

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        assert size > 0

    def clear_flag(self, flag: BuilderFlag) -> None:
        assert flag is BuilderFlag.TF32

    def create_timing_cache(self, data: bytes) -> _Timing:
        assert data in (b"", b"timings")
        return _Timing()

    def set_timing_cache(self, cache: _Timing, ignore_mismatch: bool) -> bool:
        return True

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1


class Builder:
    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> _Network:
        return _Network(flags)

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes:
        BUILDS.append(__version__)
        content = {"onnx": base64.b64encode(network.onnx).decode(), "profiles": config.profiles}
        return MAGIC + json.dumps(content).encode()


TYPES = {"tensor(float)": DataType.FLOAT, "tensor(int64)": DataType.INT64}
NUMPY = {DataType.FLOAT: np.dtype(np.float32), DataType.INT64: np.dtype(np.int64)}


class Runtime:
    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
        return _Engine(json.loads(plan[len(MAGIC) :])) if plan.startswith(MAGIC) else None


class _Engine:
    def __init__(self, content: dict[str, Any]) -> None:
        self.session = onnxruntime.InferenceSession(base64.b64decode(content["onnx"]))
        self.inputs = {t.name: t for t in self.session.get_inputs()}
        self.outputs = {t.name: t for t in self.session.get_outputs()}
        self.profiles = content["profiles"]

    @property
    def num_io_tensors(self) -> int:
        return len(self.inputs) + len(self.outputs)

    @property
    def num_optimization_profiles(self) -> int:
        return max(1, len(self.profiles))

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return TYPES[{**self.inputs, **self.outputs}[name].type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(n if isinstance(n, int) else -1 for n in {**self.inputs, **self.outputs}[name].shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        if not self.profiles:
            return [self.get_tensor_shape(name)] * 3
        return [tuple(shape) for shape in self.profiles[profile][name]]

    def create_execution_context(self) -> _Context:
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine = engine
        self.profile = 0
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.get_tensor_profile_shape(name, self.profile)
        self.shapes[name] = shape
        return all(low <= n <= high for low, n, high in zip(least, shape, most, strict=True))

    def infer_shapes(self) -> list[str]:
        return [n for n in self.engine.inputs if n not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        first = next(iter(self.shapes.values()))
        return tuple(first[i] if n < 0 else n for i, n in enumerate(self.engine.get_tensor_shape(name)))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        feeds = {n: self._array(n, self.shapes[n]).copy() for n in self.engine.inputs}
        for name, value in zip(self.engine.outputs, self.engine.session.run(None, feeds), strict=True):
            self._array(name, value.shape)[...] = value
        return True

    def _array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        dtype = NUMPY[self.engine.get_tensor_dtype(name)]
        size = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_char * size).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)

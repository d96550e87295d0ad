"""TensorRT in score jobs: engines (``.engine``, ``.plan``), and ONNX files that engines are built from.

``device: cpu``, the default, stands for the first GPU.
"""

from __future__ import annotations

from pathlib import Path

from featuremill.core.models.contract import Model, ModelFileError
from featuremill.core.models.extras import import_extra
from featuremill.core.models.files import digest_of
from featuremill.core.models.onnx_model import OnnxModel, gpu_of, known_options
from featuremill.core.models.spec import ModelSpec
from featuremill.core.models.tensorrt_engine import profiles_of
from featuremill.transforms.onnx_backend import open_tensorrt, wanted_of
from featuremill.transforms.tensorrt_runner import open_engine, require_tensorrt

__all__ = ["load"]


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
    import_extra("tensorrt", "tensorrt", path)
    import_extra("torch", "torch", path)
    require_tensorrt(path)
    known_options(spec, ("cache", "profiles"), "TensorRT's")
    if not Path(path).is_file():
        raise ModelFileError(f"{path}: there is no such file.", path=path)
    gpu = gpu_of(spec)
    if path.endswith(".onnx"):
        wanted = wanted_of("tensorrt", cache=spec.options.get("cache"), gpu=gpu)
        digest = digest_of(Path(path), weights=True)
        session = open_tensorrt(Path(path), path, wanted, lambda shapes: profiles_of(shapes, spec, path), digest)
    else:
        session = open_engine(Path(path), path, gpu)
    return OnnxModel(session, tuple(o.name for o in session.outputs), where=path)

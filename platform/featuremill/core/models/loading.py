"""Loading a model, whatever its framework: nothing that the file brings is run unless the job file says so by name."""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from pathlib import Path

from featuremill.core.models.contract import Model, ModelFileError
from featuremill.core.models.files import digest_of, local_path
from featuremill.core.models.pickles import PICKLE_SUFFIXES, require_trust
from featuremill.core.models.sniff import looks_like
from featuremill.core.models.spec import Framework, ModelSpec

__all__ = ["framework_of", "load_model", "model_version"]

SUFFIXES: dict[str, Framework] = {
    ".onnx": "onnx",
    ".skops": "sklearn",
    ".safetensors": "pytorch",
    ".pt": "pytorch",
    ".pth": "pytorch",
    ".pt2": "pytorch",
    ".keras": "tensorflow",
    ".json": "xgboost",
    ".ubj": "xgboost",
    ".engine": "tensorrt",
    ".plan": "tensorrt",
    ".trt": "tensorrt",
}
"""What the name of a file says."""

MODULES: dict[Framework, str] = {
    "sklearn": "sklearn_model",
    "pytorch": "pytorch_model",
    "tensorflow": "tensorflow_model",
    "onnx": "onnx_model",
    "xgboost": "xgboost_model",
    "tensorrt": "tensorrt_model",
    "custom": "custom_model",
}
"""Where each framework's ``load(path, spec)`` is."""

WEIGHTS = (".safetensors", ".pt", ".pth")
"""Files of PyTorch weights, which need a class to be put into."""


def framework_of(spec: ModelSpec) -> Framework:
    """The framework of a model: the one that the job names, else that of its file's name; the content must bear it out.

    Raises
    ------
    ModelFileError
        When there is no file, nothing tells its framework, it is another one's than its name or the job says, or it is
        a pickle that the job does not allow.

    >>> framework_of(ModelSpec.model_validate({"class": "my.models:Rules"}))
    'custom'
    """
    if spec.path is None or spec.framework == "custom":
        return spec.framework or "custom"
    path = local_path(spec.path)
    suffix = path.suffix.lower()
    if spec.framework is None and spec.class_ is not None and suffix not in WEIGHTS:
        return "custom"
    found = looks_like(path)
    named = SUFFIXES.get(suffix)
    wanted: Framework | None = spec.framework or named
    # PyTorch's old files are pickles from outside; its own loader reads them without running them.
    if suffix in PICKLE_SUFFIXES or (found == (None, "a pickle") and wanted != "pytorch"):
        require_trust(spec.path, spec)
        return spec.framework or "sklearn"
    if found is None:
        if wanted is None:
            raise _unknown(spec.path)
        return wanted
    framework, kind = found
    if wanted is None and framework in MODULES:
        return framework
    # TensorRT builds its engines from ONNX files.
    taken = {"pytorch": kind == "a pickle", "tensorrt": framework == "onnx"}
    if wanted is None:
        raise _unknown(spec.path)
    if framework != wanted and not taken.get(str(wanted), False):
        raise _another(spec, kind, framework, wanted)
    return wanted


def _unknown(path: str) -> ModelFileError:
    known = ", ".join(SUFFIXES)
    return ModelFileError(
        f"{path}: neither its name nor its content tells what framework it is of. Set framework, or use one of the "
        f"endings {known}.",
        path=path,
    )


def _another(spec: ModelSpec, kind: str, framework: str | None, wanted: str | None) -> ModelFileError:
    if framework is None:
        what = "Save it as .keras." if kind == "an HDF5 file" else "Save it in a format of its framework."
        return ModelFileError(f"{spec.path} is {kind}, which is not loaded. {what}", path=spec.path, looks_like=kind)
    says = f"the job says framework: {wanted}" if spec.framework else f"its name says {wanted}"
    advice = f"Set framework: {framework}" if spec.framework else f"Rename it, or set framework: {framework}"
    return ModelFileError(
        f"{spec.path} looks like {kind}, and {says}. {advice}; or name another file.",
        path=spec.path, looks_like=kind, framework=framework,
    )


def load_model(spec: ModelSpec) -> Model:
    """The model, ready to predict.

    Raises
    ------
    ModelFileError
        When its file is missing, damaged, of another framework, not the one whose digest the job names, or one that
        would run code.
    MissingExtraError
        When its framework is not installed.

    >>> load_model(ModelSpec(path="/nowhere/late.onnx"))
    Traceback (most recent call last):
    ...
    featuremill.transforms.onnx_sessions.ModelFileError: There is no model /nowhere/late.onnx, and no folder /nowhere.
    """
    framework = framework_of(spec)
    path = ""
    if spec.path is not None:
        here = local_path(spec.path)
        _check_digest(here, spec)
        path = str(here)
    module = import_module(f"featuremill.core.models.{MODULES[framework]}")
    model: Model = module.load(path, spec)
    return model


def _check_digest(path: Path, spec: ModelSpec) -> None:
    if spec.sha256 is None:
        return
    got = digest_of(path)
    if got != spec.sha256:
        raise ModelFileError(
            f"{spec.path} is not the file that the job names: its SHA-256 is {got}, the job says {spec.sha256}.",
            path=spec.path, got=got, expected=spec.sha256,
        )


def model_version(spec: ModelSpec) -> str:
    """16 hex digits that stand for a model's file or folder; for a custom model without one, its class and arguments.

    >>> spec = ModelSpec.model_validate({"class": "my.models:Rules", "arguments": {"limit": 3}})
    >>> model_version(spec)
    'ad98e4cec804144c'
    """
    if spec.path is None:
        told = json.dumps([spec.class_, spec.arguments], sort_keys=True, default=str)
        return hashlib.sha256(told.encode()).hexdigest()[:16]
    return digest_of(local_path(spec.path), weights=True)[:16]

"""TensorFlow models: ``.keras`` files in safe mode, and SavedModel folders.

A ``.keras`` file is data as long as its layers are Keras' own. One with a lambda in it carries Python code and is
refused, unless it is trusted by ``allow_pickle`` and its digest. Layers of the user's own come with the class that he
names: ``framework: tensorflow`` and ``class: package.module:Layer``, whose module is imported and may register more.

A SavedModel is a graph of TensorFlow's operators. It is called through one of its signatures, ``serving_default`` or
``options: {signature: NAME}``; graphs that call Python, or read or write files by name, are refused.
"""

from __future__ import annotations

import json
import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import RequestError, suggest
from featuremill.core.models.contract import Arrays, Model, ModelFileError, PredictionError, Signature, TensorSpec
from featuremill.core.models.extras import import_extra, named_class
from featuremill.core.models.pickles import trusted_bytes
from featuremill.core.models.spec import ModelSpec
from featuremill.core.models.tensor_inputs import fitted

__all__ = ["TensorFlowModel", "load"]

LOG = logging.getLogger(__name__)
SAFE_SINCE = (3, 13)
"""Crafted files got round the safe mode of earlier releases of Keras."""

OWN_PACKAGES = ("keras", "keras_hub", "builtins")
REFUSED = {
    **dict.fromkeys(("PyFunc", "PyFuncStateless", "EagerPyFunc"), "it calls Python code, which is not in the file"),
    **dict.fromkeys(("ReadFile", "WriteFile", "MatchingFiles"), "it reads or writes files by name"),
}
DEVICE = re.compile(r"cuda(?::(\d+))?")

Call = Callable[[Mapping[str, Any]], Any]


def load(path: str, spec: ModelSpec) -> Model:
    """The model in a ``.keras`` file or a SavedModel folder.

    Raises
    ------
    ModelFileError
        When it is missing, damaged, of another format, could run code, or has no such signature.
    RequestError
        When the class cannot be imported, or the device is not there.
    MissingExtraError
        When TensorFlow is not installed.
    """
    # TensorFlow reports every GPU library that it does not find; it reads this when it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    tf = import_extra("tensorflow", "tensorflow", path)
    place = Path(path)
    if not place.exists():
        raise ModelFileError(f"{path}: there is no such file or folder.", path=path)
    device = _device(tf, spec)
    _set_threads(tf, spec)
    with tf.device(device):
        if place.is_dir():
            return _saved_model(tf, path, spec, device)
        if place.suffix == ".keras" or zipfile.is_zipfile(path):
            return _keras_model(tf, path, spec, device)
    raise ModelFileError(
        f"{path} is no .keras file and no SavedModel folder. HDF5 files (.h5) are not read, for they can hold code: "
        "save the model with model.save('model.keras'), or export it with model.export('folder').",
        path=path,
    )


class TensorFlowModel(Model):
    """A function on tensors by name."""

    def __init__(self, call: Call, signature: Signature, *, where: str, device: str) -> None:
        self._call = call
        self._signature = signature
        self._where = where
        self._device = device

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        import tensorflow as tf

        arrays = fitted(inputs, self._signature, self._where) if self._signature.inputs else inputs
        with tf.device(self._device):
            result = self._call({name: tf.convert_to_tensor(array) for name, array in arrays.items()})
        named = dict(_named(result, "output"))
        names = [t.name for t in self._signature.outputs] or list(named)
        return {name: _array(named[name], name, self._where) for name in names}


# --- Keras ------------------------------------------------------------------------------------------------------------


def _keras_model(tf: Any, path: str, spec: ModelSpec, device: str) -> Model:
    keras = import_extra("keras", "tensorflow", path)
    if keras.backend.backend() != "tensorflow":
        raise RequestError(
            f"{path}: Keras runs on {keras.backend.backend()} here. Set the environment variable "
            "KERAS_BACKEND=tensorflow.",
            path=path,
        )
    if spec.allow_pickle:
        trusted_bytes(path, spec)
    else:
        _check_keras(keras, path, spec)
    try:
        model = keras.saving.load_model(
            path, custom_objects=_custom_objects(spec), compile=False, safe_mode=not spec.allow_pickle
        )
    except Exception as error:
        # A file that does not fit raises whatever the layer that it does not fit raises.
        raise ModelFileError(
            f"{path} cannot be loaded by Keras {keras.__version__}: {_line(error)}.", path=path
        ) from error
    signature, pack, names = _keras_signature(keras, model, path)
    specs = [tf.TensorSpec(t.shape, t.dtype) for t in model.inputs] if signature.inputs else None
    run = tf.function(lambda *flat: model(pack(flat), training=False), input_signature=specs, reduce_retracing=True)

    def call(tensors: Mapping[str, Any]) -> Any:
        if not signature.inputs:
            return model(dict(tensors) if len(tensors) > 1 else next(iter(tensors.values())), training=False)
        result = run(*tensors.values())
        return result if isinstance(result, Mapping) else dict(zip(names, keras.tree.flatten(result), strict=True))

    return TensorFlowModel(call, signature, where=path, device=device)


def _check_keras(keras: Any, path: str, spec: ModelSpec) -> None:
    """Refuse a file that carries code, or asks for classes that nobody named."""
    if tuple(int(part) for part in keras.__version__.split(".")[:2]) < SAFE_SINCE:
        raise ModelFileError(
            f"{path}: the safe mode of Keras {keras.__version__} does not keep crafted files from running code. "
            f"Install Keras {SAFE_SINCE[0]}.{SAFE_SINCE[1]} or newer.",
            path=path,
        )
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is no .keras file, or is damaged: {_line(error)}.", path=path) from error
    for part in _objects(config):
        name, module = part["class_name"], part.get("module")
        if name in ("__lambda__", "TFSMLayer"):
            what = "a lambda, which is Python code" if name == "__lambda__" else "a layer that loads another model"
            raise ModelFileError(
                f"{path} holds {what}, so it is refused. Write a layer of your own instead of a Lambda and name it: "
                "class: package.module:Layer. If you trust this very file, set allow_pickle: true and its sha256.",
                path=path,
            )
        own = module is None or str(module).partition(".")[0] in OWN_PACKAGES
        if not own and spec.class_ is None:
            raise ModelFileError(
                f"{path} needs the class {module}.{name}, which is not Keras' own. Name it, and it is imported: class: "
                f"{module}:{name}.",
                path=path, wanted=f"{module}:{name}",
            )


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config
        config = list(config.values())
    if isinstance(config, list):
        for item in config:
            yield from _objects(item)


def _custom_objects(spec: ModelSpec) -> dict[str, Any]:
    if spec.class_ is None:
        return {}
    return {spec.class_.rpartition(":")[2]: named_class(spec.class_)}


def _keras_signature(keras: Any, model: Any, path: str) -> tuple[Signature, Callable[[Any], Any], list[str]]:
    """What goes in and comes out, how tensors are packed for the model, and the names of its flat outputs."""
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        return Signature(), lambda tensors: tensors, []
    # A Sequential keeps its graph in a functional model inside.
    graph = model if hasattr(model, "output_names") else model._functional
    packed, results = graph.input, graph.output
    # The names of tensors count up in a process; those of layers are in the file.
    names = list(packed) if isinstance(packed, dict) else [t._keras_history.operation.name for t in model.inputs]
    outputs = results if isinstance(results, dict) else dict(zip(graph.output_names, model.outputs, strict=True))
    tensors = packed if isinstance(packed, dict) else dict(zip(names, model.inputs, strict=True))
    signature = Signature(
        tuple(_spec(name, t.dtype, t.shape, path) for name, t in sorted(tensors.items(), key=_position(model.inputs))),
        tuple(_spec(name, t.dtype, t.shape, path) for name, t in outputs.items()),
    )
    return signature, lambda flat: keras.tree.pack_sequence_as(packed, list(flat)), list(graph.output_names)


def _position(tensors: list[Any]) -> Callable[[tuple[str, Any]], int]:
    return lambda item: next(i for i, t in enumerate(tensors) if t is item[1])


# --- SavedModel -------------------------------------------------------------------------------------------------------


def _saved_model(tf: Any, path: str, spec: ModelSpec, device: str) -> Model:
    _check_graph(path)
    try:
        loaded = tf.saved_model.load(path)
    except Exception as error:
        # A damaged folder, or one of another release, raises in many ways.
        raise ModelFileError(
            f"{path} cannot be loaded as a SavedModel by TensorFlow {tf.__version__}: {_line(error)}.", path=path
        ) from error
    name = str(spec.options.get("signature", "serving_default"))
    known = list(loaded.signatures)
    if name not in known:
        advice = f"{suggest(name, known)} Set options: {{signature: NAME}}."
        raise ModelFileError(
            f"{path} has no signature {name!r}. {advice if known else 'Export it with model.export.'}",
            path=path, signature=name, known=known,
        )
    function = loaded.signatures[name]
    _, inputs = function.structured_input_signature
    signature = Signature(
        tuple(_spec(n, t.dtype.name, t.shape, path) for n, t in inputs.items()),
        tuple(_spec(n, t.dtype.name, t.shape, path, output=True) for n, t in function.structured_outputs.items()),
    )

    def call(tensors: Mapping[str, Any], _keeps: Any = loaded) -> Any:
        return function(**tensors)  # variables live as long as what was loaded

    return TensorFlowModel(call, signature, where=path, device=device)


def _check_graph(path: str) -> None:
    """Refuse operators that reach out of the graph."""
    saved_model_pb2 = import_module("tensorflow.core.protobuf.saved_model_pb2")
    try:
        saved = saved_model_pb2.SavedModel.FromString(Path(path, "saved_model.pb").read_bytes())
    except Exception as error:
        # The class of protobuf's error depends on its implementation.
        raise ModelFileError(f"{path} is no SavedModel folder: {_line(error)}.", path=path) from error
    for graph in (m.graph_def for m in saved.meta_graphs):
        operators = {n.op for n in graph.node}.union(n.op for f in graph.library.function for n in f.node_def)
        for operator in sorted(operators & REFUSED.keys()):
            raise ModelFileError(
                f"{path} holds the operator {operator}, so it is refused: {REFUSED[operator]}. Export the model "
                "without it.",
                path=path, operator=operator,
            )


# --- tensors ----------------------------------------------------------------------------------------------------------


def _spec(name: str, dtype: str, shape: Any, path: str, *, output: bool = False) -> TensorSpec:
    kind = {"string": "object", "bfloat16": "float32" if output else None}.get(dtype, dtype)
    if getattr(shape, "rank", 0) is None:
        return TensorSpec(name, kind)
    sizes = tuple(shape)
    if not sizes and output:
        return TensorSpec(name, kind)
    if not sizes or (sizes[0] is not None and not output):
        raise ModelFileError(
            f"{path}: the input {name!r} has the shape {sizes}, expected a first dimension of any number of rows. "
            "Export the model with None there.",
            path=path, input=name,
        )
    return TensorSpec(name, kind, sizes[1:])


def _named(result: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(result, Mapping):
        yield from ((str(key), value) for key, value in result.items())
    elif isinstance(result, list | tuple):
        yield from ((f"{name}_{i}", value) for i, value in enumerate(result))
    else:
        yield name, result


def _array(value: Any, name: str, where: str) -> npt.NDArray[Any]:
    import tensorflow as tf

    if not isinstance(value, tf.Tensor):
        raise PredictionError(
            f"{where}: the model gave {type(value).__name__} for {name!r}, expected a dense tensor.", output=name
        )
    if value.dtype == tf.bfloat16:  # NumPy has no such type
        value = tf.cast(value, tf.float32)
    array: npt.NDArray[Any] = np.asarray(value.numpy())
    return _texts(array) if array.dtype == object else array


def _texts(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bytes as text, unless they are none."""
    try:
        flat = [value.decode() for value in array.reshape(-1)]
    except UnicodeDecodeError:
        return array
    texts = np.empty(len(flat), dtype=object)
    texts[:] = flat
    return texts.reshape(array.shape)


# --- the machine ------------------------------------------------------------------------------------------------------


def _device(tf: Any, spec: ModelSpec) -> str:
    match = DEVICE.fullmatch(spec.device)
    if match is None and spec.device != "cpu":
        raise RequestError(
            f"device got {spec.device!r}, expected cpu, cuda or cuda:1.", parameter="device", value=spec.device
        )
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            # Without it TensorFlow takes all memory of every GPU, even for a model on the CPU.
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            LOG.debug("TensorFlow runs already: how it takes the memory of %s stays as it is.", gpu.name)
    if match is None:
        return "/CPU:0"
    index = int(match[1] or 0)
    if index >= len(gpus):
        raise RequestError(
            f"device got {spec.device!r}, but TensorFlow {tf.__version__} sees {len(gpus) or 'no'} GPU here. Use "
            "device: cpu, or a machine and a build of TensorFlow with CUDA.",
            parameter="device", value=spec.device,
        )
    return f"/GPU:{index}"


def _set_threads(tf: Any, spec: ModelSpec) -> None:
    """TensorFlow shares one pool of threads among all calls of a process, and its size is fixed by the first."""
    if spec.threads is None or tf.config.threading.get_intra_op_parallelism_threads() == spec.threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(spec.threads)
    except RuntimeError:
        LOG.warning("threads: %d has no effect: TensorFlow runs already in this process.", spec.threads)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

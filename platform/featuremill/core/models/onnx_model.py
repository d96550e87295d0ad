"""ONNX models: a graph of known operations and the numbers in it, nothing that runs as code.

They run where ``device`` says; with ``options: {backend: [tensorrt, cuda, cpu]}`` on the first of these that can be had
on the machine that loads the model, with ``options: {require: tensorrt}`` on it or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import ParameterError, suggest
from featuremill.core.models.contract import Arrays, Model, ModelFileError, Signature, TensorSpec
from featuremill.core.models.extras import import_extra
from featuremill.core.models.files import digest_of
from featuremill.core.models.spec import ModelSpec
from featuremill.core.models.tensor_inputs import fitted
from featuremill.core.models.tensorrt_engine import profiles_of
from featuremill.transforms.onnx_backend import Wanted, open_model, wanted_of
from featuremill.transforms.onnx_sessions import Session, Tensor, dtype_of, open_cpu

__all__ = ["OnnxModel", "gpu_of", "known_options", "load", "on_launcher"]

DEVICE = re.compile(r"cpu|cuda(?::(\d+))?")
WHERE = ("backend", "require")
"""The options that say where a model runs."""
OPTIONS = (*WHERE, "cache", "profiles")


class OnnxModel(Model):
    """A session of ONNX Runtime, or an engine of TensorRT.

    Parameters
    ----------
    session
        The loaded model.
    outputs
        The names of the outputs that are wanted; only they are computed.
    where
        What to call it in errors.
    """

    def __init__(self, session: Session, outputs: tuple[str, ...], *, where: str) -> None:
        self._session = session
        self.choice = session.choice
        self._where = where
        self._names = list(outputs)
        told = {o.name: o for o in session.outputs}
        self._signature = Signature(
            tuple(_tensor(i, where, "input") for i in session.inputs),
            tuple(_tensor(told[name], where, "output") for name in outputs),
        )

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        feeds = fitted(inputs, self._signature, self._where)
        if not len(next(iter(feeds.values()))):
            # Not every operation takes no rows; every one takes one.
            one = {n: np.full((1, *a.shape[1:]), "" if a.dtype == object else 0, a.dtype) for n, a in feeds.items()}
            return {name: array[:0] for name, array in self._run(one).items()}
        return self._run(feeds)

    def _run(self, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
        return dict(zip(self._names, self._session.run(self._names, feeds), strict=True))


def _tensor(told: Tensor, where: str, role: str) -> TensorSpec:
    dtype = dtype_of(told)
    if dtype is None:
        raise ModelFileError(
            f"{where}: the {role} {told.name!r} is {told.type}, expected a tensor of numbers, booleans or texts. "
            "Export the model without it.",
            where=where, name=told.name,
        )
    shape = tuple(d if isinstance(d, int) else None for d in told.shape)
    if role == "input" and not shape:
        raise ModelFileError(
            f"{where}: the input {told.name!r} has no axis of rows. Export the model with one on every input.",
            where=where, name=told.name,
        )
    if shape and shape[0] is not None:
        raise ModelFileError(
            f"{where}: the {role} {told.name!r} is of exactly {shape[0]} rows. Export the model with a dynamic first "
            "axis (for PyTorch: dynamic_shapes).",
            where=where, name=told.name,
        )
    return TensorSpec(told.name, dtype.name, shape[1:] if shape else None)


def load(path: str, spec: ModelSpec) -> OnnxModel:
    """The model in an ONNX file, on the device that the job says, with one thread for each call unless it says more.

    The probabilities of scikit-learn's converters come as a matrix, even where they were exported as a dict for each
    row (ZipMap).

    Raises
    ------
    ModelFileError
        When the file is damaged, its weights lie outside its folder, or its batches have a fixed size.
    ParameterError
        When the device is not there, or an output is unknown.
    MissingExtraError
        When ONNX Runtime is not installed.
    """
    import_extra("onnxruntime", "onnx", path)
    where = str(spec.path or path)
    known_options(spec, OPTIONS, "ONNX Runtime's")
    file = Path(path)
    _check_weights(file, where)
    wanted, digest = _wanted(spec), digest_of(file, weights=True)

    def opened(model: bytes | Path) -> Session:
        if wanted.order == ("cpu",):
            return open_cpu(model, where, threads=wanted.threads)  # There is nothing to choose.
        return open_model(
            model, where, wanted=wanted, profiles=lambda shapes: profiles_of(shapes, spec, where), digest=digest
        )

    session = opened(file)
    if any(not o.type.startswith("tensor(") for o in session.outputs):
        session = opened(_without_zipmaps(path))
    return OnnxModel(session, _outputs(spec, session, where), where=where)


def on_launcher(spec: ModelSpec) -> ModelSpec:
    """The same model for a look at what it takes and gives, on a machine that may have no GPU, or another."""
    rest = {name: value for name, value in spec.options.items() if name not in WHERE}
    return spec.model_copy(update={"device": "cpu", "options": rest})


def known_options(spec: ModelSpec, known: Sequence[str], whose: str) -> None:
    """Refuse options that are not known."""
    for name in spec.options:
        if name not in known:
            raise ParameterError(f"options: {name!r} is none of {whose}. {suggest(name, known)}", parameter="options")


def gpu_of(spec: ModelSpec) -> int:
    """The number of the GPU that the job names; 0 where it names none.

    Raises
    ------
    ParameterError
        When `device` is something else.
    """
    known = DEVICE.fullmatch(spec.device)
    if known is None:
        raise ParameterError(
            f"device got {spec.device!r}, expected cpu, cuda or cuda:1.", parameter="device", value=spec.device
        )
    return int(known[1] or 0)


def _wanted(spec: ModelSpec) -> Wanted:
    """Where a job wants a model: `backend` and `require` say so, else `device` does, and demands it."""
    gpu, options = gpu_of(spec), spec.options
    backend, require = options.get("backend"), options.get("require")
    if not any(name in options for name in WHERE):
        require = "cpu" if spec.device == "cpu" else "cuda"
    return wanted_of(backend, require, cache=options.get("cache"), gpu=gpu, threads=spec.threads or 1)


def _outputs(spec: ModelSpec, session: Session, where: str) -> tuple[str, ...]:
    has = [o.name for o in session.outputs]
    asked = [o.output for o in (spec.outputs or {}).values()]
    for output in asked:
        if output is not None and output not in has:
            raise ParameterError(
                f"{where}: the model has no output {output!r}. {suggest(output, has)}",
                parameter="outputs", output=output, known=has,
            )
    if not asked or None in asked:
        return tuple(has)
    return tuple(dict.fromkeys(o for o in asked if o is not None))


# --- What is in the file --------------------------------------------------------------------------------------------


def _check_weights(path: Path, where: str) -> None:
    """Refuse weights outside the model's folder: a crafted file could have any other read."""
    if b"location" not in path.read_bytes():
        return
    onnx = import_extra("onnx", "onnx", f"{where}, whose weights are in another file,")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors have no base class that is public
        raise ModelFileError(f"{where} is damaged: {error}", path=where) from error
    folder = path.parent.resolve()
    for tensor in _tensors(model.graph):
        for entry in tensor.external_data:
            if entry.key != "location":
                continue
            inside = PurePosixPath(entry.value)
            file = path.parent / entry.value
            if inside.is_absolute() or ".." in inside.parts or not file.resolve().is_relative_to(folder):
                raise ModelFileError(
                    f"{where}: the weights of {tensor.name!r} are in {entry.value!r}, outside its folder. They are not "
                    "read from there; put them beside the model.",
                    path=where, location=entry.value,
                )
            if not file.is_file():
                raise ModelFileError(
                    f"{where}: its weights are in the file {entry.value!r} beside it, which is not there. Copy it too.",
                    path=where, location=entry.value,
                )


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor that a graph holds, those of its branches and loops among them."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
            for inner in attribute.graphs:
                yield from _tensors(inner)


def _without_zipmaps(path: str) -> bytes:
    """The model with its dicts of probabilities replaced by the matrix that they are made of, under the same name."""
    onnx = import_extra("onnx", "onnx", f"{path}, which gives a dict for each row,")
    model = onnx.load(path)
    graph = model.graph
    for node in [n for n in graph.node if n.op_type == "ZipMap"]:
        dict_name = node.output[0]
        graph.node.remove(node)
        graph.node.append(onnx.helper.make_node("Identity", [node.input[0]], [dict_name]))
        for i, output in enumerate(graph.output):
            if output.name == dict_name:
                matrix = onnx.helper.make_tensor_value_info(dict_name, onnx.TensorProto.FLOAT, [None, None])
                graph.output[i].CopyFrom(matrix)
    data: bytes = model.SerializeToString()
    return data

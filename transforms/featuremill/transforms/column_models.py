"""Encoders of numbers: an ONNX file whose one input is a matrix of shape (rows, columns)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import FeaturemillError, JobError, ParameterError
from featuremill.artifacts.manifest import canonical_json, digest
from featuremill.artifacts.store import Store, open_store
from featuremill.transforms.model_sources import MODEL, SETTINGS, Described, Source, as_bytes
from featuremill.transforms.onnx_backend import Wanted, open_model
from featuremill.transforms.onnx_sessions import Session, Tensor, dtype_of, open_cpu
from featuremill.transforms.tensorrt_profiles import rows_only

__all__ = ["ColumnsEncoder", "columns_encoder", "columns_model"]

ROWS_PER_RUN = 4096
LANES = 16
"""Rows are filled up to a multiple of this. The runtime computes some functions (Elu, Softplus) in another way for what
its vector instructions leave over, so that a row's last bits would depend on how many rows there are."""
FLOATS = ("tensor(float)", "tensor(double)", "tensor(float16)")

_encoders: WeakValueDictionary[Any, ColumnsEncoder] = WeakValueDictionary()
_lock = Lock()


def columns_model(reference: str) -> Source:
    """The model in an ONNX file, on a disk or in a bucket.

    Raises
    ------
    ParameterError
        For a file of another kind, with what to do about it.

    >>> columns_model("models/encoder.pt2")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: The model models/encoder.pt2 is no .onnx file. Convert what \
torch.export.save wrote: featuremill models convert models/encoder.pt2 encoder.onnx
    """
    if not reference.endswith(".onnx"):
        name = reference.rpartition("/")[2].removesuffix(".pt2")
        hint = (
            f"Convert what torch.export.save wrote: featuremill models convert {reference} {name}.onnx"
            if reference.endswith(".pt2")
            else "Export it to ONNX."
        )
        raise ParameterError(f"The model {reference} is no .onnx file. {hint}", parameter="model", model=reference)
    parent, slash, name = reference.rpartition("/")
    return _ColumnsFile(open_store(parent or slash or "."), reference, name)


class _ColumnsFile(Source):
    def __init__(self, store: Store, where: str, name: str) -> None:
        super().__init__(store, where)
        self._name = name

    @cached_property
    def names(self) -> list[str]:
        if not self.has(self._name):
            raise ParameterError(f"There is no model {self.where}.", parameter="model", model=self.where)
        return [self._name]

    @cached_property
    def _told(self) -> tuple[Tensor, str, int]:
        return told(open_cpu(self.read(self._name), self.where), self.where)

    def described(self) -> Described:
        matrix, _, dimension = self._told
        width = matrix.shape[1]
        return Described(self.digest(), dimension, None, width if isinstance(width, int) else None)

    def files(self) -> dict[str, bytes]:
        settings = {"output": self._told[1], "normalize": False}
        return {MODEL: self.read(self._name), SETTINGS: canonical_json(settings)}


def told(session: Session, where: str) -> tuple[Tensor, str, int]:
    """``(the input, the output to take, how many numbers a vector has)``.

    Raises
    ------
    ParameterError
        When the model takes something else than a matrix, or gives no vectors of a known size.
    """
    matrices = [i for i in session.inputs if len(i.shape) == 2 and i.type in FLOATS]
    if len(session.inputs) != 1 or not matrices or isinstance(matrices[0].shape[0], int):
        shown = ", ".join(f"{i.name} ({i.type} of shape {list(i.shape)})" for i in session.inputs)
        raise ParameterError(
            f"The model {where} takes {shown}; expected one matrix of floats with any number of rows.",
            parameter="model", model=where,
        )  # fmt: skip
    output = session.outputs[0]
    size = output.shape[-1] if output.shape else None
    if len(output.shape) != 2 or not isinstance(size, int) or output.type not in FLOATS:
        raise ParameterError(
            f"The model {where} gives {output.name!r} as {output.type} of shape {list(output.shape)}; expected floats "
            "of shape (rows, size) with a size that is known.",
            parameter="model", model=where, output=output.name,
        )  # fmt: skip
    return matrices[0], output.name, size


def columns_encoder(files: Mapping[str, Any], where: str, wanted: Wanted) -> ColumnsEncoder:
    """The encoder of a model's files by name, shared by all in the process that have it at a time."""
    content = {name: as_bytes(files[name]) for name in (MODEL, SETTINGS)}
    key = (*(digest(data) for data in content.values()), wanted)
    with _lock:
        found = _encoders.get(key)
        if found is None:
            found = _encoders[key] = ColumnsEncoder(content, where, wanted)
        return found


class ColumnsEncoder:
    """A model of rows of numbers. Threads may share it."""

    def __init__(self, files: Mapping[str, bytes], where: str, wanted: Wanted) -> None:
        settings = json.loads(files[SETTINGS])
        self.normalize: bool = settings["normalize"]
        self._where = where
        self._output: str = settings["output"]
        profiles = rows_only(ROWS_PER_RUN, where)
        self._session = open_model(files[MODEL], where, wanted=wanted, profiles=profiles)
        self._input, _, self.dimension = told(self._session, where)

    def vectors(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """The vectors of rows, shape (n_rows, dimension), from their numbers, shape (n_rows, n_columns)."""
        found = np.empty((len(rows), self.dimension), np.float32)
        type_ = dtype_of(self._input) or np.dtype(np.float32)
        for start in range(0, len(rows), ROWS_PER_RUN):
            with np.errstate(over="ignore"):  # What is beyond the model's type is infinite to it.
                part = rows[start : start + ROWS_PER_RUN].astype(type_)
            filled = np.concatenate([part, np.zeros((-len(part) % LANES, part.shape[1]), type_)])
            found[start : start + ROWS_PER_RUN] = self._run(filled)[: len(part)]
        return found

    def _run(self, part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        try:
            (found,) = self._session.run([self._output], {self._input.name: part})
        except FeaturemillError:
            raise
        except Exception as error:  # ONNX Runtime has a class for each kind of failure, and no base class.
            raise JobError(
                f"The model {self._where} failed on rows of {part.shape[1]} numbers: {str(error).strip()}",
                model=self._where,
            ) from error
        return found

"""Programs that ``torch.export.save`` wrote, as ONNX graphs, found to give the same on rows of random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.core.models.contract import ModelFileError, TensorSpec
from featuremill.core.models.convert import ConversionError
from featuremill.core.models.extras import import_extra
from featuremill.core.models.pytorch_files import exported_program
from featuremill.core.models.pytorch_model import load
from featuremill.core.models.spec import ModelSpec
from featuremill.transforms.onnx_sessions import open_cpu

__all__ = ["program_graph"]

TOLERANCE = 1e-4
"""Relative to the largest of an output's numbers: the two add up in another order."""
SEED = 0


def program_graph(path: str, spec: ModelSpec, source: str, *, rows: int) -> tuple[bytes, tuple[str, ...], float]:
    """``(the ONNX file's content, the names of its outputs, the largest difference between their numbers)``.

    Parameters
    ----------
    path
        Where the program is on this machine; `source` is what to call it.
    rows
        How many to compare the two on; and on a single one.

    Raises
    ------
    ModelFileError
        When the file would run code, is damaged, or its batches have a fixed size.
    ConversionError
        When it cannot be converted, or gives something else afterwards.
    MissingExtraError
        When PyTorch, onnxscript or ONNX Runtime is not installed.
    """
    torch = import_extra("torch", "torch", f"Converting {source}")
    import_extra("onnxscript", "onnx", f"Converting {source}")
    model = load(path, spec)
    names = [tensor.name for tensor in model.signature.inputs]
    try:
        made = torch.onnx.export(exported_program(path, spec), input_names=names, dynamo=True, verbose=False)
        data: bytes = made.model_proto.SerializeToString()
    except Exception as error:  # The exporter has a class for each of its stages, and torch raises anything.
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConversionError(
            f"{source} cannot be converted: {told} Export the model to ONNX where it was made.", path=source
        ) from error
    session = open_cpu(data, source)
    largest = 0.0
    for count in (rows, 1):
        given = {t.name: _numbers(t, count, source) for t in model.signature.inputs}
        wanted = list(model.predict(given).values())
        found = session.run([o.name for o in session.outputs], given)
        for one, other in zip(found, wanted, strict=True):
            largest = max(largest, _difference(one, other, source))
    return data, tuple(o.name for o in session.outputs), largest


def _numbers(tensor: TensorSpec, rows: int, source: str) -> npt.NDArray[Any]:
    draw = np.random.default_rng(SEED)
    shape = (rows, *(tensor.shape or ()))
    dtype = np.dtype(tensor.dtype or "float32")
    if any(n is None for n in shape) or dtype.kind != "f":
        raise ModelFileError(
            f"{source}: the input {tensor.name!r} is {dtype.name} of shape {tensor.shape}. Only programs that take "
            "matrices of floats are converted; export others to ONNX where they were made.",
            path=source, input=tensor.name,
        )  # fmt: skip
    return draw.normal(size=[n or 0 for n in shape]).astype(dtype)


def _difference(found: npt.NDArray[Any], wanted: npt.NDArray[Any], source: str) -> float:
    if found.shape != wanted.shape:
        raise ConversionError(
            f"{source}: after conversion an output has the shape {found.shape}, before {wanted.shape}.", path=source
        )
    scale = max(1.0, float(np.abs(wanted).max(initial=0)))
    difference = float(np.abs(found.astype(np.float64) - wanted).max(initial=0)) / scale
    if not difference <= TOLERANCE:
        raise ConversionError(
            f"{source}: after conversion an output differs by up to {difference:.2g}, more than {TOLERANCE:g}. Nothing "
            "was written.",
            path=source, difference=difference,
        )  # fmt: skip
    return difference

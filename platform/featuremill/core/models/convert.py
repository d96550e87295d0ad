"""Models as ONNX files: of scikit-learn, which ONNX Runtime runs several times faster, and programs of PyTorch.

A conversion is believed only after both have been run on the same rows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import JobError, ParameterError
from featuremill.artifacts.store import open_store
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.extras import import_extra
from featuremill.core.models.files import local_path
from featuremill.core.models.loading import framework_of
from featuremill.core.models.sklearn_model import load_estimator
from featuremill.core.models.spec import ModelSpec

__all__ = ["ConversionError", "Converted", "convert"]

CHECK_ROWS = 2_000
TOLERANCE = 1e-5
"""Of probabilities; of other numbers, relative to the largest of their column."""
NEAR = 2 * TOLERANCE
"""Rows whose two best classes are closer than this are not held against the labels: float32 cannot tell them apart."""
OPSET = 17
"""Of ONNX's operations: of 2022, so that servers that are not of today can run the file."""


class ConversionError(JobError):
    """A model that cannot be converted, or that gives something else afterwards."""


@dataclass(frozen=True)
class Converted:
    """What a conversion gave."""

    path: str
    outputs: tuple[str, ...]
    """The names of the outputs of the ONNX file."""
    rows: int
    """On how many rows both models were compared."""
    largest_difference: float
    """Between their numbers."""


def convert(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, sha256: str | None = None,
    allow_pickle: bool = False,
) -> Converted:
    """Write a model as an ONNX file, once it has been found to give the same.

    For scikit-learn the file's input is ``X``, float32 of shape (n_rows, n_features), and probabilities are a matrix; a
    program of PyTorch keeps the names of its inputs.

    Parameters
    ----------
    source
        A skops file; what ``torch.export.save`` wrote (.pt2); a pickle or joblib file with `allow_pickle` and its
        `sha256`.
    target
        Where to write, a path or a bucket URL; a file there is replaced at once.

    Raises
    ------
    ModelFileError
        When the source is missing, of another framework, or not to be trusted.
    ConversionError
        When a part of the model has no counterpart, or the two do not agree; nothing is written.
    MissingExtraError
        When skl2onnx, onnxscript (for PyTorch) or ONNX Runtime is not installed.

    >>> convert("/nowhere/late.skops", "late.onnx")
    Traceback (most recent call last):
    ...
    featuremill.transforms.onnx_sessions.ModelFileError: There is no model /nowhere/late.skops, and no folder /nowhere.
    """
    spec = ModelSpec(path=os.fspath(source), sha256=sha256, allow_pickle=allow_pickle)
    framework = framework_of(spec)
    program = os.fspath(source).endswith(".pt2")
    if framework != "sklearn" and not program:
        raise ModelFileError(
            f"{source} is a model of {framework}, expected one of scikit-learn, or a program of PyTorch (.pt2).",
            path=str(source),
        )
    if not os.fspath(target).endswith(".onnx"):
        raise ParameterError(
            f"target got {os.fspath(target)!r}, expected a name that ends with .onnx.", parameter="target"
        )
    here = str(local_path(str(source)))
    if program:
        from featuremill.core.models.convert_program import program_graph

        data, outputs, difference = program_graph(here, spec, str(source), rows=CHECK_ROWS)
    else:
        estimator = load_estimator(here, spec)
        data = _graph(estimator, str(source))
        difference, outputs = _compare(estimator, data, str(source))
    parent, _, name = os.fspath(target).rpartition("/")
    open_store(parent or ".").put(name, data)
    return Converted(os.fspath(target), outputs, CHECK_ROWS, difference)


def _graph(estimator: Any, source: str) -> bytes:
    skl2onnx = import_extra("skl2onnx", "onnx", f"Converting {source}")
    types = import_extra("skl2onnx.common.data_types", "onnx", f"Converting {source}")
    width = getattr(estimator, "n_features_in_", None)
    if width is None:
        raise ConversionError(
            f"{source}: {type(estimator).__name__} does not say how many features it takes. Only models of numbers "
            "are converted.",
            path=source,
        )
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    try:
        graph = skl2onnx.convert_sklearn(
            estimator, initial_types=[("X", types.FloatTensorType([None, int(width)]))], options=options,
            target_opset=OPSET,
        )
    except Exception as error:  # skl2onnx has no base class for what can go wrong in its converters.
        told = str(error).strip().splitlines()
        raise ConversionError(
            f"{source}: {type(estimator).__name__} cannot be converted: {told[0] if told else type(error).__name__} "
            "Score with the model as it is.",
            path=source,
        ) from error
    data: bytes = graph.SerializeToString()
    return data


def _compare(estimator: Any, data: bytes, source: str) -> tuple[float, tuple[str, ...]]:
    """The largest difference between the outputs of both, and the names of the converted model's."""
    ort = import_extra("onnxruntime", "onnx", f"Converting {source}")
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = tuple(o.name for o in session.get_outputs())
    rows = _rows(estimator)
    got = dict(zip(names, session.run(list(names), {"X": rows}), strict=True))
    wanted = _expected(estimator, rows)
    largest = 0.0
    for (name, array), (method, expected) in zip(got.items(), wanted.items(), strict=False):
        found = np.asarray(array).reshape(expected.shape) if np.size(array) == expected.size else np.asarray(array)
        if found.shape != expected.shape:
            raise ConversionError(
                f"{source}: after conversion {name!r} has the shape {found.shape}, {method} gives {expected.shape}.",
                path=source, output=name,
            )
        if expected.dtype.kind in "fc" and method != "labels":
            largest = max(largest, _numbers(found, expected, source, method))
        else:
            _labels(found, expected, wanted.get("predict_proba"), source)
    return largest, names


def _rows(estimator: Any) -> npt.NDArray[np.float32]:
    """Rows about where the model's own numbers say that data is, so that trees and thresholds are gone through."""
    rng = np.random.default_rng(0)
    width = int(estimator.n_features_in_)
    first = estimator.steps[0][1] if hasattr(estimator, "steps") else estimator
    centre = np.broadcast_to(np.asarray(getattr(first, "mean_", 0.0), dtype=np.float64), width)
    spread = np.broadcast_to(np.asarray(getattr(first, "scale_", 1.0), dtype=np.float64), width)
    scales = rng.choice([0.1, 1.0, 10.0], size=(CHECK_ROWS, 1))
    rows: npt.NDArray[np.float32] = (centre + spread * scales * rng.normal(size=(CHECK_ROWS, width))).astype(np.float32)
    return rows


def _expected(estimator: Any, rows: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
    if hasattr(estimator, "feature_names_in_"):
        pandas = import_extra("pandas", "sklearn", "A model trained on named columns")
        data: Any = pandas.DataFrame(rows, columns=list(estimator.feature_names_in_))
    else:
        data = rows
    if not hasattr(estimator, "predict"):
        return {"transform": np.asarray(estimator.transform(data))}
    expected = {"predict": np.asarray(estimator.predict(data))}
    if hasattr(estimator, "predict_proba"):
        expected["predict_proba"] = np.asarray(estimator.predict_proba(data))
    return expected


def _numbers(found: npt.NDArray[Any], expected: npt.NDArray[Any], source: str, method: str) -> float:
    scale = 1.0 if method == "predict_proba" else max(1.0, float(np.abs(expected).max(initial=0)))
    difference = float(np.abs(found.astype(np.float64) - expected).max(initial=0)) / scale
    if not difference <= TOLERANCE:
        raise ConversionError(
            f"{source}: after conversion {method} differs by up to {difference:.2g}, more than {TOLERANCE:g}: the "
            "model needs more than float32 can tell. Score with the model as it is.",
            path=source, difference=difference,
        )
    return difference


def _labels(
    found: npt.NDArray[Any], expected: npt.NDArray[Any], probabilities: npt.NDArray[Any] | None, source: str
) -> None:
    differ = found.astype(expected.dtype) != expected
    if probabilities is not None and probabilities.ndim == 2 and probabilities.shape[1] > 1 and differ.ndim == 1:
        best = np.sort(probabilities, axis=1)
        differ = differ & (best[:, -1] - best[:, -2] > NEAR)
    if differ.any():
        raise ConversionError(
            f"{source}: after conversion {int(differ.sum())} of {len(differ)} labels differ. Score with the "
            "model as it is.",
            path=source, differ=int(differ.sum()),
        )

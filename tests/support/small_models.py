"""Small models of real frameworks in files, for tests of what uses models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["classifier", "features", "onnx_file", "skops_file"]


def features(rows: int, width: int = 4, dtype: str = "float32") -> npt.NDArray[Any]:
    """Numbers, the same at every call; fewer rows are the first of more."""
    return np.random.default_rng(7).normal(size=(rows, width)).astype(dtype)


def classifier(*, text_labels: bool = False, names: list[str] | None = None) -> Any:
    """A logistic regression of four features behind a scaler, fitted on a frame when the features have names."""
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = features(200, dtype="float64")
    y: npt.NDArray[Any] = (x[:, 0] - x[:, 1] > 0).astype(np.int64)
    if text_labels:
        y = np.array(["early", "late"])[y]
    data = pd.DataFrame(x, columns=names) if names else x
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(data, y)


def skops_file(folder: Path, model: Any, name: str = "model.skops") -> str:
    """The path of a model saved by skops."""
    import skops.io

    skops.io.dump(model, folder / name)
    return str(folder / name)


def onnx_file(folder: Path, model: Any, name: str = "model.onnx", **options: Any) -> str:
    """The path of a scikit-learn model converted to ONNX, with one input X; without ZipMap unless it is asked for."""
    from skl2onnx import to_onnx

    options = {"zipmap": False, **options} if hasattr(model, "predict_proba") else options
    graph = to_onnx(model, features(1), options={id(model): options} if options else None, target_opset=17)
    (folder / name).write_bytes(graph.SerializeToString())
    return str(folder / name)

"""From scikit-learn to ONNX: the same labels, or nothing is written."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from featuremill.artifacts.errors import ParameterError
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.convert import ConversionError, _compare, _graph, convert
from featuremill.core.models.loading import load_model
from featuremill.core.models.spec import ModelSpec
from support.small_models import classifier, features, onnx_file, skops_file

X = features(300)
FAR = X + np.float32([1e3, -50, 0, 7])


def labels(x: Any) -> Any:
    return np.array(["early", "late", "never"])[(x[:, 0] > x[:, 0].mean()).astype(int) + (x[:, 1] > x[:, 1].mean())]


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), LogisticRegression()).fit(FAR, labels(FAR)),
        RandomForestClassifier(10, random_state=0).fit(FAR, labels(FAR)),
        GradientBoostingClassifier(n_estimators=5).fit(X, X[:, 0] > 0),
        CalibratedClassifierCV(LogisticRegression()).fit(X, X[:, 0] > 0),
        classifier(names=["a", "b", "c", "d"]),
    ],
    ids=lambda m: type(m).__name__,
)
def test_labels_are_identical_and_probabilities_close(tmp_path: Path, model: Any) -> None:
    source = skops_file(tmp_path, model)
    converted = convert(source, tmp_path / "out.onnx")
    assert converted.outputs == ("label", "probabilities") and converted.largest_difference <= 1e-5
    before = load_model(ModelSpec.model_validate({"path": source, "outputs": {"l": "predict", "p": "predict_proba"}}))
    after = load_model(ModelSpec(path=converted.path))
    rows = FAR[::-1].copy() if type(model).__name__ != "GradientBoostingClassifier" else X
    one, other = before.predict({"X": rows}), after.predict({"X": rows})
    np.testing.assert_array_equal(other["label"], one["predict"])
    np.testing.assert_allclose(other["probabilities"], one["predict_proba"], atol=1e-5)


@pytest.mark.parametrize("model", [LinearRegression(), HistGradientBoostingRegressor(max_iter=5)])
def test_numbers_are_close(tmp_path: Path, model: Any) -> None:
    converted = convert(skops_file(tmp_path, model.fit(X, X[:, 0])), tmp_path / "out.onnx")
    got = load_model(ModelSpec(path=converted.path)).predict({"X": X})["variable"]
    np.testing.assert_allclose(got.reshape(-1), model.predict(X), atol=1e-4)


def test_transforms(tmp_path: Path) -> None:
    scaler = StandardScaler().fit(FAR)
    converted = convert(skops_file(tmp_path, scaler), tmp_path / "out.onnx")
    got = load_model(ModelSpec(path=converted.path)).predict({"X": X})["variable"]
    np.testing.assert_allclose(got, scaler.transform(X), rtol=1e-4)


def test_what_gives_something_else_is_found_out() -> None:
    graph = _graph(LogisticRegression().fit(X, X[:, 0] > 0), "a.skops")
    nearly = LogisticRegression().fit(X, X[:, 0] > 0)
    nearly.coef_ = nearly.coef_ * 1.001
    with pytest.raises(ConversionError, match="predict_proba differs by up to .* Score with the model as it is"):
        _compare(nearly, graph, "a.skops")
    with pytest.raises(ConversionError, match="labels differ"):
        _compare(LogisticRegression().fit(X, X[:, 0] > 1), graph, "a.skops")


def test_what_has_no_counterpart_is_said(tmp_path: Path) -> None:
    odd = make_pipeline(FunctionTransformer(np.log1p), LinearRegression()).fit(np.abs(X), X[:, 0])
    with pytest.raises(ConversionError, match="cannot be converted"):
        convert(skops_file(tmp_path, odd), tmp_path / "out.onnx")


def test_a_target_is_replaced_at_once_and_folders_are_made(tmp_path: Path) -> None:
    source = skops_file(tmp_path, classifier())
    target = tmp_path / "new" / "out.onnx"
    convert(source, target)
    target.write_bytes(b"old")
    convert(source, target)
    assert load_model(ModelSpec(path=str(target)))
    assert [p.name for p in target.parent.iterdir()] == ["out.onnx"]


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="model of onnx, expected one of scikit-learn"):
        convert(onnx_file(tmp_path, classifier()), tmp_path / "out.onnx")
    with pytest.raises(ParameterError, match=r"ends with \.onnx"):
        convert(skops_file(tmp_path, classifier()), tmp_path / "out.skops")
    pickled = tmp_path / "m.pkl"
    pickled.write_bytes(pickle.dumps(classifier()))
    with pytest.raises(ModelFileError, match="is a pickle"):
        convert(pickled, tmp_path / "out.onnx")
    digest = hashlib.sha256(pickled.read_bytes()).hexdigest()
    assert convert(pickled, tmp_path / "out.onnx", allow_pickle=True, sha256=digest).rows


def test_a_process_with_gaussian_kernels_is_refused_or_right(tmp_path: Path) -> None:
    model = GaussianProcessRegressor(random_state=0).fit(X[:20], X[:20, 0])
    try:
        converted = convert(skops_file(tmp_path, model), tmp_path / "out.onnx")
    except ConversionError:
        assert not (tmp_path / "out.onnx").exists()
    else:
        assert converted.largest_difference <= 1e-5

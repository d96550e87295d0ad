"""scikit-learn's models against the contract, and what only they can get wrong."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from featuremill.artifacts.errors import BadRows, ParameterError
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.loading import load_model
from featuremill.core.models.sklearn_model import ALLOWED
from featuremill.core.models.spec import ModelSpec
from support.model_conformance import Arrays, ModelConformance
from support.small_models import classifier, features, skops_file

OUTPUTS = {"label": "predict", "p": {"output": "predict_proba", "index": 1}, "score": "decision_function"}


class TestClassifier(ModelConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        path = skops_file(tmp_path_factory.mktemp("model"), classifier(text_labels=True))
        return ModelSpec.model_validate({"path": path, "outputs": OUTPUTS})

    def inputs(self, rows: int) -> Arrays:
        return {"X": features(rows)}


class TestForest(ModelConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        x = features(200)
        model = RandomForestClassifier(5, n_jobs=-1, random_state=0).fit(x, x[:, 0] > 0)
        return ModelSpec(path=skops_file(tmp_path_factory.mktemp("model"), model), options={"method": "predict_proba"})

    def inputs(self, rows: int) -> Arrays:
        return {"X": features(rows)}


class TestText(ModelConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        texts = ["late again", "on time", "very late", "early and on time"]
        model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
        return ModelSpec.model_validate(
            {"path": skops_file(tmp_path_factory.mktemp("model"), model), "options": {"method": "predict_proba"}}
        )

    def inputs(self, rows: int) -> Arrays:
        words = np.array(["late", "again", "on time", "early"], dtype=object)
        return {"X": np.random.default_rng(1).choice(words, size=rows)}


def load(tmp_path: Path, model: Any, **fields: Any) -> Any:
    return load_model(ModelSpec.model_validate({"path": skops_file(tmp_path, model), **fields}))


def test_predictions_are_those_of_scikit_learn(tmp_path: Path) -> None:
    model, x = classifier(text_labels=True), features(50, dtype="float64")
    got = load(tmp_path, model, outputs=OUTPUTS).predict({"X": x})
    assert list(got) == ["predict", "predict_proba", "decision_function"]
    assert got["predict"].dtype == object
    np.testing.assert_array_equal(got["predict"], model.predict(x))
    np.testing.assert_array_equal(got["predict_proba"], model.predict_proba(x))
    np.testing.assert_array_equal(got["decision_function"], model.decision_function(x))


def test_only_what_is_asked_for_is_there(tmp_path: Path) -> None:
    assert list(load(tmp_path, classifier()).predict({"X": features(2)})) == ["predict"]
    scaler = StandardScaler().fit(features(9))
    assert list(load(tmp_path, scaler).predict({"X": features(2)})) == ["transform"]


def test_names_of_features_are_the_columns_and_no_call_warns_of_their_absence(tmp_path: Path) -> None:
    model = load(tmp_path, classifier(names=["a", "b", "c", "d"]))
    assert model.signature.columns == ("a", "b", "c", "d")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict({"X": features(3)})
    unnamed = load(tmp_path, classifier(names=["a", "b", "c", "d"]), options={"feature_names": "ignore"})
    assert unnamed.signature.columns == ()


def test_columns_selected_by_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"carrier": ["AA", "UA", "AA", "DL"] * 5, "delay": np.arange(20.0)})
    select = ColumnTransformer([("o", OneHotEncoder(), ["carrier"]), ("s", StandardScaler(), ["delay"])])
    estimator = make_pipeline(select, LogisticRegression()).fit(frame, np.arange(20) > 9)
    model = load(tmp_path, estimator)
    got = model.predict({"X": frame.to_numpy(dtype=object)})
    np.testing.assert_array_equal(got["predict"], estimator.predict(frame))
    assert model.signature.columns == ("carrier", "delay")


def test_rows_with_nan_are_named_all_at_once(tmp_path: Path) -> None:
    model, x = load(tmp_path, classifier()), features(6)
    x[1, 2], x[4, 0] = np.nan, np.inf
    with pytest.raises(BadRows, match="NaN|infinity") as caught:
        model.predict({"X": x})
    assert caught.value.rows == [1, 4]


def test_a_model_that_takes_nan_gets_it(tmp_path: Path) -> None:
    x = features(200)
    model = load(tmp_path, HistGradientBoostingClassifier(max_iter=3).fit(x, x[:, 0] > 0))
    x[:, 0] = np.nan
    assert len(model.predict({"X": x})["predict"]) == 200


def test_types_stay_whatever_the_type_of_the_input(tmp_path: Path) -> None:
    x = features(30)
    model = load(tmp_path, LinearRegression().fit(x, x[:, 0]))
    for dtype in ("float32", "float64"):
        assert model.predict({"X": x.astype(dtype)})["predict"].dtype == np.dtype(model.signature.outputs[0].dtype)


@pytest.mark.parametrize("module", ["os:system", "builtins:eval", "subprocess:check_output"])
def test_a_function_hidden_in_the_file_is_refused_by_name(tmp_path: Path, module: str) -> None:
    from importlib import import_module

    name, _, function = module.partition(":")
    model = FunctionTransformer(getattr(import_module(name), function))
    with pytest.raises(ModelFileError, match=function) as caught:
        load(tmp_path, model)
    assert function in str(caught.value.types)


def test_what_is_not_on_the_list_is_refused_even_of_scikit_learn(tmp_path: Path) -> None:
    x = features(30)
    with pytest.raises(ModelFileError, match=r"KDTree.*ONNX"):
        load(tmp_path, KNeighborsClassifier(algorithm="kd_tree").fit(x, x[:, 0] > 0))


def test_the_list_holds_no_name_of_another_package() -> None:
    assert {name.partition(".")[0] for name in ALLOWED} == {"numpy", "scipy", "sklearn"}


def test_a_tree_that_points_outside_itself_is_refused(tmp_path: Path) -> None:
    x = features(100)
    path = Path(skops_file(tmp_path, RandomForestClassifier(1, random_state=0).fit(x, x[:, 0] > 0)))
    crafted, found = tmp_path / "crafted.skops", 0
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(crafted, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith(".npy"):
                array = np.load(io.BytesIO(data))
                if array.dtype.names and "left_child" in array.dtype.names:
                    array = array.copy()
                    array["left_child"][0] = 10**6
                    buffer = io.BytesIO()
                    np.save(buffer, array)
                    data, found = buffer.getvalue(), found + 1
            target.writestr(name, data)
    assert found
    with pytest.raises(ModelFileError, match="points outside itself"):
        load_model(ModelSpec(path=str(crafted)))


@pytest.mark.parametrize("kind", [HistGradientBoostingClassifier(max_iter=3), RandomForestClassifier(3)])
def test_trees_as_they_are_trained_pass_the_checks(tmp_path: Path, kind: Any) -> None:
    x = features(200)
    model = load(tmp_path, kind.fit(x, x[:, 0] > 0))
    np.testing.assert_array_equal(model.predict({"X": x})["predict"], kind.predict(x))


def test_isolation_forest(tmp_path: Path) -> None:
    x = features(100)
    model = load(tmp_path, IsolationForest(n_estimators=3, random_state=0).fit(x), outputs={"s": "score_samples"})
    assert model.predict({"X": x})["score_samples"].shape == (100,)


def test_a_damaged_file(tmp_path: Path) -> None:
    path = Path(skops_file(tmp_path, classifier()))
    damaged = tmp_path / "damaged.skops"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(damaged, "w") as target:
        target.writestr("schema.json", source.read("schema.json")[:-20])
    with pytest.raises(ModelFileError, match="cannot be loaded by skops"):
        load_model(ModelSpec(path=str(damaged)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"outputs": {"p": "predict_prob"}}, "Did you mean 'predict_proba'"),
        ({"options": {"method": "fit"}}, "options.method got 'fit'"),
        ({"options": {"methods": "predict"}}, "Did you mean 'method'"),
        ({"device": "cuda"}, "scikit-learn runs on the cpu"),
    ],
)
def test_what_the_job_asks_for_and_there_is_not(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        load(tmp_path, classifier(), **fields)


def test_skops_itself_would_load_the_file(tmp_path: Path) -> None:
    # So that the refusals above are ours.
    x = features(30)
    path = skops_file(tmp_path, KNeighborsClassifier(algorithm="kd_tree").fit(x, x[:, 0] > 0))
    assert skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path)).n_features_in_ == 4


@pytest.mark.parametrize("threads", [None, 2])
def test_a_call_has_as_many_threads_as_the_job_says(tmp_path: Path, threads: int | None) -> None:
    model = load_model(ModelSpec(path=skops_file(tmp_path, classifier()), threads=threads))
    with threadpool_limits(4):
        model.predict({"X": features(3)})
        found = {info["num_threads"] for info in threadpool_info()}
    assert found == {threads or 1}

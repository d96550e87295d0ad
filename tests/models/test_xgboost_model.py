"""XGBoost's models against the contract, and what only they can get wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from featuremill.artifacts.errors import ParameterError
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.loading import load_model
from featuremill.core.models.spec import ModelSpec
from support.model_conformance import Arrays, ModelConformance
from support.small_models import features


def trained(rounds: int = 5, names: list[str] | None = None, **params: Any) -> xgb.Booster:
    x = features(300)
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0) * (params.get("num_class", 2) > 2)
    data = xgb.DMatrix(x, label=y, feature_names=names)
    return xgb.train({"objective": "binary:logistic", "nthread": 1, **params}, data, rounds)


def saved(folder: Path, booster: Any, name: str = "model.ubj") -> str:
    booster.save_model(folder / name)
    return str(folder / name)


class TestBinary(ModelConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        path = saved(tmp_path_factory.mktemp("model"), trained())
        return ModelSpec.model_validate({"path": path, "outputs": {"p": "predict", "m": "margin", "l": "label"}})

    def inputs(self, rows: int) -> Arrays:
        return {"X": features(rows)}


class TestManyClasses(ModelConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        booster = trained(objective="multi:softprob", num_class=3)
        return ModelSpec(path=saved(tmp_path_factory.mktemp("model"), booster, "model.json"))

    def inputs(self, rows: int) -> Arrays:
        return {"X": features(rows)}


class TestLinear(ModelConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        return ModelSpec(path=saved(tmp_path_factory.mktemp("model"), trained(booster="gblinear")))

    def inputs(self, rows: int) -> Arrays:
        return {"X": features(rows)}


def test_predictions_are_those_of_xgboost_and_missing_values_are_its_business(tmp_path: Path) -> None:
    booster, x = trained(), features(50)
    x[::3, 0] = np.nan
    model = load_model(ModelSpec.model_validate(
        {"path": saved(tmp_path, booster), "outputs": {"p": "predict", "m": "margin", "l": "label"}}
    ))
    got = model.predict({"X": x})
    np.testing.assert_array_equal(got["predict"], booster.predict(xgb.DMatrix(x)))
    np.testing.assert_array_equal(got["margin"], booster.predict(xgb.DMatrix(x), output_margin=True))
    np.testing.assert_array_equal(got["label"], (got["predict"] > 0.5).astype(np.int64))


def test_the_trees_up_to_the_best_round_as_the_classes_for_scikit_learn_use_them(tmp_path: Path) -> None:
    x = features(400)
    y = (x[:, 0] + features(400, dtype="float64")[::-1, 1] > 0).astype(int)
    model = xgb.XGBClassifier(n_estimators=200, early_stopping_rounds=2, n_jobs=1)
    model.fit(x[:200], y[:200], eval_set=[(x[200:], y[200:])], verbose=False)
    path = saved(tmp_path, model)
    wanted = model.predict_proba(x)[:, 1]
    np.testing.assert_array_equal(load_model(ModelSpec(path=path)).predict({"X": x})["predict"], wanted)
    every = load_model(ModelSpec(path=path, options={"iterations": "all"})).predict({"X": x})["predict"]
    assert (every != wanted).any()


def test_names_of_features_are_the_columns(tmp_path: Path) -> None:
    path = saved(tmp_path, trained(names=["a", "b", "c", "d"]))
    assert load_model(ModelSpec(path=path)).signature.columns == ("a", "b", "c", "d")
    assert load_model(ModelSpec(path=path, options={"feature_names": "ignore"})).signature.columns == ()


def test_bad_requests(tmp_path: Path) -> None:
    path = saved(tmp_path, trained())
    with pytest.raises(ParameterError, match="Did you mean 'label'"):
        load_model(ModelSpec.model_validate({"path": path, "outputs": {"l": "labels"}}))
    regression = saved(tmp_path, trained(objective="reg:squarederror"), "r.ubj")
    with pytest.raises(ParameterError, match="has no output 'label'"):
        load_model(ModelSpec.model_validate({"path": regression, "outputs": {"l": "label"}}))
    with pytest.raises(ParameterError, match="none of XGBoost's"):
        load_model(ModelSpec(path=path, options={"ntree": 1}))
    if not xgb.build_info().get("USE_CUDA"):
        with pytest.raises(ParameterError, match="without CUDA"):
            load_model(ModelSpec(path=path, device="cuda"))


@pytest.mark.parametrize("content", ['{"learner": {}}', '{"learner'])
def test_a_damaged_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(content)
    with pytest.raises(ModelFileError, match="no model that XGBoost"):
        load_model(ModelSpec(path=str(path)))

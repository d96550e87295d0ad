"""Models of the user's own: classes of this module, named as a job file does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featuremill.artifacts.errors import ParameterError
from featuremill.core.models.contract import Model, PredictionError, Signature, TensorSpec
from featuremill.core.models.custom_model import custom_class, load
from featuremill.core.models.loading import framework_of, load_model
from featuremill.core.models.spec import ModelSpec
from support.model_conformance import Arrays, ModelConformance
from support.small_models import features


class Weighted:
    """A plain class with everything that one may have."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.weights = np.ones(3)

    def load(self, path: str) -> None:
        self.weights = np.array(Path(path).read_text().split(), dtype=float)

    def signature(self) -> Signature:
        return Signature((TensorSpec("x", "float64", (3,)),), (TensorSpec("y", "float64", ()),))

    def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"y": inputs["x"] @ self.weights * self.scale}


class Subclass(Model):
    """A model by the contract itself."""

    def predict(self, inputs: Any) -> dict[str, Any]:
        return {"y": inputs["x"].sum(axis=1)}


class Bare:
    def predict(self, inputs: dict[str, Any]) -> Any:
        return [f"row {v:.0f}" for v in inputs["x"]]


class Nothing:
    def predict(self, inputs: dict[str, Any]) -> Any:
        return None


class NoPredict:
    pass


def spec_of(name: str, **fields: Any) -> ModelSpec:
    return ModelSpec.model_validate({"class": f"{__name__}:{name}", **fields})


class TestPlainClass(ModelConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        path = tmp_path_factory.mktemp("model") / "weights.txt"
        path.write_text("1 2 3")
        return spec_of("Weighted", path=str(path), arguments={"scale": 0.5})

    def inputs(self, rows: int) -> Arrays:
        return {"x": features(rows, 3, "float64")}


class TestSubclass(ModelConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls) -> ModelSpec:
        return spec_of("Subclass")

    def inputs(self, rows: int) -> Arrays:
        return {"x": features(rows, 3)}

    def wrong_width(self, inputs: Arrays) -> Arrays | None:
        return None


def test_arrays_alone_are_the_output_prediction_and_lists_are_arrays() -> None:
    got = load_model(spec_of("Bare")).predict({"x": np.arange(2.0)})
    assert got["prediction"].tolist() == ["row 0", "row 1"]
    assert got["prediction"].dtype == object


def test_none_is_an_error() -> None:
    with pytest.raises(PredictionError, match="predict gave None"):
        load_model(spec_of("Nothing")).predict({"x": np.arange(2.0)})


@pytest.mark.parametrize(
    ("class_", "fields", "message"),
    [
        ("no_such_package.models:A", {}, "no_such_package.models cannot be imported"),
        (f"{__name__}:Weihted", {}, "Did you mean 'Weighted'"),
        (f"{__name__}:features", {}, "no class but function"),
        (f"{__name__}:NoPredict", {}, r"has no predict\(inputs\)"),
        (f"{__name__}:Weighted", {"arguments": {"scael": 1}}, r"cannot be made with arguments \['scael'\]"),
        (f"{__name__}:Bare", {"path": __file__}, r"has no load\(path\)"),
    ],
)
def test_bad_requests(class_: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        load_model(ModelSpec.model_validate({"class": class_, "framework": "custom", **fields}))


def test_one_of_beams_handlers_is_told_by_its_class_and_not_loaded_here() -> None:
    from apache_beam.ml.inference.base import ModelHandler

    spec = ModelSpec.model_validate({"class": "apache_beam.ml.inference.sklearn_inference:SklearnModelHandlerNumpy"})
    assert issubclass(custom_class(spec), ModelHandler)
    with pytest.raises(ParameterError, match="Beam's model handlers"):
        load("", spec)


def test_a_class_beside_a_file_of_no_framework_is_custom(tmp_path: Path) -> None:
    (tmp_path / "rules.txt").write_text("1 2 3")
    assert framework_of(spec_of("Weighted", path=str(tmp_path / "rules.txt"))) == "custom"

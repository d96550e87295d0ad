"""Handlers of Beam's, run as they are."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from apache_beam.ml.inference.base import ModelHandler

from featuremill.artifacts.errors import ParameterError
from featuremill.core.inference.beam_model import BeamModel, beam_handler, load_any
from featuremill.core.inference.handler import ArrowModelHandler
from featuremill.core.models.contract import PredictionError
from featuremill.core.models.spec import ModelSpec
from support.scoring_models import MODULE, Labels, Line, line_spec
from support.small_models import classifier, features


def test_a_stock_handler_runs_as_it_is(tmp_path: Path) -> None:
    model, x = classifier(text_labels=True), features(20)
    (tmp_path / "late.pkl").write_bytes(pickle.dumps(model))
    spec = ModelSpec.model_validate(
        {
            "class": "apache_beam.ml.inference.sklearn_inference:SklearnModelHandlerNumpy",
            "arguments": {"model_uri": str(tmp_path / "late.pkl"), "large_model": True},
            "inputs": {"X": list("abcd")},
        }
    )
    handler = ArrowModelHandler(spec)
    assert handler.share_model_across_processes()
    batch = pa.record_batch({n: x[:, i] for i, n in enumerate("abcd")})
    (result,) = handler.run_inference(batch, handler.load_model())
    assert result.inference.columns["prediction"].to_pylist() == model.predict(x).tolist()


def test_functions_before_and_after() -> None:
    handler = Line(slope=2).with_preprocess_fn(lambda x: x + 1).with_postprocess_fn(lambda p: -p.inference)
    assert BeamModel(handler).predict({"x": np.array([[1.0], [2.0]])})["prediction"].tolist() == [-4.0, -6.0]


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ([1.5, 2.5], {"prediction": [1.5, 2.5]}),
        (["a", "bcd"], {"prediction": ["a", "bcd"]}),
        ([np.array([1, 2]), np.array([3, 4])], {"prediction": [[1, 2], [3, 4]]}),
        ([[1, 2], [3, 4]], {"prediction": [[1, 2], [3, 4]]}),
        ([{"p": 1, "q": "x"}, {"p": 2, "q": "y"}], {"p": [1, 2], "q": ["x", "y"]}),
    ],
)
def test_forms_of_predictions(predictions: list[Any], expected: dict[str, Any]) -> None:
    class Fixed(ModelHandler):
        def load_model(self) -> object:
            return object()

        def run_inference(self, batch: Any, model: object, inference_args: Any = None) -> Any:
            return iter(predictions)

    found = BeamModel(Fixed()).predict({"x": np.zeros(2)})
    assert {k: v.tolist() for k, v in found.items()} == expected
    with pytest.raises(PredictionError, match="Fixed returned 2 predictions for 3 examples"):
        BeamModel(Fixed()).predict({"x": np.zeros(3)})


def test_tensors_of_torch() -> None:
    import torch

    class Torch(Labels):
        def run_inference(self, batch: Any, model: object, inference_args: Any = None) -> Any:
            return [torch.tensor([e, 2 * e]) for e in batch]

    assert BeamModel(Torch()).predict({"x": np.array([1.0, 2.0])})["prediction"].tolist() == [[1.0, 2.0], [2.0, 4.0]]


def test_what_is_no_handler_is_left_to_the_loaders() -> None:
    assert beam_handler(ModelSpec(path="late.onnx")) is None
    weights = {"class": f"{MODULE}:Line", "path": "late.safetensors"}
    assert beam_handler(ModelSpec.model_validate(weights)) is None
    assert beam_handler(ModelSpec.model_validate({"class": "collections:OrderedDict"})) is None


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ParameterError, match=r"Line cannot be made with the arguments .*unexpected keyword"):
        beam_handler(line_spec(slop=3))


def test_arguments_are_part_of_the_version() -> None:
    versions = {load_any(line_spec(slope=s))[1] for s in (1, 2, 1)}
    assert len(versions) == 2

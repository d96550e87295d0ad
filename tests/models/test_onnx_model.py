"""ONNX models against the contract, and what only they can get wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from featuremill.artifacts.errors import ParameterError
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.loading import load_model, model_version
from featuremill.core.models.spec import ModelSpec
from support.model_conformance import Arrays, ModelConformance
from support.small_models import classifier, features, onnx_file

FLOAT = TensorProto.FLOAT


def graph(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], initial: list[Any] | None = None) -> str:
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, initial or []), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 9
    onnx.save(model, str(path))
    return str(path)


def value(name: str, type_: int, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, type_, shape)


def two_inputs(path: Path) -> str:
    """y = a @ 1 + n, and the texts as they are."""
    ones = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["a", "w"], ["s"]),
        helper.make_node("Cast", ["n"], ["f"], to=FLOAT),
        helper.make_node("Unsqueeze", ["f", "axis"], ["c"]),
        helper.make_node("Add", ["s", "c"], ["y"]),
        helper.make_node("Identity", ["t"], ["same"]),
    ]
    axis = numpy_helper.from_array(np.array([1]), "axis")
    inputs = [
        value("a", FLOAT, ["N", 3]), value("n", TensorProto.INT64, ["N"]), value("t", TensorProto.STRING, ["N"]),
    ]
    return graph(path, nodes, inputs, [value("y", FLOAT, ["N", 2]), value("same", TensorProto.STRING, ["N"])],
                 [ones, axis])


class TestClassifier(ModelConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        return ModelSpec(path=onnx_file(tmp_path_factory.mktemp("model"), classifier(text_labels=True)))

    def inputs(self, rows: int) -> Arrays:
        return {"X": features(rows)}


class TestSeveralInputs(ModelConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        return ModelSpec(path=two_inputs(tmp_path_factory.mktemp("model") / "two.onnx"))

    def inputs(self, rows: int) -> Arrays:
        return {
            "a": features(rows, 3), "n": np.arange(rows), "t": np.array([f"t{i}" for i in range(rows)], dtype=object)
        }


def test_predictions_are_those_of_the_model_that_was_converted(tmp_path: Path) -> None:
    model, x = classifier(text_labels=True), features(50)
    got = load_model(ModelSpec(path=onnx_file(tmp_path, model))).predict({"X": x})
    np.testing.assert_array_equal(got["label"], model.predict(x))
    np.testing.assert_allclose(got["probabilities"], model.predict_proba(x), atol=1e-6)


@pytest.mark.parametrize("zipmap", [True, "columns"])
def test_dicts_of_probabilities_become_a_matrix(tmp_path: Path, zipmap: Any) -> None:
    if zipmap == "columns":
        path = onnx_file(tmp_path, classifier(), zipmap="columns")
        assert len(load_model(ModelSpec(path=path)).predict({"X": features(3)})) == 3
        return
    path = onnx_file(tmp_path, classifier(text_labels=True), zipmap=True)
    raw = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"X": features(3)})[1]
    assert isinstance(raw, list) and isinstance(raw[0], dict)
    model = load_model(ModelSpec(path=path))
    matrix = model.predict({"X": features(3)})["output_probability"]
    assert matrix.tolist() == [[row["early"], row["late"]] for row in raw]


def test_only_the_outputs_asked_for_are_computed(tmp_path: Path) -> None:
    spec = ModelSpec.model_validate({"path": two_inputs(tmp_path / "two.onnx"), "outputs": {"text": "same"}})
    model = load_model(spec)
    assert [o.name for o in model.signature.outputs] == ["same"]


def test_bad_requests(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, classifier())
    with pytest.raises(ParameterError, match="Did you mean 'probabilities'"):
        load_model(ModelSpec.model_validate({"path": path, "outputs": {"p": "probability"}}))
    with pytest.raises(ParameterError, match="expected cpu, cuda or cuda:1"):
        load_model(ModelSpec(path=path, device="gpu"))
    with pytest.raises(ParameterError, match="none of ONNX Runtime's"):
        load_model(ModelSpec(path=path, options={"method": "x"}))
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        with pytest.raises(ParameterError, match="has no CUDA"):
            load_model(ModelSpec(path=path, device="cuda:0"))


def test_a_wrong_type_is_an_error(tmp_path: Path) -> None:
    model = load_model(ModelSpec(path=onnx_file(tmp_path, classifier())))
    with pytest.raises(ParameterError, match="object"):
        model.predict({"X": np.full((2, 4), "a", dtype=object)})


def test_batches_of_one_size_are_refused(tmp_path: Path) -> None:
    path = graph(tmp_path / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])], [value("x", FLOAT, [8, 2])],
                 [value("y", FLOAT, [8, 2])])
    with pytest.raises(ModelFileError, match="exactly 8 rows"):
        load_model(ModelSpec(path=path))


def test_a_damaged_file(tmp_path: Path) -> None:
    path = Path(onnx_file(tmp_path, classifier()))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelFileError, match="none that ONNX Runtime"):
        load_model(ModelSpec(path=str(path)))


def weights_beside(path: Path, location: str) -> str:
    weights = numpy_helper.from_array(np.full((2, 2), 3, np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.append(onnx.StringStringEntryProto(key="location", value=location))
    weights.external_data.append(onnx.StringStringEntryProto(key="length", value="16"))
    return graph(path, [helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", FLOAT, ["N", 2])],
                 [value("y", FLOAT, ["N", 2])], [weights])


def test_weights_in_a_file_beside_the_model(tmp_path: Path) -> None:
    path = weights_beside(tmp_path / "m.onnx", "m.onnx.data")
    with pytest.raises(ModelFileError, match=r"m\.onnx\.data' beside it, which is not there"):
        load_model(ModelSpec(path=path))
    (tmp_path / "m.onnx.data").write_bytes(np.full((2, 2), 3, np.float32).tobytes())
    spec = ModelSpec(path=path)
    assert load_model(spec).predict({"x": np.ones((1, 2), np.float32)})["y"].tolist() == [[6, 6]]
    before = model_version(spec)
    (tmp_path / "m.onnx.data").write_bytes(np.full((2, 2), 4, np.float32).tobytes())
    assert model_version(spec) != before


@pytest.mark.parametrize("how", ["up", "absolute", "link"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(np.full((2, 2), 3, np.float32).tobytes())
    location = {"up": "../secret", "absolute": str(secret), "link": "link"}[how]
    if how == "link":
        (folder / "link").symlink_to(secret)
    with pytest.raises(ModelFileError, match="outside its folder"):
        load_model(ModelSpec(path=weights_beside(folder / "m.onnx", location)))

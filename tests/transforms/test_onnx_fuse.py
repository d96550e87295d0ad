"""Transforms and a model as one graph, beside the two run one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from featuremill.artifacts import Artifact
from featuremill.artifacts.errors import ColumnTypeError, MissingColumnError, ParameterError
from featuremill.transforms.contract import Transform
from featuremill.transforms.crossing import FeatureCross
from featuremill.transforms.encoding import OneHot
from featuremill.transforms.hashing import HashStrings
from featuremill.transforms.imputation import Impute
from featuremill.transforms.onnx_fuse import fuse
from featuremill.transforms.scaling import ScaleToZScore
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary
from support.serving import artifact_of, run_graph, session_of

COLUMNS = ["delay", "miles", "carrier_one_hot", "route", "early"]


def flights(rows: int = 50) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "delay": pa.array([None if i % 9 == 4 else i % 13 - 4.5 for i in range(rows)], pa.float64()),
            "miles": pa.array([None if i % 8 == 3 else 100 + i * 7 % 90 for i in range(rows)], pa.int32()),
            "carrier": pa.array([None if i % 10 == 7 else "ABC"[i % 3] for i in range(rows)]),
            "dest": pa.array([f"D{i % 4}" for i in range(rows)]),
            "early": pa.array([i % 3 == 0 for i in range(rows)]),
            "late": pa.array([i % 2 for i in range(rows)]),
        }
    )


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    transforms: list[Transform] = [
        FeatureCross(["carrier", "dest"], output="route", num_oov_buckets=1),
        OneHot(["carrier"], top_k=3, output="carrier_one_hot"),
        ComputeAndApplyVocabulary(["dest"]),
        Impute(["delay"], strategy="mean"),
        ScaleToZScore(["delay", "miles"]),
        HashStrings(["carrier"], 7, output="hashed"),
    ]
    return artifact_of(tmp_path_factory.mktemp("flights"), transforms, flights())


def matrix(batch: pa.RecordBatch, columns: list[str]) -> npt.NDArray[np.float32]:
    """The columns side by side as float32, NaN for null."""
    parts = []
    for name in columns:
        column = batch.column(name)
        column = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
        vectors = pa.types.is_fixed_size_list(column.type)
        values = (column.flatten() if vectors else column).to_numpy(zero_copy_only=False).astype(np.float32)
        parts.append(values.reshape(len(batch), column.type.list_size if vectors else 1))
    return np.concatenate(parts, axis=1)


def sklearn_model(kind: Any, features: npt.NDArray[np.float32], opset: int | None = None) -> Any:
    from skl2onnx import to_onnx

    features = np.nan_to_num(features)
    fitted = kind.fit(features, np.arange(len(features)) % 2)
    return to_onnx(fitted, features[:1], target_opset=opset, options={"zipmap": False})


def one_node(kind: str, inputs: dict[str, tuple[int, list[Any]]], type_: int, **attributes: Any) -> Any:
    """A model of one node."""
    graph = helper.make_graph(
        [helper.make_node(kind, list(inputs), ["answer"], name="node", **attributes)], "small",
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info("answer", type_, next(iter(inputs.values()))[1])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("opset", [None, 21, 15, 12])
@pytest.mark.parametrize("kind", [LogisticRegression(), RandomForestClassifier(5, random_state=0)], ids=str)
def test_one_graph_gives_what_the_two_give(artifact: Artifact, kind: Any, opset: int | None) -> None:
    """For models of older and newer operator sets; rows that the artifact was not fitted to, single rows, no rows."""
    columns = COLUMNS if isinstance(kind, RandomForestClassifier) else ["delay", "carrier_one_hot", "early"]
    model = sklearn_model(kind, matrix(artifact.transform(flights()), columns), opset)
    before = model.SerializeToString()
    fused = session_of(fuse(artifact, model, {"X": columns}))
    alone = session_of(model)
    fresh = flights(200).set_column(2, "carrier", pa.array(["A", "Z", None, ""] * 50))
    for batch in (flights(), fresh, fresh.slice(1, 1), fresh.slice(0, 0)):
        wanted = alone.run(None, {"X": matrix(artifact.transform(batch), columns)})
        found = run_graph(fused, batch)
        assert list(found) == [o.name for o in alone.get_outputs()]
        for got, want in zip(found.values(), wanted, strict=True):
            assert got.dtype == want.dtype and got.tolist() == want.tolist()
    assert model.SerializeToString() == before, "the model was changed"


def test_inputs_are_the_raw_columns_that_the_model_needs(artifact: Artifact) -> None:
    model = one_node("Identity", {"x": (TensorProto.FLOAT, ["n", 2])}, TensorProto.FLOAT)
    model.metadata_props.add(key="author", value="me")
    fused = fuse(artifact, model, {"x": ["delay", "miles"]})
    session = session_of(fused)
    assert [i.name for i in session.get_inputs()] == ["delay", "miles"]
    assert [i.name for i in session.get_overridable_initializers()] == ["miles__is_null"]
    about = {p.key: p.value for p in fused.metadata_props}
    assert (about["author"], about["featuremill.version"]) == ("me", artifact.version)
    (found,) = run_graph(session, flights()).values()
    assert found.tobytes() == matrix(artifact.transform(flights()), ["delay", "miles"]).tobytes()


def test_by_default_an_input_is_the_column_of_its_name(artifact: Artifact) -> None:
    """The model's tensors are called as raw columns are, and so is its output."""
    inputs = {"delay": (TensorProto.FLOAT, ["n", 1]), "miles": (TensorProto.FLOAT, ["n", 1])}
    model = one_node("Sub", inputs, TensorProto.FLOAT)
    model.graph.node[0].output[0] = model.graph.output[0].name = "late"
    found = run_graph(session_of(fuse(artifact, model)), flights())
    wanted = matrix(artifact.transform(flights()), ["delay", "miles"])
    np.testing.assert_array_equal(found["late"], (wanted[:, :1] - wanted[:, 1:]))


def test_a_models_output_does_not_take_the_name_of_an_input(artifact: Artifact) -> None:
    model = one_node("Identity", {"x": (TensorProto.FLOAT, ["n"])}, TensorProto.FLOAT)
    model.graph.node[0].output[0] = model.graph.output[0].name = "delay"
    session = session_of(fuse(artifact, model, {"x": "delay"}))
    assert [o.name for o in session.get_outputs()] == ["delay__out"]
    assert run_graph(session, flights())["delay__out"].tolist() == artifact.transform(flights())["delay"].to_pylist()


def test_names_inside_branches_are_changed_too(artifact: Artifact) -> None:
    branch = [
        helper.make_graph(
            [helper.make_node(kind, ["delay"], [f"{kind}_of"], name=kind)], kind, [],
            [helper.make_tensor_value_info(f"{kind}_of", TensorProto.FLOAT, ["n"])],
        )
        for kind in ("Neg", "Identity")
    ]
    branches = {"then_branch": branch[0], "else_branch": branch[1]}
    model = one_node("If", {"yes": (TensorProto.BOOL, [1])}, TensorProto.FLOAT, **branches)
    model.graph.input.add().CopyFrom(helper.make_tensor_value_info("delay", TensorProto.FLOAT, ["n"]))
    onnx.checker.check_model(model)
    fused = session_of(fuse(artifact, model, {"yes": "early", "delay": "delay"}))
    wanted = artifact.transform(flights())["delay"].to_numpy()
    for row, sign in ((0, -1), (1, 1)):
        (found,) = run_graph(fused, flights().slice(row, 1)).values()
        assert found.tolist() == [sign * wanted[row]]


def test_nulls_are_zero_for_a_model_that_has_no_nan(artifact: Artifact) -> None:
    model = one_node("Identity", {"x": (TensorProto.INT64, ["n"])}, TensorProto.INT64)
    (found,) = run_graph(session_of(fuse(artifact, model, {"x": "route"})), flights()).values()
    assert found.tolist() == artifact.transform(flights())["route"].fill_null(0).to_pylist()
    model = one_node("Identity", {"x": (TensorProto.STRING, ["n"])}, TensorProto.STRING)
    (found,) = run_graph(session_of(fuse(artifact, model, {"x": "carrier"})), flights()).values()
    assert found.tolist() == flights()["carrier"].fill_null("").to_pylist()


@pytest.mark.parametrize(
    ("inputs", "kind", "message"),
    [
        ({"y": ["delay"]}, ParameterError, "The model has no input 'y'. Known: 'x'."),
        ({}, ParameterError, "The model's input 'x' is given nothing."),
        ({"x": []}, ParameterError, "Input 'x' is given no column."),
        (None, MissingColumnError, "made has no column 'x'"),
        ({"x": ["delay", "mile"]}, MissingColumnError, "made has no column 'mile'. Did you mean 'miles'?"),
        ({"x": ["delay", "miles", "early"]}, ParameterError, "the model takes rows of shape (2), its columns"),
        ({"x": ["delay", "carrier"]}, ColumnTypeError, "column 'carrier': it holds str, and the model wants float32"),
        ({"x": ["delay", "hashed"]}, ParameterError, "HashStrings('carrier'): it hashes texts"),
    ],
)  # fmt: skip
def test_wrong_inputs(artifact: Artifact, inputs: Any, kind: type[Exception], message: str) -> None:
    model = one_node("Identity", {"x": (TensorProto.FLOAT, ["n", 2])}, TensorProto.FLOAT)
    with pytest.raises(kind) as caught:
        fuse(artifact, model, inputs)
    assert message in str(caught.value)


def test_floats_become_no_integers(artifact: Artifact) -> None:
    model = one_node("Identity", {"x": (TensorProto.INT64, ["n"])}, TensorProto.INT64)
    with pytest.raises(ColumnTypeError, match="it holds float32, and the model wants int64"):
        fuse(artifact, model, {"x": "delay"})


def test_a_fused_graph_is_a_file_like_any_other(artifact: Artifact, tmp_path: Path) -> None:
    model = one_node("Identity", {"x": (TensorProto.FLOAT, ["n"])}, TensorProto.FLOAT)
    onnx.save(fuse(artifact, model, {"x": "delay"}), tmp_path / "one.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "one.onnx"), full_check=True)

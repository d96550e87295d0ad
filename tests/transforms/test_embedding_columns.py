"""EmbedColumns: the vectors of torch, the same in any batch; models and columns that do not fit one another."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import helper

from featuremill.artifacts import load
from featuremill.artifacts.errors import ColumnTypeError, ParameterError
from featuremill.transforms import column_models
from featuremill.transforms.embedding_columns import EmbedColumns
from featuremill.transforms.embedding_models import describe
from support.serving import artifact_of
from support.small_encoders import columns_in_torch, make_columns, small_columns, small_vision


def batch_of(rows: int) -> pa.RecordBatch:
    draw = np.random.default_rng(rows)
    return pa.record_batch({"x": draw.normal(size=rows), "y": draw.integers(-5, 5, rows)})


def vectors(op: EmbedColumns, batch: pa.RecordBatch) -> list[list[float] | None]:
    (array,) = op.apply(batch, op.prepare({}, batch.schema))
    array.validate(full=True)
    found: list[list[float] | None] = array.to_pylist()
    return found


def test_vectors_are_those_of_torch() -> None:
    batch = batch_of(300)
    found = np.array(vectors(EmbedColumns(["x", "y"], small_columns()), batch))
    rows = np.column_stack([c.to_numpy() for c in batch.columns])
    np.testing.assert_allclose(found, columns_in_torch(rows), atol=1e-6)
    other = np.array(vectors(EmbedColumns(["y", "x"], small_columns()), batch))
    np.testing.assert_allclose(other, columns_in_torch(rows[:, ::-1]), atol=1e-6)
    cut = EmbedColumns(["x", "y"], small_columns(), normalize=True, truncate_dim=3, dtype="float16")
    wanted = found[:, :3] / np.linalg.norm(found[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(np.array(vectors(cut, batch)), wanted, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 2, 7, 100])
def test_a_row_has_one_vector_whatever_is_around_it(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    op = EmbedColumns(["x", "y"], small_columns())
    batch = batch_of(200)
    whole = vectors(op, batch)
    assert vectors(op, batch.slice(3, rows)) == whole[3 : 3 + rows]
    monkeypatch.setattr(column_models, "ROWS_PER_RUN", 13)
    assert vectors(op, batch) == whole


def test_a_row_with_a_null_or_a_nan_has_no_vector() -> None:
    numbers, flags = [1.0, None, float("nan"), float("inf"), 1.0], [True, True, False, True, None]
    batch = pa.record_batch({"x": numbers, "y": flags})
    found = vectors(EmbedColumns(["x", "y"], small_columns()), batch)
    assert [v is None for v in found] == [False, True, True, False, True]


def test_models_and_columns_that_do_not_fit(tmp_path: Path) -> None:
    schema = pa.schema({"x": pa.float64(), "y": pa.float64(), "t": pa.string()})
    with pytest.raises(ParameterError, match=r"columns got \['x'\], expected 2, as many as .* takes"):
        EmbedColumns(["x"], small_columns()).output_fields(schema)
    with pytest.raises(ColumnTypeError, match=r"EmbedColumns\('t'\): the column is string, expected numbers"):
        EmbedColumns(["x", "t"], small_columns()).output_fields(schema)
    with pytest.raises(ParameterError, match="output got .* expected one name"):
        EmbedColumns(["x", "y"], small_columns(), output="{column}_v").output_fields(schema)
    with pytest.raises(ParameterError, match=r"There is no model .*none\.onnx"):
        describe(str(tmp_path / "none.onnx"), "columns")
    with pytest.raises(ParameterError, match=r"is no \.onnx file\. Convert .* models convert m/route\.pt2 route\.onnx"):
        describe("m/route.pt2", "columns")
    with pytest.raises(ParameterError, match=r"is no \.onnx file\. Export it to ONNX"):
        describe("m/route.skops", "columns")
    with pytest.raises(ParameterError, match="expected one matrix of floats with any number of rows"):
        describe(f"{small_vision()}/model.onnx", "columns")
    with pytest.raises(ParameterError, match="another is under that name"):
        EmbedColumns(["x", "y"], small_columns(), digest="ab" * 32).output_fields(schema)
    file = make_columns(tmp_path)
    model = onnx.load(file)
    model.graph.node.append(helper.make_node("ReduceMean", ["vector"], ["number"], axes=[1], keepdims=0))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("number", 1, ["rows"]))
    onnx.save(model, file)
    with pytest.raises(ParameterError, match=r"gives 'number' as tensor\(float\) of shape \['rows'\]; expected floats"):
        describe(str(file), "columns")


def test_an_artifact_carries_its_model_or_refers_to_it(tmp_path: Path) -> None:
    file = make_columns(tmp_path / "m")
    batch = batch_of(5)
    op = EmbedColumns(["x", "y"], str(file), output="v")
    wanted = vectors(op, batch)
    artifact_of(tmp_path / "carried", [op], batch)
    artifact_of(tmp_path / "referred", [replace(op, carry=False)], batch)
    assert load(tmp_path / "referred").transform(batch).column("v").to_pylist() == wanted
    shutil.rmtree(tmp_path / "m")
    again = load(tmp_path / "carried")
    assert again.transform(batch).column("v").to_pylist() == wanted
    row = batch.slice(2, 1).to_pylist()[0]
    assert again.transform_row(row)["v"] == wanted[2]
    make_columns(tmp_path / "m", seed=6)
    with pytest.raises(ParameterError, match="it is another model under the same name"):
        load(tmp_path / "referred").transform(batch)

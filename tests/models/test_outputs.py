"""Outputs to columns: names, types, and models that do not keep their word."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featuremill.artifacts.errors import ParameterError
from featuremill.core.models.contract import PredictionError, Signature, TensorSpec
from featuremill.core.models.outputs import ModelOutputs, output_schema, parse_type
from featuremill.core.models.spec import ModelSpec


def outputs_of(given: Any, *declared: TensorSpec) -> ModelOutputs:
    spec = ModelSpec.model_validate({"path": "m", "outputs": given})
    return ModelOutputs(spec.outputs, Signature(outputs=declared))


P = TensorSpec("p", "float32", (2,))
PROBABILITIES = np.array([[0.25, 0.75], [1, 0]], dtype=np.float32)


@pytest.mark.parametrize("declared", [(), (P,)])
@pytest.mark.parametrize(
    ("given", "type_", "values"),
    [
        (None, pa.list_(pa.float32(), 2), [[0.25, 0.75], [1, 0]]),
        ({"p": "p"}, pa.list_(pa.float32(), 2), [[0.25, 0.75], [1, 0]]),
        ({"p": {"index": 1}}, pa.float32(), [0.75, 0]),
        ({"p": {"index": 1, "type": "float64"}}, pa.float64(), [0.75, 0]),
        ({"p": {"type": "list<float64>"}}, pa.list_(pa.float64()), [[0.25, 0.75], [1, 0]]),
        ({"p": {"type": "large_list<item: float>"}}, pa.large_list(pa.float32()), [[0.25, 0.75], [1, 0]]),
    ],
)
def test_a_matrix(declared: Any, given: Any, type_: pa.DataType, values: list[Any]) -> None:
    outputs = outputs_of(given, *declared)
    batch = outputs.columns({"p": PROBABILITIES}, 2)
    assert batch.schema == pa.schema({"p": type_})
    assert batch["p"].to_pylist() == values
    assert outputs.row({"p": PROBABILITIES[:1]}) == {"p": values[0]}
    if declared:
        assert outputs.schema == batch.schema
        assert outputs.columns({"p": PROBABILITIES[:0]}, 0).schema == batch.schema


@pytest.mark.parametrize(
    ("array", "type_"),
    [
        (np.array([1.5, 2]), pa.float64()),
        (np.array([1, 2], np.int32), pa.int32()),
        (np.array([True, False]), pa.bool_()),
        (np.array(["early", "late"], dtype=object), pa.string()),
        (np.array(["early", "late"]), pa.string()),
        (np.zeros((2, 3, 4), np.float32), pa.list_(pa.list_(pa.float32(), 4), 3)),
        (np.asfortranarray(np.arange(6.0).reshape(2, 3)), pa.list_(pa.float64(), 3)),
    ],
)
def test_types_are_those_of_the_arrays(array: Any, type_: pa.DataType) -> None:
    batch = outputs_of(None).columns({"y": array}, 2)
    assert batch.schema == pa.schema({"y": type_})
    assert batch["y"].to_pylist() == array.tolist()
    assert outputs_of(None).row({"y": array[:1]}) == batch.slice(0, 1).to_pylist()[0]
    declared = TensorSpec("y", str(array.dtype), array.shape[1:])
    assert output_schema(None, Signature(outputs=(declared,))) == batch.schema


def test_rows_of_one_value_are_that_value_and_open_sizes_are_lists() -> None:
    assert outputs_of(None).columns({"y": np.ones((2, 1))}, 2)["y"].to_pylist() == [1, 1]
    assert outputs_of(None, TensorSpec("y", "float64", (1,))).schema == pa.schema({"y": pa.float64()})
    open_end = outputs_of(None, TensorSpec("y", "float64", (None,)))
    assert open_end.schema == pa.schema({"y": pa.list_(pa.float64())})
    assert open_end.columns({"y": np.ones((2, 1))}, 2)["y"].to_pylist() == [[1], [1]]
    assert outputs_of({"y": {"type": "list<double>"}}).columns({"y": np.ones((1, 1))}, 1)["y"].to_pylist() == [[1]]


def test_what_the_file_leaves_open_is_not_in_the_schema() -> None:
    assert outputs_of(None).schema is None
    assert outputs_of({"y": "p"}, TensorSpec("p", None, ())).schema is None
    assert outputs_of({"y": {"output": "p", "type": "int64"}}, TensorSpec("p", None, ())).schema is not None


@pytest.mark.parametrize(("got", "rows"), [(1, 2), (3, 2), (0, 2)])
@pytest.mark.parametrize("given", [None, {"y": {"output": "p", "index": 0}}])
def test_another_number_of_rows_is_an_error_and_never_cut(given: Any, got: int, rows: int) -> None:
    with pytest.raises(PredictionError, match=f"gave {got} rows of 'p' for the {rows} rows") as caught:
        outputs_of(given).columns({"p": np.zeros((got, 2))}, rows)
    assert pickle.loads(pickle.dumps(caught.value)).got == got


def test_a_single_value_is_no_column() -> None:
    with pytest.raises(PredictionError, match="a single value"):
        outputs_of(None).columns({"p": np.float64(1)}, 1)  # type: ignore[dict-item]  # What models do.


@pytest.mark.parametrize(
    ("declared", "array"),
    [
        ((P,), np.zeros((2, 3), np.float32)),
        ((P,), np.zeros(2, np.float32)),
        ((TensorSpec("p", "int64", ()),), np.array([0.5, 1])),
        ((TensorSpec("p", "float64", ()),), np.array(["a", "b"], dtype=object)),
        ((), np.array([1j, 2])),
        ((), np.array([{}, {}], dtype=object)),
    ],
)
def test_a_model_that_gives_something_else_than_its_file_says(declared: Any, array: Any) -> None:
    with pytest.raises(PredictionError):
        outputs_of(None, *declared).columns({"p": array}, 2)


def test_a_model_that_changes_its_mind() -> None:
    outputs = outputs_of(None)
    outputs.columns({"p": np.zeros((2, 3))}, 2)
    with pytest.raises(PredictionError, match=r"\(4,\)"):
        outputs.columns({"p": np.zeros((2, 4))}, 2)


def test_types_that_the_job_asks_for_and_the_values_do_not_fit() -> None:
    outputs = outputs_of({"p": {"type": "int8"}})
    assert outputs.columns({"p": np.array([1.0, 2.0])}, 2)["p"].type == pa.int8()
    with pytest.raises(PredictionError, match="the job asks for int8"):
        outputs.columns({"p": np.array([1.0, 2.5])}, 2)
    with pytest.raises(PredictionError, match="the job asks for int8"):
        outputs.columns({"p": np.array([1, 300])}, 2)


@pytest.mark.parametrize(
    ("given", "declared", "message"),
    [
        ({"y": "q"}, (P,), "no output 'q'"),
        ({"y": {}}, (P, TensorSpec("q")), "say which of 'p', 'q'"),
        ({"y": {"index": 2}}, (P,), "index got 2.*width 2"),
        ({"y": {"index": 0}}, (TensorSpec("p", "float32", ()),), "leave index out"),
        ({"y": {"type": "floaty"}}, (P,), "type got 'floaty'"),
        ({"y": {"type": "float32"}}, (P,), "Choose one of its columns by index"),
    ],
)
def test_requests_that_cannot_work(given: Any, declared: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        outputs_of(given, *declared)


def test_requests_that_only_the_first_batch_tells_of() -> None:
    arrays = {"p": PROBABILITIES, "q": PROBABILITIES}
    beyond = {"y": {"output": "p", "index": 5}}
    for given, message in (({"y": {}}, "say which"), ({"y": "r"}, "no output 'r'"), (beyond, "index got 5")):
        with pytest.raises(ParameterError, match=message):
            outputs_of(given).columns(arrays, 2)


@pytest.mark.parametrize(
    "type_", [pa.list_(pa.float32(), 3), pa.list_(pa.list_(pa.int8())), pa.timestamp("ms"), pa.string()]
)
def test_types_as_arrow_writes_them(type_: pa.DataType) -> None:
    assert parse_type(str(type_)) == type_

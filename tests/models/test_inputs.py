"""Columns to inputs: what arrays come out, which rows are set aside, and what is refused before anything runs."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError, MissingColumnError, ParameterError
from featuremill.core.models.contract import Signature, TensorSpec
from featuremill.core.models.inputs import Built, ModelInputs
from featuremill.core.models.spec import ModelSpec

LISTS = pa.list_(pa.int64())


def inputs_of(
    given_inputs: Any, schema: pa.Schema, *declared: TensorSpec, columns: tuple[str, ...] = ()
) -> ModelInputs:
    spec = ModelSpec.model_validate({"path": "m", "inputs": given_inputs})
    return ModelInputs(spec.inputs, Signature(declared, columns=columns), schema)


def built(given_inputs: Any, batch: pa.RecordBatch, *declared: TensorSpec) -> Built:
    return inputs_of(given_inputs, batch.schema, *declared).build(batch)


def only(result: Built) -> dict[str, Any]:
    assert result.kept is None and not result.rejects
    (group,) = result.groups
    assert group.rows is None
    return group.arrays


def column(values: Any, type_: pa.DataType | None = None) -> pa.RecordBatch:
    return pa.record_batch({"a": pa.array(values, type_)})


# --- Single values --------------------------------------------------------------------------------------------------


def test_a_matrix_of_columns_in_their_order_and_of_the_models_type() -> None:
    batch = pa.record_batch({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]})
    array = only(built({"x": ["b", "a", "c"]}, batch, TensorSpec("x", "float32", (3,))))["x"]
    assert array.dtype == np.float32 and array.flags.c_contiguous
    assert array.tolist() == [[0.5, 1, 1], [1.5, 2, 0]]


def test_a_matrix_of_many_rows_and_columns_of_every_width() -> None:
    rows = 10_000
    numbers = np.arange(rows)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(rows * 3.0)), 3)
    batch = pa.record_batch({"a": numbers, "l": lists, "b": numbers * 0.5})
    array = only(built({"x": ["a", "l", "b"]}, batch))["x"]
    expected = np.column_stack([numbers, np.arange(rows * 3.0).reshape(-1, 3), numbers * 0.5])
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(only(built({"x": ["a", "l", "b"]}, batch.slice(5_000)))["x"], array[5_000:])


def test_one_column_is_a_vector_or_a_matrix_as_the_job_or_the_model_says() -> None:
    assert only(built({"x": "a"}, column([1, 2])))["x"].shape == (2,)
    assert only(built({"x": ["a"]}, column([1, 2])))["x"].shape == (2, 1)
    assert only(built({"x": "a"}, column([1, 2]), TensorSpec("x", "int64", (1,))))["x"].shape == (2, 1)
    assert only(built({"x": ["a"]}, column([1, 2]), TensorSpec("x", "int64", ())))["x"].shape == (2,)


@pytest.mark.parametrize(
    ("values", "type_", "spec"),
    [
        (np.arange(6.0), None, "a"),
        (np.arange(6.0), None, ["a"]),
        (pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6.0)), 2), None, "a"),
        (pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12.0).reshape(3, 2, 2)), None, "a"),
        ([[1, 2], [3, 4]], LISTS, "a"),
    ],
)
def test_arrows_memory_is_not_copied(values: Any, type_: pa.DataType | None, spec: Any) -> None:
    batch = column(values, type_)
    array = only(built({"x": spec}, batch))["x"]
    storage = batch["a"].storage if isinstance(batch["a"], pa.ExtensionArray) else batch["a"]
    buffer = storage.buffers()[-1]
    assert buffer.address <= array.__array_interface__["data"][0] < buffer.address + buffer.size
    assert len(array) == batch.num_rows


@pytest.mark.parametrize(
    ("values", "type_", "expected", "dtype"),
    [
        (["x", "y", "x"], pa.string(), ["x", "y", "x"], "object"),
        (["x", "y", "x"], pa.dictionary(pa.int8(), pa.string()), ["x", "y", "x"], "object"),
        (["x", "y"], pa.large_string(), ["x", "y"], "object"),
        ([1, 2, 1], pa.dictionary(pa.int8(), pa.int32()), [1, 2, 1], "int32"),
        ([True, False], pa.bool_(), [True, False], "bool"),
        (["1.50", "2"], pa.decimal128(9, 2), [1.5, 2.0], "float64"),
        ([1, 2], pa.uint8(), [1, 2], "uint8"),
        ([None, None], pa.null(), [None, None], "float64"),
    ],
)
def test_types(values: Any, type_: pa.DataType, expected: list[Any], dtype: str) -> None:
    batch = column(pa.array(values).cast(type_) if pa.types.is_decimal(type_) else pa.array(values, type_))
    array = only(built({"x": "a"}, batch))["x"]
    assert array.dtype == np.dtype(dtype)
    assert [None if v != v else v for v in array.tolist()] == expected


# --- Nulls and values that do not fit --------------------------------------------------------------------------------


def test_nulls_of_floating_point_inputs_are_nan() -> None:
    batch = pa.record_batch({"a": pa.array([1, None]), "b": pa.array([None, 0.5]), "c": pa.array([None, True])})
    array = only(built({"x": ["a", "b", "c"]}, batch))["x"]
    np.testing.assert_array_equal(array, [[1, np.nan, np.nan], [np.nan, 0.5, 1]])


@pytest.mark.parametrize(
    ("values", "spec", "reason"),
    [
        ([1, None, 3], {}, "it is null, for which integers have no value"),
        ([True, None, False], {}, "it is null, for which booleans have no value"),
        (["a", None, "b"], {}, "it is null, for which texts have no value"),
        ([1.0, None, 3.0], {"nulls": "reject"}, "it is null"),
        ([1, 300, 3], {"dtype": "int8"}, "it is beyond the range of int8"),
        ([1, -1, 3], {"dtype": "uint64"}, "it is beyond the range of uint64"),
    ],
)
def test_a_row_without_a_value_costs_itself(values: list[Any], spec: dict[str, Any], reason: str) -> None:
    result = built({"x": {"columns": ["a"], **spec}}, column(values))
    assert [(r.row, r.reason, r.column) for r in result.rejects] == [(1, f"a: {reason}", "a")]
    assert result.kept is not None and result.kept.tolist() == [0, 2]
    assert result.groups[0].arrays["x"].tolist() == [values[0], values[2]]


@pytest.mark.parametrize(
    ("values", "zero"), [([1, None], 0), ([1.5, None], 0.0), ([True, None], False), (["a", None], "")]
)
def test_nulls_as_zero(values: list[Any], zero: Any) -> None:
    assert only(built({"x": {"columns": ["a"], "nulls": "zero"}}, column(values)))["x"].tolist() == [values[0], zero]
    as_dictionary = column(pa.array(values).dictionary_encode())
    assert only(built({"x": {"columns": ["a"], "nulls": "zero"}}, as_dictionary))["x"].tolist() == [values[0], zero]


def test_a_row_is_rejected_once_for_its_first_reason() -> None:
    batch = pa.record_batch({"a": pa.array([None, 1, 2]), "b": pa.array([None, None, 2])})
    result = built({"x": ["a", "b"]}, batch)
    assert [(r.row, r.column) for r in result.rejects] == [(0, "a"), (1, "b")]


def test_nulls_in_and_of_lists_of_one_size() -> None:
    type_ = pa.list_(pa.float64(), 2)
    batch = column([[1.0, None], None, [3.0, 4.0]], type_)
    np.testing.assert_array_equal(only(built({"x": "a"}, batch))["x"], [[1, np.nan], [np.nan] * 2, [3, 4]])
    rejected = built({"x": {"columns": ["a"], "nulls": "reject"}}, batch)
    assert [(r.row, r.reason) for r in rejected.rejects] == [(0, "a: a value in it is null"), (1, "a: it is null")]
    zero = only(built({"x": {"columns": ["a"], "nulls": "zero"}}, batch))["x"]
    assert zero.tolist() == [[1, 0], [0, 0], [3, 4]]
    assert [r.row for r in built({"x": "a"}, column([[1, 2], None], pa.list_(pa.int64(), 2))).rejects] == [1]


# --- Lists of different sizes ----------------------------------------------------------------------------------------


def pad(**fields: Any) -> dict[str, Any]:
    spec = {k: fields.pop(k) for k in ("max_length", "truncate", "dtype", "nulls") if k in fields}
    return {"x": {"columns": ["a"], "pad": fields, **spec}}


def test_lists_of_different_lengths_without_pad_are_one_error_that_says_everything() -> None:
    with pytest.raises(ParameterError) as caught:
        built({"ids": "a"}, column([[1, 2], [3, 4], [5]], LISTS))
    told = str(caught.value)
    assert all(part in told for part in ("'ids'", "'a'", "row 0", "(2,)", "row 2", "(1,)", "pad: {to: longest}"))
    assert (caught.value.column, caught.value.row, caught.value.shapes) == ("a", 2, [(2,), (1,)])
    assert pickle.loads(pickle.dumps(caught.value)).row == 2


def test_padding_to_the_longest_with_a_mask() -> None:
    arrays = only(built(pad(value=-1, mask="m"), column([[1, 2, 3], [], [4]], LISTS)))
    assert arrays["x"].tolist() == [[1, 2, 3], [-1, -1, -1], [4, -1, -1]]
    assert arrays["m"].tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert arrays["x"].dtype == arrays["m"].dtype == np.int64
    declared = (TensorSpec("x", "float32", (None,)), TensorSpec("m", "bool", (None,)))
    typed = only(built(pad(mask="m"), column([[1, 2], [4]], LISTS), *declared))
    assert typed["x"].dtype == np.float32 and typed["m"].dtype == bool


def test_padding_to_one_size() -> None:
    result = built(pad(to=2), column([[1], [1, 2, 3], [4, 5]], LISTS))
    assert [(r.row, r.reason) for r in result.rejects] == [
        (1, "a: its length is 3, the most is 2; set a larger one, or truncate: true")
    ]
    assert result.groups[0].arrays["x"].tolist() == [[1, 0], [4, 5]]
    assert only(built(pad(to=2), column([[], []], LISTS)))["x"].tolist() == [[0, 0], [0, 0]]
    assert only(built(pad(to=2), column([], LISTS)))["x"].shape == (0, 2)


def test_truncation() -> None:
    batch = column([[1], [1, 2, 3], [4, 5]], LISTS)
    assert only(built(pad(max_length=2, truncate=True), batch))["x"].tolist() == [[1, 0], [1, 2], [4, 5]]
    assert [r.row for r in built(pad(max_length=2), batch).rejects] == [1]


def test_texts_in_lists() -> None:
    batch = column([["x", "y"], ["z"]], pa.list_(pa.string()))
    assert only(built(pad(), batch))["x"].tolist() == [["x", "y"], ["z", ""]]


def test_null_lists_and_values_in_them() -> None:
    batch = column([[1, None], None, [3]], LISTS)
    result = built(pad(), batch)
    assert [(r.row, r.reason) for r in result.rejects] == [
        (0, "a: a value in it is null, for which integers have no value"), (1, "a: it is null")
    ]
    assert only(built(pad(nulls="zero", value=9), batch))["x"].tolist() == [[1, 0], [9, 9], [3, 9]]


def test_a_length_that_the_model_fixes_is_asked_of_each_row() -> None:
    result = built({"x": "a"}, column([[1, 2], [3], [4, 5]], LISTS), TensorSpec("x", "int64", (2,)))
    assert [(r.row, r.reason) for r in result.rejects] == [(1, "a: its length is 1, the model takes 2")]


def test_images_of_different_shapes_are_filled_up_on_every_side() -> None:
    images = [[[1, 2, 3]], [[4], [5]], []]
    arrays = only(built(pad(mask="m"), column(images, pa.list_(pa.list_(pa.int64())))))
    assert arrays["x"].tolist() == [[[1, 2, 3], [0, 0, 0]], [[4, 0, 0], [5, 0, 0]], [[0] * 3] * 2]
    assert arrays["m"].tolist() == [[[1, 1, 1], [0, 0, 0]], [[1, 0, 0], [1, 0, 0]], [[0] * 3] * 2]
    with pytest.raises(ParameterError, match=r"\(1, 3\).*\(2, 1\)"):
        built({"x": "a"}, column(images, pa.list_(pa.list_(pa.int64()))))
    ragged = column([[[1, 2], [3]]], pa.list_(pa.list_(pa.int64())))
    with pytest.raises(ParameterError, match="lists of lengths 2 and 1 on axis 1"):
        built({"x": "a"}, ragged)


def test_colours_within_images_are_no_axis_of_the_mask() -> None:
    type_ = pa.list_(pa.list_(pa.list_(pa.float32(), 2)))
    arrays = only(built(pad(mask="m"), column([[[[1, 2]]], [[[3, 4], [5, 6]]]], type_)))
    assert arrays["x"].shape == (2, 1, 2, 2) and arrays["m"].shape == (2, 1, 2)


def test_the_shape_of_flat_lists() -> None:
    spec = {"x": {"columns": ["a"], "shape": [2, 2]}}
    for type_ in (pa.list_(pa.int64(), 4), LISTS):
        array = only(built(spec, column([[1, 2, 3, 4]], type_), TensorSpec("x", "int64", (2, 2))))["x"]
        assert array.tolist() == [[[1, 2], [3, 4]]]
    assert [r.row for r in built(spec, column([[1, 2, 3, 4], [1]], LISTS)).rejects] == [1]


def test_buckets_put_rows_of_like_size_together() -> None:
    rows = [[1] * n for n in (1, 5, 2, 8, 3, 0, 4)]
    result = built(pad(to="bucket", mask="m"), column(rows, LISTS))
    shapes = {g.arrays["x"].shape[1]: g.rows.tolist() for g in result.groups if g.rows is not None}
    assert shapes == {1: [0, 5], 2: [2], 4: [4, 6], 8: [1, 3]}
    for group in result.groups:
        assert group.rows is not None
        assert group.arrays["m"].sum(axis=1).tolist() == [len(rows[i]) for i in group.rows]
    own = built(pad(to="bucket", buckets=[3, 6]), column(rows, LISTS))
    assert [(r.row, r.column) for r in own.rejects] == [(3, "a")]
    assert [g.arrays["x"].shape for g in own.groups] == [(4, 3), (2, 6)]
    assert built(pad(to="bucket"), column(rows[:1] * 3, LISTS)).groups[0].rows is None


@st.composite
def ragged(draw: st.DrawFn) -> Iterator[list[Any]]:
    value = st.one_of(st.integers(-5, 5))
    return draw(st.lists(st.lists(st.lists(value, max_size=4), max_size=3), max_size=6))


@settings(max_examples=60, deadline=None, database=None)
@given(ragged(), st.integers(0, 3), st.sampled_from(["list", "large", "view"]))
def test_padding_is_what_a_loop_over_rows_would_do(images: list[Any], start: int, layout: str) -> None:
    make = {"list": pa.list_, "large": pa.large_list, "view": pa.list_view}[layout]
    batch = column(pa.array(images, pa.list_(pa.list_(pa.int64()))).cast(make(make(pa.int64())))
                   if layout != "view" else pa.array(images, make(make(pa.int64()))))
    images, batch = images[start:], batch.slice(start)
    arrays = only(built(pad(mask="m", value=7), batch))
    height = max([len(i) for i in images] + [1])
    width = max([len(r) for i in images for r in i] + [1])
    expected = np.full((len(images), height, width), 7)
    mask = np.zeros_like(expected)
    for n, image in enumerate(images):
        for y, row in enumerate(image):
            expected[n, y, : len(row)] = row
            mask[n, y, : len(row)] = 1
    np.testing.assert_array_equal(arrays["x"], expected)
    np.testing.assert_array_equal(arrays["m"], mask)


# --- Refused before anything runs ------------------------------------------------------------------------------------

SCHEMA = pa.schema({
    "a": pa.int64(), "b": pa.float64(), "t": pa.string(), "d": pa.date32(), "l": LISTS, "f": pa.list_(pa.float32(), 3),
    "s": pa.struct({"x": pa.int64()}),
})


@pytest.mark.parametrize(
    ("given_inputs", "declared", "kind", "message"),
    [
        ({"x": ["a", "c"]}, (), MissingColumnError, "no column 'c'"),
        ({"x": "d"}, (), ColumnTypeError, "date32.*in a transform"),
        ({"x": "s"}, (), ColumnTypeError, "struct"),
        ({"x": ["a", "t"]}, (), ColumnTypeError, "texts beside columns of numbers"),
        ({"x": ["a", "l"]}, (), ColumnTypeError, "an input of its own"),
        ({"x": "t"}, (TensorSpec("x", "float32", None),), ColumnTypeError, "string, and the model wants float32"),
        ({"x": "a"}, (TensorSpec("x", "object", None),), ColumnTypeError, "int64, and the model wants texts"),
        ({"x": "b"}, (TensorSpec("x", "int64", None),), ColumnTypeError, "double, and the model wants int64"),
        ({"x": ["a", "b"]}, (TensorSpec("x", "float32", (3,)),), ParameterError, r"shape \(3,\).* a, b give \(2,\)"),
        ({"x": "f"}, (TensorSpec("x", "float32", (4,)),), ParameterError, r"\(4,\).* f gives \(3,\)"),
        ({"x": "a"}, (TensorSpec("x", "float32", (4, 4)),), ParameterError, r"\(4, 4\)"),
        ({"x": {"columns": ["a"], "dtype": "float64"}}, (TensorSpec("x", "float32"),), ParameterError, "takes float32"),
        ({"x": {"columns": ["a"], "dtype": "floaty"}}, (), ParameterError, "dtype got 'floaty'"),
        ({"y": "a", "n": "a"}, (TensorSpec("x"), TensorSpec("n")), ParameterError, "no input 'y'"),
        ({"x": "a"}, (TensorSpec("x"), TensorSpec("n")), ParameterError, "'n' is given nothing"),
        ({"x": {"columns": ["a"], "pad": {}}}, (), ColumnTypeError, "are for lists"),
        ({"x": {"columns": ["f"], "pad": {}}}, (), ColumnTypeError, "leave out pad"),
        ({"x": {"columns": ["l"], "pad": {"value": 0.5}}}, (), ParameterError, "pad.value got 0.5"),
        ({"x": {"columns": ["l"], "pad": {"to": 3}, "max_length": 5}}, (), ParameterError, "max_length got 5"),
        ({"x": {"columns": ["l"], "pad": {}}}, (TensorSpec("x", "int64", (5,)),), ParameterError, r"pad: \{to: 5\}"),
        ({"x": {"columns": ["f"], "shape": [2, 2]}}, (), ColumnTypeError, r"3 values, and the shape \[2, 2\] has 4"),
        ({"x": {"columns": ["l"], "pad": {"mask": "x"}}}, (), ParameterError, "Two inputs are named 'x'"),
        (None, (), ParameterError, "does not name its inputs"),
        (None, (TensorSpec("aa"),), ParameterError, "no column 'aa'.*Write inputs"),
    ],
)
def test_requests_that_cannot_work(given_inputs: Any, declared: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        inputs_of(given_inputs, SCHEMA, *declared)


def test_the_columns_that_the_file_names() -> None:
    x = TensorSpec("x", None, (2,))
    assert inputs_of(None, SCHEMA, x, columns=("b", "a")).columns == ("b", "a")
    assert inputs_of(None, SCHEMA, TensorSpec("a"), TensorSpec("b")).columns == ("a", "b")
    assert inputs_of({"x": ["b", "a"]}, SCHEMA, x, columns=("b", "a")).columns == ("b", "a")
    with pytest.raises(ParameterError, match="column 0 is 'a', and the model was trained with 'b' there"):
        inputs_of({"x": ["a", "b"]}, SCHEMA, x, columns=("b", "a"))


def test_an_only_input_may_have_any_name() -> None:
    assert inputs_of({"features": ["a"]}, SCHEMA, TensorSpec("X", None, (1,))).parts[0].name == "X"


def test_no_rows() -> None:
    batch = SCHEMA.empty_table().to_batches() or [pa.RecordBatch.from_pylist([], schema=SCHEMA)]
    spec = {"x": ["a", "b"], "l": {"columns": ["l"], "pad": {"to": "bucket"}}, "t": "t", "f": "f"}
    arrays = only(built(spec, batch[0]))
    assert {n: a.shape for n, a in arrays.items()} == {"x": (0, 2), "l": (0, 1), "t": (0,), "f": (0, 3)}

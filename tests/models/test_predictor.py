"""Batches, tables and rows through real models: the same predictions by every way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import BadRows, MissingColumnError, ParameterError
from featuremill.core.models import Predictor, load_model, load_predictor
from featuremill.core.models.contract import Model, PredictionError
from featuremill.core.models.spec import ModelSpec
from featuremill.transforms.rejects import Reject
from support.small_models import classifier, features, onnx_file, skops_file

NAMES = ["a", "b", "c", "d"]
OUTPUTS = {"late": "label", "p": {"output": "probabilities", "index": 1}, "both": "probabilities"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return onnx_file(tmp_path_factory.mktemp("model"), classifier(text_labels=True))


def table(rows: int) -> pa.Table:
    return pa.table({n: features(rows, dtype="float64")[:, i] for i, n in enumerate(NAMES)})


class Lengths(Model):
    """How many tokens a row has, their sum, and how wide the array was; what it was called with is kept."""

    def __init__(self, *, short: bool = False) -> None:
        self.calls: list[tuple[int, ...]] = []
        self.short = short

    def predict(self, inputs: Any) -> dict[str, Any]:
        self.calls.append(inputs["x"].shape)
        n = inputs["m"].sum(axis=1)
        return {"n": n[1:] if self.short else n, "sum": inputs["x"].sum(axis=1), "tokens": inputs["x"]}


TOKENS = ModelSpec.model_validate({
    "class": "a:B",
    "inputs": {"x": {"columns": ["l"], "pad": {"to": "bucket", "mask": "m"}}},
    "outputs": {"n": "n", "sum": "sum", "tokens": {"output": "tokens", "type": "list<int64>"}},
})


def tokens(*rows: list[int] | None) -> pa.RecordBatch:
    return pa.record_batch({"l": pa.array(rows, pa.list_(pa.int64()))})


@dataclass(frozen=True)
class Answer:
    outputs: Any
    kept: Any = None
    rejects: tuple[Reject, ...] = ()


def test_every_way_gives_the_same(path: str) -> None:
    served, rows = load_predictor(path, inputs={"X": NAMES}, outputs=OUTPUTS), table(40)
    expected = served.predict(rows)
    assert expected.column_names == ["late", "p", "both"]
    assert expected.num_rows == 40
    assert set(expected["late"].to_pylist()) == {"early", "late"}
    assert served.predict(rows.to_batches()[0]).to_pylist() == expected.to_pylist()
    assert served.predict(rows.to_pydict()) == expected.to_pydict()
    assert served.predict(rows.to_pandas())["p"].tolist() == expected["p"].to_pylist()
    assert served.predict(pl.from_arrow(rows))["late"].to_list() == expected["late"].to_pylist()
    chunks = pa.concat_tables([rows.slice(i, 7) for i in range(0, 40, 7)])
    np.testing.assert_allclose(served.predict(chunks)["p"], expected["p"], atol=1e-6)
    for row, wanted in zip(rows.to_pylist(), served.predict(rows).to_pylist(), strict=True):
        got = served.predict(row)
        assert list(got) == list(wanted) and got["late"] == wanted["late"]
        np.testing.assert_allclose(got["both"], wanted["both"], atol=1e-6)


VALUES = {
    pa.float64(): st.one_of(st.none(), st.floats(width=64), st.integers(-9, 9), st.just(2**60)),
    pa.float32(): st.one_of(st.none(), st.floats(width=64, allow_nan=True), st.integers(-9, 9), st.just(0.1)),
    pa.int64(): st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(-3, 3), st.booleans()),
    pa.int8(): st.one_of(st.integers(-200, 200)),
    pa.bool_(): st.one_of(st.none(), st.booleans(), st.integers(0, 1)),
    pa.string(): st.one_of(st.none(), st.text(max_size=3), st.integers(0, 1)),
    pa.list_(pa.float32(), 2): st.one_of(st.none(), st.lists(st.floats(width=32), min_size=1, max_size=3)),
    pa.list_(pa.int64()): st.lists(st.integers(-3, 3), max_size=3),
    pa.dictionary(pa.int8(), pa.string()): st.text(max_size=2),
}


class Echo(Model):
    def predict(self, inputs: Any) -> dict[str, Any]:
        return {name: array.copy() for name, array in inputs.items()}


@settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.sampled_from(["float32", "float64", "int64", "int8", "bool", "object", None]), st.booleans(),
       st.sampled_from(["nan", "zero", "reject"]))
def test_one_row_is_what_a_batch_of_it_gives(data: st.DataObject, dtype: str | None, matrix: bool, nulls: str) -> None:
    types = data.draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=3 if matrix else 1))
    schema = pa.schema([(f"c{i}", t) for i, t in enumerate(types)])
    spec = {"columns": schema.names, "matrix": matrix, "dtype": dtype, "nulls": nulls}
    try:
        predictor = Predictor(ModelSpec.model_validate({"class": "a:B", "inputs": {"x": spec}}), Echo(), schema)
    except (ParameterError, TypeError):
        return
    row = {f.name: data.draw(VALUES[f.type]) for f in schema}

    def by_batch() -> Any:
        try:
            predicted = predictor.predict(pa.RecordBatch.from_pylist([row], schema=schema))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            return "does not fit"
        except PredictionError:
            return "numbers as objects"
        return "rejected" if predicted.rejects else predicted.columns.to_pylist()[0]

    def by_row() -> Any:
        try:
            return predictor.predict_row(row)
        except BadRows as error:
            return "does not fit" if "does not fit" in str(error) else "rejected"
        except PredictionError:
            return "numbers as objects"

    assert repr(by_row()) == repr(by_batch())


@pytest.mark.parametrize("type_", [pa.float32(), pa.float64()])
def test_an_integer_that_is_no_floating_point_number_is_refused_beside_one(type_: pa.DataType) -> None:
    schema = pa.schema([("a", type_), ("b", type_)])
    spec = ModelSpec.model_validate({"class": "a:B", "inputs": {"x": ["a", "b"]}})
    with pytest.raises(BadRows, match="does not fit its column"):
        Predictor(spec, Echo(), schema).predict_row({"a": 0.5, "b": 2**60 + 1})
    got = Predictor(spec, Echo(), schema).predict_row({"a": 1e30, "b": 2})
    assert got == {"x": [pa.scalar(1e30, type_).as_py(), 2.0]}


def test_buckets_come_back_in_the_order_of_the_rows() -> None:
    model = Lengths()
    predictor = Predictor(TOKENS, model, tokens().schema)
    predicted = predictor.predict(tokens([1], [1, 2, 3, 4, 5], None, [2, 2], [1, 2, 3]))
    assert predicted.kept is not None and predicted.kept.tolist() == [0, 1, 3, 4]
    assert [(r.row, r.column) for r in predicted.rejects] == [(2, "l")]
    assert predicted.columns["n"].to_pylist() == [1, 5, 2, 3]
    assert predicted.columns["sum"].to_pylist() == [1, 15, 4, 6]
    assert predicted.columns["tokens"].to_pylist()[0] == [1]
    assert sorted(model.calls) == [(1, 1), (1, 2), (1, 4), (1, 8)]


def test_what_an_attempt_sets_aside_is_counted_in_rows_of_the_batch() -> None:
    predictor = Predictor(TOKENS, Lengths(), tokens().schema)

    def attempt(arrays: Any) -> Answer:
        # Sets the rows with a 9 aside.
        keep = np.flatnonzero((arrays["x"] != 9).all(axis=1))
        gone = np.flatnonzero((arrays["x"] == 9).any(axis=1))
        rejects = tuple(Reject(int(i), "nine") for i in gone)
        if not len(keep):
            return Answer({}, keep, rejects)
        return Answer(predictor.call({n: a[keep] for n, a in arrays.items()}), keep, rejects)

    batch = tokens([1], None, [9], [1, 2, 3], [4, 9, 4], [7, 7], [2])
    predicted = predictor.predict(batch, attempt)
    assert predicted.kept is not None and predicted.kept.tolist() == [0, 3, 5, 6]
    assert [(r.row, r.reason) for r in predicted.rejects] == [(1, "l: it is null"), (2, "nine"), (4, "nine")]
    assert predicted.columns["sum"].to_pylist() == [1, 6, 14, 2]
    last = predictor.predict(tokens([1, 1], [9, 9]), attempt)
    assert last.kept is not None and last.kept.tolist() == [0]
    none = predictor.predict(tokens([9], [9, 9, 9]), attempt)
    assert none.columns.num_rows == 0 and none.columns.schema == predicted.columns.schema
    assert none.kept is not None and len(none.kept) == 0 and len(none.rejects) == 2


def test_no_rows(path: str) -> None:
    predictor = load_predictor(path, inputs={"X": NAMES}, outputs=OUTPUTS).predictor
    predicted = predictor.predict(pa.RecordBatch.from_pylist([], schema=predictor.inputs.schema))
    assert predicted.columns.num_rows == 0 and predicted.kept is None
    assert predicted.columns.schema == predictor.predict(table(2).to_batches()[0]).columns.schema
    assert Predictor(TOKENS, Lengths(), tokens().schema).predict(tokens()).columns.num_rows == 0
    assert load_predictor(path, inputs={"X": NAMES}).predict(table(0)).num_rows == 0


def test_a_model_that_gives_too_few_rows() -> None:
    with pytest.raises(PredictionError, match="gave 1 rows of 'n' for the 2 rows"):
        Predictor(TOKENS, Lengths(short=True), tokens().schema).predict(tokens([1], [2]))


def test_rows_that_cannot_be_served(path: str) -> None:
    served = load_predictor(path, inputs={"X": {"columns": NAMES, "nulls": "reject"}}, outputs=OUTPUTS)
    row = dict.fromkeys(NAMES, 1.0)
    with pytest.raises(MissingColumnError, match="no 'd' in the row"):
        served.predict(dict.fromkeys(NAMES[:3], 1.0))
    with pytest.raises(MissingColumnError, match="no column 'd'"):
        served.predict(table(3).drop_columns("d"))
    with pytest.raises(BadRows, match="b: it is null"):
        served.predict({**row, "b": None})
    with pytest.raises(BadRows, match="does not fit its column"):
        served.predict({**row, "b": "x"})
    rows = table(9).set_column(1, "b", pa.chunked_array([[1.0] * 4, [1.0, None, 1.0, None, 1.0]]))
    with pytest.raises(BadRows) as caught:
        served.predict(rows)
    assert caught.value.rows == [5, 7]


def test_predictions_of_a_scikit_learn_file_without_any_declaration(tmp_path: Path) -> None:
    model = classifier(text_labels=True, names=NAMES)
    served = load_predictor(skops_file(tmp_path, model))
    got = served.predict(table(20))
    assert got.column_names == ["predict"]
    assert got["predict"].to_pylist() == model.predict(table(20).to_pandas()).tolist()
    assert served.predict(table(20).to_pylist()[3]) == {"predict": got["predict"][3].as_py()}


def test_the_width_is_checked_before_anything_runs(path: str) -> None:
    spec = ModelSpec.model_validate({"path": path, "inputs": {"X": NAMES[:3]}})
    with pytest.raises(ParameterError, match=r"shape \(4,\), its columns a, b, c give \(3,\)"):
        Predictor(spec, load_model(spec), table(1).schema)


def test_the_schema_of_lists_has_to_be_given(path: str) -> None:
    fields = {"inputs": {"X": {"columns": ["l"], "shape": [4]}}}
    with pytest.raises(ParameterError, match="Give the schema"):
        load_predictor(path, **fields)
    served = load_predictor(path, schema=pa.schema({"l": pa.list_(pa.float32())}), **fields)
    assert served.predict({"l": [1.0, 2.0, 3.0, 4.0]})["label"] in {"early", "late"}

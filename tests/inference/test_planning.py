"""What is known, and what is refused, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from featuremill.artifacts.errors import (
    ColumnTypeError,
    FeaturemillError,
    MissingColumnError,
    ParameterError,
)
from featuremill.core.inference.limits import ModelTimeout
from featuremill.core.inference.planning import plan_steps, scored_schema
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.groups import Models
from featuremill.core.models.spec import ModelSpec
from support.scoring_models import MODULE, line_spec, lines
from support.small_models import classifier, onnx_file, skops_file

SCHEMA = pa.schema({**dict.fromkeys("abcd", pa.float32()), "x": pa.float64(), "carrier": pa.string()})
X = {"X": list("abcd")}


def planned(models: Any, schema: pa.Schema = SCHEMA) -> dict[str, str]:
    """The columns that scoring adds, and their types."""
    if not isinstance(models, ModelSpec):
        models = TypeAdapter(Models).validate_python(models)
    steps = plan_steps(models, schema)
    return {f.name: str(f.type) for f in list(scored_schema(steps, schema))[len(schema) :]}


VERSION = {"model_version": "dictionary<values=string, indices=int32, ordered=0>"}


def test_the_file_tells_the_columns(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, classifier())
    found = planned(ModelSpec.model_validate({"path": path, "inputs": X}))
    assert found == {"label": "int64", "probabilities": "fixed_size_list<item: float>[2]", **VERSION}


def test_a_sequence_may_use_what_comes_before(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, classifier())
    first = {"name": "first", "path": path, "inputs": X, "outputs": {"p": {"output": "probabilities", "index": 1}}}
    second = {"name": "second", "path": path, "inputs": {"X": ["p", "b", "c", "d"]}, "outputs": {"q": "label"}}
    assert planned([first, second]) == {"p": "float", "q": "int64", **VERSION}
    with pytest.raises(MissingColumnError, match=r"second: Input 'X': there is no column 'p'"):
        planned([second, first])


def test_what_does_not_fit_is_said_with_the_models_name(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, classifier(), "late.onnx")

    def spec(**more: Any) -> ModelSpec:
        return ModelSpec.model_validate({"path": path, "inputs": X, **more})

    for wrong, kind, message in [
        (spec(inputs={"X": ["a", "b"]}), ParameterError, r"late.onnx: Input 'X': the model takes rows of shape \(4,\)"),
        (spec(inputs={"X": ["a", "b", "c", "e"]}), MissingColumnError, "late.onnx: Input 'X': there is no column 'e'"),
        (spec(inputs={"X": ["a", "b", "c", "carrier"]}), ColumnTypeError, "late.onnx: Input 'X', column 'carrier'"),
        (spec(outputs={"x": "label"}), ParameterError, "gives a column 'x', and there is one already"),
        (spec(outputs={"model_version": "label"}), ParameterError, "gives a column 'model_version'"),
        (spec(outputs={"y": "lable"}), ParameterError, "late.onnx: the model has no output 'lable'"),
        (spec(path=f"{path}x"), ModelFileError, "late.onnx"),
        (spec(framework="xgboost"), ModelFileError, "late.onnx looks like ONNX|late.onnx looks like"),
    ]:
        with pytest.raises(kind, match=message):
            planned(wrong)


def test_a_column_of_the_versions_name_is_refused() -> None:
    with pytest.raises(ParameterError, match="There is a column 'model_version' already"):
        planned(line_spec(), SCHEMA.append(pa.field("model_version", pa.string())))


def test_a_large_model_is_taken_at_the_jobs_word(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert planned(line_spec(log, spec={"large_model": True})) == {"y": "double", **VERSION}
    assert lines(log) == []
    with pytest.raises(ModelFileError, match="There is no model"):
        planned(
            ModelSpec.model_validate(
                {"path": "/nowhere/big.onnx", "large_model": True, "inputs": X, "outputs": {"y": {"type": "float"}}}
            )
        )


def test_types_that_nobody_tells() -> None:
    spec = ModelSpec.model_validate({"class": f"{MODULE}:Labels", "inputs": {"x": "x", "bound": "a"}})
    with pytest.raises(ParameterError, match="Labels: its file does not tell the types of its outputs"):
        planned(spec)


def test_groups(tmp_path: Path) -> None:
    onnx, skops = onnx_file(tmp_path, classifier()), skops_file(tmp_path, classifier())
    one = {"path": onnx, "inputs": X, "outputs": {"late": "label"}}
    two = {"path": skops, "inputs": X, "outputs": {"late": "predict"}}
    assert planned({"by": "carrier", "AA": one, "default": two}) == {"late": "int64", **VERSION}
    assert planned({"combine": "mean", "a": one, "b": two}) == {"late": "double", **VERSION}
    assert planned({"combine": "vote", "a": one, "b": two}) == {"late": "int64", **VERSION}
    three = {**two, "outputs": {"late": {"output": "predict", "type": "int32"}}}
    with pytest.raises(ParameterError, match=r"'AA' gives late \(int64\), 'UA' gives late \(int32\)"):
        planned({"by": "carrier", "AA": one, "UA": three})
    with pytest.raises(MissingColumnError, match="by: there is no column 'carier'"):
        planned({"by": "carier", "AA": one})
    with pytest.raises(ColumnTypeError, match="no text that all systems agree on"):
        planned({"share_by": ["x"], "a": {**one, "share": 0.5}, "b": {**two, "share": 0.5}})


def test_a_load_that_takes_too_long() -> None:
    spec = line_spec(slow=5, spec={"load_timeout": 0.1, "outputs": None})
    with pytest.raises(ModelTimeout, match="Line: loading took longer"):
        planned(spec)


def test_errors_are_ours_and_keep_their_facts(tmp_path: Path) -> None:
    spec = ModelSpec.model_validate({"path": onnx_file(tmp_path, classifier()), "inputs": {"X": ["a", "b", "c", "z"]}})
    with pytest.raises(FeaturemillError) as caught:
        planned(spec)
    assert caught.value.facts["column"] == "z" and caught.value.facts["model"] == "model.onnx"

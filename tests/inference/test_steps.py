"""Score: whole pipelines, from batches to predictions and rows set aside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.ml.inference.base import ModelMetadata
from pydantic import TypeAdapter

from featuremill.artifacts.errors import ParameterError
from featuremill.core.inference.planning import MODEL_VERSION, plan_steps
from featuremill.core.inference.predictions import VERSIONS
from featuremill.core.inference.steps import Score, rejected_schema
from featuremill.core.jobfile import RunnerSpec
from featuremill.core.models.contract import PredictionError
from featuremill.core.models.groups import Models
from featuremill.core.models.loading import model_version
from featuremill.core.models.spec import ModelSpec
from featuremill.core.runner import pipeline_options, run_pipeline
from support.scoring_models import MODULE, line_spec, lines
from support.small_models import classifier, features, onnx_file, skops_file

SCHEMA = pa.schema({"id": pa.int64(), "x": pa.float64(), "carrier": pa.string()})


def groups(models: Any) -> Models:
    found: Models = TypeAdapter(Models).validate_python(models)
    return found


def batches_of(x: list[float], carriers: list[Any] | None = None, size: int = 4) -> list[pa.RecordBatch]:
    columns = {"id": range(len(x)), "x": x, "carrier": carriers or ["AA"] * len(x)}
    return pa.table(columns, schema=SCHEMA).to_batches(max_chunksize=size)


class Outcome:
    """The rows that came out of a pipeline, by where, in the order of their ids."""

    def __init__(self, folder: Path) -> None:
        self.tables: dict[str, pa.Table] = {}
        for where in ("scored", "rejected"):
            files = sorted(folder.glob(f"{where}-*.arrow"))
            if files:
                table = pa.concat_tables([pa.ipc.open_file(f).read_all() for f in files], promote_options="default")
                self.tables[where] = table.unify_dictionaries().sort_by("id")

    def rows(self, where: str, *columns: str) -> list[tuple[Any, ...]]:
        if where not in self.tables:
            return []
        return list(zip(*(self.tables[where].column(c).to_pylist() for c in columns), strict=True))


def write(batch: pa.RecordBatch, folder: str, where: str) -> None:
    name = f"{where}-{batch.column('id')[0].as_py():04d}-{batch.num_rows}.arrow"
    with pa.ipc.new_file(str(Path(folder) / name), batch.schema) as file:
        file.write_batch(batch)


@pytest.fixture
def score(tmp_path: Path) -> Callable[..., Outcome]:
    def run(models: Any, batches: list[pa.RecordBatch], **options: Any) -> Outcome:
        folder = tmp_path / "out"
        folder.mkdir()
        refresh = options.pop("refresh", {})

        def build(pipeline: beam.Pipeline) -> None:
            metadata = {k: pipeline | f"new {k}" >> beam.Create([ModelMetadata(p, k)]) for k, p in refresh.items()}
            step = Score(models, batches[0].schema, refresh=metadata)
            done = pipeline | beam.Create(batches) | beam.Reshuffle() | step
            for where, found in done._asdict().items():
                _ = found | f"Write {where}" >> beam.Map(write, str(folder), where)

        run_pipeline(pipeline_options(RunnerSpec(**{"workers": 2, **options})), build)
        return Outcome(folder)

    return run


def test_one_model_with_bad_rows(score: Callable[..., Outcome]) -> None:
    spec = line_spec(slope=2, fails_on=5)
    outcome = score(spec, batches_of([float(i) for i in range(10)]))
    version = model_version(spec)
    assert outcome.rows("scored", "id", "y", "model_version") == [(i, 2.0 * i, version) for i in range(10) if i != 5]
    assert outcome.rows("rejected", "id", "x", "_reason", "_transform") == [
        (5, 5.0, "ValueError: cannot take 5", "model")
    ]
    assert outcome.tables["scored"].schema.names == [*SCHEMA.names, "y", MODEL_VERSION]
    assert outcome.tables["scored"].schema.field(MODEL_VERSION).type == VERSIONS
    assert outcome.tables["rejected"].schema.equals(rejected_schema(SCHEMA))


def test_a_batch_of_bad_rows_only(score: Callable[..., Outcome]) -> None:
    outcome = score(line_spec(fails_on=5), batches_of([5.0, 5.0, 1.0, 5.0], size=2))
    assert [i for (i,) in outcome.rows("scored", "id")] == [2]
    assert [i for (i,) in outcome.rows("rejected", "id")] == [0, 1, 3]


def test_a_sequence_sees_the_columns_before(score: Callable[..., Outcome]) -> None:
    second = {
        "class": f"{MODULE}:Labels",
        "inputs": {"x": "y", "bound": "x"},
        "outputs": {"label": {"output": "label", "type": "string"}},
        "name": "second",
    }
    first = {**line_spec(slope=-1, fails_on=2).model_dump(by_alias=True), "name": "first"}
    outcome = score(groups([first, second]), batches_of([-1.0, 2.0, 3.0, 4.0]))
    assert outcome.rows("scored", "id", "y", "label") == [(0, 1.0, "high"), (2, -3.0, "low"), (3, -4.0, "low")]
    (versions,) = {v for (v,) in outcome.rows("scored", "model_version")}
    assert [part.partition("@")[0] for part in versions.split("+")] == ["first", "second"]
    assert outcome.rows("rejected", "id", "_transform") == [(1, "first")]


def test_a_second_step_rejects_rows_as_they_came_in(score: Callable[..., Outcome]) -> None:
    first = {**line_spec(slope=2).model_dump(by_alias=True), "name": "first"}
    second = {**line_spec(fails_on=4, name="z").model_dump(by_alias=True), "name": "second", "inputs": {"x": ["y"]}}
    outcome = score(groups([first, second]), batches_of([1.0, 2.0, 3.0]))
    assert outcome.rows("scored", "id", "z") == [(0, 2.0), (2, 6.0)]
    assert outcome.tables["rejected"].schema.equals(rejected_schema(SCHEMA))
    assert outcome.rows("rejected", "id", "_transform") == [(1, "second")]


def test_by_key_in_a_pipeline(score: Callable[..., Outcome]) -> None:
    carriers = ["AA", "UA", "ZZ", None, "UA", "AA", "AA"]
    models = {"by": "carrier", "AA": line_spec(slope=1), "UA": line_spec(slope=2, fails_on=4), "keep_loaded": 1}
    outcome = score(groups(models), batches_of([float(i) for i in range(7)], carriers))
    assert outcome.rows("scored", "id", "y") == [(0, 0.0), (1, 2.0), (5, 5.0), (6, 6.0)]
    assert outcome.rows("rejected", "id", "_transform", "_column") == [
        (2, "model", "carrier"),
        (3, "model", "carrier"),
        (4, "UA", None),
    ]


def test_shares_and_ensembles_in_a_pipeline(score: Callable[..., Outcome]) -> None:
    def member(slope: float, **more: Any) -> dict[str, Any]:
        return {**line_spec(slope=slope).model_dump(by_alias=True), **more}

    models = groups(
        [
            {"name": "ab", "share_by": ["id"], "a": member(1, share=0.5), "b": member(100, share=0.5)},
            {
                "name": "all",
                "combine": "mean",
                **{
                    k: {**member(s), "inputs": {"x": ["y"]}, "outputs": {"z": {"type": "double"}}}
                    for k, s in (("p", 1), ("q", 3))
                },
            },
        ]
    )
    outcome = score(models, batches_of([1.0] * 40))
    rows = outcome.rows("scored", "y", "z", "model_version")
    assert len(rows) == 40 and {(y, z) for y, z, _ in rows} == {(1.0, 2.0), (100.0, 200.0)}
    names = {(y, "+".join(p.partition("@")[0] for p in v.split("+"))) for y, _, v in rows}
    assert names == {(1.0, "a+p+q"), (100.0, "b+p+q")}


@pytest.mark.parametrize("large", [False, True])
def test_real_models_give_what_their_frameworks_give(
    score: Callable[..., Outcome], tmp_path: Path, large: bool
) -> None:
    model, x = classifier(), features(50)
    names = ["a", "b", "c", "d"]
    batch = pa.record_batch({"id": np.arange(50), **{n: x[:, i] for i, n in enumerate(names)}})
    spec = ModelSpec.model_validate(
        {
            "path": onnx_file(tmp_path, model),
            "inputs": {"X": names},
            "outputs": {
                "late": {"output": "label", "type": "int64"},
                "score": {"output": "probabilities", "index": 1, "type": "float"},
            },
            "large_model": large,
        }
    )
    outcome = score(spec, [batch.slice(0, 30), batch.slice(30)])
    found = outcome.tables["scored"]
    assert found["late"].to_pylist() == model.predict(x).tolist()
    assert np.allclose(found["score"].to_numpy(), model.predict_proba(x)[:, 1], atol=1e-5)
    assert set(found[MODEL_VERSION].to_pylist()) == {model_version(spec)}


def test_a_nan_costs_its_row_in_scikit_learn(score: Callable[..., Outcome], tmp_path: Path) -> None:
    model, x = classifier(text_labels=True), features(20, dtype="float64")
    x[7, 2] = np.nan
    batch = pa.record_batch({"id": np.arange(20), **{n: x[:, i] for i, n in enumerate("abcd")}})
    spec = ModelSpec.model_validate({"path": skops_file(tmp_path, model), "inputs": {"X": list("abcd")}})
    outcome = score(spec, [batch])
    good = np.delete(x, 7, axis=0)
    assert [v for (v,) in outcome.rows("scored", "predict")] == model.predict(good).tolist()
    (rejected,) = outcome.rows("rejected", "id", "_reason")
    assert rejected[0] == 7 and "NaN" in rejected[1]


def test_too_few_rows_fail_the_job(score: Callable[..., Outcome]) -> None:
    with pytest.raises(PredictionError, match="returned 3 predictions for 4 examples"):
        score(line_spec(short_on=2), batches_of([1.0, 2.0, 3.0, 4.0]))


# --- refresh --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [False, True])
def test_refresh_through_beams_metadata(score: Callable[..., Outcome], tmp_path: Path, large: bool) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for name, slope in (("one", "1"), ("two", "2")):
        (models / name).write_text(slope)
    spec = ModelSpec.model_validate(
        {
            "path": str(models / "one"),
            "class": f"{MODULE}:FromFile",
            "arguments": {"log": str(tmp_path / "log")},
            "inputs": {"x": "x"},
            "outputs": {"y": {"type": "double"}},
            "large_model": large,
        }
    )
    outcome = score(spec, batches_of([1.0, 2.0, 3.0]), refresh={"model": str(models / "two")})
    new = model_version(spec.model_copy(update={"path": str(models / "two")}))
    assert outcome.rows("scored", "y", "model_version") == [(2.0, new), (4.0, new), (6.0, new)]
    assert [line.split()[1] for line in lines(tmp_path / "log")] == ["2.0"]
    # Beam's locks are not beside the models, where a watched folder would take them for models.
    assert sorted(p.name for p in models.iterdir()) == ["one", "two"]


def test_refresh_of_an_unknown_step() -> None:
    with pytest.raises(ParameterError, match="there is no step 'modl'. Did you mean 'model'"):
        Score(line_spec(), SCHEMA, refresh={"modl": None})  # type: ignore[dict-item]  # it is never looked at


def test_steps_that_were_planned_are_not_planned_again(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    spec = line_spec().model_copy(update={"path": str(tmp_path / "one"), "class_": f"{MODULE}:FromFile"})
    steps = plan_steps(spec, SCHEMA)
    (tmp_path / "one").unlink()
    assert json.loads(json.dumps(Score(spec, SCHEMA, steps=steps).output_schema.names))[-2:] == ["y", MODEL_VERSION]

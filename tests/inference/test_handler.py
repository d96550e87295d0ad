"""ArrowModelHandler: through Beam's RunInference, on real runners and in several processes."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.ml.inference.base import PredictionResult, RunInference

from featuremill.artifacts.errors import JobError, ParameterError, ParameterTypeError
from featuremill.core.inference.handler import ArrowModelHandler, StepModels, model_tag
from featuremill.core.inference.limits import ModelTimeout
from featuremill.core.jobfile import RunnerSpec
from featuremill.core.models.contract import PredictionError
from featuremill.core.models.groups import ByKey, Ensemble, Shares
from featuremill.core.models.spec import ModelSpec
from featuremill.core.runner import pipeline_options, run_pipeline
from support.scoring_models import MODULE, line_spec, lines


def batch_of(*x: float, **more: Any) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(x, pa.float64()), **more})


def scored(models: StepModels, batch: Any, name: str | None = None) -> PredictionResult:
    handler = ArrowModelHandler(models, name=name)
    (result,) = handler.run_inference(batch, handler.load_model())
    return result


def values(result: PredictionResult, column: str = "y") -> list[Any]:
    found: list[Any] = result.inference.columns.column(column).to_pylist()
    return found


def run(batches: list[Any], models: StepModels, **runner: Any) -> None:
    """A pipeline in which the models must give three times x."""

    def build(pipeline: beam.Pipeline) -> None:
        _ = (
            pipeline
            | beam.Create(batches)
            | beam.Reshuffle()
            | RunInference(ArrowModelHandler(models))
            | beam.Map(_check_predictions)
        )

    run_pipeline(pipeline_options(RunnerSpec(**runner)), build)


def _check_predictions(result: PredictionResult) -> None:
    x, y = (b.column(0).to_numpy() for b in (result.example, result.inference.columns))
    if not np.allclose(x * 3, y):
        raise JobError(f"{x} became {y}")


# --- one batch ------------------------------------------------------------------------------------------------------


def test_one_result_for_each_element() -> None:
    batch = batch_of(1, 2, 3)
    result = scored(line_spec(slope=2), batch)
    assert result.example is batch
    assert values(result) == [2.0, 4.0, 6.0]
    assert result.inference.kept is None and result.inference.rejects == ()
    assert set(result.inference.versions.to_pylist()) == {result.model_id}


def test_a_table_is_an_element_too() -> None:
    table = pa.table({"x": pa.chunked_array([[1.0], [2.0, 3.0]])})
    assert values(scored(line_spec(slope=2), table)) == [2.0, 4.0, 6.0]
    assert scored(line_spec(), table.slice(0, 0)).inference.columns.num_rows == 0


def test_other_elements_are_refused() -> None:
    with pytest.raises(ParameterTypeError, match="takes record batches or tables, got list"):
        scored(line_spec(), [1.0])


def test_an_empty_batch_has_no_predictions() -> None:
    result = scored(line_spec(), batch_of())
    assert result.inference.columns.num_rows == 0 and result.inference.kept is None


def test_a_bad_row_costs_itself() -> None:
    result = scored(line_spec(fails_on=3), batch_of(1, 3, 5, 3))
    assert values(result) == [1.0, 5.0]
    assert result.inference.kept.tolist() == [0, 2]
    assert [(r.row, r.reason) for r in result.inference.rejects] == [
        (1, "ValueError: cannot take 3"),
        (3, "ValueError: cannot take 3"),
    ]


def test_rows_that_cannot_be_inputs_and_rows_that_the_model_refuses() -> None:
    spec = line_spec(fails_on=3, spec={"inputs": {"x": {"columns": ["x"], "matrix": True, "nulls": "reject"}}})
    batch = pa.record_batch({"x": pa.array([None, 3.0, 1.0, None, 2.0])})
    result = scored(spec, batch)
    assert [r.row for r in result.inference.rejects] == [0, 1, 3]
    assert result.inference.kept.tolist() == [2, 4] and values(result) == [1.0, 2.0]


def test_all_rows_bad() -> None:
    result = scored(line_spec(fails_on=3), batch_of(3, 3))
    assert [r.row for r in result.inference.rejects] == [0, 1]
    assert result.inference.columns.num_rows == 0 and result.inference.kept.tolist() == []


def test_too_few_predictions_fail() -> None:
    with pytest.raises(PredictionError, match="Line returned 2 predictions for 3 examples"):
        scored(line_spec(short_on=3), batch_of(1, 2, 3))


def test_memory_that_does_not_suffice_is_remembered(tmp_path: Path) -> None:
    handler = ArrowModelHandler(line_spec(tmp_path / "log", full_over=10))
    pool = handler.load_model()
    batch = batch_of(*range(64))
    for _ in range(2):
        (result,) = handler.run_inference(batch, pool)
        assert values(result) == [float(i) for i in range(64)]
    calls = [int(n) for n in lines(tmp_path / "log", ".calls")]
    assert calls == [64, 32, 16, *[8] * 8, *[8] * 8]


def test_a_call_that_takes_too_long() -> None:
    with pytest.raises(ModelTimeout, match=r"late: one call took longer than its limit of 0\.2 s"):
        scored(line_spec(sleeps_on=3, spec={"timeout": 0.2}), batch_of(3), name="late")


def test_a_load_that_takes_too_long() -> None:
    with pytest.raises(ModelTimeout, match=r"late: loading took longer than its limit of 0\.1 s. Set load_timeout"):
        scored(line_spec(slow=5, spec={"load_timeout": 0.1}), batch_of(3), name="late")


def test_examples_of_several_inputs_are_dicts() -> None:
    spec = ModelSpec.model_validate({"class": f"{MODULE}:Labels", "inputs": {"x": "x", "bound": "b"}})
    result = scored(spec, batch_of(1, 5, b=[3, 3]))
    assert result.inference.columns.to_pylist() == [{"label": "low", "over": -2.0}, {"label": "high", "over": 2.0}]


def test_num_bytes_are_true_and_cheap() -> None:
    batch = batch_of(*range(1000))
    assert ArrowModelHandler(line_spec()).get_num_bytes(batch) == 8000


def test_a_handler_survives_pickling_after_use() -> None:
    handler = ArrowModelHandler(line_spec(slope=2), name="late")
    handler.run_inference(batch_of(1), handler.load_model())
    again = pickle.loads(pickle.dumps(handler))
    (result,) = again.run_inference(batch_of(4), again.load_model())
    assert values(result) == [8.0]
    assert result.model_id.startswith("late@") and again.get_metrics_namespace() == "featuremill.late"


def test_inference_args_are_refused() -> None:
    with pytest.raises(ParameterError, match="takes no inference_args"):
        RunInference(ArrowModelHandler(line_spec()), inference_args={"a": 1}).expand(None)


# --- memory, counted by loads ---------------------------------------------------------------------------------------

BATCHES = [batch_of(*range(i, i + 5)) for i in range(8)]


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes find the test's classes."""
    roots = [os.path.abspath(p) for p in ("tests", "artifacts", "transforms", "platform", "jobs")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(roots))


def test_threads_of_a_process_share_one_model(tmp_path: Path) -> None:
    run(BATCHES, line_spec(tmp_path / "log", 3, slow=0.3), mode="multi_threading", workers=2)
    assert len(lines(tmp_path / "log")) == 1
    assert len(lines(tmp_path / "log", ".calls")) == 8


def test_processes_have_a_model_each_unless_it_is_large(tmp_path: Path, importable: None) -> None:
    own, large = tmp_path / "own", tmp_path / "large"

    def build(pipeline: beam.Pipeline) -> None:
        batches = pipeline | beam.Create(BATCHES) | beam.Reshuffle()
        for log, memory in ((own, {}), (large, {"large_model": True})):
            handler = ArrowModelHandler(line_spec(log, 3, slow=0.3, spec=memory))
            _ = batches | log.name >> RunInference(handler) | f"{log.name}: check" >> beam.Map(_check_predictions)

    run_pipeline(pipeline_options(RunnerSpec(mode="multi_processing", workers=2)), build)
    loads = lines(own)
    assert len(loads) == len(set(loads)) == 2
    assert len(lines(large)) == 1
    assert len(lines(own, ".calls")) == len(lines(large, ".calls")) == len(BATCHES)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_model_copies_are_exactly_so_many(tmp_path: Path, copies: int) -> None:
    spec = line_spec(tmp_path / "log", 3, spec={"model_copies": copies})
    run(BATCHES, spec, mode="multi_threading", workers=2)
    assert len(lines(tmp_path / "log")) == copies


@pytest.mark.parametrize(("memory", "loads"), [({"large": True}, 1), ({"copies": 2}, 2)])
def test_a_handler_of_beams_decides_itself(tmp_path: Path, memory: dict[str, Any], loads: int) -> None:
    spec = line_spec(tmp_path / "log", 3, **memory)
    handler = ArrowModelHandler(spec)
    assert (handler.share_model_across_processes(), handler.model_copies()) == (True, loads)
    run(BATCHES, spec, mode="multi_threading", workers=2)
    assert len(lines(tmp_path / "log")) == loads


def test_errors_come_through_the_proxy(tmp_path: Path) -> None:
    spec = line_spec(tmp_path / "log", 3, short_on=4, spec={"large_model": True})
    with pytest.raises(PredictionError, match="predictions for 5 examples"):
        run(BATCHES, spec, mode="in_memory")


def test_models_of_a_step_are_kept_alike() -> None:
    models = {"combine": "mean", "a": line_spec(), "b": line_spec(spec={"large_model": True})}
    with pytest.raises(ParameterError, match="'a' has a copy in each process, 'b' has 1 for all processes"):
        ArrowModelHandler(Ensemble.model_validate(models))


# --- refresh --------------------------------------------------------------------------------------------------------


def test_a_new_path_gives_a_new_version(tmp_path: Path) -> None:
    for name, slope in (("one", "1"), ("two", "2")):
        (tmp_path / name).write_text(slope)
    handler = ArrowModelHandler(
        ModelSpec.model_validate({"path": str(tmp_path / "one"), "class": f"{MODULE}:FromFile", "inputs": {"x": "x"}})
    )
    old = handler.load_model()
    handler.update_model_path(model_tag(str(tmp_path / "two")))
    new = handler.load_model()
    first, second, third = (handler.run_inference(batch_of(10), pool)[0] for pool in (old, new, old))
    assert [values(r, "prediction") for r in (first, second, third)] == [[10.0], [20.0], [10.0]]
    assert first.model_id == third.model_id != second.model_id


def test_groups_are_not_refreshed() -> None:
    handler = ArrowModelHandler(Ensemble.model_validate({"combine": "mean", "a": line_spec(), "b": line_spec()}))
    with pytest.raises(ParameterError, match="Only a single model is refreshed"):
        handler.update_model_path("elsewhere")


# --- groups ---------------------------------------------------------------------------------------------------------


def by_carrier(log: Path | None = None, **more: Any) -> ByKey:
    models = {key: line_spec(log, slope) for key, slope in (("AA", 1), ("UA", 2), ("DL", 3))}
    return ByKey.model_validate({"by": "carrier", **models, **more})


def test_by_key() -> None:
    batch = batch_of(1, 2, 3, 4, 5, carrier=["UA", "AA", "UA", "ZZ", None])
    result = scored(by_carrier(), batch)
    assert values(result) == [2.0, 2.0, 6.0] and result.inference.kept.tolist() == [0, 1, 2]
    assert [v.partition("@")[0] for v in result.inference.versions.to_pylist()] == ["UA", "AA", "UA"]
    assert [(r.row, r.reason) for r in result.inference.rejects] == [
        (3, "there is no model for carrier = 'ZZ', and no default"),
        (4, "there is no model for carrier = null, and no default"),
    ]


def test_by_key_with_a_default_and_bad_rows() -> None:
    batch = batch_of(1, 2, 9, 4, 9, carrier=["UA", "AA", "ZZ", "ZZ", "AA"])
    result = scored(by_carrier(default=line_spec(slope=10, fails_on=9)), batch)
    assert values(result) == [2.0, 2.0, 40.0, 9.0] and result.inference.kept.tolist() == [0, 1, 3, 4]
    assert [v.partition("@")[0] for v in result.inference.versions.to_pylist()] == ["UA", "AA", "default", "AA"]


def test_models_by_key_are_loaded_when_needed_and_within_the_bound(tmp_path: Path) -> None:
    handler = ArrowModelHandler(by_carrier(tmp_path / "log", keep_loaded=2))
    pool = handler.load_model()
    assert lines(tmp_path / "log") == []
    for carrier in ["AA", "AA", "UA", "AA", "DL", "AA", "UA"]:
        handler.run_inference(batch_of(1, carrier=[carrier]), pool)
    assert [line.split()[1] for line in lines(tmp_path / "log")] == ["1", "2", "3", "2"]


def test_models_by_key_in_threads(tmp_path: Path) -> None:
    batches = [batch_of(*range(4), carrier=["DL", key, "DL", key]) for key in ("AA", "UA", "DL") * 4]
    log = tmp_path / "log"
    models = {key: line_spec(log, 3, slow=0.05) for key in ("AA", "UA", "DL")}
    run(batches, ByKey.model_validate({"by": "carrier", **models}), mode="multi_threading", workers=2)
    assert len(lines(log)) == 3


def test_shares_follow_the_hash_of_splits() -> None:
    shares = {"share_by": ["id"]}
    for name, share, slope in (("old", 0.5, 1.0), ("new", 0.5, 2.0)):
        shares[name] = {**line_spec(slope=slope).model_dump(by_alias=True), "share": share}  # type: ignore[assignment]
    result = scored(Shares.model_validate(shares), batch_of(1, 1, 1, 1, id=["a", "b", "c", "d"]))
    assert values(result) == [1.0, 1.0, 2.0, 2.0]
    assert [v.partition("@")[0] for v in result.inference.versions.to_pylist()] == ["old", "old", "new", "new"]


def test_an_ensemble_rejects_what_one_rejects() -> None:
    models = {"combine": "mean", "a": line_spec(slope=1, fails_on=3), "b": line_spec(slope=2, fails_on=5)}
    result = scored(Ensemble.model_validate(models), batch_of(1, 3, 5, 7))
    assert values(result) == [1.5, 10.5] and result.inference.kept.tolist() == [0, 3]
    assert [(r.row, r.reason) for r in result.inference.rejects] == [
        (1, "ValueError: cannot take 3"),
        (2, "ValueError: cannot take 5"),
    ]
    (version,) = set(result.inference.versions.to_pylist())
    assert [part.partition("@")[0] for part in version.split("+")] == ["a", "b"]

"""Job files of scoring jobs: what is taken, what is refused and where, and their JSON Schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from featuremill.core.job_schema import job_schema
from featuremill.core.loading import JobFileError, job_from_mapping, load_job, place_of
from featuremill.core.scorefile import ScoreJob

JOB: dict[str, Any] = {
    "kind": "score",
    "name": "late",
    "source": {"parquet": {"path": "data/flights"}},
    "artifact": "artifacts/flights@candidate",
    "model": {"path": "late.onnx", "inputs": {"x": ["air_time", "carrier"]}, "outputs": {"late": {"index": 1}}},
    "output": {"path": "predictions", "keys": ["flight_id"], "columns": ["arr_delay"]},
}
SPLIT = {"by": ["flight_id"], "train": 0.8, "eval": 0.2}


def job(**changes: Any) -> Any:
    return job_from_mapping({k: v for k, v in (JOB | changes).items() if v is not None})


def test_a_job_loads_and_what_it_dumps_loads_again() -> None:
    made = job(split=SPLIT | {"only": ["eval"]})
    assert isinstance(made, ScoreJob)
    assert made.split.shares == {"train": 0.8, "eval": 0.2}
    assert made.the_models.inputs["x"].columns == ["air_time", "carrier"]
    assert job_from_mapping(made.model_dump(by_alias=True, exclude_none=True)) == made


def test_several_models() -> None:
    sequence = job(model=None, models=[{"name": "a", "path": "a.onnx"}, {"by": "c", "AA": {"path": "b.onnx"}}])
    assert [type(m).__name__ for m in sequence.the_models] == ["NamedModel", "ByKey"]
    ensemble = job(model=None, models={"combine": "mean", "a": {"path": "a"}, "b": {"path": "b"}})
    assert list(ensemble.the_models.members) == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "a score job has one of the keys model and models, got neither."),
        ({"models": [{"name": "a", "path": "x"}]}, "a score job has one of the keys model and models, got both."),
        ({"model": {"pth": "x"}}, "model.pth: unknown key 'pth'. Did you mean 'path'?"),
        (
            {"model": {"path": "x", "inputs": {"x": {"colums": ["a"]}}}},
            "model.inputs.x.colums: unknown key 'colums'. Did you mean 'columns'?",
        ),
        (
            {"model": None, "models": {"by": "c", "AA": {"path": "x", "batch_row": 3}}},
            "models.AA.batch_row: unknown key 'batch_row'. Did you mean 'batch_rows'?",
        ),
        (
            {"model": None, "models": [{"name": "a", "path": "x", "framewrk": "onnx"}]},
            "models.0.framewrk: unknown key 'framewrk'. Did you mean 'framework'?",
        ),
        (
            {"model": None, "models": {"a": {"path": "x"}}},
            "models: got {'a': {'path': 'x'}}, expected a list of models, or a mapping with by, share_by or combine.",
        ),
        ({"model": None, "models": [{"path": "x"}]}, "models.0.name: the key 'name' is missing."),
        ({"split": SPLIT}, "split.only: the key 'only' is missing."),
        (
            {"split": SPLIT | {"only": ["test"]}},
            "split: only names 'test', which is none of the splits ['train', 'eval'].",
        ),
        ({"split": SPLIT | {"only": []}}, "split.only: got [], expected at least 1 in the list."),
        ({"output": {"path": "p"}}, "output.keys: the key 'keys' is missing."),
        (
            {"output": {"path": "p", "keys": ["id"], "columns": ["id"]}},
            "output: 'id' comes twice among keys and columns; name it once.",
        ),
        ({"name": "a b"}, "name: 'a b': letters, digits, '.', '_' and '-' only."),
        (
            {"model": {"path": "m", "allow_pickle": True}},
            "model: allow_pickle needs the sha256 of the file that you trust.",
        ),
        (
            {"model": {"path": "m", "inputs": {"x": {"columns": ["t"], "pad": {"to": "longst"}}}}},
            "model.inputs.x.pad.to: got 'longst', expected a whole number above 0 or one of longest, bucket.",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(JobFileError) as caught:
        job(**changes)
    assert str(caught.value) == message


def test_keys_of_prepare_jobs_are_no_keys_of_score_jobs() -> None:
    with pytest.raises(JobFileError, match="unknown key 'dataset'"):
        job(dataset={"path": "x"})


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "late.yaml"
    path.write_text(yaml.safe_dump(JOB, sort_keys=False))
    return path


def test_mistakes_have_the_line_of_the_file(job_file: Path) -> None:
    lines = job_file.read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if line.startswith("model:"))
    with pytest.raises(JobFileError) as caught:
        load_job(job_file, ["model.outputs.late.indx=1"])
    assert str(caught.value).startswith("--set model.outputs.late.indx=1: unknown key 'indx'.")
    job_file.write_text(job_file.read_text().replace("path: late.onnx", "path: 3"))
    with pytest.raises(JobFileError) as caught:
        load_job(job_file)
    assert str(caught.value) == f"{job_file}:{number + 1}: model.path: got 3, expected a text. Put it in quotes."


def test_the_place_of_errors_that_only_a_look_at_the_files_can_tell(job_file: Path) -> None:
    def place(**facts: Any) -> str | None:
        found = place_of(job_file, [], facts)
        return found and found.rpartition(": ")[2]

    assert place(key=("output", "keys"), column="flight_id") == "output.keys.0"
    assert place(key=("model",), parameter="inputs", input="x", column="carrier") == "model.inputs.x.1"
    assert place(key=("model",), parameter="outputs", output="late") == "model.outputs.late"
    assert place(key=("model",), input="z") == "model.inputs"
    assert place(key=("model",), parameter="class") == "model"
    assert place(key=("artifact",)) == "artifact"
    assert place(path="data/flights") == "source.parquet.path"
    assert place(column="nothing") is None


def test_editors_get_a_schema_of_all_of_it() -> None:
    schema = job_schema("score")
    assert schema["required"] == ["kind", "name", "source", "output"]
    assert {"ByKey", "Shares", "Ensemble", "NamedModel", "InputSpec"} <= set(schema["$defs"])
    assert "class" in schema["$defs"]["ModelSpec"]["properties"]

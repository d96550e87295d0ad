"""Models that are replaced while they are used: which one is taken, and when it is not."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam import window
from apache_beam.ml.inference.base import ModelMetadata
from apache_beam.testing.test_stream import TestStream as Stream  # pytest takes Test… for tests

from featuremill.artifacts.errors import ParameterError
from featuremill.core.inference.planning import plan_steps
from featuremill.core.inference.steps import Score
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.groups import Shares
from featuremill.core.models.loading import model_version
from featuremill.core.models.spec import ModelSpec
from featuremill.core.streaming.following import Refused
from featuremill.core.streaming.model_files import candidates, newest, pinned, with_paths
from featuremill.core.streaming.model_refresh import FollowingHandler, FollowingScore, ModelsFit
from support.streams import onnx_model, run_stream

SCHEMA = pa.schema([("a", pa.float32())])
INPUTS = {"x": ["a"]}
OUTPUTS = {"score": {"index": 0}}


def spec(path: Path | str, **more: Any) -> ModelSpec:
    return ModelSpec.model_validate({"path": str(path), "inputs": INPUTS, "outputs": OUTPUTS, **more})


def aged(path: Path, seconds: float) -> Path:
    """The file, as if it had been written so many seconds later than others."""
    os.utime(path, (1e9 + seconds, 1e9 + seconds))
    return path


def anything(_spec: ModelSpec, _path: str, _version: str | None) -> None:
    return None


def _any_file(_spec: ModelSpec, _path: str) -> None:
    return None


class Scorer:
    """A step, as one worker runs it on one batch after another."""

    def __init__(self, models: Any, fits: Callable[..., str | None] = anything) -> None:
        now = pinned(models, lambda s, p: fits(s, p, "v1"))
        (step,) = plan_steps(now, SCHEMA)
        self.handler = FollowingHandler(step, models, every=1e-9, fits=fits)
        self.model = self.handler.load_model()

    def __call__(self, x: float = 2.0, artifact: str = "v1") -> tuple[float, str]:
        """The score of one row, and the version of the model that made it."""
        batch = pa.record_batch({"a": pa.array([x], pa.float32()), "artifact_version": [artifact]})
        (result,) = self.handler.run_inference(batch, self.model)
        found = result.inference
        return found.columns.column("score")[0].as_py(), found.versions[0].as_py()


def test_the_newest_of_a_pattern_is_used_and_named(tmp_path: Path) -> None:
    first = aged(onnx_model(tmp_path / "late-1.onnx", times=1), 1)
    score = Scorer(spec(tmp_path / "late-*.onnx"))
    assert score() == (2.0, model_version(spec(first)))
    second = aged(onnx_model(tmp_path / "late-0.onnx", times=10), 2)
    assert score() == (20.0, model_version(spec(second)))
    second.unlink()
    assert score() == (2.0, model_version(spec(first)))


def test_a_file_that_is_replaced_in_its_place_is_used(tmp_path: Path) -> None:
    path = aged(onnx_model(tmp_path / "late.onnx", times=1), 1)
    score = Scorer(spec(path))
    assert score()[0] == 2.0
    aged(onnx_model(path, times=3), 2)
    assert score() == (6.0, model_version(spec(path)))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.write_bytes(b"no model at all"), "late-2.onnx"),
        (lambda path: onnx_model(path, columns=2), "its column a gives (1,)"),
        (lambda path: onnx_model(path, output="z"), "z"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_old_one_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[Path], object], why: str
) -> None:
    aged(onnx_model(tmp_path / "late-1.onnx"), 1)
    named = spec(tmp_path / "late-*.onnx", outputs={"score": {"output": "y", "index": 0}})
    score = Scorer(named)
    make(tmp_path / "late-2.onnx")
    with caplog.at_level(logging.WARNING, "featuremill.streaming"):
        assert [score()[0] for _ in range(3)] == [2.0] * 3
    (record,) = caplog.records
    assert record.levelname == "ERROR" and "stays in use" in record.getMessage() and why in record.getMessage()
    aged(onnx_model(tmp_path / "late-3.onnx", times=5), 4e9)
    assert score()[0] == 10.0


def test_model_and_artifact_change_together(tmp_path: Path) -> None:
    """A model is used for batches of the artifact that it was trained with, whichever of the two comes first."""
    trained = {"late-1.onnx": "v1", "late-2.onnx": "v2"}

    def fits(_: ModelSpec, path: str, version: str | None) -> str | None:
        mine = trained[Path(path).name]
        return None if mine == version else f"it was trained with {mine}"

    aged(onnx_model(tmp_path / "late-1.onnx", times=1), 1)
    models = spec(tmp_path / "late-*.onnx")
    score = Scorer(models, fits)
    ready = ModelsFit(models, fits)
    with pytest.raises(Refused, match="it was trained with v1"):
        ready("v2")
    aged(onnx_model(tmp_path / "late-2.onnx", times=10), 2)
    assert score()[0] == 2.0
    ready("v2")
    assert score(artifact="v2")[0] == 20.0
    assert score(artifact="v1")[0] == 2.0


def test_models_side_by_side_are_followed_each_by_itself(tmp_path: Path) -> None:
    for name in "ab":
        aged(onnx_model(tmp_path / f"{name}-1.onnx", times=1), 1)
    members = {
        n: {"path": str(tmp_path / f"{n}-*.onnx"), "share": 0.5, "inputs": INPUTS, "outputs": OUTPUTS} for n in "ab"
    }
    schema = pa.schema([*SCHEMA, ("id", pa.string())])
    models = Shares.model_validate({"share_by": ["id"], **members})
    (step,) = plan_steps(pinned(models, _any_file), schema)
    handler = FollowingHandler(step, models, every=1e-9, fits=anything)
    model = handler.load_model()
    batch = pa.record_batch({"a": pa.array([1.0] * 4, pa.float32()), "id": ["a", "b", "c", "d"]})

    def scores() -> list[float]:
        (result,) = handler.run_inference(batch, model)
        found: list[float] = result.inference.columns.column("score").to_pylist()
        return found

    assert scores() == [1.0] * 4
    aged(onnx_model(tmp_path / "b-2.onnx", times=7), 2)
    assert sorted(set(scores())) == [1.0, 7.0]


def test_a_folder_can_be_a_model_and_half_written_ones_are_hidden(tmp_path: Path) -> None:
    for name, at in (("m-1", 1), ("m-2", 2), ("_m-3", 3)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(b"12")
        aged(tmp_path / name / "weights", at)
    (tmp_path / "m-4").mkdir()
    assert [Path(c.path).name for c in candidates(str(tmp_path / "*m-*"))] == ["m-2", "m-1"]
    assert newest(str(tmp_path / "m-*")).size == 2


def test_no_model_is_an_error_that_names_the_pattern(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"late-\*\.onnx: there is no model"):
        pinned(spec(tmp_path / "late-*.onnx"), _any_file)


def test_paths_are_exchanged_in_every_kind_of_group(tmp_path: Path) -> None:
    from featuremill.core.inference.handler import members
    from featuremill.core.models.groups import ByKey, Ensemble

    for group in (
        ByKey.model_validate(
            {"by": "c", "AA": {"path": "p"}, "default": {"path": "p"}, "models": {"name": {"path": "p"}}}
        ),
        Ensemble.model_validate({"combine": "mean", "a": {"path": "p"}, "b": {"path": "p"}}),
    ):
        changed = with_paths(group, {name: f"new-{name}" for name in members(group)})
        assert {n: s.path for n, s in members(changed).items()} == {n: f"new-{n}" for n in members(group)}
        assert {s.path for s in members(group).values()} == {"p"}


@pytest.mark.parametrize("more", [{"large_model": True}, {"model_copies": 2}, {"sha256": "0" * 64}])
def test_models_that_cannot_be_followed(tmp_path: Path, more: dict[str, Any]) -> None:
    path = onnx_model(tmp_path / "late.onnx")
    (step,) = plan_steps(spec(path), SCHEMA)
    kept = spec(path, **more)
    shared = step if "sha256" in more else type(step)(step.name, kept, step.columns, step.planned)
    with pytest.raises(ParameterError, match="refresh"):
        FollowingHandler(shared, kept, every=1, fits=anything)


class Kept(beam.DoFn):  # type: ignore[misc]
    found: list[Any] = []  # noqa: RUF012  # emptied by each test

    def process(self, batch: pa.RecordBatch) -> None:
        self.found += batch.to_pylist()


def batch_of(x: float) -> pa.RecordBatch:
    return pa.record_batch({"a": pa.array([x], pa.float32())})


def test_while_a_stream_flows(tmp_path: Path) -> None:
    """The second batch meets the model that was put there after the first."""
    aged(onnx_model(tmp_path / "late-1.onnx", times=1), 1)
    models = spec(tmp_path / "late-*.onnx")
    (step,) = plan_steps(pinned(models, _any_file), SCHEMA)
    Kept.found.clear()

    def replace(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.column("a")[0].as_py() == 2.0:
            aged(onnx_model(tmp_path / "late-2.onnx", times=10), 2)
        return batch

    def build(p: beam.Pipeline) -> None:
        stream = Stream().advance_watermark_to(0).add_elements([batch_of(1.0)]).advance_watermark_to(1)
        stream.add_elements([batch_of(2.0)]).advance_watermark_to_infinity()
        score = FollowingScore(models, SCHEMA, step, every=1e-9, fits=anything)
        _ = (p | stream | beam.Map(replace) | score).scored | beam.ParDo(Kept())

    run_stream(build)
    assert [r["score"] for r in Kept.found] == [1.0, 20.0]
    assert [r["model_version"] for r in Kept.found] == [
        model_version(spec(tmp_path / f"late-{i}.onnx")) for i in (1, 2)
    ]


def test_by_beams_own_side_input(tmp_path: Path) -> None:
    """What ``WatchFilePattern`` gives changes the model, window by window, as Beam defines side inputs."""
    paths = [onnx_model(tmp_path / f"late-{i}.onnx", times=10.0**i) for i in range(3)]
    Kept.found.clear()

    def build(p: beam.Pipeline) -> None:
        stream = Stream(output_tags={"rows", "models"}).advance_watermark_to(0, tag="rows")
        stream.advance_watermark_to(0, tag="models")
        for i in (1, 2):
            newer = ModelMetadata(str(paths[i]), f"late-{i}")
            stream.add_elements([newer], tag="models", event_timestamp=10 * i)
            stream.add_elements([batch_of(2.0)], tag="rows", event_timestamp=10 * i + 1)
            stream.advance_watermark_to(10 * i + 10, tag="models").advance_watermark_to(10 * i + 10, tag="rows")
        stream.advance_watermark_to_infinity(tag="rows").advance_watermark_to_infinity(tag="models")
        given = p | stream
        windows = window.FixedWindows(10)
        score = Score(
            spec(paths[0]), SCHEMA, refresh={"model": given["models"] | "by time" >> beam.WindowInto(windows)}
        )
        _ = (given["rows"] | beam.WindowInto(windows) | score).scored | beam.ParDo(Kept())

    run_stream(build)
    assert [r["score"] for r in Kept.found] == [20.0, 200.0]
    assert [r["model_version"] for r in Kept.found] == [model_version(spec(path)) for path in paths[1:]]

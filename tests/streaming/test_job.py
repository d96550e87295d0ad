"""Score jobs with an endless source from the job file to the files, with a model and an alias that move meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.pipeline import PipelineVisitor
from apache_beam.testing.test_stream import TestStream as Stream  # pytest takes Test… for tests

from featuremill.artifacts import load, move, publish
from featuremill.artifacts.build import build_files
from featuremill.artifacts.errors import FeaturemillError, ParameterError, RequestError
from featuremill.core.loading import job_from_mapping
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.loading import model_version
from featuremill.core.models.spec import ModelSpec
from featuremill.core.models.stamp import SUFFIX, stamp
from featuremill.core.scorefile import ScoreJob
from featuremill.core.streaming.model_files import StampsFit
from featuremill.core.streaming.runner import streaming_options
from featuremill.jobs.cli import main
from featuremill.jobs.score import plan, run
from featuremill.jobs.score_stream import StreamScoring
from featuremill.transforms.scaling import ScaleToZScore
from support.sample_artifact import SCHEMA, fit_states, sample_batch
from support.streams import appear, onnx_model, read_folder, run_stream

WATCH = {"every": "100ms", "settle": "200ms"}


class Home:
    """A folder with an artifact, a model, and a place where files arrive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.incoming = folder / "incoming"
        self.first = self.new_artifact()
        self.model(1, times=1.0)

    def new_artifact(self, *, shift: float = 0.0) -> str:
        """Another version of the artifact; its alias moves to it."""
        rows, transforms = sample_batch(shift=shift), [ScaleToZScore(["air_time"])]
        root = self.folder / "artifacts"
        files = build_files(transforms, rows.schema, fit_states(transforms, rows), name="flights")
        version = publish(root, "flights", files)
        move(root, "flights", "live", version)
        return version

    def model(self, number: int, *, times: float) -> str:
        """Another model, the newest; its version."""
        self.folder.joinpath("models").mkdir(exist_ok=True)
        path = onnx_model(self.folder / "models" / f".late-{number}.onnx", times=times)
        os.utime(path, (1e9 + number, 1e9 + number))
        os.replace(path, path.with_name(path.name[1:]))
        return model_version(ModelSpec(path=str(path.with_name(path.name[1:]))))

    def rows(self, name: str, *ids: int, air_time: float = 120.0) -> Path:
        table = pa.table({"flight_id": ids, "air_time": [air_time] * len(ids), "dep_time": [1] * len(ids)})
        return appear(self.incoming / f"{name}.parquet", table)

    def content(self, source: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "kind": "score",
            "name": "late",
            "source": source,
            "artifact": f"{self.folder}/artifacts/flights@live",
            "model": {
                "path": f"{self.folder}/models/late-*.onnx", "inputs": {"x": ["air_time"]},
                "outputs": {"score": {"index": 0}},
            },
            "output": {"path": str(self.folder / "out"), "keys": ["flight_id"], "columns": ["air_time"]},
            **more,
        }

    def job(self, source: dict[str, Any], **more: Any) -> ScoreJob:
        job = job_from_mapping(self.content(source, **more))
        assert isinstance(job, ScoreJob)
        return job

    def watching(self, **watch: Any) -> dict[str, Any]:
        return {"watch": {"path": str(self.incoming), **WATCH, **watch}}

    @property
    def predictions(self) -> list[dict[str, Any]]:
        return sorted(read_folder(self.folder / "out" / "r" / "predictions"), key=lambda r: r["flight_id"])

    @property
    def rejected(self) -> list[dict[str, Any]]:
        return read_folder(self.folder / "out" / "r" / "_rejected")

    def wait_for(self, flight_id: int, seconds: float = 10.0) -> dict[str, Any]:
        """The row of a flight, as soon as it is in a file."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = [r for r in self.predictions if r["flight_id"] == flight_id]
            if found:
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"flight {flight_id} never came")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def meanwhile(work: Callable[[], object]) -> Callable[[], None]:
    """Do something in another thread; what comes back waits for it, and raises what it raised."""
    problems: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            problems.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()

    def join() -> None:
        thread.join(30)
        if problems:
            raise problems[0]

    return join


def test_a_watched_folder_with_a_model_and_an_alias_that_move(home: Home) -> None:
    """Each row says what made it: the first model and artifact, then another model, then another artifact."""
    seen: dict[str, Any] = {}

    def work() -> None:
        home.rows("a", 1, 2)
        seen["first"] = home.wait_for(1)
        seen["model"] = home.model(2, times=10.0)
        time.sleep(0.15)
        home.rows("b", 3)
        seen["second"] = home.wait_for(3)
        seen["artifact"] = home.new_artifact(shift=50.0)
        time.sleep(0.15)
        home.rows("c", 4)
        seen["third"] = home.wait_for(4)
        (home.incoming / "torn.parquet").write_bytes(b"PAR1")

    job = home.job(
        home.watching(idle="1500ms"), refresh={"models": "100ms", "artifact": "100ms"}
    )
    old = model_version(ModelSpec(path=f"{home.folder}/models/late-1.onnx"))
    join = meanwhile(work)
    record = run(job, run_id="r")
    join()

    def scaled(version: str) -> float:
        made: float = load(f"{home.folder}/artifacts/flights@{version}").transform({"air_time": 120.0})["air_time"]
        return made

    expected = [
        (1, old, home.first, scaled(home.first)),
        (2, old, home.first, scaled(home.first)),
        (3, seen["model"], home.first, 10 * scaled(home.first)),
        (4, seen["model"], seen["artifact"], 10 * scaled(seen["artifact"])),
    ]
    found = [(r["flight_id"], r["model_version"], r["artifact_version"], r["score"]) for r in home.predictions]
    assert [f[:3] for f in found] == [e[:3] for e in expected]
    assert [f[3] for f in found] == pytest.approx([e[3] for e in expected], rel=1e-6)
    assert {r["air_time"] for r in home.predictions} == {120.0}
    (torn,) = home.rejected
    assert "not a complete Parquet file" in torn["_reason"]
    assert record.rows is not None
    assert (record.rows.source, record.rows.written, record.rows.aside) == (4, 4, 0)
    assert json.loads((home.folder / "out" / "r" / "run.json").read_text())["status"] == "done"


def test_rows_that_cannot_be_scored_are_set_aside_and_every_row_is_accounted_for(home: Home) -> None:
    home.rows("a", 1, 2)
    wrong = pa.table({"flight_id": [3], "air_time": ["soon"]})
    appear(home.incoming / "b.parquet", wrong)
    job = home.job(
        home.watching(stop_after="300ms"),
        model={"class": "support.scoring_models:Line", "arguments": {"fails_on": 0.0},
               "inputs": {"x": ["flight_id"]}, "outputs": {"score": {"output": "prediction", "type": "double"}}},
    )
    appear(home.incoming / "c.parquet", pa.table({"flight_id": [0, 4], "air_time": [1.0, 2.0]}))
    record = run(job, run_id="r")
    assert [r["flight_id"] for r in home.predictions] == [1, 2, 4]
    letters = sorted(home.rejected, key=lambda r: str(r["flight_id"]))
    assert [r["flight_id"] for r in letters] == [0, None]
    assert "cannot take 0" in letters[0]["_reason"] and letters[0]["_row"] == 0
    assert "'air_time' is string" in letters[1]["_reason"]
    assert record.rows is not None and (record.rows.source, record.rows.written, record.rows.aside) == (4, 3, 1)


def test_a_run_under_the_same_name_replaces_its_own_files(home: Home) -> None:
    home.rows("a", 1, 2)
    for _ in range(2):
        run(home.job(home.watching(stop_after="200ms")), run_id="r")
    assert [r["flight_id"] for r in home.predictions] == [1, 2]


def message(i: int, **more: Any) -> PubsubMessage:
    row = {"flight_id": i, "air_time": 120.0, "carrier": None, **more}
    return PubsubMessage(json.dumps(row).encode(), {}, message_id=f"m{i}")


def test_messages_with_a_test_stream_in_the_place_of_pubsub(home: Home) -> None:
    source = {"pubsub": {"subscription": "projects/p/subscriptions/s", "max_delay": "1s", "message_id": "mid"}}
    content = home.content(source, refresh={"models": 0.000001})
    content["output"]["keys"] = ["flight_id", "mid"]
    job = job_from_mapping(content)
    assert isinstance(job, ScoreJob)
    scoring = StreamScoring(job, "r")
    late = threading.Event()

    def replace(found: Any) -> Any:
        if not late.is_set() and found.message_id == "m3":
            late.set()
            home.model(2, times=10.0)
        return found

    def build(p: beam.Pipeline) -> None:
        stream = Stream().advance_watermark_to(0)
        stream.add_elements([message(1), PubsubMessage(b"null", {}, message_id="m0"), message(2)])
        stream.advance_processing_time(4e9)
        stream.add_elements([message(3)]).advance_watermark_to_infinity()
        scoring.build(p, p | stream | beam.Map(replace))

    run_stream(build)
    old, new = (model_version(ModelSpec(path=f"{home.folder}/models/late-{i}.onnx")) for i in (1, 2))
    assert [(r["flight_id"], r["mid"], r["model_version"]) for r in home.predictions] == [
        (1, "m1", old), (2, "m2", old), (3, "m3", new),
    ]
    (letter,) = home.rejected
    assert (letter["_message"], letter["_reason"]) == (b"null", "The message is not a JSON object.")
    assert letter["_row"] == 1 and letter["flight_id"] is None


def test_a_stamped_model_waits_for_its_artifact_and_the_other_way_round(home: Home) -> None:
    models = home.folder / "models"
    stamp(models / "late-1.onnx", f"{home.folder}/artifacts/flights@{home.first}")
    seen: dict[str, Any] = {}

    def work() -> None:
        home.rows("a", 1)
        home.wait_for(1)
        seen["artifact"] = home.new_artifact(shift=50.0)
        time.sleep(0.3)
        home.rows("b", 2)
        home.wait_for(2)
        hidden = onnx_model(models / "_late-2.onnx", times=10.0)
        stamp(hidden, f"{home.folder}/artifacts/flights@live")
        os.replace(f"{hidden}{SUFFIX}", models / f"late-2.onnx{SUFFIX}")
        os.replace(hidden, models / "late-2.onnx")
        seen["model"] = model_version(ModelSpec(path=str(models / "late-2.onnx")))
        time.sleep(0.3)
        home.rows("c", 3)
        home.wait_for(3)

    join = meanwhile(work)
    run(home.job(home.watching(idle="1500ms"), refresh={"models": "50ms", "artifact": "50ms"}), run_id="r")
    join()
    old = model_version(ModelSpec(path=str(models / "late-1.onnx")))
    assert [(r["flight_id"], r["model_version"], r["artifact_version"]) for r in home.predictions] == [
        (1, old, home.first), (2, old, home.first), (3, seen["model"], seen["artifact"]),
    ]


def test_what_a_stamp_says(home: Home) -> None:
    path = str(home.folder / "models" / "late-1.onnx")
    fits, spec = StampsFit("flights"), ModelSpec(path=path)
    assert fits(spec, path, "0" * 16) is None
    stamp(path, f"{home.folder}/artifacts/flights@live")
    assert fits(spec, path, home.first) is None
    assert "was trained with flights@" in str(fits(spec, path, "0" * 16))
    assert "was trained with flights@" in str(StampsFit("other")(spec, path, home.first))
    assert fits(spec.model_copy(update={"stamp": "ignore"}), path, "0" * 16) is None
    onnx_model(Path(path), times=3.0)
    assert "was stamped for another file" in str(fits(spec, path, home.first))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"refresh": {"models": "soon"}}, ValueError, "a length of time is written as 10s"),
        ({"split": {"by": ["flight_id"], "train": 1, "only": ["train"]}}, ValueError, "rows that arrive"),
        ({"artifact": None, "refresh": {"artifact": 5}}, ValueError, "refresh.artifact follows an alias"),
        ({"source": {"parquet": {"path": "x"}}, "refresh": {"models": 5}}, ValueError, "refresh is for jobs"),
        ({"source": {"watch": {"path": "x"}, "parquet": {"path": "x"}}}, ValueError, "bigquery, watch and pubsub"),
        ({"source": {"watch": {"path": "x", "idle": "30s"}}}, ValueError, "must be longer than settle"),
        ({"source": {"pubsub": {}}}, ValueError, "one of subscription and topic, got neither"),
        ({"source": {"pubsub": {"topic": "t"}}}, ValueError, "projects/PROJECT/topics/NAME"),
        ({"source": {"pubsub": {"topic": "projects/p/topics/t"}}, "artifact": None}, RequestError, "Nothing tells"),
        ({"model": {"path": "nowhere/*.onnx"}}, ModelFileError, "there is no model"),
        ({"runner": {"workers": 2}}, RequestError, "read by one worker"),
        (
            {
                "refresh": {"models": 5, "through": "beam"}, "model": {"path": "models/late-1.onnx"},
                "runner": {"name": "FlinkRunner"},
            },
            ParameterError,
            "whose path is a pattern",
        ),
        ({"refresh": {"models": 5, "through": "beam"}}, ParameterError, "needs a runner that updates side inputs"),
        (
            {"refresh": {"models": 5}, "model": {"path": "models/late-1.onnx", "large_model": True}},
            ParameterError,
            "large_model",
        ),
    ],
)
def test_jobs_that_cannot_run(
    home: Home, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    monkeypatch.chdir(home.folder)
    given = home.content(home.watching(stop_after="100ms"))
    model = {**given["model"], **changes.pop("model", {})}
    content = {k: v for k, v in {**given, "model": model, **changes}.items() if v is not None}
    with pytest.raises(kind, match=message) as found:
        run(job_from_mapping(content), run_id="r")  # type: ignore[arg-type]  # a score job, if it is one at all
    assert isinstance(found.value, FeaturemillError)


def test_the_command_line_plans_and_runs_it(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    home.rows("a", 1, 2)
    job = home.folder / "late.yaml"
    job.write_text(yaml.safe_dump(home.content(home.watching(stop_after="200ms"))))
    assert main(["plan", str(job)]) == 0
    shown = capsys.readouterr().out
    assert "incoming" in shown and "air_time" in shown and "late-1.onnx" in shown
    assert main(["run", str(job), "--run-id", "r", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["rows"] == {"source": 2, "filtered": 0, "written": 2, "aside": 0, "quarantined": 0}
    assert len(home.predictions) == 2


def test_the_plan_of_an_endless_job(home: Home) -> None:
    made = plan(home.job({"pubsub": {"topic": "projects/p/topics/t", "schema": {"gate": "string"}}}))
    assert made.source["path"] == "projects/p/topics/t"
    assert made.input_schema.names == ["air_time", "flight_id"]
    assert made.artifact["version"] == home.first
    assert [f.name for f in made.output_schema] == [
        "flight_id", "air_time", "score", "model_version", "artifact_version",
    ]
    assert SCHEMA.field("flight_id").type == made.output_schema.field("flight_id").type


def test_a_job_without_an_end_is_stopped_by_hand(home: Home) -> None:
    import yaml

    home.rows("a", 1, 2)
    job = home.folder / "late.yaml"
    job.write_text(yaml.safe_dump(home.content(home.watching())))
    command = [sys.executable, "-m", "featuremill.jobs", "run", str(job), "--run-id", "r"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        home.wait_for(2, seconds=60)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
    finally:
        process.kill()
    assert [r["flight_id"] for r in home.predictions] == [1, 2]
    record = json.loads((home.folder / "out" / "r" / "run.json").read_text())
    assert (record["status"], record["warnings"]) == ("done", ["The job was stopped by hand."])


def test_the_pipeline_over_pubsub_itself_can_be_built(home: Home) -> None:
    job = home.job({"pubsub": {"subscription": "projects/a-project/subscriptions/a-name", "timestamp_attribute": "at"}})
    spec = job.source.arriving
    assert spec is not None
    pipeline = beam.Pipeline(options=streaming_options(job.runner, spec))
    StreamScoring(job, "r").build(pipeline)
    labels: list[str] = []

    class Labels(PipelineVisitor):  # type: ignore[misc]
        def enter_composite_transform(self, node: Any) -> None:
            labels.append(type(node.transform).__name__)

    pipeline.visit(Labels())
    assert "ReadFromPubSub" in labels and "Flatten" not in labels


def test_the_jobs_of_the_manual_are_jobs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first runs as it stands, but for its end; the second has to be planned with columns of its own."""
    import yaml

    page = (Path(__file__).parents[2] / "docs" / "streaming.md").read_text()
    first, second = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    monkeypatch.chdir(home.folder)
    home.rows("a", 1)
    watch = {**first["source"]["watch"], "every": "100ms", "stop_after": "200ms"}
    job = job_from_mapping({**first, "source": {"watch": watch}})
    assert isinstance(job, ScoreJob)
    assert run(job, run_id="r").rows is not None
    assert [r["flight_id"] for r in read_folder(home.folder / "predictions" / "late" / "r" / "predictions")] == [1]
    onnx_model(home.folder / "models" / "late.onnx")
    other = job_from_mapping(second)
    assert isinstance(other, ScoreJob)
    assert plan(other).output_schema.names[:3] == ["flight_id", "message_id", "gate"]

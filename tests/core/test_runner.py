"""Runners: options from a job's block, and the one error that comes out of the runner's text."""

from __future__ import annotations

import logging
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.worker.sdk_worker import SdkHarness

from featuremill.artifacts.errors import BadRows, ColumnTypeError, FeaturemillError, JobError, RequestError
from featuremill.core.jobfile import RunnerSpec
from featuremill.core.runner import _from_runner, pipeline_options, run_pipeline

MODES = ["in_memory", "multi_threading"]


def options_of(*extra: str, **spec: Any) -> dict[str, Any]:
    return pipeline_options(RunnerSpec(**spec), extra).get_all_options()


def test_direct_takes_its_workers() -> None:
    assert options_of(workers=3)["direct_num_workers"] == 3
    assert options_of(workers=3, mode="in_memory")["direct_num_workers"] == 1
    assert options_of(mode="multi_processing")["direct_running_mode"] == "multi_processing"
    assert options_of(name="DirectRunner")["runner"].endswith("FnApiRunner")
    assert options_of()["direct_num_workers"] >= 1


def test_other_runners_take_beams_options() -> None:
    found = options_of(name="FlinkRunner", options={"parallelism": 4, "experiments": ["a", "b"], "streaming": False})
    assert found["runner"] == "FlinkRunner"
    assert found["experiments"] == ["a", "b"]
    assert found["streaming"] is False
    assert options_of(options={"save_main_session": True})["save_main_session"] is True


def test_options_of_the_command_line_win() -> None:
    assert options_of("--direct_num_workers=7", workers=3)["direct_num_workers"] == 7


@pytest.mark.parametrize("spec", [{"workers": 2}, {"mode": "in_memory"}])
def test_what_only_the_direct_runner_has_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="FlinkRunner takes its own options"):
        pipeline_options(RunnerSpec(name="FlinkRunner", **spec))


def fail(kind: str) -> None:
    if kind == "ours":
        raise ColumnTypeError("x is text (string):\nexpected: numbers.", column="x")
    if kind == "chained":
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise BadRows("bad", rows=[1]) from error
    if kind == "wrapped":
        try:
            raise JobError("the disk is full")
        except JobError as error:
            raise RuntimeError("bundle failed") from error
    if kind == "silent":
        raise JobError("")
    raise ZeroDivisionError("division by zero")


def outcome(kind: str, mode: str) -> FeaturemillError:
    def build(pipeline: beam.Pipeline) -> Any:
        return pipeline | beam.Create([kind]) | "Deep" >> beam.Map(fail)

    with pytest.raises(FeaturemillError) as caught:
        run_pipeline(pipeline_options(RunnerSpec(mode=mode, workers=2)), build)
    return caught.value


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("kind", "cls", "message"),
    [
        ("ours", ColumnTypeError, "x is text (string):\nexpected: numbers."),
        ("chained", BadRows, "bad"),
        ("foreign", JobError, "ZeroDivisionError: division by zero"),
    ],
)
def test_the_workers_error_comes_out_and_nothing_else(mode: str, kind: str, cls: type, message: str) -> None:
    error = outcome(kind, mode)
    assert (type(error), str(error)) == (cls, message)
    assert error.__cause__ is not None


def test_an_error_of_ours_that_another_wraps_is_found() -> None:
    error = outcome("wrapped", "multi_threading")
    assert (type(error), str(error)) == (JobError, "the disk is full")


def test_facts_survive_within_one_process() -> None:
    assert outcome("ours", "in_memory").facts == {"column": "x"}


def test_an_error_while_the_graph_is_built_is_itself() -> None:
    with pytest.raises(RequestError, match=r"^not so$"):
        run_pipeline(
            pipeline_options(RunnerSpec(mode="in_memory")), lambda _: (_ for _ in ()).throw(RequestError("not so"))
        )


def test_a_pipeline_that_ends_well_gives_its_result() -> None:
    level = logging.getLogger().level
    result = run_pipeline(pipeline_options(RunnerSpec(mode="in_memory")), lambda p: p | beam.Create([1]))
    assert str(result.state) == "DONE"
    assert logging.getLogger().level == level


JAVA = """java.lang.RuntimeException: Error received from SDK harness: Traceback (most recent call last):
  File "worker.py", line 3, in process
    raise JobError("a.parquet: the file is gone.")
featuremill.artifacts.errors.JobError: a.parquet: the file is gone. [while running 'Write/ParDo-ptransform-25']

\tat org.apache.beam.runners.fnexecution.control.FnApiControlClient.handle(FnApiControlClient.java:180)
Caused by: java.lang.IllegalStateException: x
"""


@pytest.mark.parametrize(
    ("text", "cls", "message"),
    [
        (JAVA, JobError, "a.parquet: the file is gone."),
        (JAVA.replace("\n\n\tat", "\n\tat"), JobError, "a.parquet: the file is gone."),
        ("featuremill.artifacts.errors.RequestError: plain", RequestError, "plain"),
        ("featuremill.artifacts.errors.NoSuchError: plain", JobError, "plain"),
        ("Traceback (most recent call last):\nMemoryError\n", JobError, "MemoryError: no message"),
        ("the cluster is gone\nfor good", JobError, "RuntimeError: for good"),
        ("", JobError, "RuntimeError: no message"),
    ],
    ids=["flink", "flink without a gap", "plain", "unknown class", "no message", "no traceback", "nothing"],
)
def test_texts_of_runners(text: str, cls: type, message: str) -> None:
    error = _from_runner(RuntimeError(text))
    assert (type(error), str(error)) == (cls, message)


def test_no_clock_empties_the_buffers_of_worker_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beam's timer would send elements that are half written."""
    limits = []
    start = SdkHarness.__init__

    def noting(self: Any, *args: Any, data_buffer_time_limit_ms: int = 0, **kwargs: Any) -> None:
        limits.append(data_buffer_time_limit_ms)
        start(self, *args, data_buffer_time_limit_ms=data_buffer_time_limit_ms, **kwargs)

    monkeypatch.setattr(SdkHarness, "__init__", noting)
    run_pipeline(
        pipeline_options(RunnerSpec(workers=2)),
        lambda p: p | beam.Create(["a", "bb"]) | beam.Reshuffle() | beam.Map(len) | beam.GroupBy(lambda n: n),
    )
    assert len(limits) == 2
    day = 24 * 60 * 60 * 1000
    assert min(limits) > day

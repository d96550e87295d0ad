"""Transforms by an artifact that follows its alias: what is taken, what is refused, and what each row says of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest

from featuremill.artifacts import load, move, publish
from featuremill.artifacts.build import build_files
from featuremill.core.feature_recipe import FeatureRecipe, carried, numbered
from featuremill.core.jobfile import RunnerSpec
from featuremill.core.runner import pipeline_options, run_pipeline
from featuremill.core.streaming.features import ArtifactRefresh, MakeFeatures
from featuremill.core.streaming.following import Refused
from featuremill.transforms.contract import Transform
from featuremill.transforms.imputation import Impute
from featuremill.transforms.scaling import ScaleToZScore
from support.sample_artifact import SCHEMA, fit_states, sample_batch

FEATURES = ("air_time",)


def published(root: Path, alias: str | None = "live", *, shift: float = 0.0, more: tuple[Transform, ...] = ()) -> str:
    """The version of an artifact, after its alias was moved to it."""
    rows = sample_batch(shift=shift)
    transforms = [ScaleToZScore(["air_time"]), *more]
    files = build_files(transforms, rows.schema, fit_states(transforms, rows), name="flights")
    version = publish(root, "flights", files)
    if alias:
        move(root, "flights", alias, version)
    return version


def recipe(root: Path) -> FeatureRecipe:
    return FeatureRecipe(load(f"{root}/flights@live").location, SCHEMA, FEATURES, ("flight_id",))


class Made:
    """The step, as one worker runs it on one batch after another."""

    def __init__(self, root: Path, **refresh: Any) -> None:
        self.step = MakeFeatures(recipe(root), ArtifactRefresh(f"{root}/flights@live", **{"every": 1e-9, **refresh}))
        self.step.setup()

    def __call__(self) -> tuple[str, float]:
        """The version that made a batch, and what it made of an air time of 120."""
        batch = pa.record_batch({"air_time": [120.0], "flight_id": pa.array([7], pa.int64())})
        (made,) = self.step.process(numbered(batch, "f", 3))
        assert made.column(carried("air_time")).to_pylist() == [120.0]
        assert (made.column("_fragment")[0].as_py(), made.column("_row")[0].as_py()) == ("f", 3)
        return made.column("artifact_version")[0].as_py(), made.column("air_time")[0].as_py()


def test_rows_name_the_version_that_made_them(tmp_path: Path) -> None:
    first = published(tmp_path)
    made = Made(tmp_path)
    before = made()
    second = published(tmp_path, shift=50.0)
    after = made()
    assert (before[0], after[0]) == (first, second)
    assert before[1] == load(f"{tmp_path}/flights@{first}").transform({"air_time": 120.0})["air_time"]
    assert after[1] == load(f"{tmp_path}/flights@{second}").transform({"air_time": 120.0})["air_time"]


def test_without_refresh_the_first_version_stays(tmp_path: Path) -> None:
    first = published(tmp_path)
    step = MakeFeatures(recipe(tmp_path))
    step.setup()
    published(tmp_path, shift=50.0)
    batch = pa.record_batch({"air_time": [120.0], "flight_id": pa.array([7], pa.int64())})
    (made,) = step.process(numbered(batch, "f", 0))
    assert made.column("artifact_version").to_pylist() == [first]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ((Impute(["dep_time"], strategy="mean", output="filled"),), "'filled' is new"),
        ((Impute(["air_time"], strategy="mean"), ScaleToZScore(["dep_time"])), "'dep_time' is float, it was int64"),
    ],
)
def test_another_schema_is_refused_loudly_and_the_old_version_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, more: tuple[Transform, ...], why: str
) -> None:
    first = published(tmp_path)
    made = Made(tmp_path)
    second = published(tmp_path, more=more)
    with caplog.at_level(logging.WARNING, "featuremill.streaming"):
        assert [made()[0] for _ in range(3)] == [first] * 3
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert f"'{second}' is refused, '{first}' stays in use" in record.getMessage()
    assert why in record.getMessage()


def test_a_version_that_reads_another_column_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = sample_batch()
    source = pa.schema([*SCHEMA, ("delay", pa.float64())])
    rows = rows.append_column("delay", pa.array([1.0] * rows.num_rows))
    columns = (ScaleToZScore(["air_time"], output="z"), ScaleToZScore(["delay"], output="z"))
    for transform in columns:
        files = build_files([transform], source, fit_states([transform], rows), name="flights")
        move(tmp_path, "flights", "live", publish(tmp_path, "flights", files))
        if transform is columns[0]:
            first = load(f"{tmp_path}/flights@live")
            step = MakeFeatures(
                FeatureRecipe(first.location, source, ("z",)), ArtifactRefresh(f"{tmp_path}/flights@live", 1e-9)
            )
            step.setup()
    (made,) = step.process(numbered(pa.record_batch({"air_time": [120.0]}), "f", 0))
    assert made.column("artifact_version").to_pylist() == [first.version]
    assert "needs the column 'delay', which is not read" in caplog.text


def test_a_version_waits_for_its_models(tmp_path: Path) -> None:
    first = published(tmp_path)
    trained: list[str] = []

    def fits(version: str) -> None:
        if version not in trained:
            raise Refused("no model was trained with it yet", again=True)

    made = Made(tmp_path, fits=fits)
    second = published(tmp_path, shift=50.0)
    assert made()[0] == first
    trained.append(second)
    assert made()[0] == second


def test_a_store_that_is_away_changes_nothing(tmp_path: Path) -> None:
    first = published(tmp_path / "store")
    made = Made(tmp_path / "store")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    assert made()[0] == first
    (tmp_path / "elsewhere").rename(tmp_path / "store")
    assert made()[0] == first


class Kept(beam.DoFn):  # type: ignore[misc]
    found: list[Any] = []  # noqa: RUF012  # emptied by the test

    def process(self, element: Any) -> None:
        self.found.append(element)


@pytest.fixture
def kept() -> Iterator[list[Any]]:
    Kept.found.clear()
    yield Kept.found
    Kept.found.clear()


def test_in_a_pipeline_the_counter_says_what_happened(tmp_path: Path, kept: list[Any]) -> None:
    published(tmp_path)
    step = MakeFeatures(recipe(tmp_path), ArtifactRefresh(f"{tmp_path}/flights@live", every=3600))
    second = published(tmp_path, shift=50.0)
    batches = [numbered(pa.record_batch({"air_time": [120.0], "flight_id": [i]}), "f", i) for i in range(3)]
    result = run_pipeline(
        pipeline_options(RunnerSpec(mode="in_memory")),
        lambda p: p | beam.Create(batches, reshuffle=False) | beam.ParDo(step) | "Keep" >> beam.ParDo(Kept()),
    )
    assert [b.column("artifact_version")[0].as_py() for b in kept] == [second] * 3
    counters = {c.key.metric.name: c.committed for c in result.metrics().query()["counters"]}
    assert counters["artifact_refreshed"] == 1

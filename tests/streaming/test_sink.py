"""Files that appear whole, and what a bundle that runs again leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest

from featuremill.artifacts.errors import JobError
from featuremill.core.feature_recipe import carried, numbered
from featuremill.core.jobfile import RunnerSpec
from featuremill.core.runner import pipeline_options, run_pipeline
from featuremill.core.streaming.sink import AppendFiles
from support.streams import read_folder

SCHEMA = pa.schema([("id", pa.int64()), ("s", pa.string()), ("y", pa.float32())])


def batch_of(fragment: str, first: int, *y: float) -> pa.RecordBatch:
    rows = pa.record_batch(
        {carried("id"): pa.array(range(len(y)), pa.int64()), "id": ["hidden"] * len(y), "y": pa.array(y, pa.float32())}
    )
    return numbered(rows, fragment, first)


def written(folder: Path, *bundles: list[pa.RecordBatch], **options: Any) -> AppendFiles:
    """The sink, after it was given bundles as Beam gives them."""
    sink = AppendFiles(str(folder), SCHEMA, counter="rows_written", **{"by_fragment": True, **options})
    sink.setup()
    for bundle in bundles:
        sink.start_bundle()
        for batch in bundle:
            sink.process(batch)
        sink.finish_bundle()
    return sink


def test_nothing_is_visible_before_the_bundle_ends(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    sink = written(folder)
    sink.start_bundle()
    sink.process(batch_of("f", 0, 1.5))
    assert list(folder.glob("[!.]*")) == []
    sink.finish_bundle()
    assert read_folder(folder) == [{"id": 0, "s": None, "y": 1.5}]
    assert len(list(folder.iterdir())) == 1


def test_a_bundle_that_runs_again_replaces_its_files(tmp_path: Path) -> None:
    bundle = [batch_of("f", 0, 1.0), batch_of("f", 1, 2.0), batch_of("g", 0, 3.0)]
    written(tmp_path, bundle, bundle)
    assert sorted(r["y"] for r in read_folder(tmp_path)) == [1.0, 2.0, 3.0]
    assert len(list(tmp_path.iterdir())) == 2


def test_messages_get_a_file_for_each_bundle(tmp_path: Path) -> None:
    bundle = [batch_of("messages-1", 0, 1.0), batch_of("messages-2", 0, 2.0)]
    written(tmp_path, bundle, bundle, by_fragment=False)
    assert len(list(tmp_path.iterdir())) == 2
    assert sorted(r["y"] for r in read_folder(tmp_path)) == [1.0, 1.0, 2.0, 2.0]


def test_a_bundle_that_fails_leaves_nothing(tmp_path: Path) -> None:
    sink = written(tmp_path)
    sink.start_bundle()
    sink.process(batch_of("f", 0, 1.0))
    sink.start_bundle()
    sink.process(batch_of("g", 0, 2.0))
    sink.finish_bundle()
    sink.start_bundle()
    sink.process(batch_of("h", 0, 3.0))
    sink.teardown()
    assert [r["y"] for r in read_folder(tmp_path)] == [2.0]
    assert len(list(tmp_path.iterdir())) == 1


def test_in_a_pipeline_that_fails_afterwards_nothing_is_visible(tmp_path: Path) -> None:
    def build(p: beam.Pipeline) -> None:
        batches = p | beam.Create([batch_of("f", 0, 1.0)], reshuffle=False)
        _ = batches | beam.ParDo(AppendFiles(str(tmp_path), SCHEMA, by_fragment=True, counter="rows_written"))
        _ = batches | beam.Map(_fail)

    with pytest.raises(JobError, match="no more"):
        run_pipeline(pipeline_options(RunnerSpec(mode="in_memory")), build)
    assert read_folder(tmp_path) == []


def _fail(_: Any) -> None:
    raise JobError("no more")


def test_no_rows_make_no_file(tmp_path: Path) -> None:
    written(tmp_path, [batch_of("f", 0)])
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_of_many_files_keeps_few_open(tmp_path: Path) -> None:
    sink = written(tmp_path)
    sink.start_bundle()
    for i in range(50):
        sink.process(batch_of(f"f{i}", 0, float(i)))
    assert len(sink._open) == 8 and read_folder(tmp_path) == []
    sink.finish_bundle()
    assert sorted(r["y"] for r in read_folder(tmp_path)) == [float(i) for i in range(50)]

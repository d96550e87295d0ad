"""Fragments in memory and through an artifact, and what a process keeps of loaded artifacts."""

from __future__ import annotations

import pickle
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from featuremill.artifacts.build import build_files
from featuremill.artifacts.errors import ArtifactError
from featuremill.transforms import artifact_cache
from featuremill.transforms.artifact_cache import KEPT, bound_pipeline, once_per_process
from featuremill.transforms.fragments import Fragment, MemoryFragment, TrainingFragment, TransformedFragment
from featuremill.transforms.numeric import Clip, LogTransform

BATCH = pa.record_batch({"x": [4.0, -1.0, None, 1.0], "t": ["a", "b", "a", None], "id": [1, 2, 3, 4]})


def artifact(folder: Path, limit: float = 2.0) -> str:
    files = build_files([LogTransform(["x"], base=2, output="log"), Clip(["x"], max_value=limit)], BATCH.schema, {})
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return str(folder)


def test_a_memory_fragment_gives_the_columns_asked_for() -> None:
    fragment = MemoryFragment(BATCH)
    assert isinstance(fragment, Fragment)
    assert not isinstance(fragment, TrainingFragment)
    assert [b.schema.names for b in fragment.batches(["id", "x"])] == [["id", "x"]]
    assert list(fragment.batches()) == [BATCH]
    assert fragment.schema == BATCH.schema


def test_the_rows_of_a_fragment_go_on_or_are_set_aside(tmp_path: Path) -> None:
    fragment = TransformedFragment(MemoryFragment(BATCH, key="07"), artifact(tmp_path))
    assert fragment.key == "07"
    assert fragment.schema.names == ["x", "t", "id", "log"]
    (item,) = fragment.transformed()
    assert item.result.to_pydict() == {
        "x": [2.0, None, 1.0],
        "t": ["a", "a", None],
        "id": [1, 3, 4],
        "log": [2.0, None, 0.0],
    }
    assert item.source.to_pydict() == BATCH.take([0, 2, 3]).to_pydict()
    assert item.rejected.to_pydict() == BATCH.slice(1, 1).to_pydict()
    assert [(r.row, r.transform, r.column) for r in item.rejects] == [(1, "LogTransform", "x")]


def test_reading_a_transformed_fragment_leaves_out_what_was_set_aside(tmp_path: Path) -> None:
    fragment = TransformedFragment(MemoryFragment(BATCH), artifact(tmp_path))
    assert [b.to_pydict() for b in fragment.batches(["id", "log"])] == [{"id": [1, 3, 4], "log": [2.0, None, 0.0]}]


def test_a_transformed_fragment_is_a_recipe(tmp_path: Path) -> None:
    fragment = pickle.loads(pickle.dumps(TransformedFragment(MemoryFragment(BATCH), artifact(tmp_path))))
    assert sum(b.num_rows for b in fragment.batches()) == 3
    with pytest.raises(ArtifactError):
        next(TransformedFragment(MemoryFragment(BATCH), str(tmp_path / "nowhere")).batches())


# --- what a process keeps --------------------------------------------------------------------------------------------


def test_an_artifact_is_loaded_once(tmp_path: Path) -> None:
    folder = artifact(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(bound_pipeline, [folder] * 40))
    assert all(bound is found[0] for bound in found)


def test_a_folder_that_was_written_again_is_loaded_again(tmp_path: Path) -> None:
    bound = bound_pipeline(artifact(tmp_path, 2.0))
    shutil.rmtree(tmp_path)
    again = bound_pipeline(artifact(tmp_path, 3.0))
    assert again.apply(BATCH.slice(0, 1)).column("x").to_pylist() == [3.0]
    assert bound.apply(BATCH.slice(0, 1)).column("x").to_pylist() == [2.0]


def test_a_process_keeps_few(tmp_path: Path) -> None:
    for i in range(KEPT + 3):
        once_per_process(("test", i), object)
    assert len(artifact_cache._entries) == KEPT


def test_a_build_that_failed_is_tried_again() -> None:
    def fail() -> object:
        raise ArtifactError("not yet")

    with pytest.raises(ArtifactError):
        once_per_process("failing", fail)
    assert once_per_process("failing", lambda: "now") == "now"


def test_others_wait_for_the_one_that_builds_and_no_longer_than_that() -> None:
    began, go, built = threading.Event(), threading.Event(), []

    def slow() -> str:
        began.set()
        go.wait(10)
        built.append(1)
        return "slow"

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(once_per_process, "slow", slow)
        began.wait(10)
        second = pool.submit(once_per_process, "slow", slow)
        assert once_per_process("quick", lambda: "quick") == "quick"  # another key is not held up
        time.sleep(0.01)
        assert not second.done()
        go.set()
        assert (first.result(10), second.result(10), len(built)) == ("slow", "slow", 1)

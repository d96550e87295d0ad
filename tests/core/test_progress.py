"""Progress: what workers note is what the launcher's listener hears, each fragment once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featuremill.core.progress import Progress, ProgressReader, note


def test_rates_and_time_left() -> None:
    progress = Progress("write", done=3, total=4, rows=600, seconds=6.0)
    assert (progress.rows_per_second, progress.seconds_left) == (100.0, 2.0)
    first = Progress("write", done=0, total=4, rows=0, seconds=0.0)
    assert (first.rows_per_second, first.seconds_left) == (0.0, None)


def follow(path: Path, stages: dict[str, int]) -> tuple[list[Progress], ProgressReader]:
    heard: list[Progress] = []
    return heard, ProgressReader(path, stages, heard.append)


def test_the_listener_hears_of_the_first_stage_at_once(tmp_path: Path) -> None:
    heard, reader = follow(tmp_path / "progress", {"scan 1": 3, "write": 3})
    with reader:
        assert heard == [Progress("scan 1", 0, 3, 0, 0.0)]
    assert len(heard) == 1


def test_notes_of_many_workers_add_up(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    heard, reader = follow(path, {"scan 1": 200, "write": 200})
    with reader, ThreadPoolExecutor(8) as pool:
        for stage in ("scan 1", "write"):
            list(pool.map(lambda i, stage=stage: note(str(path), stage, f"fragment-{i}", 10), range(200)))
    last = {progress.stage: progress for progress in heard}
    assert (last["write"].done, last["write"].total, last["write"].rows) == (200, 200, 2000)
    assert all(progress.done <= progress.total and progress.rows == 10 * progress.done for progress in heard)


def test_a_fragment_that_is_tried_again_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    heard, reader = follow(path, {"write": 2})
    with reader:
        for rows in (10, 10):
            note(str(path), "write", "a", rows)
        note(str(path), "write", "b", 5)
    assert (heard[-1].done, heard[-1].rows) == (2, 15)


def test_a_line_that_is_still_being_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    heard, reader = follow(path, {"write": 2})
    path.write_bytes(b"write\ta\t10\nwrite\tb")
    reader._look()
    assert (heard[-1].done, heard[-1].rows) == (1, 10)
    with path.open("ab") as file:
        file.write(b"\t5\n")
    reader._look()
    assert (heard[-1].done, heard[-1].rows) == (2, 15)


def test_every_stage_that_moved_between_two_looks_is_told(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    heard, reader = follow(path, {"scan 1": 1, "write": 1})
    note(str(path), "scan 1", "a", 10)
    note(str(path), "write", "a", 10)
    reader._look()
    assert [(progress.stage, progress.done) for progress in heard] == [("scan 1", 1), ("write", 1)]


def test_stages_that_nobody_announced_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    heard, reader = follow(path, {"write": 1})
    note(str(path), "cleanup", "a", 10)
    with reader:
        pass
    assert [progress.stage for progress in heard] == ["write"]


@pytest.mark.parametrize("stages", [{}, {"write": 1}])
def test_leaving_ends_the_thread(tmp_path: Path, stages: dict[str, int]) -> None:
    _, reader = follow(tmp_path / "progress", stages)
    before = threading.active_count()
    with reader:
        assert threading.active_count() == before + 1
    assert threading.active_count() == before

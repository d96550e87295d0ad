"""Files that appear in a folder: each read once, none before it is whole, and the bad ones cost themselves."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.core.jobfile import RunnerSpec
from featuremill.core.runner import pipeline_options, run_pipeline
from featuremill.core.streaming.watching import NewFile, ReadFiles, WatchFiles
from support.streams import appear

SCHEMA = pa.schema([("id", pa.int64()), ("s", pa.string())])


class Kept(beam.DoFn):  # type: ignore[misc]
    """What came, and when; the runner's workers are threads of this process."""

    found: list[tuple[float, Any]] = []  # noqa: RUF012  # emptied by each test

    def process(self, element: Any) -> None:
        self.found.append((time.monotonic(), element))


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    Kept.found.clear()
    yield
    Kept.found.clear()


def table(*ids: int) -> pa.Table:
    return pa.table({"id": ids, "s": [f"s{i}" for i in ids], "more": [0.5] * len(ids)})


def watch(path: Path, **options: Any) -> list[NewFile]:
    run_pipeline(
        pipeline_options(RunnerSpec(mode="in_memory")),
        lambda p: p | WatchFiles(str(path), every=0.1, **options) | beam.ParDo(Kept()),
    )
    return [file for _, file in Kept.found]


def later(*steps: tuple[float, Callable[[], object]]) -> threading.Thread:
    """Do things after so many seconds each, in another thread."""

    def work() -> None:
        for seconds, step in steps:
            time.sleep(seconds)
            step()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def read(*files: NewFile, schema: pa.Schema = SCHEMA, **options: Any) -> tuple[list[dict[str, Any]], list[Any]]:
    """The rows, and the dead letters."""

    def build(p: beam.Pipeline) -> None:
        found = p | beam.Create(list(files), reshuffle=False) | ReadFiles(schema, **options)
        _ = found.batches | beam.ParDo(Kept())
        _ = found.rejected | "aside" >> beam.ParDo(Kept())

    run_pipeline(pipeline_options(RunnerSpec(mode="in_memory")), build)
    batches = [batch for _, batch in Kept.found]
    rows = [r for b in batches if "_reason" not in b.schema.names for r in b.to_pylist()]
    return rows, [r for b in batches if "_reason" in b.schema.names for r in b.to_pylist()]


def test_files_come_once_and_soon(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    first, second = folder / "a.parquet", folder / "below" / "b.parquet"
    appeared = []
    helper = later(
        (0.3, lambda: appear(first, table(1))),
        (0.5, lambda: appeared.append(time.monotonic()) or appear(second, table(2))),
        (0.1, lambda: appear(first, table(3))),
    )
    assert watch(folder, stop_after=1.5) == [(str(first), ""), (str(second), "")]
    helper.join()
    assert Kept.found[1][0] - appeared[0] < 1.0


def test_a_watch_ends_when_nothing_comes_any_more(tmp_path: Path) -> None:
    appear(tmp_path / "a.parquet", table(1))
    helper = later((0.3, lambda: appear(tmp_path / "b.parquet", table(2))))
    began = time.monotonic()
    assert len(watch(tmp_path, settle=0.1, idle=0.6)) == 2
    assert 0.8 < time.monotonic() - began < 5
    helper.join()


def test_a_backlog_comes_in_portions_without_a_pause(tmp_path: Path) -> None:
    for i in range(25):
        appear(tmp_path / f"{i:02d}.parquet", table(i))
    found = watch(tmp_path, stop_after=1.5, at_once=10)
    assert [Path(path).stem for path, _ in found] == [f"{i:02d}" for i in range(25)]
    assert Kept.found[-1][0] - Kept.found[0][0] < 1.0


def test_hidden_names_and_other_patterns_are_left_alone(tmp_path: Path) -> None:
    for name in ("_tmp.parquet", ".b.parquet", "c.txt", "d.parquet"):
        appear(tmp_path / name, table(1))
    assert watch(tmp_path / "*.parquet", stop_after=0.2) == [(str(tmp_path / "d.parquet"), "")]


def test_a_file_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    whole = appear(tmp_path / "elsewhere" / "a.parquet", table(1)).read_bytes()
    growing = tmp_path / "in" / "a.parquet"
    growing.parent.mkdir()
    growing.write_bytes(whole[:-20])
    helper = later((0.4, lambda: growing.write_bytes(whole)))
    assert watch(growing.parent, settle=30, stop_after=1.2) == [(str(growing), "")]
    helper.join()


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more"])
def test_a_file_that_stays_unreadable_is_told(tmp_path: Path, content: bytes) -> None:
    torn = tmp_path / "a.parquet"
    torn.write_bytes(content)
    os.utime(torn, (time.time() - 5, time.time() - 5))
    ((path, reason),) = watch(tmp_path, settle=4, stop_after=0.2)
    assert path == str(torn)
    assert reason == f"{torn}: not a complete Parquet file, and unchanged for 4 s."


def test_rows_know_their_file_and_place(tmp_path: Path) -> None:
    path = str(appear(tmp_path / "a.parquet", table(*range(5))))
    rows, letters = read((path, ""), batch_rows=2, where="id != 1")
    assert [(r["id"], r["s"], r["_fragment"], r["_row"]) for r in rows] == [
        (0, "s0", path, 0), (2, "s2", path, 1), (3, "s3", path, 2), (4, "s4", path, 3),
    ]
    assert letters == []


def test_numbers_become_the_declared_ones_where_nothing_is_lost(tmp_path: Path) -> None:
    path = str(appear(tmp_path / "a.parquet", pa.table({"id": pa.array([1, 2], pa.int8())})))
    rows, _ = read((path, ""), schema=pa.schema([("id", pa.int64())]))
    assert [r["id"] for r in rows] == [1, 2]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (pa.table({"id": [1]}), "columns: there is no column 's'. Known: 'id'."),
        (pa.table({"id": ["x"], "s": ["y"]}), "The column 'id' is string, expected int64."),
    ],
)
def test_a_file_of_other_columns_costs_itself(tmp_path: Path, bad: pa.Table, reason: str) -> None:
    path = str(appear(tmp_path / "a.parquet", bad))
    good = str(appear(tmp_path / "b.parquet", table(7)))
    rows, (letter,) = read((path, ""), (good, ""))
    assert [r["id"] for r in rows] == [7]
    assert letter["_fragment"] == path and letter["_row"] is None
    assert reason in letter["_reason"]


def test_a_file_that_has_gone_or_is_damaged_within_costs_itself(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.parquet")
    damaged = tmp_path / "damaged.parquet"
    pq.write_table(table(*range(1000)), damaged, row_group_size=500, write_page_checksum=True, compression="none")
    content = bytearray(damaged.read_bytes())
    chunk = pq.ParquetFile(damaged).metadata.row_group(1).column(0)
    content[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 0xFF
    damaged.write_bytes(content)
    rows, letters = read((gone, ""), (str(damaged), ""), batch_rows=500)
    assert [r["id"] for r in rows] == list(range(500))
    first, second = letters
    assert (first["_fragment"], first["_row"]) == (gone, None)
    assert (second["_fragment"], second["_row"]) == (str(damaged), 500)

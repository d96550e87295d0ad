"""Datasets: staging, attempts, and the one move that makes a run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts.build import build_files
from featuremill.artifacts.errors import JobError, RequestError
from featuremill.core.dataset import (
    REJECTED,
    FragmentResult,
    Shard,
    Staging,
    WriteShards,
    commit,
    leave_dead_letters,
    publish_run,
)
from featuremill.core.job_fragment import JobFragment, Split
from featuremill.core.parquet_fragment import ParquetFragment
from featuremill.core.parquet_source import ParquetSource
from featuremill.core.shards import ParquetShards
from featuremill.transforms.fragments import TransformedFragment
from featuremill.transforms.numeric import LogTransform

TABLE = pa.table({"id": list(range(60)), "x": [-1.0 if i % 20 == 13 else float(i + 1) for i in range(60)]})
BAD = [13, 33, 53]
SPLIT = Split(("id",), {"train": 0.7, "eval": 0.3}, "train")


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    opened = Staging(str(tmp_path / "data"), "run1")
    opened.open()
    return opened


@pytest.fixture
def fragments(tmp_path: Path) -> list[TransformedFragment]:
    """Three fragments of twenty rows, through an artifact that cannot take one row of each."""
    (tmp_path / "source").mkdir()
    pq.write_table(TABLE, tmp_path / "source" / "a.parquet", row_group_size=20)
    found = ParquetSource(str(tmp_path / "source"), fragment_rows=20, batch_rows=7)
    for path, data in build_files([LogTransform(["x"])], found.schema, {}).items():
        (tmp_path / "artifact" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "artifact" / path).write_bytes(data)
    parts: list[ParquetFragment] = found.fragments()
    return [TransformedFragment(JobFragment(p, found.schema, SPLIT), str(tmp_path / "artifact")) for p in parts]


def write(
    staging: Staging, fragments: Sequence[TransformedFragment], split: Split | None = SPLIT
) -> list[FragmentResult]:
    schema = pa.schema({"id": pa.int64(), "x": pa.float32()})
    with beam.Pipeline("FnApiRunner") as pipeline:
        sink = ParquetShards(staging.shards, "snappy")
        _ = pipeline | beam.Create(list(fragments)) | WriteShards(staging, schema, split, sink)
    return staging.load_results()


# --- staging ---------------------------------------------------------------------------------------------------------


def test_staging_is_hidden_and_beside_the_run(staging: Staging, tmp_path: Path) -> None:
    assert Path(staging.path) == tmp_path / "data" / ".run1.staging"
    assert Path(staging.shards).is_dir()
    assert not Path(staging.final).exists()
    staging.close()
    assert os.listdir(tmp_path / "data") == []
    staging.close()


def test_leftovers_of_a_killed_run_are_removed(staging: Staging) -> None:
    (Path(staging.shards) / "old.parquet").write_text("half")
    staging.open()
    assert list(Path(staging.shards).iterdir()) == []


def test_a_failed_run_makes_room_and_a_finished_one_does_not(staging: Staging) -> None:
    leave_dead_letters(staging, '{"status": "failed"}', keep=False)
    assert os.listdir(Path(staging.final)) == ["run.json"]
    staging.open()
    assert not Path(staging.final).exists()
    commit(staging, [], TABLE.schema, {})
    publish_run(staging, "{}")
    with pytest.raises(RequestError, match="already holds a run"):
        staging.open()
    assert sorted(os.listdir(Path(staging.final))) == ["manifest.json", "run.json"]


def test_a_folder_that_is_no_run_is_left_alone(staging: Staging) -> None:
    Path(staging.final).mkdir()
    with pytest.raises(RequestError, match="already holds a run"):
        staging.open()


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "", "x y", "_x", "x\n"])
def test_a_run_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="run id"):
        Staging(str(tmp_path), name).open()
    assert list(tmp_path.iterdir()) == []


def test_a_relative_dataset_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    staging = Staging("data", "run1")
    staging.open()
    monkeypatch.chdir("/")
    assert (tmp_path / "data" / ".run1.staging" / "shards").is_dir()
    assert Path(staging.shards) == tmp_path / "data" / ".run1.staging" / "shards"


# --- shards ----------------------------------------------------------------------------------------------------------


def test_every_row_is_in_one_shard_and_accounted_for(staging: Staging, fragments: list[TransformedFragment]) -> None:
    results = write(staging, fragments)
    assert [(r.fragment, r.read, r.promised, r.written, r.aside) for r in results] == [
        (f"0000{i}", 20, 20, 19, 1) for i in range(3)
    ]
    identities = []
    for shard in (s for r in results for s in r.shards):
        data = Path(shard.path).read_bytes()
        assert (shard.bytes, shard.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        table = pq.read_table(shard.path, partitioning=None)
        assert table.num_rows == shard.rows > 0
        identities += table.column("id").to_pylist()
    assert sorted(identities) == list(range(60))


def test_dead_letters_are_the_rows_as_they_were_read(staging: Staging, fragments: list[TransformedFragment]) -> None:
    shards = [s for r in write(staging, fragments) for s in r.shards if s.split == REJECTED]
    letters = pa.concat_tables([pq.read_table(s.path, partitioning=None) for s in shards])
    assert letters.select(["id", "x"]).to_pydict() == {"id": BAD, "x": [-1.0] * 3}
    assert letters.column("_row").to_pylist() == [13, 13, 13]
    assert letters.column("_fragment").to_pylist() == ["00000", "00001", "00002"]


def test_without_a_split_there_is_one(staging: Staging, fragments: list[TransformedFragment]) -> None:
    assert {s.split for r in write(staging, fragments, None) for s in r.shards} == {"all", REJECTED}


def test_an_attempt_that_fails_leaves_no_file(
    staging: Staging, fragments: list[TransformedFragment], tmp_path: Path
) -> None:
    path = tmp_path / "source" / "a.parquet"
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(1).dictionary_page_offset
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(data)
    with pytest.raises(Exception, match="damaged"):
        write(staging, fragments[1:2])
    assert [p for p in Path(staging.shards).rglob("*") if p.is_file()] == []
    assert not Path(staging.results).exists()


# --- commit ----------------------------------------------------------------------------------------------------------


def test_a_run_appears_whole(staging: Staging, fragments: list[TransformedFragment]) -> None:
    results = write(staging, fragments)
    schema = pa.schema({"id": pa.int64(), "x": pa.float32()})
    manifest = commit(staging, list(reversed(results)), schema, {"run": "run1", "artifact": {"version": "v"}})
    assert not Path(staging.final).exists()
    publish_run(staging, '{"status": "done"}')
    assert not Path(staging.path).exists()
    assert json.loads((Path(staging.final) / "manifest.json").read_text()) == manifest
    assert (Path(staging.final) / "run.json").read_text() == '{"status": "done"}'
    assert [f["path"] for f in manifest["files"] if f["split"] == "train"] == [
        f"train/part-0000{i}-of-00003.parquet" for i in range(3)
    ]
    for entry in manifest["files"]:
        assert hashlib.sha256((Path(staging.final) / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]
    rows = [
        i
        for p in sorted((Path(staging.final) / "train").iterdir())
        for i in pq.read_table(p, partitioning=None)["id"].to_pylist()
    ]
    assert rows == sorted(rows)


def test_files_of_attempts_that_did_not_count_are_left_behind(
    staging: Staging, fragments: list[TransformedFragment]
) -> None:
    stray = Path(staging.shards) / "train" / "00000.someattempt.parquet"
    stray.parent.mkdir()
    pq.write_table(TABLE, stray)
    commit(staging, write(staging, fragments), TABLE.schema, {})
    publish_run(staging, "{}")
    total = sum(pq.read_metadata(p).num_rows for p in Path(staging.final).rglob("*.parquet"))
    assert total == 60


def test_a_shard_that_has_gone_stops_the_commit(staging: Staging) -> None:
    gone = Shard("train", str(Path(staging.shards) / "x.parquet"), 1, 1, "")
    with pytest.raises(JobError, match="has gone"):
        commit(staging, [FragmentResult("0", 1, 1, (gone,))], TABLE.schema, {})
    assert not Path(staging.final).exists()


def test_of_two_runs_of_one_name_the_first_stays(staging: Staging) -> None:
    commit(staging, [], TABLE.schema, {})
    Path(staging.final).mkdir()
    (Path(staging.final) / "manifest.json").write_text("theirs")
    with pytest.raises(JobError, match="Another run may have taken the place"):
        publish_run(staging, "{}")
    assert (Path(staging.final) / "manifest.json").read_text() == "theirs"

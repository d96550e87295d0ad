"""How a run becomes a dataset, on every store: complete or not at all, whoever is killed and whoever else is at it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts.errors import JobError, RequestError
from featuremill.artifacts.store import ObjectStore, is_bucket, open_store
from featuremill.core.dataset import (
    REJECTED,
    FragmentResult,
    Shard,
    Staging,
    commit,
    leave_dead_letters,
    publish_run,
    save_results,
)
from featuremill.core.parquet_sink import ShardFile
from support.buckets import Cloud

SPLITS = ("train", "eval", REJECTED)


def write(staging: Staging, value: int, fragments: int = 3) -> list[FragmentResult]:
    """Shards as workers write them: one row of a value for each split of a fragment."""
    results = []
    for fragment in range(fragments):
        shards = []
        for split in SPLITS:
            table = pa.table({"value": [value], "fragment": [fragment]})
            file = ShardFile(staging.shards / split / f"{fragment}.{value}.parquet", table.schema, "snappy")
            file.write(table.to_batches()[0])
            file.close()
            shards.append(Shard.of(split, file))
        results.append(FragmentResult(f"{fragment:05d}", 3, 3, tuple(shards)))
    save_results(results, staging.results)
    return results


def finish(staging: Staging, results: Sequence[FragmentResult], value: int) -> None:
    commit(staging, results, pa.schema({"value": pa.int64(), "fragment": pa.int64()}), {"run": staging.run})
    publish_run(staging, json.dumps({"status": "done", "value": value}))


def make(dataset: str, value: int) -> None:
    """A whole run."""
    staging = Staging(dataset, "night")
    staging.open()
    finish(staging, write(staging, value), value)


def rows(dataset: str) -> dict[str, list[int]] | None:
    """The values of a dataset by split, by its manifest, every file of it checked; None: there is none."""
    store = open_store(f"{dataset}/night")
    if not store.exists("manifest.json"):
        return None
    found: dict[str, list[int]] = {}
    for file in json.loads(store.get("manifest.json"))["files"]:
        found.setdefault(file["split"], []).extend(
            pq.read_table(io.BytesIO(store.get(file["path"]))).column("value").to_pylist()
        )
    return found


def check_is(dataset: str, value: int) -> None:
    """The run is there with one value only, and nothing else is."""
    assert rows(dataset) == {split: [value] * 3 for split in sorted(SPLITS)}
    store = open_store(dataset)
    assert json.loads(store.get("night/run.json"))["value"] == value
    names = {f["path"] for f in json.loads(store.get("night/manifest.json"))["files"]}
    assert {p for p in store.list() if not p.startswith(".")} == {
        f"night/{name}" for name in {*names, "manifest.json", "run.json"}
    }


def test_a_run_is_there_when_its_manifest_is(root: str) -> None:
    staging = Staging(root, "night")
    staging.open()
    assert staging.is_open()
    staging.write_text("reports/index.html", "<p>grün</p>")
    results = write(staging, 7)
    assert staging.load_results() == results
    commit(staging, results, pa.schema({"value": pa.int64(), "fragment": pa.int64()}), {})
    assert rows(root) is None
    publish_run(staging, '{"value": 7}')
    assert not staging.is_open()
    store = open_store(root)
    assert store.get("night/reports/index.html").decode() == "<p>grün</p>"
    store.delete("night/reports/index.html")
    check_is(root, 7)
    assert not [p for p in store.list() if p.startswith(".")]


def test_progress_is_noted_where_workers_see_the_same_disk(root: str) -> None:
    shared = Staging(root, "night")
    shared.open()
    place = shared.progress
    assert place is not None and not is_bucket(place)
    Path(place).write_text("write\t00000\t3\n")
    shared.close()
    assert not Path(place).exists() and not Path(place).parent.exists()
    apart = Staging(root, "night", shared_disk=False)
    apart.open()
    assert (apart.progress is None) == is_bucket(root)
    apart.close()
    assert open_store(root).list() == []


def test_the_same_rows_again_are_the_same_files(root: str) -> None:
    make(f"{root}/a", 1)
    make(f"{root}/b", 1)
    store = open_store(root)
    assert [p[1:] for p in store.list("a")] == [p[1:] for p in store.list("b")]
    assert store.get("a/night/manifest.json") == store.get("b/night/manifest.json")


def test_a_failed_run_leaves_what_it_set_aside_and_makes_room(root: str) -> None:
    staging = Staging(root, "night")
    staging.open()
    staging.write_text("report.txt", "why")
    write(staging, 1)
    leave_dead_letters(staging, '{"status": "failed"}', keep=True)
    store = open_store(root)
    assert rows(root) is None
    assert [p for p in store.list("night") if REJECTED not in p] == ["night/report.txt", "night/run.json"]
    letters = [pq.read_table(io.BytesIO(store.get(p))) for p in store.list(f"night/{REJECTED}")]
    assert [t.column("value").to_pylist() for t in letters] == [[1]] * 3
    make(root, 2)
    check_is(root, 2)


def test_what_is_there_stays(root: str) -> None:
    make(root, 1)
    with pytest.raises(RequestError, match="already holds a run"):
        Staging(root, "night").open()
    check_is(root, 1)
    open_store(root).put("other/somebody's", b"")
    with pytest.raises(RequestError, match="already holds a run"):
        Staging(root, "other").open()
    assert open_store(root).list("other") == ["other/somebody's"]


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
from featuremill.artifacts import store
from featuremill.core import dataset
import importlib.util
spec = importlib.util.spec_from_file_location("commits", sys.argv[2])
commits = importlib.util.module_from_spec(spec)
spec.loader.exec_module(commits)
moment, left = os.environ["MOMENT"].split()
left = int(left)
def dying(real):
    def call(self, *arguments, **options):
        global left
        told = str(arguments[0]) if arguments else ""
        if {"copy": real.__name__ == "copy", "record": told.endswith("run.json"),
            "manifest": told.endswith("manifest.json"), "cleaning": real.__name__ == "remove"}[moment]:
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return real(self, *arguments, **options)
    return call
kind = store.ObjectStore
staging = dataset.Staging(sys.argv[1], "night")
staging.open()
results = commits.write(staging, 1)
for name in ("put", "copy", "remove"):
    setattr(kind, name, dying(getattr(kind, name)))
if moment == "copy" and left:
    # Some of the copies are made, and then it ends.
    left = 0
    whole = kind.copy
    def some(self, paths):
        store.obstore.copy(self._opened, *next(iter(paths.items())))
        whole(self, paths)
    kind.copy = some
commits.finish(staging, results, 1)
"""
MOMENTS = [
    ("s3", "copy 1", False),
    ("s3", "manifest 0", False),
    ("s3", "cleaning 0", True),
    ("gcs", "copy 0", False),
    ("gcs", "record 0", False),
    ("gcs", "cleaning 1", True),
]


@pytest.mark.parametrize(("cloud", "moment", "there"), MOMENTS, indirect=["cloud"])
def test_a_killed_commit(cloud: Cloud, moment: str, there: bool) -> None:
    """Killed before an operation of some kind; `there`: the run's manifest was in place by then."""
    dataset = f"{cloud.bucket()}/data"
    child = subprocess.run(
        [sys.executable, "-c", KILLED, dataset, __file__, *sys.path],
        env={**os.environ, "MOMENT": moment, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert open_store(dataset).list(".night.staging")
    if there:
        check_is(dataset, 1)
        with pytest.raises(RequestError, match="already holds a run"):
            make(dataset, 2)
        check_is(dataset, 1)
    else:
        assert rows(dataset) is None
        make(dataset, 2)
        check_is(dataset, 2)
        assert not open_store(dataset).list(".night.staging")


def test_who_opens_later_takes_over(root: str) -> None:
    first, second = Staging(root, "night"), Staging(root, "night")
    first.open()
    early = write(first, 1)
    second.open()
    with pytest.raises(JobError, match="has gone"):
        finish(first, early, 1)
    finish(second, write(second, 2), 2)
    check_is(root, 2)


@pytest.mark.parametrize("cloud", ["s3", "gcs"], indirect=True)
def test_of_many_runs_of_one_name_one_wins(cloud: Cloud) -> None:
    dataset = f"{cloud.bucket()}/data"
    runs = [Staging(dataset, "night") for _ in range(5)]
    for staging in runs:
        staging.open()
    results = [write(staging, value) for value, staging in enumerate(runs)]
    barrier = Barrier(len(runs))
    told: list[str] = []

    def end(value: int) -> bool:
        barrier.wait()
        try:
            finish(runs[value], results[value], value)
        except JobError as error:
            told.append(str(error))
            return False
        return True

    with ThreadPoolExecutor(len(runs)) as pool:
        won = list(pool.map(end, range(len(runs))))
    assert won.count(True) == 1
    assert len(told) == 4 and all("another run took the place" in said for said in told)
    for staging in runs:
        staging.close()
    check_is(dataset, won.index(True))
    assert not open_store(dataset).list(".night.staging")


@pytest.mark.parametrize("cloud", ["s3", "gcs"], indirect=True)
def test_who_lost_leaves_no_record_over_the_winners(cloud: Cloud) -> None:
    dataset = f"{cloud.bucket()}/data"
    loser = Staging(dataset, "night")
    loser.open()
    results = write(loser, 1)
    commit(loser, results, pa.schema({"value": pa.int64()}), {})
    winner = Staging(dataset, "night")
    winner.open()
    finish(winner, write(winner, 2), 2)
    for attempt in (lambda: publish_run(loser, "{}"), lambda: leave_dead_letters(loser, "{}", keep=False)):
        with pytest.raises(JobError, match="another run took the place"):
            attempt()
        check_is(dataset, 2)


@pytest.mark.parametrize("cloud", ["s3"], indirect=True)
def test_a_put_of_the_manifest_that_is_repeated(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the server put it, said that it could not, and was asked again."""
    real = ObjectStore.put

    def twice(self: ObjectStore, path: str, data: bytes, *, create_only: bool = False) -> None:
        real(self, path, data, create_only=create_only)
        if create_only:
            real(self, path, data, create_only=create_only)

    monkeypatch.setattr(ObjectStore, "put", twice)
    dataset = f"{cloud.bucket()}/data"
    make(dataset, 1)
    check_is(dataset, 1)


def facts(dataset: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(open_store(f"{dataset}/night").get("manifest.json"))
    return found


def test_names_tell_the_content_in_a_bucket(root: str) -> None:
    make(root, 3)
    for file in facts(root)["files"]:
        assert file["path"].startswith(f"{file['split']}/part-0000")
        if "://" in root:
            assert file["path"].endswith(f"-of-00003-{file['sha256'][:16]}.parquet")
        else:
            assert file["path"].endswith("-of-00003.parquet")

"""Whole jobs whose rows, models, artifacts, datasets and predictions are in buckets: the same as on a disk."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts import load
from featuremill.artifacts.errors import JobError, RequestError
from featuremill.artifacts.schemas import schema_from_json
from featuremill.artifacts.store import open_store
from featuremill.core.loading import job_from_mapping
from featuremill.core.progress import Progress
from featuremill.core.record import RunRecord
from featuremill.jobs import prepare, score
from support.buckets import Cloud
from support.small_models import skops_file

ROWS, FILES = 240, 3


def rows() -> pa.Table:
    rng = np.random.default_rng(4)
    return pa.table(
        {
            "id": np.arange(ROWS),
            # Two rows have no logarithm.
            "x": np.where(np.arange(ROWS) % 100 == 57, -1.0, rng.uniform(1, 9, ROWS)),
            "word": pa.array([f"w{n}" for n in rng.integers(0, 30, ROWS)], mask=rng.random(ROWS) < 0.1),
        }
    )


def prepare_content(home: str) -> dict[str, Any]:
    return {
        "kind": "prepare",
        "name": "small",
        "source": {"parquet": {"path": f"{home}/rows/*/part-?.parquet", "fragment_rows": 40}},
        "transforms": [
            {"type": "LogTransform", "config": {"columns": ["x"]}},
            {"type": "ScaleToZScore", "config": {"columns": ["x"]}},
            {"type": "ComputeAndApplyVocabulary", "config": {"columns": ["word"], "num_oov_buckets": 1}},
        ],
        "split": {"by": ["id"], "train": 0.7, "eval": 0.3},
        "artifact": {"root": f"{home}/artifacts", "alias": "prod"},
        "dataset": {"path": f"{home}/data sets"},
        "max_bad_rows": 10,
    }


def score_content(home: str) -> dict[str, Any]:
    return {
        "kind": "score",
        "name": "late",
        "source": {"parquet": {"path": f"{home}/rows", "fragment_rows": 40}},
        "artifact": f"{home}/artifacts/small@prod",
        "model": {"path": f"{home}/models/late.skops", "inputs": {"X": ["x", "id"]}, "outputs": {"late": "predict"}},
        "output": {"path": f"{home}/predictions", "keys": ["id"]},
        "max_bad_rows": 10,
    }


def run_both(home: str, model: Path, progress: list[Progress]) -> tuple[RunRecord, RunRecord]:
    prepared = prepare.run(job_from_mapping(prepare_content(home)), run_id="night", progress=progress.append)
    if not model.exists():
        from sklearn.linear_model import LinearRegression

        table = table_of(home, "data sets/night", "train")
        x = np.column_stack([table.column(c).to_numpy() for c in ("x", "id")])
        skops_file(model.parent, LinearRegression().fit(x, x[:, 0]), model.name)
    open_store(f"{home}/models").upload("late.skops", model)
    return prepared, score.run(job_from_mapping(score_content(home)), run_id="night", progress=progress.append)


def manifest_of(home: str, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(open_store(f"{home}/{run}").get("manifest.json"))
    return found


def table_of(home: str, run: str, split: str) -> pa.Table:
    store = open_store(f"{home}/{run}")
    paths = [f["path"] for f in manifest_of(home, run)["files"] if f["split"] == split]
    return pa.concat_tables(pq.read_table(io.BytesIO(store.get(path))) for path in paths)


@dataclass(frozen=True)
class Done:
    """What the same two jobs made on a disk and in a bucket."""

    disk: str
    bucket: str
    records: tuple[RunRecord, RunRecord]
    progress: list[Progress]
    left: list[Path]
    """What lies in the temporary folder afterwards."""


@pytest.fixture(scope="module", params=["s3", "gcs"])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    cloud: Cloud = request.getfixturevalue(request.param)
    base = tmp_path_factory.mktemp("both")
    disk = str(base / "home")
    (base / "temporary").mkdir()
    for i in range(FILES):
        Path(disk, "rows", f"day={i + 1}").mkdir(parents=True)
        pq.write_table(rows().slice(i * 80, 80), f"{disk}/rows/day={i + 1}/part-{i}.parquet", row_group_size=40)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        patch.setattr(tempfile, "tempdir", str(base / "temporary"))
        bucket = f"{cloud.bucket()}/home"
        for path in Path(disk, "rows").rglob("*.parquet"):
            open_store(bucket).upload(path.relative_to(disk).as_posix(), path)
        run_both(disk, base / "late.skops", [])
        progress: list[Progress] = []
        records = run_both(bucket, base / "late.skops", progress)
        left = [p for p in (base / "temporary").iterdir() if "models" not in p.name]
        yield Done(disk, bucket, records, progress, left)


def test_the_dataset_is_that_of_the_disk(done: Done) -> None:
    here, there = (manifest_of(home, "data sets/night") for home in (done.disk, done.bucket))
    assert here["rows"] == there["rows"] and here["rows"]["_rejected"] == 2
    assert [(f["split"], f["rows"], f["sha256"]) for f in here["files"]] == [
        (f["split"], f["rows"], f["sha256"]) for f in there["files"]
    ]
    for split in here["rows"]:
        assert table_of(done.disk, "data sets/night", split).equals(table_of(done.bucket, "data sets/night", split))
    assert here["source"]["digest"] == there["source"]["digest"]
    assert here["schema"] == there["schema"] and "day" in schema_from_json(there["schema"], "").names


def test_the_artifact_is_that_of_the_disk(done: Done) -> None:
    here, there = (load(f"{home}/artifacts/small@prod") for home in (done.disk, done.bucket))
    assert here.version == there.version == done.records[0].artifact["version"]
    assert there.verify().rows == 8
    assert done.records[0].artifact["path"] == f"{done.bucket}/artifacts/small/versions/{there.version}"


def test_the_predictions_are_those_of_the_disk(done: Done) -> None:
    here, there = (table_of(home, "predictions/night", "predictions") for home in (done.disk, done.bucket))
    assert here.equals(there) and here.num_rows == ROWS - 2
    assert there.column("late").null_count == 0
    letters = table_of(done.bucket, "predictions/night", "_rejected")
    assert letters.column("id").to_pylist() == [57, 157]


def test_records_are_beside_the_rows(done: Done) -> None:
    for run, record in zip(("data sets/night", "predictions/night"), done.records, strict=True):
        assert record.dataset == f"{done.bucket}/{run}"
        assert record.dead_letters == f"{done.bucket}/{run}/_rejected"
        stored = json.loads(open_store(str(record.dataset)).get("run.json"))
        assert (stored["status"], stored["rows"]["aside"]) == ("done", 2)


def test_nothing_else_is_left(done: Done) -> None:
    """No staging place, no probe, no file on this machine; and the names tell what the manifest says."""
    store = open_store(done.bucket)
    assert not [p for p in store.list() if any(part.startswith(".") for part in p.split("/"))]
    for run in ("data sets/night", "predictions/night"):
        names = [f["path"] for f in manifest_of(done.bucket, run)["files"]]
        reports = [f"report/{name}" for name in ("index.html", "report.json", "report.md")]
        assert store.list(run) == sorted(f"{run}/{name}" for name in [*names, *reports, "manifest.json", "run.json"])
    assert done.left == []


def test_progress_is_told_where_workers_are_here(done: Done) -> None:
    last = {p.stage: p for p in done.progress}
    assert {"scan 1", "write", "score"} <= last.keys()
    assert all(p.done == p.total == 6 and p.rows == ROWS for p in last.values())


def test_a_run_is_not_overwritten(done: Done) -> None:
    before = open_store(done.bucket).list()
    with pytest.raises(RequestError, match="already holds a run"):
        prepare.run(job_from_mapping(prepare_content(done.bucket)), run_id="night")
    assert open_store(done.bucket).list() == before


def test_a_plan_names_the_places(done: Done) -> None:
    before = open_store(done.bucket).list()
    prepared = prepare.plan(job_from_mapping(prepare_content(done.bucket)), "next")
    scored = score.plan(job_from_mapping(score_content(done.bucket)), "next")
    assert prepared.dataset == f"{done.bucket}/data sets/next"
    assert scored.predictions == f"{done.bucket}/predictions/next"
    assert open_store(done.bucket).list() == before


def test_a_job_with_too_many_bad_rows_leaves_them_and_can_run_again(done: Done) -> None:
    content = prepare_content(done.bucket)
    with pytest.raises(JobError, match="2 rows could not be processed") as caught:
        prepare.run(job_from_mapping(content | {"max_bad_rows": 1}), run_id="strict")
    letters = f"{done.bucket}/data sets/strict/_rejected"
    assert letters in str(caught.value)
    store = open_store(f"{done.bucket}/data sets")
    assert json.loads(store.get("strict/run.json"))["dead_letters"] == letters
    found = pa.concat_tables(pq.read_table(io.BytesIO(store.get(p))) for p in store.list("strict/_rejected"))
    assert sorted(found.column("id").to_pylist()) == [57, 157]
    assert not store.exists("strict/manifest.json") and not store.list(".strict.staging")
    prepare.run(job_from_mapping(content), run_id="strict")
    assert manifest_of(done.bucket, "data sets/strict")["rows"] == manifest_of(done.disk, "data sets/night")["rows"]

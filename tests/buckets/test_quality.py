"""Checks, reports and what they are compared with, where everything is in a bucket: as on a disk."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts import load
from featuremill.artifacts.store import open_store
from featuremill.core.loading import job_from_mapping
from featuremill.core.quality.gates import QualityFailed
from featuremill.core.quality.reports.report import Report
from featuremill.core.quality.reports.report_files import read_report
from featuremill.core.record import RunRecord
from featuremill.jobs import prepare, report
from featuremill.jobs.render_report import find_report
from support.buckets import Cloud

ROWS, NULLS = 90, 3
PAGES = ["report/index.html", "report/report.json", "report/report.md"]


def expect(kind: str, severity: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{kind}", "kwargs": kwargs, "severity": severity}


NO_NULLS = expect("column_values_to_not_be_null", "critical", column="x")
SUITE = {"name": "rows", "expectations": [expect("column_values_to_be_unique", "critical", column="id"), NO_NULLS]}


def upload_inputs(home: str) -> None:
    table = pa.table(
        {
            "id": np.arange(ROWS),
            "x": pa.array(np.linspace(1, 9, ROWS), mask=np.arange(ROWS) % 30 == 7),
            "word": np.array(["a", "b", "ü"])[np.arange(ROWS) % 3],
        }
    )
    contract = {"columns": [{"name": "id", "type": "int64", "nullable": False}, {"name": "x", "type": "double"}]}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.parquet")
        pq.write_table(table, file, row_group_size=30)
        open_store(home).upload("rows/part.parquet", file)
    open_store(home).put("suites/rows.json", json.dumps(SUITE).encode())
    open_store(home).put("suites/rows.yaml", json.dumps(contract).encode())


def checked(home: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "source": {"parquet": {"path": f"{home}/rows", "fragment_rows": 30}},
        "quality": {"suite": f"{home}/suites/rows.json", "schema": f"{home}/suites/rows.yaml", "keys": ["id"], **more},
        "runner": {"mode": "in_memory"},
    }


def prepared(home: str, run: str, **quality: Any) -> RunRecord:
    content = {
        **checked(home, **quality),
        "kind": "prepare",
        "transforms": [{"type": "ScaleToZScore", "config": {"columns": ["id"], "dtype": "float64"}}],
        "artifact": {"root": f"{home}/artifacts"},
        "dataset": {"path": f"{home}/data sets"},
    }
    return prepare.run(job_from_mapping(content), run_id=run)


def comparable(found: Report, home: str) -> Report:
    """A report without the names of its places and its times."""
    text = re.sub(r'"started": ?"[^"]*"', '"started":""', found.to_json().decode()).replace(home, "")
    return replace(Report.from_json(text.encode(), ""), seconds=0.0)


@dataclass(frozen=True)
class Done:
    """What the same runs left on a disk and in a bucket."""

    disk: str
    bucket: str
    stopped: str
    """What was said when a gate stopped the run in the bucket."""
    first: RunRecord
    second: RunRecord


@pytest.fixture(scope="module", params=["s3", "gcs"])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    cloud: Cloud = request.getfixturevalue(request.param)
    disk = str(tmp_path_factory.mktemp("disk") / "home")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        bucket = f"{cloud.bucket()}/home"
        for home in (disk, bucket):
            upload_inputs(home)
            first = prepared(home, "first", on_failure="warn", data_docs=True)
            with pytest.raises(QualityFailed) as stopped:
                prepared(home, "stopped", on_failure="quarantine", max_quarantined=1, drift={"against": "previous"})
            second = prepared(home, "second", on_failure="quarantine", drift={"against": "previous"})
        yield Done(disk, bucket, str(stopped.value), first, second)


def test_the_reports_are_those_of_the_disk(done: Done) -> None:
    for run in ("first", "stopped", "second"):
        here, there = (read_report(f"{home}/data sets/{run}/report") for home in (done.disk, done.bucket))
        assert comparable(here, done.disk) == comparable(there, done.bucket), run


def test_a_report_lies_in_the_run_s_folder(done: Done) -> None:
    store = open_store(f"{done.bucket}/data sets")
    files = [path for path in store.list("first") if path.startswith("first/report/")]
    assert set(files) >= {f"first/{name}" for name in PAGES}
    assert any("/gx/data_docs/" in path for path in files) and any("/gx/uncommitted/" in path for path in files)
    assert done.first.report == f"{done.bucket}/data sets/first/report"
    assert store.get("first/report/index.html").decode().lstrip().lower().startswith("<!doctype html>")
    assert read_report(f"{done.bucket}/data sets/first/report").rows.written == ROWS
    assert done.first.checks == {"passed": 2, "failed": 1, "gating": 1}
    assert json.loads(store.get("first/run.json"))["report"] == done.first.report
    assert not [path for path in store.list() if ".staging" in path]


def test_a_gate_s_stop_leaves_report_record_and_rows(done: Done) -> None:
    store = open_store(f"{done.bucket}/data sets")
    record = json.loads(store.get("stopped/run.json"))
    assert record["status"] == "failed" and record["rows"]["quarantined"] == NULLS
    assert record["report"] == f"{done.bucket}/data sets/stopped/report"
    assert f"{record['report']}/index.html" in done.stopped and done.stopped.startswith("3 rows were quarantined")
    found = read_report(record["report"])
    assert found.status == "stopped" and done.stopped.startswith(found.summary)
    kinds = {path.split("/")[1] for path in store.list("stopped")}
    assert kinds == {"_rejected", "report", "run.json"}, "there is no dataset"


def test_the_next_run_is_compared_with_the_last_that_was_done(done: Done) -> None:
    found = read_report(str(done.second.report))
    assert found.previous is not None and found.previous.run == "stopped"
    raw = next(section for section in found.profiles if section.name == "raw")
    assert raw.reference_name == "run first" and raw.drift
    assert done.second.rows is not None and (done.second.rows.written, done.second.rows.aside) == (ROWS - NULLS, NULLS)


def test_the_artifact_has_its_profile(done: Done) -> None:
    version = done.second.artifact["version"]
    here, there = (load(f"{home}/artifacts/small@{version}") for home in (done.disk, done.bucket))
    assert here.profile_json() == there.profile_json() is not None


@pytest.mark.parametrize("cloud", ["s3"], indirect=True)
def test_a_report_job_in_a_bucket(cloud: Cloud) -> None:
    home = f"{cloud.bucket()}/home"
    upload_inputs(home)
    job = job_from_mapping({**checked(home), "kind": "report", "output": {"path": f"{home}/reports"}})
    assert report.plan(job, "day").report == f"{home}/reports/day"
    with pytest.raises(QualityFailed, match=re.escape(f"The report: {home}/reports/day/report/index.html")):
        report.run(job, run_id="day")
    assert sorted(open_store(f"{home}/reports/day").list("report"))[-3:] == PAGES
    for place in (f"{home}/reports", f"{home}/reports/day", f"{home}/reports/day/report/index.html"):
        folder, found = find_report(place)
        assert (folder, found.status) == (f"{home}/reports/day/report", "failed")

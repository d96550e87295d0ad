"""Checks and reports of rows in BigQuery: as of Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.core.loading import job_from_mapping
from featuremill.core.quality.gates import QualityFailed
from featuremill.core.quality.reports.report import Report
from featuremill.core.quality.reports.report_files import read_report
from featuremill.jobs import prepare, report, score
from featuremill.jobs.render import to_text
from featuremill.jobs.render_quality import report_plan_blocks
from support.bigquery import LocalBigQuery

ROWS = 600
WRONG = 6
POSITIVE = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "aside", "min_value": 0}}
SUITE = {"name": "rows", "expectations": [POSITIVE]}


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """The column `aside` is wrong in six rows, and read by no transform and no model."""
    ids = range(ROWS)
    return pa.table(
        {
            "id": ids,
            "x": [float(i % 50) for i in ids],
            "word": ["abc"[i % 3] for i in ids],
            "aside": [-1 if i % 100 == 7 else i for i in ids],
        }
    )


@pytest.fixture(scope="module")
def table(bigquery: LocalBigQuery, rows: pa.Table) -> str:
    return bigquery.load("quality.rows", rows)


@pytest.fixture(scope="module")
def parquet(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("rows")
    pq.write_table(rows, folder / "rows.parquet", row_group_size=200)
    return {"parquet": {"path": str(folder), "fragment_rows": 200}}


def job(out: Path, source: dict[str, Any], kind: str, **more: Any) -> Any:
    content: dict[str, Any] = {"kind": kind, "name": "rows", "source": source, "runner": {"mode": "in_memory"}}
    place = {"path": str(out / kind)}
    if kind == "prepare":
        step = {"type": "ScaleToZScore", "config": {"columns": ["x"], "dtype": "float64"}}
        content |= {"transforms": [step], "artifact": {"root": str(out / "artifacts")}, "dataset": place}
    elif kind == "score":
        outputs = {"y": {"output": "prediction", "type": "double"}}
        model = {"class": "support.scoring_models:Line", "arguments": {"slope": 2.0}, "inputs": {"x": ["x"]}}
        content |= {"model": {**model, "outputs": outputs}, "output": {**place, "keys": ["id"]}}
    else:
        content["output"] = place
    return job_from_mapping({**content, "quality": {"suite": SUITE, "keys": ["id"], **more}})


def from_table(bigquery: LocalBigQuery, **given: Any) -> dict[str, Any]:
    return {"bigquery": {"table": "local.quality.rows", "fragment_rows": 200, **bigquery.keys, **given}}


def outcome(found: Report) -> tuple[Any, ...]:
    """What does not depend on where the rows come from."""
    checks = [(c.expectation, c.success, c.unexpected) for c in found.checks]
    return found.status, found.rows, checks, [(s.name, s.profile) for s in found.profiles]


def test_a_report_on_a_table(bigquery: LocalBigQuery, table: str, parquet: dict[str, Any], tmp_path: Path) -> None:
    wanted = job(tmp_path / "bigquery", from_table(bigquery, where="x > 0"), "report", on_failure="warn")
    shown = to_text(report_plan_blocks(report.plan(wanted), "rows.yaml"))
    assert "local.quality.rows" in shown and "only rows where x > 0" in shown
    ours = report.run(wanted)
    parquet = {"parquet": {**parquet["parquet"], "where": "x > 0"}}
    files = report.run(job(tmp_path / "parquet", parquet, "report", on_failure="warn"))
    assert ours.rows == files.rows and ours.rows is not None and ours.rows.filtered == ROWS // 50
    assert outcome(read_report(str(ours.report))) == outcome(read_report(str(files.report)))
    assert read_report(str(ours.report)).source["table"] == "local.quality.rows"


def test_a_report_on_a_query(bigquery: LocalBigQuery, table: str, tmp_path: Path) -> None:
    query = "SELECT id, aside FROM quality.rows WHERE id < 100"
    source = {"bigquery": {"query": query, "temporary_dataset": "local.quality", **bigquery.keys}}
    with pytest.raises(QualityFailed) as failed:
        report.run(job(tmp_path, source, "report"), run_id="day")
    found = read_report(tmp_path / "report/day/report")
    assert str(failed.value).startswith(found.summary) and found.rows.written == 100
    assert [column.name for column in found.profiles[0].profile.columns] == ["id", "aside"]
    assert bigquery.tables("quality") == ["rows"]


def test_rows_are_quarantined_by_a_column_that_no_scan_reads(
    bigquery: LocalBigQuery, table: str, parquet: dict[str, Any], tmp_path: Path
) -> None:
    ours = prepare.run(job(tmp_path / "bigquery", from_table(bigquery), "prepare", on_failure="quarantine"))
    files = prepare.run(job(tmp_path / "parquet", parquet, "prepare", on_failure="quarantine"))
    assert ours.rows == files.rows and ours.rows is not None and ours.rows.quarantined == WRONG
    assert ours.artifact["version"] == files.artifact["version"]
    assert outcome(read_report(str(ours.report))) == outcome(read_report(str(files.report)))


def test_a_score_job_checks_a_column_that_no_model_reads(bigquery: LocalBigQuery, table: str, tmp_path: Path) -> None:
    record = score.run(job(tmp_path, from_table(bigquery), "score", on_failure="quarantine"))
    assert record.rows is not None and (record.rows.written, record.rows.quarantined) == (ROWS - WRONG, WRONG)
    assert read_report(str(record.report)).checks[0].unexpected == WRONG


# --- rows that go to a table ----------------------------------------------------------------------------------------


def to_table(bigquery: LocalBigQuery, out: Path, source: dict[str, Any], table: str, **more: Any) -> Any:
    made = job(out, source, "prepare", **more)
    place = {"path": str(out / "runs"), "bigquery": {"table": f"local.quality.{table}", **bigquery.keys}}
    return type(made).model_validate({**dict(made), "dataset": place})


def test_a_gate_s_stop_makes_no_table(bigquery: LocalBigQuery, parquet: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(QualityFailed):
        prepare.run(to_table(bigquery, tmp_path, parquet, "stopped"), run_id="night")
    assert read_report(tmp_path / "runs/night/report").status == "stopped"
    assert "stopped" not in bigquery.tables("quality")
    assert sorted(p.name for p in (tmp_path / "runs/night").iterdir()) == ["report", "run.json"]


def test_a_run_that_was_killed_has_its_report_when_it_is_completed(
    bigquery: LocalBigQuery, parquet: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> list[str]:
        raise KeyboardInterrupt

    wanted = to_table(bigquery, tmp_path, parquet, "completed", on_failure="quarantine")
    with monkeypatch.context() as patch:
        patch.setattr("featuremill.core.run_table.make_commits", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare.run(wanted, run_id="night")
    assert not (tmp_path / "runs/night").exists()
    record = prepare.run(wanted, run_id="night")
    assert record.rows is not None and (record.rows.written, record.rows.quarantined) == (ROWS - WRONG, WRONG)
    assert record.checks == {"passed": 0, "failed": 1, "gating": 0} and "completed afterwards" in record.warnings[-1]
    found = read_report(tmp_path / "runs/night/report")
    assert found.status == "passed" and found.rows.quarantined == WRONG
    assert (tmp_path / "runs/night/report/index.html").exists()
    assert bigquery.query("SELECT COUNT(*) FROM quality.completed") == [(ROWS - WRONG,)]

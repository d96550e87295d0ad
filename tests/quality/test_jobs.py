"""Checks, gates, quarantine and reports in jobs, from end to end, on small Parquet files with Beam's direct runner."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts import load
from featuremill.artifacts.aliases import read_alias
from featuremill.artifacts.errors import FeaturemillError, JobError, MissingArtifactError, RequestError
from featuremill.core.loading import JobFileError, job_from_mapping
from featuremill.core.quality.gates import QualityFailed
from featuremill.core.quality.profiles.profile import Profile
from featuremill.core.quality.reports.report import Report
from featuremill.core.quality.reports.report_files import read_report
from featuremill.jobs import prepare, report
from featuremill.jobs.cli import main

ROWS, FILES = 300, 3


def rows(count: int = ROWS, seed: int = 3) -> pa.Table:
    """An identity, a number with nulls, one with wild values, a text."""
    rng = np.random.default_rng(seed)
    price = rng.integers(1, 100, count)
    price[::50] = 5_000
    return pa.table(
        {
            "id": pa.array(np.arange(count)),
            "x": pa.array(rng.normal(10.0, 2.0, count), mask=np.arange(count) % 30 == 7),
            "price": pa.array(price),
            "carrier": pa.array(np.array(["UA", "AA", "B6"])[rng.integers(0, 3, count)]),
        }
    )


TABLE = rows()
NULLS, WILD = 10, 6
"""Rows whose x is null, and whose price is wild; none is both."""


def expect(kind: str, severity: str = "critical", **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{kind}", "kwargs": kwargs, "severity": severity}


NO_NULLS = expect("column_values_to_not_be_null", column="x")
TAME = expect("column_values_to_be_between", column="price", min_value=0, max_value=1_000)
UNIQUE = expect("column_values_to_be_unique", column="id")
NOT_UNIQUE = expect("column_values_to_be_unique", column="carrier")


def suite(*expectations: dict[str, Any]) -> dict[str, Any]:
    return {"name": "rows", "expectations": list(expectations)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    for i in range(FILES):
        part = TABLE.slice(i * ROWS // FILES, ROWS // FILES)
        pq.write_table(part, folder / f"part-{i}.parquet", row_group_size=40)
    return folder


def prepare_job(folder: Path, out: Path, **changes: Any) -> Any:
    content: dict[str, Any] = {
        "kind": "prepare",
        "name": "rows",
        "source": {"parquet": {"path": str(folder), "batch_rows": 64}},
        "transforms": [
            {"type": "ScaleToZScore", "config": {"columns": ["price"], "dtype": "float64"}},
            {"type": "ComputeAndApplyVocabulary", "config": {"columns": ["carrier"], "num_oov_buckets": 1}},
        ],
        "artifact": {"root": str(out / "artifacts"), "alias": "prod"},
        "dataset": {"path": str(out / "datasets")},
        "runner": {"mode": "in_memory"},
    }
    return job_from_mapping(content | changes)


def report_job(source: Path, out: Path, **quality: Any) -> Any:
    return job_from_mapping(
        {
            "kind": "report",
            "name": "rows",
            "source": {"parquet": {"path": str(source)}},
            "quality": quality,
            "output": {"path": str(out / "reports")},
            "runner": {"mode": "in_memory"},
        }
    )


def written(record: Any) -> pa.Table:
    return pa.concat_tables(pq.read_table(p) for p in sorted(Path(record.dataset).glob("all/*.parquet")))


def letters(record: Any) -> list[dict[str, Any]]:
    tables = [pq.read_table(p) for p in sorted(Path(record.dead_letters).glob("*.parquet"))]
    found: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
    return found


# --- gates ----------------------------------------------------------------------------------------------------------


def test_what_holds_is_published_with_its_report(source: Path, tmp_path: Path) -> None:
    wanted = prepare_job(source, tmp_path, quality={"suite": suite(UNIQUE), "keys": ["id"]})
    record = prepare.run(wanted, run_id="good")
    assert record.status == "done" and record.checks == {"passed": 1, "failed": 0, "gating": 0}
    found = read_report(str(record.report))
    assert found.status == "passed"
    assert (found.rows.source, found.rows.written, found.rows.quarantined) == (ROWS, ROWS, 0)
    assert json.loads((tmp_path / "datasets/good/run.json").read_text())["report"] == record.report
    assert "<html" in (tmp_path / "datasets/good/report/index.html").read_text()


def test_a_gate_stops_the_run_and_leaves_the_report(source: Path, tmp_path: Path) -> None:
    before = prepare.run(prepare_job(source, tmp_path), run_id="before")
    wanted = prepare_job(source, tmp_path, quality={"suite": suite(NO_NULLS, TAME, UNIQUE), "keys": ["id"]})
    with pytest.raises(QualityFailed, match=r"^2 critical checks failed: expect_column_values_to_not_be_null\(x\) in"):
        prepare.run(wanted, run_id="stopped")
    root = tmp_path / "artifacts"
    assert read_alias(root, "rows", "prod").version == before.artifact["version"]
    assert len(list(root.glob("rows/versions/*"))) == 1
    final = tmp_path / "datasets" / "stopped"
    assert sorted(p.name for p in final.iterdir()) == ["report", "run.json"]
    record = json.loads((final / "run.json").read_text())
    assert record["status"] == "failed" and record["checks"] == {"passed": 1, "failed": 2, "gating": 2}
    found = read_report(final / "report")
    assert found.status == "stopped" and "2 critical checks failed" in found.summary
    nulls, tame, unique = found.checks
    assert (nulls.unexpected, tame.unexpected, unique.unexpected) == (NULLS, WILD, 0)
    assert [row["id"] for row in tame.samples] == list(range(0, ROWS, 50))
    assert list((final / "report/gx/uncommitted/validations/rows/stopped").rglob("raw.json"))


def test_a_stopped_run_can_be_run_again_under_its_name(source: Path, tmp_path: Path) -> None:
    with pytest.raises(QualityFailed):
        prepare.run(prepare_job(source, tmp_path, quality={"suite": suite(TAME)}), run_id="night")
    assert prepare.run(prepare_job(source, tmp_path), run_id="night").status == "done"


def test_a_warning_is_told_and_the_run_goes_on(source: Path, tmp_path: Path) -> None:
    record = prepare.run(prepare_job(source, tmp_path, quality={"suite": suite(TAME), "on_failure": "warn"}))
    assert record.status == "done" and record.checks["gating"] == 1
    assert record.warnings[0].startswith("1 critical check failed")
    assert read_report(str(record.report)).status == "failed"


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_only_critical_expectations_gate(source: Path, tmp_path: Path, severity: str) -> None:
    record = prepare.run(prepare_job(source, tmp_path, quality={"suite": suite(TAME | {"severity": severity})}))
    assert record.status == "done" and record.checks == {"passed": 0, "failed": 1, "gating": 0}


def test_the_output_suite_is_about_the_transformed_rows(source: Path, tmp_path: Path) -> None:
    ids = expect("column_values_to_be_between", column="carrier", min_value=0, max_value=2)
    small = expect("column_max_to_be_between", column="price", max_value=1.0)
    wanted = prepare_job(source, tmp_path, quality={"output_suite": suite(ids, small)})
    with pytest.raises(QualityFailed, match=r"^1 critical check failed: expect_column_max_to_be_between\(price\)"):
        prepare.run(wanted, run_id="out")
    checks = read_report(tmp_path / "datasets/out/report").checks
    assert [(c.suite, c.success) for c in checks] == [("output", True), ("output", False)]


def test_the_exit_status_and_the_terminal(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.json").write_text(json.dumps(suite(TAME)))
    (tmp_path / "job.yaml").write_text(
        f"kind: report\nname: rows\nsource: {{parquet: {{path: {source}}}}}\n"
        "quality: {suite: suite.json, keys: [id]}\noutput: {path: reports}\nrunner: {mode: in_memory}\n"
    )
    assert main(["run", "job.yaml", "--run-id", "bad"]) == 1
    assert "1 critical check failed" in capsys.readouterr().err
    assert main(["run", "job.yaml", "--set", "quality.on_failure=warn", "--run-id", "warned"]) == 0
    assert "1 of 1 check failed, 1 of them critical" in capsys.readouterr().out
    assert main(["report", "show", "reports/warned"]) == 0
    shown = capsys.readouterr().out
    assert "price values must be" in shown and "6 of 300 rows fail" in shown
    assert main(["report", "show", "reports/nothing"]) == 2
    assert main(["plan", "job.yaml"]) == 0
    assert "suite.json" in capsys.readouterr().out


# --- quarantine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_rows", [7, 1000])
def test_quarantine_takes_rows_out_before_anything_is_fitted(source: Path, tmp_path: Path, batch_rows: int) -> None:
    quality = {"suite": suite(NO_NULLS, TAME, UNIQUE), "on_failure": "quarantine", "keys": ["id"]}
    where = {"parquet": {"path": str(source), "batch_rows": batch_rows}}
    record = prepare.run(prepare_job(source, tmp_path, quality=quality, source=where))
    rows = record.rows
    assert rows is not None
    assert (rows.source, rows.written, rows.aside, rows.quarantined) == (ROWS, ROWS - 16, 16, 16)
    found = letters(record)
    reasons = {row["_reason"]: row for row in found}
    assert set(reasons) == {
        "expect_column_values_to_not_be_null(x)", "expect_column_values_to_be_between(price)"
    }
    assert sorted(row["id"] for row in found if row["_column"] == "price") == list(range(0, ROWS, 50))
    assert all(row["_transform"] is None for row in found)
    assert [row["_row"] + int(row["_fragment"]) * 100 for row in found] == [row["id"] for row in found]
    good = TABLE.filter(pa.array([r["x"] is not None and r["price"] < 1000 for r in TABLE.to_pylist()]))
    prices = good.column("price").to_numpy()
    expected = (prices - prices.mean()) / prices.std()
    made = written(record)
    assert made.column("id").equals(good.column("id"))
    np.testing.assert_allclose(made.column("price").to_numpy(), expected)
    report_ = read_report(str(record.report))
    assert report_.status == "passed" and report_.rows.quarantined == 16
    # The raw rows are all profiled; the written ones are those that are left.
    assert [section.profile.rows for section in report_.profiles] == [ROWS, ROWS - 16]


def test_rows_that_come_out_wrong_are_quarantined_too(source: Path, tmp_path: Path) -> None:
    far = expect("column_values_to_be_between", column="price", max_value=3.0)
    quality = {"suite": suite(NO_NULLS), "output_suite": suite(far) | {"name": "out"}, "on_failure": "quarantine"}
    record = prepare.run(prepare_job(source, tmp_path, quality=quality))
    rows = record.rows
    assert rows is not None and rows.balanced
    assert (rows.quarantined, rows.aside) == (16, 16)
    by_reason = [row["_reason"] for row in letters(record)]
    assert by_reason.count("expect_column_values_to_be_between(price)") == WILD
    # They are there as they were read.
    assert {row["price"] for row in letters(record) if row["_column"] == "price"} == {5_000}


def test_quarantine_and_bad_rows_are_counted_apart(tmp_path: Path) -> None:
    """A transform's own bad rows count against max_bad_rows; quarantined ones do not."""
    table = pa.table({"id": [0, 1, 2, 3, 4], "x": pa.array([1.0, -1.0, None, 2.0, 3.0])})
    (tmp_path / "s").mkdir()
    pq.write_table(table, tmp_path / "s" / "a.parquet")
    logs = [{"type": "LogTransform", "config": {"columns": ["x"]}}]
    quality = {"suite": suite(NO_NULLS), "on_failure": "quarantine"}
    wanted = prepare_job(tmp_path / "s", tmp_path, transforms=logs, quality=quality, max_bad_rows=1)
    record = prepare.run(wanted)
    assert record.rows is not None
    assert (record.rows.written, record.rows.aside, record.rows.quarantined) == (3, 2, 1)
    assert [(row["id"], row["_transform"]) for row in letters(record)] == [(1, "LogTransform"), (2, None)]
    with pytest.raises(JobError, match="^1 rows could not be processed"):
        prepare.run(wanted.model_copy(update={"max_bad_rows": 0}))


def test_what_no_row_is_to_blame_for_stops_the_run(source: Path, tmp_path: Path) -> None:
    quality = {"suite": suite(TAME, NOT_UNIQUE), "on_failure": "quarantine"}
    with pytest.raises(QualityFailed, match=r"^1 critical check failed: expect_column_values_to_be_unique\(carrier\)"):
        prepare.run(prepare_job(source, tmp_path, quality=quality), run_id="stopped")
    final = tmp_path / "datasets" / "stopped"
    # What was taken out can be looked at.
    assert len(pq.read_table(final / "_rejected")) == WILD


def test_no_more_than_so_many_are_quarantined(source: Path, tmp_path: Path) -> None:
    quality = {"suite": suite(TAME), "on_failure": "quarantine", "max_quarantined": WILD - 1}
    with pytest.raises(QualityFailed, match="^6 rows were quarantined, and max_quarantined is 5"):
        prepare.run(prepare_job(source, tmp_path, quality=quality))
    quality["max_quarantined"] = WILD
    assert prepare.run(prepare_job(source, tmp_path, quality=quality)).status == "done"


def test_quarantine_with_a_split(source: Path, tmp_path: Path) -> None:
    quality = {"suite": suite(TAME), "on_failure": "quarantine"}
    wanted = prepare_job(source, tmp_path, quality=quality, split={"by": ["id"], "train": 0.5, "eval": 0.5})
    record = prepare.run(wanted)
    assert record.rows is not None and record.rows.balanced and record.rows.quarantined == WILD
    artifact = load(f"{tmp_path}/artifacts/rows@prod")
    (moments,) = [s for key, s in artifact.states.items() if "ScaleToZScore" in key]
    assert moments.column("max")[0].as_py() < 1_000


# --- profiles, drift, what changed ----------------------------------------------------------------------------------


def test_the_artifact_keeps_the_profiles(source: Path, tmp_path: Path) -> None:
    record = prepare.run(prepare_job(source, tmp_path))
    content = json.loads(Path(record.artifact["path"], "profile.json").read_text())
    raw, output = (Profile.from_record(content[side]) for side in ("raw", "output"))
    assert (raw.column("x").nulls, raw.rows, output.names) == (NULLS, ROWS, ["id", "x", "price", "carrier"])
    assert raw.column("carrier").distinct == 3 and output.column("carrier").oov_rate == 0.0


def test_profiles_can_be_left_out(source: Path, tmp_path: Path) -> None:
    record = prepare.run(prepare_job(source, tmp_path, quality={"profile": False}))
    assert not Path(record.artifact["path"], "profile.json").exists()
    # With nothing to check there is nothing to report.
    assert record.report is None and not (Path(str(record.dataset)) / "report").exists()
    checked = prepare.run(prepare_job(source, tmp_path, quality={"profile": False, "suite": suite(UNIQUE)}))
    assert read_report(str(checked.report)).profiles == ()


def test_the_next_run_says_what_changed(source: Path, tmp_path: Path) -> None:
    prepare.run(prepare_job(source, tmp_path, quality={"suite": suite(UNIQUE)}), run_id="one")
    fewer = {"parquet": {"path": str(source / "part-0.parquet")}}
    record = prepare.run(prepare_job(source, tmp_path, source=fewer, quality={"suite": suite(UNIQUE)}), run_id="two")
    previous = read_report(str(record.report)).previous
    assert previous is not None and previous.run == "one"
    assert {(c.what, c.before, c.after) for c in previous.changes} >= {("rows in", "300", "100")}
    assert (Path(str(record.report)) / str(previous.link)).exists()


@pytest.mark.parametrize("profiles", [True, False])
def test_the_report_of_any_cut_is_the_same(source: Path, tmp_path: Path, profiles: bool) -> None:
    """However the rows are cut into files, fragments and batches; with worker threads, too."""

    def content(path: Path, run: str, **changes: Any) -> dict[str, Any]:
        quality = {"suite": suite(NO_NULLS, TAME, UNIQUE), "on_failure": "quarantine", "keys": ["id"]}
        job = prepare_job(
            source, path, quality=quality | {"profile": profiles},
            source={"parquet": {"path": str(source), **changes.pop("parquet", {})}}, **changes,
        )
        found = json.loads(read_report(str(prepare.run(job, run_id=run).report)).to_json())
        return {key: found[key] for key in ("checks", "profiles", "rows", "vocabularies", "learned")}

    first = content(tmp_path / "a", "a")
    assert content(tmp_path / "b", "b", parquet={"fragment_rows": 40, "batch_rows": 7}) == first
    assert content(tmp_path / "c", "c", runner={"mode": "multi_threading", "workers": 2}) == first


# --- jobs that only report ------------------------------------------------------------------------------------------


def test_a_report_job_checks_a_source_alone(source: Path, tmp_path: Path) -> None:
    record = report.run(report_job(source, tmp_path, suite=suite(UNIQUE, TAME), on_failure="warn", keys=["id"]))
    assert record.rows is not None and (record.rows.source, record.rows.written) == (ROWS, ROWS)
    folder = Path(str(record.report)).parent
    assert sorted(p.name for p in folder.iterdir()) == ["report", "run.json"]
    found = read_report(folder / "report")
    assert (found.kind, found.status) == ("report", "failed")
    assert [c.unexpected for c in found.checks] == [0, WILD]
    (section,) = found.profiles
    assert section.profile.names == TABLE.schema.names


def test_a_report_job_without_checks_profiles(source: Path, tmp_path: Path) -> None:
    record = report.run(report_job(source, tmp_path))
    assert record.checks == {} and read_report(str(record.report)).status == "passed"


def test_a_report_and_its_gate(source: Path, tmp_path: Path) -> None:
    with pytest.raises(QualityFailed, match="^1 critical check failed") as raised:
        report.run(report_job(source, tmp_path, suite=suite(TAME)), run_id="bad")
    assert "published" not in str(raised.value)
    found = read_report(tmp_path / "reports/bad/report")
    assert found.status == "failed"
    # The report does not say where it is itself.
    assert found.summary == str(raised.value).partition(" The report: ")[0]


def test_pages_of_great_expectations_on_request(source: Path, tmp_path: Path) -> None:
    record = report.run(report_job(source, tmp_path, suite=suite(UNIQUE), data_docs=True))
    folder = Path(str(record.report))
    assert (folder / read_report(folder).links["data docs"]).exists()


# --- what is wrong is told before anything runs ---------------------------------------------------------------------


def told(make: Callable[[], Any], folder: Path) -> str:
    with pytest.raises(FeaturemillError) as raised:
        make()
    assert isinstance(raised.value, RequestError)
    assert not folder.exists()
    return str(raised.value)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no such suite": ({"suite": "nowhere/suite.json"}, "nowhere/suite.json"),
    "unknown expectation": (
        {"suite": suite(expect("column_values_to_not_be_nul", column="x"))},
        "Did you mean 'expect_column_values_to_not_be_null'",
    ),
    "missing column": (
        {"suite": suite(expect("column_values_to_not_be_null", column="pric"))},
        "there is no column 'pric'. Did you mean 'price'?",
    ),
    "missing output column": (
        {"output_suite": suite(expect("column_values_to_not_be_null", column="carier"))}, "Did you mean 'carrier'?"
    ),
    "needs two passes": (
        {"suite": suite(expect("column_values_to_be_increasing", column="x"))}, "no order"
    ),
    "missing key": ({"suite": suite(TAME), "keys": ["idd"]}, "quality.keys: there is no column 'idd'"),
    "nothing of that name": ({"drift": {"against": "{out}/artifacts/other@prod"}}, "artifacts"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_before_anything_runs(source: Path, tmp_path: Path, case: str) -> None:
    quality, expected = WRONG[case]
    quality = json.loads(json.dumps(quality).replace("{out}", str(tmp_path)))
    wanted = prepare_job(source, tmp_path, quality=quality)
    assert expected in told(lambda: prepare.run(wanted), tmp_path / "datasets")


def test_a_malformed_suite_is_told_with_its_place(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "suite.json").write_text('{"expectations": [}')
    (tmp_path / "job.yaml").write_text(
        f"kind: report\nname: rows\nsource: {{parquet: {{path: {source}}}}}\n"
        f"quality:\n  suite: {tmp_path}/suite.json\noutput: {{path: {tmp_path}/reports}}\n"
    )
    assert main(["run", str(tmp_path / "job.yaml")]) == 2
    error = capsys.readouterr().err
    assert "job.yaml:5: quality.suite: " in error and "suite.json" in error
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        ({"suit": "x"}, "unknown key 'suit'. Did you mean 'suite'?"),
        ({"on_failure": "halt"}, "on_failure"),
        ({"max_quarantined": 3}, "max_quarantined is for on_failure: quarantine"),
        ({"drift": {"against": "yesterday"}}, "expected previous, artifact, or ROOT/NAME@VERSION"),
        ({"profile": False, "drift": {"against": "previous"}}, "drift compares profiles"),
    ],
)
def test_mistakes_in_the_job_file(source: Path, tmp_path: Path, quality: dict[str, Any], expected: str) -> None:
    with pytest.raises(JobFileError, match="quality") as raised:
        prepare_job(source, tmp_path, quality=quality)
    assert expected in str(raised.value)


def test_a_report_job_takes_no_rows_out(source: Path, tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match="takes no rows out"):
        report_job(source, tmp_path, on_failure="quarantine")


def test_a_reference_without_a_profile(source: Path, tmp_path: Path) -> None:
    record = prepare.run(prepare_job(source, tmp_path, quality={"profile": False}))
    quality = {"drift": {"against": record.artifact["reference"]}}
    with pytest.raises(MissingArtifactError, match="has no profile to compare with"):
        prepare.plan(prepare_job(source, tmp_path, quality=quality))


def test_the_report_of_a_run_is_read_back_as_it_was(source: Path, tmp_path: Path) -> None:
    record = prepare.run(prepare_job(source, tmp_path, quality={"suite": suite(UNIQUE)}))
    data = (Path(str(record.report)) / "report.json").read_bytes()
    assert Report.from_json(data).to_json() == data


def test_a_run_that_fails_otherwise_leaves_no_report_of_success(source: Path, tmp_path: Path) -> None:
    """Nothing to fit on, which shows after the checks were judged, and all passed."""
    split = {"by": ["id"], "train": 1e-6, "eval": 1 - 1e-6}
    wanted = prepare_job(source, tmp_path, quality={"suite": suite(UNIQUE)}, split=split)
    with pytest.raises(JobError, match="'train', which statistics are computed on, has no rows"):
        prepare.run(wanted, run_id="failed")
    assert [p.name for p in (tmp_path / "datasets/failed").iterdir()] == ["run.json"]
    record = json.loads((tmp_path / "datasets/failed/run.json").read_text())
    assert (record["report"], record["checks"]["passed"]) == (None, 1)

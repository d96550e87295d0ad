"""Jobs compared with other runs and with artifacts: drift, training/serving skew, schema contracts, suggestions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from featuremill.artifacts.errors import MissingColumnError, RequestError
from featuremill.core.loading import JobFileError, job_from_mapping
from featuremill.core.quality.gates import QualityFailed
from featuremill.core.quality.reports.report import Report
from featuremill.core.quality.reports.report_files import read_report
from featuremill.jobs import prepare, report, score
from featuremill.jobs.cli import main
from support.scoring_models import MODULE

ROWS = 1_200


def rows(seed: int = 3, *, shift: float = 0.0, carriers: tuple[str, ...] = ("UA", "AA", "B6")) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "id": pa.array(np.arange(ROWS)),
            "price": rng.normal(50.0 + shift, 10.0, ROWS),
            "carrier": np.array(carriers)[rng.integers(0, len(carriers), ROWS)],
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of the same kind twice, moved rows, other rows; and an artifact fitted on the first."""
    home = tmp_path_factory.mktemp("home")
    tables = {
        "first": rows(),
        "second": rows(4),
        "moved": rows(5, shift=25.0, carriers=("UA", "AA", "ZZ")),
        "other": pa.table({"colour": ["red"] * 9}),
        "texts": rows().set_column(1, "price", pa.array(["cheap"] * ROWS)),
    }
    for name, table in tables.items():
        (home / name).mkdir()
        for i in range(2):
            pq.write_table(table.slice(i * len(table) // 2, len(table) // 2), home / name / f"part-{i}.parquet")
    prepare.run(prepare_job(home, home, "first"))
    return home


def prepare_job(home: Path, out: Path, source: str, **quality: Any) -> Any:
    return job_from_mapping(
        {
            "kind": "prepare",
            "name": "rows",
            "source": {"parquet": {"path": str(home / source)}},
            "transforms": [
                {"type": "ScaleToZScore", "config": {"columns": ["price"], "dtype": "float64"}},
                {"type": "ComputeAndApplyVocabulary", "config": {"columns": ["carrier"], "num_oov_buckets": 2}},
            ],
            "quality": quality,
            "artifact": {"root": str(out / "artifacts"), "alias": "prod"},
            "dataset": {"path": str(out / "datasets")},
            "runner": {"mode": "in_memory"},
        }
    )


def score_job(home: Path, out: Path, folder: str, **changes: Any) -> Any:
    content = {
        "kind": "score",
        "name": "rows",
        "source": {"parquet": {"path": str(home / folder), "fragment_rows": 500}},
        "artifact": f"{home}/artifacts/rows@prod",
        "model": {
            "class": f"{MODULE}:Line",
            "arguments": {"slope": 2.0},
            "inputs": {"x": ["price"]},
            "outputs": {"y": {"output": "prediction", "type": "double"}},
        },
        "output": {"path": str(out / "predictions"), "keys": ["id"]},
        "runner": {"mode": "in_memory"},
    }
    return job_from_mapping({k: v for k, v in (content | changes).items() if v is not None})


def report_job(home: Path, out: Path, source: str, **quality: Any) -> Any:
    return job_from_mapping(
        {
            "kind": "report",
            "name": "rows",
            "source": {"parquet": {"path": str(home / source)}},
            "quality": quality,
            "output": {"path": str(out / "reports")},
            "runner": {"mode": "in_memory"},
        }
    )


def verdicts(found: Report, name: str) -> dict[str, str]:
    (section,) = [s for s in found.profiles if s.name == name]
    return {d.column: d.verdict for d in section.drift}


# --- drift ----------------------------------------------------------------------------------------------------------


def test_the_first_run_has_nothing_to_compare_with(home: Path, tmp_path: Path) -> None:
    record = report.run(report_job(home, tmp_path, "first", drift={"against": "previous"}))
    assert record.warnings == ("There is no previous to compare with yet.",)


@pytest.mark.parametrize(("source", "expected"), [("second", "ok"), ("moved", "drifted")])
def test_a_run_is_compared_with_the_one_before(home: Path, tmp_path: Path, source: str, expected: str) -> None:
    report.run(report_job(home, tmp_path, "first"), run_id="one")
    record = report.run(report_job(home, tmp_path, source, drift={"against": "previous", "ignore": ["id"]}))
    found = read_report(str(record.report))
    assert verdicts(found, "raw") == {"price": expected, "carrier": expected}
    assert found.profiles[0].reference_name == "run one"
    assert bool(record.warnings) == (expected == "drifted")


def test_a_run_that_was_stopped_is_nothing_to_compare_with(home: Path, tmp_path: Path) -> None:
    """Or the drift that stopped a run would be let in the next time."""
    drift = {"against": "previous", "on_drift": "stop", "ignore": ["id"]}
    report.run(report_job(home, tmp_path, "first", drift=drift), run_id="one")
    for run in ("two", "three"):
        with pytest.raises(QualityFailed, match="drifted from run one"):
            report.run(report_job(home, tmp_path, "moved", drift=drift), run_id=run)
    # What changed since the last time is told from whatever run that was.
    previous = read_report(tmp_path / "reports/three/report").previous
    assert previous is not None and previous.run == "two"


def test_drift_can_stop_a_run(home: Path, tmp_path: Path) -> None:
    against = f"{home}/artifacts/rows@prod"
    quality = {"drift": {"against": against, "on_drift": "stop", "ignore": ["id"]}, "on_failure": "warn"}
    with pytest.raises(QualityFailed, match=r"^2 raw columns drifted from .*rows@prod.*: price"):
        prepare.run(prepare_job(home, tmp_path, "moved", **quality), run_id="stopped")
    assert not (tmp_path / "artifacts").exists()
    assert read_report(tmp_path / "datasets/stopped/report").status == "stopped"
    assert prepare.run(prepare_job(home, tmp_path, "second", **quality)).status == "done"


def test_a_prepare_job_is_compared_with_what_it_published_last(home: Path, tmp_path: Path) -> None:
    quality: dict[str, Any] = {"drift": {"against": "artifact", "ignore": ["id"]}}
    first = prepare.run(prepare_job(home, tmp_path, "first", **quality))
    assert first.warnings == ("There is no artifact to compare with yet.",)
    record = prepare.run(prepare_job(home, tmp_path, "moved", **quality))
    found = read_report(str(record.report))
    assert verdicts(found, "raw")["price"] == "drifted"
    # Scaled anew, they are as they were.
    assert verdicts(found, "output")["price"] == "ok"


@pytest.mark.parametrize(
    ("source", "expected"), [("other", "the source has none"), ("texts", "'price' is double there")]
)
def test_a_reference_of_another_schema(home: Path, tmp_path: Path, source: str, expected: str) -> None:
    with pytest.raises(RequestError, match="is of other rows") as raised:
        report.run(report_job(home, tmp_path, source, drift={"against": f"{home}/artifacts/rows@prod"}))
    assert expected in str(raised.value) and raised.value.facts["key"] == ("quality", "drift", "against")
    assert not (tmp_path / "reports").exists()


def test_limits_of_a_column_that_is_not_there(home: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingColumnError, match="Did you mean 'price'"):
        report.plan(report_job(home, tmp_path, "first", drift={"against": "previous", "ignore": ["prise"]}))


# --- training and serving -------------------------------------------------------------------------------------------


def test_a_score_job_is_compared_with_its_artifact_unasked(home: Path, tmp_path: Path) -> None:
    same = read_report(str(score.run(score_job(home, tmp_path, "second")).report))
    # `id` is read as the key alone, and keys are new every time.
    assert verdicts(same, "raw") == {"price": "ok"}
    assert verdicts(same, "output") == {"price": "ok"}
    record = score.run(score_job(home, tmp_path, "moved"))
    found = read_report(str(record.report))
    assert verdicts(found, "raw")["price"] == "drifted" and verdicts(found, "output") == {"price": "drifted"}
    assert any("price" in warning and "drifted" in warning for warning in record.warnings)
    (output,) = [s for s in found.profiles if s.name == "output"]
    # The prediction is profiled, and has nothing to be compared with.
    assert output.profile.names == ["price", "y"]


def test_values_outside_the_vocabulary(home: Path, tmp_path: Path) -> None:
    model = {
        "class": f"{MODULE}:Line", "arguments": {"slope": 2.0}, "inputs": {"x": ["carrier"]},
        "outputs": {"y": {"output": "prediction", "type": "double"}},
    }
    found = read_report(str(score.run(score_job(home, tmp_path, "moved", model=model)).report))
    (output,) = [s for s in found.profiles if s.name == "output"]
    table = pq.read_table(home / "moved")
    share = np.mean(table.column("carrier").to_numpy(zero_copy_only=False) == "ZZ")
    assert output.profile.column("carrier").oov_rate == pytest.approx(share)
    assert verdicts(found, "output") == {"carrier": "drifted"}


def test_skew_can_stop_a_score_job(home: Path, tmp_path: Path) -> None:
    with pytest.raises(QualityFailed, match="drifted from"):
        score.run(score_job(home, tmp_path, "moved", quality={"drift": {"on_drift": "stop"}}), run_id="bad")
    assert sorted(p.name for p in (tmp_path / "predictions/bad").iterdir()) == ["report", "run.json"]


def test_suites_of_a_score_job(home: Path, tmp_path: Path) -> None:
    """Of columns that no model reads, too; and of the predictions."""
    known = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "carrier", "value_set": ["UA", "AA"]}}
    small = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "y", "max_value": 4.0}}
    quality = {
        "suite": {"name": "in", "expectations": [known]}, "output_suite": {"name": "out", "expectations": [small]},
        "on_failure": "quarantine", "keys": ["id"],
    }
    record = score.run(score_job(home, tmp_path, "second", quality=quality))
    rows_ = record.rows
    assert rows_ is not None and rows_.balanced and rows_.source == ROWS
    table = pq.read_table(home / "second")
    unknown = int(np.sum(table.column("carrier").to_numpy(zero_copy_only=False) == "B6"))
    letters = pa.concat_tables(pq.read_table(p) for p in Path(str(record.dead_letters)).glob("*.parquet")).to_pylist()
    reasons = [row["_reason"] for row in letters]
    assert reasons.count("expect_column_values_to_be_in_set(carrier)") == unknown
    assert 0 < reasons.count("expect_column_values_to_be_between(y)") == len(letters) - unknown
    assert rows_.quarantined == rows_.aside == len(letters)
    assert all(row["_transform"] is None and row["price"] is not None for row in letters)
    written = pa.concat_tables(pq.read_table(p) for p in Path(str(record.dataset)).glob("predictions/*.parquet"))
    assert max(written.column("y").to_pylist()) <= 4.0
    assert not {row["id"] for row in letters} & set(written.column("id").to_pylist())
    checks = read_report(str(record.report)).checks
    assert [(c.suite, c.success, c.unexpected) for c in checks] == [
        ("raw", False, unknown), ("output", False, len(letters) - unknown)
    ]


def test_rows_that_arrive_are_not_checked(home: Path, tmp_path: Path) -> None:
    watch = {"watch": {"path": str(home / "first")}}
    assert score_job(home, tmp_path, "first", source=watch).quality.is_given is False
    with pytest.raises(JobFileError, match="quality is for rows that are there already"):
        score_job(home, tmp_path, "first", source=watch, quality={"on_failure": "warn"})


# --- the schema contract --------------------------------------------------------------------------------------------

CONTRACT: dict[str, Any] = {
    "new_columns": "freeze",
    "columns": [
        {"name": "id", "type": "int64"}, {"name": "price", "type": "double"}, {"name": "carrier", "type": "string"}
    ],
}


def test_a_source_that_keeps_its_contract(home: Path, tmp_path: Path) -> None:
    record = report.run(report_job(home, tmp_path, "first", schema=CONTRACT))
    assert read_report(str(record.report)).findings == ()


def test_a_source_that_breaks_its_contract(home: Path, tmp_path: Path) -> None:
    contract = CONTRACT | {"columns": CONTRACT["columns"][:2]}
    with pytest.raises(RequestError, match="The column 'carrier' is new and is not allowed") as raised:
        report.run(report_job(home, tmp_path, "first", schema=contract))
    assert raised.value.facts["key"] == ("quality", "schema")
    record = report.run(report_job(home, tmp_path, "first", schema=contract, on_failure="warn"))
    found = read_report(str(record.report))
    assert found.status == "failed" and [f.severity for f in found.findings] == ["critical"]
    evolves = report.run(report_job(home, tmp_path, "first", schema=contract | {"new_columns": "evolve"}))
    assert read_report(str(evolves.report)).findings[0].severity == "info"


def test_rows_that_break_a_contract(tmp_path: Path) -> None:
    table = pa.table({"id": [1, None, 3], "price": [1.0, 2.0, 3.0], "new": [None, None, "x"]})
    (tmp_path / "s").mkdir()
    pq.write_table(table, tmp_path / "s" / "a.parquet")
    columns = [{"name": "id", "type": "int64", "nullable": False}, {"name": "price", "type": "double"}]
    contract = {"new_columns": "discard_row", "columns": columns}
    with pytest.raises(QualityFailed, match=r"expect_column_values_to_not_be_null\(id\) in 1 row"):
        report.run(report_job(tmp_path, tmp_path, "s", schema=contract))


def test_rows_with_new_columns_are_discarded(home: Path, tmp_path: Path) -> None:
    table = rows().append_column("new", pa.array([None] * (ROWS - 3) + ["x"] * 3, pa.string()))
    (tmp_path / "s").mkdir()
    pq.write_table(table, tmp_path / "s" / "a.parquet")
    record = prepare.run(prepare_job(tmp_path, tmp_path, "s", schema=CONTRACT | {"new_columns": "discard_row"}))
    assert record.rows is not None and (record.rows.quarantined, record.rows.written) == (3, ROWS - 3)


# --- suggestions ----------------------------------------------------------------------------------------------------


def test_suggestions_hold_for_the_rows_they_were_made_of(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["suggest", f"{home}/first/*.parquet", "--dir", "quality"]) == 0
    assert "featuremill run quality/first.yaml" in capsys.readouterr().out
    folder = tmp_path / "quality"
    assert sorted(p.name for p in folder.iterdir()) == ["first.schema.yaml", "first.suite.json", "first.yaml"]
    suite = json.loads((folder / "first.suite.json").read_text())
    unique = [e["kwargs"]["column"] for e in suite["expectations"] if e["type"].endswith("to_be_unique")]
    assert unique == ["id"]
    assert [c["type"] for c in yaml.safe_load((folder / "first.schema.yaml").read_text())["columns"]] == [
        "int64", "double", "string"
    ]
    assert main(["run", "quality/first.yaml"]) == 0
    capsys.readouterr()
    assert main(["run", "quality/first.yaml", "--set", f"source.parquet.path={home}/moved"]) == 1
    assert "expect_column_values_to_be_in_set(carrier)" in capsys.readouterr().err
    # Nothing is overwritten.
    assert main(["suggest", f"{home}/first", "--dir", "quality", "--name", "first"]) == 2
    assert "is there already" in capsys.readouterr().err

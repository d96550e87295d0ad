"""The files of a report, and finding them again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from featuremill.artifacts.errors import ArtifactError, MissingArtifactError
from featuremill.artifacts.store import open_store
from featuremill.core.quality.reports.report_files import read_report, write_report
from featuremill.core.quality.reports.report_text import escaped, report_text
from featuremill.jobs.render import to_text
from featuremill.jobs.render_report import find_report, report_blocks
from support.reports import HOSTILE, example_report, hostile_report


def test_three_files_with_the_same_content(tmp_path: Path) -> None:
    sizes = write_report(example_report(), open_store(tmp_path / "report"))
    assert sizes == {p.name: p.stat().st_size for p in (tmp_path / "report").iterdir()}
    assert read_report(tmp_path / "report").to_json() == example_report().to_json()


def test_written_again_it_is_replaced(tmp_path: Path) -> None:
    write_report(hostile_report(), tmp_path)
    write_report(example_report(), tmp_path)
    assert "Failed: flights" in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "named", ["", "run-2", "run-2/", "run-2/report", "run-2/report/report.json", "run-2/report/index.html"]
)
def test_a_report_is_found_by_its_run(tmp_path: Path, named: str) -> None:
    for i, run in enumerate(("run-1", "run-2")):
        write_report(hostile_report() if run == "run-1" else example_report(), tmp_path / run / "report")
        os.utime(tmp_path / run / "report/report.json", (i, i))
    folder, report = find_report(f"{tmp_path}/{named}")
    assert folder == f"{tmp_path}/run-2/report"
    assert report.job == "flights"


def test_a_report_in_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(example_report(), tmp_path)
    monkeypatch.chdir(tmp_path)
    assert find_report("report.json")[1].job == find_report(".")[1].job == "flights"


def test_a_run_under_way_is_not_taken_for_the_latest(tmp_path: Path) -> None:
    for i, run in enumerate(("run-1", ".run-2.staging")):
        write_report(example_report(), tmp_path / run / "report")
        os.utime(tmp_path / run / "report/report.json", (i, i))
    assert find_report(str(tmp_path))[0] == f"{tmp_path}/run-1/report"


def test_a_run_that_failed_without_a_report_says_why(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": "failed", "error": "The disk is full."}')
    with pytest.raises(MissingArtifactError, match=r"failed before there was anything to report: The disk is full\."):
        find_report(str(tmp_path))


def test_no_report_and_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifactError, match="Name the folder of a run"):
        find_report(str(tmp_path))
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ArtifactError, match="is no report"):
        find_report(str(tmp_path))


def test_the_terminal_says_what_the_page_says() -> None:
    text = to_text(report_blocks(example_report(), "runs/1/report"))
    parts = ["flights: failed", "336,776 rows in", "FAILED", "402 of 336,776 rows fail (0.12%)"]
    parts += ["critical", "dep_delay", "drifted", "runs/1/report/index.html", "… and 1 more row in the report"]
    assert [part for part in parts if part not in text] == []
    assert text.index("FAILED") < text.index("\n  passed")


def test_the_terminal_shows_hostile_texts_as_text() -> None:
    text = to_text(report_blocks(hostile_report()))
    assert not {"\x00", "\x1b", "\u202e"} & set(text)


def test_markdown_holds_the_whole_content() -> None:
    text = report_text(example_report())
    sections = ["# flights: Failed", "## Since the last run", "## Checks: rows as read", "## Columns as written"]
    sections += ["### dep\\_delay: int32 (drifted)", "## What the artifact learned", "## Where it comes from"]
    assert [section for section in sections if f"\n{section}" not in f"\n{text}"] == []
    assert "| median | 18 |" in text


def test_markdown_is_not_broken_by_what_it_shows() -> None:
    text = report_text(hostile_report())
    assert "<script>" not in text and "\x00" not in text
    assert escaped(HOSTILE[11]) == "two\\\\nlines \\| of \\`Markdown\\` \\*here\\* \\[a\\](b)"
    # Every row of a table has as many cells as its header.
    for block in text.split("\n\n"):
        rows = [line.strip() for line in block.split("\n") if line.strip().startswith("| ")]
        assert len({line.replace("\\|", "").count("|") for line in rows}) <= 1

"""The words of a report: its verdict, its figures, its checks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from featuremill.core.quality.reports import report_views as views
from featuremill.core.quality.reports.report import CheckResult, Report, ReportRows, SchemaFinding
from support.reports import example_report

PLAIN = Report("r1", "flights", "prepare", "passed", "2026-01-01T00:00:00Z", 1.0, ReportRows(10, written=10))
GOOD = CheckResult("raw", "expect_x", ("x",), True)
BAD = replace(GOOD, success=False)


@pytest.mark.parametrize(
    ("report", "word", "mood", "said"),
    [
        (PLAIN, "Passed", "good", "No checks were asked for."),
        (replace(PLAIN, checks=(GOOD,)), "Passed", "good", "The only check passed."),
        (replace(PLAIN, checks=(GOOD, GOOD)), "Passed", "good", "All 2 checks passed."),
        (replace(PLAIN, checks=(GOOD, replace(BAD, severity="info"))), "Passed with warnings", "warning",
         "1 of 2 checks failed (1 info)."),
        (replace(PLAIN, warnings=("w",)), "Passed with warnings", "warning", "No checks were asked for."),
        (replace(PLAIN, status="failed", checks=(BAD,)), "Failed", "bad", "1 of 1 check failed (1 critical)."),
        (replace(PLAIN, status="stopped", checks=(BAD,)), "Stopped", "bad",
         "1 of 1 check failed (1 critical). Nothing was published."),
        (replace(PLAIN, status="stopped", summary="A gate closed. Nothing was published."), "Stopped", "bad",
         "A gate closed. Nothing was published. No checks were asked for."),
    ],
)  # fmt: skip
def test_the_verdict(report: Report, word: str, mood: str, said: str) -> None:
    assert views.verdict(report) == views.Verdict(word, mood, said)


def test_checks_are_ordered_by_what_needs_a_person() -> None:
    order = [BAD, GOOD, replace(BAD, severity="info"), replace(GOOD, severity="info"), replace(BAD, severity="warning")]
    (group,) = views.checks_by_suite(replace(PLAIN, checks=tuple(order)))
    assert [c.severity for c in group.failed] == ["critical", "warning", "info"]
    assert [c.severity for c in group.passed] == ["critical", "info"]


def test_suites_keep_apart() -> None:
    report = replace(PLAIN, checks=(replace(GOOD, suite="output"), GOOD))
    assert [g.title for g in views.checks_by_suite(report)] == ["Checks: rows as read", "Checks: rows as written"]


def test_the_figures_are_those_that_the_job_has() -> None:
    names = [f.name for f in views.figures(example_report())]
    assert names == ["Rows in", "Written", "Filtered out", "Set aside", "Checks passed", "Drifted"]
    assert [f.name for f in views.figures(replace(PLAIN, kind="report"))] == ["Rows in"]
    assert [f.name for f in views.figures(replace(PLAIN, kind="score"))] == ["Rows in", "Scored", "Set aside"]
    assert "Written" not in [f.name for f in views.figures(replace(PLAIN, status="stopped"))]


def test_rows_are_compared_with_the_last_run() -> None:
    assert views.figures(example_report())[0].note == "2,575 more than last time (0.77%)"


def test_samples_have_every_column_that_any_row_has() -> None:
    check = replace(BAD, samples=({"id": 1, "x": None}, {"id": 123456, "y": ""}), unexpected=2)
    assert views.samples_table(check) == (["id", "x", "y"], [["1", "null", ""], ["123456", "", "''"]])
    assert views.samples_title(check) == "All 2 rows that fail"
    assert views.samples_title(replace(check, unexpected=9)) == "The first 2 rows that fail"


def test_findings_come_before_warnings() -> None:
    findings = (SchemaFinding("x", "is new", "info"), SchemaFinding("y", "is gone", "critical"))
    report = replace(PLAIN, warnings=("w",), findings=findings)
    assert views.warning_lines(report) == [("info", "x: is new"), ("bad", "y: is gone"), ("warning", "w")]


def test_drift_is_told_with_what_is_new() -> None:
    (drift,) = [d for d in example_report().profiles[0].drift if d.column == "carrier"]
    drift = replace(drift, verdict="drifted", reason="Moved.", new=("ZZ",), vanished=())
    assert views.drift_text(drift) == "Moved. New: ZZ."
    assert views.drift_text(replace(drift, reason="", new=tuple(range(9)))) == "New: 0, 1, 2, 3, 4 and 4 more."
    assert views.drift_text(replace(drift, verdict="ok", reason="Not judged.")) == "Not judged."

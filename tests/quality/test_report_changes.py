"""What changed since the previous run."""

from __future__ import annotations

from dataclasses import replace

from featuremill.core.quality.reports.report import Change, CheckResult, ProfileSection, ReportRows
from featuremill.core.quality.reports.report_changes import compared
from support.reports import example_report, flights, profile_of

REPORT = replace(
    example_report(), previous=None, checks=(), profiles=(ProfileSection("raw", profile_of(flights(500))),)
)
CHECK = CheckResult("raw", "expect_column_max_to_be_between", ("x",), True, "x is small.", kwargs={"max_value": 3})


def test_the_same_run_again_is_no_news() -> None:
    found = compared(replace(REPORT, run="later"), REPORT, link="../before/index.html")
    assert found.changes == ()
    assert (found.run, found.link, found.rows) == (REPORT.run, "../before/index.html", REPORT.rows)


def test_rows_that_moved_are_told() -> None:
    before = replace(REPORT, rows=ReportRows(1_000, written=998, aside=2))
    now = replace(REPORT, rows=ReportRows(2_000, written=1_990, aside=10))
    assert compared(now, before).changes == (
        Change("rows", "rows in", "1,000", "2,000"),
        Change("rows", "rows written", "998", "1,990"),
        Change("rows", "rows set aside", "2", "10", "bad"),
    )


def test_checks_are_known_by_what_they_ask() -> None:
    failed = replace(CHECK, success=False, description="worded anew", severity="info")
    other = replace(CHECK, columns=("y",))
    now, before = replace(REPORT, checks=(failed, other)), replace(REPORT, checks=(CHECK,))
    assert compared(now, before).changes == (
        Change("check", "worded anew", "passed", "failed", "bad"),
        Change("check", "x is small.", "not there", "passed"),
    )
    assert [c.mood for c in compared(before, now).changes] == ["good", ""]


def test_columns_come_go_change_their_type_and_their_nulls() -> None:
    table = flights(500)
    changed = table.drop(["gate"]).append_column("new", table["date"])
    changed = changed.set_column(6, "distance", table["distance"].cast("double"))
    changed = changed.set_column(3, "origin", [[None] * 20 + table["origin"].to_pylist()[20:]])
    now = replace(REPORT, profiles=(ProfileSection("raw", profile_of(changed)),))
    assert compared(now, REPORT).changes == (
        Change("nulls", "origin", "0%", "4%", "bad"),
        Change("type", "distance", "int32", "double"),
        Change("column", "gate", "string", "not there"),
        Change("column", "new", "not there", "date32[day]"),
    )


def test_without_profiles_columns_are_not_compared() -> None:
    assert compared(replace(REPORT, profiles=()), REPORT).changes == ()


def test_other_versions_are_told() -> None:
    now = replace(REPORT, versions={**REPORT.versions, "pyarrow": "26.0.0", "onnx": "1.0"})
    assert compared(now, REPORT).changes == (Change("version", "pyarrow", "25.0.1", "26.0.0"),)

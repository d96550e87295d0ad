"""A report as data: exact through JSON, clear when it is none."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuremill.artifacts.errors import ArtifactError
from featuremill.core.quality.reports.report import REPORT_FORMAT, CheckResult, Report, plain
from support.reports import example_report, hostile_report


@pytest.mark.parametrize("make", [example_report, hostile_report])
def test_json_and_back(make) -> None:
    data = make().to_json()
    again = Report.from_json(data)
    assert again.to_json() == data
    assert again.profiles == make().profiles
    assert [c.gates for c in again.checks] == [c.gates for c in make().checks]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.decimals(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_any_value_becomes_json_once_and_for_all(value: object) -> None:
    once = plain(value)
    assert plain(json.loads(json.dumps(once, allow_nan=False))) == once


def test_what_json_does_not_know() -> None:
    values = [np.bool_(True), np.float64("inf"), np.int64(3), Decimal("1.50"), date(2013, 1, 2)]
    assert plain(values) == [True, "Infinity", 3, "1.50", "2013-01-02"]
    assert plain(datetime(2013, 1, 2, tzinfo=UTC)) == "2013-01-02T00:00:00+00:00"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda r: r.pop("format_version"), "format_version is missing"),
        (lambda r: r.update(format_version=REPORT_FORMAT + 1), "Upgrade it"),
        (lambda r: r.update(status="fine"), "status: Input should be 'passed', 'failed' or 'stopped', got 'fine'"),
        (lambda r: r["rows"].update(source="many"), "rows.source"),
        (lambda r: r["profiles"][0]["profile"]["columns"][0].update(nulls=-1), "nulls"),
    ],
)
def test_a_damaged_report_is_refused(damage, said: str) -> None:
    record = json.loads(example_report().to_json())
    damage(record)
    with pytest.raises(ArtifactError) as caught:
        Report.from_json(json.dumps(record), "some/report.json")
    assert said in str(caught.value) and "some/report.json" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"null"])
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="is no report"):
        Report.from_json(data)


@pytest.mark.parametrize(
    ("severity", "success", "gates"),
    [("critical", False, True), ("critical", True, False), ("warning", False, False), ("info", False, False)],
)
def test_only_critical_failures_gate(severity, success: bool, gates: bool) -> None:
    assert CheckResult("raw", "e", (), success, severity=severity).gates is gates

"""What is not as it was in the previous run: rows, checks, columns, nulls, versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from featuremill.core.quality.profiles.profile import ColumnProfile
from featuremill.core.quality.reports.report import Change, CheckResult, Mood, PreviousRun, Report, ReportRows, plain
from featuremill.core.quality.reports.report_views import check_title
from featuremill.core.words import number_text, percent_text

__all__ = ["compared"]

NULLS_MOVED = 0.01
"""A null rate that moved by less is no news, unless it was none or is none."""

ROWS = {
    "source": "rows in", "filtered": "rows filtered out", "written": "rows written", "aside": "rows set aside",
}  # fmt: skip


def compared(report: Report, previous: Report, *, link: str | None = None) -> PreviousRun:
    """The previous run as a part of this run's report: what it was, and what has changed since.

    Parameters
    ----------
    link
        The previous run's page, relative to this one.

    Examples
    --------
    >>> from dataclasses import replace
    >>> old = Report("r1", "flights", "prepare", "passed", "2026-01-01T00:00:00Z", 1.5, ReportRows(5, written=5))
    >>> new = replace(old, run="r2", rows=ReportRows(1200, written=1200))
    >>> [(c.what, c.before, c.after) for c in compared(new, old).changes]
    [('rows in', '5', '1,200'), ('rows written', '5', '1,200')]
    """
    changes = (
        *_rows(report.rows, previous.rows),
        *_checks(_by_check(report), _by_check(previous)),
        *_columns(_by_column(report), _by_column(previous)),
        *_versions(report.versions, previous.versions),
    )
    return PreviousRun(previous.run, previous.started, previous.status, previous.rows, changes, link)


def _rows(now: ReportRows, before: ReportRows) -> list[Change]:
    found = []
    for name, what in ROWS.items():
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            mood: Mood = "bad" if name == "aside" and new > old else ""
            found.append(Change("rows", what, number_text(old), number_text(new), mood))
    return found


def _by_check(report: Report) -> dict[str, CheckResult]:
    """By what is asked, on which rows; how severe it is and how it is worded do not matter."""
    return {
        json.dumps([c.suite, c.expectation, c.columns, plain(c.kwargs)], sort_keys=True): c for c in report.checks
    }


def _checks(now: Mapping[str, CheckResult], before: Mapping[str, CheckResult]) -> list[Change]:
    found = []
    for key in dict.fromkeys([*now, *before]):
        new, old = now.get(key), before.get(key)
        if (new and new.success) != (old and old.success):
            check = new or old
            assert check is not None  # the key came from one of them
            worse = new is not None and not new.success
            mood: Mood = "bad" if worse else "good" if new is not None and old is not None else ""
            found.append(Change("check", check_title(check), _outcome(old), _outcome(new), mood))
    return found


def _outcome(check: CheckResult | None) -> str:
    return "not there" if check is None else "passed" if check.success else "failed"


def _by_column(report: Report) -> dict[str, ColumnProfile] | None:
    """The columns as read; None where no profile was made."""
    for section in report.profiles:
        if section.name == "raw":
            return {column.name: column for column in section.profile.columns}
    return None


def _columns(now: Mapping[str, ColumnProfile] | None, before: Mapping[str, ColumnProfile] | None) -> list[Change]:
    if now is None or before is None:
        return []
    found = []
    for name in dict.fromkeys([*before, *now]):
        new, old = now.get(name), before.get(name)
        if new is None or old is None:
            was, now_is = ("not there" if c is None else c.type for c in (old, new))
            found.append(Change("column", name, was, now_is))
            continue
        if new.type != old.type:
            found.append(Change("type", name, old.type, new.type))
        if _nulls_moved(new, old):
            mood: Mood = "bad" if new.null_rate > old.null_rate else ""
            found.append(Change("nulls", name, percent_text(old.null_rate), percent_text(new.null_rate), mood))
    return found


def _nulls_moved(new: ColumnProfile, old: ColumnProfile) -> bool:
    if not new.rows or not old.rows:
        return False
    return abs(new.null_rate - old.null_rate) >= NULLS_MOVED or (new.nulls == 0) != (old.nulls == 0)


def _versions(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[Change]:
    return [
        Change("version", name, str(before[name]), str(version))
        for name, version in now.items()
        if name in before and before[name] != version
    ]

"""What a report says, in words and in order: shared by the page, the Markdown and the terminal.

Functions from the report's data to short texts, and to lists in the order in which they are read: what failed first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featuremill.core.quality.profiles.drift import ColumnDrift
from featuremill.core.quality.reports.report import CheckResult, PreviousRun, ProfileSection, Report
from featuremill.core.quality.reports.report_origin import when
from featuremill.core.words import count_text, number_text, percent_text, plain_text, short_text, value_text

__all__ = [
    "CheckGroup", "Figure", "Verdict", "change_rows", "check_details", "check_found", "check_mood", "check_title",
    "checks_by_suite", "drift_text", "figures", "ordered_checks", "previous_text", "rows_sentence", "samples_table",
    "samples_title", "section_text", "section_title", "verdict", "warning_lines", "went_on",
]

SEVERITIES = ("critical", "warning", "info")
MOODS = {"critical": "bad", "warning": "warning", "info": "info"}
CHANGES = {"rows": "", "check": "check", "column": "column", "type": "type of", "nulls": "nulls in", "version": ""}
SIDES = {"raw": "rows as read", "output": "rows as written"}
SECTIONS = {"raw": "Columns as read", "output": "Columns as written"}
PREDICTED = "predictions", "Features and predictions"
"""What comes out of a job that scores, for its checks and for its columns: its features are not written."""


@dataclass(frozen=True)
class Verdict:
    """The first thing to know: one word or three, its mood (good, warning, bad), and a sentence."""

    word: str
    mood: str
    sentence: str


@dataclass(frozen=True)
class Figure:
    """One of the large numbers on top."""

    name: str
    value: str
    note: str = ""
    mood: str = ""


def verdict(report: Report) -> Verdict:
    """Passed, passed with warnings, failed or stopped, and why.

    >>> from featuremill.core.quality.reports.report import ReportRows
    >>> verdict(Report("r1", "flights", "prepare", "passed", "2026-01-01T00:00:00Z", 1.0, ReportRows(5, written=5)))
    Verdict(word='Passed', mood='good', sentence='No checks were asked for.')
    """
    sentences = (short_text(report.summary, 1000), _checks_sentence(report), _drift_sentence(report))
    sentence = " ".join(filter(None, sentences))
    if report.status == "stopped":
        # What closed the gate says so itself, where it is known.
        return Verdict("Stopped", "bad", sentence if report.summary else f"{sentence} Nothing was published.")
    if report.status == "failed":
        return Verdict("Failed", "bad", sentence)
    quiet = all(c.success for c in report.checks) and not _drifted(report) and not report.warnings
    return Verdict("Passed", "good", sentence) if quiet else Verdict("Passed with warnings", "warning", sentence)


def _checks_sentence(report: Report) -> str:
    if not report.checks:
        return "No checks were asked for."
    failed = [c for c in report.checks if not c.success]
    if not failed:
        return f"{'The only check' if len(report.checks) == 1 else f'All {len(report.checks):,} checks'} passed."
    counts = [(sum(c.severity == severity for c in failed), severity) for severity in SEVERITIES]
    of = ", ".join(f"{n:,} {severity}" for n, severity in counts if n)
    return f"{len(failed):,} of {count_text(len(report.checks), 'check')} failed ({of})."


def _drift_sentence(report: Report) -> str:
    drifted = _drifted(report)
    if not drifted:
        return ""
    return f"{count_text(drifted, 'column')} drifted from the reference."


def _drifted(report: Report) -> int:
    return sum(d.verdict == "drifted" for section in report.profiles for d in section.drift)


def figures(report: Report) -> list[Figure]:
    """The numbers on top: rows in, written, set aside, filtered out; checks; drift. With their change, where known."""
    rows, before = report.rows, report.previous.rows if report.previous else None
    total = rows.source or 1
    found = [Figure("Rows in", number_text(rows.source), _change(rows.source, before.source if before else None))]
    if report.kind != "report" and report.status != "stopped":
        found.append(
            Figure(went_on(report).capitalize(), number_text(rows.written), percent_text(rows.written / total))
        )
    if rows.filtered:
        found.append(Figure("Filtered out", number_text(rows.filtered), percent_text(rows.filtered / total)))
    if rows.aside or report.kind != "report":
        note = f"{rows.quarantined:,} by checks" if rows.quarantined else ""
        share = percent_text(rows.aside / total) if rows.aside else "none"
        found.append(
            Figure("Set aside", number_text(rows.aside), ", ".join(filter(None, (share, note))),
                   "warning" if rows.aside else "")
        )
    if report.checks:
        failed = [c for c in report.checks if not c.success]
        passed = len(report.checks) - len(failed)
        mood = "bad" if any(c.severity == "critical" for c in failed) else "warning" if failed else "good"
        found.append(
            Figure("Checks passed", f"{passed:,} of {len(report.checks):,}",
                   f"{len(failed):,} failed" if failed else "all of them", mood)
        )
    compared = sum(len(section.drift) for section in report.profiles)
    if compared:
        drifted = _drifted(report)
        found.append(
            Figure("Drifted", f"{drifted:,} of {compared:,}", "columns" if drifted else "no column",
                   "warning" if drifted else "good")
        )
    return found


def _change(now: int, before: int | None) -> str:
    if before is None:
        return ""
    if now == before:
        return "as many as last time"
    share = f" ({percent_text(abs(now - before) / before)})" if before else ""
    return f"{abs(now - before):,} {'more' if now > before else 'fewer'} than last time{share}"


# --- checks -----------------------------------------------------------------------------------------------------------


def ordered_checks(checks: Sequence[CheckResult]) -> list[CheckResult]:
    """Failed first, the most severe of them on top; otherwise as in the suite."""
    return sorted(checks, key=lambda c: (c.success, SEVERITIES.index(c.severity) if not c.success else 0))


def check_title(check: CheckResult) -> str:
    """What is expected, as a sentence where there is one, else as a call.

    >>> check_title(CheckResult("raw", "expect_column_mean_to_be_between", ("x",), True, kwargs={"min_value": 1}))
    'x: expect_column_mean_to_be_between (min_value 1)'
    """
    if check.description:
        return short_text(check.description, 300)
    columns = ", ".join(short_text(c) for c in check.columns)
    kwargs = ", ".join(f"{short_text(k)} {value_text(v)}" for k, v in check.kwargs.items())
    return f"{columns + ': ' if columns else ''}{short_text(check.expectation)}{f' ({kwargs})' if kwargs else ''}"


def check_found(check: CheckResult) -> str:
    """What was found, in a few words.

    >>> check_found(CheckResult("raw", "e", ("x",), False, elements=1000, unexpected=25, unexpected_percent=2.5))
    '25 of 1,000 rows fail (2.5%)'
    >>> check_found(CheckResult("raw", "e", ("x",), False, elements=1000, unexpected=25, unexpected_percent=5.0))
    '25 of 1,000 rows fail (5% of those with a value)'
    >>> check_found(CheckResult("raw", "expect_column_distinct_values_to_be_in_set", ("x",), True, unexpected=0))
    'no unexpected values'
    >>> check_found(CheckResult("raw", "e", ("x",), True, observed=12.3456789))
    'observed 12.35'
    """
    if check.error:
        return "could not be evaluated"
    if check.unexpected is not None and check.elements is None:
        return count_text(check.unexpected, "unexpected value") if check.unexpected else "no unexpected values"
    if check.unexpected is not None:
        of = f" of {count_text(check.elements or 0, 'row')}"
        share = f" ({_share(check)})" if check.unexpected_percent is not None and check.unexpected else ""
        return f"{f'{check.unexpected:,}' if check.unexpected else 'none'}{of} fail{share}"
    return f"observed {value_text(check.observed, rounded=True)}" if check.observed is not None else ""


def _share(check: CheckResult) -> str:
    """The share that fails; Great Expectations leaves rows without a value out of it."""
    share = percent_text((check.unexpected_percent or 0) / 100)
    of_all = percent_text((check.unexpected or 0) / (check.elements or 1))
    return share if share == of_all else f"{share} of those with a value"


def check_mood(check: CheckResult) -> str:
    """Good, warning or bad."""
    return "good" if check.success else MOODS[check.severity]


@dataclass(frozen=True)
class CheckGroup:
    """The checks of one suite, those that failed apart."""

    id: str
    title: str
    text: str
    failed: Sequence[CheckResult]
    passed: Sequence[CheckResult]


def checks_by_suite(report: Report) -> list[CheckGroup]:
    """The checks on the rows as read, then on those written; failed first, the most severe of them on top."""
    found = []
    names = dict.fromkeys(check.suite for check in report.checks)
    for name in sorted(names, key=lambda n: (n != "raw", n)):
        checks = ordered_checks([c for c in report.checks if c.suite == name])
        failed, passed = [c for c in checks if not c.success], [c for c in checks if c.success]
        text = f"{len(passed):,} of {len(checks):,} passed."
        side = PREDICTED[0] if report.kind == "score" and name == "output" else SIDES.get(name, name)
        title = f"Checks: {side}" if len(names) > 1 or name != "raw" else "Checks"
        found.append(CheckGroup(f"checks-{name}", title, text, failed, passed))
    return found


def check_details(check: CheckResult) -> list[str]:
    """What else there is to know of a check, line by line: its error, notes, parameters, what was observed."""
    lines = [short_text(check.error, 1000)] if check.error else []
    lines += [short_text(note, 400) for note in check.notes]
    if check.description and check.kwargs:
        lines.append(", ".join(f"{short_text(k)} = {value_text(v)}" for k, v in check.kwargs.items()))
    if check.unexpected is not None and check.observed is not None:
        lines.append(f"observed {value_text(check.observed, rounded=True)}")
    return lines


def samples_table(check: CheckResult) -> tuple[list[str], list[list[str]]]:
    """The rows that fail, of those that were kept: the header and the rows, in texts."""
    names = list(dict.fromkeys(name for sample in check.samples for name in sample))
    rows = [[value_text(sample[name]) if name in sample else "" for name in names] for sample in check.samples]
    return [short_text(name) for name in names], rows


def samples_title(check: CheckResult) -> str:
    """What the sample is of: all that fail, or the first of them."""
    count = len(check.samples)
    if check.unexpected is not None and check.unexpected <= count:
        return "The row that fails" if count == 1 else f"All {count:,} rows that fail"
    return f"The first {count:,} rows that fail" if count > 1 else "The first row that fails"


# --- warnings, and what changed ---------------------------------------------------------------------------------------


def warning_lines(report: Report) -> list[tuple[str, str]]:
    """What else is not as it should be, with its mood: findings about the schema, then the job's warnings."""
    found = [(MOODS[f.severity], f"{short_text(f.column)}: {short_text(f.message, 400)}") for f in report.findings]
    return found + [("warning", short_text(text, 600)) for text in report.warnings]


def previous_text(previous: PreviousRun) -> str:
    """Which run this one is compared with, and whether anything is new."""
    run = f"The run before was {plain_text(previous.run)} of {when(previous.started)}, which {previous.status}."
    if not previous.changes:
        return f"{run} Nothing worth mentioning has changed."
    return run


def change_rows(previous: PreviousRun) -> list[list[str]]:
    """What changed: the kind, the subject, before, now."""
    return [
        [f"{CHANGES.get(c.kind, c.kind)} {short_text(c.what, 120)}".strip(), short_text(c.before), short_text(c.after)]
        for c in previous.changes
    ]


def rows_sentence(report: Report) -> str:
    """Where every row went, as a sum.

    >>> from featuremill.core.quality.reports.report import ReportRows
    >>> rows = ReportRows(source=10, written=8, aside=2, quarantined=2)
    >>> rows_sentence(Report("r1", "flights", "prepare", "passed", "2026-01-01T00:00:00Z", 1.0, rows))
    '10 rows in: 8 written, 2 set aside (2 by checks)'
    >>> rows = ReportRows(5, written=5)
    >>> rows_sentence(Report("r1", "flights", "report", "failed", "2026-01-01T00:00:00Z", 1.0, rows))
    '5 rows in: 5 checked'
    """
    rows, aside = report.rows, report.kind != "report" or report.rows.aside
    parts = [f"{rows.filtered:,} filtered out"] if rows.filtered else []
    parts += [f"{rows.written:,} {went_on(report)}"]
    by_checks = f" ({rows.quarantined:,} by checks)" if rows.quarantined else ""
    parts += [f"{rows.aside:,} set aside{by_checks}"] if aside else []
    return f"{count_text(rows.source, 'row')} in: {', '.join(parts)}"


def went_on(report: Report) -> str:
    """What became of the rows that went on."""
    if report.kind in ("report", "score"):
        return {"report": "checked", "score": "scored"}[report.kind]
    return "transformed" if report.status == "stopped" else "written"


# --- columns ----------------------------------------------------------------------------------------------------------


def section_title(section: ProfileSection, kind: str) -> str:
    """The heading over the columns of one table, in the report of a job of this kind."""
    if kind == "score" and section.name == "output":
        return PREDICTED[1]
    return SECTIONS.get(section.name, f"Columns: {section.name}")


def section_text(section: ProfileSection) -> str:
    """What the columns of one table are compared with, and what became of it."""
    profile = section.profile
    text = f"{count_text(len(profile.columns), 'column')} of {count_text(profile.rows, 'row')}"
    if section.reference is None:
        return f"{text}."
    text += f", beside {plain_text(section.reference_name) or 'a reference'}"
    gone = [short_text(d.column) for d in section.drift if d.column not in profile.names]
    lost = f" No longer there: {', '.join(gone)}." if gone else ""
    count = sum(d.verdict == "drifted" for d in section.drift)
    return f"{text}: {count_text(count, 'column') if count else 'no column'} drifted.{lost}"


def drift_text(drift: ColumnDrift) -> str:
    """Why a column is said to have drifted, or was not judged, and which values are new or gone; else empty."""
    parts = [short_text(drift.reason, 300)]
    if drift.verdict == "ok":
        return parts[0]
    for word, values in (("New", drift.new), ("Gone", drift.vanished)):
        if values:
            more = f" and {len(values) - 5:,} more" if len(values) > 5 else ""
            parts.append(f"{word}: {', '.join(value_text(v) for v in values[:5])}{more}.")
    return " ".join(filter(None, parts))

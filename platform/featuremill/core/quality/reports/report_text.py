"""The report as Markdown: the same content as the page, for a pull request, a chat, a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from featuremill.core.quality.profiles.profile import ColumnProfile
from featuremill.core.quality.reports import report_origin as origin
from featuremill.core.quality.reports import report_views as views
from featuremill.core.quality.reports.report import CheckResult, ProfileSection, Report
from featuremill.core.quality.reports.report_columns import badge, column_facts, measure_rows, quantile_rows, top_rows
from featuremill.core.words import plain_text, short_text

__all__ = ["report_text"]

MARKS = {"good": "✓", "bad": "✗", "warning": "!", "info": "i"}
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
LISTED_VALUES = 8


def report_text(report: Report) -> str:
    r"""The report as Markdown with tables (as GitHub reads it); the same report gives the same text.

    >>> from featuremill.core.quality.reports.report import ReportRows
    >>> report = Report("r1", "a|b", "report", "passed", "2026-01-01T00:00:00Z", 1.0, ReportRows(5))
    >>> print(report_text(report)[:43])
    # a\|b: Passed
    <BLANKLINE>
    No checks were asked for.
    """
    return "\n".join(_lines(report)).rstrip() + "\n"


def _lines(report: Report) -> Iterator[str]:
    verdict = views.verdict(report)
    yield f"# {escaped(plain_text(report.job))}: {verdict.word}\n"
    yield escaped(verdict.sentence) + "\n"
    yield from _table(("", "", ""), [[f.name, f.value, f.note] for f in views.figures(report)], right=(1,))
    warnings = views.warning_lines(report)
    if warnings:
        yield "## Warnings\n"
        yield from (f"- {MARKS[mood]} {escaped(text)}" for mood, text in warnings)
        yield ""
    if report.previous is not None:
        yield "## Since the last run\n"
        yield escaped(views.previous_text(report.previous)) + "\n"
        yield from _table(("what", "before", "now"), views.change_rows(report.previous))
    for group in views.checks_by_suite(report):
        yield f"## {group.title}\n"
        yield group.text + "\n"
        for check in (*group.failed, *group.passed):
            yield from _check(check)
        yield ""
    for section in report.profiles:
        yield from _section(section, report.kind)
    if report.vocabularies or report.learned:
        yield "## What the artifact learned\n"
        yield escaped(origin.learned_text(report)) + "\n"
        names = ("vocabulary of", "tokens", "most frequent", "made by")
        yield from _table(names, origin.vocabulary_rows(report), right=(1,))
        yield from _table(("column", "made by", "values"), origin.learned_rows(report))
    yield "## Where it comes from\n"
    links = [(short_text(name), short_text(path, 300)) for name, path in report.links.items()]
    yield from _table(("", ""), [list(pair) for pair in (*links, *origin.provenance(report))])


def _check(check: CheckResult) -> Iterator[str]:
    mark = MARKS[views.check_mood(check)]
    severity = "" if check.success else f" ({check.severity})"
    found = views.check_found(check)
    outcome = "passed" if check.success else "**failed**"
    yield f"- {mark} {outcome}{severity}: {escaped(views.check_title(check))}{f': {escaped(found)}' if found else ''}"
    for line in views.check_details(check):
        yield f"  - {escaped(line)}"
    if check.samples:
        header, rows = views.samples_table(check)
        yield f"\n  {views.samples_title(check)}:\n"
        yield from (f"  {line}" if line else "" for line in _table(header, rows))


def _section(section: ProfileSection, kind: str) -> Iterator[str]:
    before = {c.name: c for c in section.reference.columns} if section.reference else {}
    drift = {d.column: d for d in section.drift}
    yield f"## {views.section_title(section, kind)}\n"
    yield escaped(views.section_text(section)) + "\n"
    for column in section.profile.columns:
        compared = drift.get(column.name)
        word = f" ({badge(compared)[0]})" if compared else ""
        yield f"### {escaped(short_text(column.name, 80))}: {escaped(short_text(column.type, 80))}{word}\n"
        if compared and compared.reason:
            yield escaped(views.drift_text(compared)) + "\n"
        yield from _column(column, before.get(column.name))
        if compared and compared.measures:
            yield from _table(("drift measure", "value", "limit"), measure_rows(compared), right=(1, 2))


def _column(column: ColumnProfile, reference: ColumnProfile | None) -> Iterator[str]:
    header = ["", "this run", "reference"] if reference is not None else ["", "this run"]
    rows = [[f.name, f.value, f.was][: len(header)] for f in column_facts(column, reference)]
    rows += [row + [""] * (len(header) - len(row)) for row in quantile_rows(column, reference)[1:]]
    yield from _table(header, rows, right=(1, 2))
    top = [f"{escaped(value)} {count} ({share})" for value, count, share in top_rows(column, LISTED_VALUES)]
    if top:
        yield f"Most frequent: {', '.join(top)}\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    if rows:
        yield f"| {' | '.join(map(escaped, header))} |"
        yield f"| {' | '.join('---:' if i in right else '---' for i in range(len(header)))} |"
        yield from (f"| {' | '.join(map(escaped, row))} |" for row in rows)
        yield ""


def escaped(text: str) -> str:
    r"""A text as Markdown that shows it as it is; tables, HTML and emphasis in it are only text.

    >>> escaped("a|b <script> *x*")
    'a\\|b \\<script\\> \\*x\\*'
    """
    return SPECIAL.sub(r"\\\1", plain_text(text))

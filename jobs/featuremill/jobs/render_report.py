"""What people read of a report on the terminal: the same summary as on its page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

from featuremill.artifacts.errors import FeaturemillError, MissingArtifactError
from featuremill.artifacts.store import open_store
from featuremill.core.quality.reports import report_origin as origin
from featuremill.core.quality.reports import report_views as views
from featuremill.core.quality.reports.report import CheckResult, ProfileSection, Report
from featuremill.core.quality.reports.report_columns import badge, column_facts
from featuremill.core.quality.reports.report_files import (
    JSON_FILE,
    PAGE_FILE,
    REPORT_FOLDER,
    read_report,
    runs_with_reports,
)
from featuremill.core.words import count_text, short_text
from featuremill.jobs.render import Block, Heading, Line, Table

__all__ = ["find_report", "report_blocks"]

OUTCOMES = {"good": "passed", "bad": "FAILED", "warning": "failed", "info": "failed"}
SHOWN_SAMPLES = 5
RUN_FILE = "run.json"


def find_report(run: str) -> tuple[str, Report]:
    """The folder of a report, and the report: of a run's folder, a folder of runs (the latest), or the report itself.

    Parameters
    ----------
    run
        A run's folder, its ``report`` folder, its ``report.json`` or its page; or the folder above the runs.

    Raises
    ------
    MissingArtifactError
        When there is no report.
    ArtifactError
        When it cannot be read.

    Examples
    --------
    >>> find_report("no/such/run")
    Traceback (most recent call last):
    featuremill.artifacts.errors.MissingArtifactError: no/such/run: there is no report here. Name the folder of a run...
    """
    path = run.rstrip("/")
    last = path.rpartition("/")[2]
    inside = last in (JSON_FILE, PAGE_FILE)
    candidates = [path.rpartition("/")[0] or "."] if inside else [path, f"{path}/{REPORT_FOLDER}"]
    for folder in candidates:
        with suppress(MissingArtifactError):
            return folder, read_report(folder)
    for latest in runs_with_reports(path)[:1]:
        folder = f"{path}/{latest}/{REPORT_FOLDER}"
        return folder, read_report(folder)
    failure = _failure(path)
    if failure:
        raise MissingArtifactError(
            f"{run}: the run failed before there was anything to report: {failure} Its record: {path}/{RUN_FILE}",
            path=run,
        )
    raise MissingArtifactError(
        f"{run}: there is no report here. Name the folder of a run (the one with run.json), or a folder of runs; a run "
        "leaves a report unless its profile is off and nothing is checked.",
        path=run,
    )


def _failure(folder: str) -> str:
    """Why the run in a folder failed, by its record; empty where it did not, or there is none to read."""
    try:
        record = json.loads(open_store(folder).get(RUN_FILE))
        return str(record["error"] or "") if record["status"] == "failed" else ""
    except (FeaturemillError, ValueError, LookupError, TypeError):
        return ""


def report_blocks(report: Report, place: str | None = None) -> list[Block]:
    """The report as a summary: verdict, rows, what changed, checks with failed rows, columns, what drifted, places.

    Parameters
    ----------
    place
        The folder that the report is in, to say where its page is.
    """
    return list(_blocks(report, place))


def _blocks(report: Report, place: str | None) -> Iterator[Block]:
    verdict = views.verdict(report)
    yield Heading(f"{report.job}: {verdict.word.lower()}")
    yield Line(verdict.sentence, verdict.mood)
    yield Line(views.rows_sentence(report))
    yield Line(f"run {report.run}, {origin.when(report.started)}")
    if report.previous is not None:
        yield Heading("Since the last run")
        yield Line(views.previous_text(report.previous))
        if report.previous.changes:
            yield Table(views.change_rows(report.previous), ("what", "before", "now"))
    for group in views.checks_by_suite(report):
        yield Heading(f"{group.title} ({len(group.passed):,} of {len(group.failed) + len(group.passed):,} passed)")
        rows = [
            [OUTCOMES[views.check_mood(c)], "" if c.success else c.severity, views.check_title(c), views.check_found(c)]
            for c in (*group.failed, *group.passed)
        ]
        yield Table(rows, ("", "severity", "check", "found") if group.failed else ("", "", "check", "found"))
        for check in group.failed:
            yield from _failing_rows(check)
    for section in report.profiles:
        yield from _columns(section, report.kind)
    warnings = views.warning_lines(report)
    if warnings:
        yield Heading("Warnings")
        yield from (Line(text, mood if mood != "info" else "") for mood, text in warnings)
    places = [["page", f"{place.rstrip('/')}/{PAGE_FILE}"]] if place else []
    if places:
        yield Heading("Where it is")
        yield Table(places)


def _failing_rows(check: CheckResult) -> Iterator[Block]:
    if not check.samples:
        return
    header, rows = views.samples_table(check)
    yield Heading(f"{views.check_title(check)}: rows that fail")
    yield Table(rows[:SHOWN_SAMPLES], header)
    if len(rows) > SHOWN_SAMPLES:
        yield Line(f"… and {count_text(len(rows) - SHOWN_SAMPLES, 'more row', 'more rows')} in the report")


def _columns(section: ProfileSection, kind: str) -> Iterator[Block]:
    """A line per column; for those that drifted, why."""
    drift = {d.column: d for d in section.drift}
    yield Heading(views.section_title(section, kind))
    yield Line(views.section_text(section))
    rows = []
    for column in section.profile.columns:
        facts = {fact.name: fact.value for fact in column_facts(column)}
        low, high = (facts.get(a) or facts.get(b, "") for a, b in (("min", "earliest"), ("max", "latest")))
        values = [facts.get(name, "") for name in ("nulls", "different values", "mean")]
        word, _ = badge(drift.get(column.name))
        rows.append([short_text(column.name, 40), short_text(column.type, 30), *values, low, high, word])
    if rows:
        header = ("column", "type", "nulls", "different", "mean", "min", "max", "drift" if drift else "")
        yield Table(rows, header, frozenset(range(2, 7)))
    for found in section.drift:
        if found.verdict != "ok":
            yield Line(f"{short_text(found.column)}: {views.drift_text(found)}", "warning")

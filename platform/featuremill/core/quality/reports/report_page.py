"""The report as one HTML page that needs nothing else: no network, no script, no file beside it.

The page opens from disk, in a browser of any width, on paper, in the light and in the dark. Everything in it that came
out of somebody's data is escaped by the template (``templates/report.html.j2``), and characters that cannot be seen
are spelled out. A content security policy in the page forbids what is not there anyway: scripts and remote assets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from featuremill.artifacts.errors import MissingExtraError
from featuremill.core import words
from featuremill.core.quality.reports import report_origin as origin
from featuremill.core.quality.reports import report_views as views
from featuremill.core.quality.reports import svg
from featuremill.core.quality.reports.report import ProfileSection, Report
from featuremill.core.quality.reports.report_columns import (
    Fact,
    badge,
    chart,
    charted,
    column_facts,
    measure_rows,
    nothing_drawn,
    quantile_rows,
    top_rows,
)
from featuremill.core.words import plain_text, short_text

if TYPE_CHECKING:
    import jinja2

__all__ = ["report_page"]

PACKAGE = "featuremill.core.quality.reports"

FOLDED = 8
"""Checks that passed are folded away when there are more of them, and others failed."""


def report_page(report: Report) -> str:
    """The page, as HTML text; the same report gives the same text.

    Raises
    ------
    MissingExtraError
        When Jinja2 is not installed.

    Examples
    --------
    >>> from featuremill.core.quality.reports.report import ReportRows
    >>> report = Report("r1", "<b>", "report", "passed", "2026-01-01T00:00:00Z", 1.0, ReportRows(5))
    >>> page = report_page(report)
    >>> "&lt;b&gt;" in page, "<b>" in page, "://" in page
    (True, False, False)
    """
    columns = [_columns(section, report.kind) for section in report.profiles]
    text: str = _environment().get_template("report.html.j2").render(
        report=report,
        style=_style(),
        verdict=views.verdict(report),
        flow=_flow(report),
        groups=views.checks_by_suite(report),
        columns=columns,
        sections=_sections(report, columns),
        links=[(short_text(name), short_text(path, 300), _address(path)) for name, path in report.links.items()],
    )
    return text


@cache
def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError(
            'The page of a report needs Jinja2. Run: pip install "featuremill[quality]"', extra="quality"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(PACKAGE), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_seen,
    )
    environment.globals |= {"views": views, "origin": origin, "words": words, "folded": FOLDED, "address": _address}
    return environment


def _seen(value: Any) -> Any:
    """What the template writes: no text, wherever it came from, has characters that cannot be seen."""
    return plain_text(value) if type(value) is str else value


@cache
def _style() -> Any:
    return _safe(files(PACKAGE).joinpath("templates", "report.css").read_text(encoding="utf-8"))


def _safe(markup: str) -> Any:
    """Markup that the template leaves as it is: ours, from report.css and svg.py, which escapes what it is given."""
    from markupsafe import Markup

    return Markup(markup)  # noqa: S704 - see above; text of data never comes here


def _address(path: str | None) -> str:
    """A link to a file beside the page or on this machine; none to other places: the page stays where it is."""
    if not path or "://" in path or plain_text(path) != path:
        return ""
    return ("file://" if path.startswith("/") else "") + quote(path)


def _flow(report: Report) -> Any:
    """Where the rows went, as one bar."""
    rows = report.rows
    total = rows.written + rows.aside + rows.filtered
    if not total or (report.kind == "report" and not rows.aside):
        return ""
    parts = [(kind, getattr(rows, kind) / total) for kind in ("written", "aside", "filtered")]
    return _safe(svg.share_bar(parts, title="Where the rows went", described=views.rows_sentence(report)))


def _sections(report: Report, columns: Sequence[_Columns]) -> list[tuple[str, str]]:
    """What the page has, for its navigation: the anchor and the name of each section."""
    found = [("warnings", "Warnings")] if views.warning_lines(report) else []
    found += [("changes", "Since the last run")] if report.previous else []
    found += [(group.id, group.title) for group in views.checks_by_suite(report)]
    found += [(section.id, section.title) for section in columns]
    found += [("learned", "What the artifact learned")] if report.vocabularies or report.learned else []
    return [*found, ("provenance", "Where it comes from")]


@dataclass(frozen=True)
class _Card:
    """One column, as the template shows it."""

    id: str
    name: str
    type: str
    chart: Any
    nothing: str
    badge: str
    mood: str
    drift: str
    facts: Sequence[Fact]
    compared: bool
    quantiles: Sequence[Sequence[str]]
    top: Sequence[Sequence[str]]
    measures: Sequence[Sequence[str]]


@dataclass(frozen=True)
class _Columns:
    """The columns of one table."""

    id: str
    title: str
    text: str
    reference: str
    drifted: Sequence[_Card]
    cards: Sequence[_Card]


def _columns(section: ProfileSection, kind: str) -> _Columns:
    before = {c.name: c for c in section.reference.columns} if section.reference else {}
    drift = {d.column: d for d in section.drift}
    cards = []
    for i, column in enumerate(section.profile.columns):
        compared, reference = drift.get(column.name), before.get(column.name)
        word, mood = badge(compared)
        drawn = chart(column, reference)
        cards.append(
            _Card(
                id=f"{section.name}-{i}",
                name=short_text(column.name, 80),
                type=short_text(column.type, 80),
                chart=_safe(drawn) if drawn else "",
                nothing="" if drawn else nothing_drawn(column),
                badge=word,
                mood=mood,
                drift=views.drift_text(compared) if compared else "",
                facts=column_facts(column, reference),
                compared=reference is not None,
                quantiles=quantile_rows(column, reference),
                top=() if charted(column) else top_rows(column),
                measures=measure_rows(compared) if compared else (),
            )
        )
    return _Columns(
        id=f"columns-{section.name}",
        title=views.section_title(section, kind),
        text=views.section_text(section),
        reference=section.reference_name if section.reference else "",
        drifted=[card for card in cards if card.badge in ("drifted", "shifting")],
        cards=cards,
    )

"""The page: what it says, that it escapes what it shows, stays small, and looks right in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from featuremill.core.quality.reports.report import Report, ReportRows
from featuremill.core.quality.reports.report_page import report_page
from support.browser import Browser, browser, find_browser
from support.reports import HOSTILE, example_report, hostile_report, wide_report

MEGABYTE = 1_000_000
EMPTY = Report("r1", "empty", "report", "passed", "2026-01-01T00:00:00Z", 0.1, ReportRows(0))


class Elements(HTMLParser):
    """The elements of a page, and its text without the navigation and the style."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.skipped = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.skipped = self.skipped or (tag if tag in ("nav", "style", "title") else "")

    def handle_endtag(self, tag: str) -> None:
        self.skipped = "" if tag == self.skipped else self.skipped

    def handle_data(self, data: str) -> None:
        self.text += "" if self.skipped else data


def test_what_failed_comes_first() -> None:
    text = Elements(report_page(example_report())).text
    order = ["Failed", "Rows in", "336,776", "Set aside", "414", "Since the last run", "at least 99.9% of the time"]
    order += ["1301", "tailnum must have", "flight_id must not be null", "Columns as read", "What the artifact learned"]
    order += ["ScaleToZScore", "Where it comes from", "20260301T093000-4f2a91"]
    positions = [text.index(part) for part in order]
    assert positions == sorted(positions)


def test_every_column_has_its_card_with_its_verdict() -> None:
    report = example_report()
    elements = Elements(report_page(report))
    cards = [a["id"] for tag, a in elements.tags if tag == "article"]
    assert cards == [f"{s.name}-{i}" for s in report.profiles for i in range(len(s.profile.columns))]
    for word, verdict in (("drifted", "drifted"), ("shifting", "warn"), ("stable", "ok")):
        section = report.profiles[0]
        count = sum(d.verdict == verdict for d in section.drift if d.column in section.profile.names)
        assert len(re.findall(f'<span class="tag [a-z]*">{word}<', report_page(report))) == count > 0


def test_the_same_report_gives_the_same_page() -> None:
    assert report_page(example_report()) == report_page(Report.from_json(example_report().to_json()))


@pytest.mark.parametrize("report", [example_report(), hostile_report(), EMPTY], ids=["rich", "hostile", "empty"])
def test_the_page_refers_to_nothing_else(report: Report) -> None:
    elements = Elements(report_page(report))
    assert {tag for tag, _ in elements.tags} & {"script", "img", "iframe", "object", "embed", "form", "base"} == set()
    for tag, attributes in elements.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "style")], tag
        if address := attributes.get("href"):
            assert address == "data:," if tag == "link" else re.match(r"#|\.\.?|[\w%]", address), address
            assert not re.match(r"\w+:", address) or address.startswith("data:,"), address
    assert not re.search(r"url\(|@import", report_page(EMPTY))


def test_hostile_texts_are_only_texts() -> None:
    page = report_page(hostile_report())
    assert [tag for tag, _ in Elements(page).tags].count("style") == 1
    assert "\x00" not in page and "\x1b" not in page and "\u202e" not in page
    text = Elements(page).text
    for shown in (HOSTILE[0], HOSTILE[1], "{{ 7 * 7 }}", "a\\x00b\\x1b[31m", "\\u202egnp.exe", "… (2,000 characters)"):
        assert shown in text
    assert "wide " * 250 not in text


def test_a_surrogate_is_written_as_its_escape() -> None:
    page = report_page(Report("\ud800", "\udfff", "report", "passed", "2026", 0.1, ReportRows(0)))
    assert "\\ud800" in page and page.encode("utf-8")


def test_many_columns_stay_small() -> None:
    report = wide_report(200)
    assert len(report.profiles) == 2
    assert len(report_page(report).encode()) < 2 * MEGABYTE


# --- in a real browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        pytest.skip("no browser is installed: apt-get install chromium")
    with browser(path, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "index.html"
    path.write_text(report_page(request.param()), encoding="utf-8")
    return path


REPORTS = pytest.mark.parametrize("page", [example_report, hostile_report], ids=["rich", "hostile"], indirect=True)

CHARTS = """[...document.querySelectorAll('svg.chart')].map(chart => {
    const whole = chart.getBoundingClientRect();
    const drawn = [...chart.querySelectorAll('path, rect')].map(part => part.getBoundingClientRect());
    return [whole.width, whole.height, Math.max(...drawn.map(d => d.width)), Math.max(...drawn.map(d => d.height))];
})"""


@REPORTS
def test_it_loads_without_a_request_or_a_message(tab: Browser, page: Path) -> None:
    visit = tab.open(page, width=1280)
    assert [r for r in visit.requests if not r.startswith("data:")] == [page.as_uri()]
    assert visit.failures == []
    assert visit.messages == []
    assert tab.evaluate("document.scripts.length + document.images.length") == 0


@REPORTS
def test_every_chart_can_be_seen(tab: Browser, page: Path) -> None:
    tab.open(page, width=1280)
    charts = tab.evaluate(CHARTS)
    assert len(charts) == page.read_text(encoding="utf-8").count('<svg class="chart ') > 5
    for width, height, drawn_width, drawn_height in charts:
        assert width > 200 and height > 5 and drawn_width > 20 and drawn_height > 3
    assert tab.evaluate("[...document.querySelectorAll('svg.chart')].every(c => c.getAttribute('aria-label'))")


@REPORTS
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_sticks_out(tab: Browser, page: Path, width: int) -> None:
    tab.open(page, width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("page", [example_report], ids=["rich"], indirect=True)
def test_it_can_be_read_in_the_dark(tab: Browser, page: Path) -> None:
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    tab.open(page, width=1280)
    colours = "(style => [style.backgroundColor, style.color])(getComputedStyle(document.body))"
    back, ink = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in tab.evaluate(colours))
    tab.call("Emulation.setEmulatedMedia", features=[])
    assert back < 150 and ink > 600


@pytest.mark.parametrize("page", [example_report], ids=["rich"], indirect=True)
def test_a_print_shows_the_failing_rows_and_folded_checks(tab: Browser, page: Path) -> None:
    tab.open(page, width=1280)
    folded = "[...document.querySelectorAll('summary.more ~ .check .what')].map(check => check.checkVisibility())"
    assert set(tab.evaluate(folded)) == {False}
    tab.call("Emulation.setEmulatedMedia", media="print")
    shown = tab.evaluate(folded)
    tab.call("Emulation.setEmulatedMedia", media="")
    assert set(shown) == {True}

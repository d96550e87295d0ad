"""Charts: well-formed, inside their frame, with the areas that the counts ask for."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuremill.core.quality.reports.svg import PLOT_HEIGHT, WIDTH, Bar, Bins, bar_chart, histogram, share_bar, ticks

values = st.floats(-1e12, 1e12, allow_subnormal=False)


@st.composite
def bins(draw: st.DrawFn) -> Bins:
    edges = sorted(draw(st.lists(values, min_size=2, max_size=20)))
    counts = draw(st.lists(st.integers(0, 10**9), min_size=len(edges) - 1, max_size=len(edges) - 1))
    return Bins(edges, counts)


def bars_of(chart: str, kind: str) -> list[tuple[float, float, float]]:
    """Left edge, width and height of each bar of a histogram."""
    path = re.search(rf'class="{kind}" d="([^"]*)"', chart)
    assert path
    return [tuple(map(float, m)) for m in re.findall(r"M([\d.]+) 96v-([\d.]+)h([\d.]+)V96z", path[1])]


@given(bins(), st.none() | bins())
def test_a_histogram_stays_in_its_frame(now: Bins, reference: Bins | None) -> None:
    chart = histogram(now, reference, title="<t>", described="&")
    root = ET.fromstring(chart)
    assert [child.tag for child in root][:2] == ["title", "desc"]
    assert root.get("role") == "img" and root.get("aria-label") == "<t>"
    for left, height, width in bars_of(chart, "now") + (bars_of(chart, "now quiet") if "now quiet" in chart else []):
        assert left >= -0.1 and left + width <= WIDTH + 1.1 and 1 <= height <= PLOT_HEIGHT


@given(bins())
def test_what_is_drawn_keeps_every_value(found: Bins) -> None:
    drawn = found.drawn()
    assert sum(drawn.shares) == pytest.approx(1 if sum(found.counts) else 0)
    assert len(drawn.edges) == len(drawn.shares) + 1 and list(drawn.edges) == sorted(drawn.edges)


def test_areas_are_shares_also_where_bins_differ() -> None:
    chart = histogram(Bins([0, 10, 30, 40], [10, 20, 10]), title="t")
    heights = [height for _, height, _ in bars_of(chart, "now")]
    assert heights == pytest.approx([PLOT_HEIGHT] * 3)


def test_a_far_value_does_not_press_the_others_together() -> None:
    chart = histogram(Bins([*range(11), 100_000], [5] * 10 + [1]), title="t")
    assert len(bars_of(chart, "now")) == 10
    assert len(bars_of(chart, "now quiet")) == 1
    assert bars_of(chart, "now")[0][2] > WIDTH / 12


def test_bars_are_as_long_as_their_shares() -> None:
    bars = [Bar("a", 0.5, 0.25), Bar("b", 0.25), Bar("c", 0.0), Bar("2 others", 0.25, drawn=False)]
    chart = bar_chart(bars, title="t")
    widths = [float(r.get("width", 0)) for r in ET.fromstring(chart).iter("rect") if r.get("class") == "now"]
    assert len(widths) == 2 and widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert chart.count('class="ref mark"') == 1


LABELS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]))


@given(st.lists(st.tuples(LABELS, st.floats(0, 1)), max_size=9))
def test_any_label_is_well_formed(bars: list[tuple[str, float]]) -> None:
    ET.fromstring(bar_chart([Bar(label, share) for label, share in bars], title="t"))


def test_a_long_label_is_cut_and_kept_in_the_title() -> None:
    assert f"…<title>{'W' * 50}</title>" in bar_chart([Bar("W" * 50, 1.0)], title="t")


def test_a_small_part_can_be_seen() -> None:
    rects = list(ET.fromstring(share_bar([("a", 0.999999), ("b", 1e-6), ("c", 0.0)], title="t")).iter("rect"))
    assert [r.get("class") for r in rects] == ["a", "b"]
    assert sum(float(r.get("width", 0)) for r in rects) <= WIDTH


@given(values, values)
def test_ticks_are_few_and_inside(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    found = ticks(low, high)
    slack = (high - low) * 1e-6
    assert 1 <= len(found) <= 6 and all(low - slack <= t <= high + slack for t in found)

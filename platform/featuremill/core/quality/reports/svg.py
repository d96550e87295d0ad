"""Charts as inline SVG: this run over a reference. No script, no style of their own, nothing to fetch.

Colours come from the page through CSS classes (``now``, ``ref``, ``axis``), so a chart follows its scheme. Every chart
has a title and a description for those who do not see it. All coordinates are rounded to a tenth of a pixel, which
keeps a chart of forty bars under two kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from featuremill.core.words import percent_text

__all__ = ["Bar", "Bins", "bar_chart", "histogram", "share_bar", "span_of", "ticks"]

WIDTH = 320
"""In user units; a chart is as wide as its card, about so many pixels, so that text keeps its size."""

PLOT_HEIGHT = 96
AXIS_HEIGHT = 18
ROW_HEIGHT = 22
LABEL_WIDTH = 120
SHARE_WIDTH = 46


@dataclass(frozen=True)
class Bins:
    """A histogram: `counts[i]` values lie from `edges[i]` to `edges[i + 1]`.

    Parameters
    ----------
    edges
        Ascending, one more than the counts.
    counts
        Of any unit: a chart shows shares.
    """

    edges: Sequence[float]
    counts: Sequence[float]

    def drawn(self) -> Drawn:
        """What to draw: the outermost bins made to fit the others.

        One that reaches far out would press everything else against the other side: it is drawn as wide as its
        neighbour, and said to be a tail. One that is a sliver would stand out as a spike: its neighbour takes it in.

        >>> Bins([0, 1, 2, 3, 1000], [5, 6, 7, 1]).drawn()
        Drawn(edges=(0, 1, 2, 3, 4.0), shares=(0.263..., 0.315..., 0.368..., 0.052...), tails=(3,))
        >>> Bins([0, 1, 2, 3, 3], [2, 3, 2, 1]).drawn().shares
        (0.25, 0.375, 0.375)
        >>> Bins([7, 7], [5]).drawn()
        Drawn(edges=(6.5, 7.5), shares=(1.0,), tails=())
        """
        edges, total = list(self.edges), sum(self.counts) or 1
        shares = [count / total for count in self.counts]
        tails = []
        for at, outer, inner, sign in ((0, 0, 1, -1), (-1, -1, -2, 1)):
            width = (edges[-2] - edges[1]) / (len(shares) - 2) if len(shares) > 2 else 0
            if width > 0 and abs(edges[outer] - edges[inner]) > 1.5 * width:
                edges[outer] = edges[inner] + sign * width
                tails.append(at % len(shares))
            elif abs(edges[outer] - edges[inner]) < 0.5 * width:
                del edges[inner]
                share = shares.pop(at)
                shares[at] += share
        if edges[0] == edges[-1]:
            edges, shares = [edges[0] - 0.5, edges[0] + 0.5], [sum(shares)]
        return Drawn(tuple(edges), tuple(shares), tuple(tails))


@dataclass(frozen=True)
class Drawn:
    """A histogram as it is drawn: bins, their shares of all values, and which of them stand for a tail."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    tails: tuple[int, ...] = ()

    def densities(self) -> list[float]:
        """The share of the values per unit of the axis, so that bins of another width can be compared."""
        return [s / (b - a) if b > a else 0.0 for s, (a, b) in zip(self.shares, pairwise(self.edges), strict=True)]


@dataclass(frozen=True)
class Bar:
    """One bar: a share of one, and that of the reference where there is one."""

    label: str
    share: float
    reference: float | None = None
    drawn: bool = True
    """False for one that is only told, as the sum of all other values is: it would dwarf the rest."""


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about as many as fit.

    >>> ticks(-43, 1301), ticks(0, 1), ticks(5, 5)
    ([0, 500, 1000], [0.0, 0.5, 1.0], [5])
    """
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    rough = span / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Divided rather than multiplied by a step below one: 3 * 0.1 is not 0.3.
    found = [i / round(1 / step) if step < 1 else i * round(step) for i in range(first, last + 1)]
    return found or [low]


def span_of(*all_bins: Bins) -> tuple[float, float]:
    """The axis that shows all of these histograms, from where to where; never empty."""
    edges = [edge for bins in all_bins for edge in bins.drawn().edges]
    return min(edges), max(edges)


def histogram(
    now: Bins,
    reference: Bins | None = None,
    *,
    marks: Sequence[tuple[float, str]] = (),
    title: str,
    described: str = "",
) -> str:
    """A histogram: bars for this run, an outline for the reference; both as shares of their own values.

    Bars of tails (:meth:`Bins.drawn`) are paler.

    Parameters
    ----------
    marks
        What to write below the axis, and at which values; see :func:`ticks`.
    title, described
        For screen readers, and shown when the pointer rests on the chart; plain text, escaped here.
    """
    every = [now] if reference is None else [now, reference]
    low, high = span_of(*every)
    shapes = [bins.drawn() for bins in every]
    peak = max((d for shape in shapes for d in shape.densities()), default=0) or 1

    def x(value: float) -> float:
        return (value - low) / (high - low) * WIDTH

    bars, tails = _bars(shapes[0], x, peak)
    parts = [f'<path class="now" d="{bars}"/>'] + ([f'<path class="now quiet" d="{tails}"/>'] if tails else [])
    if reference is not None:
        parts.append(f'<path class="ref" d="{_outline(shapes[1], x, peak)}"/>')
    parts.append(f'<path class="axis" d="M0 {PLOT_HEIGHT}.5H{WIDTH}"/>')
    for value, text in marks:
        at = x(value)
        anchor = "start" if at < 20 else "end" if at > WIDTH - 20 else "middle"
        at = max(0, at - 8) if anchor == "start" and at < 8 else at
        parts.append(f'<text x="{_n(at)}" y="{PLOT_HEIGHT + 14}" text-anchor="{anchor}">{escape(text)}</text>')
    return _svg("histogram", PLOT_HEIGHT + AXIS_HEIGHT, title, described, parts)


def _bars(shape: Drawn, x: Callable[[float], float], peak: float) -> tuple[str, str]:
    """Closed shapes for the bins with values, and for those that are tails; at least a pixel high, to be seen."""
    bars: list[str] = []
    tails: list[str] = []
    for i, ((a, b), density) in enumerate(zip(pairwise(shape.edges), shape.densities(), strict=True)):
        if density > 0:
            height = max(1.0, density / peak * PLOT_HEIGHT)
            room = x(b) - x(a)
            width = max(1.0, room - (0.6 if room > 2 else 0))  # a hair apart where there is room
            path = f"M{_n(x(a))} {PLOT_HEIGHT}v-{_n(height)}h{_n(width)}V{PLOT_HEIGHT}z"
            (tails if i in shape.tails else bars).append(path)
    return "".join(bars), "".join(tails)


def _outline(shape: Drawn, x: Callable[[float], float], peak: float) -> str:
    path = [f"M{_n(x(shape.edges[0]))} {PLOT_HEIGHT}"]
    for edge, density in zip(shape.edges[1:], shape.densities(), strict=True):
        path.append(f"V{_n(PLOT_HEIGHT - density / peak * PLOT_HEIGHT)}H{_n(x(edge))}")
    return "".join([*path, f"V{PLOT_HEIGHT}"])


def bar_chart(bars: Sequence[Bar], *, title: str, described: str = "") -> str:
    """Horizontal bars with their labels and shares; a mark across each bar says where the reference was.

    The longest bar, or mark, fills the room.
    """
    longest = max((max(bar.share, bar.reference or 0) for bar in bars if bar.drawn), default=0) or 1
    label = min(LABEL_WIDTH, 10 + max((_width(bar.label) for bar in bars), default=0))
    room = WIDTH - label - SHARE_WIDTH
    parts = []
    for i, bar in enumerate(bars):
        top = i * ROW_HEIGHT
        width = max(1.0, bar.share / longest * room) if bar.share else 0
        shown = _fitted(bar.label)
        kind = "label" if bar.drawn else "label rest"
        # Texts of another direction must not turn the row around.
        whole = "" if shown == bar.label else f"<title>{escape(bar.label)}</title>"
        parts.append(f'<text class="{kind}" y="{top + 15}" direction="ltr">{escape(shown)}{whole}</text>')
        if bar.drawn:
            parts.append(f'<rect class="track" x="{label}" y="{top + 4}" width="{room}" height="14"/>')
        if bar.drawn and width:
            parts.append(f'<rect class="now" x="{label}" y="{top + 4}" width="{_n(width)}" height="14"/>')
        if bar.reference is not None:
            at = label + bar.reference / longest * room
            parts.append(f'<path class="ref mark" d="M{_n(at)} {top + 2}v18"/>')
        parts.append(
            f'<text class="share" x="{WIDTH}" y="{top + 15}" text-anchor="end">{escape(percent_text(bar.share))}</text>'
        )
    return _svg("bars", len(bars) * ROW_HEIGHT, title, described, parts)


def _width(text: str) -> int:
    """About how wide a text is in a label, and rather too wide: its font is not known."""
    return sum(13 if ord(c) > 0x2E7F else 9 if c.isupper() or c in "mw@%—" else 7 for c in text)


def _fitted(text: str) -> str:
    """A text cut to the width of a label; the whole is in the title of its row."""
    if _width(text) <= LABEL_WIDTH - 10:
        return text
    while _width(text) > LABEL_WIDTH - 22:
        text = text[:-1]
    return text + "…"


def share_bar(parts: Sequence[tuple[str, float]], *, title: str, described: str = "", height: int = 10) -> str:
    """One bar from edge to edge, cut into parts: ``(CSS class, share of one)``; a part that is not empty is seen."""
    left, rects = 0.0, []
    for kind, share in parts:
        width = max(2.0, share * WIDTH) if share > 0 else 0.0
        width = min(width, WIDTH - left)
        if width > 0:
            rects.append(f'<rect class="{kind}" x="{_n(left)}" width="{_n(width)}" height="{height}"/>')
        left += width
    return _svg("share", height, title, described, rects, stretched=True)


def _svg(
    kind: str, height: float, title: str, described: str, parts: Sequence[str], *, stretched: bool = False
) -> str:
    described = f"<desc>{escape(described)}</desc>" if described else ""
    stretch = ' preserveAspectRatio="none"' if stretched else ""
    return (
        f'<svg class="chart {kind}" role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {_n(height)}"'
        f"{stretch}><title>{escape(title)}</title>{described}{''.join(parts)}</svg>"
    )


def _n(value: float) -> str:
    """A coordinate, as short as it can be written."""
    return f"{value:.1f}".removesuffix(".0")

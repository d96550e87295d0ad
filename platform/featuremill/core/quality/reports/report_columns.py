"""What a report says of one column: its chart, its numbers, what they were before, and whether it drifted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from featuremill.core.quality.profiles.drift import ColumnDrift, Measure
from featuremill.core.quality.profiles.profile import ColumnProfile, Histogram, Lengths, Number
from featuremill.core.quality.reports import svg
from featuremill.core.words import (
    count_text,
    number_text,
    percent_text,
    plain_text,
    seconds_text,
    short_text,
    value_text,
)

__all__ = [
    "Fact", "badge", "chart", "charted", "column_facts", "measure_rows", "nothing_drawn", "quantile_rows", "top_rows",
]

BARS = 8
FEW_VALUES = 12
"""A column with at most so many different values is shown by value, numbers too."""

DAY = 86_400_000_000
"""In microseconds; moments that spread over more are shown to the minute."""
MINUTE = len("2026-01-01T12:00")

BADGES = {"ok": ("stable", ""), "warn": ("shifting", "warning"), "drifted": ("drifted", "bad")}

MEASURES = {
    "js": "Jensen-Shannon distance", "psi": "population stability index", "linf": "largest change of a share",
    "wasserstein": "Wasserstein distance, scaled", "null_rate": "change of the null rate",
    "oov_rate": "change of the out-of-vocabulary rate", "new_values": "share of new values",
}
RATES = ("linf", "null_rate", "oov_rate", "new_values")


@dataclass(frozen=True)
class Fact:
    """A number of a column, and what it is in the reference; empty where there is none."""

    name: str
    value: str
    was: str = ""


def shown(column: ColumnProfile, value: Number | float | None) -> str:
    """A value of this column for people."""
    if value is None:
        return "—"
    if column.kind != "time":
        # A year, or a time of day written as a number, is no quantity; from five digits on it is too long to be one.
        return number_text(value).replace(",", "") if abs(value) < 10_000 else number_text(value)
    text = column.shown(round(value))
    if not column.type.startswith("timestamp"):
        return text
    numbers = column.numbers
    if numbers is not None and (numbers.max or 0) - (numbers.min or 0) > DAY and len(text) > MINUTE:
        text = f"{text[:MINUTE]}:00"
    # The type says the zone.
    return text.removesuffix("Z").removesuffix(":00").removesuffix("T00:00").replace("T", " ")


# --- numbers ----------------------------------------------------------------------------------------------------------


def column_facts(column: ColumnProfile, reference: ColumnProfile | None = None) -> list[Fact]:
    """The numbers of a column, the most telling first; those that say nothing (no NaN, no zeros) are left out."""
    now = _facts(column)
    before = _facts(reference) if reference is not None and reference.kind == column.kind else {}
    found = [Fact(name, now.get(name, "—"), before.get(name, "")) for name in dict.fromkeys([*now, *before])]
    return [f for f in found if f.name == "nulls" or f.value != "0%" or f.was not in ("", "0%")]


def _facts(column: ColumnProfile) -> dict[str, str]:
    rows = column.rows or 1
    facts = {"nulls": percent_text(column.null_rate)}
    if column.oov_rate is not None:
        facts["not in vocabulary"] = percent_text(column.oov_rate)
    if column.distinct is not None:
        facts["different values"] = _distinct(column)
    if column.numbers is not None:
        facts |= _number_facts(column, rows)
    if column.lengths is not None:
        facts |= _length_facts(column.lengths, rows)
    if column.lists is not None:
        lengths, inner = column.lists.lengths, column.lists.elements
        facts |= {"elements": number_text(inner.rows)}
        facts |= _length_facts(lengths, rows) | {"nulls in lists": percent_text(inner.null_rate)}
        if column.lists.norm is not None:
            names = ("smallest norm", "mean norm", "largest norm")
            facts |= dict(zip(names, map(number_text, column.lists.norm), strict=True))
        if inner.numbers is not None:
            facts |= {f"{name} in lists": text for name, text in _number_facts(inner, inner.rows or 1).items()}
    return facts


def _distinct(column: ColumnProfile) -> str:
    """How many different values; three digits of an estimate, whose error is that of one standard deviation."""
    count = column.distinct or 0
    if not column.distinct_error:
        return f"{count:,}"
    # An estimate may be above the number of values there are.
    count = min(round(count, 3 - len(str(count))), column.values)
    return f"≈ {count:,} ± {number_text(100 * column.distinct_error, 2)}%"


def _number_facts(column: ColumnProfile, rows: int) -> dict[str, str]:
    numbers = column.numbers
    assert numbers is not None
    moments = column.kind == "time" and not column.type.startswith("duration")
    names = ("earliest", "latest") if moments else ("min", "max")
    facts: dict[str, str] = {}
    if column.kind != "time":
        facts |= {"mean": shown(column, numbers.mean), "std": shown(column, numbers.std)}
    facts |= {names[0]: shown(column, numbers.min), "median": shown(column, numbers.quantile(0.5))}
    facts |= {names[1]: shown(column, numbers.max)}
    if column.kind != "time":
        counts = {"zeros": numbers.zeros, "negative": numbers.negatives}
        counts |= {"NaN": numbers.nans, "infinite": numbers.infinities}
        facts |= {name: percent_text(count / rows) for name, count in counts.items()}
    return facts


def _length_facts(lengths: Lengths, rows: int) -> dict[str, str]:
    if lengths.min is None or lengths.max is None or lengths.mean is None:
        return {}
    same = lengths.min == lengths.max
    facts = {"length": f"{lengths.min:,}" if same else f"{lengths.min:,} to {lengths.max:,}"}
    facts |= {} if same else {"mean length": number_text(lengths.mean, 3)}
    return facts | {"empty": percent_text(lengths.empty / rows)}


def quantile_rows(column: ColumnProfile, reference: ColumnProfile | None = None) -> list[list[str]]:
    """A table of quantiles: a header, then share, this run's and the reference's; empty where the column has none."""
    if column.numbers is None or not column.numbers.quantiles:
        return []
    before = reference.numbers if reference is not None and reference.kind == column.kind else None
    rows = [["", "this run", "reference"] if before else ["", "this run"]]
    for share, value in column.numbers.quantiles:
        row = [f"{share * 100:g}%", shown(column, value)]
        rows.append([*row, shown(column, before.quantile(share))] if before else row)
    return rows


def top_rows(column: ColumnProfile, most: int = 12) -> list[list[str]]:
    """The most frequent values: value, rows, share of those that are not null."""
    values = column.values or 1
    return [
        [value_text(top.value), f"{'≥ ' if top.error else ''}{top.count:,}", percent_text(top.count / values)]
        for top in column.top[:most]
    ]


def badge(drift: ColumnDrift | None) -> tuple[str, str]:
    """The word and the mood for what became of a comparison; empty for a column that was not compared."""
    if drift is None:
        return "", ""
    return ("not judged", "") if drift.verdict == "ok" and drift.reason else BADGES[drift.verdict]


def measure_rows(drift: ColumnDrift) -> list[list[str]]:
    """What was measured between this run and the reference: measure, value, from where on it is drift."""
    rows = [
        [MEASURES.get(m.name, short_text(m.name)), _measure(m, m.value), _measure(m, m.drifted)] for m in drift.measures
    ]
    if drift.distance is not None:
        distance = seconds_text(drift.distance) if drift.kind == "time" else number_text(drift.distance, 3)
        rows.append(["Wasserstein distance", distance, ""])
    return rows


def _measure(measure: Measure, value: float) -> str:
    return percent_text(value) if measure.name in RATES else number_text(value, 3)


# --- charts -----------------------------------------------------------------------------------------------------------


def chart(column: ColumnProfile, reference: ColumnProfile | None = None) -> str:
    """The chart of a column as SVG: a histogram for numbers and times, bars for values; empty where there is nothing.

    A column in which every value is another has nothing to draw by value; nor has one without values.
    """
    if column.lists is not None:
        inner = reference.lists.elements if reference is not None and reference.lists is not None else None
        return chart(column.lists.elements, inner)
    if reference is not None and reference.kind != column.kind:
        reference = None
    few = column.complete and 0 < len(column.top) <= FEW_VALUES and column.kind != "time"
    if column.numbers is not None and column.numbers.histogram.counts and not few:
        return _histogram(column, reference)
    if not column.top or (column.top[0].count == 1 and len(column.top) < (column.distinct or 0)):
        return ""
    return _bar_chart(column, reference)


def nothing_drawn(column: ColumnProfile) -> str:
    """Why a column has no chart."""
    if not column.values:
        return "No values."
    if column.lists is not None:
        return nothing_drawn(column.lists.elements)
    if column.top:
        return "Every value is different."
    if column.kind in ("text", "binary", "number", "time"):
        return "Too many different values to list."
    return f"Values of type {short_text(column.type)} are only counted."


def charted(column: ColumnProfile) -> bool:
    """Whether a list of the most frequent values would say no more than the chart does, or nothing at all."""
    few = column.complete and len(column.top) <= (FEW_VALUES if column.kind == "number" else BARS)
    return few or not column.top or column.top[0].count == 1


def _histogram(column: ColumnProfile, reference: ColumnProfile | None) -> str:
    assert column.numbers is not None
    now = _bins(column.numbers.histogram)
    before = None
    if reference is not None and reference.numbers is not None and reference.numbers.histogram.counts:
        before = _bins(reference.numbers.histogram)
    low, high = svg.span_of(now, *([before] if before else []))
    described = f"{number_text(column.values)} values from {shown(column, column.numbers.min)} to "
    described += shown(column, column.numbers.max)
    described += f"; median {shown(column, column.numbers.quantile(0.5))}."
    return svg.histogram(
        now, before, marks=_marks(column, low, high), title=f"Histogram of {short_text(column.name)}",
        described=described + (" The line is the reference." if before else ""),
    )


def _bins(histogram: Histogram) -> svg.Bins:
    return svg.Bins(histogram.edges, histogram.counts)


def _marks(column: ColumnProfile, low: float, high: float) -> list[tuple[float, str]]:
    if column.kind != "time":
        return [(at, shown(column, at)) for at in svg.ticks(low, high)]
    if column.type.startswith("duration"):
        return [(at * 1e6, f"{number_text(at)} s") for at in svg.ticks(low / 1e6, high / 1e6)]
    inside = [low + (high - low) * share for share in (0.1, 0.5, 0.9)]
    days = (high - low) / 86_400e6
    cut: Callable[[str], str] = (lambda t: t[:10]) if days > 4 or column.type.startswith("date") else (lambda t: t[:16])
    return [(at, cut(shown(column, at))) for at in inside]


def _bar_chart(column: ColumnProfile, reference: ColumnProfile | None) -> str:
    now, before = _shares(column), _shares(reference)
    # A value that a profile does not list was not there, if it lists them all; else nobody knows.
    missing = 0.0 if reference is not None and reference.complete else None
    candidates = list(dict.fromkeys([*now, *(before if column.complete else ())]))
    most = FEW_VALUES if column.kind == "number" else BARS
    candidates = sorted(candidates, key=lambda v: -max(now.get(v, 0), before.get(v, 0)))[:most]
    if column.kind == "number":
        candidates.sort(key=float)
    else:
        candidates.sort(key=lambda v: -now.get(v, 0))
    bars = [svg.Bar(value_text(v), now.get(v, 0.0), before.get(v, missing)) for v in candidates]
    listed = [v for v in candidates if v in now]
    rest = 1 - sum(now[v] for v in listed)
    others = (column.distinct or 0) - len(listed)
    if others > 0 and rest > 0:
        about = "≈ " if column.distinct_error else ""
        bars.append(svg.Bar(f"{about}{count_text(others, 'other')}", rest, drawn=False))
    described = ", ".join(f"{plain_text(bar.label)} {percent_text(bar.share)}" for bar in bars[:4])
    return svg.bar_chart(
        bars, title=f"Most frequent values of {short_text(column.name)}",
        described=described + (". The marks are the reference." if before else "."),
    )


def _shares(column: ColumnProfile | None) -> dict[Any, float]:
    """The most frequent values with their shares of those that are not null."""
    return {} if column is None else {top.value: top.count / (column.values or 1) for top in column.top}

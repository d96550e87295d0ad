"""What the artifact of a run learned, and where all comes from: what ran, on what, with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from featuremill.core.quality.reports.report import Report
from featuremill.core.words import bytes_text, count_text, plain_text, seconds_text, short_text, value_text

__all__ = ["facts", "learned_rows", "learned_text", "provenance", "vocabulary_rows", "when"]


def vocabulary_rows(report: Report) -> list[list[str]]:
    """The vocabularies: column, size, most frequent tokens, transform."""
    return [
        [short_text(v.column), f"{v.size:,}", _counted(v.top[:5]), short_text(v.transform)] for v in report.vocabularies
    ]


def _counted(tokens: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{value_text(token, 30)} {count:,}" for token, count in tokens)


def learned_rows(report: Report) -> list[list[str]]:
    """The numbers: column, transform, values by name."""
    return [
        [
            short_text(x.column), short_text(x.transform),
            ", ".join(f"{short_text(name)} {value_text(value, rounded=True)}" for name, value in x.values.items()),
        ]
        for x in report.learned
    ]


def learned_text(report: Report) -> str:
    """How much the artifact learned, and which artifact it is."""
    name = plain_text(report.artifact.get("reference") or report.artifact.get("name") or "")
    counts = [count_text(len(report.vocabularies), "vocabulary", "vocabularies")] if report.vocabularies else []
    counts += [f"numbers of {count_text(len({x.column for x in report.learned}), 'column')}"] if report.learned else []
    text = f"{' and '.join(counts)}{f', in {name}' if name else ''}."
    return text[:1].upper() + text[1:]


def provenance(report: Report) -> list[tuple[str, str]]:
    """What ran, on what, with what: pairs of a name and a text."""
    return [
        ("run", plain_text(report.run)),
        ("started", when(report.started)),
        ("took", seconds_text(report.seconds)),
        *_named("source", report.source),
        *_named("artifact", report.artifact),
        *_named("split", {name: count_text(rows, "row") for name, rows in report.splits.items()}),
        ("when a check fails", report.on_failure),
        ("made with", ", ".join(f"{short_text(name)} {short_text(v)}" for name, v in report.versions.items())),
    ]


def _named(what: str, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(f"{what} {name}" if name != what else name, text) for name, text in facts(values)]


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A mapping of plain data as pairs of texts; empty values are left out, nested names are joined.

    >>> facts({"rows": 1200, "bytes": 8_300_000, "paths": ["a", "b"], "alias": None, "where": {"x": 1}})
    [('rows', '1,200'), ('bytes', '8.3 MB'), ('paths', 'a, b'), ('where x', '1')]
    """
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        word = short_text(name).replace("_", " ")
        if isinstance(value, Mapping):
            found += [(f"{word} {inner}", text) for inner, text in facts(value)]
        elif name == "bytes" and isinstance(value, int):
            found.append((word, bytes_text(value)))
        elif isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
            more = [f"… and {len(value) - 3:,} more"] if len(value) > 3 else []
            found += [(word, ", ".join([short_text(v, 200) for v in value[:3]] + more))] if value else []
        elif value is not None and value != "":
            found.append((word, short_text(value, 200) if isinstance(value, str) else value_text(value, rounded=True)))
    return found


def when(moment: str) -> str:
    """A moment for people.

    >>> when("2026-03-01T09:30:12.123456+00:00"), when("soon")
    ('1 March 2026, 09:30 UTC', 'soon')
    """
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return plain_text(moment)
    utc = at.astimezone(UTC) if at.tzinfo else at
    return f"{utc.day} {utc:%B %Y, %H:%M} UTC"

"""What people read about artifacts: their versions, what one is made of, what changed between two."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featuremill.jobs.render import Block, Heading, Line, Table, bytes_text, count_text, token_text

if TYPE_CHECKING:
    import pyarrow as pa

    from featuremill.artifacts import AliasEntry, Artifact, ArtifactSummary, Collected, Diff

__all__ = ["artifact_blocks", "collected_blocks", "diff_blocks", "history_blocks", "list_blocks", "statistics"]

TOP_TOKENS = 5
MAX_NUMBERS = 24
"""So many boundaries (or other numbers) are shown in full; of more, the first few and the last."""
ODDITIES = ("nulls", "nans", "infinities")
"""Counts that are shown where there are any."""
MAX_POSITIONS = 3
"""For a state with a row for each position of a list column, so many are shown."""


def number_text(value: Any) -> str:
    """A number for people.

    >>> number_text(1200), number_text(0.1 + 0.2), number_text(None)
    ('1,200', '0.3', 'none')
    """
    if value is None:
        return "none"
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def numbers_text(values: Sequence[Any]) -> str:
    """Numbers in a row; of many, the first few and the last.

    >>> numbers_text([1.0, 2.5])
    '1, 2.5'
    >>> numbers_text(range(100))
    '0, 1, 2, … 99 (100 numbers)'
    """
    if len(values) <= MAX_NUMBERS:
        return ", ".join(number_text(v) for v in values)
    return f"{', '.join(number_text(v) for v in values[:3])}, … {number_text(values[-1])} ({len(values):,} numbers)"


def parameters_text(config: Mapping[str, Any]) -> str:
    """A transform's parameters other than its columns."""
    return ", ".join(
        f"{key}={numbers_text(value) if _is_long(value) else json.dumps(value, ensure_ascii=False)}"
        for key, value in config.items()
        if key != "columns"
    )


def _is_long(value: Any) -> bool:
    return isinstance(value, list) and len(value) > MAX_NUMBERS


# --- lists ----------------------------------------------------------------------------------------------------------


def list_blocks(root: str, artifacts: Sequence[ArtifactSummary]) -> list[Block]:
    """All artifacts below a root, with their versions, newest first."""
    if not artifacts:
        return [Line(f"There are no artifacts in {root}.")]
    blocks: list[Block] = []
    for artifact in artifacts:
        rows = []
        for v in artifact.versions:
            used = number_text(v.manifest.rows.get("used")) if v.manifest else ""
            made = f"{v.created:%Y-%m-%d %H:%M:%S}" if v.created else ""
            rows.append([v.version, made, used, ", ".join("@" + a for a in v.aliases), v.problem or ""])
        header = ["version", "created (UTC)", "rows used", "aliases", "problem"]
        if not any(row[-1] for row in rows):
            header, rows = header[:-1], [row[:-1] for row in rows]
        blocks += [
            Heading(f"{artifact.name} ({count_text(len(rows), 'version')})"),
            Table(rows, header, frozenset({2})),
        ]
    return blocks


def history_blocks(reference: str, entries: Sequence[AliasEntry]) -> list[Block]:
    """What an alias stood for, newest first."""
    rows = [[str(e.number), e.version, f"{e.when:%Y-%m-%d %H:%M:%S}", e.why] for e in reversed(entries)]
    return [
        Heading(f"{reference} stands for {entries[-1].version}"),
        Table(rows, ("entry", "version", "when (UTC)", "why")),
    ]


def aliases_blocks(name: str, aliases: Mapping[str, AliasEntry]) -> list[Block]:
    """The aliases of an artifact."""
    if not aliases:
        return [Line(f"{name} has no alias.")]
    rows = [[a, e.version, f"{e.when:%Y-%m-%d %H:%M:%S}", e.why] for a, e in sorted(aliases.items())]
    return [Heading(f"Aliases of {name}"), Table(rows, ("alias", "version", "since (UTC)", "why"))]


def collected_blocks(found: Mapping[str, Collected]) -> list[Block]:
    """What was collected from each artifact, or would be."""
    blocks: list[Block] = []
    for name, c in found.items():
        word = "would go" if c.dry_run else "removed"
        rows = [[v, word] for v in c.removed] + [
            [v, f"{word} (left by a run that did not finish)"] for v in c.leftovers
        ]
        rows += [[v, "kept"] for v in c.kept if v not in c.damaged] + [
            [v, "damaged: kept, look at it"] for v in c.damaged
        ]
        blocks += [Heading(f"{name}: {len(c.removed) + len(c.leftovers):,} {word}"), Table(rows)]
    return blocks


def diff_blocks(diff: Diff) -> list[Block]:
    """What changed from one artifact to another."""
    if not diff:
        return [Line(f"{diff.old} and {diff.new} compute the same.", "good")]
    titles = {"transform": "Transforms", "input": "Columns in", "output": "Columns out", "state": "Statistics"}
    blocks: list[Block] = [Heading(f"{diff.old} → {diff.new}")]
    for kind, title in titles.items():
        changes = diff.of(kind)
        if changes:
            blocks += [Heading(title), *(Line(change.text) for change in changes)]
    return blocks


# --- one artifact ---------------------------------------------------------------------------------------------------


def artifact_blocks(artifact: Artifact, aliases: Iterable[str] = ()) -> list[Block]:
    """What an artifact is made of and where it comes from."""
    manifest = artifact.manifest
    names = ", ".join("@" + a for a in aliases)
    steps = [
        [str(i), t["type"], ", ".join(map(str, t["config"].get("columns", ()))), parameters_text(t["config"])]
        for i, t in enumerate(manifest.transforms)
    ]
    size = sum(f.bytes for f in manifest.files.values())
    blocks: list[Block] = [
        Heading(f"{artifact.name}@{artifact.version}" + (f" ({names})" if names else "")),
        Line(artifact.location),
        Line(", ".join(f"{n:,} rows {what.replace('_', ' ')}" for what, n in manifest.rows.items())),
        Line(f"{count_text(len(manifest.files) + 1, 'file')}, {bytes_text(size)}"),
        Heading(f"Transforms ({len(steps)})"),
        Table(steps, ("", "type", "columns", "parameters")),
    ]
    found = statistics(artifact)
    if found:
        rows = [[s["column"], s["made_for"], s["text"]] for s in found]
        blocks += [Heading(f"Statistics ({len(rows)})"), Table(rows, ("column", "of", "what"))]
    for title, schema in (("Columns in", artifact.input_schema), ("Columns out", artifact.output_schema)):
        blocks += [Heading(f"{title} ({len(schema)})"), Table([[f.name, _type(f)] for f in schema], ("name", "type"))]
    if manifest.warnings:
        blocks += [Heading("Warnings"), *(Line(w, "warning") for w in manifest.warnings)]
    return [*blocks, Heading("Provenance"), Table(_facts(manifest.provenance))]


def _type(field: pa.Field) -> str:
    return str(field.type) if field.nullable else f"{field.type} not null"


def _facts(value: Mapping[str, Any], above: str = "") -> list[list[str]]:
    """Nested facts as rows of dotted keys and values."""
    rows = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            rows += _facts(item, f"{above}{key}.")
        elif item is not None:
            text = (
                ", ".join(map(str, item[:3])) + (f", … ({len(item):,})" if len(item) > 3 else "")
                if isinstance(item, list)
                else item
            )
            rows.append([above + key, number_text(text)])
    return rows


def statistics(artifact: Artifact) -> list[dict[str, Any]]:
    """What is known of each column, in the order of the transforms: ``{column, made_for, kind, text, …}``.

    Means and ranges, the sizes of vocabularies with their most frequent tokens, the boundaries of buckets.
    """
    found = []
    for entry in artifact.manifest.states:
        transform = artifact.manifest.transforms[entry.transform]
        facts = _describe(artifact.states[entry.key], transform["config"])
        found.append({"column": entry.slot, "made_for": f"{transform['type']} ({entry.transform})", **facts})
    return found


def _describe(state: pa.Table, config: Mapping[str, Any]) -> dict[str, Any]:
    names = set(state.column_names)
    if {"token", "count"} <= names:
        top = [
            [row["token"], row["count"]] for row in state.select(["token", "count"]).slice(0, TOP_TOKENS).to_pylist()
        ]
        listed = ", ".join(f"{token_text(token)} {count:,}" for token, count in top)
        text = count_text(state.num_rows, "token") + (f": {listed}" if listed else "")
        return {"kind": "vocabulary", "size": state.num_rows, "top": top, "text": text}
    if {"low", "high", "counts", "bits"} <= names:
        rows = [_histogram(state, i, config) for i in range(state.num_rows)]
        return {"kind": "histogram", "positions": rows, "text": _positions(rows)}
    if state.num_rows <= MAX_NUMBERS and not any(_nested(f.type) for f in state.schema):
        rows = [{k: v for k, v in row.items() if v is not None} for row in state.to_pylist()]
        return {"kind": "numbers", "positions": rows, "text": _positions(rows)}
    return {
        "kind": "table",
        "size": state.num_rows,
        "text": f"{count_text(state.num_rows, 'row')} of {', '.join(state.column_names)}",
    }


def _nested(type_: pa.DataType) -> bool:
    return bool(type_.num_fields)


def _histogram(state: pa.Table, position: int, config: Mapping[str, Any]) -> dict[str, Any]:
    """The boundaries where the transform makes buckets, and the middle and the ends of the data otherwise."""
    from featuremill.transforms.histogram import bins_of, median, quantile_boundaries

    bins = bins_of(state, position)
    facts: dict[str, Any] = {"count": bins.count}
    if isinstance(config.get("num_buckets"), int):
        facts["boundaries"] = quantile_boundaries(bins, config["num_buckets"])
    elif bins.count:
        facts |= {"min": float(bins.low[0]), "median": median(bins), "max": float(bins.high[-1])}
    return facts


def _positions(rows: Sequence[Mapping[str, Any]]) -> str:
    texts = [
        ", ".join(
            f"{k} {numbers_text(v) if isinstance(v, list) else number_text(v)}"
            for k, v in row.items()
            if v or k not in ODDITIES
        )
        for row in rows[:MAX_POSITIONS]
    ]
    more = f"; … {len(rows):,} positions" if len(rows) > MAX_POSITIONS else ""
    return "; ".join(texts) + more

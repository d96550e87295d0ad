"""When the texts of a job are embedded: the distinct ones first, or all as they come."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from featuremill.core.parquet_fragment import ParquetFragment, open_parquet
from featuremill.transforms.contract import Transform
from featuremill.transforms.embedding import EmbedText
from featuremill.transforms.plan import Plan
from featuremill.transforms.vectors import DTYPES, most_remembered

__all__ = ["STAGE", "TextColumn", "TextPlan", "embedded_first", "plan_texts", "stored_bytes"]

STAGE = "texts"
"""What progress calls the pass that counts texts."""
REPEATS = 2
"""Texts are embedded first where each occurs so often on average, at least."""
FILES_LOOKED_AT = 4
INDEX_BYTES = 4
"""A column whose texts take fewer bytes each than that, as stored, is one of a few texts and references to them."""


@dataclass(frozen=True)
class TextColumn:
    """One column of texts, and the transform for it alone."""

    key: str
    column: str
    op: EmbedText


@dataclass(frozen=True)
class TextPlan:
    """What is planned for one column of texts."""

    column: str
    output: str
    model: str
    when: str
    """``first``, ``as they come``, or ``counted``: whichever the count of the distinct texts says."""
    why: str
    first: TextColumn | None
    """What to count and perhaps to embed before the last pass."""

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-ready values."""
        return {"column": self.column, "output": self.output, "model": self.model, "when": self.when, "why": self.why}


def embedded_first(rows: int, distinct: int, *, cached: bool) -> bool:
    """Whether distinct texts are embedded before the pass that writes, now that they have been counted.

    >>> embedded_first(1000, 400, cached=False), embedded_first(1000, 900, cached=False)
    (True, False)
    """
    return cached or rows >= REPEATS * distinct


def plan_texts(
    transforms: Sequence[Transform], fragments: Sequence[Any], *, rows: int | None, cached: bool, alone: bool,
    only: Collection[int] | None = None,
) -> tuple[TextPlan, ...]:
    """What is planned for each column of texts that is embedded, in the order of the transforms.

    Parameters
    ----------
    rows
        Of the source; None: not known yet.
    cached
        Whether there is a cache of vectors.
    alone
        Whether one worker does everything.
    only
        The positions of the transforms that are applied; None: all.
    """
    plan = Plan(transforms)
    found = []
    for i, op in enumerate(transforms):
        if not isinstance(op, EmbedText) or (only is not None and i not in only):
            continue
        given = plan.source_columns([i])
        for column, output in zip(op.columns, op.output_names, strict=True):
            remembered = most_remembered(op.vector_size(), np.dtype(DTYPES[op.dtype][0]))
            first: TextColumn | None = TextColumn(
                f"{i:02d}-{list(op.columns).index(column)}", column,
                replace(op.pinned(), columns=(column,), output=None, name=None),
            )  # fmt: skip
            if column not in given:
                when, why, first = "as they come", "another transform makes the column", None
            elif alone and rows is not None and rows <= remembered:
                when, why, first = "as they come", "one worker does all rows, and remembers every text", None
            elif cached:
                when, why = "first", "each distinct text once, and only those that no job before has embedded"
            else:
                when, why = "counted", f"first if each occurs {REPEATS} times or more; {_estimate(fragments, column)}"
            found.append(TextPlan(column, output, op.model, when, why, first))
    return tuple(found)


def _estimate(fragments: Sequence[Any], column: str) -> str:
    """What the files' footers let expect."""
    stored = stored_bytes(fragments, column)
    if stored is None:
        return "the files do not tell"
    said = f"{stored:.1f} bytes a row, as stored"
    return f"they seem to repeat, with {said}" if stored <= INDEX_BYTES else f"they hardly seem to repeat, with {said}"


def stored_bytes(fragments: Sequence[Any], column: str) -> float | None:
    """The bytes that a column takes for each row, encoded and not yet compressed; from the footers of a few files.

    None: the column is in no file, or the fragments are not of Parquet.
    """
    rows = total = 0
    files = dict.fromkeys(f.path for f in fragments if isinstance(f, ParquetFragment))
    for path in list(files)[:FILES_LOOKED_AT]:
        metadata = open_parquet(path).metadata
        places = [i for i in range(metadata.num_columns) if metadata.schema.column(i).path == column]
        for i in range(metadata.num_row_groups if places else 0):
            group = metadata.row_group(i)
            rows += group.num_rows
            total += group.column(places[0]).total_uncompressed_size
    return total / rows if rows else None

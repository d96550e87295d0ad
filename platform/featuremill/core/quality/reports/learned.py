"""What the artifact of a run learned, for its report; and how many values are not in its vocabularies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from featuremill.core.quality.profiles.profile import ColumnProfile, Profile
from featuremill.core.quality.reports.report import Learned, LearnedVocabulary
from featuremill.transforms.contract import Transform
from featuremill.transforms.histogram import Bins, bins_of, median, quantile_boundaries
from featuremill.transforms.plan import Slot
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary

__all__ = ["Learnt", "what_was_learned"]

TOP_TOKENS = 10
ODDITIES = frozenset({"nulls", "nans", "infinities"})
"""Counts that are worth a word only where there are some."""
MOST_VALUES = 64
"""Longer lists of numbers than this are no reading matter."""


@dataclass(frozen=True)
class Index:
    """The ids that a column of a vocabulary holds: those of tokens are from 0 to `size`, without it."""

    size: int
    default: int
    """The id of what is not in the vocabulary, where there are no buckets for it."""

    def unknown_share(self, column: ColumnProfile) -> float | None:
        """The share of values that are not in the vocabulary; None without values.

        Exact where the column holds up to 128 different ids; otherwise within one in 128 of the values.
        """
        found = column.lists.elements if column.lists is not None else column
        if found.numbers is None or not found.values:
            return None
        unknown = 0.0
        sketch = found.numbers.sketch
        for low, high, count in zip(sketch.low, sketch.high, sketch.counts, strict=True):
            outside = max(0, high - max(low, self.size) + 1) + max(0, min(high, -1) - low + 1)
            unknown += count * outside / (high - low + 1)
        if 0 <= self.default < self.size:
            return None  # They cannot be told apart from a token.
        return unknown / found.values


@dataclass(frozen=True)
class Learnt:
    """What the states of an artifact hold, for people."""

    vocabularies: tuple[LearnedVocabulary, ...] = ()
    values: tuple[Learned, ...] = ()
    indexes: Mapping[str, Index] | None = None
    """The columns that hold ids of a vocabulary."""

    def with_unknown(self, profile: Profile) -> Profile:
        """A profile of transformed rows with the shares of values that are in no vocabulary."""
        rates = {}
        for column in profile.columns:
            index = (self.indexes or {}).get(column.name)
            share = None if index is None else index.unknown_share(column)
            if share is not None:
                rates[column.name] = share
        return profile.with_oov_rates(rates)


def what_was_learned(
    transforms: Sequence[Transform], slots: Sequence[Slot], states: Mapping[str, pa.Table]
) -> Learnt:
    """The vocabularies, the numbers and the columns of ids of fitted transforms; `states` by the slots' keys.

    >>> from featuremill.transforms.plan import Plan
    >>> from featuremill.transforms.scaling import ScaleTo01
    >>> plan = Plan([ScaleTo01(["x"])])
    >>> states = {plan.slots[0].key: pa.table({"min": [1.0], "max": [3.0]})}
    >>> what_was_learned(plan.transforms, plan.slots, states).values
    (Learned(column='x', transform='ScaleTo01', values={'min': 1.0, 'max': 3.0}),)
    """
    vocabularies, values = [], []
    sizes: dict[tuple[int, str], int] = {}
    for slot in slots:
        name, table = transforms[slot.transform].type_name, states[slot.key]
        if table.column_names[:2] == ["token", "count"]:
            sizes[slot.transform, slot.slot] = table.num_rows
            top = [(str(row["token"]), row["count"]) for row in table.slice(0, TOP_TOKENS).to_pylist()]
            vocabularies.append(LearnedVocabulary(slot.slot, name, table.num_rows, tuple(top)))
        elif found := _numbers(table, transforms[slot.transform]):
            values.append(Learned(slot.slot, name, found))
    ordered = sorted(vocabularies, key=lambda v: (-v.size, v.column))
    return Learnt(tuple(ordered), tuple(values), _indexes(transforms, sizes))


def _numbers(table: pa.Table, transform: Transform) -> dict[str, Any]:
    """The numbers and texts of a state that is a row, or short: one value each, or one for each position."""
    if not 0 < table.num_rows <= MOST_VALUES:
        return {}
    if {"low", "high", "counts"} <= set(table.column_names):
        rows = [_middle(bins_of(table, i), getattr(transform, "num_buckets", None)) for i in range(table.num_rows)]
    else:
        readable = [f.name for f in table.schema if _is_readable(f.type)]
        rows = [_of_people(row) for row in table.select(readable).to_pylist()]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: rows[0][name] if len(rows) == 1 else [row.get(name) for row in rows] for name in names}


def _is_readable(type_: pa.DataType) -> bool:
    return bool(pt.is_integer(type_) or pt.is_floating(type_) or pt.is_string(type_))


def _middle(bins: Bins, num_buckets: int | None) -> dict[str, Any]:
    """What a transform takes from a histogram: the boundaries of its buckets, or the median."""
    found: dict[str, Any] = {"count": bins.count}
    if num_buckets is not None:
        found["boundaries"] = quantile_boundaries(bins, num_buckets)
    elif bins.count:
        found |= {"median": median(bins), "min": float(bins.low[0]), "max": float(bins.high[-1])}
    return found


def _of_people(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of numbers, with the standard deviation for the variance, and without what was not met."""
    found = {name: value for name, value in row.items() if value or name not in ODDITIES}
    return {
        "std" if name == "variance" else name: math.sqrt(value) if name == "variance" and value is not None else value
        for name, value in found.items()
    }


def _indexes(transforms: Sequence[Transform], sizes: Mapping[tuple[int, str], int]) -> dict[str, Index]:
    """The columns that hold ids after the last transform, with what these mean."""
    found: dict[str, Index] = {}
    for position, transform in enumerate(transforms):
        for name in transform.output_names:
            found.pop(name, None)
        if isinstance(transform, ComputeAndApplyVocabulary):
            for column, name in zip(transform.columns, transform.output_names, strict=True):
                if (position, column) in sizes:
                    found[name] = Index(sizes[position, column], transform.default_value)
    return found

"""What changed between two artifacts: transforms, schemas, and by how much the statistics moved.

States are told apart by their columns, so that this needs nothing of the transforms that made them: vocabularies have
``token`` and ``count``, moments ``mean`` and ``variance``, histograms ``low``, ``high`` and ``counts``. Others are
compared number by number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.manifest import StateEntry, canonical_json
from featuremill.artifacts.reader import Artifact

__all__ = ["Change", "Diff", "compare_states", "diff"]

POSITIONS_SHOWN = 3
"""For states with a row for each position of a list column, so many positions are described."""

Transform = Mapping[str, Any]
Row = Mapping[str, Any]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """One thing that is different.

    Attributes
    ----------
    kind
        ``"transform"``, ``"input"``, ``"output"`` (the schemas) or ``"state"``.
    subject
        The transform or the column.
    text
        One line for people.
    facts
        The numbers in it.
    """

    kind: str
    subject: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Diff:
    """All changes from `old` to `new`; true when there are any, and readable as text."""

    old: str
    new: str
    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    def of(self, kind: str) -> list[Change]:
        """The changes of one kind."""
        return [c for c in self.changes if c.kind == kind]

    def __str__(self) -> str:
        if not self.changes:
            return f"{self.old} and {self.new} compute the same."
        return "\n".join([f"{self.old} -> {self.new}", *(f"  {c.text}" for c in self.changes)])


def diff(old: Artifact, new: Artifact) -> Diff:
    """What changed from one artifact to another: transforms first, then schemas, then states."""
    before, after = old.manifest, new.manifest
    pairs, gone, added = _pair(before.transforms, after.transforms)
    changes = list(_transform_changes(before.transforms, after.transforms, pairs, gone, added))
    changes += _schema_changes("input", before.input_schema, after.input_schema)
    changes += _schema_changes("output", before.output_schema, after.output_schema)
    slots = {(s.transform, s.slot): s for s in after.states}
    partner = dict(pairs)
    for state in before.states:
        twin = slots.get((partner.get(state.transform, -1), state.slot))
        if twin is not None and twin.sha256 != state.sha256:
            config = after.transforms[twin.transform]["config"]
            changes += _state_changes(state, twin, old, new, config)
    return Diff(f"{old.name}@{old.version}", f"{new.name}@{new.version}", tuple(changes))


def _pair(old: Sequence[Transform], new: Sequence[Transform]) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Which transform of one is which of the other: equal ones first, then those of one type over the same columns."""
    left, right = list(range(len(old))), list(range(len(new)))
    pairs: list[tuple[int, int]] = []
    identities: tuple[Callable[[Transform], bytes], ...] = (
        canonical_json,
        lambda t: canonical_json([t["type"], t["config"].get("columns"), t["config"].get("output")]),
        lambda t: canonical_json([t["type"], t["config"].get("columns")]),
    )
    for identity in identities:
        for i in list(left):
            j = next((j for j in right if identity(new[j]) == identity(old[i])), None)
            if j is not None:
                pairs.append((i, j))
                left.remove(i)
                right.remove(j)
    return sorted(pairs), left, right


def _label(transform: Transform) -> str:
    return f"{transform['type']}({', '.join(map(str, transform['config'].get('columns', ())))})"


def _transform_changes(
    old: Sequence[Transform], new: Sequence[Transform], pairs: list[tuple[int, int]], gone: list[int], added: list[int]
) -> Iterator[Change]:
    for i in gone:
        yield Change("transform", _label(old[i]), f"removed {_label(old[i])}", {"what": "removed"})
    for j in added:
        yield Change("transform", _label(new[j]), f"added {_label(new[j])}", {"what": "added"})
    for i, j in pairs:
        a, b = old[i]["config"], new[j]["config"]
        different = {k: (a.get(k, "default"), b.get(k, "default")) for k in sorted({*a, *b}) if a.get(k) != b.get(k)}
        if different:
            moved = ", ".join(f"{k} {x} -> {y}" for k, (x, y) in different.items())
            facts = {"what": "changed", "parameters": different}
            yield Change("transform", _label(new[j]), f"changed {_label(new[j])}: {moved}", facts)
    order = [j for _, j in pairs]
    if order != sorted(order):
        yield Change("transform", "order", "the transforms are in another order", {"what": "order"})


def _schema_changes(side: str, old: pa.Schema, new: pa.Schema) -> Iterator[Change]:
    before, after = ({f.name: f for f in schema} for schema in (old, new))
    for name, f in before.items():
        if name not in after:
            yield Change(side, name, f"{side}: the column {name} is gone", {"what": "removed"})
        elif not after[name].equals(f):
            yield Change(side, name, f"{side}: {name} {_type(f)} -> {_type(after[name])}", {"what": "changed"})
    for name, f in after.items():
        if name not in before:
            yield Change(side, name, f"{side}: new column {name} {_type(f)}", {"what": "added"})


def _type(f: pa.Field) -> str:
    return str(f.type) if f.nullable else f"{f.type} not null"


def _state_changes(
    state: StateEntry, twin: StateEntry, old: Artifact, new: Artifact, config: Mapping[str, Any]
) -> list[Change]:
    return compare_states(state.slot, old.states[state.key], new.states[twin.key], config)


def compare_states(column: str, old: pa.Table, new: pa.Table, config: Mapping[str, Any]) -> list[Change]:
    """By how much a state moved; `config` holds the parameters of its transform.

    >>> old, new = (pa.table({"count": [9], "mean": [m], "variance": [1.0]}) for m in (100.0, 104.1))
    >>> [change.text for change in compare_states("air_time", old, new, {})]
    ['mean of air_time +4.1 %']
    >>> old, new = (pa.table({"token": t, "count": [2, 1]}) for t in (["AA", "UA"], ["AA", "B6"]))
    >>> [change.text for change in compare_states("carrier", old, new, {})]
    ['1 new token in carrier, 1 gone; 1 of the other 1 keep their place']
    """
    names = set(old.column_names)
    if names != set(new.column_names):
        return [_change(column, f"the statistics of {column} are of another kind")]
    if {"token", "count"} <= names:
        return _vocabulary(column, old, new)
    for kind, compare in ((("mean", "variance"), _moments), (("low", "high", "counts"), _histogram)):
        if set(kind) <= names:
            return _by_position(column, old, new, config, compare)
    return _generic(column, old, new)


def _change(column: str, text: str, **facts: Any) -> Change:
    return Change("state", column, text, facts)


def _vocabulary(column: str, old: pa.Table, new: pa.Table) -> list[Change]:
    before, after = (_one(table.column("token")) for table in (old, new))
    if before.type != after.type:
        return [_change(column, f"the tokens of {column} are {after.type}, were {before.type}")]
    place = pc.index_in(before, value_set=after)
    shared = len(before) - place.null_count
    gone, fresh = place.null_count, len(after) - shared
    same = pc.sum(pc.equal(place, pa.array(range(len(before)), pa.int32()))).as_py() or 0
    facts = {"new": fresh, "gone": gone, "shared": shared, "same_place": same}
    if fresh or gone:
        words = f"{fresh:,} new {_plural('token', fresh)} in {column}, {gone:,} gone"
        kept = f"; {same:,} of the other {shared:,} keep their place" if shared else ""
        return [_change(column, words + kept, **facts)]
    if same < shared:
        return [_change(column, f"{shared - same:,} of {shared:,} tokens in {column} changed their place", **facts)]
    text = f"the counts of {column} changed, its {shared:,} {_plural('token', shared)} did not"
    return [_change(column, text, **facts)]


def _one(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.dictionary_decode() if pt.is_dictionary(array.type) else array


def _by_position(
    column: str, old: pa.Table, new: pa.Table, config: Mapping[str, Any], compare: Callable[..., list[Change]]
) -> list[Change]:
    if old.num_rows != new.num_rows:
        text = f"the statistics of {column} are for {new.num_rows} positions, were for {old.num_rows}"
        return [_change(column, text)]
    rows = list(zip(old.to_pylist(), new.to_pylist(), strict=True))
    changes: list[Change] = []
    changed = 0
    for i, (before, after) in enumerate(rows):
        label = f"{column}[{i}]" if len(rows) > 1 else column
        found = compare(label, before, after, config)
        changed += bool(found)
        if changed <= POSITIONS_SHOWN:
            changes += found
    if changed > POSITIONS_SHOWN:
        changes.append(_change(column, f"… and {changed - POSITIONS_SHOWN} more positions of {column}"))
    return changes


def _moments(label: str, before: Row, after: Row, _: Mapping[str, Any]) -> list[Change]:
    changes = []
    names = [n for n in before if n != "count" and not _equal(before[n], after[n])]
    for name in names or [n for n in ("count",) if before.get(n) != after.get(n)]:
        a, b = before[name], after[name]
        percent = (b - a) / abs(a) * 100 if name in ("mean", "variance") and a and b is not None else None
        moved = f" {_percent(percent)}" if percent is not None else f" {_number(a)} -> {_number(b)}"
        changes.append(_change(label, f"{name} of {label}{moved}", statistic=name, old=a, new=b, percent=percent))
    return changes


def _histogram(label: str, before: Row, after: Row, config: Mapping[str, Any]) -> list[Change]:
    buckets = config.get("num_buckets")
    word = "boundaries" if isinstance(buckets, int) else "deciles"
    a, b = (_cuts(row, buckets if isinstance(buckets, int) else 10) for row in (before, after))
    if len(a) != len(b):
        return [_change(label, f"{len(b)} {word} of {label}, were {len(a)}", old=len(a), new=len(b))]
    moved = float(np.max(np.abs(b - a), initial=0.0))
    if moved:
        return [_change(label, f"{word} of {label} moved by up to {_number(moved)}", moved=moved)]
    if before == after:
        return []
    return [_change(label, f"the counts of {label} changed, its {word} did not", moved=0.0)]


def _cuts(row: Row, buckets: int) -> Float64:
    """The values at positions ``floor(i * n / buckets)`` of the sorted data, which cut it into equal parts."""
    ends = np.cumsum(np.asarray(row["counts"], dtype=np.int64))
    if not len(ends):
        return np.zeros(0)
    ranks = [i * int(ends[-1]) // buckets for i in range(1, buckets)]
    cuts: Float64 = np.asarray(row["low"], dtype=np.float64)[np.searchsorted(ends, ranks, side="right")]
    return cuts


def _generic(column: str, old: pa.Table, new: pa.Table) -> list[Change]:
    changes = []
    for name in old.column_names:
        before, after = old.column(name), new.column(name)
        if before.equals(after):
            continue
        a, b = (_numbers(c) for c in (before, after))
        if a is None or b is None:
            changes.append(_change(column, f"{name} of {column} changed"))
        elif len(a) != len(b):
            changes.append(_change(column, f"{name} of {column} has {len(b):,} values, had {len(a):,}"))
        else:
            moved = float(np.nanmax(np.abs(b - a), initial=0.0))
            if moved:
                changes.append(_change(column, f"{name} of {column} moved by up to {_number(moved)}", moved=moved))
    return changes or [_change(column, f"the statistics of {column} changed")]


def _numbers(column: pa.ChunkedArray) -> Float64 | None:
    array = _one(column)
    while pt.is_list(array.type) or pt.is_large_list(array.type) or pt.is_fixed_size_list(array.type):
        array = array.flatten()
    if not (pt.is_integer(array.type) or pt.is_floating(array.type)):
        return None
    numbers: Float64 = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b) or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"


def _percent(value: float) -> str:
    return f"{value:+.1f} %" if abs(value) >= 0.05 else f"{value:+.1g} %"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "none" if value is None else f"{value:,.6g}"

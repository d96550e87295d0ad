"""The statistics that a profile is made of: one for each column, mergeable, of the same bytes however rows were cut.

:func:`profile_statistics` gives them for a schema, a collector or a Beam pipeline runs them over batches, and
:func:`profile_of` makes the profile of their states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import ParameterError
from featuremill.core.quality.profiles.number_stats import NumberTally
from featuremill.core.quality.profiles.profile import (
    ColumnProfile,
    Kind,
    Lengths,
    ListProfile,
    Number,
    Profile,
    Scalar,
    TopValue,
    shown_time,
)
from featuremill.core.quality.profiles.slots import numbers_of
from featuremill.core.quality.profiles.text_stats import TextTally
from featuremill.transforms.arrays import is_list, is_text, leaf_type, leaves, value_type
from featuremill.transforms.contract import Analyzer, State

__all__ = ["ColumnSummary", "kind_of", "profile_of", "profile_statistics"]

TOP_VALUES = 50
TEXT_SHOWN = 100
"""Characters of a text among the most frequent values."""

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_MICRO = 1_000_000
_DAY = 86_400 * _MICRO


def kind_of(type_: pa.DataType) -> Kind:
    """What a profile takes the values of a column for.

    >>> kind_of(pa.dictionary(pa.int32(), pa.string())), kind_of(pa.date32()), kind_of(pa.list_(pa.float32(), 3))
    ('text', 'time', 'list')
    >>> kind_of(pa.struct([("a", pa.int64())]))
    'other'
    """
    type_ = value_type(type_)
    if is_list(type_):
        return "list"
    if is_text(type_):
        return "text" if pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_) else "binary"
    if pt.is_boolean(type_):
        return "boolean"
    if pt.is_integer(type_) or pt.is_floating(type_) or pt.is_decimal(type_):
        return "number"
    if pt.is_date(type_) or pt.is_timestamp(type_) or pt.is_time(type_) or pt.is_duration(type_):
        return "time"
    return "other"


class _Tally(Protocol):
    """What is known of the values of one kind; several rows of the same tally merge by :meth:`absorb`."""

    def update(self, array: pa.Array) -> None: ...
    def table(self) -> pa.Table: ...
    def state(self) -> pa.Table: ...
    def absorb(self, table: pa.Table) -> None: ...
    def profile(self, name: str, type_: pa.DataType) -> ColumnProfile: ...


def _tally(type_: pa.DataType) -> _Tally:
    kind = kind_of(type_)
    if kind == "list":
        return _Lists(type_)
    if kind in ("text", "binary"):
        return _Texts(kind == "binary")
    return _Counted() if kind == "other" else _Numbers(type_)


class _Numbers:
    """Numbers, booleans and times; these as whole microseconds."""

    def __init__(self, type_: pa.DataType) -> None:
        type_ = value_type(type_)
        self._time = kind_of(type_) == "time"
        floats = pt.is_floating(type_) or pt.is_decimal(type_) or pt.is_uint64(type_)
        self._numbers = NumberTally(whole=not floats)
        self.table = self._numbers.table
        self.state = self._numbers.table
        self.absorb = self._numbers.absorb

    def update(self, array: pa.Array) -> None:
        if pt.is_dictionary(array.type):
            array = array.dictionary_decode()
        self._numbers.update(*(_microseconds(array) if self._time else numbers_of(array)))

    def profile(self, name: str, type_: pa.DataType) -> ColumnProfile:
        tally, kind, shown = self._numbers, kind_of(type_), str(value_type(type_))
        distinct, error = tally.distinct()
        frequent, complete = tally.most_frequent(TOP_VALUES)
        return ColumnProfile(
            name, shown, kind, rows=tally.rows, nulls=tally.nulls, distinct=distinct, distinct_error=error,
            top=tuple(TopValue(_named(value, kind, shown), count) for value, count in frequent), complete=complete,
            numbers=None if kind == "boolean" else tally.profile(),
        )


def _named(value: Number, kind: Kind, type_: str) -> Scalar:
    if kind == "boolean":
        return bool(value)
    return shown_time(int(value), type_) if kind == "time" else value


class _Texts(TextTally):
    """Texts and bytes."""

    def profile(self, name: str, type_: pa.DataType) -> ColumnProfile:
        distinct, error = self.distinct()
        frequent, complete = self.most_frequent(TOP_VALUES)
        return ColumnProfile(
            name, str(value_type(type_)), kind_of(type_), rows=self.rows, nulls=self.nulls, distinct=distinct,
            distinct_error=error, top=tuple(TopValue(_shown(v), count, e) for v, count, e in frequent),
            complete=complete, lengths=self.lengths(), buckets=self.buckets,
        )


class _Counted:
    """What is only counted: structs, maps, columns of nulls."""

    def __init__(self) -> None:
        self._rows = self._nulls = 0

    def update(self, array: pa.Array) -> None:
        self._rows += len(array)
        self._nulls += array.null_count

    def table(self) -> pa.Table:
        return pa.table({"rows": pa.array([self._rows]), "nulls": pa.array([self._nulls])})

    state = table

    def absorb(self, table: pa.Table) -> None:
        self._rows += table.column("rows")[0].as_py()
        self._nulls += table.column("nulls")[0].as_py()

    def profile(self, name: str, type_: pa.DataType) -> ColumnProfile:
        return ColumnProfile(name, str(value_type(type_)), kind_of(type_), rows=self._rows, nulls=self._nulls)


class _Lists:
    """Lists: how long they are, their leaves as a column of their own, and the norms of vectors."""

    def __init__(self, type_: pa.DataType) -> None:
        leaf = leaf_type(type_)
        self._leaf = leaf
        self._lengths = NumberTally(whole=True)
        self._leaves = _tally(leaf)
        inner = value_type(type_)
        flat = pt.is_fixed_size_list(inner) and not is_list(value_type(inner.value_type))
        self._norms = NumberTally(whole=False) if flat and kind_of(leaf) == "number" else None

    def update(self, array: pa.Array) -> None:
        if pt.is_dictionary(array.type):
            array = array.dictionary_decode()
        kept = array.drop_null() if array.null_count else array
        self._lengths.update(_list_lengths(kept))
        self._lengths.nulls += len(array) - len(kept)
        found = leaves(kept)
        self._leaves.update(found)
        if self._norms is not None:
            self._norms.update(_norms(found, array.type.list_size))

    def _parts(self) -> dict[str, NumberTally]:
        return {"lengths": self._lengths} | ({} if self._norms is None else {"norms": self._norms})

    def _table(self, leaves_: pa.Table) -> pa.Table:
        tables = {name: tally.table() for name, tally in self._parts().items()} | {"leaves": leaves_}
        return pa.table({f"{part}.{name}": t.column(name) for part, t in tables.items() for name in t.column_names})

    def table(self) -> pa.Table:
        return self._table(self._leaves.table())

    def state(self) -> pa.Table:
        return self._table(self._leaves.state())

    def absorb(self, table: pa.Table) -> None:
        tallies: dict[str, NumberTally | _Tally] = {**self._parts(), "leaves": self._leaves}
        for part, tally in tallies.items():
            names = [name for name in table.column_names if name.startswith(part + ".")]
            tally.absorb(table.select(names).rename_columns([n.removeprefix(part + ".") for n in names]))

    def profile(self, name: str, type_: pa.DataType) -> ColumnProfile:
        shortest, longest = self._lengths.ends or (None, None)
        lengths = Lengths(
            None if shortest is None else int(shortest), self._lengths.moments()[0],
            None if longest is None else int(longest), self._lengths.zeros,
        )
        norm = None
        if self._norms is not None and self._norms.ends is not None:
            norm = (float(self._norms.ends[0]), self._norms.moments()[0] or 0.0, float(self._norms.ends[1]))
        return ColumnProfile(
            name, str(value_type(type_)), "list", rows=self._lengths.rows, nulls=self._lengths.nulls,
            lists=ListProfile(lengths, self._leaves.profile("element", self._leaf), norm),
        )


def _list_lengths(array: pa.Array) -> npt.NDArray[np.int64]:
    if pt.is_fixed_size_list(array.type):
        return np.full(len(array), array.type.list_size, np.int64)
    lengths: npt.NDArray[np.int64] = array.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def _norms(numbers: pa.Array, size: int) -> npt.NDArray[np.float64]:
    """The Euclidean norms of vectors one after the other; those with a null element left out."""
    values = numbers.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).reshape(-1, size)
    with np.errstate(all="ignore"):
        norms: npt.NDArray[np.float64] = np.sqrt((values * values).sum(axis=1))
    if numbers.null_count:
        norms = norms[numbers.is_valid().to_numpy(zero_copy_only=False).reshape(-1, size).all(axis=1)]
    return norms


def _microseconds(array: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]:
    """Times as whole microseconds, rounded down; beyond the range of int64, its ends. And which are not null."""
    type_ = array.type
    numbers, valid = numbers_of(array.view(pa.int32() if type_.bit_width == 32 else pa.int64()))
    values: npt.NDArray[np.int64] = numbers.astype(np.int64, copy=False)
    unit = _PER_SECOND.get(getattr(type_, "unit", "ms"), 1)
    if unit > _MICRO:
        return np.floor_divide(values, unit // _MICRO), valid
    factor = _DAY if pt.is_date32(type_) else _MICRO // unit
    most = np.iinfo(np.int64).max // factor
    return np.multiply(np.clip(values, -most, most), factor) if factor > 1 else values, valid


def _shown(value: str | bytes) -> str:
    text = value.hex() if isinstance(value, bytes) else value
    return text if len(text) <= TEXT_SHOWN else text[: TEXT_SHOWN - 1] + "…"


# --- the analyzer ---------------------------------------------------------------------------------------------------


class _Accumulator:
    def __init__(self, type_: pa.DataType) -> None:
        self._tally = _tally(type_)

    def update(self, array: pa.Array) -> None:
        if len(array):
            self._tally.update(array)

    def partial(self) -> pa.Table:
        return self._tally.table()


@dataclass(frozen=True)
class ColumnSummary(Analyzer):
    """What the profile of one column is made of.

    Parameters
    ----------
    column
        A column of any type.
    type
        Its type; dictionary-encoded or not, batches may have it either way.

    >>> summary = ColumnSummary("x", pa.int64())
    >>> tally = summary.accumulator()
    >>> tally.update(pa.array([3, 4, None, 4]))
    >>> state = summary.finish(tally.partial())
    >>> profile = summary.profile(state)
    >>> profile.nulls, profile.distinct, profile.numbers.mean, profile.top[0]
    (1, 2, 3.6666666666666665, TopValue(value=4, count=2, error=0))
    """

    type: pa.DataType

    def accumulator(self) -> _Accumulator:
        return _Accumulator(self.type)

    def _merged(self, partials: Sequence[pa.Table]) -> _Tally:
        tally = _tally(self.type)
        for partial in partials:
            tally.absorb(partial)
        return tally

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        return partials[0] if len(partials) == 1 else self._merged(partials).table()

    def finish(self, partial: pa.Table) -> State:
        return self._merged([partial]).state()

    def profile(self, state: State) -> ColumnProfile:
        """The profile of the column from its state."""
        return self._merged([state]).profile(self.column, self.type)


def profile_statistics(schema: pa.Schema) -> dict[str, Analyzer]:
    """The statistics of a profile of these columns, by name."""
    return {f.name: ColumnSummary(f.name, f.type) for f in schema}


def profile_of(schema: pa.Schema, states: Mapping[str, State], rows: int) -> Profile:
    """The profile from the states of :func:`profile_statistics`.

    Parameters
    ----------
    schema
        The columns, in the order of the profile.
    states
        By name; others are left alone.
    rows
        How many rows there were.

    Raises
    ------
    ParameterError
        When a column has no state.
    """
    missing = [name for name in schema.names if name not in states]
    if missing:
        raise ParameterError(f"There is no state of the column {missing[0]!r}; its statistics were not collected.")
    return Profile(rows, tuple(ColumnSummary(f.name, f.type).profile(states[f.name]) for f in schema))

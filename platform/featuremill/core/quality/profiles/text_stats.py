"""What a profile knows of texts, gathered from batches.

Texts are counted by their dictionaries: the rows of a batch only count indices, and what costs something (hashing,
lengths, adding up equal texts) is done once for the distinct texts of a row group.

Counts are exact while there are at most :data:`EXACT` distinct texts. Beyond that the rare ones are forgotten, and it
is known how often one of them can have occurred: the idea of Misra and Gries ("Finding repeated elements", Science of
Computer Programming 2(2), 1982), made mergeable by keeping, for each text, by how much at most its count is too small.
A text that no part has forgotten has an exact count. Which ones a part forgets depends on how the rows were cut: texts
that are rare in it. So only texts of a share of 1/:data:`REPORTED` or more are reported then, sixteen times what a part
may forget; they are the same in every cut but where such a text is frequent in some parts and rare in others, and then
the count comes with its error. Everything else depends on the rows alone.

Texts are told apart by their 64-bit FarmHash.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.core.quality.profiles.prefix_counts import Smallest
from featuremill.core.quality.profiles.profile import Lengths
from featuremill.core.quality.profiles.slots import slots_of, valid_of
from featuremill.transforms.arrays import value_type
from featuremill.transforms.per_value import same_values, without_views
from featuremill.transforms.token_index import hash_values

__all__ = ["BUCKETS", "EXACT", "REPORTED", "TextTally", "buckets_of"]

EXACT = 1 << 14
"""Up to so many distinct texts every count is exact."""

KEPT = 1 << 13
"""How many texts are kept where there are more, at most."""

REPORTED = 1 << 9
"""Beyond that, texts are reported that make up at least this part of the values."""

HASHES = 2048
"""Hashes kept for the number of distinct texts beyond that: a relative standard error of 2.2 %."""

_SMALL = 1 << 16

BUCKETS = 64
_BUCKET = np.uint64(64 - 6)

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]


def _floor(counts: Int64) -> int:
    """The largest count of those that are forgotten, so that at most :data:`KEPT` larger ones are left."""
    # By counting the small counts, of which there are many; selecting is slow where many are equal.
    few = np.bincount(np.minimum(counts, _SMALL))
    larger = len(counts) - np.cumsum(few)
    found = int(np.argmax(larger <= KEPT))
    return found if found < _SMALL else int(np.partition(counts, len(counts) - KEPT - 1)[len(counts) - KEPT - 1])


def buckets_of(hashes: UInt64) -> Int64:
    """In which of :data:`BUCKETS` buckets values of these hashes are, shape (n,)."""
    return (hashes >> _BUCKET).view(np.int64)


@dataclass(frozen=True)
class _Counted:
    """Texts and how often they occur; a count is too small by its slack, plus the floor of the tally, at most.

    The floor is how often a text that is not there can have occurred. So slacks and floors of parts just add up.
    """

    tokens: pa.Array
    hashes: UInt64
    counts: Int64
    slacks: Int64


class TextTally:
    """The texts, or bytes, of a column.

    Parameters
    ----------
    binary
        Whether they are bytes.
    """

    def __init__(self, binary: bool) -> None:
        self._token = pa.large_binary() if binary else pa.large_string()
        self._schema = pa.schema([
            ("nulls", pa.int64()), ("tokens", pa.large_list(self._token)),
            ("keys", pa.large_list(pa.uint64())), ("counts", pa.large_list(pa.int64())),
            ("slacks", pa.large_list(pa.int64())), ("floor", pa.int64()), ("hashes", pa.large_list(pa.uint64())),
            ("buckets", pa.large_list(pa.int64())), ("shortest", pa.int64()), ("longest", pa.int64()),
            ("characters", pa.int64()), ("empty", pa.int64()),
        ])
        self.nulls = self._characters = self._empty = self._floor = 0
        self._shortest: int | None = None
        self._longest: int | None = None
        self._hashes = Smallest(HASHES)
        self._buckets: Int64 = np.zeros(BUCKETS, np.int64)
        nothing = np.zeros(0, np.int64)
        self._parts = [_Counted(pa.array([], self._token), nothing.view(np.uint64), nothing, nothing)]
        self._compacted = False
        self._values: pa.Array | None = None
        self._codes: Int64 = np.zeros(0, np.int64)

    # --- rows -------------------------------------------------------------------------------------------------------

    def update(self, array: pa.Array) -> None:
        """Take in rows: texts or bytes, dictionary-encoded or not."""
        array = without_views(array)
        if pt.is_null(value_type(array.type)):
            self.nulls += len(array)
            return
        if not pt.is_dictionary(array.type):
            counted = pc.value_counts(array)
            self._take(counted.field("values"), counted.field("counts").to_numpy())
            return
        if self._values is None or not same_values(self._values, array.dictionary):
            self._close()
            self._values = array.dictionary
            self._codes = np.zeros(len(array.dictionary) + 1, np.int64)
        indices = array.indices
        if len(self._codes) > 4 * len(indices):
            counted = pc.value_counts(indices)
            codes = counted.field("values").fill_null(len(array.dictionary)).to_numpy()
            self._codes[codes] += counted.field("counts").to_numpy()
            return
        codes, valid = slots_of(indices).astype(np.int64), valid_of(indices)
        if valid is None:
            self._codes += np.bincount(codes, minlength=len(self._codes))
            return
        # Null rows count as the first value meanwhile: leaving them out is slower.
        counts = np.bincount(codes * valid, minlength=len(self._codes))
        nulls = len(codes) - int(np.count_nonzero(valid))
        counts[0] -= nulls
        counts[-1] += nulls
        self._codes += counts

    def _close(self) -> None:
        if self._values is not None:
            values, self._values = self._values, None
            self.nulls += int(self._codes[-1])
            self._take(values, self._codes[:-1])

    def _take(self, tokens: pa.Array, counts: Int64) -> None:
        """Take in texts and how often each occurs; of more than :data:`EXACT`, each comes once, as in Parquet."""
        keep = counts > 0
        if tokens.null_count:
            valid = tokens.is_valid().to_numpy(zero_copy_only=False)
            self.nulls += int(counts[~valid].sum())
            keep &= valid
        if not keep.all():
            tokens, counts = tokens.filter(pa.array(keep)), counts[keep]
        if not len(tokens):
            return
        self._measure(tokens, counts)
        hashes = hash_values(tokens)
        self._hashes.add(hashes)
        # Sums of counts as float64 are exact below 2**53.
        weighed = np.bincount(buckets_of(hashes), weights=counts, minlength=BUCKETS)
        self._buckets += weighed.astype(np.int64)
        slack = 0
        if len(tokens) > EXACT:
            floor = _floor(counts)
            keep = counts > floor
            tokens, hashes, counts, slack = tokens.filter(pa.array(keep)), hashes[keep], counts[keep], -floor
            self._floor += floor
        self._add(_Counted(tokens.cast(self._token), hashes, counts, np.full(len(counts), slack)))

    def _add(self, part: _Counted) -> None:
        self._parts.append(part)
        self._compacted = False
        if sum(len(p.counts) for p in self._parts) > 2 * EXACT:
            self._compact()

    def _compact(self) -> _Counted:
        """The counts of equal texts added up, by hash, and the rare ones forgotten where there are too many."""
        if not self._compacted:
            hashes, counts, slacks = (
                np.concatenate([getattr(p, name) for p in self._parts]) for name in ("hashes", "counts", "slacks")
            )
            # By hashing once more: what it costs to sort is left to the end.
            encoded = pc.dictionary_encode(pa.array(hashes))
            codes, hashes = encoded.indices.to_numpy(), encoded.dictionary.to_numpy()
            places = np.empty(len(hashes), np.int64)
            places[codes] = np.arange(len(codes))
            # Sums of counts as float64 are exact below 2**53.
            counts, slacks = (np.bincount(codes, v, minlength=len(hashes)).astype(np.int64) for v in (counts, slacks))
            if len(hashes) > EXACT:
                errors, keep = slacks + self._floor, counts > _floor(counts)
                self._floor = max(self._floor, int((counts + errors)[~keep].max()))
                places, hashes, counts, slacks = places[keep], hashes[keep], counts[keep], errors[keep] - self._floor
            tokens = pa.concat_arrays([p.tokens for p in self._parts]).take(pa.array(places))
            self._parts, self._compacted = [_Counted(tokens, hashes, counts, slacks)], True
        return self._parts[0]

    def _measure(self, tokens: pa.Array, counts: Int64) -> None:
        length = pc.binary_length if pt.is_large_binary(self._token) else pc.utf8_length
        lengths = length(tokens).to_numpy().astype(np.int64)
        self._reach(int(lengths.min()), int(lengths.max()))
        self._characters += int(np.dot(lengths, counts))
        self._empty += int(counts[lengths == 0].sum())

    def _reach(self, shortest: int, longest: int) -> None:
        self._shortest = shortest if self._shortest is None else min(shortest, self._shortest)
        self._longest = longest if self._longest is None else max(longest, self._longest)

    # --- partials ---------------------------------------------------------------------------------------------------

    def table(self) -> pa.Table:
        """What was taken in, one row."""
        self._close()
        return self._row(self._compact(), self._floor)

    def state(self) -> pa.Table:
        """The same of all rows: in one order, and without texts too rare to be known for certain."""
        self._close()
        part, floor = self._compact(), self._floor
        order = np.argsort(part.hashes)
        slacks = part.slacks
        if floor:
            order = order[(part.counts * REPORTED >= self.count)[order]]
            # The floor itself depends on the cut: what is left of it is that there is one.
            slacks, floor = slacks + (floor - 1), 1
        tokens = part.tokens.take(pa.array(order))
        return self._row(_Counted(tokens, part.hashes[order], part.counts[order], slacks[order]), floor)

    def _row(self, part: _Counted, floor: int) -> pa.Table:
        row: dict[str, object] = {
            "nulls": self.nulls, "floor": floor, "hashes": self._hashes.hashes(), "buckets": self._buckets,
            "shortest": self._shortest, "longest": self._longest, "characters": self._characters, "empty": self._empty,
        }
        row |= {"keys": part.hashes, "counts": part.counts, "slacks": part.slacks}
        ends = pa.array([0, len(part.tokens)], pa.int64())
        row["tokens"] = pa.LargeListArray.from_arrays(ends, part.tokens)
        columns = [row[f.name] if f.name == "tokens" else pa.array([row[f.name]], f.type) for f in self._schema]
        return pa.Table.from_arrays(columns, schema=self._schema)

    def absorb(self, table: pa.Table) -> None:
        """Take in what another tally left."""
        row = {name: table.column(name)[0] for name in table.column_names}
        nulls, floor, shortest, longest, characters, empty = (
            row[name].as_py() for name in ("nulls", "floor", "shortest", "longest", "characters", "empty")
        )
        self.nulls += nulls
        self._floor += floor
        self._characters += characters
        self._empty += empty
        if shortest is not None:
            self._reach(shortest, longest)
        self._hashes.add(row["hashes"].values.to_numpy())
        self._buckets = self._buckets + row["buckets"].values.to_numpy()
        keys, counts, slacks = (row[name].values.to_numpy() for name in ("keys", "counts", "slacks"))
        self._add(_Counted(row["tokens"].values, keys, counts, slacks))

    # --- what is read from it ---------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many texts there are."""
        return int(self._buckets.sum())

    @property
    def rows(self) -> int:
        """How many rows came, nulls and all."""
        return self.count + self.nulls

    @property
    def buckets(self) -> tuple[int, ...]:
        """How many texts are in each bucket by hash."""
        return tuple(self._buckets.tolist())

    def distinct(self) -> tuple[int, float]:
        """How many different texts there are, and the relative standard error of that."""
        part = self._compact()
        return self._hashes.distinct() if self._floor else (len(part.counts), 0.0)

    def most_frequent(self, most: int) -> tuple[list[tuple[str | bytes, int, int]], bool]:
        """The most frequent texts, each with its count and the error of that, and whether those are all."""
        part = self._compact()
        table = pa.table({"text": part.tokens, "count": part.counts, "error": part.slacks + self._floor})
        order = pc.sort_indices(table, sort_keys=[("count", "descending"), ("text", "ascending")])[:most]
        found = list(zip(*(c.to_pylist() for c in table.take(order).columns), strict=True))
        return found, not self._floor and len(table) <= most

    def lengths(self) -> Lengths:
        """How long the texts are."""
        mean = self._characters / self.count if self.count else None
        return Lengths(self._shortest, mean, self._longest, self._empty)

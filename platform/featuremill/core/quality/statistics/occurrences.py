"""Which rows repeat the values of others: the exact statistic under the expectations of uniqueness.

Rows are gathered with their values and a hash of these. Rows of different hashes have different values; of those whose
hashes meet the values themselves are compared, so that nothing is ever taken for a repetition that is none. Of each
value only the first rows are kept, and the others counted.

Pieces cut by the hash merge apart from one another. A piece that is whole is *settled*: what is left of it is how many
rows repeat a value, and the first of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.core.feature_recipe import FRAGMENT, ROW
from featuremill.core.quality.statistics.comparisons import plain, valid_mask
from featuremill.core.quality.statistics.domain import Domain
from featuremill.core.quality.statistics.failing_rows import failing_schema
from featuremill.core.quality.statistics.samples import first_rows, fragment_ranks, list_of_rows
from featuremill.transforms.contract import Analyzer, State
from featuremill.transforms.token_index import hash_values

__all__ = ["Occurrences"]

HASH, STANDS_FOR = "_hash", "_stands_for"
"""The hash of a row's values; for how many rows of its value it stands, itself included, and 0 once it is settled.

A settled row without a place is an account: its row number is how many rows were settled, its hash how many of them
repeat a value."""

COMPACT_ROWS = 1 << 20
"""Rows that pile up in a worker before those of frequent values are counted together, at least."""

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]


def _partial_schema(kept: pa.Schema) -> pa.Schema:
    place = pa.field(FRAGMENT, pa.dictionary(pa.int32(), pa.string()))
    return pa.schema([place, *list(kept)[1:], pa.field(HASH, pa.uint64()), pa.field(STANDS_FOR, pa.int64())])


class _Accumulator:
    def __init__(self, analyzer: Occurrences) -> None:
        self._analyzer = analyzer
        self._schema = _partial_schema(analyzer.kept)
        self._tables: list[pa.Table] = []
        self._rows = self._merged_rows = 0

    def update(self, array: pa.Array) -> None:
        columns = dict(zip(self._analyzer.inputs, array.flatten(), strict=True))
        mask = self._analyzer.domain.mask(columns)
        if mask is not None and mask.true_count < len(mask):
            columns = {name: column.filter(mask) for name, column in columns.items()}
        rows = len(columns[ROW])
        hashes = _hashed([columns[c] for c in self._analyzer.domain.columns])
        arrays = [columns[FRAGMENT], *(plain(columns[f.name]) for f in list(self._analyzer.kept)[1:])]
        arrays += [pa.array(hashes), pa.array(np.ones(rows, np.int64))]
        arrays = [a if a.type == f.type else a.cast(f.type) for a, f in zip(arrays, self._schema, strict=True)]
        self._tables.append(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows += rows
        if self._rows > COMPACT_ROWS + 2 * self._merged_rows:
            self._tables = [self._analyzer.merge(self._tables)]
            self._rows = self._merged_rows = self._tables[0].num_rows

    def partial(self) -> pa.Table:
        return pa.concat_tables([self._schema.empty_table(), *self._tables]).unify_dictionaries()


def _hashed(arrays: Sequence[pa.Array]) -> UInt64:
    """A hash of each row's values, the same for equal values, shape (n_rows,); a missing value equals a missing one."""
    hashes = np.zeros(len(arrays[0]), np.uint64)
    for array in arrays:
        own = np.zeros(len(array), np.uint64) if pt.is_null(array.type) else hash_values(plain_codes(array))
        valid = valid_mask(array)
        if valid is not None:
            own = np.where(valid.to_numpy(zero_copy_only=False), own, np.uint64(1))
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + own
    return hashes


def plain_codes(array: pa.Array) -> pa.Array:
    """The column without views; dictionary-encoded it stays, which is hashed by its values."""
    return array if pt.is_dictionary(array.type) and not _viewed(array.type) else plain(array)


def _viewed(type_: pa.DataType) -> bool:
    return bool(pt.is_string_view(type_.value_type) or pt.is_binary_view(type_.value_type))


@dataclass(frozen=True)
class Occurrences(Analyzer):
    """The rows whose values in some columns occur in another row as well: how many, and the first of them.

    The state is that of :class:`~featuremill.core.quality.statistics.failing_rows.FailingRows` with one check. A
    missing value equals a missing value, where rows with one are not left out.

    Parameters
    ----------
    column
        The first column of the domain.
    domain
        The columns whose values are to occur once, together, and in which rows.
    keep
        How many of the repeating rows are kept.
    kept
        The schema of the sample, which holds the columns of the domain.
    """

    domain: Domain
    keep: int
    kept: pa.Schema

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.domain.inputs, *self.kept.names, FRAGMENT, ROW]))

    def array_of(self, batch: pa.RecordBatch) -> pa.Array:
        return batch.select(list(self.inputs)).to_struct_array()

    def accumulator(self) -> _Accumulator:
        return _Accumulator(self)

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        whole = pa.concat_tables(partials).unify_dictionaries()
        settled, rows = _apart(whole)
        frequent = _meeting(_hashes(rows), max(self.keep, 1))
        if not len(frequent):
            return whole
        crowded = pc.is_in(rows.column(HASH), value_set=pa.array(frequent))
        kept, _ = self._first_of_each(rows.filter(crowded))
        return pa.concat_tables([settled, rows.filter(pc.invert(crowded)), kept])

    def split(self, partial: pa.Table, shards: int) -> list[pa.Table]:
        if shards <= 1:
            return [partial]
        # The low bits sort the rows within a shard; the high ones say which shard.
        shard = (_hashes(partial) >> np.uint64(40)) % np.uint64(shards)
        return [partial.take(pa.array(np.flatnonzero(shard == s))) for s in range(shards)]

    def trim(self, partial: pa.Table) -> pa.Table:
        settled, rows = _apart(partial.unify_dictionaries())
        total = pc.sum(rows.column(STANDS_FOR)).as_py() or 0
        meeting = pc.is_in(rows.column(HASH), value_set=pa.array(_meeting(_hashes(rows), 1)))
        kept, totals = self._first_of_each(rows.filter(pc.or_(meeting, pc.greater(rows.column(STANDS_FOR), 1))))
        repeating = kept.filter(pa.array(totals > 1))
        failing = pc.sum(repeating.column(STANDS_FOR)).as_py() or 0
        zeros = pa.array(np.zeros(repeating.num_rows, np.int64))
        repeating = repeating.set_column(repeating.schema.get_field_index(STANDS_FOR), STANDS_FOR, zeros)
        return self._settled(pa.concat_tables([settled, repeating, self._account(total, failing)]))

    def finish(self, partial: pa.Table) -> State:
        settled = self.trim(partial)
        account = settled.slice(settled.num_rows - 1)
        rows, failing = (account.column(c)[0].as_py() for c in (ROW, HASH))
        sample = settled.slice(0, settled.num_rows - 1)
        sample = sample.set_column(0, self.kept.field(0), sample.column(FRAGMENT).cast(pa.string()))
        sample = sample.select(self.kept.names).cast(self.kept)
        arrays = [*(pa.array([n], pa.int64()) for n in (rows, rows, failing)), list_of_rows([sample], self.kept)]
        return pa.Table.from_arrays(arrays, schema=failing_schema(self.kept))

    def _settled(self, table: pa.Table) -> pa.Table:
        """Settled rows: the first of the sample, and last one account of all."""
        placed = pc.is_valid(table.column(FRAGMENT))
        accounts = table.filter(pc.invert(placed))
        rows, failing = (int(pc.sum(accounts.column(c)).as_py()) for c in (ROW, HASH))
        return pa.concat_tables([first_rows(table.filter(placed), self.keep), self._account(rows, failing)])

    def _account(self, rows: int, failing: int) -> pa.Table:
        schema = _partial_schema(self.kept)
        numbers = {ROW: rows, HASH: failing, STANDS_FOR: 0}
        arrays = [pa.array([numbers.get(f.name)], f.type) for f in schema]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _first_of_each(self, rows: pa.Table) -> tuple[pa.Table, Int64]:
        """The first rows of each value, value by value, and for each row how many its value has in all.

        The first one of a value stands for the rows that are left out.
        """
        if not rows.num_rows:
            return rows, np.zeros(0, np.int64)
        codes = _codes([rows.column(name).combine_chunks() for name in self.domain.columns])
        order = _by_code(codes, rows)
        codes = codes[order]
        starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
        sizes = np.diff(starts, append=len(order))
        number = np.arange(len(order)) - np.repeat(starts, sizes)
        stays = number < max(self.keep, 1)
        stands_for = rows.column(STANDS_FOR).to_numpy()[order]
        totals = np.repeat(np.add.reduceat(stands_for, starts), sizes)
        gone = np.add.reduceat(np.where(stays, 0, stands_for), starts)
        stands_for = stands_for.copy()
        stands_for[starts] += gone
        kept = rows.take(pa.array(order[stays]))
        position = kept.schema.get_field_index(STANDS_FOR)
        return kept.set_column(position, STANDS_FOR, pa.array(stands_for[stays])), totals[stays]


def _by_code(codes: Int64, rows: pa.Table) -> Int64:
    """The order of rows by their codes, and within a code by their places."""
    fragments, numbers = fragment_ranks(rows), rows.column(ROW).to_numpy()
    steps, same = np.diff(fragments), np.diff(numbers) > 0
    placed = np.arange(len(codes)) if ((steps > 0) | (steps == 0) & same).all() else np.lexsort((numbers, fragments))
    codes = codes[placed]
    # NumPy sorts numbers of 16 bits in linear time.
    small = codes.astype(np.uint16) if codes.max() < 1 << 16 else codes
    return placed[np.argsort(small, kind="stable")]


def _hashes(table: pa.Table) -> UInt64:
    found: UInt64 = table.column(HASH).to_numpy()
    return found


def _apart(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The settled rows and the others."""
    settled = pc.equal(table.column(STANDS_FOR), 0)
    if not pc.any(settled).as_py():
        return table.slice(0, 0), table
    return table.filter(settled), table.filter(pc.invert(settled))


def _meeting(hashes: UInt64, times: int) -> UInt64:
    """The hashes that more than `times` rows have, each once."""
    ordered = np.sort(hashes)
    found: UInt64 = np.unique(ordered[times:][ordered[times:] == ordered[:-times]])
    return found


def _codes(columns: Sequence[pa.Array]) -> Int64:
    """A number for each row, the same for equal values and no other, shape (n_rows,)."""
    codes = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        encoded = pc.dictionary_encode(_alike(column) if pt.is_floating(column.type) else column)
        own = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy() + 1
        both = pa.array(codes * (len(encoded.dictionary) + 1) + own)
        codes = pc.dictionary_encode(both).indices.cast(pa.int64()).to_numpy()
    return codes


def _alike(numbers: pa.Array) -> pa.Array:
    """Floats with NaN as null, and -0.0, which equals 0.0, as 0.0."""
    zero = pa.scalar(0, pa.int8()).cast(numbers.type)
    return pc.if_else(pc.is_nan(numbers), pa.scalar(None, numbers.type), pc.add(numbers, zero))

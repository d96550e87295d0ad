"""The first failing rows: a sample that does not depend on how the rows were cut.

A row's place is its fragment and its number there; the sample is the rows of the lowest places. It travels as one
value, a list of structs, in the table of whoever gathers it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.core.feature_recipe import FRAGMENT, ROW
from featuremill.core.quality.statistics.comparisons import plain
from featuremill.transforms.arrays import value_type

__all__ = [
    "PLACE", "FirstRows", "first_rows", "fragment_ranks", "list_of_rows", "rows_of_list", "sample_schema", "take_rows",
]

PLACE = (pa.field(FRAGMENT, pa.string()), pa.field(ROW, pa.int64()))
"""Where a row comes from."""


def sample_schema(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """Of a sample that holds these columns of the rows: their place first; dictionaries and views are plain."""
    kept = [schema.field(c) for c in dict.fromkeys(columns)]
    return pa.schema([*PLACE, *(pa.field(f.name, _plain_type(f.type)) for f in kept)])


def _plain_type(type_: pa.DataType) -> pa.DataType:
    views = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    leaf = value_type(type_)
    return views.get(leaf, leaf)


def take_rows(columns: Mapping[str, pa.Array], positions: npt.NDArray[np.int64], schema: pa.Schema) -> pa.Table:
    """Some rows of a batch as a table of a sample's schema."""
    at = pa.array(positions)
    arrays = [plain(columns[f.name].take(at)) for f in schema]
    arrays = [a if a.type == f.type else a.cast(f.type) for a, f in zip(arrays, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def first_rows(table: pa.Table, limit: int) -> pa.Table:
    """The rows of the lowest places, in their order, at most `limit`."""
    order = np.lexsort((table.column(ROW).to_numpy(), fragment_ranks(table)))
    return table.take(pa.array(order[:limit])).combine_chunks()


def fragment_ranks(table: pa.Table) -> npt.NDArray[np.int64]:
    """A number for the fragment of each row, in the order of the fragments' names, shape (n_rows,)."""
    column = table.column(FRAGMENT).unify_dictionaries().combine_chunks()
    encoded = column if pt.is_dictionary(column.type) else column.dictionary_encode()
    if not len(encoded.dictionary):
        return np.zeros(len(encoded), np.int64)
    names = pc.sort_indices(encoded.dictionary).to_numpy()
    ranks = np.empty(len(names), np.int64)
    ranks[names] = np.arange(len(names))
    found: npt.NDArray[np.int64] = ranks[encoded.indices.to_numpy()]
    return found


def list_of_rows(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Array:
    """One list of structs for each table."""
    whole = pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()
    offsets = np.cumsum([0, *(t.num_rows for t in tables)], dtype=np.int32)
    arrays = [c.chunk(0) if c.num_chunks else pa.array([], c.type) for c in whole.columns]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(arrays, fields=list(schema)))


def rows_of_list(lists: pa.Array | pa.ChunkedArray, position: int, schema: pa.Schema) -> pa.Table:
    """The table that became the list at a position."""
    rows = lists[position].values
    return pa.Table.from_arrays(rows.flatten(), schema=schema) if rows is not None else schema.empty_table()


class FirstRows:
    """Gathers the first `limit` rows of those it is shown."""

    def __init__(self, limit: int, schema: pa.Schema) -> None:
        self._limit = limit
        self._schema = schema
        self._tables: list[pa.Table] = []
        self._rows = 0
        self._last: tuple[str, int] | None = None

    def add(self, columns: Mapping[str, pa.Array], failing: Callable[[], pa.BooleanArray]) -> None:
        """Some rows of a batch: where `failing` gives true, which has no nulls; asked only while rows are wanted."""
        fragments, numbers = columns[FRAGMENT], columns[ROW]
        # The rows of one fragment come in its order, so that the first ones are the lowest.
        ordered = len(fragments.dictionary) == 1
        if not self._limit or (ordered and self._last and (fragments[0].as_py(), numbers[0].as_py()) > self._last):
            return
        positions = np.flatnonzero(failing().to_numpy(zero_copy_only=False))
        if ordered:
            positions = positions[: self._limit]
        self._tables.append(take_rows(columns, positions, self._schema))
        self._rows += len(positions)
        if self._rows >= self._limit:
            self._tables = [first_rows(pa.concat_tables(self._tables), self._limit)]
            self._rows = self._tables[0].num_rows
            last = self._tables[0].slice(self._rows - 1)
            self._last = (last.column(FRAGMENT)[0].as_py(), last.column(ROW)[0].as_py())

    def table(self) -> pa.Table:
        """What was gathered."""
        return first_rows(pa.concat_tables([self._schema.empty_table(), *self._tables]), self._limit)

"""How often each value of a column occurs.

The statistic under vocabularies, frequency encoding and most-frequent-value imputation. A batch is counted by its
distinct values: a dictionary-encoded one by counting its indices, any other in Arrow's hash kernel. Batches with the
same dictionary, which is what the pages of a Parquet row group give, add up in one vector of counts. Memory is bounded
by the distinct values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import ColumnTypeError
from featuremill.transforms.arrays import dictionary_parts, leaf_type, leaves
from featuremill.transforms.contract import Accumulator, Analyzer, State
from featuremill.transforms.per_value import SPARSE_SHARE, same_values, without_views
from featuremill.transforms.text_split import split_text
from featuremill.transforms.token_index import hash_values, is_hashable

__all__ = ["Counts", "added_up", "count_tokens", "cut_by_hash", "merge_counts", "token_type"]

COMPACT_ROWS = 1 << 16
"""Counts that pile up before they are added together, at least."""

ADDED_UP = {b"added_up": b"yes"}
"""Metadata of a table in which each token stands once."""

MOST_CHUNKS = 4
"""Of so many dictionaries (those of the row groups of a fragment) the counts are left apart in a partial."""

Int64 = npt.NDArray[np.int64]


def token_type(type_: pa.DataType) -> pa.DataType:
    """The type of the tokens of a column: that of its leaves, views as plain strings.

    Raises
    ------
    ColumnTypeError
        The values cannot be counted (structs, maps, half floats, intervals).
    """
    leaf = leaf_type(type_)
    if not is_hashable(leaf):
        raise ColumnTypeError(f"Values of {leaf} cannot be counted.", type=str(leaf))
    if pt.is_string_view(leaf):
        return pa.string()
    return pa.binary() if pt.is_binary_view(leaf) else leaf


def counts_schema(token: pa.DataType) -> pa.Schema:
    """Of partials and states: ``token`` (the column's value type) and ``count`` (int64)."""
    return pa.schema([("token", token), ("count", pa.int64())])


def count_tokens(array: pa.Array) -> tuple[pa.Array, Int64]:
    """The values of one array and how often each occurs: ``(tokens, counts)``; no nulls, no NaN, in any order.

    A value may come twice, where a dictionary holds it twice. Lists count by their leaves.

    >>> tokens, counts = count_tokens(pa.array([["b", "a"], None, ["b", None]]))
    >>> sorted(zip(tokens.to_pylist(), counts.tolist()))
    [('a', 1), ('b', 2)]
    """
    found = without_views(leaves(array))
    if pt.is_dictionary(found.type):
        return _used(*_count_codes(*dictionary_parts(found)))
    tokens = _comparable(found)
    if tokens.null_count:
        tokens = tokens.drop_null()
    counted = pc.value_counts(tokens)
    return counted.field("values"), counted.field("counts").to_numpy()


def _count_codes(values: pa.Array, codes: Int64) -> tuple[pa.Array, Int64]:
    if len(values) > SPARSE_SHARE * len(codes):
        used, counts = np.unique(codes[codes >= 0], return_counts=True)
        return values.take(pa.array(used)), counts
    return values, np.bincount(codes + 1, minlength=len(values) + 1)[1:]


def _used(values: pa.Array, counts: Int64) -> tuple[pa.Array, Int64]:
    """Without values that no row has, and as tokens that compare."""
    tokens = _comparable(values)
    keep = counts > 0
    if tokens.null_count:
        keep &= tokens.is_valid().to_numpy(zero_copy_only=False)
    return (tokens, counts) if keep.all() else (tokens.filter(pa.array(keep)), counts[keep])


def _comparable(values: pa.Array) -> pa.Array:
    """NaN as null, and -0.0, which equals 0.0, as 0.0. Refuses what cannot be counted."""
    if pt.is_floating(values.type):
        zero = pa.scalar(0, pa.int8()).cast(values.type)
        return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), pc.add(values, zero))
    token_type(values.type)
    return values


def merge_counts(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables ``token, count`` added up: each token once, in no particular order; one chunk.

    Tables without a type (of columns that were all null) take that of the others.
    """
    typed = [t.replace_schema_metadata(None) for t in tables if not pt.is_null(t.schema.field("token").type)]
    if not typed:
        return counts_schema(pa.null()).empty_table()
    schema = typed[0].schema.with_metadata(ADDED_UP)
    table = pa.concat_tables(typed)
    if not table.num_rows:
        return schema.empty_table()
    added = table.group_by("token", use_threads=False).aggregate([("count", "sum")])
    return pa.Table.from_arrays([_one_chunk(added.column(c)) for c in ("token", "count_sum")], schema=schema)


def added_up(partial: pa.Table) -> pa.Table:
    """A partial with each token once; one that :func:`merge_counts` made is so already."""
    return partial if partial.schema.metadata == ADDED_UP else merge_counts([partial])


def by_token(table: pa.Table) -> pa.Table:
    """A table ``token, count`` in ascending order of the tokens, texts by their bytes."""
    tokens = table.column("token")
    if pt.is_null(tokens.type):
        return table
    return table.take(pc.sort_indices(tokens.cast(pa.uint8()) if pt.is_boolean(tokens.type) else tokens))


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def cut_by_hash(table: pa.Table, shards: int) -> list[pa.Table]:
    """`shards` tables, with each token in the one that its hash says; the order of tokens kept."""
    if shards <= 1 or pt.is_null(table.schema.field("token").type):
        return [table] + [table.slice(0, 0)] * (shards - 1)
    table = added_up(table)
    tokens = (
        table.column("token").combine_chunks() if table.num_rows else pa.array([], table.schema.field("token").type)
    )
    shard = hash_values(tokens) % np.uint64(shards)
    order = np.argsort(shard, kind="stable")
    ends = np.cumsum(np.bincount(shard.astype(np.int64), minlength=shards))
    ordered = table.take(pa.array(order))
    return [ordered.slice(int(e - n), int(n)) for e, n in zip(ends, np.diff(ends, prepend=0), strict=True)]


def _count_split(array: pa.Array, delimiter: str) -> tuple[pa.Array, Int64]:
    """:func:`count_tokens` of the tokens of texts; the texts of a dictionary are split once each."""
    if not pt.is_dictionary(array.type):
        return count_tokens(split_text(array, delimiter))
    texts, weights = count_tokens(array)
    split = split_text(texts, delimiter)
    encoded = split.flatten().dictionary_encode()
    each = np.repeat(weights, pc.list_value_length(split).to_numpy())
    # Sums of counts as float64 are exact: a batch has fewer than 2**53 tokens.
    sums = np.bincount(encoded.indices.to_numpy(), weights=each, minlength=len(encoded.dictionary))
    return encoded.dictionary, sums.astype(np.int64)


class _Tally:
    """The accumulator: counts of the dictionary at hand as a vector, everything before it as tables."""

    def __init__(self, delimiter: str | None) -> None:
        self._delimiter = delimiter
        self._tables: list[pa.Table] = []
        self._rows = 0
        self._merged_rows = 0
        self._values: pa.Array | None = None
        self._counts: Int64 = np.zeros(0, np.int64)

    def update(self, array: pa.Array) -> None:
        if self._delimiter:
            self._add(*_count_split(array, self._delimiter))
            return
        found = without_views(leaves(array))
        if pt.is_dictionary(found.type):
            self._add_codes(found)
        else:
            self._add(*count_tokens(found))

    def _add_codes(self, array: pa.Array) -> None:
        if self._values is None or not same_values(self._values, array.dictionary):
            self._close_dictionary()
            self._values = array.dictionary
            self._counts = np.zeros(len(array.dictionary), np.int64)
        _, codes = dictionary_parts(array)
        if len(self._counts) > SPARSE_SHARE * len(codes):
            used, counts = np.unique(codes[codes >= 0], return_counts=True)
            self._counts[used] += counts
        else:
            self._counts += np.bincount(codes + 1, minlength=len(self._counts) + 1)[1:]

    def _close_dictionary(self) -> None:
        if self._values is not None:
            values, self._values = self._values, None
            self._add(*_used(values, self._counts))

    def _add(self, tokens: pa.Array, counts: Int64) -> None:
        self._tables.append(
            pa.Table.from_arrays([tokens, pa.array(counts, pa.int64())], schema=counts_schema(tokens.type))
        )
        self._rows += len(tokens)
        if self._rows > COMPACT_ROWS + 2 * self._merged_rows:
            self._compact()

    def _compact(self) -> None:
        if self._tables:
            self._tables = [merge_counts(self._tables)]
        self._rows = self._merged_rows = sum(t.num_rows for t in self._tables)

    def partial(self) -> pa.Table:
        self._close_dictionary()
        if len(self._tables) > MOST_CHUNKS:
            self._compact()
        if not self._tables:
            return counts_schema(pa.null()).empty_table()
        # A few dictionaries are left as they are: whoever merges partials adds them up on the way.
        typed = [t for t in self._tables if not pt.is_null(t.schema.field("token").type)]
        return pa.concat_tables(typed) if typed else self._tables[0]


@dataclass(frozen=True)
class Counts(Analyzer):
    """How often each value of the column occurs.

    Lists count by their leaves. Nulls and NaN are not counted; the empty text is, and -0.0 counts as 0.0. Partial and
    state are tables ``token`` (the column's value type) and ``count`` (int64); the state is ordered by token (texts by
    their bytes), so that the same rows give the same bytes however they were cut. A column without a single value that
    has no type gives tokens of type null.

    Parameters
    ----------
    delimiter
        Count the tokens between these characters instead (see :func:`featuremill.transforms.text_split.split_text`).

    >>> analyzer = Counts("x")
    >>> tally = analyzer.accumulator()
    >>> tally.update(pa.array(["b", None, "a"]))
    >>> tally.update(pa.array(["b", ""]))
    >>> analyzer.finish(tally.partial()).to_pydict()
    {'token': ['', 'a', 'b'], 'count': [1, 1, 2]}
    >>> Counts("x").accumulator().update(pa.array([{"a": 1}]))
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ColumnTypeError: Values of struct<a: int64> cannot be counted.
    """

    delimiter: str | None = None

    def accumulator(self) -> Accumulator:
        return _Tally(self.delimiter)

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        return merge_counts(partials)

    def finish(self, partial: pa.Table) -> State:
        return by_token(added_up(partial)).combine_chunks().replace_schema_metadata(None)

    def split(self, partial: pa.Table, shards: int) -> list[pa.Table]:
        return cut_by_hash(partial, shards)

"""Vocabularies: the distinct values of a column, most frequent first, and each value's position among them.

Order and cut are those of ``tft.vocabulary``: by count, descending, and among equal counts by token in reverse order
(texts by their bytes); ``frequency_threshold`` first, ``top_k`` after it. Unlike the stock op, a vocabulary may hold
numbers, booleans and dates, the empty text and texts with line breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import JobError
from featuremill.transforms.arrays import (
    is_list,
    is_text,
    leaf_type,
    map_leaves,
    replace_leaf_type,
    value_type,
)
from featuremill.transforms.contract import Analyzer, ColumnTransform, RowFunction, State, Transform
from featuremill.transforms.counts import Counts, added_up
from featuremill.transforms.fingerprint import as_text, fingerprint64, fingerprint64_of, text_of
from featuremill.transforms.per_value import PerValue
from featuremill.transforms.text_split import split_text, text_splitter
from featuremill.transforms.token_index import TokenIndex

__all__ = [
    "CATEGORY_TYPES",
    "ComputeAndApplyVocabulary",
    "Lookup",
    "Vocabulary",
    "can_be_token",
    "check_token_type",
    "check_whole_number",
    "has_row_path",
    "over_lists",
]

CATEGORY_TYPES = "text, bytes, integers, booleans, dates or timestamps"
"""What a categorical column may hold, for error messages."""

Int64 = npt.NDArray[np.int64]


def can_be_token(type_: pa.DataType) -> bool:
    """Whether values of the type (no list, no dictionary) can be categories: exact values, so no floats."""
    return bool(
        is_text(type_)
        or pt.is_integer(type_)
        or pt.is_boolean(type_)
        or pt.is_date(type_)
        or pt.is_timestamp(type_)
        or pt.is_null(type_)
    )


def check_whole_number(transform: Transform, parameter: str, *, least: int | None, optional: bool = False) -> None:
    """Refuse a parameter that is no int of at least `least`, or None where that is `optional`."""
    value = getattr(transform, parameter)
    if value is None and optional:
        return
    expected = "an integer" if least is None else f"an integer of at least {least}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise transform.wrong(parameter, value, expected + (" or None" if optional else ""), wrong_type=True)
    if least is not None and value < least:
        raise transform.wrong(parameter, value, expected)


def check_token_type(transform: Transform, column: pa.Field, *, floats_hint: str = "Bucketize") -> None:
    """Refuse a column whose values cannot be categories."""
    leaf = leaf_type(column.type)
    if pt.is_floating(leaf) or pt.is_decimal(leaf):
        raise transform.wrong_column(
            column, f"{CATEGORY_TYPES}. Use {floats_hint} for measurements, or cast to an integer"
        )
    if not can_be_token(leaf):
        raise transform.wrong_column(column, CATEGORY_TYPES)


# --- statistic --------------------------------------------------------------------------------------------------------


def most_frequent(table: pa.Table, top_k: int | None) -> pa.Table:
    """The `top_k` (None: all) rows of a table ``token, count`` in the order of a vocabulary."""
    tokens = table.column("token")
    if pt.is_null(tokens.type):
        return table
    keys = pa.table(
        {"count": table.column("count"), "token": tokens.cast(pa.uint8()) if pt.is_boolean(tokens.type) else tokens}
    )
    order = pc.sort_indices(keys, sort_keys=[("count", "descending"), ("token", "descending")])
    return table.take(order if top_k is None else order.slice(0, top_k))


@dataclass(frozen=True)
class Vocabulary(Analyzer):
    """The distinct values of the column (or of its split texts), most frequent first.

    Counts as :class:`featuremill.transforms.counts.Counts`. The state is a table ``token`` (the column's value type)
    and ``count`` (int64) in the order of the vocabulary: row ``i`` is position ``i``.

    Parameters
    ----------
    delimiter
        The characters to split texts at first.
    top_k
        Keep this many of the most frequent tokens; None: all.
    frequency_threshold
        Keep tokens that occur at least so often; None: all.

    Raises
    ------
    JobError
        From :meth:`finish`, when there were tokens but none reaches the threshold.

    >>> analyzer = Vocabulary("x", top_k=2)
    >>> tally = analyzer.accumulator()
    >>> tally.update(pa.array(["a", "c", "b", "b"]))
    >>> analyzer.finish(tally.partial()).to_pydict()
    {'token': ['b', 'c'], 'count': [2, 1]}
    >>> Vocabulary("x", frequency_threshold=5).finish(tally.partial())
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.JobError: The vocabulary of 'x' is empty: frequency_threshold is 5, but \
the most frequent token occurs 2 times. Lower frequency_threshold to at most 2.
    """

    delimiter: str | None = None
    top_k: int | None = None
    frequency_threshold: int | None = None

    @property
    def counts(self) -> Counts:
        """The statistic that this one cuts and orders."""
        return Counts(self.column, self.delimiter)

    def accumulator(self) -> Any:
        return self.counts.accumulator()

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        return self.counts.merge(partials)

    def split(self, partial: pa.Table, shards: int) -> list[pa.Table]:
        return self.counts.split(partial, shards)

    def trim(self, partial: pa.Table) -> pa.Table:
        """What of a piece can still be in the vocabulary, and its most frequent token, for :meth:`finish` to name."""
        if self.top_k is None and self.frequency_threshold is None:
            return partial
        first = most_frequent(added_up(partial), self.top_k)
        kept = self._frequent(first)
        kept = kept if kept.num_rows else first.slice(0, 1)
        return self.counts.merge([kept])

    def _frequent(self, table: pa.Table) -> pa.Table:
        if self.frequency_threshold is None:
            return table
        return table.filter(pc.greater_equal(table.column("count"), self.frequency_threshold))

    def finish(self, partial: pa.Table) -> State:
        partial = added_up(partial)
        kept = self._frequent(partial)
        if partial.num_rows and not kept.num_rows:
            highest = pc.max(partial.column("count")).as_py()
            raise JobError(
                f"The vocabulary of {self.column!r} is empty: frequency_threshold is {self.frequency_threshold}, "
                f"but the most frequent token occurs {highest} time{'s' * (highest != 1)}. "
                f"Lower frequency_threshold to at most {highest}.",
                column=self.column,
                frequency_threshold=self.frequency_threshold,
                highest_count=highest,
            )
        return most_frequent(kept, self.top_k).combine_chunks().replace_schema_metadata(None)


# --- lookup -----------------------------------------------------------------------------------------------------------


class Lookup:
    """Values to positions in a vocabulary, with what stands for all others: built once per process, shared by threads.

    Parameters
    ----------
    tokens
        The vocabulary, shape (n_tokens,).
    default_value
        For values that are not in it, when there are no buckets.
    num_oov_buckets
        How many buckets after the vocabulary the others are hashed into; the id is
        ``n_tokens + FarmHash64(text) % num_oov_buckets``.

    first_bucket
        The id of the first bucket, where that is not the number of tokens.

    >>> Lookup(pa.array(["a", "b"]), default_value=-1, num_oov_buckets=0).ids(pa.array(["b", "x", None])).to_pylist()
    [1, -1, None]
    """

    def __init__(
        self, tokens: pa.Array, *, default_value: int, num_oov_buckets: int, first_bucket: int | None = None
    ) -> None:
        self.tokens = tokens.combine_chunks() if isinstance(tokens, pa.ChunkedArray) else tokens
        self.default_value = default_value
        self.num_oov_buckets = num_oov_buckets
        self.first_bucket = len(self.tokens) if first_bucket is None else first_bucket
        self._index = TokenIndex(self.tokens)
        self._per_value = PerValue(self._ids)

    def ids(self, values: pa.Array) -> pa.Array:
        """The id of each value (no lists), shape (n_rows,) int64; null for null."""
        return self._per_value.arrow(values, pa.int64())

    def codes(self, values: pa.Array) -> Int64:
        """The id of each value (no lists), shape (n_rows,) int64; -1 for null."""
        ids, valid = self._per_value.numpy(values)
        return ids.astype(np.int64) if valid is None else np.where(valid, ids, -1)

    def _ids(self, values: pa.Array) -> Int64:
        ids = self._index.lookup(values)
        unknown = np.flatnonzero(ids < 0)
        if not len(unknown):
            return ids
        if self.num_oov_buckets:
            others = values if len(unknown) == len(values) else values.take(pa.array(unknown))
            buckets = fingerprint64(as_text(_hashable_text(others))) % np.uint64(self.num_oov_buckets)
            ids[unknown] = self.first_bucket + buckets.astype(np.int64)
        else:
            ids[unknown] = self.default_value
        return ids

    @cached_property
    def _positions(self) -> dict[Any, int]:
        return {token: i for i, token in enumerate(self.tokens.to_pylist())}

    def id_of(self) -> RowFunction:
        """A function from one Python value to its id, None for None; equal to :meth:`ids`."""
        positions, first = self._positions, self.first_bucket
        buckets, default = self.num_oov_buckets, self.default_value
        if not buckets:
            return lambda value: None if value is None else positions.get(value, default)

        def function(value: Any) -> int | None:
            if value is None:
                return None
            found = positions.get(value)
            return first + fingerprint64_of(text_of(value)) % buckets if found is None else found

        return function


def _hashable_text(values: pa.Array) -> pa.Array:
    """Timestamps have many texts; their buckets hash the ticks since 1970 in the column's unit."""
    return values.cast(pa.int64()) if pt.is_timestamp(values.type) else values


def has_row_path(type_: pa.DataType) -> bool:
    """Whether Python's values of the type equal exactly when Arrow's do: a timestamp may have more digits."""
    return not pt.is_timestamp(type_)


def over_lists(function: RowFunction, type_: pa.DataType) -> RowFunction:
    """`function` for one leaf, over the lists (of lists) that a column of `type_` has."""
    if not is_list(value_type(type_)):
        return function
    inner = over_lists(function, value_type(type_).value_type)
    return lambda values: None if values is None else [inner(value) for value in values]


# --- transform --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComputeAndApplyVocabulary(ColumnTransform):
    """Each value's position in the vocabulary of its column, as int64.

    Fitting counts the column's values and orders them: most frequent first, equal counts in reverse order of the
    tokens. Applying looks values up. A column of lists gives lists of ids, of the same shape; with
    `split_string_by_delimiter` every row gives a list. Null gives null, and nulls are not counted. Text and bytes,
    integers, booleans, dates and timestamps can be tokens; so can the empty text and texts with line breaks, which the
    stock op leaves out.

    Parameters
    ----------
    columns
        Each gets a vocabulary of its own.
    split_string_by_delimiter
        Split texts first; each character of it is a delimiter, empty tokens are dropped. None or '': do not split.
    default_value
        For values that are not in the vocabulary, where `num_oov_buckets` is 0.
    top_k
        Keep this many of the most frequent tokens.
    frequency_threshold
        Keep tokens that occur at least so often.
    num_oov_buckets
        Hash other values into this many ids after the vocabulary: ``size + FarmHash64(text) % num_oov_buckets``, where
        the text of an integer is its decimals (of a timestamp, its ticks since 1970).
    vocab_filename
        A name for the readable copy of the vocabulary in an artifact; it changes no result.

    Raises
    ------
    ParameterError, ParameterTypeError
        A parameter of a wrong value or type.
    ColumnTypeError
        A column of floats, decimals, times or structs, or a split of what is no text.

    >>> op = ComputeAndApplyVocabulary(["x"], num_oov_buckets=1)
    >>> tally = op.analyzer("x").accumulator()
    >>> tally.update(pa.array(["b", "a", "b", "c"]))
    >>> column = pa.field("x", pa.string())
    >>> prepared = op.prepare_column(op.analyzer("x").finish(tally.partial()), column)
    >>> op.apply_column(pa.array(["b", "a", "c", "new", None]), prepared).to_pylist()
    [0, 2, 1, 3, None]
    >>> ComputeAndApplyVocabulary(["x"], top_k=0)
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: ComputeAndApplyVocabulary('x'): top_k got 0, expected an integer \
of at least 1.
    """

    split_string_by_delimiter: str | None = None
    default_value: int = field(default=-1, kw_only=True)
    top_k: int | None = field(default=None, kw_only=True)
    frequency_threshold: int | None = field(default=None, kw_only=True)
    num_oov_buckets: int = field(default=0, kw_only=True)
    vocab_filename: str | None = field(default=None, kw_only=True)

    def check(self) -> None:
        check_whole_number(self, "default_value", least=None)
        check_whole_number(self, "top_k", least=1, optional=True)
        check_whole_number(self, "frequency_threshold", least=0, optional=True)
        check_whole_number(self, "num_oov_buckets", least=0)
        for parameter in ("split_string_by_delimiter", "vocab_filename"):
            value = getattr(self, parameter)
            if value is not None and not isinstance(value, str):
                raise self.wrong(parameter, value, "a string or None", wrong_type=True)

    def output_type(self, column: pa.Field) -> pa.DataType:
        check_token_type(self, column)
        if not self.split_string_by_delimiter:
            return replace_leaf_type(column.type, pa.int64())
        leaf = leaf_type(column.type)
        if not (pt.is_string(leaf) or pt.is_large_string(leaf) or pt.is_string_view(leaf) or pt.is_null(leaf)):
            raise self.wrong_column(column, "text, because split_string_by_delimiter is given")
        return pa.list_(pa.int64())

    def analyzer(self, column: str) -> Analyzer | None:
        return Vocabulary(column, self.split_string_by_delimiter or None, self.top_k, self.frequency_threshold)

    def prepare_column(self, state: State | None, column: pa.Field) -> Lookup:
        assert state is not None  # the planner never applies a fitted transform without its state
        return Lookup(state.column("token"), default_value=self.default_value, num_oov_buckets=self.num_oov_buckets)

    def apply_column(self, array: pa.Array, prepared: Lookup) -> pa.Array:
        if not self.split_string_by_delimiter:
            return map_leaves(array, prepared.ids)
        # Where a dictionary is no larger than the batch, each of its texts is split and looked up once.
        once_each = pt.is_dictionary(array.type) and len(array.dictionary) <= len(array)
        texts = array.dictionary if once_each else array
        ids = map_leaves(split_text(texts, self.split_string_by_delimiter), prepared.ids)
        return ids.take(array.indices) if once_each else ids

    def row_function(self, prepared: Lookup, column: pa.Field) -> RowFunction | None:
        if not has_row_path(leaf_type(column.type)):
            return None
        function = prepared.id_of()
        if self.split_string_by_delimiter:
            return _split_row(text_splitter(self.split_string_by_delimiter), function)
        return over_lists(function, column.type)


def _split_row(split: Callable[[str], list[str]], function: RowFunction) -> RowFunction:
    def tokens(value: Any) -> list[str]:
        if value is None:
            return []
        return split(value) if isinstance(value, str) else [token for inner in value for token in tokens(inner)]

    return lambda value: None if value is None else [function(token) for token in tokens(value)]

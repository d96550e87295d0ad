"""Tokens, n-grams and bags of words: what can be done to a text before its words are looked up.

Each transform takes texts, or lists of tokens, and gives lists of tokens. None of them needs statistics; the word count
of :class:`BagOfWords` is a by-product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.transforms.arrays import is_list, is_text, value_type
from featuremill.transforms.contract import Analyzer, ColumnTransform, RowFunction
from featuremill.transforms.counts import Counts
from featuremill.transforms.ragged import Ragged, distinct, flat_leaf_type, list_of, over_dictionary, ragged
from featuremill.transforms.text_split import split_text, text_splitter

__all__ = ["BagOfWords", "DeduplicateTensorPerRow", "NGrams", "ngrams"]

NGRAM_LIMIT = 64
"""Tokens in the longest n-gram that may be asked for: more is a mistake, and costs memory with its square."""

# --- arithmetic ------------------------------------------------------------------------------------------------------


def ngrams(tokens: Ragged, smallest: int, largest: int, separator: str | None) -> Ragged:
    """All runs of `smallest` to `largest` tokens of each row, each joined with `separator`.

    They come in the order of their first token, and from one first token in the order of growing length, as from
    ``tft.ngrams``. A row with fewer than `smallest` tokens gives none.

    >>> words = ragged(pa.array([["I", "like", "pie"], ["yum"]]))
    >>> ngrams(words, 1, 2, " ").to_lists(pa.list_(pa.string())).to_pylist()
    [['I', 'I like', 'like', 'like pie', 'pie'], ['yum']]
    """
    if (smallest, largest) == (1, 1):
        return tokens
    left = np.repeat(tokens.offsets[1:], tokens.lengths) - np.arange(len(tokens.values))
    counts = np.clip(np.minimum(left, largest) - smallest + 1, 0, None)
    begins = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=begins[1:])
    order = np.empty(int(begins[-1]), dtype=np.int64)
    between = pa.scalar(separator, pa.string()).cast(tokens.values.type)
    pieces, done = [], 0
    starts = np.arange(len(tokens.values))
    grams = tokens.values
    for n in range(1, largest + 1):
        if n > 1:
            longer = left[starts] >= n
            starts = starts[longer]
            following = tokens.values.take(pa.array(starts + n - 1))
            grams = pc.binary_join_element_wise(grams.filter(pa.array(longer)), following, between)
        if n >= smallest:
            order[begins[starts] + n - smallest] = np.arange(done, done + len(starts))
            pieces.append(grams)
            done += len(starts)
    return Ragged(pa.concat_arrays(pieces).take(pa.array(order)), begins[tokens.offsets], tokens.nulls)


def tokenize(array: pa.Array, delimiters: str | None, leaf: pa.DataType) -> Ragged:
    """The tokens of each row as values of type `leaf`: texts are split, or are one token each; lists stay."""
    found = ragged(split_text(_as_text(array), delimiters) if delimiters else array)
    values = found.values
    if values.type != leaf:
        values = values.view(leaf) if pt.is_string(values.type) and pt.is_binary(leaf) else values.cast(leaf)
    return Ragged(values, found.offsets, found.nulls)


def _as_text(array: pa.Array) -> pa.Array:
    """Bytes under the name of text, unchecked, since cutting them at characters does not need them to be valid."""
    leaf = flat_leaf_type(array.type)
    if leaf is None or _is_string(leaf):
        return array
    rows = ragged(array)
    values = rows.values.cast(pa.binary())
    return Ragged(values.view(pa.string()), rows.offsets, rows.nulls).to_lists(pa.list_(pa.string()))


def _is_string(type_: pa.DataType) -> bool:
    return bool(pt.is_string(type_) or pt.is_large_string(type_))


# --- transforms ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tokens(ColumnTransform):
    """What NGrams and BagOfWords have in common: their tokens and the n-grams of them."""

    split_string_by_delimiter: str | None = None
    ngram_range: Sequence[int] = field(default=(1, 1), kw_only=True)
    ngrams_separator: str | None = field(default=None, kw_only=True)

    def check(self) -> None:
        for name in ("split_string_by_delimiter", "ngrams_separator"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise self.wrong(name, value, "a string or None", wrong_type=True)
        sizes = self.ngram_range
        if isinstance(sizes, str) or not isinstance(sizes, Sequence) or not all(type(n) is int for n in sizes):
            raise self.wrong("ngram_range", sizes, "two integers such as (1, 3)", wrong_type=True)
        if len(sizes) != 2 or not 1 <= sizes[0] <= sizes[1] <= NGRAM_LIMIT:
            raise self.wrong(
                "ngram_range", sizes,
                f"the smallest and the largest number of tokens, 1 <= smallest <= largest <= {NGRAM_LIMIT}",
            )
        object.__setattr__(self, "ngram_range", tuple(sizes))
        if self.ngram_range != (1, 1) and self.ngrams_separator is None:
            raise self.wrong("ngrams_separator", None, "a string between the tokens, since ngram_range is not (1, 1)")

    def output_type(self, column: pa.Field) -> pa.DataType:
        leaf = flat_leaf_type(column.type)
        if leaf is None or not (is_text(leaf) or pt.is_null(leaf)):
            raise self.wrong_column(column, "texts or lists of texts. Cast the column to strings first")
        if pt.is_null(leaf):
            return list_of(column.type, pa.string())
        return list_of(column.type, pa.binary() if pt.is_fixed_size_binary(leaf) else leaf)

    def prepare_column(self, state: pa.Table | None, column: pa.Field) -> Any:
        return self.output_type(column)

    def apply_column(self, array: pa.Array, prepared: Any) -> pa.Array:
        return over_dictionary(array, lambda values: self._grams(values, prepared.value_type).to_lists(prepared))

    def _grams(self, array: pa.Array, leaf: pa.DataType) -> Ragged:
        tokens = tokenize(array, self.split_string_by_delimiter, leaf)
        smallest, largest = self.ngram_range
        return ngrams(tokens, smallest, largest, self.ngrams_separator)

    def row_function(self, prepared: Any, column: pa.Field) -> RowFunction | None:
        leaf = flat_leaf_type(column.type)
        if leaf is None or not _is_string(leaf):
            return None
        smallest, largest = self.ngram_range
        join = (self.ngrams_separator or "").join
        tokens_of = _row_tokens(self.split_string_by_delimiter, lists=is_list(value_type(column.type)))

        def grams(value: Any) -> list[str] | None:
            if value is None:
                return None
            tokens = tokens_of(value)
            if largest == 1:
                return tokens
            count = len(tokens)
            return [
                join(tokens[i : i + n]) for i in range(count) for n in range(smallest, min(largest, count - i) + 1)
            ]

        return grams


def _row_tokens(delimiters: str | None, lists: bool) -> Callable[[Any], list[str]]:
    """:func:`tokenize` for one Python value that is not None."""
    if not delimiters:
        return (lambda value: [t for t in value if t is not None]) if lists else (lambda value: [value])
    split = text_splitter(delimiters)
    return (lambda value: [t for text in value if text is not None for t in split(text)]) if lists else split


@dataclass(frozen=True)
class NGrams(_Tokens):
    """The runs of consecutive tokens of each row, such as words and pairs of words.

    Returns one column for each input column, shape (n_rows,): lists of strings (of bytes, where the input is bytes;
    large where the input is large). They come in the order of their first token, then of growing length, with
    repetitions: ``tft.ngrams``. A null row gives null, a row without tokens an empty list, a null inside a list is left
    out as if it were not there. Dictionary-encoded input is taken. Nothing is fitted.

    Parameters
    ----------
    columns
        Columns of texts or of lists of texts.
    split_string_by_delimiter
        Every character of it is a delimiter; empty tokens are dropped. None or '': a text is one token, as it is. Texts
        in lists are split too, and their tokens put one after the other.
    ngram_range
        The smallest and the largest number of tokens in a run, both inclusive.
    ngrams_separator
        What is put between the tokens of a run; needed unless `ngram_range` is (1, 1). ``""`` joins them directly.
    output, name
        See :class:`~featuremill.transforms.contract.Transform`.

    Raises
    ------
    ParameterError, ParameterTypeError
        For parameters that cannot work.
    ColumnTypeError
        When the schema is known, for a column that is neither texts nor lists of texts.

    >>> op = NGrams(["x"], " ", ngram_range=(1, 2), ngrams_separator=" ")
    >>> batch = pa.record_batch({"x": ["I like pie", "yum", None]})
    >>> op.apply(batch, op.prepare({}, batch.schema))[0].to_pylist()
    [['I', 'I like', 'like', 'like pie', 'pie'], ['yum'], None]
    >>> NGrams(["x"], ngram_range=(1, 2))
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: NGrams('x'): ngrams_separator got None, expected a string \
between the tokens, since ngram_range is not (1, 1).
    """


@dataclass(frozen=True)
class BagOfWords(_Tokens):
    """The distinct words (or n-grams) of each row, in the order in which they first come up.

    Returns one column for each input column, shape (n_rows,): lists of strings, as from :class:`NGrams`, each n-gram
    once: ``tft.bag_of_words``. Nulls, empty rows and encodings as there.

    With `compute_word_count`, fitting also counts how often each token comes up in all rows (before n-grams, after
    splitting: ``tft.count_per_key``); the counts are kept as a state and change no output.

    Parameters
    ----------
    columns, split_string_by_delimiter, ngram_range, ngrams_separator
        As for :class:`NGrams`.
    compute_word_count
        Whether to count the tokens of all rows.
    key_vocab_filename
        Asks for a readable copy of the counts, which needs `compute_word_count`; it changes no result.
    output, name
        See :class:`~featuremill.transforms.contract.Transform`.

    Raises
    ------
    ParameterError, ParameterTypeError
        For parameters that cannot work.
    ColumnTypeError
        When the schema is known, for a column that is neither texts nor lists of texts.

    >>> op = BagOfWords(["x"], " ")
    >>> batch = pa.record_batch({"x": ["yum yum pie", "", None]})
    >>> op.apply(batch, op.prepare({}, batch.schema))[0].to_pylist()
    [['yum', 'pie'], [], None]
    >>> BagOfWords(["x"], ngram_range=(2, 1), ngrams_separator=" ")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: BagOfWords('x'): ngram_range got (2, 1), expected the smallest \
and the largest number of tokens, 1 <= smallest <= largest <= 64.
    """

    compute_word_count: bool = field(default=False, kw_only=True)
    key_vocab_filename: str | None = field(default=None, kw_only=True)

    def check(self) -> None:
        super().check()
        if not isinstance(self.compute_word_count, bool):
            raise self.wrong("compute_word_count", self.compute_word_count, "true or false", wrong_type=True)
        if self.key_vocab_filename is not None:
            if not isinstance(self.key_vocab_filename, str):
                raise self.wrong("key_vocab_filename", self.key_vocab_filename, "a file name or None", wrong_type=True)
            if not self.compute_word_count:
                raise self.wrong(
                    "key_vocab_filename", self.key_vocab_filename, "None, or compute_word_count=True with it"
                )

    def analyzer(self, column: str) -> Analyzer | None:
        return Counts(column, delimiter=self.split_string_by_delimiter or None) if self.compute_word_count else None

    def output_type(self, column: pa.Field) -> pa.DataType:
        found = super().output_type(column)
        if self.compute_word_count and self.split_string_by_delimiter and not _is_string(found.value_type):
            raise self.wrong_column(column, "texts, not bytes, to count the words in them. Cast it to strings")
        return found

    def _grams(self, array: pa.Array, leaf: pa.DataType) -> Ragged:
        return distinct(super()._grams(array, leaf))

    def row_function(self, prepared: Any, column: pa.Field) -> RowFunction | None:
        grams = super().row_function(prepared, column)
        if grams is None:
            return None

        def words(value: Any) -> list[str] | None:
            found = grams(value)
            return None if found is None else list(dict.fromkeys(found))

        return words


@dataclass(frozen=True)
class DeduplicateTensorPerRow(ColumnTransform):
    """The distinct values of each row's list, in the order in which they first come up.

    Returns one column for each input column, shape (n_rows,): lists of the input's values (fixed-size lists become
    lists of any length, dictionary-encoded ones plain), ``tft.deduplicate_tensor_per_row``. A null row gives null;
    nulls inside lists are left out; all NaNs count as one value, and so do 0.0 and -0.0. A column that is no list comes
    out as it is. Nothing is fitted.

    Parameters
    ----------
    columns
        Columns of lists of texts, bytes, numbers, booleans, dates or times.
    name
        A label for people.
    output
        See :class:`~featuremill.transforms.contract.Transform`.

    Raises
    ------
    ColumnTypeError
        When the schema is known, for lists of lists, structs and the like.

    >>> op = DeduplicateTensorPerRow(["x"])
    >>> batch = pa.record_batch({"x": [[2, 1, 2], [], None]})
    >>> op.apply(batch, op.prepare({}, batch.schema))[0].to_pylist()
    [[2, 1], [], None]
    >>> op.output_fields(pa.schema([("x", pa.list_(pa.list_(pa.int64())))]))
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ColumnTypeError: DeduplicateTensorPerRow('x'): the column is \
list<item: list<item: int64>>, expected lists of texts, numbers, booleans, dates or times, of depth one.
    """

    name: str | None = None

    def output_type(self, column: pa.Field) -> pa.DataType:
        type_ = value_type(column.type)
        if not is_list(type_):
            return type_
        leaf = flat_leaf_type(type_)
        if leaf is None or not _can_be_compared(leaf):
            raise self.wrong_column(column, "lists of texts, numbers, booleans, dates or times, of depth one")
        return list_of(type_, leaf)

    def prepare_column(self, state: pa.Table | None, column: pa.Field) -> Any:
        return self.output_type(column)

    def apply_column(self, array: pa.Array, prepared: Any) -> pa.Array:
        if is_list(array.type):
            return distinct(ragged(array)).to_lists(prepared)
        return array.dictionary_decode() if pt.is_dictionary(array.type) else array

    def row_function(self, prepared: Any, column: pa.Field) -> RowFunction | None:
        if not is_list(prepared):
            return lambda value: value
        leaf = prepared.value_type
        if not (is_text(leaf) or pt.is_integer(leaf) or pt.is_boolean(leaf)):
            return None
        return lambda value: None if value is None else [v for v in dict.fromkeys(value) if v is not None]


def _can_be_compared(leaf: pa.DataType) -> bool:
    """Whether :func:`~featuremill.transforms.ragged.distinct` takes values of a type."""
    return (
        is_text(leaf) or pt.is_integer(leaf) or pt.is_floating(leaf) or pt.is_boolean(leaf) or pt.is_null(leaf)
        or pt.is_temporal(leaf) or pt.is_decimal128(leaf) or pt.is_decimal256(leaf)
    )

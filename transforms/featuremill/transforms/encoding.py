"""Categories as numbers that a model takes directly: how frequent a value is, and one-hot vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.transforms.arrays import (
    is_list,
    is_text,
    leaf_type,
    leaves,
    map_leaves,
    replace_leaf_type,
    value_type,
)
from featuremill.transforms.contract import Analyzer, ColumnTransform, RowFunction, State
from featuremill.transforms.counts import Counts
from featuremill.transforms.per_value import PerValue
from featuremill.transforms.token_index import TokenIndex
from featuremill.transforms.vocabulary import (
    Lookup,
    Vocabulary,
    check_token_type,
    check_whole_number,
    has_row_path,
    over_lists,
)

__all__ = ["FrequencyEncode", "OneHot", "one_hot"]

DTYPES = {"float32": pa.float32(), "float64": pa.float64(), "int64": pa.int64(), "int8": pa.int8()}
"""The types that an encoding can come in, by their names as parameters."""

Int64 = npt.NDArray[np.int64]


# --- frequency --------------------------------------------------------------------------------------------------------


class _Frequencies:
    """What :class:`FrequencyEncode` works with: the tokens and the number for each, the last for no token."""

    def __init__(self, tokens: pa.Array, numbers: npt.NDArray[np.generic]) -> None:
        self.tokens, self.numbers = tokens, numbers
        index = TokenIndex(tokens)
        self.per_value = PerValue(lambda values: numbers[index.lookup(values)])

    def by_token(self) -> dict[Any, Any]:
        return dict(zip(self.tokens.to_pylist(), self.numbers.tolist(), strict=False))


@dataclass(frozen=True)
class FrequencyEncode(ColumnTransform):
    """How frequent each value is in its column: its share of the values that are not null, or its count.

    Fitting counts the values (of lists: their elements). Applying gives each value its number; a value that fitting did
    not see gives 0, null gives null, lists give lists.

    Parameters
    ----------
    normalize
        True: shares, from 0 to 1. False: counts.
    dtype
        ``"float32"`` or ``"float64"``; for counts also ``"int64"``. Counts above 2**24 round in float32.

    Raises
    ------
    ParameterError, ParameterTypeError
        A parameter of a wrong value or type.
    ColumnTypeError
        A column of floats, decimals, times or structs.

    >>> op = FrequencyEncode(["x"])
    >>> tally = op.analyzer("x").accumulator()
    >>> tally.update(pa.array(["a", "b", "a", "a", None]))
    >>> prepared = op.prepare_column(tally.partial(), pa.field("x", pa.string()))
    >>> op.apply_column(pa.array(["a", "b", "new", None]), prepared).to_pylist()
    [0.75, 0.25, 0.0, None]
    >>> FrequencyEncode(["x"], dtype="int64")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: FrequencyEncode('x'): dtype got 'int64', expected 'float32' or \
'float64'; shares are no integers, set normalize=False for counts.
    """

    normalize: bool = field(default=True, kw_only=True)
    dtype: str = field(default="float32", kw_only=True)

    def check(self) -> None:
        if not isinstance(self.normalize, bool):
            raise self.wrong("normalize", self.normalize, "true or false", wrong_type=True)
        if self.normalize and self.dtype == "int64":
            hint = "'float32' or 'float64'; shares are no integers, set normalize=False for counts"
            raise self.wrong("dtype", self.dtype, hint)
        if self.dtype not in ("float32", "float64", "int64"):
            raise self.wrong("dtype", self.dtype, "'float32', 'float64' or, for counts, 'int64'")

    def output_type(self, column: pa.Field) -> pa.DataType:
        check_token_type(self, column)
        return replace_leaf_type(column.type, DTYPES[self.dtype])

    def analyzer(self, column: str) -> Analyzer | None:
        return Counts(column)

    def prepare_column(self, state: State | None, column: pa.Field) -> _Frequencies:
        assert state is not None  # the planner never applies a fitted transform without its state
        counts = state.column("count").to_numpy()
        numbers = counts / max(1, int(counts.sum())) if self.normalize else counts
        return _Frequencies(state.column("token").combine_chunks(), np.append(numbers, 0).astype(self.dtype))

    def apply_column(self, array: pa.Array, prepared: _Frequencies) -> pa.Array:
        return map_leaves(array, lambda values: prepared.per_value.arrow(values, DTYPES[self.dtype]))

    def row_function(self, prepared: _Frequencies, column: pa.Field) -> RowFunction | None:
        if not has_row_path(leaf_type(column.type)):
            return None
        numbers, unseen = prepared.by_token(), prepared.numbers[-1].item()
        return over_lists(lambda value: None if value is None else numbers.get(value, unseen), column.type)


# --- one-hot ----------------------------------------------------------------------------------------------------------


def one_hot(rows: Int64, codes: Int64, row_count: int, width: int, dtype: str) -> npt.NDArray[np.generic]:
    """Vectors, shape (row_count, width), with a one at each ``[row, code]``; codes below 0 leave none.

    >>> one_hot(np.array([0, 1, 1]), np.array([1, -1, 0]), 2, 2, "int8").tolist()
    [[0, 1], [1, 0]]
    """
    made = np.zeros(row_count * width, dtype)
    known = codes >= 0
    made[rows[known] * width + codes[known]] = 1
    return made.reshape(row_count, width)


@dataclass(frozen=True)
class OneHot(ColumnTransform):
    """A vector per row with a one at the position of its value, as a fixed-size list.

    Its length is known before anything runs: the number of `categories`, or `top_k` however many values fitting finds,
    plus `num_oov_buckets`. A null or unknown value gives zeros only. A column of lists gives a one for each of its
    values.

    Parameters
    ----------
    categories
        The values, in the order of the positions; nothing is fitted. For a date column, texts such as ``2013-01-01``.
        None: the `top_k` most frequent values, in the order of a vocabulary.
    top_k
        How many positions, without `categories`.
    num_oov_buckets
        Positions after those, which other values are hashed into, as in ComputeAndApplyVocabulary.
    dtype
        ``"float32"``, ``"float64"``, ``"int64"`` or ``"int8"``.

    Raises
    ------
    ParameterError, ParameterTypeError
        A parameter of a wrong value or type; `categories` that are not of the column's type.
    ColumnTypeError
        A column of floats, decimals, times or structs.

    >>> op = OneHot(["x"], categories=["a", "b"])
    >>> column = pa.field("x", pa.string())
    >>> op.output_type(column)
    FixedSizeListType(fixed_size_list<item: float>[2])
    >>> op.apply_column(pa.array(["b", None, "c"]), op.prepare_column(None, column)).to_pylist()
    [[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    >>> OneHot(["x"], categories=["a", "a"])
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: OneHot('x'): categories got ['a', 'a'], expected each category once; \
remove the repeated 'a'.
    """

    categories: Sequence[Any] | None = field(default=None, kw_only=True)
    top_k: int = field(default=100, kw_only=True)
    num_oov_buckets: int = field(default=0, kw_only=True)
    dtype: str = field(default="float32", kw_only=True)

    def check(self) -> None:
        check_whole_number(self, "top_k", least=1)
        check_whole_number(self, "num_oov_buckets", least=0)
        if self.dtype not in DTYPES:
            raise self.wrong("dtype", self.dtype, f"one of {', '.join(repr(d) for d in DTYPES)}")
        if self.categories is None:
            return
        if isinstance(self.categories, str | bytes) or not isinstance(self.categories, Sequence):
            raise self.wrong("categories", self.categories, "a list of values", wrong_type=True)
        object.__setattr__(self, "categories", tuple(self.categories))
        if not self.categories:
            raise self.wrong("categories", [], "at least one category, or None to take the most frequent ones")
        if any(c is None for c in self.categories):
            raise self.wrong("categories", list(self.categories), "values; a null has no position, its vector is zeros")
        for i, category in enumerate(self.categories):
            if category in self.categories[:i]:
                got = list(self.categories)
                raise self.wrong("categories", got, f"each category once; remove the repeated {category!r}")

    @property
    def width(self) -> int:
        """The length of the vectors."""
        return (self.top_k if self.categories is None else len(self.categories)) + self.num_oov_buckets

    def output_type(self, column: pa.Field) -> pa.DataType:
        check_token_type(self, column)
        if self.categories is not None:
            self._tokens(column)
        return pa.list_(DTYPES[self.dtype], self.width)

    def _tokens(self, column: pa.Field) -> pa.Array:
        """The categories as values of the column's type."""
        type_ = leaf_type(column.type)
        given = list(self.categories or ())
        expected = f"values of the column's type, {type_}"
        kinds = {type(c) for c in given}
        # Arrow would make 1 of True, '1' of 1, and times of numbers.
        alike = (
            kinds <= {str, bytes} if is_text(type_)
            else kinds == {bool} if pt.is_boolean(type_)
            else kinds.isdisjoint({bool, int, float}) if pt.is_temporal(type_)
            else bool not in kinds
        )
        if not alike:
            raise self.wrong("categories", given, expected, wrong_type=True)
        try:
            made = pa.array(given)
            if pt.is_string(made.type) and not (pt.is_date(type_) or pt.is_timestamp(type_)):
                made = pa.array(given, type_)
            made = made.cast(type_)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise self.wrong("categories", given, expected, wrong_type=True) from error
        if len(pc.unique(made)) < len(made):
            raise self.wrong("categories", given, f"values that differ as {type_}")
        return made

    def analyzer(self, column: str) -> Analyzer | None:
        return Vocabulary(column, top_k=self.top_k) if self.categories is None else None

    def prepare_column(self, state: State | None, column: pa.Field) -> Lookup:
        # Buckets come after all top_k positions, also where there are fewer tokens than that.
        tokens = self._tokens(column) if state is None else state.column("token")
        return Lookup(
            tokens,
            default_value=-1,
            num_oov_buckets=self.num_oov_buckets,
            first_bucket=self.width - self.num_oov_buckets,
        )

    def apply_column(self, array: pa.Array, prepared: Lookup) -> pa.Array:
        rows = np.arange(len(array))
        if is_list(array.type):
            rows = _rows_of_leaves(array)
        codes = prepared.codes(leaves(array))
        vectors = one_hot(rows, codes, len(array), self.width, self.dtype)
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.width)

    def row_function(self, prepared: Lookup, column: pa.Field) -> RowFunction | None:
        if not has_row_path(leaf_type(column.type)):
            return None
        id_of, width, depth = prepared.id_of(), self.width, _depth(column.type)
        zero, one = np.array([0, 1], self.dtype).tolist()

        def function(value: Any) -> list[Any]:
            vector = [zero] * width
            for leaf in [value] if depth == 0 else _leaves_of(value, depth):
                code = id_of(leaf)
                if code is not None and code >= 0:
                    vector[code] = one
            return vector

        return function


def _depth(type_: pa.DataType) -> int:
    """How many lists are around a leaf."""
    type_ = value_type(type_)
    return 1 + _depth(type_.value_type) if is_list(type_) else 0


def _leaves_of(value: Any, depth: int) -> list[Any]:
    if value is None:
        return []
    return list(value) if depth == 1 else [leaf for inner in value for leaf in _leaves_of(inner, depth - 1)]


def _rows_of_leaves(array: pa.Array) -> Int64:
    """The row of each leaf of a column of lists (of lists)."""
    rows = np.arange(len(array))
    while is_list(array.type):
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        rows = np.repeat(rows, lengths)
        array = array.flatten()
    return rows

"""Several columns crossed into one: the combination of their values as a category of its own.

A cross is the text of its values, joined. It is then hashed into buckets or looked up in a vocabulary of the
combinations, and only the combinations that a batch holds are ever written out as text.

A combination is known by its joined text: ``"a_X_b"`` with ``"c"`` is the same as ``"a"`` with ``"b_X_c"``. Choose a
separator that the values do not hold where that matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.transforms.arrays import dictionary_parts, is_list, is_text, value_type
from featuremill.transforms.contract import Analyzer, State, Transform
from featuremill.transforms.fingerprint import TEXT_KEY_TYPES, as_text, can_be_text, fingerprint64_of, text_of
from featuremill.transforms.hashing import hash_buckets_of
from featuremill.transforms.per_value import PerValue, without_views
from featuremill.transforms.vocabulary import Lookup, Vocabulary, check_whole_number

__all__ = ["CrossVocabulary", "FeatureCross", "cross"]

Int64 = npt.NDArray[np.int64]

VOCABULARY_PARAMETERS = {"top_k": None, "frequency_threshold": None, "num_oov_buckets": 0, "default_value": -1}
"""The parameters that have no meaning with hash buckets, and their defaults."""


def cross(arrays: Sequence[pa.Array], separator: str) -> pa.DictionaryArray:
    """The joined text of each row, shape (n_rows,), dictionary-encoded; null where any value is null.

    The text of an integer is its decimals, of a boolean ``true`` or ``false``, of a date ``2013-01-01``. The result is
    of bytes where any input is. Two entries of the dictionary may be equal (see the module).

    >>> cross([pa.array(["a", "b", None]), pa.array([1, 2, 3])], "_X_").to_pylist()
    ['a_X_1', 'b_X_2', None]
    """
    type_ = pa.binary() if any(_is_bytes(a.type) for a in arrays) else pa.string()
    texts, codes = _texts_and_codes(arrays[0], type_)
    glue = pa.scalar(separator.encode() if type_ == pa.binary() else separator, type_)
    for array in arrays[1:]:
        others, right = _texts_and_codes(array, type_)
        null = (codes < 0) | (right < 0)
        size = max(1, len(others))
        pairs = pa.array(codes * size + right, mask=null).dictionary_encode()
        distinct = pairs.dictionary.to_numpy()
        joined = [texts.take(pa.array(distinct // size)), others.take(pa.array(distinct % size))]
        texts = pc.binary_join_element_wise(*joined, glue)
        _, codes = dictionary_parts(pairs)
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=codes < 0), texts)


def _is_bytes(type_: pa.DataType) -> bool:
    leaf = value_type(type_)
    textual = pt.is_string(leaf) or pt.is_large_string(leaf) or pt.is_string_view(leaf)
    return is_text(leaf) and not textual


def _texts_and_codes(array: pa.Array, type_: pa.DataType) -> tuple[pa.Array, Int64]:
    """The texts of the distinct values and which of them each row has, -1 for null."""
    values, codes = dictionary_parts(without_views(array))
    return as_text(values).cast(type_), codes


@dataclass(frozen=True)
class CrossVocabulary(Vocabulary):
    """The vocabulary of the joined texts of several columns; `column` is only a name for it.

    >>> CrossVocabulary("a_x_b", columns=("a", "b")).inputs
    ('a', 'b')
    """

    columns: tuple[str, ...] = field(default=(), kw_only=True)
    separator: str = field(default="_X_", kw_only=True)

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.columns

    def array_of(self, batch: pa.RecordBatch) -> pa.Array:
        return cross([batch.column(c) for c in self.columns], self.separator)


@dataclass(frozen=True)
class FeatureCross(Transform):
    """One int64 column for the combinations of the values of two or more columns.

    With `hash_buckets` nothing is fitted: the bucket is ``FarmHash64(joined text) % hash_buckets``. Without, fitting
    makes a vocabulary of the joined texts, as ComputeAndApplyVocabulary does, and applying looks up positions. Null in
    any column gives null.

    Parameters
    ----------
    columns
        Two or more, joined in this order.
    output
        The name of the result; by default the columns' names joined by ``_x_``.
    hash_buckets
        How many buckets; None: a vocabulary.
    top_k, frequency_threshold, num_oov_buckets, default_value
        Of the vocabulary, as in ComputeAndApplyVocabulary.
    separator
        Between the texts of the values.

    Raises
    ------
    ParameterError, ParameterTypeError
        A parameter of a wrong value or type; parameters of a vocabulary together with `hash_buckets`.
    ColumnTypeError
        A column of lists, floats, decimals or times.

    >>> op = FeatureCross(["a", "b"], hash_buckets=10)
    >>> batch = pa.RecordBatch.from_pydict({"a": ["x", "y", None], "b": [1, 2, 3]})
    >>> op.output_names, op.apply(batch, op.prepare({}, batch.schema))[0].to_pylist()
    (['a_x_b'], [6, 5, None])
    >>> FeatureCross(["a"], hash_buckets=10)
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: FeatureCross('a'): columns got ['a'], expected two columns or more.
    """

    hash_buckets: int | None = field(default=None, kw_only=True)
    top_k: int | None = field(default=None, kw_only=True)
    frequency_threshold: int | None = field(default=None, kw_only=True)
    num_oov_buckets: int = field(default=0, kw_only=True)
    default_value: int = field(default=-1, kw_only=True)
    separator: str = field(default="_X_", kw_only=True)

    def check(self) -> None:
        if len(self.columns) < 2:
            raise self.wrong("columns", list(self.columns), "two columns or more")
        check_whole_number(self, "hash_buckets", least=1, optional=True)
        check_whole_number(self, "top_k", least=1, optional=True)
        check_whole_number(self, "frequency_threshold", least=0, optional=True)
        check_whole_number(self, "num_oov_buckets", least=0)
        check_whole_number(self, "default_value", least=None)
        if not isinstance(self.separator, str):
            raise self.wrong("separator", self.separator, "a string", wrong_type=True)
        if self.hash_buckets is not None:
            for parameter, default in VOCABULARY_PARAMETERS.items():
                if getattr(self, parameter) != default:
                    hint = "nothing, because hash_buckets is given. Remove one of the two"
                    raise self.wrong(parameter, getattr(self, parameter), hint)

    @property
    def output_names(self) -> list[str]:
        if self.output is None:
            return ["_x_".join(self.columns)]
        names = [self.output] if isinstance(self.output, str) else list(self.output)
        if len(names) != 1 or "{column}" in names[0]:
            raise self.wrong("output", self.output, "one name: a cross makes one column")
        return names

    def output_fields(self, schema: pa.Schema) -> list[pa.Field]:
        for column in self.columns:
            found = self.field_of(schema, column)
            if is_list(value_type(found.type)) or not can_be_text(value_type(found.type)):
                raise self.wrong_column(found, f"{TEXT_KEY_TYPES}. Use Bucketize first for measurements")
        return [pa.field(self.output_names[0], pa.int64())]

    def analyzers(self) -> dict[str, Analyzer]:
        if self.hash_buckets is not None:
            return {}
        name = self.output_names[0]
        vocabulary = CrossVocabulary(
            name,
            top_k=self.top_k,
            frequency_threshold=self.frequency_threshold,
            columns=tuple(self.columns),
            separator=self.separator,
        )
        return {name: vocabulary}

    def prepare(self, states: Mapping[str, State], schema: pa.Schema) -> PerValue | Lookup:
        if self.hash_buckets is not None:
            buckets = self.hash_buckets
            return PerValue(lambda texts: hash_buckets_of(texts, buckets))
        tokens = states[self.output_names[0]].column("token")
        return Lookup(tokens, default_value=self.default_value, num_oov_buckets=self.num_oov_buckets)

    def apply(self, batch: pa.RecordBatch, prepared: Any) -> list[pa.Array]:
        joined = cross([batch.column(c) for c in self.columns], self.separator)
        if isinstance(prepared, PerValue):
            return [prepared.arrow(joined, pa.int64())]
        return [prepared.ids(joined)]

    def row_step(self, prepared: Any, schema: pa.Schema) -> Callable[[dict[str, Any]], None] | None:
        types = [value_type(self.field_of(schema, c).type) for c in self.columns]
        if any(pt.is_timestamp(t) or _is_bytes(t) for t in types):
            return None
        columns, name, separator = self.columns, self.output_names[0], self.separator
        if isinstance(prepared, PerValue):
            buckets = self.hash_buckets or 1

            def id_of(text: str) -> int | None:
                return fingerprint64_of(text) % buckets
        else:
            id_of = prepared.id_of()

        def step(row: dict[str, Any]) -> None:
            values = [row[c] for c in columns]
            row[name] = None if None in values else id_of(separator.join([str(text_of(v)) for v in values]))

        return step

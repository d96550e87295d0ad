"""Texts hashed into a fixed number of buckets: categories without a vocabulary.

FarmHash64, or SipHash-2-4 under a key, modulo the number of buckets, which is what ``tft.hash_strings`` and
``tf.strings.to_hash_bucket_fast`` and ``_strong`` compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.transforms.arrays import leaf_type, map_leaves, replace_leaf_type
from featuremill.transforms.contract import ColumnTransform, RowFunction, State
from featuremill.transforms.fingerprint import (
    TEXT_KEY_TYPES,
    as_text,
    can_be_text,
    fingerprint64,
    fingerprint64_of,
    siphash64,
    siphash64_of,
    text_of,
)
from featuremill.transforms.per_value import PerValue
from featuremill.transforms.vocabulary import check_whole_number, over_lists

__all__ = ["HashStrings", "hash_buckets_of"]

KEY_LIMIT = 2**64
"""The two parts of a key are uint64."""


def hash_buckets_of(values: pa.Array, hash_buckets: int, key: tuple[int, int] | None = None) -> npt.NDArray[np.int64]:
    """The bucket of each value, shape (n_rows,) int64, from 0 to `hash_buckets` - 1; of null rows: any.

    >>> hash_buckets_of(pa.array(["foo", "12"]), 10).tolist() == hash_buckets_of(pa.array(["foo", "12"]), 10).tolist()
    True
    """
    texts = as_text(values)
    hashes = fingerprint64(texts) if key is None else siphash64(texts, key)
    return (hashes % np.uint64(hash_buckets)).astype(np.int64)


@dataclass(frozen=True)
class HashStrings(ColumnTransform):
    """The hash bucket of each value, as int64 from 0 to `hash_buckets` - 1; lists give lists.

    Nothing is fitted. Null gives null. Besides text and bytes, integers (by their decimals), booleans (``true``,
    ``false``) and dates (``2013-01-01``) are hashed.

    Parameters
    ----------
    hash_buckets
        How many buckets.
    key
        Two uint64: hash with SipHash under this key, so that nobody without it can aim values at a bucket. Slower.

    Raises
    ------
    ParameterError, ParameterTypeError
        `hash_buckets` below 1, or a `key` that is not two uint64.
    ColumnTypeError
        Values of another type.

    Source: FarmHash Fingerprint64, as ``tf.strings.to_hash_bucket_fast``; SipHash-2-4, as
    ``tf.strings.to_hash_bucket_strong``.

    >>> op = HashStrings(["x"], 10)
    >>> prepared = op.prepare_column(None, pa.field("x", pa.string()))
    >>> op.apply_column(pa.array(["foo", None, "bar"]), prepared).to_pylist()
    [1, None, 9]
    >>> HashStrings(["x"], 0)
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: HashStrings('x'): hash_buckets got 0, expected an integer of at \
least 1.
    """

    hash_buckets: int
    key: Sequence[int] | None = None

    def check(self) -> None:
        check_whole_number(self, "hash_buckets", least=1)
        if self.key is None:
            return
        expected = "two integers from 0 to 2**64 - 1"
        if isinstance(self.key, str | bytes) or not isinstance(self.key, Sequence):
            raise self.wrong("key", self.key, expected, wrong_type=True)
        if not all(isinstance(k, int) and not isinstance(k, bool) for k in self.key):
            raise self.wrong("key", self.key, expected, wrong_type=True)
        if len(self.key) != 2 or not all(0 <= k < KEY_LIMIT for k in self.key):
            raise self.wrong("key", list(self.key), expected)
        object.__setattr__(self, "key", tuple(self.key))

    @property
    def _key(self) -> tuple[int, int] | None:
        return None if self.key is None else (self.key[0], self.key[1])

    def output_type(self, column: pa.Field) -> pa.DataType:
        if not can_be_text(leaf_type(column.type)):
            raise self.wrong_column(column, f"{TEXT_KEY_TYPES}. Cast or round it in the source")
        return replace_leaf_type(column.type, pa.int64())

    def prepare_column(self, state: State | None, column: pa.Field) -> PerValue:
        return PerValue(lambda values: hash_buckets_of(values, self.hash_buckets, self._key))

    def apply_column(self, array: pa.Array, prepared: PerValue) -> pa.Array:
        return map_leaves(array, lambda values: prepared.arrow(values, pa.int64()))

    def row_function(self, prepared: PerValue, column: pa.Field) -> RowFunction | None:
        buckets, key = self.hash_buckets, self._key
        if key is None:
            return over_lists(lambda v: None if v is None else fingerprint64_of(text_of(v)) % buckets, column.type)
        return over_lists(lambda v: None if v is None else siphash64_of(text_of(v), key) % buckets, column.type)

"""Rows dealt out to training, evaluation and other splits by a hash of their key columns.

The same key always lands in the same split, on any machine and in any run, and SQL can say which: the hash is
BigQuery's ``FARM_FINGERPRINT`` of the key's text, and :func:`split_sql` writes the expression. A row keeps its split
when rows are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import ParameterError, ParameterTypeError
from featuremill.transforms.arrays import is_text
from featuremill.transforms.fingerprint import as_text, fingerprint64

__all__ = ["fingerprint_keys", "split_of", "split_sql"]

SPLIT_STEPS = 1_000_000
"""Keys are dealt into this many equal parts; a share is a number of parts, so a millionth is the finest share."""

KEY_SEPARATOR = "|"
"""Between the texts of several key columns."""

SHARES_SUM_TOLERANCE = 1e-6
"""How far from 1 the sum of the shares may be: 0.8 + 0.1 + 0.1 is not 1 in binary."""


def fingerprint_keys(columns: Sequence[pa.Array]) -> npt.NDArray[np.int64]:
    """``FARM_FINGERPRINT`` of each row's key, shape (n_rows,) int64.

    The key is the text of the one column, or the texts of several joined by ``|``. Integers are written as decimals,
    booleans as ``true`` and ``false``, dates as ``2013-01-01``; null counts as the empty text.

    Raises
    ------
    ColumnTypeError
        A column of another type: systems do not agree on the text of a float or a time.
    ParameterError
        No columns.

    >>> fingerprint_keys([pa.array(["foo"])]).tolist()
    [6150913649986995171]
    >>> fingerprint_keys([pa.array([1]), pa.array([None], pa.string())]).tolist() == fingerprint_keys(
    ...     [pa.array(["1|"])]).tolist()
    True
    >>> fingerprint_keys([pa.array([0.5])])  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ColumnTypeError: A column of double has no text that all systems agree on; ...
    """
    if not columns:
        raise ParameterError("A key needs at least one column.", parameter="by")
    if len(columns) == 1:
        return _fingerprint_column(columns[0])
    texts = [_plain_text(column) for column in columns]
    if any(pt.is_large_binary(t.type) for t in texts):
        texts = [t.cast(pa.large_binary()) for t in texts]
    separator = pa.scalar(KEY_SEPARATOR.encode() if pt.is_large_binary(texts[0].type) else KEY_SEPARATOR, texts[0].type)
    return fingerprint64(pc.binary_join_element_wise(*texts, separator)).view(np.int64)


def _fingerprint_column(column: pa.Array) -> npt.NDArray[np.int64]:
    texts = as_text(column)
    if not pt.is_dictionary(texts.type):
        return fingerprint64(_plain_text(texts)).view(np.int64)
    # A null may be in the indices or in the dictionary; both stand for the empty text.
    hashes = np.append(fingerprint64(_plain_text(texts.dictionary)), fingerprint64(pa.array([""]))).view(np.int64)
    rows = texts.indices.cast(pa.int64()).fill_null(len(hashes) - 1)
    found: npt.NDArray[np.int64] = hashes[rows.to_numpy(zero_copy_only=False)]
    return found


def _plain_text(column: pa.Array) -> pa.Array:
    """The texts as large_string, or large_binary where they are bytes, without nulls."""
    texts = as_text(column)
    if pt.is_dictionary(texts.type):
        texts = texts.dictionary_decode()
    textual = pt.is_string(texts.type) or pt.is_large_string(texts.type) or pt.is_string_view(texts.type)
    if is_text(texts.type) and not textual:
        return texts.cast(pa.large_binary()).fill_null(b"")
    return texts.cast(pa.large_string()).fill_null("")


def split_of(keys: npt.NDArray[np.int64], shares: Mapping[str, float]) -> npt.NDArray[np.int32]:
    """Which split each key belongs to, shape (n_rows,) int32: a position in `shares`.

    Parameters
    ----------
    keys
        Fingerprints from :func:`fingerprint_keys`.
    shares
        The share of each split, by name, in the order in which they are laid out; together 1.

    Raises
    ------
    ParameterError, ParameterTypeError
        Shares that are not positive or do not add up to 1.

    >>> split_of(fingerprint_keys([pa.array(["a", "b", "c", "d"])]), {"train": 0.5, "eval": 0.5}).tolist()
    [0, 0, 1, 1]
    >>> split_of(fingerprint_keys([pa.array(["a"])]), {"train": 0.8, "eval": 0.3})
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: The shares of the splits must add up to 1, got 1.1 from train: 0.8, \
eval: 0.3.
    """
    # |x mod n| with the sign of the dividend, as SQL's MOD: the magnitude of fmod.
    parts = np.abs(np.fmod(keys, np.int64(SPLIT_STEPS)))
    return np.searchsorted(np.array(_boundaries(shares), np.int64), parts, side="right").astype(np.int32)


def split_sql(columns: Sequence[str], shares: Mapping[str, float]) -> str:
    """The BigQuery expression that gives the name of a row's split, as :func:`split_of` deals it.

    Raises
    ------
    ParameterError, ParameterTypeError
        No columns, or wrong shares.

    >>> print(split_sql(["flight_id"], {"train": 0.8, "eval": 0.2}))
    ['train', 'eval'][OFFSET(RANGE_BUCKET(ABS(MOD(FARM_FINGERPRINT(COALESCE(CAST(`flight_id` AS STRING), '')), \
1000000)), [800000]))]
    >>> split_sql([], {"train": 1.0})
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: A key needs at least one column.
    """
    if not columns:
        raise ParameterError("A key needs at least one column.", parameter="by")
    boundaries = _boundaries(shares)
    names = ", ".join(_sql_string(name) for name in shares)
    texts = [f"COALESCE(CAST({_sql_name(column)} AS STRING), '')" for column in columns]
    key = texts[0] if len(texts) == 1 else f"CONCAT({f', {_sql_string(KEY_SEPARATOR)}, '.join(texts)})"
    part = f"ABS(MOD(FARM_FINGERPRINT({key}), {SPLIT_STEPS}))"
    bounds = ", ".join(str(b) for b in boundaries)
    # BigQuery cannot tell the type of an empty array literal; one split needs no hash.
    return f"[{names}][OFFSET(RANGE_BUCKET({part}, [{bounds}]))]" if boundaries else names


def _boundaries(shares: Mapping[str, float]) -> list[int]:
    """The first part of each split but the first."""
    if not isinstance(shares, Mapping) or not shares:
        raise ParameterTypeError(
            f"The splits must be a mapping of names to shares, such as train: 0.8, eval: 0.2; got {shares!r}.",
            parameter="split",
        )
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, (int, float)):
            raise ParameterTypeError(f"The share of split {name!r} must be a number, got {share!r}.", parameter="split")
        if not share * SPLIT_STEPS >= 1:
            raise ParameterError(
                f"The share of split {name!r} must be at least {1 / SPLIT_STEPS:g}, got {share!r}. "
                "Leave the split out.",
                parameter="split",
            )
    total = sum(shares.values())
    if not abs(total - 1) <= SHARES_SUM_TOLERANCE:
        listed = ", ".join(f"{name}: {share:g}" for name, share in shares.items())
        raise ParameterError(
            f"The shares of the splits must add up to 1, got {total:g} from {listed}.", parameter="split"
        )
    return [round(s * SPLIT_STEPS) for s in accumulate(shares.values())][:-1]


def _sql_name(column: str) -> str:
    return "`" + column.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _sql_string(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"

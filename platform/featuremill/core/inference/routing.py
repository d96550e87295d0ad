"""Which model a row goes to: by the value of a column, or by a share of the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featuremill.artifacts.errors import MissingColumnError, suggest
from featuremill.transforms.fingerprint import as_text
from featuremill.transforms.rejects import Reject
from featuremill.transforms.splitting import fingerprint_keys, split_of

__all__ = ["DEFAULT", "Route", "by_key", "by_share", "check_routing"]

DEFAULT = "default"
"""The name of the model for keys that have none of their own."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Route:
    """The rows that go to one model."""

    model: str
    rows: Rows | None
    """Their positions, ascending; None: all."""


def by_key(
    batch: pa.RecordBatch, column: str, models: Sequence[str], *, default: bool = False
) -> tuple[list[Route], tuple[Reject, ...]]:
    """``(the rows of each model, the rows that have none)``, by the text of a column's values.

    Parameters
    ----------
    column
        Text, integers, booleans or dates; see :func:`~featuremill.transforms.splitting.fingerprint_keys`.
    models
        The keys that have a model.
    default
        Whether all other rows, and those with a null, go to the model called ``default``; else they are rejected.

    >>> batch = pa.record_batch({"carrier": ["AA", "ZZ", "AA", None]})
    >>> routes, rejects = by_key(batch, "carrier", ["AA", "UA"])
    >>> [(r.model, r.rows.tolist()) for r in routes]
    [('AA', [0, 2])]
    >>> [(r.row, r.reason) for r in rejects]
    [(1, "there is no model for carrier = 'ZZ', and no default"), (3, 'there is no model for carrier = null, ...')]
    """
    texts = as_text(batch.column(column))
    if not pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_encode()
    keys = texts.dictionary.cast(pa.string(), safe=False)
    # A value may be in a dictionary twice, and a null in the dictionary as well as in the indices.
    found = pc.index_in(keys, pa.array(models, pa.string()), skip_nulls=True).fill_null(-1).cast(pa.int64())
    of_key = np.append(found.to_numpy(zero_copy_only=False), -1)
    codes = texts.indices.cast(pa.int64()).fill_null(len(keys)).to_numpy(zero_copy_only=False)
    targets = of_key[codes]
    routes = _routes(targets, models)
    others = np.flatnonzero(targets < 0)
    if not len(others):
        return routes, ()
    if default:
        return [*routes, Route(DEFAULT, None if len(others) == batch.num_rows else others)], ()
    reasons = {code: _no_model(column, keys, code) for code in np.unique(codes[others]).tolist()}
    bad = zip(others.tolist(), codes[others].tolist(), strict=True)
    return routes, tuple(Reject(row, reasons[code], None, column) for row, code in bad)


def _no_model(column: str, keys: pa.Array, code: int) -> str:
    key = keys[code].as_py() if code < len(keys) else None
    return f"there is no model for {column} = {'null' if key is None else repr(key)}, and no default"


def by_share(batch: pa.RecordBatch, columns: Sequence[str], shares: Mapping[str, float]) -> list[Route]:
    """The rows of each model, by a hash of key columns, dealt as the rows of splits are.

    >>> batch = pa.record_batch({"id": ["a", "b", "c", "d"]})
    >>> [(r.model, r.rows.tolist()) for r in by_share(batch, ["id"], {"old": 0.5, "new": 0.5})]
    [('old', [0, 1]), ('new', [2, 3])]
    """
    targets = split_of(fingerprint_keys([batch.column(c) for c in columns]), shares)
    return _routes(targets, list(shares))


def check_routing(schema: pa.Schema, columns: Sequence[str], *, parameter: str) -> None:
    """Whether rows can be dealt out by these columns.

    Raises
    ------
    MissingColumnError
        When one is not there.
    ColumnTypeError
        When its type has no text that all systems agree on.

    >>> check_routing(pa.schema({"carrier": pa.string()}), ["carier"], parameter="by")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.MissingColumnError: by: there is no column 'carier'. Did you mean 'carrier'?
    """
    for column in columns:
        if column not in schema.names:
            raise MissingColumnError(
                f"{parameter}: there is no column {column!r}. {suggest(column, schema.names)}",
                column=column,
                parameter=parameter,
            )
        fingerprint_keys([pa.array([], schema.field(column).type)])


def _routes(targets: npt.NDArray[np.integer], models: Sequence[str]) -> list[Route]:
    counts = np.bincount(targets[targets >= 0], minlength=len(models))
    used = np.flatnonzero(counts).tolist()
    if not used:
        return []
    if len(used) == 1 and counts[used[0]] == len(targets):
        return [Route(models[used[0]], None)]
    # NumPy sorts 16 bits by radix, several times as fast.
    narrow = targets.astype(np.int16) if len(models) <= np.iinfo(np.int16).max else targets
    order = np.argsort(narrow, kind="stable")[np.count_nonzero(targets < 0) :]
    return [Route(models[i], rows) for i, rows in zip(used, np.split(order, np.cumsum(counts[used])[:-1]), strict=True)]

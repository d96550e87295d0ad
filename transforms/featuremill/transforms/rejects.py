"""Rows that cannot be processed cost themselves and not their batch.

A transform that knows which rows are bad names them in :class:`~featuremill.artifacts.errors.BadRows`; these are taken out
at once and the rest is tried again. For any other error of the data the batch is halved until the bad rows stand alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from featuremill.artifacts.errors import BadRows, FeaturemillError

__all__ = ["Reject", "apply_or_reject"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Reject:
    """One row set aside."""

    row: int
    """Position in the batch that was read."""
    reason: str
    transform: str | None = None
    column: str | None = None


def apply_or_reject(
    apply: Callable[[pa.RecordBatch], pa.RecordBatch], batch: pa.RecordBatch
) -> tuple[pa.RecordBatch, pa.RecordBatch, list[Reject]]:
    """``(rows that went on, their result, rows set aside)``.

    Errors that are about the request and not about rows (:class:`FeaturemillError` other than `BadRows`) pass through,
    and so does an error that an empty batch raises too, since no row is to blame for it.
    """
    rows = np.arange(batch.num_rows)
    kept, result, rejects = _attempt(apply, batch, rows)
    return kept, result, sorted(rejects, key=lambda r: r.row)


def _attempt(
    apply: Callable[[pa.RecordBatch], pa.RecordBatch], batch: pa.RecordBatch, rows: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[pa.RecordBatch, pa.RecordBatch, list[Reject]]:
    try:
        return batch, apply(batch), []
    except BadRows as bad:
        return _without(apply, batch, rows, bad)
    except FeaturemillError:
        raise
    except (pa.ArrowException, ValueError, TypeError, ArithmeticError, OverflowError) as error:
        if batch.num_rows == 0:
            raise
        if batch.num_rows == 1:
            apply(batch.slice(0, 0))
            return batch.slice(0, 0), apply(batch.slice(0, 0)), [Reject(int(rows[0]), _reason(error))]
    half = batch.num_rows // 2
    first = _attempt(apply, batch.slice(0, half), rows[:half])
    second = _attempt(apply, batch.slice(half), rows[half:])
    return (
        _concat([first[0], second[0]]), _concat([first[1], second[1]]), [*first[2], *second[2]]
    )


def _without(
    apply: Callable[[pa.RecordBatch], pa.RecordBatch],
    batch: pa.RecordBatch,
    rows: np.ndarray[tuple[int], np.dtype[np.int64]],
    bad: BadRows,
) -> tuple[pa.RecordBatch, pa.RecordBatch, list[Reject]]:
    if not bad.rows:
        raise bad
    facts = bad.facts
    rejects = [Reject(int(rows[r]), str(bad), facts.get("transform"), facts.get("column")) for r in bad.rows]
    keep = np.ones(batch.num_rows, dtype=bool)
    keep[bad.rows] = False
    kept, result, more = _attempt(apply, batch.filter(pa.array(keep)), rows[keep])
    return kept, result, [*rejects, *more]


def _concat(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    table = pa.Table.from_batches(batches).combine_chunks()
    found = table.to_batches()
    return found[0] if found else batches[0].slice(0, 0)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"

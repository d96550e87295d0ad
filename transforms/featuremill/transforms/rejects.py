"""Rows that cannot be processed cost themselves and not their batch.

A transform that knows which rows are bad names them in :class:`~featuremill.artifacts.errors.BadRows`; these are taken
out at once and the rest is tried again. For any other error of the data the batch is halved until the bad rows stand
alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.artifacts.errors import BadRows, FeaturemillError

__all__ = ["Reject", "apply_or_reject"]

Apply = Callable[[pa.RecordBatch], pa.RecordBatch]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reject:
    """One row set aside."""

    row: int
    """Position in the batch that was read."""
    reason: str
    transform: str | None = None
    column: str | None = None
    quarantined: bool = False
    """Whether a check took it out, and not a transform that could not process it."""


def apply_or_reject(apply: Apply, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch, list[Reject]]:
    """``(rows that went on, their result, rows set aside)``.

    Errors that are about the request and not about rows (:class:`FeaturemillError` other than `BadRows`) pass through,
    and so does an error that an empty batch raises too, since no row is to blame for it.
    """
    rows = np.arange(batch.num_rows)
    kept, result, rejects = _attempt(apply, batch, rows)
    return kept, result, sorted(rejects, key=lambda r: r.row)


def _attempt(apply: Apply, batch: pa.RecordBatch, rows: Rows) -> tuple[pa.RecordBatch, pa.RecordBatch, list[Reject]]:
    rejects: list[Reject] = []
    while True:
        try:
            return batch, apply(batch), rejects
        except BadRows as bad:
            # In a loop: a transform may name one row at a time, and there may be thousands.
            named = sorted(set(bad.facts["rows"]))
            if not named or named[0] < 0 or named[-1] >= batch.num_rows:
                raise
            facts = bad.facts
            rejects += [Reject(int(rows[r]), str(bad), facts.get("transform"), facts.get("column")) for r in named]
            keep = np.ones(batch.num_rows, dtype=bool)
            keep[named] = False
            batch, rows = batch.filter(pa.array(keep)), rows[keep]
        except FeaturemillError:
            raise
        except (pa.ArrowException, ValueError, TypeError, ArithmeticError) as error:
            if batch.num_rows == 0:
                raise
            if batch.num_rows == 1:
                nothing = batch.slice(0, 0)
                return nothing, apply(nothing), [*rejects, Reject(int(rows[0]), _reason(error))]
            return _halves(apply, batch, rows, rejects)


def _halves(
    apply: Apply, batch: pa.RecordBatch, rows: Rows, rejects: list[Reject]
) -> tuple[pa.RecordBatch, pa.RecordBatch, list[Reject]]:
    half = batch.num_rows // 2
    first = _attempt(apply, batch.slice(0, half), rows[:half])
    second = _attempt(apply, batch.slice(half), rows[half:])
    kept, result = (pa.concat_batches([first[i], second[i]]) for i in (0, 1))
    return kept, result, [*rejects, *first[2], *second[2]]


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"

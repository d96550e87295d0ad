"""A batch through a model, whatever the model does: nothing is lost without a word.

* An exception costs the rows that cause it: the batch is halved until these stand alone.
* A model that gives back another number of rows than it was given fails the job. To guess which rows are missing would
  put predictions beside the wrong rows.
* A batch that does not fit into memory is halved and tried again, and later batches begin with the smaller size.

Everything happens on named arrays; no Arrow, no Beam and no framework is needed.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import BadRows, FeaturemillError, JobError
from featuremill.core.models.contract import Arrays, PredictionError, rows_of
from featuremill.transforms.rejects import Reject

__all__ = ["HOPELESS_ROWS", "Answer", "Attempts", "out_of_memory"]

HOPELESS_ROWS = 100
"""When so many rows failed alone and not one succeeded, it is the model that is wrong, not the rows."""

OUT_OF_MEMORY_TYPES = frozenset({"OutOfMemoryError", "ResourceExhaustedError"})
"""Of torch, and of TensorFlow, by name: to import either only for its error would cost seconds."""
OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|failed to allocate memory|OOM when allocating|bad_alloc|bad allocation"
    r"|CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
"""How torch, ONNX Runtime, XGBoost and C++ say it in errors of a general type."""

Call = Callable[[Arrays], Mapping[str, npt.NDArray[Any]]]
Outputs = dict[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """What a model made of a batch."""

    outputs: Outputs
    """The model's outputs, with one row for each row that was kept; empty when none was."""
    kept: Rows | None = None
    """Positions of the rows that have a prediction, ascending; None: all."""
    rejects: tuple[Reject, ...] = ()
    """The other rows, ascending."""


@dataclass(frozen=True)
class _Piece:
    """Some rows of a batch."""

    arrays: Arrays
    rows: range | Rows
    """Their positions; a range as long as no row was taken out, which costs nothing to make."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def positions(self) -> Rows:
        return np.arange(self.rows.start, self.rows.stop) if isinstance(self.rows, range) else self.rows

    def part(self, start: int, stop: int) -> _Piece:
        return _Piece({name: a[start:stop] for name, a in self.arrays.items()}, self.rows[start:stop])

    def without(self, rows: list[int]) -> _Piece:
        keep = np.ones(len(self), dtype=bool)
        keep[rows] = False
        return _Piece({name: a[keep] for name, a in self.arrays.items()}, self.positions[keep])


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the machine or of a device, did not suffice.

    >>> out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    True
    >>> out_of_memory(ValueError("Input X contains NaN."))
    False
    """
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ in OUT_OF_MEMORY_TYPES
        or (isinstance(error, (RuntimeError, OSError)) and OUT_OF_MEMORY.search(str(error)) is not None)
        # ONNX Runtime's and XGBoost's errors are plain exceptions of their own.
        or (type(error).__module__.startswith(("onnxruntime", "xgboost")) and bool(OUT_OF_MEMORY.search(str(error))))
    )


class Attempts:
    """Calls a model, and remembers how it went. Threads share it.

    Parameters
    ----------
    call
        The model: named arrays to named arrays, the first axis being the row.
    what
        What the model is called in messages.
    batch_rows
        The most rows that it is given at once; by default all.

    >>> def inverse(arrays):
    ...     if (arrays["x"] == 0).any():
    ...         raise ZeroDivisionError("x is zero")
    ...     return {"y": 1 / arrays["x"]}
    >>> answer = Attempts(inverse, what="inverse")({"x": np.array([1.0, 0.0, 4.0])})
    >>> answer.outputs["y"].tolist(), answer.kept.tolist(), answer.rejects[0].reason
    ([1.0, 0.25], [0, 2], 'ZeroDivisionError: x is zero')
    >>> Attempts(lambda arrays: {"y": arrays["x"][1:]}, what="short")({"x": np.array([1.0, 2.0])})
    Traceback (most recent call last):
    ...
    featuremill.core.models.contract.PredictionError: short returned 1 row for 2 (y). A model must return one for each.
    """

    def __init__(self, call: Call, *, what: str, batch_rows: int | None = None) -> None:
        self._call = call
        self._what = what
        self._lock = Lock()
        self._most = batch_rows
        self._succeeded = False
        self._failed_alone = 0

    @property
    def batch_rows(self) -> int | None:
        """The most rows that the model is given at once; less than at first, once memory did not suffice."""
        return self._most

    def __call__(self, arrays: Arrays) -> Answer:
        """The outputs of the model for a batch of at least one row, and the rows that it could not take.

        Raises
        ------
        PredictionError
            The model returned another number of rows than it was given.
        JobError
            One row alone does not fit into memory, or the model fails for each of the first 100 rows.
        FeaturemillError
            What the model raises of these (but BadRows) is about the model and not about rows, and passes through.
        """
        n = rows_of(arrays)
        if n == 0:
            return Answer({})
        done, rejects = self._work_off(_Piece(arrays, range(n)))
        outputs = self._joined([outputs for _, outputs in done])
        if not rejects:
            return Answer(outputs)
        kept = np.concatenate([np.empty(0, np.int64), *(piece.positions for piece, _ in done)])
        return Answer(outputs, kept, tuple(rejects))

    def _work_off(self, whole: _Piece) -> tuple[list[tuple[_Piece, Outputs]], list[Reject]]:
        done: list[tuple[_Piece, Outputs]] = []
        rejects: list[Reject] = []
        waiting = self._divided(whole)
        while waiting:
            piece = waiting.pop()
            if self._most is not None and len(piece) > self._most:
                waiting += self._divided(piece)
                continue
            try:
                outputs = self._once(piece)
            except BadRows as bad:
                named = sorted(set(bad.facts["rows"]))
                if not named or named[0] < 0 or named[-1] >= len(piece):
                    raise
                column = bad.facts.get("column")
                rejects += [Reject(int(piece.rows[r]), str(bad), column=column) for r in named]
                waiting += self._divided(piece.without(named))
                continue
            except FeaturemillError:
                raise
            except Exception as error:  # noqa: BLE001 -- whatever a model raises
                full, reason = out_of_memory(error), _reason(error)
            else:
                done.append((piece, outputs))
                continue
            # Outside of the handler: a traceback keeps the arrays of the failed call alive.
            if full:
                waiting += self._smaller(piece, reason)
            elif len(piece) > 1:
                half = len(piece) // 2
                waiting += [piece.part(half, len(piece)), piece.part(0, half)]
            else:
                self._hopeless(reason)
                rejects.append(Reject(int(piece.rows[0]), reason))
        return done, sorted(rejects, key=lambda r: r.row)

    def _once(self, piece: _Piece) -> Outputs:
        outputs = dict(self._call(piece.arrays))
        for name, array in outputs.items():
            got = len(array) if np.ndim(array) else None
            if got != len(piece):
                shown = "a single value" if got is None else f"{got:,} row{'' if got == 1 else 's'}"
                raise PredictionError(
                    f"{self._what} returned {shown} for {len(piece):,} ({name}). A model must return one for each.",
                    model=self._what,
                    output=name,
                    expected=len(piece),
                    got=got,
                )
        if not outputs:
            raise PredictionError(f"{self._what} returned nothing.", model=self._what)
        self._succeeded = True
        return outputs

    def _divided(self, piece: _Piece) -> list[_Piece]:
        """In pieces that the model may be given, the last one first."""
        n, most = len(piece), self._most
        if n == 0:
            return []
        if most is None or n <= most:
            return [piece]
        return [piece.part(i, min(i + most, n)) for i in reversed(range(0, n, most))]

    def _smaller(self, piece: _Piece, reason: str) -> list[_Piece]:
        if len(piece) == 1:
            raise JobError(
                f"{self._what} does not fit into memory even with a single row: {reason}. It needs a machine or a "
                "device with more memory, or smaller rows (max_length, image size).",
                model=self._what,
            )
        with self._lock:
            half = len(piece) // 2
            self._most = half if self._most is None else min(self._most, half)
        _free_memory()
        return self._divided(piece)

    def _hopeless(self, reason: str) -> None:
        if self._succeeded:
            return
        with self._lock:
            self._failed_alone += 1
        if self._failed_alone >= HOPELESS_ROWS:
            raise JobError(
                f"{self._what} fails for every row; each of the first {HOPELESS_ROWS} was tried alone. The last said: "
                f"{reason}",
                model=self._what,
                reason=reason,
            )

    def _joined(self, parts: list[Outputs]) -> Outputs:
        if len(parts) < 2:
            return parts[0] if parts else {}
        shapes = [{name: (a.ndim, a.shape[1:]) for name, a in part.items()} for part in parts]
        for shape in shapes[1:]:
            if shape != shapes[0]:
                raise PredictionError(
                    f"{self._what} returned outputs of different shapes for parts of a batch: {shapes[0]}, then "
                    f"{shape} (dimensions, size of a row). Give the outputs one size, or set batch_rows "
                    "to that of whole batches.",
                    model=self._what,
                )
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip() if lines else 'no message'}"

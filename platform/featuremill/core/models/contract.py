"""What a model is here: named arrays in, named arrays out.

Frameworks differ in how a model is stored and called, and in nothing else that matters: what turns columns into arrays,
divides a batch, sets a row aside or turns results into columns is the same for all and lives in other modules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import JobError
from featuremill.transforms.onnx_sessions import Choice, ModelFileError

__all__ = ["Arrays", "Model", "ModelFileError", "PredictionError", "Signature", "TensorSpec", "rows_of"]

Arrays = Mapping[str, npt.NDArray[Any]]
"""Arrays by name; the first axis is the row."""


class PredictionError(JobError):
    """A model that does not keep its contract: another number of rows than it was given, or another width."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model, as far as its file tells."""

    name: str
    dtype: str | None = None
    """NumPy's name, such as ``float32``; ``object`` for text. None: not known."""
    shape: tuple[int | None, ...] | None = None
    """Without the axis of rows; None in it: any size. None: not known."""


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model."""

    inputs: tuple[TensorSpec, ...] = ()
    """Empty: the file does not say."""
    outputs: tuple[TensorSpec, ...] = ()
    columns: tuple[str, ...] = ()
    """The columns of a model's only input, where the file names them, as scikit-learn and XGBoost do."""


class Model(ABC):
    """A loaded model. Threads share it, so :meth:`predict` changes nothing."""

    batch_rows: int | None = None
    """The most rows that it is given at once where the job does not say; None: the whole batch."""
    choice: Choice | None = None
    """Where it runs, for a framework that can choose."""

    @property
    def signature(self) -> Signature:
        """What goes in and comes out, as far as the model's file tells."""
        return Signature()

    @abstractmethod
    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """The outputs for a batch.

        Parameters
        ----------
        inputs
            The model's inputs by name, each of shape (n_rows, …).

        Returns
        -------
        Arrays by the model's own output names, each of shape (n_rows, …) with as many rows as came in.
        """


def rows_of(arrays: Arrays) -> int:
    """How many rows arrays have.

    >>> rows_of({"x": np.zeros((3, 2))})
    3

    Raises
    ------
    PredictionError
        When they differ, or there is no array.
    """
    lengths = {name: (len(a) if np.ndim(a) else None) for name, a in arrays.items()}
    if len(set(lengths.values())) != 1 or None in lengths.values():
        raise PredictionError(f"A model's arrays have different numbers of rows: {lengths}.", lengths=lengths)
    return next(n for n in lengths.values() if n is not None)

"""Models named by class in the tests of scoring, which note their loads and misbehave when told to."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler, PredictionResult
from sklearn.linear_model import LinearRegression

from featuremill.core.models.spec import ModelSpec

MODULE = "support.scoring_models"


class Line(ModelHandler):
    """``slope * x``, by scikit-learn.

    Parameters
    ----------
    log
        A file that gets a line for each load: the process and the slope. Beside it, `log`.calls gets one per call.
    slow
        Seconds that a load takes.
    fails_on, short_on, sleeps_on, full_over
        A value of x for which it raises, forgets a row, or sleeps five seconds; a number of rows that memory is too
        small for.
    """

    def __init__(
        self,
        log: str | None = None,
        slope: float = 1.0,
        *,
        slow: float = 0.0,
        fails_on: float | None = None,
        short_on: float | None = None,
        sleeps_on: float | None = None,
        full_over: int | None = None,
        large: bool = False,
        copies: int | None = None,
    ) -> None:
        super().__init__(large_model=large, model_copies=copies)
        self.log, self.slope, self.slow = log, slope, slow
        self.fails_on, self.short_on, self.sleeps_on, self.full_over = fails_on, short_on, sleeps_on, full_over

    def load_model(self) -> LinearRegression:
        time.sleep(self.slow)
        _note(self.log, f"{os.getpid()} {self.slope}")
        return LinearRegression(fit_intercept=False).fit([[1.0]], [self.slope])

    def run_inference(
        self, batch: Sequence[Any], model: LinearRegression, inference_args: Mapping[str, Any] | None = None
    ) -> list[PredictionResult]:
        x = np.stack(batch)
        _note(None if self.log is None else f"{self.log}.calls", str(len(x)))
        if self.fails_on is not None and (x == self.fails_on).any():
            raise ValueError(f"cannot take {self.fails_on:g}\nand will not")
        if self.full_over is not None and len(x) > self.full_over:
            raise MemoryError("no room")
        if self.sleeps_on is not None and (x == self.sleeps_on).any():
            time.sleep(5)
        found = [PredictionResult(e, float(p)) for e, p in zip(batch, model.predict(x), strict=True)]
        return found[1:] if self.short_on is not None and (x == self.short_on).any() else found


class FromFile(Line):
    """A line whose slope is in a file."""

    def update_model_path(self, model_path: str | None = None) -> None:
        self.slope = float(Path(str(model_path)).read_text(encoding="utf-8"))

    def run_inference(
        self, batch: Sequence[Any], model: LinearRegression, inference_args: Mapping[str, Any] | None = None
    ) -> list[PredictionResult]:
        return super().run_inference([np.reshape(e, 1) for e in batch], model)


class Labels(ModelHandler):
    """``high`` from a bound on, else ``low``; for examples that are dicts of `x` and `bound`."""

    def load_model(self) -> object:
        return object()

    def run_inference(
        self, batch: Sequence[Any], model: object, inference_args: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        return [{"label": "high" if e["x"] >= e["bound"] else "low", "over": e["x"] - e["bound"]} for e in batch]


def _note(log: str | None, line: str) -> None:
    if log is not None:
        with open(log, "a", encoding="utf-8") as f:
            f.write(f"{line}\n")


def lines(log: Path, suffix: str = "") -> list[str]:
    """What was noted."""
    path = Path(f"{log}{suffix}")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def line_spec(
    log: Path | None = None,
    slope: float = 1.0,
    *,
    name: str = "y",
    spec: Mapping[str, Any] | None = None,
    **options: Any,
) -> ModelSpec:
    """A :class:`Line` over the column x, its prediction in the column `name`."""
    arguments = {"slope": slope, **({} if log is None else {"log": str(log)}), **options}
    return ModelSpec.model_validate(
        {
            "class": f"{MODULE}:Line",
            "arguments": arguments,
            "inputs": {"x": ["x"]},
            "outputs": {name: {"output": "prediction", "type": "double"}},
            **(spec or {}),
        }
    )

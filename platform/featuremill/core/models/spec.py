"""What a job file says of a model."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

__all__ = ["Framework", "InputSpec", "ModelSpec", "OutputSpec", "Padding"]

Framework = Literal["sklearn", "pytorch", "tensorflow", "onnx", "xgboost", "tensorrt", "custom"]
CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Padding(_Strict):
    """How rows of different sizes become one array."""

    value: float = 0
    """What fills the rest."""
    to: Annotated[int, Field(gt=0)] | Literal["longest", "bucket"] = "longest"
    """The size: that of the batch's longest row, always the same, or ``bucket``: rows of like size go together."""
    buckets: list[Annotated[int, Field(gt=0)]] | None = None
    """The sizes of the buckets, increasing; by default powers of two."""
    mask: str | None = None
    """The name of one more input of the model: 1 where a value is, 0 where it was filled."""

    @model_validator(mode="after")
    def _buckets_increase(self) -> Padding:
        if self.buckets is not None:
            if self.to != "bucket":
                raise ValueError("buckets are for to: bucket")
            if not self.buckets or any(a >= b for a, b in zip(self.buckets, self.buckets[1:], strict=False)):
                raise ValueError(f"buckets must increase, got {self.buckets}")
        return self


class InputSpec(_Strict):
    """One input of a model: the columns that it is made of."""

    columns: Annotated[list[str], Field(min_length=1)]
    """One column, as it is; or several, side by side in a matrix of shape (n_rows, n_columns)."""
    matrix: bool = False
    """Whether a single column of numbers becomes a matrix of one column rather than a vector."""
    dtype: str | None = None
    """NumPy's name of the type that the model wants; by default what its file says, else what the columns have."""
    nulls: Literal["nan", "reject", "zero"] = "nan"
    """What a null becomes: NaN (where the model takes integers, booleans or text: the row is set aside), a rejected
    row, or zero."""
    pad: Padding | None = None
    """For lists of different lengths."""
    max_length: Annotated[int, Field(gt=0)] | None = None
    """The longest list that the model takes; a row with a longer one is set aside."""
    truncate: bool = False
    """Whether a longer list is cut at max_length instead."""
    shape: list[Annotated[int, Field(gt=0)]] | None = None
    """The shape of a row, for a column that holds it as one flat list: ``[3, 224, 224]``."""

    @model_validator(mode="after")
    def _belong_together(self) -> InputSpec:
        if self.truncate and self.max_length is None:
            raise ValueError("truncate needs a max_length")
        if len(self.columns) > 1 and (self.pad or self.max_length or self.shape):
            raise ValueError("pad, max_length and shape are for an input of one column")
        return self


class OutputSpec(_Strict):
    """One column of predictions."""

    output: str | None = None
    """The model's name of the output; may be left out when it has only one."""
    index: Annotated[int, Field(ge=0)] | None = None
    """Which column of a matrix; without it the column holds the whole row as a vector."""
    type: str | None = None
    """The Arrow type: ``float32``, ``int64``, ``string``, ``list<float>`` …; by default that of the model's array."""


def _input(value: Any) -> Any:
    """``[a, b]`` is short for a matrix of these columns, ``a`` for a column as it is."""
    if isinstance(value, str):
        return {"columns": [value]}
    if isinstance(value, list):
        return {"columns": value, "matrix": True}
    return value


def _output(value: Any) -> Any:
    return {"output": value} if isinstance(value, str) else value


class ModelSpec(_Strict):
    """A model: where it is, what goes in, what comes out, and what it may cost."""

    path: str | None = None
    """A file or folder, local or in a bucket. A custom model may do without."""
    framework: Framework | None = None
    """By default what the file's name and content say."""
    class_: Annotated[str | None, Field(alias="class")] = None
    """``package.module:Class``, imported by name: the architecture for PyTorch weights, or a custom model."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments for the class."""
    inputs: dict[str, Annotated[InputSpec, BeforeValidator(_input)]] | None = None
    """The model's inputs by name, and the columns of each. By default the columns that the file names."""
    outputs: dict[str, Annotated[OutputSpec, BeforeValidator(_output)]] | None = None
    """Columns of predictions by name, and where each comes from. By default one for each of the model's outputs."""
    batch_rows: Annotated[int, Field(gt=0)] | None = None
    """The most rows that the model is given at once; by default the whole batch, for PyTorch on the CPU 16,384."""
    device: str = "cpu"
    """Where it runs: ``cpu``, ``cuda``, ``cuda:1``."""
    threads: Annotated[int, Field(gt=0)] | None = None
    """Threads of one call, where the framework lets it be said; by default 1, since calls run side by side."""
    options: dict[str, Any] = Field(default_factory=dict)
    """For the framework, such as ``{method: predict_proba}`` for scikit-learn."""
    large_model: bool = False
    """Keep one copy for all processes of a machine instead of one in each."""
    model_copies: Annotated[int, Field(gt=0)] | None = None
    """Keep exactly so many copies for all processes of a machine."""
    load_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds in which the model must be loaded."""
    timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds in which one call must come back."""
    sha256: str | None = None
    """The digest that the file must have."""
    allow_pickle: bool = False
    """Load a pickle, which can run any code. Needs the sha256 of the very file that you trust."""
    stamp: Literal["check", "ignore"] = "check"
    """Whether the artifact that the model was trained with, where its stamp says so, must be the job's."""

    @field_validator("class_")
    @classmethod
    def _importable(cls, value: str | None) -> str | None:
        if value is not None and not CLASS.fullmatch(value):
            raise ValueError(f"a class is named package.module:Class, got {value!r}")
        return value

    @field_validator("sha256")
    @classmethod
    def _hex(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("a SHA-256 has 64 digits 0-9 and a-f")
        return value

    @model_validator(mode="after")
    def _has_a_model(self) -> ModelSpec:
        if self.path is None and self.class_ is None:
            raise ValueError("a model needs a path, or the class of a custom one")
        if self.allow_pickle and self.sha256 is None:
            raise ValueError("allow_pickle needs the sha256 of the file that you trust")
        if self.large_model and self.model_copies is not None and self.model_copies > 1:
            raise ValueError("large_model keeps one copy; leave it out, or model_copies")
        return self

"""From a model's outputs to columns of predictions, with names and Arrow types that are known before it runs.

A model that gives another number of rows, or rows of another shape, is an error: zipping inputs with outputs would lose
rows, or mix them up, without a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import ParameterError, suggest
from featuremill.core.models.contract import Arrays, PredictionError, Signature, TensorSpec
from featuremill.core.models.spec import OutputSpec
from featuremill.transforms.arrays import is_list

__all__ = ["ModelOutputs", "output_schema", "parse_type"]

Array = npt.NDArray[Any]
LIST = re.compile(r"(large_list|list|fixed_size_list)<\s*(?:\w+:\s*)?(.+?)\s*>(?:\[(\d+)\])?")


def parse_type(text: str) -> pa.DataType:
    """The Arrow type of a name, as Arrow itself writes it, or with the names of lists' items left out.

    Raises
    ------
    ParameterError
        For a name that is no type.

    >>> parse_type("list<float>"), parse_type("list<float32>[3]")
    (ListType(list<item: float>), FixedSizeListType(fixed_size_list<item: float>[3]))
    >>> parse_type("number")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: type got 'number', expected an Arrow type such as float32, int64,
    string, list<float> or list<float>[3].
    """
    nested = LIST.fullmatch(text.strip())
    if nested and (nested[3] or nested[1] != "fixed_size_list"):
        inner = parse_type(nested[2])
        if nested[3]:
            return pa.list_(inner, int(nested[3]))
        return pa.large_list(inner) if nested[1] == "large_list" else pa.list_(inner)
    try:
        return pa.type_for_alias(text.strip())
    except ValueError:
        raise ParameterError(
            f"type got {text!r}, expected an Arrow type such as float32, int64, string, list<float> or list<float>[3].",
            parameter="type", value=text,
        ) from None


@dataclass(frozen=True)
class _Column:
    """One column of predictions: which part of which output, and its type as far as it is known."""

    name: str
    output: str | None
    index: int | None
    type: pa.DataType | None
    shape: tuple[int | None, ...] | None
    """Of a row of it, as the model's file says; None: it does not."""
    asked: bool
    """Whether the type was asked for, and is more than what the file says."""


class ModelOutputs:
    """The prediction columns of a model.

    Parameters
    ----------
    outputs
        By column, where each comes from. None: a column for each output, by its name.
    signature
        What the model gives, as far as its file tells.

    A row of one value, shape (1,), is that value; of any other known size a fixed-size list, of an unknown one a list;
    numbers and booleans have the array's type, texts are strings.

    Raises
    ------
    ParameterError
        When an output is unknown or not said, an index is beyond its width, or a type does not fit.

    >>> outputs = ModelOutputs({"late": OutputSpec(output="p", index=1)}, Signature())
    >>> outputs.columns({"p": np.array([[0.75, 0.25]])}, 1).to_pylist()
    [{'late': 0.25}]
    >>> outputs.columns({"p": np.array([[0.75, 0.25]])}, 2)
    Traceback (most recent call last):
    ...
    featuremill.core.models.contract.PredictionError: The model gave 1 rows of 'p' for the 2 rows that it was given. It
    must give one for each, in their order.
    """

    def __init__(self, outputs: Mapping[str, OutputSpec] | None, signature: Signature) -> None:
        self._known = {t.name: t for t in signature.outputs}
        if outputs is None:
            self._columns: tuple[_Column, ...] | None = (
                tuple(_column(name, OutputSpec(output=name), self._known) for name in self._known) or None
            )
        else:
            self._columns = tuple(_column(name, spec, self._known) for name, spec in outputs.items())
        self._seen: dict[str, pa.DataType] = {}

    @property
    def schema(self) -> pa.Schema | None:
        """The names and types of the columns; None where the model's file leaves a type open."""
        if self._columns is None or any(c.type is None for c in self._columns):
            return None
        return pa.schema([(c.name, c.type) for c in self._columns])

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the columns; None where neither the job nor the model's file says them."""
        return None if self._columns is None else tuple(c.name for c in self._columns)

    def columns(self, arrays: Arrays, rows: int) -> pa.RecordBatch:
        """The prediction columns, `rows` rows.

        Raises
        ------
        PredictionError
            When an output has another number of rows, or another shape or type than before or than its file says.
        """
        _check_rows(arrays, rows)
        columns = self._of(arrays)
        made = [self._make(column, self._pick(column, arrays)) for column in columns]
        return pa.RecordBatch.from_arrays(made, names=[c.name for c in columns])

    def row(self, arrays: Arrays) -> dict[str, Any]:
        """The predictions for one row as plain values, equal to those of :meth:`columns`."""
        _check_rows(arrays, 1)
        found = {}
        for column in self._of(arrays):
            array = self._pick(column, arrays)
            type_ = column.type or self._seen.get(column.name)
            if array.ndim == 1 and array.dtype.kind in "fiub" and type_ is not None and _is(type_, array.dtype):
                found[column.name] = array[0].item()
            else:
                found[column.name] = self._make(column, array)[0].as_py()
        return found

    def _of(self, arrays: Arrays) -> tuple[_Column, ...]:
        if self._columns is not None:
            return self._columns
        return tuple(_Column(name, name, None, None, None, asked=False) for name in arrays)

    def _pick(self, column: _Column, arrays: Arrays) -> Array:
        name = column.output
        if name is None:
            if len(arrays) != 1:
                raise _say_which(column.name, list(arrays))
            name = next(iter(arrays))
        if name not in arrays:
            raise _unknown(column.name, name, list(arrays))
        array = arrays[name]
        if column.index is not None:
            if array.ndim < 2 or column.index >= array.shape[1]:
                raise _beyond(column.name, column.index, name, array.shape[1:])
            array = array[:, column.index]
        if column.shape is not None and not _agree(column.shape, array.shape[1:]):
            raise PredictionError(
                f"The model gave rows of shape {array.shape[1:]} in {name!r}, and its file says {column.shape}.",
                output=name, got=array.shape[1:], expected=column.shape,
            )
        single = column.index is None and array.shape[1:] == (1,) and column.shape in (None, (1,))
        return array[:, 0] if single and (column.type is None or not is_list(column.type)) else array

    def _make(self, column: _Column, array: Array) -> pa.Array:
        type_ = column.type or self._seen.get(column.name) or _natural(array, column.name)
        made = _to_arrow(array, type_, column)
        if column.type is None and len(array):
            # Which batch comes first does not matter: all have this type, or it is an error.
            self._seen.setdefault(column.name, type_)
        return made


def output_schema(outputs: Mapping[str, OutputSpec] | None, signature: Signature) -> pa.Schema | None:
    """The prediction columns as far as a model's file tells; None: only its first batch does.

    >>> output_schema(None, Signature(outputs=(TensorSpec("p", "float32", (2,)),)))
    p: fixed_size_list<item: float>[2]
      child 0, item: float
    """
    return ModelOutputs(outputs, signature).schema


def _column(name: str, spec: OutputSpec, known: Mapping[str, TensorSpec]) -> _Column:
    output = spec.output
    if output is None and known:
        if len(known) > 1:
            raise _say_which(name, list(known))
        output = next(iter(known))
    if known and output not in known:
        raise _unknown(name, str(output), list(known))
    told = known.get(str(output), TensorSpec(str(output)))
    shape = told.shape
    if spec.index is not None and shape is not None:
        if not shape or (shape[0] is not None and spec.index >= shape[0]):
            raise _beyond(name, spec.index, told.name, shape)
        shape = shape[1:]
    type_ = None if spec.type is None else parse_type(spec.type)
    if type_ is None and told.dtype is not None and shape is not None:
        type_ = _type(_leaf(np.dtype(told.dtype), name), () if shape == (1,) and spec.index is None else shape)
    elif type_ is not None and shape is not None:
        _check_rank(name, type_, shape, told.name)
    return _Column(name, output, spec.index, type_, shape, asked=spec.type is not None)


def _check_rank(name: str, type_: pa.DataType, shape: tuple[int | None, ...], output: str) -> None:
    rank = 0
    while is_list(type_):
        type_, rank = type_.value_type, rank + 1
    if rank != len(shape) and not (rank == 0 and shape == (1,)):
        advice = "Choose one of its columns by index" if not rank else "Leave type out"
        raise ParameterError(
            f"Output {name!r}: the rows of {output!r} have the shape {shape}, which is no {type_}. {advice}.",
            parameter="type", output=name,
        )


def _say_which(name: str, known: list[str]) -> ParameterError:
    shown = ", ".join(repr(k) for k in known)
    return ParameterError(
        f"Output {name!r}: the model has {len(known)} outputs; say which of {shown} it is: {{output: {known[0]}}}."
        if known else f"Output {name!r}: the model gave nothing.",
        parameter="outputs", output=name, known=known,
    )


def _unknown(name: str, output: str, known: list[str]) -> ParameterError:
    return ParameterError(
        f"Output {name!r}: the model has no output {output!r}. {suggest(output, known)}",
        parameter="outputs", output=name, known=known,
    )


def _beyond(name: str, index: int, output: str, shape: tuple[int | None, ...]) -> ParameterError:
    what = f"has the width {shape[0]}, counted from 0" if shape else "is one value for each row; leave index out"
    return ParameterError(f"Output {name!r}: index got {index}, and {output!r} {what}.", parameter="index", output=name)


def _check_rows(arrays: Arrays, rows: int) -> None:
    for name, array in arrays.items():
        got = len(array) if np.ndim(array) else None
        if got != rows:
            what = "a single value" if got is None else f"{got} rows"
            raise PredictionError(
                f"The model gave {what} of {name!r} for the {rows} rows that it was given. It must give one for each, "
                "in their order.",
                output=name, got=got, expected=rows,
            )


def _agree(declared: tuple[int | None, ...], got: tuple[int, ...]) -> bool:
    return len(declared) == len(got) and all(a is None or a == b for a, b in zip(declared, got, strict=True))


def _is(type_: pa.DataType, dtype: np.dtype[Any]) -> bool:
    return bool(pa.from_numpy_dtype(dtype) == type_)


def _leaf(dtype: np.dtype[Any], name: str) -> pa.DataType:
    if dtype.kind in "OU":
        return pa.string()
    if dtype.kind == "S":
        return pa.binary()
    if dtype.kind in "fiub":
        return pa.from_numpy_dtype(dtype)
    raise PredictionError(
        f"Output {name!r}: the model gave an array of {dtype}, expected numbers, booleans or texts.", output=name
    )


def _type(leaf: pa.DataType, shape: tuple[int | None, ...]) -> pa.DataType:
    for size in reversed(shape):
        leaf = pa.list_(leaf) if size is None else pa.list_(leaf, size)
    return leaf


def _natural(array: Array, name: str) -> pa.DataType:
    return _type(_leaf(array.dtype, name), array.shape[1:])


def _to_arrow(array: Array, type_: pa.DataType, column: _Column) -> pa.Array:
    rank, leaf = 0, type_
    while is_list(leaf):
        leaf, rank = leaf.value_type, rank + 1
    try:
        if rank != array.ndim - 1:
            raise pa.ArrowInvalid(f"rows of shape {array.shape[1:]} are no {type_}")
        return _listed(_values(np.ascontiguousarray(array).reshape(-1), leaf), type_, array.shape)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        expected = f"the job asks for {type_}" if column.asked else f"expected {type_}"
        raise PredictionError(
            f"Output {column.name!r}: what the model gave does not fit, {expected}: {str(error).splitlines()[0]}.",
            output=column.name, type=str(type_),
        ) from error


def _values(flat: Array, leaf: pa.DataType) -> pa.Array:
    if flat.dtype.kind in "OU":
        # Not by inference, which would make something else of the texts of an empty or all-null batch.
        texts = pa.array(flat, pa.string(), from_pandas=False)
        return texts if pt.is_string(leaf) else texts.cast(leaf)
    made = pa.array(flat, from_pandas=False)
    return made if made.type == leaf else made.cast(leaf)


def _listed(values: pa.Array, type_: pa.DataType, shape: tuple[int, ...]) -> pa.Array:
    """The values of an array of a shape, in lists of a type as deep."""
    types = []
    while is_list(type_):
        types.append(type_)
        type_ = type_.value_type
    for level in range(len(types), 0, -1):
        lists, size, kind = int(np.prod(shape[:level])), shape[level], types[level - 1]
        if pt.is_fixed_size_list(kind):
            if kind.list_size != size:
                raise pa.ArrowInvalid(f"rows of shape {shape[1:]} are no {kind}")
            values = pa.FixedSizeListArray.from_arrays(values, size)
        else:
            large = pt.is_large_list(kind)
            offsets = np.arange(lists + 1, dtype=np.int64) * size
            make = pa.LargeListArray if large else pa.ListArray
            values = make.from_arrays(pa.array(offsets if large else offsets.astype(np.int32)), values)
    return values

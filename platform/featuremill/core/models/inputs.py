"""From columns to the arrays that a model takes.

Everything that a schema and a model's signature can tell is checked when they are put together, before anything runs;
values that a model cannot take cost their rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.artifacts.errors import ColumnTypeError, MissingColumnError, ParameterError, suggest
from featuremill.core.models.contract import Signature, TensorSpec
from featuremill.core.models.gather import Column, ListInput, MatrixInput, VectorInput
from featuremill.core.models.leaves import TEXT, check_leaf, natural_dtype, parse_dtype
from featuremill.core.models.lists import dimensions, tensor_storage
from featuremill.core.models.spec import InputSpec
from featuremill.transforms.arrays import value_type
from featuremill.transforms.rejects import Reject

__all__ = ["Built", "Group", "ModelInputs"]

Rows = npt.NDArray[np.int64]
Dims = tuple[int | None, ...]


@dataclass(frozen=True)
class Group:
    """Rows that the model is given together."""

    rows: Rows | None
    """Their positions among the rows kept; None: these are all, in their order."""
    arrays: dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Built:
    """A batch as inputs of a model."""

    kept: Rows | None
    """The positions in the batch of the rows that go on; None: all do."""
    groups: tuple[Group, ...]
    """One, unless rows go by buckets of like size."""
    rejects: tuple[Reject, ...]


class ModelInputs:
    """The inputs of a model, made from the columns of a schema.

    Parameters
    ----------
    inputs
        The columns of each input. None: those that the model's file names.
    signature
        What the model takes, as far as its file tells.
    schema
        The columns that batches will have.

    Raises
    ------
    MissingColumnError
        When a column is not there.
    ColumnTypeError
        When a column's type cannot become the input.
    ParameterError
        When inputs are missing or unknown, or have another width, rank or type than the model's.

    >>> schema = pa.schema({"a": pa.int64(), "b": pa.float32()})
    >>> spec = InputSpec(columns=["a", "b"], matrix=True, dtype="float32")
    >>> inputs = ModelInputs({"x": spec}, Signature(), schema)
    >>> built = inputs.build(pa.record_batch({"a": [1, None], "b": [0.5, 2]}, schema=schema))
    >>> built.groups[0].arrays
    {'x': array([[1. , 0.5],
           [nan, 2. ]], dtype=float32)}
    >>> ModelInputs({"x": spec}, Signature((TensorSpec("x", "float32", (3,)),)), schema)
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: Input 'x': the model takes rows of shape (3,), its columns a, b give
    (2,). Name as many columns as it was trained on.
    """

    def __init__(self, inputs: Mapping[str, InputSpec] | None, signature: Signature, schema: pa.Schema) -> None:
        if inputs is None:
            inputs = default_inputs(signature, schema)
        inputs = dict(inputs)
        if len(signature.inputs) == len(inputs) == 1 and not _masks(inputs):
            # An only input may have any name.
            inputs = {signature.inputs[0].name: next(iter(inputs.values()))}
        _check_names([*inputs, *_masks(inputs)], signature)
        self.specs: dict[str, InputSpec] = inputs
        known = {t.name: t for t in signature.inputs}
        self.parts = tuple(
            _resolve(name, spec, known.get(name) or TensorSpec(name), known, schema) for name, spec in inputs.items()
        )
        _check_columns(inputs, signature)
        self.columns: tuple[str, ...] = tuple(dict.fromkeys(c for s in inputs.values() for c in s.columns))
        """The columns that are read, each once."""
        self.schema = pa.schema([schema.field(c) for c in self.columns])
        """Theirs alone."""

    def build(self, batch: pa.RecordBatch) -> Built:
        """The arrays for a batch; its rows in one group, or by bucket.

        Raises
        ------
        ParameterError
            When lists differ in size and no `pad` says what to do about it: a matter of the job, not of a row.
        """
        kept, rejects = self._sort_out(batch)
        if kept is not None:
            batch = batch.take(pa.array(kept))
        buckets = [part.bucket(batch) for part in self.parts]
        if all(b is None for b in buckets) or batch.num_rows == 0:
            sizes = [None if b is None else 1 for b in buckets]
            return Built(kept, (Group(None, self._arrays(batch, sizes)),), rejects)
        return Built(kept, tuple(self._by_bucket(batch, buckets)), rejects)

    def _by_bucket(self, batch: pa.RecordBatch, buckets: Sequence[Rows | None]) -> list[Group]:
        there = np.stack([b for b in buckets if b is not None], axis=1)
        distinct, which = np.unique(there, axis=0, return_inverse=True)
        groups = []
        for i, sizes in enumerate(distinct):
            rest = iter(sizes.tolist())
            by_part = [None if b is None else next(rest) for b in buckets]
            rows = None if len(distinct) == 1 else np.flatnonzero(which.reshape(-1) == i)
            some = batch if rows is None else batch.take(pa.array(rows))
            groups.append(Group(rows, self._arrays(some, by_part)))
        return groups

    def _arrays(self, batch: pa.RecordBatch, sizes: Sequence[int | None]) -> dict[str, npt.NDArray[Any]]:
        arrays: dict[str, npt.NDArray[Any]] = {}
        for part, size in zip(self.parts, sizes, strict=True):
            arrays.update(part.build(batch, size))
        return arrays

    def _sort_out(self, batch: pa.RecordBatch) -> tuple[Rows | None, tuple[Reject, ...]]:
        bad = [b for part in self.parts for b in part.bad(batch) if b.rows.any()]
        if not bad:
            return None, ()
        gone = np.zeros(batch.num_rows, dtype=bool)
        rejects: list[Reject] = []
        for b in bad:
            rows = np.flatnonzero(b.rows & ~gone)
            rejects += [Reject(int(r), f"{b.column}: {b.reason}", None, b.column) for r in rows]
            gone |= b.rows
        return np.flatnonzero(~gone), tuple(sorted(rejects, key=lambda r: r.row))


def _masks(inputs: Mapping[str, InputSpec]) -> list[str]:
    return [s.pad.mask for s in inputs.values() if s.pad is not None and s.pad.mask is not None]


def default_inputs(signature: Signature, schema: pa.Schema) -> dict[str, InputSpec]:
    """The columns that a model's file names: those of its only input, or one for each input of that name.

    Raises
    ------
    ParameterError
        When the file does not tell.
    """
    if signature.columns:
        name = signature.inputs[0].name if signature.inputs else "x"
        return {name: InputSpec(columns=list(signature.columns), matrix=True)}
    names = [t.name for t in signature.inputs]
    if names and all(n in schema.names for n in names):
        return {n: InputSpec(columns=[n]) for n in names}
    if not names:
        raise ParameterError(
            "The model's file does not name its inputs. Write inputs: {NAME: [COLUMN, …]}, the columns in the order of "
            "the training.",
            parameter="inputs",
        )
    missing = [n for n in names if n not in schema.names]
    raise ParameterError(
        f"There is no column {missing[0]!r} for the model's input of that name. {suggest(missing[0], schema.names)} "
        f"Write inputs: {{{missing[0]}: [COLUMN, …]}}, the columns in the order of the training.",
        parameter="inputs", input=missing[0],
    )


def _check_names(given: Sequence[str], signature: Signature) -> None:
    known = [t.name for t in signature.inputs]
    twice = next((n for i, n in enumerate(given) if n in given[:i]), None)
    if twice is not None:
        raise ParameterError(f"Two inputs are named {twice!r}, one of them a mask.", parameter="inputs", input=twice)
    if not known:
        return
    for name in given:
        if name not in known:
            raise ParameterError(
                f"The model has no input {name!r}. {suggest(name, known)}", parameter="inputs", input=name, known=known
            )
    missing = [n for n in known if n not in given]
    if missing:
        raise ParameterError(
            f"The model's input {missing[0]!r} is given nothing. Add {missing[0]!r} to inputs, with its columns.",
            parameter="inputs", input=missing[0],
        )


def _check_columns(inputs: Mapping[str, InputSpec], signature: Signature) -> None:
    """The order of the columns is that of the training, where the file tells it."""
    trained = list(signature.columns)
    if not trained or len(inputs) != 1:
        return
    (name, spec), = inputs.items()
    if spec.columns == trained or len(spec.columns) != len(trained):
        return
    i = next(i for i, (a, b) in enumerate(zip(spec.columns, trained, strict=True)) if a != b)
    raise ParameterError(
        f"Input {name!r}: column {i} is {spec.columns[i]!r}, and the model was trained with {trained[i]!r} there. "
        f"Leave inputs out to have its own order: {', '.join(trained)}. If only the names differ, set options: "
        "{feature_names: ignore}.",
        parameter="inputs", input=name, column=spec.columns[i],
    )


def _resolve(
    name: str, spec: InputSpec, declared: TensorSpec, known: Mapping[str, TensorSpec], schema: pa.Schema
) -> VectorInput | MatrixInput | ListInput:
    fields = [_field(name, column, schema) for column in spec.columns]
    if len(fields) > 1:
        return _matrix(name, spec, declared, [_column(name, f) for f in fields])
    storage, tensor = tensor_storage(fields[0].type)
    dims, _ = dimensions(storage)
    if dims:
        return _lists(name, spec, declared, known, fields[0].with_type(storage), tensor)
    if spec.pad or spec.max_length or spec.shape:
        raise _unfit(name, spec.columns[0], f"it holds {fields[0].type}; pad, max_length and shape are for lists")
    column = _column(name, fields[0])
    if spec.matrix if declared.shape is None else len(declared.shape) == 1:
        return _matrix(name, spec, declared, [column])
    dtype = _dtype(name, spec, declared, [column])
    _check_shape(name, spec, declared, ())
    return VectorInput(name, column, dtype, spec.nulls)


def _field(name: str, column: str, schema: pa.Schema) -> pa.Field:
    count = schema.names.count(column)
    if count == 1:
        return schema.field(column)
    raise MissingColumnError(
        f"Input {name!r}: there is no column {column!r}. {suggest(column, schema.names)}"
        if not count
        else f"Input {name!r}: {count} columns are named {column!r}. Rename all but one.",
        input=name, column=column, known=list(schema.names),
    )


def _unfit(name: str, column: str, why: str) -> ColumnTypeError:
    return ColumnTypeError(f"Input {name!r}, column {column!r}: {why}.", input=name, column=column)


def _column(name: str, field: pa.Field) -> Column:
    storage, _ = tensor_storage(field.type)
    dims, leaf = dimensions(storage)
    if dims and (len(dims) > 1 or dims[0] is None):
        raise _unfit(
            name, field.name, f"it holds {field.type}; a column of a matrix holds single values or fixed-size lists. "
            "Make it an input of its own"
        )
    return Column(field.name, leaf, _natural(name, field.name, leaf), dims[0] if dims else None)


def _natural(name: str, column: str, leaf: pa.DataType) -> np.dtype[Any]:
    natural = natural_dtype(leaf)
    if natural is None:
        raise _unfit(name, column, str(check_leaf(leaf, np.dtype(np.float64))))
    return natural


def _matrix(name: str, spec: InputSpec, declared: TensorSpec, columns: list[Column]) -> MatrixInput:
    part = MatrixInput(name, tuple(columns), _dtype(name, spec, declared, columns), spec.nulls)
    _check_shape(name, spec, declared, (part.width,))
    return part


def _lists(
    name: str, spec: InputSpec, declared: TensorSpec, known: Mapping[str, TensorSpec], field: pa.Field,
    tensor: tuple[int, ...] | None,
) -> ListInput:
    dims, leaf = dimensions(field.type)
    column = Column(field.name, leaf, _natural(name, field.name, leaf))
    dtype = _dtype(name, spec, declared, [column])
    shape = tuple(spec.shape) if spec.shape else tensor
    sizes = _sizes(name, spec, declared, dims, shape, field.name)
    _check_shape(name, spec, declared, shape or sizes)
    mask = None
    if spec.pad is not None:
        if None not in dims:
            raise _unfit(name, field.name, f"it holds {field.type}, lists of one size: leave out pad")
        if dtype.kind in "iub" and spec.pad.value != int(spec.pad.value):
            raise ParameterError(
                f"Input {name!r}: pad.value got {spec.pad.value}, and the input is {dtype}.",
                parameter="pad", input=name,
            )
        if spec.pad.mask is not None:
            told = known.get(spec.pad.mask)
            mask = parse_dtype(told.dtype) if told is not None and told.dtype is not None else np.dtype(np.int64)
    return ListInput(
        name, column, dtype, spec.nulls, sizes, tuple(d is None for d in dims), spec.pad, spec.max_length,
        spec.truncate, shape, mask,
    )


def _sizes(
    name: str, spec: InputSpec, declared: TensorSpec, dims: Dims, shape: tuple[int, ...] | None, column: str
) -> Dims:
    """The size that each axis has to have, by the column's type, the job or the model."""
    if shape is not None:
        count = int(np.prod(shape))
        if len(dims) != 1 or spec.pad is not None or spec.max_length is not None:
            raise _unfit(name, column, "shape is for flat lists of one size, without pad and max_length")
        if dims[0] not in (None, count):
            raise _unfit(name, column, f"its lists have {dims[0]} values, and the shape {list(shape)} has {count}")
        return (count,)
    if spec.pad is not None:
        to = spec.pad.to if isinstance(spec.pad.to, int) else None
        if to is not None and spec.max_length is not None and spec.max_length > to:
            raise ParameterError(
                f"Input {name!r}: max_length got {spec.max_length}, expected at most pad.to, {to}.",
                parameter="max_length", input=name,
            )
        return tuple(to if d is None else d for d in dims)
    told = declared.shape if declared.shape is not None and len(declared.shape) == len(dims) else (None,) * len(dims)
    return tuple(t if d is None else d for d, t in zip(dims, told, strict=True))


def _dtype(name: str, spec: InputSpec, declared: TensorSpec, columns: Sequence[Column]) -> np.dtype[Any]:
    told = None if declared.dtype is None else parse_dtype(declared.dtype)
    asked = None if spec.dtype is None else parse_dtype(spec.dtype)
    if told is not None and asked is not None and told != asked:
        raise ParameterError(
            f"Input {name!r}: dtype got {spec.dtype!r}, and the model takes {told}. Leave it out.",
            parameter="dtype", input=name, value=spec.dtype,
        )
    wanted = asked or told
    if wanted is None:
        texts = [c.natural == TEXT for c in columns]
        if any(texts) and not all(texts):
            first = next(c.name for c in columns if c.natural == TEXT)
            raise _unfit(name, first, "it holds texts beside columns of numbers; set dtype: object, or leave it out")
        wanted = TEXT if all(texts) else np.result_type(*[c.natural for c in columns])
    for column in columns:
        problem = check_leaf(value_type(column.leaf), wanted) if not _mixed(wanted, columns) else None
        if problem:
            raise _unfit(name, column.name, problem)
    return wanted


def _mixed(wanted: np.dtype[Any], columns: Sequence[Column]) -> bool:
    """A matrix of objects may hold texts and numbers, as scikit-learn's encoders take them."""
    return wanted == TEXT and len(columns) > 1


def _check_shape(name: str, spec: InputSpec, declared: TensorSpec, row: Dims) -> None:
    if declared.shape is None:
        return
    both = list(zip(declared.shape, row, strict=False))
    same = len(declared.shape) == len(row) and all(a is None or b is None or a == b for a, b in both)
    open_end = spec.pad is not None and any(a is not None and b is None for a, b in both)
    if same and not open_end:
        return
    shown = ", ".join(spec.columns[:8]) + (", …" if len(spec.columns) > 8 else "")
    plural = len(spec.columns) > 1
    hint = "Name as many columns as it was trained on." if len(row) == 1 else "Set shape or pad, or name other columns."
    if same:
        hint = f"Set pad: {{to: {next(a for a, b in both if b is None)}}}."
    raise ParameterError(
        f"Input {name!r}: the model takes rows of shape {_shape(declared.shape)}, its column{'s' if plural else ''} "
        f"{shown} give{'' if plural else 's'} {_shape(row)}. {hint}",
        parameter="inputs", input=name, expected=declared.shape, got=row,
    )


def _shape(dims: Dims) -> str:
    inner = ", ".join("any" if d is None else str(d) for d in dims)
    return f"({inner},)" if len(dims) == 1 else f"({inner})"

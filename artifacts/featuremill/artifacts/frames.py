"""What callers have their rows in, to Arrow and back: tables, batches, pandas and Polars frames, dicts of lists.

Neither pandas nor Polars is imported: whoever passes a frame has imported its library already.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import ParameterError, ParameterTypeError

__all__ = ["columns_test", "restore", "to_table"]

KINDS = "a pyarrow Table or RecordBatch, a pandas or Polars DataFrame, a dict of lists, or one dict"

Restore = Callable[[pa.Table], Any]

_SINGLE = frozenset({str, bytes, int, float, bool, type(None)})
"""Common types of single values, asked for first: a row is told from columns for every row that is served."""


def _library(data: Any) -> str:
    return type(data).__module__.partition(".")[0]


def columns_test(schema: pa.Schema) -> Callable[[Mapping[str, Any]], bool]:
    """A function that says whether a dict holds columns (a dict of lists) and not one row of a schema.

    A column of single values decides; where there are only columns of lists, a list of lists is a column.

    >>> holds_columns = columns_test(pa.schema([("words", pa.list_(pa.string())), ("x", pa.int64())]))
    >>> holds_columns({"words": ["a", "b"], "x": 1}), holds_columns({"words": [["a", "b"]], "x": [1]})
    (False, True)
    """
    depths = {f.name: _depth(f.type) for f in schema}
    single = next((name for name, depth in depths.items() if depth == 0), None)

    def by_single(data: Mapping[str, Any]) -> bool:
        value = data.get(single)  # type: ignore[arg-type]
        return value.__class__ not in _SINGLE and _is_sequence(value)

    def by_depth(data: Mapping[str, Any]) -> bool:
        return any(name in data and _value_depth(data[name]) > depth for name, depth in depths.items())

    return by_depth if single is None else by_single


def _depth(type_: pa.DataType) -> int:
    depth = 0
    while (
        pt.is_list(type_) or pt.is_large_list(type_) or pt.is_fixed_size_list(type_)
        or pt.is_list_view(type_) or pt.is_large_list_view(type_)
    ):
        type_, depth = type_.value_type, depth + 1
    return depth


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (
        hasattr(value, "__len__") and not isinstance(value, (str, bytes, bytearray, memoryview, Mapping))
        and getattr(value, "ndim", 1) > 0
    )


def _value_depth(value: Any) -> int:
    depth = 0
    while _is_sequence(value):
        depth += 1
        value = next((v for v in value if v is not None), None)
    return depth


def to_table(data: Any, schema: pa.Schema) -> tuple[pa.Table, Restore]:
    """The rows as an Arrow table, and what turns a table of results into the kind that came.

    NaN in a pandas frame is null, as pandas means it; elsewhere NaN stays NaN.

    Raises
    ------
    ParameterTypeError, ParameterError
        When `data` is of no kind that is known, or its columns are no columns.
    """
    if isinstance(data, pa.Table):
        return data, lambda table: table
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data]), _one_batch
    if isinstance(data, Mapping):
        return _from_lists(data, schema), pa.Table.to_pydict
    kind = type(data).__name__
    if kind == "DataFrame" and _library(data) == "pandas":
        return _from_pandas(data), lambda table: _to_pandas(table, data.index)
    if kind == "DataFrame" and _library(data) == "polars":
        return data.to_arrow(), sys.modules["polars"].from_arrow
    hint = " Collect it first: .collect()." if kind == "LazyFrame" else ""
    raise ParameterTypeError(f"transform: got {_library(data)}.{kind}, expected {KINDS}.{hint}", type=kind)


def restore(batches: list[pa.RecordBatch], back: Restore) -> Any:
    """Result batches as the kind that came."""
    return back(pa.Table.from_batches(batches))


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _from_lists(data: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = {name: _column(name, values, schema) for name, values in data.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ParameterError(f"transform: the lists must be equally long, got {lengths}.", lengths=lengths)
    return pa.table(arrays)


def _column(name: str, values: Any, schema: pa.Schema) -> pa.Array:
    """A column as Arrow infers it, so that the pipeline sees a fraction in a column of integers and can refuse it."""
    index = schema.get_field_index(name)
    try:
        array = _inferred(values, schema.field(index).type if index >= 0 else None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError) as error:
        expected = f", expected {schema.field(index).type}" if index >= 0 else ""
        raise ParameterTypeError(
            f"transform: the column {name!r} is no list of values{expected}: {error}.", column=name
        ) from error
    if index >= 0 and pt.is_null(array.type):
        return pa.nulls(len(array), schema.field(index).type)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return array


def _inferred(values: Any, type_: pa.DataType | None) -> pa.Array:
    try:
        return pa.array(values)
    except OverflowError:
        # Arrow takes integers for int64; beyond it, only the type tells what they fit.
        if type_ is None or not pt.is_uint64(type_):
            raise
        return pa.array(values, type_)


def _from_pandas(frame: Any) -> pa.Table:
    try:
        return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ParameterTypeError(f"transform: the frame cannot be read: {' '.join(map(str, error.args))}.") from error


def _to_pandas(table: pa.Table, index: Any) -> Any:
    """A frame with the index that came. Integers and booleans with nulls get pandas' nullable types, and stay exact."""
    pandas = sys.modules["pandas"]
    nullable = {
        pa.int8(): pandas.Int8Dtype(), pa.int16(): pandas.Int16Dtype(), pa.int32(): pandas.Int32Dtype(),
        pa.int64(): pandas.Int64Dtype(), pa.uint8(): pandas.UInt8Dtype(), pa.uint16(): pandas.UInt16Dtype(),
        pa.uint32(): pandas.UInt32Dtype(), pa.uint64(): pandas.UInt64Dtype(), pa.bool_(): pandas.BooleanDtype(),
    }
    columns = {
        name: column.to_pandas(types_mapper=nullable.get if column.null_count else None)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    frame = pandas.DataFrame(columns, columns=table.column_names)
    frame.index = index
    return frame

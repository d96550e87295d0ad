"""Between the elements of a user's PCollection and fragments.

Rows (dicts, `beam.Row`, NamedTuples) are gathered into batches, go through the same columnar code as everything else,
and come out in the shape of Beam's own transforms: a `beam.Row` whose transformed columns are NumPy arrays of one
dimension, a scalar as an array of one element, null as an empty one, text as bytes. Columns that no transform touches
keep the very object that they held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt
from apache_beam.pvalue import AsSingleton

from featuremill.artifacts.errors import MissingColumnError, RequestError, suggest
from featuremill.transforms.arrays import is_list, leaf_type
from featuremill.transforms.artifact_cache import bound_pipeline
from featuremill.transforms.fragments import Fragment, MemoryFragment, TransformedFragment
from featuremill.transforms.stock_stages import visible

__all__ = ["FromFragments", "ToFragments"]

ROWS_PER_BATCH = 4096


class ToFragments(beam.PTransform):  # type: ignore[misc]
    """Any PCollection that a Handler takes, as fragments. `columns` are those of a row that transforms need."""

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__()
        self.columns = list(columns)

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[Fragment]:
        if _is_columnar(elements.element_type):
            return elements | "Fragment" >> beam.Map(_to_fragment)
        return (
            elements
            | "Batch" >> beam.BatchElements(min_batch_size=1, max_batch_size=ROWS_PER_BATCH)
            | "Columns" >> beam.FlatMap(_gather, self.columns)
        )


class FromFragments(beam.PTransform):  # type: ignore[misc]
    """Fragments through the artifact in a folder (a PCollection of one element), back in the shape they came in."""

    def __init__(self, folder: beam.PCollection[str], element_type: Any) -> None:
        super().__init__()
        self.folder = folder
        self.element_type = element_type

    def expand(self, fragments: beam.PCollection[Fragment]) -> beam.PCollection[Any]:
        apply = beam.FlatMap(_transform, AsSingleton(self.folder))
        if isinstance(self.element_type, type) and issubclass(self.element_type, (pa.Table, pa.RecordBatch)):
            apply = apply.with_output_types(self.element_type)
        elif _is_fragment_type(self.element_type):
            apply = apply.with_output_types(TransformedFragment)
        return fragments | "Transform" >> apply


def _is_columnar(element_type: Any) -> bool:
    if isinstance(element_type, type) and issubclass(element_type, (pa.Table, pa.RecordBatch)):
        return True
    return _is_fragment_type(element_type)


def _is_fragment_type(element_type: Any) -> bool:
    return isinstance(element_type, type) and hasattr(element_type, "batches") and hasattr(element_type, "key")


def _to_fragment(element: Any) -> Fragment:
    if isinstance(element, pa.RecordBatch):
        return MemoryFragment(element)
    if isinstance(element, pa.Table):
        return MemoryFragment(_one_batch(element), rows=_TABLE)
    if isinstance(element, Fragment):
        return element
    raise RequestError(
        f"MLTransform was given a {type(element).__name__}; featuremill takes fragments, Arrow tables, record batches, "
        "dicts, beam.Row or NamedTuples."
    )


_TABLE = ("table",)
"""Marks a fragment that was a `pa.Table`, to give one back."""


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    if batches:
        return batches[0]
    return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in table.schema], schema=table.schema)


def _gather(elements: list[Any], columns: list[str]) -> Iterator[Fragment]:
    """A batch of elements whose type Beam did not know: rows become one fragment, anything columnar one each."""
    rows = []
    for element in elements:
        if isinstance(element, dict) or hasattr(element, "_asdict") or hasattr(element, "as_dict"):
            rows.append(element)
        else:
            yield _to_fragment(element)
    if rows:
        yield MemoryFragment(_rows_to_batch(rows, columns), rows=rows)


def _as_dict(row: Any) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    result: dict[str, Any] = row._asdict() if hasattr(row, "_asdict") else row.as_dict()
    return result


def _rows_to_batch(rows: list[Any], columns: list[str]) -> pa.RecordBatch:
    dicts = [_as_dict(row) for row in rows]
    arrays = []
    for column in columns:
        # Which rows share a batch is chance, so that each of them has to have the column.
        lacking = next((row for row in dicts if column not in row), None)
        if lacking is not None:
            raise MissingColumnError(
                f"The column {column!r} is missing in a row. {suggest(column, list(lacking))}", column=column
            )
        arrays.append(_column(column, [row[column] for row in dicts]))
    return pa.RecordBatch.from_arrays(arrays, columns)


def _column(name: str, values: list[Any]) -> pa.Array:
    """Python values as an Arrow column; where some rows hold a list, others a scalar, all become lists, as in TFT."""
    lists = [isinstance(v, (list, tuple, np.ndarray)) for v in values]
    if any(lists) and not all(lists):
        values = [v if is_list_ or v is None else [v] for v, is_list_ in zip(values, lists, strict=True)]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise RequestError(f"The column {name!r} holds values of different types: {error}.", column=name) from error


def _transform(fragment: Fragment, folder: str) -> Iterable[Any]:
    rows = getattr(fragment, "rows", None)
    if not isinstance(fragment, MemoryFragment):
        yield TransformedFragment(fragment, folder)
        return
    bound = bound_pipeline(folder)
    result = visible(bound.apply(fragment.batch))
    if rows is None:
        yield result
    elif rows is _TABLE or tuple(rows[:1]) == _TABLE:
        yield pa.Table.from_batches([result])
    else:
        written = {n for t in bound.pipeline.transforms for n in (*t.columns, *t.output_names)}
        columns = {n: _stock_values(result.column(n)) for n in result.schema.names if n in written}
        for i, row in enumerate(rows):
            yield beam.Row(**{**_as_dict(row), **{n: values[i] for n, values in columns.items()}})


def _stock_values(array: pa.Array) -> list[npt.NDArray[Any]]:
    """One NumPy array per row, in the dtypes of TensorFlow Transform: float32, int64, or objects of bytes."""
    leaf = leaf_type(array.type)
    if is_list(array.type):
        lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        flat = array.flatten()
    else:
        lengths = array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64)
        flat = array.drop_null()
    if pt.is_floating(leaf) or pt.is_decimal(leaf):
        values: npt.NDArray[Any] = flat.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    elif pt.is_integer(leaf) or pt.is_boolean(leaf) or pt.is_null(leaf):
        values = flat.cast(pa.int64()).to_numpy(zero_copy_only=False)
    elif pt.is_string(leaf) or pt.is_large_string(leaf) or pt.is_binary(leaf) or pt.is_large_binary(leaf):
        values = np.empty(len(flat), dtype=object)
        values[:] = flat.cast(pa.large_binary()).to_pylist()
    else:
        values = np.empty(len(flat), dtype=object)
        values[:] = flat.to_pylist()
    return np.split(values, np.cumsum(lengths)[:-1])

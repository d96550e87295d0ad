"""Arrow values as the objects that pandas has for them. Used where results are made, never by workers.

Missing values are None throughout, and integers stay integers where pandas makes floats of a column with nulls.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import MissingExtraError

__all__ = ["column_types", "frame", "series_items", "storage_items", "value_counts"]


def _pandas() -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError('Results need pandas: pip install "featuremill[quality]".', package="pandas") from error
    return pd


def _plain_numbers(type_: pa.DataType) -> bool:
    return bool(pt.is_integer(type_) or pt.is_floating(type_) or pt.is_boolean(type_) or pt.is_string(type_))


def series_items(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The items of a pandas series of the values: Python's objects, ``Timestamp`` for moments; None where missing."""
    if _plain_numbers(array.type):
        return [None if v != v else v for v in array.to_pylist()]  # noqa: PLR0124  # NaN
    missing = _pandas().isna
    return [None if v is None or missing(v) is True else v for v in array.to_pandas()]


def storage_items(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The items of the array under a pandas series: as :func:`series_items`, but ``numpy.datetime64`` for moments."""
    if not pt.is_timestamp(array.type):
        return series_items(array)
    _pandas()
    values = list(array.to_pandas().to_numpy(dtype=f"datetime64[{array.type.unit}]"))
    return [v if known else None for v, known in zip(values, array.is_valid().to_pylist(), strict=True)]


def frame(table: pa.Table) -> Any:
    """The rows as a data frame."""
    _pandas()
    return table.to_pandas(integer_object_nulls=True)


def value_counts(state: pa.Table) -> Any:
    """A state of :class:`~featuremill.transforms.counts.Counts` as a series, in the order of the values."""
    pd = _pandas()
    index = pd.Index(state.column("token").to_pandas(), name="value")
    return pd.Series(state.column("count").to_numpy(), index=index, name="count")


def column_types(schema: pa.Schema) -> list[dict[str, Any]]:
    """Name and pandas dtype of each column, as of rows without nulls; a dictionary-encoded column by its values."""
    _pandas()
    plain = pa.schema([
        pa.field(f.name, f.type.value_type if pt.is_dictionary(f.type) else f.type) for f in schema
    ])
    dtypes = plain.empty_table().to_pandas().dtypes
    return [{"name": name, "type": dtype} for name, dtype in zip(plain.names, dtypes, strict=True)]

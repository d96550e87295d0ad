"""Whether two batches hold the same, give or take the last bits of floating-point numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

__all__ = ["ULPS", "difference"]

ULPS = 16
"""How many units in the last place two processors may differ: vectorised exp, log and sums are not the same on all."""


def difference(expected: pa.RecordBatch, got: pa.RecordBatch) -> str | None:
    """The first difference in words, or None. NaN equals NaN, null only null, and encodings do not matter.

    >>> a = pa.RecordBatch.from_pydict({"x": [1.0, float("nan")]})
    >>> difference(a, pa.RecordBatch.from_pydict({"x": [1.0 + 1e-15, float("nan")]}))
    >>> difference(a, pa.RecordBatch.from_pydict({"x": [1.0, 2.0]}))
    'x in row 1: expected nan, got 2.0'
    """
    if not expected.schema.equals(got.schema):
        return f"the columns are {_columns(got.schema)}, expected {_columns(expected.schema)}"
    for field, left, right in zip(expected.schema, expected.columns, got.columns, strict=True):
        slack = ULPS * _epsilon(field.type)
        for row, (a, b) in enumerate(zip(left.to_pylist(), right.to_pylist(), strict=True)):
            if not _same(a, b, slack):
                return f"{field.name} in row {row}: expected {a!r}, got {b!r}"
    return None


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name}: {f.type}" for f in schema)


def _epsilon(type_: pa.DataType) -> float:
    while hasattr(type_, "value_type"):
        type_ = type_.value_type
    if pt.is_float16(type_):
        return float(np.finfo(np.float16).eps)
    if pt.is_float32(type_):
        return float(np.finfo(np.float32).eps)
    return float(np.finfo(np.float64).eps)


def _same(a: Any, b: Any, slack: float) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=slack, abs_tol=slack)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y, slack) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k], slack) for k in a)
    return type(a) is type(b) and bool(a == b)

"""The transforms of numbers as nodes of an ONNX graph: what the batch path computes, in its order and in float64."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pyarrow as pa

from featuremill.transforms.bucketing import ApplyBuckets, ApplyBucketsWithInterpolation, Bucketize
from featuremill.transforms.imputation import Impute
from featuremill.transforms.numeric import Clip, LogTransform
from featuremill.transforms.onnx_graph import Column, Graph, Unsupported, physical_type, storage
from featuremill.transforms.scaling import ScaleToGaussian, ScaleToZScore
from featuremill.transforms.tukey import HALLEY_STEPS, SMALL

__all__ = ["buckets", "clip", "gaussian", "impute", "interpolation", "logarithm", "min_max", "z_score"]

Float = "float64"


# --- scaling ----------------------------------------------------------------------------------------------------------


def z_score(graph: Graph, op: ScaleToZScore, prepared: Any, column: Column) -> Column:
    """ScaleToZScore."""
    return graph.floats(*_z_score(graph, prepared, column), op.dtype, column)


def _z_score(graph: Graph, prepared: Any, column: Column) -> tuple[str, str]:
    """The tensor and its type."""
    (centre,), (spread,) = prepared.centre, prepared.spread
    moved = graph.op("Sub", graph.number(column), graph.constant(centre, Float))
    type_ = "float32" if prepared.in_single().all() else Float
    return graph.op("Div", graph.cast(moved, Float, type_), graph.constant(spread, type_)), type_


def min_max(graph: Graph, op: Any, prepared: Any, column: Column) -> Column:
    """ScaleTo01 and ScaleByMinMax."""
    (low,), (span,) = prepared.low, prepared.span
    x, start = graph.number(column), graph.constant(prepared.start, Float)
    size = graph.constant(prepared.end - prepared.start, Float)
    if span:
        moved = graph.op("Sub", x, graph.constant(low, Float))
        share = graph.op("Div", moved, graph.constant(span, Float))
    elif prepared.sigmoid:
        one = graph.constant(1.0, Float)
        share = graph.op("Div", one, graph.op("Add", one, graph.op("Exp", graph.op("Neg", x))))
    else:
        flat = graph.where(graph.op("IsNaN", x), x, start, Float)
        return graph.floats(flat, Float, op.dtype, column)
    return graph.floats(graph.op("Add", graph.op("Mul", share, size), start), Float, op.dtype, column)


def gaussian(graph: Graph, op: ScaleToGaussian, prepared: Any, column: Column) -> Column:
    """ScaleToGaussian."""
    (left,), (right,) = prepared.left, prepared.right
    scaled, type_ = _z_score(graph, prepared.scale, column)
    if left or right:
        scaled, type_ = _inverse(graph, graph.cast(scaled, type_, Float), float(left), float(right)), Float
    return graph.floats(scaled, type_, op.dtype, column)


def _inverse(graph: Graph, x: str, left: float, right: float) -> str:
    """:func:`featuremill.transforms.tukey.inverse`."""
    below = graph.op("Less", x, graph.constant(0.0, Float))
    h = graph.where(below, graph.constant(left, Float), graph.constant(right, Float), Float)
    argument = graph.op("Mul", h, graph.op("Mul", x, x))
    bends = graph.op("GreaterOrEqual", argument, graph.constant(SMALL, Float))
    one = graph.constant(1.0, Float)
    w = _lambert_w(graph, graph.where(bends, argument, one, Float))
    bent = graph.op("Sqrt", graph.op("Div", w, graph.where(bends, h, one, Float)))
    signed = graph.where(below, graph.op("Neg", bent), bent, Float)
    return graph.where(bends, signed, x, Float)


def _lambert_w(graph: Graph, argument: str) -> str:
    """:func:`featuremill.transforms.tukey.lambert_w`; the logarithms only give the starting point of the search."""
    one, two = graph.constant(1.0, Float), graph.constant(2.0, Float)
    infinite = graph.op("Equal", argument, graph.constant(np.inf, Float))
    x = graph.where(infinite, one, argument, Float)

    def log1p(value: str) -> str:
        return graph.op("Log", graph.op("Add", one, value))

    start = log1p(x)
    bend = graph.op("Div", log1p(start), graph.op("Add", two, start))
    w = graph.op("Mul", start, graph.op("Sub", one, bend))
    for _ in range(HALLEY_STEPS):
        error = graph.op("Sub", w, graph.op("Mul", x, graph.op("Exp", graph.op("Neg", w))))
        turn = graph.op("Mul", graph.op("Add", w, two), error)
        turn = graph.op("Div", turn, graph.op("Add", graph.op("Mul", two, w), two))
        slope = graph.op("Sub", graph.op("Add", w, one), turn)
        w = graph.op("Sub", w, graph.op("Div", error, slope))
    return graph.where(infinite, argument, w, Float)


# --- one by one -------------------------------------------------------------------------------------------------------


def clip(graph: Graph, _op: Clip, prepared: Any, column: Column) -> Column:
    """Clip."""
    tensor = column.tensor
    for limit, comparison in zip(prepared, ("Less", "Greater"), strict=True):
        if limit is not None:
            bound = graph.constant(limit, column.physical)
            tensor = graph.where(graph.op(comparison, tensor, bound), bound, tensor, column.physical)
    return Column(tensor, column.physical, column.nulls)


def logarithm(graph: Graph, op: LogTransform, _prepared: Any, column: Column) -> Column:
    """LogTransform; what has no logarithm becomes null, since a graph cannot set a row aside."""
    moved = graph.op("Add", graph.number(column), graph.constant(op.offset, Float))
    found = graph.op("Log", moved)
    if op.base != "e":
        found = graph.op("Div", found, graph.constant(log(float(op.base)), Float))
    invalid = graph.op("LessOrEqual", moved, graph.constant(0.0, Float))
    found = graph.where(invalid, graph.constant(np.nan, Float), found, Float)
    made = graph.floats(found, Float, op.dtype, column)
    return Column(made.tensor, made.physical, lambda: graph.either(column.nulls(), invalid))


def impute(graph: Graph, op: Impute, prepared: Any, column: Column) -> list[Column]:
    """Impute: the filled column, and where something was missing."""
    if not prepared.value.is_valid:
        raise Unsupported(f"the data had no value to take the {op.strategy} of, so there is none to fill in")
    if column.is_float and op.nan_as_missing:
        missing: str | None = graph.op("IsNaN", column.tensor)
    else:
        missing = column.nulls()
    physical = physical_type(prepared.leaf)
    filled = graph.cast(column.tensor, column.physical, physical)
    if missing is None:
        flag = graph.as_rows(graph.constant(False, "bool"), column.tensor)
    else:
        fill = graph.constant(_plain(prepared.value), physical)
        filled = graph.where(missing, fill, filled, physical)
        flag = graph.as_rows(missing, column.tensor)
    return [Column(filled, physical), Column(flag, "bool")]


def _plain(value: pa.Scalar) -> Any:
    """A scalar as what a tensor holds for it."""
    return storage(pa.array([value], value.type))[0].as_py()


# --- buckets ----------------------------------------------------------------------------------------------------------


def buckets(graph: Graph, _op: Bucketize | ApplyBuckets, prepared: Any, column: Column) -> Column:
    """Bucketize and ApplyBuckets."""
    return Column(_bucket(graph, graph.number(column), prepared, column), "int64", column.nulls)


def _bucket(graph: Graph, x: str, boundaries: Any, column: Column) -> str:
    """How many boundaries are at or below each value; all of them for NaN."""
    count = len(boundaries)
    if not count:
        return graph.as_rows(graph.constant(0, "int64"), x)
    axis = graph.constant([1], "int64")
    passed = graph.op("GreaterOrEqual", graph.op("Unsqueeze", x, axis), graph.constant(boundaries, Float))
    found = graph.op("ReduceSum", graph.cast(passed, "bool", "int64"), axis, keepdims=0)
    if column.is_float:
        found = graph.where(graph.op("IsNaN", x), graph.constant(count, "int64"), found, "int64")
    return found


def interpolation(graph: Graph, _op: ApplyBucketsWithInterpolation, prepared: Any, column: Column) -> Column:
    """ApplyBucketsWithInterpolation."""
    x, count = graph.number(column), len(prepared)
    found = _bucket(graph, x, prepared, column)
    place = graph.cast(found, "int64", Float)
    if count > 1:
        place = graph.op("Div", _place(graph, x, found, prepared), graph.constant(count - 1, Float))
    if column.is_float:
        place = graph.where(graph.op("IsNaN", x), graph.constant(0.5, Float), place, Float)
    return graph.floats(place, Float, "float32", column, nan_is_value=True)


def _place(graph: Graph, x: str, found: str, boundaries: Any) -> str:
    """From 0 at the first boundary to one less than their number at the last."""
    one, last = graph.constant(1, "int64"), graph.constant(len(boundaries) - 1, "int64")
    inside = graph.op("Min", graph.op("Max", found, one), last)
    before = graph.op("Sub", inside, one)
    table = graph.constant(boundaries, Float)
    low, high = graph.op("Gather", table, before), graph.op("Gather", table, inside)
    share = graph.op("Div", graph.op("Sub", x, low), graph.op("Sub", high, low))
    place = graph.op("Add", graph.cast(before, "int64", Float), share)
    top = graph.op("Greater", found, last)
    place = graph.where(top, graph.constant(len(boundaries) - 1, Float), place, Float)
    return graph.where(graph.op("Less", found, one), graph.constant(0.0, Float), place, Float)

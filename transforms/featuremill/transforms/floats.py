"""What the numeric families share: columns as float64, results as declared types, and the same for single rows.

Arithmetic is done in float64 and rounded once to the declared type. A batch and a single row go through the same
operations in the same order, so that they agree to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_float
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from featuremill.transforms.arrays import (
    from_numpy,
    is_list,
    is_numeric,
    map_leaves,
    to_float64,
    value_type,
)
from featuremill.transforms.contract import RowFunction, State, Transform

__all__ = [
    "FLOAT_TYPES",
    "FloatType",
    "check_choice",
    "check_flag",
    "check_number",
    "check_numeric_column",
    "map_numbers",
    "numbers_by_position",
    "over_lists",
    "over_positions",
    "rounder",
    "rows_where",
    "statistic",
    "width",
]

Float64 = npt.NDArray[np.float64]
Kernel = Callable[[Float64], npt.NDArray[Any]]
Mask = Callable[[Float64], npt.NDArray[np.bool_]]

FloatType = Literal["float32", "float64"]
FLOAT_TYPES = {"float32": pa.float32(), "float64": pa.float64()}


def check_choice(transform: Transform, parameter: str, got: object, choices: tuple[str, ...]) -> None:
    """Refuse a parameter that is none of `choices`."""
    if got not in choices:
        raise transform.wrong(parameter, got, " or ".join(repr(c) for c in choices))


def check_number(transform: Transform, parameter: str, got: object) -> float:
    """A parameter as a finite float, or the error for what is none."""
    if isinstance(got, bool) or not isinstance(got, int | float):
        raise transform.wrong(parameter, got, "a number (an int or a float)", wrong_type=True)
    if not np.isfinite(got):
        raise transform.wrong(parameter, got, "a finite number")
    return float(got)


def check_flag(transform: Transform, parameter: str, got: object) -> None:
    """Refuse a parameter that is neither True nor False."""
    if not isinstance(got, bool):
        raise transform.wrong(parameter, got, "True or False", wrong_type=True)


def check_numeric_column(transform: Transform, column: pa.Field, *, elementwise: bool = False) -> None:
    """Refuse a column that does not hold numbers, or with `elementwise`, fixed-size lists of them."""
    if not is_numeric(column.type):
        raise transform.wrong_column(column, "numbers, or lists of them")
    if elementwise and not (pt.is_fixed_size_list(column.type) and not is_list(value_type(column.type.value_type))):
        raise transform.wrong_column(column, "a fixed-size list of numbers, because elementwise=True")


def width(type_: pa.DataType, elementwise: bool) -> int:
    """For how many positions there are statistics: the size of the lists, or one for all values together."""
    return int(type_.list_size) if elementwise else 1


def statistic(state: State | None, name: str, size: int, *, default: float) -> Float64:
    """One number per position of a state, shape (size,), `default` where it is null or there was no data."""
    found = np.full(size, default)
    if state is not None and state.num_rows:
        found[:] = state.column(name).fill_null(default).to_numpy()
    return found


def numbers_by_position(array: pa.Array, elementwise: bool) -> list[tuple[Float64, int]]:
    """The numbers of a column as a statistic sees them: for each position, the valid ones and how many are null.

    Without `elementwise` there is one position that holds the leaves of all lists; a null list counts as one null.
    With it, `array` is a fixed-size list, and a null list is a null at every position. NaN is a number here.
    """
    if not elementwise:
        nulls, inner = 0, array
        while is_list(inner.type):
            nulls += inner.null_count
            inner = inner.flatten()
        values, valid = to_float64(inner)
        return [(values if valid is None else values[valid], nulls + _invalid(valid))]
    size = array.type.list_size
    values, valid = to_float64(array.values.slice(array.offset * size, len(array) * size))
    if array.null_count:
        rows = np.repeat(array.is_valid().to_numpy(zero_copy_only=False), size)
        valid = rows if valid is None else rows & valid
    found = []
    for position in range(size):
        column = np.ascontiguousarray(values[position::size])
        kept = None if valid is None else valid[position::size]
        found.append((column if kept is None else column[kept], _invalid(kept)))
    return found


def _invalid(valid: npt.NDArray[np.bool_] | None) -> int:
    return 0 if valid is None else len(valid) - int(np.count_nonzero(valid))


def map_numbers(
    array: pa.Array, kernel: Kernel, type_: pa.DataType, *, size: int | None = None, to_null: Mask | None = None
) -> pa.Array:
    """`kernel` over the numbers inside a column, lists and nulls kept, the results of the leaf type `type_`.

    Parameters
    ----------
    array
        Numbers or lists of them, dictionary-encoded or not.
    kernel
        From float64 to numbers of the same shape. Null slots hold arbitrary numbers; what it makes of them is dropped.
    type_
        The type of the result's leaves; floats are rounded to it, beyond its range to infinity.
    size
        With it the kernel sees shape (n, size), for fixed-size lists treated by position; else shape (n,).
    to_null
        Which numbers become null, from the same input.
    """

    def on_leaves(leaf: pa.Array) -> pa.Array:
        if pt.is_dictionary(leaf.type) and size is None:
            return on_leaves(leaf.dictionary).take(leaf.indices)
        values, valid = to_float64(leaf)
        with np.errstate(all="ignore"):
            if to_null is not None:
                kept = ~to_null(values)
                valid = kept if valid is None else valid & kept
            made = kernel(values if size is None else values.reshape(-1, size)).reshape(-1)
            if pt.is_floating(type_):
                made = made.astype(type_.to_pandas_dtype(), copy=False)
        return from_numpy(made, valid, type_)

    return map_leaves(array, on_leaves)


def rows_where(array: pa.Array, wrong: Mask) -> list[int]:
    """The positions of the rows, ascending, that hold a valid number, at any depth, for which `wrong` is true."""
    rows = np.arange(len(array))
    while is_list(array.type):
        lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        rows = np.repeat(rows, lengths)
        array = array.flatten()
    values, valid = to_float64(array)
    with np.errstate(all="ignore"):
        found = wrong(values)
    if valid is not None:
        found = found & valid
    return [int(row) for row in np.unique(rows[found])]


def rounder(type_: pa.DataType) -> Callable[[float], float]:
    """A function that rounds a float to the type, as :func:`map_numbers` does, and gives it as a Python float.

    >>> rounder(pa.float32())(0.1), rounder(pa.float32())(1e300)
    (0.10000000149011612, inf)
    """
    if pt.is_float32(type_):
        return lambda value: c_float(value).value
    return float


def over_lists(function: RowFunction, type_: pa.DataType, *, decimals: bool = False) -> RowFunction:
    """A row function for a column of numbers from one for a single number (or None): lists are gone through.

    A decimal comes to `function` as a float, or with `decimals` as it is.
    """
    type_ = value_type(type_)
    if is_list(type_):
        inner = over_lists(function, type_.value_type, decimals=decimals)
        return lambda value: None if value is None else [inner(v) for v in value]
    if pt.is_decimal(type_) and not decimals:
        # Python and Arrow may round a decimal to different neighbours; a batch uses Arrow.
        return lambda value: function(
            None if value is None else pa.scalar(value, type_).cast(pa.float64(), safe=False).as_py()
        )
    return function


def over_positions(functions: list[RowFunction]) -> RowFunction:
    """A row function for a fixed-size list with a function of its own for each position."""
    return lambda values: (
        None if values is None else [function(v) for function, v in zip(functions, values, strict=True)]
    )

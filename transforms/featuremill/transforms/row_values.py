"""Values made to fit a column's type, where nothing is lost: whole columns, and single values for the single-row path.

A number fits a column of numbers, a text one of texts, a time one of times; no text is read as a number or a time, and
none is made of them, since systems differ in how they write these. A single value fits a column of lists, as the list
of it: Beam's rows mix the two.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import RequestError
from featuremill.transforms.arrays import is_list, is_numeric, is_text, leaf_type, replace_leaf_type, value_type

__all__ = ["conform", "plain_type", "row_reader"]

_FLOAT32 = Struct("f")


def conform(array: pa.Array, field: pa.Field) -> pa.Array:
    """A column as the type of `field` says, shape (n_rows,); one that is of it, or dictionary-encoded, stays as it is.

    Raises
    ------
    RequestError
        When values are of another kind, or would lose something.

    >>> conform(pa.array([1, None]), pa.field("x", pa.float64())).to_pylist()
    [1.0, None]
    >>> conform(pa.array(["1"]), pa.field("x", pa.float64()))
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.RequestError: The column 'x' is string, expected double.
    """
    if array.type == field.type or value_type(array.type) == value_type(field.type):
        return array
    what = f"The column {field.name!r} is {array.type}, expected {field.type}"
    if not _same_kind(array.type, field.type):
        raise RequestError(f"{what}.", column=field.name)
    try:
        if pt.is_dictionary(array.type):
            array = array.dictionary_decode()
        if is_list(field.type) and not is_list(array.type) and not pt.is_null(array.type):
            array = _each_a_list(array)
        return array.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise RequestError(f"{what}: {error}.", column=field.name) from error


def _each_a_list(array: pa.Array) -> pa.Array:
    offsets = pa.array(np.arange(len(array) + 1, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, array, mask=array.is_null() if array.null_count else None)


def _same_kind(one: pa.DataType, other: pa.DataType) -> bool:
    if is_list(one) and not is_list(other):
        return False
    one, other = leaf_type(one), leaf_type(other)
    if pt.is_null(one):
        return True
    kinds = (is_numeric, is_text, pt.is_temporal)
    return all(is_kind(one) == is_kind(other) for is_kind in kinds)


def plain_type(type_: pa.DataType) -> pa.DataType:
    """The type without dictionaries and list views, which Arrow cannot make of everything; Python sees no difference.

    >>> plain_type(pa.dictionary(pa.int8(), pa.date32()))
    DataType(date32[day])
    """
    type_ = value_type(type_)
    return replace_leaf_type(type_, leaf_type(type_)) if is_list(type_) else type_


def row_reader(field: pa.Field) -> Callable[[Any], Any]:
    """A function from any acceptable Python value to the one that Arrow would hold for `field`; None stays None.

    Common values of common types take a path of one comparison; everything else goes through :func:`conform`.

    >>> row_reader(pa.field("x", pa.float32()))(0.1)
    0.10000000149011612
    >>> row_reader(pa.field("x", pa.int64()))("12")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.RequestError: x: '12' (str) does not fit int64.
    """
    type_ = plain_type(field.type)
    nested = pt.is_struct(leaf_type(type_)) or pt.is_map(leaf_type(type_))
    plain = pa.field(field.name, type_)

    def inferred(value: Any) -> pa.Array:
        try:
            return pa.array([value])
        except OverflowError:
            # Arrow takes integers for int64; beyond it, only the type tells what they fit.
            array = pa.array([value], type_)
            if array.to_pylist() != [value]:
                raise
            return array

    def general(value: Any) -> Any:
        try:
            # What Arrow makes of a struct's dict depends on the dict; only the type tells what is in it.
            return (pa.array([value], type_) if nested else conform(inferred(value), plain))[0].as_py()
        except (pa.ArrowException, RequestError, OverflowError, TypeError, ValueError) as error:
            raise RequestError(
                f"{field.name}: {value!r} ({type(value).__name__}) does not fit {type_}.", column=field.name
            ) from error

    if pt.is_integer(type_):
        bits = type_.bit_width
        low, end = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if pt.is_signed_integer(type_) else (0, 2**bits)

        def read_int(value: Any) -> Any:
            if value is None or (value.__class__ is int and low <= value < end):
                return value
            return general(value)

        return read_int
    if pt.is_float32(type_):
        def read_float32(value: Any) -> Any:
            if value.__class__ is float and -3e38 < value < 3e38:
                return _FLOAT32.unpack(_FLOAT32.pack(value))[0]
            return None if value is None else general(value)

        return read_float32
    quick = _quick_class(type_)

    def read(value: Any) -> Any:
        return value if value is None or value.__class__ is quick else general(value)

    return read


def _quick_class(type_: pa.DataType) -> type | None:
    """The class whose values Arrow holds as they are."""
    if pt.is_float64(type_):
        return float
    if pt.is_string(type_) or pt.is_large_string(type_):
        return str
    return bool if pt.is_boolean(type_) else None

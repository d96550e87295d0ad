"""Single Python values made to fit a column's type, as Arrow would: the entrance of the single-row path."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import RequestError
from featuremill.transforms.arrays import value_type

__all__ = ["row_reader"]

_FLOAT32 = struct.Struct("f")


def row_reader(field: pa.Field) -> Callable[[Any], Any]:
    """A function from any acceptable Python value to the one that Arrow would hold for `field`; None stays None.

    Common values of common types take a path of one comparison; everything else is asked of Arrow.

    >>> row_reader(pa.field("x", pa.float32()))(0.1)
    0.10000000149011612
    >>> row_reader(pa.field("x", pa.int64()))("12")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.RequestError: x: '12' (str) does not fit int64.
    """
    type_ = value_type(field.type)
    if pt.is_float64(type_):
        quick: type | None = float
    elif pt.is_string(type_) or pt.is_large_string(type_):
        quick = str
    elif pt.is_int64(type_):
        quick = int
    elif pt.is_boolean(type_):
        quick = bool
    else:
        quick = None
    bound = 2**63

    def general(value: Any) -> Any:
        try:
            # Given the type, Arrow cuts 1.5 down to an integer; a cast from what it infers refuses, as the batch path does.
            scalar = pa.scalar(value).cast(type_) if isinstance(value, float) else pa.scalar(value, type_)
            return scalar.as_py()
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
            raise RequestError(
                f"{field.name}: {value!r} ({type(value).__name__}) does not fit {type_}.", column=field.name
            ) from error

    if quick is int:
        def read_int(value: Any) -> Any:
            if value is None or (value.__class__ is int and -bound <= value < bound):
                return value
            return general(value)

        return read_int
    if pt.is_float32(type_):
        def read_float32(value: Any) -> Any:
            if value.__class__ is float and -3e38 < value < 3e38:
                return _FLOAT32.unpack(_FLOAT32.pack(value))[0]
            return None if value is None else general(value)

        return read_float32
    if quick is None:
        return lambda value: None if value is None else general(value)

    def read(value: Any) -> Any:
        return value if value is None or value.__class__ is quick else general(value)

    return read

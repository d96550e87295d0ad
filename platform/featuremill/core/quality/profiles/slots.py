"""The numbers of Arrow arrays as they lie in memory, nulls apart: leaving these out costs more than counting does."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

__all__ = ["numbers_of", "slots_of", "valid_of", "zeroed"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


def numbers_of(array: pa.Array) -> tuple[Int64 | Float64 | Float32, Bool | None]:
    """The numbers of an array and which are not null (None: all).

    int64 for whole numbers, float32 as it is, all others as float64.
    """
    type_ = array.type
    if not any(is_type(type_) for is_type in (pt.is_int64, pt.is_float64, pt.is_float32)):
        whole = pt.is_boolean(type_) or (pt.is_integer(type_) and not pt.is_uint64(type_))
        array = pc.cast(array, pa.int64() if whole else pa.float64(), safe=False)
    return slots_of(array), valid_of(array)


def slots_of(array: pa.Array) -> npt.NDArray[Any]:
    """The numbers of an array of fixed width as they lie in memory; where it is null, whatever is there."""
    kind, end = array.type.to_pandas_dtype(), array.offset + len(array)
    return np.frombuffer(array.buffers()[1], kind, count=end)[array.offset :] if len(array) else np.zeros(0, kind)


def valid_of(array: pa.Array) -> Bool | None:
    """Which values of an array are not null; None: all of them."""
    if not array.null_count:
        return None
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    # Eight times as fast as Arrow's own way.
    return np.unpackbits(bits, count=array.offset + len(array), bitorder="little")[array.offset :].view(np.bool_)


def zeroed(values: Any, valid: Bool) -> Any:
    """The values with zeros where they are not valid, whatever is there."""
    # By bits, since NaN times zero is NaN; and by a product, which does not care in what order nulls come.
    bits = values.view(np.int32 if values.itemsize == 4 else np.int64)
    return np.multiply(bits, valid, dtype=bits.dtype).view(values.dtype)

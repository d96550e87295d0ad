"""Single values of columns as NumPy arrays of the type that a model wants.

What a list holds is here too, once its lists are taken off; :mod:`featuremill.core.models.lists` puts them into shape.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import ParameterError
from featuremill.transforms.arrays import value_type

__all__ = ["TEXT", "Nulls", "bad_leaves", "check_leaf", "leaf_array", "natural_dtype", "parse_dtype"]

Nulls = Literal["nan", "reject", "zero"]
Bool = npt.NDArray[np.bool_]
TEXT = np.dtype(object)
"""Texts travel as Python strings, as ONNX Runtime, TensorFlow and scikit-learn want them."""

TEXT_NAMES = ("object", "str", "string")
HALF, SINGLE, DOUBLE = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)


def parse_dtype(name: str) -> np.dtype[Any]:
    """NumPy's type of a name; texts are objects.

    Raises
    ------
    ParameterError
        For a name of no number, boolean or text.

    >>> parse_dtype("float32"), parse_dtype("string")
    (dtype('float32'), dtype('O'))
    >>> parse_dtype("complex64")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: dtype got 'complex64', expected a NumPy name such as float32, float64,
    int64, bool or object (text).
    """
    if name in TEXT_NAMES:
        return TEXT
    try:
        found = np.dtype(name)
    except TypeError:
        found = None
    if found is None or found.kind not in "fiub":
        raise ParameterError(
            f"dtype got {name!r}, expected a NumPy name such as float32, float64, int64, bool or object (text).",
            parameter="dtype", value=name,
        )
    return found


def natural_dtype(leaf: pa.DataType) -> np.dtype[Any] | None:
    """The type of a column's values in NumPy; None for a type that is no input of a model.

    >>> natural_dtype(pa.decimal128(9, 2)), natural_dtype(pa.date32())
    (dtype('float64'), None)
    """
    leaf = value_type(leaf)
    if pt.is_boolean(leaf):
        return np.dtype(bool)
    if pt.is_integer(leaf) or pt.is_floating(leaf):
        number: np.dtype[Any] = np.dtype(leaf.to_pandas_dtype())
        return number
    if pt.is_decimal(leaf) or pt.is_null(leaf):
        return DOUBLE
    if pt.is_string(leaf) or pt.is_large_string(leaf) or pt.is_string_view(leaf):
        return TEXT
    if pt.is_binary(leaf) or pt.is_large_binary(leaf) or pt.is_fixed_size_binary(leaf) or pt.is_binary_view(leaf):
        return TEXT
    return None


def check_leaf(leaf: pa.DataType, wanted: np.dtype[Any]) -> str | None:
    """What stands against giving values of a type to a model that wants `wanted`; None: nothing does.

    Numbers become wider or floating-point numbers; floating-point numbers become integers only in a transform, where
    it is said how they are rounded.

    >>> check_leaf(pa.int64(), np.dtype("float32"))
    >>> check_leaf(pa.float64(), np.dtype("int64"))
    'it holds double, and the model wants int64; make it integers in a transform'
    """
    has = natural_dtype(leaf)
    leaf = value_type(leaf)
    if has is None:
        return f"it holds {leaf}, expected numbers, booleans or texts; turn it into one of them in a transform"
    if (has == TEXT) != (wanted == TEXT) and not pt.is_null(leaf):
        other = "texts" if wanted == TEXT else f"{wanted}"
        return f"it holds {leaf}, and the model wants {other}; look the values up or convert them in a transform"
    if has.kind == "f" and wanted.kind in "iu" and not pt.is_null(leaf):
        return f"it holds {leaf}, and the model wants {wanted}; make it integers in a transform"
    if wanted.kind == "b" and has.kind != "b" and not pt.is_null(leaf):
        return f"it holds {leaf}, and the model wants booleans; compare it in a transform"
    return None


def bad_leaves(array: pa.Array, wanted: np.dtype[Any], nulls: Nulls) -> list[tuple[Bool, str]]:
    """Which values cannot be given to the model, and why: masks of shape (n,), mostly none at all."""
    found = []
    null_count = array.null_count or (array.dictionary.null_count if pt.is_dictionary(array.type) else 0)
    if null_count and (nulls == "reject" or (nulls == "nan" and wanted.kind != "f")):
        why = "it is null" if nulls == "reject" else f"it is null, for which {_what(wanted)} have no value"
        found.append((_is_null(array), why))
    has = natural_dtype(array.type)
    if has is not None and has.kind in "iu" and wanted.kind in "iu" and not np.can_cast(has, wanted):
        outside = _outside(array, wanted)
        if outside is not None:
            found.append((outside, f"it is beyond the range of {wanted}"))
    return found


def _what(wanted: np.dtype[Any]) -> str:
    return "texts" if wanted == TEXT else "booleans" if wanted.kind == "b" else "integers"


def _is_null(array: pa.Array) -> Bool:
    nulls: Bool = pc.is_null(_plain(array)).to_numpy(zero_copy_only=False)
    return nulls


def _outside(array: pa.Array, wanted: np.dtype[Any]) -> Bool | None:
    values = leaf_array(array, wanted=None, nulls="zero")
    if not len(values):
        return None
    limits = np.iinfo(wanted)
    low, high = int(values.min()), int(values.max())
    if low >= limits.min and high <= limits.max:
        return None
    # By Python's integers: NumPy would compare int64 with uint64 as float64.
    mask: Bool = np.zeros(len(values), dtype=bool)
    if low < limits.min:
        mask |= values < limits.min
    if high > limits.max:
        mask |= values > limits.max
    return mask


def _plain(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pt.is_dictionary(array.type) else array


def leaf_array(array: pa.Array, wanted: np.dtype[Any] | None, nulls: Nulls) -> npt.NDArray[Any]:
    """The values as an array of shape (n,), a view of Arrow's memory where types allow.

    Parameters
    ----------
    array
        No list. What :func:`bad_leaves` names is not in it any more.
    wanted
        The type; None: the column's own, in which nulls of integers are not to be had.
    nulls
        "zero": 0, False and the empty text; else NaN.
    """
    if pt.is_dictionary(array.type) and natural_dtype(array.type) == TEXT and not array.dictionary.null_count:
        return _decoded_texts(array)
    array = _plain(array)
    if pt.is_null(array.type):
        return _of_nothing(len(array), wanted, nulls)
    if pt.is_decimal(array.type):
        array = array.cast(pa.float64(), safe=False)
    if array.null_count:
        array = _without_nulls(array, nulls)
    values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    if wanted is None or values.dtype == wanted:
        return values
    # What is beyond the range of float32 is infinite in it.
    with np.errstate(over="ignore"):
        return values.astype(wanted)


def _of_nothing(rows: int, wanted: np.dtype[Any] | None, nulls: Nulls) -> npt.NDArray[Any]:
    if wanted == TEXT:
        return np.full(rows, "", dtype=object)
    return np.full(rows, 0 if nulls == "zero" else np.nan, dtype=wanted or DOUBLE)


def _without_nulls(array: pa.Array, nulls: Nulls) -> pa.Array:
    if nulls == "zero":
        text = natural_dtype(array.type) == TEXT
        if pt.is_fixed_size_binary(array.type):
            array = array.cast(pa.binary())
        return array.fill_null(pa.scalar("" if text else 0, pa.string() if text else pa.int8()).cast(array.type))
    # Arrow makes NaN of the nulls of numbers by itself, but objects of those of booleans.
    return array.cast(pa.int8()) if pt.is_boolean(array.type) else array


def _decoded_texts(array: pa.Array) -> npt.NDArray[Any]:
    texts = np.append(array.dictionary.to_numpy(zero_copy_only=False), [""]).astype(object)
    indices = array.indices
    if indices.null_count:
        indices = indices.cast(pa.int64()).fill_null(len(texts) - 1)
    decoded: npt.NDArray[Any] = texts[indices.to_numpy(zero_copy_only=False)]
    return decoded

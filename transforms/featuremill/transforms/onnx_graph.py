"""An ONNX graph in the making: tensors by name, constants, and columns with their nulls.

ONNX knows no nulls. A column is therefore a tensor of shape (rows,), and where it may be null, a boolean tensor beside
it that says where. Columns of floats hold NaN where they are null; what other tensors hold there means nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import MissingExtraError
from featuremill.transforms.arrays import is_list, value_type

__all__ = [
    "IR_VERSION",
    "IS_NULL",
    "METADATA",
    "ML",
    "ML_OPSET",
    "REPLACED",
    "Column",
    "Graph",
    "Unsupported",
    "element_type",
    "onnx_module",
    "physical_type",
    "storage",
]

IS_NULL = "__is_null"
"""What the name of a column's nulls ends with."""

REPLACED = "__out"
"""What an output is called after its column where an input has that name already."""

METADATA = "featuremill."
"""What the keys of the metadata begin with."""

ML = "ai.onnx.ml"
LEAST_OPSET, TEXT_OPSET = 13, 20
"""The oldest operator set in which all operators look as they are written here, and the first with StringConcat."""
ML_OPSET, IR_VERSION = 3, 9

ROWS = "rows"

# ONNX Runtime chooses between two tensors of these types only by way of others.
_CHOSEN_AS = {"bool": "uint8", "int16": "int32", "uint16": "int32", "uint64": "int64"}

Nulls = Callable[[], str | None]


class Unsupported(Exception):
    """Why something has no place in an ONNX graph: on its way to the one error that names all of these."""


@cache
def onnx_module() -> Any:
    """The package ``onnx``.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(
            'ONNX graphs need the package onnx: pip install "featuremill[onnx]".', package="onnx"
        ) from error
    return onnx


def physical_type(type_: pa.DataType) -> str:
    """The NumPy name of what a tensor holds for an Arrow type; ``str`` for text, days or ticks for dates and times.

    >>> physical_type(pa.float32()), physical_type(pa.date32()), physical_type(pa.dictionary(pa.int8(), pa.string()))
    ('float32', 'int32', 'str')
    >>> physical_type(pa.binary())
    Traceback (most recent call last):
    ...
    featuremill.transforms.onnx_graph.Unsupported: ONNX has no tensors of binary
    """
    type_ = value_type(type_)
    if is_list(type_):
        raise Unsupported(f"a column is a tensor of one value per row here, and this one holds lists ({type_})")
    if pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_):
        return "str"
    if pt.is_boolean(type_):
        return "bool"
    if pt.is_integer(type_) or pt.is_floating(type_):
        return str(np.dtype(type_.to_pandas_dtype()).name)
    if pt.is_date32(type_):
        return "int32"
    if pt.is_date64(type_) or pt.is_timestamp(type_):
        return "int64"
    raise Unsupported(f"ONNX has no tensors of {type_}")


def storage(array: pa.Array) -> pa.Array:
    """Dates and times as the integers that stand for them, other values as they are.

    >>> storage(pa.array([1], pa.date32())).type
    DataType(int32)
    """
    if not pt.is_temporal(array.type):
        return array
    return array.view(pa.int32() if pt.is_date32(array.type) else pa.int64())


def element_type(physical: str) -> int:
    """ONNX's number for a type of :func:`physical_type`.

    >>> element_type("float64")
    11
    """
    onnx = onnx_module()
    if physical == "str":
        return int(onnx.TensorProto.STRING)
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(physical)))


def no_nulls() -> None:
    """The nulls of a column without any."""


@dataclass(frozen=True)
class Column:
    """A column within a graph."""

    tensor: str
    """Shape (rows,), or (rows, width)."""
    physical: str
    nulls: Nulls = no_nulls
    """Gives the name of a boolean tensor that is true where the column is null, shape (rows,) or (1,); None: nowhere.

    A function, since a column of floats gets an input for its nulls only when something tells them from NaN.
    """
    width: int | None = None

    @property
    def is_float(self) -> bool:
        """Whether it says by itself, by NaN, where it is null."""
        return self.physical.startswith("float")


class Graph:
    """Nodes, constants and inputs, added to as columns are transformed.

    Parameters
    ----------
    columns
        The names of all columns that there are.
    reserved
        Other names that are taken.
    """

    def __init__(self, columns: Iterable[str], *, reserved: Iterable[str] = ()) -> None:
        self.nodes: list[Any] = []
        self.inputs: dict[str, Any] = {}
        self.constants: dict[str, Any] = {}
        self.opset = LEAST_OPSET
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._columns = set(columns)
        self._taken = self._columns.union(reserved)
        self._count = 0

    # --- tensors

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node with one output, whose name is returned."""
        if kind == "StringConcat":
            self.opset = max(self.opset, TEXT_OPSET)
        name = self._fresh(kind)
        self.nodes.append(onnx_module().helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def constant(self, value: Any, physical: str) -> str:
        """A constant: a scalar or, from a sequence, a vector."""
        if physical == "str":
            array = np.asarray(value, object)
            raw = repr(array.tolist()).encode()
        else:
            array = np.asarray(value, physical)
            raw = array.tobytes()
        key = (physical, array.shape, raw)
        if key not in self._known:
            name = self._fresh("constant")
            self.constants[name] = onnx_module().numpy_helper.from_array(array, name)
            self._known[key] = name
        return self._known[key]

    def cast(self, tensor: str, physical: str, to: str) -> str:
        """The tensor as another type; itself where it is that already."""
        return tensor if physical == to else self.op("Cast", tensor, to=element_type(to))

    def where(self, condition: str, yes: str, no: str, physical: str) -> str:
        """`yes` where the condition holds, else `no`; both of the type `physical`."""
        by = _CHOSEN_AS.get(physical, physical)
        chosen = self.op("Where", condition, self.cast(yes, physical, by), self.cast(no, physical, by))
        return self.cast(chosen, by, physical)

    def as_rows(self, tensor: str, like: str) -> str:
        """A tensor of shape (rows,) or (1,), or a scalar, in the shape of `like`, (rows,)."""
        return self.op("Expand", tensor, self.op("Shape", like))

    def either(self, *tensors: str | None) -> str | None:
        """True where any of the booleans is; None for none."""
        found = [t for t in tensors if t is not None]
        if not found:
            return None
        result = found[0]
        for other in found[1:]:
            result = self.op("Or", result, other)
        return result

    # --- columns

    def source(self, name: str, type_: pa.DataType) -> Column:
        """A column of the source: an input of the graph, and another, which may be left out, for its nulls."""
        physical = physical_type(type_)
        helper = onnx_module().helper
        self.inputs[name] = helper.make_tensor_value_info(name, element_type(physical), [ROWS])
        return Column(name, physical, cache(lambda: self._nulls_of(name)))

    def _nulls_of(self, name: str) -> str:
        found = name + IS_NULL
        if found in self._columns:
            raise Unsupported(f"there is a column {found!r}, which is what the nulls of {name!r} are to be called")
        helper, boolean = onnx_module().helper, element_type("bool")
        # As many as there are rows, or one where it is left out: a size of its own, since ONNX Runtime shares memory
        # between tensors whose sizes have one name.
        self.inputs[found] = helper.make_tensor_value_info(found, boolean, [f"{found}_{ROWS}"])
        # An input that a constant stands in for may be left out.
        self.constants[found] = helper.make_tensor(found, boolean, [1], [False])
        return found

    def number(self, column: Column) -> str:
        """A column of numbers as float64."""
        return self.cast(column.tensor, column.physical, "float64")

    def floats(self, tensor: str, physical: str, to: str, column: Column, *, nan_is_value: bool = False) -> Column:
        """A result of the floating-point type `to`, NaN where `column`, which it was made of, is null.

        With `nan_is_value` the result for a NaN is a number, so that nulls have to be told apart also in floats.
        """
        result = self.cast(tensor, physical, to)
        if not column.is_float or nan_is_value:
            nulls = column.nulls()
            if nulls is not None:
                result = self.where(nulls, self.constant(np.nan, to), result, to)
        return Column(result, to, column.nulls)

    def _fresh(self, kind: str) -> str:
        while True:
            self._count += 1
            name = f"{kind}_{self._count}"
            if name not in self._taken:
                return name

    # --- the result

    def finish(self, outputs: dict[str, Column], name: str) -> Any:
        """The graph with the outputs by name, as a ``GraphProto``; what they do not need is left out.

        A column that is no float, and may be null, has its nulls as one more output.
        """
        results = dict(outputs)
        for output, column in outputs.items():
            nulls = None if column.is_float or column.width is not None else column.nulls()
            if nulls is not None:
                if output + IS_NULL in self._columns | set(outputs):
                    raise Unsupported(f"there is a column {output + IS_NULL!r} beside {output!r}, whose nulls it names")
                results[output + IS_NULL] = Column(self.as_rows(nulls, column.tensor), "bool")
        rename: dict[str, str] = {}
        made = {n.output[0] for n in self.nodes}
        for output, column in results.items():
            tensor = column.tensor
            if tensor not in made or tensor in rename:
                tensor = self.op("Identity", tensor)
            rename[tensor] = output
        nodes = self._needed(set(rename))
        for node in nodes:
            for names in (node.input, node.output):
                names[:] = [rename.get(n, n) for n in names]
        used = {n for node in nodes for n in node.input}
        helper = onnx_module().helper
        return helper.make_graph(
            nodes,
            name,
            [value for n, value in self.inputs.items() if n in used],
            [
                helper.make_tensor_value_info(n, element_type(c.physical), [ROWS] + [c.width] * (c.width is not None))
                for n, c in results.items()
            ],
            initializer=[tensor for n, tensor in self.constants.items() if n in used],
        )

    def _needed(self, tensors: set[str]) -> list[Any]:
        """The nodes that the tensors depend on, in order."""
        kept = []
        for node in reversed(self.nodes):
            if node.output[0] in tensors:
                kept.append(node)
                tensors = tensors | set(node.input)
        return kept[::-1]

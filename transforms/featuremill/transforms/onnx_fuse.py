"""Transforms and a model as one ONNX graph: raw columns in, predictions out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from featuremill.artifacts.errors import ColumnTypeError, ParameterError, suggest
from featuremill.artifacts.reader import Artifact
from featuremill.transforms.onnx_columns import add_columns, refusal
from featuremill.transforms.onnx_export import about
from featuremill.transforms.onnx_graph import (
    IR_VERSION,
    IS_NULL,
    ML,
    ML_OPSET,
    REPLACED,
    Column,
    Graph,
    Unsupported,
    onnx_module,
)

__all__ = ["fuse"]

Mapped = Mapping[str, str | Sequence[str]]


def fuse(artifact: Artifact, model: Any, inputs: Mapped | None = None) -> Any:
    """An artifact's transforms and an ONNX model as one graph, from raw columns to the model's outputs.

    The graph's inputs are those of :func:`featuremill.transforms.onnx_export.export` for the columns that the model
    reads; its outputs are the model's, in whose names an input's gets ``__out`` behind it. A null is NaN for a model
    that takes floats; where it takes integers, booleans or texts, it is 0, False and the empty text.

    Parameters
    ----------
    artifact
        A loaded one.
    model
        The model as an ``onnx.ModelProto``; it stays as it is.
    inputs
        The columns of each of its inputs: a list becomes a matrix of shape (rows, columns) in that order, one name the
        column as it is. By default each input is the column of its name.

    Raises
    ------
    ParameterError
        When inputs are missing or unknown or have another width, a transform has no place in a graph, or the model is
        of an operator set that cannot be brought up to the one needed.
    MissingColumnError
        When the artifact has no such column.
    ColumnTypeError
        When a column cannot become what the model wants.
    MissingExtraError
        When the package onnx is not installed.
    """
    wanted = _inputs_of(model)
    mapped = _mapped(wanted, {name: name for name in wanted} if inputs is None else inputs)
    graph = Graph({*artifact.input_schema.names, *artifact.output_schema.names}, reserved=_names(model.graph))
    columns = add_columns(graph, artifact, list(dict.fromkeys(c for names in mapped.values() for c in names)))
    renamed = _renamed(model, {n for name in graph.inputs for n in (name, name + IS_NULL)})
    tensors = zip(_inputs_of(renamed), wanted.items(), strict=True)
    try:
        given = {t: _input(graph, name, value, mapped[name], columns) for t, (name, value) in tensors}
        first = graph.finish(given, artifact.name)
    except Unsupported as reason:
        raise refusal(artifact, [str(reason)], []) from reason
    return _joined(artifact, first, graph.opset, renamed)


def _inputs_of(model: Any) -> dict[str, Any]:
    """The inputs that have to be given, by name."""
    constants = {t.name for t in model.graph.initializer}
    return {v.name: v for v in model.graph.input if v.name not in constants}


def _mapped(wanted: Mapping[str, Any], inputs: Mapped) -> dict[str, list[str]]:
    found = {}
    for name, columns in inputs.items():
        if name not in wanted:
            raise ParameterError(
                f"The model has no input {name!r}. {suggest(name, list(wanted))}", parameter="inputs", input=name
            )
        found[name] = [columns] if isinstance(columns, str) else list(columns)
        if not found[name]:
            raise ParameterError(f"Input {name!r} is given no column.", parameter="inputs", input=name)
    missing = next((n for n in wanted if n not in found), None)
    if missing is not None:
        raise ParameterError(
            f"The model's input {missing!r} is given nothing. Add it to the inputs, with its columns in the order of "
            "the training.",
            parameter="inputs", input=missing,
        )
    return found


# --- one input --------------------------------------------------------------------------------------------------------


def _input(graph: Graph, name: str, value: Any, names: Sequence[str], columns: Mapping[str, Column]) -> Column:
    """The tensor for an input of the model, made of some columns."""
    onnx = onnx_module()
    kind = value.type.tensor_type
    physical = "str"
    if kind.elem_type != onnx.TensorProto.STRING:
        physical = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    dims = [d.dim_value or None for d in kind.shape.dim] if kind.HasField("shape") else None
    parts = [_converted(graph, name, n, columns[n], physical) for n in names]
    vector = len(names) == 1 and columns[names[0]].width is None and (dims is None or len(dims) == 1)
    if vector:
        return Column(parts[0], physical)
    width = sum(columns[n].width or 1 for n in names)
    if dims is not None and (len(dims) != 2 or dims[1] not in (None, width)):
        shape = ", ".join("any" if d is None else str(d) for d in dims[1:])
        raise ParameterError(
            f"Input {name!r}: the model takes rows of shape ({shape}), its columns {', '.join(names)} give ({width}). "
            "Name as many columns as it was trained on.",
            parameter="inputs", input=name, got=width,
        )
    axis = graph.constant([1], "int64")
    parts = [
        p if columns[n].width is not None else graph.op("Unsqueeze", p, axis) for p, n in zip(parts, names, strict=True)
    ]
    return Column(parts[0] if len(parts) == 1 else graph.op("Concat", *parts, axis=1), physical, width=width)


def _converted(graph: Graph, name: str, column_name: str, column: Column, physical: str) -> str:
    kinds = [np.dtype(object if p == "str" else p).kind for p in (column.physical, physical)]
    if (kinds[0] == "O") != (kinds[1] == "O") or (kinds[1] in "iub" and kinds[0] == "f") or kinds == ["i", "b"]:
        raise ColumnTypeError(
            f"Input {name!r}, column {column_name!r}: it holds {column.physical}, and the model wants {physical}. "
            "Convert it in a transform.",
            input=name, column=column_name,
        )
    tensor = graph.cast(column.tensor, column.physical, physical)
    nulls = None if column.is_float or column.width is not None else column.nulls()
    if nulls is None:
        return tensor
    stand_in = "" if physical == "str" else np.nan if physical.startswith("float") else 0
    return graph.where(nulls, graph.constant(stand_in, physical), tensor, physical)


# --- two graphs -------------------------------------------------------------------------------------------------------


def _joined(artifact: Artifact, first: Any, opset: int, model: Any) -> Any:
    """One model of a graph that gives the inputs of another."""
    onnx = onnx_module()
    model, opsets = _brought_up(model, opset)
    second = model.graph
    graph = onnx.helper.make_graph(
        [*first.node, *second.node], first.name, [*first.input, *_optional(second)], list(second.output),
        initializer=[*first.initializer, *second.initializer],
        value_info=list(second.value_info),
        sparse_initializer=list(second.sparse_initializer),
    )
    graph.quantization_annotation.extend(second.quantization_annotation)
    fused = onnx.helper.make_model(
        graph, functions=list(model.functions), ir_version=max(IR_VERSION, model.ir_version),
        opset_imports=[onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()],
        producer_name="featuremill",
    )
    inputs = {v.name: v.name for v in first.input if v.name in artifact.input_schema.names}
    props = {p.key: p.value for p in model.metadata_props} | about(artifact, inputs, {})
    onnx.helper.set_model_props(fused, props)
    return fused


def _optional(graph: Any) -> list[Any]:
    """Inputs that a constant stands in for."""
    constants = {t.name for t in graph.initializer}
    return [v for v in graph.input if v.name in constants]


def _brought_up(model: Any, opset: int) -> tuple[Any, dict[str, int]]:
    """The model at an operator set that the transforms can share, and all operator sets by domain."""
    onnx = onnx_module()
    opsets = {o.domain if o.domain != "ai.onnx" else "": o.version for o in model.opset_import}
    if opsets.get("", opset) < opset:
        try:
            model = onnx.version_converter.convert_version(model, opset)
        except (RuntimeError, onnx.version_converter.ConvertError) as error:
            raise ParameterError(
                f"The model is of operator set {opsets['']}, the transforms need {opset}, and it cannot be converted: "
                f"{error}. Export it again with opset {opset} or later.",
                opset=opsets[""], needed=opset,
            ) from error
        opsets[""] = opset
    old_labels = opsets.get(ML, ML_OPSET) < 2 and any(n.op_type == "LabelEncoder" for n in _nodes(model.graph))
    if old_labels:
        raise ParameterError(
            f"The model has a LabelEncoder of {ML} {opsets[ML]}, which later sets know no more. Export it again with "
            f"{ML} {ML_OPSET}.",
            opset=opsets[ML], needed=ML_OPSET,
        )
    return model, {"": opset} | opsets | {ML: max(ML_OPSET, opsets.get(ML, ML_OPSET))}


def _nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        for inner in _inner(node):
            yield from _nodes(inner)


def _inner(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for inner in _inner(node):
            yield from _graphs(inner)


def _names(graph: Any) -> set[str]:
    """The names of all tensors and nodes."""
    found: set[str] = set()
    for one in _graphs(graph):
        found.update(n for node in one.node for n in (node.name, *node.input, *node.output))
        found.update(v.name for v in (*one.input, *one.output, *one.initializer, *one.value_info))
    return found


def _renamed(model: Any, taken: set[str]) -> Any:
    """A copy of the model whose tensors have none of the names that are taken."""
    copy = onnx_module().ModelProto()
    copy.CopyFrom(model)
    names = _names(copy.graph)
    other = {}
    for name in sorted(names & taken):
        new = name + REPLACED
        while new in names | taken:
            new += "_"
        names.add(new)
        other[name] = new
    for graph in _graphs(copy.graph) if other else ():
        for node in graph.node:
            for tensors in (node.input, node.output):
                tensors[:] = [other.get(n, n) for n in tensors]
        for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            value.name = other.get(value.name, value.name)
    return copy

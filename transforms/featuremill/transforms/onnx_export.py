"""The transforms of an artifact as one ONNX graph, for processes without Python or pyarrow.

The graph computes what the batch path computes: the same operations in float64, rounded where that rounds. Integers,
booleans and texts come out equal; floats may differ in their last bits where a logarithm or an exponential is taken,
since libraries differ in these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import MissingColumnError, suggest
from featuremill.artifacts.reader import Artifact
from featuremill.transforms.onnx_columns import add_columns, refusal
from featuremill.transforms.onnx_graph import (
    IR_VERSION,
    IS_NULL,
    METADATA,
    ML,
    ML_OPSET,
    REPLACED,
    Column,
    Graph,
    Unsupported,
    onnx_module,
    physical_type,
    storage,
)

__all__ = ["about", "array_feeds", "export", "output_tensors"]


def export(artifact: Artifact, *, columns: Sequence[str] | None = None) -> Any:
    """The transforms as an ``onnx.ModelProto``.

    Inputs are the source columns that are needed, by name, each a tensor of shape (rows,): numbers and booleans of
    their type, text as strings, dates as int32 days, timestamps as int64 ticks. ``<column>__is_null`` is a boolean
    input for the nulls, which may be left out where nothing is null; columns of floats hold NaN where they are null,
    and have that input only if something treats the two differently.

    Outputs are the columns wanted, by name, of shape (rows,), or (rows, width) for vectors. A name that is an input's
    too gets ``__out`` behind it. A float is NaN where it is null; another column that may be null has a boolean output
    ``<column>__is_null`` beside it, and where that is true its own value means nothing. A row that the batch path sets
    aside, for a logarithm that does not exist, is null there.

    Parameters
    ----------
    artifact
        A loaded one.
    columns
        The columns to give; by default all that the transforms make. Only what they need is in the graph.

    Raises
    ------
    ParameterError
        Naming every transform that has no place in a graph, with the reason.
    MissingColumnError
        When the artifact has no such column.
    MissingExtraError
        When the package onnx is not installed.
    """
    pipeline = artifact.bound.pipeline
    made = [n for t in pipeline.transforms for n in t.output_names]
    wanted = list(dict.fromkeys(made if columns is None else columns))
    graph = Graph({*pipeline.input_schema.names, *pipeline.output_schema.names})
    outputs = add_columns(graph, artifact, wanted)
    try:
        return _model(artifact, graph, outputs)
    except Unsupported as reason:
        raise refusal(artifact, [str(reason)], []) from reason


def _model(artifact: Artifact, graph: Graph, outputs: Mapping[str, Column]) -> Any:
    helper = onnx_module().helper
    tensors = {(n + REPLACED if n in graph.inputs else n): n for n in outputs}
    made = graph.finish({tensor: outputs[n] for tensor, n in tensors.items()}, artifact.name)
    opsets = [helper.make_opsetid("", graph.opset), helper.make_opsetid(ML, ML_OPSET)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="featuremill")
    inputs = {v.name: v.name for v in made.input if v.name in artifact.input_schema.names}
    helper.set_model_props(model, about(artifact, inputs, tensors))
    onnx_module().checker.check_model(model, full_check=True)
    return model


def about(artifact: Artifact, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a graph: whose transforms it has, and the columns behind its tensors, by tensor."""
    found = {
        "artifact": artifact.name,
        "version": artifact.version,
        "inputs": json.dumps(_described(inputs, artifact.input_schema), ensure_ascii=False),
        "outputs": json.dumps(_described(outputs, artifact.output_schema), ensure_ascii=False),
    }
    return {METADATA + key: value for key, value in found.items()}


def _described(tensors: Mapping[str, str], schema: pa.Schema) -> list[dict[str, str]]:
    return [{"tensor": t, "column": c, "type": str(schema.field(c).type)} for t, c in tensors.items()]


# --- at the ends of a graph -------------------------------------------------------------------------------------------


def output_tensors(model: Any) -> dict[str, str]:
    """The tensor of each output column of an exported graph, by the column's name."""
    written = {p.key: p.value for p in model.metadata_props}
    return {o["column"]: o["tensor"] for o in json.loads(written[METADATA + "outputs"])}


def array_feeds(batch: pa.RecordBatch | pa.Table, inputs: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Columns as the inputs of a graph by name, each of shape (n_rows,), with their nulls as a graph expects them.

    Parameters
    ----------
    batch
        Columns of the types that the artifact's input schema has; others than those asked for do not matter.
    inputs
        The names of the graph's inputs; of those that end in ``__is_null``, only those of columns with nulls are given.

    >>> feeds = array_feeds(pa.record_batch({"x": [1.5, None], "n": [None, 2]}), ["x", "n", "n__is_null"])
    >>> [(name, array.tolist()) for name, array in feeds.items()]
    [('x', [1.5, nan]), ('n', [0, 2]), ('n__is_null', [True, False])]
    """
    feeds: dict[str, npt.NDArray[Any]] = {}
    for name in inputs:
        of = name.removesuffix(IS_NULL)
        column = name if name in batch.schema.names or of == name else of
        if column not in batch.schema.names:
            raise MissingColumnError(
                f"The column {column!r} is missing. {suggest(column, batch.schema.names)}", column=column
            )
        array = batch.column(column)
        array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        if column == name:
            feeds[name] = _values(array)
        elif array.null_count:
            feeds[name] = array.is_null().to_numpy(zero_copy_only=False)
    return feeds


def _values(array: pa.Array) -> npt.NDArray[Any]:
    if pt.is_dictionary(array.type):
        array = array.dictionary_decode()
    physical = physical_type(array.type)
    if physical == "str":
        filled: npt.NDArray[Any] = array.fill_null("").to_numpy(zero_copy_only=False)
        return filled
    array = storage(array)
    if array.null_count:
        array = array.fill_null(pa.scalar(np.nan if pt.is_floating(array.type) else 0).cast(array.type))
    found: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return found

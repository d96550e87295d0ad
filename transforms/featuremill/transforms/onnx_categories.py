"""The transforms of categories as nodes of an ONNX graph.

Vocabularies are dictionaries of the graph. What hashes has no place there: ONNX has no operator that sees the bytes of
a text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from featuremill.transforms.crossing import FeatureCross
from featuremill.transforms.encoding import FrequencyEncode, OneHot
from featuremill.transforms.onnx_graph import ML, Column, Graph, Unsupported, storage
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary

__all__ = ["cross", "frequency", "one_hot", "vocabulary"]

HASHES = "it hashes texts, and ONNX has no operator that sees their bytes"


def vocabulary(graph: Graph, op: ComputeAndApplyVocabulary, prepared: Any, column: Column) -> Column:
    """ComputeAndApplyVocabulary."""
    if op.split_string_by_delimiter:
        raise Unsupported("it splits texts, which gives lists of any length")
    return Column(_ids(graph, prepared, column), "int64", column.nulls)


def frequency(graph: Graph, op: FrequencyEncode, prepared: Any, column: Column) -> Column:
    """FrequencyEncode."""
    positions = _positions(graph, prepared.tokens, column, default=len(prepared.tokens))
    found = graph.op("Gather", graph.constant(prepared.numbers, op.dtype), positions)
    if op.dtype == "int64":
        return Column(found, op.dtype, column.nulls)
    return graph.floats(found, op.dtype, op.dtype, column)


def one_hot(graph: Graph, op: OneHot, prepared: Any, column: Column) -> Column:
    """OneHot."""
    codes, nulls = _ids(graph, prepared, column), column.nulls()
    if nulls is not None:
        codes = graph.where(nulls, graph.constant(-1, "int64"), codes, "int64")
    codes = graph.op("Unsqueeze", codes, graph.constant([1], "int64"))
    there = graph.op("Equal", codes, graph.constant(np.arange(op.width), "int64"))
    return Column(graph.cast(there, "bool", op.dtype), op.dtype, width=op.width)


def cross(graph: Graph, op: FeatureCross, prepared: Any, columns: list[Column]) -> Column:
    """FeatureCross with a vocabulary."""
    if op.hash_buckets is not None:
        raise Unsupported(f"{HASHES}. A cross without hash_buckets has a vocabulary")
    joined = _text(graph, columns[0])
    for column in columns[1:]:
        if op.separator:
            joined = graph.op("StringConcat", joined, graph.constant(op.separator, "str"))
        joined = graph.op("StringConcat", joined, _text(graph, column))

    def nulls() -> str | None:
        return graph.either(*(c.nulls() for c in columns))

    return Column(_ids(graph, prepared, Column(joined, "str")), "int64", nulls)


def _text(graph: Graph, column: Column) -> str:
    if column.physical == "bool":
        yes, no = (graph.constant(text, "str") for text in ("true", "false"))
        return graph.where(column.tensor, yes, no, "str")
    return graph.cast(column.tensor, column.physical, "str")


def _ids(graph: Graph, lookup: Any, column: Column) -> str:
    """What :class:`featuremill.transforms.vocabulary.Lookup` gives for values that are not null."""
    if lookup.num_oov_buckets > 1:
        raise Unsupported(f"{HASHES}, as num_oov_buckets={lookup.num_oov_buckets} needs; 0 and 1 do not")
    default = lookup.first_bucket if lookup.num_oov_buckets else lookup.default_value
    return _positions(graph, lookup.tokens, column, default=default)


def _positions(graph: Graph, tokens: pa.Array, column: Column, *, default: int) -> str:
    """The position of each value among the tokens, int64, and `default` for others."""
    tokens = tokens.combine_chunks() if isinstance(tokens, pa.ChunkedArray) else tokens
    if not len(tokens):
        return graph.as_rows(graph.constant(default, "int64"), column.tensor)
    values = list(range(len(tokens)))
    if column.physical == "str":
        keys = {"keys_strings": tokens.to_pylist()}
        tensor = column.tensor
    else:
        # Unsigned ones beyond the range go round, here and in the graph alike.
        keys = {"keys_int64s": storage(tokens).cast(pa.int64(), safe=False).to_pylist()}
        tensor = graph.cast(column.tensor, column.physical, "int64")
    return graph.op("LabelEncoder", tensor, domain=ML, values_int64s=values, default_int64=default, **keys)

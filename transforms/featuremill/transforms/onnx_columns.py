"""The columns of an artifact, computed by nodes of an ONNX graph.

What has no place in one is named, with the reason, all of it in one error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from featuremill.artifacts.errors import MissingColumnError, ParameterError, suggest
from featuremill.artifacts.reader import Artifact
from featuremill.transforms.contract import ColumnTransform, Transform
from featuremill.transforms.onnx_graph import Column, Graph, Unsupported

__all__ = ["CONVERSIONS", "add_columns", "refusal"]

CONVERSIONS: Mapping[str, str] = {
    "ApplyBuckets": "onnx_numbers:buckets",
    "ApplyBucketsWithInterpolation": "onnx_numbers:interpolation",
    "Bucketize": "onnx_numbers:buckets",
    "Clip": "onnx_numbers:clip",
    "ComputeAndApplyVocabulary": "onnx_categories:vocabulary",
    "FeatureCross": "onnx_categories:cross",
    "FrequencyEncode": "onnx_categories:frequency",
    "Impute": "onnx_numbers:impute",
    "LogTransform": "onnx_numbers:logarithm",
    "OneHot": "onnx_categories:one_hot",
    "ScaleByMinMax": "onnx_numbers:min_max",
    "ScaleTo01": "onnx_numbers:min_max",
    "ScaleToGaussian": "onnx_numbers:gaussian",
    "ScaleToZScore": "onnx_numbers:z_score",
}
"""The transforms that have a place in a graph: class name to module and function."""

REASONS: Mapping[str, str] = {
    "BagOfWords": "it gives lists of any length",
    "DatetimeParts": "ONNX has no calendar",
    "DeduplicateTensorPerRow": "it gives lists of any length",
    "EmbedColumns": "its model is a graph of its own",
    "EmbedImage": "its model is a graph of its own, and ONNX decodes no pictures",
    "EmbedText": "its model is a graph of its own, and ONNX cuts no text into tokens",
    "HashStrings": "it hashes texts, and ONNX has no operator that sees their bytes",
    "NGrams": "it gives lists of any length",
    "TFIDF": "it gives lists of any length",
}
"""Why the others of the catalogue have none."""


def add_columns(graph: Graph, artifact: Artifact, wanted: Sequence[str]) -> dict[str, Column]:
    """What the wanted columns of an artifact need, added to a graph; the columns by name, in the order wanted.

    Raises
    ------
    ParameterError
        Naming every transform that has no place in a graph, with the reason.
    MissingColumnError
        When the artifact has no such column.
    """
    known = artifact.bound.pipeline.output_schema.names
    for name in wanted:
        if name not in known:
            raise MissingColumnError(f"{artifact.name} has no column {name!r}. {suggest(name, known)}", column=name)
    walk = _Walk(graph, artifact, wanted)
    if walk.refused:
        raise refusal(artifact, walk.refused, [n for n in wanted if n in walk.columns])
    return {n: walk.columns[n] for n in wanted}


def refusal(artifact: Artifact, refused: Sequence[str], possible: Sequence[str]) -> ParameterError:
    """The error that names what cannot be written, to be raised by the caller."""
    hint = f"These columns can be: {', '.join(possible)}." if possible else "None of the columns can be."
    return ParameterError(
        f"{artifact.name}@{artifact.version} cannot be written as ONNX as a whole. {'. '.join(refused)}. {hint}",
        refused=list(refused), exportable=list(possible),
    )


class _Walk:
    """The transforms gone through in order, with what the wanted columns need added to a graph.

    What cannot be added is noted, and so is nothing that depends on it.
    """

    def __init__(self, graph: Graph, artifact: Artifact, wanted: Sequence[str]) -> None:
        pipeline = artifact.bound.pipeline
        self.graph = graph
        self.refused: list[str] = []
        self.columns: dict[str, Column] = {}
        steps, sources = _needed(pipeline.transforms, wanted)
        for name in (n for n in pipeline.input_schema.names if n in sources):
            try:
                self.columns[name] = self.graph.source(name, pipeline.input_schema.field(name).type)
            except Unsupported as reason:
                self.refused.append(f"the column {name!r}: {reason}")
        for i, outputs in steps:
            transform = pipeline.transforms[i]
            states = {s.slot: artifact.states[s.key] for s in pipeline.slots() if s.transform == i}
            self._add(transform, partial(transform.prepare, states, pipeline.schemas[i]), outputs)

    def _add(self, transform: Transform, prepare: Callable[[], Any], outputs: set[str]) -> None:
        before = dict(self.columns)
        for name in transform.output_names:
            self.columns.pop(name, None)
        try:
            convert = _conversion(transform)
            prepared = prepare()
        except Unsupported as reason:
            self._refuse(transform, transform.columns, reason)
            return
        for position, inputs, names in _parts(transform):
            if not outputs.intersection(names) or not all(c in before for c in inputs):
                continue
            columns = [before[c] for c in inputs]
            try:
                for column in columns:
                    if column.width is not None:
                        raise Unsupported("it reads a column of vectors")
                if position is None:
                    results = convert(self.graph, transform, prepared, columns)
                else:
                    results = convert(self.graph, transform, prepared[position], columns[0])
            except Unsupported as reason:
                self._refuse(transform, inputs, reason)
                continue
            self.columns.update(zip(names, results if isinstance(results, list) else [results], strict=False))

    def _refuse(self, transform: Transform, columns: Sequence[str], reason: Unsupported) -> None:
        self.refused.append(f"{transform.type_name}({', '.join(repr(c) for c in columns)}): {reason}")


def _conversion(transform: Transform) -> Callable[..., Any]:
    name = transform.type_name
    if name not in CONVERSIONS:
        raise Unsupported(REASONS.get(name, "featuremill knows no ONNX for it"))
    module, _, function = CONVERSIONS[name].partition(":")
    found: Callable[..., Any] = getattr(import_module(f"featuremill.transforms.{module}"), function)
    return found


def _parts(transform: Transform) -> Iterator[tuple[int | None, Sequence[str], list[str]]]:
    """What of a transform can be computed alone: its position (None: all of it), the columns, the outputs."""
    names = transform.output_names
    if not isinstance(transform, ColumnTransform):
        yield None, transform.columns, names
        return
    for i, column in enumerate(transform.columns):
        yield i, [column], names[i :: len(transform.columns)]


def _needed(
    transforms: Sequence[Transform], wanted: Sequence[str]
) -> tuple[list[tuple[int, set[str]]], set[str]]:
    """The transforms that the columns depend on, each with the outputs that are needed, and the source's columns."""
    missing = set(wanted)
    steps = []
    for i in range(len(transforms) - 1, -1, -1):
        outputs = missing.intersection(transforms[i].output_names)
        if outputs:
            steps.append((i, outputs))
            missing -= outputs
            missing |= {c for _, inputs, names in _parts(transforms[i]) if outputs & set(names) for c in inputs}
    return steps[::-1], missing

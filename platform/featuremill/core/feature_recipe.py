"""From rows of a source to what models are given: which columns to read, which transforms to apply, and the rows.

Only what the models want is made: a transform whose outputs nobody asks for is not applied, and a column that nobody
needs is not read. Beside the features a batch carries the columns that were read, as the source has them, under names
of their own; so a transform that writes in place hides no key, and a row that is set aside can be shown as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from featuremill.artifacts.errors import MissingColumnError, RequestError, suggest
from featuremill.artifacts.reader import Artifact, load
from featuremill.transforms.arrays import value_type
from featuremill.transforms.artifact_cache import once_per_process
from featuremill.transforms.pipeline import BoundPipeline, Pipeline
from featuremill.transforms.plan import Plan
from featuremill.transforms.rejects import Reject, apply_or_reject
from featuremill.transforms.row_values import conform, plain_type

__all__ = [
    "ARTIFACT_VERSION",
    "CARRIED",
    "FRAGMENT",
    "ROW",
    "BoundRecipe",
    "FeatureRecipe",
    "Made",
    "carried",
    "dictionary_of",
    "numbered",
    "reach",
]

FRAGMENT, ROW = "_fragment", "_row"
"""The columns that say where a row comes from: its fragment's key, and its position among the rows that gives."""
CARRIED = "_source."
"""What the names of carried columns begin with."""
ARTIFACT_VERSION = "artifact_version"
"""The column that names the version of the artifact that made a row's features; null without one."""

VERSION_TYPE = pa.dictionary(pa.int32(), pa.string())


def carried(column: str) -> str:
    """What a column of the source is called where it is carried beside the features.

    >>> carried("carrier")
    '_source.carrier'
    """
    return CARRIED + column


def dictionary_of(value: str | None, rows: int) -> pa.DictionaryArray:
    """One text for all rows, shape (rows,), dictionary-encoded.

    >>> dictionary_of("v1", 2).to_pylist(), dictionary_of(None, 1).to_pylist()
    (['v1', 'v1'], [None])
    """
    indices = pa.nulls(rows, pa.int32()) if value is None else pa.array(np.zeros(rows, np.int32))
    return pa.DictionaryArray.from_arrays(indices, pa.array([] if value is None else [value], pa.string()))


def numbered(batch: pa.RecordBatch, fragment: str, before: int) -> pa.RecordBatch:
    """A batch with the columns :data:`FRAGMENT` and :data:`ROW`; `before` rows of the fragment came in earlier ones."""
    rows = batch.num_rows
    where = [dictionary_of(fragment, rows), pa.array(np.arange(before, before + rows))]
    return pa.RecordBatch.from_arrays([*batch.columns, *where], [*batch.schema.names, FRAGMENT, ROW])


def reach(plan: Plan, columns: Collection[str]) -> tuple[set[int], list[str]]:
    """The transforms to apply (by position), and the source columns to read (sorted), for some columns of the result.

    >>> from featuremill.transforms.numeric import Clip
    >>> plan = Plan([Clip(["x"], max_value=1.0), Clip(["y"], max_value=1.0), Clip(["x"], min_value=0.0, output="z")])
    >>> reach(plan, ["z", "id"])
    ({0, 2}, ['id', 'x'])
    """
    last = {name: i for i, t in enumerate(plan.transforms) for name in t.output_names}
    applies: set[int] = set()
    reads = {c for c in columns if c not in last}
    for i in {last[c] for c in columns if c in last}:
        before, needed = plan.reach(i, plan.transforms[i].columns)
        applies |= {i, *before}
        reads |= needed
    return applies, sorted(reads)


@dataclass(frozen=True)
class Made:
    """What became of one batch of the source."""

    batch: pa.RecordBatch
    """The features, the carried columns, where each row comes from, and the artifact's version."""
    rejected: pa.RecordBatch
    """The rows that the transforms could not process, as they were read."""
    rejects: tuple[Reject, ...]
    """One for each row of `rejected`."""


@dataclass(frozen=True)
class FeatureRecipe:
    """How the rows of a source become features. Small and picklable; workers make a :class:`BoundRecipe` of it.

    Parameters
    ----------
    artifact
        The folder or URL of one version of an artifact; None: features are columns of the source.
    schema
        The source's.
    features
        The columns that the models want, as they are after the last transform.
    keep
        Columns of the source to be read and carried in any case.
    """

    artifact: str | None
    schema: pa.Schema
    features: tuple[str, ...]
    keep: tuple[str, ...] = ()

    def bound(self) -> BoundRecipe:
        """The recipe ready to be applied; one for all threads of a process.

        Raises
        ------
        ArtifactError
            When the artifact is not there or damaged.
        RequestError
            When it and the source do not fit together.
        """
        key = (self.artifact, self.schema, self.features, self.keep)
        bound: BoundRecipe = once_per_process(
            key, lambda: BoundRecipe(self, None if self.artifact is None else load(self.artifact))
        )
        return bound


class BoundRecipe:
    """A recipe with its artifact loaded. Safe to share between threads.

    Parameters
    ----------
    recipe
        What is wanted.
    artifact
        The artifact that `recipe` names.

    Raises
    ------
    MissingColumnError, RequestError
        When the source lacks a column or has it in a type that the artifact does not know; when the artifact makes no
        such feature, or has steps that only Beam applies.

    >>> recipe = FeatureRecipe(None, pa.schema([("x", pa.float64()), ("id", pa.int64())]), ("x",), ("id",))
    >>> recipe.bound().apply(numbered(pa.record_batch({"x": [0.5], "id": [7]}), "00000", 0)).batch.to_pylist()
    [{'x': 0.5, '_source.x': 0.5, '_source.id': 7, '_fragment': '00000', '_row': 0, 'artifact_version': None}]
    >>> FeatureRecipe(None, recipe.schema, ("y",)).bound()
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.MissingColumnError: The source has no column 'y'. Known: 'x', 'id'.
    """

    def __init__(self, recipe: FeatureRecipe, artifact: Artifact | None) -> None:
        self.version = None if artifact is None else artifact.version
        self._bound: BoundPipeline | None = None
        self._types = {f.name: f for f in recipe.schema}
        if artifact is None:
            inputs = list(recipe.features)
            known = recipe.schema
        else:
            _refuse_beam_only(artifact)
            pipeline = Pipeline(artifact.transforms, artifact.input_schema)
            applies, inputs = reach(pipeline.plan, recipe.features)
            self._bound = BoundPipeline(pipeline, artifact.states, only=applies, files=artifact.files)
            made = {n for i in applies for n in pipeline.transforms[i].output_names}
            own = [f for f in recipe.schema if f.name not in pipeline.output_schema.names]
            known = pa.schema([*pipeline.output_schema, *own])
            _check_inputs(artifact, recipe, inputs, made)
        for name in (*inputs, *recipe.keep):
            if name not in self._types:
                raise MissingColumnError(
                    f"The source has no column {name!r}. {suggest(name, recipe.schema.names)}", column=name
                )
        self.inputs = inputs
        """The columns of the source that the features are made of."""
        self.feature_schema = pa.schema(
            [pa.field(n, plain_type(known.field(n).type)) for n in dict.fromkeys(recipe.features)]
        )
        """The features, in the order asked for."""
        wanted = {*inputs, *recipe.keep}
        self.reads = [n for n in recipe.schema.names if n in wanted]
        """The columns of the source to read."""
        self.dictionary = self._bound.dictionary_columns if self._bound else []
        """Of these, the texts that are best read dictionary-encoded."""
        self.schema = pa.schema(
            [
                *self.feature_schema,
                *(pa.field(carried(n), value_type(self._types[n].type)) for n in self.reads),
                pa.field(FRAGMENT, VERSION_TYPE),
                pa.field(ROW, pa.int64()),
                pa.field(ARTIFACT_VERSION, VERSION_TYPE),
            ]
        )
        """Of the batches that :meth:`apply` makes, but for carried columns that may be dictionary-encoded."""

    def apply(self, batch: pa.RecordBatch) -> Made:
        """What becomes of a batch that has the columns :attr:`reads`, :data:`FRAGMENT` and :data:`ROW`."""
        kept, features, rejects = apply_or_reject(self._features, batch)
        rows = pa.array([r.row for r in rejects], pa.int64())
        names = [
            *self.feature_schema.names, *(carried(n) for n in self.reads), FRAGMENT, ROW, ARTIFACT_VERSION,
        ]
        arrays = [
            *features.columns,
            *(kept.column(n) for n in (*self.reads, FRAGMENT, ROW)),
            dictionary_of(self.version, kept.num_rows),
        ]
        return Made(
            pa.RecordBatch.from_arrays(arrays, names), batch.take(rows) if rejects else batch.slice(0, 0),
            tuple(rejects),
        )

    def _features(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        inputs = batch.select(self.inputs)
        if self._bound is None:
            columns = dict(zip(inputs.schema.names, inputs.columns, strict=True))
        else:
            try:
                columns = self._bound.apply_columns(self._bound.read(inputs))
            except RequestError as error:
                # The types were compared when the job was planned: this is about a value, so about rows.
                raise ValueError(str(error)) from error
        arrays = [a if a.type == f.type else a.cast(f.type) for f in self.feature_schema for a in [columns[f.name]]]
        return pa.RecordBatch.from_arrays(arrays, schema=self.feature_schema)


def _refuse_beam_only(artifact: Artifact) -> None:
    steps = [t.type_name for t in artifact.transforms if t.beam_only]
    if steps:
        raise RequestError(
            f"The artifact {artifact.name}@{artifact.version} has {steps[0]}, which only Beam's MLTransform applies. "
            "Prepare it again with featuremill's transform of that name.",
            artifact=artifact.name,
        )


def _check_inputs(artifact: Artifact, recipe: FeatureRecipe, inputs: Sequence[str], made: Collection[str]) -> None:
    """The source has what the artifact needs, and the artifact makes what is asked for."""
    name = f"{artifact.name}@{artifact.version}"
    there = dict.fromkeys([*artifact.output_schema.names, *recipe.schema.names])
    for feature in recipe.features:
        if feature not in there and feature not in made:
            raise MissingColumnError(
                f"The artifact {name} makes no column {feature!r}, and the source has none. "
                f"{suggest(feature, list(there))}",
                column=feature,
            )
    for column in inputs:
        if column not in recipe.schema.names:
            readers = [t.type_name for t in artifact.transforms if column in t.columns]
            why = f"{readers[0]} of the artifact {name} reads" if readers else "the models read"
            raise MissingColumnError(
                f"The source has no column {column!r}, which {why}. {suggest(column, recipe.schema.names)}",
                column=column,
            )
        if column in artifact.input_schema.names:
            field = recipe.schema.field(column)
            try:
                conform(pa.array([], value_type(field.type)), artifact.input_schema.field(column))
            except RequestError as error:
                raise RequestError(f"{error} The artifact {name} was fitted on that.", column=column) from error

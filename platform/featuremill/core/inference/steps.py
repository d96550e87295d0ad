"""Scoring as transforms of Beam: batches in, batches with predictions out, and the rows that no model could take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler, ModelMetadata, PredictionResult, RunInference

from featuremill.artifacts.errors import JobError, ParameterError, suggest
from featuremill.core.batch_coders import BatchResult
from featuremill.core.inference.handler import ArrowModelHandler, model_tag
from featuremill.core.inference.planning import MODEL_VERSION, PlannedStep, plan_steps, scored_schema
from featuremill.core.inference.predictions import Predictions, joined
from featuremill.core.models.groups import Models
from featuremill.core.models.spec import ModelSpec

__all__ = ["COLUMN", "REASON", "REJECTED", "TRANSFORM", "Score", "Scored", "refresh_from", "rejected_schema"]

REASON, TRANSFORM, COLUMN = "_reason", "_transform", "_column"
"""The columns that a rejected row has more: why, which step, and the column that is to blame, where there is one."""

REJECTED = "rejected"


class Scored(NamedTuple):
    """What came of the batches."""

    scored: beam.PCollection[pa.RecordBatch]
    """The batches with their predictions and `model_version`."""
    rejected: beam.PCollection[pa.RecordBatch]
    """The rows set aside, as they came in, and why."""


class Score(beam.PTransform):  # type: ignore[misc]  # beam: untyped
    """Batches through a model, or several, by RunInference.

    ``scored, rejected = batches | Score(ModelSpec(path="late.onnx"), schema)``

    Every row comes out once: in a scored batch, with the prediction columns and ``model_version`` appended, or in a
    rejected one.

    Parameters
    ----------
    models
        A model; a list of models and groups, in sequence, each seeing the predictions of those before; or a group.
    schema
        The columns of the batches.
    refresh
        Where new models come from while the job runs: for each step by name, a PCollection of Beam's ``ModelMetadata``,
        as ``WatchFilePattern`` gives it. The only model of a job is called ``model``.
    steps
        What :func:`~featuremill.core.inference.planning.plan_steps` gave for these models and this schema, where it has
        been asked already.

    Raises
    ------
    RequestError
        When the models cannot be loaded or the columns do not fit them.
    """

    def __init__(
        self,
        models: ModelSpec | Models,
        schema: pa.Schema,
        *,
        refresh: Mapping[str, beam.PCollection[ModelMetadata]] | None = None,
        steps: Sequence[PlannedStep] | None = None,
    ) -> None:
        super().__init__()
        self._schema = schema
        self._steps = list(plan_steps(models, schema) if steps is None else steps)
        self._refresh = dict(refresh or {})
        labels = [step.label for step in self._steps]
        for name in self._refresh:
            if name not in labels:
                raise ParameterError(
                    f"refresh: there is no step {name!r}. {suggest(name, labels)}", parameter="refresh"
                )

    @property
    def output_schema(self) -> pa.Schema:
        """The columns of the scored batches."""
        return scored_schema(self._steps, self._schema)

    def handler(self, step: PlannedStep) -> ModelHandler:
        """What runs the models of a step; for whoever has another way of keeping them."""
        return ArrowModelHandler(step.models, name=step.name)

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> Scored:
        rejected = []
        for step in self._steps:
            metadata = self._refresh.get(step.label)
            if metadata is not None:
                metadata = metadata | f"{step.label}: refresh" >> beam.Map(refresh_from)
            done = (
                batches
                | step.label
                >> RunInference(self.handler(step), model_metadata_pcoll=metadata).with_output_types(BatchResult)
                | f"{step.label}: columns"
                >> beam.ParDo(_Attach(step, self._schema)).with_outputs(REJECTED, main="scored")
            )
            batches = done.scored
            rejected.append(done[REJECTED])
        return Scored(batches, rejected[0] if len(rejected) == 1 else tuple(rejected) | "rejected" >> beam.Flatten())


@beam.typehints.with_output_types(pa.RecordBatch)
class _Attach(beam.DoFn):  # type: ignore[misc]  # beam: untyped
    """The results of RunInference, as a batch with predictions and one of rows set aside."""

    def __init__(self, step: PlannedStep, schema: pa.Schema) -> None:
        self._label = step.label
        self._columns = step.columns
        self._input = list(schema.names)

    def process(self, result: PredictionResult) -> Iterator[Any]:
        found: Predictions = result.inference
        if found.rejects:
            yield beam.pvalue.TaggedOutput(
                REJECTED, rejected_rows(result.example.select(self._input), found, self._label)
            )
        if found.columns.num_rows:
            yield self._attached(result.example, found)

    def _attached(self, batch: pa.RecordBatch, found: Predictions) -> pa.RecordBatch:
        if not found.columns.schema.equals(self._columns):
            raise JobError(
                f"{self._label}: the model gives {_shown(found.columns.schema)}, and the job was planned with "
                f"{_shown(self._columns)}. Give the columns of a model that replaces another the same names and types.",
                model=self._label,
            )
        if found.kept is not None:
            batch = batch.take(pa.array(found.kept))
        versions = found.versions
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        before = columns.pop(MODEL_VERSION, None)
        columns.update(zip(found.columns.schema.names, found.columns.columns, strict=True))
        columns[MODEL_VERSION] = versions if before is None else joined(before, versions)
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def refresh_from(metadata: Any) -> Any:
    """Beam's metadata of a new model, with its path as :func:`~featuremill.core.inference.handler.model_tag`."""
    if not isinstance(metadata, ModelMetadata) or not metadata.model_id:
        return metadata
    return metadata._replace(model_id=model_tag(metadata.model_id))


def rejected_rows(batch: pa.RecordBatch, found: Predictions, step: str) -> pa.RecordBatch:
    """The rows of a batch that were set aside, with three columns more: why, which step, and which column."""
    rows = batch.take(pa.array([r.row for r in found.rejects], pa.int64()))
    facts = [
        pa.array([r.reason for r in found.rejects], pa.string()),
        pa.array([r.transform or step for r in found.rejects], pa.string()),
        pa.array([r.column for r in found.rejects], pa.string()),
    ]
    return pa.RecordBatch.from_arrays([*rows.columns, *facts], schema=rejected_schema(batch.schema))


def rejected_schema(schema: pa.Schema) -> pa.Schema:
    """The columns of rejected rows, for batches of a schema.

    >>> rejected_schema(pa.schema({"id": pa.int64()})).names
    ['id', '_reason', '_transform', '_column']
    """
    return pa.schema([*schema, (REASON, pa.string()), (TRANSFORM, pa.string()), (COLUMN, pa.string())])


def _shown(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name} ({f.type})" for f in schema)

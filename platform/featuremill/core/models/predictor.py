"""From batches to predictions: a model, its inputs and its outputs, put together for one schema.

Scoring jobs and serving processes go through the same object, so that they give the same predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.artifacts.errors import BadRows, MissingColumnError, suggest
from featuremill.core.models.contract import Arrays, Model
from featuremill.core.models.inputs import Built, ModelInputs
from featuremill.core.models.outputs import ModelOutputs
from featuremill.core.models.row_inputs import row_function
from featuremill.core.models.spec import ModelSpec
from featuremill.transforms.rejects import Reject

__all__ = ["Predicted", "Predictor"]

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Predicted:
    """The predictions for a batch."""

    columns: pa.RecordBatch
    """The prediction columns, one row for each row kept."""
    kept: Rows | None = None
    """The positions in the batch of the rows that have a prediction, ascending; None: all have."""
    rejects: tuple[Reject, ...] = ()
    """The other rows, ascending."""

    def __post_init__(self) -> None:
        if self.kept is not None and len(self.kept) != self.columns.num_rows:
            raise ValueError(f"{self.columns.num_rows} predictions for {len(self.kept)} rows")


class Answer(Protocol):
    """What became of the rows that a model was given."""

    @property
    def outputs(self) -> Arrays: ...

    @property
    def kept(self) -> Rows | None: ...

    @property
    def rejects(self) -> Sequence[Reject]: ...


@dataclass(frozen=True)
class _All:
    """An answer for all rows."""

    outputs: Arrays
    kept: None = field(default=None, init=False)
    rejects: tuple[Reject, ...] = field(default=(), init=False)


Attempt = Callable[[Arrays], Answer]


class Predictor:
    """A model for batches of one schema.

    Parameters
    ----------
    spec
        What the job says of its inputs and outputs.
    model
        The loaded model.
    schema
        The columns that batches will have; more than the model needs do no harm.

    Threads may share it.

    Raises
    ------
    MissingColumnError, ColumnTypeError, ParameterError
        When the columns cannot be the model's inputs, or its outputs not the columns of predictions that are asked for.

    >>> class Double(Model):
    ...     def predict(self, inputs):
    ...         return {"y": inputs["x"] * 2}
    >>> spec = ModelSpec.model_validate({"class": "my:Double", "inputs": {"x": "a"}})
    >>> predictor = Predictor(spec, Double(), pa.schema({"a": pa.float32()}))
    >>> predictor.predict(pa.record_batch({"a": pa.array([1, 2], pa.float32())})).columns.to_pylist()
    [{'y': 2.0}, {'y': 4.0}]
    >>> predictor.predict_row({"a": 3.0})
    {'y': 6.0}
    >>> Predictor(spec, Double(), pa.schema({"b": pa.float32()}))
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.MissingColumnError: Input 'x': there is no column 'a'. Known: 'b'.
    """

    def __init__(self, spec: ModelSpec, model: Model, schema: pa.Schema) -> None:
        self.spec = spec
        self.model = model
        signature = model.signature
        self.inputs = ModelInputs(spec.inputs, signature, schema)
        self.outputs = ModelOutputs(spec.outputs, signature)
        self._row = row_function(self.inputs.parts)

    def call(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        """The model's outputs for named arrays."""
        return self.model.predict(arrays)

    def predict(self, batch: pa.RecordBatch, attempt: Attempt | None = None) -> Predicted:
        """The predictions for a batch; rows whose values cannot be the model's inputs are set aside.

        Parameters
        ----------
        batch
            With the columns of the schema, in any order and among others.
        attempt
            Calls the model instead of :meth:`call`, and may set rows aside: their positions are those in the arrays
            that it was given.

        Raises
        ------
        PredictionError
            When the model gives another number of rows than it was given.
        Exception
            Whatever the model raises.
        """
        built = self.inputs.build(batch)
        return self.columns_of(built, attempt or self._call_all)

    def _call_all(self, arrays: Arrays) -> Answer:
        return _All(self.call(arrays))

    def columns_of(self, built: Built, attempt: Attempt) -> Predicted:
        """The predictions for built inputs, each group through `attempt`, put back in the order of the rows."""
        rejects = list(built.rejects)
        parts: list[tuple[Rows, pa.RecordBatch]] = []
        total = 0
        for group in built.groups:
            given = len(next(iter(group.arrays.values())))
            total += given
            if not given:
                continue
            answer = attempt(group.arrays)
            for reject in answer.rejects:
                row = int(_at(_at(reject.row, group.rows), built.kept))
                rejects.append(Reject(row, reject.reason, reject.transform, reject.column))
            if answer.kept is None and group.rows is None:
                # One group, and nothing more set aside: what nearly all batches come to.
                columns = self.outputs.columns(answer.outputs, given)
                return Predicted(columns, built.kept, tuple(sorted(rejects, key=lambda r: r.row)))
            rows = np.arange(given) if group.rows is None else group.rows
            rows = rows if answer.kept is None else rows[answer.kept]
            if len(rows):
                parts.append((rows, self.outputs.columns(answer.outputs, len(rows))))
        columns, rows = self._in_order(parts)
        kept = None if len(rows) == total and built.kept is None else np.asarray(_at(rows, built.kept))
        return Predicted(columns, kept, tuple(sorted(rejects, key=lambda r: r.row)))

    def _in_order(self, parts: list[tuple[Rows, pa.RecordBatch]]) -> tuple[pa.RecordBatch, Rows]:
        if not parts:
            return self.empty(), np.zeros(0, dtype=np.int64)
        if len(parts) == 1:
            return parts[0][1], parts[0][0]
        rows = np.concatenate([r for r, _ in parts])
        order = np.argsort(rows, kind="stable")
        return pa.concat_batches([c for _, c in parts]).take(pa.array(order)), rows[order]

    def empty(self) -> pa.RecordBatch:
        """The prediction columns without rows; a model whose file leaves their types open is asked for them."""
        schema = self.outputs.schema
        if schema is not None:
            return pa.RecordBatch.from_pylist([], schema=schema)
        nothing = self.inputs.build(pa.RecordBatch.from_pylist([], schema=self.inputs.schema))
        return self.outputs.columns(self.call(nothing.groups[0].arrays), 0)

    def predict_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The predictions for one row, as plain values: those that a batch of it would give.

        Raises
        ------
        MissingColumnError
            When a value that the model needs is not in the row.
        BadRows
            When the row cannot be the model's input.
        """
        try:
            arrays = self._row(row)
        except KeyError as error:
            name = str(error.args[0])
            hint = suggest(name, list(row))
            raise MissingColumnError(f"There is no {name!r} in the row. {hint}", column=name) from None
        if arrays is not None:
            return self.outputs.row(self.call(arrays))
        predicted = self.predict(self._batch([row]))
        if predicted.rejects:
            raise BadRows(predicted.rejects[0].reason, rows=[0], column=predicted.rejects[0].column)
        found: dict[str, Any] = predicted.columns.to_pylist()[0]
        return found

    def predict_table(self, table: pa.Table) -> pa.Table:
        """The prediction columns for a table, row for row.

        Raises
        ------
        BadRows
            When rows cannot be the model's inputs; their positions are those in the table.
        """
        batches, start = [], 0
        for batch in table.to_batches():
            batches.append(_complete(self.predict(batch), start))
            start += batch.num_rows
        if not batches:
            batches = [self.predict(pa.RecordBatch.from_pylist([], schema=table.schema)).columns]
        return pa.Table.from_batches(batches)

    def _batch(self, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        try:
            return pa.RecordBatch.from_pylist([dict(r) for r in rows], schema=self.inputs.schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError) as error:
            raise BadRows(f"A value does not fit its column: {str(error).splitlines()[0]}", rows=[0]) from error


def _at(row: Any, rows: Rows | None) -> Any:
    return row if rows is None else rows[row]


def _complete(predicted: Predicted, start: int) -> pa.RecordBatch:
    if predicted.rejects:
        first = predicted.rejects[0]
        rows = [start + r.row for r in predicted.rejects]
        raise BadRows(f"{len(rows)} rows cannot be the model's input: {first.reason}", rows=rows, column=first.column)
    return predicted.columns

"""Fit a transform on batches and apply it, without an engine: what the tests of the families share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from featuremill.transforms.contract import State, Transform
from featuremill.transforms.pipeline import Pipeline

__all__ = ["apply", "apply_rows", "fit", "partials_of", "table_bytes"]


def table_bytes(table: pa.Table) -> bytes:
    """A table as Arrow writes it: two with the same bytes are the same state."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def partials_of(op: Transform, batches: Sequence[pa.RecordBatch]) -> dict[str, list[pa.Table]]:
    """By slot, the partial of each batch."""
    found: dict[str, list[pa.Table]] = {}
    for slot, analyzer in op.analyzers().items():
        for batch in batches:
            accumulator = analyzer.accumulator()
            accumulator.update(analyzer.array_of(batch))
            found.setdefault(slot, []).append(accumulator.partial())
    return found


def fit(op: Transform, batches: Sequence[pa.RecordBatch]) -> dict[str, State]:
    """By slot, the state from all batches."""
    analyzers = op.analyzers()
    return {s: analyzers[s].finish(analyzers[s].merge(p)) for s, p in partials_of(op, batches).items()}


def apply(op: Transform, batch: pa.RecordBatch, states: Mapping[str, State] | None = None) -> dict[str, pa.Array]:
    """The outputs of one batch by name, their types checked; fitted on the batch itself unless states are given."""
    states = fit(op, [batch]) if states is None else states
    arrays = op.apply(batch, op.prepare(states, batch.schema))
    fields = op.output_fields(batch.schema)
    assert [f.name for f in fields] == op.output_names
    for field, array in zip(fields, arrays, strict=True):
        assert array.type == field.type
        assert len(array) == batch.num_rows
        array.validate(full=True)
    return dict(zip(op.output_names, arrays, strict=True))


def apply_rows(op: Transform, batch: pa.RecordBatch, states: Mapping[str, State] | None = None) -> list[dict[str, Any]]:
    """The outputs of each row by name, by the path for single rows."""
    states = fit(op, [batch]) if states is None else states
    pipeline = Pipeline([op], batch.schema)
    bound = pipeline.bind({slot.key: states[slot.slot] for slot in pipeline.slots()})
    return [{name: bound.apply_row(row)[name] for name in op.output_names} for row in batch.to_pylist()]

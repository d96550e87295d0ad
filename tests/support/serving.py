"""Artifacts made of a batch, and their ONNX graphs run on batches: what the tests of serving share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pyarrow as pa

from featuremill.artifacts import Artifact, load
from featuremill.artifacts.build import build_files
from featuremill.transforms.contract import State, Transform
from featuremill.transforms.onnx_export import array_feeds
from featuremill.transforms.pipeline import Pipeline

__all__ = ["artifact_of", "feeds_of", "fitted_states", "run_graph", "session_of"]


def fitted_states(transforms: Sequence[Transform], batch: pa.RecordBatch) -> dict[str, State]:
    """The states by key, each transform fitted to what those before it made of the batch."""
    pipeline = Pipeline(transforms, batch.schema)
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    states: dict[str, State] = {}
    for i, transform in enumerate(transforms):
        seen = pa.record_batch(list(columns.values()), names=list(columns))
        own = {}
        for slot in (s for s in pipeline.slots() if s.transform == i):
            accumulator = slot.analyzer.accumulator()
            accumulator.update(slot.analyzer.array_of(seen))
            own[slot.slot] = states[slot.key] = slot.analyzer.finish(accumulator.partial())
        if i + 1 < len(transforms):
            made = transform.apply(seen.select(list(transform.columns)), transform.prepare(own, seen.schema))
            columns.update(zip(transform.output_names, made, strict=True))
    return states


def artifact_of(folder: Path, transforms: Sequence[Transform], batch: pa.RecordBatch) -> Artifact:
    """The transforms fitted to the batch, as an artifact written to the folder and loaded from it."""
    files = build_files(
        transforms, batch.schema, fitted_states(transforms, batch), name="made", golden=batch.slice(0, 0),
        provenance={"created": datetime(2024, 5, 1, tzinfo=UTC).isoformat()},
    )
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return load(folder)


def session_of(model: Any) -> onnxruntime.InferenceSession:
    """A session without the warning that inputs with a default are no constants."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feeds_of(session: onnxruntime.InferenceSession, batch: pa.RecordBatch) -> dict[str, npt.NDArray[Any]]:
    """What a session is given for a batch."""
    return array_feeds(batch, [i.name for i in (*session.get_inputs(), *session.get_overridable_initializers())])


def run_graph(session: onnxruntime.InferenceSession, batch: pa.RecordBatch) -> dict[str, npt.NDArray[np.generic]]:
    """The outputs for a batch, by name."""
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds_of(session, batch)), strict=True))

"""How record batches go from one worker to the next, and above all how Beam learns what they weigh.

For each step Beam estimates the size of its first ten elements, and of some later ones. Of what it has no coder for it
finds out by pickling, which costs more for a batch of 100,000 rows than a quick model does. The coders here ask Arrow
instead. They are chosen by type hints; the steps of a scoring job have them.
"""

from __future__ import annotations

import pickle

import pyarrow as pa
from apache_beam import coders
from apache_beam.ml.inference.base import PredictionResult

__all__ = ["BatchCoder", "BatchResult", "ResultCoder"]


class BatchResult(PredictionResult):  # type: ignore[misc]  # beam: untyped
    """A type hint: a `PredictionResult` whose example and inference hold record batches."""


class BatchCoder(coders.Coder):  # type: ignore[misc]  # beam: untyped
    """Record batches as Arrow's streams.

    >>> batch = pa.record_batch({"x": [1, 2]})
    >>> BatchCoder().decode(BatchCoder().encode(batch)).equals(batch), BatchCoder().estimate_size(batch)
    (True, 16)
    """

    def encode(self, batch: pa.RecordBatch) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        content: bytes = sink.getvalue().to_pybytes()
        return content

    def decode(self, content: bytes) -> pa.RecordBatch:
        with pa.ipc.open_stream(content) as stream:
            return stream.read_next_batch()

    def estimate_size(self, batch: pa.RecordBatch) -> int:
        return int(batch.nbytes)

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type:
        found: type = pa.RecordBatch
        return found


class ResultCoder(coders.Coder):  # type: ignore[misc]  # beam: untyped
    """Results of RunInference for record batches; between two workers of one job, so a pickle will do."""

    def encode(self, result: PredictionResult) -> bytes:
        return pickle.dumps(result)

    def decode(self, content: bytes) -> PredictionResult:
        return pickle.loads(content)  # noqa: S301  # Beam's own way for what it has no coder for

    def estimate_size(self, result: PredictionResult) -> int:
        return int(result.example.nbytes) + int(result.inference.columns.nbytes)

    def is_deterministic(self) -> bool:
        return False

    def to_type_hint(self) -> type:
        return BatchResult


coders.registry.register_coder(pa.RecordBatch, BatchCoder)
coders.registry.register_coder(BatchResult, ResultCoder)

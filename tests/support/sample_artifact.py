"""A small artifact with one state of each kind, for the tests of the artifact format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from featuremill.artifacts.build import build_files
from featuremill.transforms.bucketing import Bucketize
from featuremill.transforms.contract import Transform
from featuremill.transforms.datetime_parts import DatetimeParts
from featuremill.transforms.pipeline import Pipeline
from featuremill.transforms.scaling import ScaleToZScore
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary

__all__ = ["SCHEMA", "fit_states", "label_files", "sample_batch", "sample_files", "sample_transforms"]

SCHEMA = pa.schema(
    [
        ("carrier", pa.string()),
        ("air_time", pa.float64()),
        ("dep_time", pa.int64()),
        ("flight_id", pa.int64()),
    ]
)


def sample_batch(
    rows: int = 40, *, shift: float = 0.0, carriers: Sequence[str] = ("AA", "B6", "UA", "new\nline")
) -> pa.RecordBatch:
    """Rows with nulls and a NaN; `shift` moves the numbers."""
    return pa.RecordBatch.from_pydict(
        {
            "carrier": [None if i % 11 == 5 else carriers[(i + i // 5) % len(carriers)] for i in range(rows)],
            "air_time": [None if i % 7 == 3 else float("nan") if i == 4 else 100.0 + shift + i for i in range(rows)],
            "dep_time": [None if i % 13 == 6 else int(i * 10 + shift) for i in range(rows)],
            "flight_id": list(range(2**60, 2**60 + rows)),
        },
        schema=SCHEMA,
    )


def sample_transforms(**buckets: Any) -> list[Transform]:
    """A vocabulary, a z-score and buckets."""
    return [
        ComputeAndApplyVocabulary(["carrier"], num_oov_buckets=1),
        ScaleToZScore(["air_time"]),
        Bucketize(["dep_time"], buckets.get("num_buckets", 4), output="dep_bucket"),
    ]


def fit_states(transforms: Sequence[Transform], batch: pa.RecordBatch) -> dict[str, pa.Table]:
    """The states of transforms that do not build on one another."""
    states = {}
    for slot in Pipeline(transforms, batch.schema).slots():
        accumulator = slot.analyzer.accumulator()
        accumulator.update(slot.analyzer.array_of(batch))
        states[slot.key] = slot.analyzer.finish(slot.analyzer.merge([accumulator.partial()]))
    return states


def sample_files(
    batch: pa.RecordBatch | None = None,
    *,
    provenance: Mapping[str, Any] | None = None,
    golden_from: int = 0,
    **buckets: Any,
) -> dict[str, bytes]:
    """The files of a fitted artifact."""
    batch = sample_batch() if batch is None else batch
    transforms = sample_transforms(**buckets)
    return build_files(
        transforms,
        batch.schema,
        fit_states(transforms, batch),
        name="sample",
        golden=batch.slice(golden_from),
        rows={"seen": batch.num_rows, "used": batch.num_rows, "set_aside": 0},
        provenance=provenance or {"created": datetime(2024, 5, 1, tzinfo=UTC).isoformat(), "job": "flights"},
        warnings=["air_time has a NaN"],
        attributes=b"{}",
    )


def label_files(label: str, created: datetime | None = None) -> dict[str, bytes]:
    """A tiny artifact without states whose version depends on the label."""
    schema = pa.schema([("t", pa.timestamp("us"))])
    created = created or datetime(2024, 5, 1, tzinfo=UTC)
    return build_files(
        [DatetimeParts(["t"], name=label)], schema, {}, name="tiny", provenance={"created": created.isoformat()}
    )

"""The flights job in Beam's own MLTransform, in write mode, on the direct runner, with dict rows read from Parquet.

It cannot take nulls (None ends the pipeline, NaN turns the column into a sigmoid), so they are filled with 0 and
"unknown" as the rows are read: on input with nulls its numbers differ from those of the other tools.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.ml.transforms.base import MLTransform
from apache_beam.ml.transforms.tft import ComputeAndApplyVocabulary, ScaleTo01, ScaleToZScore
from common import FILLERS, FLIGHTS_CATEGORIES, FLIGHTS_COLUMNS, FLIGHTS_KEY, FLIGHTS_MIN_MAX, FLIGHTS_Z_SCORES, main

# A process that ran a TFT op ends in a segmentation fault in its last garbage collection.
atexit.register(gc.freeze)

SCHEMA = pa.schema(
    [(FLIGHTS_KEY, pa.string())]
    + [(c, pa.int64()) for c in FLIGHTS_CATEGORIES]
    + [(c, pa.float32()) for c in FLIGHTS_Z_SCORES + FLIGHTS_MIN_MAX]
)


def filled(row: dict[str, Any]) -> dict[str, Any]:
    return {name: FILLERS[name] if value is None else value for name, value in row.items()}


def plain(row: Any) -> dict[str, Any]:
    """One output row as Parquet takes it: arrays of one value become the value."""
    values = row if isinstance(row, dict) else row._asdict()
    found = {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}
    key = found[FLIGHTS_KEY]
    found[FLIGHTS_KEY] = key.decode() if isinstance(key, bytes) else key
    return found


def work(source: Path, target: Path) -> int:
    with tempfile.TemporaryDirectory() as artifacts, beam.Pipeline(runner="DirectRunner") as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromParquet(f"{source}/*.parquet", columns=FLIGHTS_COLUMNS)
            | "Fill" >> beam.Map(filled)
            | MLTransform(write_artifact_location=artifacts)
            .with_transform(ComputeAndApplyVocabulary(columns=["carrier"], vocab_filename="carrier"))
            .with_transform(ComputeAndApplyVocabulary(columns=["origin"], vocab_filename="origin"))
            .with_transform(ComputeAndApplyVocabulary(columns=["dest"], vocab_filename="dest"))
            .with_transform(ComputeAndApplyVocabulary(columns=["tailnum"], vocab_filename="tailnum"))
            .with_transform(ScaleToZScore(columns=FLIGHTS_Z_SCORES))
            .with_transform(ScaleTo01(columns=FLIGHTS_MIN_MAX))
            | "Plain" >> beam.Map(plain)
            | beam.io.WriteToParquet(f"{target}/part", SCHEMA, codec="snappy", file_name_suffix=".parquet")
        )
    return sum(pq.read_metadata(file).num_rows for file in target.glob("*.parquet"))


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.ERROR)
    main(work)

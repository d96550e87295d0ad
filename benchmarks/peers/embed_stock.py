"""Texts to vectors in Beam's own MLTransform, with SentenceTransformerEmbeddings, in one thread.

The model's folder is the third argument. Rows are dicts read from Parquet; the texts have no null, which would end it.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from apache_beam.ml.transforms.base import MLTransform
from apache_beam.ml.transforms.embeddings.huggingface import SentenceTransformerEmbeddings
from common import main

MODEL = sys.argv.pop(3)
# The column of texts becomes the vector.
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.list_(pa.float32()))])


def work(source: Path, target: Path) -> int:
    embed = SentenceTransformerEmbeddings(model_name=MODEL, columns=["text"])
    with tempfile.TemporaryDirectory() as artifacts, beam.Pipeline(runner="DirectRunner") as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromParquet(str(source))
            | MLTransform(write_artifact_location=artifacts).with_transform(embed)
            | beam.io.WriteToParquet(f"{target}/part", SCHEMA, codec="snappy", file_name_suffix=".parquet")
        )
    return sum(pq.read_metadata(file).num_rows for file in target.glob("*.parquet"))


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(1)
    main(work)

"""The scoring job in Beam's own RunInference with its own handlers, fed with rows.

    python score_stock.py sklearn|torch INPUT OUTPUT

It reads only the first file of INPUT, 500,000 rows. The runner and its workers are those of featuremill's job. A row is
a dict as ReadFromParquet gives it; its key goes through RunInference beside it (KeyedModelHandler).
"""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from common import PREDICTION, SCORING_FEATURES, SCORING_KEY, main

from featuremill.core.jobfile import RunnerSpec
from featuremill.core.runner import pipeline_options, run_pipeline

MODULES = {
    "sklearn": ("apache_beam.ml.inference.sklearn_inference", "sklearn.linear_model"),
    "torch": ("apache_beam.ml.inference.pytorch_inference", "network"),
}
SCHEMA = pa.schema([(SCORING_KEY, pa.int64()), (PREDICTION, pa.float32())])


def linear(models: Path) -> Any:
    from apache_beam.ml.inference.sklearn_inference import SklearnModelHandlerNumpy

    return SklearnModelHandlerNumpy(str(models / "linear.pickle"))


def network(models: Path) -> Any:
    from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
    from network import Network

    return PytorchModelHandlerTensor(
        str(models / "mlp.pt"), model_class=Network, model_params={"features": len(SCORING_FEATURES)}, device="CPU"
    )


def array_of(row: dict[str, Any]) -> tuple[int, np.ndarray]:
    return row[SCORING_KEY], np.array([row[name] for name in SCORING_FEATURES], dtype=np.float32)


def tensor_of(row: dict[str, Any]) -> tuple[int, Any]:
    import torch

    return row[SCORING_KEY], torch.tensor([row[name] for name in SCORING_FEATURES], dtype=torch.float32)


def result_of(found: tuple[int, PredictionResult]) -> dict[str, Any]:
    key, result = found
    return {SCORING_KEY: key, PREDICTION: float(result.inference)}


def work(source: Path, target: Path, kind: str) -> int:
    models = source.with_name(f"{source.name}-models")
    handler, example_of = (linear(models), array_of) if kind == "sklearn" else (network(models), tensor_of)

    def build(pipeline: beam.Pipeline) -> Any:
        return (
            pipeline
            | beam.io.ReadFromParquet(f"{source}/part-00000.parquet", columns=[SCORING_KEY, *SCORING_FEATURES])
            | "Example" >> beam.Map(example_of)
            | RunInference(KeyedModelHandler(handler))
            | "Result" >> beam.Map(result_of)
            | beam.io.WriteToParquet(f"{target}/part", SCHEMA, codec="snappy", file_name_suffix=".parquet")
        )

    run_pipeline(pipeline_options(RunnerSpec()), build)
    return sum(pq.read_metadata(file).num_rows for file in target.glob("*.parquet"))


if __name__ == "__main__":
    kind = sys.argv.pop(1)
    logging.getLogger().setLevel(logging.ERROR)
    # What the model needs is imported before the clock starts, as for every other tool.
    for module in MODULES[kind]:
        importlib.import_module(module)
    main(lambda source, target: work(source, target, kind))

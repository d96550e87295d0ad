"""What the tests of streaming share: small ONNX models, Parquet files that appear at once, and Beam's test stream."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner

__all__ = ["appear", "onnx_model", "read_folder", "run_stream"]


def onnx_model(path: Path, *, times: float = 1.0, plus: float = 0.0, columns: int = 1, output: str = "y") -> Path:
    """A linear model in a file that appears at once: ``y = times * (sum of its inputs) + plus``, float32."""
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.full((columns, 1), times, np.float32), "w")
    bias = numpy_helper.from_array(np.array([plus], np.float32), "b")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Add", ["xw", "b"], [output])],
        "line",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, 1])],
        [weights, bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    hidden = path.parent / f".{uuid.uuid4().hex}"
    hidden.write_bytes(model.SerializeToString())
    os.replace(hidden, path)
    return path


def appear(path: Path, table: pa.Table) -> Path:
    """A Parquet file that is there from one moment to the next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.parent / f".{uuid.uuid4().hex}"
    pq.write_table(table, hidden)
    os.replace(hidden, path)
    return path


def read_folder(folder: Path) -> list[dict[str, Any]]:
    """The rows of all Parquet files in a folder."""
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def run_stream(build: Callable[[beam.Pipeline], Any]) -> Any:
    """Run a pipeline that begins with a TestStream, on the one runner here that knows it; Beam's result."""
    pipeline = beam.Pipeline(runner=BundleBasedDirectRunner(), options=PipelineOptions(["--streaming"]))
    build(pipeline)
    result = pipeline.run()
    result.wait_until_finish()
    return result

"""Times one row at a time through a loaded artifact, and how long a serving process takes to be ready.

    python benchmarks/serving.py            # makes the artifact of jobs/serving.yaml first: eight features of a flight
    python benchmarks/serving.py --artifact artifacts/serving@prod --rows 20000

Prints one JSON line: median, 90th and 99th percentile in microseconds of ``transform`` on one dict and of
``transform_row``; of a row through the transforms and an ONNX model (a linear one over all features), one after the
other and as one graph; of a batch of 32 rows through both; and, over fresh processes, the median seconds of ``import
featuremill.artifacts``, of ``load`` and of the first row. The import includes pyarrow, whose own share is given beside
it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from measure import REPOSITORY, ROOTS, run
from run import BENCHMARKS, DATA, featuremill

sys.path[:0] = [str(REPOSITORY / root) for root in ROOTS]

PROCESSES = 5
WARM_UP_ROWS = 200
BATCH_ROWS = 32

FRESH = """
import json, sys, time
start = time.perf_counter()
import pyarrow
arrow = time.perf_counter()
from featuremill.artifacts import load
imported = time.perf_counter()
artifact = load(sys.argv[1])
loaded = time.perf_counter()
artifact.transform(json.loads(sys.argv[2]))
first = time.perf_counter()
heavy = sorted({"apache_beam", "tensorflow", "torch", "pandas"} & set(sys.modules))
report = {"pyarrow_seconds": arrow - start, "import_seconds": imported - start, "load_seconds": loaded - imported}
print(json.dumps({**report, "first_row_seconds": first - loaded, "heavy_modules": heavy}))
"""


def build() -> str:
    """Makes the artifact with ``featuremill run`` and returns its reference."""
    benchmark = BENCHMARKS["flights"]
    run(benchmark.prepare)
    target = DATA / "out" / "serving"
    run(featuremill("serving.yaml")(benchmark.source, target))
    return f"{target.parent / 'serving-artifacts'}/serving@prod"


def some_rows(count: int) -> list[dict[str, Any]]:
    """Rows of the flights as dicts, spread over the year."""
    import pyarrow.parquet as pq

    rows = [r for file in sorted((DATA / "flights8").glob("*.parquet")) for r in pq.read_table(file).to_pylist()]
    return rows[:: max(1, len(rows) // count)][:count]


def numbers(schema: Any) -> list[str]:
    """The columns that the transforms made numbers of, as features."""
    import pyarrow.types as pt

    made = ("carrier", "origin", "dest", "tailnum", "dep_delay", "air_time", "distance", "distance_bucket")
    return [f.name for f in schema if f.name in made and (pt.is_integer(f.type) or pt.is_floating(f.type))]


def linear_model(features: int) -> Any:
    """A logistic regression as ONNX, with weights that mean nothing."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weights = np.linspace(-1, 1, features, dtype=np.float32).reshape(-1, 1) / 100
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["sum"]), helper.make_node("Sigmoid", ["sum"], ["late"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", features])],
        [helper.make_tensor_value_info("late", TensorProto.FLOAT, ["rows", 1])],
        initializer=[numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_model(artifact: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The times with a model behind the transforms, of rows whose features are all there."""
    import onnx
    import onnxruntime
    import pyarrow as pa

    from featuremill.core.models.serving import load_predictor
    from featuremill.transforms.onnx_export import array_feeds
    from featuremill.transforms.onnx_fuse import fuse

    features = numbers(artifact.output_schema)
    model, file = linear_model(len(features)), DATA / "out" / "linear.onnx"
    onnx.save(model, file)
    predictor = load_predictor(file, schema=artifact.output_schema, inputs={"x": features})
    needed = artifact.bound.pipeline.input_columns
    schema = pa.schema([artifact.input_schema.field(n) for n in needed])
    whole = [{n: row[n] for n in needed} for row in rows if all(row[n] is not None for n in needed)]

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(fuse(artifact, model, {"x": features}).SerializeToString(), options)
    names = [i.name for i in session.get_inputs()]
    feeds = [array_feeds(pa.RecordBatch.from_pylist([row], schema=schema), names) for row in whole]
    parts = [whole[i : i + BATCH_ROWS] for i in range(0, len(whole), BATCH_ROWS)]
    some = [pa.RecordBatch.from_pylist(part, schema=schema) for part in parts]
    return {
        "row_and_model_us": microseconds(lambda row: predictor.predict_row(artifact.transform_row(row)), whole),
        "row_as_one_graph_us": microseconds(lambda feed: session.run(None, feed), feeds),
        f"batch_of_{BATCH_ROWS}_and_model_us": microseconds(lambda b: predictor.predict(artifact.transform(b)), some),
    }


def microseconds(function: Callable[[Any], Any], rows: list[Any]) -> dict[str, float]:
    """Percentiles over the rows of the time of one call each, after a warm-up."""
    for row in rows[:WARM_UP_ROWS]:
        function(row)
    times = []
    for row in rows:
        start = time.perf_counter_ns()
        function(row)
        times.append((time.perf_counter_ns() - start) / 1000)
    times.sort()
    shares = {"median": 0.5, "p90": 0.9, "p99": 0.99}
    return {name: round(times[int(share * (len(times) - 1))], 2) for name, share in shares.items()}


def fresh_process(reference: str, row: dict[str, Any]) -> dict[str, Any]:
    """Medians over new processes of the time to import, to load and to transform the first row."""
    reports = [run([sys.executable, "-c", FRESH, reference, json.dumps(row)]) for _ in range(PROCESSES)]
    names = ("pyarrow_seconds", "import_seconds", "load_seconds", "first_row_seconds")
    found: dict[str, Any] = {name: round(median(r.report[name] for r in reports), 4) for name in names}
    found["process_seconds"] = round(median(r.wall_seconds for r in reports), 3)
    found["peak_mb"] = median(r.peak_mb for r in reports)
    found["heavy_modules"] = reports[0].report["heavy_modules"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--artifact", help="an artifact of jobs/serving.yaml; without it, one is made")
    parser.add_argument("--rows", type=int, default=20_000)
    arguments = parser.parse_args()
    reference = arguments.artifact or build()

    from featuremill.artifacts import load

    artifact = load(reference)
    rows = some_rows(arguments.rows)
    report = {
        "rows": len(rows),
        "features": len(artifact.output_schema.names),
        "transform_us": microseconds(artifact.transform, rows),
        "transform_row_us": microseconds(artifact.transform_row, rows),
        **with_model(artifact, rows),
        "fresh_process": fresh_process(reference, rows[0]),
    }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())

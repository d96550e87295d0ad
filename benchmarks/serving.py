"""Times one row at a time through a loaded artifact, and how long a serving process takes to be ready.

    python benchmarks/serving.py            # makes the artifact of jobs/serving.yaml first: eight features of a flight
    python benchmarks/serving.py --artifact artifacts/serving@prod --rows 20000

Prints one JSON line: median, 90th and 99th percentile in microseconds of ``transform`` on one dict and of
``transform_row``; and, over fresh processes, the median seconds of ``import featuremill.artifacts``, of ``load`` and of
the first row. The import includes pyarrow, whose own share is given beside it.
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


def microseconds(function: Callable[[dict[str, Any]], Any], rows: list[dict[str, Any]]) -> dict[str, float]:
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
        "fresh_process": fresh_process(reference, rows[0]),
    }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())

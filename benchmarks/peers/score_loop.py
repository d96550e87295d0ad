"""The scoring job as one would write it by hand: a loop of pyarrow and the model's own call, in one process.

    python score_loop.py sklearn|torch [--tuned] INPUT OUTPUT

It reads the batches that featuremill reads; PyTorch has as many threads as there are cores, and so have Arrow's reader
and NumPy. Tuned, it writes without dictionaries, which pyarrow by default makes even for numbers that never come twice.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import PREDICTION, SCORING_FEATURES, SCORING_KEY, main

BATCH_ROWS = 131_072
Predict = Callable[[np.ndarray], np.ndarray]


def linear(models: Path) -> Predict:
    import skops.io

    file = models / "linear.skops"
    return skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file)).predict


def network(models: Path) -> Predict:
    import torch
    from network import Network
    from safetensors.torch import load_file

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = Network(len(SCORING_FEATURES))
    model.load_state_dict(load_file(models / "mlp.safetensors"))
    model.eval()

    def predict(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()[:, 0]

    return predict


LOADS = {
    "sklearn": (linear, ("skops.io", "sklearn.linear_model")),
    "torch": (network, ("torch", "safetensors.torch", "network")),
}


def work(source: Path, target: Path, load: Callable[[Path], Predict], dictionaries: bool) -> int:
    predict = load(source.with_name(f"{source.name}-models"))
    schema = pa.schema([(SCORING_KEY, pa.int64()), (PREDICTION, pa.float32())])
    rows = 0
    file = target / "part-00000.parquet"
    with pq.ParquetWriter(file, schema, compression="snappy", use_dictionary=dictionaries) as writer:
        for path in sorted(source.glob("*.parquet")):
            columns = [SCORING_KEY, *SCORING_FEATURES]
            for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=columns):
                x = np.column_stack([batch.column(name).to_numpy() for name in SCORING_FEATURES])
                found = pa.array(predict(x), pa.float32())
                writer.write_batch(pa.record_batch([batch.column(SCORING_KEY), found], schema=schema))
                rows += batch.num_rows
    return rows


if __name__ == "__main__":
    kind = sys.argv.pop(1)
    tuned = "--tuned" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--tuned"]
    # What the model needs is imported before the clock starts, as for every other tool.
    load, modules = LOADS[kind]
    for module in modules:
        importlib.import_module(module)
    main(lambda source, target: work(source, target, load, not tuned))

"""Apache Beam's own MLTransform, run on a few rows: what the differential tests compare with.

Beam and TensorFlow Transform are imported on the first call only (it costs about ten seconds), so that collecting tests
stays cheap.
"""

from __future__ import annotations

import atexit
import gc
import pickle
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["run_stock", "stock_ops"]

_ROW = "row_number_for_the_test"


@cache
def stock_ops() -> ModuleType:
    """The module ``apache_beam.ml.transforms.tft``: ``stock_ops().ScaleToZScore(columns=["x"])``."""
    # A process that ran a TFT op dies in its last garbage collection (a protobuf field outlives its module).
    atexit.register(gc.freeze)
    from apache_beam.ml.transforms import tft

    module: ModuleType = tft
    return module


def run_stock(op: Any, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows that the stock MLTransform makes of `rows`, in their order.

    Parameters
    ----------
    op
        A stock op, or a list of them, applied in turn.
    rows
        Dicts; a value is a number, a string, or a list of them.

    Returns
    -------
    list of dict
        One dict per row; a transformed value is a NumPy array, as stock gives it.
    """
    stock_ops()
    import apache_beam as beam
    import tensorflow_transform.beam as tft_beam
    from apache_beam.ml.transforms.base import MLTransform
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    numbered = [dict(row) | {_ROW: i} for i, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as location, tempfile.TemporaryDirectory() as results:
        transform = MLTransform(write_artifact_location=location)
        for one in op if isinstance(op, list | tuple) else [op]:
            transform = transform.with_transform(one)

        def keep(row: Any) -> None:
            fields = row._asdict()
            Path(results, str(fields[_ROW])).write_bytes(pickle.dumps(fields))

        # One bundle and one batch: stock's L-moments and quantiles depend on how the data is cut.
        one_batch = tft_beam.Context(temp_dir=location, desired_batch_size=1 << 20)
        with one_batch, beam.Pipeline(runner=FnApiRunner()) as pipeline:
            _ = pipeline | beam.Create(numbered, reshuffle=False) | transform | beam.Map(keep)
        made = [pickle.loads(Path(results, str(i)).read_bytes()) for i in range(len(numbered))]
    return [{k: v for k, v in row.items() if k != _ROW} for row in made]

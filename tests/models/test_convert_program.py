"""From programs of PyTorch to ONNX: the same numbers, or nothing is written."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from featuremill.artifacts.errors import MissingExtraError
from featuremill.core.models import convert_program
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.convert import ConversionError, convert
from featuremill.transforms.embedding_columns import EmbedColumns

INSTALLED = importlib.util.find_spec("onnxscript") is not None
with_onnxscript = pytest.mark.skipif(not INSTALLED, reason="the package onnxscript is not installed")


class Encoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(3, 16), torch.nn.LayerNorm(16), torch.nn.GELU(), torch.nn.Linear(16, 4)
        )

    def forward(self, x: torch.Tensor) -> Any:
        return self.layers(x)


def program(folder: Path, model: torch.nn.Module | None = None, *, rows: bool = True, dtype: Any = None) -> Path:
    torch.manual_seed(0)
    model = (model or Encoder()).eval()
    shapes = ({0: torch.export.Dim("rows", min=1)},) if rows else None
    example = torch.zeros(2, 3, dtype=dtype or torch.float32)
    torch.export.save(torch.export.export(model, (example,), dynamic_shapes=shapes), folder / "encoder.pt2")
    return folder / "encoder.pt2"


@with_onnxscript
def test_a_program_becomes_the_model_of_embed_columns(tmp_path: Path) -> None:
    made = convert(program(tmp_path), tmp_path / "encoder.onnx")
    assert made.rows == 2000 and made.largest_difference < 1e-5 and len(made.outputs) == 1
    torch.manual_seed(0)
    model = Encoder().eval()
    rows = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    batch = pa.record_batch({n: rows[:, i] for i, n in enumerate("abc")})
    op = EmbedColumns(["a", "b", "c"], made.path)
    found = op.apply(batch, op.prepare({}, batch.schema))[0].to_pylist()
    np.testing.assert_allclose(np.array(found), model(torch.from_numpy(rows)).detach().numpy(), atol=1e-6)


@with_onnxscript
def test_programs_that_are_not_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFileError, match="was exported for batches of exactly 2 rows"):
        convert(program(tmp_path, rows=False), tmp_path / "out.onnx")
    source = program(tmp_path)
    monkeypatch.setattr(convert_program, "TOLERANCE", -1.0)
    with pytest.raises(ConversionError, match="after conversion an output differs by up to"):
        convert(source, tmp_path / "out.onnx")
    source.write_bytes(source.read_bytes()[:-50])
    with pytest.raises(ModelFileError):
        convert(source, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.skipif(INSTALLED, reason="onnxscript is installed")
def test_onnxscript_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"needs the package onnxscript.*featuremill\[onnx\]"):
        convert(program(tmp_path), tmp_path / "out.onnx")

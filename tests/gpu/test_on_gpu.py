"""The paths for GPUs, on a GPU: `make test-gpu`. Vectors and predictions are held against those of the processor."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from featuremill.core.models.loading import load_model
from featuremill.core.models.spec import ModelSpec
from featuremill.transforms.embedding import EmbedText
from featuremill.transforms.embedding_base import Embedding
from featuremill.transforms.embedding_columns import EmbedColumns
from featuremill.transforms.embedding_images import EmbedImage
from featuremill.transforms.onnx_backend import choices, open_model, wanted_of
from featuremill.transforms.tensorrt_profiles import rows_only
from support.small_bert import small_model
from support.small_encoders import image_bytes, small_columns, small_vision

pytestmark = pytest.mark.gpu

TEXTS = ["a port", None, "port " * 30, "", "x", "a b c d e f g h i j k l m n o p q r", "a port"]
Make = Callable[..., Embedding]
CASES: list[tuple[Make, pa.RecordBatch]] = [
    (lambda **more: EmbedText(["x"], small_model(), max_tokens=40, **more), pa.record_batch({"x": TEXTS})),
    (
        lambda **more: EmbedImage(["x"], small_vision(), **more),
        pa.record_batch({"x": [image_bytes(i) for i in range(70)]}),
    ),
    (
        lambda **more: EmbedColumns(["x", "y"], small_columns(), **more),
        pa.record_batch({"x": np.arange(5000) / 5000, "y": np.arange(5000) / 7000}),
    ),
]


def numbers(op: Embedding, batch: pa.RecordBatch) -> np.ndarray:
    (array,) = op.apply(batch, op.prepare({}, batch.schema))
    found: np.ndarray = array.flatten().to_numpy()
    return found


def assert_like_on_cpu(make: Make, batch: pa.RecordBatch, **where: Any) -> None:
    """Without TensorFloat-32 the last bits differ, and no more."""
    np.testing.assert_allclose(
        numbers(make(**where), batch), numbers(make(backend="cpu"), batch), rtol=1e-4, atol=1e-5
    )


def half(path: Path) -> bytes:
    """A product in half precision, which is in the graph itself."""
    weights = numpy_helper.from_array(np.arange(12, dtype=np.float16).reshape(4, 3) / 8, "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["rows", 3])], [weights],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path.read_bytes()


# --- ONNX Runtime with CUDA -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "batch"), CASES, ids=["texts", "images", "columns"])
def test_transforms_on_cuda(cuda: None, make: Make, batch: pa.RecordBatch) -> None:
    assert_like_on_cpu(make, batch, require="cuda")
    assert any(c.backend == "cuda" for c in choices())


def test_a_score_jobs_model_on_cuda(cuda: None) -> None:
    rows = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    on_gpu, on_cpu = (load_model(ModelSpec(path=small_columns(), device=d)) for d in ("cuda", "cpu"))
    assert on_gpu.choice is not None and on_gpu.choice.backend == "cuda"
    np.testing.assert_allclose(on_gpu.predict({"x": rows})["vector"], on_cpu.predict({"x": rows})["vector"], rtol=1e-4)


# --- TensorRT ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "batch"), CASES, ids=["texts", "images", "columns"])
def test_transforms_on_tensorrt(tensorrt: None, tmp_path: Path, make: Make, batch: pa.RecordBatch) -> None:
    assert_like_on_cpu(make, batch, require="tensorrt", engine_cache=str(tmp_path))
    (plan,) = tmp_path.glob("*.plan")
    written = plan.stat().st_mtime_ns
    assert_like_on_cpu(make, batch, require="tensorrt", engine_cache=str(tmp_path))
    assert plan.stat().st_mtime_ns == written, "what is kept is not built again"


def test_a_damaged_plan_is_built_again(tensorrt: None, tmp_path: Path) -> None:
    make, batch = CASES[2]
    assert_like_on_cpu(make, batch, require="tensorrt", engine_cache=str(tmp_path))
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-7])
    assert_like_on_cpu(make, batch, require="tensorrt", engine_cache=str(tmp_path))


@pytest.mark.parametrize("rows", [0, 1, 3, 8, 9, 100])
def test_batches_of_any_size_in_half_precision(tensorrt: None, tmp_path: Path, rows: int) -> None:
    session = open_model(
        half(tmp_path / "half.onnx"), "half.onnx", wanted=wanted_of("tensorrt", cache=str(tmp_path)),
        profiles=rows_only(8, "half.onnx"),
    )  # fmt: skip
    given = (np.arange(rows * 4).reshape(rows, 4) / 64).astype(np.float16)
    (found,) = session.run(["y"], {"x": given})
    wanted = given @ (np.arange(12, dtype=np.float16).reshape(4, 3) / 8)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found.astype(np.float64), wanted.astype(np.float64), rtol=5e-3, atol=5e-3)


def test_threads_and_fresh_results(tensorrt: None, tmp_path: Path) -> None:
    make, batch = CASES[2]
    op = make(require="tensorrt", engine_cache=str(tmp_path))
    prepared = op.prepare({}, batch.schema)
    first = op.apply(batch, prepared)[0]
    kept = first.flatten().to_numpy().copy()
    with ThreadPoolExecutor(4) as pool:
        for array in pool.map(lambda _: op.apply(batch.slice(0, 777), prepared)[0], range(16)):
            np.testing.assert_allclose(array.flatten().to_numpy(), kept[: 777 * 4], rtol=1e-4, atol=1e-5)
    assert np.array_equal(first.flatten().to_numpy(), kept)


def test_two_processes_build_the_same_plan_at_once(tensorrt: None, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from featuremill.transforms.onnx_backend import open_model, wanted_of\n"
        "from featuremill.transforms.tensorrt_profiles import rows_only\n"
        f"session = open_model(Path({small_columns()!r}).read_bytes(), 'm', profiles=rows_only(8, 'm'),\n"
        f"    wanted=wanted_of(None, 'tensorrt', cache={str(tmp_path)!r}))\n"
        "print(session.run(['vector'], {'x': np.ones((3, 2), np.float32)})[0].shape)"
    )
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(
            lambda _: subprocess.run(
                [sys.executable, "-c", script], capture_output=True, text=True, check=True,
                env={"PYTHONPATH": ":".join(sys.path)},
            ),
            range(2),
        ))  # fmt: skip
    assert [d.stdout.strip().splitlines()[-1] for d in done] == ["(3, 4)"] * 2
    assert len(list(tmp_path.glob("*.plan"))) == 1


@pytest.mark.parametrize("framework", ["tensorrt", "onnx"])
def test_a_score_jobs_model_on_tensorrt(tensorrt: None, tmp_path: Path, framework: Any) -> None:
    options: dict[str, Any] = {"cache": str(tmp_path)} | ({"require": "tensorrt"} if framework == "onnx" else {})
    model = load_model(ModelSpec(path=small_columns(), framework=framework, options=options, batch_rows=16))
    assert model.choice is not None and model.choice.backend == "tensorrt"
    on_cpu = load_model(ModelSpec(path=small_columns()))
    for count in (0, 1, 16, 33):
        rows = np.random.default_rng(count).normal(size=(count, 2)).astype(np.float32)
        found, wanted = model.predict({"x": rows})["vector"], on_cpu.predict({"x": rows})["vector"]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)

"""Where ONNX models run: the order, what is required, why a backend was not taken, and that it is told."""

from __future__ import annotations

import importlib.util
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch

from featuremill.artifacts.errors import ParameterError, ParameterTypeError
from featuremill.transforms import onnx_backend, tensorrt_runner
from featuremill.transforms.embedding import EmbedText
from featuremill.transforms.embedding_columns import EmbedColumns
from featuremill.transforms.embedding_images import EmbedImage
from featuremill.transforms.onnx_backend import SWITCH, Wanted, choices, open_model, wanted_here, wanted_of
from featuremill.transforms.onnx_sessions import Choice, ModelFileError
from featuremill.transforms.tensorrt_profiles import Bounds, rows_only, token_profiles
from support import tensorrt_stand_in as stand_in
from support.small_bert import small_model
from support.small_encoders import image_bytes, small_columns, small_vision

NO_GPU = "CUDAExecutionProvider" not in onnxruntime.get_available_providers() and not torch.cuda.is_available()
without_gpu = pytest.mark.skipif(not NO_GPU, reason="there is a GPU, or an ONNX Runtime for one")
INSTALLED = importlib.util.find_spec("tensorrt") is not None


@pytest.fixture
def columns() -> bytes:
    return Path(small_columns()).read_bytes()


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """TensorRT's stand-in, and a place for its plans."""
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    monkeypatch.setattr(tensorrt_runner, "gpu_of", lambda _, index: (torch.device("cpu"), f"stand-in {index}"))
    stand_in.BUILDS.clear()
    return str(tmp_path / "plans")


def opened(model: bytes, wanted: Wanted, where: str = "m.onnx") -> Any:
    return open_model(model, where, wanted=wanted, profiles=rows_only(8, where))


# --- the order --------------------------------------------------------------------------------------------------------


@without_gpu
def test_without_a_gpu_it_is_the_processor_and_the_reasons_are_told_once(
    columns: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "featuremill")
    for _ in range(2):
        session = opened(columns, Wanted(), "told-once.onnx")
    choice = session.choice
    assert (choice.backend, choice.device, [name for name, _ in choice.refused]) == ("cpu", "cpu", ["tensorrt", "cuda"])
    reasons = dict(choice.refused)
    assert "tensorrt" in reasons["tensorrt"] and "this ONNX Runtime has no CUDA" in reasons["cuda"]
    assert choice in choices() and choices().count(choice) == 1
    told = [r.getMessage() for r in caplog.records if "told-once.onnx" in r.getMessage()]
    assert told == [str(choice)]
    assert told[0].startswith("told-once.onnx runs on cpu (cpu). tensorrt: ")


@without_gpu
@pytest.mark.parametrize("name", ["tensorrt", "cuda"])
def test_what_is_required_is_had_or_it_fails(columns: bytes, name: str) -> None:
    with pytest.raises(ParameterError, match=rf"m\.onnx is to run on {name} and nothing else, .* {name}: ") as caught:
        opened(columns, wanted_of(None, name))
    assert caught.value.parameter == "require"
    with pytest.raises(ParameterError, match="can run on none of tensorrt, cuda here") as caught:
        opened(columns, wanted_of(["tensorrt", "cuda"]))
    assert [backend for backend, _ in caught.value.refused] == ["tensorrt", "cuda"]
    for transform in (
        EmbedText(["x"], small_model(), max_tokens=12, require=name),
        EmbedImage(["x"], small_vision(), require=name),
        EmbedColumns(["x", "y"], small_columns(), require=name),
    ):
        schema = pa.schema({"x": pa.string(), "y": pa.int64()})
        with pytest.raises(ParameterError, match=f"is to run on {name} and nothing else"):
            transform.prepare({}, schema)


@without_gpu
def test_tensorrt_needs_a_gpu(columns: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    with pytest.raises(ParameterError, match="TensorRT needs a GPU, and PyTorch .* sees none here"):
        opened(columns, wanted_of(None, "tensorrt"))


def test_what_a_session_really_got_is_looked_at(columns: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing a provider means that this build knows it; a session may get another without an error."""
    had = onnxruntime.get_available_providers()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", *had])
    if NO_GPU:
        choice = opened(columns, wanted_of(["cuda", "cpu"])).choice
        assert choice.backend == "cpu"
        assert "took CPUExecutionProvider instead: CUDA does not work here" in dict(choice.refused)["cuda"]


def test_a_broken_model_is_no_matter_of_backends() -> None:
    with pytest.raises(ModelFileError, match=r"m\.onnx is none that ONNX Runtime .* can load"):
        opened(b"garbage", Wanted())


# --- what a job says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        ({"backend": "gpu"}, ParameterError, "backend got 'gpu', expected some of tensorrt, cuda, cpu"),
        ({"backend": []}, ParameterError, r"backend got \(\), expected some of"),
        ({"backend": ["cpu", "cpu"]}, ParameterError, "expected some of"),
        ({"backend": 3}, ParameterTypeError, "backend got 3"),
        ({"backend": [1]}, ParameterTypeError, r"backend got \(1,\)"),
        ({"require": "tensort"}, ParameterError, "require got 'tensort', .* Did you mean 'tensorrt'"),
        ({"backend": "cpu", "require": "cuda"}, ParameterError, "require got 'cuda', expected one of cpu"),
        ({"engine_cache": ""}, ParameterTypeError, "engine_cache got '', expected a folder or a bucket URL"),
    ],
)
def test_parameters_that_cannot_work(config: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        EmbedColumns(["x", "y"], "m.onnx", **config)
    assert str(caught.value).startswith("EmbedColumns('x', 'y'): ")


def test_a_process_has_the_last_word(columns: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    op = EmbedColumns(["x", "y"], small_columns(), require="tensorrt")
    monkeypatch.setenv(SWITCH, "cpu")
    batch = pa.record_batch({"x": [1.0], "y": [2.0]})
    assert op.apply(batch, op.prepare({}, batch.schema))[0].null_count == 0
    monkeypatch.setenv(SWITCH, "cuda, cpu")
    assert wanted_here(op.wanted).order == ("cuda", "cpu") and not op.wanted.required
    monkeypatch.setenv(SWITCH, "gpu")
    with pytest.raises(ParameterError, match=f"The environment variable {SWITCH}: backend got .*'gpu'"):
        op.prepare({}, batch.schema)


def test_a_choice_is_told_as_json() -> None:
    choice = Choice("m", "cuda", "cuda:0", (("tensorrt", "it is not installed."),))
    assert choice.to_json()["refused"] == {"tensorrt": "it is not installed."}
    assert str(choice) == "m runs on cuda (cuda:0). tensorrt: it is not installed."


# --- TensorRT, as far as its stand-in goes ----------------------------------------------------------------------------


def test_profiles_by_bucket_of_lengths() -> None:
    made = token_profiles(100, 1024, "m")({"ids": (-1, -1), "mask": (-1, -1)})
    assert [(p["ids"].least, p["ids"].most) for p in made] == [
        ((1, 1), (64, 16)), ((1, 17), (32, 32)), ((1, 33), (16, 64)), ((1, 65), (10, 100)),
    ]  # fmt: skip
    assert all(p["ids"] == p["mask"] for p in made)
    assert [p["ids"].most[1] for p in token_profiles(7, 1024, "m")({"ids": (-1, -1)})] == [7]
    assert token_profiles(7, 1024, "m")({"ids": (3, 7)}) == ()
    (profile,) = rows_only(4, "m")({"x": (-1, 5)})
    assert profile["x"] == Bounds((1, 5), (4, 5), (4, 5))
    with pytest.raises(ParameterError, match="nothing says how long its rows get"):
        rows_only(4, "m")({"x": (-1, -1)})


def test_transforms_on_tensorrt_give_the_vectors_of_the_processor(tensorrt: str) -> None:
    texts = ["a port", None, "port " * 30, "", "x", "a b c d e f g h i j k l m n o p q r", "a port"]
    files = [image_bytes(i) for i in range(11)]
    on_gpu: dict[str, Any] = {"backend": "tensorrt", "engine_cache": tensorrt}
    for make, batch in (
        (lambda **more: EmbedText(["x"], small_model(), max_tokens=40, **more), pa.record_batch({"x": texts})),
        (lambda **more: EmbedImage(["x"], small_vision(), **more), pa.record_batch({"x": files})),
        (
            lambda **more: EmbedColumns(["x", "y"], small_columns(), **more),
            pa.record_batch({"x": np.arange(5000.0), "y": np.arange(5000.0) / 7}),
        ),
    ):
        found, wanted = (
            op.apply(batch, op.prepare({}, batch.schema))[0] for op in (make(**on_gpu), make(backend="cpu"))
        )
        assert found.is_null().equals(wanted.is_null())
        np.testing.assert_allclose(
            found.flatten().to_numpy(), wanted.flatten().to_numpy(), rtol=1e-5, atol=1e-6, err_msg=str(batch.schema)
        )
    assert len(stand_in.BUILDS) == 3
    backends = {c.model: (c.backend, c.device) for c in choices() if c.backend == "tensorrt"}
    assert backends[small_model()] == backends[small_vision()] == ("tensorrt", "stand-in 0")


def test_plans_are_kept_rebuilt_when_damaged_and_built_at_once(columns: bytes, tensorrt: str) -> None:
    wanted = wanted_of("tensorrt", cache=tensorrt)
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    (expected,) = opened(columns, wanted_of("cpu")).run(["vector"], {"x": rows})
    with ThreadPoolExecutor(4) as pool:
        for session in pool.map(lambda _: opened(columns, wanted), range(4)):
            np.testing.assert_allclose(session.run(["vector"], {"x": rows})[0], expected, rtol=1e-6)
    plans = list(Path(tensorrt).glob("*.plan"))
    assert len(plans) == 1
    built = len(stand_in.BUILDS)
    opened(columns, wanted)
    assert len(stand_in.BUILDS) == built, "what is kept is not built again"
    plans[0].write_bytes(plans[0].read_bytes()[:-3])
    (found,) = opened(columns, wanted).run(["vector"], {"x": rows})
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(stand_in.BUILDS) == built + 1


def test_a_model_that_tensorrt_does_not_take_falls_through(tensorrt: str, columns: bytes) -> None:
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(stand_in.Builder, "build_serialized_network", lambda *_: None)
        choice = opened(columns, wanted_of(["tensorrt", "cpu"], cache=tensorrt), "unbuilt.onnx").choice
    assert choice.backend == "cpu" and "cannot build an engine" in dict(choice.refused)["tensorrt"]


def test_nothing_of_torch_or_the_runtime_is_imported_before_it_is_needed() -> None:
    import subprocess

    script = (
        "import sys, featuremill.transforms.onnx_backend, featuremill.transforms.embedding_images, "
        "featuremill.transforms.tensorrt_runner, featuremill.transforms.tensorrt_plans\n"
        "print(sorted({'torch', 'onnxruntime', 'tensorrt', 'PIL', 'onnx', 'apache_beam'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
    assert onnx_backend.BACKENDS == ("tensorrt", "cuda", "cpu")

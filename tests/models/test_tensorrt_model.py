"""TensorRT: everything up to the engine's calls, which a stand-in answers where there is no GPU."""

from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from obstore.store import MemoryStore
from onnx import TensorProto, helper

from featuremill.artifacts.errors import MissingExtraError, ParameterError, RequestError, StoreError
from featuremill.artifacts.store import ObjectStore
from featuremill.core.models.contract import Model, ModelFileError
from featuremill.core.models.files import digest_of
from featuremill.core.models.onnx_model import OnnxModel
from featuremill.core.models.spec import ModelSpec
from featuremill.core.models.tensorrt_engine import profiles_of
from featuremill.core.models.tensorrt_model import load
from featuremill.transforms import tensorrt_plans
from featuremill.transforms.tensorrt_profiles import Bounds
from featuremill.transforms.tensorrt_runner import TensorRTSession
from support import tensorrt_stand_in as stand_in

INSTALLED = importlib.util.find_spec("tensorrt") is not None


def linear(path: Path, rows: int | str = "rows") -> Path:
    """y = x @ w + b, and a sum of ids under a mask."""
    weights = np.arange(8, dtype=np.float32).reshape(4, 2)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["y"]),
        helper.make_node("Mul", ["ids", "mask"], ["m"]),
        helper.make_node("ReduceSum", ["m", "axis"], ["n"], keepdims=0),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 4]),
        helper.make_tensor_value_info("ids", TensorProto.INT64, [rows, "length"]),
        helper.make_tensor_value_info("mask", TensorProto.INT64, [rows, "length"]),
    ]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 2]),
        helper.make_tensor_value_info("n", TensorProto.INT64, [rows]),
    ]
    constants = [
        helper.make_tensor("w", TensorProto.FLOAT, [4, 2], weights.ravel()),
        helper.make_tensor("b", TensorProto.FLOAT, [2], [1.0, -1.0]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def batch(rows: int, length: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rows)
    return {
        "x": rng.normal(size=(rows, 4)),
        "ids": rng.integers(0, 9, (rows, length)),
        "mask": rng.integers(0, 2, (rows, length)),
    }


def expected(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    weights = np.arange(8, dtype=np.float32).reshape(4, 2)
    x = inputs["x"].astype(np.float32)
    return {"y": x @ weights + np.array([1, -1], np.float32), "n": (inputs["ids"] * inputs["mask"]).sum(1)}


def assert_predicted(model: Model, inputs: dict[str, np.ndarray]) -> None:
    got, wanted = model.predict(inputs), expected(inputs)
    assert list(got) == ["y", "n"]
    for name, array in wanted.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return linear(tmp_path / "model.onnx")


@pytest.fixture(autouse=True)
def no_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    stand_in.BUILDS.clear()


def spec_of(path: Path, **rest: Any) -> ModelSpec:
    ids = {"columns": ["ids"], "pad": {"to": "bucket", "buckets": [4, 8], "mask": "mask"}}
    inputs = {"x": ["a", "b", "c", "d"], "ids": ids}
    options = {"cache": str(path.parent / "cache"), **rest.pop("options", {})}
    return ModelSpec.model_validate(
        {"path": str(path), "framework": "tensorrt", "inputs": inputs, "batch_rows": 8, "options": options, **rest}
    )


def model_of(path: Path, gpu: str = "stand-in 9.0", **rest: Any) -> Model:
    spec, where = spec_of(path, **rest), str(path)
    engine = tensorrt_plans.build_or_fetch(
        path, where, profiles=lambda shapes: profiles_of(shapes, spec, where), digest=digest_of(path, weights=True),
        gpu=gpu, device=torch.device("cpu"), cache=spec.options["cache"],
    )
    session = TensorRTSession(engine, device="cpu", where=where, gpu=gpu)
    return OnnxModel(session, tuple(o.name for o in session.outputs), where=where)


ANY_LENGTH = {"profiles": [{"x": [[1, 4], [4, 4], [8, 4]], **{n: [[1, 1], [4, 3], [8, 8]] for n in ("ids", "mask")}}]}
AT_LEAST_FOUR = {
    "profiles": [{"x": [[4, 4], [4, 4], [8, 4]], **{n: [[4, 3], [4, 3], [8, 3]] for n in ("ids", "mask")}}]
}


@pytest.mark.parametrize("rows", [0, 1, 3, 7, 8, 9, 30])
@pytest.mark.parametrize("options", [ANY_LENGTH, AT_LEAST_FOUR])
def test_batches_of_any_size(path: Path, rows: int, options: dict[str, Any]) -> None:
    assert_predicted(model_of(path, options=options), batch(rows))


def test_named_inputs_in_any_order_of_any_layout(path: Path) -> None:
    inputs = {name: np.asfortranarray(array) for name, array in reversed(batch(5).items())}
    for array in inputs.values():
        array.setflags(write=False)
    assert_predicted(model_of(path, options=ANY_LENGTH), inputs)


def test_results_are_not_overwritten_by_the_next_call(path: Path) -> None:
    model = model_of(path, options=ANY_LENGTH)
    first = model.predict(batch(8))
    copies = {name: array.copy() for name, array in first.items()}
    model.predict(batch(7))
    for name, array in copies.items():
        np.testing.assert_array_equal(first[name], array)


def test_each_bucket_has_its_profile(path: Path) -> None:
    model = model_of(path)
    assert_predicted(model, batch(20, 8))
    assert_predicted(model, batch(3, 4))
    with pytest.raises(ParameterError, match=r"no profile of the engine takes .*ids int64 \(3, 5\).*\(4,\) to \(4,\)"):
        model.predict(batch(3, 5))


def test_threads_take_turns(path: Path) -> None:
    model = model_of(path, options=ANY_LENGTH)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda rows: assert_predicted(model, batch(rows)), list(range(1, 20)) * 3))


def test_the_signature(path: Path) -> None:
    signature = model_of(path).signature
    assert [(t.name, t.dtype, t.shape) for t in signature.inputs] == [
        ("x", "float32", (4,)), ("ids", "int64", (None,)), ("mask", "int64", (None,)),
    ]
    assert [(t.name, t.shape) for t in signature.outputs] == [("y", (2,)), ("n", ())]


def test_a_wrong_width_and_type(path: Path) -> None:
    model = model_of(path, options=ANY_LENGTH)
    with pytest.raises(ParameterError, match=r"'x' is float64 of shape \(2, 3\), the model takes float32"):
        model.predict({**batch(2), "x": np.ones((2, 3))})
    with pytest.raises(ParameterError, match="'ids' is float64"):
        model.predict({**batch(2), "ids": np.ones((2, 3))})


# --- profiles ---------------------------------------------------------------------------------------------------------


def test_a_network_of_fixed_sizes_needs_no_profile(path: Path) -> None:
    assert profiles_of({"x": (8, 4)}, spec_of(path), "m") == ()


def test_lengths_come_from_the_inputs_of_the_job(path: Path) -> None:
    spec = ModelSpec.model_validate({"path": "m", "inputs": {"ids": {"columns": ["i"], "max_length": 16}}})
    (profile,) = profiles_of({"ids": (-1, -1)}, spec, "m")
    assert profile["ids"] == Bounds((1, 1), (1024, 16), (1024, 16))
    first, second = profiles_of({"x": (-1, 4), "ids": (-1, -1), "mask": (-1, -1)}, spec_of(path), "m")
    assert first["mask"] == first["ids"] == Bounds((1, 4), (8, 4), (8, 4))
    assert second["ids"] == Bounds((1, 8), (8, 8), (8, 8))


@pytest.mark.parametrize(
    "profile",
    [
        5,
        {"x": [[1, 4], [2, 4]]},
        {"y": [[1, 4], [2, 4], [3, 4]]},
        {"x": [[1, 4], [9, 4], [3, 4]]},
        {"x": [[1, 5], [2, 5], [3, 5]]},
        {"x": [[1, 4, 1], [2, 4, 1], [3, 4, 1]]},
    ],
)
def test_profiles_that_cannot_be(profile: Any) -> None:
    spec = ModelSpec(path="m", options={"profiles": [profile]})
    with pytest.raises(ParameterError, match="options.profiles got .*expected for each of the inputs"):
        profiles_of({"x": (-1, 4)}, spec, "m.onnx")


# --- the cache --------------------------------------------------------------------------------------------------------


def plans(path: Path) -> list[Path]:
    return sorted((path.parent / "cache").glob("*.plan"))


def test_a_plan_is_built_once(path: Path) -> None:
    for _ in range(3):
        assert_predicted(model_of(path, options=ANY_LENGTH), batch(3))
    assert len(stand_in.BUILDS) == len(plans(path)) == 1


def test_another_model_gpu_release_or_profile_has_its_own_plan(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_of(path)
    model_of(path, batch_rows=9)
    model_of(path, "another GPU")
    monkeypatch.setattr(stand_in, "__version__", "10.9.0")
    model_of(path)
    path.write_bytes(path.read_bytes() + b"\xb2\x06\x01x")  # a field that no reader knows
    model_of(path)
    assert len(stand_in.BUILDS) == len(plans(path)) == 5


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 500])
def test_a_damaged_plan_is_built_again(path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    model_of(path, options=ANY_LENGTH)
    for file in (path.parent / "cache").iterdir():
        file.write_bytes(damage)
    assert_predicted(model_of(path, options=ANY_LENGTH), batch(3))
    assert "is damaged, and is made again" in caplog.text
    model_of(path, options=ANY_LENGTH)
    assert len(stand_in.BUILDS) == 2


def test_a_plan_that_tensorrt_does_not_take_is_built_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model_of(path)
    monkeypatch.setattr(stand_in, "MAGIC", b"other driver  ")
    model_of(path)
    assert "is not taken by TensorRT 11.4.0.106, and is built again" in caplog.text
    assert len(stand_in.BUILDS) == 2


def test_workers_that_build_at_once_agree(path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for model in pool.map(lambda _: model_of(path, options=ANY_LENGTH), range(4)):
            assert_predicted(model, batch(3))
    assert len(plans(path)) == 1
    assert {f.suffix for f in (path.parent / "cache").iterdir()} == {".plan", ".cache"}


def test_a_cache_that_is_no_folder(path: Path) -> None:
    (path.parent / "file").write_bytes(b"")
    with pytest.raises(RequestError, match="is a file"):
        model_of(path, options={**ANY_LENGTH, "cache": str(path.parent / "file")})


class Full(ObjectStore):
    """A place with no space left."""

    def put(self, path: str, data: bytes, *, create_only: bool = False) -> None:
        raise StoreError(f"Cannot write {path}: no space left on device.")


def test_a_cache_that_cannot_be_written_costs_the_building_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tensorrt_plans, "open_store", lambda _: Full(MemoryStore(), "memory"))
    for _ in range(2):
        assert_predicted(model_of(path, options=ANY_LENGTH), batch(3))
    assert "cannot be kept: Cannot write" in caplog.text
    assert len(stand_in.BUILDS) == 2


# --- files and machines -----------------------------------------------------------------------------------------------


def test_what_is_no_onnx_is_not_parsed(path: Path) -> None:
    path.write_bytes(b"\x08\x07garbage")
    with pytest.raises(ModelFileError, match=r"cannot be parsed by TensorRT 11.*INVALID_GRAPH.*ONNX Runtime instead"):
        model_of(path)


def test_types_that_have_no_arrays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stand_in.TYPES, "tensor(float)", stand_in.DataType.FP8)
    with pytest.raises(ModelFileError, match="the tensor 'x' is FP8, expected one of FLOAT, HALF"):
        model_of(path)


@pytest.mark.skipif(INSTALLED, reason="TensorRT is installed")
def test_tensorrt_that_is_not_installed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tensorrt")
    with pytest.raises(MissingExtraError, match=r"needs the package tensorrt.*featuremill\[tensorrt\]"):
        load(str(path), spec_of(path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_a_machine_without_a_gpu(path: Path, device: str) -> None:
    with pytest.raises(RequestError, match="TensorRT needs a GPU, and PyTorch .* sees none here"):
        load(str(path), spec_of(path, device=device))


def test_files_and_releases_are_checked_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError, match="device got 'tpu', expected cpu, cuda or cuda:1"):
        load(str(path), spec_of(path, device="tpu"))
    with pytest.raises(ParameterError, match=r"'profile' is none of TensorRT's\. Did you mean 'profiles'"):
        load(str(path), spec_of(path, options={"profile": []}))
    with pytest.raises(ModelFileError, match="there is no such file"):
        load(str(path.with_name("none.onnx")), spec_of(path))
    monkeypatch.setattr(stand_in, "__version__", "8.6.1")
    with pytest.raises(RequestError, match=r"TensorRT 8\.6\.1 is installed, expected 10 or newer"):
        load(str(path), spec_of(path))

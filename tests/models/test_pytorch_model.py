"""PyTorch: weights with a class, exported programs, and files that try to run code."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model

from featuremill.artifacts.errors import ParameterError, RequestError
from featuremill.core.models.contract import Model, ModelFileError, PredictionError, Signature
from featuremill.core.models.pytorch_export import checked_archive
from featuremill.core.models.pytorch_model import PyTorchModel, load
from featuremill.core.models.spec import ModelSpec
from support.model_conformance import ModelConformance
from support.torch_models import InPlace, Mlp, Named, TextScore, Tied

MLP = "support.torch_models:Mlp"
ROWS = torch.export.Dim("rows")


def numbers(rows: int, width: int = 4) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(64, width))[:rows]


def seeded(kind: Callable[..., torch.nn.Module], **arguments: Any) -> torch.nn.Module:
    torch.manual_seed(3)
    return kind(**arguments).eval()


def weights_file(folder: Path, module: torch.nn.Module) -> str:
    path = folder / "model.safetensors"
    save_file(module.state_dict(), path)
    return str(path)


def spec_of(path: str, class_: str | None = MLP, **rest: Any) -> ModelSpec:
    named = {"class": class_} if class_ else {}
    return ModelSpec.model_validate({"path": path, **named, **rest})


def program(folder: Path, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], **shapes: Any) -> str:
    path = folder / "model.pt2"
    torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes or None), path)
    return str(path)


class TestWeights(ModelConformance):
    @pytest.fixture(scope="class")
    def spec(self, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        path = weights_file(tmp_path_factory.mktemp("weights"), seeded(Mlp, shape="dict"))
        return spec_of(path, arguments={"shape": "dict"})

    def inputs(self, rows: int) -> dict[str, np.ndarray]:
        return {"x": numbers(rows).astype(np.float32)}


class TestProgram(ModelConformance):
    @pytest.fixture(scope="class")
    def spec(self, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        inputs = torch.zeros(4, 7, dtype=torch.int64), torch.ones(4, 7)
        shape = {0: ROWS, 1: torch.export.Dim("length", max=64)}
        path = program(tmp_path_factory.mktemp("program"), seeded(TextScore), inputs, ids=shape, mask=shape)
        return spec_of(path, None)

    def inputs(self, rows: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(1)
        ids = rng.integers(0, 20, size=(64, 5))
        return {"ids": ids[:rows], "mask": (rng.random((64, 5)) > 0.3).astype(np.float32)[:rows]}

    def wrong_width(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**inputs, "ids": inputs["ids"][0]}


# --- what a model gives and takes -------------------------------------------------------------------------------------


def test_weights_give_what_the_module_gives(tmp_path: Path) -> None:
    module = seeded(Mlp)
    model = load(weights_file(tmp_path, module), spec_of("x"))
    x = numbers(9)
    wanted = module(torch.from_numpy(x).float()).detach().numpy()
    np.testing.assert_array_equal(model.predict({"anything": x})["output"], wanted)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ("tensor", ["output"]),
        ("tuple", ["output_0", "output_1"]),
        ("dict", ["logits", "score"]),
        ("dataclass", ["logits", "score"]),
    ],
)
def test_outputs_are_named(tmp_path: Path, shape: str, names: list[str]) -> None:
    model = load(weights_file(tmp_path, seeded(Mlp)), spec_of("x", arguments={"shape": shape}))
    assert list(model.predict({"x": numbers(3)})) == names


def test_an_output_that_is_no_tensor_is_an_error(tmp_path: Path) -> None:
    model = load(weights_file(tmp_path, seeded(Mlp)), spec_of("x", arguments={"shape": "number"}))
    with pytest.raises(PredictionError, match="gave float for 'scalar', expected a tensor"):
        model.predict({"x": numbers(3)})


def test_inputs_go_by_name_and_optional_ones_may_be_left_out(tmp_path: Path) -> None:
    module = seeded(Named)
    path = weights_file(tmp_path, module)
    x, weight, offset = numbers(5, 3), np.arange(5.0), np.ones(5)
    plain = load(path, spec_of(path, "support.torch_models:Named"))
    assert [t.name for t in plain.signature.inputs] == ["numbers", "weight"]
    inputs = {"offset": ["o"], "weight": "w", "numbers": ["a", "b", "c"]}
    full = load(path, spec_of(path, "support.torch_models:Named", inputs=inputs))
    assert [t.name for t in full.signature.inputs] == ["numbers", "weight", "offset"]
    got = full.predict({"offset": offset, "weight": weight, "numbers": x})["output"]
    np.testing.assert_allclose(got, plain.predict({"weight": weight, "numbers": x})["output"] + 1, rtol=1e-6)


def test_numbers_get_the_type_of_the_parameters_unless_told(tmp_path: Path) -> None:
    torch.manual_seed(3)
    path = weights_file(tmp_path, Mlp().double())
    spec = spec_of(path, inputs={"x": {"columns": ["a", "b", "c", "d"], "dtype": "float64"}})
    model = load(path, spec)  # the class makes float32 parameters
    assert load(path, spec_of(path)).predict({"x": numbers(2)})["output"].dtype == np.float32
    with pytest.raises(ParameterError, match=r"does not take x float64 \(2, 4\).*same dtype.*Change the columns"):
        model.predict({"x": numbers(2)})


def test_half_precision_comes_out_as_numbers_that_numpy_has(tmp_path: Path) -> None:
    module = seeded(Mlp).to(torch.bfloat16)
    path = tmp_path / "whole.pt"
    torch.save(module, path)
    spec = spec_of(str(path), None, allow_pickle=True, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert load(str(path), spec).predict({"x": numbers(2)})["output"].dtype == np.float32


def test_a_wrong_width_is_one_clear_error(tmp_path: Path) -> None:
    model = load(weights_file(tmp_path, seeded(Mlp)), spec_of("x"))
    with pytest.raises(ParameterError, match=r"does not take x float64 \(3, 5\): mat1 and mat2.*Change the columns"):
        model.predict({"x": numbers(3, 5)})


def test_a_wrong_type_is_one_clear_error(tmp_path: Path) -> None:
    model = load(weights_file(tmp_path, seeded(Mlp)), spec_of("x"))
    with pytest.raises(ParameterError, match=r"x int64 \(3, 4\).*or their dtype"):
        model.predict({"x": np.ones((3, 4), np.int64)})
    with pytest.raises(ParameterError, match="'x' is object, PyTorch takes numbers"):
        model.predict({"x": np.array(["a", "b"], dtype=object)})


def test_errors_of_single_rows_stay_what_they_are(tmp_path: Path) -> None:
    model = load(weights_file(tmp_path, seeded(TextScore)), spec_of("x", "support.torch_models:TextScore"))
    with pytest.raises(IndexError):
        model.predict({"ids": np.array([[1, 99]]), "mask": np.ones((1, 2))})


def test_a_model_that_works_in_place_leaves_the_inputs_alone(tmp_path: Path) -> None:
    model = load(weights_file(tmp_path, seeded(InPlace)), spec_of("x", "support.torch_models:InPlace"))
    x = numbers(6).astype(np.float32)
    before = x.copy()
    results = [model.predict({"x": x})["output"] for _ in range(3)]
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(results[0], results[2])


def test_arrays_are_shared_after_the_first_call_and_no_warning_is_given(tmp_path: Path, monkeypatch: Any) -> None:
    model = load(weights_file(tmp_path, seeded(Mlp)), spec_of("x"))
    x = numbers(6).astype(np.float32)
    x.setflags(write=False)
    first = model.predict({"x": x})["output"]
    seen: list[int] = []
    original = torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda a: (seen.append(a.ctypes.data), original(a))[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = model.predict({"x": x})["output"]
        backwards = model.predict({"x": x[::-1]})["output"]
    assert seen[0] == x.ctypes.data
    np.testing.assert_array_equal(again, first)
    np.testing.assert_allclose(backwards[::-1], first, rtol=1e-5, atol=1e-6)


def test_the_number_of_threads_is_kept_up(tmp_path: Path) -> None:
    path = weights_file(tmp_path, seeded(Mlp))
    two, one = load(path, spec_of(path, threads=2)), load(path, spec_of(path))
    before = torch.get_num_threads()
    try:
        two.predict({"x": numbers(2)})
        assert torch.get_num_threads() == 2
        one.predict({"x": numbers(2)})
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = weights_file(tmp_path, seeded(Mlp))
    with pytest.raises(RequestError, match=r"device got 'cuda:1', but PyTorch .* sees no GPU here"):
        load(path, spec_of(path, device="cuda:1"))
    with pytest.raises(RequestError, match="device got 'gpu', expected cpu, cuda"):
        load(path, spec_of(path, device="gpu"))


# --- weights and classes that do not fit ------------------------------------------------------------------------------


def test_weights_of_another_shape_are_named(tmp_path: Path) -> None:
    path = weights_file(tmp_path, seeded(Mlp))
    message = r"body.0.weight has the shape \(8, 4\) instead of \(8, 6\).*Check the class and its arguments"
    with pytest.raises(ModelFileError, match=message):
        load(path, spec_of(path, arguments={"features": 6}))


def test_missing_and_unknown_weights_are_named(tmp_path: Path) -> None:
    path = weights_file(tmp_path, seeded(Mlp))
    with pytest.raises(ModelFileError, match=r"dense.weight is missing; .*body.0.bias is not known.*and 1 more"):
        load(path, spec_of(path, "support.torch_models:Named"))


def test_weights_saved_from_a_wrapper_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({f"module.{n}": t for n, t in seeded(Mlp).state_dict().items()}, path)
    with pytest.raises(ModelFileError, match=r"All names begin with 'module\.'"):
        load(str(path), spec_of("x"))


def test_tied_weights_are_in_a_file_once(tmp_path: Path) -> None:
    module = seeded(Tied)
    path = tmp_path / "model.safetensors"
    save_model(module, str(path))
    x = numbers(3).astype(np.float32)
    got = load(str(path), spec_of("x", "support.torch_models:Tied")).predict({"x": x})["output"]
    np.testing.assert_array_equal(got, module(torch.from_numpy(x)).detach().numpy())


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ({"class_": None}, "holds weights alone. Name the model"),
        ({"class_": "no.such.module:Net"}, r"cannot be imported \(No module named 'no'"),
        ({"class_": "support.torch_models:Nett"}, "has no 'Nett'"),
        ({"class_": "builtins:dict"}, "made a dict, expected a torch.nn.Module"),
        ({"arguments": {"layers": 3}}, "cannot be made with arguments .*layers"),
    ],
)
def test_classes_that_cannot_be(tmp_path: Path, rest: dict[str, Any], message: str) -> None:
    path = weights_file(tmp_path, seeded(Mlp))
    with pytest.raises(RequestError, match=message):
        load(path, spec_of(path, **rest))


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "model.pt2"])
def test_files_that_are_missing_or_no_pytorch(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(ModelFileError, match="there is no such file"):
        load(str(path), spec_of("x"))
    path.write_bytes(b"\x08\x0aonnx and no more" * 9)
    with pytest.raises(ModelFileError, match=r"is no safetensors file|can read, or is damaged|is no exported program"):
        load(str(path), spec_of("x"))


# --- pickles ----------------------------------------------------------------------------------------------------------


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    path = tmp_path / "it-ran"
    pickle.loads(pickle.dumps(Payload(path)))
    assert path.exists()  # or the tests below would prove nothing
    path.unlink()
    return path


@pytest.mark.parametrize("key", [None, "model"])
def test_state_dicts_in_a_pickle_of_tensors(tmp_path: Path, key: str | None) -> None:
    module = seeded(Mlp)
    path = tmp_path / "model.pth"
    state = module.state_dict()
    torch.save({key: state, "epoch": 3} if key else state, path)
    options = {"state_dict": key} if key else {}
    x = numbers(3).astype(np.float32)
    got = load(str(path), spec_of("x", options=options)).predict({"x": x})["output"]
    np.testing.assert_array_equal(got, module(torch.from_numpy(x)).detach().numpy())


def test_a_checkpoint_says_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": seeded(Mlp).state_dict(), "epoch": 3}, path)
    with pytest.raises(ModelFileError, match=r"a dict of 'model', 'epoch'.*options: \{state_dict: KEY\}"):
        load(str(path), spec_of("x"))
    with pytest.raises(ModelFileError, match="options.state_dict got 'ema', the file holds a dict of 'model'"):
        load(str(path), spec_of("x", options={"state_dict": "ema"}))


@pytest.mark.parametrize("old", [False, True])
def test_a_crafted_pickle_is_refused_and_does_not_run(tmp_path: Path, proof: Path, old: bool) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": Payload(proof)}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(ModelFileError, match=r"is a pickle that asks for .*so it is refused.*allow_pickle"):
        load(str(path), spec_of("x"))
    assert not proof.exists()


def test_a_bare_pickle_named_pt_does_not_run(tmp_path: Path, proof: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(Payload(proof)))
    with pytest.raises(ModelFileError):
        load(str(path), spec_of("x"))
    assert not proof.exists()


def test_a_trusted_pickle_holds_a_whole_module(tmp_path: Path) -> None:
    module = seeded(Mlp)
    path = tmp_path / "model.pt"
    torch.save(module, path)
    with pytest.raises(ModelFileError, match="asks for support.torch_models.Mlp"):
        load(str(path), spec_of("x", None))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    x = numbers(3).astype(np.float32)
    got = load(str(path), spec_of("x", None, allow_pickle=True, sha256=digest)).predict({"x": x})["output"]
    np.testing.assert_array_equal(got, module(torch.from_numpy(x)).detach().numpy())
    with pytest.raises(ModelFileError, match="is not the file that the job trusts"):
        load(str(path), spec_of("x", None, allow_pickle=True, sha256="0" * 64))


def test_torchscript_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(seeded(Mlp), torch.ones(2, 4)), str(path))
    with pytest.raises(ModelFileError, match="TorchScript archive.*Save the model with torch.export.save"):
        load(str(path), spec_of("x"))


# --- exported programs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The members of a program of real life: constants, infinity, a size that is computed, two kinds of outputs."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = torch.nn.Linear(4, 3)
            self.offset = torch.tensor([1.0, 2.0, 3.0])
            self.register_buffer("scale", torch.ones(3))

        def forward(self, x: torch.Tensor, *, keep: torch.Tensor) -> dict[str, torch.Tensor]:
            hidden = self.dense(x) * self.scale + self.offset
            hidden = hidden.masked_fill(keep[:, None] < 0, float("-inf"))
            return {"p.late": torch.softmax(hidden, -1), "n": torch.full((x.shape[0],), 3.0) * (x.shape[0] * 2 - 1)}

    path = tmp_path_factory.mktemp("archive") / "model.pt2"
    inputs = {"x": torch.ones(4, 4)}, {"keep": torch.ones(4)}
    exported = torch.export.export(
        seeded(Net), tuple(inputs[0].values()), inputs[1], dynamic_shapes={"x": {0: ROWS}, "keep": {0: ROWS}}
    )
    torch.export.save(exported, path)
    with zipfile.ZipFile(path) as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist()}


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(f"model/{name}", content)
    return buffer.getvalue()


def changed(archive: dict[str, bytes], change: Callable[[Any], None], member: str = "models/model.json") -> bytes:
    content = json.loads(archive[member])
    change(content)
    return packed({**archive, member: json.dumps(content).encode()})


def saved(folder: Path, data: bytes) -> str:
    path = folder / "model.pt2"
    path.write_bytes(data)
    return str(path)


def test_a_checked_program_gives_what_the_original_gives(tmp_path: Path, archive: dict[str, bytes]) -> None:
    path = saved(tmp_path, packed(archive))
    x, keep = numbers(5).astype(np.float32), np.array([1, -1, 1, 1, -1], np.float32)
    got = load(path, spec_of(path, None)).predict({"keep": keep, "x": x})
    wanted = torch.export.load(path).module()(torch.from_numpy(x), keep=torch.from_numpy(keep))
    assert list(got) == ["p.late", "n"]
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(got[name], tensor.detach().numpy())


def test_a_program_tells_its_inputs(tmp_path: Path, archive: dict[str, bytes]) -> None:
    path = saved(tmp_path, packed(archive))
    model: Model = load(path, spec_of(path, None))
    assert [(t.name, t.dtype, t.shape) for t in model.signature.inputs] == [
        ("x", "float32", (4,)), ("keep", "float32", ()),
    ]
    with pytest.raises(ParameterError, match=r"'x' is float64 of shape \(2, 5\), the model takes float32 of shape"):
        model.predict({"x": numbers(2, 5), "keep": np.ones(2)})
    with pytest.raises(ParameterError, match="the input 'keep' is missing"):
        model.predict({"x": numbers(2)})


def test_a_program_for_one_size_of_batch_is_refused(tmp_path: Path) -> None:
    path = program(tmp_path, seeded(Mlp), (torch.ones(4, 4),))
    with pytest.raises(ModelFileError, match=r"exported for batches of exactly 4 rows.*dynamic_shapes=\{'x'"):
        load(path, spec_of(path, None))


def pickled_weight(proof: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Payload(proof), buffer)
    return buffer.getvalue()


def crafted(kind: str, archive: dict[str, bytes], proof: Path) -> bytes:
    """A program that runs code when torch loads it, or when its module is made or called."""
    python = f"__import__('pathlib').Path({str(proof)!r}).touch()"
    graph = "graph_module", "graph"

    def pickles(content: Any) -> None:
        next(iter(content["config"].values()))["use_pickle"] = True

    def opaque(content: Any) -> None:
        next(iter(content["config"].values())).update(path_name="opaque_obj_0/weight_0", use_pickle=True)

    def size(content: Any) -> None:
        content[graph[0]][graph[1]]["tensor_values"]["x"]["sizes"][1] = {"as_expr": {"expr_str": python, "hint": None}}

    def guard(content: Any) -> None:
        content["guards_code"] = [python]

    def call(content: Any) -> None:
        node = content[graph[0]][graph[1]]["nodes"][0]
        node["target"] = "torch.os.system"
        node["inputs"] = [{"name": "", "arg": {"as_string": f"touch {proof}"}, "kind": 1}]

    def name(content: Any) -> None:
        signature = content["graph_module"]["module_call_graph"][0]["signature"]
        signature["forward_arg_names"] = [f"x={python}", "keep"]

    member, config = "data/weights/weight_0", "data/weights/model_weights_config.json"
    if kind == "weights":
        return changed({**archive, member: pickled_weight(proof)}, pickles, config)
    if kind == "object":
        constants = "data/constants/"
        hidden = {f"{constants}opaque_obj_0/weight_0": pickle.dumps(Payload(proof))}
        return changed({**archive, **hidden}, opaque, f"{constants}model_constants_config.json")
    if kind == "samples":
        return packed({**archive, "data/sample_inputs/model.pt": pickled_weight(proof)})
    change = {"size": size, "guard": guard, "call": call, "name": name}[kind]
    return changed(archive, change)


@pytest.mark.parametrize("kind", ["weights", "object", "samples", "size", "call", "name"])
def test_a_crafted_program_is_refused_and_does_not_run(
    tmp_path: Path, archive: dict[str, bytes], proof: Path, kind: str
) -> None:
    path = saved(tmp_path, crafted(kind, archive, proof))
    with pytest.raises(ModelFileError, match=r"could run code when it is loaded: in .*set allow_pickle: true"):
        load(path, spec_of(path, None))
    assert not proof.exists()


@pytest.mark.parametrize("kind", ["weights", "object", "samples", "size", "guard"])
def test_torch_itself_would_run_it(tmp_path: Path, archive: dict[str, bytes], proof: Path, kind: str) -> None:
    path = saved(tmp_path, crafted(kind, archive, proof))
    # What torch says afterwards does not matter: it is too late.
    with suppress(Exception):
        torch.export.load(path).module()(torch.ones(2, 4), keep=torch.ones(2))
    assert proof.exists()


def test_guards_are_left_out(tmp_path: Path, archive: dict[str, bytes], proof: Path) -> None:
    path = saved(tmp_path, crafted("guard", archive, proof))
    model = load(path, spec_of(path, None))
    assert model.predict({"x": numbers(2), "keep": np.ones(2)})["n"].shape == (2,)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("torch.ops.aten.linear.default", True),
        ("torch.ops.aten.__and__.Tensor", True),
        ("torch.ops.aten._softmax.default", True),
        ("_operator.floordiv", True),
        ("torch.ops.aten.from_file.default", False),
        ("torch.ops.load_library", False),
        ("torch.ops.aten.__class__.mro", False),
        ("torch.os.system", False),
        ("torch.hub.load", False),
        ("_operator.attrgetter", False),
        ("torch.ops.evil.op.default", False),
    ],
)
def test_operators_that_a_program_may_call(archive: dict[str, bytes], target: str, allowed: bool) -> None:
    def call(content: Any) -> None:
        content["graph_module"]["graph"]["nodes"][0]["target"] = target

    data = changed(archive, call)
    if allowed:
        assert checked_archive(data, "model.pt2")
    else:
        with pytest.raises(ModelFileError, match="not among the operators"):
            checked_archive(data, "model.pt2")


@pytest.mark.parametrize(
    ("size", "allowed"),
    [
        ("Symbol('s17', positive=True, integer=True)", True),
        ("2*Symbol('s17', integer=True) + 1", True),
        ("Max(1, FloorDiv(Symbol('s0'), 2))", True),
        ("s0*3.5", True),
        ("__import__('os')", False),
        ("s0.__class__", False),
        ("(1).real", False),
        ("lambda: 1", False),
        ("Symbol('s0').func", False),
        ("Symbol('a' + __import__('os').name)", False),
        ("\uff45val(s0)", False),
        ("open(s0)", False),
    ],
)
def test_sizes_are_arithmetic(archive: dict[str, bytes], size: str, allowed: bool) -> None:
    def resize(content: Any) -> None:
        sizes = content["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        sizes[0] = {"as_expr": {"expr_str": size, "hint": None}}

    data = changed(archive, resize)
    if allowed:
        assert checked_archive(data, "model.pt2")
    else:
        with pytest.raises(ModelFileError, match="more than arithmetic"):
            checked_archive(data, "model.pt2")


def test_compiled_code_in_a_program_is_refused(archive: dict[str, bytes]) -> None:
    with pytest.raises(ModelFileError, match="compiled code"):
        checked_archive(packed({**archive, "data/aotinductor/model/model.so": b"\x7fELF"}), "model.pt2")


def test_a_member_twice_is_refused(archive: dict[str, bytes]) -> None:
    buffer = io.BytesIO(packed(archive))
    with zipfile.ZipFile(buffer, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        file.writestr("model/models/model.json", b"{}")
    with pytest.raises(ModelFileError, match="a member twice"):
        checked_archive(buffer.getvalue(), "model.pt2")


@pytest.mark.parametrize("member", ["models/model.json", "data/weights/model_weights_config.json"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b'{"config": 5, "graph_module": 5}', b"\xff"])
def test_damaged_programs(tmp_path: Path, archive: dict[str, bytes], member: str, content: bytes) -> None:
    path = saved(tmp_path, packed({**archive, member: content}))
    with pytest.raises(ModelFileError, match=r"is no exported program|cannot be read by PyTorch"):
        load(path, spec_of(path, None))


def test_a_program_of_an_older_format_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("serialized_exported_program.json", b"{}")
    with pytest.raises(ModelFileError, match="format of PyTorch before 2.8"):
        checked_archive(buffer.getvalue(), "model.pt2")


@pytest.mark.parametrize(("device", "rows"), [("cpu", 16_384), ("meta", None)])
def test_calls_are_small_on_the_cpu_only(device: str, rows: int | None) -> None:
    spec = spec_of("m.safetensors", device=device)
    assert PyTorchModel(lambda tensors: tensors, Signature(), spec, where="m").batch_rows == rows

"""TensorFlow: .keras files and SavedModel folders, and those that try to run code."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
import tensorflow as tf

from featuremill.artifacts.errors import ParameterError, RequestError
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.spec import ModelSpec
from featuremill.core.models.tensorflow_model import load
from support.keras_layers import Double, Plain
from support.model_conformance import ModelConformance

pytestmark = [
    # The names of inputs are the keys of a dict, and the test needs both to be told apart.
    pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning"),
    # Keras 3.15 with NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


def numbers(rows: int, width: int = 4) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(64, width)).astype(np.float32)[:rows]


def spec_of(path: object, **rest: Any) -> ModelSpec:
    return ModelSpec.model_validate({"path": str(path), **rest})


def dense() -> keras.Model:
    keras.utils.set_random_seed(3)
    x = keras.Input((4,), name="x")
    return keras.Model(x, keras.layers.Dense(2, name="late")(keras.layers.Dropout(0.5)(x)))


def two_by_two() -> keras.Model:
    """Two inputs, one of them text, and two outputs."""
    keras.utils.set_random_seed(3)
    amount, carrier = keras.Input((3,), name="amount"), keras.Input((), dtype="string", name="carrier")
    ids = keras.layers.StringLookup(vocabulary=["AA", "UA"])(carrier)
    return keras.Model({"n": amount, "c": carrier}, {"score": keras.layers.Dense(1)(amount), "id": ids})


class TestKeras(ModelConformance):
    @pytest.fixture(scope="class")
    def spec(self, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        path = tmp_path_factory.mktemp("keras") / "model.keras"
        two_by_two().save(path)
        return spec_of(path)

    def inputs(self, rows: int) -> dict[str, np.ndarray]:
        carriers = np.array(["AA", "UA", "??"] * 20, dtype=object)
        return {"n": numbers(rows, 3), "c": carriers[:rows]}


class TestSavedModel(ModelConformance):
    @pytest.fixture(scope="class")
    def spec(self, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
        path = tmp_path_factory.mktemp("saved") / "model"
        weights = tf.Variable(numbers(4, 2))

        class Module(tf.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weights = weights

            @tf.function(
                input_signature=[tf.TensorSpec((None, 4), tf.float32, "x"), tf.TensorSpec((None,), tf.string, "text")]
            )
            def serve(self, x: Any, text: Any) -> dict[str, Any]:
                return {"late": x @ self.weights, "said": tf.strings.upper(text)}

        module = Module()
        tf.saved_model.save(module, str(path), {"serving_default": module.serve})
        return spec_of(path)

    def inputs(self, rows: int) -> dict[str, np.ndarray]:
        texts = np.array(["a", "é", ""] * 20, dtype=object)
        return {"x": numbers(rows), "text": texts[:rows]}


def test_a_keras_file_gives_what_the_model_gives(tmp_path: Path) -> None:
    model = dense()
    model.save(tmp_path / "model.keras")
    loaded = load(str(tmp_path / "model.keras"), spec_of("x"))
    got = loaded.predict({"x": numbers(5).astype(np.float64)})
    assert list(got) == ["late"]
    np.testing.assert_allclose(got["late"], model(numbers(5)).numpy(), rtol=1e-6)
    assert [(t.name, t.dtype, t.shape) for t in loaded.signature.inputs] == [("x", "float32", (4,))]


def test_a_sequential_model_has_names(tmp_path: Path) -> None:
    layers = [keras.Input((4,), name="first"), keras.layers.Dense(3, name="last")]
    keras.Sequential(layers).save(tmp_path / "model.keras")
    model = load(str(tmp_path / "model.keras"), spec_of("x"))
    assert [t.name for t in model.signature.inputs] == ["first"]
    assert [(t.name, t.shape) for t in model.signature.outputs] == [("last", (3,))]
    assert model.predict({"first": numbers(2)})["last"].shape == (2, 3)


def test_an_exported_keras_model_is_a_saved_model(tmp_path: Path) -> None:
    model = dense()
    model.export(str(tmp_path / "exported"), verbose=False)
    got = load(str(tmp_path / "exported"), spec_of("x")).predict({"x": numbers(5)})
    np.testing.assert_allclose(got["output_0"], model(numbers(5)).numpy(), rtol=1e-6)


def test_a_class_of_the_users_own_is_imported_by_name(tmp_path: Path) -> None:
    x = keras.Input((4,), name="x")
    path = tmp_path / "model.keras"
    keras.Model(x, Double(name="twice")(x)).save(path)
    model = load(str(path), spec_of(path, framework="tensorflow", **{"class": "support.keras_layers:Double"}))
    np.testing.assert_array_equal(model.predict({"x": numbers(3)})["twice"], 2 * numbers(3))
    with pytest.raises(ModelFileError, match=r"needs the class support\.keras_layers\.Double, .*Name it"):
        load(str(path), spec_of(path))
    with pytest.raises(RequestError, match="has no .Triple."):
        load(str(path), spec_of(path, **{"class": "support.keras_layers:Triple"}))


def test_a_model_written_as_a_class(tmp_path: Path) -> None:
    plain, path = Plain(), tmp_path / "model.keras"
    wanted = plain(numbers(3)).numpy()
    plain.save(path)
    model = load(str(path), spec_of(path, framework="tensorflow", **{"class": "support.keras_layers:Plain"}))
    assert model.signature.inputs == ()
    np.testing.assert_allclose(model.predict({"any": numbers(3)})["output"], wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": numbers(3, 5)}, r"'x' is float32 of shape \(3, 5\), the model takes float32 of shape \(n_rows, 4\)"),
        ({"x": np.array([["a"] * 4], dtype=object)}, "'x' is object of shape"),
        ({"x": numbers(3)[:, 0]}, r"'x' is float32 of shape \(3,\)"),
        ({"x": numbers(3), "y": numbers(3)}, "the model has no input 'y'. Known: 'x'"),
    ],
)
def test_inputs_that_the_model_does_not_take(tmp_path: Path, inputs: dict[str, Any], message: str) -> None:
    dense().save(tmp_path / "model.keras")
    model = load(str(tmp_path / "model.keras"), spec_of("x"))
    with pytest.raises(ParameterError, match=message):
        model.predict(inputs)


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    dense().save(tmp_path / "model.keras")
    with pytest.raises(RequestError, match="device got 'cuda:7', but TensorFlow"):
        load(str(tmp_path / "model.keras"), spec_of("x", device="cuda:7"))
    with pytest.raises(RequestError, match="expected cpu, cuda"):
        load(str(tmp_path / "model.keras"), spec_of("x", device="gpu"))


# --- files that are refused -------------------------------------------------------------------------------------------


@pytest.fixture
def with_lambda(tmp_path: Path) -> Path:
    """A model whose lambda leaves a file behind wherever it is called."""
    proof = str(tmp_path / "it-ran")
    layer = keras.layers.Lambda(lambda x: (__import__("pathlib").Path(proof).touch(), x)[1], output_shape=(4,))
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((4,)), layer]).save(path)
    keras.saving.load_model(path, safe_mode=False)(numbers(1))
    Path(proof).unlink()  # it would run
    return path


def test_a_lambda_is_refused_and_does_not_run(with_lambda: Path) -> None:
    with pytest.raises(ModelFileError, match="holds a lambda, which is Python code, so it is refused.*allow_pickle"):
        load(str(with_lambda), spec_of(with_lambda))
    assert not with_lambda.with_name("it-ran").exists()


def test_a_trusted_lambda_runs(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x + 1, name="more")]).save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    model = load(str(path), spec_of(path, allow_pickle=True, sha256=digest))
    np.testing.assert_array_equal(model.predict({"x": numbers(2)})["more"], numbers(2) + 1)
    with pytest.raises(ModelFileError, match="is not the file that the job trusts"):
        load(str(path), spec_of(path, allow_pickle=True, sha256="0" * 64))


def rewritten(path: Path, change: Any) -> None:
    """The .keras file with another configuration."""
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_layer_that_asks_for_a_function_of_python_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    dense().save(path)

    def change(config: Any) -> None:
        config["config"]["layers"][1].update(module="os", class_name="system", registered_name=None)

    rewritten(path, change)
    with pytest.raises(ModelFileError, match=r"needs the class os\.system, which is not Keras' own"):
        load(str(path), spec_of(path))


def test_an_operator_that_writes_files_is_refused(tmp_path: Path) -> None:
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
        def serve(self, x: Any) -> Any:
            tf.io.write_file(str(tmp_path / "it-ran"), "x")
            return x

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "model"), {"serving_default": module.serve})
    with pytest.raises(ModelFileError, match="the operator WriteFile, so it is refused: it reads or writes files"):
        load(str(tmp_path / "model"), spec_of("x"))
    assert not (tmp_path / "it-ran").exists()


def test_a_signature_by_name(tmp_path: Path) -> None:
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
        def score(self, x: Any) -> Any:
            return {"total": tf.reduce_sum(x, 1)}

    module, path = Module(), tmp_path / "model"
    tf.saved_model.save(module, str(path), {"score": module.score})
    assert list(load(str(path), spec_of(path, options={"signature": "score"})).predict({"x": numbers(2)})) == ["total"]
    with pytest.raises(ModelFileError, match=r"no signature 'serving_default'\. Known: 'score'\. Set options"):
        load(str(path), spec_of(path))


def test_a_signature_for_a_fixed_number_of_rows_is_refused(tmp_path: Path) -> None:
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((8, 4), tf.float32, "x")])
        def serve(self, x: Any) -> Any:
            return x

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "model"), {"serving_default": module.serve})
    with pytest.raises(ModelFileError, match=r"'x' has the shape \(8, 4\), expected a first dimension"):
        load(str(tmp_path / "model"), spec_of("x"))


def test_files_that_are_missing_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no such file or folder"):
        load(str(tmp_path / "model.keras"), spec_of("x"))
    (tmp_path / "model.keras").write_bytes(b"no zip")
    with pytest.raises(ModelFileError, match="is no .keras file, or is damaged"):
        load(str(tmp_path / "model.keras"), spec_of("x"))
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ModelFileError, match=r"HDF5 files \(.h5\) are not read"):
        load(str(tmp_path / "model.h5"), spec_of("x"))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(ModelFileError, match="is no SavedModel folder"):
        load(str(tmp_path / "saved"), spec_of("x"))


def test_damaged_weights_are_an_error_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    dense().save(path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"no weights" if name.endswith(".h5") else old.read(name))
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ModelFileError, match="cannot be loaded by Keras"):
        load(str(path), spec_of(path))


def test_another_backend_of_keras_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense().save(tmp_path / "model.keras")
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RequestError, match="Keras runs on jax here. Set the environment variable KERAS_BACKEND="):
        load(str(tmp_path / "model.keras"), spec_of("x"))

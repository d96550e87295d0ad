"""Which framework a file is of, what is refused, and where models come from."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from obstore.store import MemoryStore

from featuremill.artifacts.errors import FeaturemillError
from featuremill.artifacts.store import ObjectStore
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.files import digest_of, fetch, local_path
from featuremill.core.models.loading import framework_of, load_model, model_version
from featuremill.core.models.sniff import looks_like
from featuremill.core.models.spec import ModelSpec
from support.small_models import classifier, features, onnx_file, skops_file


class Harmful:
    """What unpickles as a call of the author's choice."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.trace),))


def sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_a_missing_file_suggests_what_is_there(tmp_path: Path) -> None:
    onnx_file(tmp_path, classifier(), "late.onnx")
    with pytest.raises(ModelFileError, match=r"There is no model .*late\.onx\. Did you mean 'late\.onnx'\?"):
        load_model(ModelSpec(path=str(tmp_path / "late.onx")))
    with pytest.raises(ModelFileError, match="no folder"):
        load_model(ModelSpec(path=str(tmp_path / "nowhere" / "late.onnx")))


def test_frameworks_by_name_and_content(tmp_path: Path) -> None:
    skops_path, onnx_path = skops_file(tmp_path, classifier()), onnx_file(tmp_path, classifier())
    assert framework_of(ModelSpec(path=skops_path)) == "sklearn"
    assert framework_of(ModelSpec(path=onnx_path)) == "onnx"
    Path(skops_path).rename(tmp_path / "model")
    assert framework_of(ModelSpec(path=str(tmp_path / "model"))) == "sklearn"
    (tmp_path / "unknown.bin").write_bytes(b"nothing that is known")
    with pytest.raises(ModelFileError, match="neither its name nor its content"):
        framework_of(ModelSpec(path=str(tmp_path / "unknown.bin")))


def xgboost_file(folder: Path) -> str:
    import xgboost

    x = features(20)
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(x, label=x[:, 0]), 1)
    booster.save_model(folder / "model.ubj")
    return str(folder / "model.ubj")


def safetensors_file(folder: Path) -> str:
    from safetensors.numpy import save_file

    save_file({"w": np.ones(3, np.float32)}, folder / "model.safetensors")
    return str(folder / "model.safetensors")


MAKERS = {
    "onnx": lambda folder: onnx_file(folder, classifier()),
    "sklearn": lambda folder: skops_file(folder, classifier()),
    "xgboost": xgboost_file,
    "pytorch": safetensors_file,
}
SUFFIX = {"onnx": ".onnx", "sklearn": ".skops", "xgboost": ".ubj", "pytorch": ".safetensors"}


@pytest.mark.parametrize("true", list(MAKERS))
@pytest.mark.parametrize("named", list(MAKERS))
def test_a_file_of_another_framework_is_told_by_its_content(tmp_path: Path, true: str, named: str) -> None:
    path = Path(MAKERS[true](tmp_path))
    wrong = path.rename(tmp_path / f"wrong{SUFFIX[named]}")
    if true == named:
        assert framework_of(ModelSpec(path=str(wrong))) == true
        assert framework_of(ModelSpec.model_validate({"path": str(wrong), "framework": true})) == true
        return
    with pytest.raises(ModelFileError, match=rf"looks like .*name says {named}.*framework: {true}") as caught:
        load_model(ModelSpec(path=str(wrong)))
    assert caught.value.framework == true
    assert framework_of(ModelSpec.model_validate({"path": str(wrong), "framework": true})) == true
    with pytest.raises(ModelFileError, match=f"job says framework: {named}"):
        load_model(ModelSpec.model_validate({"path": str(wrong), "framework": named}))


@pytest.mark.parametrize("name", ["m.pkl", "m.pickle", "m.joblib", "m.skops", "m.onnx", "m.ubj", "m.keras", "m"])
@pytest.mark.parametrize("how", ["pickle", "gzip", "joblib", "zlib"])
def test_a_pickle_is_refused_under_any_name_and_nothing_of_it_runs(tmp_path: Path, name: str, how: str) -> None:
    path, trace = tmp_path / name, tmp_path / "trace"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Harmful(trace)))
    elif how == "gzip":
        path.write_bytes(gzip.compress(pickle.dumps(Harmful(trace))))
    else:
        joblib.dump(Harmful(trace), path, compress=("zlib", 3) if how == "zlib" else 0)
    with pytest.raises(ModelFileError, match="runs whatever code was put in it"):
        load_model(ModelSpec(path=str(path)))
    for framework in ("sklearn", "xgboost", "onnx"):
        with pytest.raises(FeaturemillError):
            load_model(ModelSpec.model_validate({"path": str(path), "framework": framework}))
    assert not trace.exists()


def test_a_pickle_is_loaded_when_the_job_trusts_that_very_file(tmp_path: Path) -> None:
    model, x = classifier(), features(5)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model))
    spec = ModelSpec(path=str(path), allow_pickle=True, sha256=sha256(str(path)))
    np.testing.assert_array_equal(load_model(spec).predict({"X": x})["predict"], model.predict(x))
    path.write_bytes(pickle.dumps(Harmful(tmp_path / "trace")))
    with pytest.raises(ModelFileError, match="not the file that the job"):
        load_model(spec)
    assert not (tmp_path / "trace").exists()
    with pytest.raises(ValueError, match="allow_pickle needs the sha256"):
        ModelSpec(path=str(path), allow_pickle=True)


def test_the_digest_that_the_job_names(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, classifier())
    assert load_model(ModelSpec(path=path, sha256=sha256(path)))
    assert model_version(ModelSpec(path=path)) == sha256(path)[:16]
    with pytest.raises(ModelFileError, match=f"its SHA-256 is {sha256(path)}"):
        load_model(ModelSpec(path=path, sha256="0" * 64))


def test_the_version_of_a_folder_is_of_names_and_contents(tmp_path: Path) -> None:
    def folder(name: str, **files: str) -> Path:
        (tmp_path / name / "variables").mkdir(parents=True)
        for file, text in files.items():
            (tmp_path / name / "variables" / file).write_text(text)
        return tmp_path / name

    first = digest_of(folder("a", x="1", y="2"))
    assert digest_of(folder("b", x="1", y="2")) == first
    assert digest_of(folder("c", x="1", y="3")) != first
    assert digest_of(folder("d", x="1", z="2")) != first


def test_a_custom_model_has_the_version_of_its_class_and_arguments() -> None:
    def version(**fields: Any) -> str:
        return model_version(ModelSpec.model_validate({"class": "a.b:C", **fields}))

    assert version() == version()
    assert version(arguments={"a": 1}) != version()


def test_other_formats_are_named(tmp_path: Path) -> None:
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelFileError, match=r"HDF5 file.*\.keras"):
        load_model(ModelSpec.model_validate({"path": str(tmp_path / "model.h5"), "framework": "tensorflow"}))
    (tmp_path / "saved").mkdir()
    assert looks_like(tmp_path / "saved") is None
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")
    assert framework_of(ModelSpec(path=str(tmp_path / "saved"))) == "tensorflow"


def test_models_in_a_bucket_are_copied_once_for_each_version(tmp_path: Path) -> None:
    store = ObjectStore(MemoryStore(), "memory")
    store.put("m/late.onnx", b"1")
    store.put("m/late.onnx.data", b"2")
    store.put("m/saved/variables/x", b"3")
    first = fetch(store, "m/late.onnx", tmp_path)
    assert first.read_bytes() == b"1" and first.with_name("late.onnx.data").read_bytes() == b"2"
    assert fetch(store, "m/late.onnx", tmp_path) == first
    assert (fetch(store, "m/saved", tmp_path) / "variables" / "x").read_bytes() == b"3"
    store.put("m/late.onnx", b"4")
    again = fetch(store, "m/late.onnx", tmp_path)
    assert again != first and again.read_bytes() == b"4"
    with pytest.raises(ModelFileError, match=r"There is no model memory/m/lat\.onnx"):
        fetch(store, "m/lat.onnx", tmp_path)


def test_paths_with_a_scheme_or_of_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(onnx_file(tmp_path, classifier()))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path(path.as_uri()) == path
    assert local_path("~/model.onnx") == path
    with pytest.raises(ModelFileError, match="Did you mean 'model.onnx'"):
        local_path(path.with_name("modle.onnx").as_uri())

"""``featuremill models``: what it shows, converts and stamps, and how it refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featuremill.artifacts.aliases import move
from featuremill.artifacts.publish import publish
from featuremill.core.models.loading import load_model
from featuremill.core.models.spec import ModelSpec
from featuremill.core.models.stamp import read_stamp
from featuremill.jobs.cli import main
from support.sample_artifact import sample_files
from support.small_models import classifier, features, skops_file


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    skops_file(folder, classifier(), "late.skops")
    return folder


@pytest.fixture
def skops(shared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(shared / "late.skops", tmp_path / "late.skops"))


def said(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> Any:
    """What a command printed: its answer, or its complaint."""
    assert main(["models", *words]) == status
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    if status:
        return err
    return json.loads(out) if "--json" in words else out


def test_show(skops: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = hashlib.sha256(skops.read_bytes()).hexdigest()
    facts = said(capsys, "show", str(skops), "--json")
    assert (facts["framework"], facts["bytes"], facts["sha256"]) == ("sklearn", skops.stat().st_size, digest)
    assert (facts["version"], facts["stamp"]) == (digest[:16], None)
    assert facts["inputs"][0]["shape"] == [4]
    told = said(capsys, "show", str(skops))
    for expected in (str(skops), "sklearn", digest, "rows of shape (4)", "nothing says which artifact"):
        assert expected in told


def test_stamp_is_shown_afterwards(skops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = publish(tmp_path / "artifacts", "sample", sample_files())
    move(tmp_path / "artifacts", "sample", "prod", version, "a test")
    told = said(capsys, "stamp", str(skops), "--artifact", f"{tmp_path}/artifacts/sample@prod")
    assert told.strip() == f"{skops} is stamped: it was trained with sample@{version}."
    stamp = read_stamp(skops)
    assert stamp is not None and (stamp.artifact, stamp.version) == ("sample", version)
    assert said(capsys, "show", str(skops), "--json")["stamp"]["version"] == version
    assert version in said(capsys, "show", str(skops))
    again = said(capsys, "stamp", str(skops), "--artifact", f"{tmp_path}/artifacts/sample@{version}", "--json")
    assert (again["model"], again["version"]) == (str(skops), version)


def test_convert(skops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "late.onnx"
    told = said(capsys, "convert", str(skops), str(target))
    assert "the same labels" in told
    model = load_model(ModelSpec(path=str(target)))
    (name,) = (t.name for t in model.signature.inputs)
    x = features(50)
    labels = model.predict({name: x})[model.signature.outputs[0].name]
    np.testing.assert_array_equal(labels, classifier().predict(x.astype("float64")))
    assert said(capsys, "convert", str(skops), str(target), "--json")["path"] == str(target)


def test_what_is_refused(skops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "show", str(tmp_path / "lat.skops"), status=2)
    assert "There is no model" in told and "late.skops" in told
    assert "no artifact" in said(capsys, "stamp", str(skops), "--artifact", f"{tmp_path}/none@prod", status=2)
    assert not (tmp_path / "late.skops.stamp.json").exists()
    assert ".onnx" in said(capsys, "convert", str(skops), str(tmp_path / "late.bin"), status=2)
    assert "Missing option '--artifact'" in said(capsys, "stamp", str(skops), status=2)
    told = said(capsys, "show", str(skops), "--framework", "onx", status=2)
    assert told.startswith("--framework: ") and "'onnx'" in told
    assert "SHA-256" in said(capsys, "show", str(skops), "--sha256", "0" * 64, status=2)


def test_a_pickle_is_refused_and_shown_when_it_is_trusted_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import joblib

    path = tmp_path / "late.joblib"
    joblib.dump(classifier(), path)
    assert "allow_pickle" in said(capsys, "show", str(path), status=2)
    assert "needs the sha256" in said(capsys, "show", str(path), "--allow-pickle", status=2)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = said(capsys, "show", str(path), "--allow-pickle", "--sha256", digest, "--json")
    assert facts["framework"] == "sklearn"

"""Stamps: which artifact a model was trained with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featuremill.artifacts.aliases import move
from featuremill.artifacts.errors import MissingArtifactError, RequestError
from featuremill.artifacts.publish import publish
from featuremill.artifacts.reader import Artifact, load
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.spec import ModelSpec
from featuremill.core.models.stamp import check_stamp, read_stamp, stamp
from support.sample_artifact import label_files, sample_batch, sample_files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with two versions that differ in their statistics, one of other columns, and another artifact."""
    place = tmp_path / "artifacts"
    for name, files in (
        ("sample", sample_files()), ("sample", sample_files(sample_batch(shift=1.0))), ("tiny", label_files("part")),
    ):
        publish(place, name, files)
    return place


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "late.onnx"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    return path


def versions(root: Path) -> list[Artifact]:
    folder = root / "sample" / "versions"
    return [load(str(p)) for p in sorted(folder.iterdir())]


def spec_of(model: Path, **rest: str) -> ModelSpec:
    return ModelSpec.model_validate({"path": str(model), **rest})


def test_a_stamp_is_read_as_it_was_written(root: Path, model: Path) -> None:
    artifact = versions(root)[0]
    written = stamp(model, artifact.location)
    assert read_stamp(model) == written
    assert (written.artifact, written.version) == ("sample", artifact.version)
    assert json.loads((model.parent / "late.onnx.stamp.json").read_bytes())["format_version"] == 1
    assert check_stamp(spec_of(model), artifact) == written


def test_a_model_without_a_stamp_goes_with_any_artifact(root: Path, model: Path) -> None:
    assert read_stamp(model) is None
    assert check_stamp(spec_of(model), versions(root)[0]) is None
    assert check_stamp(spec_of(model), None) is None


def test_another_version_stops_the_job_and_both_are_named(root: Path, model: Path) -> None:
    first, second = versions(root)
    stamp(model, first.location)
    message = f"trained with the artifact sample@{first.version}, the job has sample@{second.version}. The columns are"
    with pytest.raises(RequestError, match=message) as caught:
        check_stamp(spec_of(model), second)
    assert "stamp: ignore" in str(caught.value)
    assert check_stamp(spec_of(model, stamp="ignore"), second) is None


def test_other_columns_are_told_from_other_statistics(root: Path, model: Path) -> None:
    stamp(model, versions(root)[0].location)
    with pytest.raises(RequestError, match=r"the job has tiny@[0-9a-f]{16}. Even the columns"):
        check_stamp(spec_of(model), load(f"{root}/tiny"))


def test_a_stamped_model_in_a_job_without_an_artifact(root: Path, model: Path) -> None:
    stamp(model, f"{root}/tiny")
    with pytest.raises(RequestError, match="and the job has none. Set artifact: to it, or stamp: ignore"):
        check_stamp(spec_of(model), None)


def test_a_stamp_for_another_file_is_an_error(root: Path, model: Path) -> None:
    stamp(model, f"{root}/tiny")
    model.write_bytes(b"other weights")
    with pytest.raises(ModelFileError, match="was stamped for another file"):
        read_stamp(model)
    stamp(model, f"{root}/tiny")
    assert read_stamp(model) is not None


def test_folders_and_file_urls_are_stamped_beside(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"graph")
    stamp(f"{folder}/", f"{root}/tiny")
    assert (tmp_path / "saved.stamp.json").exists()
    assert read_stamp(folder.as_uri()) == read_stamp(folder)
    (folder / "variables").write_bytes(b"1")
    with pytest.raises(ModelFileError, match="another file"):
        read_stamp(folder)


def test_a_relative_path(root: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    assert stamp("late.onnx", f"{root}/tiny") == read_stamp(model)


def test_what_cannot_be_stamped(root: Path, model: Path) -> None:
    with pytest.raises(ModelFileError, match="There is no model"):
        stamp(model.with_name("none.onnx"), f"{root}/tiny")
    with pytest.raises(MissingArtifactError):
        stamp(model, f"{root}/tiny@nobody")
    with pytest.raises(ModelFileError, match="There is no model"):
        read_stamp(model.with_name("none.onnx"))
    assert read_stamp(model) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"format_version": 1}', "is damaged: its keys are"),
        (b'{"format_version": 2, "x": 1}', "has format 2, this featuremill reads up to format 1"),
        (
            b'{"format_version":1,"model_sha256":1,"artifact":"a","version":"v","output_schema":"","created":""}',
            "a value is no text",
        ),
    ],
)
def test_damaged_stamps(model: Path, data: bytes, message: str) -> None:
    model.with_name("late.onnx.stamp.json").write_bytes(data)
    with pytest.raises(ModelFileError, match=message):
        read_stamp(model)


def test_an_alias_is_written_as_the_version_that_it_stands_for(root: Path, model: Path) -> None:
    version = versions(root)[1].version
    move(root, "sample", "prod", version)
    assert stamp(model, f"{root}/sample@prod").version == version

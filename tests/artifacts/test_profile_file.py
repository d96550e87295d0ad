"""The profile in an artifact: kept beside what the artifact computes, and checked like every file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from featuremill.artifacts.errors import ArtifactError
from featuremill.artifacts.layout import PROFILE
from featuremill.artifacts.manifest import MANIFEST, FileEntry, Manifest, digest
from featuremill.artifacts.reader import load
from support.sample_artifact import sample_files


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def test_a_profile_goes_with_the_artifact_and_not_into_its_version(tmp_path: Path) -> None:
    files, content = dict(sample_files()), b'{"raw":null,"output":null}'
    manifest = Manifest.from_json(files[MANIFEST])
    assert load(str(written(tmp_path / "without", files))).profile_json() is None
    more = replace(manifest, files={**manifest.files, PROFILE: FileEntry(digest(content), len(content))})
    assert more.version == manifest.version
    folder = written(tmp_path / "with", {**files, MANIFEST: more.to_json(), PROFILE: content})
    assert load(str(folder)).profile_json() == content
    (folder / PROFILE).write_bytes(content.replace(b"null", b"true"))
    with pytest.raises(ArtifactError, match=r"profile\.json is damaged"):
        load(str(folder))

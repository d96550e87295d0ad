"""Listings."""

from __future__ import annotations

from pathlib import Path

import pytest

from featuremill.artifacts.aliases import move
from featuremill.artifacts.catalogue import describe, list_artifacts, show_artifact
from featuremill.artifacts.errors import ArtifactError, MissingArtifactError
from featuremill.artifacts.manifest import Manifest
from featuremill.artifacts.publish import publish
from support.sample_artifact import label_files, sample_files


def test_list_and_show(tmp_path: Path) -> None:
    sample = publish(tmp_path, "sample", sample_files())
    a, b = (publish(tmp_path, "tiny", label_files(label)) for label in "ab")
    move(tmp_path, "tiny", "prod", a)
    move(tmp_path, "tiny", "best", a)
    (tmp_path / "tiny/versions" / b / "manifest.json").write_bytes(b"?")
    for stray in ("notes", "with space", ".hidden"):
        (tmp_path / stray).mkdir()
    (tmp_path / "file").write_text("x")
    found = {s.name: s for s in list_artifacts(tmp_path)}
    assert sorted(found) == ["sample", "tiny"]
    assert [v.version for v in found["sample"].versions] == [sample]
    good, bad = found["tiny"].versions
    assert (good.version, good.aliases, good.problem) == (a, ("best", "prod"), None)
    assert (bad.version, bad.created, bad.aliases) == (b, None, ())
    assert "manifest.json is damaged" in str(bad.problem)
    assert found["tiny"].aliases["prod"].version == a
    assert show_artifact(tmp_path, "tiny") == found["tiny"]


def test_newest_first(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    wrote = [publish(tmp_path, "tiny", label_files(str(y), datetime(2020 + y, 1, 1, tzinfo=UTC))) for y in (3, 1, 2)]
    assert [v.version for v in show_artifact(tmp_path, "tiny").versions] == [wrote[0], wrote[2], wrote[1]]


def test_nothing_there(tmp_path: Path) -> None:
    assert list_artifacts(tmp_path) == []
    with pytest.raises(MissingArtifactError, match="There is no folder"):
        list_artifacts(tmp_path / "nowhere")
    with pytest.raises(MissingArtifactError, match="There is no artifact 'x'"):
        show_artifact(tmp_path, "x")


def test_a_damaged_alias_is_not_passed_over(tmp_path: Path) -> None:
    version = publish(tmp_path, "tiny", label_files("a"))
    move(tmp_path, "tiny", "prod", version)
    (tmp_path / "tiny/aliases/prod/00000001.json").write_bytes(b"?")
    with pytest.raises(ArtifactError, match="00000001"):
        list_artifacts(tmp_path)


def test_describe() -> None:
    manifest = Manifest.from_json(sample_files()["manifest.json"])
    text = describe(manifest)
    for part in (
        f"sample@{manifest.version}",
        "2024-05-01",
        "40 seen, 40 used, 0 set aside",
        "ScaleToZScore(air_time)",
        "flight_id int64",
        "7 files",
        "warning: air_time has a NaN",
    ):
        assert part in text

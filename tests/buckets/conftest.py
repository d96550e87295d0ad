"""Every store that the tests of this folder run on: this machine's disk, S3 and Cloud Storage."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.buckets import Cloud, gcs_server, s3_server


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are killed leave what they have in the temporary folder, so that is the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(scope="session")
def s3() -> Iterator[Cloud]:
    """A local S3, for all tests of the process."""
    with s3_server() as cloud:
        yield cloud


@pytest.fixture(scope="session")
def gcs() -> Iterator[Cloud]:
    """A local Cloud Storage, for all tests of the process."""
    with gcs_server() as cloud:
        yield cloud


@pytest.fixture
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The server that a test is parametrised with, its environment set."""
    found: Cloud = request.getfixturevalue(request.param)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture(params=["disk", "s3", "gcs"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place: a folder, or below a new bucket."""
    if request.param == "disk":
        return str(tmp_path / "root")
    found: Cloud = request.getfixturevalue(request.param)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return f"{found.bucket()}/some where/root"

"""The stores against their contract, and what only local folders can get wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from featuremill.artifacts.errors import MissingArtifactError, RequestError
from featuremill.artifacts.store import ObjectStore, Store, is_url, open_store
from support.store_conformance import StoreConformance


class TestFolder(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(tmp_path / "to be made @ 100%" / "root")


class TestMemory(StoreConformance):
    @pytest.fixture
    def store(self) -> Store:
        return ObjectStore(MemoryStore(), "memory")


def test_opening_makes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "later")
    assert not store.exists("x")
    for look in (store.list, store.folders, lambda: store.get("x"), lambda: store.modified("x")):
        with pytest.raises(MissingArtifactError, match="There is no folder"):
            look()
    store.delete("x")
    assert not (tmp_path / "later").exists()
    store.put("x", b"1")
    assert (tmp_path / "later" / "x").read_bytes() == b"1"


def test_file_urls_and_relative_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("here").put("x", b"1")
    assert open_store((tmp_path / "here").as_uri()).get("x") == b"1"
    monkeypatch.chdir("/")
    assert open_store(tmp_path / "here").get("x") == b"1"


def test_a_file_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RequestError, match="file"):
            open_store(root).put("x", b"1")


@pytest.mark.parametrize("root", ["ftp://host/x", "memory://", "https://host/x"])
def test_unknown_schemes(root: str) -> None:
    assert is_url(root)
    with pytest.raises(RequestError, match="scheme"):
        open_store(root)


READ_ONLY = """
import os, sys
from featuremill.artifacts.errors import RequestError
from featuremill.artifacts.store import open_store
if os.geteuid() == 0:
    # The superuser may write everywhere.
    os.setgid(65534)
    os.setuid(65534)
for root in sys.argv[1:]:
    try:
        open_store(root).put("name/x", b"1", create_only=True)
    except RequestError as error:
        print(type(error).__name__, error)
"""


def test_a_read_only_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("read-only")
    (folder / "there").mkdir()
    for path in (folder / "there", folder):
        path.chmod(0o555)
    for path in (folder.parent, folder.parent.parent):
        path.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(folder / "there"), str(folder / "new")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("RequestError Not allowed to write") for line in lines)
    assert all("Choose a place where you may" in line for line in lines)


def test_sweep_takes_what_killed_puts_left(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.put("a/b/good", b"1")
    for name in ("a/b/good#1", "a/c/lost#12"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"half")
    assert store.list() == ["a/b/good"]
    assert store.sweep("a", datetime.now(UTC) - timedelta(hours=1)) == 0
    assert store.sweep("a", datetime.now(UTC) + timedelta(hours=1)) == 2
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "good"]

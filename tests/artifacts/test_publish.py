"""Publishing: all or nothing, whatever breaks and whoever else publishes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from featuremill.artifacts.aliases import versions
from featuremill.artifacts.errors import ArtifactError, MissingArtifactError, ParameterError, StoreError
from featuremill.artifacts.manifest import Manifest
from featuremill.artifacts.publish import publish
from featuremill.artifacts.reader import load
from featuremill.artifacts.store import Store, open_store
from support.faulty_store import InterruptedStore
from support.sample_artifact import sample_files

FILES = sample_files()
VERSION = Manifest.from_json(FILES["manifest.json"]).version


def broken_after(store: Store, puts: int, *, lost_answer: bool) -> InterruptedStore:
    """A store whose connection breaks at a put: before it happened, or after it did and before the answer came."""
    count = 0

    def hook(operation: str, path: str) -> None:
        nonlocal count
        if operation == "put":
            count += 1
            if count > puts:
                raise StoreError("the connection broke")

    return InterruptedStore(store, after=hook) if lost_answer else InterruptedStore(store, before=hook)


def test_it_is_there_afterwards(tmp_path: Path) -> None:
    assert publish(tmp_path, "flights", FILES) == VERSION
    folder = tmp_path / "flights" / "versions" / VERSION
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == sorted(FILES)
    artifact = load(f"{tmp_path}/flights@{VERSION}")
    assert (artifact.name, artifact.version) == ("flights", VERSION)


def test_the_manifest_comes_last(tmp_path: Path) -> None:
    order: list[str] = []
    store = InterruptedStore(open_store(tmp_path), before=lambda _, path: order.append(path.rpartition("/")[2]))
    publish(store, "flights", FILES)
    assert order[-1] == "manifest.json"
    assert len(order) == len(FILES)


def test_again_changes_nothing(tmp_path: Path) -> None:
    publish(tmp_path, "flights", FILES)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()}
    later = sample_files(provenance={"created": "2030-01-01T00:00:00+00:00"}, golden_from=9)
    assert publish(tmp_path, "flights", later) == VERSION
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("lost_answer", [False, True])
@pytest.mark.parametrize("puts", range(len(FILES)))
def test_a_crash_at_every_put(tmp_path: Path, puts: int, lost_answer: bool) -> None:
    real = open_store(tmp_path)
    with pytest.raises(StoreError):
        publish(broken_after(real, puts, lost_answer=lost_answer), "flights", FILES)
    complete = lost_answer and puts == len(FILES) - 1
    assert bool((tmp_path / "flights" / "versions" / VERSION / "manifest.json").exists()) == complete
    if not complete:
        with pytest.raises(MissingArtifactError):
            load(f"{tmp_path}/flights@{VERSION}")
    # The next publisher has other golden rows: what the first one left must not be mixed up with them.
    later = sample_files(provenance={"created": "2030-01-01T00:00:00+00:00"}, golden_from=9)
    assert publish(real, "flights", later) == VERSION
    artifact = load(f"{tmp_path}/flights@{VERSION}")
    assert artifact.verify().rows == 8
    golden_came_first = puts + lost_answer > 1
    golden = (tmp_path / "flights" / "versions" / VERSION / "golden.arrow").read_bytes()
    assert golden == (FILES if golden_came_first else later)["golden.arrow"]


KILLED = """
import os, signal, sys
from featuremill.artifacts.publish import publish
from featuremill.artifacts.store import open_store
from support.faulty_store import InterruptedStore
left = int(sys.argv[3])
def hook(operation, path):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
publish(InterruptedStore(open_store(sys.argv[1]), before=hook), "flights", sys.argv[2])
"""


@pytest.mark.parametrize("puts", [0, 3, len(FILES) - 1])
def test_a_killed_process(tmp_path: Path, puts: int) -> None:
    for path, data in FILES.items():
        (tmp_path / "staging" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "staging" / path).write_bytes(data)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "root"), str(tmp_path / "staging"), str(puts)],
        env=environment,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    if puts:
        assert versions(tmp_path / "root", "flights") == []
    assert publish(tmp_path / "root", "flights", tmp_path / "staging") == VERSION
    assert load(f"{tmp_path}/root/flights").verify().rows == 8


def test_many_at_once(tmp_path: Path) -> None:
    variants = [
        sample_files(provenance={"created": f"20{10 + i}-01-01T00:00:00+00:00"}, golden_from=i) for i in range(8)
    ]
    for step in range(4):
        barrier = Barrier(len(variants))

        def run(files: dict[str, bytes], name: str = f"n{step}", barrier: Barrier = barrier) -> str:
            barrier.wait()
            return publish(tmp_path, name, files)

        with ThreadPoolExecutor(len(variants)) as pool:
            assert set(pool.map(run, variants)) == {VERSION}
        assert load(f"{tmp_path}/n{step}").verify().rows == 8


def test_different_versions_side_by_side(tmp_path: Path) -> None:
    found = {publish(tmp_path, "flights", FILES), publish(tmp_path, "flights", sample_files(num_buckets=5))}
    assert len(found) == 2
    assert set(versions(tmp_path, "flights")) == found


def test_a_damaged_leftover_is_not_taken_over(tmp_path: Path) -> None:
    state = "states/01-ScaleToZScore-air_time.arrow"
    open_store(tmp_path).put(f"flights/versions/{VERSION}/{state}", b"half")
    with pytest.raises(ArtifactError, match="was left by a publisher.*gc"):
        publish(tmp_path, "flights", FILES)
    assert versions(tmp_path, "flights") == []


def test_a_damaged_version_is_told(tmp_path: Path) -> None:
    publish(tmp_path, "flights", FILES)
    path = tmp_path / "flights" / "versions" / VERSION / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"2024", b"2025"))
    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged"):
        publish(tmp_path, "flights", FILES)


def test_a_lost_file_is_put_back(tmp_path: Path) -> None:
    publish(tmp_path, "flights", FILES)
    folder = tmp_path / "flights" / "versions" / VERSION
    (folder / "states/01-ScaleToZScore-air_time.arrow").unlink()
    publish(tmp_path, "flights", FILES)
    assert load(folder).verify().rows == 8
    (folder / "golden.arrow").unlink()
    with pytest.raises(ArtifactError, match=r"golden\.arrow is missing, and cannot be made again"):
        publish(tmp_path, "flights", sample_files(golden_from=9))


@pytest.mark.parametrize("path", sorted(set(FILES) - {"manifest.json"}))
def test_files_that_do_not_match_are_not_published(tmp_path: Path, path: str) -> None:
    with pytest.raises(ArtifactError, match=path):
        publish(tmp_path, "flights", {**FILES, path: FILES[path] + b"x"})
    with pytest.raises(ArtifactError, match=path):
        publish(tmp_path, "flights", {p: d for p, d in FILES.items() if p != path})
    assert list(tmp_path.iterdir()) == []


def test_wrong_requests(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="artifact name"):
        publish(tmp_path, "../x", FILES)
    with pytest.raises(ParameterError, match=r"no manifest\.json"):
        publish(tmp_path, "x", {})
    with pytest.raises(MissingArtifactError, match="There is no folder"):
        publish(tmp_path, "x", tmp_path / "nowhere")

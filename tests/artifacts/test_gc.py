"""Collecting: never what is referenced, also when others move at the same time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from featuremill.artifacts.aliases import move, read_alias, versions
from featuremill.artifacts.errors import ArtifactError, MissingArtifactError, ParameterError
from featuremill.artifacts.gc import collect
from featuremill.artifacts.manifest import Manifest, canonical_json
from featuremill.artifacts.publish import publish
from featuremill.artifacts.reader import load
from featuremill.artifacts.store import open_store
from support.faulty_store import InterruptedStore
from support.sample_artifact import label_files, sample_files

NOW = timedelta(0)
START = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def found(tmp_path: Path) -> list[str]:
    """Six versions, oldest first."""
    return [publish(tmp_path, "tiny", label_files(str(i), START + timedelta(days=i))) for i in range(6)]


def test_old_and_unwanted_go(tmp_path: Path, found: list[str]) -> None:
    move(tmp_path, "tiny", "prod", found[0])
    move(tmp_path, "tiny", "prod", found[1])
    move(tmp_path, "tiny", "prod", found[2])
    done = collect(tmp_path, "tiny", keep_last=1)
    assert set(done.removed) == {found[0], found[3], found[4]}
    assert set(done.kept) == {found[1], found[2], found[5]} == set(versions(tmp_path, "tiny"))
    for version in done.removed:
        assert not (tmp_path / "tiny/versions" / version).exists()
    for version in done.kept:
        load(f"{tmp_path}/tiny@{version}").verify()
    assert move(tmp_path, "tiny", "prod", str(read_alias(tmp_path, "tiny", "prod").previous)).version == found[1]


@pytest.mark.parametrize(("keep_history", "kept"), [(0, {2}), (1, {1, 2}), (2, {0, 1, 2}), (9, {0, 1, 2})])
def test_how_much_history_stays(tmp_path: Path, found: list[str], keep_history: int, kept: set[int]) -> None:
    for i in (0, 1, 2, 1, 2):
        move(tmp_path, "tiny", "prod", found[i])
    collect(tmp_path, "tiny", keep_last=0, keep_history=keep_history)
    assert set(versions(tmp_path, "tiny")) == {found[i] for i in kept}


def test_a_dry_run_removes_nothing(tmp_path: Path, found: list[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    would = collect(tmp_path, "tiny", keep_last=2, dry_run=True)
    assert sorted(tmp_path.rglob("*")) == before
    did = collect(tmp_path, "tiny", keep_last=2)
    assert (would.removed, would.leftovers, would.kept) == (did.removed, did.leftovers, did.kept)
    assert set(did.kept) == set(found[-2:])


def test_the_young_stay(tmp_path: Path) -> None:
    version = publish(tmp_path, "tiny", label_files("x", datetime.now(UTC)))
    assert collect(tmp_path, "tiny", keep_last=0).kept == (version,)
    assert collect(tmp_path, "tiny", keep_last=0, grace=NOW).removed == (version,)


def test_leftovers(tmp_path: Path, found: list[str]) -> None:
    left = tmp_path / "tiny/versions/0123456789abcdef"
    (left / "states").mkdir(parents=True)
    (left / "golden.arrow").write_bytes(b"x")
    (left / "states/00-x.arrow#1").write_bytes(b"half")
    (tmp_path / "tiny/versions/notes").mkdir()
    assert collect(tmp_path, "tiny", keep_last=9).leftovers == ()
    assert collect(tmp_path, "tiny", keep_last=9, grace=NOW).leftovers == (left.name,)
    assert not left.exists()
    assert (tmp_path / "tiny/versions/notes").exists()
    assert set(versions(tmp_path, "tiny")) == set(found)


def test_an_alias_that_cannot_be_read_stops_everything(tmp_path: Path, found: list[str]) -> None:
    move(tmp_path, "tiny", "prod", found[0])
    (tmp_path / "tiny/aliases/prod/00000001.json").write_bytes(b"?")
    with pytest.raises(ArtifactError, match="damaged"):
        collect(tmp_path, "tiny", keep_last=0, grace=NOW)
    assert set(versions(tmp_path, "tiny")) == set(found)


def test_damaged_versions_stay_for_people(tmp_path: Path, found: list[str]) -> None:
    (tmp_path / "tiny/versions" / found[0] / "manifest.json").write_bytes(b"?")
    done = collect(tmp_path, "tiny", keep_last=0, grace=NOW)
    assert done.damaged == done.kept == (found[0],)


def test_wrong_requests(tmp_path: Path, found: list[str]) -> None:
    for wrong in ({"keep_last": -1}, {"keep_history": -1}, {"grace": timedelta(days=-1)}):
        with pytest.raises(ParameterError, match="must not be negative"):
            collect(tmp_path, "tiny", **wrong)
    with pytest.raises(MissingArtifactError, match="no artifact 'other'"):
        collect(tmp_path, "other")


def test_the_manifest_goes_first(tmp_path: Path) -> None:
    publish(tmp_path, "sample", sample_files())
    order: list[str] = []
    store = InterruptedStore(open_store(tmp_path), before=lambda _, path: order.append(path.rpartition("/")[2]))
    collect(store, "sample", keep_last=0)
    assert order[0] == "manifest.json"
    assert len(order) == len(sample_files())


def test_an_alias_that_comes_in_between_keeps_its_version(tmp_path: Path, found: list[str]) -> None:
    """The move looked at the version before its manifest went, and wrote its entry after."""
    real = open_store(tmp_path)
    entry = {"version": found[0], "previous": None, "when": START.isoformat(), "why": ""}

    def hook(operation: str, path: str) -> None:
        if operation == "delete" and path.endswith(f"{found[0]}/manifest.json"):
            real.put("tiny/aliases/late/00000001.json", canonical_json(entry), create_only=True)

    done = collect(InterruptedStore(real, after=hook), "tiny", keep_last=0)
    assert found[0] not in done.removed
    assert load(f"{tmp_path}/tiny@late").version == found[0]
    assert set(done.removed) == set(found[1:])


FILES = sample_files()
VERSION = Manifest.from_json(FILES["manifest.json"]).version


@pytest.mark.parametrize("published_before", [False, True])
@pytest.mark.parametrize("step", range(len(FILES)))
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_publisher_that_comes_in_between(tmp_path: Path, step: int, moment: str, published_before: bool) -> None:
    """While a collector takes files away one by one, the same version is published: it must be whole in the end."""
    real = open_store(tmp_path)
    publish(real, "flights", FILES)
    if not published_before:
        real.delete(f"flights/versions/{VERSION}/manifest.json")
    count = 0

    def hook(operation: str, path: str) -> None:
        nonlocal count
        if operation == "delete":
            if count == step:
                publish(real, "flights", sample_files(golden_from=9))
            count += 1

    collect(InterruptedStore(real, **{moment: hook}), "flights", keep_last=0, grace=NOW)
    deletions = len(FILES) - (not published_before)
    if published_before and step == 0 and moment == "before":
        assert versions(real, "flights") == []  # It was there when it was published again, and then it was collected.
    elif step < deletions:
        assert load(f"{tmp_path}/flights@{VERSION}").verify().rows == 8


@pytest.mark.parametrize("step", range(len(FILES)))
def test_a_collector_that_comes_in_between(tmp_path: Path, step: int) -> None:
    """While a publisher puts files one by one, an eager collector takes away what has no manifest yet."""
    real = open_store(tmp_path)
    count = 0

    def hook(operation: str, path: str) -> None:
        nonlocal count
        if count == step and real.folders("flights/versions"):
            collect(real, "flights", keep_last=0, grace=NOW)
        count += 1

    assert publish(InterruptedStore(real, before=hook), "flights", FILES) == VERSION
    assert load(f"{tmp_path}/flights").verify().rows == 8

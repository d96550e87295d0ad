"""Publishing, aliases and collecting on every store, with others who do the same and with processes that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from featuremill.artifacts.aliases import history, move, read_alias, versions
from featuremill.artifacts.errors import MissingArtifactError, StoreError
from featuremill.artifacts.gc import collect
from featuremill.artifacts.manifest import Manifest
from featuremill.artifacts.publish import publish
from featuremill.artifacts.reader import load
from featuremill.artifacts.store import open_store
from featuremill.jobs.cli import main
from support.buckets import Cloud
from support.faulty_store import InterruptedStore
from support.sample_artifact import label_files, sample_files

FILES = sample_files()
VERSION = Manifest.from_json(FILES["manifest.json"]).version
START = datetime(2024, 5, 1, tzinfo=UTC)
WRITERS, STEPS = 10, 4


# --- publishing ------------------------------------------------------------------------------------------------------


def test_again_changes_nothing(root: str) -> None:
    assert publish(root, "flights", FILES) == VERSION
    store = open_store(root)
    before = {p: store.get(p) for p in store.list()}
    assert publish(root, "flights", sample_files(golden_from=9)) == VERSION
    assert {p: store.get(p) for p in store.list()} == before
    assert load(f"{root}/flights@{VERSION}").verify().rows == 8


@pytest.mark.parametrize("lost_answer", [False, True])
@pytest.mark.parametrize("puts", [0, 2, len(FILES) - 1])
def test_a_connection_that_breaks(root: str, puts: int, lost_answer: bool) -> None:
    left = puts

    def hook(operation: str, path: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StoreError("the connection broke")

    real = open_store(root)
    broken = InterruptedStore(real, after=hook) if lost_answer else InterruptedStore(real, before=hook)
    with pytest.raises(StoreError):
        publish(broken, "flights", FILES)
    if not (lost_answer and puts == len(FILES) - 1):
        with pytest.raises(MissingArtifactError):
            load(f"{root}/flights@{VERSION}")
    assert publish(real, "flights", sample_files(golden_from=9)) == VERSION
    assert load(f"{root}/flights@{VERSION}").verify().rows == 8


def test_many_publish_at_once(root: str) -> None:
    variants = [sample_files(golden_from=i) for i in range(6)]
    barrier = Barrier(len(variants))

    def run(files: dict[str, bytes]) -> str:
        barrier.wait()
        return publish(root, "flights", files)

    with ThreadPoolExecutor(len(variants)) as pool:
        assert set(pool.map(run, variants)) == {VERSION}
    assert load(f"{root}/flights").verify().rows == 8


KILLED = """
import os, signal, sys
from featuremill.artifacts.publish import publish
from featuremill.artifacts.store import open_store
from support.faulty_store import InterruptedStore
left = 3
def hook(operation, path):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
publish(InterruptedStore(open_store(sys.argv[1]), before=hook), "flights", sys.argv[2])
"""


def test_a_publisher_that_is_killed(root: str, tmp_path: Path) -> None:
    for path, data in FILES.items():
        (tmp_path / "staging" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "staging" / path).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, root, str(tmp_path / "staging")], env=with_path(), check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert open_store(root).list() and versions(root, "flights") == []
    assert publish(root, "flights", tmp_path / "staging") == VERSION
    assert load(f"{root}/flights").verify().rows == 8


def with_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


# --- aliases ---------------------------------------------------------------------------------------------------------

MOVER = """
import json, sys
from featuremill.artifacts.aliases import move
from featuremill.artifacts.errors import AliasMoved
print("ready", flush=True)
for line in sys.stdin:
    root, version, expected = json.loads(line)
    try:
        print(move(root, "tiny", "prod", version, expected=expected).number, flush=True)
    except AliasMoved as error:
        print("moved to", error.entry.version, flush=True)
"""


@pytest.fixture(scope="module")
def movers(s3: Cloud, gcs: Cloud) -> Iterator[list[subprocess.Popen[str]]]:
    """Ten processes that move an alias when they are told to."""
    found = [
        subprocess.Popen(
            [sys.executable, "-c", MOVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**with_path(), **s3.environment, **gcs.environment},
        )
        for _ in range(WRITERS)
    ]
    assert [read(mover) for mover in found] == ["ready"] * WRITERS
    yield found
    for mover in found:
        mover.communicate()


def read(mover: subprocess.Popen[str]) -> str:
    assert mover.stdout is not None
    return mover.stdout.readline().strip()


def tell(mover: subprocess.Popen[str], *said: str | None) -> None:
    assert mover.stdin is not None
    mover.stdin.write(json.dumps(said) + "\n")
    mover.stdin.flush()


def test_of_ten_processes_one_moves_the_alias_each_step(root: str, movers: list[subprocess.Popen[str]]) -> None:
    published = [publish(root, "tiny", label_files(str(i))) for i in range(WRITERS + 1)]
    current = move(root, "tiny", "prod", published[0])
    for step in range(STEPS):
        wanted = [v for v in published if v != current.version]
        for mover, version in zip(movers, wanted, strict=True):
            tell(mover, root, version, current.version)
        said = [read(mover) for mover in movers]
        winners = [v for v, answer in zip(wanted, said, strict=True) if answer == str(step + 2)]
        assert len(winners) == 1
        assert [a for a in said if a != str(step + 2)] == [f"moved to {winners[0]}"] * (WRITERS - 1)
        before, current = current, read_alias(root, "tiny", "prod")
        assert (current.version, current.previous) == (winners[0], before.version)
    assert len(history(root, "tiny", "prod")) == STEPS + 1


def test_ten_processes_that_move_it_anyhow_lose_nothing(root: str, movers: list[subprocess.Popen[str]]) -> None:
    published = [publish(root, "tiny", label_files(str(i))) for i in range(WRITERS)]
    said: list[tuple[str, str]] = []
    for _ in range(STEPS):
        for mover, version in zip(movers, published, strict=True):
            tell(mover, root, version, None)
        said += [(read(mover), version) for mover, version in zip(movers, published, strict=True)]
    moves = {(int(number), version) for number, version in said if number.isdigit()}
    log = history(root, "tiny", "prod")
    assert {(e.number, e.version) for e in log} == moves
    assert [e.number for e in log] == list(range(1, len(log) + 1))
    assert [e.previous for e in log] == [None, *(e.version for e in log[:-1])]


# --- collecting ------------------------------------------------------------------------------------------------------


def test_what_nobody_needs_is_collected(root: str) -> None:
    found = [publish(root, "tiny", label_files(str(i), START + timedelta(days=i))) for i in range(5)]
    move(root, "tiny", "prod", found[0])
    move(root, "tiny", "prod", found[1])
    store = open_store(root)
    store.put("tiny/versions/0123456789abcdef/states/x.arrow", b"half")
    before = store.list()
    would = collect(root, "tiny", keep_last=1, keep_history=0, grace=timedelta(0), dry_run=True)
    assert store.list() == before
    did = collect(root, "tiny", keep_last=1, keep_history=0, grace=timedelta(0))
    assert set(would.removed) == set(did.removed) == {found[0], found[2], found[3]}
    assert did.leftovers == ("0123456789abcdef",)
    assert set(versions(root, "tiny")) == {found[1], found[4]}
    assert set(store.folders("tiny/versions")) == {found[1], found[4]}
    assert load(f"{root}/tiny@prod").version == found[1]


def test_the_command_line_takes_addresses(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (publish(root, "tiny", label_files(str(i), START + timedelta(days=i))) for i in range(2))
    assert main(["artifacts", "alias", f"{root}/tiny", "prod", new]) == 0
    for command in (["list", root], ["show", f"{root}/tiny@prod"], ["verify", f"{root}/tiny@prod"]):
        capsys.readouterr()
        assert main(["artifacts", *command]) == 0
        assert new in capsys.readouterr().out
    assert main(["artifacts", "gc", root, "--keep", "0", "--yes"]) == 0
    assert versions(root, "tiny") == [new]
    assert main(["artifacts", "show", f"{root}/tiny@{old}"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("step", [0, 2, len(FILES) - 2])
def test_a_publisher_and_a_collector_at_once(root: str, step: int) -> None:
    """While a collector takes files away one by one, the same version is published: it is whole in the end."""
    real = open_store(root)
    publish(real, "flights", FILES)
    real.delete(f"flights/versions/{VERSION}/manifest.json")
    count = 0

    def hook(operation: str, path: str) -> None:
        nonlocal count
        if operation == "delete":
            if count == step:
                publish(real, "flights", sample_files(golden_from=9))
            count += 1

    collect(InterruptedStore(real, before=hook), "flights", keep_last=0, grace=timedelta(0))
    assert load(f"{root}/flights@{VERSION}").verify().rows == 8

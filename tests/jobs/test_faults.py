"""A job that is killed leaves nothing that looks finished, and running it again gives what an undisturbed run gives."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts import load
from featuremill.artifacts.aliases import versions
from featuremill.artifacts.errors import MissingArtifactError, RequestError
from featuremill.core.loading import job_from_mapping
from featuremill.jobs.prepare import run

pytestmark = pytest.mark.slow

ROWS, FILES = 4000, 20

CHILD = """
import json, sys
import apache_beam, apache_beam.ml.transforms.base
import featuremill.core.dataset, featuremill.transforms.beam, featuremill.core.runner
from featuremill.core.loading import job_from_mapping
from featuremill.jobs.prepare import run
job = job_from_mapping(json.loads(sys.argv[1]))
print("ready", flush=True)
run(job, run_id="night")
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(3)
    for i in range(FILES):
        table = pa.table(
            {
                "id": np.arange(i * ROWS, (i + 1) * ROWS),
                "x": rng.normal(size=ROWS),
                "t": [f"token-{n}" for n in rng.integers(0, 3000, ROWS)],
            }
        )
        pq.write_table(table, folder / f"part-{i:03d}.parquet")
    return folder


def content(source: Path, out: Path) -> dict[str, Any]:
    return {
        "kind": "prepare",
        "name": "faulty",
        "source": {"parquet": {"path": str(source)}},
        "transforms": [
            {"type": "ScaleToZScore", "config": {"columns": ["x"]}},
            {"type": "Bucketize", "config": {"columns": ["x"], "num_buckets": 8}},
            {"type": "ComputeAndApplyVocabulary", "config": {"columns": ["t"], "top_k": 1000, "num_oov_buckets": 2}},
        ],
        "split": {"by": ["id"], "train": 0.8, "eval": 0.2},
        "artifact": {"root": str(out / "artifacts"), "alias": "prod"},
        "dataset": {"path": str(out / "datasets")},
        "runner": {"mode": "multi_threading", "workers": 2},
    }


def start(source: Path, out: Path) -> subprocess.Popen[str]:
    """A job in a process of its own, at the moment when it begins."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(content(source, out))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def kill(child: subprocess.Popen[str]) -> None:
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def result_of(out: Path) -> dict[str, str]:
    """Digests of what a run leaves for others: the rows, the states, and the version."""
    final = out / "datasets" / "night"
    manifest = json.loads((final / "manifest.json").read_text())
    found = {str(p.relative_to(final)): digest(p) for p in final.rglob("*.parquet")}
    assert found == {f["path"]: f["sha256"] for f in manifest["files"]}
    artifact = load(f"{out}/artifacts/faulty@prod")
    assert artifact.version == manifest["artifact"]["version"]
    artifact.verify()
    folder = out / "artifacts" / "faulty" / "versions" / artifact.version
    found |= {str(p.relative_to(folder)): digest(p) for p in folder.rglob("*.arrow")}
    return found | {"version": artifact.version}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """What must come out, and how long it takes."""
    out = tmp_path_factory.mktemp("undisturbed")
    child = start(source, out)
    began = time.monotonic()
    assert child.wait() == 0
    return result_of(out), time.monotonic() - began


def check_nothing_looks_finished(out: Path, wanted: dict[str, str]) -> bool:
    """Whether the run had come to its end; what is there at all is whole."""
    try:
        assert load(f"{out}/artifacts/faulty@prod").version == wanted["version"]
    except MissingArtifactError:
        assert not list(out.glob("artifacts/faulty/aliases/prod/*"))
    for version in versions(out / "artifacts", "faulty") if (out / "artifacts").exists() else []:
        load(f"{out}/artifacts/faulty@{version}").verify()
    datasets = out / "datasets"
    visible = [n for n in os.listdir(datasets) if not n.startswith(".")] if datasets.exists() else []
    if visible:
        assert result_of(out) == wanted
    return bool(visible)


def run_again(source: Path, out: Path, wanted: dict[str, str]) -> None:
    finished = check_nothing_looks_finished(out, wanted)
    job = job_from_mapping(content(source, out))
    if finished:
        with pytest.raises(RequestError, match="already holds a run"):
            run(job, run_id="night")
    else:
        run(job, run_id="night")
        assert os.listdir(out / "datasets") == ["night"]
    assert result_of(out) == wanted


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7, 0.95])
def test_killed_at_some_moment(
    source: Path, tmp_path: Path, undisturbed: tuple[dict[str, str], float], share: float
) -> None:
    wanted, seconds = undisturbed
    child = start(source, tmp_path)
    time.sleep(share * seconds)
    kill(child)
    run_again(source, tmp_path, wanted)


MOMENTS: dict[str, Callable[[Path], Any]] = {
    "a state is written": lambda out: list(out.glob("datasets/.night.staging/artifact/states/*")),
    "a shard is written": lambda out: list(out.glob("datasets/.night.staging/shards/*/*")),
    "publishing the artifact began": lambda out: (out / "artifacts/faulty/versions").exists(),
    "the alias was moved": lambda out: list(out.glob("artifacts/faulty/aliases/prod/*")),
    "the run is being put together": lambda out: (out / "datasets/.night.staging/run").exists(),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_when(source: Path, tmp_path: Path, undisturbed: tuple[dict[str, str], float], moment: str) -> None:
    wanted, _ = undisturbed
    child = start(source, tmp_path)
    while not MOMENTS[moment](tmp_path) and child.poll() is None:
        time.sleep(0.0005)
    kill(child)
    assert child.returncode == -signal.SIGKILL
    run_again(source, tmp_path, wanted)


def test_killed_again_and_again(source: Path, tmp_path: Path, undisturbed: tuple[dict[str, str], float]) -> None:
    wanted, seconds = undisturbed
    for share in (0.6, 0.3):
        child = start(source, tmp_path)
        time.sleep(share * seconds)
        kill(child)
        if check_nothing_looks_finished(tmp_path, wanted):
            break
    run_again(source, tmp_path, wanted)

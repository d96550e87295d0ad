"""The score job from end to end, on small Parquet files and models of real frameworks, with Beam's direct runner."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts import load
from featuremill.artifacts.aliases import move
from featuremill.artifacts.build import build_files
from featuremill.artifacts.errors import (
    JobError,
    MissingArtifactError,
    MissingColumnError,
    ParameterError,
    RequestError,
)
from featuremill.artifacts.publish import publish
from featuremill.artifacts.schemas import schema_from_json
from featuremill.core.inference.limits import ModelTimeout
from featuremill.core.loading import job_from_mapping, load_job
from featuremill.core.models.contract import ModelFileError, PredictionError
from featuremill.core.models.loading import model_version
from featuremill.core.models.spec import ModelSpec
from featuremill.core.models.stamp import stamp
from featuremill.core.progress import Progress
from featuremill.core.scorefile import ScoreJob
from featuremill.jobs.cli import main
from featuremill.jobs.score import plan, run
from featuremill.transforms.numeric import LogTransform
from featuremill.transforms.splitting import fingerprint_keys, split_of
from support.sample_artifact import SCHEMA, sample_batch, sample_files
from support.scoring_models import MODULE
from support.small_models import onnx_file, skops_file

ROWS, FILES = 200, 4
FEATURES = ["air_time", "carrier", "dep_bucket"]


def source_table() -> pa.Table:
    """The rows that the artifact was made for, with an answer and a column that nobody needs."""
    table = pa.table(sample_batch(ROWS))
    rng = np.random.default_rng(5)
    return table.append_column("delay", pa.array(rng.normal(size=ROWS))).append_column("unused", pa.array(["x"] * ROWS))


TABLE = source_table()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source, an artifact with an alias, and models trained on what it makes."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    home = tmp_path_factory.mktemp("home")
    (home / "rows").mkdir()
    for i in range(FILES):
        pq.write_table(TABLE.slice(i * 50, 50), home / "rows" / f"part-{i}.parquet", row_group_size=17)
    version = publish(home / "artifacts", "sample", sample_files())
    move(home / "artifacts", "sample", "prod", version, "a test")
    made = load(home / "artifacts" / "sample" / "versions" / version).transform(TABLE)
    x = matrix(made)
    y = (TABLE.column("delay").to_numpy() > 0).astype(np.int64)
    model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(x, y)
    skops_file(home, model, "late.skops")
    onnx_file(home, LogisticRegression().fit(np.nan_to_num(x).astype("float32")[:, [0, 1, 2, 0]], y), "late.onnx")
    return home


def matrix(features: pa.Table) -> Any:
    return np.column_stack([features.column(c).cast(pa.float64()).to_numpy() for c in FEATURES])


def content(home: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """The job file's content; `where` and the like go below source."""
    parquet = {k: changes.pop(k) for k in ("path", "where", "columns", "batch_rows") if k in changes}
    base: dict[str, Any] = {
        "kind": "score",
        "name": "late",
        "source": {"parquet": {"path": str(home / "rows"), "fragment_rows": 50, **parquet}},
        "artifact": f"{home}/artifacts/sample@prod",
        "model": {
            "path": str(home / "late.skops"),
            "inputs": {"X": FEATURES},
            "outputs": {"late": {"output": "predict_proba", "index": 1}},
            "options": {"method": "predict_proba"},
        },
        "output": {"path": str(out / "predictions"), "keys": ["flight_id"], "columns": ["delay", "carrier"]},
        "runner": {"mode": "in_memory"},
    }
    return {k: v for k, v in (base | changes).items() if v is not None}


def job(home: Path, out: Path, **changes: Any) -> ScoreJob:
    made = job_from_mapping(content(home, out, **changes))
    assert isinstance(made, ScoreJob)
    return made


def line(*, outputs: str = "y", **changes: Any) -> dict[str, Any]:
    """A model that gives ``slope * delay``, and misbehaves when told to."""
    ways = ("slope", "fails_on", "short_on", "sleeps_on", "slow")
    arguments = {k: changes.pop(k) for k in ways if k in changes}
    return {
        "class": f"{MODULE}:Line",
        "arguments": arguments,
        "inputs": {"x": ["delay"]},
        "outputs": {outputs: {"output": "prediction", "type": "double"}},
        **changes,
    }


def predictions(record: Any) -> pa.Table:
    folder = Path(record.dataset) / "predictions"
    return pa.concat_tables([pq.read_table(p, partitioning=None) for p in sorted(folder.iterdir())])


def letters(folder: Path | str) -> list[dict[str, Any]]:
    found = [row for p in sorted(Path(folder).glob("*.parquet")) for row in pq.read_table(p).to_pylist()]
    return sorted(found, key=lambda row: (row["_fragment"], row["_row"]))


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def done(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run that many tests look at."""
    return run(job(home, tmp_path_factory.mktemp("done")), run_id="first")


# --- what a run leaves ----------------------------------------------------------------------------------------------


def test_rows_in_are_predictions(done: Any) -> None:
    rows = done.rows
    assert (done.status, rows.source, rows.filtered, rows.written, rows.aside) == ("done", ROWS, 0, ROWS, 0)
    found = predictions(done)
    assert found.column("flight_id").to_pylist() == TABLE.column("flight_id").to_pylist()


def test_predictions_are_those_of_the_model_on_what_the_artifact_makes(done: Any, home: Path) -> None:
    from skops.io import load as load_skops

    model = load_skops(home / "late.skops", trusted=["numpy.dtype"])
    wanted = model.predict_proba(matrix(load(f"{home}/artifacts/sample@prod").transform(TABLE)))[:, 1]
    np.testing.assert_allclose(predictions(done).column("late").to_numpy(), wanted, rtol=1e-12)


def test_columns_are_those_of_the_source_and_named_by_versions(done: Any, home: Path) -> None:
    found = predictions(done)
    assert found.schema.names == ["flight_id", "delay", "carrier", "late", "model_version", "artifact_version"]
    # The artifact writes carrier in place; what is kept is the source's.
    for name in ("flight_id", "delay", "carrier"):
        assert found.column(name).combine_chunks().equals(TABLE.column(name).combine_chunks())
    version = model_version(ModelSpec(path=str(home / "late.skops")))
    assert set(found.column("model_version").to_pylist()) == {version}
    assert set(found.column("artifact_version").to_pylist()) == {load(f"{home}/artifacts/sample@prod").version}
    assert pa.types.is_dictionary(found.schema.field("model_version").type)


def test_the_manifest_and_the_record_say_what_is_there(done: Any, home: Path) -> None:
    folder = Path(done.dataset)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [f["path"] for f in manifest["files"]] == [f"predictions/part-{i:05d}-of-00004.parquet" for i in range(4)]
    assert manifest["rows"] == {"predictions": ROWS}
    assert schema_from_json(manifest["schema"], "manifest.json").equals(predictions(done).schema)
    artifact = load(f"{home}/artifacts/sample@prod")
    assert manifest["artifact"]["version"] == artifact.version
    record = json.loads((folder / "run.json").read_text())
    assert record == json.loads(done.to_json())
    assert record["artifact"]["alias"] == "prod" and record["artifact"]["version"] == artifact.version
    (model,) = record["models"]
    assert model["version"] == model_version(ModelSpec(path=str(home / "late.skops")))
    assert (model["rows"], model["framework"], model["path"]) == (ROWS, "sklearn", str(home / "late.skops"))
    assert model["seconds"] > 0
    assert set(record["stages"]) == {"pipeline", "quality", "commit", "report"}
    assert os.listdir(folder.parent) == ["first"]


def test_a_plan_writes_nothing_and_says_what_will_be(home: Path, tmp_path: Path) -> None:
    made = plan(job(home, tmp_path), "tomorrow")
    assert os.listdir(tmp_path) == []
    assert made.input_schema.names == ["carrier", "air_time", "dep_time", "flight_id", "delay"]
    assert [(f["name"], f["made_by"]) for f in made.features] == [
        ("air_time", "ScaleToZScore"), ("carrier", "ComputeAndApplyVocabulary"), ("dep_bucket", "Bucketize"),
    ]
    assert made.made_by["late"] == "late.skops" and made.made_by["delay"] is None
    assert str(made.output_schema.field("late").type) == "double"
    assert made.artifact["version"] == load(f"{home}/artifacts/sample@prod").version
    assert made.predictions == str(tmp_path / "predictions" / "tomorrow")
    json.dumps(made.to_json())


def test_a_columns_that_no_one_needs_is_not_read(home: Path, tmp_path: Path) -> None:
    made = plan(job(home, tmp_path, artifact=None, model=line(), output={"path": "p", "keys": ["flight_id"]}))
    assert made.input_schema.names == ["flight_id", "delay"]


@pytest.mark.parametrize(
    "changes",
    [{"batch_rows": 7}, {"runner": {"mode": "multi_threading", "workers": 2}}],
    ids=["small batches", "threads"],
)
def test_how_it_is_run_changes_no_row(done: Any, home: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    found = predictions(run(job(home, tmp_path, **changes)))
    assert found.drop_columns("late").equals(predictions(done).drop_columns("late"))
    np.testing.assert_allclose(found.column("late").to_numpy(), predictions(done).column("late").to_numpy(), rtol=1e-9)


def test_the_same_job_again_gives_the_same_files(done: Any, home: Path, tmp_path: Path) -> None:
    again = run(job(home, tmp_path))
    digests = [
        {f["path"]: f["sha256"] for f in json.loads((Path(r.dataset) / "manifest.json").read_text())["files"]}
        for r in (done, again)
    ]
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_worker_processes_change_no_row(done: Any, home: Path, tmp_path: Path) -> None:
    found = predictions(run(job(home, tmp_path, runner={"mode": "multi_processing", "workers": 2})))
    assert found.equals(predictions(done))


def test_without_an_artifact_the_model_is_given_columns_of_the_source(home: Path, tmp_path: Path) -> None:
    record = run(job(home, tmp_path, artifact=None, model=line(slope=2.0)))
    found = predictions(record)
    np.testing.assert_allclose(found.column("y").to_numpy(), 2 * TABLE.column("delay").to_numpy())
    assert found.column("artifact_version").null_count == ROWS
    assert record.artifact == {}


def test_a_filter_and_a_split(home: Path, tmp_path: Path) -> None:
    shares = {"train": 0.6, "eval": 0.4}
    record = run(
        job(home, tmp_path, where="delay > 0", split={"by": ["flight_id"], **shares, "only": ["eval"]})
    )
    codes = split_of(fingerprint_keys([TABLE.column("flight_id").combine_chunks()]), shares)
    wanted = TABLE.filter(pa.array((codes == 1) & (TABLE.column("delay").to_numpy() > 0)))
    assert 0 < wanted.num_rows < ROWS
    assert predictions(record).column("flight_id").to_pylist() == wanted.column("flight_id").to_pylist()
    assert (record.rows.filtered, record.rows.written) == (ROWS - wanted.num_rows, wanted.num_rows)


def test_an_alias_is_pinned_when_the_job_starts(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "artifacts", tmp_path / "artifacts")
    before = load(f"{tmp_path}/artifacts/sample@prod").version
    other = publish(tmp_path / "artifacts", "sample", sample_files(sample_batch(30)))
    moved: list[Any] = []

    def listen(_: Progress) -> None:
        if not moved:
            moved.append(move(tmp_path / "artifacts", "sample", "prod", other, "meanwhile"))

    record = run(job(home, tmp_path, artifact=f"{tmp_path}/artifacts/sample@prod"), progress=listen)
    assert moved and other != before
    assert record.artifact["version"] == before
    assert set(predictions(record).column("artifact_version").to_pylist()) == {before}


def test_progress_is_told(home: Path, tmp_path: Path) -> None:
    heard: list[Progress] = []
    run(job(home, tmp_path), progress=heard.append)
    assert {p.stage: (p.done, p.total, p.rows) for p in heard} == {"score": (FILES, FILES, ROWS)}


# --- several models -------------------------------------------------------------------------------------------------


def test_models_in_sequence_by_key_and_side_by_side(home: Path, tmp_path: Path) -> None:
    """By the carrier as the source has it, though the artifact writes it in place; then A/B; then what both made."""
    by_key = {"by": "carrier", "AA": line(slope=2.0), "default": line(slope=3.0), "name": "by_carrier"}
    shares = {
        "share_by": ["flight_id"],
        "a": line(slope=0.0, outputs="side", share=0.5),
        "b": line(slope=1.0, outputs="side", share=0.5),
    }
    last = line(outputs="z", slope=10.0) | {"name": "last", "inputs": {"x": ["y"]}}
    late = content(home, tmp_path)["model"] | {"name": "late"}
    record = run(job(home, tmp_path, model=None, models=[late, by_key, shares, last]))
    found = predictions(record)
    delay, carriers = TABLE.column("delay").to_numpy(), TABLE.column("carrier").to_pylist()
    slopes = np.array([2.0 if c == "AA" else 3.0 for c in carriers])
    np.testing.assert_allclose(found.column("y").to_numpy(), slopes * delay)
    codes = split_of(fingerprint_keys([TABLE.column("flight_id").combine_chunks()]), {"a": 0.5, "b": 0.5})
    np.testing.assert_allclose(found.column("side").to_numpy(), codes * delay)
    np.testing.assert_allclose(found.column("z").to_numpy(), 10 * slopes * delay)
    rows = {m["name"]: m["rows"] for m in record.models}
    assert rows == {
        "late": ROWS, "AA": carriers.count("AA"), "default": ROWS - carriers.count("AA"),
        "a": int((codes == 0).sum()), "b": int((codes == 1).sum()), "last": ROWS,
    }
    assert carriers[0] == "AA"
    versions = found.column("model_version")[0].as_py().split("+")
    assert [v.partition("@")[0] for v in versions] == ["late", "AA", "ab"[codes[0]], "last"]


def test_a_key_without_a_model_costs_its_rows(home: Path, tmp_path: Path) -> None:
    carriers = TABLE.column("carrier").to_pylist()
    models = {"by": "carrier", **{c: line() for c in ("AA", "B6", "UA")}}
    others = [i for i, c in enumerate(carriers) if c not in ("AA", "B6", "UA")]
    record = run(job(home, tmp_path, model=None, models=models, max_bad_rows=ROWS))
    assert (record.rows.written, record.rows.aside) == (ROWS - len(others), len(others))
    found = letters(record.dead_letters)
    assert [row["flight_id"] for row in found] == [2**60 + i for i in others]
    reasons = {row["_reason"] for row in found}
    assert reasons == {
        "there is no model for carrier = null, and no default",
        "there is no model for carrier = 'new\\nline', and no default",
    }
    assert {row["_column"] for row in found} == {"carrier"}


# --- rows that cannot be scored -------------------------------------------------------------------------------------


def test_rows_that_a_model_cannot_take_cost_themselves(home: Path, tmp_path: Path) -> None:
    bad = TABLE.column("delay")[77].as_py()
    record = run(job(home, tmp_path, artifact=None, model=line(fails_on=bad), max_bad_rows=1))
    assert (record.rows.written, record.rows.aside) == (ROWS - 1, 1)
    (row,) = letters(record.dead_letters)
    assert (row["flight_id"], row["delay"], row["_row"]) == (2**60 + 77, bad, 27)
    assert row["_reason"].startswith("ValueError: cannot take") and row["_transform"] == "model"
    assert 2**60 + 77 not in predictions(record).column("flight_id").to_pylist()
    manifest = json.loads((Path(record.dataset) / "manifest.json").read_text())
    assert manifest["rows"] == {"predictions": ROWS - 1, "_rejected": 1}


def test_rows_of_transforms_and_of_models_are_set_aside_alike(home: Path, tmp_path: Path) -> None:
    rows = TABLE.set_column(1, "air_time", pa.array([-1.0 if i in (3, 120) else 1.0 + i for i in range(ROWS)]))
    pq.write_table(rows, tmp_path / "rows.parquet")
    publish(tmp_path / "artifacts", "logs", build_files([LogTransform(["air_time"], output="log")], SCHEMA, {}))
    model = line(fails_on=TABLE.column("delay")[7].as_py())
    model["inputs"] = {"x": ["delay"]}
    both = [
        model | {"name": "first"},
        {"class": f"{MODULE}:Line", "name": "second", "inputs": {"x": ["log"]},
         "outputs": {"z": {"output": "prediction", "type": "double"}}},
    ]
    record = run(
        job(
            home, tmp_path, path=str(tmp_path / "rows.parquet"), artifact=f"{tmp_path}/artifacts/logs", model=None,
            models=both, max_bad_rows=3,
        )
    )
    assert (record.rows.source, record.rows.written, record.rows.aside) == (ROWS, ROWS - 3, 3)
    found = letters(record.dead_letters)
    assert [(row["flight_id"] - 2**60, row["_transform"]) for row in found] == [
        (3, "LogTransform"), (7, "first"), (120, "LogTransform"),
    ]
    assert [row["air_time"] for row in found] == [-1.0, 8.0, -1.0]


def test_too_many_bad_rows_fail_the_job_and_leave_them(home: Path, tmp_path: Path) -> None:
    bad = TABLE.column("delay")[77].as_py()
    with pytest.raises(JobError, match=r"^1 rows could not be processed, and max_bad_rows is 0\."):
        run(job(home, tmp_path, artifact=None, model=line(fails_on=bad)), run_id="bad")
    final = tmp_path / "predictions" / "bad"
    reports = [f"report/{name}" for name in ("index.html", "report.json", "report.md")]
    assert files_below(final) == ["_rejected/part-00000-of-00001.parquet", *reports, "run.json"]
    assert json.loads((final / "run.json").read_text())["status"] == "failed"
    assert run(job(home, tmp_path, artifact=None, model=line()), run_id="bad").rows.written == ROWS


def failed(home: Path, out: Path, kind: type[Exception], **changes: Any) -> str:
    """The message of a job that fails on the way, after a look that it left nothing but its record."""
    with pytest.raises(kind) as caught:
        run(job(home, out, artifact=None, **changes), run_id="night")
    assert files_below(out / "predictions") == ["night/run.json"]
    record = json.loads((out / "predictions/night/run.json").read_text())
    assert (record["status"], record["error"]) == ("failed", str(caught.value))
    for noise in ("Traceback", "while running", 'File "', "RuntimeError"):
        assert noise not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["in_memory", "multi_threading"])
def test_a_model_that_returns_too_few_rows(home: Path, tmp_path: Path, mode: str) -> None:
    model = line(short_on=TABLE.column("delay")[77].as_py())
    told = failed(home, tmp_path, PredictionError, model=model, runner={"mode": mode})
    assert "returned 49 predictions for 50 examples" in told


def test_a_model_that_sleeps_past_its_limit(home: Path, tmp_path: Path) -> None:
    model = line(sleeps_on=TABLE.column("delay")[77].as_py(), timeout=0.3)
    assert "took longer than its limit of 0.3 s" in failed(home, tmp_path, ModelTimeout, model=model)


def test_a_model_that_is_not_loaded_in_time(home: Path, tmp_path: Path) -> None:
    model = line(slow=3, load_timeout=0.3)
    assert "took longer than its limit of 0.3 s" in failed(home, tmp_path, ModelTimeout, model=model)


def test_a_model_that_fails_for_every_row(home: Path, tmp_path: Path) -> None:
    model = line() | {"inputs": {"x": ["carrier"]}}
    assert "fails for every row" in failed(home, tmp_path, JobError, model=model, max_bad_rows=ROWS)


CHILD = """
import json, sys
import featuremill.core.inference.steps, featuremill.core.runner, featuremill.transforms.beam
from featuremill.core.loading import job_from_mapping
from featuremill.jobs.score import run
run(job_from_mapping(json.loads(sys.argv[1])), run_id="night", progress=lambda p: print(p.done, flush=True))
"""


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_that_looks_finished_and_can_be_run_again(home: Path, tmp_path: Path) -> None:
    late = line(sleeps_on=TABLE.column("delay")[177].as_py())
    told = content(home, tmp_path, artifact=None, model=late)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(told)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)}, start_new_session=True,
    )
    assert child.stdout is not None
    # The model sleeps at a row of the last fragment: by then the others are in files.
    assert next(seen for seen in child.stdout if seen == "3\n")
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert os.listdir(tmp_path / "predictions") == [".night.staging"]
    assert any(f.endswith(".parquet") for f in files_below(tmp_path / "predictions"))
    record = run(job(home, tmp_path, artifact=None, model=line()), run_id="night")
    assert predictions(record).column("flight_id").to_pylist() == TABLE.column("flight_id").to_pylist()
    assert os.listdir(tmp_path / "predictions") == ["night"]


# --- jobs that cannot be --------------------------------------------------------------------------------------------


def refused(home: Path, out: Path, kind: type[Exception] = RequestError, **changes: Any) -> str:
    """The message of a job that is refused by `plan` and by `run` alike, after a look that it left nothing."""
    messages = set()
    for attempt in (plan, run):
        with pytest.raises(kind) as caught:
            attempt(job(home, out, **changes))
        assert isinstance(caught.value, RequestError)
        messages.add(str(caught.value))
    assert not (out / "predictions").exists()
    (message,) = messages
    return message


def model(home: Path, **changes: Any) -> dict[str, Any]:
    return {**content(home, home)["model"], **changes}


def test_a_model_that_is_not_there(home: Path, tmp_path: Path) -> None:
    told = refused(home, tmp_path, ModelFileError, model=model(home, path=str(home / "lat.skops")))
    assert "There is no model" in told and "Did you mean 'late.skops'" in told


def test_a_model_of_another_framework(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "late.skops", tmp_path / "late.onnx")
    told = refused(home, tmp_path, ModelFileError, model=model(home, path=str(tmp_path / "late.onnx")))
    assert "framework: sklearn" in told


def test_a_pickle(home: Path, tmp_path: Path) -> None:
    import joblib
    from sklearn.linear_model import LinearRegression

    joblib.dump(LinearRegression().fit([[1.0]], [1.0]), tmp_path / "late.joblib")
    told = refused(home, tmp_path, ModelFileError, model={"path": str(tmp_path / "late.joblib")})
    assert "allow_pickle" in told


def test_a_model_of_another_width(home: Path, tmp_path: Path) -> None:
    told = refused(home, tmp_path, ParameterError, model=model(home, inputs={"X": FEATURES[:2]}))
    assert "the model takes rows of shape (3,), its columns air_time, carrier give (2,)" in told


def test_a_feature_that_the_artifact_does_not_make(home: Path, tmp_path: Path) -> None:
    told = refused(home, tmp_path, MissingColumnError, model=model(home, inputs={"X": ["air_time", "carrier", "dep"]}))
    assert "Input 'X': there is no column 'dep'. Known: " in told and "'dep_bucket'" in told


def test_a_source_that_lacks_what_the_artifact_needs(home: Path, tmp_path: Path) -> None:
    pq.write_table(TABLE.drop_columns("dep_time"), tmp_path / "rows.parquet")
    told = refused(home, tmp_path, MissingColumnError, path=str(tmp_path / "rows.parquet"))
    assert "no column 'dep_time', which Bucketize of the artifact sample@" in told
    pq.write_table(
        TABLE.set_column(2, "dep_time", TABLE.column("dep_time").cast(pa.string())), tmp_path / "rows.parquet"
    )
    told = refused(home, tmp_path, path=str(tmp_path / "rows.parquet"))
    assert "'dep_time' is string, expected int64" in told


def test_an_alias_and_an_artifact_that_are_not_there(home: Path, tmp_path: Path) -> None:
    told = refused(home, tmp_path, MissingArtifactError, artifact=f"{home}/artifacts/sample@prd")
    assert "'prd'" in told and "prod" in told
    assert "sampel" in refused(home, tmp_path, MissingArtifactError, artifact=f"{home}/artifacts/sampel@prod")


def test_a_stamp_that_does_not_fit(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "late.skops", tmp_path / "late.skops")
    stamped = model(home, path=str(tmp_path / "late.skops"))
    stamp(tmp_path / "late.skops", f"{home}/artifacts/sample@prod")
    assert plan(job(home, tmp_path, model=stamped)).models[0]["stamp"].startswith("sample@")
    other = publish(tmp_path / "artifacts", "sample", sample_files(sample_batch(30)))
    reference = f"{tmp_path}/artifacts/sample@{other}"
    told = refused(home, tmp_path, RequestError, model=stamped, artifact=reference)
    assert "was trained with the artifact sample@" in told and f"the job has sample@{other}" in told
    assert plan(job(home, tmp_path, model=stamped | {"stamp": "ignore"}, artifact=reference)).models[0]["stamp"] is None


def test_keys_and_columns_that_are_not_there(home: Path, tmp_path: Path) -> None:
    told = refused(home, tmp_path, MissingColumnError, output={"path": "p", "keys": ["flightid"]})
    assert told.startswith("output.keys: the source has no column 'flightid'. Did you mean 'flight_id'?")
    told = refused(home, tmp_path, MissingColumnError, output={"path": "p", "keys": ["flight_id"], "columns": ["x"]})
    assert told.startswith("output.columns: ")
    split = {"by": ["flight"], "train": 0.5, "eval": 0.5, "only": ["eval"]}
    assert refused(home, tmp_path, MissingColumnError, split=split).startswith("split.by: ")
    models = {"by": "carier", "AA": line()}
    assert "by: there is no column 'carier'. Did you mean 'carrier'" in refused(
        home, tmp_path, MissingColumnError, model=None, models=models
    )


def test_predictions_with_the_name_of_a_column(home: Path, tmp_path: Path) -> None:
    told = refused(home, tmp_path, model=model(home, outputs={"delay": {"output": "predict_proba", "index": 1}}))
    assert "gives a column 'delay', and there is one already" in told


def test_names_that_the_job_itself_uses(home: Path, tmp_path: Path) -> None:
    rows = TABLE.append_column("model_version", pa.array(["v"] * ROWS)).append_column("_row", pa.array(range(ROWS)))
    pq.write_table(rows, tmp_path / "rows.parquet")
    path = {"path": str(tmp_path / "rows.parquet")}
    told = refused(home, tmp_path, ParameterError, **path, output={"path": "p", "keys": ["model_version"]})
    assert told.startswith("output.keys: 'model_version' is what a column of versions is called.")
    told = refused(home, tmp_path, ParameterError, **path, output={"path": "p", "keys": ["flight_id", "_row"]})
    assert "'_row' cannot be read: the job uses the name itself" in told
    # Nobody asked for them: they are in nobody's way.
    assert run(job(home, tmp_path, **path)).rows.written == ROWS


def test_sources_without_rows(home: Path, tmp_path: Path) -> None:
    pq.write_table(TABLE.slice(0, 0), tmp_path / "rows.parquet")
    assert "has no rows; there is nothing to score" in refused(home, tmp_path, path=str(tmp_path / "rows.parquet"))
    assert str(tmp_path / "nowhere") in refused(home, tmp_path, path=str(tmp_path / "nowhere"))
    assert "no rows to score" in failed(home, tmp_path, JobError, model=line(), where="delay > 1000")


def test_an_output_that_holds_a_run_already(done: Any, home: Path) -> None:
    out = Path(done.dataset).parents[1]
    before = files_below(out)
    with pytest.raises(RequestError, match="already holds a run"):
        run(job(home, out), run_id="first")
    assert files_below(out) == before


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"artifact": "nowhere/flights@prod"}, "artifact"),
        ({"model": {"path": "nowhere.onnx"}}, "model"),
        ({"model": {"inputs": {"X": ["air_time", "carrier", "dep"]}}}, "model.inputs.X.2"),
        ({"model": {"outputs": {"late": {"output": "probability"}}}}, "model.outputs"),
        ({"output": {"path": "p", "keys": ["id"]}}, "output.keys.0"),
        ({"model": None, "models": [{"name": "a", "path": "a.onnx"}]}, "models.0"),
        ({"model": None, "models": {"by": "carrier", "AA": {"path": "a.onnx"}}}, "models.AA"),
        ({"model": None, "models": {"by": "carier", "AA": line()}}, "models.by"),
        ({"path": "nowhere"}, "source.parquet.path"),
    ],
)
def test_errors_are_told_with_their_place(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], place: str
) -> None:
    import yaml

    if changes.get("model"):
        changes = changes | {"model": model(home, **changes["model"])}
    path = tmp_path / "late.yaml"
    path.write_text(yaml.safe_dump(content(home, tmp_path, **changes), sort_keys=False))
    assert main(["plan", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"{path}:") and told.split(": ")[1] == place, told


# --- the command line -----------------------------------------------------------------------------------------------


def test_plan_and_run_on_the_command_line(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    path = tmp_path / "late.yaml"
    path.write_text(yaml.safe_dump(content(home, tmp_path), sort_keys=False))
    assert load_job(path).kind == "score"
    assert main(["plan", str(path), "--run-id", "r"]) == 0
    told = capsys.readouterr().out
    for expected in (
        "late: what it would do", "Features used (3)", "ScaleToZScore", "late.skops", "X: rows of shape (3)",
        "Columns out (6)", f"featuremill run {path}",
    ):
        assert expected in told
    assert main(["plan", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "score"
    assert main(["run", str(path), "--run-id", "r"]) == 0
    told = capsys.readouterr().out
    for expected in ("late: done in", "200 rows in = 200 written + 0 set aside", "Models", "late.skops", "predictions"):
        assert expected in told
    assert main(["run", str(path), "--run-id", "r", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["exit_status"] == 2
    assert main(["schema", "--kind", "score"]) == 0
    assert "models" in json.loads(capsys.readouterr().out)["properties"]


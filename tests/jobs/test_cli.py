"""The command line: what it prints where, its exit status, and that a wrong request never shows a traceback."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.core.job_schema import job_schema
from featuremill.core.loading import load_job
from featuremill.jobs.cli import main
from featuremill.jobs.scaffold import begin_project, example
from featuremill.transforms.registry import transform_class, transform_names

ROOT = Path(__file__).parents[2]
SOURCES = [str(ROOT / part) for part in ("artifacts", "transforms", "platform", "jobs")]
ROWS = 400
LONG = "a_column_with_a_name_that_is_longer_than_any_terminal_is_wide_" * 3

JOB = f"""\
kind: prepare
name: small
source:
  parquet: {{path: "data/*.parquet"}}
transforms:
  - {{type: ComputeAndApplyVocabulary, config: {{columns: [carrier, {LONG}]}}}}
  - {{type: ScaleToZScore, config: {{columns: [air_time]}}}}
  - type: Bucketize
    config: {{columns: [air_time], num_buckets: 4, output: bucket}}
split: {{by: [id], train: 0.5, eval: 0.5}}
artifact: {{root: artifacts, name: small, alias: candidate}}
dataset: {{path: datasets/small}}
"""


@dataclass(frozen=True)
class Done:
    """What a process left."""

    status: int
    out: str
    err: str


def featuremill(*words: str, cwd: Path, **environment: str) -> Done:
    """The command line as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "featuremill.jobs", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(SOURCES), **environment},
    )
    return Done(done.returncode, done.stdout, done.stderr)


def new_project(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "id": [f"f{i}" for i in range(ROWS)],
            "carrier": rng.choice(["UA", "AA", "B6", ""], ROWS),
            LONG: rng.choice(["x", "y"], ROWS),
            "air_time": rng.normal(100, 20, ROWS),
            "when": [f"2013-01-{1 + i % 28:02}" if i % 100 else "never" for i in range(ROWS)],
        }
    )
    (folder / "data").mkdir()
    pq.write_table(table.slice(0, 150), folder / "data" / "a.parquet")
    pq.write_table(table.slice(150), folder / "data" / "b.parquet")
    (folder / "job.yaml").write_text(JOB)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def ran(project: Path) -> Done:
    return featuremill("run", "job.yaml", "--run-id", "first", "--json", cwd=project)


@pytest.fixture
def call(
    project: Path, ran: Done, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """The command line in this process, in the project's folder, after its first run."""
    monkeypatch.chdir(project)

    def run(*words: str) -> Done:
        status = main(words)
        out, err = capfd.readouterr()
        return Done(status, out, err)

    return run


# --- quick answers --------------------------------------------------------------------------------------------------


def imported(words: list[str], tmp_path: Path) -> set[str]:
    """The top-level modules that a command imports."""
    code = (
        "import sys; from featuremill.jobs.cli import main; status = main(sys.argv[1:]); "
        "print('\\n'.join(sorted({m.partition('.')[0] for m in sys.modules})), file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(SOURCES)},
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["artifacts", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    # typer itself imports pydantic for the types of parameters.
    assert not imported(words, tmp_path) & {"apache_beam", "pyarrow", "numpy", "obstore", "tensorflow"}


def test_the_schema_and_plans_are_printed_without_beam(tmp_path: Path, project: Path) -> None:
    assert "apache_beam" not in imported(["schema"], tmp_path)
    assert "apache_beam" not in imported(["plan", "job.yaml"], project)


def test_help_and_version(tmp_path: Path) -> None:
    done = featuremill("--help", cwd=tmp_path)
    assert done.status == 0 and done.err == ""
    assert {"plan", "run", "schema", "init", "demo", "artifacts"} <= set(done.out.split())
    assert not any(character in done.out for character in "╭│╰…\x1b")
    assert featuremill("--version", cwd=tmp_path).out.startswith("featuremill ")


# --- the schema for editors -----------------------------------------------------------------------------------------


def test_the_schema_knows_every_parameter_of_every_transform(tmp_path: Path) -> None:
    schema = json.loads(featuremill("schema", cwd=tmp_path).out)
    assert schema == json.loads(json.dumps(job_schema()))
    steps = {s["properties"]["type"].get("const"): s for s in schema["properties"]["transforms"]["items"]["oneOf"]}
    for name in transform_names():
        config = steps[name]["properties"]["config"]
        kind = transform_class(name)
        assert set(config["properties"]) == {f.name for f in fields(kind)}
        assert config["additionalProperties"] is False and "columns" in config["required"]
        assert all("description" in p for p in config["properties"].values()), name
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"kind", "name", "source", "transforms", "artifact", "dataset"}


def test_the_schema_accepts_what_loads_and_refuses_what_does_not() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import yaml

    validator = jsonschema.Draft202012Validator(job_schema())
    for text in (JOB, example("demo")):
        assert list(validator.iter_errors(yaml.safe_load(text))) == []
    for before, after in [
        ("kind: prepare", "kind: prepair"),
        ("num_buckets: 4", "num_bucket: 4"),
        ("num_buckets: 4", "num_buckets: four"),
        ("type: Bucketize", "type: Bucketise"),
        ("train: 0.5", "train: half"),
        ("name: small", "nme: small"),
    ]:
        assert list(validator.iter_errors(yaml.safe_load(JOB.replace(before, after, 1)))), after


# --- a plan ---------------------------------------------------------------------------------------------------------


def test_a_plan_says_what_would_be_done(call: Callable[..., Done], project: Path) -> None:
    before = sorted(project.rglob("*"))
    done = call("plan", "job.yaml", "--run-id", "r1")
    assert (done.status, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert [LONG, "int64", "ComputeAndApplyVocabulary"] in lines and [
        LONG,
        "string",
        "ComputeAndApplyVocabulary",
    ] in lines
    assert ["id", "string", "the", "source"] in lines and ["bucket", "int64", "Bucketize"] in lines
    assert "2 files, 400 rows" in done.out and "FARM_FINGERPRINT" in done.out and "datasets/small/r1" in done.out
    assert sorted(project.rglob("*")) == before


def test_a_plan_for_machines(call: Callable[..., Done]) -> None:
    done = call("plan", "job.yaml", "--set", "split=", "--json")
    made = json.loads(done.out)
    assert (made["source"]["rows"], made["split_sql"]) == (ROWS, None)
    assert {"name": "bucket", "type": "int64", "made_by": "Bucketize"} in made["output"]


# --- a wrong request ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pln"], "No such command 'pln'. Did you mean 'plan'? See: featuremill --help"),
        (["plan"], "Missing argument 'JOB'. See: featuremill plan --help"),
        (["plan", "job.yaml", "--jsn"], "No such option: --jsn"),
        (
            ["run", "job.yaml", "other.yaml"],
            "'other.yaml' is one word too many: run takes one job file, and Beam's options after --.",
        ),
        (["plan", "jobs.yaml"], "jobs.yaml: there is no such job file. Did you mean 'job.yaml'?"),
        (["run", "job.yaml", "--set", "dataset.pth=x"], "--set dataset.pth=x: unknown key 'pth'. Did you mean 'path'?"),
        (
            ["plan", "job.yaml", "--set", "transforms.0.config.columns=[carier]"],
            "--set transforms.0.config.columns=[carier]: transforms.0.config.columns.0: "
            "ComputeAndApplyVocabulary('carier'): "
            "there is no such column. Did you mean 'carrier'?",
        ),
        (
            ["run", "job.yaml", "--set", "transforms.1.config.columns=[id]"],
            "columns.0: ScaleToZScore('id'): the column is string",
        ),
        (
            ["plan", "job.yaml", "--set", "source.parquet.path=no/*.parquet"],
            "--set source.parquet.path=no/*.parquet: no/*.parquet: no file",
        ),
        (["run", "job.yaml", "--set", "split.by=[key]"], "split.by: there is no column 'key'"),
        (["run", "job.yaml", "--set", "source.parquet.where=air_time >"], "where: expected"),
        (["schema", "--kind", "prepair"], "There is no kind of job 'prepair'. Did you mean 'prepare' or 'report'?"),
        (["artifacts", "list", "nowhere"], "There is no folder "),
        (["artifacts", "show", "artifacts/smal"], "There is no artifact 'smal' in "),
        (["artifacts", "show", "artifacts/small@prod"], "has no alias 'prod'. Known: 'candidate'."),
        (["artifacts", "diff", "artifacts/small"], "Missing argument 'REF'. See: featuremill artifacts diff --help"),
        (["artifacts", "alias", "artifacts/small@candidate", "prod"], "expected ROOT/NAME, without @candidate"),
        (["artifacts", "alias", "artifacts/small", "prod", "0123456789abcdef"], "has no version 0123456789abcdef"),
        (["artifacts", "alias", "artifacts/small", "candidate", "--why", "x"], "say the version too"),
        (["artifacts", "gc", "artifacts", "--keep", "many"], "Invalid value for '--keep'"),
        (["artifacts", "gc", "artifacts", "--keep", "-1"], "keep_last must not be negative"),
    ],
)
def test_a_wrong_request(call: Callable[..., Done], words: list[str], message: str) -> None:
    done = call(*words)
    assert message in done.err
    assert (done.status, done.out) == (2, "")
    assert "Traceback" not in done.err and not any(character in done.err for character in "╭│╰\x1b")


def test_the_line_of_the_job_file_is_in_errors_that_only_the_data_can_tell(project: Path) -> None:
    (project / "wrong.yaml").write_text(JOB.replace("columns: [air_time], num", "columns: [airtime], num"))
    done = featuremill("plan", "wrong.yaml", cwd=project)
    place, problem = "wrong.yaml:9: transforms.2.config.columns.0", "Bucketize('airtime'): there is no such column."
    expected = f"{place}: {problem} Did you mean 'air_time'?\n"
    assert (done.status, done.out, done.err) == (2, "", expected)


def test_a_wrong_request_for_machines(call: Callable[..., Done]) -> None:
    done = call("run", "jobs.yaml", "--json")
    answer = json.loads(done.out)
    assert (answer["status"], answer["error_type"], answer["exit_status"]) == ("failed", "JobFileError", 2)
    assert answer["error"] == done.err.strip()


EXPLODING = """
import sys
from featuremill.jobs.cli import main
from featuremill.transforms.contract import ColumnTransform
from featuremill.transforms.registry import register

@register
class Exploding(ColumnTransform):
    def output_type(self, column):
        raise ZeroDivisionError("no such luck\\nand more")

    def apply_column(self, array, prepared):
        return array

sys.exit(main(sys.argv[1:]))
"""


def test_an_unexpected_error_is_one_line_unless_more_is_asked_for(project: Path) -> None:
    words = ["plan", "job.yaml", "--set", "transforms=[{type: Exploding, config: {columns: [id]}}]"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(SOURCES)}

    def call(*more: str) -> Done:
        command = [sys.executable, "-c", EXPLODING, *more, *words]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, env=environment)
        return Done(done.returncode, done.stdout, done.stderr)

    hint = "Run it again as featuremill --traceback … to see where it came from."
    assert call() == Done(1, "", f"unexpected ZeroDivisionError: no such luck. {hint}\n")
    assert "Traceback (most recent call last)" in call("--traceback").err


def test_output_that_nobody_reads_is_no_error(project: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(SOURCES)}
    line = f"{sys.executable} -m featuremill.jobs schema | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=project, capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (141, "")


# --- a run ----------------------------------------------------------------------------------------------------------


def test_a_run_prints_its_record_and_nothing_else(ran: Done, project: Path) -> None:
    assert ran.status == 0, ran.err
    record = json.loads(ran.out)
    assert record["rows"] == {"source": ROWS, "filtered": 0, "written": ROWS, "aside": 0, "quarantined": 0}
    assert (record["status"], record["run"], sum(record["splits"].values())) == ("done", "first", ROWS)
    assert json.loads((project / record["dataset"] / "run.json").read_text()) == record
    assert "write: 2 of 2 fragments, 400 rows" in ran.err and "Traceback" not in ran.err


def test_a_second_run_of_the_same_name_is_refused(call: Callable[..., Done]) -> None:
    done = call("run", "job.yaml", "--run-id", "first")
    assert (done.status, done.out) == (2, "") and "first" in done.err


def test_bad_rows_over_the_limit_fail_the_job(project: Path, ran: Done) -> None:
    dates = ["--set", "transforms=[{type: DatetimeParts, config: {columns: [when], format: '%Y-%m-%d'}}]"]
    done = featuremill("run", "job.yaml", *dates, "--run-id", "bad", cwd=project)
    assert (done.status, done.out) == (1, "")
    message = done.err.splitlines()[-1]
    assert "4 rows" in message and "max_bad_rows" in message and "Traceback" not in done.err
    kept = featuremill("run", "job.yaml", *dates, "--set", "max_bad_rows=4", "--run-id", "good", cwd=project)
    assert kept.status == 0, kept.err
    assert "400 rows in = 396 written + 4 set aside" in kept.out and "_rejected" in kept.out
    assert "featuremill artifacts show artifacts/small@candidate" in kept.out


# --- artifacts ------------------------------------------------------------------------------------------------------


def test_artifacts_are_listed_shown_and_verified(call: Callable[..., Done], ran: Done) -> None:
    version = json.loads(ran.out)["artifact"]["version"]
    assert version in call("artifacts", "list", "artifacts").out
    (small,) = json.loads(call("artifacts", "list", "artifacts", "--json").out)
    assert small["name"] == "small" and version in [v["version"] for v in small["versions"]]
    reference = f"artifacts/small@{version}"
    shown = call("artifacts", "show", reference).out
    assert (
        "boundaries" in shown and "4 tokens: " in shown and "mean" in shown and LONG in shown and "fitted_on" in shown
    )
    facts = json.loads(call("artifacts", "show", reference, "--json").out)
    kinds = {(s["column"], s["kind"]) for s in facts["statistics"]}
    assert {("carrier", "vocabulary"), ("air_time", "numbers"), ("air_time", "histogram")} <= kinds
    assert len(next(s for s in facts["statistics"] if s["kind"] == "histogram")["positions"][0]["boundaries"]) == 3
    verified = json.loads(call("artifacts", "verify", reference, "--json").out)
    assert verified["ok"] is True and verified["rows"] == 8
    assert "compute the same" in call("artifacts", "diff", reference, reference).out


def test_a_changed_byte_is_found(tmp_path: Path, project: Path, ran: Done) -> None:
    import shutil

    version = json.loads(ran.out)["artifact"]["version"]
    shutil.copytree(project / "artifacts" / "small" / "versions" / version, tmp_path / "moved")
    assert featuremill("artifacts", "verify", "moved", cwd=tmp_path).status == 0
    state = next((tmp_path / "moved" / "states").iterdir())
    state.write_bytes(state.read_bytes()[:-1] + b"?")
    done = featuremill("artifacts", "verify", "moved", cwd=tmp_path)
    assert (done.status, done.out) == (1, "") and state.name in done.err and "Traceback" not in done.err


def test_an_alias_is_moved_and_its_history_shown(call: Callable[..., Done], ran: Done) -> None:
    version = json.loads(ran.out)["artifact"]["version"]
    moved = call("artifacts", "alias", "artifacts/small", "prod", version, "--why", "tested by hand")
    assert moved.status == 0 and version in moved.out
    (entry,) = json.loads(call("artifacts", "alias", "artifacts/small", "prod", "--json").out)
    assert (entry["version"], entry["why"], entry["number"]) == (version, "tested by hand", 1)
    assert "tested by hand" in call("artifacts", "alias", "artifacts/small", "prod").out
    assert set(json.loads(call("artifacts", "alias", "artifacts/small", "--json").out)) == {"candidate", "prod"}
    followed = call("artifacts", "alias", "artifacts/small", "staging", "prod", "--json")
    assert json.loads(followed.out)["version"] == version


def test_gc_says_what_would_go_and_removes_it_only_when_told(tmp_path: Path, project: Path, ran: Done) -> None:
    import shutil

    shutil.copytree(project / "artifacts", tmp_path / "artifacts")
    shutil.rmtree(tmp_path / "artifacts" / "small" / "aliases")
    words = ["artifacts", "gc", "artifacts", "--keep", "0", "--older-than", "0"]
    versions = sorted(p.name for p in (tmp_path / "artifacts" / "small" / "versions").iterdir())
    for more in ([], ["--dry-run"]):
        done = featuremill(*words, *more, cwd=tmp_path)
        assert done.status == 0 and "--yes" in done.out and all(version in done.out for version in versions)
        assert sorted(p.name for p in (tmp_path / "artifacts" / "small" / "versions").iterdir()) == versions
    done = featuremill(*words, "--yes", "--json", cwd=tmp_path)
    assert json.loads(done.out)["small"]["removed"] == versions
    assert "There are no artifacts" in featuremill("artifacts", "list", "artifacts", cwd=tmp_path).out


# --- init -----------------------------------------------------------------------------------------------------------


def test_a_new_project_has_a_job_that_loads(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "project"
    begin_project(folder, data=False)
    assert sorted(p.name for p in folder.iterdir()) == [
        ".gitignore",
        "README.md",
        "flights.yaml",
        "late.yaml",
        "prepare.schema.json",
        "score.schema.json",
        "suites",
    ]
    first, *_ = (folder / "flights.yaml").read_text().splitlines()
    assert first == "# yaml-language-server: $schema=./prepare.schema.json"
    assert json.loads((folder / "prepare.schema.json").read_text()) == json.loads(json.dumps(job_schema()))
    job = load_job(folder / "flights.yaml")
    assert job.source.parquet.path == "data/flights"
    assert (job.artifact.root, job.dataset.path) == ("artifacts", "datasets/flights")
    score = load_job(folder / "late.yaml")
    assert (score.source.parquet.path, score.artifact) == ("data/flights", "artifacts/flights@candidate")
    assert [model.path for model in score.models] == ["models/late.skops", "models/late.safetensors"]
    schema = json.loads((folder / "score.schema.json").read_text())
    assert schema == json.loads(json.dumps(job_schema("score")))
    assert (folder / "late.yaml").read_text().startswith("# yaml-language-server: $schema=./score.schema.json\n")


def test_init_overwrites_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("mine")
    assert main(["init", str(tmp_path), "--no-data"]) == 2
    assert "README.md is there already" in capfd.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]
    (tmp_path / "README.md").unlink()
    assert main(["init", str(tmp_path), "--no-data"]) == 0
    assert "featuremill run flights.yaml" in capfd.readouterr().out


def test_the_example_can_be_anywhere(tmp_path: Path) -> None:
    folder = tmp_path / "it's, {a: folder}"
    folder.mkdir()
    (folder / "flights.yaml").write_text(example(str(folder)))
    job = load_job(folder / "flights.yaml")
    assert (job.source.parquet.path, job.artifact.root) == (f"{folder}/flights", f"{folder}/artifacts")
    assert job.dataset.path == f"{folder}/datasets/flights"
    (folder / "late.yaml").write_text(example(str(folder), name="late.yaml"))
    score = load_job(folder / "late.yaml")
    assert score.artifact == f"{folder}/artifacts/flights@candidate"
    paths = [model.path for model in score.models]
    assert paths == [f"{folder}/models/late.skops", f"{folder}/models/late.safetensors"]


def test_what_beam_says_of_an_extra_that_is_not_installed_is_not_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    main(["--version"])
    logging.getLogger().warning("apitools not found, and bigquery client libraries are not available")
    logging.getLogger().warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]

"""Jobs that write to BigQuery: every way of writing, all rows or none, killed runs, and what is asked for wrongly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts.aliases import list_aliases
from featuremill.artifacts.errors import ColumnTypeError, JobError, RequestError
from featuremill.artifacts.store import open_store
from featuremill.core import run_table
from featuremill.core.bigquery import write_commit
from featuremill.core.bigquery.spec import BigQueryAccess
from featuremill.core.job_run import TooManyBadRows
from featuremill.core.jobfile import PrepareJob
from featuremill.core.loading import JobFileError, job_from_mapping
from featuremill.core.unfinished import CommitNote
from featuremill.jobs.prepare import plan, run
from featuremill.jobs.render import plan_blocks, to_text
from featuremill.jobs.score import run as score
from support.bigquery import LocalBigQuery
from support.buckets import s3_server
from support.fake_bigquery_write import FakeBigQueryWrite

ROWS = 600
BAD = [13, 313]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("source")
    rows = pa.table(
        {
            "id": range(ROWS),
            "x": [-1.0 if i in BAD else float(i + 1) for i in range(ROWS)],
            "v": pa.array([[float(i), 1.0] for i in range(ROWS)], pa.list_(pa.float32(), 2)),
            "seen": pa.array([1_577_836_800_000 + i * 3_600_000 for i in range(ROWS)], pa.timestamp("ms", tz="UTC")),
            "code": pa.array(["a", "b", None] * 200).dictionary_encode(),
        }
    )
    for i in range(3):
        pq.write_table(rows.slice(i * 200, 200), folder / f"{i}.parquet")
    return str(folder)


@pytest.fixture(scope="module")
def dataset(bigquery: LocalBigQuery) -> str:
    bigquery.client.create_dataset("written", exists_ok=True, retry=None)
    return "local.written"


@pytest.fixture
def table(dataset: str, request: pytest.FixtureRequest) -> str:
    """The name of a table that is not there yet."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    return f"{dataset}.{name}"


def content(bigquery: LocalBigQuery, out: Path, source: str, table: str, **given: Any) -> dict[str, Any]:
    keys = {k: given.pop(k) for k in ("split", "max_bad_rows", "where", "runner") if k in given}
    parquet = {"path": source, "fragment_rows": 200, "where": keys.pop("where", None)}
    said = {
        "kind": "prepare",
        "name": "t",
        "source": {"parquet": parquet},
        "transforms": [{"type": "LogTransform", "config": {"columns": ["x"], "output": "y"}}],
        "split": {"by": ["id"], "train": 0.8, "eval": 0.2},
        "artifact": {"root": str(out / "artifacts"), "alias": "candidate"},
        "dataset": {"path": str(out / "runs"), "bigquery": {"table": table, **bigquery.keys, **given}},
        "max_bad_rows": len(BAD),
        "runner": {"mode": "in_memory"},
    }
    return said | keys


def job(bigquery: LocalBigQuery, out: Path, source: str, table: str, **given: Any) -> PrepareJob:
    return job_from_mapping(content(bigquery, out, source, table, **given))


def counts(bigquery: LocalBigQuery, table: str) -> tuple[Any, ...]:
    """Rows, and different rows."""
    (found,) = bigquery.query(f"SELECT COUNT(*), COUNT(DISTINCT id) FROM `{table}`")
    return found


def there(bigquery: LocalBigQuery, table: str) -> bool:
    return table.rpartition(".")[2] in bigquery.tables("written")


def leftovers(bigquery: LocalBigQuery) -> list[str]:
    return [t for t in bigquery.tables("written") if t.startswith("featuremill_")]


GOOD = ROWS - len(BAD)
METHODS = ["storage_write", "load"]


# --- the ways of writing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_dataset_is_one_table(
    bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path, method: str
) -> None:
    record = run(job(bigquery, tmp_path, source, table, method=method))
    assert record.table == table and record.rows is not None and record.rows.written == GOOD
    assert counts(bigquery, table) == (GOOD, GOOD)
    by_split = dict(bigquery.query(f"SELECT split, COUNT(*) FROM `{table}` GROUP BY split"))
    assert by_split == record.splits and set(by_split) == {"train", "eval"}
    columns = "id, x, v, UNIX_MILLIS(seen), code, y"
    rows = bigquery.query(f"SELECT {columns} FROM `{table}` WHERE id IN (0, 2, 4) ORDER BY id")
    assert rows[0][:5] == (0, 1.0, [0.0, 1.0], 1_577_836_800_000, "a")
    assert rows[1][4] is None and rows[2][1] == 5.0
    types = {f.name: (f.field_type, f.mode) for f in bigquery.client.get_table(table).schema}
    assert types["v"] == ("FLOAT", "REPEATED") and types["seen"][0] == "TIMESTAMP" and types["split"][0] == "STRING"
    folder = Path(str(record.dataset))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["table"]["table"] == table and manifest["rows"]["train"] == by_split["train"]
    assert [f["split"] for f in manifest["files"]] == ["_rejected"] * 2
    assert pq.read_table(folder / "_rejected", partitioning=None)["id"].to_pylist() == BAD
    assert leftovers(bigquery) == []
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [record.run]


@pytest.mark.parametrize("method", METHODS)
def test_replacing_leaves_the_new_rows_only(
    bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path, method: str
) -> None:
    """The local server's load job keeps the columns of a table that it truncates; BigQuery takes the new ones."""
    given = {"write": "replace", "method": method}
    run(job(bigquery, tmp_path, source, table, where="id < 100", max_bad_rows=1, **given))
    assert counts(bigquery, table) == (99, 99)
    split = None if method == "storage_write" else {"by": ["id"], "one": 1.0}
    run(job(bigquery, tmp_path, source, table, where="id >= 400", split=split, **given))
    assert counts(bigquery, table) == (200, 200)
    assert ("split" in [f.name for f in bigquery.client.get_table(table).schema]) == (split is not None)


@pytest.mark.parametrize("method", METHODS)
def test_appending_makes_the_table_and_adds_to_it(
    bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path, method: str
) -> None:
    for where, rows in (("id >= 400", 200), ("id < 100", 299), ("id < 100", 398)):
        run(job(bigquery, tmp_path, source, table, where=where, write="append", method=method))
        assert counts(bigquery, table)[0] == rows
    assert leftovers(bigquery) == []


def test_dead_letters_go_to_their_table_run_by_run(
    bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path
) -> None:
    letters = f"{table}_letters"
    made = job(bigquery, tmp_path, source, table, dead_letters=letters, write="replace")
    first = run(made, run_id="one")
    assert first.warnings == ()
    with pytest.raises(TooManyBadRows):
        run(made.model_copy(update={"max_bad_rows": 0}), run_id="two")
    found = bigquery.query(f"SELECT _run, id, x, _transform, _row FROM `{letters}` ORDER BY _run, id")
    assert [row[:3] for row in found] == [(r, i, -1.0) for r in ("one", "two") for i in BAD]
    assert found[0][3:] == ("LogTransform", 13) or found[0][4] == 13
    assert counts(bigquery, table) == (GOOD, GOOD)


def test_threads_write_side_by_side(bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path) -> None:
    run(job(bigquery, tmp_path, source, table, runner={"mode": "multi_threading", "workers": 2}))
    assert counts(bigquery, table) == (GOOD, GOOD)


def test_files_of_a_load_job_wait_beside_the_run(
    bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(job(bigquery, Path(), source, table, method="load"), run_id="one")
    assert counts(bigquery, table) == (GOOD, GOOD)
    assert [p.name for p in Path("runs").iterdir()] == ["one"]


def test_predictions(bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path) -> None:
    said = {
        "kind": "score",
        "name": "line",
        "source": {"parquet": {"path": source, "fragment_rows": 200}},
        "model": {
            "class": "support.scoring_models:Line",
            "arguments": {"slope": 2.0},
            "inputs": {"x": ["x"]},
            "outputs": {"y": {"output": "prediction", "type": "double"}},
        },
        "output": {
            "path": str(tmp_path), "keys": ["id"], "columns": ["x"], "bigquery": {"table": table, **bigquery.keys},
        },
        "runner": {"mode": "in_memory"},
    }
    record = score(job_from_mapping(said))
    assert record.table == table and counts(bigquery, table) == (ROWS, ROWS)
    assert bigquery.query(f"SELECT COUNT(*) FROM `{table}` WHERE y = 2 * x") == [(ROWS,)]
    assert leftovers(bigquery) == []


def test_partitions_clusters_labels(bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path) -> None:
    """The local server takes the statement and forgets the options, so it is the statement that is looked at."""
    given = {
        "partition_by": {"column": "seen", "type": "month"},
        "cluster_by": ["code", "id"],
        "labels": {"team": "rides"},
        "expiration": "1d",
    }
    made = job(bigquery, tmp_path, source, table, **given)
    text = to_text(plan_blocks(plan(made), "job.yaml"))
    assert f"{table}" in text and "created by the Storage Write API" in text
    assert "partitioned by TIMESTAMP_TRUNC(`seen`, MONTH)" in text and "v ARRAY<FLOAT64>" in text
    run(made, run_id="options")
    (done,) = [j for j in bigquery.client.list_jobs(max_results=50, retry=None) if "_options_" in j.job_id]
    lines = done.query.split("\n")
    by_month = "PARTITION BY TIMESTAMP_TRUNC(`seen`, MONTH)"
    assert lines[:3] == [f"CREATE TABLE `{table}`", by_month, "CLUSTER BY `code`, `id`"]
    assert lines[3].startswith("OPTIONS(labels=[('team', 'rides')], expiration_timestamp=TIMESTAMP '")
    assert counts(bigquery, table) == (GOOD, GOOD)


# --- all or nothing -------------------------------------------------------------------------------------------------

KILLED = """
import json, os, sys
from featuremill.core import run_table, unfinished
from featuremill.core.loading import job_from_mapping
from featuremill.jobs.prepare import run

commit = run_table.make_commits

def killed(*given, **named):
    if sys.argv[1] == "after":
        commit(*given, **named)
    os._exit(9)

if sys.argv[1] == "early":
    unfinished.CommitNote.put = killed
run_table.make_commits = killed
run(job_from_mapping(json.loads(sys.argv[2])), run_id="one")
"""


def killed(moment: str, said: dict[str, Any]) -> None:
    """Run the job in a process that ends ``early`` (before its note), ``before`` the commit, or ``after`` it."""
    command = [sys.executable, "-c", KILLED, moment, json.dumps(said)]
    child = subprocess.run(command, timeout=120, capture_output=True, check=False)
    assert child.returncode == 9, child.stderr.decode()[-2000:]


@pytest.mark.parametrize(
    ("method", "moment"),
    [
        ("storage_write", "early"),
        ("storage_write", "before"),
        ("storage_write", "after"),
        ("load", "before"),
        ("load", "after"),
    ],
)
def test_a_killed_run_is_completed_under_its_name(
    bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path, method: str, moment: str
) -> None:
    said = content(bigquery, tmp_path, source, table, method=method, write="create", dead_letters=f"{table}_letters")
    killed(moment, said)
    assert there(bigquery, table) == (moment == "after")
    assert not (tmp_path / "runs/one").exists()
    record = run(job_from_mapping(said), run_id="one")
    assert counts(bigquery, table) == (GOOD, GOOD)
    assert record.status == "done" and record.rows is not None and record.rows.written == GOOD
    done = "The run was killed while it was committing, and completed afterwards."
    assert (done in record.warnings) == (moment != "early")
    folder = tmp_path / "runs/one"
    assert (folder / "manifest.json").exists() and json.loads((folder / "run.json").read_text())["status"] == "done"
    assert pq.read_table(folder / "_rejected", partitioning=None)["id"].to_pylist() == BAD
    alias = list_aliases(str(tmp_path / "artifacts"), "t")["candidate"]
    assert alias.version == record.artifact["version"]
    for name in leftovers(bigquery) if moment == "early" else ():
        bigquery.client.delete_table(f"written.{name}", retry=None)  # of a killed run, it expires by itself
    assert leftovers(bigquery) == []
    if moment == "after":
        return  # the local server cannot tell that the streams of the dead letters are committed
    assert bigquery.query(f"SELECT COUNT(*) FROM `{table}_letters`") == [(len(BAD),)]
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["one"]
    with pytest.raises(RequestError, match="is there already|already holds a run"):
        run(job_from_mapping(said), run_id="one")


@pytest.mark.parametrize("moment", ["before", "after", "too late"])
def test_a_killed_run_that_appends(
    bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path, moment: str
) -> None:
    """Streams are committed straight into the table; only the fake can tell whether they are."""
    run(job(bigquery, tmp_path / "first", source, table))
    with FakeBigQueryWrite() as fake:
        given = {"write": "append", "storage_endpoint": fake.endpoint, "dead_letters": f"{table}_letters"}
        said = content(bigquery, tmp_path, source, table, **given)
        killed("before" if moment == "too late" else moment, said)
        assert len(fake.rows(table)) == (GOOD if moment == "after" else 0)
        if moment == "too late":
            fake.forget()
            with pytest.raises(JobError, match="cannot be told any more whether its 598 rows are in the table"):
                run(job_from_mapping(said), run_id="one")
            return
        other = content(bigquery, tmp_path, source, table, **given, where="id < 100")
        with pytest.raises(RequestError, match="was killed while it was committing, and its job said something"):
            run(job_from_mapping(other), run_id="one")
        record = run(job_from_mapping(said), run_id="one")
        assert sorted(row["id"] for row in fake.rows(table)) == [i for i in range(ROWS) if i not in BAD]
        assert [row["_run"] for row in fake.rows(f"{table}_letters")] == ["one"] * len(BAD)
        assert record.warnings == ("The run was killed while it was committing, and completed afterwards.",)


def test_a_killed_run_in_a_bucket(
    bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server() as cloud:
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value)
        runs = f"{cloud.bucket()}/runs"
        said = content(bigquery, tmp_path, source, table)
        said["dataset"]["path"] = runs
        killed("after", said)
        store = open_store(runs)
        assert not store.exists("one/manifest.json") and store.exists(".one.commit.json")
        record = run(job_from_mapping(said), run_id="one")
        assert counts(bigquery, table) == (GOOD, GOOD)
        assert str(record.dataset).startswith(runs)
        manifest = json.loads(store.get("one/manifest.json"))
        names = {f"one/{f['path']}" for f in manifest["files"]}
        names |= {f"one/report/{name}" for name in ("index.html", "report.json", "report.md")}
        assert set(store.list()) == {"one/manifest.json", "one/run.json", *names}
        assert sum(f["rows"] for f in manifest["files"]) == len(BAD)


def test_a_service_that_goes_away_at_the_commit(
    bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job(bigquery, tmp_path, source, table)
    commit = write_commit.make_commit
    with FakeBigQueryWrite() as nobody:
        away = BigQueryAccess(**{**bigquery.keys, "storage_endpoint": nobody.endpoint}).model_dump()
    monkeypatch.setattr(write_commit, "make_commit", lambda planned, **k: commit({**planned, "access": away}, **k))
    with pytest.raises(JobError, match="cannot be reached.*is not known. Run again with --run-id one"):
        run(made, run_id="one")
    assert not there(bigquery, table) and not (tmp_path / "runs/one").exists()
    monkeypatch.undo()
    run(made, run_id="one")
    assert counts(bigquery, table) == (GOOD, GOOD)
    assert leftovers(bigquery) == [] and [p.name for p in (tmp_path / "runs").iterdir()] == ["one"]


def test_a_commit_that_is_refused_leaves_nothing(
    bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody made the table while the job was running."""
    commits = run_table.make_commits

    def too_late(*given: Any, **named: Any) -> Any:
        bigquery.query(f"CREATE TABLE `{table}` AS SELECT 1 AS theirs")
        return commits(*given, **named)

    monkeypatch.setattr(run_table, "make_commits", too_late)
    with pytest.raises(JobError, match=f"Already Exists: Table {table}"):
        run(job(bigquery, tmp_path, source, table), run_id="one")
    assert bigquery.query(f"SELECT * FROM `{table}`") == [(1,)]
    assert leftovers(bigquery) == []
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["one"]
    assert json.loads((tmp_path / "runs/one/run.json").read_text())["status"] == "failed"


def test_a_job_that_fails_writes_nothing(bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path) -> None:
    with pytest.raises(TooManyBadRows):
        run(job(bigquery, tmp_path, source, table, max_bad_rows=1))
    assert not there(bigquery, table) and leftovers(bigquery) == []


def test_of_two_processes_one_commits(
    bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits, said = run_table.make_commits, content(bigquery, tmp_path, source, table)
    def other_first(*given: Any, **named: Any) -> Any:
        note = CommitNote(str(tmp_path / "runs"), "one")
        with pytest.raises(JobError, match="another process is committing the run one"):
            note.put({})
        return commits(*given, **named)

    monkeypatch.setattr(run_table, "make_commits", other_first)
    run(job_from_mapping(said), run_id="one")
    assert counts(bigquery, table) == (GOOD, GOOD)


# --- what is asked wrongly ------------------------------------------------------------------------------------------

WRONG = [
    ({"table": "nobody.d.t"}, RequestError, "there is no project 'nobody'"),
    ({"table": "local.writen.t"}, RequestError, "there is no dataset 'writen' in the project local. Did you mean"),
    ({"dead_letters": "local.writen.t"}, RequestError, "there is no dataset 'writen'"),
    ({"table": "local.written.fixed"}, RequestError, "fixed is there already, and write: create makes a new one"),
    (
        {"table": "local.written.fixed", "write": "append"},
        RequestError,
        "table: the rows cannot be appended to local.written.fixed: it has no column 'x' (FLOAT)",
    ),
    (
        {"dead_letters": "local.written.fixed"},
        RequestError,
        "dead_letters: the rows cannot be appended to local.written.fixed",
    ),
    ({"split_column": "x"}, RequestError, "split_column: the rows have a column 'x' already"),
    ({"partition_by": {"column": "sen", "type": "day"}}, RequestError, "no column 'sen'. Did you mean 'seen'?"),
    ({"partition_by": {"column": "x", "type": "day"}}, ColumnTypeError, "'x' is FLOAT64, which has no partitions by"),
    ({"partition_by": {"column": "seen", "range": {"start": 0, "end": 9, "interval": 3}}}, ColumnTypeError, "by range"),
    ({"cluster_by": ["y"]}, ColumnTypeError, "'y' is FLOAT64, by which BigQuery does not cluster"),
    ({"cluster_by": ["v"]}, ColumnTypeError, "'v' is ARRAY<FLOAT64>"),
    ({"method": "load", "staging": "s3://b/tmp"}, RequestError, "a load job reads from Cloud Storage"),
    ({"credentials": "env:NO_SUCH_KEY"}, RequestError, "environment variable NO_SUCH_KEY is not set"),
]


@pytest.mark.parametrize(("given", "error", "message"), WRONG)
def test_a_wrong_request_is_told_at_planning(
    bigquery: LocalBigQuery,
    dataset: str,
    source: str,
    tmp_path: Path,
    given: dict[str, Any],
    error: type[RequestError],
    message: str,
) -> None:
    bigquery.load("written.fixed", pa.table({"id": [1]}))
    given = {"table": "local.written.new", **given}
    with pytest.raises(error) as caught:
        plan(job(bigquery, tmp_path, source, **given))
    assert message in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_columns_that_bigquery_has_not(bigquery: LocalBigQuery, dataset: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "x": [1.0], "big": pa.array([1], pa.uint64())}), tmp_path / "a.parquet")
    with pytest.raises(ColumnTypeError, match="'big' is uint64, which BigQuery has not"):
        plan(job(bigquery, tmp_path, str(tmp_path / "a.parquet"), f"{dataset}.new"))


def test_a_null_in_a_list_fails_the_job(bigquery: LocalBigQuery, table: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2], "x": [1.0, 2.0], "w": [["a"], [None]]}), tmp_path / "a.parquet")
    with pytest.raises(JobError, match="The column 'w' has a null within a list"):
        run(job(bigquery, tmp_path, str(tmp_path / "a.parquet"), table))
    assert not there(bigquery, table) and leftovers(bigquery) == []


def test_permission_denied_while_writing(bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path) -> None:
    denied, message = "Permission 'TABLES_UPDATE_DATA' denied", "permission denied.*TABLES_UPDATE_DATA.*Writing takes"
    with FakeBigQueryWrite(denied=denied) as fake, pytest.raises(JobError, match=message):
        run(job(bigquery, tmp_path, source, table, storage_endpoint=fake.endpoint))
    assert not there(bigquery, table) and leftovers(bigquery) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"write": "upsert"}, "write: got 'upsert', expected one of 'create', 'replace', 'append'"),
        ({"table": "t"}, "a table is written project.dataset.table"),
        ({"table": "p.d.t$20130131"}, "single partitions cannot be written"),
        ({"staging": "gs://b/tmp"}, "staging goes with method: load"),
        ({"labels": {"Team": "x"}}, "Team: x is no label"),
        ({"partition_by": {"column": "seen"}}, "partition_by needs one of type and range"),
        ({"cluster_by": ["a", "b", "c", "d", "e"]}, "cluster_by"),
        ({"dead_letters": "p.d.t", "table": "p.d.t"}, "dead_letters names the table of the rows"),
        ({"credentials": '{"private_key": "secret"}'}, "credentials are named, never written into a job file"),
    ],
)
def test_a_wrong_job_file(
    bigquery: LocalBigQuery, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(JobFileError) as caught:
        job(bigquery, tmp_path, "data", **{"table": "p.d.t", **given})
    assert message in str(caught.value) and "secret" not in str(caught.value)


def test_rows_that_keep_arriving_go_to_files(tmp_path: Path) -> None:
    said = {
        "kind": "score",
        "name": "line",
        "source": {"watch": {"path": "in/*.parquet", "every": "1s"}},
        "model": {"path": "late.onnx"},
        "output": {"path": str(tmp_path), "keys": ["id"], "bigquery": {"table": "p.d.t"}},
    }
    with pytest.raises(JobFileError, match="output.bigquery is for rows that are there already"):
        job_from_mapping(said)

"""Jobs that write to BigQuery: every way of writing, all rows or none, killed runs, and what is asked for wrongly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.core.job_run import TooManyBadRows
from featuremill.core.jobfile import PrepareJob
from featuremill.core.loading import job_from_mapping
from featuremill.jobs.prepare import plan, run
from featuremill.jobs.render import plan_blocks, to_text
from featuremill.jobs.score import run as score
from support.bigquery import LocalBigQuery

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
            "at": pa.array([1_577_836_800_000 + i * 3_600_000 for i in range(ROWS)], pa.timestamp("ms", tz="UTC")),
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


def job(bigquery: LocalBigQuery, out: Path, source: str, table: str, **given: Any) -> PrepareJob:
    keys = {k: given.pop(k) for k in ("split", "max_bad_rows", "where", "runner") if k in given}
    parquet = {"path": source, "fragment_rows": 200, "where": keys.pop("where", None)}
    content = {
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
    return job_from_mapping(content | keys)


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
    rows = bigquery.query(f"SELECT id, x, v, UNIX_MILLIS(at), code, y FROM `{table}` WHERE id IN (0, 2, 4) ORDER BY id")
    assert rows[0][:5] == (0, 1.0, [0.0, 1.0], 1_577_836_800_000, "a")
    assert rows[1][4] is None and rows[2][1] == 5.0
    types = {f.name: (f.field_type, f.mode) for f in bigquery.client.get_table(table).schema}
    assert types["v"] == ("FLOAT", "REPEATED") and types["at"][0] == "TIMESTAMP" and types["split"][0] == "STRING"
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
    bigquery.load(table.partition(".")[2], pa.table({"other": ["old"]}))
    given = {"write": "replace", "method": method}
    run(job(bigquery, tmp_path, source, table, where="id < 100", max_bad_rows=1, **given))
    assert counts(bigquery, table) == (99, 99)
    run(job(bigquery, tmp_path, source, table, where="id >= 400", split=None, **given))
    assert counts(bigquery, table) == (200, 200)
    assert "split" not in [f.name for f in bigquery.client.get_table(table).schema]


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


def test_predictions(bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path) -> None:
    content = {
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
    record = score(job_from_mapping(content))
    assert record.table == table and counts(bigquery, table) == (ROWS, ROWS)
    assert bigquery.query(f"SELECT COUNT(*) FROM `{table}` WHERE y = 2 * x") == [(ROWS,)]
    assert leftovers(bigquery) == []


def test_partitions_clusters_labels(bigquery: LocalBigQuery, source: str, table: str, tmp_path: Path) -> None:
    """The local server takes the statement and forgets the options, so it is the statement that is looked at."""
    given = {
        "partition_by": {"column": "at", "type": "month"},
        "cluster_by": ["code", "id"],
        "labels": {"team": "rides"},
        "expiration": "1d",
    }
    made = job(bigquery, tmp_path, source, table, **given)
    text = to_text(plan_blocks(plan(made), "job.yaml"))
    assert f"{table}" in text and "created by the Storage Write API" in text
    assert "partitioned by TIMESTAMP_TRUNC(`at`, MONTH)" in text and "v ARRAY<FLOAT64>" in text
    run(made, run_id="options")
    (done,) = [j for j in bigquery.client.list_jobs(max_results=50, retry=None) if "options" in j.job_id]
    lines = done.query.split("\n")
    assert lines[:3] == [f"CREATE TABLE `{table}`", "PARTITION BY TIMESTAMP_TRUNC(`at`, MONTH)", "CLUSTER BY `code`, `id`"]
    assert lines[3].startswith("OPTIONS(labels=[('team', 'rides')], expiration_timestamp=TIMESTAMP '")
    assert counts(bigquery, table) == (GOOD, GOOD)

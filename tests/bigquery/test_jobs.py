"""Jobs over BigQuery: the same artifact and rows as from Parquet, queries, and everything that can be asked wrongly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from featuremill.artifacts.errors import JobError, RequestError
from featuremill.core.bigquery.query import BigQueryQuery
from featuremill.core.bigquery.source import BigQuerySource
from featuremill.core.bigquery.spec import BigQuerySpec
from featuremill.core.fragments import FragmentsExpired
from featuremill.core.jobfile import PrepareJob
from featuremill.core.loading import JobFileError, job_from_mapping
from featuremill.core.record import RunRecord
from featuremill.core.scorefile import ScoreJob
from featuremill.jobs.cli import app
from featuremill.jobs.flights import find_data, read_flights
from featuremill.jobs.prepare import plan, run
from featuremill.jobs.score import run as score
from support.bigquery import LocalBigQuery, bigquery_types
from support.fake_bigquery_read import FakeBigQueryRead

EXAMPLES = Path(__file__).parents[2] / "jobs/featuremill/jobs/examples"
MONTH = 27_004
"""The flights of January."""


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    """January, in BigQuery's types."""
    return bigquery_types(read_flights(find_data()).slice(0, MONTH))


@pytest.fixture(scope="module")
def table(bigquery: LocalBigQuery, flights: pa.Table) -> str:
    return bigquery.load("jobs.flights", flights)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory, flights: pa.Table) -> str:
    folder = tmp_path_factory.mktemp("flights")
    for i in range(3):
        pq.write_table(flights.slice(i * 10_000, 10_000), folder / f"{i}.parquet", row_group_size=4000)
    return str(folder)


def job(out: Path, source: dict[str, Any], **changes: Any) -> PrepareJob:
    """The example's transforms over another source."""
    content = yaml.safe_load((EXAMPLES / "flights.yaml").read_text())
    del content["quality"]  # whose suite the demo brings along
    content |= {
        "source": source,
        "artifact": {"root": str(out / "artifacts"), "alias": "candidate"},
        "dataset": {"path": str(out / "datasets")},
        "runner": {"mode": "in_memory"},
    }
    return job_from_mapping(content | changes)


SMALL: dict[str, Any] = {
    "transforms": [{"type": "ScaleToZScore", "config": {"columns": ["dep_delay"], "dtype": "float64"}}],
    "split": None,
}


def from_table(bigquery: LocalBigQuery, **given: Any) -> dict[str, Any]:
    return {"bigquery": {"table": "local.jobs.flights", **bigquery.keys, **given}}


def rows_of(record: RunRecord) -> dict[str, pa.Table]:
    """The rows of each split, sorted."""
    folders = sorted(f for f in Path(str(record.dataset)).iterdir() if f.is_dir() and f.name != "report")
    return {f.name: pq.read_table(f, partitioning=None).sort_by("flight_id").combine_chunks() for f in folders}


# --- the same results -----------------------------------------------------------------------------------------------


def test_bigquery_and_parquet_give_the_same_artifact_and_rows(
    bigquery: LocalBigQuery, table: str, parquet: str, tmp_path: Path
) -> None:
    where = "late is not null"
    files = run(job(tmp_path / "parquet", {"parquet": {"path": parquet, "where": where}}))
    given = {"where": where, "fragment_rows": 5000, "batch_rows": 3000}
    ours = run(job(tmp_path / "bigquery", from_table(bigquery, **given)))
    assert ours.artifact["version"] == files.artifact["version"]
    assert ours.rows == files.rows and ours.rows is not None and ours.rows.filtered == 606
    mine, theirs = rows_of(ours), rows_of(files)
    assert list(mine) == ["eval", "train"]
    for split, rows in theirs.items():
        assert mine[split].equals(rows), split
    manifest = json.loads((Path(str(ours.dataset)) / "manifest.json").read_text())
    for source in (ours.source, manifest["source"]):
        assert source["table"] == "local.jobs.flights" and source["rows"] == MONTH
        assert datetime.fromisoformat(source["snapshot_time"]) <= datetime.now(UTC)


def test_a_query_is_materialised_once_and_dropped(
    bigquery: LocalBigQuery, table: str, parquet: str, tmp_path: Path
) -> None:
    query = "SELECT * FROM jobs.flights WHERE late IS NOT NULL -- those that arrived"
    source = {"bigquery": {"query": query, "temporary_dataset": "local.jobs", **bigquery.keys}}
    ours = run(job(tmp_path / "bigquery", source))
    files = run(job(tmp_path / "parquet", {"parquet": {"path": parquet, "where": "late is not null"}}))
    assert ours.artifact["version"] == files.artifact["version"]
    assert ours.rows is not None and ours.rows.filtered == 0 and ours.rows.source == MONTH - 606
    assert ours.source["query"] == query and ours.source["bytes_processed"] == 0
    assert bigquery.tables("jobs") == ["flights"]


def test_threads_read_streams_side_by_side(bigquery: LocalBigQuery, table: str, tmp_path: Path) -> None:
    runner = {"mode": "multi_threading", "workers": 2}
    record = run(job(tmp_path, from_table(bigquery, fragment_rows=10_000), runner=runner, **SMALL))
    assert record.rows is not None and record.rows.written == MONTH


def test_nested_columns_pass_through(bigquery: LocalBigQuery, tmp_path: Path) -> None:
    bigquery.query(
        "CREATE OR REPLACE TABLE jobs.nested AS SELECT CAST(n AS INT64) AS x, [CAST(n AS INT64), NULL] AS many, "
        "STRUCT(CAST(n AS FLOAT64) AS a, 't' AS b) AS pair, DATE '2020-01-01' AS day, TIME '01:02:03' AS clock, "
        "NUMERIC '1.5' AS price, b'x' AS raw FROM UNNEST(GENERATE_ARRAY(1, 100)) AS n"
    )
    step = {"type": "ScaleTo01", "config": {"columns": ["x"], "output": "y"}}
    source = {"bigquery": {"table": "local.jobs.nested", **bigquery.keys}}
    record = run(job(tmp_path, source, transforms=[step], split=None))
    rows = pq.read_table(Path(str(record.dataset)) / "all", partitioning=None).sort_by("x")
    assert rows.schema.field("pair").type == pa.struct([("a", pa.float64()), ("b", pa.string())])
    assert rows.slice(1, 1).to_pylist()[0]["pair"] == {"a": 2.0, "b": "t"}
    assert rows["many"].to_pylist()[1] == [2, None]
    assert [str(rows.schema.field(n).type) for n in ("day", "clock", "price", "raw")] == [
        "date32[day]", "time64[us]", "decimal128(38, 9)", "binary",
    ]


def test_scoring_reads_bigquery(bigquery: LocalBigQuery, table: str, tmp_path: Path) -> None:
    content = {
        "kind": "score",
        "name": "late",
        "source": from_table(bigquery, where="dep_delay is not null", fragment_rows=10_000),
        "model": {
            "class": "support.scoring_models:Line",
            "arguments": {"slope": 2.0},
            "inputs": {"x": ["dep_delay"]},
            "outputs": {"y": {"output": "prediction", "type": "double"}},
        },
        "output": {"path": str(tmp_path), "keys": ["flight_id"], "columns": ["dep_delay"]},
        "runner": {"mode": "in_memory"},
    }
    made = job_from_mapping(content)
    assert isinstance(made, ScoreJob)
    record = score(made)
    assert record.rows is not None and record.rows.source == MONTH and record.rows.filtered == 521
    rows = pq.read_table(Path(str(record.dataset)) / "predictions", partitioning=None)
    assert rows["y"].to_pylist() == [2.0 * d for d in rows["dep_delay"].to_pylist()]
    assert len(set(rows["flight_id"].to_pylist())) == rows.num_rows == MONTH - 521


# --- a run that goes on ---------------------------------------------------------------------------------------------


@pytest.fixture
def fake(flights: pa.Table, table: str) -> Iterator[FakeBigQueryRead]:
    with FakeBigQueryRead(message_rows=5000) as server:
        server.put(table, flights, at=datetime.now(UTC) - timedelta(days=1))
        yield server


def expiring(fake: FakeBigQueryRead, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Sessions that the pipeline opens expire before it reads, so many times."""
    left = [times]
    fragments = BigQuerySource.fragments

    def then_expire(self: BigQuerySource, reads: Any = ()) -> Any:
        made = fragments(self, reads)
        if reads and left[0]:
            left[0] -= 1
            fake.expire()
        return made

    monkeypatch.setattr(BigQuerySource, "fragments", then_expire)


def test_a_session_that_expires_costs_a_new_start(
    bigquery: LocalBigQuery, fake: FakeBigQueryRead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expiring(fake, monkeypatch, 2)
    source = from_table(bigquery, storage_endpoint=fake.endpoint)
    record = run(job(tmp_path, source, **SMALL))
    assert record.rows is not None and record.rows.written == MONTH
    assert len(record.warnings) == 2 and "session expired at" in record.warnings[0]
    assert json.loads((Path(str(record.dataset)) / "run.json").read_text())["warnings"] == list(record.warnings)


def test_a_session_that_always_expires_fails_the_job(
    bigquery: LocalBigQuery, fake: FakeBigQueryRead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expiring(fake, monkeypatch, 9)
    with pytest.raises(FragmentsExpired):
        run(job(tmp_path, from_table(bigquery, storage_endpoint=fake.endpoint), **SMALL))
    assert not list((tmp_path / "datasets").glob("*/manifest.json"))


def test_rows_that_do_not_come_fail_the_job(
    bigquery: LocalBigQuery, fake: FakeBigQueryRead, flights: pa.Table, tmp_path: Path
) -> None:
    """The count says more than the streams give."""
    fake.put("local.jobs.flights", flights.slice(1), at=datetime.now(UTC) - timedelta(hours=1))
    with pytest.raises(JobError, match="Rows are missing: 27,004 in the source, 27,003 read"):
        run(job(tmp_path, from_table(bigquery, storage_endpoint=fake.endpoint), **SMALL))


# --- what is asked wrongly ------------------------------------------------------------------------------------------

WRONG_TABLES = [
    ({"table": "nobody.jobs.flights"}, "there is no project 'nobody'"),
    ({"table": "local.jbos.flights"}, "there is no dataset 'jbos' in the project local. Did you mean 'jobs'?"),
    ({"table": "local.jobs.flihgts"}, "there is no table 'flihgts' in local.jobs. Did you mean 'flights'?"),
    ({"columns": ["carrier", "dep_dealy"]}, "columns: there is no column 'dep_dealy'. Did you mean 'dep_delay'?"),
    ({"where": "lat is not null"}, "there is no column 'lat'"),
    ({"where": "carrier > 5"}, "'carrier' is string and cannot be compared with 5"),
    ({"where": "carrier ="}, "expected a column or a literal"),
    ({"credentials": "/nowhere/key.json"}, "the credentials"),
    ({"credentials": "env:NO_SUCH_KEY"}, "environment variable NO_SUCH_KEY is not set"),
]


@pytest.mark.parametrize(("given", "message"), WRONG_TABLES)
def test_a_wrong_request_is_told_at_planning(
    bigquery: LocalBigQuery, table: str, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        plan(job(tmp_path, from_table(bigquery, **given), **SMALL))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT nope FROM jobs.flights", "checking the query: .*nope"),
        ("SELECT x FROM jobs.missing", "checking the query: .*missing"),
        ("SELEC 1", "checking the query: .*yntax"),
        ("SELECT 1 AS x; SELECT 2 AS x", "query: this is SCRIPT, expected one SELECT"),
        ("DROP TABLE jobs.flights", "query: this is DROP_TABLE, expected one SELECT"),
    ],
)
def test_a_wrong_query_is_told_at_planning(
    bigquery: LocalBigQuery, table: str, tmp_path: Path, query: str, message: str
) -> None:
    source = {"bigquery": {"query": query, "temporary_dataset": "local.jobs", **bigquery.keys}}
    with pytest.raises(RequestError, match=message):
        plan(job(tmp_path, source, **SMALL))
    assert bigquery.tables("jobs").count("flights") == 1


def test_a_query_that_fails_leaves_nothing_behind(bigquery: LocalBigQuery, flights: pa.Table) -> None:
    """It was right when the job was planned."""
    bigquery.load("jobs.gone", flights.slice(0, 10))
    before = [t for t in bigquery.tables("jobs") if t != "gone"]
    query = "SELECT dep_delay FROM jobs.gone"
    source = BigQueryQuery(BigQuerySpec(query=query, temporary_dataset="local.jobs", **bigquery.keys))
    assert source.schema.names == ["dep_delay"]
    bigquery.query("DROP TABLE jobs.gone")
    with pytest.raises(JobError, match="running the query into local.jobs.featuremill_.*gone"), source.reading():
        pass
    assert bigquery.tables("jobs") == before


def test_a_job_that_fails_drops_the_query_s_table(bigquery: LocalBigQuery, table: str, tmp_path: Path) -> None:
    before = bigquery.tables("jobs")
    source = {"bigquery": {"query": "SELECT * FROM jobs.flights WHERE FALSE", "temporary_dataset": "local.jobs"}}
    source["bigquery"] |= bigquery.keys
    with pytest.raises(RequestError, match="has no rows; there is nothing to prepare"):
        run(job(tmp_path, source, **SMALL))
    assert bigquery.tables("jobs") == before


def test_an_empty_table(bigquery: LocalBigQuery, flights: pa.Table, tmp_path: Path) -> None:
    bigquery.load("jobs.empty", flights.slice(0, 0))
    with pytest.raises(RequestError, match="The source local.jobs.empty has no rows"):
        plan(job(tmp_path, {"bigquery": {"table": "local.jobs.empty", **bigquery.keys}}, **SMALL))


def test_a_column_that_goes_after_planning(bigquery: LocalBigQuery, flights: pa.Table, tmp_path: Path) -> None:
    bigquery.load("jobs.changing", flights)
    found = BigQuerySource(
        job(tmp_path, {"bigquery": {"table": "local.jobs.changing", **bigquery.keys}}).source.given
    )
    assert "late" in found.schema.names
    bigquery.load("jobs.changing", flights.drop(["late"]))
    with pytest.raises(JobError, match="column 'late' has changed since the job was planned: it was bool, and is gone"):
        found.fragments([["late"]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "bigquery needs one of table and query, got neither"),
        ({"table": "p.d.t", "query": "select 1"}, "got both"),
        ({"table": "flights"}, "a table is written project.dataset.table"),
        ({"table": "p.d.t*"}, "for several tables or one partition write a query"),
        ({"table": "p.d.`t"}, "a table is written project.dataset.table"),
        ({"query": "select 1"}, "a query needs temporary_dataset"),
        ({"query": "select 1", "temporary_dataset": "p.d", "where": "x = 1"}, "where goes with table"),
        ({"table": "p.d.t", "snapshot_time": "yesterday"}, "a moment is written 2026-01-31T12:00:00Z"),
        ({"table": "p.d.t", "credentials": '{"private_key": "s3cret"}'}, "credentials are named, never written"),
        ({"table": "p.d.t", "max_streams": 2000}, "max_streams"),
        ({"table": "p.d.t", "tabel": "x"}, "tabel"),
    ],
)
def test_a_wrong_job_file(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(JobFileError, match=message) as caught:
        job(tmp_path, {"bigquery": given})
    assert "s3cret" not in str(caught.value)


def test_one_source_and_no_more(tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match="a source is one of parquet and bigquery, got parquet and bigquery"):
        job(tmp_path, {"parquet": {"path": "x"}, "bigquery": {"table": "p.d.t"}})


def test_a_server_that_is_not_there(tmp_path: Path, bigquery: LocalBigQuery) -> None:
    gone = {"endpoint": "http://127.0.0.1:9", "storage_endpoint": "127.0.0.1:9"}
    with pytest.raises(JobError, match="cannot be reached"):
        plan(job(tmp_path, from_table(bigquery, **gone), **SMALL))


# --- what people see ------------------------------------------------------------------------------------------------


def test_plan_shows_the_table_and_the_cost_of_a_query(bigquery: LocalBigQuery, table: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"

    def shown(source: dict[str, Any]) -> str:
        content = job(tmp_path, source, **SMALL).model_dump(mode="json", exclude_none=True)
        file.write_text(yaml.safe_dump(content))
        result = CliRunner().invoke(app, ["plan", str(file)])
        assert result.exit_code == 0, result.output
        return result.output

    text = shown(from_table(bigquery, where="late is not null"))
    assert "local.jobs.flights" in text and "27,004 rows" in text and "as of 20" in text
    assert "only rows where late is not null" in text
    query = {"query": "SELECT dep_delay FROM jobs.flights", "temporary_dataset": "local.jobs", **bigquery.keys}
    assert "the query processes 0 bytes" in shown({"bigquery": query})


def test_the_place_in_the_file_is_named(bigquery: LocalBigQuery, table: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    content = job(tmp_path, from_table(bigquery), **SMALL).model_dump(mode="json", exclude_none=True)
    content["source"]["bigquery"]["table"] = "local.jobs.flihgts"
    file.write_text(yaml.safe_dump(content))
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "flihgts" in text)
    result = CliRunner().invoke(app, ["plan", str(file)])
    assert isinstance(result.exception, RequestError)
    assert f"job.yaml:{line}: source.bigquery.table" in str(result.exception)

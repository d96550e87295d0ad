"""Rows into BigQuery: the types, and streams that break, are refused, or are committed twice.

The types go through bqemulator where it can, and through a server written for the purpose where not; see there for what
the real service does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError, JobError, ParameterError
from featuremill.core.bigquery.source import BigQuerySource
from featuremill.core.bigquery.spec import BigQueryAccess, BigQuerySpec, table_name
from featuremill.core.bigquery.write_commit import make_commit
from featuremill.core.bigquery.write_spec import BigQueryTable
from featuremill.core.bigquery.write_statement import load_config, partitions_by, statement
from featuremill.core.bigquery.write_stream import LARGEST_APPEND, PendingStream
from featuremill.core.bigquery.write_types import converted, misfit, schema_fields, table_schema
from featuremill.core.unfinished import NotCommitted
from support.bigquery import LocalBigQuery
from support.fake_bigquery_write import FakeBigQueryWrite

TABLE = "local.d.t"
NUMBERS = pa.schema([("n", pa.int64())])


@pytest.fixture
def fake() -> Iterator[FakeBigQueryWrite]:
    with FakeBigQueryWrite() as server:
        yield server


def access(endpoint: str) -> BigQueryAccess:
    return BigQueryAccess(endpoint="http://127.0.0.1:1", storage_endpoint=endpoint, billing_project="local")


def stream(fake: FakeBigQueryWrite, schema: pa.Schema = NUMBERS) -> PendingStream:
    return PendingStream(access(fake.endpoint), table_name(TABLE), schema)


def numbers(first: int, count: int) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array(range(first, first + count), pa.int64())})


def commit(fake: FakeBigQueryWrite, *streams: PendingStream, resumed: bool = False) -> None:
    planned = {"access": access(fake.endpoint).model_dump(), "table": TABLE, "into": TABLE, "job": None}
    make_commit({**planned, "rows": 1, "streams": [s.path for s in streams], "expires": None}, resumed=resumed)


# --- types ----------------------------------------------------------------------------------------------------------

MOMENT = dt.datetime(2013, 1, 31, 12, 0, 0, 1, dt.UTC)
ARRAYS: dict[str, pa.Array] = {
    "int": pa.array([1, None, -3], pa.int16()),
    "unsigned": pa.array([2**32 - 1, None, 0], pa.uint32()),
    "half": pa.array([1.5, None, float("inf")], pa.float32()).cast(pa.float16()),
    "single": pa.array([0.5, None, -2.0], pa.float32()),
    "flag": pa.array([True, None, False]),
    "text": pa.array(["a", None, "ß\n"], pa.large_string()),
    "code": pa.array(["x", None, "x"]).dictionary_encode(),
    "raw": pa.array([b"ab", None, b"\x00\xff"], pa.binary(2)),
    "day": pa.array([dt.date(2013, 1, 31), None, dt.date(1960, 2, 29)], pa.date64()),
    "clock": pa.array([dt.time(1, 2, 3), None, dt.time(0)], pa.time32("s")),
    "local": pa.array([dt.datetime(2013, 1, 31, 12), None, dt.datetime(1969, 1, 1)], pa.timestamp("s")),
    "moment": pa.array([MOMENT, None, MOMENT], pa.timestamp("ns", tz="Europe/Berlin")),
    "price": pa.array([Decimal("1.50"), None, Decimal("-0.01")], pa.decimal128(9, 2)),
    "vector": pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)),
    "words": pa.array([["a"], None, []], pa.large_list(pa.string())),
}


def test_types_round_trip(bigquery: LocalBigQuery) -> None:
    """Written as they are, read back as the source reads them. BIGNUMERIC is not here: DuckDB has no such decimal."""
    from google.cloud import bigquery as api

    rows = pa.record_batch(ARRAYS)
    schema = table_schema(rows.schema)
    bigquery.client.create_dataset("types", exists_ok=True, retry=None)
    bigquery.client.create_table(api.Table("local.types.all", schema=schema_fields(schema)), retry=None)
    reach = BigQueryAccess(**bigquery.keys)
    writer = PendingStream(reach, table_name("local.types.all"), schema)
    writer.write(converted(rows.slice(0, 1), schema))
    writer.write(converted(rows.slice(1), schema))
    writer.close()
    assert bigquery.query("SELECT COUNT(*) FROM types.all") == [(0,)]
    planned = {"access": reach.model_dump(), "table": "local.types.all", "into": "local.types.all", "job": None}
    make_commit({**planned, "rows": 3, "streams": [writer.path], "expires": None})
    source = BigQuerySource(BigQuerySpec(table="local.types.all", **bigquery.keys))
    found = pa.Table.from_batches([b for f in source.fragments([source.schema.names]) for b in f.batches()])
    assert found.schema.equals(schema)
    assert found.to_pylist() == converted(rows, schema).to_pylist()
    assert found["vector"].to_pylist() == [[1.0, 2.0], [], [3.0, 4.0]]
    assert found["moment"].to_pylist()[0] == MOMENT and found["unsigned"].to_pylist()[0] == 2**32 - 1


def test_structs_and_large_decimals(fake: FakeBigQueryWrite) -> None:
    code = pa.dictionary(pa.int8(), pa.string())
    inner = pa.struct([("a", pa.int8()), ("tags", pa.list_(pa.string())), ("code", code)])
    pairs = [{"a": 1, "tags": ["x"], "code": "c"}, None, {"a": None, "tags": None, "code": None}]
    rows = pa.record_batch(
        {
            "pair": pa.array(pairs, inner),
            "many": pa.array([[{"a": 1, "tags": [], "code": "c"}], None, []], pa.list_(inner)),
            "big": pa.array([Decimal("1." + "0" * 11 + "1"), None, Decimal(-2)], pa.decimal128(38, 12)),
        }
    )
    schema = table_schema(rows.schema)
    assert [f.field_type for f in schema_fields(schema)] == ["RECORD", "RECORD", "BIGNUMERIC"]
    assert schema_fields(schema)[1].mode == "REPEATED"
    writer = stream(fake, schema)
    for at in range(3):
        writer.write(converted(rows.slice(at, 1), schema))
    writer.close()
    commit(fake, writer)
    found = fake.rows(TABLE)
    assert found[0]["pair"] == {"a": 1, "tags": ["x"], "code": "c"} and found[1]["pair"] is None
    assert found[2]["pair"] == {"a": None, "tags": [], "code": None}
    assert [row["many"] for row in found] == [[{"a": 1, "tags": [], "code": "c"}], [], []]
    assert found[0]["big"] == Decimal("1.000000000001")


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "v": st.none() | st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=2),
            "s": st.none()
            | st.fixed_dictionaries(
                {"a": st.none() | st.integers(0, 9), "l": st.none() | st.lists(st.text(max_size=3))}
            ),
            "d": st.none() | st.sampled_from(["x", "y"]),
        }
    ),
    min_size=1,
    max_size=12,
)
NESTED = pa.schema(
    [
        ("v", pa.list_(pa.float32(), 2)),
        ("s", pa.struct([("a", pa.int8()), ("l", pa.large_list(pa.string()))])),
        ("d", pa.dictionary(pa.int8(), pa.string())),
    ]
)


@given(ROWS, st.integers(0, 12))
def test_rows_are_the_same_however_they_are_cut(rows: list[dict[str, Any]], cut: int) -> None:
    batch = pa.RecordBatch.from_pylist(rows, schema=NESTED)
    schema = table_schema(NESTED)
    whole = converted(batch, schema)
    whole.validate(full=True)
    parts = [converted(batch.slice(0, cut), schema), converted(batch.slice(cut), schema)]
    assert [row for part in parts for row in part.to_pylist()] == whole.to_pylist()
    for row, found in zip(rows, whole.to_pylist(), strict=True):
        assert found["v"] == (row["v"] or []) and found["d"] == row["d"]
        inner = row["s"]
        assert found["s"] == (inner and {"a": inner["a"], "l": inner["l"] or []})


@pytest.mark.parametrize(
    ("type_", "message"),
    [
        (pa.uint64(), "'c' is uint64, which BigQuery has not: its largest integer"),
        (pa.list_(pa.list_(pa.int8())), "an array of arrays"),
        (pa.list_(pa.list_(pa.float32(), 2), 2), "an array of arrays"),
        (pa.struct([("d", pa.struct([("e", pa.uint64())]))]), "'c.d.e' is uint64"),
        (pa.null(), "'c' is null"),
        (pa.duration("s"), "'c' is duration"),
        (pa.map_(pa.string(), pa.int8()), "'c' is map"),
        (pa.month_day_nano_interval(), "'c' is month_day_nano_interval"),
        (pa.decimal256(76, 2), "'c' is decimal256"),
        (pa.struct([]), "a struct without fields"),
    ],
)
def test_types_that_bigquery_has_not(type_: pa.DataType, message: str) -> None:
    with pytest.raises(ColumnTypeError) as caught:
        table_schema(pa.schema([("ok", pa.int8()), ("c", type_)]))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.b"], "'a.b' cannot have that name in BigQuery: '.' is in it"),
        (["_PARTITIONTIME"], "begins as only its own may"),
        ([""], "it is empty"),
        (["Late", "late"], "'Late' and 'late' are one to BigQuery"),
    ],
)
def test_names_that_bigquery_does_not_take(names: list[str], message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        table_schema(pa.schema([(n, pa.int8()) for n in names]))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pa.array([[1, None]]), "'c' has a null within a list"),
        (pa.array([[1.0, None], None], pa.list_(pa.float32(), 2)), "'c' has a null within a list"),
        (pa.array([{"d": [None]}], pa.struct([("d", pa.list_(pa.int8()))])), "'c.d' has a null within a list"),
        (pa.array([1], pa.timestamp("ns")), "'c' has a value that BigQuery cannot hold"),
    ],
)
def test_values_that_bigquery_does_not_hold(array: pa.Array, message: str) -> None:
    rows = pa.record_batch({"c": array})
    with pytest.raises(JobError) as caught:
        converted(rows, table_schema(rows.schema))
    assert message in str(caught.value)


def test_what_does_not_fit_a_table() -> None:
    from google.cloud.bigquery import SchemaField

    wanted = schema_fields(table_schema(pa.schema([("x", pa.int8()), ("s", pa.struct([("t", pa.string())]))])))
    fits = [SchemaField("X", "INT64", mode="REQUIRED"), SchemaField("s", "STRUCT", fields=[SchemaField("t", "JSON")])]
    assert misfit(wanted, [*fits, SchemaField("more", "DATE")]) is None
    assert misfit(wanted, fits[1:]) == "it has no column 'x' (INTEGER)"
    assert misfit(wanted, [SchemaField("x", "FLOAT"), fits[1]]) == "its column 'x' is FLOAT, the rows have INTEGER"
    assert "one is an array" in str(misfit(wanted, [SchemaField("x", "INTEGER", mode="REPEATED"), fits[1]]))
    inner = SchemaField("s", "RECORD", fields=[SchemaField("t", "DATE")])
    assert misfit(wanted, [fits[0], inner]) == "its column 's.t' is DATE, the rows have STRING"
    needed = SchemaField("key", "STRING", mode="REQUIRED")
    assert misfit(wanted, [*fits, needed]) == "its column 'key' is REQUIRED, and the rows have none"


OPTIONS = pa.schema(
    [("day", pa.date32()), ("at", pa.timestamp("us", tz="UTC")), ("local", pa.timestamp("us")), ("n", pa.int64())]
)
RANGE = {"start": 0, "end": 100, "interval": 10}


@pytest.mark.parametrize(
    ("by", "sql", "load"),
    [
        ({"column": "day", "type": "day"}, "`day`", {"timePartitioning": {"type": "DAY", "field": "day"}}),
        ({"column": "day", "type": "year"}, "DATE_TRUNC(`day`, YEAR)", {"timePartitioning": {"type": "YEAR"}}),
        ({"column": "at", "type": "hour"}, "TIMESTAMP_TRUNC(`at`, HOUR)", {"timePartitioning": {"type": "HOUR"}}),
        ({"column": "local", "type": "day"}, "DATETIME_TRUNC(`local`, DAY)", {"timePartitioning": {"type": "DAY"}}),
        (
            {"column": "n", "range": RANGE},
            "RANGE_BUCKET(`n`, GENERATE_ARRAY(0, 100, 10))",
            {"rangePartitioning": {"field": "n", "range": {"start": "0", "end": "100", "interval": "10"}}},
        ),
    ],
)
def test_partitions_and_labels_in_a_statement_and_in_a_load_job(
    by: dict[str, Any], sql: str, load: dict[str, Any]
) -> None:
    options = {"partition_by": by, "cluster_by": ["n"], "labels": {"team": "rides"}, "write": "replace"}
    spec = BigQueryTable.model_validate({"table": TABLE, **options})
    found = partitions_by(spec.partition_by, OPTIONS)
    assert found == sql
    text = statement(spec, table_name(TABLE), table_name("local.d.tmp"), found)
    assert text == (
        f"CREATE OR REPLACE TABLE `{TABLE}`\nPARTITION BY {sql}\nCLUSTER BY `n`\n"
        "OPTIONS(labels=[('team', 'rides')])\nAS SELECT * FROM `local.d.tmp`"
    )
    config = load_config(spec, OPTIONS)["load"]
    for key, content in load.items():
        assert config[key].items() >= content.items()
    assert config["clustering"] == {"fields": ["n"]} and config["writeDisposition"] == "WRITE_TRUNCATE"
    assert config["destinationTableProperties"] == {"labels": {"team": "rides"}}
    assert config["parquetOptions"] == {"enableListInference": True}


# --- streams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("breaks", [["before"], ["after"], ["quota"], ["before", "after", "after"]])
def test_a_stream_that_breaks_holds_every_row_once(fake: FakeBigQueryWrite, breaks: list[str]) -> None:
    writer = stream(fake)
    wide = pa.record_batch({"n": pa.array(range(2_500_000), pa.int64())})
    fake.breaks += breaks
    writer.write(wide)
    writer.close()
    assert fake.rows(TABLE) == []
    commit(fake, writer)
    assert len(fake.appends) > 2 and max(size for _, size in fake.appends) < 10_000_000
    assert [row["n"] for row in fake.rows(TABLE)] == list(range(2_500_000))
    assert writer.rows == 2_500_000


def test_a_stream_that_breaks_for_ever(fake: FakeBigQueryWrite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    writer = stream(fake)
    fake.breaks += ["before"] * 9
    writer.write(numbers(0, 5))
    with pytest.raises(JobError, match="local.d.t: the stream broke 8 times after 0 rows"):
        writer.close()


def test_small_batches_are_sent_together(fake: FakeBigQueryWrite) -> None:
    writer = stream(fake)
    for i in range(200):
        writer.write(numbers(10 * i, 10))
    writer.close()
    assert len(fake.appends) == 1
    commit(fake, writer)
    assert len(fake.rows(TABLE)) == 2000


def test_rows_of_very_different_sizes(fake: FakeBigQueryWrite) -> None:
    texts = ["x" * 9_000_000, *["y"] * 1000, "z" * 9_000_000, *["w" * 3_000_000] * 4]
    writer = stream(fake, pa.schema([("t", pa.string())]))
    writer.write(pa.record_batch({"t": texts}))
    writer.close()
    commit(fake, writer)
    assert [row["t"] for row in fake.rows(TABLE)] == texts


def test_a_row_that_is_too_large(fake: FakeBigQueryWrite) -> None:
    writer = stream(fake, pa.schema([("t", pa.string())]))
    writer.write(pa.record_batch({"t": ["x" * LARGEST_APPEND]}))
    with pytest.raises(JobError, match="one row takes .* bytes, and BigQuery takes 10 MB at a time"):
        writer.close()


def test_rows_that_are_refused_are_named(fake: FakeBigQueryWrite) -> None:
    writer = stream(fake)
    fake.refused = "Field n: must not be null"
    writer.write(numbers(0, 5))
    with pytest.raises(JobError, match="refuses the rows: Errors found .* row 0: Field n: must not be null"):
        writer.close()
    assert len(fake.appends) == 1


def test_permission_denied(fake: FakeBigQueryWrite) -> None:
    fake.denied = "Permission 'TABLES_UPDATE_DATA' denied on resource"
    with pytest.raises(JobError, match="permission denied.*TABLES_UPDATE_DATA.*Writing takes bigquery.tables.create"):
        stream(fake)


def test_a_count_that_is_not_ours(fake: FakeBigQueryWrite) -> None:
    fake.finalised_short = 1
    writer = stream(fake)
    writer.write(numbers(0, 5))
    with pytest.raises(JobError, match="BigQuery has 4 rows in the stream, 5 were sent"):
        writer.close()


# --- commits --------------------------------------------------------------------------------------------------------


def closed(fake: FakeBigQueryWrite, first: int) -> PendingStream:
    writer = stream(fake)
    writer.write(numbers(first, 5))
    writer.close()
    return writer


def test_a_commit_that_is_made_again_is_made_once(fake: FakeBigQueryWrite) -> None:
    streams = [closed(fake, 0), closed(fake, 5)]
    for resumed in (False, True, True):
        commit(fake, *streams, resumed=resumed)
    assert [row["n"] for row in fake.rows(TABLE)] == list(range(10))


def test_a_commit_whose_answer_is_lost(fake: FakeBigQueryWrite) -> None:
    fake.lost_answers = 1
    commit(fake, closed(fake, 0))
    assert len(fake.rows(TABLE)) == 5


def test_a_commit_of_which_one_stream_is_open_commits_nothing(fake: FakeBigQueryWrite) -> None:
    unfinished = stream(fake)
    with pytest.raises(NotCommitted, match=r"did not commit the rows: INVALID_STREAM_STATE \(1 of 2 streams\)"):
        commit(fake, closed(fake, 0), unfinished)
    assert fake.rows(TABLE) == []


def test_streams_that_are_gone(fake: FakeBigQueryWrite) -> None:
    """At the first attempt nothing was committed; later nobody can tell."""
    writer = closed(fake, 0)
    fake.forget()
    with pytest.raises(NotCommitted, match="not found"):
        commit(fake, writer)
    with pytest.raises(JobError, match="cannot be told any more whether its 1 rows are in the table") as caught:
        commit(fake, writer, resumed=True)
    assert not isinstance(caught.value, NotCommitted)


def test_a_service_that_is_away_leaves_the_question_open() -> None:
    with FakeBigQueryWrite() as fake:
        writer = closed(fake, 0)
    with pytest.raises(JobError, match="cannot be reached") as caught:
        commit(fake, writer)
    assert not isinstance(caught.value, NotCommitted)

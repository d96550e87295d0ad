"""Reading streams: offsets after breaks, expired sessions, snapshots, and what the service refuses.

bqemulator answers for the table, and a server made for the purpose for its rows: see `support.fake_bigquery_read`.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest

from featuremill.artifacts.errors import JobError, MissingColumnError, RequestError
from featuremill.core.bigquery import fragment as reading
from featuremill.core.bigquery.fragment import BigQueryFragment, rebatched
from featuremill.core.bigquery.source import BigQuerySource
from featuremill.core.bigquery.spec import BigQuerySpec
from featuremill.core.fragments import Fragment, FragmentsExpired
from support.bigquery import LocalBigQuery
from support.fake_bigquery_read import FakeBigQueryRead

ROWS = pa.table({"x": np.arange(5000), "name": [f"n{i % 7}" for i in range(5000)]})
UNAVAILABLE, INTERNAL = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL


@pytest.fixture(scope="module")
def table(bigquery: LocalBigQuery) -> str:
    return bigquery.load("reads.rows", ROWS)


@pytest.fixture
def fake(table: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBigQueryRead]:
    monkeypatch.setattr(reading, "FIRST_PAUSE", 0.001)
    with FakeBigQueryRead() as server:
        server.put(table, ROWS, at=datetime.now(UTC) - timedelta(days=1))
        yield server


def source(bigquery: LocalBigQuery, fake: FakeBigQueryRead, **changes: Any) -> BigQuerySource:
    given = {"table": "local.reads.rows", "fragment_rows": 2000, **bigquery.keys, "storage_endpoint": fake.endpoint}
    return BigQuerySource(BigQuerySpec(**given | changes))


def everything(fragments: list[BigQueryFragment], columns: list[str] | None = None) -> list[list[Any]]:
    """The rows of each fragment, by the first column."""
    return [[v for batch in f.batches(columns) for v in batch.column(0).to_pylist()] for f in fragments]


def test_each_row_comes_once_in_batches_of_the_size_asked_for(bigquery: LocalBigQuery, fake: FakeBigQueryRead) -> None:
    found = source(bigquery, fake, batch_rows=300)
    fragments = found.fragments([found.schema.names])
    assert [f.key for f in fragments] == ["00000", "00001", "00002"] and found.rows == 5000
    assert all(isinstance(f, Fragment) for f in fragments)
    assert sorted(x for part in everything(fragments) for x in part) == list(range(5000))
    sizes = [batch.num_rows for batch in fragments[0].batches()]
    assert set(sizes[:-1]) == {300} and 0 < sizes[-1] <= 300
    assert everything(pickle.loads(pickle.dumps(fragments))) == everything(fragments)
    compressed = fake.opened[-1].read_session.read_options.arrow_serialization_options.buffer_compression
    assert compressed.name == "LZ4_FRAME"


@pytest.mark.parametrize("streams", [1, 2, 3, 7])
def test_fragments_take_however_many_streams_there_are(
    bigquery: LocalBigQuery, fake: FakeBigQueryRead, streams: int
) -> None:
    fake.streams = streams
    found = source(bigquery, fake)
    parts = everything(found.fragments([["x"]]), ["x"])
    assert len(parts) == 3 and sorted(x for part in parts for x in part) == list(range(5000))
    assert sum(map(bool, parts)) == min(streams, 3)


def test_a_pass_reads_the_session_with_the_fewest_columns_that_will_do(
    bigquery: LocalBigQuery, fake: FakeBigQueryRead
) -> None:
    found = source(bigquery, fake)
    (one, *_) = found.fragments([["name"], ["x", "name"], ["name"]])
    assert [s.columns for s in one.sessions] == [("name",), ("x", "name")]
    assert next(one.batches(["name"])).schema.names == ["name"] and "sessions" in fake.read[-1][0]
    assert fake.read[-1][0] in one.sessions[0].streams
    assert next(one.batches(["name", "x"])).schema.names == ["name", "x"]
    assert fake.read[-1][0] in one.sessions[1].streams
    assert sum(b.num_rows for b in one.batches([])) == sum(b.num_rows for b in one.batches())
    with pytest.raises(MissingColumnError, match="no column 'nmae'. Did you mean 'name'?"):
        one.batches(["nmae"])
    with pytest.raises(JobError, match="without a read session"):
        found.fragments()[0].batches()


@pytest.mark.parametrize("code", [UNAVAILABLE, INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_stream_that_breaks_goes_on_at_the_next_row(
    bigquery: LocalBigQuery, fake: FakeBigQueryRead, code: grpc.StatusCode
) -> None:
    found = source(bigquery, fake)
    fragments = found.fragments([["x"]])
    whole = everything(fragments, ["x"])
    fake.read.clear()
    fake.breaks = [(250, code, "RST_STREAM closed stream. HTTP/2 error code: INTERNAL_ERROR"), (0, code, "again")]
    fake.breaks += [(400, code, "and again")]
    assert everything(fragments, ["x"]) == whole
    assert [offset for _, offset in fake.read][:4] == [0, 200, 200, 600]


def test_a_stream_that_keeps_breaking_is_given_up(bigquery: LocalBigQuery, fake: FakeBigQueryRead) -> None:
    fragments = source(bigquery, fake).fragments([["x"]])
    fake.breaks = [(100, UNAVAILABLE, "first")] + [(0, UNAVAILABLE, "the line is down")] * reading.ATTEMPTS
    with pytest.raises(JobError, match=r"broke 8 times after 100 rows \(the line is down\)"):
        everything(fragments, ["x"])


def test_permission_that_goes_is_no_reason_to_try_again(bigquery: LocalBigQuery, fake: FakeBigQueryRead) -> None:
    fragments = source(bigquery, fake).fragments([["x"]])
    fake.breaks = [(100, grpc.StatusCode.PERMISSION_DENIED, "no 'bigquery.readsessions.getData' permission")]
    with pytest.raises(JobError, match=r"permission denied.*getData") as caught:
        everything(fragments, ["x"])
    assert len([s for s, _ in fake.read]) == 1 and not isinstance(caught.value, RequestError)


def test_an_expired_session_says_so_and_new_fragments_can_be_read(
    bigquery: LocalBigQuery, fake: FakeBigQueryRead
) -> None:
    found = source(bigquery, fake)
    fragments = found.fragments([["x"]])
    fake.expire()
    with pytest.raises(FragmentsExpired, match="session expired at 2026-01-31T18:00:00"):
        everything(fragments, ["x"])
    assert sorted(x for part in everything(found.fragments([["x"]]), ["x"]) for x in part) == list(range(5000))


def test_announced_rows_must_come(bigquery: LocalBigQuery, fake: FakeBigQueryRead) -> None:
    fragments = source(bigquery, fake).fragments([["x"]])
    fake.wrong_count = True
    with pytest.raises(JobError, match="announced 101 rows and sent 100"):
        everything(fragments, ["x"])


def test_stopping_early_ends_the_call(bigquery: LocalBigQuery, fake: FakeBigQueryRead) -> None:
    fragments = source(bigquery, fake, batch_rows=100).fragments([["x"]])
    before = threading.active_count()
    for _ in range(20):
        batches = fragments[0].batches(["x"])
        next(batches)
        batches.close()
    assert threading.active_count() <= before + 8  # the server's own


# --- snapshots ------------------------------------------------------------------------------------------------------


def test_all_sessions_read_one_snapshot(bigquery: LocalBigQuery, fake: FakeBigQueryRead) -> None:
    found = source(bigquery, fake)
    assert found.rows == 5000
    fake.put("local.reads.rows", ROWS.slice(0, 10))
    assert sum(map(len, everything(found.fragments([["x"], ["name"]]), ["x"]))) == 5000
    moments = {request.read_session.table_modifiers.snapshot_time for request in fake.opened}
    assert moments == {found.snapshot}
    assert found.describe()["snapshot_time"] == found.snapshot.isoformat()


def test_a_snapshot_can_be_named(bigquery: LocalBigQuery, fake: FakeBigQueryRead) -> None:
    with pytest.raises(RequestError, match="Invalid snapshot time"):
        _ = source(bigquery, fake, snapshot_time="2020-01-01T00:00:00Z").schema
    with pytest.raises(RequestError, match="still to come"):
        source(bigquery, fake, snapshot_time=datetime.now(UTC) + timedelta(hours=1))


# --- what the service refuses ---------------------------------------------------------------------------------------


def test_a_condition_that_bigquery_refuses_is_told_before_anything_runs(
    bigquery: LocalBigQuery, fake: FakeBigQueryRead
) -> None:
    with pytest.raises(RequestError, match=r"where `x` > 4000: .*Query error") as caught:
        _ = source(bigquery, fake, where="x > 4000").schema
    assert caught.value.parameter == "where"
    fake.restrictions = {"`x` > 4000": pa.array(np.arange(5000) > 4000)}
    found = source(bigquery, fake, where="x > 4000")
    assert found.rows is None and found.describe()["rows"] == 5000
    assert sum(map(len, everything(found.fragments([["x"]]), ["x"]))) == 999


def test_no_permission_says_what_is_needed(bigquery: LocalBigQuery, fake: FakeBigQueryRead) -> None:
    fake.denied = "the user does not have 'bigquery.readsessions.create' permission for 'projects/local'"
    with pytest.raises(RequestError, match=r"permission denied.*readsessions.create.*BigQuery Read Session User"):
        _ = source(bigquery, fake).schema


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (ROWS.set_column(0, "x", ROWS["x"].cast(pa.string())), "'x' has changed .* it was int64, and is string"),
        (ROWS.drop(["name"]), "selected fields do not exist"),
    ],
)
def test_columns_that_change_after_planning(
    bigquery: LocalBigQuery, fake: FakeBigQueryRead, changed: pa.Table, message: str
) -> None:
    found = source(bigquery, fake)
    assert found.schema.names == ["x", "name"]
    fake.put("local.reads.rows", changed, at=found.snapshot)
    with pytest.raises((JobError, RequestError), match=message):
        found.fragments([["x", "name"]])


def test_types_that_only_the_real_service_has(bigquery: LocalBigQuery, fake: FakeBigQueryRead) -> None:
    """What it sends for JSON, GEOGRAPHY, BIGNUMERIC, RANGE and arrays; names inside lists and metadata differ."""
    inner = pa.field("element", pa.int64(), nullable=False)
    bound = pa.struct([("start", pa.date32()), ("end", pa.date32())])
    sent = pa.schema(
        [
            pa.field("x", pa.list_(inner), nullable=False),
            pa.field("name", pa.string(), metadata={"ARROW:extension:name": "google:sqlType:json"}),
            pa.field("big", pa.decimal256(76, 38)),
            pa.field("range", bound),
        ]
    )
    rows = pa.table(
        [[[1, 2], []], ['{"a": 1}', None], [None, None], [{"start": None, "end": None}, None]], schema=sent
    )
    fake.put("local.reads.rows", rows)
    found = source(bigquery, fake, columns=["name", "x"])
    assert found.schema == pa.schema([("name", pa.string()), ("x", pa.list_(pa.int64()))])
    batches = [b for f in found.fragments([["x", "name"]]) for b in f.batches()]
    got = pa.Table.from_batches(batches)
    assert got.schema == found.schema
    assert sorted(got["x"].to_pylist()) == [[], [1, 2]]


# --- memory ---------------------------------------------------------------------------------------------------------


def test_a_reader_holds_what_it_is_putting_together_and_no_more() -> None:
    """However many rows come, those of a batch and of one message are there at a time."""
    taken = 0

    def messages() -> Iterator[pa.RecordBatch]:
        nonlocal taken
        for i in range(1000):
            taken += 1000
            yield pa.record_batch({"x": np.full(1000, i), "wide": ["w" * 100] * 1000})

    given = 0
    for batch in rebatched(messages(), 10_000, 128 << 20):
        given += batch.num_rows
        assert taken - given <= 10_000
    assert given == taken == 1_000_000
    assert max(b.nbytes for b in rebatched(messages(), 1 << 20, 1 << 20)) < 2 << 20

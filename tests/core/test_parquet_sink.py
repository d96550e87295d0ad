"""The Parquet sink: every type comes back, row groups do not depend on the batches, leftovers are removed."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.core import parquet_sink
from featuremill.core.parquet_sink import ShardFile, stored_schema

COLUMNS = {
    "i8": pa.array([1, None, -128], pa.int8()),
    "u64": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "i64": pa.array([-(2**63), None, 2**63 - 1]),
    "f16": pa.array([1.5, None, float("nan")], pa.float16()),
    "f32": pa.array([1.5, None, float("nan")], pa.float32()),
    "f64": pa.array([1.5, None, float("inf")]),
    "bool": pa.array([True, None, False]),
    "text": pa.array(["ä", None, ""]),
    "large": pa.array(["ä", None, ""], pa.large_string()),
    "bytes": pa.array([b"\xff", None, b""]),
    "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "date32": pa.array([dt.date(2013, 1, 1), None, dt.date(1, 1, 1)]),
    "time": pa.array([dt.time(1, 2), None, dt.time(0)], pa.time32("ms")),
    "moment": pa.array([0, None, -1], pa.timestamp("us", "Europe/Berlin")),
    "nanos": pa.array([0, None, -1], pa.timestamp("ns")),
    "gap": pa.array([0, None, -1], pa.duration("us")),
    "money": pa.array([1, None, 3], pa.decimal128(20, 3)),
    "lists": pa.array([[1, None], None, []], pa.list_(pa.int64())),
    "deep": pa.array([[["a"], None], None, []], pa.list_(pa.list_(pa.string()))),
    "vector": pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0, 3.0], pa.float32()), 1),
    "struct": pa.array([{"a.b": 1, "t": "x"}, None, {"a.b": None, "t": None}]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "coded": pa.array(["a", None, "a"]).dictionary_encode(),
    "with.dot": pa.array([1, 2, None]),
    "null": pa.nulls(3),
}
BATCH = pa.record_batch(COLUMNS)


def written(path: Path, batches: list[pa.RecordBatch], compression: str = "snappy") -> ShardFile:
    file = ShardFile(str(path), batches[0].schema, compression)
    for batch in batches:
        file.write(batch)
    file.close()
    return file


@pytest.mark.parametrize("name", COLUMNS)
def test_every_type_comes_back(tmp_path: Path, name: str) -> None:
    written(tmp_path / "x.parquet", [BATCH.select([name])])
    found = pq.read_table(tmp_path / "x.parquet")
    assert found.schema.equals(BATCH.select([name]).schema)
    assert str(found.column(name).to_pylist()) == str(BATCH.column(name).to_pylist())


@pytest.mark.parametrize("compression", ["snappy", "zstd", "lz4", "gzip", "none"])
def test_all_types_together_and_every_codec(tmp_path: Path, compression: str) -> None:
    file = written(tmp_path / "x.parquet", [BATCH, BATCH.slice(1)], compression)
    assert file.rows == 5 == pq.read_metadata(tmp_path / "x.parquet").num_rows
    group = pq.read_metadata(tmp_path / "x.parquet").row_group(0)
    codecs = {group.column(i).compression for i in range(group.num_columns)}
    assert len(codecs) == 1 and codecs.pop().lower().startswith({"none": "uncompressed"}.get(compression, compression))


def test_encodings(tmp_path: Path) -> None:
    written(tmp_path / "x.parquet", [BATCH.select(["i64", "f64", "text", "moment", "lists"])])
    group = pq.read_metadata(tmp_path / "x.parquet").row_group(0)
    found = {group.column(i).path_in_schema: group.column(i).encodings for i in range(group.num_columns)}
    for name in ("i64", "moment", "lists.list.element"):
        assert "DELTA_BINARY_PACKED" in found[name]
    assert "RLE_DICTIONARY" in found["text"]
    assert "PLAIN" in found["f64"] and "RLE_DICTIONARY" not in found["f64"]


@pytest.mark.parametrize("sizes", [[1000], [1] * 100 + [900], [333, 333, 334], [999, 1]], ids=str)
def test_the_file_does_not_depend_on_the_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    monkeypatch.setattr(parquet_sink, "ROWS_PER_GROUP", 300)
    batch = pa.record_batch({"x": list(range(1000)), "t": [f"t{i % 7}" for i in range(1000)]})
    cut, start = [], 0
    for size in sizes:
        cut.append(batch.slice(start, size))
        start += size
    written(tmp_path / "cut.parquet", cut)
    written(tmp_path / "whole.parquet", [batch])
    metadata = pq.read_metadata(tmp_path / "cut.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [300, 300, 300, 100]
    digests = {hashlib.sha256((tmp_path / f"{n}.parquet").read_bytes()).hexdigest() for n in ("cut", "whole")}
    assert len(digests) == 1


def test_wide_rows_make_small_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_sink, "BYTES_PER_GROUP", 1000)
    written(tmp_path / "x.parquet", [pa.record_batch({"x": list(range(100))})] * 5)
    assert pq.read_metadata(tmp_path / "x.parquet").num_row_groups == 3
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 500


def test_a_file_without_rows_has_its_schema(tmp_path: Path) -> None:
    written(tmp_path / "x.parquet", [BATCH.slice(0, 0)])
    assert pq.read_table(tmp_path / "x.parquet").schema.equals(BATCH.schema)


def test_discarding_removes_the_file(tmp_path: Path) -> None:
    file = ShardFile(str(tmp_path / "x.parquet"), BATCH.schema, "snappy")
    file.write(BATCH)
    file.discard()
    assert list(tmp_path.iterdir()) == []
    file.discard()


def test_discarding_after_closing_removes_the_file(tmp_path: Path) -> None:
    written(tmp_path / "x.parquet", [BATCH]).discard()
    assert list(tmp_path.iterdir()) == []


def test_vectors_that_transforms_made_and_that_may_be_null_are_stored_as_lists(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            pa.field("made", pa.list_(pa.float32(), 2)),
            pa.field("passed", pa.list_(pa.float32(), 2)),
            pa.field("whole", pa.list_(pa.float32(), 2), nullable=False),
            pa.field("x", pa.int64()),
        ]
    )
    stored = stored_schema(schema, {"made", "whole", "x"})
    assert [str(t) for t in stored.types] == [
        "list<item: float>",
        "fixed_size_list<item: float>[2]",
        "fixed_size_list<item: float>[2]",
        "int64",
    ]
    vectors = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2))
    batch = pa.record_batch({"made": vectors}).cast(stored_schema(pa.schema({"made": vectors.type}), {"made"}))
    written(tmp_path / "x.parquet", [batch])
    assert pq.read_table(tmp_path / "x.parquet").column("made").to_pylist() == [[1, 2], None, [3, 4]]

"""Parquet as a source: real files, exact types, pruning that loses nothing, and errors that name the file."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from featuremill.artifacts.errors import (
    ColumnTypeError,
    JobError,
    MissingColumnError,
    ParameterError,
    ParameterTypeError,
    RequestError,
)
from featuremill.core.fragments import Fragment
from featuremill.core.parquet_fragment import ParquetFragment
from featuremill.core.parquet_source import ParquetSource
from featuremill.core.where import Where


def write(path: Path, columns: dict[str, Any] | pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
    return path


def read(source: ParquetSource, columns: Sequence[str] | None = None, **options: Any) -> pa.Table:
    batches = [b for f in source.fragments() for b in f.batches(columns, **options)]
    schema = source.schema if columns is None else pa.schema([source.schema.field(c) for c in columns])
    return pa.Table.from_batches(batches, batches[0].schema if batches and options else schema)


TYPES: dict[str, pa.Array] = {
    "bool": pa.array([True, None, False]),
    **{
        str(t): pa.array([1, None, 3], t)
        for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32())
    },
    "uint64": pa.array([2**64 - 1, None, 0], pa.uint64()),
    **{str(t): pa.array([1.5, None, float("inf")], t) for t in (pa.float16(), pa.float32(), pa.float64())},
    "string": pa.array(["a", None, "é\n"]),
    "large_string": pa.array(["a", None, ""], pa.large_string()),
    "string_view": pa.array(["a", None, "a text that is too long to be inlined"], pa.string_view()),
    "binary": pa.array([b"a", None, b"\xff"]),
    "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
    "dictionary8": pa.array(["a", None, "b"]).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string())),
    "ordered": pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int32()), pa.array(["a", "b"]), ordered=True),
    "decimal": pa.array([Decimal("1.20"), None, Decimal("-7.00")], pa.decimal128(12, 2)),
    "decimal256": pa.array([Decimal("1.20"), None, Decimal("-7.00")], pa.decimal256(60, 2)),
    "date": pa.array([1, None, -1], pa.date32()),
    "time": pa.array([1, None, 2], pa.time64("us")),
    **{f"ts_{u}": pa.array([1, None, -1], pa.timestamp(u)) for u in ("ms", "us", "ns")},
    "ts_zone": pa.array([1, None, -1], pa.timestamp("us", "Europe/Berlin")),
    "duration": pa.array([1, None, 2], pa.duration("ms")),
    "null": pa.nulls(3),
    "list": pa.array([["a", None], None, []]),
    "list_of_list": pa.array([[[1], []], None, [None]]),
    "large_list": pa.array([["a"], None, []], pa.large_list(pa.large_string())),
    "fixed_list": pa.array([[1, 2], [3, None], [5, 6]], pa.list_(pa.int16(), 2)),
    "list_of_dictionary": pa.array([["a"], None, []], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    "struct": pa.array([{"a": 1, "b.c": "x"}, None, {"a": None, "b.c": None}]),
    "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "a.b": pa.array([1, None, 2]),
    "": pa.array([1, None, 2]),
}


@pytest.mark.parametrize("dictionary", [[], list(TYPES)], ids=["plain", "dictionary"])
def test_every_type_comes_back(tmp_path: Path, dictionary: list[str]) -> None:
    table = pa.table(TYPES)
    write(tmp_path / "a.parquet", table)
    source = ParquetSource(tmp_path, where='"int8" is null or "int8" > 0')
    assert source.schema == table.schema.remove_metadata()
    found = read(source, dictionary=dictionary)
    for name in TYPES:
        column = found.column(name)
        encoded = dictionary and name in ("string", "large_string", "string_view", "binary")
        assert column.type == (
            pa.dictionary(pa.int32(), table.schema.field(name).type) if encoded else table.schema.field(name).type
        )
        assert column.to_pylist() == table.column(name).to_pylist(), name


def test_empty_batches_are_not_given_and_nullability_is_dropped(tmp_path: Path) -> None:
    strict = pa.schema([pa.field("x", pa.int64(), nullable=False, metadata={"k": "v"})], metadata={"m": "n"})
    write(tmp_path / "a.parquet", pa.table({"x": range(10)}, schema=strict), row_group_size=3)
    source = ParquetSource(tmp_path, where="x = 1 or x = 9", batch_rows=2)
    assert source.schema.equals(pa.schema({"x": pa.int64()}), check_metadata=True)
    sizes = [b.num_rows for f in source.fragments() for b in f.batches()]
    assert sizes == [1, 1]
    for batch in source.fragments()[0].batches():
        assert batch.schema.equals(source.schema, check_metadata=True)


# --- fragments ------------------------------------------------------------------------------------------------------


def test_fragments_follow_the_files(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", {"x": range(100, 110)}, row_group_size=4)
    write(tmp_path / "a.parquet", {"x": range(100)}, row_group_size=10)
    write(tmp_path / "c.parquet", {"x": pa.array([], pa.int64())})
    source = ParquetSource(tmp_path, fragment_rows=35, batch_rows=8)
    fragments = source.fragments()
    assert [(f.key, Path(f.path).name, f.row_groups, f.rows) for f in fragments] == [
        ("00000", "a.parquet", (0, 1, 2), 30), ("00001", "a.parquet", (3, 4, 5), 30),
        ("00002", "a.parquet", (6, 7, 8), 30),
        ("00003", "a.parquet", (9,), 10), ("00004", "b.parquet", (0, 1, 2), 10),
    ]  # fmt: skip
    assert source.rows == 110
    assert all(f.bytes > 0 and isinstance(f, Fragment) for f in fragments)
    assert read(source).column("x").to_pylist() == list(range(110))
    assert max(b.num_rows for f in fragments for b in f.batches()) == 8
    assert [len(f.row_groups) for f in ParquetSource(tmp_path, fragment_bytes=1).fragments()] == [1] * 13
    filtered = ParquetSource(tmp_path, fragment_rows=35, where="x in (45, 105)").fragments()
    assert [(f.key, f.row_groups, f.rows) for f in filtered] == [("00001", (4,), None), ("00004", (1,), None)]


def test_fragments_are_small_picklable_values(tmp_path: Path) -> None:
    write(tmp_path / "day=2013-01-31/a.parquet", {f"column_{i}": ["x", "y"] for i in range(20)})
    source = ParquetSource(tmp_path, where="column_3 = 'x'")
    (fragment,) = source.fragments()
    data = pickle.dumps(fragment)
    assert len(data) < 2000
    copy: ParquetFragment = pickle.loads(data)
    assert copy == fragment
    assert hash(copy) == hash(fragment)
    assert [b.to_pylist() for b in copy.batches(["day", "column_3"])] == [
        [{"day": dt.date(2013, 1, 31), "column_3": "x"}]
    ]
    assert pickle.loads(pickle.dumps(source)) == source


def test_columns_in_any_order_or_none(tmp_path: Path) -> None:
    write(tmp_path / "k=1/a.parquet", {"a": [1, 2], "b": ["x", "y"]})
    write(tmp_path / "k=2/a.parquet", {"b": ["z"], "a": [3]})
    source = ParquetSource(tmp_path)
    assert source.schema.names == ["a", "b", "k"]
    assert read(source).to_pydict() == {"a": [1, 2, 3], "b": ["x", "y", "z"], "k": [1, 1, 2]}
    assert read(source, ["k", "b"]).to_pydict() == {"k": [1, 1, 2], "b": ["x", "y", "z"]}
    for columns in ([], ["k"]):
        batches = [b for f in source.fragments() for b in f.batches(columns)]
        assert [(b.num_rows, b.schema.names) for b in batches] == [(2, columns), (1, columns)]
    none = [b for f in ParquetSource(tmp_path, where="b != 'x'").fragments() for b in f.batches([])]
    assert [(b.num_rows, b.num_columns) for b in none] == [(1, 0), (1, 0)]
    chosen = ParquetSource(tmp_path, columns=["b"], where="a > 1 and k = 1")
    assert read(chosen).to_pydict() == {"b": ["y"]}
    with pytest.raises(MissingColumnError, match="'c'"):
        source.fragments()[0].batches(["c"])
    with pytest.raises(MissingColumnError, match="'a'"):
        chosen.fragments()[0].batches(["a"])


def test_partitions_are_columns_and_prune(tmp_path: Path) -> None:
    for day in ("2013-01-01", "2013-01-02", "__HIVE_DEFAULT_PARTITION__"):
        for carrier in ("AA", "B%2F6"):
            write(tmp_path / f"day={day}/carrier={carrier}/p.parquet", {"x": [1, 2]})
    source = ParquetSource(tmp_path)
    assert source.schema == pa.schema({"x": pa.int64(), "day": pa.date32(), "carrier": pa.string()})
    assert read(source).group_by(["day", "carrier"]).aggregate([("x", "sum")]).num_rows == 6
    pruned = ParquetSource(tmp_path, where="day > '2013-01-01' and carrier = 'B/6'")
    (fragment,) = pruned.fragments()
    assert fragment.rows == 2  # all rows of a partition pass, so the filter is done with
    assert pruned.rows == 2
    assert read(pruned).to_pylist() == [{"x": i, "day": dt.date(2013, 1, 2), "carrier": "B/6"} for i in (1, 2)]
    assert len(ParquetSource(tmp_path, where="day is null and x = 1").fragments()) == 2
    encoded = read(source, ["carrier", "day"], dictionary=["carrier", "day"])
    assert encoded.schema.field("carrier").type == pa.dictionary(pa.int32(), pa.string())
    assert encoded.column("carrier").to_pylist() == read(source).column("carrier").to_pylist()
    assert ParquetSource(tmp_path, hive=False).schema.names == ["x"]


def test_a_partition_that_is_also_in_the_file(tmp_path: Path) -> None:
    write(tmp_path / "x=1/a.parquet", {"x": [2]})
    with pytest.raises(RequestError, match="hive=False"):
        _ = ParquetSource(tmp_path).schema
    assert read(ParquetSource(tmp_path, hive=False)).to_pydict() == {"x": [2]}


# --- pruning by statistics ------------------------------------------------------------------------------------------

VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "i": (pa.int32(), st.integers(-3, 3)),
    "u": (pa.uint64(), st.sampled_from([0, 1, 2**63, 2**64 - 1])),
    "f": (pa.float64(), st.sampled_from([-1.5, -0.0, 0.0, 1.0, 2.5, float("nan"), float("inf")])),
    "g": (pa.float32(), st.sampled_from([-1.5, 0.1, 1.0])),
    "s": (pa.string(), st.sampled_from(["", "a", "ab", "b", "é", "\U0001f600"])),
    "c": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["", "a", "ab"])),
    "b": (pa.bool_(), st.booleans()),
    "d": (pa.date32(), st.dates(dt.date(1969, 12, 30), dt.date(1970, 1, 2))),
    "t": (
        pa.timestamp("us"),
        st.sampled_from([dt.datetime(1969, 12, 31, 23), dt.datetime(1970, 1, 1), dt.datetime(2013, 1, 1, 0, 0, 1)]),
    ),
    "m": (pa.decimal128(5, 1), st.sampled_from([Decimal("-1.5"), Decimal("0.0"), Decimal("1.5")])),
}
LITERALS: dict[str, list[str]] = {
    "i": ["-2", "0", "1.5", "3", "99"], "u": ["0", "9223372036854775808", "18446744073709551615", "-1"],
    "f": ["-1.5", "0", "2.5", "7"], "g": ["0.1", "1", "-9"], "s": ["''", "'a'", "'ab'", "'zz'", "'é'"], "c": ["'a'",
    "'ab'", "'x'"],
    "b": ["true", "false"], "d": ["DATE '1969-12-31'", "'1970-01-01'"], "t": ["TIMESTAMP '1970-01-01'",
    "DATE '2013-01-01'"],
    "m": ["-1.5", "0.05", "1.5"],
}  # fmt: skip


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(sorted(VALUES)))
    literal = st.sampled_from(LITERALS[name])
    op = draw(
        st.sampled_from(["=", "!="] if name == "b" else ["=", "!=", "<", "<=", ">", ">=", "in", "not in", "null"])
    )
    if op == "null":
        return f"{name} is {draw(st.sampled_from(['', 'not ']))}null"
    if op.endswith("in"):
        return f"{name} {op} ({', '.join(draw(st.lists(literal | st.just('null'), min_size=1, max_size=3)))})"
    return f"{name} {op} {draw(literal)}"


FILTERS = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=5,
)
ROWS = st.lists(st.fixed_dictionaries({n: st.none() | v for n, (_, v) in VALUES.items()}), min_size=1, max_size=12)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, where=FILTERS, group=st.integers(1, 4), k=st.none() | st.integers(0, 2), on_k=st.booleans())
def test_pruning_loses_no_row(
    tmp_path: Path, rows: list[dict[str, Any]], where: str, group: int, k: int | None, on_k: bool
) -> None:
    folder = tmp_path / f"{random.random()}"
    schema = pa.schema({n: t for n, (t, _) in VALUES.items()})
    value = "__HIVE_DEFAULT_PARTITION__" if k is None else k
    write(folder / f"k={value}/a.parquet", pa.Table.from_pylist(rows, schema=schema), row_group_size=group)
    write(folder / "k=1/b.parquet", pa.Table.from_pylist(rows[:2], schema=schema), row_group_size=group)
    where = f"{where} or k < 1" if on_k else where
    everything = ParquetSource(folder)
    whole = read(everything)
    source = ParquetSource(folder, where=where, batch_rows=3)
    predicate = Where(where).bind(everything.schema)
    expected = [predicate.filter(b) for b in whole.to_batches()]
    assert repr(read(source).to_pylist()) == repr(pa.Table.from_batches(expected, everything.schema).to_pylist())
    if source.rows is not None:
        assert source.rows == read(source).num_rows


def test_row_groups_are_pruned(tmp_path: Path) -> None:
    table = {
        "x": range(100), "s": [f"{i:03d}" for i in range(100)], "d": pa.array(range(100), pa.date32()),
        "t": pa.array(range(100), pa.timestamp("ns", "UTC")),
        "m": pa.array([Decimal(i) for i in range(100)], pa.decimal128(5, 1)),
        "f": pa.array(range(100), pa.float32()), "n": pa.array([i if i < 10 else None for i in range(100)], pa.int8()),
        "sec": pa.array(range(100), pa.timestamp("s")),
        "c": pa.array([f"{i:03d}" for i in range(100)]).dictionary_encode(),
    }  # fmt: skip
    write(tmp_path / "a.parquet", table, row_group_size=10)
    for where, groups in [
        ("x = 55", [5]), ("x < 15", [0, 1]), ("s >= '095'", [9]), ("d = DATE '1970-01-12'", [1]),
        ("m > 88.5", [8, 9]), ("f = 33.5", [3]),
        ("t = TIMESTAMP '1970-01-01 00:00:00.000000042'", [4]), ("n is not null", [0]), ("n = 5", [0]),
        ("c like '03%'", [3]), ("x > 500", []),
        ("sec < TIMESTAMP '1970-01-01 00:00:10'", [0]), ("not x < 90", [9]), ("x in (1, 99) and s < '5'", [0, 9]),
    ]:  # fmt: skip
        source = ParquetSource(tmp_path, where=where, fragment_rows=1)
        assert [g for f in source.fragments() for g in f.row_groups] == groups, where
    # All rows of these row groups pass, so their number is known without reading.
    assert ParquetSource(tmp_path, where="x >= 50").rows == 50
    assert ParquetSource(tmp_path, where="x >= 51").rows is None
    # NaN passes no comparison, and statistics do not mention it.
    assert ParquetSource(tmp_path, where="f >= 50").rows is None


# --- dictionaries ---------------------------------------------------------------------------------------------------


def test_dictionaries_where_they_pay(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    few = pa.array([f"v{i}" for i in rng.integers(0, 50, 200_000)])
    unique = pa.array([f"a value that occurs once {i:09d}" for i in range(200_000)])
    write(tmp_path / "a.parquet", {"few": few, "unique": unique}, row_group_size=100_000)
    (fragment,) = ParquetSource(tmp_path, batch_rows=30_000).fragments()
    batches = list(fragment.batches(dictionary=["few", "unique"]))
    assert {b.schema.field("few").type for b in batches} == {pa.dictionary(pa.int32(), pa.string())}
    assert {b.schema.field("unique").type for b in batches} == {pa.string()}
    assert [v for b in batches for v in b.column("few").to_pylist()] == few.to_pylist()
    assert [v for b in batches for v in b.column("unique").to_pylist()] == unique.to_pylist()
    addresses = {b.column("few").dictionary.buffers()[2].address for b in batches}
    assert len(addresses) == 2  # one for each row group
    assert max(b.num_rows for b in batches) <= 30_000


def test_small_row_groups_are_joined_to_batches(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"s": ["x", "y"] * 500}, row_group_size=10)
    (fragment,) = ParquetSource(tmp_path).fragments()
    assert [b.num_rows for b in fragment.batches(dictionary=["s"])] == [1000]


def test_wide_rows_make_small_batches(tmp_path: Path) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.random.default_rng(0).normal(size=4000 * 100)), 100)
    write(tmp_path / "a.parquet", {"v": vectors, "x": range(4000)})
    (fragment,) = ParquetSource(tmp_path, batch_bytes=800_000).fragments()
    assert 500 < max(b.num_rows for b in fragment.batches()) <= 1000
    assert [b.num_rows for b in fragment.batches(["x"])] == [4000]


# --- schemas that differ --------------------------------------------------------------------------------------------


def test_files_must_agree(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", {"x": [1], "s": ["a"]})
    other = tmp_path / "b.parquet"
    for columns, words in [
        ({"x": [1.0], "s": ["a"]}, f"b.parquet: column 'x' is double, but in {first} it is int64"),
        ({"x": pa.array([1], pa.int32()), "s": ["a"]}, "column 'x' is int32"),
        ({"x": [1]}, f"column 's' is missing, but {first} has it"),
        ({"x": [1], "s": ["a"], "z": [1]}, "column 'z' is not in"),
        ({"x": [1], "s": pa.array(["a"]).dictionary_encode()}, "column 's' is dictionary"),
    ]:
        write(other, columns)
        with pytest.raises(RequestError) as caught:
            _ = ParquetSource(tmp_path).schema
        assert words in str(caught.value)
        assert caught.value.path == str(other)
    write(other, {"x": [2.5], "s": ["b"]})
    assert read(ParquetSource(tmp_path, columns=["s"])).to_pydict() == {"s": ["a", "b"]}
    with pytest.raises(RequestError, match="column 'x' is double"):
        ParquetSource(tmp_path, columns=["s"], where="x = 1").fragments()


def test_differences_of_layout_are_none(tmp_path: Path) -> None:
    inner = pa.field("element", pa.string(), nullable=False)
    narrow, wide = (
        pa.DictionaryArray.from_arrays(pa.array([0, 1], t), pa.array(["a", "b"])) for t in (pa.int8(), pa.int16())
    )
    write(tmp_path / "a.parquet", pa.table({"l": pa.array([["a"], None]), "c": narrow}), store_schema=True)
    strict = pa.schema([pa.field("c", wide.type, nullable=False), pa.field("l", pa.list_(inner))], metadata={"k": "v"})
    write(tmp_path / "b.parquet", pa.table({"c": wide, "l": pa.array([["b"], []], pa.list_(inner))}, schema=strict))
    source = ParquetSource(tmp_path)
    assert source.schema.field("c").type == pa.dictionary(pa.int32(), pa.string())
    table = read(source)
    assert table.to_pydict() == {"l": [["a"], None, ["b"], []], "c": ["a", "b", "a", "b"]}


def test_columns_named_twice_in_a_file(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"]))
    with pytest.raises(RequestError, match="two columns are named 'x'"):
        _ = ParquetSource(tmp_path).schema


# --- what can go wrong ----------------------------------------------------------------------------------------------


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    good = write(tmp_path / "a.parquet", {"x": range(1000)}).read_bytes()
    bad = tmp_path / "b.parquet"
    for content, words in [
        (b"", "not a Parquet file"), (b"x,y\n1,2\n" * 100, "not a Parquet file"),
        (good[: len(good) // 2], "its end is missing"),
        (good[:-3], "its end is missing"), (good[:4] + b"\0" * (len(good) - 12) + good[-8:], "b.parquet"),
    ]:  # fmt: skip
        bad.write_bytes(content)
        with pytest.raises(RequestError, match=words) as caught:
            ParquetSource(tmp_path).fragments()
        assert caught.value.path == str(bad)
        assert caught.value.__cause__ is not None


def test_damage_within_the_pages_is_found_when_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet",
        {"s": [f"text {i * i}" for i in range(20_000)]},
        compression="zstd",
        use_dictionary=False,
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 2000] = b"\xa5" * 2000
    path.write_bytes(data)
    (fragment,) = ParquetSource(tmp_path).fragments()
    with pytest.raises(JobError, match=r"a\.parquet: the file is damaged in row groups 0 to 0") as caught:
        list(fragment.batches())
    assert caught.value.fragment == "00000"
    assert pickle.loads(pickle.dumps(caught.value)).path == str(path)


def test_page_checksums_are_checked(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet", {"x": pa.array(range(5000), pa.int64())}, write_page_checksum=True, compression="none",
        use_dictionary=False,
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    data[10_000] ^= 1
    path.write_bytes(data)
    (fragment,) = ParquetSource(tmp_path).fragments()
    with pytest.raises(JobError, match="damaged"):
        list(fragment.batches())


def test_files_that_change_between_planning_and_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"x": range(10)})
    (fragment,) = ParquetSource(tmp_path).fragments()
    write(path, {"x": range(11)})
    with pytest.raises(JobError, match="changed while the job was running"):
        list(fragment.batches())
    path.unlink()
    with pytest.raises(JobError, match="is gone"):
        list(fragment.batches())


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"x": [1]})
    (fragment,) = ParquetSource(path).fragments()
    path.chmod(0)
    as_root = os.geteuid() == 0
    try:
        if as_root:
            for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
                folder.chmod(0o755)
            os.seteuid(65534)
        with pytest.raises(JobError, match=r"a\.parquet: no permission"):
            list(fragment.batches())
    finally:
        if as_root:
            os.seteuid(0)


def test_an_empty_source_has_a_schema(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"x": pa.array([], pa.int64())})
    source = ParquetSource(tmp_path)
    assert (source.schema, source.fragments(), source.rows) == (pa.schema({"x": pa.int64()}), [], 0)


def test_parameters_are_checked() -> None:
    for wrong, kind in [
        ({"path": 5}, ParameterTypeError), ({"path": "a", "columns": "x"}, ParameterTypeError),
        ({"path": "a", "columns": []}, ParameterError),
        ({"path": "a", "columns": ["x", "x"]}, ParameterError), ({"path": "a", "batch_rows": 0}, ParameterError),
        ({"path": "a", "fragment_rows": 1.5}, ParameterTypeError), ({"path": "a", "where": "x = "}, ParameterError),
    ]:  # fmt: skip
        with pytest.raises(kind):
            ParquetSource(**wrong)  # type: ignore[arg-type]


def test_filter_and_columns_are_checked_against_the_files(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"x": [1]})
    with pytest.raises(ColumnTypeError, match="without quotes"):
        ParquetSource(tmp_path, where="x = 'a'").fragments()
    with pytest.raises(MissingColumnError):
        ParquetSource(tmp_path, where="y = 1").fragments()
    with pytest.raises(MissingColumnError, match="Known: 'x'"):
        ParquetSource(tmp_path, columns=["what"]).fragments()


# --- provenance -----------------------------------------------------------------------------------------------------


def test_describe(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder / "k=1/a.parquet", {"x": range(10)}, row_group_size=5)
    one, two = (ParquetSource(tmp_path / f, where="X >= 5".lower(), fragment_rows=5).describe() for f in ("one", "two"))
    assert one["digest"] == two["digest"]
    assert {k: one[k] for k in ("kind", "where", "columns", "files", "rows", "fragments", "rows_planned")} == {
        "kind": "parquet",
        "where": "x >= 5",
        "columns": None,
        "files": 1,
        "rows": 10,
        "fragments": 1,
        "rows_planned": 5,
    }
    write(tmp_path / "two/k=1/a.parquet", {"x": range(11)})
    assert ParquetSource(tmp_path / "two").describe()["digest"] != one["digest"]


def test_many_files_keep_their_order(tmp_path: Path) -> None:
    for i in range(120):
        write(tmp_path / f"p{i:03d}.parquet", {"x": [i]})
    fragments = ParquetSource(tmp_path).fragments()
    assert [next(f.batches()).column("x")[0].as_py() for f in fragments] == list(range(120))
    assert [f.key for f in fragments] == sorted(f.key for f in fragments)

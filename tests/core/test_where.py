"""The filter language: what parses, what it means, what it says when it is wrong, and that pruning is sound."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import duckdb
import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings

from featuremill.artifacts.errors import ColumnTypeError, MissingColumnError, ParameterError, ParameterTypeError
from featuremill.core.predicates import Range
from featuremill.core.where import Where

UTC = dt.UTC
SCHEMA = pa.schema(
    {
        "i": pa.int8(),
        "big": pa.int64(),
        "u": pa.uint64(),
        "f": pa.float64(),
        "g": pa.float32(),
        "h": pa.float16(),
        "s": pa.string(),
        "large": pa.large_string(),
        "view": pa.string_view(),
        "cat": pa.dictionary(pa.int8(), pa.string()),
        "raw": pa.binary(),
        "flag": pa.bool_(),
        "day": pa.date32(),
        "ts": pa.timestamp("us"),
        "tz": pa.timestamp("ms", "Europe/Berlin"),
        "dec": pa.decimal128(7, 2),
        "small": pa.decimal32(5, 1),
        "nothing": pa.null(),
        "items": pa.list_(pa.int64()),
        "i16": pa.int16(),
    }
)
ROWS: list[dict[str, Any]] = [
    {
        "i": 1,
        "big": 2**53 + 1,
        "u": 2**64 - 1,
        "f": 1.5,
        "g": 0.1,
        "h": 0.5,
        "s": "JFK",
        "large": "JFK",
        "view": "JFK",
        "cat": "JFK",
        "raw": b"JFK",
        "flag": True,
        "day": dt.date(2013, 1, 31),
        "ts": dt.datetime(2013, 1, 31, 12),
        "tz": dt.datetime(2013, 1, 31, 12, tzinfo=UTC),
        "dec": Decimal("1.23"),
        "small": Decimal("1.5"),
        "items": [1],
        "i16": 1,
    },
    {
        "i": -128,
        "big": -5,
        "u": 0,
        "f": math.nan,
        "g": math.inf,
        "h": -1.0,
        "s": "",
        "large": "",
        "view": "",
        "cat": "",
        "raw": b"",
        "flag": False,
        "day": dt.date(1969, 12, 31),
        "ts": dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
        "tz": dt.datetime(1969, 12, 31, tzinfo=UTC),
        "dec": Decimal("-99999.99"),
        "small": Decimal("-2.0"),
        "items": [],
        "i16": 5,
    },
    {},
]
BATCH = pa.RecordBatch.from_pylist(ROWS, schema=SCHEMA)


def kept(text: str, batch: pa.RecordBatch = BATCH) -> list[int]:
    numbered = batch.append_column("row", pa.array(range(batch.num_rows)))
    rows: list[int] = Where(text).bind(batch.schema).filter(numbered).column("row").to_pylist()
    return rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("i = 1", [0]), ("i != 1", [1]), ("i <> 1", [1]), ("1 = i", [0]), ("0 < i", [0]), ("not i = 1", [1]),
        ("i < 1.5", [0, 1]), ("i > 0.5", [0]), ("i = 1.0", [0]), ("i = 1.5", []), ("i != 1.5", [0, 1]),
        ("i >= 0.5", [0]),
        ("i < 1000", [0, 1]), ("i > 1000", []), ("i = 1000", []), ("i != 1000", [0, 1]), ("i >= -1e300", [0, 1]),
        ("i between -128 and 0", [1]), ("i not between -128 and 0", [0]), ("i in (1, 7)", [0]),
        ("i not in (1, 7)", [1]),
        ("i in (1, null)", [0]), ("i not in (1, null)", []), ("i in (1.5, 1000)", []), ("i in (null)", []),
        ("big = 9007199254740993", [0]), ("big = 9007199254740992", []), ("big > 9007199254740992.5", [0]),
        ("u = 18446744073709551615", [0]), ("u < 0", []), ("u > 18446744073709551614", [0]),
        ("f = 1.5", [0]), ("f != 1.5", [1]), ("not f > 1", [1]), ("f > 1e309", []), ("f is not null", [0, 1]),
        ("g = 0.1", [0]), ("g > 1e300", [1]), ("g <= 0.1", [0]), ("h = 0.5", [0]), ("h < 0", [1]),
        ("s = 'JFK'", [0]), ("s = ''", [1]), ("s < 'K'", [0, 1]), ("s in ('JFK', 'LAX')", [0]), ("s like 'J%'", [0]),
        ("s like '_F_'", [0]), ("s not like 'J%'", [1]), ("large = 'JFK'", [0]), ("view = 'JFK'", [0]),
        ("view like 'J%'", [0]),
        ("cat = 'JFK'", [0]), ("cat in ('JFK')", [0]), ("cat is null", [2]), ("raw = 'JFK'", [0]),
        ("s = large", [0, 1]),
        ("flag", [0]), ("not flag", [1]), ("flag = false", [1]), ("flag in (true)", [0]), ("true", [0, 1, 2]),
        ("false", []),
        ("day = DATE '2013-01-31'", [0]), ("day < '2013-01-01'", [1]), ("day in (DATE '1969-12-31')", [1]),
        ("ts = TIMESTAMP '2013-01-31 12:00:00'", [0]), ("ts < TIMESTAMP '1970-01-01'", [1]),
        ("ts > DATE '2013-01-31'", [0]),
        ("ts <= '1969-12-31 23:59:59.999999500'", [1]), ("ts = '1969-12-31 23:59:59.9999995'", []),
        ("tz = TIMESTAMP '2013-01-31 13:00+01:00'", [0]), ("tz = '2013-01-31T12:00:00Z'", [0]),
        ("tz = '2013-01-31 12:00'", [0]),
        ("dec = 1.23", [0]), ("dec < 1.235", [0, 1]), ("dec > 1.225", [0]), ("dec = 1.234", []), ("dec < 1e30", [0, 1]),
        ("dec = -99999.99", [1]), ("small = 1.5", [0]), ("small in (1.5, 1.55)", [0]),
        ("nothing is null", [0, 1, 2]), ("nothing = 5", []), ("nothing = 'x' or i = 1", [0]),
        ("items is not null", [0, 1]),
        ("i = i16", [0]), ("i < i16", [1]), ("i < f", [0]), ("big = big", [0, 1]), ("dec < f", [0]),
        ("i = 1 or i is null", [0, 2]), ("i = 1 and s = 'LAX' or s = ''", [1]), ("i = 1 and (s = 'LAX' or s = '')", []),
        ("NOT (I = 1)".replace("I", "i"), [1]), ("not not i = 1", [0]), ("\"i\" = 1 AND `s` = 'JFK'", [0]),
        ("i = +1\n  and -2 < i", [0]),
    ],
)  # fmt: skip
def test_rows_kept(text: str, rows: list[int]) -> None:
    where = Where(text)
    assert kept(text) == rows
    assert Where(str(where)) == Where(str(where)) and Where(str(where)).node == where.node
    expression = where.bind(SCHEMA).expression(SCHEMA)
    if not {"view", "h", "small"} & set(where.columns):  # Arrow's expressions lack casts for these
        table = pa.table(BATCH.select(where.columns)).append_column("row", pa.array(range(len(ROWS))))
        assert ds.dataset(table).to_table(filter=expression).column("row").to_pylist() == rows


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("i = ", 4, "end of the filter"), ("i = 1 an s = 'x'", 6, "'an'"), ("i == 1", 2, "Write ="),
        ("i = 'x", 4, "never closed"),
        ("(i = 1", 6, "closing parenthesis"), ("i in ()", 6, "literal"), ("i in (s)", 6, "is a column"),
        ("i = null", 4, "is null"),
        ("1 = 1", 2, "needs a column"), ("i between null and 3", 10, "between null"), ("i / 2 > 1", 2, "Arithmetic"),
        ("i + 2 > 1", 2, "not understood"), ("s like i", 7, "pattern"), ("s like 'a\\'", 7, "backslash"),
        ("i not = 1", 6, "after not"),
        ("a.b = 1", 1, "Fields inside"), ("i = 1; drop table x", 5, "one condition"), ("i = 1e9999", 4, "beyond"),
        ("5", 1, "comparison"),
        ("i = -'x'", 5, "a number"), ("i is 5", 5, "expected null"), ("i = 1\nand s =", 13, "end of the filter"),
    ],
)  # fmt: skip
def test_wrong_text_is_pointed_at(text: str, position: int, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Where(text)
    lines = str(caught.value).split("\n")
    column = position - (text.rfind("\n", 0, position) + 1)
    assert words in lines[0]
    assert lines[-1] == "  " + " " * column + "^"
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s = 5", "Write a text in 'quotes'"), ("i = 'x'", "Write a number"), ("flag = 1", "Write = true"),
        ("flag < true", "cannot be compared"),
        ("day = 5", "Write DATE"), ("day = '2013-02-30'", "is no date"), ("ts = 'noon'", "is no moment"),
        ("s", "no boolean"),
        ("ts = '2013-01-01 00:00:00+01:00'", "no time zone"), ("tz = '2013-01-01 25:00:00'", "exists"),
        ("i like 'x'", "like is for texts"),
        ("items = 5", "is null"), ("items in (5)", "is null"), ("items in (null)", "is null"),
        ("s = i", "do not compare"),
        ("ts = tz", "do not compare"), ("day in (DATE '2013-01-01', 5)", "Write DATE"),
    ],
)  # fmt: skip
def test_wrong_types_are_refused(text: str, words: str) -> None:
    with pytest.raises(ColumnTypeError) as caught:
        Where(text).bind(SCHEMA)
    message = str(caught.value)
    assert words in message
    assert message.endswith("^")
    assert caught.value.column in Where(text).columns


def test_unknown_columns_are_refused() -> None:
    with pytest.raises(MissingColumnError, match="Did you mean 'flag'"):
        Where("flg").bind(SCHEMA)
    with pytest.raises(MissingColumnError, match="single quotes"):
        Where('s = "JFK"').bind(SCHEMA)


def test_what_is_no_filter_is_refused() -> None:
    with pytest.raises(ParameterTypeError):
        Where(5)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="Leave it out"):
        Where("  ")
    with pytest.raises(ParameterError, match="nests deeper"):
        Where("(" * 5000 + "i = 1")
    assert kept(" or ".join(["i = 1"] * 3000)) == [0]


def test_sql() -> None:
    where = Where(
        "\"odd `name\" = 'it''s \\' and d = DATE '2013-01-01' and x not in (1, 2.50, null) "
        "or not (f and y like 'a\\_%')"
    )
    assert where.to_sql() == (
        "(`odd \\`name` = 'it\\'s \\\\' and `d` = DATE '2013-01-01' and not (`x` in (1, 2.5, null))) or "
        "not (`f` and `y` like 'a\\\\_%')"
    )


NUMBERS = st.integers(-3, 3) | st.sampled_from([-1.5, 0.5, 2.25])
TEXTS = st.sampled_from(["", "a", "ab", "b", "é", "%"])


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def a_list(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(items | st.just("null"), min_size=1, max_size=3).map(", ".join)


def conditions() -> st.SearchStrategy[str]:
    ops = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
    number, text = NUMBERS.map(str), TEXTS.map(quoted)
    leaf = st.one_of(
        st.builds("{} {} {}".format, st.sampled_from(["x", "y"]), ops, number),
        st.builds("s {} {}".format, ops, text),
        st.builds("x {} y".format, ops),
        st.builds("{} is {}null".format, st.sampled_from(["x", "y", "s", "b"]), st.sampled_from(["", "not "])),
        st.builds("x {}in ({})".format, st.sampled_from(["", "not "]), a_list(number)),
        st.builds("s {}in ({})".format, st.sampled_from(["", "not "]), a_list(text)),
        st.builds("x {}between {} and {}".format, st.sampled_from(["", "not "]), number, number),
        st.builds(
            "s {}like {}".format, st.sampled_from(["", "not "]), st.sampled_from(["'a%'", "'%b'", "'_'", "''", "'a_'"])
        ),
        st.just("b"),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds("({} and {})".format, inner, inner),
            st.builds("({} or {})".format, inner, inner),
            st.builds("not ({})".format, inner),
        ),
        max_leaves=6,
    )


def batches() -> st.SearchStrategy[pa.RecordBatch]:
    row = st.fixed_dictionaries(
        {
            "x": st.none() | st.integers(-3, 3),
            "y": st.none() | NUMBERS.map(float),
            "s": st.none() | TEXTS,
            "b": st.none() | st.booleans(),
        }
    )
    schema = pa.schema({"x": pa.int64(), "y": pa.float64(), "s": pa.string(), "b": pa.bool_()})
    return st.lists(row, min_size=1, max_size=6).map(lambda rows: pa.RecordBatch.from_pylist(rows, schema=schema))


@settings(max_examples=150, deadline=None)
@given(conditions(), batches())
def test_a_filter_keeps_what_a_database_keeps(text: str, batch: pa.RecordBatch) -> None:
    numbered = pa.table(batch).append_column("row", pa.array(range(batch.num_rows)))
    expected = duckdb.from_arrow(numbered).filter(text).order("row").project("row").fetchall()
    assert kept(text, batch) == [row for (row,) in expected]
    assert Where(str(Where(text))).node == Where(text).node


def range_of(column: pa.Array) -> Range:
    values = [v for v in column.to_pylist() if v is not None and v == v]
    terms = [v.encode() if isinstance(v, str) else int(v) if isinstance(v, bool) else v for v in values]
    return Range(
        min(terms, default=None),
        max(terms, default=None),
        may_null=column.null_count > 0,
        all_null=column.null_count == len(column),
    )


@settings(max_examples=200, deadline=None)
@given(conditions(), batches(), st.booleans())
def test_statistics_never_rule_out_a_row_that_is_kept(text: str, batch: pa.RecordBatch, add_nan: bool) -> None:
    ranges = {name: range_of(batch.column(name)) for name in batch.schema.names}
    if add_nan:
        y = pa.array([math.nan, *batch.column("y").to_pylist()[1:]], pa.float64())
        batch = batch.set_column(1, "y", y)
        ranges["y"] = range_of(y)
    predicate = Where(text).bind(batch.schema)
    if kept(text, batch):
        assert predicate.can_match(ranges)
    if predicate.outcomes(ranges) == 1:
        assert len(kept(text, batch)) == batch.num_rows


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("x > 10", False), ("x >= 10", True), ("x = 11", False), ("not x <= 10", False), ("x in (0, 11)", False),
        ("x in (0, 5)", True),
        ("x != 5", True), ("x is null", False), ("s like 'b%'", False), ("s like 'a%'", True), ("s = 'aa'", True),
        ("s < 'a'", False),
        ("x > 10 or s < 'a'", False), ("x > 10 or s = 'aa'", True), ("x between 11 and 20", False), ("f = 3", False),
        ("not f = 3", True),
        ("f != 2", True), ("n = 1", False), ("n is null", True), ("not n = 1", False), ("x < 1", False),
        ("unknown = 1", True),
    ],
)  # fmt: skip
def test_statistics_rule_out_what_they_can(text: str, possible: bool) -> None:
    schema = pa.schema({"x": pa.int32(), "s": pa.string(), "f": pa.float64(), "n": pa.int8(), "unknown": pa.int8()})
    ranges = {
        "x": Range(1, 10, may_null=False),
        "s": Range(b"a", b"ab", may_null=True),
        "f": Range(2.0, 2.0, may_null=False),
        "n": Range(all_null=True),
    }
    assert Where(text).bind(schema).can_match(ranges) is possible

"""`where` in BigQuery means what it means in Arrow: the same rows, nulls included."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from featuremill.artifacts.errors import ColumnTypeError, MissingColumnError
from featuremill.core.bigquery.restriction import row_restriction
from featuremill.core.bigquery.source import BigQuerySource
from featuremill.core.bigquery.spec import BigQuerySpec
from featuremill.core.where import Where
from support.bigquery import LocalBigQuery

BIG = 2**53
UTC = dt.UTC
ROWS = pa.table(
    {
        "id": pa.array(range(6)),
        "i": pa.array([1, 2, None, BIG, BIG + 1, -3]),
        "f": pa.array([0.1, 1.5, None, -2.0, 1e300, 0.0]),
        "s": pa.array(["a", "b'c", None, "", "50%_\\x", "ä\nß"]),
        "b": pa.array([b"\x00'", b"b", None, b"", b"\xff", b"a"]),
        "t": pa.array([True, False, None, True, False, None]),
        "n": pa.array([Decimal("1.5"), Decimal(2), None, Decimal("-0.000000001"), Decimal(0), Decimal(9)]).cast(
            pa.decimal128(38, 9)
        ),
        "d": pa.array([dt.date(2013, 1, 31), dt.date(1960, 2, 29), None, dt.date(2020, 1, 1), None, dt.date(1, 1, 1)]),
        "z": pa.array(
            [dt.datetime(2013, 1, 31, 12, 0, 0, 1, UTC), dt.datetime(1969, 12, 31, 23, tzinfo=UTC), None] * 2,
            pa.timestamp("us", tz="UTC"),
        ),
        "l": pa.array([dt.datetime(2013, 1, 31, 12), dt.datetime(1969, 12, 31, 23), None] * 2, pa.timestamp("us")),
    }
)

FILTERS = [
    "i = 1",
    "i != 1",
    "not i = 1",
    "i < 1.5",
    "i = 1.5",
    "not i = 1.5",
    "i != 1.5",
    f"i > {BIG}",
    f"i = {BIG + 1}",
    "i > 1e300",
    "i <= 1e300",
    "i in (1, 2.5, -3)",
    "i not in (1, null)",
    "i in (1, null)",
    "i in (1.5)",
    "i in (null)",
    "i between -3 and 2",
    "f = 0.1 or f > 1e299",
    "f <= 0",
    "f > i",
    "i = id",
    "n >= 1.5",
    "n < 0",
    "n = 0.0000000001",
    "n > i",
    "s = 'b''c'",
    "s like 'b''%'",
    "s like '%\nß'",
    "s like '\\a'",
    "s in ('', 'ä\nß') or s is null",
    "s > 'a'",
    "b = 'b' or b > 'x'",
    "t",
    "not t",
    "t = false or t is null",
    "d >= '2013-01-31' and d < DATE '2020-01-01'",
    "z > TIMESTAMP '2013-01-31 12:00:00'",
    "z <= '2013-01-31 13:00:00+01:00'",
    "l = '2013-01-31 12:00:00'",
    "(i = 1 or f > 1) and not (s is null or t)",
    "true",
    "false or i is not null",
]


@pytest.fixture(scope="module")
def table(bigquery: LocalBigQuery) -> str:
    return bigquery.load("restrictions.rows", ROWS)


@pytest.mark.parametrize("where", FILTERS)
def test_the_rows_are_those_that_arrow_keeps(bigquery: LocalBigQuery, table: str, where: str) -> None:
    """NaN is left out: the local server orders it as DuckDB does, above all numbers."""
    kept = Where(where).bind(ROWS.schema).filter(ROWS.combine_chunks().to_batches()[0]).column("id").to_pylist()
    source = BigQuerySource(BigQuerySpec(table=table, where=where, columns=["id"], **bigquery.keys))
    got = [i for f in source.fragments([["id"]]) for batch in f.batches() for i in batch.column(0).to_pylist()]
    assert sorted(got) == kept


def fields(**types: str) -> list[Any]:
    return [SimpleNamespace(name=n, field_type=t, mode="NULLABLE", fields=()) for n, t in types.items()]


def test_literals_are_of_their_columns_types() -> None:
    known = fields(i="INTEGER", f="FLOAT", n="NUMERIC", g="BIGNUMERIC", b="BYTES", z="TIMESTAMP", l="DATETIME")
    sql = row_restriction(
        Where("i < 1.5 and f = 1 and n = 1 and g = 1 and b = 'a''' and z > '2013-01-01' and l > '2013-01-01'"), known
    )
    assert sql == (
        "(`i` <= 1) AND (`f` = 1.0) AND (`n` = NUMERIC '1.000000000') AND "
        f"(`g` = BIGNUMERIC '1.{'0' * 38}') AND (`b` = b'\\x61\\x27') AND "
        "(`z` > TIMESTAMP '2013-01-01 00:00:00+00:00') AND (`l` > DATETIME '2013-01-01 00:00:00')"
    )


def test_patterns_keep_the_escapes_that_bigquery_knows() -> None:
    """The local server knows none; BigQuery takes a backslash before %, _ and itself."""
    sql = row_restriction(Where("s like '50\\%\\_\\\\ \\a%'"), fields(s="STRING"))
    assert sql == "`s` LIKE '50\\\\%\\\\_\\\\\\\\ a%'"


@pytest.mark.parametrize(
    "name", ["plain", "or", "with space", "back`quote", "back\\slash", "x` = 1 or `y"]
)
def test_names_and_texts_stay_names_and_texts(name: str) -> None:
    quoted = '"' + name + '"'
    sql = row_restriction(Where(f"{quoted} = 'it''s \\ `so'"), fields(**{name: "STRING"}))
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    assert sql == f"`{escaped}` = 'it\\'s \\\\ `so'"


@pytest.mark.parametrize(
    ("where", "types", "message"),
    [
        ("j = '{}'", {"j": "JSON"}, "'j' is JSON; such columns can only be tested with is null"),
        ("not (g in ('a') or i = 1)", {"g": "GEOGRAPHY", "i": "INTEGER"}, "'g' is GEOGRAPHY"),
        ("g like 'POINT%'", {"g": "GEOGRAPHY"}, "'g' is GEOGRAPHY"),
        ("s = j", {"s": "STRING", "j": "JSON"}, "'j' is JSON"),
        ("c > '01:02:03'", {"c": "TIME"}, "'c' is time64"),
        ("v = 'x'", {"v": "INTERVAL"}, "'v' is month_day_nano_interval"),
        ("r = 'x'", {"r": "RECORD"}, "'r' is struct"),
    ],
)
def test_what_bigquery_does_not_compare(where: str, types: dict[str, str], message: str) -> None:
    with pytest.raises(ColumnTypeError, match=message):
        row_restriction(Where(where), fields(**types))
    column = message.split("'")[1]
    assert row_restriction(Where(f"{column} is not null"), fields(**types)) == f"NOT (`{column}` IS NULL)"


def test_a_column_that_is_not_there() -> None:
    with pytest.raises(MissingColumnError, match="no column 'carier'. Did you mean 'carrier'?"):
        row_restriction(Where("carier = 'UA'"), fields(carrier="STRING"))

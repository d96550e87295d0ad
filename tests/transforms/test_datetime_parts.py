"""Parts of dates and times against Python's datetime, for every type, layout and format."""

from __future__ import annotations

import datetime as dt
import math
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import BadRows, ColumnTypeError, ParameterError, ParameterTypeError
from featuremill.transforms.datetime_parts import CYCLES, DATE_PARTS, PARTS, TIME_PARTS, DatetimeParts
from featuremill.transforms.datetime_text import TextFormat, parse_datetimes
from featuremill.transforms.registry import from_config, to_config
from support.fitting import apply, apply_rows

moments = st.none() | st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2250, 1, 1))
MORNING = dt.datetime(2024, 2, 29, 6, 7, 8, 900_000)


def batch_of(values: object, type_: pa.DataType) -> pa.RecordBatch:
    return pa.record_batch({"t": pa.array(values, type_)})


def by_hand(value: dt.datetime | None, part: str) -> int | bool | None:
    if value is None:
        return None
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC if value.tzinfo else None)
    return {
        "quarter": (value.month - 1) // 3 + 1, "week": value.isocalendar().week, "day_of_week": value.weekday(),
        "day_of_year": value.timetuple().tm_yday, "is_weekend": value.isoweekday() in (6, 7),
        "unix_seconds": math.floor((value - epoch) / dt.timedelta(microseconds=1)) // 10**6,
    }.get(part, getattr(value, part, None))


@settings(max_examples=50, deadline=None)
@given(values=st.lists(moments, max_size=8), unit=st.sampled_from(["s", "ms", "us", "ns"]))
def test_timestamps_without_a_zone(values, unit):
    if unit in ("s", "ms"):
        keep = 0 if unit == "s" else 1000
        values = [v and v.replace(microsecond=v.microsecond // keep * keep if keep else 0) for v in values]
    batch = batch_of(values, pa.timestamp(unit))
    op = DatetimeParts(["t"], parts=PARTS)
    found = apply(op, batch)
    for part in PARTS:
        assert found[f"t_{part}"].to_pylist() == [by_hand(v, part) for v in values]
    if unit != "ns":  # single values of nanoseconds need pandas
        assert apply_rows(op, batch) == pa.table(found).to_pylist()


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(moments, max_size=6),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu"]),
    other=st.none() | st.sampled_from(["Australia/Lord_Howe", "America/New_York"]),
)
def test_timestamps_with_a_zone(values, zone, other):
    values = [v and v.replace(tzinfo=dt.UTC) for v in values]
    op = DatetimeParts(["t"], parts=PARTS, timezone=other)
    batch = batch_of(values, pa.timestamp("us", zone))
    found = apply(op, batch)
    # Before standard time, zones have odd seconds that Python and Arrow both know.
    seen = [v and v.astimezone(ZoneInfo(other or zone)) for v in values]
    for part in PARTS:
        assert found[f"t_{part}"].to_pylist() == [by_hand(v, part) for v in seen]
    assert apply_rows(op, batch) == pa.table(found).to_pylist()


@pytest.mark.parametrize("type_", [pa.date32(), pa.date64()])
def test_dates(type_):
    days = [dt.date(1969, 12, 31), None, dt.date(2021, 1, 3), dt.date(2020, 12, 31)]
    parts = (*DATE_PARTS, "unix_seconds")
    batch = batch_of(days, type_)
    op = DatetimeParts(["t"], parts=parts)
    found = apply(op, batch)
    for part in parts:
        assert found[f"t_{part}"].to_pylist() == [
            by_hand(d and dt.datetime(d.year, d.month, d.day), part) for d in days
        ]
    assert apply_rows(op, batch) == pa.table(found).to_pylist()


@pytest.mark.parametrize("type_", [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")])
def test_times_of_day(type_):
    batch = batch_of([dt.time(23, 59, 58), None, dt.time(0)], type_)
    op = DatetimeParts(["t"], parts=TIME_PARTS)
    found = apply(op, batch)
    assert [a.to_pylist() for a in found.values()] == [[23, None, 0], [59, None, 0], [58, None, 0]]
    assert apply_rows(op, batch) == pa.table(found).to_pylist()


def test_the_types_that_come_out():
    fields = DatetimeParts(["t"], parts=["year", "is_weekend", "unix_seconds", "hour"], cyclical=True).output_fields(
        pa.schema([("t", pa.timestamp("ns"))])
    )
    assert [(f.name, f.type) for f in fields] == [
        ("t_year", pa.int32()), ("t_is_weekend", pa.bool_()), ("t_unix_seconds", pa.int64()),
        ("t_hour_sin", pa.float32()), ("t_hour_cos", pa.float32()),
    ]


@pytest.mark.parametrize("part", list(CYCLES))
def test_circles(part):
    first, period = CYCLES[part]
    start = dt.datetime(2020, 1, 1)  # a leap year that ISO gives 53 weeks
    moments = [start + dt.timedelta(hours=7 * i, minutes=7 * i, seconds=11 * i) for i in range(1250)] + [None]
    batch = batch_of(moments, pa.timestamp("s"))
    op = DatetimeParts(["t"], parts=[part], cyclical=True)
    found = apply(op, batch)
    values = [by_hand(m, part) for m in moments[:-1]]
    assert set(values) == set(range(first, first + period))
    angles = 2 * np.pi * (np.array(values) - first) / period
    for name, function in (("sin", np.sin), ("cos", np.cos)):
        made = found[f"t_{part}_{name}"].to_numpy(zero_copy_only=False)[:-1]
        np.testing.assert_array_equal(made, function(angles).astype("f4"))
    assert found[f"t_{part}_sin"][-1].as_py() is None
    some = batch.slice(1200)
    assert apply_rows(op, some) == pa.table(apply(op, some)).to_pylist()


def test_slices_empty_batches_and_dictionaries():
    op = DatetimeParts(["t"], parts=["day", "unix_seconds"])
    values = [MORNING, None, MORNING + dt.timedelta(days=1), MORNING]
    plain = batch_of(values, pa.timestamp("us"))
    whole = pa.table(apply(op, plain)).to_pylist()
    encoded = pa.record_batch({"t": plain.column("t").dictionary_encode()})
    for batch in (plain, encoded):
        assert pa.table(apply(op, batch)).to_pylist() == whole
        assert pa.table(apply(op, batch.slice(1, 2))).to_pylist() == whole[1:3]
        assert pa.table(apply(op, batch.slice(2, 1))).to_pylist() == whole[2:3]
        assert pa.table(apply(op, batch.slice(4))).num_rows == 0


FORMATS = [
    ("%Y-%m-%d", "2024-02-29", dt.datetime(2024, 2, 29)),
    ("%Y%m%d", "20240229", dt.datetime(2024, 2, 29)),
    ("%d/%m/%Y %H:%M:%S", "29/02/2024 06:07:08", dt.datetime(2024, 2, 29, 6, 7, 8)),
    ("%F %T", "2024-2-29 6:7:8", dt.datetime(2024, 2, 29, 6, 7, 8)),
    ("%Y-%m-%dT%H:%M:%S.%f", "2024-02-29T06:07:08.123456", dt.datetime(2024, 2, 29, 6, 7, 8)),
    ("%b %d, %Y", "FEB 29, 2024", dt.datetime(2024, 2, 29)),
    ("%A, %B %d, %Y", "Thursday, february 29, 2024", dt.datetime(2024, 2, 29)),
    ("%a %b %e %R %Y", "Thu Feb  9 12:30 2024", dt.datetime(2024, 2, 9, 12, 30)),
    ("%m/%d/%y %I:%M %p", "02/29/24 12:05 am", dt.datetime(2024, 2, 29, 0, 5)),
    ("%D %I%p", "02/29/68 12PM", dt.datetime(2068, 2, 29, 12)),
    ("%y", "69", dt.datetime(1969, 1, 1)),
    ("%Y-%j", "2024-060", dt.datetime(2024, 2, 29)),
    ("%Y-%m", "1969-12", dt.datetime(1969, 12, 1)),
    ("100%% (%Y) é.*\\", "100% (2024) é.*\\", dt.datetime(2024, 1, 1)),
    ("%d/%b/%Y:%T %z", "29/Feb/2024:06:07:08 +0130", dt.datetime(2024, 2, 29, 4, 37, 8, tzinfo=dt.UTC)),
    ("%FT%T%z", "2024-02-29T06:07:08-05:00", dt.datetime(2024, 2, 29, 11, 7, 8, tzinfo=dt.UTC)),
    ("%FT%T%z", "2024-02-29T06:07:08Z", dt.datetime(2024, 2, 29, 6, 7, 8, tzinfo=dt.UTC)),
    ("%s", "-1", dt.datetime(1969, 12, 31, 23, 59, 59, tzinfo=dt.UTC)),
]


@pytest.mark.parametrize(("format_", "text", "expected"), FORMATS)
@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.string_view()])
def test_formats(format_, text, expected, type_):
    array = pa.array(["?", text, None, text], type_).slice(1)
    assert parse_datetimes(array, TextFormat.compile(format_)).to_pylist() == [expected, None, expected]
    assert len(parse_datetimes(array.slice(3), TextFormat.compile(format_))) == 0


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.datetimes(dt.datetime(1000, 1, 1)), max_size=6),
    format_=st.sampled_from(["%Y-%m-%d %H:%M:%S", "%d %B %Y %I.%M.%S %p", "%j|%Y|%H|%M|%S.%f", "%Y%m%d%H%M%S"]),
)
def test_what_strftime_writes_is_read(values, format_):
    texts = pa.array([v.strftime(format_) for v in values], pa.string())
    expected = [v.replace(microsecond=0) for v in values]
    assert parse_datetimes(texts, TextFormat.compile(format_)).to_pylist() == expected


@pytest.mark.parametrize(
    ("format_", "text"),
    [
        ("%Y-%m-%d", "2024-02-30"), ("%Y-%m-%d", "2023-02-29"), ("%Y-%m-%d", "1900-02-29"), ("%Y-%m-%d", "2024-04-31"),
        ("%Y-%m-%d", "2024-13-01"), ("%Y-%m-%d", "2024-00-01"), ("%Y-%m-%d", "2024-01-00"), ("%Y-%m-%d", "2024-01-01x"),
        ("%Y-%m-%d", " 2024-01-01"), ("%Y-%m-%d", "2024-01-01\n"), ("%Y-%m-%d", ""), ("%Y-%m-%d", "24-01-01"),
        ("%Y-%j", "2023-366"), ("%Y-%j", "2024-0"), ("%F %T", "2024-01-01 24:00:00"), ("%F %T", "2024-01-01 23:60:00"),
        ("%F %T", "2024-01-01 23:59:60"), ("%F %I %p", "2024-01-01 13 PM"), ("%F %I %p", "2024-01-01 0 AM"),
        ("%b %Y", "Mai 2024"), ("%F", "٢٠٢٤-01-01"), ("%Y.%m", "2024-01"),
    ],
)
def test_what_is_no_date_is_a_bad_row(format_, text):
    op = DatetimeParts(["t"], parts=["month"], format=format_)
    good = dt.datetime(2024, 2, 2, 2).strftime(format_)
    column = pa.array([good, text, None, good, text])
    for array in (column, column.dictionary_encode()):
        with pytest.raises(BadRows, match="is no date of the format") as caught:
            op.apply(pa.record_batch({"t": array}), op.prepare({}, pa.schema([("t", array.type)])))
        assert caught.value.rows == [1, 4]


def test_a_dictionary_may_hold_bad_texts_that_no_row_uses():
    column = pa.DictionaryArray.from_arrays(pa.array([1, None, 1, 1], pa.int8()), pa.array(["bad", "2024-03-01", None]))
    found = apply(DatetimeParts(["t"], format="%F"), pa.record_batch({"t": column}))
    assert found["t_month"].to_pylist() == [3, None, 3, 3]


@pytest.mark.parametrize("parameters", [{}, {"format": "%Y"}, {"timezone": "Asia/Tokyo"}])
def test_a_column_without_a_single_value(parameters):
    op = DatetimeParts(["t"], parts=PARTS, cyclical=True, **parameters)
    found = apply(op, batch_of([None, None], pa.null()))
    assert all(a.to_pylist() == [None, None] for a in found.values())
    assert apply_rows(op, batch_of([None], pa.null())) == [dict.fromkeys(found)]


def test_texts_with_an_offset_in_a_zone():
    batch = batch_of(["2024-07-01 23:30 +0000", None], pa.string())
    op = DatetimeParts(["t"], parts=["month", "day", "hour"], format="%F %R %z", timezone="Europe/Berlin", output="at")
    found = apply(op, batch)
    assert pa.table(found).to_pylist() == [
        {"at_month": 7, "at_day": 2, "at_hour": 1}, {"at_month": None, "at_day": None, "at_hour": None}
    ]
    assert apply_rows(op, batch) == pa.table(found).to_pylist()


def test_config_round_trip():
    op = DatetimeParts(["a", "b"], parts=["hour"], cyclical=True, format="%s", timezone="UTC", output="{column}_at")
    assert op.output_names == ["a_at_hour_sin", "a_at_hour_cos", "b_at_hour_sin", "b_at_hour_cos"]
    assert from_config(to_config([op])) == [op]


@pytest.mark.parametrize(
    ("error", "message", "parameters"),
    [
        (ParameterError, "some of year, quarter", {"parts": ["yaer"]}),
        (ParameterError, "remove the repeated 'day'", {"parts": ["day", "hour", "day"]}),
        (ParameterError, "at least one part", {"parts": []}),
        (ParameterTypeError, "a list of names", {"parts": "year"}),
        (ParameterTypeError, "cyclical got 1", {"cyclical": 1}),
        (ParameterTypeError, "format got 3", {"format": 3}),
        (ParameterError, "not '%Q'", {"format": "%Y %Q"}),
        (ParameterError, "not '%'", {"format": "%Y %"}),
        (ParameterError, "a year", {"format": "%H:%M"}),
        (ParameterError, "twice", {"format": "%Y %Y"}),
        (ParameterError, "not both", {"format": "%m %b %Y"}),
        (ParameterError, "a month", {"format": "%Y %d"}),
        (ParameterError, "together", {"format": "%F %I"}),
        (ParameterError, "alone", {"format": "%s %Y"}),
        (ParameterError, "a zone such as", {"timezone": "Mars/Olympus"}),
    ],
)
def test_wrong_parameters(error, message, parameters):
    with pytest.raises(error, match=message):
        DatetimeParts(["t"], **parameters)


@pytest.mark.parametrize(
    ("type_", "message", "parameters"),
    [
        (pa.string(), "Say how to read texts", {}),
        (pa.int64(), "timestamps, dates", {}),
        (pa.list_(pa.date32()), "timestamps, dates", {}),
        (pa.date32(), r"has hour. Ask for parts=\['year'\]", {"parts": ["year", "hour"]}),
        (pa.time32("s"), r"has year, month, day, day_of_week. Ask for parts=\['hour', 'minute'\]", {}),
        (pa.timestamp("s"), "timestamps with a zone", {"timezone": "UTC"}),
        (pa.date32(), "timestamps with a zone", {"timezone": "UTC"}),
        (pa.string(), "timestamps with a zone", {"timezone": "UTC", "format": "%Y"}),
    ],
)
def test_wrong_columns(type_, message, parameters):
    with pytest.raises(ColumnTypeError, match=message):
        DatetimeParts(["t"], **parameters).output_fields(pa.schema([("t", type_)]))

"""Years, weekdays, hours: the parts of dates and times as columns of their own, plain or as points on a circle."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import BadRows
from featuremill.transforms.arrays import from_numpy, value_type
from featuremill.transforms.contract import State
from featuremill.transforms.datetime_text import TextFormat, parse_datetimes
from featuremill.transforms.prefixed import PrefixedTransform

__all__ = ["CYCLES", "PARTS", "DatetimeParts", "part_of"]

DATE_PARTS = ("year", "quarter", "month", "week", "day", "day_of_week", "day_of_year", "is_weekend")
TIME_PARTS = ("hour", "minute", "second")
PARTS = (*DATE_PARTS, *TIME_PARTS, "unix_seconds")
"""Every part there is. Dates have no TIME_PARTS; times of day have nothing else."""

CYCLES: dict[str, tuple[int, int]] = {
    "quarter": (1, 4), "month": (1, 12), "week": (1, 53), "day": (1, 31), "day_of_week": (0, 7),
    "day_of_year": (1, 366), "hour": (0, 24), "minute": (0, 60), "second": (0, 60),
}
"""The parts that come round: their first value and how many there are. The circle of weeks, days and days of the year
is that of the longest year or month, so that a value is the same point in every year."""

_KERNELS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "year": pc.year, "quarter": pc.quarter, "month": pc.month, "week": pc.iso_week, "day": pc.day,
    "day_of_week": pc.day_of_week, "day_of_year": pc.day_of_year, "hour": pc.hour, "minute": pc.minute,
    "second": pc.second,
}
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SATURDAY = 5
_QUARTER_HOUR = 900
"""Seconds. Clocks are changed at whole quarters of an hour."""
_RULES_FROM = 2_114_380_800
"""Seconds since 1970 of 2037-01-01 in UTC."""
_RULES_TO = 253_402_214_400
"""Seconds since 1970 of 9999-12-31 in UTC, beyond which Python has no dates."""
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - no zone, as the columns it is compared with
_SECOND = dt.timedelta(seconds=1)

# --- arithmetic ------------------------------------------------------------------------------------------------------


def clock_of(array: pa.Array) -> pa.Array:
    """What clocks in their zone show at zoned timestamps, as timestamps without a zone, shape (n_rows,).

    Arrow knows a zone's listed changes, which end in 2037, and not the rule for the years after; those are asked of
    :mod:`zoneinfo`, a quarter of an hour at a time.

    >>> clock_of(pa.array([2_164_197_600], pa.timestamp("s", "Europe/Berlin"))).to_pylist()  # summer of 2038
    [datetime.datetime(2038, 7, 31, 16, 0)]
    """
    clock, zone = pc.local_timestamp(array), array.type.tz
    seconds = part_of(array, "unix_seconds").fill_null(0).to_numpy()
    late = np.flatnonzero((seconds >= _RULES_FROM) & (seconds < _RULES_TO))
    if len(late) == 0 or zone[0] in "+-":
        return clock
    quarters, which = np.unique(seconds[late] // _QUARTER_HOUR, return_inverse=True)
    known = ZoneInfo(zone)
    shown = [dt.datetime.fromtimestamp(q * _QUARTER_HOUR, known) for q in quarters.tolist()]
    shifts = [(s.utcoffset() or dt.timedelta()) // _SECOND for s in shown]
    per_second = _TICKS[array.type.unit]
    ticks = clock.cast(pa.int64()).fill_null(0).to_numpy().copy()
    instants = array.cast(pa.int64()).fill_null(0).to_numpy()
    ticks[late] = instants[late] + np.array(shifts)[which] * per_second
    valid = clock.is_valid().to_numpy(zero_copy_only=False) if clock.null_count else None
    return from_numpy(ticks, valid, pa.int64()).cast(clock.type)


def part_of(array: pa.Array, part: str) -> pa.Array:
    """One part of dates, times or timestamps, shape (n_rows,), null where the input is.

    int32, but `is_weekend` is bool and `unix_seconds` int64 (rounded down).

    >>> part_of(pa.array([-1], pa.timestamp("ms")), "unix_seconds").to_pylist()
    [-1]
    """
    if part == "is_weekend":
        return pc.greater_equal(pc.day_of_week(array), _SATURDAY)
    if part == "unix_seconds":
        if pt.is_date(array.type):
            array = array.cast(pa.timestamp("s"))
        # Not by Arrow's cast or floor: the one rounds towards zero, the other goes by the clock of the zone.
        ticks = array.cast(pa.int64())
        seconds = ticks.fill_null(0).to_numpy() // _TICKS[array.type.unit]
        return from_numpy(seconds, ticks.is_valid().to_numpy(zero_copy_only=False) if ticks.null_count else None)
    return _KERNELS[part](array).cast(pa.int32())


def on_circle(values: pa.Array, part: str) -> list[pa.Array]:
    """Sine and cosine of the angle of each value, float32, shape (n_rows,); the first value of the part is at angle 0.

    >>> on_circle(pa.array([6, 12, None], pa.int32()), "hour")[0].to_pylist()
    [1.0, 1.2246468525851679e-16, None]
    """
    first, period = CYCLES[part]
    angles = [2 * math.pi * i / period for i in range(period)]
    at = pc.subtract(values, pa.scalar(first, pa.int32()))
    return [pa.array([f(a) for a in angles], pa.float32()).take(at) for f in (math.sin, math.cos)]


# --- single values ---------------------------------------------------------------------------------------------------

_ROW_PARTS: dict[str, Callable[[Any], int | bool]] = {
    "year": lambda v: v.year, "quarter": lambda v: (v.month + 2) // 3, "month": lambda v: v.month,
    "week": lambda v: v.isocalendar()[1], "day": lambda v: v.day, "day_of_week": lambda v: v.weekday(),
    "day_of_year": lambda v: v.timetuple().tm_yday, "is_weekend": lambda v: v.weekday() >= _SATURDAY,
    "hour": lambda v: v.hour, "minute": lambda v: v.minute, "second": lambda v: v.second,
    "unix_seconds": lambda v: (_midnight(v) - _EPOCH) // _SECOND,
}


def _midnight(value: dt.date) -> dt.datetime:
    return value if isinstance(value, dt.datetime) else dt.datetime(*value.timetuple()[:3])  # noqa: DTZ001 - as _EPOCH


def _row_reader_of(part: str, turns: bool) -> Callable[[Any], list[Any]]:
    """The outputs of one part for one Python date, time or datetime without a zone."""
    take = _ROW_PARTS[part]
    if not turns:
        return lambda value: [take(value)]
    first, period = CYCLES[part]
    circle = on_circle(pa.array(range(first, first + period), pa.int32()), part)
    points = list(zip(*(a.to_pylist() for a in circle), strict=True))
    return lambda value: list(points[take(value) - first])


# --- transform -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DatetimeParts(PrefixedTransform):
    """Parts of dates and times, one column each: ``<column>_<part>``. The column itself is left as it is.

    Returns int32 columns, shape (n_rows,); `is_weekend` is bool and `unix_seconds` int64. With `cyclical`, a part that
    comes round becomes two float32 columns, ``<column>_<part>_sin`` and ``<column>_<part>_cos``. Null gives null.
    Nothing is fitted.

    Parameters
    ----------
    columns
        Columns of timestamps, dates, times of day, or, with `format`, texts; dictionary-encoded or not.
    parts
        Any of ``year``, ``quarter``, ``month``, ``week`` (ISO 8601), ``day``, ``day_of_week`` (Monday is 0),
        ``day_of_year``, ``hour``, ``minute``, ``second``, ``is_weekend`` (Saturday and Sunday) and ``unix_seconds``
        (rounded down; a time without a zone counts as UTC). The default fits dates and timestamps.
    cyclical
        Whether parts that come round become sine and cosine, so that December is next to January. The circles have 4
        quarters, 12 months, 53 weeks, 31 days, 7 days of the week, 366 days of the year, 24 hours, 60 minutes, 60
        seconds. ``year``, ``is_weekend`` and ``unix_seconds`` stay as they are.
    format
        How texts are to be read, in strptime's notation: ``%Y %y %m %b %B %d %e %j %H %I %p %M %S %f %z %s %a %A``,
        ``%F %T %D %R`` and ``%%``. Names are English, weekdays are not checked, fractions of a second are dropped. What
        it leaves out is the first: ``%Y-%m`` is the first of the month.
    timezone
        The zone in which the parts of zoned timestamps are taken, such as ``Europe/Berlin``. None: their own, and UTC
        for texts with ``%z`` or ``%s``. A column without a zone is refused, since its clock is not known.
    output
        What the outputs' names begin with instead of the column's name.
    name
        A label for people.

    Raises
    ------
    ParameterError, ParameterTypeError
        For parameters that cannot work.
    ColumnTypeError
        When the schema is known, for a column of another type or without one of the parts.
    BadRows
        On applying, naming the rows whose texts are no such dates, 2023-02-29 among them.

    >>> op = DatetimeParts(["at"], parts=["month", "day_of_week"], format="%Y-%m-%d")
    >>> batch = pa.record_batch({"at": ["2024-02-29", None]})
    >>> op.output_names, [a.to_pylist() for a in op.apply(batch, op.prepare({}, batch.schema))]
    (['at_month', 'at_day_of_week'], [[2, None], [3, None]])
    >>> DatetimeParts(["at"]).output_fields(batch.schema)
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ColumnTypeError: DatetimeParts('at'): the column is string, expected a date \
or a timestamp. Say how to read texts, such as format='%Y-%m-%d'.
    """

    parts: Sequence[str] = field(default=("year", "month", "day", "day_of_week"), kw_only=True)
    cyclical: bool = field(default=False, kw_only=True)
    format: str | None = field(default=None, kw_only=True)
    timezone: str | None = field(default=None, kw_only=True)

    def check(self) -> None:
        names = isinstance(self.parts, Sequence) and not isinstance(self.parts, str)
        if not names or not all(isinstance(p, str) for p in self.parts):
            raise self.wrong("parts", self.parts, "a list of names such as ['year', 'month']", wrong_type=True)
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts:
            raise self.wrong("parts", [], "at least one part")
        for part in self.parts:
            if part not in PARTS:
                raise self.wrong("parts", part, f"some of {', '.join(PARTS)}")
            if self.parts.count(part) > 1:
                raise self.wrong("parts", list(self.parts), f"each part once; remove the repeated {part!r}")
        if not isinstance(self.cyclical, bool):
            raise self.wrong("cyclical", self.cyclical, "true or false", wrong_type=True)
        for name in ("format", "timezone"):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), str):
                raise self.wrong(name, getattr(self, name), "a string or None", wrong_type=True)
        if self.format is not None:
            try:
                TextFormat.compile(self.format)
            except ValueError as error:
                raise self.wrong("format", self.format, str(error)) from error
        if self.timezone is not None:
            try:
                pc.hour(pa.array([0], pa.timestamp("s", self.timezone)))
            except pa.ArrowInvalid as error:
                expected = "a zone such as 'Europe/Berlin', 'UTC' or '+02:00'"
                raise self.wrong("timezone", self.timezone, expected) from error

    @property
    def suffixes(self) -> list[str]:
        return [s for p in self.parts for s in ([f"{p}_sin", f"{p}_cos"] if self._turns(p) else [p])]

    def _turns(self, part: str) -> bool:
        return self.cyclical and part in CYCLES

    def output_types(self, column: pa.Field) -> list[pa.DataType]:
        type_ = value_type(column.type)
        self._check_kind(column, type_)
        whole = {"is_weekend": pa.bool_(), "unix_seconds": pa.int64()}
        return [t for p in self.parts for t in ([pa.float32()] * 2 if self._turns(p) else [whole.get(p, pa.int32())])]

    def _check_kind(self, column: pa.Field, type_: pa.DataType) -> None:
        missing: list[str] = []
        if pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_):
            if self.format is None:
                raise self.wrong_column(
                    column, "a date or a timestamp. Say how to read texts, such as format='%Y-%m-%d'"
                )
            zoned = TextFormat.compile(self.format).zoned
        elif pt.is_timestamp(type_):
            zoned = type_.tz is not None
        elif pt.is_date(type_):
            zoned, missing = False, [p for p in self.parts if p in TIME_PARTS]
        elif pt.is_null(type_):
            zoned = True
        elif pt.is_time(type_):
            zoned, missing = False, [p for p in self.parts if p not in TIME_PARTS]
        else:
            raise self.wrong_column(column, "timestamps, dates, times of day, or texts with a format")
        if missing:
            others = ["hour", "minute"] if pt.is_time(type_) else ["year", "day"]
            left = [p for p in self.parts if p not in missing] or others
            raise self.wrong_column(column, f"a type that has {', '.join(missing)}. Ask for parts={left}")
        if self.timezone is not None and not zoned:
            raise self.wrong_column(
                column,
                f"timestamps with a zone, to be seen in {self.timezone}. Leave timezone out to take the clock as it is",
            )

    def prepare_column(self, state: State | None, column: pa.Field) -> TextFormat | None:
        self._check_kind(column, value_type(column.type))
        return None if self.format is None else TextFormat.compile(self.format)

    def apply_column(self, array: pa.Array, prepared: TextFormat | None) -> list[pa.Array]:
        if not pt.is_dictionary(array.type):
            return self._parts(self._moments(array, array.is_valid(), prepared))
        if len(array.dictionary) > len(array):
            return self.apply_column(array.dictionary_decode(), prepared)
        used = np.zeros(len(array.dictionary), dtype=bool)
        used[array.indices.drop_null().to_numpy(zero_copy_only=False)] = True
        needed = pc.and_(pa.array(used), array.dictionary.is_valid())
        try:
            moments = self._moments(array.dictionary, needed, prepared)
        except BadRows:
            return self.apply_column(array.dictionary_decode(), prepared)
        return [part.take(array.indices) for part in self._parts(moments)]

    def _moments(self, array: pa.Array, needed: pa.Array, format_: TextFormat | None) -> pa.Array:
        """The dates and times of a column, in the zone of their parts; those that are `needed` must be readable."""
        if pt.is_null(array.type):
            return array.cast(pa.timestamp("s"))
        if format_ is not None and not pt.is_temporal(array.type):
            array = parse_datetimes(array, format_)
            bad = pc.and_(needed, array.is_null()).to_numpy(zero_copy_only=False)
            if bad.any():
                raise BadRows(
                    f"the text is no date of the format {self.format!r}", rows=np.flatnonzero(bad).tolist()
                )
        return array if self.timezone is None else array.cast(pa.timestamp(array.type.unit, self.timezone))

    def _parts(self, moments: pa.Array) -> list[pa.Array]:
        zoned = pt.is_timestamp(moments.type) and moments.type.tz is not None
        clock = clock_of(moments) if zoned else moments
        found = []
        for part in self.parts:
            values = part_of(moments if part == "unix_seconds" else clock, part)
            found.extend(on_circle(values, part) if self._turns(part) else [values])
        return found

    def row_function(self, prepared: TextFormat | None, column: pa.Field) -> Callable[[Any], list[Any]] | None:
        type_ = value_type(column.type)
        whole = pt.is_date(type_) or pt.is_time(type_) or (pt.is_timestamp(type_) and type_.tz is None)
        if not whole or getattr(type_, "unit", "s") == "ns":
            return None
        readers = [_row_reader_of(p, self._turns(p)) for p in self.parts]
        nothing = [None] * len(self.suffixes)
        return lambda value: nothing if value is None else [v for read in readers for v in read(value)]

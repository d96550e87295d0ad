"""The profile of a table: what each column held, as plain data.

A profile is small (a few KiB for each column), says nothing of single rows but the most frequent values, and holds
enough of each distribution to be compared with another profile whose values lie elsewhere. It is collected by the
statistics of :mod:`featuremill.core.quality.profiles.profile_stats` and depends on the rows alone, not on how they were
cut.

It is kept as JSON. Reading it back checks every field and runs nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter

from featuremill.artifacts.errors import MissingColumnError, suggest
from featuremill.core.quality.kept_json import from_kept_json

__all__ = [
    "FORMAT_VERSION",
    "QUANTILES",
    "ColumnProfile",
    "Histogram",
    "Kind",
    "Lengths",
    "ListProfile",
    "NumberProfile",
    "Profile",
    "Sketch",
    "TopValue",
]

FORMAT_VERSION = 1
"""The newest format of a profile's JSON that this release writes and reads."""

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""The fractions whose quantiles a profile holds."""

Kind: TypeAlias = Literal["number", "time", "boolean", "text", "binary", "list", "other"]
"""``time`` is dates, timestamps, times of day and durations; ``other`` (structs, maps, nulls) is only counted."""

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Number: TypeAlias = int | float
Scalar: TypeAlias = bool | int | float | str

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class TopValue:
    """One of the most frequent values."""

    value: Scalar
    """Texts beyond 100 characters are cut and end in ``…``; bytes are in hex; times as :meth:`ColumnProfile.shown`."""
    count: Count
    error: Count = 0
    """By how much at most the count is too small; 0: it is exact."""

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class Histogram:
    """Counts for drawing: ``counts[i]`` values from ``edges[i]`` (included) to ``edges[i + 1]`` (the last included).

    The inner edges are evenly spaced between the 1 % and the 99 % quantile; the outermost bins reach out to the
    smallest and the largest value.
    """

    edges: tuple[Number, ...]
    counts: tuple[Count, ...]

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.counts) + bool(self.counts) or any(a > b for a, b in pairwise(self.edges)):
            raise ValueError("a histogram has ascending edges, one more than counts")


@dataclass(frozen=True)
class Sketch:
    """The distribution in about 128 ascending bins of about equal counts, finer in the tails, for drift.

    Bin ``i`` holds ``counts[i]`` values from ``low[i]`` to ``high[i]``, both included; where the two are equal, that
    one value. Values so frequent that they would fill a bin have one of their own.
    """

    low: tuple[Number, ...]
    high: tuple[Number, ...]
    counts: tuple[Count, ...]

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        if not len(self.low) == len(self.high) == len(self.counts):
            raise ValueError("a sketch has as many low as high and counts")
        ordered = [v for pair in zip(self.low, self.high, strict=True) for v in pair]
        if any(a > b for a, b in pairwise(ordered)):
            raise ValueError("the bins of a sketch ascend")


@dataclass(frozen=True)
class NumberProfile:
    """The numbers of a column: finite ones in all but the first two. Times are whole microseconds (see `unit`)."""

    nans: Count
    infinities: Count
    zeros: Count
    negatives: Count
    min: Number | None
    max: Number | None
    mean: float | None
    std: float | None
    """Of the population (divided by n)."""
    quantiles: tuple[tuple[Share, Number], ...]
    """``(fraction, value)`` at :data:`QUANTILES`: the smallest value with at least that share at or below it."""
    rank_error: Share
    """By what share of the values a quantile may be off; 0.0: exact."""
    histogram: Histogram
    sketch: Sketch

    __pydantic_config__ = _STRICT

    def quantile(self, fraction: float) -> Number | None:
        """One of the quantiles; None where there are no values, or it is not one of :data:`QUANTILES`."""
        return dict(self.quantiles).get(fraction)


@dataclass(frozen=True)
class Lengths:
    """How long texts (in characters), bytes (in bytes) or lists (in elements) are; None without any."""

    min: Count | None
    mean: float | None
    max: Count | None
    empty: Count
    """How many are of length 0."""

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class ListProfile:
    """What is in the lists of a column."""

    lengths: Lengths
    elements: ColumnProfile
    """The leaves of all lists as a column of its own; its `rows` are the leaves."""
    norm: tuple[float, float, float] | None = None
    """Smallest, mean and largest Euclidean norm, for fixed-size lists of numbers without null elements."""

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class ColumnProfile:
    """What one column held."""

    name: str
    type: str
    """The Arrow type, without dictionary encoding."""
    kind: Kind
    rows: Count
    nulls: Count
    distinct: Count | None = None
    """How many different values there are, nulls and NaN left out; None where they were not counted."""
    distinct_error: Share = 0.0
    """The relative standard error of `distinct`; 0.0: exact."""
    top: tuple[TopValue, ...] = ()
    """The most frequent values, the most frequent first."""
    complete: bool = False
    """Whether `top` holds every value there is."""
    numbers: NumberProfile | None = None
    lengths: Lengths | None = None
    buckets: tuple[Count, ...] = ()
    """For texts: how many values fall in each of 64 buckets by hash, so that rare values can be compared too."""
    lists: ListProfile | None = None
    oov_rate: Share | None = None
    """The share of values that are not in the vocabulary, where the column goes through one."""

    __pydantic_config__ = _STRICT

    @property
    def null_rate(self) -> float:
        """The share of rows that are null; 0.0 without rows."""
        return self.nulls / self.rows if self.rows else 0.0

    @property
    def values(self) -> int:
        """How many rows are not null."""
        return self.rows - self.nulls

    def shown(self, value: Number) -> str:
        """A number of this column for people: times in ISO 8601, durations in seconds, other numbers in 6 digits.

        >>> ColumnProfile("day", "date32[day]", "time", 1, 0).shown(1_357_084_800_000_000)
        '2013-01-02'
        >>> ColumnProfile("x", "double", "number", 1, 0).shown(1234567.8)
        '1.23457e+06'
        """
        if self.kind != "time":
            return str(value) if isinstance(value, int) else f"{value:.6g}"
        return shown_time(int(value), self.type)


@dataclass(frozen=True)
class Profile:
    """What every column of a table held. :meth:`to_json` and :meth:`from_json` are exact inverses.

    >>> profile = Profile(rows=2, columns=(ColumnProfile("x", "int64", "number", rows=2, nulls=1),))
    >>> Profile.from_json(profile.to_json()) == profile
    True
    >>> Profile.from_json(b'{"rows": "two"}', "profile.json")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ArtifactError: profile.json is no profile: format_version is missing. Make it anew by \
running the job again.
    """

    rows: Count
    columns: tuple[ColumnProfile, ...]
    format_version: int = FORMAT_VERSION

    __pydantic_config__ = _STRICT

    @property
    def names(self) -> list[str]:
        """The names of the columns, in their order."""
        return [c.name for c in self.columns]

    def column(self, name: str) -> ColumnProfile:
        """The profile of one column.

        Raises
        ------
        MissingColumnError
            Naming the columns that look alike.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise MissingColumnError(f"The profile has no column {name!r}. {suggest(name, self.names)}", column=name)

    def with_oov_rates(self, rates: dict[str, float]) -> Profile:
        """The same profile with the out-of-vocabulary rates of some columns, by name."""
        columns = tuple(replace(c, oov_rate=rates.get(c.name, c.oov_rate)) for c in self.columns)
        return replace(self, columns=columns)

    def record(self) -> dict[str, Any]:
        """The profile as JSON-ready data."""
        return asdict(self)

    def to_json(self) -> bytes:
        """The profile as JSON, in one spelling."""
        text = json.dumps(self.record(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8", "backslashreplace")

    @classmethod
    def from_json(cls, data: bytes | str, where: str = "profile.json") -> Profile:
        """The profile from its JSON; `where` names the file in errors.

        Raises
        ------
        ArtifactError
            When it is no profile, or one of a newer format.
        """
        return from_kept_json(_adapter(), data, what="profile", where=where, supported=FORMAT_VERSION)

    @classmethod
    def from_record(cls, record: Any, where: str = "profile.json") -> Profile:
        """The profile from what :meth:`record` gave, as JSON holds it; errors as in :meth:`from_json`."""
        return cls.from_json(json.dumps(record), where)


@cache
def _adapter() -> TypeAdapter[Profile]:
    return TypeAdapter(Profile)



def shown_time(microseconds: int, type_: str) -> str:
    """A time in microseconds for people, by the Arrow type of its column: since 1970, since midnight, or a duration.

    >>> shown_time(90_000_000, "time32[s]"), shown_time(1_500_000, "duration[ms]")
    ('00:01:30', '1.5 s')
    >>> shown_time(0, "timestamp[us, tz=UTC]"), shown_time(0, "timestamp[us]")
    ('1970-01-01T00:00:00Z', '1970-01-01T00:00:00')
    """
    if type_.startswith("duration"):
        return f"{microseconds / 1e6:g} s"
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    except OverflowError:
        return f"{microseconds / 1e6 / 86400 / 365.2425 + 1970:.0f} (year)"
    if type_.startswith("date"):
        return moment.date().isoformat()
    if type_.startswith(("time3", "time6")):
        return moment.time().isoformat()
    return moment.replace(tzinfo=None).isoformat() + ("Z" if "tz=" in type_ else "")

"""Dates and times out of texts, by a format in strptime's notation, a whole column at a time.

The C library's strptime, which Arrow calls, turns 2024-02-31 into the 2nd of March without a word, knows no fractions
of a second and differs between platforms. Here a format becomes one regular expression, and its fields become integers
that are checked: what is no date is no date.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

__all__ = ["DIRECTIVES", "TextFormat", "parse_datetimes"]

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
LONG_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)
DAYS_IN_MONTH = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
CENTURY_PIVOT = 69
"""Two-digit years from here on are of the 20th century, those below of the 21st: POSIX."""

SHORTHANDS = {"F": "%Y-%m-%d", "T": "%H:%M:%S", "D": "%m/%d/%y", "R": "%H:%M", "e": "%d", "h": "%b"}
DIRECTIVES = {
    "Y": r"\d{4}", "y": r"\d{2}", "m": r"\d{1,2}", "d": r" ?\d{1,2}", "j": r"\d{1,3}", "H": r"\d{1,2}", "I": r"\d{1,2}",
    "M": r"\d{1,2}", "S": r"\d{1,2}", "f": r"\d{1,9}", "p": r"(?i:[ap]m)",
    "z": r"Z|[+-]\d{2}:?\d{2}", "s": r"-?\d{1,11}",
    "b": "(?i:" + "|".join(MONTHS) + ")", "B": "(?i:" + "|".join(LONG_MONTHS) + ")",
    "a": "(?i:sun|mon|tue|wed|thu|fri|sat)", "A": "(?i:(?:sun|mon|tues|wednes|thurs|fri|satur)day)",
}
"""What each directive matches; beside these, the shorthands and ``%%``."""


@dataclass(frozen=True)
class TextFormat:
    """A compiled format.

    Parameters
    ----------
    pattern
        The regular expression (RE2), one named group per field, named by its directive.
    fields
        The directives in it.
    """

    pattern: str
    fields: frozenset[str]

    @property
    def zoned(self) -> bool:
        """Whether the texts say which instant they mean (``%z``, ``%s``), rather than a time on some clock."""
        return bool(self.fields & {"z", "s"})

    @classmethod
    def compile(cls, text: str) -> TextFormat:
        """The format written as `text`.

        Raises
        ------
        ValueError
            With what is wrong with it, to be put into a sentence.

        >>> sorted(TextFormat.compile("%F %R").fields)
        ['H', 'M', 'Y', 'd', 'm']
        >>> TextFormat.compile("%Y-%Q")
        Traceback (most recent call last):
        ...
        ValueError: directives that are known \
(%A %B %D %F %H %I %M %R %S %T %Y %a %b %d %e %f %h %j %m %p %s %y %z %%), not '%Q'
        """
        expanded = re.sub("%(.)", lambda m: SHORTHANDS.get(m[1], m[0]), text)
        pattern, fields = "", set()
        for literal, directive in re.findall(r"([^%]+)|%(.|$)", expanded, re.DOTALL):
            if literal or directive == "%":
                pattern += re.escape(literal or "%")
                continue
            if directive not in DIRECTIVES:
                known = " ".join(f"%{d}" for d in [*sorted([*DIRECTIVES, *SHORTHANDS]), "%"])
                raise ValueError(f"directives that are known ({known}), not {'%' + directive!r}")
            if directive in fields:
                raise ValueError(f"each directive once, not '%{directive}' twice")
            fields.add(directive)
            pattern += f"(?P<{directive}>{DIRECTIVES[directive]})"
        _check_complete(fields)
        return cls(rf"\A(?:{pattern})\z", frozenset(fields))


def _check_complete(fields: set[str]) -> None:
    if "s" in fields:
        if fields != {"s"}:
            raise ValueError("'%s' alone, since seconds since 1970 leave nothing to add")
        return
    if not fields & {"Y", "y"}:
        raise ValueError("a year (%Y or %y), or seconds since 1970 (%s)")
    for one, other in ("Yy", "HI", "bB", "mb", "mB", "jm", "jb", "jB", "jd"):
        if one in fields and other in fields:
            raise ValueError(f"either '%{one}' or '%{other}', not both")
    if "d" in fields and not fields & {"m", "b", "B"}:
        raise ValueError("a month (%m or %b) with the day")
    if ("I" in fields) != ("p" in fields):
        raise ValueError("'%I' and '%p' together")


def parse_datetimes(array: pa.Array, format_: TextFormat) -> pa.Array:
    """Texts as timestamp[s], shape (n_rows,), in UTC if the format is zoned; null where a text is null or no such date.

    What the format leaves out is the first: month 1, day 1, hour 0. Fractions of a second are dropped. The second 60 is
    refused.

    >>> parse_datetimes(pa.array(["29/02/2024", "29/02/2023", "x"]), TextFormat.compile("%d/%m/%Y")).to_pylist()
    [datetime.datetime(2024, 2, 29, 0, 0), None, None]
    """
    if not (pt.is_string(array.type) or pt.is_large_string(array.type)):
        array = array.cast(pa.large_string())
    found = pc.extract_regex(array, pattern=format_.pattern)
    valid = found.is_valid().to_numpy(zero_copy_only=False)
    text = {f: pc.fill_null(pc.struct_field(found, f), "") for f in format_.fields}
    seconds, fits = _instants(text, valid)
    return pa.array(seconds, pa.timestamp("s", "UTC" if format_.zoned else None), mask=~(valid & fits))


def _instants(text: dict[str, pa.Array], valid: Bool) -> tuple[Int64, Bool]:
    """Seconds since 1970 from the fields of each text, and whether they are a date and a time that exist."""
    if "s" in text:
        return _integers(text["s"], valid), np.ones(len(valid), dtype=bool)

    def number(field: str, otherwise: int) -> Int64:
        return _integers(text[field], valid) if field in text else np.full(len(valid), otherwise)

    year = number("Y", 0)
    if "y" in text:
        short = number("y", 0)
        year = short + np.where(short >= CENTURY_PIVOT, 1900, 2000)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    days = (year - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    if "j" in text:
        of_year = number("j", 1)
        fits = (of_year >= 1) & (of_year <= 365 + leap)
        days += of_year - 1
    else:
        month = _months(text) if {"b", "B"} & text.keys() else number("m", 1)
        day = number("d", 1)
        fits = (month >= 1) & (month <= 12)
        month = np.where(fits, month, 1)
        fits &= (day >= 1) & (day <= DAYS_IN_MONTH[month - 1] + (leap & (month == 2)))
        months = (year - 1970) * 12 + month - 1
        days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + day - 1
    hour, minute, second = number("H", 0), number("M", 0), number("S", 0)
    if "I" in text:
        twelve = number("I", 12)
        fits &= (twelve >= 1) & (twelve <= 12)
        hour = twelve % 12 + 12 * pc.equal(pc.utf8_lower(text["p"]), "pm").to_numpy(zero_copy_only=False)
    fits &= (hour <= 23) & (minute <= 59) & (second <= 59)
    seconds = days * 86400 + hour * 3600 + minute * 60 + second
    return (seconds - _offsets(text["z"]) if "z" in text else seconds), fits


def _integers(text: pa.Array, valid: Bool) -> Int64:
    """The numbers that matched texts are; 0 where nothing matched."""
    digits = pc.if_else(pa.array(valid), pc.utf8_ltrim_whitespace(text), "0")
    numbers: Int64 = digits.cast(pa.int64()).to_numpy()
    return numbers


def _months(text: dict[str, pa.Array]) -> Int64:
    names = text["b"] if "b" in text else text["B"]
    found = pc.index_in(pc.utf8_slice_codeunits(pc.utf8_lower(names), 0, 3), pa.array(MONTHS, names.type))
    months: Int64 = pc.fill_null(found, 0).to_numpy().astype(np.int64) + 1
    return months


def _offsets(text: pa.Array) -> Int64:
    """Seconds east of UTC for each ``+hhmm``, ``+hh:mm``, ``Z`` or no match; offsets are few, so each is read once."""
    encoded = pc.dictionary_encode(text)
    east = [_seconds_east(t) for t in encoded.dictionary.to_pylist()]
    return np.array(east, dtype=np.int64)[encoded.indices.to_numpy()] if east else np.zeros(0, dtype=np.int64)


def _seconds_east(text: str) -> int:
    if text in ("", "Z"):
        return 0
    digits = text[1:].replace(":", "")
    return (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if text[0] == "-" else 1)

"""Words for values: sizes, durations, counts, numbers and foreign text, as people read them.

Numbers keep as many digits as say something: a mean of 39.210619 is 39.21, a count is never rounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

__all__ = [
    "bytes_text", "count_text", "number_text", "percent_text", "plain_text", "seconds_text", "short_text", "value_text",
]

BYTE_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
MINUTE, HOUR = 60, 3600

SIGNIFICANT = 4
"""Digits of a number that is no count: as many as a reader compares at a glance."""

UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Characters that break a line, turn the direction of the text around them, or cannot be written at all."""


def bytes_text(count: int) -> str:
    """A size for people.

    >>> bytes_text(999), bytes_text(8_300_000)
    ('999 bytes', '8.3 MB')
    """
    size, unit = float(count), 0
    while size >= 999.5 and unit < len(BYTE_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{count:,} bytes" if unit == 0 else f"{size:.3g} {BYTE_UNITS[unit]}"


def seconds_text(seconds: float) -> str:
    """A duration for people.

    >>> seconds_text(0.31), seconds_text(75), seconds_text(7300)
    ('0.31 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"


def count_text(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> count_text(1, "file"), count_text(1200, "row"), count_text(2, "alias", "aliases")
    ('1 file', '1,200 rows', '2 aliases')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def number_text(value: float, digits: int = SIGNIFICANT) -> str:
    """A number for people: whole numbers in full, others with a few significant digits.

    >>> number_text(336776), number_text(39.210619), number_text(-0.00123456), number_text(1048.36)
    ('336,776', '39.21', '-0.001235', '1,048')
    >>> number_text(3.0), number_text(6.02214e23), number_text(1.5e-7), number_text(float("nan"))
    ('3', '6.022e23', '1.5e-7', 'NaN')
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    size = abs(value)
    if isinstance(value, int) or (size < 1e15 and value == int(value)):
        text = f"{int(value):,}"
    elif 1e-4 <= size < 1e15:
        places = max(0, digits - 1 - math.floor(math.log10(size)))
        text = f"{value:,.{places}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return text


def percent_text(share: float | None) -> str:
    """A share of one as a percentage that does not claim to be none, or all, when it is not.

    >>> percent_text(0.0), percent_text(0.00002), percent_text(0.0245), percent_text(0.99999), percent_text(1.0)
    ('0%', '<0.01%', '2.45%', '>99.9%', '100%')
    >>> percent_text(0.4567), percent_text(None)
    ('45.7%', '—')
    """
    if share is None or math.isnan(share):
        return "—"
    if share in (0, 1):
        return f"{share:.0%}"
    if 0 < share < 0.00005:
        return "<0.01%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    places = 2 if abs(share) < 0.1 else 1
    return f"{share * 100:,.{places}f}".rstrip("0").rstrip(".") + "%"


def plain_text(text: Any) -> str:
    r"""A text in which every character can be seen: those that cannot are written as escapes.

    >>> plain_text("two\nlines\x00"), plain_text("\u202eabc")
    ('two\\nlines\\x00', '\\u202eabc')
    """
    return UNSEEN.sub(lambda m: m.group().encode("unicode_escape").decode(), str(text))


def short_text(text: Any, limit: int = 60) -> str:
    """As :func:`plain_text`, with its length in place of what is over the limit.

    >>> short_text("abcdef" * 20, 10)
    'abcdefabcd… (120 characters)'
    """
    whole = str(text)
    return plain_text(whole) if len(whole) <= limit else f"{plain_text(whole[:limit])}… ({len(whole):,} characters)"


def value_text(value: Any, limit: int = 60, *, rounded: bool = False) -> str:
    """One value out of somebody's data, as it can be shown; what would not be seen as it is stands in quotes.

    Numbers keep their digits and get no separators, so that a key can be searched for; a statistic is `rounded`.

    >>> value_text(None), value_text(""), value_text(" x"), value_text(True), value_text(336776), value_text("UA")
    ('null', "''", "' x'", 'true', '336776', 'UA')
    >>> value_text({"min": 1, "of": [1, 2.5]}), value_text(1234.5678, rounded=True), value_text(b"ab")
    ('min: 1, of: [1, 2.5]', '1,235', 'ab')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return number_text(value) if rounded else f"{value:.10g}" if isinstance(value, float) else str(value)
    if isinstance(value, bytes):
        value = value[: 4 * limit].decode("utf-8", "backslashreplace")
    if isinstance(value, datetime | date):
        return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, Mapping):
        items = [f"{plain_text(k)}: {value_text(v, limit, rounded=rounded)}" for k, v in value.items()]
        return short_text(", ".join(items), 4 * limit)
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [value_text(v, limit, rounded=rounded) for v in value[:12]] + (["…"] if len(value) > 12 else [])
        return "[" + ", ".join(items) + "]"
    text = str(value)
    return f"'{short_text(text, limit)}'" if not text or text != text.strip() else short_text(text, limit)

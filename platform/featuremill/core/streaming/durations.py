"""Lengths of time in job files: ``10s``, ``1m30s``, ``500ms``, or a number of seconds."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

__all__ = ["Seconds", "seconds"]

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")


def seconds(value: Any) -> float:
    """A length of time in seconds, above 0.

    >>> seconds("1m30s"), seconds("500 ms"), seconds(2)
    (90.0, 0.5, 2.0)
    >>> seconds("10 sec")
    Traceback (most recent call last):
    ValueError: a length of time is written as 10s, 5m, 1h30m or 500ms, or as a number of seconds; got '10 sec'
    """
    if isinstance(value, str):
        found = PART.findall(value)
        total = math.fsum(float(number) * UNITS[unit] for number, unit in found)
        if not found or PART.sub("", value).strip():
            total = math.nan
    else:
        total = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if math.isnan(total):
        raise ValueError(
            f"a length of time is written as 10s, 5m, 1h30m or 500ms, or as a number of seconds; got {value!r}"
        )
    if not 0 < total < math.inf:
        raise ValueError(f"a length of time must be above 0, got {value!r}")
    return total


Seconds = Annotated[float, BeforeValidator(seconds)]
"""A length of time in a job file, in seconds once it is read."""

"""A first suite and a first schema contract from the profile of a source, for a person to edit.

Every expectation holds for the profiled rows, with a margin where later rows may reach further, and says in its notes
what it was made of. Nothing is proposed where the profile gives no reason: a range of identifiers, say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import ceil, floor, isfinite, log10
from typing import Any

from featuremill.core.quality.profiles.profile import ColumnProfile, Profile
from featuremill.core.quality.schema_contract import ColumnContract, SchemaContract

__all__ = ["suggest_contract", "suggest_suite"]

LEAST_ROWS = 30
"""From fewer rows nothing is concluded but the columns."""

MOST_IN_SET = 30
"""Texts of at most so many different values are taken for categories."""

ROWS_PER_VALUE = 20
"""And each value of a category must stand for so many rows on average."""

MARGIN = 0.25
"""How much of its range a column of numbers may go beyond it."""

NOTABLE_NULLS = 0.5
"""A column of up to this share of nulls is expected to stay about as full; others may be empty."""

Expectation = dict[str, Any]

_KEY = re.compile(r"(^|_)(id|key|uuid|guid)$|Id$|ID$", re.ASCII)


def suggest_suite(profile: Profile, *, name: str) -> dict[str, Any]:
    """A suite in the JSON form of Great Expectations 1.x, with a reason in the notes of each expectation.

    Parameters
    ----------
    profile
        Of the source.
    name
        Of the suite.

    >>> column = ColumnProfile("origin", "string", "text", rows=100, nulls=0)
    >>> [e["type"] for e in suggest_suite(Profile(100, (column,)), name="flights")["expectations"]]
    ['expect_table_row_count_to_be_between', 'expect_table_columns_to_match_set', 'expect_column_values_to_not_be_null']
    """
    expectations = list(_of_table(profile))
    if profile.rows >= LEAST_ROWS:
        for column in profile.columns:
            expectations += _of_column(column)
    return {
        "name": name,
        "expectations": expectations,
        "meta": {"notes": _notes(f"Proposed from a profile of {profile.rows:,} rows, and knows no others: edit it.")},
    }


def suggest_contract(profile: Profile) -> SchemaContract:
    """The contract that the profiled source keeps: its columns, and as not nullable those without a null.

    >>> column = ColumnProfile("id", "int64", "number", rows=100, nulls=0)
    >>> suggest_contract(Profile(100, (column,))).columns[0].nullable
    False
    """
    columns = [
        ColumnContract(name=c.name, type=c.type, nullable=c.nulls > 0 or c.rows < LEAST_ROWS)
        for c in profile.columns
    ]
    return SchemaContract(columns=columns, new_columns="evolve")


def _expect(type_: str, reason: str, severity: str = "critical", **kwargs: Any) -> Expectation:
    return {"type": type_, "kwargs": kwargs, "severity": severity, "meta": {"notes": _notes(reason)}}


def _notes(text: str) -> dict[str, Any]:
    return {"format": "markdown", "content": [text]}


def _of_table(profile: Profile) -> Iterator[Expectation]:
    yield _expect(
        "expect_table_row_count_to_be_between",
        f"There were {profile.rows:,} rows; half to twice as many are let in.",
        "warning", min_value=profile.rows // 2, max_value=max(2 * profile.rows, 1),
    )
    if profile.columns:
        yield _expect(
            "expect_table_columns_to_match_set", "These columns were there; more are let in.",
            column_set=profile.names, exact_match=False,
        )


def _of_column(column: ColumnProfile) -> Iterator[Expectation]:
    yield from _nulls(column)
    if not column.values:
        return
    key = _key(column)
    if key is not None:
        yield key
        return
    if column.kind == "text":
        yield from _texts(column)
    elif column.kind == "number":
        yield from _numbers(column)


def _nulls(column: ColumnProfile) -> Iterator[Expectation]:
    if not column.nulls:
        yield _expect(
            "expect_column_values_to_not_be_null", f"None of {column.rows:,} values was null.", column=column.name
        )
    elif column.null_rate <= NOTABLE_NULLS:
        # Half as many nulls again, and one in a hundred in any case.
        mostly = floor((1 - min(1.5 * column.null_rate + 0.01, 1.0)) * 100) / 100
        yield _expect(
            "expect_column_values_to_not_be_null",
            f"{column.null_rate:.2%} of {column.rows:,} values were null; half as many again are let in.",
            "warning", column=column.name, mostly=mostly,
        )


def _key(column: ColumnProfile) -> Expectation | None:
    """That values are unique, where every row has one of its own; where that is estimated, for what is called a key."""
    whole = column.kind == "text" or column.type.removeprefix("u").startswith("int")
    if column.nulls or not whole or column.distinct is None:
        return None
    if not column.distinct_error:
        if column.distinct < column.rows:
            return None
        reason, severity = f"No value came twice in {column.rows:,} rows: it looks like a key.", "critical"
    else:
        near = abs(column.distinct - column.rows) <= 3 * column.distinct_error * column.rows
        if not (near and _KEY.search(column.name)):
            return None
        reason = f"It is called a key, and has about {column.distinct:,} different values in {column.rows:,} rows."
        severity = "warning"
    return _expect("expect_column_values_to_be_unique", reason, severity, column=column.name)


def _texts(column: ColumnProfile) -> Iterator[Expectation]:
    distinct = column.distinct or 0
    cut = any(str(t.value).endswith("…") for t in column.top)
    if column.complete and not cut and distinct <= MOST_IN_SET and distinct * ROWS_PER_VALUE <= column.values:
        yield _expect(
            "expect_column_values_to_be_in_set", f"Only these {distinct} values were there.",
            column=column.name, value_set=sorted(str(t.value) for t in column.top),
        )
        return
    lengths = column.lengths
    if lengths is None or lengths.min is None or lengths.max is None:
        return
    if lengths.min == lengths.max:
        yield _expect(
            "expect_column_value_lengths_to_equal", f"All texts were of {lengths.min} characters.",
            "warning", column=column.name, value=lengths.min,
        )
    else:
        yield _expect(
            "expect_column_value_lengths_to_be_between",
            f"Texts were of {lengths.min} to {lengths.max} characters; twice the length is let in.",
            "warning", column=column.name, min_value=min(lengths.min, 1), max_value=2 * lengths.max,
        )


def _numbers(column: ColumnProfile) -> Iterator[Expectation]:
    numbers = column.numbers
    if numbers is None or numbers.min is None or numbers.max is None or numbers.infinities:
        return
    low, high = numbers.min, numbers.max
    spread = high - low
    if not isfinite(spread):
        return
    whole = isinstance(low, int)
    least = _rounded(low - MARGIN * spread, spread, floor, whole)
    most = _rounded(high + MARGIN * spread, spread, ceil, whole)
    if low >= 0:
        # What was never negative is mostly a count, a size or a share.
        least = 0 if whole else 0.0
    if high <= 1 and low >= 0 and not whole:
        most = 1.0
    yield _expect(
        "expect_column_values_to_be_between",
        f"Values were from {low:.6g} to {high:.6g}; the bounds leave a margin of a quarter of that range.",
        column=column.name, min_value=least, max_value=most,
    )


def _rounded(value: float, spread: float, to: Any, whole: bool) -> int | float:
    """Outwards to two digits of the spread."""
    if not spread:
        return int(to(value)) if whole else value
    step = 10.0 ** (floor(log10(spread)) - 1)
    step = max(step, 1.0) if whole else step
    rounded = to(value / step) * step
    return round(rounded) if whole else float(f"{rounded:.12g}")

"""What is said of a column: the chart that fits it, its numbers, and those of the reference beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featuremill.core.quality.profiles.profile import ColumnProfile
from featuremill.core.quality.reports.report_columns import (
    chart,
    charted,
    column_facts,
    nothing_drawn,
    quantile_rows,
    top_rows,
)
from support.reports import profile_of


def column(values: Any, type_: pa.DataType | None = None) -> ColumnProfile:
    return profile_of(pa.table({"x": pa.array(values, type_)})).columns[0]


MANY = np.random.default_rng(1).normal(100, 5, 3_000)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (column(MANY), "histogram"),
        (column([1, 2, 2, None]), "bars"),
        (column([True, False, None]), "bars"),
        (column(["a", "b", "a"]), "bars"),
        (column(list(range(1_000)), pa.date32()), "histogram"),
        (column([[1.0, 2.0], [3.0]]), "bars"),
        (column([MANY[:50].tolist()] * 3), "histogram"),
        (column([f"key {i}" for i in range(100)]), ""),
        (column([None, None], pa.string()), ""),
        (column([None], pa.float64()), ""),
        (column([float("nan")] * 3), ""),
        (column([], pa.int64()), ""),
        (column([{"a": 1}]), ""),
    ],
)
def test_each_column_has_the_chart_that_fits_it(found: ColumnProfile, kind: str) -> None:
    drawn = chart(found)
    assert drawn.startswith(f'<svg class="chart {kind}"') if kind else drawn == ""
    assert bool(nothing_drawn(found))


def facts(*columns: ColumnProfile) -> dict[str, tuple[str, str]]:
    return {f.name: (f.value, f.was) for f in column_facts(*columns)}


def test_numbers_stand_beside_those_of_the_reference() -> None:
    found = facts(column([1.0, 2.0, 6.0, None]), column([1.0, 1.0, -2.0, 0.0]))
    assert found["nulls"] == ("25%", "0%")
    assert (found["mean"], found["median"], found["max"]) == (("3", "0"), ("2", "0"), ("6", "1"))
    assert (found["zeros"], found["negative"]) == (("0%", "25%"), ("0%", "25%"))


def test_what_says_nothing_is_left_out() -> None:
    assert facts(column([1.0, 2.0])).keys() == {"nulls", "different values", "mean", "std", "min", "median", "max"}
    assert facts(column([float("nan"), 0.0]))["NaN"] == ("50%", "")


def test_times_are_told_as_times() -> None:
    found = facts(column([0, 86_400 * 365], pa.timestamp("s", "UTC")))
    assert (found["earliest"][0], found["latest"][0]) == ("1970-01-01", "1971-01-01")
    assert "mean" not in found


def test_a_reference_of_another_kind_is_not_compared() -> None:
    other = column(["a", "b"])
    assert {was for _, was in facts(column(MANY), other).values()} == {""}
    assert 'class="ref"' not in chart(column(MANY), other)
    assert quantile_rows(column(MANY), other)[0] == ["", "this run"]


def test_a_value_that_vanished_has_its_mark() -> None:
    drawn = chart(column(["a", "a", "b"]), column(["c", "a"]))
    assert [text for text in ("a", "b", "c") if f">{text}<" in drawn] == ["a", "b", "c"]
    assert drawn.count("ref mark") == 3


def test_years_and_keys_keep_their_digits() -> None:
    years = column([2012, 2013, 2013, *range(1990, 2005)])
    assert ["2013", "2", "11.1%"] in top_rows(years)
    assert facts(years)["max"][0] == "2013"


def test_the_most_frequent_values_are_not_told_twice() -> None:
    assert charted(column(["a", "b", "a"]))
    assert not charted(column([*range(40), 1]))

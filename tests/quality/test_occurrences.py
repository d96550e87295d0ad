"""Repeating rows are found exactly, whatever is cut, counted together, settled and merged on the way."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.core.feature_recipe import FRAGMENT, ROW
from featuremill.core.quality.statistics import occurrences
from featuremill.core.quality.statistics.collector import Collector
from featuremill.core.quality.statistics.domain import Domain
from featuremill.core.quality.statistics.occurrences import Occurrences
from featuremill.core.quality.statistics.samples import sample_schema
from featuremill.transforms.combining import pack
from quality.gx_metrics import cut

VALUES = st.lists(st.one_of(st.none(), st.integers(-3, 30)), max_size=120)


def statistic(table: pa.Table, columns: list[str], keep: int, ignore: str = "never") -> Occurrences:
    return Occurrences(columns[0], Domain(tuple(columns), ignore), keep, sample_schema(table.schema, columns))


def partials(analyzer: Occurrences, table: pa.Table, cuts: list[int], fragments: int) -> list[pa.Table]:
    found = []
    for batches in cut(table, cuts, fragments):
        collector = Collector({"x": analyzer})
        for batch in batches:
            collector.update(batch)
        found.append(collector.partials()["x"])
    return found


@settings(max_examples=40, deadline=None)
@given(VALUES, st.lists(st.integers(0, 200), max_size=5), st.integers(1, 3), st.integers(0, 4), st.integers(1, 5))
def test_rows_that_repeat_others_are_counted_and_the_first_kept(
    values: list[int | None], cuts: list[int], fragments: int, keep: int, shards: int
) -> None:
    table = pa.table({"x": pa.array(values, pa.int64())})
    analyzer = statistic(table, ["x"], keep, "any")
    parts = partials(analyzer, table, cuts, fragments)
    pieces = zip(*(analyzer.split(part, shards) for part in parts), strict=True)
    settled = [analyzer.trim(analyzer.merge(list(piece))) for piece in pieces]
    state = analyzer.finish(analyzer.merge(settled))
    often = Counter(v for v in values if v is not None)
    repeating = [v for v in values if v is not None and often[v] > 1]
    row = state.to_pylist()[0]
    assert (row["rows"], row["failing"]) == (sum(often.values()), len(repeating))
    assert [s["x"] for s in row["sample"]] == repeating[:keep]
    whole = analyzer.finish(analyzer.merge([analyzer.merge(parts[:1]), *parts[1:][::-1]]))
    assert pack(whole) == pack(state)


def test_workers_count_frequent_values_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occurrences, "COMPACT_ROWS", 50)
    table = pa.table({"x": pa.array([k % 3 for k in range(1000)])})
    analyzer = statistic(table, ["x"], 4)
    (part,) = partials(analyzer, table, list(range(0, 1000, 10)), 1)
    assert part.num_rows < 100
    row = analyzer.finish(part).to_pylist()[0]
    assert (row["rows"], row["failing"]) == (1000, 1000)
    assert [s[ROW] for s in row["sample"]] == [0, 1, 2, 3]


def test_equal_hashes_are_not_taken_for_equal_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occurrences, "hash_values", lambda array: pa.array([7] * len(array), pa.uint64()).to_numpy())
    table = pa.table({"x": ["a", "b", "a", "c"], "y": [1, 1, 2, 1]})
    assert (
        statistic(table, ["x"], 5)
        .finish(partials(statistic(table, ["x"], 5), table, [2], 1)[0])
        .to_pylist()[0]["failing"]
        == 2
    )
    both = statistic(table, ["x", "y"], 5)
    assert both.finish(both.merge(partials(both, table, [2], 2))).to_pylist()[0]["failing"] == 0


def test_a_missing_value_equals_a_missing_value() -> None:
    table = pa.table({"x": [1.0, None, float("nan"), -0.0, 0.0], "t": pa.array(["a", None, None, "b", "b"])})
    both = statistic(table, ["x", "t"], 5)
    row = both.finish(both.merge(partials(both, table, [2], 2))).to_pylist()[0]
    assert [s[FRAGMENT] + str(s[ROW]) for s in row["sample"]] == ["part-0001", "part-0010", "part-0011", "part-0012"]
    assert row["failing"] == 4

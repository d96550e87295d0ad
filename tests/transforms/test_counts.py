"""Counts of values: against collections.Counter, and the same bytes however the rows were cut."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError
from featuremill.transforms import counts as module
from featuremill.transforms.counts import Counts
from featuremill.transforms.text_split import text_splitter
from support.fitting import table_bytes

TYPED: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.string(), st.text("ab\né", max_size=3)),
    (pa.large_string(), st.text("ab", max_size=2)),
    (pa.binary(), st.binary(max_size=1)),
    (pa.int32(), st.integers(-3, 3)),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.dates(dt.date(2020, 1, 1), dt.date(2020, 1, 3))),
    (pa.float64(), st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf")])),
    (pa.list_(pa.string()), st.lists(st.none() | st.text("ab", max_size=2), max_size=3)),
]


def partial_of(analyzer: Counts, arrays: list[pa.Array]) -> pa.Table:
    tally = analyzer.accumulator()
    for array in arrays:
        tally.update(array)
    return analyzer.merge([tally.partial()])


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def leaves_of(values: list[Any]) -> list[Any]:
    return [leaf for v in values for leaf in (leaves_of(v) if isinstance(v, list) else [v]) if leaf is not None]


def cuts(array: pa.Array, data: st.DataObject) -> list[pa.Array]:
    """The array in slices, some of them dictionary-encoded on their own."""
    points = sorted(data.draw(st.lists(st.integers(0, len(array)), max_size=4)))
    pieces = [array.slice(a, b - a) for a, b in zip([0, *points], [*points, len(array)], strict=True)]
    if pa.types.is_list(array.type):
        return pieces
    return [p.dictionary_encode() if data.draw(st.booleans()) else p for p in pieces]


@pytest.mark.parametrize(("type_", "values"), TYPED, ids=lambda p: str(p) if isinstance(p, pa.DataType) else "")
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_cut_and_any_grouping_gives_the_same_bytes(
    type_: pa.DataType, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.none() | values, max_size=30))
    array, analyzer = pa.array(rows, type_), Counts("x")
    whole = analyzer.finish(partial_of(analyzer, [array]))
    expected = Counter(leaf + 0.0 if isinstance(leaf, float) else leaf for leaf in leaves_of(rows) if not is_nan(leaf))
    assert dict(zip(whole["token"].to_pylist(), whole["count"].to_pylist(), strict=True)) == expected
    assert whole["token"].to_pylist() == sorted(expected)
    assert whole.schema.field("token").type == (type_.value_type if pa.types.is_list(type_) else type_)

    pieces = cuts(array, data)
    together = partial_of(analyzer, pieces)
    apart = data.draw(st.permutations([partial_of(analyzer, [piece]) for piece in pieces]))
    nested = analyzer.merge([analyzer.merge(apart[:2]), *apart[2:]])
    merged = [together, analyzer.merge(apart), nested, analyzer.merge([whole])]
    assert {table_bytes(analyzer.finish(m)) for m in merged} == {table_bytes(whole)}


@settings(deadline=None)
@given(st.lists(st.text("ab", max_size=3)), st.integers(1, 5))
def test_shards_hold_each_token_once_and_always_in_the_same_one(values: list[str], shards: int) -> None:
    analyzer, half = Counts("x"), len(values) // 2
    whole = partial_of(analyzer, [pa.array(values, pa.string())])
    halves = [partial_of(analyzer, [pa.array(v, pa.string())]) for v in (values[:half], values[half:])]
    pieces = [analyzer.split(h, shards) for h in halves]
    assert all(len(p) == shards for p in pieces)
    merged = [analyzer.merge(list(same)) for same in zip(*pieces, strict=True)]
    tokens = [t for m in merged for t in m["token"].to_pylist()]
    assert len(tokens) == len(set(tokens))
    assert table_bytes(analyzer.finish(analyzer.merge(merged))) == table_bytes(analyzer.finish(whole))


@settings(deadline=None)
@given(st.lists(st.none() | st.text("ab ,", max_size=8), max_size=12))
def test_split_texts_count_by_their_tokens(values: list[str | None]) -> None:
    analyzer = Counts("x", " ,")
    expected = Counter(token for v in values if v is not None for token in text_splitter(" ,")(v))
    array = pa.array(values, pa.string())
    for batches in ([array], [array.dictionary_encode()], [array.slice(0, 3), array.slice(3).dictionary_encode()]):
        table = partial_of(analyzer, batches)
        assert dict(zip(table["token"].to_pylist(), table["count"].to_pylist(), strict=True)) == expected


def test_piles_are_added_up_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [pa.array([f"{i}", "common", f"{i + 1}"]) for i in range(0, 60, 2)]
    expected = partial_of(Counts("x"), batches)
    monkeypatch.setattr(module, "COMPACT_ROWS", 5)
    tally: Any = Counts("x").accumulator()
    for batch in batches:
        tally.update(batch)
        assert sum(t.num_rows for t in tally._tables) <= 5 + 2 * 61 + 3  # bounded by the distinct values
    assert table_bytes(Counts("x").finish(tally.partial())) == table_bytes(Counts("x").finish(expected))


def test_partials_can_be_asked_for_in_between() -> None:
    analyzer = Counts("x")
    tally = analyzer.accumulator()
    array = pa.array(["a", "b", "a"]).dictionary_encode()
    tally.update(array)
    assert analyzer.finish(tally.partial())["count"].to_pylist() == [2, 1]
    tally.update(array)
    assert analyzer.finish(tally.partial())["count"].to_pylist() == [4, 2]


def test_dictionaries_with_repeats_nulls_and_unused_values() -> None:
    indices = pa.array([0, 2, 1, None, 2, 0], pa.int8())
    array = pa.DictionaryArray.from_arrays(indices, pa.array(["a", None, "a", "never"]))
    assert partial_of(Counts("x"), [array]).to_pydict() == {"token": ["a"], "count": [4]}


def test_few_rows_of_a_large_dictionary() -> None:
    dictionary = pa.array([f"{i:04d}" for i in range(1000)])
    batches = [pa.DictionaryArray.from_arrays(pa.array([i, 7, None], pa.int32()), dictionary) for i in (7, 900)]
    assert partial_of(Counts("x"), batches).to_pydict() == {"token": ["0007", "0900"], "count": [3, 1]}


def test_no_rows_no_values_and_no_type() -> None:
    analyzer = Counts("x")
    nothing, untyped = partial_of(analyzer, []), partial_of(analyzer, [pa.nulls(3)])
    typed = partial_of(analyzer, [pa.array([None], pa.string())])
    some = partial_of(analyzer, [pa.array(["a"])])
    assert table_bytes(analyzer.merge([nothing, untyped])) == table_bytes(nothing)
    assert typed.schema.field("token").type == pa.string()
    for order in ([nothing, typed, some], [some, untyped, nothing]):
        assert table_bytes(analyzer.merge(order)) == table_bytes(some)
    assert [p.num_rows for p in analyzer.split(nothing, 3)] == [0, 0, 0]


def test_what_cannot_be_counted() -> None:
    with pytest.raises(ColumnTypeError, match=r"Values of struct<a: int64> cannot be counted"):
        partial_of(Counts("x"), [pa.array([{"a": 1}])])
    with pytest.raises(ColumnTypeError, match="Only texts can be split"):
        partial_of(Counts("x", " "), [pa.array([1])])

"""The statistics of a profile against direct computations on all rows, and in any cut."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ArtifactError, ParameterError
from featuremill.core.quality.profiles.number_stats import MAX_BINS
from featuremill.core.quality.profiles.profile import QUANTILES, ColumnProfile, Profile, TopValue
from featuremill.core.quality.profiles.profile_stats import ColumnSummary, profile_of, profile_statistics
from featuremill.core.quality.profiles.text_stats import EXACT


def state(array: pa.Array, cuts: tuple[int, ...] = (), *, batches: int = 1) -> pa.Table:
    """The state of an array cut at some places, in parts of some batches each."""
    summary = ColumnSummary("x", array.type)
    ends = sorted({0, len(array), *(min(c, len(array)) for c in cuts)})
    pieces = [array.slice(a, b - a) for a, b in itertools.pairwise(ends)]
    partials = []
    for start in range(0, max(len(pieces), 1), batches):
        accumulator = summary.accumulator()
        for piece in pieces[start : start + batches]:
            accumulator.update(piece)
        partials.append(accumulator.partial())
    while len(partials) > 1:
        partials = [*partials[2:], summary.merge(partials[:2])]
    return summary.finish(partials[0])


def profile(array: pa.Array, cuts: tuple[int, ...] = (), *, batches: int = 1) -> ColumnProfile:
    return ColumnSummary("x", array.type).profile(state(array, cuts, batches=batches))


def same_bytes(one: pa.Table, other: pa.Table) -> bool:
    def ipc(table: pa.Table) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        return sink.getvalue().to_pybytes()

    return ipc(one) == ipc(other)


RNG = np.random.default_rng(5)
LONG = {
    "normal": RNG.standard_normal(30_000),
    "lognormal": np.floor(RNG.lognormal(5, 2.3, 30_000)),
    "far away": 1e9 + RNG.random(30_000),
    "few": RNG.integers(0, 50, 30_000).astype(float),
    "float32": RNG.standard_normal(30_000).astype(np.float32),
    "whole": RNG.integers(-(2**40), 2**40, 30_000),
    "indices": RNG.zipf(1.3, 30_000).clip(0, 500_000).astype(np.int64),
    "huge": RNG.integers(-(2**63), 2**63 - 1, 30_000),
    "small ints": RNG.integers(0, 120, 30_000).astype(np.int8),
}


@pytest.mark.parametrize("name", LONG)
def test_numbers_agree_with_numpy(name: str) -> None:
    values = LONG[name]
    found = profile(pa.array(values), (7_000, 19_000))
    numbers = found.numbers
    assert numbers is not None
    exact = [int(v) if v.dtype.kind == "i" else float(v) for v in (values.min(), values.max())]
    assert [numbers.min, numbers.max] == exact
    assert numbers.mean == pytest.approx(float(np.mean(values.astype(float))), rel=1e-9, abs=1e-9)
    assert numbers.std == pytest.approx(float(np.std(values.astype(float))), rel=1e-9)
    assert (numbers.zeros, numbers.negatives) == (int((values == 0).sum()), int((values < 0).sum()))
    distinct = len(np.unique(values))
    assert found.distinct_error == (0.0 if distinct <= MAX_BINS else pytest.approx(0.022, abs=0.001))
    assert found.distinct == pytest.approx(distinct, rel=5 * found.distinct_error, abs=0)
    assert sum(numbers.histogram.counts) == sum(numbers.sketch.counts) == len(values)
    ordered = np.sort(values)
    for fraction, value in numbers.quantiles:
        if distinct <= MAX_BINS:
            assert value == ordered[math.ceil(fraction * len(values)) - 1]
        low, high = np.searchsorted(ordered, value, "left"), np.searchsorted(ordered, value, "right")
        assert low / len(values) - numbers.rank_error <= fraction <= high / len(values) + numbers.rank_error + 1e-4
    assert [fraction for fraction, _ in numbers.quantiles] == list(QUANTILES)
    assert numbers.rank_error < 0.02


@pytest.mark.parametrize("name", LONG)
def test_the_histogram_agrees_with_numpy(name: str) -> None:
    values = LONG[name]
    histogram = profile(pa.array(values)).numbers.histogram  # type: ignore[union-attr]
    direct = np.histogram(values.astype(float), np.array(histogram.edges, float))[0]
    assert np.abs(np.cumsum(direct) - np.cumsum(histogram.counts)).max() <= 0.01 * len(values)


@pytest.mark.parametrize("name", LONG)
def test_long_numbers_in_any_cut(name: str) -> None:
    array = pa.array(LONG[name])
    whole = state(array)
    many = tuple(range(0, 30_000, 999))
    for cuts, batches in (((1, 5_000, 20_000), 1), ((9_000, 9_001, 15_000, 29_999), 2), (many, 5)):
        assert same_bytes(whole, state(array, cuts, batches=batches))


FLOATS = st.one_of(st.none(), st.floats(width=64), st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324]))
VALUES: dict[Any, Any] = {
    pa.float64(): FLOATS,
    pa.float32(): st.one_of(st.none(), st.floats(width=32)),
    pa.int64(): st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    pa.uint64(): st.one_of(st.none(), st.integers(0, 2**64 - 1)),
    pa.bool_(): st.one_of(st.none(), st.booleans()),
    pa.string(): st.one_of(st.none(), st.sampled_from(["", "a", "ä", "日本"]), st.text(max_size=5)),
    pa.binary(): st.one_of(st.none(), st.binary(max_size=3)),
    pa.date32(): st.one_of(st.none(), st.dates()),
    pa.timestamp("ns"): st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    pa.timestamp("s", "UTC"): st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    pa.decimal128(20, 3): st.one_of(st.none(), st.decimals(-1000, 1000, places=3)),
    pa.list_(pa.int32()): st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=3)),
    pa.list_(pa.float32(), 2): st.one_of(st.none(), st.lists(st.floats(width=32), min_size=2, max_size=2)),
    pa.list_(pa.list_(pa.string())): st.lists(st.lists(st.text(max_size=2), max_size=2), max_size=2),
    pa.struct([("a", pa.int64())]): st.one_of(st.none(), st.fixed_dictionaries({"a": st.integers(0, 5)})),
    pa.null(): st.none(),
}


@pytest.mark.parametrize("type_", VALUES, ids=str)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_cut_of_any_type_gives_the_same_bytes(type_: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(st.lists(VALUES[type_], max_size=30))
    array = pa.array(values, type_)
    cuts = data.draw(st.lists(st.integers(0, 30), max_size=6))
    whole = state(array)
    assert same_bytes(whole, state(array, tuple(cuts), batches=data.draw(st.integers(1, 3))))
    found = ColumnSummary("x", type_).profile(whole)
    assert (found.rows, found.nulls) == (len(array), array.null_count)
    again = Profile(len(array), (found,))
    assert Profile.from_json(again.to_json()) == again


@given(st.lists(FLOATS, max_size=40))
@settings(max_examples=60, deadline=None)
def test_counts_of_special_numbers(values: list[float | None]) -> None:
    numbers = profile(pa.array(values, pa.float64())).numbers
    assert numbers is not None
    there = [v for v in values if v is not None]
    finite = [v for v in there if math.isfinite(v)]
    assert numbers.nans == sum(math.isnan(v) for v in there)
    assert numbers.infinities == sum(math.isinf(v) for v in there)
    assert (numbers.zeros, numbers.negatives) == (sum(v == 0 for v in finite), sum(v < 0 for v in finite))
    assert (numbers.min, numbers.max) == ((min(finite), max(finite)) if finite else (None, None))
    if finite:
        ordered = sorted(finite)
        assert numbers.quantile(0.5) == ordered[math.ceil(len(ordered) / 2) - 1]


def tokens(count: int, rows: int, seed: int = 0) -> pa.Array:
    ranks = np.random.default_rng(seed).zipf(1.2, rows) % count
    words = np.array([f"w{i}" for i in range(count)], object)
    return pa.array(words[ranks], pa.string())


@pytest.mark.parametrize("encoded", [False, True])
def test_texts_agree_with_direct_counts(encoded: bool) -> None:
    array = tokens(5_000, 40_000)
    counts = {v["values"]: v["counts"] for v in array.value_counts().to_pylist()}
    found = profile(array.dictionary_encode() if encoded else array, (10_000, 11_000))
    assert (found.distinct, found.distinct_error, found.complete) == (len(counts), 0.0, False)
    expected = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: len(found.top)]
    assert [(t.value, t.count, t.error) for t in found.top] == [(v, n, 0) for v, n in expected]
    lengths = [len(v) for v in array.to_pylist()]
    assert found.lengths is not None
    assert (found.lengths.min, found.lengths.max, found.lengths.empty) == (min(lengths), max(lengths), 0)
    assert found.lengths.mean == pytest.approx(np.mean(lengths))
    assert sum(found.buckets) == 40_000


def test_beyond_the_exact_texts_the_frequent_ones_are_known() -> None:
    rare = [f"r{i}" for i in range(3 * EXACT)]
    frequent = [word for word, n in (("a", 3_000), ("b", 1_500), ("c", 700)) for _ in range(n)]
    values = np.array(rare + frequent, object)
    np.random.default_rng(1).shuffle(values)
    array = pa.array(values, pa.string())
    found = profile(array)
    assert found.top == (TopValue("a", 3_000), TopValue("b", 1_500), TopValue("c", 700))
    assert not found.complete
    assert found.distinct == pytest.approx(3 * EXACT + 3, rel=4 * found.distinct_error)
    assert 0.0 < found.distinct_error < 0.03
    for cuts in ((20_000, 40_000), tuple(range(0, len(array), 7_001))):
        assert profile(array, cuts).top == found.top
    by_group = pa.concat_arrays([array.slice(i, 26_000) for i in range(0, len(array), 26_000)])
    assert profile(by_group.dictionary_encode(), (30_000,)) == found


def test_a_count_that_parts_forgot_has_its_error() -> None:
    """"x" is frequent in the first half and appears once in the second, where it is forgotten."""
    first = ["x"] * 600 + [f"r{i}" for i in range(2 * EXACT)]
    second = ["x"] + [f"s{i}" for i in range(2 * EXACT)] + [f"s{i}" for i in range(9_000)]
    found = profile(pa.array(first + second), (len(first),))
    (top,) = (t for t in found.top if t.value == "x")
    assert top.count <= 601 <= top.count + top.error


def test_nulls_inside_a_dictionary_and_unused_values() -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 2, 0], pa.int8()), pa.array(["a", None, "", "unused"]))
    found = profile(array)
    assert (found.nulls, found.distinct, found.complete) == (2, 2, True)
    assert found.top == (TopValue("a", 2), TopValue("", 1))
    assert found.lengths is not None
    assert found.lengths.empty == 1


def test_times_lists_vectors_and_others() -> None:
    day = profile(pa.array([dt.date(2013, 1, 2), dt.date(2013, 3, 4), None]))
    assert day.numbers is not None
    assert day.shown(day.numbers.max) == "2013-03-04"  # type: ignore[arg-type]
    assert (day.kind, day.top[0].value) == ("time", "2013-01-02")
    moment = profile(pa.array([dt.datetime(2013, 1, 2, 3, 4, 5)], pa.timestamp("ns", "UTC")))
    assert moment.shown(moment.numbers.min) == "2013-01-02T03:04:05Z"  # type: ignore[union-attr, arg-type]

    listed = profile(pa.array([[1, None], [], None, [2, 2, 3]])).lists
    assert listed is not None
    assert (listed.lengths.min, listed.lengths.mean, listed.lengths.max, listed.lengths.empty) == (0, 5 / 3, 3, 1)
    assert (listed.elements.rows, listed.elements.nulls, listed.elements.distinct) == (5, 1, 3)

    vectors = profile(pa.array([[3.0, 4.0], None, [0.0, 2.0], [None, 1.0]], pa.list_(pa.float64(), 2))).lists
    assert vectors is not None
    assert vectors.norm == (2.0, 3.5, 5.0)
    assert (vectors.elements.rows, vectors.elements.nulls) == (6, 1)

    struct = profile(pa.array([{"a": 1}, None]))
    assert (struct.kind, struct.rows, struct.nulls, struct.numbers) == ("other", 2, 1, None)
    truth = profile(pa.array([True, False, True]))
    assert truth.top == (TopValue(True, 2), TopValue(False, 1))
    price = profile(pa.array([Decimal("1.50"), Decimal("2.50")])).numbers
    assert price is not None
    assert (price.mean, price.min) == (2.0, 1.5)


def test_long_texts_are_cut_and_bytes_are_hex() -> None:
    assert profile(pa.array(["é" * 300])).top == (TopValue("é" * 99 + "…", 1),)
    assert profile(pa.array([b"\x00\xff"])).top == (TopValue("00ff", 1),)


def test_no_rows_at_all() -> None:
    schema = pa.schema([("n", pa.float64()), ("s", pa.string()), ("l", pa.list_(pa.int8())), ("d", pa.date32())])
    statistics = profile_statistics(schema)
    states = {name: a.finish(a.accumulator().partial()) for name, a in statistics.items()}
    empty = profile_of(schema, states, 0)
    assert [(c.rows, c.nulls, c.top) for c in empty.columns] == [(0, 0, ())] * 4
    assert Profile.from_json(empty.to_json()) == empty
    with pytest.raises(ParameterError, match="no state of the column 's'"):
        profile_of(schema, {"n": states["n"]}, 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.update(format_version=9), "format 9, this featuremill reads up to format 1"),
        (lambda r: r.pop("rows"), "rows: Field required"),
        (lambda r: r["columns"][0].update(nulls=-1), "columns.0.nulls"),
        (lambda r: r["columns"][0].update(extra=1), "columns.0.extra"),
        (lambda r: r["columns"][0].update(rows="3"), "columns.0.rows"),
        (lambda r: r["columns"][0]["numbers"]["sketch"]["low"].reverse(), "the bins of a sketch ascend"),
        (lambda r: r["columns"][0]["numbers"]["histogram"]["edges"].pop(), "ascending edges"),
        (lambda r: r["columns"][0]["numbers"].update(mean=math.nan), "columns.0.numbers.mean"),
    ],
)
def test_a_corrupted_profile_is_one_clear_error(change: Any, told: str) -> None:
    record = json.loads(Profile(3, (profile(pa.array([1.5, 2.5, 3.5])),)).to_json())
    change(record)
    with pytest.raises(ArtifactError, match=told) as raised:
        Profile.from_json(json.dumps(record), "a/profile.json")
    assert str(raised.value).startswith("a/profile.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"{" * 100_000, b"null"])
def test_what_is_no_profile_at_all(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="is no profile"):
        Profile.from_json(data)

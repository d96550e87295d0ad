"""Small whole numbers, counted in a vector, against direct counts."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuremill.core.quality.profiles.number_stats import NumberTally
from featuremill.core.quality.profiles.slots import numbers_of
from featuremill.core.quality.profiles.small_numbers import LIMIT, SmallNumbers, whole_of

EDGES = [0, 1, -1, LIMIT - 1, LIMIT, -LIMIT, -LIMIT - 1, 1 << 62]


@given(
    st.lists(st.lists(st.one_of(st.integers(-50, 50), st.sampled_from(EDGES)), min_size=1, max_size=60), max_size=4),
    st.sampled_from([np.int64, np.float64, np.float32]),
)
def test_what_is_counted_and_what_is_left_are_all_values(batches: list[list[int]], kind: type) -> None:
    small, found, expected = SmallNumbers(), Counter[float](), Counter[float]()
    for batch in batches:
        values = np.array(batch, kind)
        rest, nulls = small.add(values, 0, values.min().item(), values.max().item())
        assert nulls == 0
        found.update(rest.tolist())
        expected.update(values.tolist())
    numbers, counts = small.taken()
    assert (np.diff(numbers) > 0).all()
    found.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
    assert found == expected
    assert not len(small.taken()[0])


def test_the_vector_grows_at_both_ends() -> None:
    small = SmallNumbers()
    for value in (5, -2_000, 100_000, -2_001):
        rest, _ = small.add(np.full(10, value), 0, value, value)
        assert not len(rest)
    assert [v.tolist() for v in small.taken()] == [[-2_001, -2_000, 5, 100_000], [10] * 4]


def test_a_few_strays_are_left_and_many_are_too_many() -> None:
    few = np.repeat([3.0, 1e300], [30_000, 1_000])
    small = SmallNumbers()
    assert small.add(few, 0, 3.0, 1e300)[0].tolist() == [1e300] * 1_000
    assert [v.tolist() for v in small.taken()] == [[3], [30_000]]
    many = np.repeat([3.0, 1e300], 15_000)
    rest, nulls = small.add(many, 2, 3.0, 1e300)
    assert (rest.tolist(), nulls) == (many.tolist(), 2)


def test_what_is_not_whole() -> None:
    assert whole_of(np.array([1.0] * 100 + [0.5])) is None
    assert whole_of(np.array([1e300])) is None
    assert whole_of(np.array([2.0**62])).tolist() == [1 << 62]  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64])
def test_what_lies_under_nulls_does_not_count(kind: type) -> None:
    values = np.array([7, 3, 7, 0, 9] * 3_000, kind)
    under = np.array([np.nan, np.inf, 5, -1, 2] * 3_000) if kind is not np.int64 else np.full(15_000, -(2**63))
    null = np.arange(15_000) % 4 == 1
    data = np.where(null, under, values).astype(kind)
    mask = np.packbits(~null, bitorder="little").tobytes()
    array = pa.Array.from_buffers(pa.from_numpy_dtype(kind), 15_000, [pa.py_buffer(mask), pa.py_buffer(data.tobytes())])
    for piece, kept in ((array, values[~null]), (array.slice(1_001, 9_000), values[1_001:10_001][~null[1_001:10_001]])):
        tally = NumberTally(whole=kind is np.int64)
        tally.update(*numbers_of(piece))
        assert tally.nulls == len(piece) - len(kept)
        assert tally.ends == (kept.min(), kept.max())
        assert tally.zeros == np.count_nonzero(kept == 0)
        assert dict(tally.most_frequent(9)[0]) == Counter(kept.tolist())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3])
def test_numbers_with_a_long_tail_and_parts_of_a_unit(share: float) -> None:
    """Whole numbers come first, so that the way of counting changes under way."""
    rng = np.random.default_rng(3)
    values = np.floor(rng.lognormal(3, 3, 60_000))
    values[30_000:][rng.random(30_000) < share] += 0.25
    states = []
    for cuts in ((0, 60_000), (0, 100, 30_000, 45_000, 60_000), tuple(range(0, 60_001, 12_000))):
        whole = NumberTally(whole=False)
        for start, end in itertools.pairwise(cuts):
            tally = NumberTally(whole=False)
            for piece in np.array_split(values[start:end], 2):
                tally.update(piece)
            whole.absorb(tally.table())
        states.append(whole.table())
        profile = whole.profile()
        assert (profile.min, profile.max) == (values.min(), values.max())
        assert profile.mean == pytest.approx(values.mean())
        assert profile.std == pytest.approx(values.std())
        assert sum(profile.sketch.counts) == len(values)
    assert states[0].equals(states[1])
    assert states[0].equals(states[2])

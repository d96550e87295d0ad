"""Exact sums against Python's fractions, for values of every size and in any order."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from featuremill.transforms.exact import exact_sums, from_bytes, mean, to_bytes, variance

finite = st.floats(allow_nan=False, allow_infinity=False)
vectors = arrays(np.float64, st.integers(0, 40), elements=finite)


def by_fractions(values: np.ndarray) -> tuple[int, int]:
    numbers = [Fraction(float(v)) for v in values]
    total, squares = sum(numbers, Fraction(0)) * 2**1074, sum((n * n for n in numbers), Fraction(0)) * 2**2148
    assert total.denominator == squares.denominator == 1
    return int(total), int(squares)


@given(vectors)
def test_sums_are_those_of_fractions(values: np.ndarray) -> None:
    before = values.copy()
    assert exact_sums(values) == by_fractions(values)
    assert np.array_equal(values, before)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=20_000),
        np.random.default_rng(1).integers(-9, 9, 10_000).astype(float),
        10.0 ** np.random.default_rng(2).uniform(-307, 308, 3_000),
        np.full(9_000, np.finfo(float).max),
        np.full(9_000, -5e-324),
        np.full(9_000, np.nextafter(np.finfo(float).tiny, 0)),
        np.array([2.0**450, np.nextafter(2.0**450, 0), 2.0**-350, 2.0**-351, 5e-324, -np.finfo(float).max]),
        np.array([1e300, 1e-300, 1.0, -1e300]),
    ],
    ids=["normal", "integers", "all exponents", "largest", "smallest", "subnormal", "limits", "cancelling"],
)
def test_sums_of_long_and_extreme_vectors(values: np.ndarray) -> None:
    assert exact_sums(values) == by_fractions(values)


@given(vectors, st.randoms(use_true_random=False))
def test_any_order_and_any_cut_give_the_same_sums(values: np.ndarray, random: object) -> None:
    shuffled = values.tolist()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    half = len(shuffled) // 2
    parts = [exact_sums(np.array(shuffled[:half])), exact_sums(np.array(shuffled[half:]))]
    assert (parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]) == exact_sums(values)


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e150, 1e150)))
def test_mean_and_variance_are_correctly_rounded(values: np.ndarray) -> None:
    numbers = [Fraction(float(v)) for v in values]
    centre = sum(numbers, Fraction(0)) / len(numbers)
    total, squares = exact_sums(values)
    assert mean(total, len(values)) == float(centre)
    assert variance(total, squares, len(values)) == float(sum((n - centre) ** 2 for n in numbers) / len(numbers))


def test_no_values_have_no_mean() -> None:
    assert mean(0, 0) is None
    assert variance(0, 0, 0) is None


def test_a_variance_beyond_float64_is_infinite() -> None:
    values = np.array([1e300, -1e300])
    assert variance(*exact_sums(values), 2) == np.inf


@given(st.integers())
def test_whole_numbers_survive_as_bytes(number: int) -> None:
    assert from_bytes(to_bytes(number)) == number

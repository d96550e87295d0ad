"""Words for values: as many digits as say something, and no character that cannot be seen."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featuremill.core.words import UNSEEN, number_text, percent_text, plain_text, short_text, value_text


@given(st.floats(-1e300, 1e300))
def test_a_number_keeps_four_digits(value: float) -> None:
    back = float(number_text(value).replace(",", ""))
    assert back == value or math.isclose(back, value, rel_tol=5.1e-4)


@given(st.integers())
def test_a_count_is_never_rounded(value: int) -> None:
    assert int(number_text(value).replace(",", "")) == value


@given(st.floats(0, 1))
def test_none_and_all_mean_none_and_all(share: float) -> None:
    text = percent_text(share)
    assert (text == "0%") == (share == 0) and (text == "100%") == (share == 1)


@given(st.text(st.characters()))
def test_every_character_can_be_seen_and_written(text: str) -> None:
    for shown in (plain_text(text), short_text(text, 5), value_text(text)):
        assert not UNSEEN.search(shown) and shown.encode("utf-8") is not None
    assert plain_text(plain_text(text)) == plain_text(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(math.nan, "NaN"), (math.inf, "∞"), (-math.inf, "-∞"), (0.0, "0"), (-0.0, "0"), (0.99999, "1"), (1e300, "1e300")],
)
def test_odd_numbers(value: float, text: str) -> None:
    assert number_text(value) == text


def test_samples_keep_their_digits() -> None:
    assert [value_text(v) for v in (1234567, 2013.0, 0.1, 12345.678901)] == ["1234567", "2013", "0.1", "12345.6789"]

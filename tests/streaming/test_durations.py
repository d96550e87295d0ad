"""Lengths of time in job files."""

from __future__ import annotations

from typing import Any

import pytest

from featuremill.core.streaming.durations import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10s", 10), ("1h30m", 5400), ("0.5s", 0.5), ("250ms", 0.25), ("2 d", 172800), (3, 3.0), (0.1, 0.1)],
)
def test_lengths_of_time(text: Any, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "s", "10", "10 seconds", "-5s", "1s x", True, None, float("nan")])
def test_what_is_no_length_of_time(text: Any) -> None:
    with pytest.raises(ValueError, match="a length of time is written as 10s"):
        seconds(text)


@pytest.mark.parametrize("value", ["0s", 0, -1, float("inf")])
def test_none_that_is_empty_or_endless(value: Any) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        seconds(value)

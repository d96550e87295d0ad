"""Regular expressions mean what they mean in Python, whichever engine runs them."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ParameterError
from featuremill.core.quality.statistics.conditions import MatchesRegex
from featuremill.core.quality.statistics.patterns import PLAIN_REGEX, found_in, matches_like

PIECES = [
    *["a", "B", "1", " ", "_", "-", ".", r"\.", "^", "$", "|", "[a-c]", "[^0-9]", r"\d", r"\W", r"\w", r"\s", r"\b"],
    *["(", ")", "(?:", "?", "*", "+", "{2}", "{1,}", "{,2}", "[[:alpha:]]", "[]a]", "[a&&b]", r"[\d-]", "é", "(?i)"],
    *["(?=a)", r"\Z", "a??"],
]
TEXTS = st.text(alphabet="aAbB1 2_-.\n\té[]:x{,", max_size=8)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # Python's, of sets within sets
@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), st.lists(st.one_of(st.none(), TEXTS), max_size=8))
def test_expressions_are_found_where_python_finds_them(pattern: str, texts: list[str | None]) -> None:
    try:
        search = re.compile(pattern).search
    except re.error:
        with pytest.raises(ParameterError, match="no regular expression"):
            found_in(pa.array(texts, pa.string()), pattern)
        return
    expected = [None if t is None else search(t) is not None for t in texts]
    assert found_in(pa.array(texts, pa.string()), pattern).to_pylist() == expected
    padded = pa.array(["x", *texts, "é"], pa.large_string()).slice(1, len(texts))
    assert found_in(padded, pattern).to_pylist() == expected


@pytest.mark.parametrize(
    "pattern", ["^N[0-9]{3}[A-Z]{0,2}$", r"^\d+(?:\.\d+)?$", "[a-z0-9_.-]+@example", "^(AA|DL|UA)$"]
)
def test_everyday_expressions_take_the_quick_engine(pattern: str) -> None:
    assert PLAIN_REGEX.fullmatch(pattern)


@pytest.mark.parametrize("pattern", [r"\bx", "(?i)x", "[[:alpha:]]", "x{,2}", "é", r"\s", "(?=x)", r"(a)\1"])
def test_what_the_engines_read_differently_stays_with_python(pattern: str) -> None:
    assert not PLAIN_REGEX.fullmatch(pattern)


def test_encoded_and_plain_columns_agree() -> None:
    texts = pa.array(["N12", "n1", None, "é1"] * 2000)
    condition = MatchesRegex(("^[Nn]", "1"), every=True)
    found = [condition.holds([a]).to_pylist() for a in (texts, texts.dictionary_encode(), texts.slice(0, 4))]
    assert found[0] == found[1] == [True, True, None, False] * 2000
    assert found[2] == [True, True, None, False]


def test_a_backslash_is_itself_in_a_like_pattern() -> None:
    assert matches_like(pa.array(["a\\b", "ab"]), "a\\b").to_pylist() == [True, False]
    assert matches_like(pa.array(["a%", "a\\x"]), "a\\%", "\\").to_pylist() == [True, False]
    with pytest.raises(ParameterError, match="write it twice"):
        matches_like(pa.array(["a"]), "a!", "!")
    with pytest.raises(ParameterError, match="one character"):
        matches_like(pa.array(["a"]), "a", "!!")

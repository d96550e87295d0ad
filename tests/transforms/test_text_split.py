"""Texts cut into tokens: against a plain Python reading of the rule."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError
from featuremill.transforms.text_split import split_text, text_splitter

ALPHABET = "ab ,;é→x"
texts = st.lists(st.none() | st.text(ALPHABET, max_size=12), max_size=12)
delimiter_strings = st.text(ALPHABET, max_size=3)


def tokens_of(text: str, delimiters: str) -> list[str]:
    """The rule, a character at a time."""
    found = [""]
    for character in text:
        if character in delimiters:
            found.append("")
        else:
            found[-1] += character
    return [token for token in found if token]


@settings(deadline=None)
@given(texts, delimiter_strings, st.sampled_from([pa.string(), pa.large_string(), pa.string_view()]))
def test_every_layout_follows_the_rule(values: list[str | None], delimiters: str, type_: pa.DataType) -> None:
    expected = [None if v is None else tokens_of(v, delimiters) for v in values]
    result = split_text(pa.array(values, type_), delimiters)
    result.validate(full=True)
    assert result.type == pa.list_(pa.string())
    assert result.to_pylist() == expected


@settings(deadline=None)
@given(texts, delimiter_strings)
def test_one_text_equals_the_column(values: list[str | None], delimiters: str) -> None:
    split = text_splitter(delimiters)
    one_by_one = [None if v is None else split(v) for v in values]
    assert split_text(pa.array(values, pa.string()), delimiters).to_pylist() == one_by_one


@settings(deadline=None)
@given(texts, delimiter_strings)
def test_a_dictionary_and_a_slice_change_nothing(values: list[str | None], delimiters: str) -> None:
    plain = pa.array(values, pa.string())
    expected = split_text(plain, delimiters)
    assert split_text(plain.dictionary_encode(), delimiters).equals(expected)
    assert split_text(plain.slice(1), delimiters).equals(expected.slice(1))


@settings(deadline=None)
@given(st.lists(st.none() | st.lists(st.none() | st.text(ALPHABET, max_size=6), max_size=4), max_size=6))
def test_tokens_of_a_list_follow_one_another(values: list[list[str | None] | None]) -> None:
    expected = [None if v is None else [t for s in v for t in tokens_of(s or "", " ,")] for v in values]
    result = split_text(pa.array(values, pa.list_(pa.string())), " ,")
    result.validate(full=True)
    assert result.to_pylist() == expected


def test_text_hidden_under_a_null_makes_no_token() -> None:
    bits, offsets, data = (
        pa.py_buffer(b"\x05"),
        pa.array([0, 2, 6, 8], pa.int32()).buffers()[1],
        pa.py_buffer(b"a hid bb"),
    )
    array = pa.StringArray.from_buffers(3, offsets, data, bits)
    result = split_text(array, " ")
    assert result.to_pylist() == [["a"], None, ["bb"]]
    assert result.values.to_pylist() == ["a", "bb"]


def test_nothing_in_nothing_out() -> None:
    for empty in (pa.array([], pa.string()), pa.array([], pa.list_(pa.string())), pa.nulls(0)):
        assert split_text(empty, " ").equals(pa.array([], pa.list_(pa.string())))
    assert split_text(pa.nulls(2), " ").to_pylist() == [None, None]


def test_numbers_cannot_be_split() -> None:
    with pytest.raises(ColumnTypeError, match="Only texts can be split at delimiters, got a column of int64"):
        split_text(pa.array([1]), " ")

"""Functions of values over columns: any encoding gives the same, and a remembered dictionary is never a wrong one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.transforms.per_value import SAMPLE, PerValue, same_values, without_views


def lengths_of(values: pa.Array) -> npt.NDArray[np.int64]:
    return np.array([len(v or "") for v in values.to_pylist()], np.int64)


@settings(deadline=None)
@given(st.lists(st.lists(st.none() | st.text("ab", max_size=4), max_size=9), max_size=5), st.data())
def test_batches_of_any_encoding(batches: list[list[str | None]], data: st.DataObject) -> None:
    per_value = PerValue(lengths_of)
    for values in batches:
        array = pa.array(values, pa.string())
        if data.draw(st.booleans()):
            array = array.dictionary_encode()
        elif data.draw(st.booleans()):
            array = array.cast(pa.string_view())
        expected = [None if v is None else len(v) for v in values]
        assert per_value.arrow(array, pa.int64()).to_pylist() == expected


@pytest.mark.parametrize("distinct", [3, 10 * SAMPLE])
def test_long_columns_with_few_and_with_many_values(distinct: int) -> None:
    values = [None if i % 11 == 0 else "x" * (i % 7) + str(i % distinct) for i in range(5 * SAMPLE)]
    expected = [None if v is None else len(v) for v in values]
    assert PerValue(lengths_of).arrow(pa.array(values), pa.int64()).to_pylist() == expected


def test_a_dictionary_is_computed_once() -> None:
    asked = []

    def function(values: pa.Array) -> npt.NDArray[np.int64]:
        asked.append(values.to_pylist())
        return lengths_of(values)

    per_value, array = PerValue(function), pa.array(["a", "bb", "a", "bb"]).dictionary_encode()
    for part in (array, array.slice(1), pa.array(["a", "bb", None]).dictionary_encode()):
        per_value.arrow(part, pa.int64())
    assert asked == [["a", "bb"]]
    per_value.arrow(pa.array(["a", "bbb"]).dictionary_encode(), pa.int64())
    assert asked[1:] == [["a", "bbb"]]


def test_same_values() -> None:
    array = pa.array(["a", "b", "a", "b"])
    assert same_values(array, array)
    assert same_values(array.slice(0, 2), array.slice(2, 2))
    assert not same_values(array.slice(0, 2), array.slice(1, 2))
    assert not same_values(array, array.cast(pa.large_string()))


def test_views_inside_a_dictionary() -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["a", "b"], pa.string_view()))
    plain = without_views(array)
    assert plain.type.value_type == pa.string()
    assert plain.to_pylist() == ["a", "b", "a"]


def test_threads_do_not_drive_out_each_others_dictionary() -> None:
    calls = []

    def counted(values: pa.Array) -> npt.NDArray[np.int64]:
        calls.append(len(values))
        return lengths_of(values)

    per_value = PerValue(counted)
    turns = Barrier(2)

    def batches(texts: list[str]) -> list[list[int]]:
        array = pa.array(texts).dictionary_encode()
        found = []
        for _ in range(3):
            turns.wait()
            found.append(per_value.arrow(array, pa.int64()).to_pylist())
        return found

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(batches, [["a", "bb"], ["ccc", "d"]]))
    assert results == [[[1, 2]] * 3, [[3, 1]] * 3]
    assert calls == [2, 2]

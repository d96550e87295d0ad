"""The hash index of a vocabulary: against a dict, by either of its paths, and with hashes that collide."""

from __future__ import annotations

import datetime as dt
import threading
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError, ParameterError
from featuremill.transforms import token_index as module
from featuremill.transforms.token_index import TokenIndex, hash_values

TYPED = [
    (pa.string(), st.text("abé\n", max_size=5)),
    (pa.large_string(), st.text("abé", max_size=5)),
    (pa.string_view(), st.text("abé", max_size=20)),
    (pa.binary(), st.binary(max_size=3)),
    (pa.binary(2), st.binary(min_size=2, max_size=2)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)),
    (pa.uint8(), st.integers(0, 9)),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.dates(dt.date(2020, 1, 1), dt.date(2020, 1, 9))),
    (pa.timestamp("us"), st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 2))),
    (pa.decimal128(6, 2), st.integers(-99, 99).map(lambda n: Decimal(n) / 100)),
    (pa.float64(), st.floats(allow_nan=False) | st.sampled_from([0.0, 1.5])),
]


class Probing(TokenIndex):
    """Never takes Arrow's kernel."""

    def _arrow_wins(self, values: int) -> bool:
        return False


class Colliding(Probing):
    """Three different hashes for everything, so that every comparison has to be made."""

    def _hash(self, values: pa.Array) -> npt.NDArray[np.uint64]:
        return super()._hash(values) % np.uint64(3)

    def _is_one_to_one(self) -> bool:
        return False


@pytest.mark.parametrize("kind", [TokenIndex, Probing, Colliding])
@pytest.mark.parametrize(("type_", "values"), TYPED, ids=lambda p: str(p) if isinstance(p, pa.DataType) else "")
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_type_equals_a_dict(kind: type[TokenIndex], type_: pa.DataType, values: Any, data: st.DataObject) -> None:
    tokens = data.draw(st.lists(values, unique=True, max_size=20))
    asked = data.draw(st.lists(st.none() | values | (st.sampled_from(tokens) if tokens else st.none()), max_size=20))
    positions = {token: i for i, token in enumerate(tokens)}
    expected = [-1 if v is None else positions.get(v, -1) for v in asked]
    index = kind(pa.array(tokens, type_))
    found = index.lookup(pa.array(asked, type_))
    assert found.dtype == np.int64
    assert found.tolist() == expected
    assert index.lookup(pa.array([None, *asked], type_).slice(1)).tolist() == expected


@pytest.mark.parametrize("kind", [TokenIndex, Probing])
@settings(deadline=None)
@given(data=st.data())
def test_short_texts_and_those_that_fill_a_word(kind: type[TokenIndex], data: st.DataObject) -> None:
    sizes = data.draw(st.sampled_from([(8, 8), (0, 7), (7, 9), (0, 20)]))
    texts = st.binary(min_size=sizes[0], max_size=sizes[1]) | st.sampled_from([b"a" * n for n in sizes])
    tokens = data.draw(st.lists(texts, unique=True, min_size=1, max_size=20))
    # What is asked for has other lengths too, and shares beginnings and trailing zeros with the tokens.
    near = st.sampled_from(tokens).flatmap(lambda t: st.sampled_from([t, t[:-1], t + b"\0", t + bytes([len(t)])]))
    asked = data.draw(st.lists(st.none() | near | st.binary(max_size=10), max_size=20))
    expected = [tokens.index(v) if v in tokens else -1 for v in asked]
    index = kind(pa.array(tokens, pa.binary()))
    assert index.lookup(pa.array(asked, pa.binary())).tolist() == expected
    assert index.lookup(pa.array([b"x", *asked, b"y"], pa.large_binary()).slice(1, len(asked))).tolist() == expected


@settings(deadline=None)
@given(st.lists(st.text(max_size=4), unique=True, max_size=9), st.lists(st.none() | st.text(max_size=4), max_size=9))
def test_texts_match_in_any_layout(tokens: list[str], asked: list[str | None]) -> None:
    layouts = [pa.string(), pa.large_string(), pa.string_view(), pa.binary()]
    expected = TokenIndex(pa.array(tokens, pa.string())).lookup(pa.array(asked, pa.string())).tolist()
    for of in layouts:
        for kind in (TokenIndex, Probing):
            index = kind(pa.array(tokens, pa.string()).cast(of))
            for layout in layouts:
                assert index.lookup(pa.array(asked, pa.string()).cast(layout)).tolist() == expected
            assert index.lookup(pa.array(asked, pa.string()).dictionary_encode()).tolist() == expected


def test_integers_of_any_width_match_by_value() -> None:
    for kind in (TokenIndex, Probing):
        assert kind(pa.array([5, -1], pa.int8())).lookup(pa.array([5, 261, 255, -1, None])).tolist() == [
            0,
            -1,
            -1,
            1,
            -1,
        ]
        unsigned = kind(pa.array([2**64 - 1, 7], pa.uint64()))
        assert unsigned.lookup(pa.array([-1, 7])).tolist() == [-1, 1]
        assert kind(pa.array([-1, 7])).lookup(pa.array([2**64 - 1, 7], pa.uint64())).tolist() == [-1, 1]


@pytest.mark.parametrize("kind", [TokenIndex, Probing])
def test_zeros_are_one_value_and_nan_is_none(kind: type[TokenIndex]) -> None:
    index = kind(pa.array([-0.0, 2.0]))
    assert index.lookup(pa.array([0.0, -0.0, float("nan"), 2.0], pa.float64())).tolist() == [0, 0, -1, 1]


def test_both_paths_agree_on_a_large_vocabulary() -> None:
    tokens = pa.array([f"token {i}" for i in range(20_000)])
    asked = pa.array([f"token {i}" for i in range(15_000, 25_000)])
    expected = [*range(15_000, 20_000), *[-1] * 5_000]
    assert TokenIndex(tokens).lookup(asked).tolist() == Probing(tokens).lookup(asked).tolist() == expected
    few = asked.slice(4_998, 4)
    assert len(tokens) > module.ARROW_ALWAYS + module.ARROW_PER_VALUE * len(few)
    assert TokenIndex(tokens).lookup(few).tolist() == [19_998, 19_999, -1, -1]


def test_threads_share_an_index() -> None:
    tokens = pa.array(range(0, 60_000, 3))
    index, wrong = TokenIndex(tokens), []

    def ask(start: int) -> None:
        asked = pa.array(range(start, start + 3_000))
        expected = [v // 3 if v % 3 == 0 and v < 60_000 else -1 for v in asked.to_pylist()]
        if index.lookup(asked).tolist() != expected:
            wrong.append(start)

    threads = [threading.Thread(target=ask, args=(i * 7_000,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_hashes_do_not_depend_on_the_cut_or_the_encoding() -> None:
    array = pa.array([Decimal("1.25"), None, Decimal("-3.50"), Decimal("1.25")], pa.decimal128(9, 2))
    hashes = hash_values(array)
    assert hashes[0] == hashes[3] != hashes[2]
    assert hash_values(array.slice(2)).tolist() == hashes[2:].tolist()
    ints = pa.array([7, 9, 7])
    assert hash_values(ints.dictionary_encode()).tolist() == hash_values(ints).tolist()
    assert hash_values(ints.cast(pa.int8())).tolist() == hash_values(ints).tolist()


@pytest.mark.parametrize("tokens", [pa.array(["a", "b", "a"]), pa.array([1, 1])])
def test_a_token_comes_once(tokens: pa.Array) -> None:
    with pytest.raises(ParameterError, match="comes twice"):
        TokenIndex(tokens)


def test_wrong_tokens_and_values() -> None:
    with pytest.raises(ParameterError, match="cannot be null"):
        TokenIndex(pa.array(["a", None]))
    with pytest.raises(ColumnTypeError, match="cannot be tokens"):
        TokenIndex(pa.array([[1]]))
    with pytest.raises(ColumnTypeError, match="holds string, it cannot look up int64"):
        TokenIndex(pa.array(["1"])).lookup(pa.array([1]))

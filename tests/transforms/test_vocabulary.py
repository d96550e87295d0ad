"""ComputeAndApplyVocabulary: against the stock op, a plain Python reading of the rule, and itself row by row."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError, JobError, ParameterError, ParameterTypeError
from featuremill.transforms.fingerprint import fingerprint64_of
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary, Vocabulary
from support.fitting import apply, apply_rows, fit, table_bytes
from support.stock import run_stock, stock_ops

TYPED: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.string(), st.text("ab\né", max_size=3)),
    (pa.large_string(), st.text("ab", max_size=2)),
    (pa.string_view(), st.text("ab", max_size=2)),
    (pa.binary(), st.binary(max_size=1)),
    (pa.int16(), st.integers(-3, 3)),
    (pa.uint64(), st.integers(2**64 - 3, 2**64 - 1)),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.dates(dt.date(2020, 1, 1), dt.date(2020, 1, 4))),
    (pa.timestamp("ns", "UTC"), st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 2))),
    (pa.list_(pa.string()), st.lists(st.none() | st.text("ab", max_size=2), max_size=3)),
    (pa.list_(pa.int64(), 2), st.lists(st.integers(0, 3), min_size=2, max_size=2)),
    (pa.large_list(pa.list_(pa.bool_())), st.lists(st.lists(st.booleans(), max_size=2), max_size=2)),
]
by_type = pytest.mark.parametrize(
    ("type_", "values"), TYPED, ids=lambda p: str(p) if isinstance(p, pa.DataType) else ""
)


def batch_of(array: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([array], ["x"])


def leaves_of(values: list[Any]) -> list[Any]:
    return [leaf for v in values for leaf in (leaves_of(v) if isinstance(v, list) else [v]) if leaf is not None]


def vocabulary_of(leaves: list[Any], threshold: int, top_k: int | None) -> list[Any]:
    counts = Counter(leaves)
    kept = [t for t in counts if counts[t] >= threshold]
    return sorted(kept, key=lambda t: (counts[t], t.encode() if isinstance(t, str) else t), reverse=True)[:top_k]


def looked_up(value: Any, ids: dict[Any, int]) -> Any:
    if isinstance(value, list):
        return [looked_up(v, ids) for v in value]
    return None if value is None else ids.get(value, -7)


@by_type
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_type_follows_the_rule(type_: pa.DataType, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.none() | values, max_size=25))
    top_k, threshold = data.draw(st.none() | st.integers(1, 4)), data.draw(st.none() | st.integers(0, 2))
    op = ComputeAndApplyVocabulary(["x"], default_value=-7, top_k=top_k, frequency_threshold=threshold)
    batch = batch_of(pa.array(rows, type_))
    rows = batch["x"].to_pylist()
    expected = vocabulary_of(leaves_of(rows), threshold or 0, top_k)
    if leaves_of(rows) and not expected:
        with pytest.raises(JobError, match="vocabulary of 'x' is empty: frequency_threshold is 2"):
            fit(op, [batch])
        return
    states = fit(op, [batch])
    assert states["x"]["token"].to_pylist() == expected
    ids = {token: i for i, token in enumerate(expected)}
    made = apply(op, batch, states)["x"]
    assert made.to_pylist() == [looked_up(v, ids) for v in rows]


@by_type
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_rows_equal_batches(type_: pa.DataType, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    op = ComputeAndApplyVocabulary(["x"], top_k=2, num_oov_buckets=data.draw(st.sampled_from([0, 3])))
    batch = batch_of(pa.array(data.draw(st.lists(st.none() | values, max_size=12)), type_))
    states = fit(op, [batch])
    assert apply_rows(op, batch, states) == [{"x": v} for v in apply(op, batch, states)["x"].to_pylist()]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.none() | st.text("abcé", max_size=2), max_size=40),
    st.none() | st.integers(1, 4),
    st.none() | st.integers(0, 2),
    st.integers(1, 4),
    st.data(),
)
def test_trimmed_shards_in_any_order_give_the_same_bytes(
    values: list[str | None], top_k: int | None, threshold: int | None, shards: int, data: st.DataObject
) -> None:
    analyzer = Vocabulary("x", top_k=top_k, frequency_threshold=threshold)
    points = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=3)))
    partials = []
    for a, b in zip([0, *points], [*points, len(values)], strict=True):
        tally = analyzer.accumulator()
        tally.update(pa.array(values[a:b], pa.string()))
        partials.append(tally.partial())
    pieces = [analyzer.split(p, shards) for p in data.draw(st.permutations(partials))]
    trimmed = [analyzer.trim(analyzer.merge(list(same))) for same in zip(*pieces, strict=True)]

    def finished(partial: pa.Table) -> bytes | str:
        try:
            return table_bytes(analyzer.finish(partial))
        except JobError as error:
            return str(error)

    assert finished(analyzer.merge(data.draw(st.permutations(trimmed)))) == finished(analyzer.merge(partials))
    if top_k is not None:
        assert all(t.num_rows <= top_k for t in trimmed)


@settings(deadline=None)
@given(
    st.lists(st.none() | st.text("ab ,", max_size=8), max_size=12),
    st.sampled_from([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]),
)
def test_split_texts(values: list[str | None], type_: pa.DataType) -> None:
    op = ComputeAndApplyVocabulary(["x"], " ,", top_k=3)
    batch = batch_of(pa.array(values, type_))
    states = fit(op, [batch])
    tokens = [None if v is None else v.replace(",", " ").split() for v in values]
    ids = {t: i for i, t in enumerate(vocabulary_of(leaves_of(tokens), 0, 3))}
    expected = [None if t is None else [ids.get(token, -1) for token in t] for t in tokens]
    assert apply(op, batch, states)["x"].to_pylist() == expected
    assert apply_rows(op, batch, states) == [{"x": e} for e in expected]


def test_split_lists_of_texts() -> None:
    op = ComputeAndApplyVocabulary(["x"], " ")
    batch = batch_of(pa.array([["a b", None, "b"], None, []], pa.list_(pa.string())))
    assert apply(op, batch)["x"].to_pylist() == [[1, 0, 0], None, []]
    assert [r["x"] for r in apply_rows(op, batch)] == [[1, 0, 0], None, []]


def test_buckets_after_the_vocabulary_hash_the_text() -> None:
    op = ComputeAndApplyVocabulary(["x"], top_k=1, num_oov_buckets=5)
    for values, unseen in (
        (["a"], ["zz", "é", "", "a much longer text, of more than 32 bytes"]),
        ([1], [12, -3, 10**9]),
    ):
        states = fit(op, [batch_of(pa.array(values))])
        made = apply(op, batch_of(pa.array([*values, *unseen])), states)["x"].to_pylist()
        assert made == [0, *(1 + fingerprint64_of(str(v)) % 5 for v in unseen)]


def test_dictionaries_of_later_batches_are_not_mixed_up() -> None:
    op = ComputeAndApplyVocabulary(["x"])
    states = fit(op, [batch_of(pa.array(["a", "a", "b", None]))])
    schema = pa.schema([("x", pa.dictionary(pa.int32(), pa.string()))])
    prepared = op.prepare(states, schema)
    first, second = pa.array(["a", "b", "x"]), pa.array(["b", "x", "a"])
    indices = pa.array([0, 1, 2, None], pa.int32())
    for dictionary, expected in ((first, [0, 1, -1, None]), (second, [1, -1, 0, None]), (second, [1, -1, 0, None])):
        array = pa.DictionaryArray.from_arrays(indices, dictionary)
        assert op.apply(batch_of(array), prepared)[0].to_pylist() == expected
    large = pa.array([f"t{i}" for i in range(50)] + ["b", None])
    array = pa.DictionaryArray.from_arrays(pa.array([50, 51, 3, None], pa.int32()), large)
    assert op.apply(batch_of(array), prepared)[0].to_pylist() == [1, None, -1, None]


@pytest.mark.parametrize("type_", [pa.string(), pa.int64(), pa.null()])
def test_columns_without_values(type_: pa.DataType) -> None:
    op = ComputeAndApplyVocabulary(["x"], num_oov_buckets=2)
    for rows in (0, 3):
        batch = batch_of(pa.nulls(rows, type_))
        states = fit(op, [batch])
        assert states["x"].num_rows == 0
        assert apply(op, batch, states)["x"].to_pylist() == [None] * rows


def test_a_threshold_that_leaves_nothing_names_the_highest_count() -> None:
    op = ComputeAndApplyVocabulary(["x"], frequency_threshold=4)
    with pytest.raises(
        JobError, match=r"'x' is empty: frequency_threshold is 4, .* occurs 3 times\. Lower .* at most 3\."
    ):
        fit(op, [batch_of(pa.array(["a", "a", "b", "a"]))])


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"top_k": 0}, ParameterError, "top_k got 0, expected an integer of at least 1"),
        ({"top_k": 1.5}, ParameterTypeError, "top_k got 1.5, expected an integer of at least 1 or None"),
        ({"frequency_threshold": -1}, ParameterError, "frequency_threshold got -1"),
        ({"num_oov_buckets": -1}, ParameterError, "num_oov_buckets got -1"),
        ({"num_oov_buckets": True}, ParameterTypeError, "num_oov_buckets got True"),
        ({"default_value": "x"}, ParameterTypeError, "default_value got 'x', expected an integer"),
        ({"split_string_by_delimiter": 1}, ParameterTypeError, "split_string_by_delimiter got 1, expected a string"),
        ({"vocab_filename": 1}, ParameterTypeError, "vocab_filename got 1"),
    ],
)
def test_wrong_parameters(parameters: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ComputeAndApplyVocabulary(["x"], **parameters)


@pytest.mark.parametrize(
    ("type_", "delimiter", "message"),
    [
        (pa.float64(), None, "the column is double, expected text, .* Use Bucketize for measurements"),
        (pa.list_(pa.float32()), None, "Use Bucketize"),
        (pa.decimal128(5, 2), None, "cast to an integer"),
        (pa.struct([("a", pa.int8())]), None, "expected text, bytes, integers"),
        (pa.duration("s"), None, "expected text"),
        (pa.int64(), " ", "expected text, because split_string_by_delimiter is given"),
        (pa.binary(), " ", "expected text, because"),
    ],
)
def test_wrong_columns(type_: pa.DataType, delimiter: str | None, message: str) -> None:
    with pytest.raises(ColumnTypeError, match=message):
        ComputeAndApplyVocabulary(["x"], delimiter).output_fields(pa.schema([("x", type_)]))


def test_config_round_trip() -> None:
    op = ComputeAndApplyVocabulary(["x", "y"], " ", top_k=3, num_oov_buckets=1, output="{column}_id")
    assert ComputeAndApplyVocabulary(**op.config()) == op


# --- against the stock op ---------------------------------------------------------------------------------------------


def flat(row: Any) -> list[int]:
    return np.asarray(row).ravel().tolist()


@pytest.mark.differential
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"top_k": 7, "num_oov_buckets": 3},
        {"frequency_threshold": 4, "default_value": -9},
        {"top_k": 40, "frequency_threshold": 3, "num_oov_buckets": 1},
    ],
)
def test_equals_stock(parameters: dict[str, Any]) -> None:
    rng = random.Random(3)
    words = ["".join(rng.choices("abCé→ ", k=rng.randint(1, 4))) for _ in range(40)]
    values = [rng.choice(words) for _ in range(150)]
    stock = run_stock(stock_ops().ComputeAndApplyVocabulary(columns=["x"], **parameters), [{"x": v} for v in values])
    ours = apply(ComputeAndApplyVocabulary(["x"], **parameters), batch_of(pa.array(values)))["x"].to_pylist()
    assert [flat(row["x"]) for row in stock] == [[v] for v in ours]


@pytest.mark.differential
def test_equals_stock_where_texts_are_split() -> None:
    values = ["a b,c", "b, b", "c", "a,a a", "d e"]
    stock = run_stock(
        stock_ops().ComputeAndApplyVocabulary(columns=["x"], split_string_by_delimiter=" ,"), [{"x": v} for v in values]
    )
    ours = apply(ComputeAndApplyVocabulary(["x"], " ,"), batch_of(pa.array(values)))["x"].to_pylist()
    assert [flat(row["x"]) for row in stock] == ours


@pytest.mark.differential
def test_equals_stock_on_lists() -> None:
    values = [["a", "b"], ["b", "c"], ["c", "b"], ["a", "zz"]]
    stock = run_stock(stock_ops().ComputeAndApplyVocabulary(columns=["x"], top_k=2), [{"x": v} for v in values])
    ours = apply(ComputeAndApplyVocabulary(["x"], top_k=2), batch_of(pa.array(values)))["x"].to_pylist()
    assert [flat(row["x"]) for row in stock] == ours

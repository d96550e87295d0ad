"""TF-IDF against the formula, against stock, and for any cut of the data."""

from __future__ import annotations

import math
from collections import Counter
from functools import reduce

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError, ParameterError, ParameterTypeError
from featuremill.transforms.registry import from_config, to_config
from featuremill.transforms.tfidf import TFIDF, DocumentFrequencies, term_counts
from support.fitting import apply, apply_rows, fit, partials_of, table_bytes
from support.stock import run_stock, stock_ops

LISTS = pa.list_(pa.int64())
PIE = [[3, 2, 0, 0, 0], [1, 1, 0]]

documents = st.lists(st.none() | st.lists(st.none() | st.integers(-2, 6), max_size=6), max_size=12)


def batch_of(rows: object, type_: pa.DataType = LISTS) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(rows, type_)})


def by_hand(rows: list, smooth: bool = True, vocab_size: int | None = None) -> list:
    """The definition, a row at a time."""
    cleaned = [None if r is None else [v for v in r if v is not None] for r in rows]
    if vocab_size is not None:
        cleaned = [None if r is None else [v % vocab_size for v in r] for r in cleaned]
    corpus = len(cleaned)
    frequency = Counter(t for r in cleaned if r for t in set(r))
    made = []
    for row in cleaned:
        if row is None:
            made.append(None)
            continue
        weights = []
        for term, count in sorted(Counter(row).items()):
            ratio = (corpus + 1) / (frequency[term] + 1) if smooth else corpus / frequency[term]
            weights.append((term, count / len(row) * (1 + math.log(ratio))))
        made.append([(t, w) for t, w in weights if t >= 0])
    return made


def test_the_example_of_beam():
    found = apply(TFIDF(["x"]), batch_of(PIE))
    assert found["x_vocab_index"].to_pylist() == [[0, 2, 3], [0, 1]]
    expected = [np.float32([0.6, 0.28109303, 0.28109303]).tolist(), np.float32([0.33333334, 0.9369768]).tolist()]
    assert found["x_tfidf_weight"].to_pylist() == expected


@settings(max_examples=60, deadline=None)
@given(rows=documents, smooth=st.booleans(), vocab_size=st.none() | st.integers(1, 5))
def test_weights_are_the_definition(rows, smooth, vocab_size):
    found = apply(TFIDF(["x"], vocab_size, smooth), batch_of(rows))
    expected = by_hand(rows, smooth, vocab_size)
    terms = [None if r is None else [t for t, _ in r] for r in expected]
    assert found["x_vocab_index"].to_pylist() == terms
    for got, row in zip(found["x_tfidf_weight"].to_pylist(), expected, strict=True):
        assert (got is None) == (row is None)
        if row is not None:
            np.testing.assert_allclose(got, [w for _, w in row], rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(rows=documents, smooth=st.booleans(), vocab_size=st.none() | st.integers(1, 5))
def test_single_rows_equal_the_batch(rows, smooth, vocab_size):
    op = TFIDF(["x"], vocab_size, smooth)
    found = apply(op, batch_of(rows))
    names = op.output_names
    assert apply_rows(op, batch_of(rows)) == [
        dict(zip(names, values, strict=True)) for values in zip(*(found[n].to_pylist() for n in names), strict=True)
    ]


@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(documents, min_size=1, max_size=5), shards=st.integers(1, 4), data=st.data())
def test_any_cut_gives_the_same_state(pieces, shards, data):
    op = TFIDF(["x"])
    analyzer = op.analyzers()["x"]
    whole = fit(op, [batch_of([r for p in pieces for r in p])])["x"]
    partials = partials_of(op, [batch_of(p) for p in data.draw(st.permutations(pieces))])["x"]
    one_by_one = reduce(lambda a, b: analyzer.merge([a, b]), partials)
    split = [analyzer.split(p, shards) for p in partials]
    sharded = analyzer.merge([analyzer.merge([s[i] for s in split]) for i in range(shards)])
    for merged in (one_by_one, sharded):
        assert table_bytes(analyzer.finish(merged)) == table_bytes(whole)


def test_accumulating_many_batches_is_accumulating_one(monkeypatch):
    monkeypatch.setattr("featuremill.transforms.tfidf.COMPACT_AT", 2)
    analyzer = DocumentFrequencies("x")
    many, one = analyzer.accumulator(), analyzer.accumulator()
    rows = [[i % 5, i % 3] for i in range(20)]
    for row in rows:
        many.update(pa.array([row], LISTS))
    one.update(pa.array(rows, LISTS))
    assert many.partial().equals(one.partial())


def test_terms_too_far_apart_for_one_integer():
    rows, terms = np.array([0, 0, 0, 1, 2, 2]), np.array([2**62, 0, 2**62, 5, 2**62, 1])
    made = list(zip(*(a.tolist() for a in term_counts(rows, terms, 3)), strict=True))
    assert made == [(r, t, c) for (r, t), c in sorted(Counter(zip(rows.tolist(), terms.tolist(), strict=True)).items())]


@pytest.mark.parametrize(
    "type_",
    [
        LISTS, pa.large_list(pa.int32()), pa.list_view(pa.int16()), pa.list_(pa.uint8(), 2),
        pa.list_(pa.dictionary(pa.int8(), pa.int64())),
    ],
)
def test_every_layout_of_lists(type_):
    rows = [[1, 2], None, [2, 2], [7, None]]
    values = pa.array(rows, pa.list_(pa.int64()))
    if pa.types.is_dictionary(type_.value_type):
        column = pa.ListArray.from_arrays(values.offsets, values.values.dictionary_encode(), mask=values.is_null())
    else:
        column = pa.array(rows, type_)
    op = TFIDF(["x"])
    batch = pa.record_batch({"x": column})
    plain = apply(op, batch_of(rows))
    states = fit(op, [batch_of(rows)])
    for given_batch, wanted in ((batch, slice(None)), (batch.slice(1, 2), slice(1, 3))):
        found = apply(op, given_batch, states)
        assert [a.to_pylist() for a in found.values()] == [a.to_pylist()[wanted] for a in plain.values()]


def test_empty_batch_scalars_and_only_nulls():
    op = TFIDF(["x"])
    assert [len(a) for a in apply(op, batch_of([])).values()] == [0, 0]
    assert [a.to_pylist() for a in apply(op, batch_of([None, None])).values()] == [[None, None]] * 2
    assert [a.to_pylist() for a in apply(op, batch_of([None, []], pa.list_(pa.null()))).values()] == [[None, []]] * 2
    assert [a.to_pylist() for a in apply(op, batch_of([None], pa.null())).values()] == [[None]] * 2
    found = apply(op, batch_of([4, None, 4], pa.int32()))
    assert found["x_vocab_index"].to_pylist() == [[4], None, [4]]
    weight = np.float32(math.log(4 / 3) + 1).item()
    assert found["x_tfidf_weight"].to_pylist() == [[weight], None, [weight]]
    encoded = pa.record_batch({"x": pa.array([4, None, 4]).dictionary_encode()})
    assert apply(op, encoded)["x_tfidf_weight"].to_pylist() == [[weight], None, [weight]]
    assert apply_rows(op, encoded)[1:] == [
        {"x_vocab_index": None, "x_tfidf_weight": None}, {"x_vocab_index": [4], "x_tfidf_weight": [weight]}
    ]


@pytest.mark.parametrize(("smooth", "expected"), [(True, math.log(3) + 1), (False, math.log(2) + 1)])
def test_a_term_that_fitting_never_saw(smooth, expected):
    op = TFIDF(["x"], smooth=smooth)
    found = apply(op, batch_of([[99]]), fit(op, [batch_of(PIE)]))
    np.testing.assert_allclose(found["x_tfidf_weight"].to_pylist(), [[expected]], rtol=1e-6)


@pytest.mark.parametrize(
    ("output", "names"),
    [
        (None, ["x_vocab_index", "x_tfidf_weight"]), ("w", ["w_vocab_index", "w_tfidf_weight"]),
        ("{column}2", ["x2_vocab_index", "x2_tfidf_weight"]), (["w"], ["w_vocab_index", "w_tfidf_weight"]),
    ],
)
def test_names(output, names):
    assert TFIDF(["x"], output=output).output_names == names


def test_config_round_trip():
    op = TFIDF(["x", "y"], 12, False, output=["a", "b"])
    assert from_config(to_config([op])) == [op]


@pytest.mark.parametrize(
    ("error", "message", "parameters"),
    [
        (ParameterError, "vocab_size got 0", {"vocab_size": 0}),
        (ParameterTypeError, "vocab_size got True", {"vocab_size": True}),
        (ParameterTypeError, "smooth got 1", {"smooth": 1}),
        (ParameterError, "one for each column", {"output": ["a", "b"]}),
        (ParameterError, "a list of 2 prefixes", {"columns": ["x", "y"], "output": "a"}),
    ],
)
def test_wrong_parameters(error, message, parameters):
    with pytest.raises(error, match=message):
        TFIDF(**({"columns": ["x"]} | parameters))


@pytest.mark.parametrize("type_", [pa.string(), pa.list_(pa.float64()), pa.list_(pa.list_(pa.int64())), pa.uint64()])
def test_wrong_columns(type_):
    with pytest.raises(ColumnTypeError, match="ComputeAndApplyVocabulary"):
        TFIDF(["x"]).output_fields(pa.schema([("x", type_)]))


def test_a_missing_state_is_said():
    with pytest.raises(ParameterError, match="fit the transform first"):
        TFIDF(["x"]).prepare({}, batch_of([]).schema)


@pytest.mark.differential
@pytest.mark.parametrize("smooth", [True, False])
def test_as_stock(smooth):
    rows = [*PIE, [4, 4, -1, 9], [0], [], [2, 3, 2], None]
    tft = stock_ops()
    # Stock reads TFIDF's input as floats unless an op before it says otherwise: the words are numbered first.
    words = [row and [f"w{v}" for v in row] for row in rows]
    made = run_stock(
        [tft.ComputeAndApplyVocabulary(columns=["x"], top_k=4), tft.TFIDF(columns=["x"], vocab_size=4, smooth=smooth)],
        [{"x": w} for w in words],
    )
    numbers = [row["x"].tolist() for row in made[:-1]] + [None]  # stock makes an empty array of None
    assert any(-1 in row for row in numbers[:-1])
    found = apply(TFIDF(["x"], 4, smooth), batch_of(numbers))
    assert found["x_vocab_index"].to_pylist() == [row["x_vocab_index"].tolist() for row in made[:-1]] + [None]
    for got, row in zip(found["x_tfidf_weight"].to_pylist(), made, strict=True):
        np.testing.assert_allclose(got or [], row["x_tfidf_weight"], rtol=3e-7)

"""N-grams, bags of words and deduplication: by definition, in every layout, and side by side with stock."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError, ParameterError, ParameterTypeError
from featuremill.transforms.registry import from_config, to_config
from featuremill.transforms.text import BagOfWords, DeduplicateTensorPerRow, NGrams
from support.fitting import apply, apply_rows, fit
from support.stock import run_stock, stock_ops

WORDS = pa.list_(pa.string())
THREE = {"ngram_range": (1, 3), "ngrams_separator": " "}

words = st.none() | st.sampled_from(["", "a", "b", "é", "a b", "日本", "\n", "\U0001f600"])
lists = st.lists(st.none() | st.lists(words, max_size=6), max_size=8)
ranges = st.tuples(st.integers(1, 4), st.integers(0, 3)).map(lambda t: (t[0], t[0] + t[1]))


def out(op: Any, column: pa.Array) -> list:
    return apply(op, pa.record_batch({"x": column}))["x"].to_pylist()


def grams_by_hand(tokens: list, smallest: int, largest: int, separator: str) -> list:
    made = []
    for i in range(len(tokens)):
        made += [separator.join(tokens[i:j]) for j in range(i + smallest, i + largest + 1) if j <= len(tokens)]
    return made


PIE = [
    ["I", "I like", "I like pie", "like", "like pie", "pie"],
    ["yum", "yum yum", "yum yum pie", "yum", "yum pie", "pie"],
]
BEAM = [
    (NGrams(["x"]), [["I", "like", "pie"], ["yum", "yum", "pie"]], [["I", "like", "pie"], ["yum", "yum", "pie"]]),
    (
        NGrams(["x"], **THREE),
        [["I", "like", "pie"], ["yum", "yum", "pie"]],
        PIE,
    ),
    (
        NGrams(["x"], " ", **THREE),
        ["I like pie", "yum yum pie"],
        PIE,
    ),
    (
        NGrams(["x"], " ?", **THREE),
        ["I?like?pie", "yum yum pie"],
        PIE,
    ),
    (
        BagOfWords(["x"]),
        [["I", "like", "pie", "pie", "pie"], ["yum", "yum", "pie"]],
        [["I", "like", "pie"], ["yum", "pie"]],
    ),
    (
        BagOfWords(["x"], **THREE),
        [["I", "like", "pie", "I", "like", "pie"], ["yum", "yum", "pie"]],
        [
            ["I", "I like", "I like pie", "like", "like pie", "like pie I", "pie", "pie I", "pie I like"],
            ["yum", "yum yum", "yum yum pie", "yum pie", "pie"],
        ],
    ),
    (
        BagOfWords(["x"], " ", **THREE),
        ["I like pie I like pie", "yum yum pie"],
        [
            ["I", "I like", "I like pie", "like", "like pie", "like pie I", "pie", "pie I", "pie I like"],
            ["yum", "yum yum", "yum yum pie", "yum pie", "pie"],
        ],
    ),
    (
        DeduplicateTensorPerRow(["x"]),
        [[b"a", b"b", b"a", b"b"], [b"b", b"c", b"b", b"c"]],
        [[b"a", b"b"], [b"b", b"c"]],
    ),
    (DeduplicateTensorPerRow(["x"]), [[b"a", b"b"], [b"c", b"d"]], [[b"a", b"b"], [b"c", b"d"]]),
    (
        DeduplicateTensorPerRow(["x"]),
        [[b"a", b"b", b"a", b"b"], [b"c", b"a", b"d", b"d"]],
        [[b"a", b"b"], [b"c", b"a", b"d"]],
    ),
]


@pytest.mark.parametrize(("op", "rows", "expected"), BEAM)
def test_the_examples_of_beam(op, rows, expected):
    batch = pa.record_batch({"x": pa.array(rows)})
    assert apply(op, batch)["x"].to_pylist() == expected
    assert [r["x"] for r in apply_rows(op, batch)] == expected


def test_the_word_count_of_beam():
    rows = [["I", "like", "pie", "pie", "pie"], ["yum", "yum", "pie"], ["Banana"] * 2 + ["Apple"] * 4]
    op = BagOfWords(["x"], compute_word_count=True, key_vocab_filename="my_vocab")
    batch = pa.record_batch({"x": pa.array(rows)})
    state = fit(op, [batch.slice(0, 1), batch.slice(1)])["x"]
    counts = dict(zip(state.column("token").to_pylist(), state.column("count").to_pylist(), strict=True))
    assert counts == {"yum": 2, "Apple": 4, "like": 1, "I": 1, "pie": 4, "Banana": 2}
    assert apply(op, batch)["x"].to_pylist() == apply(BagOfWords(["x"]), batch)["x"].to_pylist()


def test_the_word_count_is_of_split_tokens_and_not_of_ngrams():
    op = BagOfWords(["x"], " ", compute_word_count=True, **THREE)
    state = fit(op, [pa.record_batch({"x": ["a b", "b", None]})])["x"]
    assert state.to_pylist() == [{"token": "a", "count": 1}, {"token": "b", "count": 2}]
    assert BagOfWords(["x"]).analyzers() == {}


@settings(max_examples=80, deadline=None)
@given(rows=lists, sizes=ranges, separator=st.sampled_from(["", " ", "é-"]), bag=st.booleans())
def test_ngrams_of_lists_are_the_definition(rows, sizes, separator, bag):
    op = (BagOfWords if bag else NGrams)(["x"], ngram_range=sizes, ngrams_separator=separator)
    expected = []
    for row in rows:
        grams = None if row is None else grams_by_hand([t for t in row if t is not None], *sizes, separator)
        expected.append(list(dict.fromkeys(grams)) if bag and grams is not None else grams)
    batch = pa.record_batch({"x": pa.array(rows, WORDS)})
    assert apply(op, batch)["x"].to_pylist() == expected
    assert [r["x"] for r in apply_rows(op, batch)] == expected


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.none() | st.text(alphabet="ab é-,日", max_size=8), max_size=8),
    delimiter=st.sampled_from([None, "", " ", "-,", "é "]), sizes=ranges, data=st.data(),
)
def test_texts_in_every_encoding(rows, delimiter, sizes, data):
    op = BagOfWords(["x"], delimiter, ngram_range=sizes, ngrams_separator="_")
    expected = []
    for row in rows:
        tokens = None if row is None else [row] if not delimiter else [
            t for t in "".join("\0" if c in delimiter else c for c in row).split("\0") if t
        ]
        expected.append(None if tokens is None else list(dict.fromkeys(grams_by_hand(tokens, *sizes, "_"))))
    plain = pa.array(rows, pa.string())
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    for column in (plain, plain.cast(pa.large_string()), plain.cast(pa.string_view()), plain.dictionary_encode()):
        assert out(op, column) == expected
        assert out(op, column.slice(start, stop - start)) == expected[start:stop]
    assert [r["x"] for r in apply_rows(op, pa.record_batch({"x": plain.dictionary_encode()}))] == expected
    as_bytes = [None if e is None else [t.encode() for t in e] for e in expected]
    for type_ in (pa.binary(), pa.large_binary(), pa.binary_view()):
        assert out(op, plain.cast(type_)) == as_bytes


@pytest.mark.parametrize(
    ("type_", "made"),
    [
        (pa.string(), pa.list_(pa.string())), (pa.large_string(), pa.list_(pa.large_string())),
        (pa.string_view(), pa.list_(pa.string())), (pa.binary(3), pa.list_(pa.binary())),
        (pa.dictionary(pa.int8(), pa.string()), pa.list_(pa.string())),
        (pa.large_list(pa.string()), pa.large_list(pa.string())), (pa.list_(pa.string(), 2), pa.list_(pa.string())),
        (pa.list_view(pa.string_view()), pa.list_(pa.string())),
        (pa.list_(pa.dictionary(pa.int8(), pa.large_string())), pa.list_(pa.large_string())),
    ],
)
@pytest.mark.parametrize("kind", [NGrams, BagOfWords])
def test_the_types_that_come_out(kind, type_, made):
    op = kind(["x"], ngram_range=(2, 3), ngrams_separator="")
    assert op.output_fields(pa.schema([("x", type_)])) == [pa.field("x", made)]
    assert out(op, pa.array([], type_)) == []


@pytest.mark.parametrize("delimiter", [None, " "])
@pytest.mark.parametrize(
    "type_",
    [
        pa.list_(pa.string(), 2), pa.large_list(pa.large_string()), pa.list_view(pa.string_view()),
        pa.list_(pa.binary()),
    ],
)
def test_every_layout_of_lists(type_, delimiter):
    rows = [["a b", "c"], None, ["d", None], ["a b", "a"]]
    column = pa.array(rows, type_)
    op = NGrams(["x"], delimiter, ngram_range=(1, 2), ngrams_separator="+")
    if delimiter:
        expected = [["a", "a+b", "b", "b+c", "c"], None, ["d"], ["a", "a+b", "b", "b+a", "a"]]
    else:
        expected = [["a b", "a b+c", "c"], None, ["d"], ["a b", "a b+a", "a"]]
    if pa.types.is_binary(type_.value_type):
        expected = [None if e is None else [t.encode() for t in e] for e in expected]
    assert out(op, column) == expected
    assert out(op, column.slice(1, 2)) == expected[1:3]


def test_bytes_that_are_no_text_are_split():
    assert out(NGrams(["x"], " "), pa.array([b"\xff a", None, b"\x00"])) == [[b"\xff", b"a"], None, [b"\x00"]]


@pytest.mark.parametrize("delimiter", [None, " "])
def test_columns_without_a_single_value(delimiter):
    op = NGrams(["x"], delimiter, **THREE)
    assert out(op, pa.nulls(2)) == [None, None]
    assert out(op, pa.array([[None], [], None])) == [[], [], None]
    assert apply_rows(op, pa.record_batch({"x": pa.nulls(1)})) == [{"x": None}]


def test_a_dictionary_of_many_values_for_few_rows():
    column = pa.array([f"{i} x" for i in range(50)]).dictionary_encode().slice(7, 2)
    assert out(NGrams(["x"], " "), column) == [["7", "x"], ["8", "x"]]


NAN = math.nan
NEW_YEAR = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
DEDUPLICATED = [
    (pa.int8(), [[3, 1, 3, None, 1], [], None, [3]], [[3, 1], [], None, [3]]),
    (pa.bool_(), [[True, True, False]], [[True, False]]),
    (pa.string(), [["b", "", "b", None, ""], ["b"]], [["b", ""], ["b"]]),
    (pa.large_string(), [["é", "é"]], [["é"]]),
    (pa.string_view(), [["a", "a"]], [["a"]]),
    (pa.binary(2), [[b"ab", b"ab"]], [[b"ab"]]),
    (pa.float64(), [[1.5, 1.5, -0.0, 0.0]], [[1.5, -0.0]]),
    (pa.float16(), [[1.5, 1.5]], [[1.5]]),
    (pa.date32(), [[dt.date(2024, 1, 1)] * 2], [[dt.date(2024, 1, 1)]]),
    (pa.timestamp("us", "UTC"), [[NEW_YEAR] * 2], [[NEW_YEAR]]),
    (pa.decimal128(5, 2), [[Decimal("1.50")] * 2], [[Decimal("1.50")]]),
    (pa.null(), [[None], None], [[], None]),
]


@pytest.mark.parametrize(("leaf", "rows", "expected"), DEDUPLICATED)
@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
def test_deduplication_of_every_type(kind, leaf, rows, expected):
    batch = pa.record_batch({"x": pa.array(rows, kind(leaf))})
    op = DeduplicateTensorPerRow(["x"])
    made = [apply(op, batch)["x"].to_pylist(), [r["x"] for r in apply_rows(op, batch)]]
    assert made == [expected, expected]
    assert str(made[0]) == str(made[1])  # tells -0.0 from 0.0


def test_nan_is_one_value():
    (row,) = out(DeduplicateTensorPerRow(["x"]), pa.array([[NAN, 1.0, NAN, -NAN]]))
    assert repr(row) == "[nan, 1.0]"


def test_deduplication_leaves_scalars_as_they_are():
    op = DeduplicateTensorPerRow(["x"])
    assert out(op, pa.array([1, None, 1])) == [1, None, 1]
    assert out(op, pa.array(["a", None]).dictionary_encode()) == ["a", None]
    assert apply_rows(op, pa.record_batch({"x": [1, None]})) == [{"x": 1}, {"x": None}]


def test_deduplication_of_dictionaries_in_lists_and_fixed_sizes():
    op = DeduplicateTensorPerRow(["x"])
    inner = pa.array(["a", "b", "a", None]).dictionary_encode()
    encoded = pa.ListArray.from_arrays(pa.array([0, 3, 4], pa.int32()), inner)
    assert out(op, encoded) == [["a", "b"], []]
    assert out(op, pa.array([[1, 1], None, [2, 1]], pa.list_(pa.int64(), 2)).slice(1)) == [None, [2, 1]]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.none() | st.lists(st.none() | st.integers(-3, 3), max_size=9), max_size=9), data=st.data())
def test_deduplication_is_the_definition_on_any_slice(rows, data):
    start = data.draw(st.integers(0, len(rows)))
    expected = [None if r is None else list(dict.fromkeys(v for v in r if v is not None)) for r in rows[start:]]
    batch = pa.record_batch({"x": pa.array(rows, pa.list_(pa.int32()))}).slice(start)
    assert apply(DeduplicateTensorPerRow(["x"]), batch)["x"].to_pylist() == expected
    assert [r["x"] for r in apply_rows(DeduplicateTensorPerRow(["x"]), batch)] == expected


@pytest.mark.parametrize(
    "op",
    [
        NGrams(["x", "y"], ",", ngram_range=[1, 2], ngrams_separator="", output="{column}_n"),
        BagOfWords(["x"], compute_word_count=True, key_vocab_filename="words", name="bag"),
        DeduplicateTensorPerRow(["x"], "label", output="y"),
    ],
)
def test_config_round_trip(op):
    assert from_config(to_config([op])) == [op]


@pytest.mark.parametrize(
    ("error", "message", "parameters"),
    [
        (ParameterError, "ngrams_separator got None", {"ngram_range": (1, 2)}),
        (ParameterError, "ngram_range got", {"ngram_range": (2, 1), "ngrams_separator": " "}),
        (ParameterError, "ngram_range got", {"ngram_range": (0, 1), "ngrams_separator": " "}),
        (ParameterError, "ngram_range got", {"ngram_range": (1, 65), "ngrams_separator": " "}),
        (ParameterError, "ngram_range got", {"ngram_range": (1,), "ngrams_separator": " "}),
        (ParameterTypeError, "two integers", {"ngram_range": 2, "ngrams_separator": " "}),
        (ParameterTypeError, "two integers", {"ngram_range": (1, 2.0), "ngrams_separator": " "}),
        (ParameterTypeError, "ngrams_separator got 1", {"ngrams_separator": 1}),
        (ParameterTypeError, "split_string_by_delimiter got 1", {"split_string_by_delimiter": 1}),
    ],
)
@pytest.mark.parametrize("kind", [NGrams, BagOfWords])
def test_wrong_parameters(kind, error, message, parameters):
    with pytest.raises(error, match=message):
        kind(["x"], **parameters)


@pytest.mark.parametrize(
    ("error", "message", "parameters"),
    [
        (ParameterError, "compute_word_count=True with it", {"key_vocab_filename": "f"}),
        (ParameterTypeError, "a file name", {"key_vocab_filename": 1, "compute_word_count": True}),
        (ParameterTypeError, "true or false", {"compute_word_count": 1}),
    ],
)
def test_wrong_parameters_of_bags(error, message, parameters):
    with pytest.raises(error, match=message):
        BagOfWords(["x"], **parameters)


@pytest.mark.parametrize(
    ("op", "type_"),
    [
        (NGrams(["x"]), pa.int64()),
        (NGrams(["x"]), pa.list_(pa.list_(pa.string()))),
        (BagOfWords(["x"]), pa.list_(pa.float32())),
        (BagOfWords(["x"], " ", compute_word_count=True), pa.binary()),
        (DeduplicateTensorPerRow(["x"]), pa.list_(pa.list_(pa.int64()))),
        (DeduplicateTensorPerRow(["x"]), pa.list_(pa.struct([("a", pa.int64())]))),
    ],
)
def test_wrong_columns(op, type_):
    with pytest.raises(ColumnTypeError, match="expected"):
        op.output_fields(pa.schema([("x", type_)]))


def stock_lists(op: Any, rows: list) -> list:
    return [[t.decode() for t in row["x"].tolist()] for row in run_stock(op, [{"x": r} for r in rows])]


LISTS = [["a", "b", "a", "b", "a"], ["é", "", "日本"], ["b"], ["", ""], ["x", "y"]]
TEXTS = ["a b  a,b", " lead", "trail ", "é,日本 é", "one", ",", "a b a b"]


@pytest.mark.differential
@pytest.mark.parametrize(
    ("name", "arguments", "rows"),
    [
        ("NGrams", {"ngram_range": (2, 3), "ngrams_separator": "-"}, LISTS),
        ("NGrams", {"split_string_by_delimiter": " ,", "ngram_range": (1, 2), "ngrams_separator": " "}, TEXTS),
        ("NGrams", {}, TEXTS),
        ("BagOfWords", {"ngram_range": (1, 2), "ngrams_separator": "é"}, LISTS),
        ("BagOfWords", {"split_string_by_delimiter": " "}, TEXTS),
        ("DeduplicateTensorPerRow", {}, LISTS),
    ],
)
def test_as_stock(name, arguments, rows):
    kinds = {"NGrams": NGrams, "BagOfWords": BagOfWords, "DeduplicateTensorPerRow": DeduplicateTensorPerRow}
    expected = stock_lists(getattr(stock_ops(), name)(columns=["x"], **arguments), rows)
    assert out(kinds[name](["x"], **arguments), pa.array(rows)) == expected


@pytest.mark.differential
def test_words_are_counted_as_stock_counts_them(tmp_path):
    tft = stock_ops()
    import apache_beam as beam
    from apache_beam.ml.transforms.base import MLTransform

    rows = [{"x": r} for r in (["b", "a", "b"], ["b"], ["c", "a", "é"])]
    arguments = {"compute_word_count": True, "key_vocab_filename": "words"} | THREE
    with beam.Pipeline() as pipeline:
        op = tft.BagOfWords(columns=["x"], **arguments)
        stock = MLTransform(write_artifact_location=str(tmp_path)).with_transform(op)
        _ = pipeline | beam.Create(rows) | stock
    (written,) = tmp_path.glob("*/transform_fn/assets/words_x")
    counted = dict(reversed(line.split(" ", 1)) for line in written.read_text().splitlines())
    state = fit(BagOfWords(["x"], **arguments), [pa.record_batch({"x": pa.array([r["x"] for r in rows])})])["x"]
    assert {r["token"]: str(r["count"]) for r in state.to_pylist()} == counted

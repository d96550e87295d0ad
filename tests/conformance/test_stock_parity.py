"""Beam's own transforms and ours on the same rows, in the same test: what is equal, and what is meant to differ.

What the tests of the families compare (each op by itself, on one column) is not repeated here. A pipeline of the stock
ops costs seconds, so that all of a kind run in one, every entry on columns of its own.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import featuremill.transforms.registry as ours
from featuremill.artifacts.errors import ParameterError
from featuremill.transforms.hashing import hash_buckets_of
from featuremill.transforms.pipeline import Pipeline
from support.fitting import apply, fit
from support.stock import run_stock, stock_ops
from support.strategies import exact

pytestmark = pytest.mark.differential

ROWS = 24
STOCK_OPS = (
    "ApplyBuckets", "ApplyBucketsWithInterpolation", "BagOfWords", "Bucketize", "ComputeAndApplyVocabulary",
    "DeduplicateTensorPerRow", "HashStrings", "NGrams", "ScaleByMinMax", "ScaleTo01", "ScaleToGaussian",
    "ScaleToZScore", "TFIDF",
)  # fmt: skip

STATELESS = STOCK_OPS[:3] + STOCK_OPS[5:8]
Op = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Entry:
    """Ops in turn over some columns, by short names that are unique within the entry only.

    Parameters
    ----------
    ops
        Class names and parameters, the same for both sides.
    columns
        Values by short name, one per row.
    slack
        How far floats may be apart.
    types
        Arrow types of ours where they are not those that Arrow finds; by short name.
    """

    ops: Sequence[Op]
    columns: Mapping[str, Sequence[Any]]
    slack: float = 2e-6
    types: Mapping[str, pa.DataType] = field(default_factory=dict)


def numbers(seed: int, kind: str) -> list[Any]:
    """One column of numbers."""
    draw = random.Random(seed)
    if kind == "integers":
        return [draw.randint(-50, 50) for _ in range(ROWS)]
    if kind == "skewed":
        return [round(math.exp(draw.gauss(1, 1.5)), 3) for _ in range(ROWS)]
    return [round(draw.uniform(-3, 9), 2) for _ in range(ROWS)]


def texts(seed: int, words: Sequence[str], longest: int, joined: str | None) -> list[Any]:
    """One column of some words each: texts joined with a string, or lists."""
    draw = random.Random(seed)
    rows = [[draw.choice(words) for _ in range(draw.randint(1, longest))] for _ in range(ROWS)]
    return rows if joined is None else [joined.join(row) for row in rows]


WORDS = ("to", "be", "or", "not", "é", "→𝄞", "To", "a\tb")
PAIRS = [[a, b] for a, b in zip(numbers(1, "floats"), numbers(2, "skewed"), strict=True)]
PAIR = {"p": pa.list_(pa.float64(), 2)}
SPLIT: dict[str, Any] = {"split_string_by_delimiter": " ,"}

PARITY: dict[str, Entry] = {
    "z-scores of several columns": Entry(
        [("ScaleToZScore", {})],
        {"i": numbers(3, "integers"), "big": [v * 1e6 for v in numbers(5, "floats")]},
    ),
    "z-scores by position": Entry([("ScaleToZScore", {"elementwise": True})], {"p": PAIRS}, types=PAIR),
    "unit range by position": Entry([("ScaleTo01", {"elementwise": True})], {"p": PAIRS}, types=PAIR),
    "range of several columns": Entry(
        [("ScaleByMinMax", {"min_value": -3, "max_value": -1})],
        {"i": numbers(8, "integers"), "f": numbers(9, "floats")},
    ),
    "gaussian by position": Entry([("ScaleToGaussian", {"elementwise": True})], {"p": PAIRS}, types=PAIR, slack=3e-3),
    "quantiles with an epsilon": Entry(
        [("Bucketize", {"num_buckets": 5, "epsilon": 0.01})], {"i": numbers(12, "integers")}
    ),
    "values at boundaries": Entry(
        [("ApplyBuckets", {"bucket_boundaries": [-10, 0, 10, 40]})],
        {"i": [-11, -10, -9, 0, 9, 10, 39, 40] * 3, "f": [-10.5, -10.0, 0.0, -0.0, 1e9, -1e9, 9.999, 40.0] * 3},
    ),
    "places at boundaries": Entry(
        [("ApplyBucketsWithInterpolation", {"bucket_boundaries": [-10, 0, 5, 40]})],
        {"i": [-11, -10, -9, 0, 9, 10, 39, 40] * 3, "f": [-10.5, -10.0, 2.5, -0.0, 1e9, -1e9, 39.999, 40.0] * 3},
    ),
    "a place with one boundary": Entry(
        [("ApplyBucketsWithInterpolation", {"bucket_boundaries": [1.5]})], {"f": [1.0, 1.5, 2.0] * 8}
    ),
    "vocabularies of split texts": Entry(
        [("ComputeAndApplyVocabulary", SPLIT | {"top_k": 4, "frequency_threshold": 2, "num_oov_buckets": 3})],
        {"t": texts(15, WORDS, 5, " "), "u": texts(16, WORDS[:4], 3, ", ")},
    ),
    "vocabularies of several columns": Entry(
        [("ComputeAndApplyVocabulary", {"default_value": -5, "top_k": 3, "vocab_filename": "words"})],
        {"t": texts(17, WORDS, 1, ""), "l": texts(18, WORDS, 4, None)},
    ),
    "hashes of several columns": Entry(
        [("HashStrings", {"hash_buckets": 2**31 - 1, "key": [1, 2]})],
        {"t": texts(19, WORDS, 6, "ü"), "l": texts(20, WORDS, 4, None)}
    ),
    "n-grams of several columns": Entry(
        [("NGrams", {"split_string_by_delimiter": " ", "ngram_range": [1, 3], "ngrams_separator": "__"})],
        {"t": texts(22, WORDS, 5, " "), "u": texts(23, WORDS, 2, "  ")},
    ),
    "pairs of words": Entry(
        [("NGrams", {"ngram_range": [2, 2], "ngrams_separator": "é"})], {"l": texts(24, WORDS, 4, None)}
    ),
    "bags of pairs": Entry(
        [("BagOfWords", {"split_string_by_delimiter": " ", "ngram_range": [2, 2], "ngrams_separator": " "})],
        {"t": texts(25, WORDS[:3], 6, " ")},
    ),
    "distinct words": Entry(
        [("DeduplicateTensorPerRow", {})], {"l": texts(28, WORDS[:3], 6, None), "m": texts(29, WORDS, 3, None)}
    ),
    "weights of numbered words": Entry(
        [("ComputeAndApplyVocabulary", SPLIT), ("TFIDF", {})], {"t": texts(30, WORDS, 6, " ")}
    ),
    "a vocabulary of n-grams": Entry(
        [
            ("NGrams", {"split_string_by_delimiter": " ", "ngram_range": [1, 2], "ngrams_separator": "_"}),
            ("ComputeAndApplyVocabulary", {"num_oov_buckets": 2, "frequency_threshold": 2}),
        ],
        {"t": texts(33, WORDS, 5, " ")},
    ),
    "buckets of a scaled column": Entry(
        [("ScaleTo01", {}), ("ApplyBuckets", {"bucket_boundaries": [0.25, 0.5]})], {"f": numbers(34, "floats")}
    ),
}


NAN = float("nan")
DIFFERENT: dict[str, Entry] = {
    "nan": Entry([("ScaleTo01", {})], {"f": [1.0, NAN, 3.0, 2.0]}),
    "nan in z-score": Entry([("ScaleToZScore", {})], {"f": [1.0, NAN, 3.0, 2.0]}),
    "null": Entry([("ScaleToZScore", {})], {"f": [1.0, None, 3.0, 2.0]}),
    "constant": Entry([("ScaleTo01", {})], {"f": [3.0] * 4}),
    "constant in range": Entry([("ScaleByMinMax", {"min_value": 2, "max_value": 4})], {"f": [-1.0] * 4}),
    "scalars": Entry(
        [("ApplyBucketsWithInterpolation", {"bucket_boundaries": [0.0, 3.0]})], {"f": [0.1, 0.3, 0.7, 0.9]}
    ),
    "odd tokens": Entry([("ComputeAndApplyVocabulary", {})], {"t": ["", "", "a\nb", "c"]}),
    "delimiter": Entry([("NGrams", {"split_string_by_delimiter": "é"})], {"t": ["aéb", "cèd", "e", "fég"]}),
    "file without count": Entry(
        [("BagOfWords", {"key_vocab_filename": "w"})], {"l": [["a", "b", "a"], ["a"], ["b"], ["c"]]}
    ),
    "distinct scalars": Entry([("DeduplicateTensorPerRow", {})], {"t": ["a", "b", "", "b"]}),
    "unknown term": Entry(
        [("ComputeAndApplyVocabulary", SPLIT | {"top_k": 2}), ("TFIDF", {})],
        {"t": ["a b", "a b c", "b a", "a"]},
    ),
}
"""Cases in which the two sides give something else, by their first rows."""
FEW = 4


def test_every_stock_op_is_compared() -> None:
    assert {name for entry in PARITY.values() for name, _ in entry.ops} == set(STOCK_OPS)
    assert set(STOCK_OPS) <= set(ours.CATALOGUE)


ALL = PARITY | DIFFERENT

# --- the two sides ---------------------------------------------------------------------------------------------------


def _names(key: str) -> dict[str, str]:
    """The full names of an entry's columns, by short name."""
    return {short: f"c{list(ALL).index(key)}_{short}" for short in ALL[key].columns}


def _group(entry: Entry) -> str:
    """The pipeline that an entry runs in: TensorFlow traces all ops of one anew for each level of statistics."""
    if len(entry.ops) > 1:
        return "in turn"
    return "stateless" if entry.ops[0][0] in STATELESS else "fitted"


@cache
def stock_rows(group: str) -> list[dict[str, Any]]:
    """What the stock ops make of all entries of a group, on copies of their rows up to ``ROWS``."""
    ops, columns = [], {}
    for key, entry in ALL.items():
        if _group(entry) == group:
            names = _names(key)
            columns |= {names[s]: (list(v) * ROWS)[:ROWS] for s, v in entry.columns.items()}
            for name, parameters in entry.ops:
                given = {k: tuple(v) if k in ("ngram_range", "key") else v for k, v in parameters.items()}
                ops.append(getattr(stock_ops(), name)(columns=list(names.values()), **given))
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return run_stock(ops, rows)


def stock_columns(key: str) -> dict[str, list[Any]]:
    """What the stock ops make of one entry."""
    rows = stock_rows(_group(ALL[key]))
    prefix = next(iter(_names(key).values())).split("_")[0] + "_"
    return {name: [row[name] for row in rows] for name in rows[0] if name.startswith(prefix)}


def _config(entry: Entry, columns: Sequence[str], **extra: Any) -> list[dict[str, Any]]:
    return [{"type": name, "config": {"columns": columns, **parameters, **extra}} for name, parameters in entry.ops]


def our_columns(entry: Entry, names: Mapping[str, str], **extra: Any) -> dict[str, list[Any]]:
    """What our transforms make of one entry, fitted one after the other and applied as a pipeline."""
    arrays = {names[s]: pa.array(list(v), entry.types.get(s)) for s, v in entry.columns.items()}
    transforms = ours.from_config(_config(entry, list(arrays), **extra))
    batch = pa.record_batch(arrays)
    pipeline = Pipeline(transforms, batch.schema)
    states, seen = {}, dict(arrays)
    for i, transform in enumerate(transforms):
        own = fit(transform, [pa.record_batch(seen)])
        states |= {slot.key: own[slot.slot] for slot in pipeline.slots() if slot.transform == i}
        seen |= apply(transform, pa.record_batch(seen), own)
    bound = pipeline.bind(states)
    made = bound.apply(batch)
    served = [bound.apply_row(row) for row in batch.to_pylist()]
    assert exact([{n: row[n] for n in made.schema.names} for row in served]) == exact(made.to_pylist())
    return made.to_pydict()


def flat(value: Any) -> list[Any]:
    """The values of one row of a stock column: text as text."""
    return [v.decode() if isinstance(v, bytes) else v for v in np.asarray(value).ravel().tolist()]


@pytest.mark.parametrize("key", PARITY)
def test_as_stock(key: str) -> None:
    entry, stock = PARITY[key], stock_columns(key)
    found = our_columns(entry, _names(key))
    assert set(stock) == set(found)
    for name, values in found.items():
        for mine, theirs in zip(values, stock[name], strict=True):
            mine_flat = mine if isinstance(mine, list) else [mine]
            if any(isinstance(v, float) for v in mine_flat):
                np.testing.assert_allclose(mine_flat, flat(theirs), rtol=2e-5, atol=entry.slack, err_msg=name)
            else:
                assert mine_flat == flat(theirs), name


# --- what is meant to differ -----------------------------------------------------------------------------------------

def both(key: str, suffix: str = "", **extra: Any) -> tuple[list[Any], list[Any]]:
    """The first rows of the first output column of an entry: stock's as flat lists, and ours."""
    entry, names = DIFFERENT[key], _names(key)
    name = next(iter(names.values())) + suffix
    repeated = Entry(entry.ops, {s: (list(v) * ROWS)[:ROWS] for s, v in entry.columns.items()})
    mine = our_columns(repeated, names, **extra)[name][:FEW]
    return [flat(value) for value in stock_columns(key)[name][:FEW]], mine


def sigmoid(x: float) -> float:
    """Of one number."""
    return 1 / (1 + math.exp(-x))


def test_a_nan_in_a_unit_range() -> None:
    stock, mine = both("nan")
    np.testing.assert_allclose(np.ravel(stock), [sigmoid(1), NAN, sigmoid(3), sigmoid(2)], rtol=1e-6)
    np.testing.assert_array_equal(mine, [0.0, NAN, 1.0, 0.5])


def test_a_nan_in_a_z_score_is_skipped_by_both() -> None:
    stock, mine = both("nan in z-score")
    np.testing.assert_allclose(np.ravel(stock), mine, rtol=1e-6)
    assert math.isnan(mine[1])


def test_a_null_is_an_empty_array_there_and_a_null_here() -> None:
    stock, mine = both("null")
    assert stock[1] == [] and mine[1] is None
    np.testing.assert_allclose(np.concatenate(stock), [v for v in mine if v is not None], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("key", "zero", "expected"), [("constant", 0.0, sigmoid(3)), ("constant in range", 2.0, 2 + 2 * sigmoid(-1))]
)
def test_a_constant_column(key: str, zero: float, expected: float) -> None:
    stock, mine = both(key)
    np.testing.assert_allclose(stock, [[expected]] * 4, rtol=1e-6)
    assert mine == [zero] * 4
    _, same = both(key, on_constant="sigmoid")
    np.testing.assert_allclose(np.ravel(stock), same, rtol=1e-6)


def test_scalars_are_arrays_there_and_scalars_here() -> None:
    one = next(iter(stock_columns("scalars").values()))[1]
    assert isinstance(one, np.ndarray) and (one.shape, one.dtype) == ((1,), np.float32)
    stock, mine = both("scalars")
    np.testing.assert_allclose(np.ravel(stock), mine, rtol=1e-6)
    assert [type(value) for value in mine] == [float] * FEW


def test_empty_tokens_and_tokens_with_a_newline() -> None:
    stock, mine = both("odd tokens")
    assert stock == [[-1], [-1], [-1], [0]]
    assert mine == [0, 0, 2, 1]


def test_a_delimiter_that_is_not_ascii() -> None:
    assert next(iter(stock_columns("delimiter").values()))[1].tolist() == [b"c", b"\xa8d"]
    found = our_columns(DIFFERENT["delimiter"], {"t": "t"})["t"]
    assert found == [["a", "b"], ["cèd"], ["e"], ["f", "g"]]


def test_a_file_name_without_a_count() -> None:
    assert flat(next(iter(stock_columns("file without count").values()))[0]) == ["a", "b"]
    with pytest.raises(ParameterError, match="key_vocab_filename"):
        our_columns(DIFFERENT["file without count"], {"l": "l"})


def test_distinct_values_of_scalars() -> None:
    stock, mine = both("distinct scalars")
    assert stock == [[v] for v in mine]
    assert mine == ["a", "b", "", "b"]


def test_the_unknown_term_without_a_vocabulary_size() -> None:
    stock, mine = both("unknown term", "_vocab_index")
    assert (stock[1], mine[1]) == ([0, 1], [0, 1])
    stock, mine = both("unknown term", "_tfidf_weight")
    np.testing.assert_allclose(stock[0], mine[0], rtol=1e-6)
    # There -1 is the last word, which so comes twice in the row; here it counts in the length alone.
    np.testing.assert_allclose(stock[1][1], 2 * mine[1][1], rtol=1e-6)


# --- where stock gives nothing ---------------------------------------------------------------------------------------

HASHES = [int(v) for v in hash_buckets_of(pa.array(["1", "2"]), 1000)]
CRASHES: dict[str, tuple[Op, list[Any], list[Any]]] = {
    "a vocabulary of integers": (("ComputeAndApplyVocabulary", {}), [7, 9, 9], [1, 0, 0]),
    "a hash of integers": (("HashStrings", {"hash_buckets": 1000}), [1, 2], HASHES),
    "a delimiter and several texts": (
        ("NGrams", {"split_string_by_delimiter": " "}), [["a b", "c"], ["d"]], [["a", "b", "c"], ["d"]],
    ),
    "a null inside a list": (("NGrams", {}), [["a", None], ["b"]], [["a"], ["b"]]),
    "distinct integers": (("DeduplicateTensorPerRow", {}), [[2, 1, 2], [3]], [[2, 1], [3]]),
}  # fmt: skip


@pytest.mark.parametrize("key", CRASHES)
def test_stock_crashes(key: str) -> None:
    (name, parameters), values, expected = CRASHES[key]
    assert our_columns(Entry([(name, parameters)], {"x": values}), {"x": "x"})["x"] == expected
    with pytest.raises((AttributeError, ValueError)):
        run_stock(getattr(stock_ops(), name)(columns=["x"], **parameters), [{"x": v} for v in values])


def test_buckets_by_position() -> None:
    parameters = {"num_buckets": 2, "elementwise": True}
    with pytest.raises(ValueError, match="requires `x` to be dense"):
        run_stock(stock_ops().Bucketize(columns=["p"], **parameters), [{"p": pair} for pair in PAIRS])
    found = our_columns(Entry([("Bucketize", parameters)], {"p": [[1.0, 9.0], [2.0, 7.0]]}, types=PAIR), {"p": "p"})
    assert found["p"] == [[0, 1], [1, 0]]


def test_an_empty_separator() -> None:
    parameters = {"ngram_range": (1, 2), "ngrams_separator": ""}
    with pytest.raises(ValueError, match="ngrams_separator must be specified"):
        stock_ops().NGrams(columns=["x"], **parameters)
    assert our_columns(Entry([("NGrams", parameters)], {"x": [["a", "b"]]}), {"x": "x"})["x"] == [["a", "ab", "b"]]


def test_columns_that_nothing_touches(tmp_path: Any) -> None:
    """Typed rows go through TensorFlow as a whole there; here a column that nothing touches is what it was."""
    tft = stock_ops()
    import apache_beam as beam
    from apache_beam.ml.transforms.base import MLTransform

    def run(rows: Sequence[Any]) -> None:
        with tempfile.TemporaryDirectory() as location, beam.Pipeline() as pipeline:
            transform = MLTransform(write_artifact_location=location).with_transform(tft.ScaleTo01(columns=["x"]))
            _ = pipeline | beam.Create(rows) | transform | beam.Map(repr) | beam.io.WriteToText(str(tmp_path / "rows"))

    with pytest.raises(TypeError, match="Unable to identify type: <class 'bool'>"):
        run([beam.Row(x=1.0, flag=True), beam.Row(x=2.0, flag=False)])
    run([beam.Row(x=1.0, text="abc", i=5), beam.Row(x=2.0, text="q", i=6)])
    written = sorted(line for path in tmp_path.glob("rows*") for line in path.read_text().splitlines())
    assert "text=array([b'abc']" in written[0] and "i=array([5])" in written[0]

    entry = Entry([("ScaleTo01", {})], {"x": [1.0, 2.0]})
    batch = pa.record_batch({"x": [1.0, 2.0], "text": ["abc", "q"], "i": [5, 6], "flag": [True, False]})
    pipeline = Pipeline(ours.from_config([{"type": "ScaleTo01", "config": {"columns": ["x"]}}]), batch.schema)
    states = {slot.key: fit(pipeline.transforms[0], [batch])[slot.slot] for slot in pipeline.slots()}
    found = pipeline.bind(states).apply(batch)
    assert our_columns(entry, {"x": "x"})["x"] == found.column("x").to_pylist() == [0.0, 1.0]
    assert found.drop_columns(["x"]).equals(batch.drop_columns(["x"]))

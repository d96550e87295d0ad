"""Every transform of the catalogue, in several configurations, keeps the contract.

The table says which types each configuration takes: all others of ``strategies.ALL_TYPES`` have to be refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import BadRows, JobError
from featuremill.transforms.bucketing import ApplyBuckets, ApplyBucketsWithInterpolation, Bucketize
from featuremill.transforms.crossing import FeatureCross
from featuremill.transforms.datetime_parts import DatetimeParts
from featuremill.transforms.embedding import EmbedText
from featuremill.transforms.embedding_columns import EmbedColumns
from featuremill.transforms.embedding_images import EmbedImage
from featuremill.transforms.encoding import FrequencyEncode, OneHot
from featuremill.transforms.hashing import HashStrings
from featuremill.transforms.imputation import Impute
from featuremill.transforms.numeric import Clip, LogTransform
from featuremill.transforms.registry import CATALOGUE
from featuremill.transforms.scaling import ScaleByMinMax, ScaleTo01, ScaleToGaussian, ScaleToZScore
from featuremill.transforms.text import BagOfWords, DeduplicateTensorPerRow, NGrams
from featuremill.transforms.tfidf import TFIDF
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary
from support.small_bert import small_model
from support.small_encoders import image_bytes, small_columns, small_vision
from support.strategies import (
    ALL_TYPES,
    BINARIES,
    BOOLEANS,
    DATES,
    DECIMALS,
    FLOATS,
    INTEGERS,
    NOTHING,
    STRINGS,
    STRUCTS,
    TIMES,
    TIMESTAMPS,
    depth_of,
    leaf_of,
    special_values,
    types_with,
)
from support.transform_conformance import Case, TransformConformance, all_null

NUMBERS = types_with(*INTEGERS, *FLOATS, *DECIMALS, *BOOLEANS, *NOTHING)
FIXED_NUMBERS = frozenset(t for t in NUMBERS if pt.is_fixed_size_list(t) and depth_of(t) == 1)
CATEGORIES = types_with(*STRINGS, *BINARIES, *INTEGERS, *BOOLEANS, *DATES, *TIMESTAMPS, *NOTHING)
TEXT_KEYS = types_with(*STRINGS, *BINARIES, *INTEGERS, *BOOLEANS, *DATES, *NOTHING)
TEXTS = types_with(*STRINGS, *NOTHING)
FLAT_TEXTS = types_with(*STRINGS, *NOTHING, depths=(0, 1))
FLAT_TEXTS_AND_BYTES = types_with(*STRINGS, *BINARIES, *NOTHING, depths=(0, 1))

DEDUPLICABLE = frozenset(t for t in ALL_TYPES if depth_of(t) == 0 or (depth_of(t) == 1 and leaf_of(t) not in STRUCTS))


def positive(leaf: pa.DataType) -> Sequence[Any]:
    """Numbers that have a logarithm."""
    return [v for v in special_values(leaf) if v is not None and v > 0] or special_values(leaf)


def last_bucket(buckets: int) -> Any:
    """NaN is above every boundary."""
    return lambda row: row == [buckets]


ON_SIGMOID = {"on_constant": "sigmoid"}
SCALING = [
    *(
        case
        for kind, parameters in (
            (ScaleToZScore, {}),
            (ScaleTo01, ON_SIGMOID),
            (ScaleByMinMax, {"min_value": -1, "max_value": 4.5} | ON_SIGMOID),
            (ScaleToGaussian, {}),
        )
        for case in (
            Case(kind(["x"]), NUMBERS, fails=(JobError,)),
            Case(kind(["x", "y"], dtype="float64", output="{column}_new", **parameters), NUMBERS, fails=(JobError,)),
            Case(kind(["x"], elementwise=True, dtype="float64", **parameters), FIXED_NUMBERS, fails=(JobError,)),
        )
    ),
]  # fmt: skip

BUCKETING = [
    *(
        Case(Bucketize(["x"], n, **extra), NUMBERS, on_nan=lambda row, n=n: 0 <= row[0] < n)
        for n, extra in ((1, {}), (2, {}), (7, {"output": "bucket"}), (3, {"exact": True, "epsilon": 0.2}))
    ),
    Case(Bucketize(["x"], 3, elementwise=True), FIXED_NUMBERS),
    Case(ApplyBuckets(["x", "y"], [0.25, 2, 5], output=["a", "b"]), NUMBERS, on_nan=lambda row: row == [3, 3]),
    Case(ApplyBuckets(["x"], [0]), NUMBERS, on_nan=last_bucket(1)),
    Case(ApplyBuckets(["x"], [float("-inf"), 1, float("inf")]), NUMBERS, on_nan=last_bucket(3)),
    *(
        Case(ApplyBucketsWithInterpolation(["x"], b), NUMBERS, on_nan=lambda row: row == [0.5])
        for b in ([1], [-2.25, 0, 1.5, 100])
    ),
]

NUMERIC = [
    Case(Clip(["x"], min_value=0, max_value=3), NUMBERS - types_with(*BOOLEANS)),
    Case(Clip(["x"], max_value=1.5), types_with(*FLOATS, *DECIMALS, *NOTHING), unfit=types_with(*INTEGERS)),
    Case(Clip(["x", "y"], lower_quantile=0.1, upper_quantile=0.5), NUMBERS - types_with(*BOOLEANS)),
    Case(Clip(["x"], lower_quantile=0.95), NUMBERS - types_with(*BOOLEANS)),
    Case(Clip(["x"], min_value=1, upper_quantile=0.9), NUMBERS - types_with(*BOOLEANS), fails=(JobError,)),
    Case(LogTransform(["x"]), NUMBERS, fails=(BadRows,)),
    Case(LogTransform(["x", "y"], base="10", offset=1, dtype="float64"), NUMBERS, domain=positive),
    Case(LogTransform(["x"], base=3.5, on_invalid="null"), NUMBERS),
    Case(LogTransform(["x"], base="2", on_invalid="null", output="log"), NUMBERS),
]



def filled(row: list[Any]) -> bool:
    """Nothing is missing, and where there is an indicator, it says that something was."""
    return all(value is not None and value == value and value is not False for value in row)


def unfilled_nan(row: list[Any]) -> bool:
    """NaN is left, and the indicator says that nothing is missing."""
    return row[0] != row[0] and row[1:] in ([], [False])


def inside_filled(row: list[Any]) -> bool:
    """A null list stays null; all else is filled."""
    return all(value is None for value in row) or filled(row)


COMPARABLE = frozenset(t for t in ALL_TYPES if leaf_of(t) not in STRUCTS)
COUNTABLE = COMPARABLE - types_with(pa.float16())
WHOLE = types_with(*INTEGERS, *FLOATS, *DECIMALS)
ANY_TEXT = types_with(*STRINGS, *BINARIES)
DATE_TEXT = types_with(*STRINGS, *BINARIES[:3], *DATES, *TIMESTAMPS[:4])
IMPUTATION = [
    Case(Impute(["x"], strategy="mean"), NUMBERS, fails=(JobError,), on_null=inside_filled, on_nan=filled),
    Case(
        Impute(["x", "y"], strategy="median", indicator=True),
        NUMBERS, fails=(JobError,), on_null=inside_filled, on_nan=filled,
    ),
    Case(
        Impute(["x"], strategy="most_frequent", output="y"),
        COUNTABLE, fails=(JobError,), on_null=inside_filled, on_nan=filled,
    ),
    Case(
        Impute(["x"], strategy="most_frequent", indicator=True, nan_as_missing=False),
        COUNTABLE, fails=(JobError,), on_null=inside_filled, on_nan=unfilled_nan,
    ),
    *(
        Case(
            Impute(columns, strategy="constant", fill_value=value, indicator=indicator),
            types, unfit=COMPARABLE - types, on_null=inside_filled, on_nan=filled,
        )
        for columns, value, indicator, types in (
            (["x", "y"], 7, True, WHOLE),
            (["x"], "no", False, ANY_TEXT),
            (["x"], "2024-02-29", True, DATE_TEXT),
            (["x"], True, False, types_with(*BOOLEANS)),
        )
    ),
]  # fmt: skip

VOCABULARIES = [
    Case(ComputeAndApplyVocabulary(["x"]), CATEGORIES),
    Case(ComputeAndApplyVocabulary(["x", "y"], num_oov_buckets=3, top_k=2, output=["a", "b"]), CATEGORIES),
    Case(ComputeAndApplyVocabulary(["x"], frequency_threshold=2, default_value=-7), CATEGORIES, fails=(JobError,)),
    Case(ComputeAndApplyVocabulary(["x"], " ,", top_k=3, frequency_threshold=1, num_oov_buckets=1), TEXTS),
    Case(ComputeAndApplyVocabulary(["x"], "é", vocab_filename="words"), TEXTS),
]


def zeros(row: list[Any]) -> bool:
    """A vector without a one."""
    return all(not any(vector) for vector in row)


ENCODING = [
    Case(FrequencyEncode(["x"]), CATEGORIES),
    Case(FrequencyEncode(["x", "y"], normalize=False, dtype="int64"), CATEGORIES),
    Case(FrequencyEncode(["x"], normalize=False, dtype="float64", output="{column}_count"), CATEGORIES),
    Case(OneHot(["x"], top_k=3), CATEGORIES, on_null=zeros),
    Case(OneHot(["x", "y"], top_k=2, num_oov_buckets=2, dtype="int8"), CATEGORIES, on_null=zeros),
    Case(
        OneHot(["x"], categories=["a", "é", ""], num_oov_buckets=1, dtype="int64"),
        types_with(*STRINGS, *BINARIES[:3]), unfit=CATEGORIES - types_with(*STRINGS, *BINARIES[:3]), on_null=zeros,
    ),
    Case(
        OneHot(["x"], categories=[3, 0, 100], dtype="float64"),
        types_with(*INTEGERS), unfit=CATEGORIES - types_with(*INTEGERS), on_null=zeros,
    ),
]  # fmt: skip

HASHING = [
    Case(HashStrings(["x"], 10), TEXT_KEYS),
    Case(HashStrings(["x", "y"], 2**40, [1, 2**64 - 1], output="{column}_hash"), TEXT_KEYS),
]

FLAT_KEYS = frozenset(t for t in TEXT_KEYS if depth_of(t) == 0)
CROSSING = [
    Case(FeatureCross(["x", "y"], hash_buckets=100), FLAT_KEYS),
    Case(FeatureCross(["x", "y", "z"], hash_buckets=7, separator="|", output="all"), FLAT_KEYS),
    Case(FeatureCross(["x", "y"], top_k=3, num_oov_buckets=2), FLAT_KEYS),
    Case(FeatureCross(["x", "y"], frequency_threshold=2, default_value=-3), FLAT_KEYS, fails=(JobError,)),
]

TEXT = [
    Case(NGrams(["x"]), FLAT_TEXTS_AND_BYTES),
    Case(NGrams(["x", "y"], " ,", ngram_range=(1, 3), ngrams_separator="", output="{column}_n"), FLAT_TEXTS_AND_BYTES),
    Case(NGrams(["x"], ngram_range=(2, 2), ngrams_separator="é"), FLAT_TEXTS_AND_BYTES),
    Case(BagOfWords(["x"], " "), FLAT_TEXTS_AND_BYTES),
    Case(BagOfWords(["x"], ngram_range=(1, 2), ngrams_separator=" ", compute_word_count=True), FLAT_TEXTS_AND_BYTES),
    Case(BagOfWords(["x"], "é ", compute_word_count=True, key_vocab_filename="words"), FLAT_TEXTS),
    Case(DeduplicateTensorPerRow(["x"]), DEDUPLICABLE),
    Case(DeduplicateTensorPerRow(["x", "y"], output="{column}_once"), DEDUPLICABLE),
]


def terms(leaf: pa.DataType) -> Sequence[Any]:
    """Terms, known and unknown, negative and far apart."""
    return [v for v in special_values(leaf) if v is None or v < 2**63]


TERMS = types_with(*(t for t in INTEGERS if t != pa.uint64()), *NOTHING, depths=(0, 1))
TFIDFS = [
    Case(TFIDF(["x"]), TERMS, domain=terms, counts_missing=True),
    Case(TFIDF(["x", "y"], 5, False, output=["a", "b"]), TERMS, counts_missing=True),
]


def dates_as_text(leaf: pa.DataType) -> Sequence[Any]:
    """Texts that are dates; other types as they are."""
    return ["2024-02-29", "1969-12-31", "0001-01-01", "2038-07-31"] if leaf in STRINGS else special_values(leaf)


def some_dates_as_text(leaf: pa.DataType) -> Sequence[Any]:
    """Texts of which some are no dates."""
    return ["2023-02-29", "", *dates_as_text(leaf)] if leaf in STRINGS else special_values(leaf)


ANY_DATES = types_with(*DATES, *TIMESTAMPS, *NOTHING, depths=(0,))
ALL_DATE_PARTS = ["year", "quarter", "month", "week", "day", "day_of_week", "day_of_year", "is_weekend", "unix_seconds"]
DATETIMES = [
    Case(DatetimeParts(["x"]), ANY_DATES),
    Case(DatetimeParts(["x", "y"], parts=ALL_DATE_PARTS, cyclical=True, output="{column}_at"), ANY_DATES),
    Case(
        DatetimeParts(["x"], parts=["hour", "minute", "second"], cyclical=True, output="at"),
        types_with(*TIMES, *TIMESTAMPS, *NOTHING, depths=(0,)),
    ),
    Case(
        DatetimeParts(["x"], parts=["hour", "day", "unix_seconds"], timezone="America/New_York"),
        types_with(*TIMESTAMPS[4:], *NOTHING, depths=(0,)),
    ),
    Case(
        DatetimeParts(["x"], parts=["day_of_week", "year"], format="%Y-%m-%d"),
        ANY_DATES | types_with(*STRINGS, depths=(0,)), domain=dates_as_text,
    ),
    Case(
        DatetimeParts(["x"], parts=["unix_seconds"], format="%F", output="t"),
        ANY_DATES | types_with(*STRINGS, depths=(0,)), domain=some_dates_as_text, fails=(BadRows,),
    ),
]


def some_images(leaf: pa.DataType) -> Sequence[Any]:
    """Contents of image files, and bytes that are none; other types as they are."""
    if leaf not in BINARIES or pt.is_fixed_size_binary(leaf):
        return special_values(leaf)
    return [image_bytes(1), image_bytes(2, (9, 30), mode="L"), image_bytes(3, format_="JPEG"), image_bytes(1)[:60]]


NUMBERS_OF_A_ROW = types_with(*INTEGERS, *FLOATS, *DECIMALS, *BOOLEANS, *NOTHING, depths=(0,))
EMBEDDABLE = types_with(*STRINGS, *BINARIES, *NOTHING, depths=(0,))
EMBEDDINGS = [
    Case(EmbedText(["x"], small_model(), max_tokens=12), EMBEDDABLE, fails=(BadRows,)),
    Case(
        EmbedText(
            ["x", "y"], small_model(), max_tokens=3, normalize=False, dtype="float16", truncate_dim=5, carry=False,
            output="{column}_vector",
        ),
        EMBEDDABLE, fails=(BadRows,),
    ),
    Case(EmbedImage(["x"], small_vision()), EMBEDDABLE, domain=some_images, fails=(BadRows,)),
    Case(
        EmbedImage(
            ["x", "y"], small_vision(), normalize=True, dtype="float16", truncate_dim=3, carry=False, root="/nowhere",
            preprocessing={"resample": 2}, output="{column}_vector",
        ),
        EMBEDDABLE, domain=some_images, fails=(BadRows,),
    ),
    Case(EmbedColumns(["x", "y"], small_columns()), NUMBERS_OF_A_ROW, on_nan=all_null),
    Case(
        EmbedColumns(["x", "y"], small_columns(), normalize=True, dtype="float16", backend=["cpu"], output="v"),
        NUMBERS_OF_A_ROW, on_nan=all_null,
    ),
]  # fmt: skip


CASES: dict[str, list[Case]] = {}
for _case in (
    *SCALING, *BUCKETING, *NUMERIC, *IMPUTATION, *VOCABULARIES, *ENCODING, *HASHING, *CROSSING, *TEXT, *TFIDFS,
    *DATETIMES, *EMBEDDINGS,
):  # fmt: skip
    CASES.setdefault(type(_case.transform).__name__, []).append(_case)


def test_every_transform_of_the_catalogue_is_in_the_table() -> None:
    assert set(CASES) == set(CATALOGUE)
    assert all(len(cases) >= 2 for cases in CASES.values())


class TestTransforms(TransformConformance):
    cases = tuple(case for cases in CASES.values() for case in cases)

"""Pipelines: batches and single rows through transforms, casts, passing through, pruning."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import BadRows, ColumnTypeError, MissingColumnError, RequestError
from featuremill.transforms.bucketing import Bucketize
from featuremill.transforms.contract import Transform
from featuremill.transforms.crossing import FeatureCross
from featuremill.transforms.datetime_parts import DatetimeParts
from featuremill.transforms.imputation import Impute
from featuremill.transforms.numeric import Clip, LogTransform
from featuremill.transforms.pipeline import BoundPipeline, Pipeline
from featuremill.transforms.scaling import ScaleTo01, ScaleToZScore
from featuremill.transforms.text import NGrams
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary
from support.fitting import apply, fit

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("price", pa.float64()),
        ("delay", pa.int32()),
        ("kind", pa.string()),
        ("words", pa.string()),
        ("day", pa.date32()),
    ]
)
ROWS = [
    {"id": 2**60, "price": 1.5, "delay": -3, "kind": "a", "words": "to be or", "day": dt.date(2013, 1, 1)},
    {"id": 1, "price": None, "delay": None, "kind": None, "words": None, "day": None},
    {"id": None, "price": float("nan"), "delay": 7, "kind": "", "words": "", "day": dt.date(1969, 12, 31)},
    {"id": 3, "price": 9.25, "delay": 120, "kind": "b", "words": "be to", "day": dt.date(2020, 2, 29)},
    {"id": 4, "price": -4.0, "delay": 0, "kind": "a", "words": "or not to be", "day": dt.date(2000, 12, 31)},
]
BATCH = pa.RecordBatch.from_pylist(ROWS, schema=SCHEMA)

TRANSFORMS: list[Transform] = [
    ScaleToZScore(["price"]),
    Bucketize(["price"], 3, output="price_bucket"),
    Impute(["delay"], strategy="mean", output="delay_full"),
    ComputeAndApplyVocabulary(["kind"], num_oov_buckets=2),
    FeatureCross(["kind", "id"], hash_buckets=50, output="both"),
    NGrams(["words"], " ", ngram_range=(1, 2), ngrams_separator=" "),
    ComputeAndApplyVocabulary(["words"]),
    DatetimeParts(["day"]),
    Clip(["delay"], min_value=0, max_value=100),
]


def fitted(transforms: Sequence[Transform], batch: pa.RecordBatch) -> BoundPipeline:
    """A pipeline fitted transform by transform, without the engine."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    pipeline = Pipeline(transforms, batch.schema)
    states: dict[str, pa.Table] = {}
    for i, transform in enumerate(transforms):
        seen = pa.record_batch(columns)
        own = fit(transform, [seen])
        states |= {slot.key: own[slot.slot] for slot in pipeline.slots() if slot.transform == i}
        columns.update(apply(transform, seen, own))
    return pipeline.bind(states)


BOUND = fitted(TRANSFORMS, BATCH)


def same(left: Any, right: Any) -> bool:
    """Equal, NaN to NaN."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    return left == right or (left != left and right != right)


def test_a_batch_comes_out_as_declared() -> None:
    found = BOUND.apply(BATCH)
    assert found.schema.equals(BOUND.output_schema)
    found.validate(full=True)
    assert found.num_rows == BATCH.num_rows
    empty = BOUND.apply(BATCH.slice(0, 0))
    assert (empty.num_rows, empty.schema) == (0, BOUND.output_schema)


def test_cutting_a_batch_changes_nothing() -> None:
    whole = BOUND.apply(BATCH)
    for i in range(BATCH.num_rows):
        assert same(BOUND.apply(BATCH.slice(i, 1)).to_pylist(), whole.slice(i, 1).to_pylist())


def test_a_single_row_gives_what_a_batch_gives() -> None:
    assert same([BOUND.apply_row(row) for row in ROWS], BOUND.apply(BATCH).to_pylist())


values: dict[str, st.SearchStrategy[Any]] = {
    "id": st.none() | st.integers(-(2**63), 2**63 - 1),
    "price": st.none() | st.floats(),
    "delay": st.none() | st.integers(-(2**31), 2**31 - 1),
    "kind": st.none() | st.sampled_from(["a", "b", "", "unseen", "ä"]) | st.text(max_size=3),
    "words": st.none() | st.lists(st.sampled_from(["to", "be", "or", "x", ""]), max_size=4).map(" ".join),
    "day": st.none() | st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1)),
}


@settings(max_examples=100, deadline=None)
@given(st.fixed_dictionaries(values))
def test_any_row_gives_what_a_batch_gives(row: dict[str, Any]) -> None:
    batch = pa.RecordBatch.from_pylist([row], schema=SCHEMA)
    assert same([BOUND.apply_row(row)], BOUND.apply(batch).to_pylist())


def test_the_row_given_is_left_alone() -> None:
    row = dict(ROWS[0])
    BOUND.apply_row(row)
    assert row == ROWS[0]


# --- columns that come, are missing, are of another type -------------------------------------------------------------


def bound(schema: Mapping[str, pa.DataType], *transforms: Transform) -> BoundPipeline:
    return Pipeline(transforms, pa.schema(schema)).bind({})


CLIP = bound({"x": pa.float64(), "id": pa.int64()}, Clip(["x"], max_value=2.0, output="y"))


def test_columns_that_no_transform_needs_may_be_missing() -> None:
    found = CLIP.apply(pa.record_batch({"x": [1.0, 3.0]}))
    assert found.to_pydict() == {"x": [1.0, 3.0], "y": [1.0, 2.0]}
    assert CLIP.apply_row({"x": 3.0}) == {"x": 3.0, "y": 2.0}


def test_columns_that_nobody_knows_pass_through() -> None:
    extra = pa.array([[1], None], pa.list_(pa.uint8()))
    found = CLIP.apply(pa.record_batch({"new": extra, "x": [1.0, 3.0]}))
    assert found.column("new").equals(extra)
    assert CLIP.apply_row({"new": "?", "x": 3.0}) == {"new": "?", "x": 3.0, "y": 2.0}


def test_a_needed_column_that_is_missing_is_told_with_a_suggestion() -> None:
    clip = bound({"air_time": pa.float64()}, Clip(["air_time"], max_value=2.0))
    for call in (lambda: clip.apply(pa.record_batch({"air_tme": [1.0]})), lambda: clip.apply_row({"air_tme": 1.0})):
        with pytest.raises(MissingColumnError, match=r"'air_time' is missing. Did you mean 'air_tme'\?"):
            call()


def test_a_batch_without_rows_or_columns() -> None:
    nothing = bound({"x": pa.int64()})
    assert nothing.apply(pa.record_batch({"x": pa.array([], pa.int64())})).num_rows == 0
    with pytest.raises(MissingColumnError):
        CLIP.apply(pa.RecordBatch.from_pydict({}))


@pytest.mark.parametrize(
    ("declared", "given"),
    [
        (pa.float64(), pa.array([1, None, 3])),
        (pa.float64(), pa.array([1.0, None], pa.float32())),
        (pa.float64(), pa.array([True, None])),
        (pa.float64(), pa.array([None, None])),
        (pa.int32(), pa.array([1, None], pa.int64())),
        (pa.int64(), pa.array([1.0, None])),
        (pa.list_(pa.float64()), pa.array([[1], None, []])),
        (pa.list_(pa.float64()), pa.array([None])),
    ],
    ids=str,
)
def test_values_are_cast_where_nothing_is_lost(declared: pa.DataType, given: pa.Array) -> None:
    clip = bound({"x": declared}, Clip(["x"], max_value=2))
    batch = pa.record_batch({"x": given})
    found = clip.apply(batch)
    assert found.schema.field("x").type == declared
    assert found.to_pylist() == [clip.apply_row(row) for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("declared", "given"),
    [
        (pa.int64(), [1.5]),
        (pa.int8(), [300]),
        (pa.float64(), ["1"]),
        (pa.string(), [1]),
        (pa.string(), [1.5]),
        (pa.string(), [True]),
        (pa.date32(), ["2013-01-01"]),
        (pa.timestamp("s"), ["2013-01-01"]),
        (pa.int64(), [dt.datetime(2013, 1, 1)]),
        (pa.float64(), [2**53 + 1]),
        (pa.float64(), [[1.0]]),
    ],
    ids=str,
)
def test_both_paths_refuse_what_does_not_fit(declared: pa.DataType, given: list[Any]) -> None:
    step = bound({"price": declared}, Seen(["price"]))
    for call in (lambda: step.apply(pa.record_batch({"price": given})), lambda: step.apply_row({"price": given[0]})):
        with pytest.raises(RequestError, match="price"):
            call()


class Seen(ComputeAndApplyVocabulary):
    """Reads a column of any type and leaves it alone."""

    def output_type(self, column: pa.Field) -> pa.DataType:
        return column.type

    def analyzer(self, column: str) -> None:
        return None

    def prepare_column(self, state: Any, column: pa.Field) -> None:
        return None

    def apply_column(self, array: pa.Array, prepared: None) -> pa.Array:
        return array

    def row_function(self, prepared: None, column: pa.Field) -> Any:
        return lambda value: value


PASSED = {
    "int8": pa.array([1, None], pa.int8()),
    "uint64": pa.array([2**64 - 1, None], pa.uint64()),
    "bool": pa.array([True, None]),
    "text": pa.array(["ä", None], pa.large_string()),
    "bytes": pa.array([b"\xff", None], pa.binary()),
    "fixed": pa.array([b"ab", None], pa.binary(2)),
    "date": pa.array([dt.date(1, 1, 1), None]),
    "moment": pa.array([0, None], pa.timestamp("ns", "Europe/Berlin")),
    "time": pa.array([1, None], pa.time64("us")),
    "gap": pa.array([1, None], pa.duration("ms")),
    "money": pa.array([None, None], pa.decimal128(38, 10)),
    "lists": pa.array([[[1], []], None], pa.list_(pa.list_(pa.int16()))),
    "vector": pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0], pa.float16()), 1),
    "struct": pa.array([{"a": 1, "b": None}, None], pa.struct({"a": pa.int32(), "b": pa.string()})),
    "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int8())),
    "null": pa.nulls(2),
    "coded": pa.DictionaryArray.from_arrays(pa.array([0, None], pa.int8()), ["x"]),
}


@pytest.mark.parametrize("name", PASSED)
def test_columns_that_no_transform_writes_keep_their_exact_type(name: str) -> None:
    batch = pa.record_batch({"x": [1.0, 3.0], name: PASSED[name]})
    found = bound(dict(zip(batch.schema.names, batch.schema.types, strict=True)), Clip(["x"], max_value=2.0)).apply(
        batch
    )
    assert found.column(name).type == PASSED[name].type
    assert found.column(name).equals(PASSED[name])


@pytest.mark.parametrize("name", ["kind", "words"])
def test_an_encoded_column_gives_what_a_plain_one_gives(name: str) -> None:
    position = SCHEMA.get_field_index(name)
    encoded = BATCH.set_column(position, name, BATCH.column(name).dictionary_encode())
    found = BOUND.apply(encoded)
    assert found.schema.equals(BOUND.output_schema)
    assert same(found.to_pylist(), BOUND.apply(BATCH).to_pylist())


def test_an_encoded_column_that_passes_through_is_decoded() -> None:
    batch = pa.record_batch({"x": [1.0], "id": pa.array([7]), "t": pa.array(["a"]).dictionary_encode()})
    passing = bound({"x": pa.float64(), "t": pa.string()}, Clip(["x"], max_value=2.0))
    assert passing.apply(batch).column("t").type == pa.string()


# --- building --------------------------------------------------------------------------------------------------------


def test_a_missing_column_is_told_when_the_pipeline_is_built() -> None:
    with pytest.raises(MissingColumnError, match=r"ScaleTo01\('air_tme'\).*Did you mean 'air_time'\?"):
        Pipeline([ScaleTo01(["air_tme"])], pa.schema({"air_time": pa.float64()}))


def test_a_transform_sees_the_type_that_the_one_before_it_left() -> None:
    with pytest.raises(ColumnTypeError, match="'kind'"):
        Pipeline([ScaleTo01(["kind"])], SCHEMA)
    assert Pipeline([ComputeAndApplyVocabulary(["kind"]), ScaleTo01(["kind"])], SCHEMA).output_schema.field("kind")


def test_a_column_that_comes_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="'x' more than once"):
        Pipeline([], pa.schema([("x", pa.int64()), ("x", pa.string())]))


def test_a_bad_row_tells_which_transform_it_failed() -> None:
    log = bound({"x": pa.float64()}, Clip(["x"], max_value=9.0), LogTransform(["x"]))
    with pytest.raises(BadRows) as caught:
        log.apply(pa.record_batch({"x": [1.0, -1.0, 2.0, 0.0]}))
    assert (caught.value.rows, caught.value.transform, caught.value.position) == ([1, 3], "LogTransform", 1)
    with pytest.raises(BadRows):
        log.apply_row({"x": -1.0})


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["deepcopy", "pickle"])
def test_transforms_can_be_copied_and_compared(copied: Any) -> None:
    again = copied(TRANSFORMS)
    assert again == TRANSFORMS
    assert [hash(t) for t in again] == [hash(t) for t in TRANSFORMS]
    assert [slot.key for slot in Pipeline(again, SCHEMA).slots()] == [slot.key for slot in BOUND.pipeline.slots()]


def test_one_bound_pipeline_serves_many_threads() -> None:
    numbers = np.arange(2000)
    batch = pa.record_batch(
        {
            name: pa.array([ROWS[i % 5][name] for i in numbers.tolist()], SCHEMA.field(name).type)
            for name in SCHEMA.names
        }
    )
    fresh = BOUND.pipeline.bind({slot.key: s for slot, s in zip(BOUND.pipeline.slots(), states(), strict=True)})
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(fresh.apply_row, batch.to_pylist()))
        batches = list(pool.map(fresh.apply, [batch.slice(i, 250) for i in range(0, 2000, 250)]))
    expected = BOUND.apply(batch).to_pylist()
    assert same(rows, expected)
    assert same(pa.Table.from_batches(batches).to_pylist(), expected)


def states() -> list[pa.Table]:
    columns = dict(zip(BATCH.schema.names, BATCH.columns, strict=True))
    found = []
    for transform in TRANSFORMS:
        seen = pa.record_batch(columns)
        own = fit(transform, [seen])
        found += [own[slot] for slot in sorted(own)]
        columns.update(apply(transform, seen, own))
    return found

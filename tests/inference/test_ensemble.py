"""Means and votes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featuremill.artifacts.errors import ParameterError
from featuremill.core.inference.ensemble import combine, combined_schema, mean, vote
from featuremill.core.inference.predictions import Predictions, constant


def test_the_mean_of_numbers_of_any_type() -> None:
    columns = [pa.array([1, 2], pa.int8()), pa.array([0.5, 0.25], pa.float32()), pa.array([True, False])]
    found = mean(columns)
    assert found.type == pa.float64()
    assert found.to_pylist() == pytest.approx([2.5 / 3, 2.25 / 3])


def test_the_mean_of_float32_is_float32_and_computed_in_float64() -> None:
    ones = [pa.array([1e8 + 8, 1.0], pa.float32())] * 3
    found = mean(ones)
    assert found.type == pa.float32() and found.to_pylist() == [1e8 + 8, 1.0]


def test_a_null_or_nan_is_not_hidden() -> None:
    assert mean([pa.array([1.0, None]), pa.array([None, 3.0])]).to_pylist() == [None, None]
    assert np.isnan(mean([pa.array([np.nan]), pa.array([3.0])])[0].as_py())


def test_the_mean_of_vectors() -> None:
    type_ = pa.list_(pa.float32(), 2)
    columns = [pa.array([[9, 9], [1, 2], None], type_).slice(1), pa.array([[3, 4], [5, 6]], type_)]
    found = mean(columns)
    assert found.type == type_ and found.to_pylist() == [[2.0, 3.0], None]


def test_votes_equal_a_count_by_hand() -> None:
    rng = np.random.default_rng(0)
    raw = [rng.choice(["a", "b", "c", None], 500, p=[0.3, 0.3, 0.3, 0.1]).tolist() for _ in range(5)]
    expected = []
    for row in zip(*raw, strict=True):
        counts = Counter(v for v in row if v is not None)
        # most_common keeps the order of first appearance among equals.
        expected.append(counts.most_common(1)[0][0] if counts else None)
    assert vote([pa.array(c, pa.string()) for c in raw]).to_pylist() == expected
    assert vote([pa.array(c, pa.string()).dictionary_encode() for c in raw]).to_pylist() == expected


def test_votes_over_numbers() -> None:
    assert vote([pa.array([1, 2]), pa.array([2, 2]), pa.array([2, 1])]).to_pylist() == [2, 2]
    assert vote([pa.array([], pa.int64())] * 2).to_pylist() == []


@pytest.mark.parametrize(
    ("schemas", "how", "message"),
    [
        ([{"p": pa.string()}] * 2, "mean", "which has no mean"),
        ([{"p": pa.string()}, {"p": pa.int64()}], "vote", "different types, int64 and string"),
        ([{"p": pa.int64()}, {"q": pa.int64()}], "vote", "different columns, p and q"),
        ([{"p": pa.int64()}] * 2, {"q": "mean"}, "'p' is not said"),
        ([{"p": pa.int64()}] * 2, {"p": "mean", "q": "mean"}, "'q' is no column"),
        ([{"p": pa.list_(pa.int64(), 2)}] * 2, "vote", "between single values"),
        ([{"p": pa.list_(pa.int64(), 2)}, {"p": pa.list_(pa.int64(), 3)}], "mean", "no mean"),
    ],
)
def test_what_cannot_be_combined(schemas: list[Any], how: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        combined_schema([pa.schema(s) for s in schemas], how)


def test_columns_may_be_combined_each_in_its_way() -> None:
    def predictions(p: list[float], label: list[str], version: str) -> Predictions:
        return Predictions(pa.record_batch({"p": p, "label": label}), constant(version, len(p)))

    found = combine(
        [predictions([0.0], ["no"], "a@1"), predictions([1.0], ["yes"], "b@2"), predictions([0.5], ["yes"], "c@3")],
        {"p": "mean", "label": "vote"},
        1,
    )
    assert found.columns.to_pylist() == [{"p": 0.5, "label": "yes"}]
    assert found.versions.to_pylist() == ["a@1+b@2+c@3"]

"""FeatureCross: against the joined text of each row, worked out in Python."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError, ParameterError, ParameterTypeError
from featuremill.transforms.crossing import FeatureCross, cross
from featuremill.transforms.fingerprint import fingerprint64_of, text_of
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary
from support.fitting import apply, apply_rows, fit, partials_of, table_bytes

rows_of_three = st.lists(
    st.tuples(st.none() | st.text("ab_X", max_size=3), st.none() | st.integers(-2, 2), st.none() | st.booleans()),
    max_size=20,
)


def batch_of(rows: list[tuple[Any, ...]], *, encoded: bool = False) -> pa.RecordBatch:
    a, b, c = zip(*rows, strict=True) if rows else ((), (), ())
    arrays = [pa.array(a, pa.string()), pa.array(b, pa.int64()), pa.array(c, pa.bool_())]
    return pa.RecordBatch.from_arrays(
        [arrays[0].dictionary_encode() if encoded else arrays[0], *arrays[1:]], ["a", "b", "c"]
    )


def joined(row: tuple[Any, ...]) -> str | None:
    return None if None in row else "_X_".join(str(text_of(v)) for v in row)


@settings(deadline=None)
@given(rows_of_three, st.booleans())
def test_a_cross_is_the_joined_text(rows: list[tuple[Any, ...]], encoded: bool) -> None:
    batch = batch_of(rows, encoded=encoded)
    made = cross(batch.columns, "_X_")
    assert made.to_pylist() == [joined(r) for r in rows]
    buckets = apply(FeatureCross(["a", "b", "c"], hash_buckets=11), batch)["a_x_b_x_c"]
    assert buckets.to_pylist() == [None if (t := joined(r)) is None else fingerprint64_of(t) % 11 for r in rows]


@settings(max_examples=40, deadline=None)
@given(rows_of_three, st.none() | st.integers(1, 3), st.integers(0, 2), st.data())
def test_a_vocabulary_is_that_of_the_joined_text(
    rows: list[tuple[Any, ...]], top_k: int | None, buckets: int, data: st.DataObject
) -> None:
    op = FeatureCross(["a", "b", "c"], top_k=top_k, num_oov_buckets=buckets, output="x")
    plain = ComputeAndApplyVocabulary(["x"], top_k=top_k, num_oov_buckets=buckets)
    texts = pa.RecordBatch.from_arrays([pa.array([joined(r) for r in rows], pa.string())], ["x"])
    batch = batch_of(rows)
    whole = fit(op, [batch])
    assert whole["x"].to_pydict() == fit(plain, [texts])["x"].to_pydict()
    expected = apply(plain, texts)["x"].to_pylist()
    assert apply(op, batch, whole)["x"].to_pylist() == expected
    assert apply_rows(op, batch, whole) == [{"x": e} for e in expected]

    point = data.draw(st.integers(0, len(rows)))
    cut = fit(op, [batch_of(rows[point:], encoded=True), batch.slice(0, point)])
    assert table_bytes(cut["x"]) == table_bytes(whole["x"])


def test_statistics_read_both_columns() -> None:
    op = FeatureCross(["a", "b"])
    (analyzer,) = op.analyzers().values()
    assert analyzer.inputs == ("a", "b")
    assert op.output_names == ["a_x_b"]
    (partials,) = partials_of(op, [batch_of([("p", 1, True), ("p", 1, False)])]).values()
    assert partials[0].to_pydict() == {"token": ["p_X_1"], "count": [2]}


def test_bytes_dates_and_views() -> None:
    arrays = [pa.array([b"\xff", b"a"]), pa.array([dt.date(2020, 1, 2), None]), pa.array(["v", "w"], pa.string_view())]
    assert cross(arrays, "|").to_pylist() == [b"\xff|2020-01-02|v", None]
    assert cross(arrays[1:], "").type.value_type == pa.string()


def test_dictionaries_with_nulls_and_nothing_in_them() -> None:
    encoded = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["a", None]))
    assert cross([encoded, pa.array([1, 2, 3])], "-").to_pylist() == ["a-1", None, None]
    assert cross([pa.array([None, None], pa.string()), pa.array([1, 2])], "-").to_pylist() == [None, None]
    assert cross([pa.array([1, 2]), pa.nulls(2)], "-").to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("columns", "parameters", "error", "message"),
    [
        (["a"], {}, ParameterError, "two columns or more"),
        (["a", "b"], {"hash_buckets": 0}, ParameterError, "hash_buckets got 0"),
        (
            ["a", "b"],
            {"hash_buckets": 5, "top_k": 3},
            ParameterError,
            "top_k got 3, expected nothing, because hash_buckets",
        ),
        (["a", "b"], {"separator": 1}, ParameterTypeError, "separator got 1"),
        (["a", "b"], {"output": ["p", "q"]}, ParameterError, "one name: a cross makes one column"),
        (["a", "b"], {"output": "{column}_x"}, ParameterError, "one name"),
    ],
)
def test_wrong_parameters(columns: list[str], parameters: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FeatureCross(columns, **parameters)


@pytest.mark.parametrize("type_", [pa.float64(), pa.list_(pa.string()), pa.timestamp("s")])
def test_wrong_columns(type_: pa.DataType) -> None:
    with pytest.raises(ColumnTypeError, match="Use Bucketize first for measurements"):
        FeatureCross(["a", "b"]).output_fields(pa.schema([("a", pa.string()), ("b", type_)]))


def test_config_round_trip() -> None:
    op = FeatureCross(["a", "b"], hash_buckets=5, output="ab")
    assert FeatureCross(**op.config()) == op

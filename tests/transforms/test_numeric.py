"""Clipping and logarithms: against NumPy, types kept, bad rows named, single rows as batches."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import BadRows, ColumnTypeError, JobError, ParameterError, ParameterTypeError
from featuremill.transforms.contract import Transform
from featuremill.transforms.numeric import Clip, LogTransform
from support.fitting import apply, apply_rows, fit
from support.numbers import COLUMNS, INF, NAN, assert_rows_equal_batch, batch_of, fit_apply, numbers

LOGS: list[Transform] = [
    LogTransform(columns=["x"], on_invalid="null"),
    LogTransform(columns=["x"], base="2", offset=1, on_invalid="null", dtype="float64"),
    LogTransform(columns=["x"], base="10", on_invalid="null", dtype="float64"),
    LogTransform(columns=["x"], base=3, offset=0.5, on_invalid="null"),
]
CLIPS: list[Transform] = [
    Clip(columns=["x"], min_value=0),
    Clip(columns=["x"], max_value=4),
    Clip(columns=["x"], min_value=0, max_value=4),
    Clip(columns=["x"], lower_quantile=0.25, upper_quantile=0.75),
    Clip(columns=["x"], min_value=1, max_value=1),
]


@pytest.mark.parametrize("op", [*LOGS, *CLIPS], ids=str)
@pytest.mark.parametrize("name", COLUMNS)
def test_every_kind_of_column(op: Transform, name: str) -> None:
    if isinstance(op, Clip) and name == "bool":
        with pytest.raises(ColumnTypeError, match="the column is bool"):
            op.output_fields(batch_of(COLUMNS[name]).schema)
        return
    assert_rows_equal_batch(op, batch_of(COLUMNS[name]))


@pytest.mark.parametrize("op", [*LOGS, *CLIPS], ids=str)
@given(values=st.lists(numbers(), max_size=12))
@settings(max_examples=40)
def test_single_rows_are_as_batches(op: Transform, values: list[float | None]) -> None:
    assert_rows_equal_batch(op, batch_of(values, pa.float64()))


# --- Clip -----------------------------------------------------------------------------------------------------------


TYPES = [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(25, 2)]


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_clip_keeps_the_type(type_: pa.DataType) -> None:
    op = Clip(columns=["x"], min_value=2, max_value=5)
    batch = batch_of(pa.array([1, 3, None, 7]).cast(type_))
    assert apply(op, batch)["x"].equals(pa.array([2, 3, None, 5]).cast(type_))


@given(st.lists(st.floats(-100, 100), max_size=20), st.floats(-50, 0), st.floats(0, 50))
def test_clip_is_that_of_numpy(values: list[float], low: float, high: float) -> None:
    found = fit_apply(Clip(columns=["x"], min_value=low, max_value=high), values, pa.float64())
    assert found == np.clip(values, low, high).tolist()


def test_clip_leaves_nan_and_clips_infinities() -> None:
    found = fit_apply(Clip(columns=["x"], min_value=0, max_value=1), [NAN, None, INF, -INF, -0.0])
    assert np.isnan(found[0])
    assert found[1:4] == [None, 1.0, 0.0]
    assert str(found[4]) == "-0.0"


def test_clip_by_quantiles() -> None:
    values = list(range(1, 101))
    found = fit_apply(Clip(columns=["x"], lower_quantile=0.05, upper_quantile=0.9), values)
    assert found == np.clip(values, 5, 90).tolist()
    assert fit_apply(Clip(columns=["x"], upper_quantile=0.5), [None, None], pa.float64()) == [None, None]


def test_limits_that_cross_are_an_error() -> None:
    op = Clip(columns=["x"], min_value=1, upper_quantile=0.5)
    batch = batch_of([0.0, 0.5, 3.0])
    with pytest.raises(JobError, match=r"the lower limit, 1, is above the upper one, 0\.5"):
        op.prepare(fit(op, [batch]), batch.schema)


def test_clip_limits_beyond_the_type_limit_nothing_or_are_refused() -> None:
    assert fit_apply(Clip(columns=["x"], min_value=-1000, max_value=1000), [-128, 127], pa.int8()) == [-128, 127]
    with pytest.raises(ParameterError, match="min_value got 1000, expected a number that int8"):
        Clip(columns=["x"], min_value=1000).output_fields(pa.schema({"x": pa.int8()}))
    with pytest.raises(ParameterError, match="max_value got 0.5, expected a whole number"):
        Clip(columns=["x"], max_value=0.5).output_fields(pa.schema({"x": pa.int64()}))
    with pytest.raises(ParameterError, match="min_value got 0.125"):
        Clip(columns=["x"], min_value=0.125).output_fields(pa.schema({"x": pa.decimal128(9, 2)}))


def test_clip_large_integers_exactly() -> None:
    large = 2**62
    found = fit_apply(Clip(columns=["x"], min_value=large + 1), [large, large + 2, -1])
    assert found == [large + 1, large + 2, large + 1]
    assert fit_apply(Clip(columns=["x"], max_value=2), [Decimal("1.25"), Decimal("2.01")], pa.decimal128(9, 2)) == [
        Decimal("1.25"), Decimal("2.00"),
    ]


def test_wrong_clip_requests() -> None:
    with pytest.raises(ParameterError, match="at least one limit"):
        Clip(columns=["x"])
    with pytest.raises(ParameterError, match="max_value got 1, expected at least min_value, 2"):
        Clip(columns=["x"], min_value=2, max_value=1)
    with pytest.raises(ParameterError, match="either min_value or lower_quantile"):
        Clip(columns=["x"], min_value=2, lower_quantile=0.1)
    with pytest.raises(ParameterError, match="from 0 to 1"):
        Clip(columns=["x"], upper_quantile=95)
    with pytest.raises(ParameterTypeError, match="min_value got '1'"):
        Clip(columns=["x"], min_value="1")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="finite"):
        Clip(columns=["x"], max_value=INF)


# --- LogTransform ---------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(1e-300, 1e300), max_size=20))
def test_logarithms_are_those_of_numpy(values: list[float]) -> None:
    for base, function in (("e", np.log), ("2", np.log2), ("10", np.log10)):
        found = fit_apply(LogTransform(columns=["x"], base=base, dtype="float64"), values, pa.float64())
        assert found == function(np.array(values)).tolist()
    found = fit_apply(LogTransform(columns=["x"], base=7.0, dtype="float64"), values, pa.float64())
    np.testing.assert_allclose(found, np.log(values) / np.log(7.0), rtol=1e-15)


def test_log_of_what_has_none() -> None:
    values = [1.0, 0.0, None, -2.0, NAN]
    batch = batch_of(values)
    with pytest.raises(BadRows, match=r"LogTransform\('x'\): x \+ offset must be above 0") as caught:
        apply(LogTransform(columns=["x"]), batch)
    assert caught.value.rows == [1, 3]
    found = fit_apply(LogTransform(columns=["x"], on_invalid="null"), values)
    assert found[:4] == [0.0, None, None, None]
    assert np.isnan(found[4])
    with pytest.raises(BadRows):
        apply_rows(LogTransform(columns=["x"]), batch_of([0.0]))


def test_bad_rows_of_lists_are_rows_and_null_lists_hide_what_is_behind_them() -> None:
    op = LogTransform(columns=["x"])
    with pytest.raises(BadRows) as caught:
        apply(op, batch_of([[[1.0]], None, [[2.0], None, [0.0, -1.0]], [[]], [[3.0, None, 0.0]]]))
    assert caught.value.rows == [2, 4]
    hidden = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 1.0, 0.0, 0.0]), 2, mask=pa.array([False, True]))
    assert apply(op, batch_of(hidden))["x"].to_pylist() == [[0.0, 0.0], None]


def test_an_offset_makes_counts_fit() -> None:
    found = fit_apply(LogTransform(columns=["x"], offset=1, base="2", dtype="float64"), [0, 1, 7, None])
    assert found == [0.0, 1.0, 3.0, None]


def test_wrong_log_requests() -> None:
    for base in (1, 0, -2.0, "3"):
        with pytest.raises(ParameterError, match="base got"):
            LogTransform(columns=["x"], base=base)
    with pytest.raises(ParameterError, match="on_invalid got 'skip', expected 'error' or 'null'"):
        LogTransform(columns=["x"], on_invalid="skip")  # type: ignore[arg-type]
    with pytest.raises(ColumnTypeError):
        LogTransform(columns=["x"]).output_fields(pa.schema({"x": pa.string()}))


@pytest.mark.parametrize("op", [*LOGS, *CLIPS], ids=str)
def test_parameters_come_back_from_the_config(op: Transform) -> None:
    assert type(op)(**op.config()) == op
    assert fit(op, [batch_of([1.0])]).keys() == op.analyzers().keys()

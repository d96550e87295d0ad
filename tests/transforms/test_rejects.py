"""Bad rows cost themselves: none more, none less, each with its reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import BadRows, ColumnTypeError
from featuremill.transforms.rejects import Reject, apply_or_reject

Apply = Callable[[pa.RecordBatch], pa.RecordBatch]


def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"y": pc.multiply(batch.column("x"), 2), "t": batch.column("t")})


def named(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Knows its bad rows, and names them all."""
    rows = np.flatnonzero(batch.column("x").to_numpy() < 0)
    if len(rows):
        raise BadRows("x is negative", rows=rows.tolist(), transform="Root", column="x")
    return doubled(batch)


def one_at_a_time(batch: pa.RecordBatch) -> pa.RecordBatch:
    rows = np.flatnonzero(batch.column("x").to_numpy() < 0)
    if len(rows):
        raise BadRows("x is negative", rows=[rows[-1]], transform="Root", column="x")
    return doubled(batch)


def unnamed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Fails as a whole for one bad row."""
    if (batch.column("x").to_numpy() < 0).any():
        raise ValueError("negative\nand more")
    return doubled(batch)


def mixed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Names some of its bad rows, and fails for the others."""
    values = batch.column("x").to_numpy()
    if ((values < 0) & (values % 2 == 0)).any():
        raise BadRows("x is negative", rows=np.flatnonzero((values < 0) & (values % 2 == 0)).tolist())
    return unnamed(batch)


def batch_of(values: list[int]) -> pa.RecordBatch:
    texts = pa.array([f"t{v % 3}" for v in values], pa.string()).dictionary_encode()
    return pa.record_batch({"x": pa.array(values, pa.int64()), "t": texts})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-5, 50), max_size=40), st.sampled_from([named, one_at_a_time, unnamed, mixed]))
def test_each_bad_row_costs_itself(values: list[int], apply: Apply) -> None:
    batch = batch_of(values)
    kept, result, rejects = apply_or_reject(apply, batch)
    good = [v for v in values if v >= 0]
    assert kept.column("x").to_pylist() == good
    assert result.column("y").to_pylist() == [2 * v for v in good]
    assert result.column("t").to_pylist() == [f"t{v % 3}" for v in good]
    assert [r.row for r in rejects] == [i for i, v in enumerate(values) if v < 0]
    assert kept.schema.equals(batch.schema)
    assert result.schema.equals(apply(batch.slice(0, 0)).schema)


def test_a_good_batch_is_given_back_itself() -> None:
    batch = batch_of([1, 2])
    assert apply_or_reject(named, batch)[0] is batch


def test_reasons() -> None:
    assert apply_or_reject(named, batch_of([1, -1]))[2] == [Reject(1, "x is negative", "Root", "x")]
    assert apply_or_reject(unnamed, batch_of([-1, 1]))[2] == [Reject(0, "ValueError: negative")]


@pytest.mark.parametrize("apply", [named, one_at_a_time, unnamed, mixed])
def test_rows_that_are_all_bad(apply: Apply) -> None:
    kept, result, rejects = apply_or_reject(apply, batch_of([-1] * 1500))
    assert (kept.num_rows, result.num_rows, len(rejects)) == (0, 0, 1500)
    assert result.schema.names == ["y", "t"]


def test_one_bad_row_among_many_takes_few_attempts() -> None:
    attempts = []

    def counted(batch: pa.RecordBatch) -> pa.RecordBatch:
        attempts.append(batch.num_rows)
        return unnamed(batch)

    values = list(range(1 << 12))
    values[1234] = -1
    kept, _, rejects = apply_or_reject(counted, batch_of(values))
    assert (kept.num_rows, [r.row for r in rejects]) == (len(values) - 1, [1234])
    assert len(attempts) <= 2 * 12 + 2


def test_rows_named_twice_are_set_aside_once() -> None:
    def twice(batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = np.flatnonzero(batch.column("x").to_numpy() < 0)
        if len(rows):
            raise BadRows("bad", rows=[*reversed(rows.tolist()), *rows.tolist()])
        return batch

    assert [r.row for r in apply_or_reject(twice, batch_of([-1, 2, -3]))[2]] == [0, 2]


def test_an_error_of_the_request_passes() -> None:
    def wrong(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise ColumnTypeError("x is text")

    with pytest.raises(ColumnTypeError):
        apply_or_reject(wrong, batch_of([1, 2]))


def test_an_error_that_no_row_is_to_blame_for_passes() -> None:
    calls = []

    def broken(batch: pa.RecordBatch) -> pa.RecordBatch:
        calls.append(batch.num_rows)
        raise ValueError("always")

    with pytest.raises(ValueError, match="always"):
        apply_or_reject(broken, batch_of(list(range(1000))))
    assert len(calls) < 15
    with pytest.raises(ValueError, match="always"):
        apply_or_reject(broken, batch_of([]))


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("x"), MemoryError(), AssertionError("x")], ids=repr)
def test_errors_that_are_not_about_data_pass(error: Exception) -> None:
    def broken(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.num_rows:
            raise error
        return batch

    with pytest.raises(type(error)):
        apply_or_reject(broken, batch_of([1, 2]))


@pytest.mark.parametrize("rows", [[], [2], [-1]], ids=str)
def test_bad_rows_that_name_no_row_of_the_batch_pass(rows: list[int]) -> None:
    def nameless(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise BadRows("some", rows=rows)

    with pytest.raises(BadRows, match="some"):
        apply_or_reject(nameless, batch_of([1, 2]))

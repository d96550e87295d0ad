"""Which rows a check takes out, and what becomes of a batch then."""

from __future__ import annotations

import pickle

import pyarrow as pa

from featuremill.core.quality.screen import Screen, kept_rows, screened, take_out
from featuremill.core.quality.statistics.metrics import Metric
from featuremill.core.quality.statistics.row_checks import RowCheck
from featuremill.transforms.fragments import TransformedBatch
from featuremill.transforms.rejects import Reject

BATCH = pa.record_batch({"unread": ["a", "b", "c", "d"], "x": [1.0, None, 9.0, 2.0], "y": [None, None, 1, 2]})


def null(column: str) -> RowCheck:
    return RowCheck(f"not_null({column})", Metric.of("column_values.nonnull.unexpected_count", {"column": column}))


def screen(*checks: RowCheck) -> Screen:
    return Screen(checks, BATCH.schema)


def test_each_row_says_all_that_it_fails() -> None:
    found = screen(null("x"), null("y")).rejects(BATCH)
    assert [(r.row, r.reason, r.column, r.quarantined) for r in found] == [
        (0, "not_null(y)", "y", True), (1, "not_null(x); not_null(y)", "x", True)
    ]


def test_only_the_columns_that_are_checked_are_read() -> None:
    one = screen(null("y"))
    assert one.columns == ["y"]
    assert one.passing(BATCH).tolist() == [False, False, True, True]
    assert pickle.loads(pickle.dumps(one)).rejects(BATCH.select(["y"])) == one.rejects(BATCH)


def test_rows_go_and_stay() -> None:
    kept, taken = take_out(BATCH, screen(null("x")).rejects(BATCH))
    assert kept.column("unread").to_pylist() == ["a", "c", "d"] and taken.rows.column("unread").to_pylist() == ["b"]
    kept, taken = take_out(BATCH, [])
    assert kept is BATCH and taken.rows.num_rows == 0


def test_rows_whose_result_fails_are_set_aside_as_they_were_read() -> None:
    """Beside one that a transform could not process; positions are those in the batch that was read."""
    stays = kept_rows(4, [Reject(0, "bad", "LogTransform")])
    source = BATCH.take(pa.array(stays))
    item = TransformedBatch(BATCH, source, source, BATCH.slice(0, 1), (Reject(0, "bad", "LogTransform"),))
    assert screened(item, None) is item and screened(item, screen(null("unread"))) is item
    found = screened(item, screen(null("x")))
    assert [(r.row, r.reason, r.quarantined) for r in found.rejects] == [(0, "bad", False), (1, "not_null(x)", True)]
    assert found.rejected.column("unread").to_pylist() == ["a", "b"]
    assert found.source.column("unread").to_pylist() == found.result.column("unread").to_pylist() == ["c", "d"]

"""Check rows in hand against a suite, in this process: for notebooks, tests and small data.

The same plan, the same statistics and the same judgement as in a job, without Beam.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from featuremill.artifacts.errors import ParameterTypeError
from featuremill.artifacts.frames import to_table
from featuremill.core.feature_recipe import numbered
from featuremill.core.quality.expectations.suite_plan import SuitePlan
from featuremill.core.quality.expectations.suites import Suite, load_suite
from featuremill.core.quality.statistics.collector import Collector, merge_partials

__all__ = ["check", "collect"]

BATCH_ROWS = 65_536


def check(
    data: Any,
    suite: Suite | str | os.PathLike[str] | Mapping[str, Any],
    *,
    keys: Sequence[str] = (),
    result_format: str | Mapping[str, Any] = "SUMMARY",
) -> Any:
    """What Great Expectations says of the rows: its own ``ExpectationSuiteValidationResult``.

    Success and values are those that its pandas engine gives for the same rows; ``docs/quality.md`` lists where they
    differ on purpose.

    Parameters
    ----------
    data
        A pyarrow Table or RecordBatch, a RecordBatchReader, a pandas or Polars frame, a dict of lists, or a list (or
        another iterable) of record batches of one schema, which are never held together.
    suite
        A suite, the path or URL of one, or the same as a mapping.
    keys
        The columns that name a row; they are shown with the failing ones.
    result_format
        ``BOOLEAN_ONLY``, ``BASIC``, ``SUMMARY`` or ``COMPLETE``, or a mapping as in :class:`SuitePlan`.

    Raises
    ------
    RequestError
        Before any row is looked at, when the suite is wrong or asks what one pass cannot tell.

    Examples
    --------
    >>> suite = {"expectations": [
    ...     {"type": "expect_column_values_to_be_between", "kwargs": {"column": "dep_delay", "max_value": 60}},
    ... ]}
    >>> result = check({"flight": ["UA1", "B62", "AA3"], "dep_delay": [4, 95, None]}, suite, keys=["flight"])
    >>> result.success, result.results[0].result["unexpected_percent"]
    (False, 50.0)
    >>> result.results[0].result["partial_unexpected_index_list"]
    [{'dep_delay': 95, 'flight': 'B62'}]
    >>> check({"dep_dely": [1]}, suite)
    Traceback (most recent call last):
    featuremill.artifacts.errors.MissingColumnError: suite, expectation 1 (expect_column_values_to_be_between of
    'dep_delay'): there is no column 'dep_delay'. Did you mean 'dep_dely'?
    """
    checked = suite if isinstance(suite, Suite) else load_suite(suite)
    schema, batches = as_batches(data)
    plan = SuitePlan(checked, schema, keys=keys, result_format=result_format)
    return plan.evaluate(collect(plan, batches))


def collect(plan: SuitePlan, batches: Iterable[pa.RecordBatch]) -> dict[str, pa.Table]:
    """The states of a plan's statistics over batches of its schema, as one fragment."""
    collector, rows = Collector(plan.statistics), 0
    for batch in batches:
        collector.update(numbered(batch, "", rows))
        rows += batch.num_rows
    return merge_partials(plan.statistics, [collector.partials()])


def as_batches(data: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema and the batches of whatever a caller has rows in."""
    if isinstance(data, pa.RecordBatchReader):
        return data.schema, iter(data)
    if isinstance(data, list | tuple | Iterator):
        rest = iter(data)
        first = next(rest, None)
        if isinstance(first, pa.RecordBatch):
            return first.schema, _same_schema(first, rest)
        raise ParameterTypeError(
            f"check got a {type(data).__name__} of {type(first).__name__}, expected record batches. "
            "Of no batch at all the columns are unknown: pass an empty table.", value=type(data).__name__,
        )
    table = _table(data)
    return table.schema, iter(table.to_batches(max_chunksize=BATCH_ROWS))


def _table(data: Any) -> pa.Table:
    try:
        return pa.table(dict(data)) if isinstance(data, Mapping) else to_table(data, pa.schema([]))[0]
    except (ParameterTypeError, pa.ArrowException, TypeError) as error:
        raise ParameterTypeError(
            f"check got a {type(data).__name__}, expected a pyarrow Table or RecordBatch, a pandas or Polars frame, "
            f"a dict of lists, or record batches ({error}).", value=type(data).__name__,
        ) from error


def _same_schema(first: pa.RecordBatch, rest: Iterator[Any]) -> Iterator[pa.RecordBatch]:
    yield first
    for batch in rest:
        if not batch.schema.equals(first.schema):
            raise ParameterTypeError(
                f"check got batches of different schemas: first {first.schema.names}, then {batch.schema.names}.",
                schema=str(batch.schema),
            )
        yield batch

"""From the statistics of all rows to Great Expectations' own result.

Each expectation judges its metrics itself, with its own code; nothing about success is decided here. The result is a
real ``ExpectationSuiteValidationResult``, for Great Expectations' stores, pages and actions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from featuremill.core.feature_recipe import FRAGMENT, ROW
from featuremill.core.quality.expectations.suites import import_gx, quiet
from featuremill.transforms.contract import State

if TYPE_CHECKING:
    from featuremill.core.quality.expectations.suite_plan import Planned, SuitePlan

__all__ = ["EXACTNESS", "evaluate", "sample_rows"]

EXACTNESS = "featuremill"
"""The key of a result's ``meta`` under which stands what is not exact about it."""


def evaluate(
    plan: SuitePlan,
    states: Mapping[str, State],
    *,
    run: str | None = None,
    time: datetime | None = None,
    asset: str = "rows",
) -> Any:
    """A ``great_expectations`` ``ExpectationSuiteValidationResult`` from the states of all rows.

    An expectation that cannot be judged (a text compared with a number, say) fails, with the exception in its
    ``exception_info``, as in Great Expectations. What is not exact about a value stands in the ``meta`` of its result,
    under ``featuremill``: ``rank_error`` and the like.

    Parameters
    ----------
    plan
        The plan whose statistics were collected.
    states
        The states of `plan.statistics`, by slot.
    run
        The name of the run.
    time
        When it ran, by default now.
    asset
        What to call the rows.
    """
    gx = import_gx()
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.validator.validation_statistics import calc_validation_statistics

    time = time or datetime.now(UTC)
    with quiet():
        results = [judged(plan, planned, states) for planned in plan.planned]
        counts = calc_validation_statistics(results)
        run_id = RunIdentifier(run_name=run, run_time=time)
    return ExpectationSuiteValidationResult(
        results=results,
        success=counts.success,
        suite_name=plan.suite.name,
        statistics={k: v for k, v in counts._asdict().items() if k != "success"},
        batch_id=asset,
        meta={
            "great_expectations_version": gx.__version__,
            "batch_spec": {"data_asset_name": asset},
            "batch_markers": {"ge_load_time": time.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")},
            "active_batch_definition": None,
            "run_id": run_id,
            "validation_time": time,
            "batch_parameters": None,
            "validation_id": None,
            "checkpoint_id": None,
        },
    )


def judged(plan: SuitePlan, planned: Planned, states: Mapping[str, State]) -> Any:
    """The result of one expectation."""
    from great_expectations.core import ExpectationValidationResult

    expectation = planned.expectation
    try:
        values = {id_: plan.metrics.value(metric, states) for id_, metric in planned.metrics.items()}
        result = expectation.metrics_validate(
            values, runtime_configuration={"result_format": dict(plan.format)}, execution_engine=plan.engine
        )
    except Exception as error:  # noqa: BLE001  # whatever it is, it is this expectation's result, as in Great Expectations
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return ExpectationValidationResult(
            success=False,
            expectation_config=expectation.configuration,
            exception_info={"raised_exception": True, "exception_message": told, "exception_traceback": told},
        )
    # Quantiles leave a numpy.bool here, which Great Expectations cannot write.
    result.success = bool(result.success)
    result.result = with_counts(plain(result.result), plan.format)
    exactness: dict[str, Any] = {}
    for metric in planned.metrics.values():
        exactness |= plan.metrics.error_bound(metric, states)
    if exactness:
        result.meta = {**result.meta, EXACTNESS: exactness}
    return result


def sample_rows(plan: SuitePlan, planned: Planned, states: Mapping[str, State]) -> list[dict[str, Any]]:
    """Some failing rows of an expectation of single rows: their keys, and the columns that it is about."""
    if planned.failing is None:
        return []
    rows = plan.metrics.sample_rows(planned.failing, states).slice(0, plan.sample)
    found: list[dict[str, Any]] = rows.drop_columns([FRAGMENT, ROW]).to_pylist()
    return found


def with_counts(values: dict[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """A result with the counts of its failing values, also where Great Expectations cannot sort them: None and numbers.

    >>> asked = {"result_format": "SUMMARY", "partial_unexpected_count": 20}
    >>> values = {"element_count": 5, "partial_unexpected_list": [[1, None], [2, 3], [1, None]]}
    >>> with_counts(values, asked)["partial_unexpected_counts"]
    [{'value': [1, None], 'count': 2}, {'value': [2, 3], 'count': 1}]
    """
    listed = values.get("unexpected_list", values.get("partial_unexpected_list"))
    wanted = asked["result_format"] in ("SUMMARY", "COMPLETE") and asked["partial_unexpected_count"]
    if not wanted or not listed or "element_count" not in values or "partial_unexpected_counts" in values:
        return values
    flat = [list(v.values()) if isinstance(v, Mapping) else v for v in listed]
    counts = Counter(map(repr, flat))
    value_of = {repr(v): v for v in flat}
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: asked["partial_unexpected_count"]]
    return {**values, "partial_unexpected_counts": [{"value": value_of[v], "count": n} for v, n in most]}


def plain(value: Any) -> Any:
    """A value without NumPy's scalars.

    >>> plain({"success_details": [np.bool_(True)], "value": np.float64(0.5)})
    {'success_details': [True], 'value': 0.5}
    """
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value

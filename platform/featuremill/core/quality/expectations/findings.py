"""What became of each expectation, as plain data for our own report, from Great Expectations' result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template
from typing import TYPE_CHECKING, Any

from featuremill.core.quality.expectations.evaluate import EXACTNESS, sample_rows
from featuremill.core.quality.expectations.suites import columns_of, quiet
from featuremill.core.quality.reports.report import CheckResult
from featuremill.transforms.contract import State

if TYPE_CHECKING:
    from featuremill.core.quality.expectations.suite_plan import SuitePlan

__all__ = ["check_results", "sentence"]

COLUMN_PARAMETERS = frozenset({"column", "column_A", "column_B", "column_list"})


def check_results(
    plan: SuitePlan, result: Any, states: Mapping[str, State], *, suite: str = "raw"
) -> tuple[CheckResult, ...]:
    """The expectations of a suite, in its order, with what was found.

    Parameters
    ----------
    plan
        The plan that was run.
    result
        What :func:`~featuremill.core.quality.expectations.evaluate.evaluate` made of the states.
    states
        The states, for the sample rows; they are there whatever the result format.
    suite
        ``raw`` or ``output``: on which rows.
    """
    found = []
    for planned, one in zip(plan.planned, result.results, strict=True):
        failure = one.exception_info.get("exception_message") if one.exception_info.get("raised_exception") else None
        content = one.to_json_dict()
        values: Mapping[str, Any] = content.get("result", {})
        kwargs = content["expectation_config"]["kwargs"]
        rows: Sequence[Mapping[str, Any]] = () if one.success or failure else sample_rows(plan, planned, states)
        found.append(
            CheckResult(
                suite=suite,
                expectation=planned.expectation.expectation_type,
                columns=columns_of(planned.expectation),
                success=one.success,
                description=sentence(planned.expectation),
                severity=planned.expectation.severity.value,
                kwargs={k: v for k, v in kwargs.items() if k not in COLUMN_PARAMETERS},
                observed=observed(values),
                elements=values.get("element_count"),
                unexpected=values.get("unexpected_count"),
                unexpected_percent=values.get("unexpected_percent"),
                samples=tuple(in_json(row) for row in rows),
                notes=notes(content.get("meta", {}).get(EXACTNESS, {})),
                error=failure,
            )
        )
    return tuple(found)


def sentence(expectation: Any) -> str:
    """The expectation in words: its own description, or the sentence by which Great Expectations describes it.

    >>> from featuremill.core.quality.expectations.suites import load_suite
    >>> kwargs = {"column": "x", "min_value": 0, "mostly": 0.9}
    >>> spec = {"expectations": [{"type": "expect_column_values_to_be_between", "kwargs": kwargs}]}
    >>> sentence(load_suite(spec).expectations[0])
    'x values must be greater than or equal to 0, at least 90 % of the time.'
    """
    from great_expectations.render.renderer.inline_renderer import InlineRenderer

    if expectation.description:
        return str(expectation.description)
    with quiet():
        parts = InlineRenderer(render_object=expectation.configuration).get_rendered_content()
    for part in parts:
        content = part.value.to_json_dict()
        template = content.get("template") or (content.get("header", {}).get("value") or {}).get("template")
        if template:
            parameters = content.get("params") or (content.get("header", {}).get("value") or {}).get("params") or {}
            values = {name: _word(p.get("value")) for name, p in parameters.items()}
            return " ".join(Template(template).safe_substitute(values).split())
    return ""


def _word(value: Any) -> str:
    return format(value, "g") if isinstance(value, float) else str(value)


def observed(values: Mapping[str, Any]) -> Any:
    """The observed value of a result; of quantiles, by their rank.

    >>> observed({"observed_value": {"quantiles": [0.5, 0.9], "values": [3, 8]}})
    {'0.5': 3, '0.9': 8}
    """
    value = values.get("observed_value")
    if isinstance(value, Mapping) and set(value) == {"quantiles", "values"}:
        return {format(q, "g"): v for q, v in zip(value["quantiles"], value["values"], strict=True)}
    return value


def notes(exactness: Mapping[str, Any]) -> tuple[str, ...]:
    """What is not exact about a result, in sentences.

    >>> notes({"rank_error": 0.0002})
    ('The rank of a quantile may be off by 0.02 % of the rows.',)
    """
    told = []
    for name, value in exactness.items():
        if name == "rank_error":
            told.append(f"The rank of a quantile may be off by {value * 100:.2g} % of the rows.")
        elif name == "rows_kept":
            told.append(f"Of the failing rows the first {value:,} are listed in Great Expectations' result.")
        else:
            told.append(f"{name}: {value}")
    return tuple(told)


def in_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A sample row in values that JSON has, by Great Expectations' own rules."""
    from great_expectations.util import convert_to_json_serializable

    return {name: convert_to_json_serializable(value) for name, value in row.items()}

"""The suites of one run: what the job file and the schema contract ask of the rows, planned and, afterwards, judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from featuremill.artifacts.errors import ParameterError
from featuremill.artifacts.store import Store
from featuremill.core.explain import at
from featuremill.core.feature_recipe import FRAGMENT, ROW
from featuremill.core.quality.reports.report import CheckResult
from featuremill.core.quality.riding import OUTPUT, RAW
from featuremill.core.quality.schema_contract import SchemaContract, row_expectations
from featuremill.core.quality.screen import Screen
from featuremill.core.quality.spec import QualitySpec
from featuremill.core.quality.statistics.row_checks import RowCheck
from featuremill.transforms.contract import Analyzer, State

if TYPE_CHECKING:
    from featuremill.core.quality.expectations.suite_plan import SuitePlan

__all__ = ["Judged", "PlannedSuite", "plan_suites", "screen_of"]


@dataclass(frozen=True)
class Judged:
    """What became of a suite."""

    checks: tuple[CheckResult, ...]
    page: str | None
    """Great Expectations' own page of it, relative to the report, where it was asked for."""


@dataclass(frozen=True, eq=False)
class PlannedSuite:
    """A suite that is checked on one side of the run."""

    number: int
    """Its position among the suites of the run."""
    side: str
    """:data:`RAW` or :data:`OUTPUT`."""
    plan: SuitePlan
    discards: bool
    """Whether rows that fail one of its critical expectations are taken out."""

    @property
    def prefix(self) -> str:
        """What its slots begin with, on a side that has others."""
        return f"suite {self.number}:"

    @property
    def statistics(self) -> dict[str, Analyzer]:
        """What it needs, by slot."""
        return {self.prefix + slot: analyzer for slot, analyzer in self.plan.statistics.items()}

    @property
    def screened(self) -> tuple[RowCheck, ...]:
        """The checks that cost a row its place."""
        return self.plan.row_checks if self.discards else ()

    @property
    def taken_out(self) -> list[bool]:
        """For each expectation whether rows that fail it are taken out."""
        metrics = {check.metric for check in self.screened}
        return [planned.failing in metrics for planned in self.plan.planned]

    def judge(self, states: Mapping[str, State], run: str, store: Store, *, docs: bool) -> Judged:
        """Judge the states of its side; Great Expectations' own results are left in the store of the report."""
        from featuremill.core.quality.expectations.findings import check_results
        from featuremill.core.quality.expectations.gx_store import save_result

        own = {s.removeprefix(self.prefix): state for s, state in states.items() if s.startswith(self.prefix)}
        result = self.plan.evaluate(own, run=run, asset=self.side)
        save_result(result, self.plan.suite, store, "gx")
        page = None
        if docs:
            from featuremill.core.quality.expectations.data_docs import save_pages

            page = save_pages(result, self.plan.suite, store, "gx/data_docs")[0]
        return Judged(check_results(self.plan, result, own, suite=self.side), page)

    def facts(self) -> dict[str, Any]:
        """What it is, for the plan of a job."""
        read = {c for analyzer in self.plan.statistics.values() for c in analyzer.inputs} - {FRAGMENT, ROW}
        expectations = self.plan.suite.expectations
        return {
            "on": self.side,
            "name": self.plan.suite.name,
            "where": self.plan.suite.where,
            "expectations": len(expectations),
            "severities": dict(Counter(e.severity.value for e in expectations)),
            "columns": [name for name in self.plan.schema.names if name in read],
            "takes_out": len(self.screened),
        }


def plan_suites(
    spec: QualitySpec, contract: SchemaContract | None, raw: pa.Schema, output: pa.Schema | None
) -> tuple[PlannedSuite, ...]:
    """The suites of a job.

    Raises
    ------
    RequestError
        When one of them is wrong or does not fit the columns; with the place in the job file.
    """
    quarantines = spec.on_failure == "quarantine"
    asked: list[tuple[str, str | dict[str, Any], str, pa.Schema, bool]] = []
    if spec.suite is not None:
        asked.append(("suite", spec.suite, RAW, raw, quarantines))
    for name, expectations in (_asked_of_rows(contract, raw) if contract is not None else {}).items():
        content = {"name": name, "expectations": expectations}
        asked.append(("schema", content, RAW, raw, quarantines or name == NEW_COLUMNS))
    if spec.output_suite is not None and output is not None:
        asked.append(("output_suite", spec.output_suite, OUTPUT, output, quarantines))
    found: list[PlannedSuite] = []
    for number, (key, suite, side, schema, discards) in enumerate(asked):
        plan = _planned(spec, key, suite, schema)
        if plan.suite.name in [other.plan.suite.name for other in found]:
            raise ParameterError(
                f"quality.{key}: there are two suites named {plan.suite.name!r}. Give one of them another name.",
                key=("quality", key),
            )
        found.append(PlannedSuite(number, side, plan, discards))
    return tuple(found)


NOT_NULL, NEW_COLUMNS = "schema_contract", "schema_contract_new_columns"
"""The suites that a contract makes: of columns that may not be null, and of columns that are to be empty."""


def _asked_of_rows(contract: SchemaContract, schema: pa.Schema) -> dict[str, list[dict[str, Any]]]:
    known = {column.name for column in contract.columns}
    found: dict[str, list[dict[str, Any]]] = {}
    for expectation in row_expectations(contract, schema):
        name = NOT_NULL if expectation["kwargs"]["column"] in known else NEW_COLUMNS
        found.setdefault(name, []).append(expectation)
    return found


def _planned(spec: QualitySpec, key: str, suite: str | dict[str, Any], schema: pa.Schema) -> SuitePlan:
    from featuremill.core.quality.expectations.suite_plan import SuitePlan
    from featuremill.core.quality.expectations.suites import load_suite

    with at("quality", key):
        loaded = load_suite({"name": key, **suite} if isinstance(suite, dict) else suite, where=key)
        keys = [name for name in spec.keys if name in schema.names]
        return SuitePlan(loaded, schema, keys=keys, result_format=spec.result_format)


def screen_of(suites: Sequence[PlannedSuite], side: str, schema: pa.Schema | None) -> Screen | None:
    """The checks of a side that cost a row its place; None: there are none."""
    checks = tuple(check for suite in suites if suite.side == side for check in suite.screened)
    return Screen(checks, schema) if checks and schema is not None else None

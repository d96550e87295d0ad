"""What a suite needs from one pass over the rows, and what one pass cannot give, told before it starts.

Great Expectations itself says which metrics an expectation needs; :class:`SuitePlan` hands them to
:class:`~featuremill.core.quality.statistics.metrics.Metrics`, which makes mergeable statistics of them. What needs more
than one pass, the order of the rows, or another table is refused by name and with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from featuremill.artifacts.errors import MissingColumnError, ParameterError, RequestError, suggest
from featuremill.core.quality.expectations.refusals import check_bounds, check_columns, missing, refuse
from featuremill.core.quality.expectations.suites import Suite, columns_of, label, quiet
from featuremill.core.quality.statistics.metrics import Metric, Metrics, UnsupportedMetric
from featuremill.core.quality.statistics.row_checks import RowCheck, RowChecks
from featuremill.transforms.contract import Analyzer, State

__all__ = ["RESULT_FORMATS", "Planned", "SuitePlan"]

RESULT_FORMATS = ("BOOLEAN_ONLY", "BASIC", "SUMMARY", "COMPLETE")
"""How much a result says, from least to most; the names are those of Great Expectations."""

PARTIAL = 20
"""How many failing values a result lists, unless its format says another number."""
MOST_LISTED = 200
"""How many failing values a result lists at most: Great Expectations' own MAX_RESULT_RECORDS."""

FORMAT_KEYS = (
    "result_format", "partial_unexpected_count", "exclude_unexpected_values", "unexpected_index_column_names"
)


@dataclass(frozen=True)
class Planned:
    """One expectation and what it needs."""

    expectation: Any
    metrics: Mapping[tuple[Any, ...], Metric]
    """By the identifiers that Great Expectations gives them."""
    failing: Metric | None
    """For an expectation of single rows: how many fail it."""


@dataclass(frozen=True, eq=False)
class SuitePlan:
    """A suite bound to the schema of the rows that it will check.

    Parameters
    ----------
    suite
        The suite.
    schema
        Of the rows.
    keys
        The columns that name a row; they are shown with the failing ones.
    result_format
        ``BOOLEAN_ONLY``, ``BASIC``, ``SUMMARY`` or ``COMPLETE``, or a mapping with ``result_format`` and, if wanted,
        ``partial_unexpected_count`` (how many failing values are listed), ``exclude_unexpected_values`` and
        ``unexpected_index_column_names`` (the same as `keys`).

    Raises
    ------
    MissingColumnError
        When a column of the suite, or a key, is not in the schema.
    ColumnTypeError
        When an expectation cannot be asked of a column's type.
    ParameterError
        For an expectation that one pass cannot check, with the reason; for a wrong result format.

    Examples
    --------
    >>> from featuremill.core.quality.expectations.suites import load_suite
    >>> schema = pa.schema({"carrier": pa.string(), "dep_delay": pa.int32()})
    >>> def plan(**expectation):
    ...     return SuitePlan(load_suite({"expectations": [expectation]}), schema)
    >>> len(plan(type="expect_column_max_to_be_between", kwargs={"column": "dep_delay", "max_value": 9}).statistics)
    1
    >>> plan(type="expect_column_max_to_be_between", kwargs={"column": "dep_dely", "max_value": 9})
    Traceback (most recent call last):
    featuremill.artifacts.errors.MissingColumnError: suite, expectation 1 (expect_column_max_to_be_between of
    'dep_dely'): there is no column 'dep_dely'. Did you mean 'dep_delay'?
    >>> plan(type="expect_column_values_to_be_increasing", kwargs={"column": "dep_delay"})
    Traceback (most recent call last):
    featuremill.artifacts.errors.ParameterError: suite, expectation 1 (expect_column_values_to_be_increasing of
    'dep_delay') cannot be checked here: it compares each row with the one before, ...
    """

    suite: Suite
    schema: pa.Schema
    keys: Sequence[str] = ()
    result_format: str | Mapping[str, Any] = "SUMMARY"

    def __post_init__(self) -> None:
        keys = tuple(self.keys) or tuple(checked_format(self.result_format).get("unexpected_index_column_names", ()))
        for key in keys:
            if key not in self.schema.names:
                raise MissingColumnError(f"keys: {missing(key, self.schema)}", column=key)
        object.__setattr__(self, "keys", keys)
        _ = self.planned, self.metrics

    @cached_property
    def format(self) -> dict[str, Any]:
        """The result format as Great Expectations takes it."""
        names = {"unexpected_index_column_names": list(self.keys)} if self.keys else {}
        return checked_format(self.result_format) | names

    @property
    def sample(self) -> int:
        """How many failing rows are shown for each expectation; for COMPLETE more are kept."""
        return int(self.format["partial_unexpected_count"])

    @cached_property
    def engine(self) -> Any:
        """An engine of Great Expectations over no rows: expectations ask it for the columns and their types."""
        from great_expectations.execution_engine import PandasExecutionEngine

        return PandasExecutionEngine(batch_data_dict={"": self.schema.empty_table().to_pandas()})

    @cached_property
    def planned(self) -> tuple[Planned, ...]:
        """The expectations, in order, each with the metrics that it needs."""
        return tuple(self._plan(i, e) for i, e in enumerate(self.suite.expectations))

    @cached_property
    def metrics(self) -> Metrics:
        """All metrics of all expectations."""
        wanted = [metric for planned in self.planned for metric in planned.metrics.values()]
        return Metrics(wanted, self.schema, keys=self.keys, sample=self.sample)

    @property
    def statistics(self) -> dict[str, Analyzer]:
        """What the pass over the rows has to collect, by slot; picklable, and free of Great Expectations."""
        return self.metrics.statistics

    @cached_property
    def row_checks(self) -> tuple[RowCheck, ...]:
        """The checks by which single rows can be set aside.

        Of expectations that a row meets or fails on its own, whatever the other rows are: those of severity critical
        that hold for every row. Where ``mostly`` tolerates some failing rows, none is set aside.
        """
        found = []
        for planned in self.planned:
            expectation = planned.expectation
            if planned.failing is None or expectation.severity.value != "critical" or expectation.mostly != 1:
                continue
            check = RowCheck(f"{expectation.expectation_type}({', '.join(columns_of(expectation))})", planned.failing)
            try:
                RowChecks([check], self.schema)
            except UnsupportedMetric:
                continue
            found.append(check)
        return tuple(found)

    def evaluate(self, states: Mapping[str, State], **run: Any) -> Any:
        """The result, from the states of all rows; see :func:`.evaluate.evaluate`."""
        from featuremill.core.quality.expectations.evaluate import evaluate

        return evaluate(self, states, **run)

    def _plan(self, position: int, expectation: Any) -> Planned:
        """One expectation's metrics; refused when one pass cannot give them."""
        where = label(self.suite, position)
        refuse(expectation, where)
        check_columns(expectation, self.schema, where)
        try:
            with quiet():
                needed = expectation.get_validation_dependencies(
                    execution_engine=self.engine, runtime_configuration={"result_format": dict(self.format)}
                )
        except ValueError as error:
            raise ParameterError(f"{where}: {error}.", expectation=expectation.expectation_type) from error
        condition = expectation.configuration.kwargs.get("row_condition")
        metrics = {c.id: as_metric(c, condition) for c in needed.get_metric_configurations()}
        try:
            Metrics(metrics.values(), self.schema, keys=self.keys, sample=self.sample)
        except UnsupportedMetric as error:
            raise ParameterError(
                f"{where} cannot be checked here: {str(error).rstrip('.')}.", expectation=expectation.expectation_type
            ) from error
        except RequestError as error:
            raise type(error)(f"{where}: {error}", **error.facts) from error
        check_bounds(expectation, metrics, self.schema, self.engine, where)
        count = f"{getattr(expectation, 'map_metric', None)}.unexpected_count"
        failing = next((metric for metric in metrics.values() if metric.name == count), None)
        return Planned(expectation, metrics, failing)


def checked_format(spec: Any) -> dict[str, Any]:
    """A result format as Great Expectations takes it, with all that has a default.

    >>> checked_format("BASIC")
    {'result_format': 'BASIC', 'partial_unexpected_count': 20}
    >>> checked_format("FULL")
    Traceback (most recent call last):
    featuremill.artifacts.errors.ParameterError: result_format got 'FULL', expected one of BOOLEAN_ONLY, ...
    """
    asked = dict(spec) if isinstance(spec, Mapping) else {"result_format": spec}
    for key in asked:
        if key not in FORMAT_KEYS:
            raise ParameterError(
                f"result_format: {key!r} is not taken. {suggest(str(key), FORMAT_KEYS)}", parameter="result_format"
            )
    if asked.get("result_format") not in RESULT_FORMATS:
        raise ParameterError(
            f"result_format got {asked.get('result_format')!r}, expected one of {', '.join(RESULT_FORMATS)}.",
            parameter="result_format",
        )
    listed = asked.setdefault("partial_unexpected_count", PARTIAL)
    if isinstance(listed, bool) or not isinstance(listed, int) or not 0 <= listed <= MOST_LISTED:
        raise ParameterError(
            f"result_format: partial_unexpected_count got {listed!r}, expected a number from 0 to {MOST_LISTED}.",
            parameter="partial_unexpected_count",
        )
    return asked


def as_metric(configuration: Any, condition: Any) -> Metric:
    """The metric of one of Great Expectations' configurations, of the rows of the expectation's condition.

    The condition has been parsed, for whatever parser it was written. Great Expectations forgets it in the metrics of
    ``expect_column_pair_values_to_be_in_set``, which then count more failing rows than there are rows.
    """
    domain = {k: v for k, v in configuration.metric_domain_kwargs.items() if k != "condition_parser"}
    domain["row_condition"] = condition
    return Metric.of(configuration.metric_name, domain, configuration.metric_value_kwargs)

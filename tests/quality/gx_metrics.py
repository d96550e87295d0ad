"""Metrics computed by Great Expectations' pandas engine, and by ours over rows cut anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from featuremill.core.feature_recipe import numbered
from featuremill.core.quality.statistics.collector import Collector, merge_partials
from featuremill.core.quality.statistics.metrics import Metric, Metrics

BASIC = {"result_format": "SUMMARY", "partial_unexpected_count": 20}


def theirs(table: pa.Table, name: str, domain: dict[str, Any], values: dict[str, Any]) -> Any:
    """What Great Expectations gives for the table as a data frame."""
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.validator.metric_configuration import MetricConfiguration
    from great_expectations.validator.metrics_calculator import MetricsCalculator

    engine = PandasExecutionEngine(batch_data_dict={"": decoded(table).to_pandas()})
    configuration = MetricConfiguration(name, metric_domain_kwargs=domain, metric_value_kwargs=values)
    calculator = MetricsCalculator(execution_engine=engine, show_progress_bars=False)
    return calculator.compute_metrics([configuration], runtime_configuration=None)[0][configuration.id]


def decoded(table: pa.Table) -> pa.Table:
    """Without dictionaries, which pandas would make categories of."""
    columns = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in table.columns]
    return pa.table(dict(zip(table.schema.names, columns, strict=True)))


def cut(table: pa.Table, cuts: Sequence[int] = (), fragments: int = 1) -> list[list[pa.RecordBatch]]:
    """The rows as fragments, each some batches, cut at some rows; numbered."""
    ends = sorted({0, *(c % (table.num_rows + 1) for c in cuts), table.num_rows})
    pieces = [table.slice(a, b - a) for a, b in pairwise(ends)] or [table]
    found: list[list[pa.RecordBatch]] = [[] for _ in range(fragments)]
    before = [0] * fragments
    for i, piece in enumerate(pieces):
        fragment = i * fragments // len(pieces)
        combined = piece.combine_chunks()
        batch = combined.to_batches()[0] if combined.num_rows else pa.RecordBatch.from_pylist([], schema=table.schema)
        found[fragment].append(numbered(batch, f"part-{fragment:03d}", before[fragment]))
        before[fragment] += batch.num_rows
    return found


def states_of(metrics: Metrics, fragments: Sequence[Sequence[pa.RecordBatch]], *, backwards: bool = False) -> Any:
    partials = []
    for batches in reversed(fragments) if backwards else fragments:
        collector = Collector(metrics.statistics)
        for batch in batches:
            collector.update(batch)
        partials.append(collector.partials())
    return merge_partials(metrics.statistics, partials)


def ours(table: pa.Table, name: str, domain: dict[str, Any], values: dict[str, Any], **cutting: Any) -> Any:
    """What is computed here in one pass."""
    metric = Metric.of(name, domain, values)
    metrics = Metrics([metric], table.schema)
    return metrics.value(metric, states_of(metrics, cut(table, **cutting)))


def plain(value: Any) -> Any:
    """A value as JSON would have it: missing values None, sets sorted, series as lists."""
    if isinstance(value, pd.Series):
        return [plain(list(value.index)), plain(value.tolist()), value.name, value.index.name]
    if isinstance(value, pd.DataFrame):
        return plain(value.to_dict("records"))
    if isinstance(value, set):
        return sorted(plain(v) for v in value)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is pd.NaT or (isinstance(value, float | np.floating) and math.isnan(value)) or value is None:
        return None
    if isinstance(value, np.datetime64 | pd.Timestamp):
        stamp = pd.Timestamp(value)
        return (stamp.tz_convert("UTC").tz_localize(None) if stamp.tz else stamp).isoformat()
    return value.item() if isinstance(value, np.generic) else value

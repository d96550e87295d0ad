"""Row checks fail the rows that are counted for the same metric, batch by batch."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featuremill.core.feature_recipe import FRAGMENT, ROW
from featuremill.core.quality.statistics.metrics import Metric, Metrics, UnsupportedMetric
from featuremill.core.quality.statistics.row_checks import RowCheck, RowChecks
from quality.gx_metrics import cut, states_of
from quality.test_metrics import CONDITIONS, PAIR, TABLE, compared

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
SINGLE = [c for c in CONDITIONS if not c[0].endswith(".unique")]


@pytest.mark.parametrize("where", [None, compared("n", ">", 3)], ids=["all rows", "some rows"])
@pytest.mark.parametrize(("name", "domain", "values"), SINGLE, ids=lambda v: v if isinstance(v, str) else "")
def test_rows_fail_that_are_counted(
    name: str, domain: dict[str, Any], values: dict[str, Any], where: dict[str, Any] | None
) -> None:
    metric = Metric.of(f"{name}.unexpected_count", domain | {"row_condition": where}, values)
    check = RowCheck("check", metric)
    checks, plan = RowChecks([check], TABLE.schema), Metrics([metric], TABLE.schema)
    pieces = cut(TABLE, [4], 1)
    masks = [checks.mask(check, batch) for batch in pieces[0]]
    states = states_of(plan, pieces)
    assert sum(int(m.sum()) for m in masks) == plan.value(metric, states)
    rows = np.concatenate([b.column(ROW).to_numpy()[m] for b, m in zip(pieces[0], masks, strict=True)])
    assert plan.sample_rows(metric, states).column(ROW).to_pylist() == rows.tolist()


def test_a_row_is_told_all_that_it_fails() -> None:
    checks = [
        RowCheck("known", Metric.of("column_values.nonnull.unexpected_count", {"column": "x"})),
        RowCheck("low", Metric.of("column_values.between.unexpected_count", {"column": "x"}, {"max_value": 3})),
        RowCheck("even", Metric.of("column_values.in_set.unexpected_count", {"column": "x"}, {"value_set": [2, 4]})),
    ]
    batch = pa.record_batch({"x": pa.array([1, 2, None, 5])})
    bound = RowChecks(checks, batch.schema)
    assert bound.failing(batch).tolist() == [True, False, True, True]
    rows, names = bound.failed(batch)
    assert (rows.tolist(), names) == ([0, 2, 3], [("even",), ("known",), ("low", "even")])
    assert bound.failing(batch.slice(1, 1)).tolist() == [False]
    rows, names = bound.failed(batch.slice(1, 1))
    assert (rows.tolist(), names) == ([], [])


def test_dictionaries_change_from_batch_to_batch() -> None:
    metric = Metric.of("column_values.match_regex.unexpected_count", {"column": "s"}, {"regex": "^a"})
    check = RowCheck("starts with a", metric)
    schema = pa.schema([("s", pa.dictionary(pa.int32(), pa.string()))])
    checks = RowChecks([check], schema)
    for values in (["a", "ab"], ["b", None], ["a", "c"]):
        batch = pa.record_batch([pa.array(values).dictionary_encode()], schema=schema)
        expected = [v is not None and not v.startswith("a") for v in values]
        assert checks.mask(check, batch).tolist() == expected


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("column.mean", {"column": "i"}),
        ("table.row_count", {}),
        ("column_values.unique.unexpected_count", {"column": "i"}),
        ("compound_columns.unique.unexpected_count", {"column_list": ["i", "n"]}),
    ],
)
def test_what_says_nothing_of_a_single_row_is_refused(name: str, domain: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedMetric, match="row"):
        RowChecks([RowCheck("check", Metric.of(name, domain))], TABLE.schema)


def test_workers_import_neither_great_expectations_nor_pandas() -> None:
    code = (
        "import sys; import featuremill.core.quality.statistics.metrics;"
        "import featuremill.core.quality.statistics.row_checks;"
        "print([m for m in ('great_expectations', 'pandas', 'apache_beam', 'torch') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_sample_is_the_first_rows_of_the_first_fragments() -> None:
    metric = Metric.of("column_pair_values.equal.unexpected_count", PAIR)
    table = pa.concat_tables([TABLE] * 30)
    plan = Metrics([metric], table.schema, keys=["s"], sample=7)
    forwards = plan.sample_rows(metric, states_of(plan, cut(table, [40, 55, 170, 230], 3)))
    backwards = plan.sample_rows(metric, states_of(plan, cut(table, [40, 55, 170, 230], 3), backwards=True))
    assert forwards.equals(backwards)
    assert forwards.column_names == [FRAGMENT, ROW, "s", "i", "n"]
    assert forwards.column(ROW).to_pylist() == [0, 1, 2, 3, 4, 5, 6]

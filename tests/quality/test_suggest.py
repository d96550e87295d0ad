"""A proposed suite holds for the rows it was made from, and GX reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featuremill.core.quality.profiles.profile import Profile
from featuremill.core.quality.profiles.profile_stats import profile_of, profile_statistics
from featuremill.core.quality.schema_contract import check_schema
from featuremill.core.quality.statistics.collector import Collector, merge_partials
from featuremill.core.quality.suggest import suggest_contract, suggest_suite

ROWS = 2_000
RNG = np.random.default_rng(3)
TABLE = pa.record_batch({
    "flight_id": pa.array(np.arange(ROWS)),
    "origin": pa.array(np.array(["JFK", "LGA", "EWR"], object)[RNG.integers(0, 3, ROWS)]),
    "tailnum": pa.array([f"N{i % 700}" for i in range(ROWS)]),
    "air_time": pa.array(RNG.gamma(3, 50, ROWS), mask=RNG.random(ROWS) < 0.1),
    "delay": pa.array(RNG.integers(-30, 500, ROWS)),
    "share": pa.array(RNG.random(ROWS)),
    "rare": pa.array(["x"] * 10 + [None] * (ROWS - 10)),
    "infinite": pa.array([float("inf")] + [1.0] * (ROWS - 1)),
    "day": pa.array(np.arange(ROWS, dtype=np.int32)).cast(pa.date32()),
    "nothing": pa.nulls(ROWS),
    "listed": pa.array([[1, 2]] * ROWS),
})


@pytest.fixture(scope="module")
def profile() -> Profile:
    statistics = profile_statistics(TABLE.schema)
    collector = Collector(statistics)
    collector.update(TABLE)
    return profile_of(TABLE.schema, merge_partials(statistics, [collector.partials()]), ROWS)


def expectations(profile: Profile, column: str) -> dict[str, dict[str, Any]]:
    suite = suggest_suite(profile, name="flights")
    return {e["type"]: e for e in suite["expectations"] if e["kwargs"].get("column") == column}


def test_what_is_proposed_for_each_kind_of_column(profile: Profile) -> None:
    known = "expect_column_values_to_not_be_null"
    assert set(expectations(profile, "flight_id")) == {known, "expect_column_values_to_be_unique"}
    in_set = expectations(profile, "origin")["expect_column_values_to_be_in_set"]
    assert in_set["kwargs"]["value_set"] == ["EWR", "JFK", "LGA"]
    assert in_set["meta"]["notes"]["content"] == ["Only these 3 values were there."]
    assert set(expectations(profile, "tailnum")) == {known, "expect_column_value_lengths_to_be_between"}
    air_time = expectations(profile, "air_time")
    assert air_time[known]["severity"] == "warning"
    assert air_time[known]["kwargs"]["mostly"] == pytest.approx(0.84, abs=0.03)
    assert air_time["expect_column_values_to_be_between"]["kwargs"]["min_value"] == 0.0
    delay = expectations(profile, "delay")["expect_column_values_to_be_between"]["kwargs"]
    assert -200 < delay["min_value"] < -100
    assert 600 < delay["max_value"] < 700
    assert all(isinstance(delay[k], int) for k in ("min_value", "max_value"))
    assert expectations(profile, "share")["expect_column_values_to_be_between"]["kwargs"]["max_value"] == 1.0
    assert set(expectations(profile, "infinite")) == {known}
    assert set(expectations(profile, "rare")) == {"expect_column_value_lengths_to_equal"}
    assert set(expectations(profile, "nothing")) == set()


def test_the_suite_is_one_of_great_expectations_and_holds(profile: Profile) -> None:
    import great_expectations as gx

    suite = suggest_suite(profile, name="flights")
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
    loaded = gx.ExpectationSuite(**suite)
    data = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
    frame = TABLE.drop_columns(["listed", "infinite"]).to_pandas()
    found = data.get_batch({"dataframe": frame}).validate(gx.ExpectationSuite(
        name="flights",
        expectations=[e for e in loaded.expectations if getattr(e, "column", None) != "infinite"
                      and e.expectation_type != "expect_table_columns_to_match_set"
                      and getattr(e, "column", None) != "listed"],
    ))
    assert [r.expectation_config.type for r in found.results if not r.success] == []
    assert len(found.results) >= 14


def test_the_contract_is_kept_by_its_source(profile: Profile) -> None:
    contract = suggest_contract(profile)
    assert check_schema(contract, TABLE.schema) == ()
    assert {c.name for c in contract.columns if c.nullable} == {"air_time", "rare", "nothing"}


def test_hardly_any_rows_prove_nothing() -> None:
    one = pa.record_batch({"x": [1], "s": ["a"]})
    statistics = profile_statistics(one.schema)
    collector = Collector(statistics)
    collector.update(one)
    profile = profile_of(one.schema, merge_partials(statistics, [collector.partials()]), 1)
    assert {e["kwargs"].get("column") for e in suggest_suite(profile, name="s")["expectations"]} == {None}
    assert all(c.nullable for c in suggest_contract(profile).columns)

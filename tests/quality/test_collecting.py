"""Statistics that travel: the same states however rows were cut, combined, and cut into shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

from featuremill.core.feature_recipe import numbered
from featuremill.core.quality.profiles.profile_stats import profile_statistics
from featuremill.core.quality.statistics.collecting import Bundle, Collecting, placed_rows
from featuremill.core.quality.statistics.collector import Collector, merge_partials
from featuremill.core.quality.statistics.metrics import Metric, Metrics
from featuremill.transforms.combining import CombineStates
from featuremill.transforms.counts import Counts
from featuremill.transforms.moments import Moments

SIDE = "raw"


def batches(rows: int = 500, size: int = 70) -> list[pa.RecordBatch]:
    rng = np.random.default_rng(2)
    table = pa.table(
        {
            "x": pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.1),
            "key": [f"k{i % 313}" for i in range(rows)],
        }
    )
    return table.to_batches(max_chunksize=size)


def statistics() -> dict[str, Any]:
    schema = batches()[0].schema
    unique = Metric.of("column_values.unique.unexpected_count", {"column": "key"})
    return {
        **profile_statistics(schema), **Metrics([unique], schema).statistics,
        "moments": Moments("x"), "again": Moments("x"), "counts": Counts("key"),
    }


def placed(collecting: Collecting, parts: list[list[pa.RecordBatch]]) -> list[Any]:
    found = []
    for number, part in enumerate(parts):
        collected, before = collecting.begin(), 0
        for batch in part:
            collected.update(SIDE, numbered(batch, f"{number:05d}", before))
            collected.update("nothing of that name", batch)
            before += batch.num_rows
        found += list(collected.partials())
    return found


@pytest.mark.parametrize("shards", [1, 3])
def test_beam_combines_what_one_process_would(tmp_path: Path, shards: int) -> None:
    whole = batches(size=500)
    collector = Collector(statistics())
    collector.update(numbered(whole[0], "00000", 0))
    expected = merge_partials(statistics(), [collector.partials()])
    collecting = Collecting({SIDE: statistics(), "empty": {"moments": Moments("x")}}, shards)
    with beam.Pipeline() as pipeline:
        _ = (
            pipeline
            | beam.Create(placed(Collecting({SIDE: statistics()}, shards), [[b] for b in batches()]))
            | CombineStates(collecting.slots, str(tmp_path), shards=shards)
        )
    states = collecting.states(str(tmp_path))
    assert set(states[SIDE]) == set(expected)
    for slot in ("x", "key", "moments", "again", "counts"):
        assert states[SIDE][slot].equals(expected[slot]), slot
    assert states["empty"]["moments"].column("count").to_pylist() == [0]


def test_statistics_of_keys_travel_alone_and_each_once() -> None:
    collecting = Collecting({SIDE: statistics()}, 4)
    bundle, *alone = collecting.slots.values()
    assert isinstance(bundle, Bundle) and all(type(a).split is not type(bundle).split for a in alone)
    assert Counts("key") in alone
    members = [analyzer for _, analyzer in bundle.members]
    assert members.count(Moments("x")) == 1 and len(members) == len(set(members))


def test_what_travels_says_where_it_goes() -> None:
    found = placed(Collecting({SIDE: statistics()}, 4), [batches()])
    assert all(type(data) is bytes for _, (_, data) in found)
    slots = {key for key, _ in found}
    assert (SIDE, 0) in slots and len([s for s in slots if s[0] != SIDE]) % 4 == 0
    assert all(slot == again for (slot, _), (again, _) in found)


def test_one_step_of_several_collects_its_sides() -> None:
    collecting = Collecting({SIDE: statistics(), "written": {"moments": Moments("x")}})
    only = collecting.only("written")
    assert set(only.slots) == {"written"} and only.slots["written"] == collecting.slots["written"]


def test_rows_at_their_places() -> None:
    rows = placed_rows(batches()[0].slice(0, 2), "00003", np.array([5, 9]))
    assert rows.column("_row").to_pylist() == [5, 9] and rows.column("_fragment").to_pylist() == ["00003"] * 2

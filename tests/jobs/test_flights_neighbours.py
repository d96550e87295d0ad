"""The demo's nearest neighbours: by cosine, each text once, and never the text itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts.errors import RequestError
from featuremill.jobs.flights_neighbours import AIRPORTS, NEIGHBOURS, nearest, nearest_airports

VECTORS = np.array([[2, 0], [1, 1], [0, 3], [-1, 0], [1, 0.1]], np.float32)
NAMES = ["east", "north east", "north", "west", "nearly east"]


def column(vectors: np.ndarray, leaf: pa.DataType) -> pa.Array:
    return pa.array(vectors.tolist(), pa.list_(leaf))


@pytest.mark.parametrize("leaf", [pa.float32(), pa.float16()])
def test_the_nearest_come_first(leaf: pa.DataType) -> None:
    found = nearest(pa.array(NAMES), column(VECTORS, leaf), ["east", "west"], count=2)
    assert [n.name for n in found["east"]] == ["nearly east", "north east"]
    assert [n.cosine for n in found["east"]] == pytest.approx([0.995, 0.7071], abs=1e-3)
    assert [n.name for n in found["west"]] == ["north", "north east"]


def test_texts_that_repeat_and_nulls_change_nothing() -> None:
    order = [4, 0, 0, 3, 2, 1, 4, 2]
    names = pa.array([None, *(NAMES[i] for i in order)])
    vectors = pa.array([None, *VECTORS[order].tolist()], pa.list_(pa.float32()))
    once = nearest(pa.array(NAMES), column(VECTORS, pa.float32()), ["north"], count=4)
    assert nearest(names, vectors, ["north"], count=4) == once
    assert len(nearest(names, vectors, ["north"], count=40)["north"]) == len(NAMES) - 1


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(RequestError, match=r"no name 'eats'. Did you mean 'east'\?"):
        nearest(pa.array(NAMES), column(VECTORS, pa.float32()), ["eats"])


def test_airports_come_from_the_dataset(tmp_path: Path) -> None:
    names = [*AIRPORTS, "Chicago Midway Intl", "Nowhere"]
    draw = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    draw[3] = draw[0] + 0.01
    table = pa.table({"dest_name": names, "dest_name_vector": column(draw, pa.float32())})
    (tmp_path / "eval").mkdir()
    pq.write_table(table, tmp_path / "eval" / "part-0.parquet")
    found = nearest_airports(str(tmp_path))
    assert list(found) == list(AIRPORTS) and all(len(near) == NEIGHBOURS for near in found.values())
    assert found[AIRPORTS[0]][0].name == "Chicago Midway Intl"

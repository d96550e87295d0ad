"""Rows to models, by key and by share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featuremill.artifacts.errors import ColumnTypeError, MissingColumnError
from featuremill.core.inference.routing import DEFAULT, by_key, by_share, check_routing
from featuremill.transforms.splitting import fingerprint_keys, split_of


def routed(column: Any, models: list[str], **options: Any) -> tuple[dict[str, Any], list[int]]:
    batch = pa.RecordBatch.from_arrays([column], ["k"])
    routes, rejects = by_key(batch, "k", models, **options)
    return {r.model: None if r.rows is None else r.rows.tolist() for r in routes}, [r.row for r in rejects]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["b", "a", None, "b", "z"]),
        pa.array(["b", "a", None, "b", "z"], pa.large_string()),
        pa.array(["b", "a", None, "b", "z"]).dictionary_encode(),
        pa.array(["x", "b", "a", None, "b", "z", "y"]).slice(1, 5),
        pa.array(["x", "b", "a", None, "b", "z", "y"]).dictionary_encode().slice(1, 5),
        pa.array([b"b", b"a", None, b"b", b"z"]),
        pa.DictionaryArray.from_arrays(pa.array([3, 0, 2, 1, 4]), pa.array(["a", "b", None, "b", "z"])),
    ],
)
def test_every_form_of_a_text(column: pa.Array) -> None:
    assert routed(column, ["a", "b", "c"]) == ({"a": [1], "b": [0, 3]}, [2, 4])
    assert routed(column, ["a", "b"], default=True) == ({"a": [1], "b": [0, 3], DEFAULT: [2, 4]}, [])


@pytest.mark.parametrize(
    ("column", "models"),
    [
        (pa.array([1, 2, 1]), ["1", "2"]),
        (pa.array([True, False, True]), ["true", "false"]),
        (pa.array([1, 2, 1], pa.date32()), ["1970-01-02", "1970-01-03"]),
    ],
)
def test_keys_are_compared_as_texts(column: pa.Array, models: list[str]) -> None:
    assert routed(column, models) == ({models[0]: [0, 2], models[1]: [1]}, [])


def test_one_model_for_all_rows_costs_no_positions() -> None:
    assert routed(pa.array(["a", "a"]), ["b", "a"]) == ({"a": None}, [])
    assert routed(pa.array(["a", "a"]), ["b"], default=True) == ({DEFAULT: None}, [])


def test_no_rows() -> None:
    assert routed(pa.array([], pa.string()), ["a"]) == ({}, [])
    assert by_share(pa.record_batch({"id": pa.array([], pa.int64())}), ["id"], {"a": 0.5, "b": 0.5}) == []


def test_many_keys_lose_no_row() -> None:
    keys = np.random.default_rng(0).integers(0, 3000, 50_000)
    models = [str(i) for i in range(2000)]
    batch = pa.record_batch({"k": keys})
    routes, rejects = by_key(batch, "k", models)
    for route in routes:
        assert route.rows is not None and (keys[route.rows] == int(route.model)).all()
    rows = np.concatenate([*(r.rows for r in routes if r.rows is not None), [r.row for r in rejects]])
    assert sorted(rows.tolist()) == list(range(50_000))
    assert all(keys[r.row] >= 2000 and f"k = '{keys[r.row]}'" in r.reason for r in rejects)


def test_shares_are_those_of_splits() -> None:
    batch = pa.record_batch({"id": np.arange(10_000), "day": ["x", "y"] * 5_000})
    shares = {"a": 0.7, "b": 0.2, "c": 0.1}
    expected = split_of(fingerprint_keys([batch["id"], batch["day"]]), shares)
    for i, route in enumerate(by_share(batch, ["id", "day"], shares)):
        assert route.model == list(shares)[i] and route.rows is not None
        assert route.rows.tolist() == np.flatnonzero(expected == i).tolist()


def test_what_cannot_route() -> None:
    schema = pa.schema({"score": pa.float64(), "id": pa.string()})
    check_routing(schema, ["id"], parameter="by")
    with pytest.raises(MissingColumnError, match="share_by: there is no column 'ids'. Did you mean 'id'"):
        check_routing(schema, ["ids"], parameter="share_by")
    with pytest.raises(ColumnTypeError, match="no text that all systems agree on"):
        check_routing(schema, ["score"], parameter="by")

"""Differences in words and numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.build import build_files
from featuremill.artifacts.diff import compare_states, diff
from featuremill.artifacts.publish import publish
from featuremill.artifacts.reader import Artifact, load
from featuremill.transforms.contract import Transform
from featuremill.transforms.datetime_parts import DatetimeParts
from featuremill.transforms.scaling import ScaleToZScore
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary
from support.sample_artifact import fit_states, sample_batch, sample_files


def loaded(root: Path, files: dict[str, bytes]) -> Artifact:
    return load(f"{root}/flights@{publish(root, 'flights', files)}")


def made(root: Path, transforms: list[Transform], batch: pa.RecordBatch) -> Artifact:
    return loaded(root, build_files(transforms, batch.schema, fit_states(transforms, batch)))


def test_the_same(tmp_path: Path) -> None:
    a = loaded(tmp_path, sample_files())
    found = diff(a, a)
    assert not found
    assert str(found) == f"flights@{a.version} and flights@{a.version} compute the same."


def test_states_that_moved(tmp_path: Path) -> None:
    old = loaded(tmp_path, sample_files())
    new = loaded(tmp_path, sample_files(sample_batch(60, shift=12.0, carriers=("AA", "UA", "DL", "WN", "new\nline"))))
    found = diff(old, new)
    assert found
    text = str(found)
    assert text.startswith(f"flights@{old.version} -> flights@{new.version}\n")
    assert "2 new tokens in carrier, 1 gone" in text
    mean = next(c for c in found.changes if c.facts.get("statistic") == "mean")
    old_mean, new_mean = (a.states["01-ScaleToZScore-air_time"].column("mean")[0].as_py() for a in (old, new))
    assert mean.facts["percent"] == pytest.approx((new_mean / old_mean - 1) * 100)
    assert mean.text == f"mean of air_time {(new_mean / old_mean - 1) * 100:+.1f} %"
    assert "boundaries of dep_time moved by up to " in text
    assert "max of air_time 139 -> 170" in text
    assert {c.kind for c in found.changes} == {"state"}
    assert found.of("input") == []


def test_boundaries_are_those_of_the_transform(tmp_path: Path) -> None:
    from featuremill.transforms.histogram import bins_of, quantile_boundaries

    old, new = (loaded(tmp_path, sample_files(sample_batch(n, shift=s))) for n, s in ((40, 0.0), (57, 3.0)))
    a, b = (np.array(quantile_boundaries(bins_of(x.states["02-Bucketize-dep_time"]), 4)) for x in (old, new))
    change = next(c for c in diff(old, new).changes if "boundaries" in c.text)
    assert change.facts["moved"] == np.abs(b - a).max()


def test_transforms(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.float64()), ("b", pa.string()), ("t", pa.timestamp("us"))])
    batch = pa.RecordBatch.from_pylist(
        [{"a": 1.0, "b": "x", "t": None}, {"a": 2.0, "b": "y", "t": None}], schema=schema
    )
    old = made(tmp_path, [ScaleToZScore(["a"]), ComputeAndApplyVocabulary(["b"], top_k=1)], batch)
    new = made(tmp_path, [ComputeAndApplyVocabulary(["b"], top_k=2), DatetimeParts(["t"]), ScaleToZScore(["a"])], batch)
    found = diff(old, new)
    texts = [c.text for c in found.of("transform")]
    assert texts == [
        "added DatetimeParts(t)",
        "changed ComputeAndApplyVocabulary(b): top_k 1 -> 2",
        "the transforms are in another order",
    ]
    assert found.of("output")[0].text == "output: new column t_year int32"
    assert [c.text for c in found.of("state")] == ["1 new token in b, 0 gone; 1 of the other 1 keep their place"]
    assert diff(new, old).of("transform")[0].text == "removed DatetimeParts(t)"


def test_schemas(tmp_path: Path) -> None:
    old = loaded(tmp_path, build_files([], pa.schema([("a", pa.int64()), ("b", pa.string())]), {}))
    new = loaded(
        tmp_path, build_files([], pa.schema([pa.field("a", pa.int32(), nullable=False), ("c", pa.date32())]), {})
    )
    assert [c.text for c in diff(old, new).of("input")] == [
        "input: a int64 -> int32 not null",
        "input: the column b is gone",
        "input: new column c date32[day]",
    ]


def vocabulary(tokens: list[str], counts: list[int] | None = None) -> pa.Table:
    return pa.table(
        {"token": pa.array(tokens, pa.string()), "count": pa.array(counts or [1] * len(tokens), pa.int64())}
    )


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (vocabulary(["a", "b"]), vocabulary(["b", "a"]), "2 of 2 tokens in x changed their place"),
        (vocabulary(["a"], [1]), vocabulary(["a"], [2]), "the counts of x changed, its 1 token did not"),
        (vocabulary([]), vocabulary(["a"]), "1 new token in x, 0 gone"),
        (vocabulary(["a"]), vocabulary([]), "0 new tokens in x, 1 gone"),
        (vocabulary(["a"]), pa.table({"token": [1], "count": [1]}), "the tokens of x are int64, were string"),
        (vocabulary(["a"]), pa.table({"x": [1]}), "the statistics of x are of another kind"),
        (pa.table({"w": [[1.0, 2.0]]}), pa.table({"w": [[1.0, 2.5]]}), "w of x moved by up to 0.5"),
        (pa.table({"w": [1.0]}), pa.table({"w": [1.0, 2.0]}), "w of x has 2 values, had 1"),
        (pa.table({"w": ["a"]}), pa.table({"w": ["b"]}), "w of x changed"),
        (
            pa.table({"mean": [0.0], "variance": [1.0]}),
            pa.table({"mean": [0.3], "variance": [1.0]}),
            "mean of x 0 -> 0.3",
        ),
        (
            pa.table({"mean": [-2.0], "variance": [1.0]}),
            pa.table({"mean": [-1.0], "variance": [1.0]}),
            "mean of x +50.0 %",
        ),
        (
            pa.table({"mean": pa.array([None], pa.float64()), "variance": [1.0]}),
            pa.table({"mean": [3.0], "variance": [1.0]}),
            "mean of x none -> 3",
        ),
        (
            pa.table({"mean": [1e6], "variance": [1.0]}),
            pa.table({"mean": [1e6 + 1], "variance": [1.0]}),
            "mean of x +0.0001 %",
        ),
    ],
)
def test_states(old: pa.Table, new: pa.Table, text: str) -> None:
    assert [c.text for c in compare_states("x", old, new, {})] == [text]


def test_many_positions() -> None:
    old = pa.table({"mean": [1.0] * 6, "variance": [1.0] * 6})
    new = pa.table({"mean": [1.0, *[2.0] * 5], "variance": [1.0] * 6})
    assert [c.text for c in compare_states("x", old, new, {})] == [
        "mean of x[1] +100.0 %",
        "mean of x[2] +100.0 %",
        "mean of x[3] +100.0 %",
        "… and 2 more positions of x",
    ]


@settings(deadline=None)
@given(st.lists(st.text(max_size=2), unique=True, max_size=8), st.lists(st.text(max_size=2), unique=True, max_size=8))
def test_vocabularies_against_sets(old: list[str], new: list[str]) -> None:
    (change,) = compare_states("x", vocabulary(old), vocabulary(new, [7] * len(new)), {})
    assert change.facts["new"] == len(set(new) - set(old))
    assert change.facts["gone"] == len(set(old) - set(new))
    assert change.facts["same_place"] == sum(a == b for a, b in zip(old, new, strict=False))

"""From fragments to features, and predictions into files: which columns, which rows, and none lost or doubled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts.build import build_files
from featuremill.artifacts.errors import JobError, MissingColumnError, RequestError
from featuremill.artifacts.publish import publish
from featuremill.artifacts.reader import load
from featuremill.core.dataset import REJECTED, FragmentResult, Shard, Staging
from featuremill.core.feature_recipe import FRAGMENT, ROW, FeatureRecipe, dictionary_of, numbered, reach
from featuremill.core.job_fragment import JobFragment, Split
from featuremill.core.parquet_source import ParquetSource
from featuremill.core.score_io import (
    OPEN_FILES,
    PREDICTIONS,
    FragmentRead,
    FragmentShard,
    ReadFeatures,
    WriteBatches,
    WriteResults,
    dead_letters,
    letters_schema,
    results_of,
)
from featuremill.core.shards import ParquetShards
from featuremill.transforms.numeric import Clip, LogTransform
from featuremill.transforms.plan import Plan
from featuremill.transforms.rejects import Reject
from support.sample_artifact import SCHEMA, sample_batch, sample_files

ROWS = sample_batch(40)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a version with a vocabulary and a z-score in place, and buckets."""
    root = tmp_path_factory.mktemp("artifacts")
    version = publish(root, "sample", sample_files())
    return str(root / "sample" / "versions" / version)


@pytest.fixture(scope="module")
def logarithms(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One whose transform cannot process every row."""
    root = tmp_path_factory.mktemp("logarithms")
    version = publish(root, "logs", build_files([LogTransform(["air_time"], output="log")], SCHEMA, {}))
    return str(root / "logs" / "versions" / version)


def recipe(artifact: str | None, *features: str, keep: tuple[str, ...] = ("flight_id",)) -> FeatureRecipe:
    return FeatureRecipe(artifact, SCHEMA, features, keep)


def made(recipe: FeatureRecipe, batch: pa.RecordBatch = ROWS) -> Any:
    bound = recipe.bound()
    return bound.apply(numbered(batch.select(bound.reads), "00000", 0))


# --- which columns, which transforms --------------------------------------------------------------------------------


def test_only_what_is_needed_is_applied_and_read() -> None:
    plan = Plan([Clip(["x"], max_value=1.0), Clip(["y"], max_value=1.0), Clip(["x", "y"], min_value=0.0)])
    assert reach(plan, ["x"]) == ({0, 1, 2}, ["x", "y"])
    other = Plan([Clip(["x"], max_value=1.0), Clip(["y"], max_value=1.0, output="z"), Clip(["y"], min_value=0.0)])
    assert reach(other, ["z"]) == ({1}, ["y"])
    assert reach(other, ["x", "id"]) == ({0}, ["id", "x"])
    assert reach(other, []) == (set(), [])


def test_columns_are_read_for_the_features_and_the_keys(artifact: str) -> None:
    bound = recipe(artifact, "air_time").bound()
    assert bound.reads == ["air_time", "flight_id"]
    assert recipe(artifact, "carrier", "dep_bucket").bound().reads == ["carrier", "dep_time", "flight_id"]
    assert recipe(artifact, "carrier", "dep_bucket").bound().dictionary == ["carrier"]


def test_features_are_those_of_the_artifact_and_carried_columns_those_of_the_source(artifact: str) -> None:
    wanted = load(artifact).transform(ROWS)
    asked = recipe(artifact, "dep_bucket", "carrier", keep=("flight_id", "carrier"))
    found = made(asked).batch
    for name in ("dep_bucket", "carrier"):
        assert found.column(name).equals(wanted.column(name))
        assert found.column(name).type == load(artifact).output_schema.field(name).type
    assert found.column("_source.carrier").equals(ROWS.column("carrier"))
    assert found.column("_source.flight_id").equals(ROWS.column("flight_id"))
    assert set(found.column("artifact_version").to_pylist()) == {load(artifact).version}
    assert found.column(ROW).to_pylist() == list(range(40))
    assert found.schema.names == asked.bound().schema.names


def test_a_column_that_no_transform_makes_is_a_feature_as_it_is(artifact: str) -> None:
    found = made(recipe(artifact, "dep_time", "air_time")).batch
    assert found.column("dep_time").equals(ROWS.column("dep_time"))
    without = made(recipe(None, "carrier")).batch
    assert without.column("carrier").equals(ROWS.column("carrier"))
    assert without.column("artifact_version").null_count == 40


def test_encoded_texts_are_the_same_features(artifact: str) -> None:
    encoded = ROWS.set_column(0, "carrier", ROWS.column("carrier").dictionary_encode())
    wanted = recipe(artifact, "carrier", "air_time", keep=("carrier",))
    assert made(wanted, encoded).batch.column("carrier").equals(made(wanted).batch.column("carrier"))
    plain = recipe(None, "carrier")
    assert made(plain, encoded).batch.column("carrier").equals(ROWS.column("carrier"))


def test_a_source_that_lacks_a_column(artifact: str) -> None:
    short = pa.schema([f for f in SCHEMA if f.name != "air_time"])
    with pytest.raises(MissingColumnError, match=r"no column 'air_time', which ScaleToZScore of the artifact sample@"):
        FeatureRecipe(artifact, short, ("air_time",)).bound()
    assert FeatureRecipe(artifact, short, ("carrier",)).bound().reads == ["carrier"]
    with pytest.raises(MissingColumnError, match="makes no column 'dep_buckets'.*Did you mean 'dep_bucket'"):
        recipe(artifact, "dep_buckets").bound()
    with pytest.raises(MissingColumnError, match="The source has no column 'flightid'"):
        recipe(artifact, "carrier", keep=("flightid",)).bound()


def test_a_source_whose_column_is_of_another_kind(artifact: str) -> None:
    texts = SCHEMA.set(1, pa.field("air_time", pa.string()))
    with pytest.raises(RequestError, match=r"'air_time' is string, expected double\. The artifact sample@"):
        FeatureRecipe(artifact, texts, ("air_time",)).bound()
    narrow = SCHEMA.set(1, pa.field("air_time", pa.float32()))
    assert FeatureRecipe(artifact, narrow, ("air_time",)).bound().reads == ["air_time"]


def test_a_value_that_does_not_fit_costs_its_row(artifact: str) -> None:
    broad = SCHEMA.set(2, pa.field("dep_time", pa.float64()))
    values = pa.array([10.0, 20.5, None, 30.0])
    batch = ROWS.slice(0, 4).set_column(2, "dep_time", values)
    found = made(FeatureRecipe(artifact, broad, ("dep_bucket",), ("flight_id",)), batch)
    assert found.batch.column(ROW).to_pylist() == [0, 2, 3]
    assert found.rejected.column("dep_time").to_pylist() == [20.5]
    assert "expected int64" in found.rejects[0].reason


def test_rows_that_a_transform_cannot_process_are_given_back_as_they_were(logarithms: str) -> None:
    x = [1.0, -1.0, 2.0, None]
    found = made(recipe(logarithms, "log"), ROWS.slice(0, 4).set_column(1, "air_time", pa.array(x)))
    assert found.batch.column(ROW).to_pylist() == [0, 2, 3]
    assert found.batch.column("_source.flight_id").to_pylist() == [2**60, 2**60 + 2, 2**60 + 3]
    assert found.rejected.to_pylist() == [
        {"air_time": -1.0, "flight_id": 2**60 + 1, FRAGMENT: "00000", ROW: 1}
    ]
    assert found.rejects[0].transform == "LogTransform"


def test_dead_letters_look_the_same_wherever_a_row_was_set_aside(logarithms: str) -> None:
    bound = recipe(logarithms, "log").bound()
    schema = letters_schema(bound)
    batch = ROWS.slice(0, 2).set_column(1, "air_time", pa.array([1.0, -1.0]))
    result = made(recipe(logarithms, "log"), batch)
    by_transform = dead_letters(result.rejected, result.rejects, schema)
    by_model = dead_letters(result.batch, [Reject(0, "no", "late", "log")], schema)
    assert by_transform.schema.equals(by_model.schema) and by_model.schema.equals(schema)
    assert by_model.to_pylist() == [
        {
            "air_time": 1.0, "flight_id": 2**60, "_reason": "no", "_transform": "late", "_column": "log",
            FRAGMENT: "00000", ROW: 0,
        }
    ]


# --- in a pipeline --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ParquetSource:
    folder = tmp_path_factory.mktemp("source")
    for i in range(4):
        pq.write_table(pa.table(sample_batch(50, shift=1000.0 * (i != 2))), folder / f"part-{i}.parquet")
    return ParquetSource(str(folder), fragment_rows=50, batch_rows=17)


def scored(
    tmp_path: Path, source: ParquetSource, recipe: FeatureRecipe, *, split: Split | None = None, only: Any = None
) -> tuple[list[FragmentResult], Staging]:
    staging = Staging(str(tmp_path / "out"), "run")
    staging.open()
    bound = recipe.bound()
    schema = pa.schema([*((n, SCHEMA.field(n).type) for n in recipe.keep), *bound.feature_schema])
    fragments = [JobFragment(f, source.schema, split) for f in source.fragments()]
    with beam.Pipeline("FnApiRunner") as pipeline:
        found = (
            pipeline
            | beam.Create(fragments)
            | beam.ParDo(ReadFeatures(recipe, only)).with_outputs("read", REJECTED, main="batches")
        )
        sink = ParquetShards(staging.shards, "none")
        good = found.batches | beam.ParDo(WriteBatches(sink, PREDICTIONS, schema))
        bad = found[REJECTED] | "Bad" >> beam.ParDo(WriteBatches(sink, REJECTED, letters_schema(bound)))
        _ = (found.read, good, bad) | beam.Flatten() | WriteResults(staging)
    return staging.load_results(), staging


def rows_of(results: list[FragmentResult], split: str = PREDICTIONS) -> pa.Table:
    paths = [s.path for r in results for s in r.shards if s.split == split]
    return pa.concat_tables(pq.read_table(path, partitioning=None) for path in paths)


def test_every_row_is_in_one_file_and_accounted_for(tmp_path: Path, source: ParquetSource, artifact: str) -> None:
    results, _ = scored(tmp_path, source, recipe(artifact, "air_time"))
    assert [(r.fragment, r.read, r.written, r.balanced, r.promised) for r in results] == [
        (f.key, 50, 50, True, 50) for f in source.fragments()
    ]
    assert all(len(r.shards) == 1 for r in results)
    assert rows_of(results).column("flight_id").to_pylist() == 4 * list(range(2**60, 2**60 + 50))


def test_rows_set_aside_are_accounted_for_too(tmp_path: Path, source: ParquetSource, logarithms: str) -> None:
    low = pa.table(sample_batch(50).set_column(1, "air_time", pa.array([1.0 if i % 10 else -1.0 for i in range(50)])))
    pq.write_table(low, tmp_path / "low.parquet")
    results, _ = scored(
        tmp_path, ParquetSource(str(tmp_path / "low.parquet"), fragment_rows=50, batch_rows=17),
        recipe(logarithms, "log"),
    )
    assert [(r.read, r.written, r.aside) for r in results] == [(50, 45, 5)]
    letters = rows_of(results, REJECTED)
    assert letters.column(ROW).to_pylist() == [0, 10, 20, 30, 40]
    assert letters.column("flight_id").to_pylist() == [2**60 + i for i in range(0, 50, 10)]


def test_only_the_wanted_splits_are_scored(tmp_path: Path, source: ParquetSource, artifact: str) -> None:
    split = Split(("flight_id",), {"train": 0.6, "eval": 0.3, "test": 0.1}, "train")
    codes = split.codes(sample_batch(50))
    results, _ = scored(tmp_path, source, recipe(artifact, "air_time"), split=split, only=["eval", "test"])
    wanted = int(np.isin(codes, [1, 2]).sum())
    assert 0 < wanted < 50
    assert [(r.read, r.left_out, r.written, r.balanced) for r in results] == [(50, 50 - wanted, wanted, True)] * 4
    kept = sample_batch(50).filter(pa.array(np.isin(codes, [1, 2])))
    assert rows_of(results).column("flight_id").to_pylist() == 4 * kept.column("flight_id").to_pylist()


# --- the sink -------------------------------------------------------------------------------------------------------

OUT = pa.schema([("id", pa.int64()), ("t", pa.string())])


def part(fragment: str, ids: list[int]) -> pa.RecordBatch:
    columns = [pa.array([f"t{i}" for i in ids]), pa.array(ids), dictionary_of(fragment, len(ids)), pa.array(ids)]
    return pa.RecordBatch.from_arrays(columns, ["t", "id", FRAGMENT, ROW])


def bundle(writer: WriteBatches, batches: list[pa.RecordBatch]) -> Iterator[FragmentShard]:
    writer.start_bundle()
    for batch in batches:
        writer.process(batch)
    return (w.value for w in writer.finish_bundle())


def writer(folder: Path) -> WriteBatches:
    made = WriteBatches(ParquetShards(str(folder), "none"), PREDICTIONS, OUT)
    made.setup()
    return made


def test_a_bundle_writes_a_file_for_each_fragment(tmp_path: Path) -> None:
    mixed = pa.concat_batches([part("00002", [7, 8]), part("00001", [9])])
    found = list(bundle(writer(tmp_path), [part("00001", [3, 4]), mixed, part("00001", [1])]))
    assert sorted((f.fragment, f.first, f.shard.rows) for f in found) == [("00001", 1, 4), ("00002", 7, 2)]
    tables = {f.fragment: pq.read_table(f.shard.path) for f in found}
    assert tables["00001"].schema.equals(OUT)
    assert tables["00001"].column("id").to_pylist() == [3, 4, 9, 1]
    assert tables["00002"].column("t").to_pylist() == ["t7", "t8"]


def test_a_worker_keeps_few_files_open_and_loses_none(tmp_path: Path) -> None:
    batches = [part(f"{f:05d}", [row]) for row in range(2) for f in range(OPEN_FILES + 3)]
    found = list(bundle(writer(tmp_path), batches))
    assert sum(f.shard.rows for f in found) == len(batches)
    assert {f.fragment for f in found} == {f"{f:05d}" for f in range(OPEN_FILES + 3)}
    assert len(list((tmp_path / PREDICTIONS).iterdir())) == len(found)


def test_a_bundle_that_fails_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    made = writer(tmp_path)
    made.start_bundle()
    for i in range(OPEN_FILES + 2):
        made.process(part(f"{i:05d}", [1]))
    found = list(bundle(made, [part("00001", [5])]))
    assert [(f.fragment, f.first, f.shard.rows) for f in found] == [("00001", 5, 1)]
    assert [str(p) for p in (tmp_path / PREDICTIONS).iterdir()] == [found[0].shard.path]


def test_results_are_put_together_by_fragment() -> None:
    shards = [FragmentShard("b", first, Shard(PREDICTIONS, f"p{first}", 2, 1, f"{first}")) for first in (7, 0)]
    found = results_of([shards[0], FragmentRead("b", 5, 5, 1), shards[1], FragmentRead("a", 0, 0, 0)])
    assert [r.fragment for r in found] == ["a", "b"]
    assert [s.path for s in found[1].shards] == ["p0", "p7"]
    assert found[1].balanced and found[1].left_out == 1


def test_results_that_cannot_be_are_refused() -> None:
    with pytest.raises(JobError, match="was read twice"):
        results_of([FragmentRead("a", 1, 1, 0), FragmentRead("a", 1, 1, 0)])
    with pytest.raises(JobError, match="it was not read"):
        results_of([FragmentShard("a", 0, Shard(PREDICTIONS, "p", 2, 1, "x"))])

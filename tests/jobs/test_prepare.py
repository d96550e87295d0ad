"""The prepare job from end to end, on small Parquet files, with Beam's own direct runner."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts import load
from featuremill.artifacts.aliases import history, move, read_alias
from featuremill.artifacts.errors import (
    AliasMoved,
    ArtifactError,
    ColumnTypeError,
    FeaturemillError,
    JobError,
    MissingColumnError,
    RequestError,
)
from featuremill.artifacts.schemas import schema_from_json
from featuremill.core.jobfile import PrepareJob
from featuremill.core.loading import JobFileError, job_from_mapping
from featuremill.core.progress import Progress
from featuremill.jobs.prepare import plan, run
from featuremill.transforms.splitting import fingerprint_keys, split_of

SHARES = {"train": 0.6, "eval": 0.3, "test": 0.1}


def flights(rows: int = 600, seed: int = 7) -> pa.Table:
    """Numbers with nulls and NaN, texts, a date, a list, an identity."""
    rng = np.random.default_rng(seed)
    x = rng.normal(50.0, 20.0, rows)
    x[rng.random(rows) < 0.05] = np.nan
    carriers = np.array(["UA", "AA", "B6", "ä", ""])[rng.integers(0, 5, rows)]
    days = [dt.date(2013, 1, 1) + dt.timedelta(int(d)) for d in rng.integers(0, 365, rows)]
    return pa.table(
        {
            "flight_id": pa.array(np.arange(rows) + 2**60),
            "air_time": pa.array(x, mask=rng.random(rows) < 0.1),
            "distance": pa.array(rng.integers(1, 3000, rows), pa.int32(), mask=rng.random(rows) < 0.1),
            "carrier": pa.array(carriers, mask=rng.random(rows) < 0.1),
            "words": [" ".join(rng.choice(["to", "be", "or", "not"], rng.integers(0, 5))) for _ in range(rows)],
            "day": pa.array(days, pa.date32()),
            "price": pa.array(rng.integers(100, 999, rows), pa.int64()),
        }
    )


TABLE = flights()
TRANSFORMS: list[dict[str, Any]] = [
    {"type": "ScaleToZScore", "config": {"columns": ["air_time"], "dtype": "float64"}},
    {"type": "Bucketize", "config": {"columns": ["air_time"], "num_buckets": 4, "output": "air_time_bucket"}},
    {"type": "ComputeAndApplyVocabulary", "config": {"columns": ["carrier"], "num_oov_buckets": 1}},
    {
        "type": "NGrams",
        "config": {
            "columns": ["words"],
            "split_string_by_delimiter": " ",
            "ngram_range": [1, 2],
            "ngrams_separator": " ",
        },
    },
    {"type": "ComputeAndApplyVocabulary", "config": {"columns": ["words"]}},
    {"type": "DatetimeParts", "config": {"columns": ["day"], "parts": ["month", "day_of_week"]}},
    {"type": "ScaleTo01", "config": {"columns": ["distance"]}},
]


def cut(table: pa.Table, folder: Path, files: int = 1, group: int = 1000) -> Path:
    """The table as Parquet files of equal length."""
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-table.num_rows // files) if table.num_rows else 1
    for i in range(files):
        pq.write_table(table.slice(i * size, size), folder / f"part-{i:03d}.parquet", row_group_size=group)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut(TABLE, tmp_path_factory.mktemp("source"), files=3, group=70)


def job(source: Path | str, out: Path, **changes: Any) -> PrepareJob:
    """The job file's content; `where`, `fragment_rows` and the like go below source."""
    parquet = {k: changes.pop(k) for k in ("where", "columns", "fragment_rows", "batch_rows") if k in changes}
    content: dict[str, Any] = {
        "kind": "prepare",
        "name": "flights",
        "source": {"parquet": {"path": str(source), "fragment_rows": 150, **parquet}},
        "transforms": TRANSFORMS,
        "split": {"by": ["flight_id"], **SHARES},
        "artifact": {"root": str(out / "artifacts"), "alias": "candidate"},
        "dataset": {"path": str(out / "datasets")},
        "runner": {"mode": "in_memory"},
    }
    return job_from_mapping({k: v for k, v in (content | changes).items() if v is not None})


def rows_of(folder: Path | str | None) -> pa.Table:
    """The rows of one split, in the order of its shards."""
    assert folder is not None
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in sorted(Path(folder).glob("*.parquet"))])


def everything(dataset: Path | str | None) -> dict[str, pa.Table]:
    assert dataset is not None
    return {f.name: rows_of(f) for f in sorted(Path(dataset).iterdir()) if f.is_dir() and f.name != "report"}


def states_of(version_folder: Path | str) -> dict[str, str]:
    found = sorted(Path(version_folder).glob("states/*"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def same(left: pa.Table, right: pa.Table) -> bool:
    """Equal to the bit, NaN to NaN. (Parquet has a name of its own for what is in a list, which types do not count.)"""
    if not left.schema.equals(right.schema):
        return False
    sinks = []
    for table in (left, right.cast(left.schema)):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.take(pa.array(range(table.num_rows))).combine_chunks())
        sinks.append(sink.getvalue().to_pybytes())
    return sinks[0] == sinks[1]


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def done(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """One run that many tests look at."""
    out = tmp_path_factory.mktemp("done")
    return run(job(source, out), run_id="first"), out


# --- what a run leaves -----------------------------------------------------------------------------------------------


def test_rows_in_are_rows_out(done: tuple[Any, Path]) -> None:
    record, _ = done
    assert record.status == "done"
    assert (record.rows.source, record.rows.filtered, record.rows.written, record.rows.aside) == (600, 0, 600, 0)
    found = everything(record.dataset)
    assert {name: t.num_rows for name, t in found.items()} == record.splits
    identities = pa.concat_tables(found.values()).column("flight_id").to_pylist()
    assert sorted(identities) == TABLE.column("flight_id").to_pylist()


def test_splits_are_those_of_the_hash_in_the_order_of_the_source(done: tuple[Any, Path]) -> None:
    codes = split_of(fingerprint_keys([TABLE.column("flight_id").combine_chunks()]), SHARES)
    found = everything(done[0].dataset)
    for position, name in enumerate(SHARES):
        wanted = TABLE.filter(pa.array(codes == position)).column("flight_id").to_pylist()
        assert found[name].column("flight_id").to_pylist() == wanted


def test_statistics_come_from_the_training_split_alone(done: tuple[Any, Path]) -> None:
    record, _ = done
    codes = split_of(fingerprint_keys([TABLE.column("flight_id").combine_chunks()]), SHARES)
    train = TABLE.filter(pa.array(codes == 0))
    known = [v for v in train.column("air_time").to_pylist() if v is not None and v == v]
    x = TABLE.filter(pa.array(codes == 1)).column("air_time").to_pylist()
    z = rows_of(Path(record.dataset) / "eval").column("air_time").to_pylist()
    for value, scaled in zip(x, z, strict=True):
        if value is None:
            assert scaled is None
        else:
            np.testing.assert_allclose(scaled, (value - np.mean(known)) / np.std(known), rtol=1e-12)
    vocabulary = load(record.artifact["path"]).states["02-ComputeAndApplyVocabulary-carrier"]
    counts = {
        v["values"]: v["counts"] for v in train.column("carrier").value_counts().to_pylist() if v["values"] is not None
    }
    assert dict(zip(*(vocabulary.column(c).to_pylist() for c in ("token", "count")), strict=True)) == counts
    assert load(record.artifact["path"]).manifest.rows == {"seen": 600, "used": train.num_rows, "set_aside": 0}


def test_the_dataset_is_what_the_artifact_makes_of_the_source(done: tuple[Any, Path]) -> None:
    record, out = done
    artifact = load(f"{out}/artifacts/flights@candidate")
    assert artifact.version == record.artifact["version"]
    codes = split_of(fingerprint_keys([TABLE.column("flight_id").combine_chunks()]), SHARES)
    for name, found in everything(record.dataset).items():
        position = list(SHARES).index(name)
        assert same(artifact.transform(TABLE.filter(pa.array(codes == position))), found)
    assert artifact.verify().rows == 8


def test_the_manifest_says_what_is_there(done: tuple[Any, Path]) -> None:
    record, _ = done
    folder = Path(record.dataset)
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = {f["path"]: f for f in manifest["files"]}
    assert set(listed) == {str(p.relative_to(folder)) for p in folder.rglob("*.parquet")}
    for path, entry in listed.items():
        data = (folder / path).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert entry["rows"] == pq.read_metadata(folder / path).num_rows
        assert entry["split"] == path.split("/")[0]
    assert manifest["rows"] == record.splits == {s: t.num_rows for s, t in everything(folder).items()}
    assert manifest["artifact"]["version"] == record.artifact["version"]
    assert manifest["source"]["rows"] == 600
    assert manifest["run"] == "first"
    schema = schema_from_json(manifest["schema"], "manifest.json")
    assert schema.equals(load(record.artifact["path"]).output_schema)
    assert ds.dataset(str(folder / "train"), format="parquet").schema.equals(schema)
    whole = ds.dataset(str(folder), format="parquet", partitioning=["split"], exclude_invalid_files=True)
    assert whole.count_rows() == 600


def test_the_record_is_kept_beside_the_manifest(done: tuple[Any, Path]) -> None:
    record, out = done
    kept = json.loads((Path(record.dataset) / "run.json").read_text())
    assert kept == json.loads(record.to_json())
    assert (
        kept["run"] == "first" and kept["job"] == "flights" and kept["error"] is None and kept["dead_letters"] is None
    )
    assert dt.datetime.fromisoformat(kept["started"]).tzinfo is not None
    assert {f["name"]: f["made_by"] for f in kept["features"]}["air_time_bucket"] == "Bucketize"
    assert kept["vocabularies"][0]["top"][0][1] >= kept["vocabularies"][0]["top"][1][1]
    assert files_below(out / "datasets") == files_below(Path(record.dataset).parent)
    assert os.listdir(out / "datasets") == ["first"]


def test_the_alias_is_moved_and_says_why(done: tuple[Any, Path]) -> None:
    record, out = done
    entry = read_alias(out / "artifacts", "flights", "candidate")
    assert (entry.version, entry.why, entry.number) == (record.artifact["version"], "run first", 1)


def test_nothing_in_the_artifact_names_a_place(done: tuple[Any, Path]) -> None:
    record, out = done
    for path in Path(record.artifact["path"]).rglob("*"):
        # The provenance in the manifest says where the rows came from, and nothing else does.
        if path.is_file() and path.name != "manifest.json":
            assert str(out).encode() not in path.read_bytes(), path
    assert str(out) not in (Path(record.artifact["path"]) / "manifest.json").read_text()


def test_a_published_version_works_in_beams_mltransform(done: tuple[Any, Path], tmp_path: Path) -> None:
    import apache_beam as beam
    from apache_beam.ml.transforms.base import MLTransform

    record, _ = done
    moved = tmp_path / "moved"
    shutil.copytree(record.artifact["path"], moved)
    with beam.Pipeline("FnApiRunner") as pipeline:
        created = pipeline | beam.Create([TABLE.slice(0, 50)])
        created.element_type = pa.Table
        _ = (
            created
            | MLTransform(read_artifact_location=str(moved))
            | beam.Map(lambda t: pq.write_table(t, str(tmp_path / "found.parquet")))
        )
    assert same(pq.read_table(tmp_path / "found.parquet"), load(moved).transform(TABLE.slice(0, 50)))


def test_a_plan_writes_nothing_and_names_what_will_be(source: Path, tmp_path: Path) -> None:
    made = plan(job(source, tmp_path), "tomorrow")
    assert os.listdir(tmp_path) == []
    assert [len(s.slots) for s in made.scans] == [4, 1]
    assert made.made_by["air_time"] == "ScaleToZScore" and made.made_by["price"] is None
    assert made.dataset == str(tmp_path / "datasets" / "tomorrow")
    json.dumps(made.to_json())


# --- the same, however it is cut -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "group", "changes"),
    [
        (1, 1000, {"fragment_rows": 10_000}),
        (1, 37, {"fragment_rows": 40, "batch_rows": 16}),
        (7, 1000, {"batch_rows": 11}),
        (4, 50, {"runner": {"mode": "multi_threading", "workers": 3}, "fragment_rows": 50}),
        (2, 1000, {"dataset_compression": "zstd"}),
    ],
    ids=["one fragment", "small batches", "seven files", "threads", "compression"],
)
def test_the_cut_changes_no_byte(
    done: tuple[Any, Path], tmp_path: Path, files: int, group: int, changes: dict[str, Any]
) -> None:
    compression = changes.pop("dataset_compression", None) if "dataset_compression" in changes else None
    if compression:
        changes = {"dataset": {"path": str(tmp_path / "out/datasets"), "compression": compression}}
    record = run(job(cut(TABLE, tmp_path / "source", files, group), tmp_path / "out", **changes))
    first = done[0]
    assert record.artifact["version"] == first.artifact["version"]
    assert states_of(record.artifact["path"]) == states_of(first.artifact["path"])
    found, wanted = everything(record.dataset), everything(first.dataset)
    assert found.keys() == wanted.keys()
    assert all(same(found[name], wanted[name]) for name in wanted)


@pytest.mark.slow
def test_worker_processes_change_no_byte(done: tuple[Any, Path], source: Path, tmp_path: Path) -> None:
    record = run(job(source, tmp_path, runner={"mode": "multi_processing", "workers": 2}))
    first = done[0]
    assert record.artifact["version"] == first.artifact["version"]
    assert states_of(record.artifact["path"]) == states_of(first.artifact["path"])
    for name, wanted in everything(first.dataset).items():
        assert same(rows_of(Path(record.dataset) / name), wanted)


def test_the_same_job_again_makes_the_same_artifact_and_files(done: tuple[Any, Path], source: Path) -> None:
    first, out = done
    again = run(job(source, out), run_id="second")
    assert again.artifact["version"] == first.artifact["version"]
    digests = [
        {f["path"]: f["sha256"] for f in json.loads((Path(r.dataset) / "manifest.json").read_text())["files"]}
        for r in (first, again)
    ]
    assert digests[0] == digests[1]
    assert len(history(out / "artifacts", "flights", "candidate")) == 1


def test_other_data_make_another_version(done: tuple[Any, Path], tmp_path: Path) -> None:
    record = run(job(cut(flights(seed=8), tmp_path / "s"), tmp_path))
    assert record.artifact["version"] != done[0].artifact["version"]


def test_without_a_split(source: Path, tmp_path: Path) -> None:
    record = run(job(source, tmp_path, split=None))
    assert record.splits == {"all": 600}
    assert (
        rows_of(Path(record.dataset) / "all").column("flight_id").to_pylist() == TABLE.column("flight_id").to_pylist()
    )


def test_a_filter(source: Path, tmp_path: Path) -> None:
    record = run(job(source, tmp_path, where="distance > 1000 and carrier is not null", split=None))
    wanted = TABLE.filter(pc.and_(pc.greater(TABLE["distance"], 1000), pc.is_valid(TABLE["carrier"])))
    assert (record.rows.source, record.rows.filtered, record.rows.written) == (
        600,
        600 - wanted.num_rows,
        wanted.num_rows,
    )
    assert (
        rows_of(Path(record.dataset) / "all").column("flight_id").to_pylist() == wanted.column("flight_id").to_pylist()
    )


def test_folders_that_name_columns(tmp_path: Path) -> None:
    for month in (1, 2):
        cut(TABLE.slice(month * 100, 100), tmp_path / "source" / f"month={month}")
    transforms = [
        {"type": "ComputeAndApplyVocabulary", "config": {"columns": ["carrier"]}},
        {"type": "ScaleTo01", "config": {"columns": ["month"]}},
    ]
    record = run(
        job(
            tmp_path / "source",
            tmp_path,
            transforms=transforms,
            split={"by": ["month"], "train": 0.5, "eval": 0.5},
            columns=["carrier", "month"],
        )
    )
    found = pa.concat_tables(everything(record.dataset).values())
    assert found.num_rows == 200
    assert found.schema.names == ["carrier", "month"]


def test_columns_chosen(source: Path, tmp_path: Path) -> None:
    transforms = [{"type": "ScaleTo01", "config": {"columns": ["price"]}}]
    record = run(job(source, tmp_path, transforms=transforms, columns=["price", "day"], split=None))
    assert rows_of(Path(record.dataset) / "all").schema.names == ["price", "day"]


def test_stateless_transforms_make_an_artifact_too(source: Path, tmp_path: Path) -> None:
    transforms = [{"type": "Clip", "config": {"columns": ["price"], "max_value": 500}}]
    record = run(job(source, tmp_path, transforms=transforms))
    assert load(record.artifact["path"]).transform({"price": [400, 600]}) == {"price": [400, 500]}


def test_vectors_that_may_be_null(tmp_path: Path) -> None:
    table = pa.table({"k": ["a", None, "b", "a"], "n": [1, 2, 3, 4]})
    transforms = [{"type": "OneHot", "config": {"columns": ["k"], "output": "hot"}}]
    record = run(job(cut(table, tmp_path / "s"), tmp_path, transforms=transforms, split=None))
    manifest = json.loads((Path(record.dataset) / "manifest.json").read_text())
    found = rows_of(Path(record.dataset) / "all")
    assert found.schema.equals(schema_from_json(manifest["schema"], "manifest.json"))
    assert found.column("hot").to_pylist()[0] == found.column("hot").to_pylist()[3]
    promised = load(record.artifact["path"]).output_schema.field("hot").type
    assert pa.types.is_fixed_size_list(promised)


def test_progress_is_told(source: Path, tmp_path: Path) -> None:
    heard: list[Progress] = []
    run(job(source, tmp_path), progress=heard.append)
    last = {p.stage: (p.done, p.total, p.rows) for p in heard}
    fragments = plan(job(source, tmp_path)).fragments
    assert last == dict.fromkeys(("scan 1", "scan 2", "write"), (fragments, fragments, 600))


# --- bad rows --------------------------------------------------------------------------------------------------------

LOG = [
    {"type": "LogTransform", "config": {"columns": ["x"], "output": "log"}},
    {"type": "ScaleTo01", "config": {"columns": ["log"]}},
]


def with_bad_rows(folder: Path, files: int = 1) -> Path:
    x = np.arange(1.0, 101.0)
    x[[0, 17, 18, 60, 99]] = -1.0
    return cut(pa.table({"x": x, "id": np.arange(100), "t": [f"t{i % 3}" for i in range(100)]}), folder, files, 20)


@pytest.mark.parametrize(("files", "batch_rows"), [(1, 1000), (3, 7)])
def test_bad_rows_are_set_aside_with_their_reason(tmp_path: Path, files: int, batch_rows: int) -> None:
    source = with_bad_rows(tmp_path / "s", files)
    record = run(
        job(source, tmp_path, transforms=LOG, split=None, max_bad_rows=5, fragment_rows=20, batch_rows=batch_rows)
    )
    assert (record.rows.written, record.rows.aside) == (95, 5)
    letters = rows_of(record.dead_letters)
    assert letters.column("id").to_pylist() == [0, 17, 18, 60, 99]
    assert set(letters.column("_transform").to_pylist()) == {"LogTransform"}
    assert set(letters.column("_column").to_pylist()) == {"x"}
    assert set(letters.column("_reason").to_pylist()) == {
        "LogTransform('x'): x + offset must be above 0 to have a logarithm."
    }
    fragments = {f: i for i, f in enumerate(dict.fromkeys(letters.column("_fragment").to_pylist()))}
    assert len(fragments) == 3
    if files == 1:
        assert letters.column("_row").to_pylist() == [0, 17, 18, 0, 19]
    good = rows_of(Path(record.dataset) / "all")
    assert good.column("id").to_pylist() == [i for i in range(100) if i not in (0, 17, 18, 60, 99)]
    assert (good.column("log").to_pylist()[0], good.column("log").to_pylist()[-1]) == (0.0, 1.0)
    assert load(record.artifact["path"]).manifest.rows == {"seen": 100, "used": 95, "set_aside": 5}
    assert load(record.artifact["path"]).verify().rows == 8
    # Readers of the folder do not see the dead letters.
    assert ds.dataset(record.dataset, format="parquet", exclude_invalid_files=True).count_rows() == 95


def test_too_many_bad_rows_fail_the_job_and_leave_them(tmp_path: Path) -> None:
    wanted = job(with_bad_rows(tmp_path / "s"), tmp_path, transforms=LOG, split=None, max_bad_rows=4)
    with pytest.raises(JobError, match=r"^5 rows could not be processed, and max_bad_rows is 4\."):
        run(wanted, run_id="bad")
    final = tmp_path / "datasets" / "bad"
    reports = [f"report/{name}" for name in ("index.html", "report.json", "report.md")]
    assert files_below(final) == ["_rejected/part-00000-of-00001.parquet", *reports, "run.json"]
    assert rows_of(final / "_rejected").column("id").to_pylist() == [0, 17, 18, 60, 99]
    record = json.loads((final / "run.json").read_text())
    assert (record["status"], record["rows"]["aside"], record["dead_letters"]) == (
        "failed",
        5,
        str(final / "_rejected"),
    )
    assert not (tmp_path / "artifacts").exists()
    assert os.listdir(tmp_path / "datasets") == ["bad"]


def test_a_failed_run_can_be_run_again_under_its_name(tmp_path: Path) -> None:
    source = with_bad_rows(tmp_path / "s")
    with pytest.raises(JobError):
        run(job(source, tmp_path, transforms=LOG, split=None), run_id="night")
    # The file is mended in place: nothing that the process keeps of the first run may come back.
    cut(pa.table({"x": np.arange(2.0, 52.0), "id": np.arange(50)}), source)
    record = run(job(source, tmp_path, transforms=LOG, split=None), run_id="night")
    assert record.rows.written == 50
    assert rows_of(Path(record.dataset) / "all").column("log").to_pylist()[-1] == 1.0


# --- jobs that cannot be ---------------------------------------------------------------------------------------------


def refused(source: Path | str, out: Path, kind: type[Exception] = RequestError, **changes: Any) -> str:
    """The message of a job that is refused, after a look that it left nothing."""
    before = files_below(out)
    with pytest.raises(kind) as caught:
        run(job(source, out, **changes))
    assert isinstance(caught.value, FeaturemillError)
    assert files_below(out) == before
    assert not (out / "datasets").exists() and not (out / "artifacts").exists()
    return told(caught.value)


def told(error: BaseException) -> str:
    """One plain message: nothing of tracebacks and runners in it."""
    text = str(error)
    for noise in ("Traceback", "while running", "RuntimeError", 'File "'):
        assert noise not in text
    return text


def op(kind: str, *columns: str, **config: Any) -> list[dict[str, Any]]:
    return [{"type": kind, "config": {"columns": list(columns), **config}}]


def test_a_missing_column(source: Path, tmp_path: Path) -> None:
    told = refused(source, tmp_path, MissingColumnError, transforms=op("ScaleTo01", "air_tme"))
    assert "ScaleTo01('air_tme')" in told and "Did you mean 'air_time'?" in told
    told = refused(source, tmp_path, MissingColumnError, split={"by": ["flightid"], "train": 1.0})
    assert told.startswith("split.by: ") and "Did you mean 'flight_id'?" in told
    assert "'distanc'" in refused(source, tmp_path, columns=["distanc"])
    assert "dist" in refused(source, tmp_path, where="dist > 3")


def test_a_column_of_a_type_that_the_transform_cannot_take(source: Path, tmp_path: Path) -> None:
    told = refused(source, tmp_path, ColumnTypeError, transforms=op("ScaleTo01", "carrier"))
    assert "ScaleTo01('carrier')" in told and "string" in told
    assert "double" in refused(source, tmp_path, split={"by": ["air_time"], "train": 1.0})


def test_outputs_of_the_same_name(tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match="'z' comes twice"):
        job("x", tmp_path, transforms=op("Clip", "x", "y", max_value=1, output=["z", "z"]))


def test_parameters_that_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match="top_k got 0"):
        job("x", tmp_path, transforms=op("ComputeAndApplyVocabulary", "x", top_k=0))
    with pytest.raises(JobFileError, match="There is no transform 'Buckets'"):
        job("x", tmp_path, transforms=op("Buckets", "x"))


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refused(tmp_path / "nowhere", tmp_path)
    assert "*.parquet" in refused(tmp_path / "nowhere" / "*.parquet", tmp_path)


def test_a_source_without_rows(tmp_path: Path) -> None:
    assert "has no rows" in refused(cut(TABLE.slice(0, 0), tmp_path / "s"), tmp_path)


@pytest.mark.parametrize("where", ["price < 0", "price > 5000", "price = 500 and carrier = 'nobody'"])
def test_a_filter_that_nothing_passes(source: Path, tmp_path: Path, where: str) -> None:
    with pytest.raises(FeaturemillError, match="no rows") as caught:
        run(job(source, tmp_path, where=where))
    told(caught.value)
    assert not (tmp_path / "artifacts").exists()


def test_a_training_split_without_rows(tmp_path: Path) -> None:
    source = cut(TABLE.slice(0, 3), tmp_path / "s")
    with pytest.raises(JobError, match=r"'train'.* has no rows"):
        run(job(source, tmp_path, split={"by": ["flight_id"], "train": 0.000001, "eval": 0.999999}))
    assert not (tmp_path / "artifacts").exists()


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    source = cut(TABLE, tmp_path / "s", files=2)
    pq.write_table(TABLE.set_column(6, "price", pa.array(["x"] * 600)), source / "part-009.parquet")
    assert "price" in refused(source, tmp_path)


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    source = cut(TABLE, tmp_path / "s")
    (source / "part-009.parquet").write_bytes(b"PAR1 and then nothing")
    assert "part-009.parquet" in refused(source, tmp_path)


@pytest.mark.parametrize(
    "mode", ["in_memory", "multi_threading", pytest.param("multi_processing", marks=pytest.mark.slow)]
)
def test_a_file_that_turns_out_damaged_when_it_is_read(tmp_path: Path, mode: str) -> None:
    source = cut(TABLE, tmp_path / "s", files=2)
    path = source / "part-001.parquet"
    data = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(0).column(1)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    with pytest.raises(JobError, match=r"part-001.parquet: the file is damaged in row groups 0 to 0") as caught:
        run(job(source, tmp_path, runner={"mode": mode}), run_id="broken")
    assert "\n" not in told(caught.value)
    assert not (tmp_path / "artifacts").exists()
    assert files_below(tmp_path / "datasets") == ["broken/run.json"]
    record = json.loads((tmp_path / "datasets/broken/run.json").read_text())
    assert record["status"] == "failed" and record["error"] == str(caught.value)


@pytest.mark.parametrize("mode", ["in_memory", "multi_threading"])
def test_a_vocabulary_that_is_left_empty(source: Path, tmp_path: Path, mode: str) -> None:
    wanted = job(
        source,
        tmp_path,
        runner={"mode": mode},
        transforms=op("ComputeAndApplyVocabulary", "carrier", frequency_threshold=100_000),
    )
    with pytest.raises(
        JobError, match=r"^The vocabulary of 'carrier' is empty: frequency_threshold is 100000"
    ) as caught:
        run(wanted)
    told(caught.value)
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("place", ["file", "/proc"])
@pytest.mark.parametrize("output", ["dataset", "artifact"])
def test_an_output_folder_that_cannot_be_written_to(source: Path, tmp_path: Path, place: str, output: str) -> None:
    if place == "file":
        (tmp_path / "file").write_text("x")
        place = str(tmp_path / "file" / "out")
    changes = {"dataset": {"path": place}} if output == "dataset" else {"artifact": {"root": place}}
    assert "cannot be written to" in refused(source, tmp_path, **changes)


def test_an_output_that_holds_a_run_already(done: tuple[Any, Path], source: Path) -> None:
    _, out = done
    before = files_below(out)
    with pytest.raises(RequestError, match="already holds a run") as caught:
        run(job(source, out), run_id="first")
    told(caught.value)
    assert files_below(out) == before


def test_an_output_that_holds_something_else(source: Path, tmp_path: Path) -> None:
    (tmp_path / "datasets" / "mine").mkdir(parents=True)
    (tmp_path / "datasets" / "mine" / "notes.txt").write_text("x")
    with pytest.raises(RequestError, match="already holds"):
        run(job(source, tmp_path), run_id="mine")
    assert files_below(tmp_path) == ["datasets/mine/notes.txt"]


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "_rejected", "a b"])
def test_a_run_id_that_is_no_name(source: Path, tmp_path: Path, name: str) -> None:
    if not name:
        return
    with pytest.raises(RequestError, match="run id got"):
        run(job(source, tmp_path), run_id=name)
    assert files_below(tmp_path) == []


def during(action: Callable[[], Any]) -> Callable[[Progress], None]:
    """A listener that does something once, when the first news of a running job comes."""
    ran: list[Any] = []

    def listen(progress: Progress) -> None:
        if not ran:
            ran.append(action())

    return listen


def test_an_alias_that_somebody_moves_meanwhile_is_left_to_them(done: tuple[Any, Path], tmp_path: Path) -> None:
    _, out = done
    shutil.copytree(out / "artifacts", tmp_path / "artifacts")
    theirs = run(
        job(cut(flights(seed=5), tmp_path / "theirs"), tmp_path, artifact={"root": str(tmp_path / "artifacts")})
    )
    listener = during(
        lambda: move(tmp_path / "artifacts", "flights", "candidate", theirs.artifact["version"], "by hand")
    )
    with pytest.raises(AliasMoved, match="while the job was running") as caught:
        run(job(cut(flights(seed=6), tmp_path / "ours"), tmp_path), run_id="ours", progress=listener)
    told(caught.value)
    assert read_alias(tmp_path / "artifacts", "flights", "candidate").version == theirs.artifact["version"]
    record = json.loads((tmp_path / "datasets/ours/run.json").read_text())
    assert load(f"{tmp_path}/artifacts/flights@{record['artifact']['version']}").version == caught.value.version
    assert isinstance(caught.value, ArtifactError)


def test_another_run_that_takes_the_place_meanwhile(source: Path, tmp_path: Path) -> None:
    final = tmp_path / "datasets" / "night"

    def take() -> None:
        final.mkdir(parents=True)
        (final / "manifest.json").write_text("{}")

    with pytest.raises(JobError, match="Another run may have taken the place") as caught:
        run(job(source, tmp_path), run_id="night", progress=during(take))
    told(caught.value)
    assert files_below(tmp_path / "datasets") == ["night/manifest.json"]


def test_columns_that_nothing_touches_come_back_exactly(tmp_path: Path) -> None:
    table = pa.table(
        {
            "x": [1.0, 2.0, None],
            "moment": pa.array([0, 1_500_000, None], pa.timestamp("us", "Europe/Berlin")),
            "local": pa.array([0, 1, None], pa.timestamp("ms")),
            "money": pa.array([None, 1, 2], pa.decimal128(12, 2)),
            "flag": [True, None, False],
            "lists": [["a"], [], None],
            "bytes": pa.array([b"\xff", None, b""]),
            "struct": [{"a": 1}, None, {"a": None}],
            "coded": pa.array(["a", None, "b"]).dictionary_encode(),
        }
    )
    record = run(job(cut(table, tmp_path / "s"), tmp_path, transforms=op("ScaleTo01", "x"), split=None))
    found = rows_of(Path(record.dataset) / "all")
    names = [n for n in table.schema.names if n != "x"]
    assert found.select(names).schema.equals(table.select(names).schema)
    assert found.select(names).to_pylist() == table.select(names).to_pylist()


@pytest.mark.parametrize("mode", ["in_memory", "multi_threading"])
@pytest.mark.parametrize(
    "transforms", [TRANSFORMS, [{"type": "Clip", "config": {"columns": ["price"], "max_value": 5}}]]
)
def test_a_filter_that_rules_out_every_file_is_told(
    source: Path, tmp_path: Path, mode: str, transforms: list[dict[str, Any]]
) -> None:
    with pytest.raises(JobError, match="has no rows|were no rows"):
        run(job(source, tmp_path, where="distance < -1000000", transforms=transforms, runner={"mode": mode}))

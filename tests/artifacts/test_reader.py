"""Loading and applying: every kind of input, no code from the artifact, no changed byte."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from featuremill.artifacts import carried, reader
from featuremill.artifacts.aliases import move
from featuremill.artifacts.build import build_files, state_bytes
from featuremill.artifacts.errors import (
    ArtifactError,
    MissingArtifactError,
    MissingColumnError,
    ParameterError,
    ParameterTypeError,
    RequestError,
)
from featuremill.artifacts.manifest import FORMAT_VERSION, Manifest, canonical_json, digest
from featuremill.artifacts.publish import publish
from featuremill.artifacts.reader import Artifact, load
from featuremill.transforms.text import NGrams
from support.sample_artifact import SCHEMA, sample_batch, sample_files

FILES = sample_files()
VERSION = Manifest.from_json(FILES["manifest.json"]).version


def put_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    publish(root, "flights", FILES)
    move(root, "flights", "prod", VERSION)
    return root


@pytest.fixture(scope="module")
def artifact(root: Path) -> Artifact:
    return load(f"{root}/flights@prod")


@pytest.fixture(scope="module")
def expected(artifact: Artifact) -> pa.RecordBatch:
    return artifact.bound.apply(sample_batch())


# --- where it lies ---


def test_all_ways_to_name_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "flights" / "versions" / VERSION
    references = [
        f"{root}/flights@prod",
        f"{root}/flights@{VERSION}",
        f"{root}/flights",
        root / "flights@prod",
        folder,
        f"{folder}/",
        root.as_uri() + "/flights@prod",
    ]
    monkeypatch.chdir(root)
    references += ["flights", "flights@prod", "./flights@prod", f"flights/versions/{VERSION}"]
    for reference in references:
        found = load(reference)
        assert (found.name, found.version) == ("flights", VERSION)


def test_location_leads_back(artifact: Artifact) -> None:
    assert load(artifact.location).version == VERSION
    twin = pickle.loads(pickle.dumps(artifact))
    assert twin.transform({"carrier": "AA", "air_time": 1.0, "dep_time": 3}) == artifact.transform(
        {"carrier": "AA", "air_time": 1.0, "dep_time": 3}
    )


def test_a_moved_folder_loads(root: Path, tmp_path: Path) -> None:
    there = tmp_path / "a b @ 100% ü"
    shutil.copytree(root, there)
    assert load(f"{there}/flights@prod").verify().rows == 8
    shutil.copytree(there / "flights" / "versions" / VERSION, tmp_path / "mine")
    assert load(tmp_path / "mine").verify().files == len(FILES)


def test_what_is_not_there(root: Path, tmp_path: Path) -> None:
    for reference, words in {
        f"{root}/flights@staging": "has no alias 'staging'. Known: 'prod'",
        f"{root}/flights@0123456789abcdef": "has no version 0123456789abcdef",
        f"{root}/boats": "There is no artifact 'boats'",
        f"{root}/boats@prod": "There is no artifact 'boats' either",
        f"{tmp_path}/nowhere/flights@prod": "There is no folder",
    }.items():
        with pytest.raises(MissingArtifactError, match=words):
            load(reference)
    for reference in (f"{root}/flights@", f"{root}/fl ights@prod", f"{root}/flights@a b"):
        with pytest.raises(ParameterError):
            load(reference)


def test_several_versions_must_be_told_apart(tmp_path: Path) -> None:
    a, b = publish(tmp_path, "flights", FILES), publish(tmp_path, "flights", sample_files(num_buckets=5))
    move(tmp_path, "flights", "prod", b)
    with pytest.raises(MissingArtifactError, match="has 2 versions: say which. Aliases: @prod. Versions: @") as caught:
        load(tmp_path / "flights")
    assert set(caught.value.versions) == {a, b}


def test_a_version_in_the_wrong_folder(tmp_path: Path) -> None:
    publish(tmp_path, "flights", FILES)
    (tmp_path / "flights/versions" / VERSION).rename(tmp_path / "flights/versions/0123456789abcdef")
    with pytest.raises(ArtifactError, match=f"holds version {VERSION}, not 0123456789abcdef"):
        load(f"{tmp_path}/flights@0123456789abcdef")


# --- damage ---


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("path", sorted(FILES))
def test_any_changed_byte_is_told(tmp_path: Path, path: str, mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "MAPPED_BYTES", 1 if mapped else 1 << 40)
    folder = put_folder(tmp_path, FILES)
    data = FILES[path]
    positions = {0, len(data) - 1, *range(0, len(data), max(1, len(data) // 25))}
    damaged = [data[:i] + bytes([data[i] ^ (1 << (i % 8))]) + data[i + 1 :] for i in sorted(positions)]
    for change in [*damaged, data + b"\n", data[:-1], data[: len(data) // 2], b""]:
        (folder / path).write_bytes(change)
        with pytest.raises(ArtifactError, match=path):
            load(folder)
    (folder / path).unlink()
    with pytest.raises((ArtifactError, MissingArtifactError)) as caught:
        load(folder)
    assert path in str(caught.value) or path == "manifest.json"
    (folder / path).write_bytes(data)
    assert load(folder).verify().files == len(FILES)


def test_a_newer_format(tmp_path: Path) -> None:
    record = json.loads(FILES["manifest.json"])
    record.pop("digest")
    record["format_version"] = FORMAT_VERSION + 1
    record["digest"] = digest(canonical_json(record))
    folder = put_folder(tmp_path, {**FILES, "manifest.json": json.dumps(record).encode()})
    with pytest.raises(
        ArtifactError, match=r"manifest.json has format 2, this featuremill reads up to format 1\. Upgrade"
    ):
        load(folder)


def test_verify_sees_what_changed_after_loading(tmp_path: Path) -> None:
    folder = put_folder(tmp_path, FILES)
    artifact = load(folder)
    (folder / "vocabulary/carrier.txt").write_bytes(b"AA\n")
    with pytest.raises(ArtifactError, match=r"vocabulary/carrier\.txt is damaged"):
        artifact.verify()
    put_folder(folder, {**FILES, "manifest.json": sample_files(num_buckets=9)["manifest.json"]})
    with pytest.raises(ArtifactError, match="was changed after loading"):
        artifact.verify()


def test_verify_replays_the_golden_rows(tmp_path: Path) -> None:
    manifest = Manifest.from_json(FILES["manifest.json"])
    table = pa.ipc.open_file(FILES["golden.arrow"]).read_all()
    expected = table.column("expected").combine_chunks()
    for column, value, words in (
        ("air_time", 7.5, r"air_time in row 0: expected 7\.5, got -"),
        ("carrier", -1, r"carrier in row 0: expected -1, got \d"),
    ):
        wrong = pa.array([{**row, column: value} for row in expected.to_pylist()], expected.type)
        data = state_bytes(table.set_column(1, "expected", wrong))
        entries = {**manifest.files, "golden.arrow": type(manifest.files["golden.arrow"])(digest(data), len(data))}
        folder = put_folder(
            tmp_path / column,
            {**FILES, "golden.arrow": data, "manifest.json": manifest.with_files(entries).to_json()},
        )
        with pytest.raises(ArtifactError, match=words):
            load(folder).verify()


def test_a_transform_that_is_not_known_here(tmp_path: Path) -> None:
    manifest = Manifest.from_json(FILES["manifest.json"])
    unknown = {"type": "os.system", "config": {"columns": ["carrier"]}}
    changed = replace(manifest, transforms=(unknown, *manifest.transforms[1:]))
    artifact = load(put_folder(tmp_path, {**FILES, "manifest.json": changed.to_json()}))
    with pytest.raises(ArtifactError, match=r"cannot be applied here: There is no transform 'os\.system'"):
        artifact.transform(sample_batch())


def test_no_rows_to_replay(tmp_path: Path) -> None:
    publish(tmp_path, "empty", build_files([], SCHEMA, {}))
    artifact = load(tmp_path / "empty")
    assert artifact.verify().rows == 0
    assert same(artifact.transform(sample_batch()), sample_batch())
    assert artifact.transform({"carrier": "AA"}) == {"carrier": "AA"}


# --- states ---


def test_states_by_key(artifact: Artifact) -> None:
    assert list(artifact.states) == [s.key for s in artifact.manifest.states]
    assert len(artifact.states) == 3
    state = artifact.states["01-ScaleToZScore-air_time"]
    assert state is artifact.states["01-ScaleToZScore-air_time"]
    assert state.column("count")[0].as_py() == 33
    with pytest.raises(KeyError):
        artifact.states["nothing"]


def test_mapped_states_outlive_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: pa.RecordBatch
) -> None:
    monkeypatch.setattr(carried, "MAPPED_BYTES", 1)
    artifact = load(put_folder(tmp_path / "a", FILES))
    shutil.rmtree(tmp_path / "a")
    assert same(artifact.transform(sample_batch()), expected)


def test_what_it_says(artifact: Artifact) -> None:
    assert repr(artifact) == f"<Artifact flights@{VERSION}: 3 transforms, 3 states>"
    assert artifact.input_schema.equals(SCHEMA)
    assert artifact.output_schema.names == [*SCHEMA.names, "dep_bucket"]
    assert [type(t).__name__ for t in artifact.transforms] == [
        "ComputeAndApplyVocabulary",
        "ScaleToZScore",
        "Bucketize",
    ]


# --- kinds of input ---


def same(a: Any, b: Any) -> bool:
    return state_bytes(as_table(a)) == state_bytes(as_table(b))


def as_table(data: Any) -> pa.Table:
    return pa.Table.from_batches([data]) if isinstance(data, pa.RecordBatch) else data


def test_record_batch(artifact: Artifact, expected: pa.RecordBatch) -> None:
    got = artifact.transform(sample_batch())
    assert isinstance(got, pa.RecordBatch)
    assert got.schema.equals(artifact.output_schema)
    assert same(got, expected)


@pytest.mark.parametrize("cuts", [[], [0, 40], [1, 2, 3, 30], [20]])
def test_table_in_any_chunks(artifact: Artifact, expected: pa.RecordBatch, cuts: list[int]) -> None:
    batch = sample_batch()
    pieces = [batch.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, batch.num_rows], strict=True)]
    got = artifact.transform(pa.Table.from_batches(pieces))
    assert isinstance(got, pa.Table)
    assert same(got, expected)


def test_large_pieces_stay_pieces(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, expected: pa.RecordBatch
) -> None:
    monkeypatch.setattr(reader, "SMALL_BATCH_ROWS", 1)
    got = artifact.transform(pa.Table.from_batches([sample_batch().slice(0, 15), sample_batch().slice(15)]))
    assert got.column("carrier").num_chunks == 2
    assert same(got, expected)


def test_dictionary_encoded_columns(artifact: Artifact, expected: pa.RecordBatch) -> None:
    batch = sample_batch()
    encoded = batch.set_column(0, "carrier", batch.column("carrier").dictionary_encode())
    assert same(artifact.transform(encoded), expected)
    pieces = [
        pa.Table.from_batches([p.set_column(0, "carrier", p.column("carrier").dictionary_encode())])
        for p in (batch.slice(0, 7), batch.slice(7))
    ]
    assert same(artifact.transform(pa.concat_tables(pieces)), expected)


EMPTY: dict[str, Callable[[pa.RecordBatch], Any]] = {
    "batch": lambda b: b,
    "table": lambda b: pa.Table.from_batches([], schema=b.schema),
    "pandas": lambda b: b.to_pandas(),
    "polars": pl.from_arrow,
    "lists": lambda b: b.to_pydict(),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_no_rows(artifact: Artifact, kind: str) -> None:
    data = EMPTY[kind](sample_batch().slice(0, 0))
    got = artifact.transform(data)
    assert type(got) is type(data)
    names = list(
        got.schema.names
        if isinstance(got, pa.Table | pa.RecordBatch)
        else got.keys()
        if isinstance(got, dict)
        else got.columns
    )
    assert names == artifact.output_schema.names
    if isinstance(got, pa.Table | pa.RecordBatch):
        assert got.schema.equals(artifact.output_schema)


def test_pandas(artifact: Artifact, expected: pa.RecordBatch) -> None:
    frame = sample_batch().to_pandas()
    frame.index = pd.Index([f"row {i}" for i in range(len(frame))], name="label")
    got = artifact.transform(frame)
    assert isinstance(got, pd.DataFrame)
    assert got.index.equals(frame.index)
    assert list(got) == artifact.output_schema.names
    want = expected.to_pandas()
    assert got["dep_bucket"].dtype == pd.Int64Dtype()
    assert got["flight_id"].tolist() == [2**60 + i for i in range(40)]
    for column in ("carrier", "air_time", "dep_bucket"):
        np.testing.assert_array_equal(
            got[column].to_numpy(dtype=float, na_value=np.nan), want[column].to_numpy(dtype=float)
        )


def test_polars(artifact: Artifact, expected: pa.RecordBatch) -> None:
    got = artifact.transform(pl.from_arrow(sample_batch()))
    assert isinstance(got, pl.DataFrame)
    assert got.equals(pl.from_arrow(expected), null_equal=True)
    categorical = pl.from_arrow(sample_batch()).with_columns(pl.col("carrier").cast(pl.Categorical))
    assert artifact.transform(categorical)["carrier"].equals(got["carrier"], null_equal=True)


def plain(rows: Any) -> str:
    return repr(rows)


def test_dict_of_lists(artifact: Artifact, expected: pa.RecordBatch) -> None:
    got = artifact.transform(sample_batch().to_pydict())
    assert plain(got) == plain(expected.to_pydict())
    arrays = {
        "carrier": np.array(["AA", "zz"]),
        "air_time": pd.Series([1.0, None]),
        "dep_time": (3, None),
        "flight_id": pa.chunked_array([[1], [2]]),
    }
    got = artifact.transform(arrays)
    assert [got["air_time"][1], got["dep_bucket"][1], got["flight_id"]] == [None, None, [1, 2]]


def test_one_dict_equals_the_batch(artifact: Artifact, expected: pa.RecordBatch) -> None:
    for row, want in zip(sample_batch().to_pylist(), expected.to_pylist(), strict=True):
        assert plain(artifact.transform(row)) == plain(want)
        assert plain(artifact.transform_row(row)) == plain(want)


def test_input_is_not_changed(artifact: Artifact) -> None:
    row = {"carrier": "AA", "air_time": 1.0, "dep_time": 3}
    artifact.transform(row)
    assert row == {"carrier": "AA", "air_time": 1.0, "dep_time": 3}
    frame = sample_batch().to_pandas()
    before = frame.copy()
    artifact.transform(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_columns_that_no_transform_reads_may_be_missing_or_more(artifact: Artifact, expected: pa.RecordBatch) -> None:
    batch = sample_batch().drop_columns(["flight_id"])
    assert artifact.transform(batch).schema.names == ["carrier", "air_time", "dep_time", "dep_bucket"]
    more = batch.append_column("extra", pa.array(range(40), pa.int16()))
    assert artifact.transform(more).column("extra").type == pa.int16()
    assert artifact.transform({"carrier": "AA", "air_time": None, "dep_time": 3, "extra": 1})["extra"] == 1


@pytest.mark.parametrize(
    "make", [lambda b: b, pa.RecordBatch.to_pandas, pa.RecordBatch.to_pydict, pl.from_arrow, lambda b: b.to_pylist()[0]]
)
def test_a_missing_column(artifact: Artifact, make: Callable[[pa.RecordBatch], Any]) -> None:
    with pytest.raises(MissingColumnError, match="'air_time' is missing"):
        artifact.transform(make(sample_batch().drop_columns(["air_time"])))


def test_wrong_inputs(artifact: Artifact) -> None:
    lists = sample_batch().to_pydict()
    for data, words in (
        ([{"carrier": "AA"}], "got builtins.list, expected a pyarrow Table"),
        (7, "expected a pyarrow Table"),
        (pl.LazyFrame({"carrier": ["AA"]}), r"\.collect\(\)"),
        (pd.Series([1]), "got pandas.Series"),
        (np.zeros(3), "got numpy.ndarray"),
    ):
        with pytest.raises(ParameterTypeError, match=words):
            artifact.transform(data)
    with pytest.raises(ParameterError, match="equally long"):
        artifact.transform({**lists, "air_time": [1.0]})
    with pytest.raises(ParameterTypeError, match="'air_time' is no list of values"):
        artifact.transform({**lists, "air_time": [1.0, "x", *[None] * 38]})
    with pytest.raises(ParameterTypeError, match="'air_time' is no list of values"):
        artifact.transform({**lists, "air_time": 1.0})
    with pytest.raises(RequestError, match="dep_time"):
        artifact.transform({**lists, "dep_time": [1.5] * 40})
    with pytest.raises(RequestError, match="dep_time"):
        artifact.transform({"carrier": "AA", "air_time": 1.0, "dep_time": 1.5})


def test_a_row_of_lists_is_told_from_columns_of_lists(tmp_path: Path) -> None:
    schema = pa.schema([("words", pa.list_(pa.string()))])
    op = NGrams(["words"], ngram_range=(1, 2), ngrams_separator=" ")
    publish(tmp_path, "text", build_files([op], schema, {}))
    artifact = load(tmp_path / "text")
    row = artifact.transform({"words": ["a", "b"]})
    columns = artifact.transform({"words": [["a", "b"], []]})
    assert set(row["words"]) == {"a", "b", "a b"}
    assert [set(w) for w in columns["words"]] == [{"a", "b", "a b"}, set()]
    assert artifact.transform({"words": None}) == {"words": None}


# --- a serving process ---

SERVING = """
import sys
import featuremill.artifacts
artifact = featuremill.artifacts.load(sys.argv[1])
print(sorted({"pandas", "polars"} & set(sys.modules)))
artifact.transform({"carrier": "AA", "air_time": 1.0, "dep_time": 3})
artifact.transform({"carrier": ["AA"], "air_time": [1.0], "dep_time": [3]})
artifact.verify()
# pandas is left out here: pyarrow itself imports it, where it is installed, as soon as it converts a Python list.
heavy = {"apache_beam", "tensorflow", "tensorflow_transform", "torch", "polars", "sklearn", "scipy"}
print(sorted(heavy & set(sys.modules)))
"""


def test_a_serving_process_has_neither_beam_nor_tensorflow(root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", SERVING, f"{root}/flights@prod"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["[]", "[]"]

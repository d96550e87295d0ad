"""The files of an artifact: the same content, the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.build import (
    build_files,
    read_state,
    state_bytes,
    table_from_bytes,
    vocabulary_text,
    write_fitted,
    write_state,
)
from featuremill.artifacts.errors import ArtifactError, ParameterError
from featuremill.artifacts.manifest import Manifest
from featuremill.artifacts.publish import publish
from featuremill.artifacts.reader import load
from featuremill.artifacts.store import open_store
from featuremill.transforms.datetime_parts import DatetimeParts
from featuremill.transforms.pipeline import Pipeline
from support.sample_artifact import SCHEMA, fit_states, sample_batch, sample_files, sample_transforms

TYPES = st.sampled_from(
    [
        pa.int64(),
        pa.string(),
        pa.large_string(),
        pa.bool_(),
        pa.list_(pa.string()),
        pa.float64(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.struct([("a", pa.int8()), ("b", pa.string())]),
    ]
)
VALUES = {
    "int64": st.integers(-5, 5),
    "string": st.text(max_size=3),
    "large_string": st.text(max_size=3),
    "bool": st.booleans(),
    "list<item: string>": st.lists(st.none() | st.text(max_size=2), max_size=3),
    "double": st.floats(),
    "dictionary<values=string, indices=int32, ordered=0>": st.sampled_from("abc"),
    "struct<a: int8, b: string>": st.fixed_dictionaries({"a": st.none() | st.integers(0, 3), "b": st.text(max_size=2)}),
}


@settings(deadline=None)
@given(data=st.data(), type_=TYPES)
def test_chunks_and_slices_leave_no_trace(data: st.DataObject, type_: pa.DataType) -> None:
    values = data.draw(st.lists(st.none() | VALUES[str(type_)], max_size=12))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=3)))
    whole = pa.array(values, type_)
    pieces = [
        pa.array([None, *values[a:b], None], type_).slice(1, b - a)
        for a, b in zip([0, *cuts], [*cuts, len(values)], strict=True)
    ]
    cut = pa.table({"x": pa.chunked_array(pieces, type_)})
    data_bytes = state_bytes(pa.table({"x": pa.chunked_array([whole], type_)}))
    back = table_from_bytes(state_bytes(cut), "here")
    if not pa.types.is_dictionary(type_):
        # A dictionary lists its values in the order in which they came.
        assert state_bytes(cut) == data_bytes
    assert back.column("x").to_pylist() == whole.to_pylist() or pa.types.is_floating(type_)
    assert state_bytes(back) == state_bytes(cut)


def test_garbage_under_nulls_leaves_no_trace() -> None:
    validity = pa.py_buffer(b"\xf5")
    dirty = pa.Array.from_buffers(pa.int64(), 3, [validity, pa.py_buffer(np.array([1, 99, 3]).tobytes())])
    assert state_bytes(pa.table({"x": dirty})) == state_bytes(pa.table({"x": [1, None, 3]}))


def test_metadata_leaves_no_trace() -> None:
    noisy = pa.table({"x": [1]}).replace_schema_metadata({"a": "b"})
    assert state_bytes(noisy) == state_bytes(pa.table({"x": [1]}))


def test_an_empty_state() -> None:
    table = pa.table({"token": pa.array([], pa.string()), "count": pa.array([], pa.int64())})
    assert table_from_bytes(state_bytes(table), "here").equals(table)


@pytest.mark.parametrize("data", [b"", b"ARROW1", b"\x00" * 100, state_bytes(pa.table({"x": [1]}))[:-9]])
def test_no_arrow_file(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="here is no readable Arrow file"):
        table_from_bytes(data, "here")


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["b", "a"], "b\na\n"),
        ([], ""),
        (["", "x\ny", "r\r", "back\\slash", "\\n", "ü\u2028"], "\nx\\ny\nr\\r\nback\\\\slash\n\\\\n\nü\u2028\n"),
        ([3, -1], "3\n-1\n"),
        ([True, False], "true\nfalse\n"),
        ([None, "N"], "\\N\nN\n"),
    ],
)
def test_readable_vocabulary(tokens: list[object], text: str) -> None:
    assert (
        vocabulary_text(pa.chunked_array([tokens] if tokens else [], None if tokens else pa.string())).decode() == text
    )


def test_readable_vocabulary_of_bytes_and_dictionaries() -> None:
    assert vocabulary_text(pa.chunked_array([[b"\xff\n", b"a"]])) == b"\xff\\n\na\n"
    assert vocabulary_text(pa.chunked_array([pa.array(["b", "a"]).dictionary_encode()])) == b"b\na\n"


def test_the_same_data_and_job_give_the_same_bytes() -> None:
    assert sample_files() == sample_files(sample_batch())


def test_what_is_in_it() -> None:
    files = sample_files()
    manifest = Manifest.from_json(files["manifest.json"])
    assert set(files) == {*manifest.files, "manifest.json"}
    assert sorted(files) == [
        "attributes.json",
        "golden.arrow",
        "manifest.json",
        "states/00-ComputeAndApplyVocabulary-carrier.arrow",
        "states/01-ScaleToZScore-air_time.arrow",
        "states/02-Bucketize-dep_time.arrow",
        "vocabulary/carrier.txt",
    ]
    assert manifest.input_schema.equals(SCHEMA)
    assert manifest.output_schema.names == [*SCHEMA.names, "dep_bucket"]
    assert [(s.transform, s.slot) for s in manifest.states] == [(0, "carrier"), (1, "air_time"), (2, "dep_time")]
    assert manifest.provenance["job"] == "flights"
    assert manifest.provenance["packages"]["pyarrow"] == pa.__version__
    assert manifest.rows == {"seen": 40, "used": 40, "set_aside": 0}
    assert b"new\\nline\n" in files["vocabulary/carrier.txt"]
    assert json.loads(files["manifest.json"])["transforms"][1] == {
        "type": "ScaleToZScore",
        "config": {"columns": ["air_time"]},
    }


def test_created_is_filled_in() -> None:
    files = build_files([], SCHEMA, {}, provenance={"job": "x"})
    assert Manifest.from_json(files["manifest.json"]).created.tzinfo is not None


@pytest.mark.parametrize(
    "rows", [{"seen": 1, "used": 2}, {"seen": -1}, {"saw": 1}, {"seen": 1.5}, {"seen": 3, "used": 2, "set_aside": 2}]
)
def test_row_counts_must_add_up(rows: dict[str, int]) -> None:
    with pytest.raises(ParameterError, match="rows got"):
        build_files([], SCHEMA, {}, rows=rows)


def test_states_must_be_those_that_are_needed() -> None:
    states = fit_states(sample_transforms(), sample_batch())
    states["99-More-x"] = states.pop("01-ScaleToZScore-air_time")
    with pytest.raises(ParameterError, match="need the states"):
        build_files(sample_transforms(), SCHEMA, states)


def test_built_in_a_folder_is_the_same_version(tmp_path: Path) -> None:
    store = open_store(tmp_path / "staging")
    batch, transforms = sample_batch(), sample_transforms()
    paths = {key: write_state(store, key, state) for key, state in fit_states(transforms, batch).items()}
    again = {key: write_state(store, key, state) for key, state in fit_states(transforms, batch).items()}
    assert paths == again
    for key, state in fit_states(transforms, batch).items():
        assert read_state(store, paths[key]).equals(state)
    manifest = write_fitted(store, Pipeline(transforms, batch.schema), paths, golden=batch)
    assert manifest.version == Manifest.from_json(sample_files()["manifest.json"]).version
    assert load(tmp_path / "staging").verify().rows == 8
    version = publish(tmp_path / "root", "flights", tmp_path / "staging")
    assert load(f"{tmp_path}/root/flights@{version}").name == "flights"


def test_golden_rows_are_good_rows() -> None:
    schema = pa.schema([("t", pa.string())])
    rows = pa.RecordBatch.from_pydict({"t": ["2024-01-02", "no day", None, "2024-02-30", "2024-03-01"]}, schema=schema)
    op = DatetimeParts(["t"], format="%Y-%m-%d")
    files = build_files([op], schema, {}, golden=rows)
    golden = table_from_bytes(files["golden.arrow"], "golden.arrow")
    assert [row["t"] for row in golden.column("input").to_pylist()] == ["2024-01-02", None, "2024-03-01"]
    assert [row["t_month"] for row in golden.column("expected").to_pylist()] == [1, None, 3]


def test_a_missing_state_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"x\.arrow does not exist"):
        read_state(open_store(tmp_path), "states/x.arrow")

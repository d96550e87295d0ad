"""Jobs with EmbedText: the model goes from the launcher into the artifact, and from there to every worker."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from apache_beam.ml.transforms.base import MLTransform
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import featuremill.transforms as fm
from featuremill.artifacts import load
from featuremill.artifacts.errors import ParameterError
from featuremill.core.feature_recipe import FeatureRecipe, numbered
from featuremill.core.loading import job_from_mapping
from featuremill.jobs.prepare import plan, run
from featuremill.jobs.score import run as run_score
from featuremill.transforms.embedding import EmbedText
from support.small_bert import make_model
from support.small_encoders import image_bytes, make_columns, make_vision, small_columns

PLACES = ["a port", "port b", None, "", "a long name of a port", "c, d."]
ROWS = 240


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


def job(folder: Path, model: Path, *, transforms: list[dict[str, Any]] | None = None, **changes: Any) -> Any:
    source = folder / "source"
    source.mkdir(exist_ok=True)
    table = pa.table({"id": np.arange(ROWS), "place": [PLACES[i % len(PLACES)] for i in range(ROWS)]})
    for i in range(3):
        pq.write_table(table.slice(i * 80, 80), source / f"{i}.parquet")
    embed = {"type": "EmbedText", "config": {"columns": ["place"], "model": str(model), "max_tokens": 20}}
    content = {
        "kind": "prepare", "name": "places", "source": {"parquet": {"path": str(source), "fragment_rows": 80}},
        "transforms": transforms or [embed], "artifact": {"root": str(folder / "artifacts"), "alias": "prod"},
        "dataset": {"path": str(folder / "datasets")}, "runner": {"mode": "in_memory"},
    }  # fmt: skip
    return job_from_mapping(content | changes)


def vectors(model: Path) -> dict[str, list[float]]:
    op = EmbedText(["place"], str(model), max_tokens=20)
    batch = pa.record_batch({"place": [p for p in PLACES if p is not None]})
    (array,) = op.apply(batch, op.prepare({}, batch.schema))
    return dict(zip(batch.column("place").to_pylist(), array.to_pylist(), strict=True))


@pytest.mark.parametrize("mode", ["in_memory", "multi_processing"])
def test_a_job_embeds_and_its_artifact_serves(tmp_path: Path, model: Path, mode: str) -> None:
    wanted = vectors(model)
    made = job(tmp_path, model, runner={"mode": mode, "workers": 2})
    found = plan(made)
    assert found.output_schema.field("place").type == pa.list_(pa.float32(), 24)
    assert found.scans == ()
    record = run(made)
    (told,) = record.backends
    assert told["model"] == str(model) and told["backend"] == "cpu"
    assert set(told["refused"]) == {"tensorrt", "cuda"}
    assert json.loads((Path(record.dataset or "") / "run.json").read_text())["backends"] == [told]
    assert record.embeddings["computed"] == record.embeddings["kept"] == len(wanted)
    table = ds.dataset(record.dataset, format="parquet", exclude_invalid_files=True).to_table().sort_by("id")
    # Parquet has no lists of a fixed size.
    assert table.schema.field("place").type.value_type == pa.float32()
    for i, vector in zip(table.column("id").to_pylist(), table.column("place").to_pylist(), strict=True):
        place = PLACES[i % len(PLACES)]
        assert vector == (None if place is None else wanted[place])
    shutil.rmtree(model)
    artifact = load(tmp_path / "artifacts" / "places@prod")
    assert artifact.verify().rows == 8
    assert artifact.transform_row({"id": 1, "place": "port b"})["place"] == wanted["port b"]
    # Score jobs bind an artifact in their own way.
    rows = pa.record_batch({"id": [1], "place": ["port b"]})
    bound = FeatureRecipe(artifact.location, rows.schema, ("place",)).bound()
    assert bound.apply(numbered(rows, "0", 0)).batch.column("place").to_pylist() == [wanted["port b"]]


def test_statistics_of_vectors_are_collected_with_the_model_of_the_artifact(tmp_path: Path, model: Path) -> None:
    wanted = np.array(list(vectors(model).values()), np.float64)
    embed = {"columns": ["place"], "model": str(model), "max_tokens": 20, "output": "vector"}
    scale = {"columns": ["vector"], "elementwise": True, "dtype": "float64"}
    steps = [{"type": "EmbedText", "config": embed}, {"type": "ScaleToZScore", "config": scale}]
    made = job(tmp_path, model, transforms=steps)
    assert [scan.applies for scan in plan(made).scans] == [(0,)]
    run(made)
    row = load(tmp_path / "artifacts" / "places@prod").transform_row({"id": 1, "place": "a port"})
    np.testing.assert_allclose(row["vector"], ((wanted - wanted.mean(0)) / wanted.std(0))[0], rtol=1e-9)


def test_half_floats_are_stored_as_such(tmp_path: Path, model: Path) -> None:
    embed = {"columns": ["place"], "model": str(model), "max_tokens": 20, "dtype": "float16", "truncate_dim": 8}
    record = run(job(tmp_path, model, transforms=[{"type": "EmbedText", "config": embed}]))
    table = ds.dataset(record.dataset, format="parquet", exclude_invalid_files=True).to_table().sort_by("id")
    assert table.schema.field("place").type.value_type == pa.float16()
    served = load(tmp_path / "artifacts" / "places@prod").transform({"id": [0], "place": ["a port"]})
    assert table.column("place")[0].as_py() == served["place"][0]
    assert len(served["place"][0]) == 8


def test_a_model_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"There is no model .*nothing"):
        run(job(tmp_path, tmp_path / "nothing"))
    assert not (tmp_path / "artifacts").exists()


def test_mltransform_writes_and_reads_it(tmp_path: Path, model: Path) -> None:
    wanted = vectors(model)
    rows = [{"place": p} for p in wanted]

    def through(transform: MLTransform) -> list[Any]:
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            found = pipeline | beam.Create([pa.RecordBatch.from_pylist(rows)], reshuffle=False) | transform
            _ = found | beam.Map(lambda batch: (out / "rows.json").write_text(json.dumps(batch.to_pylist())))
        return list(json.loads((out / "rows.json").read_text()))

    op = fm.EmbedText(columns=["place"], model=str(model), max_tokens=20)
    fitted = through(MLTransform(write_artifact_location=str(tmp_path / "ml")).with_transform(op))
    assert fitted == [{"place": v} for v in wanted.values()]
    shutil.rmtree(model)
    shutil.move(tmp_path / "ml", tmp_path / "moved")
    assert through(MLTransform(read_artifact_location=str(tmp_path / "moved"))) == fitted


def test_images_and_columns_in_a_job(tmp_path: Path) -> None:
    vision, columns = str(make_vision(tmp_path / "vision")), str(make_columns(tmp_path / "columns"))
    images = [image_bytes(0), None, b"no image", image_bytes(1)]
    rows = pa.table({"id": np.arange(ROWS), "w": np.arange(ROWS) / 7, "photo": [images[i % 4] for i in range(ROWS)]})
    source = tmp_path / "source"
    source.mkdir()
    pq.write_table(rows, source / "0.parquet")
    steps = [
        {"type": "EmbedImage", "config": {"columns": ["photo"], "model": vision, "backend": ["cuda", "cpu"]}},
        {"type": "EmbedColumns", "config": {"columns": ["id", "w"], "model": columns, "output": "v"}},
    ]
    made = job_from_mapping({
        "kind": "prepare", "name": "photos", "source": {"parquet": {"path": str(source), "fragment_rows": 100}},
        "transforms": steps, "artifact": {"root": str(tmp_path / "artifacts"), "alias": "prod"},
        "dataset": {"path": str(tmp_path / "datasets")}, "runner": {"mode": "in_memory"}, "max_bad_rows": ROWS,
    })  # fmt: skip
    record = run(made)
    assert record.rows is not None and (record.rows.written, record.rows.aside) == (ROWS * 3 // 4, ROWS // 4)
    letters = ds.dataset(str(record.dead_letters), format="parquet", ignore_prefixes=["."]).to_table()
    assert set(letters.column("_reason").to_pylist()) == {
        "EmbedImage('photo'): the bytes are no image that can be decoded"
    }
    assert {(b["model"], b["backend"], *b["refused"]) for b in record.backends} == {
        (vision, "cpu", "cuda"), (columns, "cpu", "tensorrt", "cuda"),
    }  # fmt: skip
    table = ds.dataset(record.dataset, format="parquet", exclude_invalid_files=True).to_table().sort_by("id")
    artifact = load(tmp_path / "artifacts" / "photos@prod")
    assert artifact.verify().rows == 8
    for at in (0, 1, 2, 100):
        row = table.slice(at, 1).to_pylist()[0]
        given = rows.filter(pc.equal(rows["id"], row["id"])).to_pylist()[0]
        served = artifact.transform_row(given)
        assert (served["photo"], served["v"]) == (row["photo"], row["v"])


def test_what_is_required_and_not_there_fails_the_job(tmp_path: Path, model: Path) -> None:
    embed = {"columns": ["place"], "model": str(model), "max_tokens": 20, "require": "tensorrt"}
    with pytest.raises(ParameterError, match=r"is to run on tensorrt and nothing else, which cannot be had here\."):
        run(job(tmp_path, model, transforms=[{"type": "EmbedText", "config": embed}]))
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("large", [False, True])
def test_a_score_job_tells_where_its_model_ran(tmp_path: Path, large: bool) -> None:
    source = tmp_path / "source"
    source.mkdir()
    pq.write_table(pa.table({"id": np.arange(ROWS), "w": np.arange(ROWS) / 7}), source / "0.parquet")
    model = {
        "path": small_columns(), "inputs": {"x": {"columns": ["id", "w"], "dtype": "float32"}},
        "outputs": {"v": {"output": "vector", "type": "list<float>"}}, "options": {"backend": ["tensorrt", "cpu"]},
        "large_model": large,
    }  # fmt: skip
    record = run_score(job_from_mapping({
        "kind": "score", "name": "rows", "source": {"parquet": {"path": str(source)}}, "model": model,
        "output": {"path": str(tmp_path / "scores"), "keys": ["id"]}, "runner": {"mode": "in_memory"},
    }))  # fmt: skip
    (told,) = record.backends
    assert (told["model"], told["backend"], list(told["refused"])) == (small_columns(), "cpu", ["tensorrt"])
    with pytest.raises(ParameterError, match="is to run on cuda and nothing else"):
        run_score(job_from_mapping({
            "kind": "score", "name": "rows", "source": {"parquet": {"path": str(source)}},
            "model": model | {"options": {"require": "cuda"}},
            "output": {"path": str(tmp_path / "none"), "keys": ["id"]},
            "runner": {"mode": "in_memory"},
        }))  # fmt: skip

"""Vectors that jobs keep for later ones, and distinct texts embedded first: the same results, with less work."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from featuremill.artifacts import collect_vectors, list_artifacts, load
from featuremill.artifacts.errors import JobError, ParameterError, RequestError
from featuremill.artifacts.vector_files import VectorStore
from featuremill.core import texts_plan
from featuremill.core.loading import job_from_mapping
from featuremill.core.record import RunRecord
from featuremill.jobs.cli import app
from featuremill.jobs.prepare import plan, run
from featuremill.jobs.render import plan_blocks, record_blocks, to_text
from featuremill.jobs.render_score import score_plan_blocks
from featuremill.jobs.score import plan as plan_score
from featuremill.jobs.score import run as run_score
from support.small_bert import make_model, small_model

PLACES = ["a port", "port b", None, "", "a long name of a port", "c, d."]
DISTINCT = len([p for p in PLACES if p is not None])
PARTS, ROWS = 3, 80
THREADS = {"workers": 2}


def write_rows(folder: Path, texts: list[Any]) -> Path:
    """Files of rows whose texts repeat."""
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    rows = PARTS * ROWS
    table = pa.table({"id": np.arange(rows), "place": [texts[i % len(texts)] for i in range(rows)]})
    for i in range(PARTS):
        pq.write_table(table.slice(i * ROWS, ROWS), source / f"{i}.parquet")
    return source


def job(folder: Path, texts: list[Any] = PLACES, *, model: str | None = None, config: Mapping[str, Any] | None = None,
        artifact: Mapping[str, Any] | None = None, **changes: Any) -> Any:  # fmt: skip
    embed = {"columns": ["place"], "model": model or small_model(), "max_tokens": 20} | dict(config or {})
    content = {
        "kind": "prepare", "name": "places",
        "source": {"parquet": {"path": str(write_rows(folder, texts)), "fragment_rows": ROWS}},
        "transforms": [{"type": "EmbedText", "config": embed}],
        "artifact": {"root": str(folder / "artifacts"), "alias": "prod", **(artifact or {})},
        "dataset": {"path": str(folder / "datasets")}, "runner": THREADS,
    }  # fmt: skip
    return job_from_mapping(content | changes)


def counts(record: RunRecord) -> tuple[int, int, int, int]:
    found = record.embeddings
    return found["looked_up"], found["found"], found["computed"], found["kept"]


def shards(record: RunRecord) -> dict[str, str]:
    """The digests of the files of a dataset, by name."""
    manifest = json.loads((Path(record.dataset or "") / "manifest.json").read_text())
    return {f["path"]: f["sha256"] for f in manifest["files"]}


def cache_files(folder: Path) -> list[Path]:
    return sorted((folder / "artifacts" / "_embeddings").rglob("*.arrow"))


@pytest.mark.parametrize("runner", [THREADS, {"mode": "in_memory"}])
def test_the_second_job_computes_new_texts_only(tmp_path: Path, runner: dict[str, Any]) -> None:
    first = run(job(tmp_path, runner=runner))
    assert counts(first) == (DISTINCT, 0, DISTINCT, DISTINCT)
    again = run(job(tmp_path, runner=runner))
    assert counts(again) == (DISTINCT, DISTINCT, 0, 0)
    assert shards(again) == shards(first) and again.artifact["version"] == first.artifact["version"]
    assert len(cache_files(tmp_path)) == 1
    more = run(job(tmp_path, [*PLACES, "port z", "port y"], runner=runner))
    assert counts(more) == (DISTINCT + 2, DISTINCT, 2, 2)
    without = run(job(tmp_path, [*PLACES, "port z", "port y"], runner=runner, artifact={"embedding_cache": False}))
    assert without.embeddings["cache"] is None and without.embeddings["found"] == 0
    assert shards(more) == shards(without) and more.artifact["version"] == without.artifact["version"]
    assert len(cache_files(tmp_path)) == 2
    assert "7 texts looked up, 5 found in the cache, 2 computed" in to_text(record_blocks(more))
    assert not any(b"port" in file.read_bytes() for file in cache_files(tmp_path))


def test_the_planner_chooses_by_how_often_texts_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either way, and with a cache or without, the dataset and the artifact have the same bytes."""
    off = {"embedding_cache": False}
    made = job(tmp_path, artifact=off)
    (told,) = plan(made).to_json()["embeddings"]
    assert told["when"] == "counted" and "bytes a row, as stored" in told["why"]
    assert "when they are counted" in to_text(plan_blocks(plan(made), "places.yaml"))
    repeats = run(made)
    (column,) = repeats.embeddings["columns"]
    assert (column["when"], column["texts"], column["distinct"]) == ("first", PARTS * ROWS * 5 // 6, DISTINCT)
    assert repeats.embeddings["computed"] == DISTINCT
    monkeypatch.setattr(texts_plan, "REPEATS", 10**6)
    comes = run(job(tmp_path, artifact=off))
    (column,) = comes.embeddings["columns"]
    assert column["when"] == "as they come" and comes.embeddings["computed"] >= DISTINCT
    assert shards(comes) == shards(repeats) and comes.artifact["version"] == repeats.artifact["version"]
    monkeypatch.undo()
    distinct = run(job(tmp_path, [f"port {i}" for i in range(PARTS * ROWS)], artifact=off))
    assert distinct.embeddings["columns"][0]["when"] == "as they come"
    (told,) = plan(job(tmp_path)).to_json()["embeddings"]
    assert told["when"] == "first"
    (told,) = plan(job(tmp_path, runner={"mode": "in_memory"})).to_json()["embeddings"]
    assert told["when"] == "as they come" and "one worker" in told["why"]


def test_a_column_that_another_transform_makes_is_embedded_as_it_comes_and_kept(tmp_path: Path) -> None:
    embed = {"model": small_model(), "max_tokens": 20}
    steps = [
        {"type": "EmbedText", "config": {"columns": ["place"], "output": "vector", **embed}},
        {"type": "Impute", "config": {"columns": ["place"], "strategy": "constant", "fill_value": "nowhere"}},
        {"type": "EmbedText", "config": {"columns": ["place"], **embed}},
        {"type": "ScaleToZScore", "config": {"columns": ["vector"], "elementwise": True, "output": "scaled"}},
    ]  # fmt: skip
    record = run(job(tmp_path, transforms=steps))
    assert [c["when"] for c in record.embeddings["columns"]] == ["first", "as they come"]
    assert record.embeddings["kept"] == DISTINCT + 1
    again = run(job(tmp_path, transforms=steps))
    assert (again.embeddings["computed"], again.embeddings["kept"]) == (0, 0) and shards(again) == shards(record)


def test_what_changes_a_vector_has_a_space_of_its_own(tmp_path: Path) -> None:
    other = str(make_model(tmp_path / "other", seed=8))
    for config in ({}, {"truncate_dim": 8}, {"normalize": False}, {"dtype": "float16"}, {"max_tokens": 6}):
        assert run(job(tmp_path, config=config)).embeddings["found"] == 0
    assert run(job(tmp_path, model=other)).embeddings["found"] == 0
    spaces = VectorStore(str(tmp_path / "artifacts" / "_embeddings")).spaces
    assert len(spaces) == 6
    about = json.loads((tmp_path / "artifacts" / "_embeddings" / spaces[0] / "about.json").read_text())
    assert about["backend"] == "cpu" and about["packages"]["onnxruntime"] and about["processor"]
    # The name of the column, and how often the texts are copied, change nothing.
    assert run(job(tmp_path, config={"output": "v", "name": "n", "carry": False})).embeddings["found"] == DISTINCT


@pytest.mark.parametrize("damage", ["bytes", "cut", "foreign", "no arrow"])
def test_a_file_that_is_damaged_or_foreign_is_told_and_not_used(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    from featuremill.artifacts.manifest import digest

    first = run(job(tmp_path))
    (file,) = cache_files(tmp_path)
    data = file.read_bytes()
    if damage == "bytes":
        file.write_bytes(data[:-200] + bytes([data[-200] ^ 1]) + data[-199:])
    elif damage == "cut":
        file.write_bytes(data[:-100])
    else:
        strange = b"no vectors" if damage == "no arrow" else data.replace(file.parent.name.encode(), b"f" * 33)
        file.unlink()
        file = file.parent / f"{digest(strange)}.arrow"
        file.write_bytes(strange)
    with caplog.at_level(logging.WARNING):
        again = run(job(tmp_path))
    assert counts(again)[1:3] == (0, DISTINCT) and shards(again) == shards(first)
    assert "It is not used, its texts are computed again. Remove it." in caplog.text and file.name in caplog.text
    assert run(job(tmp_path)).embeddings["found"] == DISTINCT


def test_two_jobs_at_once(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, dataset={"path": str(tmp_path / f"datasets-{i}")}, artifact={"alias": None}) for i in range(2)
    ]
    records: list[RunRecord] = []
    threads = [threading.Thread(target=lambda made=made: records.append(run(made))) for made in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records) == 2 and shards(records[0]) == shards(records[1])
    store = VectorStore(str(tmp_path / "artifacts" / "_embeddings"))
    (space,) = store.spaces
    known = np.concatenate([file.digests for _, file in store.readable(space)])
    assert len(np.unique(known)) == DISTINCT


def test_a_job_that_fails_or_is_killed_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featuremill.jobs import prepare

    bad = write_rows(tmp_path / "bad", ["port", b"\xff\xfe"])
    for file in bad.iterdir():
        table = pq.read_table(file)
        pq.write_table(table.set_column(1, "place", table["place"].cast(pa.binary())), file)
    with pytest.raises(JobError, match="max_bad_rows"):
        run(job(tmp_path, source={"parquet": {"path": str(bad)}}))
    assert not cache_files(tmp_path)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare._Prepared, "_publish_artifact", killed)
    with pytest.raises(KeyboardInterrupt):
        run(job(tmp_path))
    assert not (tmp_path / "artifacts" / "_embeddings").exists()


def test_rows_that_have_no_vector_are_set_aside_though_texts_come_first(tmp_path: Path) -> None:
    bad = write_rows(tmp_path / "bad", ["port", "a port"])
    for file in bad.iterdir():
        texts = pq.read_table(file)["place"].cast(pa.binary()).to_pylist()
        pq.write_table(pa.table({"id": range(ROWS), "place": [b"\xff", *texts[1:]]}), file)
    record = run(job(tmp_path, source={"parquet": {"path": str(bad)}}, max_bad_rows=PARTS))
    assert record.rows is not None and record.rows.aside == PARTS
    assert record.embeddings["columns"][0]["distinct"] == 3 and record.embeddings["kept"] == 2


def test_the_cache_may_be_elsewhere_and_a_failure_to_write_it_is_a_warning(tmp_path: Path) -> None:
    elsewhere = tmp_path / "vectors"
    assert run(job(tmp_path, artifact={"embedding_cache": str(elsewhere)})).embeddings["cache"] == str(elsewhere)
    assert VectorStore(str(elsewhere)).spaces and not cache_files(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    record = run(job(tmp_path, artifact={"embedding_cache": str(blocked / "vectors")}))
    assert record.status == "done" and "were not kept for later jobs" in record.warnings[-1]
    with pytest.raises(RequestError, match="embedding_cache"):
        job(tmp_path, artifact={"embedding_cache": 3})


def echo_model(path: Path, size: int) -> Path:
    """A model that gives back what it is given."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, size]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "echo", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def score_job(folder: Path, source: Mapping[str, Any], **changes: Any) -> Any:
    return job_from_mapping({
        "kind": "score", "name": "echo", "source": source, "artifact": str(folder / "artifacts" / "places@prod"),
        "model": {
            "path": str(echo_model(folder / "echo.onnx", 24)), "inputs": {"x": ["place"]},
            "outputs": {"v": {"output": "y", "type": "list<float>"}},
        },
        "output": {"path": str(folder / "scores"), "keys": ["id"]}, "runner": THREADS, **changes,
    })  # fmt: skip


def test_batch_streaming_and_serving_give_the_same_vectors(tmp_path: Path) -> None:
    """Prepared, scored, scored as files arrive, and served one by one, with a cache and without: the same bits."""
    prepared = run(job(tmp_path))
    source = str(tmp_path / "source")
    rows = {"path": source, "where": "place is not null"}
    scored = [
        run_score(score_job(tmp_path, {"parquet": rows | {"fragment_rows": ROWS}}, embedding_cache=cache))
        for cache in (True, False)
    ]
    arriving = {"watch": rows | {"every": "100ms", "settle": "100ms", "idle": "500ms"}}
    streamed = run_score(score_job(tmp_path, arriving, runner={}))
    assert [r.embeddings["found"] for r in scored] == [DISTINCT, 0] and not streamed.embeddings
    assert [r.embeddings["computed"] for r in scored] == [0, DISTINCT]

    def vectors(record: RunRecord, part: str, column: str) -> dict[int, list[float]]:
        table = ds.dataset(str(Path(record.dataset or "") / part), format="parquet").to_table(columns=["id", column])
        return {i: v for i, v in zip(*table.to_pydict().values(), strict=True) if v is not None}

    batch = vectors(prepared, "all", "place")
    assert len(batch) == PARTS * ROWS * 5 // 6
    artifact = load(tmp_path / "artifacts" / "places@prod")
    for record in (*scored, streamed):
        assert vectors(record, "predictions", "v") == batch
    for i in range(len(PLACES)):
        served = artifact.transform_row({"id": i, "place": PLACES[i]})["place"]
        assert served == batch.get(i)


def test_a_score_job_adds_to_the_cache_and_says_so(tmp_path: Path) -> None:
    run(job(tmp_path))
    write_rows(tmp_path, ["port new", "a port"])
    made = score_job(tmp_path, {"parquet": {"path": str(tmp_path / "source"), "fragment_rows": ROWS}})
    assert plan_score(made).to_json()["embeddings"][0]["when"] == "first"
    assert "Texts to vectors" in to_text(score_plan_blocks(plan_score(made), "echo.yaml"))
    assert counts(run_score(made)) == (2, 1, 1, 1)
    # An artifact that lies alone has no place beside it.
    folder = load(made.artifact).location
    alone = made.model_copy(update={"artifact": folder})
    assert run_score(alone).embeddings["cache"] is None


def test_artifacts_know_the_folder(tmp_path: Path) -> None:
    run(job(tmp_path))
    root = tmp_path / "artifacts"
    assert [a.name for a in list_artifacts(root)] == ["places"]
    with pytest.raises(ParameterError, match="is taken by the vectors of embeddings"):
        load(root / "_embeddings@prod")

    def gc(*words: str) -> dict[str, Any]:
        found = CliRunner().invoke(app, ["artifacts", "gc", str(root), "--json", *words])
        assert found.exit_code == 0, found.output
        return dict(json.loads(found.stdout))

    assert set(gc("--yes")) == {"places"} and len(cache_files(tmp_path)) == 1
    assert len(gc("--embeddings", "0")["_embeddings"]["removed"]) == 2 and len(cache_files(tmp_path)) == 1
    assert not gc("--embeddings", "1", "--yes")["_embeddings"]["removed"] and len(cache_files(tmp_path)) == 1
    assert len(gc("--embeddings", "0", "--yes")["_embeddings"]["removed"]) == 2 and not cache_files(tmp_path)
    with pytest.raises(ParameterError, match="must not be negative"):
        collect_vectors(root, older_than=timedelta(days=-1))
    assert run(job(tmp_path)).embeddings["computed"] == DISTINCT

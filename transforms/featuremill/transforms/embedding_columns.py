"""Numbers embedded: one vector for the columns of a row, from an encoder that was trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from featuremill.transforms.arrays import is_list, is_numeric, to_float64, value_type
from featuremill.transforms.column_models import ColumnsEncoder, columns_encoder
from featuremill.transforms.contract import State
from featuremill.transforms.embedding_base import Embedding
from featuremill.transforms.embedding_models import Described
from featuremill.transforms.model_sources import MODEL, SETTINGS
from featuremill.transforms.vectors import DTYPES, finished, vector_array

__all__ = ["EmbedColumns"]


@dataclass(frozen=True)
class EmbedColumns(Embedding):
    """The vector of each row's numbers under an encoder, as one column of lists of a fixed size.

    Nothing is fitted. The columns go in side by side, in the order in which they are named; booleans are 0 and 1. A row
    with a null or a NaN in any of them has the vector null; infinities go in as they are.

    Parameters
    ----------
    columns
        Those that the model was trained on, in its order.
    output
        The name of the result; by default the columns' names joined by ``_``, and ``_embedding``.
    model
        An ONNX file, on a disk or in a bucket, with one input of shape (rows, columns). What ``torch.export.save``
        wrote becomes one with ``featuremill models convert``.
    normalize, dtype, truncate_dim, carry, digest, dimension, backend, require, engine_cache
        See :class:`~featuremill.transforms.embedding_base.Embedding`.

    Raises
    ------
    ParameterError, ParameterTypeError
        When the model is not there, is none of a matrix or of another width, or is another than `digest` says, and
        where the backend that is required cannot be had.
    ColumnTypeError
        For a column that has no numbers.

    >>> op = EmbedColumns(["distance", "air_time"], "route.onnx", digest="ab" * 32, dimension=8, output="route")
    >>> op.output_fields(pa.schema([("distance", pa.int64()), ("air_time", pa.float64())]))
    [pyarrow.Field<route: fixed_size_list<item: float>[8]>]
    >>> EmbedColumns(["distance"], "route.onnx", require="gpu")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: EmbedColumns('distance'): require got 'gpu', expected one of \
tensorrt, cuda, cpu. Did you mean 'cpu'?
    """

    kind: ClassVar[str] = "columns"
    files: ClassVar[tuple[str, ...]] = (MODEL, SETTINGS)

    def check_fits(self, found: Described) -> None:
        super().check_fits(found)
        if found.width not in (None, len(self.columns)):
            raise self.wrong("columns", list(self.columns), f"{found.width}, as many as {self.model} takes")

    @property
    def output_names(self) -> list[str]:
        if self.output is None:
            return [f"{'_'.join(self.columns)}_embedding"]
        names = [self.output] if isinstance(self.output, str) else list(self.output)
        if len(names) != 1 or "{column}" in names[0]:
            raise self.wrong("output", self.output, "one name: a row has one vector")
        return names

    def output_fields(self, schema: pa.Schema) -> list[pa.Field]:
        for column in self.columns:
            found = self.field_of(schema, column)
            type_ = value_type(found.type)
            if is_list(type_) or not (is_numeric(type_) or pt.is_null(type_)):
                raise self.wrong_column(found, "numbers or booleans. Use a vocabulary or OneHot for texts first")
        return [pa.field(self.output_names[0], self.vector_type())]

    def prepare_with(self, files: Mapping[str, Any], states: Mapping[str, State], schema: pa.Schema) -> ColumnsEncoder:
        encoder = columns_encoder(self.content(files), self.model, self.wanted)
        self.check_dimension(encoder.dimension)
        return encoder

    def apply(self, batch: pa.RecordBatch, prepared: ColumnsEncoder) -> list[pa.Array]:
        size, (dtype, leaf) = self.vector_size(), DTYPES[self.dtype]
        matrix = np.empty((batch.num_rows, len(self.columns)), np.float64)
        missing = np.zeros(batch.num_rows, bool)
        for i, name in enumerate(self.columns):
            matrix[:, i], valid = to_float64(batch.column(name))
            if valid is not None:
                missing |= ~valid
        missing |= np.isnan(matrix).any(axis=1)
        vectors = np.zeros((batch.num_rows, size), dtype)
        normal = prepared.normalize if self.normalize is None else self.normalize
        if not missing.all():
            vectors[~missing] = finished(prepared.vectors(matrix[~missing]), size, normalize=normal)
        return [vector_array(vectors, missing, leaf)]

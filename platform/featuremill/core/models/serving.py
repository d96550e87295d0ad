"""A model in a serving process: a row or a few at a time, in the kind that they come in, without Beam.

The predictions are those of a scoring job: both go through :class:`featuremill.core.models.predictor.Predictor`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from featuremill.artifacts import frames
from featuremill.artifacts.errors import MissingColumnError, ParameterError, suggest
from featuremill.core.models.contract import Model
from featuremill.core.models.inputs import default_inputs
from featuremill.core.models.leaves import TEXT, parse_dtype
from featuremill.core.models.loading import load_model
from featuremill.core.models.predictor import Predictor
from featuremill.core.models.spec import ModelSpec
from featuremill.transforms.row_values import conform

__all__ = ["ServedModel", "load_predictor"]


class ServedModel:
    """A model for rows as a program has them. Get one from :func:`load_predictor`; threads may share it."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.predict_row = predictor.predict_row
        """From one dict to one dict; as :meth:`predict`, but without asking whether it is one."""
        self._holds_columns = frames.columns_test(predictor.inputs.schema)

    @property
    def model(self) -> Model:
        """The loaded model."""
        return self.predictor.model

    def predict(self, data: Any) -> Any:
        """The predictions, in the kind that came.

        A Table, a RecordBatch, a pandas or Polars DataFrame, a dict of lists, or one dict (one row, by the quick path).
        Columns that the model does not need may be there, and are not in the result.

        Raises
        ------
        MissingColumnError
            When a column that the model needs is not there.
        BadRows
            When rows cannot be the model's input.
        """
        if isinstance(data, Mapping) and not self._holds_columns(data):
            return self.predict_row(data)
        schema = self.predictor.inputs.schema
        table, back = frames.to_table(data, schema)
        columns = []
        for field in schema:
            if field.name not in table.column_names:
                raise MissingColumnError(
                    f"There is no column {field.name!r}. {suggest(field.name, table.column_names)}", column=field.name
                )
            chunks = [conform(chunk, field) for chunk in table.column(field.name).chunks]
            columns.append(pa.chunked_array(chunks, chunks[0].type if chunks else field.type))
        return back(self.predictor.predict_table(pa.table(columns, names=schema.names)))


def load_predictor(
    model: str | os.PathLike[str] | ModelSpec, *, schema: pa.Schema | None = None, **fields: Any
) -> ServedModel:
    """A model from its file, ready for rows.

    Parameters
    ----------
    model
        Its path, or everything that a job file says of a model.
    schema
        The columns that rows have: the ``output_schema`` of the artifact before it. By default those that the model
        reads, of the type of its input (float64 where its file does not say).
    fields
        With a path, what else a job file may say: ``inputs={"x": ["a", "b"]}``, ``outputs={"late": "p"}``.

    Raises
    ------
    ModelFileError
        When the file is missing, damaged, of another framework, or not to be trusted.
    MissingColumnError, ColumnTypeError, ParameterError
        When the columns cannot be the model's inputs.

    >>> load_predictor("/nowhere/late.onnx")
    Traceback (most recent call last):
    ...
    featuremill.transforms.onnx_sessions.ModelFileError: There is no model /nowhere/late.onnx, and no folder /nowhere.
    """
    if isinstance(model, ModelSpec):
        if fields:
            raise ParameterError(
                f"fields got {sorted(fields)} beside a ModelSpec. Put them into it.", parameter="fields"
            )
        spec = model
    else:
        spec = ModelSpec.model_validate({"path": os.fspath(model), **fields})
    loaded = load_model(spec)
    return ServedModel(Predictor(spec, loaded, _schema(spec, loaded) if schema is None else schema))


def _schema(spec: ModelSpec, model: Model) -> pa.Schema:
    """The columns that the model reads, each of the type of the input it is for."""
    signature = model.signature
    dtypes = {t.name: t.dtype for t in signature.inputs}
    named = pa.schema([(n, pa.float64()) for n in [*dtypes, *signature.columns]])
    inputs = default_inputs(signature, named) if spec.inputs is None else spec.inputs
    only = next(iter(dtypes.values())) if len(dtypes) == len(inputs) == 1 else None
    columns: dict[str, pa.DataType] = {}
    for name, given in inputs.items():
        if given.pad or given.max_length or given.shape:
            raise ParameterError(
                f"Input {name!r} is made of lists, whose type is not known. Give the schema of the rows: "
                "schema=artifact.output_schema.",
                parameter="schema", input=name,
            )
        dtype = np.dtype(np.float64) if (told := given.dtype or dtypes.get(name) or only) is None else parse_dtype(told)
        type_ = pa.string() if dtype == TEXT else pa.from_numpy_dtype(dtype)
        columns.update(dict.fromkeys(given.columns, type_))
    return pa.schema(columns)

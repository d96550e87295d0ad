"""What a step made of a batch, put together from what its models made of parts of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.artifacts.errors import JobError
from featuremill.core.inference.attempts import Answer
from featuremill.core.models.contract import Arrays, Signature
from featuremill.core.models.inputs import ModelInputs
from featuremill.core.models.outputs import ModelOutputs
from featuremill.core.models.spec import ModelSpec
from featuremill.transforms.rejects import Reject

__all__ = ["VERSIONS", "Answering", "Part", "Predictions", "Scorer", "assemble", "constant", "joined", "nothing"]

Rows = npt.NDArray[np.int64]
Answering = Callable[[Arrays], tuple[Answer, str]]
"""A model: arrays to its answer, and the version that gave it."""

VERSIONS = pa.dictionary(pa.int32(), pa.string())
"""The type of the column `model_version`."""


@dataclass(frozen=True)
class Predictions:
    """The predictions for a batch."""

    columns: pa.RecordBatch
    """The prediction columns, one row for each row kept."""
    versions: pa.DictionaryArray
    """The version of the model, or models, behind each row."""
    kept: Rows | None = None
    """Positions of the rows kept, ascending; None: all."""
    rejects: tuple[Reject, ...] = ()
    """The other rows, ascending, and why."""

    @property
    def positions(self) -> Rows:
        """The positions of the rows kept, always as an array."""
        return np.arange(self.columns.num_rows) if self.kept is None else self.kept


@dataclass(frozen=True)
class Part:
    """Predictions for some rows of a batch, by one model."""

    rows: Rows | None
    """Their positions; None: all rows, in order."""
    columns: pa.RecordBatch
    version: str

    def within(self, rows: Rows | None) -> Part:
        """The same for a batch that was itself taken from a larger one, at these positions."""
        if rows is None:
            return self
        return replace(self, rows=rows if self.rows is None else rows[self.rows])


class Scorer:
    """One model and the columns of a schema: batches to parts.

    Parameters
    ----------
    spec
        Its inputs and outputs are what counts here.
    signature
        What the loaded model takes and gives.
    schema
        The columns of the batches.

    Raises
    ------
    RequestError
        When the columns do not fit the model.
    """

    def __init__(self, spec: ModelSpec, signature: Signature, schema: pa.Schema) -> None:
        self._inputs = ModelInputs(spec.inputs, signature, schema)
        self._outputs = ModelOutputs(spec.outputs, signature)

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return list(self._inputs.columns)

    @property
    def schema(self) -> pa.Schema | None:
        """The prediction columns; None as long as neither the job nor the model's file tells their types."""
        return self._outputs.schema

    def parts(self, batch: pa.RecordBatch, answer: Answering) -> tuple[list[Part], list[Reject]]:
        """The predictions, and the rows that were set aside, by the model behind `answer`."""
        if batch.num_rows == 0:
            return [], []
        built = self._inputs.build(batch)
        parts, rejects = [], list(built.rejects)
        for group in built.groups:
            rows = group.rows if built.kept is None else _at(built.kept, group.rows)
            size = batch.num_rows if rows is None else len(rows)
            if size == 0:
                continue
            found, version = answer(group.arrays)
            rejects += moved(found.rejects, rows)
            kept = size - len(found.rejects)
            if kept:
                part = Part(found.kept, self._outputs.columns(found.outputs, kept), version)
                parts.append(part.within(rows))
        return parts, rejects


def moved(rejects: Sequence[Reject], rows: Rows | None) -> list[Reject]:
    """Rejects of a batch that was taken from a larger one, at these positions."""
    return list(rejects) if rows is None else [replace(r, row=int(rows[r.row])) for r in rejects]


def assemble(parts: Sequence[Part], rejects: Sequence[Reject], rows: int) -> Predictions:
    """The predictions of a batch of so many rows, in its order; where no row is kept, without columns.

    Raises
    ------
    JobError
        When parts have different columns: models of one step must give the same. Or when a row is in none of them, nor
        rejected.
    """
    rejects = tuple(sorted(rejects, key=lambda r: r.row))
    _check_complete(parts, rejects, rows)
    if not parts:
        return nothing(rejects, rows)
    if len(parts) == 1:
        part = parts[0]
        return Predictions(part.columns, constant(part.version, part.columns.num_rows), part.rows, rejects)
    for part in parts[1:]:
        if not part.columns.schema.equals(parts[0].columns.schema):
            raise JobError(
                f"Models of one step give different columns: {_shown(parts[0])} and {_shown(part)}. Give them the same "
                "names and types with outputs."
            )
    positions = np.concatenate([part.rows for part in parts if part.rows is not None])
    order = np.argsort(positions, kind="stable")
    columns = pa.concat_batches([part.columns for part in parts]).take(pa.array(order))
    names = list(dict.fromkeys(part.version for part in parts))
    codes = np.concatenate([np.full(part.columns.num_rows, names.index(part.version), np.int32) for part in parts])
    versions = pa.DictionaryArray.from_arrays(pa.array(codes[order]), pa.array(names, pa.string()))
    return Predictions(columns, versions, None if len(order) == rows else positions[order], rejects)


def nothing(rejects: tuple[Reject, ...], rows: int) -> Predictions:
    """The predictions of a batch of so many rows, of which none is kept."""
    batch = pa.RecordBatch.from_pylist([], schema=pa.schema([]))
    return Predictions(batch, constant("", 0), np.empty(0, np.int64) if rows else None, rejects)


def constant(text: str, rows: int) -> pa.DictionaryArray:
    """A column of one version.

    >>> constant("a1", 2).to_pylist()
    ['a1', 'a1']
    """
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text], pa.string()))


def joined(first: pa.DictionaryArray, second: pa.DictionaryArray) -> pa.DictionaryArray:
    """The versions of rows that went through two steps.

    >>> joined(constant("a@1", 2), constant("b@2", 2)).to_pylist()
    ['a@1+b@2', 'a@1+b@2']
    """
    width = len(second.dictionary)
    codes = first.indices.to_numpy(zero_copy_only=False).astype(np.int64) * width + second.indices.to_numpy(
        zero_copy_only=False
    )
    pairs, which = np.unique(codes, return_inverse=True)
    one, two = first.dictionary.to_pylist(), second.dictionary.to_pylist()
    names = [f"{one[p // width]}+{two[p % width]}" for p in pairs.tolist()]
    return pa.DictionaryArray.from_arrays(pa.array(which.astype(np.int32)), pa.array(names, pa.string()))


def _check_complete(parts: Sequence[Part], rejects: Sequence[Reject], rows: int) -> None:
    done = sum(part.columns.num_rows for part in parts) + len(rejects)
    if done != rows:
        raise JobError(f"{done:,} of {rows:,} rows were predicted or rejected.", expected=rows, got=done)


def _at(kept: Rows, rows: Rows | None) -> Rows:
    return kept if rows is None else kept[rows]


def _shown(part: Part) -> str:
    return f"{part.version}: " + ", ".join(f"{f.name} {f.type}" for f in part.columns.schema)

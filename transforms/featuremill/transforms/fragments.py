"""The elements that the engine works on: things that give record batches when a worker asks for them.

A job's PCollection holds fragments, which are tiny and picklable; the rows are read inside the workers, as often as
there are scans, with the columns that a scan needs. After the transforms a job has fragments again:
:class:`TransformedFragment` is the recipe "that fragment, through that artifact", computed where it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.transforms.artifact_cache import bound_pipeline
from featuremill.transforms.rejects import Reject, apply_or_reject
from featuremill.transforms.stock_stages import ADDED, visible

__all__ = ["Fragment", "MemoryFragment", "TrainingFragment", "TransformedBatch", "TransformedFragment"]


@runtime_checkable
class Fragment(Protocol):
    """A part of a source: the unit of distribution and retry. Reading it twice gives the same batches."""

    @property
    def key(self) -> str:
        """A stable name; the names of a source's fragments sort in the order of its rows."""

    @property
    def schema(self) -> pa.Schema:
        """The schema of the rows, all columns."""

    def batches(
        self, columns: Sequence[str] | None = None, *, dictionary: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """The rows, in order. `columns` None: all; `dictionary`: text columns that are best read dictionary-encoded."""


@runtime_checkable
class TrainingFragment(Fragment, Protocol):
    """A fragment some of whose rows are kept back from the statistics."""

    def training_batches(
        self, columns: Sequence[str], dictionary: Sequence[str], scan: int
    ) -> Iterator[pa.RecordBatch]:
        """The rows that statistics may see, for the scan of that number (from 0)."""


@dataclass(frozen=True)
class MemoryFragment:
    """Rows that are already here.

    >>> batch = pa.record_batch({"x": [1, 2], "y": ["a", "b"]})
    >>> [b.to_pydict() for b in MemoryFragment(batch).batches(["x"])]
    [{'x': [1, 2]}]
    """

    batch: pa.RecordBatch
    key: str = ""
    rows: Sequence[Any] | None = None
    """The Python rows that the batch was made of, where it was."""

    @property
    def schema(self) -> pa.Schema:
        return self.batch.schema

    def batches(
        self, columns: Sequence[str] | None = None, *, dictionary: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """The one batch, with the columns asked for that it has."""
        if columns is None:
            yield self.batch
        else:
            yield self.batch.select([c for c in columns if c in self.batch.schema.names])


@dataclass(frozen=True)
class TransformedBatch:
    """What became of one batch of the source: the source's rows that went on, the result, and the rows that did not."""

    read: pa.RecordBatch
    """The batch as it was read."""
    source: pa.RecordBatch
    result: pa.RecordBatch
    rejected: pa.RecordBatch
    rejects: tuple[Reject, ...]
    """One for each row of `rejected`, in its order; their positions are those in `read`."""


@dataclass(frozen=True)
class TransformedFragment:
    """A fragment and the folder of the artifact that it is to go through; computed when it is read, on the reader."""

    fragment: Fragment
    artifact: str

    @property
    def key(self) -> str:
        return self.fragment.key

    @property
    def schema(self) -> pa.Schema:
        schema = bound_pipeline(self.artifact).output_schema
        return pa.schema([f for f in schema if not f.name.startswith(ADDED)])

    def transformed(
        self, screen: Callable[[pa.RecordBatch], Sequence[Reject]] | None = None
    ) -> Iterator[TransformedBatch]:
        """Batch by batch: source, result and the rows set aside; together they account for every row read.

        Parameters
        ----------
        screen
            Says which rows of a batch are set aside before a transform sees them.
        """
        bound = bound_pipeline(self.artifact)
        dictionary = bound.dictionary_columns
        for batch in self.fragment.batches(None, dictionary=dictionary):
            taken = [] if screen is None else list(screen(batch))
            passed, rows = _without(batch, taken)
            kept, result, found = apply_or_reject(bound.apply, passed)
            rejects = found
            if taken:
                rejects = sorted([*taken, *(replace(r, row=int(rows[r.row])) for r in found)], key=lambda r: r.row)
            rejected = batch.take(pa.array([r.row for r in rejects], pa.int64())) if rejects else batch.slice(0, 0)
            yield TransformedBatch(visible(batch), visible(kept), visible(result), visible(rejected), tuple(rejects))

    def batches(
        self, columns: Sequence[str] | None = None, *, dictionary: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """The transformed rows, without those that could not be processed."""
        for item in self.transformed():
            yield item.result if columns is None else item.result.select(list(columns))


def _without(batch: pa.RecordBatch, taken: Sequence[Reject]) -> tuple[pa.RecordBatch, npt.NDArray[np.int64]]:
    """The rows of a batch that were not taken out, and where in the batch they stand."""
    if not taken:
        return batch, np.zeros(0, np.int64)
    keep = np.ones(batch.num_rows, bool)
    keep[[r.row for r in taken]] = False
    return batch.filter(pa.array(keep)), np.flatnonzero(keep)

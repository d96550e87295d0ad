"""Fragments with columns added beside the rows of another fragment: what a step that Beam ran made of them.

The added columns come in chunks of a fixed number of the fragment's rows, in memory or in files. They are aligned by
position, since reading a fragment twice gives the same rows in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.artifacts.build import read_state
from featuremill.artifacts.errors import JobError, RequestError
from featuremill.artifacts.store import open_store
from featuremill.transforms.fragments import Fragment

__all__ = ["POSITION", "ROWS_PER_CHUNK", "Chunk", "SplitFragment", "WidenedFragment", "origin"]

ROWS_PER_CHUNK = 8192
POSITION = "position"
"""The column of a chunk that says which row of the fragment each of its rows belongs to; ascending, int64."""


class SplitFragment(Protocol):
    """A fragment that can say which of its rows statistics may see, to be asked through columns added to it."""

    @property
    def training_keys(self) -> Sequence[str]:
        """The columns that :meth:`training_mask` reads."""

    def training_mask(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_] | None:
        """For each row of a batch whether statistics may see it; None: all of them."""

    def note(self, stage: str, rows: int) -> None:
        """Tell whoever follows the job that this fragment is done with a stage."""


def origin(fragment: Any) -> Any:
    """The fragment of the source that others were made of."""
    while hasattr(fragment, "fragment"):
        fragment = fragment.fragment
    return fragment


@dataclass(frozen=True)
class Chunk:
    """The added values of up to `ROWS_PER_CHUNK` rows, the ``number``-th so many of a fragment."""

    number: int
    rows: int
    place: pa.Table | tuple[str, str]
    """The table, or the store and the path where it lies."""

    def read(self) -> pa.Table:
        """The values, and the column `POSITION`."""
        return read_state(open_store(self.place[0]), self.place[1]) if isinstance(self.place, tuple) else self.place


@dataclass(frozen=True)
class WidenedFragment:
    """A fragment and added columns; a row that the step was not given has nulls in them."""

    fragment: Fragment
    fields: tuple[pa.Field, ...]
    chunks: tuple[Chunk, ...]
    """Ascending; those without rows may be missing."""

    @property
    def key(self) -> str:
        return self.fragment.key

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([*self.fragment.schema, *self.fields])

    def batches(
        self, columns: Sequence[str] | None = None, *, dictionary: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """The rows with the added columns; of these, only the ones that `columns` names."""
        added = {f.name: f for f in self.fields}
        wanted = list(added) if columns is None else [c for c in columns if c in added]
        rest = None if columns is None else [c for c in columns if c not in added]
        # Without a column a source could not say how many rows there are.
        read = rest if rest is None or rest else [self.fragment.schema.names[0]]
        chunks = {c.number: c for c in self.chunks}
        table = lru_cache(maxsize=2)(lambda number: chunks[number].read() if number in chunks else None)
        start = 0
        for batch in self.fragment.batches(read, dictionary=[c for c in dictionary if c not in added]):
            kept = batch if rest is None else batch.select(rest)
            arrays = [_slice(added[n], table, start, batch.num_rows) for n in wanted]
            start += batch.num_rows
            whole = pa.RecordBatch.from_arrays([*kept.columns, *arrays], [*kept.schema.names, *wanted])
            yield whole if columns is None else whole.select(list(columns))
        if self.chunks and start <= self.chunks[-1].number * ROWS_PER_CHUNK:
            raise JobError(
                f"The fragment {self.key!r} gave {start:,} rows now, and more before. Has its source changed?"
            )

    def training_batches(
        self, columns: Sequence[str], dictionary: Sequence[str], scan: int
    ) -> Iterator[pa.RecordBatch]:
        """The rows that statistics may see, as the fragment of the source says; all, where it does not."""
        source = origin(self)
        if hasattr(source, "training_batches") and not hasattr(source, "training_mask"):
            raise RequestError(
                f"{type(source).__name__} keeps rows back from statistics and cannot say which (training_mask): Beam's "
                "own transforms cannot be fitted on it."
            )
        keys = list(getattr(source, "training_keys", ()))
        rows = 0
        for batch in self.batches(list(dict.fromkeys([*columns, *keys])), dictionary=dictionary):
            rows += batch.num_rows
            mask = source.training_mask(batch) if hasattr(source, "training_mask") else None
            yield (batch if mask is None else batch.filter(pa.array(mask))).select(list(columns))
        if hasattr(source, "note"):
            source.note(f"scan {scan + 1}", rows)


def _slice(field: pa.Field, table: Any, start: int, rows: int) -> pa.Array:
    """The added values of the fragment's rows from `start` on, shape (rows,); null where there is none."""
    numbers = range(start // ROWS_PER_CHUNK, (start + rows - 1) // ROWS_PER_CHUNK + 1) if rows else range(0)
    parts = [t for t in (table(n) for n in numbers) if t is not None]
    if not parts:
        return pa.nulls(rows, field.type)
    values = pa.chunked_array([c for t in parts for c in t.column(field.name).chunks], field.type).combine_chunks()
    positions = np.concatenate([t.column(POSITION).to_numpy() for t in parts])
    wanted = np.arange(start, start + rows)
    at = np.minimum(np.searchsorted(positions, wanted), len(positions) - 1)
    return values.take(pa.array(at, mask=positions[at] != wanted))

"""The fragments of a job: a part of the source, the split of its rows, and the notes on progress."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featuremill.core.fragments import Fragment as SourceFragment
from featuremill.core.progress import note
from featuremill.core.quality.screen import Screen
from featuremill.transforms.splitting import fingerprint_keys, split_of
from featuremill.transforms.vector_memory import VectorMemory

__all__ = ["JobFragment", "Split"]


@dataclass(frozen=True)
class Split:
    """Which rows go where: by the fingerprint of key columns."""

    by: tuple[str, ...]
    shares: Mapping[str, float]
    fitted: str
    """The split that statistics are computed on."""

    @property
    def names(self) -> list[str]:
        """The splits, in the order of their codes."""
        return list(self.shares)

    def codes(self, batch: pa.RecordBatch) -> npt.NDArray[np.integer]:
        """For each row of a batch of the source, the position of its split in :attr:`names`; shape (n_rows,)."""
        return split_of(fingerprint_keys([batch.column(c) for c in self.by]), dict(self.shares))


@dataclass(frozen=True)
class JobFragment:
    """A fragment of a source inside a job.

    The rows that statistics are computed on are those of the fitted split; the others are never seen by a scan, nor are
    rows that a check takes out.
    """

    source: SourceFragment
    schema: pa.Schema
    """The source's, all columns."""
    split: Split | None = None
    progress: str | None = None
    """The file that workers note their progress in, where they share a disk with the launcher."""
    screen: Screen | None = None
    """The checks that cost a row its place; statistics never see such a row."""
    memory: VectorMemory | None = None
    """Where vectors are that need not be computed."""

    @property
    def key(self) -> str:
        return self.source.key

    def batches(
        self, columns: Sequence[str] | None = None, *, dictionary: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """All rows, of every split."""
        yield from self.source.batches(columns, dictionary=dictionary)

    def training_batches(
        self, columns: Sequence[str], dictionary: Sequence[str], scan: int
    ) -> Iterator[pa.RecordBatch]:
        """The rows of the split that statistics are computed on."""
        wanted = list(columns)
        rows = 0
        for batch in self.source.batches(list(dict.fromkeys([*wanted, *self.training_keys])), dictionary=dictionary):
            rows += batch.num_rows
            mask = self.training_mask(batch)
            yield (batch if mask is None else batch.filter(pa.array(mask))).select(wanted)
        self.note(f"scan {scan + 1}", rows)

    @property
    def training_keys(self) -> list[str]:
        """The columns that :meth:`training_mask` reads."""
        keys = [*(self.split.by if self.split else ()), *(self.screen.columns if self.screen else ())]
        return list(dict.fromkeys(keys))

    def training_mask(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_] | None:
        """For each row whether statistics are computed on it; None: on all.

        They are on the rows of the split that is fitted on, without those that a check takes out.
        """
        if self.split is None and self.screen is None:
            return None
        mask = np.ones(batch.num_rows, np.bool_)
        if self.split is not None:
            mask = self.split.codes(batch) == self.split.names.index(self.split.fitted)
        if self.screen is not None:
            mask = mask & self.screen.passing(batch)
        return mask

    def note(self, stage: str, rows: int) -> None:
        """Tell the launcher that this fragment is done with a stage."""
        if self.progress is not None:
            note(self.progress, stage, self.key, rows)

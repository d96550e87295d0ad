"""What a source is made of: fragments, the unit of distribution, retry and caching.

A fragment is a description of some rows, small enough to be an element of a PCollection; the rows themselves are read
where they are worked on. Every source gives its rows as fragments, in an order that depends on the data alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import pyarrow as pa

from featuremill.artifacts.errors import JobError

__all__ = ["Fragment", "FragmentsExpired"]


class FragmentsExpired(JobError):
    """The rows are there, but can no longer be read as the fragments say; fragments made anew can be read."""


@runtime_checkable
class Fragment(Protocol):
    """Some rows of a source. Picklable, immutable, and the same however often it is read."""

    @property
    def key(self) -> str:
        """A name that is unique in the source and sorts in the source's order, such as ``"00003"``."""

    @property
    def rows(self) -> int | None:
        """How many rows :meth:`batches` gives in all; None when only reading can tell, as under a filter."""

    @property
    def bytes(self) -> int | None:
        """About how many bytes reading all columns takes from storage; None when unknown."""

    def batches(
        self, columns: Sequence[str] | None = None, *, dictionary: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """The rows, as batches of bounded size; none of them empty.

        Parameters
        ----------
        columns
            The columns to read, in the order wanted; None: all of the source's. An empty list gives batches that have
            rows and no columns.
        dictionary
            Text columns that are welcome dictionary-encoded. A hint: a column may come as ``dictionary<int32, T>`` or
            as its own type ``T``, whichever is cheaper to read. Consecutive batches with equal dictionaries share them.

        Raises
        ------
        JobError
            Naming the place, when the rows cannot be read.
        """

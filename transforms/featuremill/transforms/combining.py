"""Partials of statistics to finished states, in Beam: one mechanism for whatever is an :class:`Analyzer`.

::

    ((slot, shard), (slot, partial)) ─► merged by slot and shard ─► trimmed, joined ─► finished, a file for each slot

Partials travel as bytes and are merged wherever many have gathered; statistics of keys are cut by the keys' hashes, so
that no worker ever holds a whole one before it was cut down. A state is a file named by its slot, of the same bytes
whoever writes it: a retried bundle overwrites it with itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import apache_beam as beam
import pyarrow as pa
import pyarrow.acero  # Table.group_by would import it within the first merge

from featuremill.artifacts.build import write_state
from featuremill.artifacts.store import open_store
from featuremill.transforms.contract import Analyzer
from featuremill.transforms.memory import release_memory
from featuremill.transforms.partials import Packed, Placed, pack, unpack

__all__ = ["CombineStates", "MergePartials", "StateFile"]

_Merged = tuple[tuple[str, int], pa.Table]


@dataclass(frozen=True)
class StateFile:
    """A finished state, as it lies in the folder."""

    key: str
    path: str


class CombineStates(beam.PTransform):  # type: ignore[misc]
    """Placed partials in; a :class:`StateFile` out for each slot.

    Parameters
    ----------
    analyzers
        By slot.
    folder
        Where the states go.
    shards
        Into how many pieces the partials were cut, by :func:`~featuremill.transforms.partials.place`.
    """

    def __init__(self, analyzers: Mapping[str, Analyzer], folder: str, *, shards: int = 1) -> None:
        super().__init__()
        self.analyzers = dict(analyzers)
        self.folder = folder
        self.shards = shards

    def expand(self, placed: beam.PCollection[Placed]) -> beam.PCollection[StateFile]:
        merged = placed | "Merge" >> beam.CombinePerKey(MergePartials(self.analyzers))
        if self.shards > 1:
            merged = (
                merged
                | "Trim" >> beam.Map(_trim, self.analyzers)
                | "BySlot" >> beam.GroupByKey()
                | "Join" >> beam.Map(_join, self.analyzers)
            )
        return merged | "Finish" >> beam.Map(_finish, self.analyzers, self.folder)


class MergePartials(beam.CombineFn):  # type: ignore[misc]
    """Partials of one slot and shard, merged whenever many have gathered: memory follows the result, not the data."""

    def __init__(self, analyzers: Mapping[str, Analyzer]) -> None:
        self.analyzers = analyzers

    def setup(self) -> None:
        release_memory()

    def create_accumulator(self) -> _Merging:
        return _Merging()

    def add_input(self, merging: _Merging, value: Packed) -> _Merging:
        slot, data = value
        return self._take(merging, slot, unpack(data))

    def _take(self, merging: _Merging, slot: str, table: pa.Table) -> _Merging:
        merging.slot = slot
        merging.tables.append(table)
        gathered = sum(t.nbytes for t in merging.tables)
        if len(merging.tables) > 1 and gathered > max(self.analyzers[slot].eager_bytes, 2 * merging.merged_bytes):
            merging.tables = [self._merged(merging)]
            merging.merged_bytes = merging.tables[0].nbytes
        return merging

    def merge_accumulators(self, accumulators: Iterable[_Merging | Packed]) -> _Merging:
        merged = _Merging()
        for other in accumulators:
            if isinstance(other, tuple):
                self.add_input(merged, other)
                continue
            for table in other.tables:
                self._take(merged, other.slot, table)
        return merged

    def compact(self, merging: _Merging | Packed) -> _Merging | Packed:
        """What is sent to the worker that merges the rest."""
        if isinstance(merging, tuple) or not merging.tables:
            return merging
        return merging.slot, pack(self._merged(merging))

    def extract_output(self, merging: _Merging) -> pa.Table:
        return self._merged(merging)

    def _merged(self, merging: _Merging) -> pa.Table:
        return self.analyzers[merging.slot].merge(merging.tables)


@dataclass
class _Merging:
    slot: str = ""
    tables: list[pa.Table] = field(default_factory=list)
    merged_bytes: int = 0


def _trim(merged: _Merged, analyzers: Mapping[str, Analyzer]) -> tuple[str, tuple[int, bytes]]:
    (slot, shard), partial = merged
    return slot, (shard, pack(analyzers[slot].trim(partial)))


def _join(found: tuple[str, Iterable[tuple[int, bytes]]], analyzers: Mapping[str, Analyzer]) -> _Merged:
    """The trimmed pieces of a slot, one again."""
    slot, pieces = found
    tables = [unpack(data) for _, data in sorted(pieces, key=lambda piece: piece[0])]
    return (slot, 0), analyzers[slot].merge(tables)


def _finish(merged: _Merged, analyzers: Mapping[str, Analyzer], folder: str) -> StateFile:
    (slot, _), partial = merged
    return StateFile(slot, write_state(open_store(folder), slot, analyzers[slot].finish(partial)))

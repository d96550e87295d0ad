"""Statistics that ride on the passes of a job: what workers collect, how it is combined, and the states afterwards.

A pass sees rows at different times of their way: as they were read, as they came out of the transforms, as they were
written. Each is a *side*, with statistics of its own. Workers fold batches into collectors and give what these leave
as one more output of a step that is there anyway; the same mechanism that combines the statistics of transforms
combines these (:mod:`featuremill.transforms.combining`). Most of them are small and travel together; those of keys,
which are cut by hash, travel alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy.typing as npt
import pyarrow as pa

from featuremill.artifacts.build import read_state
from featuremill.artifacts.layout import state_path
from featuremill.artifacts.store import open_store
from featuremill.core.feature_recipe import FRAGMENT, ROW, dictionary_of
from featuremill.core.quality.statistics.collector import Collector
from featuremill.transforms.contract import Accumulator, Analyzer, State
from featuremill.transforms.partials import Placed, pack, place, unpack

__all__ = ["QUALITY", "Bundle", "Collected", "Collecting", "placed_rows"]

QUALITY = "quality"
"""The tag of placed partials among what a step gives, and the folder of the states in the staging folder."""

_MEMBERS = pa.schema([("name", pa.string()), ("table", pa.large_binary())])


def placed_rows(batch: pa.RecordBatch, fragment: str, rows: npt.NDArray[Any]) -> pa.RecordBatch:
    """A batch with the columns that say where its rows come from; `rows` are their positions in the fragment.

    >>> import numpy as np
    >>> placed_rows(pa.record_batch({"x": ["a"]}), "00007", np.array([4])).to_pylist()
    [{'x': 'a', '_fragment': '00007', '_row': 4}]
    """
    where = [dictionary_of(fragment, batch.num_rows), pa.array(rows, pa.int64())]
    return pa.RecordBatch.from_arrays([*batch.columns, *where], [*batch.schema.names, FRAGMENT, ROW])


# --- statistics that travel together --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bundle(Analyzer):
    """Several small statistics as one: a table with the columns ``name`` and ``table``, in the order of `members`.

    >>> from featuremill.transforms.moments import Moments
    >>> bundle = Bundle("raw", (("x", Moments("x")), ("y", Moments("y"))))
    >>> parts = []
    >>> for value in (1.0, 2.0):
    ...     tally = bundle.accumulator()
    ...     tally.update(bundle.array_of(pa.record_batch({"x": [value], "y": [7.0]})))
    ...     parts.append(tally.partial())
    >>> states = bundle.opened(bundle.finish(bundle.merge(parts)))
    >>> states["x"].column("mean").to_pylist(), states["y"].column("count").to_pylist()
    ([1.5], [2])
    """

    members: tuple[tuple[str, Analyzer], ...] = ()
    # There are two of these in a job, of megabytes each, and merging all at once costs a third of merging one by one.
    eager_bytes: ClassVar[int] = 64 << 20

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(c for _, member in self.members for c in member.inputs))

    def array_of(self, batch: pa.RecordBatch) -> pa.Array:
        return batch.select(list(self.inputs)).to_struct_array()

    def accumulator(self) -> Accumulator:
        return _BundleAccumulator(self)

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        opened = [self.opened(partial) for partial in partials]
        return self.closed({name: member.merge([o[name] for o in opened]) for name, member in self.members})

    def finish(self, partial: pa.Table) -> State:
        opened = self.opened(partial)
        return self.closed({name: member.finish(member.trim(opened[name])) for name, member in self.members})

    def opened(self, table: pa.Table) -> dict[str, pa.Table]:
        """The members' partials or states, by name."""
        columns = (table.column(name).to_pylist() for name in _MEMBERS.names)
        return {name: unpack(data) for name, data in zip(*columns, strict=True)}

    def states(self, state: pa.Table) -> dict[Analyzer, State]:
        """The members' states, by member."""
        opened = self.opened(state)
        return {member: opened[name] for name, member in self.members}

    def closed(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """The members' partials or states as one table."""
        names = [name for name, _ in self.members]
        return pa.table([names, [pack(tables[n], compressed=False) for n in names]], schema=_MEMBERS)


class _BundleAccumulator:
    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._collector = Collector(dict(bundle.members))

    def update(self, array: pa.Array) -> None:
        self._collector.update(pa.RecordBatch.from_struct_array(array))

    def partial(self) -> pa.Table:
        return self._bundle.closed(self._collector.partials())


# --- what a pass collects -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Collecting:
    """What a pass collects. Picklable.

    Parameters
    ----------
    statistics
        By side, then by slot. Equal ones of a side are collected once.
    shards
        Into how many pieces the statistics of keys are cut while they are combined.
    """

    statistics: Mapping[str, Mapping[str, Analyzer]]
    shards: int = 1

    @cached_property
    def travelling(self) -> dict[str, dict[str, Analyzer]]:
        """What is combined: by side, and by the names under which it travels."""
        return {side: _travelling(side, found.values()) for side, found in self.statistics.items()}

    @property
    def slots(self) -> dict[str, Analyzer]:
        """What is combined, all sides together."""
        return {name: analyzer for found in self.travelling.values() for name, analyzer in found.items()}

    def only(self, *sides: str) -> Collecting:
        """What one of several steps collects."""
        return Collecting({side: found for side, found in self.statistics.items() if side in sides}, self.shards)

    def begin(self) -> Collected:
        """Empty collectors."""
        return Collected(self)

    def states(self, folder: str) -> dict[str, dict[str, State]]:
        """The states that were combined into a folder, by side and slot; those of no rows where there were none."""
        store = open_store(folder)
        found: dict[str, dict[str, State]] = {}
        for side, statistics in self.statistics.items():
            by_analyzer: dict[Analyzer, State] = {}
            for name, analyzer in self.travelling[side].items():
                path = state_path(name)
                there = store.exists(path)
                state = read_state(store, path) if there else analyzer.finish(analyzer.accumulator().partial())
                by_analyzer.update(analyzer.states(state) if isinstance(analyzer, Bundle) else {analyzer: state})
            found[side] = {slot: by_analyzer[analyzer] for slot, analyzer in statistics.items()}
        return found


def _travelling(side: str, statistics: Iterable[Analyzer]) -> dict[str, Analyzer]:
    """Statistics of keys by themselves, all others bundled; each distinct one once."""
    distinct = list(dict.fromkeys(statistics))
    small = [a for a in distinct if type(a).split is Analyzer.split]
    alone = [a for a in distinct if type(a).split is not Analyzer.split]
    bundle = {side: Bundle(side, tuple((f"{i}", a) for i, a in enumerate(small)))} if small else {}
    return {**bundle, **{f"{side}-{i}": a for i, a in enumerate(alone)}}


class Collected:
    """The collectors of one attempt at a part of the rows."""

    def __init__(self, collecting: Collecting) -> None:
        self._collecting = collecting
        self._collectors: dict[str, Collector] = {}
        for side, found in collecting.travelling.items():
            members: dict[str, Analyzer] = {}
            for name, analyzer in found.items():
                members.update(dict(analyzer.members) if isinstance(analyzer, Bundle) else {name: analyzer})
            self._collectors[side] = Collector(members)

    def update(self, side: str, batch: pa.RecordBatch) -> None:
        """Fold in rows that say where they come from; nothing is done for a side that is not collected."""
        if side in self._collectors:
            self._collectors[side].update(batch)

    def partials(self) -> Iterator[Placed]:
        """What was folded in so far, ready to travel."""
        for side, collector in self._collectors.items():
            found = collector.partials()
            for name, analyzer in self._collecting.travelling[side].items():
                partial = analyzer.closed(found) if isinstance(analyzer, Bundle) else found[name]
                yield from place(name, analyzer, partial, self._collecting.shards)

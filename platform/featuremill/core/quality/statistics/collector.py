"""Statistics gathered together, batch by batch: what a pass over the rows does for the checks and the profile.

The statistics are analyzers (:mod:`featuremill.transforms.contract`). Equal ones, whoever asked for them, are computed
once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from featuremill.transforms.contract import Accumulator, Analyzer, State

__all__ = ["Collector", "merge_partials"]


class Collector:
    """The accumulators of some statistics, fed with the same batches.

    Parameters
    ----------
    statistics
        Analyzers, by slot. Equal ones share one accumulator, and their slots get the same partial.

    >>> from featuremill.transforms.counts import Counts
    >>> statistics = {"a": Counts("x"), "b": Counts("x")}
    >>> parts = []
    >>> for values in (["p", None], ["q", "p"]):
    ...     collector = Collector(statistics)
    ...     collector.update(pa.record_batch({"x": values}))
    ...     parts.append(collector.partials())
    >>> merge_partials(statistics, parts)["b"].to_pydict()
    {'token': ['p', 'q'], 'count': [2, 1]}
    """

    def __init__(self, statistics: Mapping[str, Analyzer]) -> None:
        self._slots = dict(statistics)
        analyzers = dict.fromkeys(self._slots.values())
        self._accumulators: dict[Analyzer, Accumulator] = {a: a.accumulator() for a in analyzers}

    def update(self, batch: pa.RecordBatch) -> None:
        """Fold in one batch, which has all columns that the statistics read (``_fragment`` and ``_row`` among them)."""
        for analyzer, accumulator in self._accumulators.items():
            accumulator.update(analyzer.array_of(batch))

    def partials(self) -> dict[str, pa.Table]:
        """What was folded in so far, by slot; each merges with the partials of the same slot."""
        found = {analyzer: accumulator.partial() for analyzer, accumulator in self._accumulators.items()}
        return {slot: found[analyzer] for slot, analyzer in self._slots.items()}


def merge_partials(statistics: Mapping[str, Analyzer], partials: Iterable[Mapping[str, pa.Table]]) -> dict[str, State]:
    """The states, by slot, from the partials of all batches; those of no batch at all where there are none."""
    parts: Sequence[Mapping[str, pa.Table]] = list(partials) or [Collector(statistics).partials()]
    merged: dict[Analyzer, State] = {}
    for slot, analyzer in statistics.items():
        if analyzer not in merged:
            whole = analyzer.merge([part[slot] for part in parts])
            merged[analyzer] = analyzer.finish(analyzer.trim(whole))
    return {slot: merged[analyzer] for slot, analyzer in statistics.items()}

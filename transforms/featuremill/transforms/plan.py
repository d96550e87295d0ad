"""Which statistics a list of transforms needs, in how many scans of the data, and what each scan must read.

Only the names of columns matter here: a plan is made before any schema is known. A transform sees the columns as the
transforms before it left them, so every column has versions, one for each transform that wrote it.

A scan collects all statistics whose inputs are known by then. A statistic of a source column is collected in the first
scan; a statistic of a column that a *fitted* transform made has to wait for the next one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from featuremill.transforms.contract import Analyzer, Transform

__all__ = ["Plan", "Scan", "Slot"]


@dataclass(frozen=True)
class Slot:
    """One statistic of one transform: what it is, and where its state belongs."""

    transform: int
    slot: str
    analyzer: Analyzer
    key: str
    """A unique, file-safe name such as ``00-ScaleToZScore-air_time``."""


@dataclass(frozen=True)
class Scan:
    """One pass over the data that collects statistics."""

    slots: tuple[Slot, ...]
    applies: tuple[int, ...]
    """The transforms to apply on the way, by position."""
    columns: tuple[str, ...]
    """The source columns to read."""
    why: str
    """One line for people."""


class Plan:
    """The scans that a list of transforms needs, before the last one that applies them all.

    Parameters
    ----------
    transforms
        In order.
    fitted
        So many of the first transforms have their states already, and need no scan.

    >>> from featuremill.transforms.scaling import ScaleTo01
    >>> from featuremill.transforms.bucketing import Bucketize
    >>> plan = Plan([ScaleTo01(["x"]), Bucketize(["x"], 4), ScaleTo01(["y"])])
    >>> [[slot.key for slot in scan.slots] for scan in plan.scans]
    [['00-ScaleTo01-x', '02-ScaleTo01-y'], ['01-Bucketize-x']]
    """

    def __init__(self, transforms: Sequence[Transform], *, fitted: int = 0) -> None:
        self.transforms = tuple(transforms)
        # For each transform, the transform that wrote each column it reads; absent: the source.
        self._writers: list[dict[str, int]] = []
        levels: list[int] = []
        by_level: dict[int, list[Slot]] = {}
        writer: dict[str, int] = {}
        for i, transform in enumerate(self.transforms):
            found = transform.analyzers() if i >= fitted else {}
            reads = {*transform.columns, *(c for a in found.values() for c in a.inputs)}
            self._writers.append({c: writer[c] for c in sorted(reads) if c in writer})
            level = max((levels[w] for w in self._writers[i].values()), default=0)
            for name, analyzer in found.items():
                at = max((levels[writer[c]] for c in analyzer.inputs if c in writer), default=0)
                key = f"{i:02d}-{type(transform).__name__}-{quote(name, safe='')}"
                by_level.setdefault(at, []).append(Slot(i, name, analyzer, key))
                level = max(level, at + 1)
            levels.append(level)
            writer.update(dict.fromkeys(transform.output_names, i))
        self.scans = tuple(self._scan(level, by_level[level]) for level in sorted(by_level))

    def _scan(self, level: int, slots: list[Slot]) -> Scan:
        applies, columns = self._reach([(s.transform, c) for s in slots for c in s.analyzer.inputs])
        labels = sorted({f"{type(self.transforms[s.transform]).__name__}({s.slot})" for s in slots})
        shown = ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "")
        after = ", ".join(sorted({f"{type(self.transforms[i]).__name__}" for i in applies}))
        why = f"statistics for {shown}" + (f", after {after}" if after else "")
        return Scan(tuple(slots), tuple(sorted(applies)), tuple(sorted(columns)), why)

    def reach(self, transform: int, columns: Iterable[str]) -> tuple[set[int], set[str]]:
        """What must be applied (by position) and read so that a transform's columns are there when its turn comes."""
        return self._reach([(transform, c) for c in columns])

    def _reach(self, wanted: Collection[tuple[int, str]]) -> tuple[set[int], set[str]]:
        """What to apply and read so that each ``(transform, column)`` is there when that transform's turn comes."""
        applies: set[int] = set()
        columns: set[str] = set()
        stack = list(wanted)
        while stack:
            i, column = stack.pop()
            writer = self._writers[i].get(column)
            if writer is None:
                columns.add(column)
            elif writer not in applies:
                applies.add(writer)
                stack.extend((writer, c) for c in self.transforms[writer].columns)
        return applies, columns

    @property
    def slots(self) -> list[Slot]:
        """All statistics, in the order of the transforms."""
        return sorted((s for scan in self.scans for s in scan.slots), key=lambda s: (s.transform, s.key))

    @property
    def input_columns(self) -> list[str]:
        """The source columns that any transform reads, sorted."""
        return self.source_columns(range(len(self.transforms)))

    def source_columns(self, chosen: Iterable[int]) -> list[str]:
        """The columns that the chosen transforms (by position) read as the source has them, sorted."""
        return sorted({c for i in chosen for c in self.transforms[i].columns if c not in self._writers[i]})

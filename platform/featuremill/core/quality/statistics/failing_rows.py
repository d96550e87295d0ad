"""How many rows fail conditions, and the first of them: the statistic under every expectation about single rows.

The conditions that are asked of the same rows of the same columns are one statistic: which rows have a value is looked
at once for all of them. Of dictionary-encoded texts a condition is asked once for each dictionary, and rows are looked
at only where some value of it fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.core.feature_recipe import FRAGMENT, ROW
from featuremill.core.quality.statistics.comparisons import plain, valid_mask
from featuremill.core.quality.statistics.conditions import Condition, ValueCondition
from featuremill.core.quality.statistics.domain import Asked, Domain
from featuremill.core.quality.statistics.samples import FirstRows, first_rows, list_of_rows, rows_of_list
from featuremill.transforms.arrays import is_text
from featuremill.transforms.contract import Analyzer, State
from featuremill.transforms.per_value import SPARSE_SHARE, same_values

__all__ = ["Check", "FailingRows", "Held", "failing_schema"]


def failing_schema(kept: pa.Schema) -> pa.Schema:
    """Of partials and states: one row per check.

    ``rows``: how many were asked, those without a value included; ``valid``: how many of them have one (of several
    columns, all); ``failing``; ``sample``: the first failing ones.
    """
    counts = [pa.field(name, pa.int64()) for name in ("rows", "valid", "failing")]
    return pa.schema([*counts, pa.field("sample", pa.list_(pa.struct(list(kept))))])


@dataclass(frozen=True)
class Check:
    """A condition, and how many of the rows that fail it are kept."""

    condition: Condition
    keep: int


class Held:
    """Where a condition holds, batch by batch; what it says of a dictionary is remembered for the next batch."""

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        self._last: tuple[pa.Array, pa.BooleanArray] | None = None

    def of(self, arrays: Sequence[pa.Array]) -> pa.BooleanArray | None:
        """Where it holds, null where it does not; None where it holds of every value."""
        array, condition = arrays[0], self._condition
        if not (isinstance(condition, ValueCondition) and pt.is_dictionary(array.type) and is_text(array.type)):
            return condition.holds(arrays)
        if len(array.dictionary) > SPARSE_SHARE * len(array):
            return condition.holds([plain(array).dictionary_encode()])
        if self._last is None or not same_values(self._last[0], array.dictionary):
            self._last = (array.dictionary, condition.of_values(plain(array.dictionary)))
        held = self._last[1]
        return None if held.true_count == len(held) else held.take(array.indices)


class _Accumulator:
    def __init__(self, analyzer: FailingRows) -> None:
        self._analyzer = analyzer
        self._held = [Held(check.condition) for check in analyzer.checks]
        self._samples = [FirstRows(check.keep, analyzer.kept) for check in analyzer.checks]
        self._failing = [0] * len(analyzer.checks)
        self._rows = self._valid = 0

    def update(self, array: pa.Array) -> None:
        columns = dict(zip(self._analyzer.inputs, array.flatten(), strict=True))
        domain = self._analyzer.domain
        within = domain.mask(columns)
        arrays = [columns[c] for c in domain.columns]
        valid = valid_mask(arrays[0]) if len(arrays) == 1 else None
        rows = len(array)
        self._rows += rows if within is None else within.true_count
        masks = [m for m in (valid, within) if m is not None]
        self._valid += reduce(pc.and_, masks).true_count if masks else rows
        for i, check in enumerate(self._analyzer.checks):
            held = self._held[i].of(arrays) if check.condition.drops_missing else None
            asked = Asked(check.condition, rows, held, valid, within)
            failing = asked.failing()
            if failing:
                self._failing[i] += failing
                self._samples[i].add(columns, asked.mask)

    def partial(self) -> pa.Table:
        return _table(
            self._rows, self._valid, self._failing, [s.table() for s in self._samples], self._analyzer.kept
        )


def _table(rows: int, valid: int, failing: Sequence[int], samples: Sequence[pa.Table], kept: pa.Schema) -> pa.Table:
    counts = [[rows] * len(failing), [valid] * len(failing), list(failing)]
    arrays = [*(pa.array(c, pa.int64()) for c in counts), list_of_rows(samples, kept)]
    return pa.Table.from_arrays(arrays, schema=failing_schema(kept))


@dataclass(frozen=True)
class FailingRows(Analyzer):
    """Which rows fail conditions over the same columns: how many, and the first of them.

    Parameters
    ----------
    column
        The first column of the domain.
    domain
        The columns, and of which rows the conditions are asked.
    checks
        The conditions.
    kept
        The schema of the samples: the place of a row, then the columns that are kept of it.
    """

    domain: Domain
    checks: tuple[Check, ...]
    kept: pa.Schema

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.domain.inputs, *self.kept.names, FRAGMENT, ROW]))

    def array_of(self, batch: pa.RecordBatch) -> pa.Array:
        return batch.select(list(self.inputs)).to_struct_array()

    def accumulator(self) -> _Accumulator:
        return _Accumulator(self)

    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        rows, valid = (sum(p.column(name)[0].as_py() for p in partials) for name in ("rows", "valid"))
        failing, samples = [], []
        for i, check in enumerate(self.checks):
            failing.append(sum(p.column("failing")[i].as_py() for p in partials))
            parts = [rows_of_list(p.column("sample"), i, self.kept) for p in partials]
            samples.append(first_rows(pa.concat_tables(parts), check.keep))
        return _table(rows, valid, failing, samples, self.kept)

    def finish(self, partial: pa.Table) -> State:
        return partial.combine_chunks()

"""Of which rows a check of rows is asked: a row condition, and what becomes of rows with missing values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from featuremill.core.quality.statistics.comparisons import valid_mask
from featuremill.core.quality.statistics.conditions import Condition
from featuremill.core.quality.statistics.row_conditions import RowCondition

__all__ = ["Asked", "Domain"]


@dataclass(frozen=True)
class Domain:
    """The rows that a check is asked of.

    Parameters
    ----------
    columns
        The columns whose values are checked.
    ignore
        Rows that are left out: "never" none, "any" those with a missing value, "all" those without a value. Of a
        single column rows are not left out here: a condition says itself whether it drops missing values.
    where
        The row condition, or None.
    pair
        Whether the columns are a pair, whose values are shown as one.
    """

    columns: tuple[str, ...]
    ignore: str = "never"
    where: RowCondition | None = None
    pair: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        return tuple(dict.fromkeys([*self.columns, *(self.where.columns if self.where else ())]))

    def mask(self, columns: Mapping[str, pa.Array]) -> pa.BooleanArray | None:
        """Which rows are in it, shape (n_rows,) without nulls; None for all."""
        masks = [] if self.where is None else [self.where.mask(columns)]
        if self.ignore != "never":
            valid = [valid_mask(columns[c]) for c in self.columns]
            present = [v for v in valid if v is not None]
            if self.ignore == "any" and present:
                masks.append(reduce(pc.and_, present))
            elif self.ignore == "all" and present and len(present) == len(valid):
                masks.append(reduce(pc.or_, present))
        return reduce(pc.and_, masks) if masks else None


@dataclass(frozen=True)
class Asked:
    """What a condition was asked of in one batch, and where it holds.

    Parameters
    ----------
    condition
        The condition.
    rows
        How many rows the batch has.
    held
        Where the condition holds, null counting as not; None where it holds of every value.
    valid
        Of a single column, which rows have a value; None: all, or several columns.
    within
        Which rows are asked; None: all.
    """

    condition: Condition
    rows: int
    held: pa.BooleanArray | None
    valid: pa.BooleanArray | None
    within: pa.BooleanArray | None

    @property
    def of(self) -> pa.BooleanArray | None:
        """Which rows have to hold; None: all."""
        if not self.condition.drops_missing or self.valid is None:
            return self.within
        return _both(self.valid, self.within)

    @property
    def holding(self) -> pa.BooleanArray | None:
        """Where it holds; None: everywhere."""
        return self.held if self.condition.drops_missing else self.valid

    def failing(self) -> int:
        """How many rows fail."""
        holding, asked = self.holding, self.of
        if holding is None:
            return 0
        if asked is None:
            return self.rows - int(holding.true_count)
        return int(asked.true_count - pc.and_(holding, asked).true_count)

    def mask(self) -> pa.BooleanArray:
        """Which rows fail, shape (n_rows,) without nulls."""
        if self.holding is None:
            return pa.nulls(self.rows, pa.bool_()).fill_null(False)
        return _both(pc.invert(pc.fill_null(self.holding, False)), self.of)


def _both(one: pa.BooleanArray, other: pa.BooleanArray | None) -> pa.BooleanArray:
    return one if other is None else pc.and_(one, other)

"""Transforms that make several columns from each of theirs, named with a prefix and fixed suffixes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from featuremill.transforms.contract import Analyzer, State, Transform

__all__ = ["PrefixedTransform"]


@dataclass(frozen=True)
class PrefixedTransform(Transform):
    """A transform that treats each of its columns alone and makes ``<prefix>_<suffix>`` for each of :attr:`suffixes`.

    The prefix is the column's name, or what `output` gives for it: one prefix for one column, a sequence with one per
    column, or a pattern such as ``"{column}_at"``. The input columns stay.
    """

    @property
    def prefixes(self) -> list[str]:
        """What the names of each column's outputs begin with, shape (n_columns,)."""
        if self.output is None:
            return list(self.columns)
        if isinstance(self.output, str):
            if "{column}" not in self.output and len(self.columns) > 1:
                raise self.wrong(
                    "output", self.output,
                    f"a list of {len(self.columns)} prefixes, or a pattern such as '{{column}}_new'",
                )
            return [self.output.replace("{column}", c) for c in self.columns]
        if len(self.output) != len(self.columns):
            raise self.wrong("output", list(self.output), f"{len(self.columns)} prefixes, one for each column")
        return list(self.output)

    @property
    def output_names(self) -> list[str]:
        return [f"{prefix}_{suffix}" for prefix in self.prefixes for suffix in self.suffixes]

    def output_fields(self, schema: pa.Schema) -> list[pa.Field]:
        types = [t for c in self.columns for t in self.output_types(self.field_of(schema, c))]
        return [pa.field(name, type_) for name, type_ in zip(self.output_names, types, strict=True)]

    def analyzers(self) -> dict[str, Analyzer]:
        found = {c: self.analyzer(c) for c in self.columns}
        return {c: a for c, a in found.items() if a is not None}

    def prepare(self, states: Mapping[str, State], schema: pa.Schema) -> Any:
        return [self.prepare_column(states.get(c), self.field_of(schema, c)) for c in self.columns]

    def apply(self, batch: pa.RecordBatch, prepared: Any) -> list[pa.Array]:
        return [a for c, p in zip(self.columns, prepared, strict=True) for a in self.apply_column(batch.column(c), p)]

    def row_step(self, prepared: Any, schema: pa.Schema) -> Callable[[dict[str, Any]], None] | None:
        steps = []
        width = len(self.suffixes)
        for i, (column, p) in enumerate(zip(self.columns, prepared, strict=True)):
            function = self.row_function(p, self.field_of(schema, column))
            if function is None:
                return None
            steps.append((column, self.output_names[i * width : (i + 1) * width], function))

        def step(row: dict[str, Any]) -> None:
            for column, names, function in steps:
                row.update(zip(names, function(row[column]), strict=True))

        return step

    @property
    @abstractmethod
    def suffixes(self) -> list[str]:
        """The suffixes of the outputs of each column, in the order of :meth:`apply_column`; never empty."""

    @abstractmethod
    def output_types(self, column: pa.Field) -> list[pa.DataType]:
        """The types that come out for a column, one per suffix, or :meth:`wrong_column` raised."""

    def analyzer(self, column: str) -> Analyzer | None:
        """The statistic needed for a column, or None."""
        return None

    def prepare_column(self, state: State | None, column: pa.Field) -> Any:
        """What :meth:`apply_column` works with; built once per process."""
        return state

    @abstractmethod
    def apply_column(self, array: pa.Array, prepared: Any) -> list[pa.Array]:
        """The outputs for one column of a batch, one per suffix, shape (n_rows,) each, of the declared types."""

    def row_function(self, prepared: Any, column: pa.Field) -> Callable[[Any], list[Any]] | None:
        """A function from one Python value (or None) to one per suffix, equal to :meth:`apply_column`."""
        return None

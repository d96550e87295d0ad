"""What a transform and an analyzer are.

A :class:`Transform` is configuration: which columns, which parameters. It says which statistics it needs
(:meth:`Transform.analyzers`), what comes out for a given schema (:meth:`Transform.output_fields`), and computes it, a
batch at a time (:meth:`Transform.apply`). It holds no data and never changes.

An :class:`Analyzer` is a statistic over all rows. Workers fold batches into :class:`Accumulator` objects; what an
accumulator leaves is a *partial*, an Arrow table that merges with others in any order and any grouping; the last merge
is finished into a *state*, an Arrow table too, **of the same bytes whatever the order and grouping were**. So the
result depends on the rows and not on how they were cut, and a partial can be stored and reused.

Neither Beam, TensorFlow nor torch is imported here, nor in any family of transforms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol, TypeAlias

import pyarrow as pa

from featuremill.artifacts.errors import (
    ColumnTypeError,
    MissingColumnError,
    ParameterError,
    ParameterTypeError,
    suggest,
)

__all__ = ["Accumulator", "Analyzer", "ColumnTransform", "RowFunction", "State", "Transform"]

State: TypeAlias = pa.Table
"""What an analyzer leaves behind: plain data. Single numbers are the columns of a table of one row."""

RowFunction = Callable[[Any], Any]
"""The serving path of a column transform: one Python value (or None) in, one Python value (or None) out."""


class Accumulator(Protocol):
    """The mutable side of an analyzer inside one worker."""

    def update(self, array: pa.Array) -> None:
        """Fold in one batch of the analyzer's column, shape (n_rows,)."""

    def partial(self) -> pa.Table:
        """What was folded in so far, as a mergeable table."""


@dataclass(frozen=True)
class Analyzer(ABC):
    """A mergeable statistic over one column. Subclasses are frozen dataclasses: equal ones share one pass."""

    column: str
    eager_bytes: ClassVar[int] = 4 << 20
    """Partials that have gathered are merged when they are larger than that together, and twice what was merged."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that :meth:`array_of` reads."""
        return (self.column,)

    def array_of(self, batch: pa.RecordBatch) -> pa.Array:
        """What the accumulator is fed with, from a batch that has the columns :attr:`inputs`."""
        return batch.column(self.column)

    @abstractmethod
    def accumulator(self) -> Accumulator:
        """A fresh, empty accumulator."""

    @abstractmethod
    def merge(self, partials: Sequence[pa.Table]) -> pa.Table:
        """Partials of any batches, merged; associative and commutative but for the order of rows. At least one."""

    @abstractmethod
    def finish(self, partial: pa.Table) -> State:
        """The state from the merged partial of all rows; its bytes depend on the rows alone."""

    def split(self, partial: pa.Table, shards: int) -> list[pa.Table]:
        """The partial cut by key into at most `shards` pieces that merge apart from one another; by default, one piece.

        Piece ``i`` of one partial only ever merges with piece ``i`` of another.
        """
        return [partial]

    def trim(self, partial: pa.Table) -> pa.Table:
        """A fully merged piece without what can no longer reach the state; by default, unchanged."""
        return partial


@dataclass(frozen=True)
class Transform(ABC):
    """One operation over columns.

    Parameters
    ----------
    columns
        The columns that the transform reads, each on its own unless the class says otherwise.
    output
        Where the result goes. Without it the result replaces its column. One name for one column; a sequence with one
        name per column; or a pattern such as ``"{column}_scaled"``.
    name
        A label for people; it changes no result.
    """

    columns: Sequence[str]
    beam_only: ClassVar[bool] = False
    """Whether nothing but Beam's MLTransform can apply it."""

    output: str | Sequence[str] | None = field(default=None, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.columns, str):
            raise ParameterTypeError(
                f"{type(self).__name__}: columns must be a list of names, got the string {self.columns!r}. "
                f"Write columns=[{self.columns!r}].",
                parameter="columns",
            )
        if not isinstance(self.columns, Sequence) or not all(isinstance(c, str) for c in self.columns):
            raise ParameterTypeError(
                f"{type(self).__name__}: columns must be a list of names, got {self.columns!r}.", parameter="columns"
            )
        object.__setattr__(self, "columns", tuple(self.columns))
        if not self.columns:
            raise self.wrong("columns", [], "at least one column")
        repeated = sorted({c for c in self.columns if list(self.columns).count(c) > 1})
        if repeated:
            raise self.wrong("columns", list(self.columns), f"each column once; remove the repeated {repeated[0]!r}")
        if self.output is not None and not isinstance(self.output, str):
            if not isinstance(self.output, Sequence) or not all(isinstance(o, str) for o in self.output):
                raise ParameterTypeError(
                    f"{type(self).__name__}: output must be a name or a list of names, got {self.output!r}.",
                    parameter="output",
                )
            object.__setattr__(self, "output", tuple(self.output))
        self.check()
        names = self.output_names
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise self.wrong("output", self.output, f"a different name for each output; {twice[0]!r} comes twice")

    def check(self) -> None:  # noqa: B027  # most transforms have nothing to refuse
        """Refuse parameters that cannot work, with :meth:`wrong`. Called once, when the transform is built."""

    def wrong(
        self, parameter: str, got: Any, expected: str, *, wrong_type: bool = False
    ) -> ParameterError | ParameterTypeError:
        """The error for a bad parameter, to be raised by the caller: names the transform, the value and what to do."""
        kind = ParameterTypeError if wrong_type else ParameterError
        place = f"{self.type_name}({', '.join(repr(c) for c in self.columns)})"
        return kind(
            f"{place}: {parameter} got {got!r}, expected {expected}.",
            transform=self.type_name,
            columns=list(self.columns),
            parameter=parameter,
            value=got,
        )

    def wrong_column(self, column: pa.Field, expected: str) -> ColumnTypeError:
        """The error for a column type that the transform cannot take, to be raised by the caller."""
        return ColumnTypeError(
            f"{self.type_name}({column.name!r}): the column is {column.type}, expected {expected}.",
            transform=self.type_name,
            column=column.name,
            type=str(column.type),
        )

    # --- what the planner asks -------------------------------------------------------------------------------------

    @property
    def type_name(self) -> str:
        """The name of the transform's type in job files and artifacts."""
        return type(self).__name__

    @property
    @abstractmethod
    def output_names(self) -> list[str]:
        """The names of the columns that :meth:`apply` returns, in its order; known without a schema."""

    @abstractmethod
    def output_fields(self, schema: pa.Schema) -> list[pa.Field]:
        """The fields that :meth:`apply` returns for batches of `schema`, in the order of :attr:`output_names`.

        Raises
        ------
        MissingColumnError, ColumnTypeError
            When the schema lacks a column or has one of a type that the transform cannot take.
        """

    def analyzers(self) -> dict[str, Analyzer]:
        """The statistics that :meth:`prepare` needs, by slot (for most transforms, the column). Empty: stateless."""
        return {}

    def prepare(self, states: Mapping[str, State], schema: pa.Schema) -> Any:
        """What :meth:`apply` works with, built once per process from the states, by slot. `schema` is the input's."""
        return None

    # --- files of its own ------------------------------------------------------------------------------------------

    def pinned(self) -> Transform:
        """The transform with every file that it works with told by its digest; by default itself, which needs none.

        Workers and artifacts get this one, so that none of them takes another file of the same name.
        """
        return self

    @property
    def file_paths(self) -> tuple[str, ...]:
        """The files that a pinned transform brings into its artifact, by their paths there."""
        return ()

    def file_contents(self) -> dict[str, bytes]:
        """Their content, by path."""
        return {}

    def prepare_with(self, files: Mapping[str, Any], states: Mapping[str, State], schema: pa.Schema) -> Any:
        """:meth:`prepare` for a transform that works with files; `files` has those of its artifact, by path."""
        return self.prepare(states, schema)

    # --- the work --------------------------------------------------------------------------------------------------

    @abstractmethod
    def apply(self, batch: pa.RecordBatch, prepared: Any) -> list[pa.Array]:
        """The output arrays for one batch, shape (n_rows,) each, of the declared types. Inputs are never changed.

        Raises
        ------
        BadRows
            Naming the rows of this batch that cannot be processed. The engine sets them aside and calls again.
        """

    def warnings(self, states: Mapping[str, State]) -> list[str]:
        """What a person should know of the fitted states (by slot), one sentence each; a constant column, say."""
        return []

    def row_step(self, prepared: Any, schema: pa.Schema) -> Callable[[dict[str, Any]], None] | None:
        """For single rows: a function that puts the outputs into a row of Python values, equal to :meth:`apply`.

        None: there is no quick way, and the caller takes a batch of one row.
        """
        return None

    # --- serialisation ---------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """The parameters that differ from their defaults, JSON-ready; `type(self)(**config)` gives it back."""
        result = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "columns" or value != f.default:
                result[f.name] = list(value) if isinstance(value, tuple) else value
        return result

    def field_of(self, schema: pa.Schema, column: str) -> pa.Field:
        """The field of one input column.

        Raises
        ------
        MissingColumnError
            Naming the columns that look alike.
        """
        index = schema.get_field_index(column)
        if index < 0:
            raise MissingColumnError(
                f"{self.type_name}({column!r}): there is no such column. {suggest(column, schema.names)}",
                transform=self.type_name,
                column=column,
            )
        return schema.field(index)


@dataclass(frozen=True)
class ColumnTransform(Transform):
    """A transform that treats each of its columns alone and makes one column from each.

    A subclass gives :meth:`output_type` and :meth:`apply_column`, and, where it needs statistics, :meth:`analyzer` and
    :meth:`prepare_column`; :meth:`row_function` makes single rows quick.
    """

    default_output: ClassVar[str] = "{column}"

    @property
    def output_names(self) -> list[str]:
        if self.output is None:
            return [self.default_output.format(column=c) for c in self.columns]
        if isinstance(self.output, str):
            if "{column}" in self.output:
                return [self.output.format(column=c) for c in self.columns]
            if len(self.columns) > 1:
                raise self.wrong(
                    "output", self.output, f"a list of {len(self.columns)} names, or a pattern such as '{{column}}_new'"
                )
            return [self.output]
        if len(self.output) != len(self.columns):
            raise self.wrong("output", list(self.output), f"{len(self.columns)} names, one for each column")
        return list(self.output)

    def output_fields(self, schema: pa.Schema) -> list[pa.Field]:
        inputs = [self.field_of(schema, c) for c in self.columns]
        return [pa.field(n, self.output_type(f)) for n, f in zip(self.output_names, inputs, strict=True)]

    def analyzers(self) -> dict[str, Analyzer]:
        found = {c: self.analyzer(c) for c in self.columns}
        return {c: a for c, a in found.items() if a is not None}

    def prepare(self, states: Mapping[str, State], schema: pa.Schema) -> Any:
        return [self.prepare_column(states.get(c), self.field_of(schema, c)) for c in self.columns]

    def apply(self, batch: pa.RecordBatch, prepared: Any) -> list[pa.Array]:
        return [self.apply_column(batch.column(c), p) for c, p in zip(self.columns, prepared, strict=True)]

    def row_step(self, prepared: Any, schema: pa.Schema) -> Callable[[dict[str, Any]], None] | None:
        steps = []
        for column, name, p in zip(self.columns, self.output_names, prepared, strict=True):
            function = self.row_function(p, self.field_of(schema, column))
            if function is None:
                return None
            steps.append((column, name, function))

        def step(row: dict[str, Any]) -> None:
            for column, name, function in steps:
                row[name] = function(row[column])

        return step

    @abstractmethod
    def output_type(self, column: pa.Field) -> pa.DataType:
        """The type that comes out for a column, or :meth:`wrong_column` raised."""

    def analyzer(self, column: str) -> Analyzer | None:
        """The statistic needed for a column, or None."""
        return None

    def prepare_column(self, state: State | None, column: pa.Field) -> Any:
        """What :meth:`apply_column` works with; built once per process."""
        return state

    @abstractmethod
    def apply_column(self, array: pa.Array, prepared: Any) -> pa.Array:
        """The output for one column of a batch: shape (n_rows,), of the declared type."""

    def row_function(self, prepared: Any, column: pa.Field) -> RowFunction | None:
        """A function from one Python value (of the column's type, or None) to one, equal to :meth:`apply_column`."""
        return None

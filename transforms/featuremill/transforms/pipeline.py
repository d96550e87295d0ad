"""Transforms bound to a schema, and with their states applied to batches and to single rows.

This is what a worker of a job and a serving process have in common, so that both compute the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from featuremill.artifacts.errors import BadRows, MissingColumnError, RequestError, suggest
from featuremill.transforms.arrays import is_list, is_text
from featuremill.transforms.contract import State, Transform
from featuremill.transforms.plan import Plan, Slot
from featuremill.transforms.registry import from_config, to_config
from featuremill.transforms.row_values import conform, plain_type, row_reader

__all__ = ["BoundPipeline", "Pipeline", "from_config", "to_config"]

NO_FILES: Mapping[str, Any] = MappingProxyType({})


class Pipeline:
    """An ordered list of transforms for rows of one schema.

    Parameters
    ----------
    transforms
        Applied in order; each sees the columns as the ones before it left them.
    schema
        The source's. Columns that no transform writes pass through with their exact type.

    Raises
    ------
    MissingColumnError, ColumnTypeError
        When a transform cannot work on the schema it would see.

    >>> from featuremill.transforms.numeric import Clip
    >>> schema = pa.schema([("x", pa.float64()), ("id", pa.int64())])
    >>> pipeline = Pipeline([Clip(["x"], max_value=2.0, output="y")], schema)
    >>> pipeline.output_schema.names, pipeline.input_columns
    (['x', 'id', 'y'], ['x'])
    >>> pipeline.bind({}).apply_row({"x": 3.0, "id": 1})
    {'x': 3.0, 'id': 1, 'y': 2.0}
    """

    def __init__(self, transforms: Sequence[Transform], schema: pa.Schema) -> None:
        twice = sorted({n for n in schema.names if schema.names.count(n) > 1})
        if twice:
            raise RequestError(f"The source has the column {twice[0]!r} more than once; rename one.", column=twice[0])
        self.transforms = tuple(transform.pinned() for transform in transforms)
        self.input_schema = schema
        self.plan = Plan(self.transforms)
        self.schemas: list[pa.Schema] = []
        fields = {f.name: f for f in schema}
        for transform in self.transforms:
            seen = pa.schema(list(fields.values()))
            self.schemas.append(seen)
            fields.update({f.name: f for f in transform.output_fields(seen)})
        self.output_schema = pa.schema(list(fields.values()))

    @property
    def input_columns(self) -> list[str]:
        """The source columns that the transforms need, in the source's order."""
        needed = set(self.plan.input_columns)
        return [n for n in self.input_schema.names if n in needed]

    def slots(self) -> list[Slot]:
        """The statistics that the transforms need, each with the key of its state."""
        return self.plan.slots

    @property
    def file_paths(self) -> list[str]:
        """The files that the transforms bring into an artifact, by their paths there; each once."""
        return list(dict.fromkeys(path for t in self.transforms for path in t.file_paths))

    def file_contents(self) -> dict[str, bytes]:
        """Their content, by path."""
        found: dict[str, bytes] = {}
        for transform in self.transforms:
            if not found.keys() >= set(transform.file_paths):
                found |= transform.file_contents()
        return found

    def bind(self, states: Mapping[str, State], files: Mapping[str, Any] = NO_FILES) -> BoundPipeline:
        """The pipeline with its states, by slot key, and the files of its artifact, by path: ready to apply."""
        return BoundPipeline(self, states, files=files)


class BoundPipeline:
    """A pipeline that knows its states. Safe to share between threads: applying changes nothing.

    Parameters
    ----------
    pipeline
        The transforms and the schema.
    states
        By slot key. With `only`, those of the other transforms may be missing.
    only
        The positions of the transforms to apply (a scan applies some); None: all.
    files
        What transforms brought into the artifact, by path.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        states: Mapping[str, State],
        only: Iterable[int] | None = None,
        *,
        files: Mapping[str, Any] = NO_FILES,
    ) -> None:
        self.pipeline = pipeline
        self.output_schema = pipeline.output_schema
        self._steps: list[tuple[int, Transform, Any]] = []
        chosen = sorted(range(len(pipeline.transforms)) if only is None else only)
        self.needed = pipeline.input_columns if only is None else pipeline.plan.source_columns(chosen)
        for i in chosen:
            transform = pipeline.transforms[i]
            own = {s.slot: states[s.key] for s in pipeline.plan.slots if s.transform == i}
            self._steps.append((i, transform, transform.prepare_with(files, own, pipeline.schemas[i])))
        self._row_steps: list[Callable[[dict[str, Any]], None]] | None = None
        self._readers: list[tuple[str, Callable[[Any], Any]]] = []

    @property
    def dictionary_columns(self) -> list[str]:
        """The source's text columns that transforms read: best read dictionary-encoded."""
        schema = self.pipeline.input_schema
        return [n for n in self.needed if is_text(schema.field(n).type) and not is_list(schema.field(n).type)]

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """All columns after the last transform, shape (n_rows,), typed as `output_schema` says.

        A batch may lack columns that no transform needs, and have others that the schema does not know; these pass
        through. Values are cast to the schema's types where nothing is lost.

        Raises
        ------
        MissingColumnError
            When a needed column is missing.
        BadRows
            Naming rows that a transform cannot process.
        """
        columns = self.apply_columns(self.read(batch))
        known = {f.name: f for f in self.output_schema}
        fields = [known.get(n) or pa.field(n, a.type) for n, a in columns.items()]
        arrays = [_restore(a, f.type) for a, f in zip(columns.values(), fields, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def read(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """The columns of a batch by name, the needed ones checked and of the schema's types."""
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for name in self.needed:
            if name not in columns:
                raise MissingColumnError(
                    f"The column {name!r} is missing. {suggest(name, batch.schema.names)}", column=name
                )
        for f in self.pipeline.input_schema:
            if f.name in columns:
                columns[f.name] = conform(columns[f.name], f)
        return columns

    def apply_columns(
        self, columns: dict[str, pa.Array], before: Callable[[int, dict[str, pa.Array]], None] | None = None
    ) -> dict[str, pa.Array]:
        """The transforms applied to columns by name; `before(i, columns)` is called as each transform's turn comes."""
        columns = dict(columns)
        steps = {i: (t, p) for i, t, p in self._steps}
        for i in range(len(self.pipeline.transforms)):
            if before is not None:
                before(i, columns)
            if i in steps:
                transform, prepared = steps[i]
                inputs = pa.RecordBatch.from_arrays([columns[c] for c in transform.columns], list(transform.columns))
                try:
                    outputs = transform.apply(inputs, prepared)
                except BadRows as bad:
                    raise BadRows(
                        str(bad), **{**bad.facts, "transform": type(transform).__name__, "position": i}
                    ) from bad
                columns.update(zip(transform.output_names, outputs, strict=True))
        return columns

    def apply_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """One row as Python values, transformed: the same values as :meth:`apply` on a batch of that row.

        Raises
        ------
        MissingColumnError, RequestError
            When a needed column is missing or its value does not fit the schema's type.
        """
        if self._row_steps is None:
            self._readers, self._row_steps = self._compile_rows()
        values = dict(row)
        try:
            for name, read in self._readers:
                values[name] = read(values[name])
        except KeyError:
            raise MissingColumnError(
                f"The column {name!r} is missing. {suggest(name, list(row))}", column=name
            ) from None
        for step in self._row_steps:
            step(values)
        return values

    def _compile_rows(self) -> tuple[list[tuple[str, Callable[[Any], Any]]], list[Callable[[dict[str, Any]], None]]]:
        schema = self.pipeline.input_schema
        needed = set(self.pipeline.plan.input_columns)
        readers = [(f.name, row_reader(f)) for f in schema if f.name in needed]
        steps = []
        for i, transform, prepared in self._steps:
            seen = self.pipeline.schemas[i]
            steps.append(transform.row_step(prepared, seen) or _row_through_batch(transform, prepared, seen))
        return readers, steps


def _row_through_batch(transform: Transform, prepared: Any, schema: pa.Schema) -> Callable[[dict[str, Any]], None]:
    """The general path for a transform without a row path of its own: a batch of one row."""
    inputs = [(c, plain_type(schema.field(c).type)) for c in transform.columns]
    names = transform.output_names

    def step(row: dict[str, Any]) -> None:
        arrays = [pa.array([row[name]], type_) for name, type_ in inputs]
        outputs = transform.apply(pa.RecordBatch.from_arrays(arrays, list(transform.columns)), prepared)
        for name, array in zip(names, outputs, strict=True):
            row[name] = array[0].as_py()

    return step


def _restore(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """A passed-through column in its declared type, whatever encoding it was read in."""
    return array if array.type == type_ else array.cast(type_)

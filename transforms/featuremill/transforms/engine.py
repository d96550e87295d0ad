"""The passes over the data, as Beam transforms: schema, scans for statistics, and the artifact.

The elements are fragments (see `fragments.py`); a statistic travels as small mergeable tables, and a finished state as
a file that workers map (see `combining.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import uuid4

import apache_beam as beam
import pyarrow as pa
import pyarrow.types as pt
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsList, AsSingleton

from featuremill.artifacts.build import read_state, write_fitted
from featuremill.artifacts.carried import FolderFiles
from featuremill.artifacts.errors import JobError, RequestError
from featuremill.artifacts.store import open_store
from featuremill.transforms.arrays import is_list, is_text, value_type
from featuremill.transforms.artifact_cache import once_per_process
from featuremill.transforms.combining import CombineStates, StateFile
from featuremill.transforms.contract import Transform
from featuremill.transforms.fragments import Fragment, TrainingFragment
from featuremill.transforms.memory import release_memory
from featuremill.transforms.partials import Placed, place
from featuremill.transforms.pipeline import BoundPipeline, Pipeline
from featuremill.transforms.plan import Plan, Scan, Slot
from featuremill.transforms.rejects import apply_or_reject
from featuremill.transforms.texts_told import TextsTold
from featuremill.transforms.vector_memory import working_for
from featuremill.transforms.widened import origin

__all__ = ["FitArtifact", "fit_states", "one_schema", "unify_schemas", "write_manifest"]


class FitArtifact(beam.PTransform):  # type: ignore[misc]
    """Fragments in; one element out, the folder of the complete artifact.

    Parameters
    ----------
    transforms
        What to fit, in order.
    folder
        Where the states and the manifest go.
    shards
        Into how many pieces the statistics of keys (vocabularies) are cut while they are combined. The result does not
        depend on it.
    schema
        The columns of all fragments, where they are known beforehand; else the fragments are asked for theirs.
    """

    def __init__(
        self, transforms: Sequence[Transform], folder: str, *, shards: int = 1, schema: pa.Schema | None = None
    ) -> None:
        super().__init__()
        self.transforms = tuple(transforms)
        self.folder = folder
        self.shards = shards
        self.schema = schema

    def expand(self, fragments: beam.PCollection[Fragment]) -> beam.PCollection[str]:
        schema = one_schema(fragments) if self.schema is None else self.schema
        states = fit_states(fragments, self.transforms, self.folder, schema, shards=self.shards)
        done = _as_list(states, "States")
        return (
            fragments.pipeline
            | "Once" >> beam.Impulse()
            | "Manifest" >> beam.Map(write_manifest, self.folder, self.transforms, schema, done)
        )


def one_schema(fragments: beam.PCollection[Fragment]) -> AsSingleton:
    """The schema of all fragments, as a side input; None when there are none."""
    return AsSingleton(
        fragments
        | "Schema" >> beam.Map(lambda fragment: fragment.schema)
        | "OneSchema" >> beam.CombineGlobally(_OneSchema())
    )


def fit_states(
    fragments: beam.PCollection[Fragment],
    transforms: tuple[Transform, ...],
    folder: str,
    schema: AsSingleton | pa.Schema,
    *,
    shards: int = 1,
    known: Sequence[beam.PCollection[StateFile]] = (),
    fitted: int = 0,
    scans_before: int = 0,
) -> tuple[beam.PCollection[StateFile], ...]:
    """The states of the transforms from position `fitted` on, those before being `known`; `known` and new together.

    `scans_before` is how many passes of the job come before these, for the notes on its progress.
    """
    plan = Plan(transforms, fitted=fitted)
    token = uuid4().hex
    written = list(known)
    for number, scan in enumerate(plan.scans):
        known_now = _as_list(written, f"Known{number}")
        collect = _Collect(transforms, scan, scans_before + number, folder, shards, token)
        analyzers = {slot.key: slot.analyzer for slot in scan.slots}
        written.append(
            fragments
            | f"Scan{number}" >> beam.ParDo(collect, schema, known_now)
            | f"States{number}" >> CombineStates(analyzers, folder, shards=shards)
        )
    return tuple(written)


def _as_list(parts: Sequence[beam.PCollection[StateFile]], label: str) -> AsList | list[StateFile]:
    """The elements of several collections as a side input; without a step in the pipeline where none is needed."""
    if not parts:
        return []
    return AsList(parts[0] if len(parts) == 1 else tuple(parts) | label >> beam.Flatten())


class _OneSchema(beam.CombineFn):  # type: ignore[misc]
    """One schema for all fragments, whatever the order they come in; None when there are none."""

    def create_accumulator(self) -> list[pa.Schema]:
        return []

    def add_input(self, found: list[pa.Schema], schema: pa.Schema) -> list[pa.Schema]:
        return self.merge_accumulators([found, [schema]])

    def merge_accumulators(self, accumulators: Iterable[list[pa.Schema]]) -> list[pa.Schema]:
        merged: list[pa.Schema] = []
        for found in accumulators:
            merged += [s for s in found if not any(s.equals(known) for known in merged)]
        return merged

    def extract_output(self, found: list[pa.Schema]) -> pa.Schema | None:
        return unify_schemas(found) if found else None


def unify_schemas(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """One schema for rows that were batched apart: integers where others have floats become floats, nothing but nulls
    takes the others' type.

    Raises
    ------
    RequestError
        Naming the column whose types do not go together.

    >>> unify_schemas([pa.schema({"x": pa.int64()}), pa.schema({"x": pa.string()})])
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.RequestError: The column 'x' is int64 in some rows and string in others.
    """
    fields: dict[str, list[pa.Field]] = {}
    for schema in sorted((s.remove_metadata() for s in schemas), key=str):
        for field_ in schema:
            fields.setdefault(field_.name, []).append(field_)
    return pa.schema([_unify_fields(name, found) for name, found in fields.items()])


def _unify_fields(name: str, found: list[pa.Field]) -> pa.Field:
    if any(f.type != found[0].type for f in found):
        found = [f.with_type(value_type(f.type)) for f in found]
    if any(is_list(f.type) for f in found):
        found = [f if is_list(f.type) or pt.is_null(f.type) else f.with_type(pa.list_(f.type)) for f in found]
    try:
        return pa.unify_schemas([pa.schema([f]) for f in found], promote_options="permissive").field(0)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        first, *_, last = sorted({str(f.type) for f in found})
        raise RequestError(f"The column {name!r} is {first} in some rows and {last} in others.", column=name) from error


class _Collect(beam.DoFn):  # type: ignore[misc]
    """The partial statistics of one fragment."""

    def __init__(
        self, transforms: tuple[Transform, ...], scan: Scan, number: int, folder: str, shards: int, token: str
    ) -> None:
        self.transforms = transforms
        self.scan = scan
        self.number = number
        self.folder = folder
        self.shards = shards
        # A process may fit in the same folder twice, on other data: what it keeps belongs to one run.
        self.token = token
        self.rows = Metrics.counter("featuremill", f"scan_{number}_rows")
        self.rejected = Metrics.counter("featuremill", f"scan_{number}_rows_rejected")
        self.texts = TextsTold()

    def process(self, fragment: Fragment, schema: pa.Schema, known: list[StateFile]) -> Iterator[Placed]:
        scan = self.scan
        bound = once_per_process((self.token, self.number), lambda: self._bind(schema, known))
        collected = {slot.key: slot.analyzer.accumulator() for slot in scan.slots}
        with working_for(getattr(origin(fragment), "memory", None)) as counts:
            for batch in _training_batches(fragment, scan, schema, self.number):
                found, rejected = _columns_for(bound, scan, batch)
                for slot in scan.slots:
                    collected[slot.key].update(slot.analyzer.array_of(found[slot.key]))
                self.rows.inc(batch.num_rows - rejected)
                self.rejected.inc(rejected)
        self.texts.tell(counts)
        for slot in scan.slots:
            yield from place(slot.key, slot.analyzer, collected[slot.key].partial(), self.shards)

    def finish_bundle(self) -> None:
        release_memory()

    def _bind(self, schema: pa.Schema, known: list[StateFile]) -> BoundPipeline:
        store = open_store(self.folder)
        states = {file.key: read_state(store, file.path) for file in known}
        files = FolderFiles(store)
        return BoundPipeline(Pipeline(self.transforms, schema), states, only=self.scan.applies, files=files)


def _training_batches(fragment: Fragment, scan: Scan, schema: pa.Schema, number: int) -> Iterator[pa.RecordBatch]:
    """The batches that statistics are computed on: a fragment may keep rows back from them (those of other splits)."""
    dictionary = [c for c in scan.columns if is_text(schema.field(c).type) and not is_list(schema.field(c).type)]
    if isinstance(fragment, TrainingFragment):
        yield from fragment.training_batches(list(scan.columns), dictionary, number)
    else:
        yield from fragment.batches(list(scan.columns), dictionary=dictionary)


def _columns_for(bound: BoundPipeline, scan: Scan, batch: pa.RecordBatch) -> tuple[dict[str, pa.RecordBatch], int]:
    """What each statistic of a scan is fed with, and how many rows could not be processed on the way.

    All columns are computed before any accumulator sees one, so that a row is in all statistics of the scan or in none.
    """
    found: dict[str, pa.RecordBatch] = {}
    by_transform: dict[int, list[Slot]] = {}
    for slot in scan.slots:
        by_transform.setdefault(slot.transform, []).append(slot)

    def keep(position: int, columns: dict[str, pa.Array]) -> None:
        for slot in by_transform.get(position, ()):
            names = list(slot.analyzer.inputs)
            found[slot.key] = pa.RecordBatch.from_arrays([columns[n] for n in names], names)

    def walk(rows: pa.RecordBatch) -> pa.RecordBatch:
        found.clear()
        bound.apply_columns(bound.read(rows), keep)
        return rows

    if not scan.applies:
        walk(batch)
        return found, 0
    kept, _, rejects = apply_or_reject(walk, batch)
    if rejects:
        walk(kept)
    return found, len(rejects)


def write_manifest(
    _impulse: bytes,
    folder: str,
    transforms: tuple[Transform, ...],
    schema: pa.Schema | None,
    states: list[StateFile],
    _waited_for: Any = None,
) -> str:
    """The last file: with it the folder is an artifact."""
    slots = {slot.key for slot in Plan(transforms).slots}
    if schema is None or slots - {state.key for state in states}:
        raise JobError("There were no rows: an artifact cannot be fitted on nothing. Check the source and its filter.")
    pipeline = Pipeline(transforms, schema)
    write_fitted(open_store(folder), pipeline, {s.key: s.path for s in states})
    return folder

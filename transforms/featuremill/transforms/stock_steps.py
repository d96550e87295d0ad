"""Beam's own MLTransform providers applied to fragments.

::

    fragments ─► rows, as dicts ─► the provider's own transform ─► chunks of Arrow columns ─┐
        └──────────────────────────────────────────────────────────────────────────────► widened fragments

Only the columns that a step reads go through it, each row with the name of its fragment and its position. What comes
out is gathered by these; a row that is lost or comes twice fails the job. The fragments go on with the new columns
beside their rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from apache_beam.pvalue import AsList, TaggedOutput

from featuremill.artifacts.build import read_state, state_bytes
from featuremill.artifacts.carried import FolderFiles
from featuremill.artifacts.errors import JobError, MissingExtraError, RequestError
from featuremill.artifacts.layout import join
from featuremill.artifacts.store import open_store
from featuremill.transforms.arrays import is_list, leaf_type, leaves, value_type
from featuremill.transforms.artifact_cache import once_per_process
from featuremill.transforms.combining import StateFile
from featuremill.transforms.contract import Transform
from featuremill.transforms.engine import fit_states, one_schema, write_manifest
from featuremill.transforms.fragments import Fragment, MemoryFragment
from featuremill.transforms.pipeline import BoundPipeline, Pipeline
from featuremill.transforms.plan import Plan
from featuremill.transforms.rejects import apply_or_reject
from featuremill.transforms.stock_providers import processing, provider_of
from featuremill.transforms.stock_stages import StockRun, reach, stock_runs, substituted, widened_schema
from featuremill.transforms.widened import POSITION, ROWS_PER_CHUNK, Chunk, WidenedFragment, origin

__all__ = ["ApplyStock", "FitWithStock"]

ROW = "featuremill_row"
"""The key of a row's fragment and position in the dicts that go through a provider."""

SCRATCH = "scratch"
"""The folder, in that of an artifact in the making, of what nobody needs afterwards."""


class FitWithStock(beam.PTransform):  # type: ignore[misc]
    """Fragments in; out come the folder of the artifact, when it is complete, and the fragments widened.

    Parameters
    ----------
    transforms
        In order, those of Beam's own among them.
    folder
        Where the artifact goes.
    schema
        The source's.
    shards
        See :class:`~featuremill.transforms.engine.FitArtifact`.
    """

    def __init__(self, transforms: Sequence[Transform], folder: str, schema: pa.Schema, *, shards: int = 1) -> None:
        super().__init__()
        self.transforms = tuple(transforms)
        self.folder = folder
        self.schema = schema
        self.shards = shards

    def expand(self, fragments: beam.PCollection[Fragment]) -> tuple[Any, Any]:
        source, work = one_schema(fragments), substituted(self.transforms)
        states: tuple[Any, ...] = ()
        written: list[Any] = []
        fitted = scans = 0
        for run in stock_runs(self.transforms):
            stage = _Stage(work[: run.first], self.folder, self.shards, states, fitted, scans)
            states = (fragments | f"Fit{run.first}" >> stage,)
            scans += len(stage.plan.scans) + 1
            step = _StockStep(run, self.transforms, self.schema, self.folder, states, fit_as=scans)
            fragments, done = fragments | f"Stock{run.first}" >> step
            written += done
            fitted = run.stop
        states = (fragments | "Fit" >> _Stage(work, self.folder, self.shards, states, fitted, scans),)
        waits = AsList(tuple(written) | "Written" >> beam.Flatten(pipeline=fragments.pipeline))
        location = (
            fragments.pipeline
            | "Once" >> beam.Impulse()
            | "Manifest" >> beam.Map(write_manifest, self.folder, self.transforms, source, AsList(states[0]), waits)
        )
        return location, fragments


class ApplyStock(beam.PTransform):  # type: ignore[misc]
    """Fragments in; out come the fragments widened by what the steps of the artifact in `folder` make of them."""

    def __init__(self, transforms: Sequence[Transform], folder: str) -> None:
        super().__init__()
        self.transforms = tuple(transforms)
        self.folder = folder

    def expand(self, fragments: beam.PCollection[Fragment]) -> beam.PCollection[Fragment]:
        from featuremill.artifacts.reader import load

        artifact = load(self.folder)
        files = [StateFile(s.key, s.file) for s in artifact.manifest.states]
        states = (fragments.pipeline | "States" >> beam.Create(files),)
        for run in stock_runs(self.transforms):
            step = _StockStep(run, self.transforms, artifact.input_schema, self.folder, states, fit_as=None)
            fragments, _ = fragments | f"Stock{run.first}" >> step
        return fragments


class _Stage(beam.PTransform):  # type: ignore[misc]
    """The states of featuremill's transforms from position `fitted` on, with those known before."""

    def __init__(
        self, transforms: tuple[Transform, ...], folder: str, shards: int, known: tuple[Any, ...], fitted: int,
        scans_before: int,
    ) -> None:
        super().__init__()
        self.plan = Plan(transforms, fitted=fitted)
        self.folder = folder
        self.shards = shards
        self.known = known
        self.fitted = fitted
        self.scans_before = scans_before

    def expand(self, fragments: beam.PCollection[Fragment]) -> beam.PCollection[StateFile]:
        found = fit_states(
            fragments, self.plan.transforms, self.folder, one_schema(fragments), shards=self.shards, known=self.known,
            fitted=self.fitted, scans_before=self.scans_before,
        )
        return found | "States" >> beam.Flatten(pipeline=fragments.pipeline)


# --- one run of stock steps -----------------------------------------------------------------------------------------


class _StockStep(beam.PTransform):  # type: ignore[misc]
    """Fragments in; fragments widened by the outputs of a run, and what to wait for until its files are written.

    `fit_as` is the number of the pass in the job (from 1) when the steps are to be fitted; None: they have been.
    """

    def __init__(
        self, run: StockRun, transforms: tuple[Transform, ...], schema: pa.Schema, folder: str, states: tuple[Any, ...],
        *, fit_as: int | None,
    ) -> None:
        super().__init__()
        self.run = run
        self.folder = folder
        self.states = states
        self.fit_as = fit_as
        self.work = substituted(transforms)
        self.widened = widened_schema(transforms, schema, before=run.first)
        pipeline = Pipeline(transforms, schema)
        self.inputs = [pipeline.schemas[run.first].field(c) for c in run.inputs]
        self.outputs = run.fields(pipeline)

    def expand(self, fragments: beam.PCollection[Fragment]) -> tuple[Any, list[Any]]:
        to_rows = _ToRows(self.run, self.work, self.widened, self.inputs, self.folder, self.fit_as)
        sent = fragments | "Rows" >> beam.ParDo(to_rows, AsList(self.states[0])).with_outputs("fragments", main="rows")
        place = join(self.folder, "stock", f"{self.run.first:02d}")
        done: list[Any] = []
        if self.run.steps[0].is_tft:
            tft = _TensorFlow(self.run, self.inputs, place, join(self.folder, SCRATCH), fit=self.fit_as is not None)
            made, done = sent.rows | "TensorFlow" >> tft
        else:
            made = (
                sent.rows
                | "Dicts" >> beam.Map(lambda row: row[1]).with_output_types(dict[str, Any])
                | "Provider" >> processing(self.run.steps[0], place)
            )
        spill = None if self.fit_as is None else self.folder
        names = {f.name: self.run.added(f.name) for f in self.outputs}
        chunks = (
            made
            | "Key" >> beam.Map(_keyed, [f.name for f in self.outputs], self.run.name)
            | "Gather" >> beam.GroupByKey()
            | "Chunk" >> beam.Map(_to_chunk, self.outputs, names, self.run, spill)
        )
        widened = (
            {"chunks": chunks, "fragments": sent.fragments}
            | "Join" >> beam.CoGroupByKey()
            | "Widen" >> beam.Map(_widen, [f.with_name(names[f.name]) for f in self.outputs], self.run.name)
        )
        return widened, done


@dataclass(frozen=True)
class _Sent:
    """A fragment, and how many of its rows were sent through a step, for each chunk."""

    fragment: Fragment
    rows: Mapping[int, int]


class _ToRows(beam.DoFn):  # type: ignore[misc]
    """A fragment's rows, as ``(whether statistics may see it, dict)``; and what was sent, tagged "fragments"."""

    def __init__(
        self, run: StockRun, work: tuple[Transform, ...], schema: pa.Schema, inputs: list[pa.Field], folder: str,
        fit_as: int | None,
    ) -> None:
        self.run = run
        self.before = work[: run.first]
        self.schema = schema
        self.inputs = inputs
        self.folder = folder
        self.fit_as = fit_as
        self.applies, _ = reach(work, run)
        # What one process keeps belongs to one run over one data set.
        self.token = uuid4().hex

    def process(self, fragment: Fragment, states: list[StateFile]) -> Iterator[Any]:
        bound = once_per_process((self.token, self.run.first), lambda: self._bind(states))
        # Batches that came from a user have no name; both outputs of this bundle get the same one.
        key = fragment.key or uuid4().hex
        source = origin(fragment)
        keys = list(getattr(source, "training_keys", ())) if self.fit_as is not None else []
        sent: dict[int, int] = {}
        start = 0
        columns = list(dict.fromkeys([*bound.needed, *(f.name for f in self.inputs if self._reads(f.name)), *keys]))
        for batch in fragment.batches(columns, dictionary=bound.dictionary_columns):
            _, found, rejects = apply_or_reject(lambda rows: self._columns(bound, rows), batch)
            here = np.ones(batch.num_rows, dtype=bool)
            here[[r.row for r in rejects]] = False
            mask = source.training_mask(batch) if keys else None
            training = here[here] if mask is None else mask[here]
            positions = start + np.flatnonzero(here)
            self._refuse_nulls(found, positions, key)
            numbers, counts = np.unique(positions // ROWS_PER_CHUNK, return_counts=True)
            for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                sent[number] = sent.get(number, 0) + count
            yield from _rows(found, positions, training, key)
            start += batch.num_rows
        if self.fit_as is not None and hasattr(source, "note"):
            source.note(f"scan {self.fit_as}", start)
        yield TaggedOutput("fragments", (key, _Sent(fragment, sent)))

    def _reads(self, column: str) -> bool:
        """Whether an input comes from the fragment, and not from a transform before the step."""
        return not any(column in self.before[i].output_names for i in self.applies)

    def _bind(self, states: list[StateFile]) -> BoundPipeline:
        store = open_store(self.folder)
        pipeline = Pipeline(self.before, self.schema)
        needed = {s.key for s in pipeline.slots() if s.transform in self.applies}
        read = {s.key: read_state(store, s.path) for s in states if s.key in needed}
        return BoundPipeline(pipeline, read, only=self.applies, files=FolderFiles(store))

    def _columns(self, bound: BoundPipeline, rows: pa.RecordBatch) -> pa.RecordBatch:
        found = bound.apply_columns(bound.read(rows))
        arrays = []
        for f in self.inputs:
            array = found[f.name]
            array = array.dictionary_decode() if pt.is_dictionary(array.type) else array
            arrays.append(array.cast(value_type(f.type)))
        return pa.RecordBatch.from_arrays(arrays, [f.name for f in self.inputs])

    def _refuse_nulls(self, batch: pa.RecordBatch, positions: Any, key: str) -> None:
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            if array.null_count:
                row = int(positions[array.is_null().index(True).as_py()])
                raise JobError(
                    f"{self.run.name}: the column {name!r} is null in row {row} of the fragment {key!r}, and Beam's "
                    f"own transforms take no nulls. Put Impute(columns=[{name!r}], …) before it.",
                    column=name,
                )
            if leaves(array).null_count:
                raise JobError(
                    f"{self.run.name}: lists in the column {name!r} hold nulls, and Beam's own transforms take none.",
                    column=name,
                )


def _rows(batch: pa.RecordBatch, positions: Any, training: Any, key: str) -> Iterator[tuple[bool, dict[str, Any]]]:
    """The rows of a batch as Python values; a provider of Beam's takes nothing else."""
    names = batch.schema.names
    columns = [column.to_pylist() for column in batch.columns]
    for position, seen, *values in zip(positions.tolist(), training.tolist(), *columns, strict=True):
        yield seen, {**dict(zip(names, values, strict=True)), ROW: f"{position} {key}".encode()}


def _keyed(row: Any, outputs: list[str], name: str) -> tuple[tuple[str, int], tuple[int, tuple[Any, ...]]]:
    """``((fragment, chunk), (position, values))`` of a row that came out."""
    fields = row if isinstance(row, dict) else row._asdict()
    lacking = [n for n in (ROW, *outputs) if n not in fields]
    if lacking:
        raise JobError(f"{name} gave rows without {lacking[0]!r}; they have {', '.join(map(repr, fields))}.")
    position, _, key = bytes(fields[ROW]).decode().partition(" ")
    return (key, int(position) // ROWS_PER_CHUNK), (int(position), tuple(fields[n] for n in outputs))


def _to_chunk(
    gathered: tuple[tuple[str, int], Iterable[tuple[int, tuple[Any, ...]]]], outputs: list[pa.Field],
    names: Mapping[str, str], run: StockRun, spill: str | None,
) -> tuple[str, Chunk]:
    (key, number), found = gathered
    rows = sorted(found, key=lambda row: row[0])
    positions = np.array([position for position, _ in rows], dtype=np.int64)
    twice = positions[1:][np.diff(positions) == 0]
    if len(twice):
        raise JobError(f"{run.name}: the row {twice[0]} of the fragment {key!r} came out more than once.")
    columns = zip(*(values for _, values in rows), strict=True)
    arrays = [to_array(list(values), f, run.name) for values, f in zip(columns, outputs, strict=True)]
    table = pa.table([pa.array(positions), *arrays], [POSITION, *(names[f.name] for f in outputs)])
    if spill is None:
        return key, Chunk(number, len(rows), table)
    path = f"{SCRATCH}/rows/{run.first:02d}/{quote(key, safe='')}-{number:06d}.arrow"
    open_store(spill).put(path, state_bytes(table))
    return key, Chunk(number, len(rows), (spill, path))


def to_array(values: list[Any], field: pa.Field, name: str) -> pa.Array:
    """What a provider made (NumPy arrays, lists, scalars), shape (len(values),), of the declared type.

    Raises
    ------
    JobError
        When a value does not fit the type.

    >>> to_array([np.array([1.5]), np.array([2.5])], pa.field("x", pa.float32()), "tft.ScaleTo01('x')").to_pylist()
    [1.5, 2.5]
    >>> to_array([np.array([1.5, 2.5])], pa.field("x", pa.float32()), "tft.ScaleTo01('x')")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.JobError: tft.ScaleTo01('x') gave 2 values of 'x' for one row, expected one: float.
    """
    try:
        if is_list(field.type) and pt.is_primitive(leaf_type(field.type)):
            parts = [np.asarray(v) for v in values]
            if all(p.ndim == 1 for p in parts):
                offsets = np.cumsum([0, *(len(p) for p in parts)])
                flat = pa.array(np.concatenate(parts)).cast(leaf_type(field.type), safe=False)
                return pa.LargeListArray.from_arrays(pa.array(offsets), flat).cast(field.type)
        plain = [v.tolist() if isinstance(v, np.ndarray | np.generic) else v for v in values]
        if not is_list(field.type):
            wrong = next((v for v in plain if isinstance(v, list | tuple) and len(v) != 1), None)
            if wrong is not None:
                raise JobError(
                    f"{name} gave {len(wrong)} values of {field.name!r} for one row, expected one: {field.type}."
                )
            plain = [v[0] if isinstance(v, list | tuple) else v for v in plain]
        return pa.array(plain, field.type)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise JobError(f"{name}: what it gave for {field.name!r} is no {field.type}: {error}.") from error


def _widen(joined: tuple[str, Mapping[str, Iterable[Any]]], added: list[pa.Field], name: str) -> Fragment:
    """The fragment with the chunks that belong to it, all of them."""
    key, found = joined
    chunks = sorted(found["chunks"], key=lambda c: c.number)
    sent: list[_Sent] = list(found["fragments"])
    if len(sent) != 1:
        raise JobError(f"{len(sent)} fragments have the key {key!r}, expected one.")
    (one,) = sent
    if {c.number: c.rows for c in chunks} != dict(one.rows):
        went, came = sum(one.rows.values()), sum(c.rows for c in chunks)
        raise JobError(f"{name}: of {went:,} rows of the fragment {key!r} that went in {came:,} came out.")
    widened = WidenedFragment(one.fragment, tuple(added), tuple(chunks))
    if not isinstance(one.fragment, MemoryFragment):
        return widened
    (batch,) = widened.batches()
    return MemoryFragment(batch, one.fragment.key, one.fragment.rows)


# --- TensorFlow Transform ---------------------------------------------------------------------------------------------


class _TensorFlow(beam.PTransform):  # type: ignore[misc]
    """Rows through neighbouring ops of TensorFlow Transform; out come rows, and what to wait for.

    This is what Beam's TFTProcessHandler does in its two modes, but that only the training rows are analysed, and that
    the types are those of the columns.
    """

    def __init__(self, run: StockRun, inputs: list[pa.Field], place: str, scratch: str, *, fit: bool) -> None:
        super().__init__()
        self.run = run
        self.inputs = inputs
        self.place = place
        self.scratch = scratch
        self.fit = fit

    def expand(self, rows: beam.PCollection[tuple[bool, dict[str, Any]]]) -> tuple[Any, list[Any]]:
        try:
            import tensorflow_transform.beam as tft_beam
            from apache_beam.ml.transforms import handlers
            from tensorflow_transform.beam.tft_beam_io import transform_fn_io
            from tensorflow_transform.tf_metadata import metadata_io
        except ImportError as error:
            raise MissingExtraError(
                f"{self.run.name} needs TensorFlow Transform ({error}): pip install 'featuremill[tft]'.", extra="tft"
            ) from error
        raw = join(self.place, handlers.RAW_DATA_METADATA_DIR)
        everything = rows | "All" >> beam.Map(_tft_row, handlers._TEMP_KEY)
        done: list[Any] = []
        if self.fit:
            ops = [provider_of(s, secrets=True) for s in self.run.steps]
            handler = handlers.TFTProcessHandler(artifact_location=self.place, transforms=ops)
            metadata = handler.get_raw_data_metadata(input_types={f.name: _tft_type(f.type) for f in self.inputs})
            metadata_io.write_metadata(metadata=metadata, path=raw)
            training = (
                rows
                | "Training" >> beam.Filter(lambda row: row[0])
                | "TrainingRows" >> beam.Map(_tft_row, handlers._TEMP_KEY)
            )
            with tft_beam.Context(temp_dir=join(self.scratch, "tft")), self._explained():
                fitted = (training, metadata) | "Analyze" >> tft_beam.AnalyzeDataset(handler.process_data_fn)
                done.append(fitted | "Write" >> transform_fn_io.WriteTransformFn(self.place))
        else:
            metadata = metadata_io.read_metadata(raw)
            fitted = rows.pipeline | "Read" >> tft_beam.ReadTransformFn(self.place)
        with tft_beam.Context(temp_dir=join(self.scratch, "tft") if self.fit else None):
            made, _ = ((everything, metadata), fitted) | "Transform" >> tft_beam.TransformDataset()
        return made | "Rows" >> beam.Map(_untangle, handlers._TEMP_KEY), done

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """TensorFlow traces the ops while the graph is built: what it finds wrong is wrong with the request."""
        try:
            yield
        except (TypeError, ValueError, RuntimeError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RequestError(f"{self.run.name}: {first}", transform=self.run.name) from error


def _tft_type(type_: pa.DataType) -> Any:
    leaf = leaf_type(type_)
    if pt.is_integer(leaf):
        return list[int]
    return list[float] if pt.is_floating(leaf) else list[bytes]


def _tft_row(row: tuple[bool, dict[str, Any]], passed_through: str) -> dict[str, Any]:
    """TensorFlow Transform takes lists only; a row's name travels under the key that Beam has for such things."""
    lists = {k: v if isinstance(v, list) else [v] for k, v in row[1].items() if k != ROW}
    return {**lists, passed_through: [row[1][ROW]]}


def _untangle(row: dict[str, Any], passed_through: str) -> dict[str, Any]:
    fields = dict(row)
    fields[ROW] = fields.pop(passed_through).item()
    return fields

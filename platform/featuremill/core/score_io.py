"""Scoring in Beam: fragments in, batches of features out; and at the other end predictions into files, exactly once.

A worker writes the rows of a bundle into files of its own, one for each fragment, and tells of them when the bundle
ends. Beam keeps what successful bundles told and forgets the rest, so a file counts if and only if the rows in it were
processed once and for all. The launcher puts what was read of each fragment beside what was written of it, and nothing
is published unless they agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MAX_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

import featuremill.core.batch_coders  # noqa: F401  # how Beam weighs the batches of ReadFeatures
from featuremill.artifacts.errors import JobError
from featuremill.core.backends import BackendsTold
from featuremill.core.dataset import FragmentResult, Staging, save_results
from featuremill.core.feature_recipe import CARRIED, FRAGMENT, ROW, BoundRecipe, FeatureRecipe, carried, numbered
from featuremill.core.job_fragment import JobFragment
from featuremill.core.quality.riding import RAW, Riding
from featuremill.core.quality.screen import take_out
from featuremill.core.quality.statistics.collecting import QUALITY
from featuremill.core.shards import REJECTED, Attempt, RowSink, Shard
from featuremill.transforms.onnx_backend import choices
from featuremill.transforms.rejects import Reject
from featuremill.transforms.texts_told import TextsTold
from featuremill.transforms.vector_memory import Counts

__all__ = [
    "PREDICTIONS",
    "READ",
    "FragmentQuarantine",
    "FragmentRead",
    "FragmentShard",
    "ReadFeatures",
    "WriteBatches",
    "WriteResults",
    "as_letters",
    "by_fragment",
    "dead_letters",
    "letters_schema",
    "results_of",
]

PREDICTIONS = "predictions"
"""The folder of the predictions in a run."""
OPEN_FILES = 8
"""So many files a worker has open at a time; batches of a fragment usually come one after the other."""
REASON, TRANSFORM, COLUMN = "_reason", "_transform", "_column"
READ = "read"
"""The tag of :class:`FragmentRead` among what :class:`ReadFeatures` gives."""
MODEL_VERSION = "model_version"


@dataclass(frozen=True)
class FragmentRead:
    """What was read of one fragment."""

    fragment: str
    read: int
    promised: int | None
    """Rows that the fragment said it has; None under a filter."""
    left_out: int
    """Rows of splits that the job does not want."""


@dataclass(frozen=True)
class FragmentQuarantine:
    """Rows of one fragment that a check took out, in a bundle that succeeded."""

    fragment: str
    rows: int


@dataclass(frozen=True)
class FragmentShard:
    """A file with rows of one fragment, written by a bundle that succeeded."""

    fragment: str
    first: int
    """The lowest position of a row in it."""
    shard: Shard
    models: Mapping[str, int] = field(default_factory=dict)
    """Rows by the versions of the models that predicted them."""


Fact = FragmentRead | FragmentShard | FragmentQuarantine


# --- rows that were set aside ---------------------------------------------------------------------------------------


def letters_schema(recipe: BoundRecipe) -> pa.Schema:
    """The schema of the dead letters: the columns that were read, as they were, and why and where."""
    return pa.schema(
        [
            *(pa.field(n, recipe.schema.field(carried(n)).type) for n in recipe.reads),
            *(pa.field(n, pa.string()) for n in (REASON, TRANSFORM, COLUMN, FRAGMENT)),
            pa.field(ROW, pa.int64()),
        ]
    )


def dead_letters(rows: pa.RecordBatch, rejects: Sequence[Reject], schema: pa.Schema) -> pa.RecordBatch:
    """Rows that were set aside, one for each of `rejects`, in the schema that :func:`letters_schema` gives.

    The values are those of the carried columns where there are any, and of the columns themselves otherwise.
    """
    why = {
        REASON: pa.array([r.reason for r in rejects], pa.string()),
        TRANSFORM: pa.array([r.transform for r in rejects], pa.string()),
        COLUMN: pa.array([r.column for r in rejects], pa.string()),
    }
    there = set(rows.schema.names)
    arrays = [why[n] if n in why else rows.column(carried(n) if carried(n) in there else n) for n in schema.names]
    return _as_schema(arrays, schema)


def as_letters(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Rows that a model set aside, with the columns that say why, as dead letters."""
    there = set(rows.schema.names)
    arrays = []
    for name in schema.names:
        array = rows.column(carried(name) if carried(name) in there else name)
        # What carried columns are called is nobody's business.
        arrays.append(pc.replace_substring(array, CARRIED, "") if name in (REASON, COLUMN) else array)
    return _as_schema(arrays, schema)


def _as_schema(arrays: Sequence[pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    fitted = [a if a.type == f.type else a.cast(f.type) for a, f in zip(arrays, schema, strict=True)]
    return pa.RecordBatch.from_arrays(fitted, schema=schema)


# --- reading --------------------------------------------------------------------------------------------------------


@beam.typehints.with_output_types(pa.RecordBatch)
class ReadFeatures(beam.DoFn):  # type: ignore[misc]
    """Fragments in; batches of features out, what was read tagged ``read``, rows set aside tagged ``_rejected``.

    Parameters
    ----------
    recipe
        What becomes of the rows.
    only
        The names of the splits that are wanted; None: all rows.
    riding
        What is collected of the rows that are wanted, and which of them are taken out; tagged ``quality``.
    """

    def __init__(
        self, recipe: FeatureRecipe, only: Sequence[str] | None = None, riding: Riding | None = None
    ) -> None:
        self.recipe = recipe
        self.riding = riding
        self.only = None if only is None else tuple(only)
        self.aside = Metrics.counter("featuremill", "rows_aside_by_transforms")
        self.backends = BackendsTold()
        self.texts = TextsTold()

    def setup(self) -> None:
        self.bound = self.recipe.bound()
        self.letters = letters_schema(self.bound)

    def process(self, fragment: JobFragment) -> Iterator[Any]:
        read = left_out = 0
        riding = self.riding
        collected = None if riding is None else riding.collecting.only(RAW).begin()
        columns = list(dict.fromkeys([*self.bound.reads, *(riding.columns if riding else ())]))
        counts, memory = Counts(), None if fragment.memory is None else fragment.memory.opened()
        for batch in fragment.batches(columns, dictionary=self.bound.dictionary):
            wanted = self._wanted(fragment, numbered(batch, fragment.key, read))
            read += batch.num_rows
            left_out += batch.num_rows - wanted.num_rows
            if collected is not None:
                collected.update(RAW, wanted)
            if riding is not None and riding.screen is not None:
                wanted, taken = take_out(wanted, riding.screen.rejects(wanted))
                if taken.rejects:
                    yield TaggedOutput(READ, FragmentQuarantine(fragment.key, len(taken.rejects)))
                    yield TaggedOutput(REJECTED, dead_letters(taken.rows, taken.rejects, self.letters))
            if not wanted.num_rows:
                continue
            with nullcontext() if memory is None else memory.used(counts):
                made = self.bound.apply(wanted)
            if made.rejects:
                self.aside.inc(len(made.rejects))
                letters = dead_letters(made.rejected, made.rejects, self.letters)
                yield TaggedOutput(REJECTED, letters)
            if made.batch.num_rows:
                yield made.batch
        if memory is not None:
            memory.flush()
        self.texts.tell(counts)
        self.backends.tell(choices())
        fragment.note("score", read)
        yield TaggedOutput(READ, FragmentRead(fragment.key, read, fragment.source.rows, left_out))
        for placed in collected.partials() if collected is not None else ():
            yield TaggedOutput(QUALITY, placed)

    def _wanted(self, fragment: JobFragment, batch: pa.RecordBatch) -> pa.RecordBatch:
        split = fragment.split
        if split is None or self.only is None:
            return batch
        codes = split.codes(batch)
        return batch.filter(pa.array(np.isin(codes, [split.names.index(n) for n in self.only])))


# --- writing --------------------------------------------------------------------------------------------------------


class WriteBatches(beam.DoFn):  # type: ignore[misc]
    """Batches in; :class:`FragmentShard` out when a bundle ends.

    Parameters
    ----------
    sink
        Where they go.
    split
        What the shards are called in the manifest.
    schema
        What is written; batches have these columns, the ones of the source carried, and say where each row comes from.
    """

    def __init__(self, sink: RowSink, split: str, schema: pa.Schema) -> None:
        self.sink = sink
        self.split = split
        self.schema = schema
        self.written = Metrics.counter("featuremill", "rows_aside" if split == REJECTED else "rows_written")

    def setup(self) -> None:
        self._open: dict[str, _FragmentFile] = {}
        self._done: list[FragmentShard] = []

    def start_bundle(self) -> None:
        self._discard()

    def process(self, batch: pa.RecordBatch) -> None:
        for fragment, rows in by_fragment(batch):
            file = self._open.pop(fragment, None) or self._new(fragment)
            self._open[fragment] = file  # the one that was used last stands last
            there = set(rows.schema.names)
            arrays = [rows.column(carried(n) if carried(n) in there else n) for n in self.schema.names]
            file.write(_as_schema(arrays, self.schema), rows.column(ROW))
            if MODEL_VERSION in self.schema.names:
                file.count(rows.column(MODEL_VERSION))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for fragment in list(self._open):
            self._close(fragment)
        for item in self._done:
            self.written.inc(item.shard.rows)
            yield WindowedValue(item, MAX_TIMESTAMP, [GlobalWindow()])
        self._done = []

    def teardown(self) -> None:
        self._discard()

    def _new(self, fragment: str) -> _FragmentFile:
        if len(self._open) >= OPEN_FILES:
            self._close(next(iter(self._open)))
        return _FragmentFile(self.sink.attempt(fragment), self.split)

    def _close(self, fragment: str) -> None:
        file = self._open[fragment]
        self._done.append(FragmentShard(fragment, file.first, file.close(), dict(file.models)))
        del self._open[fragment]

    def _discard(self) -> None:
        """Forget a bundle that failed."""
        for file in self._open.values():
            file.discard()
        for item in self._done:
            self.sink.remove(item.shard)
        self._open, self._done = {}, []


class _FragmentFile:
    """One attempt, the lowest position of a row in it, and how many rows are whose."""

    def __init__(self, attempt: Attempt, split: str) -> None:
        self._attempt = attempt
        self._split = split
        self.first = -1
        self.models: Counter[str] = Counter()

    def write(self, batch: pa.RecordBatch, rows: pa.Array) -> None:
        lowest = pc.min(rows).as_py()
        self.first = lowest if self.first < 0 else min(self.first, lowest)
        self._attempt.write(self._split, batch)

    def count(self, versions: pa.Array) -> None:
        for found in pc.value_counts(versions).to_pylist():
            self.models[found["values"]] += found["counts"]

    def close(self) -> Shard:
        (shard,) = self._attempt.close()
        return shard

    def discard(self) -> None:
        self._attempt.discard()


def by_fragment(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows by the fragment that they are of; most batches are of one."""
    if not batch.num_rows:
        return
    keys = batch.column(FRAGMENT)
    names = keys.unique().to_pylist()
    for name in names:
        yield name, batch if len(names) == 1 else batch.filter(pc.equal(keys.cast(pa.string()), name))


# --- the results ----------------------------------------------------------------------------------------------------


class WriteResults(beam.PTransform):  # type: ignore[misc]
    """What was read and what was written in; one element out, when the list of results is in the staging folder."""

    def __init__(self, staging: Staging) -> None:
        super().__init__()
        self.path = staging.results

    def expand(self, facts: beam.PCollection[Fact]) -> beam.PCollection[str]:
        return facts | "List" >> beam.combiners.ToList() | "Write" >> beam.Map(_write_results, self.path)


def _write_results(facts: Iterable[Fact], path: str) -> str:
    return save_results(results_of(facts), path)


def results_of(facts: Iterable[Fact]) -> list[FragmentResult]:
    """What became of each fragment, in their order; its files in the order of their rows.

    Raises
    ------
    JobError
        When a fragment was read twice, or rows came of one that was never read to its end.

    >>> results_of([FragmentRead("00001", 3, 3, 0)])
    [FragmentResult(fragment='00001', read=3, promised=3, shards=(), left_out=0, models={}, quarantined=0)]
    """
    reads: dict[str, FragmentRead] = {}
    shards: dict[str, list[FragmentShard]] = {}
    quarantined: Counter[str] = Counter()
    for fact in facts:
        if isinstance(fact, FragmentQuarantine):
            quarantined[fact.fragment] += fact.rows
        elif isinstance(fact, FragmentShard):
            shards.setdefault(fact.fragment, []).append(fact)
        elif fact.fragment in reads:
            raise JobError(f"The fragment {fact.fragment} was read twice. Nothing was published.")
        else:
            reads[fact.fragment] = fact
    stray = sorted(set(shards) - set(reads))
    if stray:
        raise JobError(f"Rows of the fragment {stray[0]} were written, and it was not read. Nothing was published.")
    return [
        _result(r, shards.get(r.fragment, []), quarantined[r.fragment])
        for r in sorted(reads.values(), key=lambda r: r.fragment)
    ]


def _result(read: FragmentRead, shards: Sequence[FragmentShard], quarantined: int) -> FragmentResult:
    ordered = sorted(shards, key=lambda s: (s.first, s.shard.sha256))
    models: Counter[str] = Counter()
    for shard in shards:
        models.update(shard.models)
    files = tuple(s.shard for s in ordered)
    return FragmentResult(read.fragment, read.read, read.promised, files, read.left_out, dict(models), quarantined)

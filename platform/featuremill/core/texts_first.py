"""Distinct texts first: the texts of a whole table are embedded once each, before the pass that writes it.

::

    fragments ─► distinct texts, cut by hash ─► counted ─► embedded, a shard at a time ─► the job's scratch folder

The pass that writes then finds the vectors there, whichever fragment a text is in. That pays where texts come again and
again, since otherwise every worker embeds what others have embedded already; and it spreads the work evenly. Where
texts hardly repeat nothing is gained, and they are embedded as they come; unless there is a cache, which knows texts of
earlier jobs. The vectors are the same either way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.types as pt
from apache_beam.pvalue import AsDict, AsList

from featuremill.artifacts.carried import FolderFiles
from featuremill.artifacts.errors import FeaturemillError, MissingArtifactError
from featuremill.artifacts.store import is_url, open_store
from featuremill.artifacts.vector_files import embeddings_folder
from featuremill.core.backends import BackendsTold
from featuremill.core.job_fragment import JobFragment
from featuremill.core.jobfile import EmbeddingCache
from featuremill.core.texts_plan import STAGE, TextColumn, TextPlan, embedded_first
from featuremill.transforms.artifact_cache import once_per_process
from featuremill.transforms.combining import MergePartials
from featuremill.transforms.counts import Counts
from featuremill.transforms.embedding import EmbedText
from featuremill.transforms.onnx_backend import choices
from featuremill.transforms.partials import Placed, place
from featuremill.transforms.rejects import apply_or_reject
from featuremill.transforms.texts_told import TextsTold, texts_told
from featuremill.transforms.vector_memory import VectorMemory, keep, working_for

__all__ = ["TextsFirst", "after", "embedding_facts", "memory_of"]

TEXTS_AT_A_TIME = 16_384

SHARDS_PER_WORKER = 4
MOST_SHARDS = 64

_Key = tuple[str, int]
_Totals = tuple[int, int]


def memory_of(said: EmbeddingCache, root: str, scratch: str) -> VectorMemory:
    """The memory of a job.

    Parameters
    ----------
    said
        What the job file says of the cache.
    root
        Where its artifacts are.
    scratch
        A folder of the run's own.
    """
    place = None if said is False else embeddings_folder(root) if said is True else said
    if place is not None and not is_url(place):
        place = os.path.abspath(os.path.expanduser(place))
    return VectorMemory(scratch, place)


def after(
    fragments: beam.PCollection[JobFragment], plans: Sequence[TextPlan], memory: VectorMemory | None, place: str, *,
    workers: int,
) -> Any:  # fmt: skip
    """The fragments, when the vectors are there of all texts that are to be embedded first.

    Parameters
    ----------
    plans
        Of the job's columns of texts.
    memory
        The job's; None where there are no such columns.
    place
        See :class:`TextsFirst`.
    workers
        How many there are, as far as is known.
    """
    columns = [p.first for p in plans if p.first is not None]
    if not columns or memory is None:
        return fragments
    shards = min(MOST_SHARDS, SHARDS_PER_WORKER * workers)
    done = fragments | "Texts" >> TextsFirst(columns, memory, place, shards)
    wait = beam.Map(lambda fragment, _: fragment, AsList(done)).with_output_types(JobFragment)
    return fragments | "AfterTexts" >> wait


def embedding_facts(
    memory: VectorMemory, plans: Sequence[TextPlan], result: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Add what a job computed to the cache; what its record says of it, and what people should know."""
    warnings: tuple[str, ...] = ()
    kept = 0
    try:
        kept = sum(keep(memory).values())
    except FeaturemillError as error:
        warnings = (f"The vectors were not kept for later jobs: {error}",)
    counted = _counted(memory)
    columns = []
    for plan in plans:
        sizes = counted.get(plan.first.key, {}) if plan.first is not None else {}
        facts = plan.to_json()
        if sizes:
            facts |= {"when": "first" if sizes["first"] else "as they come"}
            facts |= {"texts": sizes["texts"], "distinct": sizes["distinct"]}
        columns.append(facts)
    return {"cache": memory.cache, **asdict(texts_told(result)), "kept": kept, "columns": columns}, warnings


class TextsFirst(beam.PTransform):  # type: ignore[misc]
    """Fragments in; the keys of columns out, when all vectors that are wanted first are in the scratch folder.

    Parameters
    ----------
    columns
        Whose texts.
    memory
        The job's.
    place
        The folder with the artifact's files.
    shards
        Into how many pieces the texts of a column are cut: the units of work.
    """

    def __init__(self, columns: Sequence[TextColumn], memory: VectorMemory, place: str, shards: int) -> None:
        super().__init__()
        self.columns = {c.key: c for c in columns}
        self.memory = memory
        self.place = place
        self.shards = shards

    def expand(self, fragments: beam.PCollection[JobFragment]) -> beam.PCollection[str]:
        analyzers = {key: Counts(c.column) for key, c in self.columns.items()}
        counted = (
            fragments
            | "Distinct" >> beam.ParDo(_Collect(self.columns, self.shards))
            | "Count" >> beam.CombinePerKey(MergePartials(analyzers))
        )
        totals = counted | "Sizes" >> beam.Map(_sizes) | "Total" >> beam.CombinePerKey(_add)
        told = totals | "Tell" >> beam.Map(_tell, self.memory)
        embed = beam.ParDo(_Embed(self.columns, self.place, self.memory), AsDict(told))
        return counted | "Embed" >> embed


class _Collect(beam.DoFn):  # type: ignore[misc]
    """The distinct texts of one fragment, and how often each occurs."""

    def __init__(self, columns: Mapping[str, TextColumn], shards: int) -> None:
        self.columns = dict(columns)
        self.shards = shards

    def process(self, fragment: JobFragment) -> Iterator[Placed]:
        names = list(dict.fromkeys(c.column for c in self.columns.values()))
        tallies = {name: Counts(name).accumulator() for name in names}
        rows = 0
        for batch in fragment.batches(names, dictionary=names):
            rows += batch.num_rows
            for name in names:
                tallies[name].update(batch.column(name))
        fragment.note(STAGE, rows)
        partials = {name: tally.partial() for name, tally in tallies.items()}
        for key, column in self.columns.items():
            yield from place(key, Counts(column.column), partials[column.column], self.shards)


def _sizes(counted: tuple[_Key, pa.Table]) -> tuple[str, _Totals]:
    (key, _), table = counted
    return key, (sum(table.column("count").to_numpy().tolist()), table.num_rows)


def _add(totals: Iterable[_Totals]) -> _Totals:
    found = list(totals)
    return sum(rows for rows, _ in found), sum(distinct for _, distinct in found)


def _tell(total: tuple[str, _Totals], memory: VectorMemory) -> tuple[str, bool]:
    """Whether the texts of a column are embedded first; left in the scratch folder for the job's record too."""
    key, (rows, distinct) = total
    first = embedded_first(rows, distinct, cached=memory.cache is not None)
    facts = {"texts": rows, "distinct": distinct, "first": first}
    open_store(memory.scratch).put(f"counted/{key}.json", json.dumps(facts).encode())
    return key, first


def _counted(memory: VectorMemory) -> dict[str, dict[str, Any]]:
    """What was counted, by the keys of columns: ``{texts, distinct, first}``."""
    store = open_store(memory.scratch)
    try:
        paths = store.list("counted")
    except MissingArtifactError:  # nothing was kept there
        return {}
    return {path.rpartition("/")[2].removesuffix(".json"): json.loads(store.get(path)) for path in paths}


class _Embed(beam.DoFn):  # type: ignore[misc]
    """The texts of one shard to vectors."""

    def __init__(self, columns: Mapping[str, TextColumn], place: str, memory: VectorMemory) -> None:
        self.columns = dict(columns)
        self.place = place
        self.memory = memory.in_first_pass
        self.texts = TextsTold()
        self.backends = BackendsTold()

    def process(self, counted: tuple[_Key, pa.Table], first: Mapping[str, bool]) -> Iterator[str]:
        (key, _), table = counted
        tokens = table.column("token")
        if not first[key] or pt.is_null(tokens.type):
            return
        op = self.columns[key].op
        prepared = once_per_process((self.place, self.memory, key), lambda: self._prepared(op, tokens.type))

        def embedded(batch: pa.RecordBatch) -> pa.RecordBatch:
            op.apply(batch, prepared)
            return batch

        with working_for(self.memory) as counts:
            for start in range(0, table.num_rows, TEXTS_AT_A_TIME):
                texts = tokens.slice(start, TEXTS_AT_A_TIME).combine_chunks()
                # Texts that cannot be embedded are the affair of the rows that have them.
                apply_or_reject(embedded, pa.record_batch([texts], list(op.columns)))
        self.texts.tell(counts)
        self.backends.tell(choices())
        yield key

    def _prepared(self, op: EmbedText, type_: pa.DataType) -> Any:
        schema = pa.schema([pa.field(name, type_) for name in op.columns])
        return op.prepare_with(FolderFiles(open_store(self.place)), {}, schema)


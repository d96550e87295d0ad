"""A score job that is ready to be run: its source opened, its artifact and models looked at, its plan made."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from featuremill.artifacts.errors import JobError, MissingColumnError, ParameterError, suggest
from featuremill.artifacts.names import split_reference
from featuremill.artifacts.reader import Artifact, load
from featuremill.artifacts.store import is_url
from featuremill.core.explain import at
from featuremill.core.feature_recipe import ARTIFACT_VERSION, CARRIED, FRAGMENT, ROW, FeatureRecipe, carried, reach
from featuremill.core.files import Place
from featuremill.core.job_run import JobRun, opened_split
from featuremill.core.jobfile import EmbeddingCache
from featuremill.core.models.groups import ByKey, Models, Shares
from featuremill.core.models.spec import ModelSpec
from featuremill.core.models.stamp import check_stamp
from featuremill.core.parquet_sink import stored_schema
from featuremill.core.quality.profiles.references import artifact_reference
from featuremill.core.quality.reports.learned import Learnt, what_was_learned
from featuremill.core.quality.run_quality import RunQuality
from featuremill.core.record import RunRecord
from featuremill.core.scorefile import ScoreJob
from featuremill.core.texts_plan import STAGE, TextPlan, plan_texts
from featuremill.jobs.score_models import at_model, each_model, model_facts, model_record
from featuremill.transforms.arrays import value_type
from featuremill.transforms.onnx_backend import models_of
from featuremill.transforms.plan import Plan
from featuremill.transforms.row_values import plain_type

if TYPE_CHECKING:
    from featuremill.core.dataset import Staging
    from featuremill.core.inference.planning import PlannedStep
    from featuremill.transforms.vector_memory import VectorMemory

__all__ = ["ScorePlan", "Scoring", "finish"]

RESERVED = (FRAGMENT, ROW, ARTIFACT_VERSION, "_reason", "_transform", "_column")
"""Names of columns that the job itself adds."""


@dataclass(frozen=True)
class ScorePlan:
    """What a job would do; nothing has run."""

    job: ScoreJob
    run: str
    source: Mapping[str, Any]
    """Paths, files, rows, bytes, digest."""
    fragments: int
    artifact: Mapping[str, Any]
    """``{reference, name, version, path}``; empty without one."""
    input_schema: pa.Schema
    """The columns of the source that are read."""
    features: tuple[Mapping[str, Any], ...]
    """What the models are given: ``{name, type, made_by}``; made_by None: as it is in the source."""
    models: tuple[Mapping[str, Any], ...]
    """``{name, step, path, framework, version, stamp, reads, inputs, outputs, makes}`` of each, in order."""
    texts: tuple[TextPlan, ...]
    """When the texts of each column that is embedded become vectors."""
    output_schema: pa.Schema
    made_by: Mapping[str, str | None]
    """Output column to what makes it; None: it is the source's."""
    predictions: str
    table: Mapping[str, Any] | None
    """The BigQuery table that they go to, how, and its columns."""
    warnings: tuple[str, ...]
    quality: Mapping[str, Any]
    """What is checked, and where; empty for an endless source."""

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-ready values."""
        return {
            "job": self.job.name,
            "kind": self.job.kind,
            "run": self.run,
            "source": dict(self.source),
            "fragments": self.fragments,
            "artifact": dict(self.artifact),
            "input": [{"name": f.name, "type": str(f.type)} for f in self.input_schema],
            "features": [dict(f) for f in self.features],
            "models": [dict(m) for m in self.models],
            "embeddings": [t.to_json() for t in self.texts],
            "output": [
                {"name": f.name, "type": str(f.type), "made_by": self.made_by[f.name]} for f in self.output_schema
            ],
            "predictions": self.predictions,
            "table": None if self.table is None else dict(self.table),
            "quality": dict(self.quality),
            "warnings": list(self.warnings),
        }


class Scoring(JobRun):
    """A score job with its source opened, its artifact and models looked at, and its plan made."""

    def __init__(self, job: ScoreJob, run_id: str | None) -> None:
        super().__init__(job, run_id, job.output.path)
        self.job = job
        schema = self.source.schema
        self.split = opened_split(job.split, schema) if job.split else None
        for key, columns in (("keys", job.output.keys), ("columns", job.output.columns)):
            with at("output", key):
                _check_there(columns, schema, f"output.{key}")
        self.artifact = self._artifact()
        self.stamps = self._check_stamps()
        self.steps = self._plan_models()
        self.recipe = FeatureRecipe(self._location(), schema, self._features(), self._kept())
        self.bound = self.recipe.bound()
        taken = [n for n in self.bound.reads if n in RESERVED]
        if taken:
            raise ParameterError(
                f"The column {taken[0]!r} cannot be read: the job uses the name itself. Rename it.", column=taken[0]
            )
        self.stored = stored_schema(self._output_schema(), self._predictions)
        self.quality = self._quality()
        if job.output.bigquery is not None:
            from featuremill.core.score_io import letters_schema

            self.open_table(job.output.bigquery, self.stored, None, letters_schema(self.bound))
        self.describe()
        self.texts = self._plan_texts()

    # --- what is asked for, and what there is -----------------------------------------------------------------------

    def _artifact(self) -> Artifact | None:
        if self.job.artifact is None:
            return None
        with at("artifact"):
            return load(self.job.artifact)

    def _location(self) -> str | None:
        """Where this very version lies, whatever its alias stands for later."""
        if self.artifact is None:
            return None
        place = self.artifact.location
        return place if is_url(place) else os.path.abspath(place)

    def _plan_models(self) -> list[PlannedStep]:
        from featuremill.core.inference.planning import MODEL_VERSION, plan_steps

        schema = self.source.schema
        made = [] if self.artifact is None else list(self.artifact.output_schema)
        fields = {f.name: f for f in (*schema, *made) if f.name not in (*RESERVED, MODEL_VERSION)}
        routing = [pa.field(carried(f.name), value_type(f.type)) for f in schema]
        available = [*(pa.field(f.name, plain_type(f.type)) for f in fields.values())]
        models = self.models
        used = {carried(c) for c in self._routing_columns()}
        with at_model(self.job):
            return plan_steps(models, pa.schema([*available, *(f for f in routing if f.name in used)]))

    @cached_property
    def models(self) -> ModelSpec | Models:
        """The job's models; rows are dealt out among them by columns as the source has them."""
        return self.routed(self.job.the_models)

    def routed(self, given: ModelSpec | Models) -> ModelSpec | Models:
        """Models with the names that the columns which deal out rows have when they are carried."""
        there = self.source.schema.names

        def by_carried(step: Any) -> Any:
            if isinstance(step, ByKey) and step.by in there:
                return step.model_copy(update={"by": carried(step.by)})
            if isinstance(step, Shares):
                by = [carried(c) if c in there else c for c in step.share_by]
                return step.model_copy(update={"share_by": by})
            return step

        found: Any = [by_carried(step) for step in given] if isinstance(given, list) else by_carried(given)
        return cast(ModelSpec | Models, found)

    def _routing_columns(self) -> list[str]:
        """The columns of the source by which rows are dealt out among models."""
        given = self.job.the_models
        found: list[str] = []
        for step in given if isinstance(given, list) else [given]:
            found += [step.by] if isinstance(step, ByKey) else step.share_by if isinstance(step, Shares) else []
        return [c for c in dict.fromkeys(found) if c in self.source.schema.names]

    @property
    def _predictions(self) -> list[str]:
        return [name for step in self.steps for name in step.columns.names]

    def _features(self) -> tuple[str, ...]:
        """The columns that the models read, without those that models before them make."""
        reads = dict.fromkeys(c for step in self.steps for model in step.planned for c in model.reads)
        return tuple(c for c in reads if c not in self._predictions and not c.startswith(CARRIED))

    def _kept(self) -> tuple[str, ...]:
        output = self.job.output
        by = self.split.by if self.split else ()
        return tuple(dict.fromkeys((*output.keys, *output.columns, *self._routing_columns(), *by)))

    def _output_schema(self) -> pa.Schema:
        from featuremill.core.inference.planning import MODEL_VERSION
        from featuremill.core.inference.predictions import VERSIONS

        output, schema = self.job.output, self.source.schema
        for key, names in (("keys", output.keys), ("columns", output.columns)):
            taken = [n for n in names if n in (MODEL_VERSION, ARTIFACT_VERSION)]
            if taken:
                raise ParameterError(
                    f"output.{key}: {taken[0]!r} is what a column of versions is called. Rename the source's.",
                    key=("output", key), column=taken[0],
                )
        return pa.schema(
            [
                *(pa.field(n, value_type(schema.field(n).type)) for n in (*output.keys, *output.columns)),
                *(f for step in self.steps for f in step.columns),
                pa.field(MODEL_VERSION, VERSIONS),
                pa.field(ARTIFACT_VERSION, VERSIONS),
            ]
        )

    def _plan_texts(self) -> tuple[TextPlan, ...]:
        if self.artifact is None or self.job.source.arriving is not None:
            return ()
        plan = Plan(self.artifact.transforms)
        return plan_texts(
            plan.transforms, self.fragments, rows=self.described["rows"], only=reach(plan, self._features())[0],
            cached=self._cache_wanted is not False, alone=self.job.runner.mode == "in_memory",
        )  # fmt: skip

    @property
    def _cache_wanted(self) -> EmbeddingCache:
        """What the job says; where it says nothing, not beside an artifact that lies alone or cannot be written to."""
        said, root = self.job.embedding_cache, self.artifact_facts().get("root")
        if said is not True:
            return said
        return root is not None and (is_url(root) or os.access(os.path.expanduser(root), os.W_OK))

    def _memory(self, staging: Staging) -> VectorMemory | None:
        """Where vectors are that need not be computed; None where there are none in the job."""
        from featuremill.core.texts_first import memory_of

        if not self.texts or self.artifact is None:
            return None
        root = str(self.artifact_facts().get("root"))
        return memory_of(self._cache_wanted, root, staging.path / "embeddings")

    def _check_stamps(self) -> dict[str, str]:
        """By path, the artifact that each stamped model was trained with; it is the job's."""
        found: dict[str, str] = {}
        for key, _, spec in each_model(self.job.the_models):
            with at(*key):
                stamp = check_stamp(spec, self.artifact)
            if stamp is not None and spec.path is not None:
                found[spec.path] = f"{stamp.artifact}@{stamp.version}"
        return found

    def _quality(self) -> RunQuality | None:
        """The checks, and the profiles beside those of the rows that the artifact was fitted on."""
        own = None
        if self.artifact is not None and self.job.quality.profile:
            name = self.job.artifact or self.artifact.name
            asked = self.job.quality.drift.against == "artifact"
            with at("quality", "drift", "against"):
                own = artifact_reference(self.artifact, f"{name} ({self.artifact.version})", needed=asked)
        made = [self.stored.field(name) for name in self._predictions]
        return RunQuality(
            self.job.quality,
            run=self.name,
            folder=self.job.output.path,
            raw=self.source.schema,
            output=self.stored,
            reads=self.bound.reads,
            makes=pa.schema([*self.bound.feature_schema, *made]),
            own=own,
            inputs=self.bound.inputs,
        )

    # --- the plan ---------------------------------------------------------------------------------------------------

    @property
    def plan(self) -> ScorePlan:
        return ScorePlan(
            job=self.job,
            run=self.name,
            source=self.described,
            fragments=len(self.fragments),
            artifact=self.artifact_facts(),
            input_schema=pa.schema([self.source.schema.field(n) for n in self.bound.reads]),
            features=self._feature_facts(),
            models=self.stamped(model_facts(step, model) for step in self.steps for model in step.planned),
            texts=self.texts,
            output_schema=self.stored,
            made_by=self.made_by_column(),
            predictions=Place(self.job.output.path) / self.name,
            table=self.table.describe() if self.table else None,
            warnings=(),
            quality={} if self.quality is None else self.quality.plan(),
        )

    def artifact_facts(self) -> dict[str, Any]:
        if self.artifact is None or self.job.artifact is None:
            return {}
        facts: dict[str, Any] = {
            "reference": self.job.artifact,
            "name": self.artifact.name,
            "version": self.artifact.version,
            "path": self.artifact.location,
        }
        if "@" in self.job.artifact:
            facts["root"], _, wanted = split_reference(self.job.artifact)
            facts["alias"] = wanted if wanted != self.artifact.version else None
        return facts

    def _feature_facts(self) -> tuple[dict[str, Any], ...]:
        made: dict[str, str] = {}
        for transform in self.artifact.transforms if self.artifact else ():
            made.update(dict.fromkeys(transform.output_names, transform.type_name))
        return tuple(
            {"name": f.name, "type": str(f.type), "made_by": made.get(f.name)} for f in self.bound.feature_schema
        )

    def stamped(self, models: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
        return tuple({**model, "stamp": self.stamps.get(model["path"])} for model in models)

    def made_by_column(self) -> dict[str, str | None]:
        made: dict[str, str | None] = dict.fromkeys(self.stored.names)
        for step in self.steps:
            made.update(dict.fromkeys(step.columns.names, ", ".join(m.name for m in step.planned)))
        made.update(dict.fromkeys(self.stored.names[-2:], "the job"))
        return made

    # --- the run ----------------------------------------------------------------------------------------------------

    @property
    def progress_stages(self) -> list[str]:
        return [*([STAGE] if any(t.first for t in self.texts) else []), "score"]

    @property
    def reads(self) -> list[Sequence[str]]:
        """The columns that features, models and the output take, those that deal out the rows, and those checked."""
        checked = () if self.quality is None else self.quality.columns
        return [list(dict.fromkeys([*self.bound.reads, *checked]))]

    def run_pipeline(self, staging: Staging, beam_options: Sequence[str]) -> None:
        import apache_beam as beam

        from featuremill.core.dataset import REJECTED
        from featuremill.core.inference.steps import Score
        from featuremill.core.job_fragment import JobFragment
        from featuremill.core.quality.statistics.collecting import QUALITY
        from featuremill.core.quality.statistics.combine import combine_quality
        from featuremill.core.runner import pipeline_options, run_pipeline
        from featuremill.core.score_checks import CheckBatches
        from featuremill.core.score_io import (
            PREDICTIONS,
            READ,
            ReadFeatures,
            WriteBatches,
            WriteResults,
            as_letters,
            letters_schema,
        )
        from featuremill.core.texts_first import after

        memory, schema = self._memory(staging), self.source.schema
        fragments = [JobFragment(f, schema, self.split, staging.progress, None, memory) for f in self.fragments]
        letters = letters_schema(self.bound)
        riding = None if self.quality is None else self.quality.riding(len(fragments))
        sink = self.sink(staging, self.job.output.compression)
        reader = ReadFeatures(self.recipe, self.job.split.only if self.job.split else None, riding)

        def build(pipeline: beam.Pipeline) -> Any:
            created = pipeline | "Fragments" >> beam.Create(fragments, reshuffle=True)
            read = (
                after(created, self.texts, memory, self._location() or "", workers=self.job.runner.threads)
                | "Features" >> beam.ParDo(reader).with_outputs(READ, REJECTED, QUALITY, main="features")
            )
            scored, rejected = read.features | "Models" >> Score(self.models, self.bound.schema, steps=self.steps)
            facts, letters_of = [read[READ]], [read[REJECTED], rejected | "Letters" >> beam.Map(as_letters, letters)]
            if riding is not None:
                makes = [*self.bound.feature_schema.names, *self._predictions]
                check = beam.ParDo(CheckBatches(riding, self.stored.names, makes, letters))
                checked = scored | "Check" >> check.with_outputs(READ, REJECTED, QUALITY, main="scored")
                scored, facts, letters_of = (
                    checked.scored, [*facts, checked[READ]], [*letters_of, checked[REJECTED]]
                )
                collected = (read[QUALITY], checked[QUALITY]) | "Collected" >> beam.Flatten()
                combine_quality(collected, riding.collecting, staging.quality)
            aside = letters_of | "Aside" >> beam.Flatten()

            def written(rows: Any, split: str, schema: pa.Schema) -> Any:
                return rows | f"Write {split}" >> beam.ParDo(WriteBatches(sink, split, schema))

            files = (written(scored, PREDICTIONS, self.stored), written(aside, REJECTED, letters))
            return (*facts, *files) | "Facts" >> beam.Flatten() | "Results" >> WriteResults(staging)

        self.result = run_pipeline(pipeline_options(self.job.runner, beam_options), build)

    def commit(self, staging: Staging) -> RunRecord:
        from featuremill.core.backends import MODELS, backends_of
        from featuremill.core.dataset import REJECTED, commit
        from featuremill.core.texts_first import embedding_facts

        results = staging.load_results()
        self.look(staging, results, self._learned())
        rows = self.account(staging, results, self.job.max_bad_rows)
        if not rows.written and not rows.aside:
            raise JobError("The job has no rows to score. Check the source, its filter and the splits in only.")
        wrong = self.pass_gates(rows)
        letters = self.letters(results)
        counts: Counter[str] = Counter()
        for result in results:
            counts.update(result.models)
        memory = self._memory(staging)
        embeddings, told = ({}, ()) if memory is None else embedding_facts(memory, self.texts, self.result)
        artifact, models = self.artifact_facts(), self.stamped(model_record(self.steps, counts, self.result))
        with self.timed("commit"):
            commit(
                staging,
                results,
                self.stored,
                {
                    "run": self.name,
                    "job": self.job.name,
                    "artifact": artifact,
                    "models": [{k: m[k] for k in ("name", "path", "version")} for m in models],
                    "source": dict(self.described),
                    "split": self.job.split.model_dump() if self.job.split else None,
                    **({"table": self.table.describe()} if self.table else {}),
                },
                only_aside=self.table is not None,
            )
        made_by = self.made_by_column()
        record = self.record(
            status="done",
            rows=rows,
            dataset=staging.final,
            table=self.table.name if self.table else None,
            dead_letters=staging.final / REJECTED if rows.aside else None,
            artifact=artifact,
            features=tuple({"name": f.name, "type": str(f.type), "made_by": made_by[f.name]} for f in self.stored),
            models=models,
            embeddings=embeddings,
            warnings=(*wrong, *told),
            backends=(
                *backends_of(self.result, models_of(self.artifact.transforms if self.artifact else ())),
                *backends_of(self.result, {str(m["path"]) for m in models}, MODELS),
            ),
        )
        return self.publish(staging, results, letters, self.report(staging, record), finish)

    def _learned(self) -> Learnt:
        """What the artifact knows."""
        if self.artifact is None:
            return Learnt()
        plan = Plan(self.artifact.transforms)
        return what_was_learned(plan.transforms, plan.slots, self.artifact.states)


def finish(staging: Staging, record: RunRecord, _then: Mapping[str, Any]) -> None:
    """Publish a run whose rows were committed."""
    from featuremill.core.dataset import publish_run

    publish_run(staging, record.to_json())


def _check_there(columns: Sequence[str], schema: pa.Schema, place: str) -> None:
    for column in columns:
        if column not in schema.names:
            raise MissingColumnError(
                f"{place}: the source has no column {column!r}. {suggest(column, schema.names)}", column=column
            )

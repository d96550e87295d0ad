"""What people read of score jobs and models on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featuremill.jobs.render import (
    Block,
    Heading,
    Line,
    Table,
    bytes_text,
    command,
    next_commands,
    record_blocks,
    seconds_text,
    source_lines,
    table_rows,
    texts_blocks,
    type_text,
    warning_blocks,
)

if TYPE_CHECKING:
    from featuremill.core.record import RunRecord
    from featuremill.jobs.flights_models import Trained
    from featuremill.jobs.flights_neighbours import Neighbour
    from featuremill.jobs.scoring import ScorePlan

__all__ = ["model_blocks", "neighbour_blocks", "score_plan_blocks", "scored_demo_blocks"]


def score_plan_blocks(plan: ScorePlan, job_file: str, overrides: Sequence[str] = ()) -> list[Block]:
    """What a score job would do."""
    from featuremill.jobs.render_quality import quality_blocks

    job = plan.job
    blocks: list[Block] = [Heading(f"{job.name}: what it would do (nothing has run)")]
    blocks += [Heading("Source"), *source_lines(plan.source, plan.fragments)]
    where = getattr(job.source.given, "where", None)
    if where:
        blocks.append(Line(f"only rows where {where}"))
    if job.split:
        of = ", ".join(job.split.shares)
        blocks.append(Line(f"only {', '.join(job.split.only)} of the splits {of}, by {', '.join(job.split.by)}"))
    if plan.artifact:
        facts = plan.artifact
        rows = [["artifact", str(facts["reference"])], ["version", str(facts["version"])]]
        blocks += [Heading("Artifact"), Table(rows)]
    blocks += [
        Heading(f"Columns read ({len(plan.input_schema)})"),
        Table([[f.name, str(f.type)] for f in plan.input_schema], ("name", "type")),
        Heading(f"Features used ({len(plan.features)})"),
        Table(
            [[f["name"], f["type"], f["made_by"] or "the source"] for f in plan.features], ("name", "type", "made by")
        ),
        Heading(f"Models ({len(plan.models)})"),
    ]
    for model in plan.models:
        blocks += _planned_model(model)
    blocks += [
        *texts_blocks(plan.texts),
        Heading(f"Columns out ({len(plan.output_schema)})"),
        Table(
            [[f.name, type_text(f.type), plan.made_by.get(f.name) or "the source"] for f in plan.output_schema],
            ("name", "type", "made by"),
        ),
        Heading("Results"),
        Table([["predictions", plan.predictions], *table_rows(plan.table)]),
    ]
    blocks += quality_blocks(plan.quality, "score")
    blocks += warning_blocks(plan.warnings)
    sets = [word for override in overrides for word in ("--set", override)]
    return [*blocks, Heading("Next"), Line(command("featuremill", "run", job_file, *sets))]


def _planned_model(model: Mapping[str, Any]) -> list[Block]:
    version = model["version"] or "known when it runs"
    rows = [
        [str(model["name"]), f"{model['framework']}, version {version}"],
        ["", str(model["path"])],
        ["reads", ", ".join(model["reads"])],
        ["trained with", model["stamp"] or "(no stamp says which artifact)"],
    ]
    rows += [["input", tensor_text(t)] for t in model["inputs"]]
    rows += [["output", tensor_text(t)] for t in model["outputs"]]
    rows.append(["makes", ", ".join(f"{c['name']} ({c['type']})" for c in model["makes"])])
    return [Table(rows)]


def tensor_text(tensor: Mapping[str, Any]) -> str:
    """An input or output of a model, in words.

    >>> tensor_text({"name": "x", "dtype": "float32", "shape": [20]})
    'x: float32, rows of shape (20)'
    >>> tensor_text({"name": "label", "dtype": None, "shape": []})
    'label: one value for each row'
    """
    shape = tensor["shape"]
    rows = ""
    if shape is not None:
        inner = ", ".join("any" if n is None else str(n) for n in shape)
        rows = f"rows of shape ({inner})" if shape else "one value for each row"
    facts = ", ".join(part for part in (tensor["dtype"], rows) if part)
    return f"{tensor['name']}: {facts}" if facts else str(tensor["name"])


def model_blocks(facts: Mapping[str, Any]) -> list[Block]:
    """A model's file: what it is, what it takes and gives, and what it was trained with."""
    rows = [
        ["framework", str(facts["framework"])],
        ["size", bytes_text(facts["bytes"])],
        ["sha256", str(facts["sha256"])],
        ["version", str(facts["version"])],
    ]
    rows += [["columns", ", ".join(facts["columns"])]] if facts["columns"] else []
    rows += [["input", tensor_text(t)] for t in facts["inputs"]]
    rows += [["output", tensor_text(t)] for t in facts["outputs"]]
    blocks: list[Block] = [Heading(str(facts["path"])), Table(rows)]
    stamp = facts["stamp"]
    if stamp is None:
        return [*blocks, Heading("Stamp"), Line("none: nothing says which artifact it was trained with")]
    return [*blocks, Heading("Stamp"), Table([[str(k), str(v)] for k, v in stamp.items()])]


def neighbour_blocks(found: Mapping[str, Sequence[Neighbour]]) -> list[Block]:
    """Which texts mean most alike."""
    rows = [[name, ", ".join(f"{n.name} {n.cosine:.2f}" for n in near)] for name, near in found.items()]
    header = ("airport", "nearest, with the cosine")
    return [Heading("Airports whose names mean most alike, by their vectors"), Table(rows, header)]


def scored_demo_blocks(
    prepared: RunRecord, trained: Sequence[Trained], scored: RunRecord, areas: Mapping[str, float], job_file: str
) -> list[Block]:
    """What the demo's models were trained on, what their predictions are worth and where they are.

    Parameters
    ----------
    areas
        By column of predictions, the area under the ROC curve.
    job_file
        Of the score job.
    """
    rows = [[m.name, m.what, f"{m.rows:,}", seconds_text(m.seconds), m.path] for m in trained]
    header = ("model", "what", "rows", "trained in", "file")
    blocks: list[Block] = [Heading("Models"), Table(rows, header, frozenset({2}))]
    artifact = f"{prepared.artifact['name']}@{prepared.artifact['version']}"
    blocks.append(Line(f"Each is stamped: trained with {artifact}. A score job with another artifact refuses it."))
    blocks += record_blocks(scored, advise=False)
    count = scored.rows.written if scored.rows else 0
    blocks += [
        Heading(f"How well late flights are told from others, on {count:,} flights that no model was trained on"),
        Table([[name, f"{area:.3f}"] for name, area in areas.items()], ("column", "AUC"), frozenset({1})),
        Line("1 is perfect, 0.5 is chance"),
    ]
    steps = [command("featuremill", "models", "show", trained[0].path)] if trained else []
    steps += [command("featuremill", verb, job_file) for verb in ("plan", "run")]
    steps += [*next_commands(prepared)[:1], *next_commands(scored)]
    return [*blocks, Heading("Next"), *(Line(step) for step in steps)]

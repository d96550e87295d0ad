"""What people read on the terminal of checks: in plans, and of jobs that only report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featuremill.jobs.render import Block, Heading, Line, Table, command, count_text, source_lines

if TYPE_CHECKING:
    from featuremill.jobs.report import ReportPlan

__all__ = ["quality_blocks", "report_plan_blocks"]

SIDES = {
    "prepare": {"raw": "the rows as they are read", "output": "the transformed rows"},
    "score": {"raw": "the rows as they are read", "output": "the predictions"},
    "report": {"raw": "the rows"},
}
GATES = {
    "stop": "nothing is published when a critical check fails",
    "warn": "a critical check that fails is told, and the run goes on",
    "quarantine": "rows that fail a critical check are set aside; what cannot be told of single rows stops the run",
}


def quality_blocks(quality: Mapping[str, Any], kind: str) -> list[Block]:
    """What is checked and profiled, on which rows, and what becomes of a failure."""
    if not quality:
        return []
    rows = [_suite_row(suite, kind) for suite in quality["suites"]]
    blocks: list[Block] = [Heading(f"Checks ({sum(s['expectations'] for s in quality['suites'])})")]
    if rows:
        blocks.append(Table(rows, ("suite", "checks", "on", "columns")))
        blocks.append(Line(GATES[quality["on_failure"]]))
    contract = quality.get("schema")
    if contract:
        blocks.append(Line(f"schema contract: {contract}"))
    profiled = [count_text(n, f"{name} column") for name, n in quality["profiled"].items() if n]
    if profiled:
        against = f", compared with {quality['against']}" if quality["against"] else ""
        blocks.append(Line(f"profiled: {' and '.join(profiled)}{against}"))
    return [*blocks, Line("they ride on the pass that is made anyway" if kind != "report" else "in one pass")]


def _suite_row(suite: Mapping[str, Any], kind: str) -> list[str]:
    severities = ", ".join(f"{n} {severity}" for severity, n in suite["severities"].items())
    return [str(suite["where"]), severities, SIDES[kind][suite["on"]], ", ".join(suite["columns"])]


def report_plan_blocks(plan: ReportPlan, job_file: str, overrides: Sequence[str] = ()) -> list[Block]:
    """What a report job would look at."""
    job = plan.job
    blocks: list[Block] = [Heading(f"{job.name}: what it would do (nothing has run)")]
    blocks += [Heading("Source"), *source_lines(plan.source, plan.fragments)]
    if plan.source.get("where"):
        blocks.append(Line(f"only rows where {plan.source['where']}"))
    blocks += [
        Heading(f"Columns ({len(plan.input_schema)})"),
        Table([[f.name, str(f.type)] for f in plan.input_schema], ("name", "type")),
        *quality_blocks(plan.quality, "report"),
        Heading("Results"),
        Table([["report", f"{plan.report}/report"]]),
    ]
    sets = [word for override in overrides for word in ("--set", override)]
    return [*blocks, Heading("Next"), Line(command("featuremill", "run", job_file, *sets))]

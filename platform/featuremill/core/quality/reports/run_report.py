"""From what a run found out about its data, and its record, to its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featuremill.core.quality.profiles.profile import Profile
from featuremill.core.quality.reports.learned import Learnt
from featuremill.core.quality.reports.report import CheckResult, ProfileSection, Report, ReportRows, SchemaFinding
from featuremill.core.record import RunRecord

__all__ = ["Found", "report_of"]


@dataclass(frozen=True)
class Found:
    """What a run found out about its data."""

    checks: tuple[CheckResult, ...] = ()
    taken_out: frozenset[int] = frozenset()
    """The positions in `checks` of those whose failing rows were taken out."""
    findings: tuple[SchemaFinding, ...] = ()
    profiles: tuple[ProfileSection, ...] = ()
    previous: Report | None = None
    docs: str | None = None
    """The first page of Great Expectations' own, relative to the report."""
    warnings: tuple[str, ...] = ()
    closed: str = ""
    """Why a gate closed; empty where none did."""

    @property
    def counts(self) -> dict[str, int]:
        """``{passed, failed, gating}``; empty where nothing was checked."""
        if not self.checks:
            return {}
        failed = sum(not c.success for c in self.checks)
        gating = sum(c.gates for i, c in enumerate(self.checks) if i not in self.taken_out)
        return {"passed": len(self.checks) - failed, "failed": failed, "gating": gating}

    def profile(self, name: str) -> Profile | None:
        """The profile of the rows as they were read (raw) or written (output)."""
        return next((s.profile for s in self.profiles if s.name == name), None)


def report_of(record: RunRecord, found: Found, on_failure: str, learned: Learnt) -> Report:
    """The report of a run whose rows are accounted for."""
    rows, went_wrong = record.rows, record.status == "failed"
    assert rows is not None  # by what this says
    failed = bool(found.counts.get("gating")) or any(f.severity == "critical" for f in found.findings)
    status: Literal["passed", "failed", "stopped"] = "passed"
    if went_wrong and record.kind != "report":
        status = "stopped"
    elif went_wrong or failed:
        status = "failed"
    # The report is one folder below the run's.
    links = {"run record": "../run.json"}
    links |= {"dataset": ".."} if record.dataset else {}
    links |= {"dead letters": "../_rejected"} if record.dead_letters else {}
    links |= {"data docs": found.docs} if found.docs else {}
    return Report(
        run=record.run,
        job=record.job,
        kind=record.kind,
        status=status,
        started=record.started,
        seconds=record.seconds,
        rows=ReportRows(rows.source, rows.filtered, rows.written, rows.aside, rows.quarantined),
        summary=found.closed or record.error or "",
        checks=found.checks,
        findings=found.findings,
        profiles=found.profiles,
        vocabularies=learned.vocabularies,
        learned=learned.values,
        warnings=tuple(record.warnings),
        on_failure=on_failure,
        source=record.source,
        artifact=record.artifact,
        splits=record.splits,
        versions=record.versions,
        links=links,
    )

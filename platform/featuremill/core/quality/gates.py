"""Gates: what was found wrong, and whether a run may publish its results nevertheless."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from featuremill.artifacts.errors import JobError
from featuremill.core.quality.profiles.drift import ColumnDrift
from featuremill.core.quality.reports.report import CheckResult, ProfileSection, SchemaFinding

__all__ = ["QualityFailed", "check_reasons", "drift_reasons", "schema_reasons"]

MOST_TOLD = 3


class QualityFailed(JobError):
    """A gate closed: the data are not as they must be, and nothing was published."""


def check_reasons(checks: Sequence[CheckResult], taken_out: Collection[int] = ()) -> list[str]:
    """What critical checks failed, in a sentence; empty where none did.

    Parameters
    ----------
    checks
        The results.
    taken_out
        The positions of those whose failing rows were taken out, and which hold for the rest.

    >>> check = CheckResult("raw", "expect_column_values_to_not_be_null", ("x",), False, unexpected=3)
    >>> check_reasons([check])
    ['1 critical check failed: expect_column_values_to_not_be_null(x) in 3 rows.']
    >>> check_reasons([check], taken_out={0})
    []
    """
    failed = [_told(check) for i, check in enumerate(checks) if check.gates and i not in taken_out]
    return _reason(failed, "critical check", "failed")


def schema_reasons(findings: Sequence[SchemaFinding]) -> list[str]:
    """Which columns break the schema contract, in a sentence."""
    broken = [f"{f.column}: {f.message.rstrip('.')}" for f in findings if f.severity == "critical"]
    return _reason(broken, "column", "broke the schema")


def drift_reasons(profiles: Sequence[ProfileSection]) -> list[str]:
    """Which columns drifted, in a sentence for each table."""
    found = []
    for section in profiles:
        drifted = [_drift(d) for d in section.drift if d.verdict == "drifted"]
        found += _reason(drifted, f"{section.name} column", f"drifted from {section.reference_name}")
    return found


def _reason(found: Sequence[str], what: str, did: str) -> list[str]:
    if not found:
        return []
    more = f"; and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
    return [f"{len(found)} {what}{'s' if len(found) > 1 else ''} {did}: {'; '.join(found[:MOST_TOLD])}{more}."]


def _told(check: CheckResult) -> str:
    name = f"{check.expectation}({', '.join(check.columns)})"
    if check.error:
        return f"{name} could not be judged: {check.error.rstrip('.')}"
    if check.unexpected:
        return f"{name} in {check.unexpected:,} row{'s' if check.unexpected > 1 else ''}"
    return name if check.observed is None else f"{name}, observed {check.observed}"


def _drift(drift: ColumnDrift) -> str:
    reason = drift.reason.rstrip(".")
    return f"{drift.column} ({reason[:1].lower()}{reason[1:]})" if reason else drift.column


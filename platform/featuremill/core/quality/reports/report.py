"""What one run found out about its data: the content of the report, as plain data.

The page, the Markdown, the terminal summary and ``report.json`` all show this and nothing else. It holds aggregates
and a few sample rows, never a table; so it is small however large the data is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, time
from functools import cache
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter

from featuremill.core.quality.kept_json import from_kept_json
from featuremill.core.quality.profiles.drift import ColumnDrift
from featuremill.core.quality.profiles.profile import Profile

__all__ = [
    "REPORT_FORMAT",
    "Change",
    "CheckResult",
    "Learned",
    "LearnedVocabulary",
    "PreviousRun",
    "ProfileSection",
    "Report",
    "ReportRows",
    "SchemaFinding",
]

REPORT_FORMAT = 1
"""Goes up when a reader of older reports would misread a new one."""

Severity: TypeAlias = Literal["critical", "warning", "info"]
Mood: TypeAlias = Literal["good", "bad", ""]


@dataclass(frozen=True)
class ReportRows:
    """Where every row of the source went.

    >>> ReportRows(source=10, filtered=1, written=6, aside=3, quarantined=2).aside
    3
    """

    source: int
    """Rows that the source has."""
    filtered: int = 0
    """Rows that the job's filter, or its choice of splits, left out."""
    written: int = 0
    """Rows in the dataset, or with a prediction; none for a job that only reports."""
    aside: int = 0
    """Rows in the dead letters for any reason."""
    quarantined: int = 0
    """How many of those set aside failed a check."""


@dataclass(frozen=True)
class CheckResult:
    """What became of one expectation."""

    suite: str
    """On which rows: ``raw`` (as they were read) or ``output`` (as they were written)."""
    expectation: str
    """Its type, say ``expect_column_values_to_be_between``."""
    columns: tuple[str, ...]
    """The columns that it is about; none for one about the whole table."""
    success: bool
    description: str = ""
    """A sentence for people; without one the page says the type and the parameters."""
    severity: Severity = "critical"
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Its parameters besides the columns."""
    observed: Any = None
    """The observed value, for expectations that have one."""
    elements: int | None = None
    """Rows that it looked at, nulls included."""
    unexpected: int | None = None
    """Rows that fail it."""
    unexpected_percent: float | None = None
    """Of the rows that it looked at, without those that it skips; 0 to 100."""
    samples: tuple[Mapping[str, Any], ...] = ()
    """Some of the rows that fail it: their key columns and the columns that it is about."""
    notes: tuple[str, ...] = ()
    """What to know about the result, say the error bound of a distinct count that is estimated."""
    error: str | None = None
    """Why it could not be evaluated."""

    @property
    def gates(self) -> bool:
        """Whether it is a failure that can stop a run: of those, only critical ones do."""
        return not self.success and self.severity == "critical"


@dataclass(frozen=True)
class SchemaFinding:
    """Where the source's columns are not those of the schema contract."""

    column: str
    message: str
    """What is not as expected, and what was done about it."""
    severity: Severity = "warning"


@dataclass(frozen=True)
class ProfileSection:
    """The columns of one table, beside a reference."""

    name: str
    """``raw`` (as they were read) or ``output`` (as they were written)."""
    profile: Profile
    reference: Profile | None = None
    """What it is compared with; the charts show both."""
    reference_name: str = ""
    """Where the reference comes from, in words: a version of an artifact, or a run."""
    drift: tuple[ColumnDrift, ...] = ()


@dataclass(frozen=True)
class LearnedVocabulary:
    """A vocabulary in the artifact."""

    column: str
    transform: str
    size: int
    top: tuple[tuple[str, int], ...] = ()
    """The most frequent tokens with their counts."""


@dataclass(frozen=True)
class Learned:
    """Numbers in the artifact: the mean and the deviation of a scaling, boundaries of buckets and the like."""

    column: str
    transform: str
    values: Mapping[str, Any]
    """By name: a number, a text, or a list of numbers."""


@dataclass(frozen=True)
class Change:
    """Something that is not as it was in the previous run. :mod:`.report_changes` finds them.

    `kind` is rows, check, column, type, nulls or version.
    """

    kind: str
    what: str
    """The subject: a column, a check, a count."""
    before: str
    after: str
    mood: Mood = ""


@dataclass(frozen=True)
class PreviousRun:
    """The run before this one, and what has changed since."""

    run: str
    started: str
    status: str
    rows: ReportRows | None = None
    changes: tuple[Change, ...] = ()
    link: str | None = None
    """Its page, relative to this one, where it has one."""


@dataclass(frozen=True)
class Report:
    """The whole content of a report.

    Texts in it are shown as they are, escaped; numbers are rounded only where they are shown.
    """

    run: str
    job: str
    kind: str
    """``prepare``, ``score`` or ``report``."""
    status: Literal["passed", "failed", "stopped"]
    """failed: a check that gates failed, and the run went on (``on_failure: warn``) or only looked. stopped: a gate
    closed, and nothing was published."""
    started: str
    """ISO 8601, UTC."""
    seconds: float
    rows: ReportRows
    summary: str = ""
    """Why it failed or stopped, in a sentence."""
    checks: tuple[CheckResult, ...] = ()
    findings: tuple[SchemaFinding, ...] = ()
    profiles: tuple[ProfileSection, ...] = ()
    vocabularies: tuple[LearnedVocabulary, ...] = ()
    learned: tuple[Learned, ...] = ()
    previous: PreviousRun | None = None
    warnings: tuple[str, ...] = ()
    on_failure: str = "stop"
    source: Mapping[str, Any] = field(default_factory=dict)
    """The source as it was described: paths, files, rows, bytes, digest."""
    artifact: Mapping[str, Any] = field(default_factory=dict)
    """``{root, name, version, path, alias, reference}``."""
    splits: Mapping[str, int] = field(default_factory=dict)
    """Rows written by split."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of Python and the packages."""
    links: Mapping[str, str] = field(default_factory=dict)
    """By what it is (``dataset``, ``dead letters``, ``data docs``, ``run record``): a path, relative to the page's
    folder or absolute."""
    format_version: int = REPORT_FORMAT

    def to_json(self) -> bytes:
        """The report as JSON, in one spelling.

        What JSON does not know is text in it: times in ISO 8601, bytes, and numbers that are not finite.
        """
        text = json.dumps(plain(asdict(self)), separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"
        return text.encode("utf-8", "backslashreplace")

    @classmethod
    def from_json(cls, data: bytes | str, where: str = "report.json") -> Report:
        """The report from its JSON; `where` names the file in errors.

        Raises
        ------
        ArtifactError
            When it is no report, or one of a newer format.

        Examples
        --------
        >>> report = Report("r1", "flights", "prepare", "passed", "2026-01-01T00:00:00Z", 1.5, ReportRows(5, written=5))
        >>> Report.from_json(report.to_json()) == report
        True
        >>> Report.from_json("{}")
        Traceback (most recent call last):
        featuremill.artifacts.errors.ArtifactError: report.json is no report: format_version is missing. Make it anew \
by running the job again.
        """
        return from_kept_json(_adapter(), data, what="report", where=where, supported=REPORT_FORMAT)


def plain(value: Any) -> Any:
    """Any value as JSON-ready data.

    >>> plain({"mean": float("nan"), "when": date(2013, 1, 2), "rows": (1, b"x")})
    {'mean': 'NaN', 'when': '2013-01-02', 'rows': [1, 'x']}
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value).replace("nan", "NaN").replace("inf", "Infinity")
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Sequence | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    # NumPy's scalars.
    return plain(value.item()) if hasattr(value, "item") else str(value)


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)

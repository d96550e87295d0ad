"""What a job file says of data quality: suites, gates, the schema contract, drift."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from featuremill.core.quality.profiles.drift import DriftSpec
from featuremill.core.strict import Strict

__all__ = ["QualitySpec", "ReportQualitySpec"]

SuiteSpec = str | dict[str, Any]
"""The path of a suite of Great Expectations (JSON), or the same inline: ``{name: …, expectations: […]}``."""


class QualitySpec(Strict):
    """What is checked, and what becomes of a run that fails a check.

    >>> QualitySpec.model_validate({"suite": "suites/flights.json", "on_failure": "warn"}).on_failure
    'warn'
    """

    model_config = ConfigDict(serialize_by_alias=True)

    suite: SuiteSpec | None = None
    """What must hold for the rows as they are read: the path of a Great Expectations suite, or the suite itself."""
    output_suite: SuiteSpec | None = None
    """What must hold for the transformed rows, or for the predictions."""
    on_failure: Literal["stop", "warn", "quarantine"] = "stop"
    """When a critical expectation fails: publish nothing; say so and go on; or set the failing rows aside and go on."""
    keys: list[str] = Field(default_factory=list)
    """The columns that say which row failed."""
    result_format: Literal["BOOLEAN_ONLY", "BASIC", "SUMMARY", "COMPLETE"] | dict[str, Any] = "SUMMARY"
    """How much the results say, as in Great Expectations."""
    max_quarantined: Annotated[int, Field(ge=0)] | None = None
    """How many rows quarantine may set aside before the job fails; by default any number."""
    contract: str | dict[str, Any] | None = Field(default=None, alias="schema")
    """What columns the source has, with their types and whether they may be null: a file, or the same inline."""
    drift: DriftSpec = Field(default_factory=DriftSpec)
    """What the columns are compared with, and when a difference is too large."""
    profile: bool = True
    """Whether the columns are profiled."""
    data_docs: bool = False
    """Whether Great Expectations' own pages are written too."""

    @model_validator(mode="after")
    def _fits_together(self) -> QualitySpec:
        if self.max_quarantined is not None and self.on_failure != "quarantine":
            raise ValueError("max_quarantined is for on_failure: quarantine")
        if not self.profile and self.drift.against is not None:
            raise ValueError("drift compares profiles; remove profile: false, or drift.against")
        return self

    @property
    def is_given(self) -> bool:
        """Whether the job file says anything."""
        return self != type(self)()


class ReportQualitySpec(QualitySpec):
    """The same for a job that only reports."""

    @model_validator(mode="after")
    def _only_looks(self) -> ReportQualitySpec:
        if self.output_suite is not None:
            raise ValueError("a report job has no output; write suite")
        if self.on_failure == "quarantine":
            raise ValueError("a report job takes no rows out; write on_failure: stop or warn")
        return self

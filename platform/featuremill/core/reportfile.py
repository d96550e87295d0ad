"""The job file of a job that only reports: a source, what must hold for it, and where the report goes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from featuremill.core.jobfile import RunnerSpec, SourceSpec
from featuremill.core.quality.spec import ReportQualitySpec
from featuremill.core.strict import Name, Strict

__all__ = ["ReportJob", "ReportOutput"]


class ReportOutput(Strict):
    """Where the reports go."""

    path: str
    """The folder; each run makes one of its own in it."""


class ReportJob(Strict):
    """Rows to a report on them, and nothing else.

    >>> job = ReportJob.model_validate({
    ...     "name": "flights", "source": {"parquet": {"path": "data/flights"}}, "output": {"path": "reports"},
    ...     "quality": {"suite": "suites/flights.json"}})
    >>> job.quality.on_failure
    'stop'
    """

    kind: Literal["report"] = "report"
    name: Name
    source: SourceSpec
    quality: ReportQualitySpec = Field(default_factory=ReportQualitySpec)
    """What is checked; without it the rows are profiled."""
    output: ReportOutput
    runner: RunnerSpec = Field(default_factory=RunnerSpec)

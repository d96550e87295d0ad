"""The report job: rows to a report on them, and nothing else.

::

    fragments ─► statistics of the checks and the profile ─► report, run record
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from featuremill.artifacts.errors import JobError
from featuremill.core.files import Place
from featuremill.core.job_run import JobRun
from featuremill.core.progress import Progress
from featuremill.core.quality.run_quality import RunQuality
from featuremill.core.record import RowAccount, RunRecord
from featuremill.core.reportfile import ReportJob

if TYPE_CHECKING:
    from featuremill.core.dataset import FragmentResult, Staging

__all__ = ["ReportPlan", "plan", "run"]


@dataclass(frozen=True)
class ReportPlan:
    """What a job would look at; nothing has run."""

    job: ReportJob
    run: str
    source: Mapping[str, Any]
    """Paths, files, rows, bytes, digest."""
    fragments: int
    input_schema: pa.Schema
    quality: Mapping[str, Any]
    report: str

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-ready values."""
        return {
            "job": self.job.name,
            "kind": self.job.kind,
            "run": self.run,
            "source": dict(self.source),
            "fragments": self.fragments,
            "input": [{"name": f.name, "type": str(f.type)} for f in self.input_schema],
            "quality": dict(self.quality),
            "report": self.report,
        }


def plan(job: ReportJob, run_id: str | None = None) -> ReportPlan:
    """Everything that can be known of a job before it runs: the source's metadata are read, no rows.

    Raises
    ------
    RequestError
        When the source is missing or broken, or a suite does not fit it.
    """
    return _Reporting(job, run_id).plan


def run(
    job: ReportJob,
    *,
    run_id: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    beam_options: Sequence[str] = (),
) -> RunRecord:
    """Run the job, and return its record, which is also written as ``run.json`` beside the report.

    Parameters
    ----------
    run_id
        The name of the run's folder in the output; by default the time and four random digits.
    progress
        Called from another thread as the run moves on.
    beam_options
        Further options for Beam, such as ``["--parallelism=8"]``.

    Raises
    ------
    RequestError
        When the job cannot run as it is; nothing was written.
    QualityFailed
        When a critical check failed, unless ``on_failure: warn``. The report is there.
    JobError
        When it failed on the way.
    """
    return _Reporting(job, run_id).run(progress, beam_options)


class _Reporting(JobRun):
    """A report job with its source opened and its checks planned."""

    def __init__(self, job: ReportJob, run_id: str | None) -> None:
        super().__init__(job, run_id, job.output.path)
        self.job = job
        self.checks = RunQuality(job.quality, run=self.name, folder=job.output.path, raw=self.source.schema)
        self.quality = self.checks
        self.describe()

    @property
    def plan(self) -> ReportPlan:
        return ReportPlan(
            job=self.job,
            run=self.name,
            source=self.described,
            fragments=len(self.fragments),
            input_schema=self.source.schema,
            quality=self.checks.plan(),
            report=Place(self.job.output.path) / self.name,
        )

    @property
    def progress_stages(self) -> list[str]:
        return ["check"]

    @property
    def reads(self) -> list[list[str]]:
        """The columns that are checked or profiled; without any, one to count the rows by."""
        return [list(self.checks.columns or self.source.schema.names[:1])]

    def run_pipeline(self, staging: Staging, beam_options: Sequence[str]) -> None:
        import apache_beam as beam

        from featuremill.core.job_fragment import JobFragment
        from featuremill.core.quality.check_source import CheckSource
        from featuremill.core.runner import pipeline_options, run_pipeline

        riding, schema = self.checks.riding(len(self.fragments)), self.source.schema
        runner = self.job.runner.sized(self.described["rows"] * len(riding.columns))
        fragments = [JobFragment(f, schema, None, staging.progress) for f in self.fragments]

        def build(pipeline: beam.Pipeline) -> Any:
            return (
                pipeline
                | "Fragments" >> beam.Create(fragments, reshuffle=runner.mode != "in_memory")
                | "Check" >> CheckSource(staging, riding)
            )

        run_pipeline(pipeline_options(runner, beam_options), build)

    def commit(self, staging: Staging) -> RunRecord:
        from featuremill.core.dataset import publish_run

        results = staging.load_results()
        self.look(staging, results)
        rows = self._rows(results)
        wrong = self.pass_gates(rows)
        record = self.report(staging, self.record(status="done", rows=rows, warnings=tuple(wrong)))
        publish_run(staging, record.to_json())
        return record

    def _rows(self, results: Sequence[FragmentResult]) -> RowAccount:
        """Where every row went: filtered out, or checked.

        Raises
        ------
        JobError
            When a fragment was not read to its end, or twice.
        """
        read, promised = sum(r.read for r in results), self.source.rows
        lost = [r.fragment for r in results if r.promised not in (None, r.read)]
        everyone = sorted(r.fragment for r in results) == sorted(f.key for f in self.fragments)
        if lost or not everyone or promised not in (None, read):
            raise JobError(f"Rows are missing: {read:,} of {self.described['rows']:,} were read ({lost[:5]}).")
        source = self.described["rows"]
        return RowAccount(source=source, filtered=source - read, written=read, aside=0)

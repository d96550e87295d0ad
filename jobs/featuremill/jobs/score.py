"""The score job: rows to features, and features to predictions.

::

    fragments ─► features (the artifact) ─► models, by RunInference ─► files ─► commit: predictions, run record
                    └─ rows set aside ◄──────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featuremill.core.progress import Progress
from featuremill.core.record import RunRecord
from featuremill.core.run_table import completed
from featuremill.core.scorefile import ScoreJob
from featuremill.jobs.scoring import ScorePlan, Scoring, finish

__all__ = ["plan", "run"]


def plan(job: ScoreJob, run_id: str | None = None) -> ScorePlan:
    """Everything that can be known of a job before it runs.

    The source's metadata are read, the artifact and the models are loaded, and all of it is fitted together; no row is
    read.

    Raises
    ------
    RequestError
        When the source, the artifact or a model is missing, or one does not fit the other.
    """
    return _prepared(job, run_id).plan


def run(
    job: ScoreJob,
    *,
    run_id: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    beam_options: Sequence[str] = (),
) -> RunRecord:
    """Run the job, and return its record, which is also written as ``run.json`` beside the predictions.

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
    JobError
        When it failed on the way; nothing was published, and the dead letters, if any, say which rows and why.
    """
    found = completed(job, job.output, run_id, finish)
    return found or _prepared(job, run_id).run(progress, beam_options)


def _prepared(job: ScoreJob, run_id: str | None) -> Scoring:
    if job.source.arriving is None:
        return Scoring(job, run_id)
    from featuremill.jobs.score_stream import StreamScoring

    return StreamScoring(job, run_id)

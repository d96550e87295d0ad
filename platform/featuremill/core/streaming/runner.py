"""Beam's options for a job with an endless source, and which of Beam's local runners can run it.

Beam 2.77 has two in Python that need no other program. ``FnApiRunner`` runs what polls (a watched folder), with one
worker: with several it forgets what a poll puts off. ``BundleBasedDirectRunner`` runs Pub/Sub, but nothing that polls.
Neither groups an endless input before its end; hence nothing in these pipelines is grouped, or flattened, after the
rows are read.
"""

from __future__ import annotations

from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from featuremill.artifacts.errors import RequestError
from featuremill.core.jobfile import RunnerSpec
from featuremill.core.runner import pipeline_options
from featuremill.core.streaming.spec import PubSubSpec, WatchSpec

__all__ = ["is_local_runner", "streaming_options"]

BUNDLES = "apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner"


def is_local_runner(runner: RunnerSpec) -> bool:
    """Whether it is one of Beam's direct runners."""
    return runner.name.lower() in ("direct", "directrunner")


def streaming_options(
    runner: RunnerSpec, source: WatchSpec | PubSubSpec, extra: Sequence[str] = ()
) -> PipelineOptions:
    """Beam's options; `extra` are those after ``--`` on the command line, which win.

    >>> streaming_options(RunnerSpec(), WatchSpec(path="in")).get_all_options()["streaming"]
    True
    >>> streaming_options(RunnerSpec(workers=4), WatchSpec(path="in"))
    Traceback (most recent call last):
    featuremill.artifacts.errors.RequestError: runner: on this machine an endless source is read by one worker. ...
    """
    if not is_local_runner(runner):
        return pipeline_options(runner, ["--streaming", *extra])
    if runner.workers not in (None, 1) or runner.mode == "multi_processing":
        raise RequestError(
            "runner: on this machine an endless source is read by one worker. Leave out workers and mode, or name a "
            "runner that scales, such as FlinkRunner or DataflowRunner.",
            runner=runner.name,
        )
    if isinstance(source, WatchSpec):
        return pipeline_options(
            RunnerSpec(mode="in_memory", options=runner.options), ["--streaming", *extra]
        )
    return pipeline_options(RunnerSpec(name=BUNDLES, options=runner.options), ["--streaming", *extra])

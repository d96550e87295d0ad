"""Beam pipelines from a job's `runner:` block."""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import dropwhile, takewhile
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.worker.statesampler import StateSampler
from apache_beam.transforms.environments import EmbeddedPythonGrpcEnvironment, python_sdk_capabilities

from featuremill.artifacts.errors import FeaturemillError, JobError, RequestError
from featuremill.core.jobfile import RunnerSpec

__all__ = ["pipeline_options", "run_pipeline"]

# The direct runner of Beam's Python SDK that needs no other program; `DirectRunner` may hand over to one that does.
DIRECT = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"

NEVER_MS = 10**9
"""Milliseconds, eleven days."""

SAMPLING_MS = 10
"""How often Beam's workers note which step is at work. At Beam's 200 each stage waits up to that long for the thread
that does so to end."""

_TRACEBACK = "Traceback (most recent call last):\n"
_NAMED = re.compile(r"(?:RuntimeError: )?([A-Za-z_][\w.]*)(?:: (.*))?", re.DOTALL)
_WHERE = re.compile(r"\s*\[while running '[^']*'\]\s*")


def pipeline_options(runner: RunnerSpec, extra: Sequence[str] = ()) -> PipelineOptions:
    """Beam's options for a job; `extra` are those after ``--`` on the command line, which win.

    >>> pipeline_options(RunnerSpec(workers=3)).get_all_options()["direct_num_workers"]
    3
    """
    if runner.is_direct:
        flags = [
            f"--runner={DIRECT}",
            f"--direct_num_workers={runner.threads}",
            f"--direct_running_mode={'multi_threading' if runner.mode == 'auto' else runner.mode}",
        ]
    else:
        if runner.workers is not None or runner.mode not in ("auto", "multi_threading"):
            raise RequestError(
                f"runner: workers and mode are for the direct runner; {runner.name} takes its own options below "
                "runner.options.",
                runner=runner.name,
            )
        flags = [f"--runner={runner.name}"]
    for key, value in runner.options.items():
        if isinstance(value, bool):
            flags += [f"--{key}"] if value else []
        elif isinstance(value, list):
            flags += [f"--{key}={item}" for item in value]
        else:
            flags.append(f"--{key}={value}")
    return _Options([*flags, *extra])


class _Options(PipelineOptions):  # type: ignore[misc]  # beam: untyped
    """Options that keep their views: Beam asks for one at every step and builds a parser each time, a tenth of a second
    for a small pipeline. Views share their values, so one of a kind is as good as many."""

    def view_as(self, cls: type[Any]) -> Any:
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "_views"}


def run_pipeline(options: PipelineOptions, build: Callable[[beam.Pipeline], Any]) -> Any:
    """Build a pipeline, run it to its end, and return Beam's result.

    Raises
    ------
    FeaturemillError
        The error that a worker raised, out of the runner's many-layered text.
    JobError
        When the pipeline ended in any other way than well.
    """
    # Beam reports a worker's error at length on the log as well; the one that we raise says it once.
    quiet = [logging.getLogger(n) for n in ("apache_beam", "root")]
    before = [logger.level for logger in quiet]
    try:
        for logger in quiet:
            logger.setLevel(logging.CRITICAL)
        with _sampling():
            pipeline = beam.Pipeline(runner=_threaded_runner(options), options=options)
            build(pipeline)
            result = pipeline.run()
            state = result.wait_until_finish()
    except FeaturemillError as error:
        # Within one process the worker's own error arrives, with Beam's remark about the step in its text.
        plain = _WHERE.sub("", str(error))
        if plain == str(error):
            raise
        raise type(error)(plain, **(error.facts or getattr(error.__context__, "facts", {}))) from error
    except Exception as error:  # what a runner raises is its own affair; it is told in full by the chained error
        raise _from_runner(error) from error
    finally:
        for logger, level in zip(quiet, before, strict=True):
            logger.setLevel(level)
    if str(state) not in ("DONE", "None", "UPDATED"):
        raise JobError(f"The pipeline ended as {state}.", state=str(state))
    return result


@contextlib.contextmanager
def _sampling() -> Iterator[None]:
    """Workers of this process sample every :data:`SAMPLING_MS`: Beam has no option for it."""
    start = StateSampler.__init__
    before = start.__defaults__
    start.__defaults__ = (SAMPLING_MS,)
    try:
        yield
    finally:
        start.__defaults__ = before


def _threaded_runner(options: PipelineOptions) -> Any:
    """The direct runner with threads as workers; None: whatever the options say.

    Beam 2.77 gives its worker threads a clock that empties their output buffers every second, even while an element is
    half written: the reader then sees garbage ("Invalid PaneInfoEncoding"), or allocates until memory is gone. Buffers
    are emptied by size as well, so a clock that never strikes loses nothing; the launcher's own buffers keep theirs,
    since only whole elements are written there. The runner sets its own clock when the running mode is multi_threading,
    hence the detour: an environment of ours, and a mode that leaves it alone.
    """
    direct = options.view_as(DirectOptions)
    if options.view_as(StandardOptions).runner != DIRECT or direct.direct_running_mode != "multi_threading":
        return None
    direct.direct_running_mode = "in_memory"
    return FnApiRunner(
        default_environment=EmbeddedPythonGrpcEnvironment(
            data_buffer_time_limit_ms=NEVER_MS, capabilities=python_sdk_capabilities()
        )
    )


def _from_runner(error: Exception) -> FeaturemillError:
    """What the worker raised, rebuilt from the text of the runner's exception where it was one of ours."""
    text = str(error).strip()
    raised = [_raised(block) for block in text.split(_TRACEBACK)[1:]] or [_raised(text)]
    found = [match for match in map(_NAMED.fullmatch, raised) if match]
    ours = [match for match in found if match[1].startswith("featuremill.")]
    if ours:
        module, _, kind = ours[-1][1].rpartition(".")
        message = ours[-1][2] or kind
        try:
            cls = getattr(importlib.import_module(module), kind)
        except (ImportError, AttributeError):
            cls = JobError
        return cls(message) if issubclass(cls, FeaturemillError) else JobError(message)
    if found and text.count(_TRACEBACK):
        return JobError(f"{found[-1][1]}: {found[-1][2] or 'no message'}")
    last = _WHERE.sub("", text).splitlines()[-1:]
    return JobError(f"{type(error).__name__}: {last[0] if last else 'no message'}")


def _raised(block: str) -> str:
    """The exception that a traceback ends with, as ``name: message``, without its frames and what comes after it."""
    lines = list(dropwhile(lambda line: line.startswith(" ") or not line, block.splitlines()))
    message = takewhile(lambda line: line.strip() and not line.startswith("\tat "), lines)
    return _WHERE.sub("", "\n".join(message)).strip()

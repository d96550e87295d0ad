"""Beam pipelines from a job's `runner:` block."""

from __future__ import annotations

import importlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from featuremill.artifacts import errors
from featuremill.artifacts.errors import FeaturemillError, JobError, RequestError
from featuremill.core.jobfile import RunnerSpec

__all__ = ["pipeline_options", "run_pipeline"]

# The direct runner of Beam's Python SDK that needs no other program; `DirectRunner` may hand over to one that does.
DIRECT = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"

_RAISED = re.compile(r"^(?:RuntimeError: )?(featuremill\.[\w.]+|\w+(?:\.\w+)*(?:Error|Exception|Rows)): (.*)$", re.MULTILINE)
_WHERE = re.compile(r"\s*\[while running '[^']*'\]\s*")


def pipeline_options(runner: RunnerSpec, extra: Sequence[str] = ()) -> PipelineOptions:
    """Beam's options for a job; `extra` are those after ``--`` on the command line, which win.

    >>> pipeline_options(RunnerSpec(workers=3)).get_all_options()["direct_num_workers"]
    3
    """
    if runner.name.lower() in ("direct", "directrunner"):
        workers = runner.workers or len(os.sched_getaffinity(0))
        flags = [
            f"--runner={DIRECT}",
            f"--direct_num_workers={1 if runner.mode == 'in_memory' else workers}",
            f"--direct_running_mode={runner.mode}",
        ]
    else:
        if runner.workers is not None or runner.mode != "multi_threading":
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
    return PipelineOptions([*flags, *extra])


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
        pipeline = beam.Pipeline(options=options)
        build(pipeline)
        result = pipeline.run()
        state = result.wait_until_finish()
    except FeaturemillError:
        raise
    except Exception as error:  # what a runner raises is its own affair; it is told in full by the chained error
        raise _from_runner(error) from error
    finally:
        for logger, level in zip(quiet, before, strict=True):
            logger.setLevel(level)
    if str(state) not in ("DONE", "None", "UPDATED"):
        raise JobError(f"The pipeline ended as {state}.", state=str(state))
    return result


def _from_runner(error: Exception) -> FeaturemillError:
    """What the worker raised, rebuilt from the text of the runner's exception where it was one of ours."""
    text = str(error)
    found = _RAISED.findall(_WHERE.sub("", text))
    ours = [(name, message) for name, message in found if name.startswith("featuremill.")]
    if ours:
        name, message = ours[-1]
        module, _, kind = name.rpartition(".")
        try:
            cls = getattr(importlib.import_module(module), kind)
        except (ImportError, AttributeError):
            cls = errors.JobError
        return cls(message) if issubclass(cls, FeaturemillError) else JobError(message)
    if found:
        name, message = found[-1]
        return JobError(f"{name}: {message}")
    return JobError(f"{type(error).__name__}: {text.strip().splitlines()[-1] if text.strip() else 'no message'}")

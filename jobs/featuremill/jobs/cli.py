"""The command line: ``featuremill plan``, ``run``, ``schema``, ``init``, ``demo``, ``suggest``, ``report`` and more.

Standard output has the answer, standard error has progress and errors. The exit status is 0 when it is done, 1 when
the work failed, 2 when the request was wrong. Nothing heavy is imported before a command needs it, so that ``--help``
and the completion of words are quick.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featuremill.jobs.cli_artifacts import artifacts_app
from featuremill.jobs.cli_export import export
from featuremill.jobs.cli_models import models_app
from featuremill.jobs.cli_quality import report_app, suggest

if TYPE_CHECKING:
    from featuremill.core.loading import Job
    from featuremill.core.record import RunRecord

__all__ = ["app", "main"]

DONE, FAILED, WRONG = 0, 1, 2
"""Exit status: it is done; the work failed; the request was wrong."""
INTERRUPTED, PIPE_CLOSED = 130, 141
"""Exit status after Ctrl-C, and after the reader of our output went away: as shells report the signals."""

# typer>=0.27 carries its own copy of click, earlier ones import it: the classes are reached through typer either way.
UsageError: type[Any] = typer.BadParameter.__mro__[1]
ClickException: type[Any] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    help="Batch feature engineering on Apache Beam: a job file in, a transform artifact and a training dataset out.",
    epilog="Begin with: featuremill demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout.isatty() else None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(artifacts_app, name="artifacts")
app.command()(export)
app.add_typer(models_app, name="models")
app.add_typer(report_app, name="report")
app.command()(suggest)

JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="The job file (YAML).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a value of the job file: dataset.path=/tmp/out.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show where in the code an error came from.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from featuremill.core.record import package_versions

        versions = package_versions()
        others = ", ".join(
            f"{name} {versions[name]}" for name in ("python", "apache-beam", "pyarrow") if name in versions
        )
        print(f"featuremill {versions.get('featuremill', 'of a source tree')} ({others})")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
    show_traceback: Traceback = False,
) -> None:
    pass


@app.command()
def plan(
    job: JobFile,
    sets: Overrides = None,
    as_json: AsJson = False,
    run_id: Annotated[
        str | None, typer.Option("--run-id", help="The name that the run would have.", show_default=False)
    ] = None,
) -> None:
    """Show what a job would do; run nothing.

    The columns with their types, the passes over the data or the models, and where the results would go.
    """
    from featuremill.jobs.render import plan_blocks, show
    from featuremill.jobs.render_quality import report_plan_blocks
    from featuremill.jobs.render_score import score_plan_blocks

    loaded, place = _load(job, sets or [])
    with place:
        made = _module_of(loaded).plan(loaded, run_id)
    if as_json:
        _print_json(made.to_json())
        return
    blocks: dict[str, Any] = {"prepare": plan_blocks, "score": score_plan_blocks, "report": report_plan_blocks}
    show(blocks[loaded.kind](made, str(job), sets or []), sys.stdout)


@app.command()
def run(
    job: JobFile,
    beam_options: Annotated[
        list[str] | None, typer.Argument(metavar="BEAM_OPTIONS", help="Options for Beam, after --.", show_default=False)
    ] = None,
    sets: Overrides = None,
    run_id: Annotated[
        str | None, typer.Option("--run-id", help="The name of the run; by default the time.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    show_traceback: Traceback = False,
) -> None:
    """Run a job.

    A prepare job computes statistics, and writes the transform artifact and the dataset; a score job writes
    predictions; a report job looks at the rows and no more. All leave a run record and a report.
    """
    from featuremill.artifacts.errors import ParameterError

    stray = next(iter(beam_options or []), "--")
    if not stray.startswith("-"):
        raise ParameterError(f"{stray!r} is one word too many: run takes one job file, and Beam's options after --.")
    loaded, place = _load(job, sets or [])
    with place:
        record = _run(loaded, run_id, beam_options or [], verbose=show_traceback)
    _show_record(record, as_json)


@app.command()
def schema(kind: Annotated[str, typer.Option(help="The kind of job.")] = "prepare") -> None:
    """Print the JSON Schema of job files, for editors."""
    from featuremill.core.job_schema import job_schema

    _print_json(job_schema(kind))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new project's folder.", show_default=False)],
    data: Annotated[bool, typer.Option(help="Write the demo's rows too, so that the job can run at once.")] = True,
) -> None:
    """Begin a project in a new folder.

    Writes a commented job file with its schema, a .gitignore and a README. Overwrites nothing.
    """
    from featuremill.jobs.render import Heading, Line, Table, command, show
    from featuremill.jobs.scaffold import begin_project

    written = begin_project(folder, data=data)
    steps = [command("cd", str(folder)), "featuremill plan flights.yaml", "featuremill run flights.yaml"]
    steps += ["python -m featuremill.jobs.flights_models flights.yaml late.yaml", "featuremill run late.yaml"]
    show(
        [
            Heading(f"A new project in {folder}"),
            Table([[str(path), what] for path, what in written]),
            Heading("Next"),
            *(Line(step) for step in steps),
        ],
        sys.stdout,
    )


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--dir", help="Where the demo's data and results go.")] = Path("demo"),
    as_json: AsJson = False,
) -> None:
    """Run an example on real rows.

    They are every flight that left New York City in 2013: prepared, learnt from by two models, and scored by both.
    """
    from featuremill.jobs.flights_neighbours import nearest_airports
    from featuremill.jobs.render import record_blocks, show
    from featuremill.jobs.render_score import neighbour_blocks, scored_demo_blocks
    from featuremill.jobs.scaffold import prepare_demo, score_demo

    job_file, job = prepare_demo(folder)
    score_file, score_job = score_demo(folder, job)
    print(f"the rows are in {job.source.given.path}, the jobs are {job_file} and {score_file}", file=sys.stderr)
    prepared = _run(job, None, [])
    airports = nearest_airports(str(prepared.dataset))
    if not as_json:
        show([*record_blocks(prepared, advise=False), *neighbour_blocks(airports)], sys.stdout)
        print()
    from featuremill.jobs.flights_models import auc, train

    trained = train(str(prepared.dataset), score_job, tell=lambda line: print(line, file=sys.stderr))
    scored = _run(score_job, None, [])
    areas = auc(scored)
    if as_json:
        records = {"prepare": json.loads(prepared.to_json()), "score": json.loads(scored.to_json())}
        alike = {name: [asdict(near) for near in found] for name, found in airports.items()}
        _print_json({**records, "models": [asdict(m) for m in trained], "auc": areas, "airports": alike})
        return
    show(scored_demo_blocks(prepared, trained, scored, areas, str(score_file)), sys.stdout)


# --- what the commands share ----------------------------------------------------------------------------------------


class _Placed:
    """Adds the line of the job file to errors that name a transform or a column of it."""

    def __init__(self, path: Path, overrides: Sequence[str]) -> None:
        self._path = path
        self._overrides = overrides

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from featuremill.artifacts.errors import RequestError
        from featuremill.core.loading import JobFileError, place_of

        if isinstance(error, RequestError):
            place = place_of(self._path, self._overrides, error.facts)
            if place is not None:
                raise JobFileError(f"{place}: {error}", **error.facts) from error


def _module_of(job: Job) -> Any:
    """The module that plans and runs jobs of a kind."""
    return import_module(f"featuremill.jobs.{job.kind}")


def _load(job: Path, overrides: Sequence[str]) -> tuple[Job, _Placed]:
    from featuremill.core.loading import load_job

    return load_job(job, overrides), _Placed(job, overrides)


def _run(job: Job, run_id: str | None, beam_options: Sequence[str], *, verbose: bool = False) -> RunRecord:
    from featuremill.core.memory import share_memory
    from featuremill.jobs.progress_display import display_for

    share_memory(job.runner)
    import featuremill.core.runner
    import featuremill.transforms.beam  # noqa: F401  # imported for its time

    # What Beam's import made stays to the end: collecting garbage need not look at it again and again.
    gc.freeze()
    # A process that ran a stock TensorFlow Transform op may crash in its last garbage collection, after all is done.
    atexit.register(gc.freeze)
    # Beam's workers in this process print each traceback, some more than once; the error itself is told at the end.
    # What an endless job says of models and artifacts that changed is told as it happens.
    endless = job.kind == "score" and job.source.arriving is not None
    quiet = job.runner.name == "direct" and not verbose and "--traceback" not in sys.argv and not endless
    with display_for(sys.stderr) as display, redirect_stderr(io.StringIO()) if quiet else nullcontext():
        record: RunRecord = _module_of(job).run(job, run_id=run_id, progress=display, beam_options=beam_options)
        return record


def _show_record(record: RunRecord, as_json: bool) -> None:
    from featuremill.jobs.render import record_blocks, show

    if as_json:
        print(record.to_json(), end="")
    else:
        show(record_blocks(record), sys.stdout)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _say(message: str) -> None:
    """One message on standard error; in red on a terminal."""
    from featuremill.jobs.render import Line, show_line

    show_line(Line(message, "bad"), sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of a command line: 0 done, 1 the work failed, 2 the request was wrong.

    Parameters
    ----------
    arguments
        Without the program's name; by default those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Beam says so at its import wherever its extra for Google Cloud is not installed, which nobody asked about.
    logging.getLogger().addFilter(_is_not_about_apitools)
    try:
        status = app(args=words, prog_name="featuremill", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else DONE
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except SystemExit as stop:
        # typer's way to end when the reader of our output went away.
        return PIPE_CLOSED if isinstance(stop.__context__, BrokenPipeError) else int(stop.code or 0)
    except (KeyboardInterrupt, typer.Abort):
        _say("stopped")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 -- the last resort: no traceback unasked
        return _report(error, words)


def _is_not_about_apitools(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("apitools not found")


def _report(error: Exception, words: Sequence[str]) -> int:
    """Tell the user what is wrong, once, and give the exit status."""
    from featuremill.artifacts.errors import FeaturemillError, RequestError

    own = words[: words.index("--")] if "--" in words else words
    if isinstance(error, UsageError):
        status, message = WRONG, _usage(error)
        if message is None:
            return WRONG
    elif isinstance(error, ClickException):
        status, message = WRONG, error.format_message()
    elif isinstance(error, FeaturemillError):
        status, message = (WRONG if isinstance(error, RequestError) else FAILED), str(error)
    else:
        status = FAILED
        detail = str(error).strip().splitlines()
        message = f"unexpected {type(error).__name__}{': ' + detail[0] if detail else ''}. "
        message += "Run it again as featuremill --traceback … to see where it came from."
    if "--traceback" in own and not isinstance(error, ClickException):
        traceback.print_exception(error)
    _say(message)
    if "--json" in own:
        _print_json({"status": "failed", "error": message, "error_type": type(error).__name__, "exit_status": status})
    return status


def _usage(error: Any) -> str | None:
    """A usage error in words; None when help was printed instead, since nothing at all was asked for."""
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        if message:
            print(message, file=sys.stderr)
        return None
    command = error.ctx.command_path if error.ctx else "featuremill"
    return f"{message}{'' if message.endswith(('.', '?', '!')) else '.'} See: {command} --help"

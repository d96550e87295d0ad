"""``featuremill report`` and ``featuremill suggest``: look at the reports of runs, and begin to check a source."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report_app", "suggest"]

report_app = typer.Typer(help="Look at the reports that runs leave.", no_args_is_help=True)


@report_app.command("show")
def show_(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's folder, or the folder of the runs.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Show the report of a run: its checks, what changed, and its columns."""
    from featuremill.jobs.render import show
    from featuremill.jobs.render_report import find_report, report_blocks

    folder, report = find_report(run)
    if as_json:
        print(report.to_json().decode(), end="")
    else:
        show(report_blocks(report, folder), sys.stdout)


def suggest(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Parquet files: a file, a folder or a glob.", show_default=False)
    ],
    folder: Annotated[Path, typer.Option("--dir", help="Where the files go.")] = Path("quality"),
    name: Annotated[
        str | None, typer.Option("--name", help="What they are called; by default as the source.", show_default=False)
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", help="Only these rows, as a SQL condition.", show_default=False)
    ] = None,
) -> None:
    """Look at a source, and write a first suite, a schema contract and a report job for it.

    They say what holds now: a person has to say what must hold. Overwrites nothing.
    """
    from featuremill.jobs.progress_display import display_for
    from featuremill.jobs.render import Block, Heading, Line, Table, command, show
    from featuremill.jobs.suggesting import suggest_files

    with display_for(sys.stderr) as display:
        written = suggest_files(source, folder, name=name, where=where, progress=display)
    (job,) = (path for path, _ in written if path.suffix == ".yaml" and "schema" not in path.name)
    blocks: list[Block] = [
        Heading(f"Suggestions for {source}"),
        Table([[str(path), what] for path, what in written]),
        Heading("Next"),
        Line("read and edit them, then"),
        Line(command("featuremill", "run", str(job))),
    ]
    show(blocks, sys.stdout)

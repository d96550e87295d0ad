"""``featuremill artifacts``: look at transform artifacts, compare and check them, move aliases, clear up."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from featuremill.artifacts import AliasEntry, Artifact, ArtifactSummary
    from featuremill.jobs.render import Block

__all__ = ["artifacts_app"]

artifacts_app = typer.Typer(
    help="Look at transform artifacts, and manage them.",
    no_args_is_help=True,
)

Root = Annotated[
    str, typer.Argument(metavar="ROOT", help="The folder or bucket URL that artifacts are in.", show_default=False)
]
Reference = Annotated[
    str, typer.Argument(metavar="REF", help="ROOT/NAME@ALIAS, ROOT/NAME@VERSION, or ROOT/NAME.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def _answer(as_json: bool, value: Any, blocks: Callable[[], list[Block]]) -> None:
    if as_json:
        print(json.dumps(value, indent=2, ensure_ascii=False, default=str))
    else:
        from featuremill.jobs.render import show

        show(blocks(), sys.stdout)


@artifacts_app.command("list")
def list_(root: Root, as_json: AsJson = False) -> None:
    """List artifacts, with versions and aliases."""
    from featuremill.artifacts import list_artifacts
    from featuremill.jobs.render_artifacts import list_blocks

    found = list_artifacts(root)
    _answer(as_json, [_summary(a) for a in found], lambda: list_blocks(root, found))


@artifacts_app.command()
def show(reference: Reference, as_json: AsJson = False) -> None:
    """Show what an artifact is made of.

    Transforms, columns, statistics, provenance.
    """
    from featuremill.artifacts import load
    from featuremill.jobs.render_artifacts import artifact_blocks, statistics

    artifact = load(reference)
    aliases = _aliases_of(artifact)
    value = {
        **artifact.manifest.record(),
        "location": artifact.location,
        "aliases": aliases,
        "statistics": [{k: v for k, v in s.items() if k != "text"} for s in statistics(artifact)] if as_json else [],
    }
    _answer(as_json, value, lambda: artifact_blocks(artifact, aliases))


@artifacts_app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="REF", help="The one before.", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="REF", help="The one after.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show what changed between two artifacts.

    Transforms, columns, and by how much the statistics moved.
    """
    from featuremill.artifacts import diff as compare
    from featuremill.artifacts import load
    from featuremill.jobs.render_artifacts import diff_blocks

    found = compare(load(old), load(new))
    value = {"old": found.old, "new": found.new, "same": not found, "changes": [asdict(c) for c in found.changes]}
    _answer(as_json, value, lambda: diff_blocks(found))


@artifacts_app.command()
def verify(reference: Reference, as_json: AsJson = False) -> None:
    """Check that an artifact is whole.

    Every file, and that its sample rows still give what they gave. The exit status is 1 when something changed.
    """
    from featuremill.artifacts import load
    from featuremill.jobs.render import Line, count_text

    artifact = load(reference)
    found = artifact.verify()
    name = f"{artifact.name}@{artifact.version}"
    files, rows = count_text(found.files, "file"), count_text(found.rows, "sample row")
    _answer(
        as_json,
        {
            "artifact": name, "location": artifact.location, "ok": True, "files": found.files, "rows": found.rows,
            "note": found.note,
        },
        lambda: [Line(f"{name} is whole: {files} unchanged, {found.note or f'{rows} give what they gave.'}", "good")],
    )


@artifacts_app.command()
def alias(
    artifact: Annotated[str, typer.Argument(metavar="ROOT/NAME", help="The artifact.", show_default=False)],
    name: Annotated[
        str | None, typer.Argument(metavar="ALIAS", help="Without it: list the aliases.", show_default=False)
    ] = None,
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="VERSION",
            help="A version, or another alias. Without it: show the alias's history.",
            show_default=False,
        ),
    ] = None,
    why: Annotated[str, typer.Option("--why", help="The reason, for the history.", show_default=False)] = "",
    expected: Annotated[
        str | None,
        typer.Option("--expected", metavar="VERSION", help="Move only if it stands for this now.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Move an alias to a version, or show its history."""
    from featuremill.artifacts import history, list_aliases, move, resolve, show_artifact
    from featuremill.artifacts.errors import ParameterError
    from featuremill.artifacts.names import split_reference
    from featuremill.jobs.render import Line
    from featuremill.jobs.render_artifacts import aliases_blocks, history_blocks

    root, artifact_name, wanted = split_reference(artifact)
    if wanted is not None:
        raise ParameterError(f"{artifact!r}: expected ROOT/NAME, without @{wanted}. The alias is the next word.")
    if version is None and (why or expected):
        raise ParameterError("--why and --expected are for moving an alias: say the version too.")
    if name is None:
        show_artifact(root, artifact_name)  # says so when there is no such artifact
        found = list_aliases(root, artifact_name)
        _answer(as_json, {a: _entry(e) for a, e in found.items()}, lambda: aliases_blocks(artifact_name, found))
    elif version is None:
        entries = history(root, artifact_name, name)
        _answer(as_json, [_entry(e) for e in entries], lambda: history_blocks(f"{artifact_name}@{name}", entries))
    else:
        target = resolve(root, artifact_name, version)
        entry = move(root, artifact_name, name, target, why, expected=expected)
        was = f", before that for {entry.previous}" if entry.previous else ""
        text = f"{artifact_name}@{name} stands for {entry.version}{was} (entry {entry.number})."
        _answer(as_json, _entry(entry), lambda: [Line(text, "good")])


@artifacts_app.command("gc")
def collect_(
    root: Root,
    name: Annotated[str | None, typer.Option("--name", help="Only this artifact.", show_default=False)] = None,
    keep: Annotated[int, typer.Option("--keep", metavar="N", help="Keep the newest N versions.")] = 3,
    older_than: Annotated[float, typer.Option("--older-than", metavar="HOURS", help="Keep what is younger.")] = 24.0,
    embeddings: Annotated[
        float | None,
        typer.Option("--embeddings", metavar="DAYS", help="Remove kept vectors older than that.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes/--dry-run", help="Remove, or only say what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove versions that nobody needs.

    Old ones that no alias stands for, and what unfinished runs left. Without --yes, only says which. Vectors of texts
    that jobs have kept stay, unless --embeddings says from which age they go.
    """
    from featuremill.artifacts import collect, collect_vectors, list_artifacts
    from featuremill.artifacts.layout import EMBEDDINGS
    from featuremill.jobs.render import Heading, Line
    from featuremill.jobs.render_artifacts import collected_blocks

    names = [name] if name is not None else [a.name for a in list_artifacts(root)]
    found = {n: collect(root, n, keep_last=keep, grace=timedelta(hours=older_than), dry_run=not yes) for n in names}
    if embeddings is not None:
        found[EMBEDDINGS] = collect_vectors(root, older_than=timedelta(days=embeddings), dry_run=not yes)

    def blocks() -> list[Block]:
        if not found:
            return [Line(f"There are no artifacts in {root}.")]
        pending = not yes and any(c.removed or c.leftovers for c in found.values())
        hint: list[Block] = [Heading("Nothing was removed."), Line("Run it again with --yes to remove what would go.")]
        return [*collected_blocks(found), *(hint if pending else [])]

    _answer(as_json, {n: asdict(c) for n, c in found.items()}, blocks)


# --- JSON -----------------------------------------------------------------------------------------------------------


def _summary(artifact: ArtifactSummary) -> dict[str, Any]:
    versions = [
        {
            "version": v.version,
            "created": v.created.isoformat() if v.created else None,
            "rows": dict(v.manifest.rows) if v.manifest else None,
            "aliases": list(v.aliases),
            "problem": v.problem,
        }
        for v in artifact.versions
    ]
    return {"name": artifact.name, "versions": versions, "aliases": {a: e.version for a, e in artifact.aliases.items()}}


def _entry(entry: AliasEntry) -> dict[str, Any]:
    return {**asdict(entry), "when": entry.when.isoformat()}


def _aliases_of(artifact: Artifact) -> list[str]:
    """The aliases that stand for a version; none for a folder that was moved away from its root."""
    from pathlib import PurePosixPath

    from featuremill.artifacts import list_aliases
    from featuremill.artifacts.errors import FeaturemillError

    head, _, _ = artifact.location.rpartition("/versions/")
    root, _, name = head.rpartition("/")
    if not root or PurePosixPath(name).name != artifact.name:
        return []
    try:
        return sorted(a for a, e in list_aliases(root, name).items() if e.version == artifact.version)
    except FeaturemillError:
        return []

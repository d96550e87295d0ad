"""What there is below a root: artifacts, their versions and aliases, for listings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime

from featuremill.artifacts.aliases import AliasEntry, list_aliases, versions
from featuremill.artifacts.errors import ArtifactError, FeaturemillError, MissingArtifactError
from featuremill.artifacts.layout import join, version_folder
from featuremill.artifacts.manifest import MANIFEST, Manifest
from featuremill.artifacts.names import check_name
from featuremill.artifacts.store import Store, as_store

__all__ = ["ArtifactSummary", "VersionSummary", "describe", "list_artifacts", "show_artifact"]


@dataclass(frozen=True)
class VersionSummary:
    """One version: its manifest, or what is wrong with it, and the aliases that stand for it."""

    version: str
    manifest: Manifest | None
    problem: str | None
    aliases: tuple[str, ...]

    @property
    def created(self) -> datetime | None:
        """When it was built; None when the manifest cannot be read."""
        return self.manifest.created if self.manifest else None


@dataclass(frozen=True)
class ArtifactSummary:
    """One artifact: its versions, newest first, and its aliases."""

    name: str
    versions: tuple[VersionSummary, ...]
    aliases: dict[str, AliasEntry]


def list_artifacts(root: Store | str | os.PathLike[str]) -> list[ArtifactSummary]:
    """The artifacts below a root, by name. Other folders there are passed over.

    Raises
    ------
    MissingArtifactError
        When the root is a local folder that is not there.
    """
    store = as_store(root)
    found = []
    for name in store.folders():
        try:
            check_name(name, "artifact")
            found.append(show_artifact(store, name))
        except (MissingArtifactError, ValueError) as error:
            if isinstance(error, ArtifactError) and not isinstance(error, MissingArtifactError):
                raise
    return found


def show_artifact(root: Store | str | os.PathLike[str], name: str) -> ArtifactSummary:
    """The versions and aliases of one artifact.

    Raises
    ------
    MissingArtifactError
        When there is none of that name.
    """
    store = as_store(root)
    there = versions(store, name)
    if not there:
        raise MissingArtifactError(f"There is no artifact {name!r} in {store.root}.", artifact=name)
    aliases = list_aliases(store, name)
    summaries = []
    for version in there:
        path = join(version_folder(name, version), MANIFEST)
        own = tuple(sorted(a for a, entry in aliases.items() if entry.version == version))
        try:
            manifest = Manifest.from_json(store.get(path), join(store.root, path))
            summaries.append(VersionSummary(version, manifest, None, own))
        except FeaturemillError as error:
            summaries.append(VersionSummary(version, None, str(error), own))
    summaries.sort(key=lambda s: (s.created is not None, s.created and s.created.timestamp(), s.version), reverse=True)
    return ArtifactSummary(name, tuple(summaries), aliases)


def describe(manifest: Manifest) -> str:
    """A manifest in words, a few lines."""
    lines = [f"{manifest.name}@{manifest.version}, created {manifest.created:%Y-%m-%d %H:%M:%S %Z}"]
    lines.append("rows: " + ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in manifest.rows.items()))
    lines += [f"  {t['type']}({', '.join(map(str, t['config'].get('columns', ())))})" for t in manifest.transforms]
    for label, schema in (("in", manifest.input_schema), ("out", manifest.output_schema)):
        lines.append(f"{label}: " + ", ".join(f"{f.name} {f.type}" for f in schema))
    size = sum(f.bytes for f in manifest.files.values())
    lines.append(f"{len(manifest.files) + 1} files, {size:,} bytes, {len(manifest.states)} states")
    lines += [f"warning: {w}" for w in manifest.warnings]
    return "\n".join(lines)

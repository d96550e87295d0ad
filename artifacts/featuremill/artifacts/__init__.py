"""Transform artifacts: format, store, versions, and the serving reader.

>>> from featuremill.artifacts import load
>>> artifact = load("artifacts/flights@prod")                                                        # doctest: +SKIP
>>> artifact.transform({"carrier": "AA", "air_time": 120.0})                                          # doctest: +SKIP
{'carrier': 3, 'air_time': 0.41}

An artifact is made by a job, by :func:`build_files`, or by featuremill's MLTransform ops; :func:`publish` gives it a
version, :func:`move` lets an alias stand for that, and :func:`load` brings it into a process that has neither Beam nor
TensorFlow.
"""

from featuremill.artifacts.aliases import AliasEntry, history, list_aliases, move, read_alias, resolve, versions
from featuremill.artifacts.build import build_files
from featuremill.artifacts.catalogue import ArtifactSummary, VersionSummary, describe, list_artifacts, show_artifact
from featuremill.artifacts.diff import Change, Diff, diff
from featuremill.artifacts.errors import AliasMoved, ArtifactError, MissingArtifactError
from featuremill.artifacts.gc import Collected, collect, collect_vectors
from featuremill.artifacts.manifest import FORMAT_VERSION, Manifest
from featuremill.artifacts.publish import publish
from featuremill.artifacts.reader import Artifact, Verification, load
from featuremill.artifacts.store import ObjectStore, Store, open_store

__all__ = [
    "FORMAT_VERSION",
    "AliasEntry",
    "AliasMoved",
    "Artifact",
    "ArtifactError",
    "ArtifactSummary",
    "Change",
    "Collected",
    "Diff",
    "Manifest",
    "MissingArtifactError",
    "ObjectStore",
    "Store",
    "Verification",
    "VersionSummary",
    "build_files",
    "collect",
    "collect_vectors",
    "describe",
    "diff",
    "history",
    "list_aliases",
    "list_artifacts",
    "load",
    "move",
    "open_store",
    "publish",
    "read_alias",
    "resolve",
    "show_artifact",
    "versions",
]

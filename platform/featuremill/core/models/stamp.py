"""The artifact that a model was trained with, written beside the model.

A model that gets other features than it learnt from answers all the same. So the version of the artifact whose datasets
it was trained on is written into ``<model>.stamp.json`` next to the file (or folder), and a score job with another one
stops before it runs. The stamp holds the model's own digest: a model that is overwritten later is not vouched for by
the stamp of the one before.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from featuremill.artifacts.errors import ArtifactError, MissingArtifactError, RequestError
from featuremill.artifacts.manifest import Manifest, canonical_json, digest, parse_json
from featuremill.artifacts.reader import Artifact, load
from featuremill.artifacts.store import ObjectStore, open_store
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.files import digest_of, local_path
from featuremill.core.models.spec import ModelSpec

__all__ = ["FORMAT_VERSION", "SUFFIX", "Stamp", "check_stamp", "read_stamp", "schema_digest", "stamp"]

FORMAT_VERSION = 1
"""The newest format of stamps that this release writes and reads."""

SUFFIX = ".stamp.json"


@dataclass(frozen=True)
class Stamp:
    """What a model was trained with."""

    model_sha256: str
    """The digest of the model's file or folder."""
    artifact: str
    """The artifact's name."""
    version: str
    """Its version: 16 hex digits."""
    output_schema: str
    """The SHA-256 of the names and types of its output columns."""
    created: str
    """When the stamp was written, ISO 8601 with a time zone."""
    format_version: int = field(default=FORMAT_VERSION, kw_only=True)


def stamp(model_path: str | os.PathLike[str], artifact_reference: str | os.PathLike[str]) -> Stamp:
    """Write beside a model which artifact it was trained with; an older stamp is replaced.

    Parameters
    ----------
    model_path
        The model's file or folder, here or in a bucket.
    artifact_reference
        As :func:`featuremill.artifacts.reader.load` takes it: an alias is resolved now, and the version written.

    Raises
    ------
    ModelFileError
        When there is no such model.
    MissingArtifactError
        When there is no such artifact, version or alias.
    """
    path = os.fspath(model_path)
    manifest = load(artifact_reference).manifest
    made = Stamp(
        model_sha256=digest_of(local_path(path)),
        artifact=manifest.name,
        version=manifest.version,
        output_schema=schema_digest(manifest),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    store, name = _place(path)
    store.put(name, canonical_json(asdict(made)) + b"\n")
    return made


def read_stamp(model_path: str | os.PathLike[str]) -> Stamp | None:
    """The stamp of a model; None when it has none.

    Raises
    ------
    ModelFileError
        When there is no such model, its stamp is damaged or of a newer format, or was written for another file.
    """
    path = os.fspath(model_path)
    got = digest_of(local_path(path))
    store, name = _place(path)
    where = f"{store.root}/{name}"
    try:
        data = store.get(name)
    except MissingArtifactError:
        return None
    found = _parsed(data, where)
    if found.model_sha256 != got:
        raise ModelFileError(
            f"{where} was stamped for another file: its model has the SHA-256 {found.model_sha256[:16]}…, {path} has "
            f"{got[:16]}…. Stamp the new model with the artifact that it was trained with, or delete the stamp.",
            path=path, expected=found.model_sha256, got=got,
        )
    return found


def check_stamp(spec: ModelSpec, artifact: Artifact | None) -> Stamp | None:
    """The model's stamp, when it fits the job's artifact; None when it has none, or the job ignores it.

    Another version is refused even if its columns are the same: its statistics are others, and a standardised or
    bucketised value means something else.

    Parameters
    ----------
    artifact
        The job's; None for a job without one.

    Raises
    ------
    RequestError
        When the model was trained with another artifact, or with one and the job has none.
    ModelFileError
        When the stamp cannot be read, or was written for another file.
    """
    if spec.path is None or spec.stamp == "ignore":
        return None
    found = read_stamp(spec.path)
    if found is None:
        return None
    trained = f"{found.artifact}@{found.version}"
    if artifact is None:
        raise RequestError(
            f"{spec.path} was trained with the artifact {trained}, and the job has none. Set artifact: to it, or "
            "stamp: ignore in the model.",
            path=spec.path, trained=trained,
        )
    if (found.artifact, found.version) == (artifact.name, artifact.version):
        return found
    given = f"{artifact.name}@{artifact.version}"
    why = (
        "The columns are the same, but the transforms or their statistics are not"
        if found.output_schema == schema_digest(artifact.manifest)
        else "Even the columns that it makes are not the same"
    )
    raise RequestError(
        f"{spec.path} was trained with the artifact {trained}, the job has {given}. {why}. Score with {trained}, train "
        "the model anew and stamp it, or set stamp: ignore in the model.",
        path=spec.path, trained=trained, given=given,
    )


def schema_digest(manifest: Manifest) -> str:
    """The SHA-256 of the names, types and nullability of an artifact's output columns, as its manifest tells them."""
    return digest(canonical_json(manifest.schemas["output"]["fields"]))


def _place(path: str) -> tuple[ObjectStore, str]:
    """The folder or bucket of the model, and the name of its stamp there."""
    parent, slash, name = path.rstrip("/").rpartition("/")
    return open_store(parent or slash or "."), name + SUFFIX


def _parsed(data: bytes, where: str) -> Stamp:
    try:
        record: dict[str, Any] = parse_json(data, where)
    except ArtifactError as error:
        raise _damaged(where, "it is no JSON") from error
    version = record.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise ModelFileError(
            f"{where} has format {version}, this featuremill reads up to format {FORMAT_VERSION}. "
            "Upgrade it: pip install --upgrade featuremill.",
            path=where,
        )
    texts = ("model_sha256", "artifact", "version", "output_schema", "created")
    if set(record) != {*texts, "format_version"} or version != FORMAT_VERSION:
        raise _damaged(where, f"its keys are {', '.join(sorted(record))}")
    if not all(isinstance(record[key], str) for key in texts):
        raise _damaged(where, "a value is no text")
    return Stamp(**record)


def _damaged(where: str, why: str) -> ModelFileError:
    return ModelFileError(f"{where} is damaged: {why}. Stamp the model again, or delete the file.", path=where)

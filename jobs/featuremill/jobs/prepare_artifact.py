"""Around the artifact of a prepare job: can its root be written to, its alias, and what the record says of it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from featuremill.artifacts.errors import AliasMoved, MissingArtifactError, RequestError
from featuremill.artifacts.store import open_store
from featuremill.core.jobfile import PrepareJob
from featuremill.transforms.pipeline import Pipeline

__all__ = ["alias_version", "check_root", "job_digest", "largest_vocabularies", "move_alias"]

LARGEST_VOCABULARIES = 5
TOP_TOKENS = 5


def check_root(root: str) -> None:
    """Refuse a folder that cannot be written to before the work rather than after it."""
    store = open_store(root)
    place = store.local_path("")
    if place is None:
        store.check_writable()
        return
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".featuremill-", dir=place))
    except OSError as error:
        raise RequestError(
            f"The artifact folder {root} cannot be written to: {error.strerror or error}. Choose another "
            "artifact root or mend its permissions.",
            path=root,
        ) from error


def alias_version(root: str, name: str, alias: str) -> str | None:
    """The version that an alias stands for now."""
    from featuremill.artifacts.aliases import list_aliases

    try:
        found = list_aliases(root, name).get(alias)
    except MissingArtifactError:
        return None
    return found.version if found else None


def move_alias(*, root: str, name: str, alias: str, version: str, before: str | None, why: str) -> None:
    """Let the alias stand for the new version, unless somebody moved it while the job was running."""
    from featuremill.artifacts.aliases import move

    now = alias_version(root, name, alias)
    if now == version:
        return
    if now != before:
        raise AliasMoved(
            f"{name}@{alias} was moved to {now} while the job was running, and was left there. The run itself is "
            f"complete: its artifact is {version}. Look at both, then move the alias.",
            artifact=name,
            alias=alias,
            version=version,
        )
    move(root, name, alias, version, why=why, expected=before)


def largest_vocabularies(pipeline: Pipeline, states: Mapping[str, pa.Table]) -> tuple[dict[str, Any], ...]:
    """The largest vocabularies, with their most frequent tokens."""
    found = []
    for slot in pipeline.slots():
        table = states[slot.key]
        if table.column_names[:2] == ["token", "count"]:
            top = table.slice(0, TOP_TOKENS).to_pylist()
            found.append(
                {
                    "column": slot.slot,
                    "size": table.num_rows,
                    "made_by": type(pipeline.transforms[slot.transform]).__name__,
                    "top": [[row["token"], row["count"]] for row in top],
                }
            )
    return tuple(sorted(found, key=lambda v: (-v["size"], v["column"]))[:LARGEST_VOCABULARIES])


def job_digest(job: PrepareJob) -> str:
    """A digest of what a job says, wherever its outputs go."""
    content = job.model_dump(mode="json", exclude={"runner", "dataset", "artifact", "quality"})
    if job.quality.is_given:
        content["quality"] = job.quality.model_dump(mode="json")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

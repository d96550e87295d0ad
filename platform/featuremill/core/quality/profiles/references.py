"""What a run is compared with: the profile in an artifact, or the run before it in the same folder."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pyarrow as pa

from featuremill.artifacts.errors import ArtifactError, FeaturemillError, MissingArtifactError, RequestError
from featuremill.artifacts.layout import PROFILE
from featuremill.artifacts.reader import Artifact, load
from featuremill.artifacts.store import open_store
from featuremill.core.quality.profiles.profile import Profile
from featuremill.core.quality.profiles.profile_stats import kind_of
from featuremill.core.quality.reports.report import Report
from featuremill.core.quality.reports.report_files import JSON_FILE, REPORT_FOLDER, runs_with_reports
from featuremill.core.staging import RECORD

__all__ = [
    "Reference",
    "alias_reference",
    "artifact_reference",
    "check_comparable",
    "named_reference",
    "previous_report",
    "profile_bytes",
    "report_reference",
]


@dataclass(frozen=True)
class Reference:
    """Profiles to compare with."""

    name: str
    """Where they come from, in words."""
    raw: Profile | None
    """Of the rows as they were read."""
    output: Profile | None
    """Of the rows as they came out."""


def profile_bytes(raw: Profile | None, output: Profile | None) -> bytes:
    """The content of an artifact's :data:`~featuremill.artifacts.layout.PROFILE`."""
    content = {"raw": raw and raw.record(), "output": output and output.record()}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def artifact_reference(artifact: Artifact, name: str, *, needed: bool) -> Reference | None:
    """The profiles in an artifact; None where it has none, unless they are `needed`.

    Raises
    ------
    MissingArtifactError
        When there is none and it is needed.
    ArtifactError
        When there is one that cannot be read.
    """
    data = artifact.profile_json()
    if data is None:
        if needed:
            raise MissingArtifactError(
                f"{name} has no profile to compare with: it was prepared with profile: false, or by an older release. "
                "Prepare it again, or compare with another version.",
                artifact=name,
            )
        return None
    where = f"{artifact.location}/{PROFILE}"
    try:
        content = json.loads(data)
        raw, output = content["raw"], content["output"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{where} is no profile. Prepare the artifact again.", file=where) from error
    return Reference(
        name,
        None if raw is None else Profile.from_record(raw, where),
        None if output is None else Profile.from_record(output, where),
    )


def alias_reference(reference: str) -> Reference | None:
    """The profiles in the artifact that an alias stands for now; None where nothing was published yet."""
    try:
        artifact = load(reference)
    except MissingArtifactError:
        return None
    return artifact_reference(artifact, f"{reference} ({artifact.version})", needed=False)


def named_reference(against: str) -> Reference:
    """The profiles of an artifact that a job names.

    Raises
    ------
    RequestError
        When it is not there, or has none.
    """
    if "/" not in against or "@" not in against:
        raise RequestError(
            f"drift.against got {against!r}, expected previous, artifact, or ROOT/NAME@VERSION (or @ALIAS).",
            parameter="against",
        )
    found = artifact_reference(load(against), against, needed=True)
    assert found is not None  # it was needed
    return found


def previous_report(folder: str, run: str, *, done: bool = False) -> Report | None:
    """The report of the latest run in a folder of runs, other than `run`; None where there is none that can be read.

    With `done`, of the latest that went to its end: what a gate stopped is nothing to compare with.
    """
    store = open_store(folder)
    for other in runs_with_reports(store):
        if other == run:
            continue
        path = f"{other}/{REPORT_FOLDER}/{JSON_FILE}"
        try:
            if not done or json.loads(store.get(f"{other}/{RECORD}"))["status"] == "done":
                return Report.from_json(store.get(path), f"{store.root}/{path}")
        except (FeaturemillError, ValueError, LookupError, TypeError):
            # What an older or a newer release left is no reason to fail a run that has its results.
            continue
    return None


def report_reference(report: Report) -> Reference:
    """The profiles in the report of a run."""
    profiles = {section.name: section.profile for section in report.profiles}
    return Reference(f"run {report.run}", profiles.get("raw"), profiles.get("output"))


def check_comparable(reference: Reference, schema: pa.Schema) -> None:
    """Refuse a reference that is of another table.

    Raises
    ------
    RequestError
        When it has none of the columns, or one of them is of another kind there: a text here and a number there.
    """
    if reference.raw is None:
        return
    columns = {column.name: column for column in reference.raw.columns}
    if not set(columns) & set(schema.names):
        raise RequestError(
            f"{reference.name} is of other rows: of its columns {_some(list(columns))} the source has none. "
            "Compare with an artifact of this source.",
            artifact=reference.name,
        )
    for field in schema:
        known = columns.get(field.name)
        if known is not None and known.kind != kind_of(field.type):
            raise RequestError(
                f"{reference.name} is of other rows: the column {field.name!r} is {known.type} there and {field.type} "
                "in the source. Compare with an artifact of this source.",
                artifact=reference.name,
            )


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")

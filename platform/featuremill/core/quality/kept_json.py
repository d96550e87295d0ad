"""Dataclasses that are kept as JSON with the number of their format, read back strictly."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from featuremill.artifacts.errors import ArtifactError

__all__ = ["from_kept_json"]

T = TypeVar("T")


def from_kept_json(adapter: TypeAdapter[T], data: bytes | str, *, what: str, where: str, supported: int) -> T:
    """The object that was kept as JSON; every field is checked, and nothing is run.

    Parameters
    ----------
    what, where
        What it is and the file it is from, for errors.
    supported
        The newest format that is understood; the JSON has its own under ``format_version``.

    Raises
    ------
    ArtifactError
        When it is something else, or of a newer format.

    >>> from_kept_json(TypeAdapter(dict[str, int]), '{"format_version": 2}', what="thing", where="a.json", supported=1)
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ArtifactError: a.json has format 2, this featuremill reads up to format 1. Upgrade \
it: pip install --upgrade featuremill.
    """

    def wrong(problem: str) -> ArtifactError:
        return ArtifactError(f"{where} is no {what}: {problem}. Make it anew by running the job again.", file=where)

    try:
        record: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise wrong(f"it is no valid JSON ({error})") from error
    found = record.get("format_version") if isinstance(record, dict) else None
    if type(found) is not int or found < 1:
        raise wrong("format_version is missing")
    if found > supported:
        raise ArtifactError(
            f"{where} has format {found}, this featuremill reads up to format {supported}. "
            "Upgrade it: pip install --upgrade featuremill.",
            file=where, format_version=found, supported=supported,
        )  # fmt: skip
    try:
        # From text, not from `record`: a tuple is a list only in JSON.
        return adapter.validate_json(data)
    except (ValidationError, RecursionError) as error:
        raise wrong(_first(error)) from error


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}, got {first['input']!r:.60}"

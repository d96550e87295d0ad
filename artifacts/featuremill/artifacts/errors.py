"""The errors of featuremill.

Every error is a :class:`FeaturemillError`. Below it, two questions decide the class:

* Whose fault is it? :class:`RequestError` says that what was asked for is wrong (a parameter, a job file, a path) and
  that running it again changes nothing. :class:`JobError` says that the work itself failed. :class:`BadRows` says that
  single rows could not be processed, which costs those rows and not the job.
* Is it a wrong type or a wrong value? Request errors are also a ``TypeError`` or a ``ValueError``, so that code written
  against the built-in exceptions keeps working.

The facts of an error (which column, which file, what was expected) are attributes, and an error survives pickling,
because it has to cross from a worker process to the launcher.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

__all__ = [
    "AliasMoved",
    "AlreadyExists",
    "ArtifactError",
    "BadRows",
    "ColumnTypeError",
    "FeaturemillError",
    "JobError",
    "MissingArtifactError",
    "MissingColumnError",
    "MissingExtraError",
    "ParameterError",
    "ParameterTypeError",
    "RequestError",
    "StoreError",
    "suggest",
]


class FeaturemillError(Exception):
    """The base of every error that featuremill raises on purpose.

    The keyword arguments are the facts of the error; each becomes an attribute.

    >>> error = FeaturemillError("air_time is missing", column="air_time")
    >>> str(error), error.column
    ('air_time is missing', 'air_time')
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        # Looked up through __dict__: unpickling asks for attributes before `facts` exists.
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(name)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), str(self), self.facts))


def _rebuild(kind: type[FeaturemillError], message: str, facts: dict[str, Any]) -> FeaturemillError:
    return kind(message, **facts)


class RequestError(FeaturemillError):
    """What was asked for is wrong; nothing was run."""


class ParameterError(RequestError, ValueError):
    """A parameter has a value that cannot work."""


class ParameterTypeError(RequestError, TypeError):
    """A parameter has the wrong type."""


class MissingColumnError(RequestError, ValueError):
    """A column that something needs is not there."""


class ColumnTypeError(RequestError, TypeError):
    """A transform was given a column of a type it cannot take."""


class MissingExtraError(RequestError, ImportError):
    """An optional package is not installed; the message says which ``pip install`` mends it."""


class JobError(FeaturemillError):
    """The work failed: a gate closed, too many bad rows, a source that broke."""


class ArtifactError(FeaturemillError, ValueError):
    """An artifact is missing, damaged, or of a format that this version cannot read."""


class MissingArtifactError(RequestError, ArtifactError):
    """What was asked for by name is not there: an artifact, a version, an alias, a file of one."""


class AliasMoved(ArtifactError):
    """Somebody else moved the alias first; `entry` is what they wrote, and nothing of ours was."""


class AlreadyExists(FeaturemillError):
    """A create-only write met something that is there already, at `path`."""


class StoreError(JobError):
    """The place where artifacts live could not be read or written: a full disk, a broken connection."""


class BadRows(FeaturemillError):
    """Some rows of a batch cannot be processed; the others can.

    Parameters
    ----------
    message
        The reason, in one line, without the values of the rows.
    rows
        Positions of the offending rows in the batch, ascending.
    """

    def __init__(self, message: str, *, rows: Sequence[int] = (), **facts: Any) -> None:
        super().__init__(message, rows=[int(row) for row in rows], **facts)


def suggest(name: str, known: Sequence[str]) -> str:
    """A sentence naming the closest known names, or all of them when there are few; for the end of an error message.

    >>> suggest("air_tme", ["air_time", "distance"])
    "Did you mean 'air_time'?"
    >>> suggest("x", ["air_time", "distance"])
    "Known: 'air_time', 'distance'."
    """
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return "Did you mean " + " or ".join(repr(c) for c in close) + "?"
    shown = ", ".join(repr(k) for k in known[:12])
    return f"Known: {shown}{', …' if len(known) > 12 else ''}."

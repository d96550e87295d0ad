"""Names of artifacts and aliases, and references such as ``root/name@prod``."""

from __future__ import annotations

import re
from typing import Any

from featuremill.artifacts.errors import ParameterError, ParameterTypeError
from featuremill.artifacts.layout import EMBEDDINGS

__all__ = ["check_name", "check_version", "is_version", "split_reference"]

MAX_LENGTH = 128
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[0-9a-f]{16}")


def is_version(text: str) -> bool:
    """Whether a text has the form of a version: 16 hex digits."""
    return bool(_VERSION.fullmatch(text))


def check_name(name: Any, what: str) -> str:
    """The name itself, when it can name an artifact or an alias (`what`).

    Letters, digits, ``.``, ``_`` and ``-``, at most 128, not beginning with ``.`` or ``-``, and not like a version.

    >>> check_name("flights-2024", "artifact")
    'flights-2024'
    >>> check_name("deadbeefdeadbeef", "alias")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: The alias name 'deadbeefdeadbeef' looks like a version. Choose another.
    """
    if not isinstance(name, str):
        raise ParameterTypeError(f"The {what} name must be a text, got {name!r}.", value=name)
    if is_version(name):
        raise ParameterError(f"The {what} name {name!r} looks like a version. Choose another.", value=name)
    if name == EMBEDDINGS:
        raise ParameterError(f"The {what} name {name!r} is taken by the vectors of embeddings.", value=name)
    if not _NAME.fullmatch(name) or len(name) > MAX_LENGTH:
        raise ParameterError(
            f"The {what} name {name!r} cannot be used: it takes letters, digits, '.', '_' and '-', at most "
            f"{MAX_LENGTH}, and begins with a letter, a digit or '_'.",
            value=name,
        )
    return name


def check_version(version: Any) -> str:
    """The version itself, when it has the form of one; else ParameterError."""
    if not isinstance(version, str) or not is_version(version):
        raise ParameterError(f"{version!r} is no version: a version is 16 hex digits.", value=version)
    return version


def split_reference(reference: str) -> tuple[str, str, str | None]:
    """A reference cut into root, artifact name, and alias or version (None when it names neither).

    >>> split_reference("gs://bucket/artifacts/flights@prod")
    ('gs://bucket/artifacts', 'flights', 'prod')
    >>> split_reference("flights")
    ('.', 'flights', None)
    """
    head, slash, last = reference.rstrip("/").rpartition("/")
    root = head if head and not head.endswith(":/") else ("/" if slash else ".")
    name, at, wanted = last.partition("@")
    return root, name, wanted if at else None

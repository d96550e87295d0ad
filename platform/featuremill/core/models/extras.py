"""Frameworks are optional, and imported when a model needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from featuremill.artifacts.errors import MissingExtraError, ParameterError, suggest

__all__ = ["import_extra", "named_class"]


def import_extra(module: str, extra: str, what: str) -> Any:
    """A module of an optional package, for `what`.

    >>> import_extra("no_such_framework", "onnx", "late.onnx")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.MissingExtraError: late.onnx needs the package no_such_framework, which cannot be
    imported (No module named 'no_such_framework'). pip install 'featuremill[onnx]'
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs the package {module}, which cannot be imported ({error}). "
            f"pip install 'featuremill[{extra}]'",
            package=module, extra=extra,
        ) from error


def named_class(name: str) -> type[Any]:
    """The class that a user names as ``package.module:Class``; its module is imported, which runs its code.

    Raises
    ------
    ParameterError
        When it cannot be imported, or is no class.
    """
    module_name, _, names = name.partition(":")
    try:
        found: Any = import_module(module_name)
    except ImportError as error:
        raise ParameterError(
            f"class got {name!r}: {module_name} cannot be imported ({error}). Install its package, or start "
            "where the module is.",
            parameter="class", value=name,
        ) from error
    for part in names.split("."):
        if not hasattr(found, part):
            known = [n for n in dir(found) if not n.startswith("_")]
            raise ParameterError(
                f"class got {name!r}: {module_name} has no {part!r}. {suggest(part, known)}",
                parameter="class", value=name,
            )
        found = getattr(found, part)
    if not isinstance(found, type):
        raise ParameterError(
            f"class got {name!r}, which is no class but {type(found).__name__}.", parameter="class",
            value=name,
        )
    return found

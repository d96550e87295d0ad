"""Frameworks are optional, and imported when a model needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from featuremill.artifacts.errors import MissingExtraError

__all__ = ["import_extra"]


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

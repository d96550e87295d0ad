"""From a transform's name to its class: an explicit list, so that nothing in an artifact can name code to run.

Adding a transform to featuremill costs its class, a test, and one line here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from featuremill.artifacts.errors import ParameterError, ParameterTypeError, suggest
from featuremill.transforms.contract import Transform

__all__ = ["CATALOGUE", "STOCK_ROOT", "from_config", "register", "to_config", "transform_class", "transform_names"]

CATALOGUE: Mapping[str, str] = {
    "ApplyBuckets": "bucketing",
    "ApplyBucketsWithInterpolation": "bucketing",
    "BagOfWords": "text",
    "Bucketize": "bucketing",
    "Clip": "numeric",
    "ComputeAndApplyVocabulary": "vocabulary",
    "DatetimeParts": "datetime_parts",
    "DeduplicateTensorPerRow": "text",
    "EmbedColumns": "embedding_columns",
    "EmbedImage": "embedding_images",
    "EmbedText": "embedding",
    "FeatureCross": "crossing",
    "FrequencyEncode": "encoding",
    "HashStrings": "hashing",
    "Impute": "imputation",
    "LogTransform": "numeric",
    "NGrams": "text",
    "OneHot": "encoding",
    "ScaleByMinMax": "scaling",
    "ScaleTo01": "scaling",
    "ScaleToGaussian": "scaling",
    "ScaleToZScore": "scaling",
    "TFIDF": "tfidf",
}
"""The transforms of featuremill: class name to module of this package."""

STOCK_ROOT = "apache_beam.ml.transforms."
"""What the names of Beam's own transforms begin with: the paths of their classes."""

_registered: dict[str, type[Transform]] = {}


def register(kind: type[Transform]) -> type[Transform]:
    """Make a transform of your own known by its class name, for job files and for loading artifacts; a decorator.

    A process that loads an artifact with such a transform imports and registers it first: the artifact carries its
    name and parameters, never its code.

    Raises
    ------
    ParameterError
        When featuremill itself has a transform of that name.
    """
    name = kind.__name__
    if name in CATALOGUE:
        raise ParameterError(f"register: {name} is a transform of featuremill; give yours another name.", name=name)
    _registered[name] = kind
    return kind


def transform_names() -> list[str]:
    """All known names, sorted."""
    return sorted([*CATALOGUE, *_registered])


def transform_class(name: str) -> type[Transform]:
    """The class behind a name.

    >>> transform_class("ScaleTo01").__name__
    'ScaleTo01'
    >>> transform_class("ScaleTo02")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: There is no transform 'ScaleTo02'. Did you mean 'ScaleTo01' or ...
    """
    if name in _registered:
        return _registered[name]
    if name not in CATALOGUE:
        raise ParameterError(f"There is no transform {name!r}. {suggest(name, transform_names())}", name=name)
    kind: type[Transform] = getattr(import_module(f"featuremill.transforms.{CATALOGUE[name]}"), name)
    return kind


def to_config(transforms: Iterable[Transform]) -> list[dict[str, Any]]:
    """Transforms as JSON-ready ``{"type": …, "config": …}``, in Beam YAML's MLTransform syntax."""
    return [{"type": t.type_name, "config": t.config()} for t in transforms]


def from_config(config: Sequence[Mapping[str, Any]]) -> list[Transform]:
    """The transforms from ``[{"type": …, "config": {…}}, …]``.

    Raises
    ------
    ParameterError, ParameterTypeError
        For an unknown transform or parameter, or one of a wrong type or value.

    >>> from_config([{"type": "Clip", "config": {"columns": ["x"], "max_valeu": 3}}])
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: Clip has no parameter 'max_valeu'. Did you mean 'max_value' or ...
    """
    return [build_transform(item["type"], item.get("config") or {}) for item in config]


def build_transform(name: str, config: Mapping[str, Any]) -> Transform:
    """One transform by name and parameters; errors as in :func:`from_config`."""
    from dataclasses import fields

    if name.startswith(STOCK_ROOT):
        from featuremill.transforms.stock import Stock

        return Stock.from_config(name, config)
    kind = transform_class(name)
    known = [f.name for f in fields(kind)]
    for key in config:
        if key not in known:
            close = suggest(str(key), known).replace("Known:", "It has:")
            raise ParameterError(f"{name} has no parameter {key!r}. {close}", transform=name, parameter=key)
    try:
        return kind(**config)
    except TypeError as error:
        if isinstance(error, ParameterTypeError):
            raise
        missing = str(error).partition("argument")[2].lstrip("s: ")
        message = f"{name} needs the parameter {missing}." if "required" in str(error) else f"{name}: {error}."
        raise ParameterTypeError(message, transform=name) from error

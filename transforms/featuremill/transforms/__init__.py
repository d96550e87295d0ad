"""The transforms of featuremill.

The names below are looked up when they are asked for, and then bring Beam along, since they work inside Beam's
MLTransform. A process that only serves uses :mod:`featuremill.artifacts`, which needs none of this.

>>> from featuremill.transforms import Clip
>>> Clip(columns=["x"], max_value=9.0).output_names
['x']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featuremill.transforms.bucketing import ApplyBuckets, ApplyBucketsWithInterpolation, Bucketize
    from featuremill.transforms.contract import Analyzer, ColumnTransform, Transform
    from featuremill.transforms.crossing import FeatureCross
    from featuremill.transforms.datetime_parts import DatetimeParts
    from featuremill.transforms.embedding import EmbedText
    from featuremill.transforms.embedding_columns import EmbedColumns
    from featuremill.transforms.embedding_images import EmbedImage
    from featuremill.transforms.encoding import FrequencyEncode, OneHot
    from featuremill.transforms.hashing import HashStrings
    from featuremill.transforms.imputation import Impute
    from featuremill.transforms.numeric import Clip, LogTransform
    from featuremill.transforms.registry import register
    from featuremill.transforms.scaling import ScaleByMinMax, ScaleTo01, ScaleToGaussian, ScaleToZScore
    from featuremill.transforms.text import BagOfWords, DeduplicateTensorPerRow, NGrams
    from featuremill.transforms.tfidf import TFIDF
    from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary

__all__ = [
    "TFIDF",
    "Analyzer",
    "ApplyBuckets",
    "ApplyBucketsWithInterpolation",
    "BagOfWords",
    "Bucketize",
    "Clip",
    "ColumnTransform",
    "ComputeAndApplyVocabulary",
    "DatetimeParts",
    "DeduplicateTensorPerRow",
    "EmbedColumns",
    "EmbedImage",
    "EmbedText",
    "FeatureCross",
    "FrequencyEncode",
    "HashStrings",
    "Impute",
    "LogTransform",
    "NGrams",
    "OneHot",
    "ScaleByMinMax",
    "ScaleTo01",
    "ScaleToGaussian",
    "ScaleToZScore",
    "Transform",
    "register",
]

_ELSEWHERE = {
    "Analyzer": "contract",
    "ColumnTransform": "contract",
    "Transform": "contract",
    "register": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'beam')}"), name)


def __dir__() -> list[str]:
    return __all__

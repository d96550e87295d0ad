"""What an artifact learned, in numbers that a person asks for."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from featuremill.core.quality.reports.learned import Learnt, what_was_learned
from featuremill.transforms.bucketing import Bucketize
from featuremill.transforms.contract import Transform
from featuremill.transforms.imputation import Impute
from featuremill.transforms.plan import Plan
from featuremill.transforms.scaling import ScaleToZScore
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary
from support.serving import fitted_states

BATCH = pa.record_batch(
    {
        "x": pa.array([1.0, 2.0, None, 4.0, 9.0]),
        "y": pa.array(np.arange(5.0)),
        "word": pa.array(["b", "a", "b", "c", "b"]),
    }
)


def learned(*transforms: Transform) -> Learnt:
    plan = Plan(list(transforms))
    return what_was_learned(plan.transforms, plan.slots, fitted_states(list(transforms), BATCH))


def values(*transforms: Transform) -> dict[str, object]:
    (found,) = learned(*transforms).values
    return dict(found.values)


def test_a_histogram_is_what_was_taken_from_it() -> None:
    assert values(Impute(["x"], strategy="median")) == {"count": 4, "median": 3.0, "min": 1.0, "max": 9.0}
    assert values(Bucketize(["y"], num_buckets=2)) == {"count": 5, "boundaries": [2.0]}


def test_moments_have_a_deviation_and_only_what_was_met() -> None:
    y = values(ScaleToZScore(["y"]))
    assert y == {"count": 5, "mean": 2.0, "std": pytest.approx(2**0.5), "min": 0.0, "max": 4.0}
    assert values(Impute(["x"], strategy="mean"))["nulls"] == 1


def test_vocabularies_have_their_most_frequent_tokens() -> None:
    (found,) = learned(ComputeAndApplyVocabulary(["word"])).vocabularies
    assert (found.column, found.size, found.top[0]) == ("word", 3, ("b", 3))

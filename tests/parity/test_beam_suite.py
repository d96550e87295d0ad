"""Beam's own public test suite for its transforms, run with featuremill's classes in their place.

The suite is read from the installed package (`apache_beam/ml/transforms/tft_test.py`), its one import of the stock
transforms is pointed at `featuremill.transforms`, and every test is run. A test that is expected to fail stands in
`DIFFERENT`, with the reason; it has to fail, so that the list cannot grow stale.
"""

from __future__ import annotations

import importlib.util
import sys
import types
import unittest
from pathlib import Path

import pytest

pytestmark = pytest.mark.differential

STOCK_IMPORT = "from apache_beam.ml.transforms import tft"
OUR_IMPORT = "import featuremill.transforms as tft"

LAYOUT = (
    "looks for a vocabulary in TensorFlow Transform's layout (transform_fn/assets); featuremill's artifacts hold no "
    "TensorFlow graph, and keep readable copies in vocabulary/"
)

DIFFERENT = {
    "BagOfWordsTest.test_count_per_key_on_list": LAYOUT,
    "ComputeAndApplyVocabTest.test_multiple_columns_with_default_vocab_name": LAYOUT,
    "ComputeAndApplyVocabTest.test_multiple_columns_with_vocab_name": LAYOUT,
}


def _suite() -> types.ModuleType:
    found = importlib.util.find_spec("apache_beam.ml.transforms.tft_test")
    assert found is not None and found.origin is not None
    source = Path(found.origin).read_text()
    assert source.count(STOCK_IMPORT) == 1, "Beam's test suite imports its transforms in another way now"
    module = types.ModuleType("beam_tft_test")
    module.__file__ = found.origin
    sys.modules[module.__name__] = module
    exec(compile(source.replace(STOCK_IMPORT, OUR_IMPORT), found.origin, "exec"), module.__dict__)
    return module


def _cases() -> list[unittest.TestCase]:
    found: list[unittest.TestCase] = []

    def walk(suite: unittest.TestSuite) -> None:
        for item in suite:
            if isinstance(item, unittest.TestSuite):
                walk(item)
            else:
                found.append(item)

    walk(unittest.defaultTestLoader.loadTestsFromModule(_suite()))
    return found


CASES = _cases()


def test_the_suite_is_whole() -> None:
    assert len(CASES) >= 40
    assert set(DIFFERENT) <= {_name(case) for case in CASES}


def _name(case: unittest.TestCase) -> str:
    return ".".join(case.id().split(".")[-2:])


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_beam(case: unittest.TestCase) -> None:
    result = unittest.TestResult()
    case.run(result)
    assert result.testsRun == 1
    problems = [text for _, text in (*result.failures, *result.errors)]
    if _name(case) in DIFFERENT:
        assert problems, f"passes now; take it off the list: {DIFFERENT[_name(case)]}"
    else:
        assert not problems, problems[0]

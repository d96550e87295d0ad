"""Coders of record batches: what goes in comes out, and Beam weighs batches without copying them."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam import coders
from apache_beam.ml.inference.base import PredictionResult

from featuremill.core.batch_coders import BatchCoder, BatchResult, ResultCoder
from featuremill.core.feature_recipe import FeatureRecipe, dictionary_of, numbered
from featuremill.core.inference.predictions import Predictions, constant
from featuremill.core.inference.steps import Score
from featuremill.core.score_io import ReadFeatures
from support.scoring_models import line_spec

TEXTS = pa.array(["a", None, "b", "a", "", "c"]).dictionary_encode()
BATCH = numbered(pa.record_batch({"x": np.arange(6.0), "t": TEXTS}), "00000", 0)


@pytest.mark.parametrize("batch", [BATCH, BATCH.slice(2, 3), BATCH.slice(0, 0), BATCH.select([])])
def test_a_batch_comes_out_as_it_went_in(batch: pa.RecordBatch) -> None:
    found = BatchCoder().decode(BatchCoder().encode(batch))
    assert found.equals(batch) and found.schema.equals(batch.schema)


def test_a_result_comes_out_as_it_went_in() -> None:
    result = PredictionResult(BATCH, Predictions(pa.record_batch({"y": np.arange(6.0)}), constant("v", 6)), "v")
    found = ResultCoder().decode(ResultCoder().encode(result))
    assert found.example.equals(BATCH) and found.model_id == "v"
    assert found.inference.columns.equals(result.inference.columns)
    assert ResultCoder().estimate_size(result) == BATCH.nbytes + 48


class Unpicklable:
    """Stands where a batch does: whoever pickles it to learn its size fails."""

    nbytes = 7

    def __reduce__(self) -> Any:
        raise AssertionError("pickled")


def test_beam_weighs_a_batch_without_pickling_it() -> None:
    assert coders.registry.get_coder(pa.RecordBatch).get_impl().estimate_size(Unpicklable()) == 7
    with pytest.raises(AssertionError, match="pickled"):
        coders.FastPrimitivesCoder().get_impl().estimate_size(Unpicklable())


def test_the_steps_of_a_scoring_job_have_these_coders() -> None:
    schema = pa.schema([("x", pa.float64())])
    pipeline = beam.Pipeline()
    read = pipeline | beam.Create([]) | beam.ParDo(ReadFeatures(FeatureRecipe(None, schema, ("x",)))).with_outputs(
        "read", "_rejected", main="features"
    )
    scored, _ = read.features | Score(line_spec(), schema)
    assert read.features.element_type is scored.element_type is pa.RecordBatch
    between = [out for part in _parts(pipeline.transforms_stack[0]) for out in part.outputs.values()]
    assert BatchResult in {out.element_type for out in between}
    assert isinstance(coders.registry.get_coder(BatchResult), ResultCoder)


def _parts(node: Any) -> list[Any]:
    return [node, *(inner for part in node.parts for inner in _parts(part))]


def test_a_dictionary_is_made_for_any_number_of_rows() -> None:
    assert dictionary_of("a", 0).to_pylist() == []
    assert dictionary_of(None, 2).to_pylist() == [None, None]

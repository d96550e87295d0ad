"""Plans: which statistics go into which scan, what a scan applies and reads."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.transforms.bucketing import ApplyBuckets, Bucketize
from featuremill.transforms.contract import Transform
from featuremill.transforms.crossing import FeatureCross
from featuremill.transforms.numeric import Clip, LogTransform
from featuremill.transforms.pipeline import BoundPipeline, Pipeline
from featuremill.transforms.plan import Plan, Scan
from featuremill.transforms.scaling import ScaleTo01, ScaleToZScore
from featuremill.transforms.text import NGrams
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary
from support.fitting import apply, fit


def keys(plan: Plan) -> list[list[str]]:
    return [[slot.key for slot in scan.slots] for scan in plan.scans]


def shape(scan: Scan) -> tuple[tuple[int, ...], tuple[str, ...]]:
    return scan.applies, scan.columns


def test_statistics_of_source_columns_share_one_scan() -> None:
    plan = Plan([ScaleTo01(["a", "b"]), ComputeAndApplyVocabulary(["c"]), Bucketize(["d"], 3)])
    assert keys(plan) == [["00-ScaleTo01-a", "00-ScaleTo01-b", "01-ComputeAndApplyVocabulary-c", "02-Bucketize-d"]]
    assert shape(plan.scans[0]) == ((), ("a", "b", "c", "d"))


def test_stateless_transforms_need_no_scan_and_are_folded_into_the_next() -> None:
    assert Plan([Clip(["x"], max_value=2.0)]).scans == ()
    plan = Plan([NGrams(["t"], " "), ComputeAndApplyVocabulary(["t"]), Clip(["x"], max_value=2.0)])
    assert [shape(scan) for scan in plan.scans] == [((0,), ("t",))]
    assert plan.scans[0].why == "statistics for ComputeAndApplyVocabulary(t), after NGrams"


def test_buckets_of_a_scaled_column_wait_for_the_second_scan() -> None:
    plan = Plan([ScaleToZScore(["x"]), Bucketize(["x"], 4), ScaleTo01(["y"])])
    assert keys(plan) == [["00-ScaleToZScore-x", "02-ScaleTo01-y"], ["01-Bucketize-x"]]
    assert [shape(scan) for scan in plan.scans] == [((), ("x", "y")), ((0,), ("x",))]


def test_a_column_has_a_version_for_each_transform_that_wrote_it() -> None:
    # Bucketize sees the source's x, since the scaled one has another name.
    plan = Plan([ScaleTo01(["x"], output="x01"), Bucketize(["x"], 4), ScaleToZScore(["x01"]), Bucketize(["x01"], 3)])
    assert keys(plan) == [["00-ScaleTo01-x", "01-Bucketize-x"], ["02-ScaleToZScore-x01"], ["03-Bucketize-x01"]]
    assert [shape(scan) for scan in plan.scans] == [((), ("x",)), ((0,), ("x",)), ((0, 2), ("x",))]


def test_an_applied_transform_brings_the_columns_it_reads() -> None:
    plan = Plan([FeatureCross(["a", "b"], hash_buckets=10, output="ab"), ComputeAndApplyVocabulary(["ab"])])
    assert [shape(scan) for scan in plan.scans] == [((0,), ("a", "b"))]


def test_transforms_that_a_scan_does_not_need_are_left_out() -> None:
    plan = Plan([LogTransform(["y"]), Clip(["x"], max_value=1.0), Bucketize(["x"], 2), ApplyBuckets(["y"], [0.0])])
    assert [shape(scan) for scan in plan.scans] == [((1,), ("x",))]
    assert plan.input_columns == ["x", "y"]


def test_a_column_that_a_transform_makes_is_no_input() -> None:
    plan = Plan([Clip(["x"], max_value=1.0, output="y"), ScaleTo01(["y"])])
    assert plan.input_columns == ["x"]
    # Read before it is written: both.
    assert Plan([ScaleTo01(["y"]), Clip(["x"], max_value=1.0, output="y")]).input_columns == ["x", "y"]


def test_keys_are_file_names_and_different() -> None:
    plan = Plan([ScaleTo01(["a/b", "a b", "ä", "a%2Fb"]), ScaleTo01(["a/b"])])
    found = [slot.key for slot in plan.slots]
    assert len(set(found)) == 5
    assert not any(set(key) & set("/\\ :*?ä") for key in found)


def test_slots_are_in_the_order_of_the_transforms() -> None:
    transforms: list[Transform] = [ScaleTo01([f"c{i}"]) for i in range(101)]
    assert [slot.transform for slot in Plan(transforms).slots] == list(range(101))


def test_no_transforms_no_scans() -> None:
    assert (Plan([]).scans, Plan([]).slots, Plan([]).input_columns) == ((), [], [])


# --- any list of transforms ------------------------------------------------------------------------------------------

NAMES = ["x", "y", "z"]
DATA = pa.record_batch(
    {
        "x": [1.0, 5.0, None, 2.5, -3.0, 8.0, 1.0],
        "y": [0.5, None, 7.0, 7.0, 2.0, -1.0, 4.0],
        "z": [3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0],
    }
)


@st.composite
def chains(draw: st.DrawFn) -> list[Transform]:
    def one() -> Transform:
        source, target = draw(st.sampled_from(NAMES)), draw(st.sampled_from(NAMES))
        kind = draw(st.sampled_from(["clip", "zscore", "buckets", "scale"]))
        if kind == "clip":
            return Clip([source], min_value=-2.0, max_value=draw(st.sampled_from([1.0, 3.0])), output=target)
        if kind == "zscore":
            return ScaleToZScore([source], output=target, dtype="float64")
        if kind == "buckets":
            return Bucketize([source], draw(st.integers(2, 4)), output=target)
        return ScaleTo01([source], output=target, dtype="float64")

    return [one() for _ in range(draw(st.integers(1, 6)))]


def step_by_step(transforms: Sequence[Transform], batch: pa.RecordBatch) -> pa.RecordBatch:
    """What must come out: each transform fitted on what the one before it made of all rows."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for transform in transforms:
        seen = pa.record_batch(columns)
        columns.update(apply(transform, seen, fit(transform, [seen])))
    return pa.record_batch(columns)


def by_scans(transforms: Sequence[Transform], batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same by the plan: every scan reads its columns only, applies its transforms only."""
    pipeline = Pipeline(transforms, batch.schema)
    states: dict[str, pa.Table] = {}
    for scan in pipeline.plan.scans:
        bound = BoundPipeline(pipeline, states, only=scan.applies)
        collected = {}

        def collect(position: int, columns: dict[str, pa.Array], scan: Scan = scan, into: dict = collected) -> None:
            for slot in scan.slots:
                if slot.transform == position:
                    accumulator = slot.analyzer.accumulator()
                    names = list(slot.analyzer.inputs)
                    accumulator.update(
                        slot.analyzer.array_of(pa.RecordBatch.from_arrays([columns[n] for n in names], names))
                    )
                    into[slot.key] = slot.analyzer.finish(slot.analyzer.merge([accumulator.partial()]))

        bound.apply_columns(bound.read(batch.select(list(scan.columns))), collect)
        assert set(collected) == {slot.key for slot in scan.slots}
        states |= collected
    return pipeline.bind(states).apply(batch)


@settings(max_examples=150, deadline=None)
@given(chains())
def test_scans_give_what_fitting_step_by_step_gives(transforms: list[Transform]) -> None:
    assert by_scans(transforms, DATA).to_pydict() == step_by_step(transforms, DATA).to_pydict()


@pytest.mark.parametrize("last", [ScaleTo01, ScaleToZScore])
def test_a_source_column_is_not_asked_for_when_a_scan_needs_a_later_version(last: type[Transform]) -> None:
    transforms = [
        Clip(["x"], max_value=3.0, output="z"),
        Clip(["y"], max_value=3.0, output="x"),
        ScaleTo01(["x"]),
        Bucketize(["x"], 3),
        last(["z"]),
    ]
    assert by_scans(transforms, DATA).to_pydict() == step_by_step(transforms, DATA).to_pydict()

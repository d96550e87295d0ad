"""Drift between profiles against the same measures computed from all rows."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from featuremill.artifacts.errors import MissingColumnError, RequestError
from featuremill.core.quality.profiles.drift import ColumnDrift, DriftSpec, Limit, Thresholds, compare, drifted
from featuremill.core.quality.profiles.drift_measures import distributions, jensen_shannon, wasserstein
from featuremill.core.quality.profiles.profile import Profile
from featuremill.core.quality.profiles.profile_stats import profile_of, profile_statistics
from featuremill.core.quality.statistics.collector import Collector, merge_partials

RNG = np.random.default_rng(11)


def profiled(columns: dict[str, Any], cuts: int = 1) -> Profile:
    batch = pa.record_batch(columns)
    statistics = profile_statistics(batch.schema)
    parts = []
    step = max(-(-batch.num_rows // cuts), 1)
    for start in range(0, batch.num_rows, step):
        collector = Collector(statistics)
        collector.update(batch.slice(start, step))
        parts.append(collector.partials())
    return profile_of(batch.schema, merge_partials(statistics, parts), batch.num_rows)


def drift_of(current: Any, reference: Any, spec: DriftSpec | None = None) -> ColumnDrift:
    (found,) = compare(profiled({"x": current}), profiled({"x": reference}), spec)
    return found


def measure(found: ColumnDrift, name: str) -> float:
    (value,) = (m.value for m in found.measures if m.name == name)
    return value


def direct_wasserstein(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    points = np.sort(np.concatenate([one, other]))
    cdfs = [np.searchsorted(np.sort(v), points[:-1], "right") / len(v) for v in (one, other)]
    return float(np.sum(np.abs(cdfs[0] - cdfs[1]) * np.diff(points)))


def direct_js(p: npt.NDArray[Any], q: npt.NDArray[Any]) -> float:
    m = (p + q) / 2
    total = 0.0
    for a in (p, q):
        total += sum(x * np.log2(x / y) for x, y in zip(a, m, strict=True) if x > 0) / 2
    return float(np.sqrt(total))


def binned(values: npt.NDArray[Any], edges: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.diff([np.sum(values <= e) for e in edges], prepend=0, append=len(values)) / len(values)


PAIRS = {
    "moved": (RNG.normal(0.3, 1, 20_000), RNG.normal(0, 1, 30_000)),
    "wider": (RNG.normal(0, 2, 20_000), RNG.normal(0, 1, 20_000)),
    "elsewhere": (RNG.normal(1000, 1, 20_000), RNG.normal(0, 1, 20_000)),
    "lognormal": (np.floor(RNG.lognormal(5, 2, 20_000)), np.floor(RNG.lognormal(5.2, 2, 20_000))),
    "zeros": tuple(np.where(RNG.random(n) < share, 0, RNG.random(n)) for n, share in ((20_000, 0.5), (9_000, 0.4))),
    "integers": (RNG.integers(0, 60, 20_000), RNG.integers(10, 70, 20_000)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_wasserstein_distance_is_that_of_all_rows(name: str) -> None:
    current, reference = PAIRS[name]
    found = drift_of(current, reference)
    direct = direct_wasserstein(current, reference)
    # Within a bin of 1/128 of the values the sketch knows no more than its ends.
    assert found.distance == pytest.approx(direct, rel=0.03, abs=0.01 * float(np.std(reference)))
    assert measure(found, "wasserstein") == pytest.approx(direct / float(np.std(reference)), rel=0.03, abs=0.01)


@pytest.mark.parametrize("name", PAIRS)
def test_the_stability_index_is_that_of_ten_bins_of_the_reference(name: str) -> None:
    current, reference = PAIRS[name]
    edges = np.unique(np.sort(reference)[[-(-i * len(reference) // 10) - 1 for i in range(1, 10)]])
    shares = [binned(values, edges) for values in (current, reference)]
    p, q = shares
    used = (p > 0) | (q > 0)
    p, q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    direct = float(np.sum(((p - q) * np.log(p / q))[used]))
    assert measure(drift_of(current, reference), "psi") == pytest.approx(direct, rel=0.05, abs=0.01)


@pytest.mark.parametrize("name", PAIRS)
def test_the_js_distance_of_numbers_is_that_of_twenty_bins(name: str) -> None:
    current, reference = PAIRS[name]
    both = np.concatenate([np.sort(current), np.sort(reference)])
    weights = np.concatenate([np.full(len(v), 0.5 / len(v)) for v in (current, reference)])
    order = np.argsort(both, kind="stable")
    level = np.cumsum(weights[order])
    edges = np.unique(both[order][np.searchsorted(level, np.arange(1, 20) / 20 - 1e-12)])
    shares = [binned(values, edges) for values in (current, reference)]
    assert measure(drift_of(current, reference), "js") == pytest.approx(direct_js(*shares), rel=0.05, abs=0.01)


def words(shares: dict[str, float], rows: int = 10_000) -> pa.Array:
    return pa.array([w for w, s in shares.items() for _ in range(round(s * rows))], pa.string())


def test_categories_are_compared_exactly() -> None:
    current, reference = {"a": 0.5, "b": 0.3, "new": 0.2}, {"a": 0.6, "b": 0.3, "gone": 0.1}
    found = drift_of(words(current), words(reference))
    p, q = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.6, 0.3, 0.0, 0.1])
    assert measure(found, "js") == pytest.approx(direct_js(p, q))
    assert measure(found, "linf") == pytest.approx(0.2)
    p, q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    assert measure(found, "psi") == pytest.approx(float(np.sum((p - q) * np.log(p / q))))
    assert measure(found, "new_values") == pytest.approx(0.2)
    assert (found.new, found.vanished) == (("new",), ("gone",))
    assert found.verdict == "drifted"


def test_rare_values_are_compared_by_bucket() -> None:
    """Two columns of as many different values, none of them in common, that no list of frequent ones shows."""
    one, other = ([f"{letter}{i % 3_000}" for i in range(30_000)] for letter in "ab")
    few = [f"{letter}{i % 20}" for letter, n in (("a", 30_000), ("b", 0)) for i in range(n)]
    apart = drift_of(pa.array(few), pa.array(other))
    assert apart.verdict == "drifted"
    same = drift_of(pa.array(one), pa.array(one[::-1]))
    assert (measure(same, "js"), same.verdict) == (0.0, "ok")


def test_a_sample_of_the_same_distribution_has_not_drifted() -> None:
    for rows in (600, 5_000):
        rng = np.random.default_rng(rows)
        names = np.array([f"v{i}" for i in range(400)], object)
        one, other = (
            profiled({
                "n": rng.normal(size=rows), "i": rng.integers(0, 40, rows), "few": names[rng.integers(0, 30, rows)],
                "many": names[rng.integers(0, 400, rows)], "f": rng.random(rows) < 0.4,
            })
            for _ in range(2)
        )
        assert [d.verdict for d in compare(one, other)] == ["ok"] * 5


VALUES = {
    pa.float64(): st.floats(allow_nan=True), pa.int64(): st.integers(-100, 100), pa.string(): st.sampled_from("abcdef"),
    pa.bool_(): st.booleans(), pa.date32(): st.dates(dt.date(1950, 1, 1)),
    pa.list_(pa.int64()): st.lists(st.integers(0, 5), max_size=3),
}
SPEC = DriftSpec(min_values=1)


@pytest.mark.parametrize("type_", VALUES, ids=str)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_same_data_in_any_cut_is_at_distance_0(type_: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.one_of(st.none(), VALUES[type_]), min_size=1, max_size=30))
    one = profiled({"x": pa.array(values, type_)})
    other = profiled({"x": pa.array(values, type_)}, cuts=data.draw(st.integers(1, 5)))
    assert one == other
    (found,) = compare(one, other, SPEC)
    assert [m.value for m in found.measures] == [0.0] * len(found.measures)
    assert (found.verdict, found.reason) == ("ok", "") or found.reason.startswith("Not judged")


@pytest.mark.parametrize("type_", [t for t in VALUES if not pa.types.is_list(t)], ids=str)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_js_distance_is_symmetric_and_at_most_1(type_: pa.DataType, data: st.DataObject) -> None:
    one, other = (
        profiled({"x": pa.array(data.draw(st.lists(VALUES[type_], min_size=1, max_size=30)), type_)}).columns[0]
        for _ in range(2)
    )
    found, back = distributions(one, other), distributions(other, one)
    assert (found is None) == (back is None)
    if found is not None and back is not None:
        assert jensen_shannon(*found) == pytest.approx(jensen_shannon(*back), abs=1e-12)
        assert 0.0 <= jensen_shannon(*found) <= 1.0 + 1e-12
        assert found[0].sum() == pytest.approx(1) == found[1].sum()
    if one.numbers and other.numbers:
        sketches = one.numbers.sketch, other.numbers.sketch
        assert wasserstein(*sketches) == pytest.approx(wasserstein(*sketches[::-1]))


def test_rates_of_nulls_and_of_unknown_values() -> None:
    reference = profiled({"x": pa.array([1.0] * 1000)})
    current = profiled({"x": pa.array([None] * 30 + [float("nan")] * 20 + [1.0] * 950)})
    (found,) = compare(current.with_oov_rates({"x": 0.3}), reference.with_oov_rates({"x": 0.05}))
    assert measure(found, "null_rate") == pytest.approx(0.05)
    assert measure(found, "oov_rate") == pytest.approx(0.25)
    assert found.verdict == "drifted"
    assert found.reason == "The change of the share out of vocabulary is 0.25, the limit 0.1."


def test_times_and_lists() -> None:
    day = dt.date(2013, 1, 1)
    one, other = (pa.array([day + dt.timedelta(days=start + i % 30) for i in range(3_000)]) for start in (0, 10))
    assert drift_of(one, other).distance == pytest.approx(10 * 86_400)
    assert drift_of(one, other).verdict == "drifted"
    short, long = (pa.array([[1.0 + k, 2.0] for _ in range(600)], pa.list_(pa.float64(), 2)) for k in (0, 5))
    assert drift_of(long, short).verdict == "drifted"


def test_columns_that_cannot_be_compared_say_so() -> None:
    current = profiled({"a": [1] * 600, "b": ["x"] * 600, "only": [1] * 600})
    reference = profiled({"a": [1] * 600, "b": [1] * 600, "gone": [1] * 600})
    found = {d.column: d for d in compare(current, reference)}
    assert [found[c].verdict for c in ("a", "b", "only", "gone")] == ["ok", "drifted", "drifted", "drifted"]
    assert found["b"].reason == "It is string here and int64 in the reference."
    assert found["only"].reason == "The reference does not have this column."
    assert found["gone"].reason == "Only the reference has this column."
    assert [d.column for d in drifted(tuple(found.values()))] == ["b", "only", "gone"]
    assert {d.column for d in compare(current, reference, DriftSpec(ignore=["b", "gone"]))} == {"a", "only"}


def test_few_rows_are_not_judged() -> None:
    found = drift_of([1.0] * 20, [9.0] * 20)
    assert (found.verdict, found.measures) == ("ok", ())
    assert found.reason == "Not judged: 20 rows are fewer than 500."
    # Enough rows, but hardly a value among them: the nulls are judged, and nothing else.
    empty = drift_of(pa.array([1.0] * 20 + [None] * 980), pa.array([9.0] * 1000))
    assert [m.name for m in empty.measures] == ["null_rate"]


def test_a_profile_of_another_table_is_one_error() -> None:
    with pytest.raises(RequestError, match="no column in common: this has 'a', the reference 'b'"):
        compare(profiled({"a": [1]}), profiled({"b": [1]}))


def test_limits_of_single_columns_and_of_single_measures() -> None:
    current, reference = PAIRS["moved"]
    lenient = DriftSpec.model_validate({"thresholds": {"wasserstein": {"warn": 0.1, "drifted": 1}}})
    assert drift_of(current, reference, lenient).verdict == "warn"
    strict = DriftSpec.model_validate({"columns": {"x": {"wasserstein": 0.2}}})
    found = drift_of(current, reference, strict)
    assert found.verdict == "drifted"
    assert found.worst is not None
    assert (found.worst.name, found.worst.warn, found.worst.drifted) == ("wasserstein", 0.2, 0.2)
    assert len(found.measures) == 4
    quiet = DriftSpec.model_validate({"thresholds": dict.fromkeys(["js", "psi", "wasserstein"])})
    assert [m.name for m in drift_of(current, reference, quiet).measures] == ["null_rate"]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"thresholds": {"jss": 0.1}}, "thresholds.jss"),
        ({"thresholds": {"js": {"warn": 0.3, "drifted": 0.1}}}, "warn is 0.3, above drifted"),
        ({"thresholds": {"js": -1}}, "greater than or equal to 0"),
        ({"on_drift": "panic"}, "on_drift"),
        ({"against": "yesterday"}, "expected previous, artifact, or ROOT/NAME@VERSION"),
    ],
)
def test_a_wrong_spec_is_refused(spec: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        DriftSpec.model_validate(spec)


def test_a_spec_names_columns_that_are_there() -> None:
    spec = DriftSpec(columns={"air_tme": Thresholds(js=Limit(warn=0.1, drifted=0.2))})
    with pytest.raises(MissingColumnError, match="Did you mean 'air_time'"):
        spec.check_columns(["air_time", "origin"])


def test_a_constant_reference_and_no_values() -> None:
    assert drift_of(pa.array([5.0] * 600), pa.array([5.0] * 600)).verdict == "ok"
    moved = drift_of(pa.array([6.0] * 600), pa.array([5.0] * 600))
    assert measure(moved, "wasserstein") == pytest.approx(0.2)
    nothing = drift_of(pa.array([None] * 600, pa.float64()), pa.array([None] * 600, pa.float64()))
    assert nothing.verdict == "ok"
    (kept,) = compare(replace(profiled({"x": [1] * 600})), profiled({"x": [1] * 600}))
    assert kept.measures

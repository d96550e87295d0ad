"""What every transform must do, whatever it computes.

Subclass :class:`TransformConformance`, list cases, and pytest runs every check on every case::

    class TestHalve(TransformConformance):
        cases = (Case(Halve(["x"]), accepts=types_with(*FLOATS)),)

The transform has to be known to the registry (:func:`featuremill.transforms.registry.register`). Every type of
``strategies.ALL_TYPES`` that a case does not accept must be refused when the schema is known.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from threading import Barrier
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.types as pt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featuremill.artifacts.build import state_bytes, table_from_bytes
from featuremill.artifacts.errors import (
    BadRows,
    ColumnTypeError,
    MissingColumnError,
    ParameterError,
    ParameterTypeError,
    RequestError,
)
from featuremill.transforms.contract import Analyzer, State, Transform
from featuremill.transforms.pipeline import BoundPipeline, Pipeline
from featuremill.transforms.registry import from_config, to_config
from support.strategies import ALL_TYPES, Domain, columns, cuts, exact, example_column, layouts

__all__ = ["Case", "TransformConformance"]

SETTINGS = settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
FEW = settings(SETTINGS, max_examples=5)
MOST_ROWS = 6
"""Rows of a drawn batch: what goes wrong goes wrong with a few."""

RowCheck = Callable[[list[Any]], bool]


def all_null(outputs: list[Any]) -> bool:
    """Whether every output of a row is None."""
    return all(value is None for value in outputs)


def all_nan(outputs: list[Any]) -> bool:
    """Whether every output of a row is NaN."""
    return all(isinstance(value, float) and value != value for value in outputs)


@dataclass(frozen=True)
class Case:
    """One configuration of a transform, and what is to be expected of it.

    Parameters
    ----------
    transform
        Of one column or more; every column is given every accepted type.
    accepts
        The types that it takes.
    unfit
        The types that it would take with other parameters: refused as a parameter that does not fit the column.
    domain
        From a leaf type to the values that it may have; None: any.
    fails
        Errors that are right for some data. All ways to the result must then fail alike.
    on_null, on_nan
        Whether a row's outputs are right where all its inputs are null or NaN.
    counts_missing
        Whether nulls and NaN change the statistics.
    """

    transform: Transform
    accepts: frozenset[pa.DataType]
    unfit: frozenset[pa.DataType] = frozenset()
    domain: Domain | None = None
    fails: tuple[type[Exception], ...] = ()
    on_null: RowCheck = all_null
    on_nan: RowCheck = all_nan
    counts_missing: bool = False

    def __str__(self) -> str:
        config = self.transform.config()
        # A model lies in another folder in each process, and all have to have the same names for the tests.
        shown = [f"{k}={v!r}"[:40] for k, v in config.items() if k not in ("columns", "model")]
        return f"{type(self.transform).__name__}({', '.join([str(len(self.transform.columns)), *shown])})"

    def types(self) -> list[pa.DataType]:
        """The accepted types, in a fixed order."""
        return [t for t in ALL_TYPES if t in self.accepts]

    def examples(self) -> Iterator[pa.RecordBatch]:
        """A batch of each accepted type, the columns in step but not the same."""
        names = list(self.transform.columns)
        for type_ in self.types():
            column = example_column(type_, self.domain)
            # Twice, so that the combinations of the columns repeat too.
            arrays = [column]
            if len(names) > 1:
                arrays = [pa.concat_arrays([_rotated(column, i)] * 2) for i in range(len(names))]
            yield pa.record_batch(arrays, names=names)

    def batches(self, *, least: int = 0) -> st.SearchStrategy[pa.RecordBatch]:
        """Batches of at least so many rows with each column of any accepted type."""
        names = list(self.transform.columns)
        types = st.tuples(*[st.sampled_from(self.types())] * len(names))
        shapes = st.tuples(types, st.integers(least, MOST_ROWS))
        drawn = shapes.flatmap(lambda s: st.tuples(*[columns(t, s[1], self.domain) for t in s[0]]))
        return drawn.map(lambda arrays: pa.record_batch(list(arrays), names=names))


def _rotated(column: pa.Array, by: int) -> pa.Array:
    return pa.concat_arrays([column.slice(by), column.slice(0, by)])


# --- the ways from rows to results -----------------------------------------------------------------------------------


def partial_of(analyzer: Analyzer, batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """The partial of some batches that one worker sees in turn."""
    accumulator = analyzer.accumulator()
    for batch in batches:
        accumulator.update(analyzer.array_of(batch))
    return accumulator.partial()


def _distinct_analyzers(cases: Sequence[Case]) -> list[tuple[Case, Analyzer]]:
    """Every kind of statistic that the cases need, once for each set of types: most transforms share theirs."""
    found: dict[Any, tuple[Case, Analyzer]] = {}
    for case in cases:
        for analyzer in case.transform.analyzers().values():
            key = replace(analyzer, column="") if len(analyzer.inputs) == 1 else analyzer
            found.setdefault((key, case.accepts), (case, analyzer))
    return list(found.values())


def _relaid(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The batch in other layouts, each given to all columns that have it."""
    columns = [dict(layouts(column)) for column in batch.columns]
    for name in sorted({name for column in columns for name in column}):
        arrays = [column.get(name, plain) for column, plain in zip(columns, batch.columns, strict=True)]
        yield name, pa.record_batch(arrays, names=batch.schema.names)


def fitted(transform: Transform, batch: pa.RecordBatch, schema: pa.Schema | None = None) -> BoundPipeline:
    """The transform fitted to a batch; bound to its schema unless another is given."""
    pipeline = Pipeline([transform], batch.schema if schema is None else schema)
    return pipeline.bind(states_of(pipeline, batch))


def states_of(pipeline: Pipeline, batch: pa.RecordBatch) -> dict[str, State]:
    """The states from one batch, by slot key."""
    return {s.key: s.analyzer.finish(partial_of(s.analyzer, [batch])) for s in pipeline.slots()}


def outputs(bound: BoundPipeline, batch: pa.RecordBatch) -> list[list[Any]]:
    """By row, the outputs as Python values; checked on the way to be as declared, and the only effect."""
    transform = bound.pipeline.transforms[0]
    before = _memory(batch)
    made = bound.apply_columns(bound.read(batch))
    assert _memory(batch) == before, "the input was changed"
    for f in transform.output_fields(bound.pipeline.input_schema):
        array = made[f.name]
        assert array.type == f.type, f"{f.name} came out as {array.type}, declared {f.type}"
        assert len(array) == batch.num_rows
        array.validate(full=True)
    arrays = [made[name].to_pylist() for name in transform.output_names]
    return [list(row) for row in zip(*arrays, strict=True)]


def row_outputs(bound: BoundPipeline, row: Mapping[str, Any]) -> list[Any]:
    """The outputs of one row on the path for single rows."""
    before = pickle.dumps(row)
    made = bound.apply_row(row)
    assert pickle.dumps(row) == before, "the input was changed"
    return [made[name] for name in bound.pipeline.transforms[0].output_names]


def _memory(batch: pa.RecordBatch) -> list[bytes | None]:
    return [None if b is None else b.to_pybytes() for column in batch.columns for b in column.buffers()]


def outcome(case: Case, function: Callable[[], Any]) -> Any:
    """What a function gives, or which of the case's errors it fails with."""
    try:
        return function()
    except case.fails as error:
        return (type(error).__name__, str(error))


def failed(found: Any) -> bool:
    return isinstance(found, tuple)


def _sweep(case: Case, check: Callable[[pa.RecordBatch], None]) -> None:
    """`check` on an example of every accepted type."""
    for batch in case.examples():
        try:
            check(batch)
        except BaseException as error:
            error.add_note(f"for columns {batch.to_pydict()} of types {[str(t) for t in batch.schema.types]}")
            raise


# --- the checks ------------------------------------------------------------------------------------------------------


class TransformConformance:
    """The contract of :class:`featuremill.transforms.Transform`."""

    cases: ClassVar[Sequence[Case]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """A check names what it is about: any case, one with bad rows, or a statistic with a case that uses it."""
        if "analyzer" in metafunc.fixturenames:
            found = _distinct_analyzers(self.cases)
            metafunc.parametrize(("case", "analyzer"), found, ids=[f"{case}-{type(a).__name__}" for case, a in found])
        elif "case_with_bad_rows" in metafunc.fixturenames:
            metafunc.parametrize("case_with_bad_rows", [c for c in self.cases if BadRows in c.fails], ids=str)
        elif "case" in metafunc.fixturenames:
            metafunc.parametrize("case", self.cases, ids=str)

    # --- configuration

    def test_configuration_survives_json(self, case: Case) -> None:
        transform = case.transform
        written = json.loads(json.dumps(to_config([transform]), allow_nan=False))
        (found,) = from_config(written)
        assert found == transform and hash(found) == hash(transform)
        assert to_config([found]) == to_config([transform])
        assert found.analyzers() == transform.analyzers()
        assert found.output_names == transform.output_names

    def test_it_can_be_pickled(self, case: Case) -> None:
        transform = case.transform
        found = pickle.loads(pickle.dumps(transform))
        assert found == transform and hash(found) == hash(transform)
        analyzers = transform.analyzers()
        assert pickle.loads(pickle.dumps(analyzers)) == analyzers
        assert len({*analyzers.values(), *found.analyzers().values()}) == len(set(analyzers.values()))

    def test_it_is_frozen_and_differs_from_others(self, case: Case) -> None:
        renamed = replace(case.transform, name="another")
        assert renamed != case.transform
        with pytest.raises(AttributeError):
            case.transform.name = "x"  # type: ignore[misc]

    def test_unknown_parameters_are_told_with_the_known_one(self, case: Case) -> None:
        name = type(case.transform).__name__
        for f in fields(case.transform):
            config = case.transform.config() | {f"{f.name}x": 1}
            with pytest.raises(ParameterError, match=rf"{name} has no parameter '{f.name}x'.*'{f.name}'") as caught:
                from_config([{"type": name, "config": config}])
            assert caught.value.parameter == f"{f.name}x"

    def test_columns_are_a_list_of_different_names(self, case: Case) -> None:
        name = type(case.transform).__name__
        wrong_types, wrong_values = ("x", [1]), ([], ["a", "a"])
        for bad in (*wrong_types, *wrong_values):
            kind = ParameterTypeError if bad in wrong_types else ParameterError
            with pytest.raises(kind, match=rf"^{name}\b.*columns"):
                replace(case.transform, columns=bad)

    def test_equal_names_of_outputs_are_refused(self, case: Case) -> None:
        with pytest.raises(ParameterError, match="output") as caught:
            replace(case.transform, columns=("p", "q"), output=("y", "y"))
        assert caught.value.parameter == "output"

    # --- schemas

    def test_other_types_are_refused(self, case: Case) -> None:
        transform, name = case.transform, type(case.transform).__name__
        assert not case.accepts & case.unfit
        for type_ in ALL_TYPES:
            schema = pa.schema([(c, type_) for c in transform.columns])
            if type_ in case.accepts:
                transform.output_fields(schema)
            elif type_ in case.unfit:
                with pytest.raises((ParameterError, ParameterTypeError), match=rf"^{name}\("):
                    transform.output_fields(schema)
            else:
                with pytest.raises(ColumnTypeError) as caught:
                    transform.output_fields(schema)
                error = caught.value
                assert (error.transform, error.column, error.type) == (name, transform.columns[0], str(type_))
                assert str(error).startswith(f"{name}({transform.columns[0]!r}): the column is {type_}, expected ")
                assert isinstance(error, RequestError | TypeError)

    def test_missing_columns_are_named(self, case: Case) -> None:
        transform = case.transform
        type_ = case.types()[0]
        for lost in transform.columns:
            schema = pa.schema([(c if c != lost else f"{c}_1", type_) for c in transform.columns])
            with pytest.raises(MissingColumnError, match=rf"^{type(transform).__name__}\('{lost}'\)") as caught:
                transform.output_fields(schema)
            assert (caught.value.transform, caught.value.column) == (type(transform).__name__, lost)
        batch = next(case.examples())
        bound = fitted(transform, batch)
        for lost in transform.columns:
            with pytest.raises(MissingColumnError, match=f"'{lost}'"):
                bound.apply(batch.drop_columns([lost]))
            with pytest.raises(MissingColumnError, match=f"'{lost}'"):
                bound.apply_row({k: None for k in transform.columns if k != lost})

    def test_results_are_as_declared(self, case: Case) -> None:
        """For every type: examples, one row, no row, only nulls; fitted to each of them."""

        def check(batch: pa.RecordBatch) -> None:
            declared = case.transform.output_fields(batch.schema)
            assert [f.name for f in declared] == case.transform.output_names
            nulls = pa.record_batch([pa.nulls(3, t) for t in batch.schema.types], schema=batch.schema)
            few = [batch, batch.slice(0, 1), batch.slice(0, 0), nulls]
            for seen in few:
                bound = outcome(case, lambda seen=seen: fitted(case.transform, seen))
                if failed(bound):
                    continue
                assert outputs(bound, batch.slice(0, 0)) == []
                for given_ in few if seen is batch else [batch]:
                    outcome(case, lambda given_=given_, bound=bound: outputs(bound, given_))
            assert not failed(outcome(case, lambda: fitted(case.transform, batch))), "the examples cannot be fitted"

        _sweep(case, check)

    def test_the_whole_table_comes_out_as_declared(self, case: Case) -> None:
        def check(batch: pa.RecordBatch) -> None:
            other = pa.array(range(batch.num_rows), pa.uint16())
            batch = batch.append_column("left_alone", other)
            bound = fitted(case.transform, batch)
            good = _processable(case, bound, batch)
            found = bound.apply(good)
            assert found.schema.equals(bound.output_schema)
            for name in set(batch.schema.names) - set(case.transform.output_names):
                assert exact(found.column(name).to_pylist()) == exact(good.column(name).to_pylist())

        _sweep(case, check)

    # --- values

    def test_missing_values(self, case: Case) -> None:
        def check(batch: pa.RecordBatch) -> None:
            bound = fitted(case.transform, batch)
            nulls = pa.record_batch([pa.nulls(2, t) for t in batch.schema.types], schema=batch.schema)
            found = outcome(case, lambda: outputs(bound, nulls))
            for row in [] if failed(found) else found:
                assert case.on_null(row), row
            if all(pt.is_floating(t) for t in batch.schema.types):
                nan = [pa.array([float("nan")], t) for t in batch.schema.types]
                (row,) = outputs(bound, pa.record_batch(nan, schema=batch.schema))
                assert case.on_nan(row), row

        _sweep(case, check)

    def test_statistics_skip_missing_values(self, case: Case) -> None:
        if case.counts_missing:
            pytest.skip("missing values count here")

        def check(batch: pa.RecordBatch) -> None:
            missing = [pa.nulls(2, t) for t in batch.schema.types]
            if all(pt.is_floating(t) for t in batch.schema.types):
                missing = [pa.array([float("nan"), None], t) for t in batch.schema.types]
            more = [pa.concat_arrays([a, m]) for a, m in zip(batch.columns, missing, strict=True)]
            without = fitted(case.transform, batch)
            within = fitted(case.transform, pa.record_batch(more, schema=batch.schema))
            good = _processable(case, without, batch)
            assert exact(outputs(within, good)) == exact(outputs(without, good))

        _sweep(case, check)

    def test_single_rows_give_what_batches_give(self, case: Case) -> None:
        def check(batch: pa.RecordBatch) -> None:
            bound = outcome(case, lambda: fitted(case.transform, batch))
            if failed(bound):
                return
            whole = outcome(case, lambda: outputs(bound, batch))
            if not failed(whole):
                assert exact(outputs(bound, batch.slice(1))) == exact(whole[1:]), "a slice"
            for i, row in enumerate(batch.to_pylist()):
                served = outcome(case, lambda row=row: row_outputs(bound, row))
                alone = whole[i : i + 1]
                if failed(whole):
                    alone = outcome(case, lambda i=i: outputs(bound, batch.slice(i, 1)))
                assert exact(served) == exact(alone if failed(alone) else alone[0]), f"row {i} is {row}"

        _sweep(case, check)
        SETTINGS(given(case.batches())(check))()

    def test_bad_rows_are_named(self, case_with_bad_rows: Case) -> None:
        case, seen = case_with_bad_rows, 0

        def check(batch: pa.RecordBatch) -> None:
            nonlocal seen
            bound = fitted(case.transform, batch)
            good = _rows_alone(case, bound, batch)
            bad = sorted(set(range(batch.num_rows)) - set(good))
            if not bad:
                return
            seen += 1
            with pytest.raises(BadRows) as caught:
                bound.apply(batch)
            assert caught.value.rows == sorted(caught.value.rows)
            assert set(caught.value.rows) <= set(bad)
            assert _processable(case, bound, batch).num_rows == batch.num_rows - len(bad)

        _sweep(case, check)
        assert seen

    def test_layouts_change_nothing(self, case: Case) -> None:
        """Sliced, dictionary-encoded or over rubbish, in the data fitted to or applied to; declared or not."""

        def check(batch: pa.RecordBatch) -> None:
            pipeline = Pipeline([case.transform], batch.schema)

            def fit_to(seen: pa.RecordBatch) -> Any:
                """The bound pipeline, and the bytes of its states."""
                states = states_of(pipeline, seen)
                return [pipeline.bind(states), {key: state_bytes(state) for key, state in states.items()}]

            reference = outcome(case, lambda: fit_to(batch))
            plain = reference[0]
            expected = reference if failed(reference) else outcome(case, lambda: exact(outputs(plain, batch)))
            for name, other in _relaid(batch):
                refitted = outcome(case, lambda other=other: fit_to(other))
                if failed(refitted) or failed(reference):
                    assert refitted == reference, f"fitted to a {name}"
                    continue
                bound = refitted[0]
                assert refitted[1] == reference[1], f"states of a {name}"
                again = outcome(case, lambda bound=bound: exact(outputs(bound, batch)))
                assert again == expected, f"fitted to a {name}"
                again = outcome(case, lambda other=other: exact(outputs(plain, other)))
                assert again == expected, f"applied to a {name}"
                if other.schema != batch.schema and not failed(expected):
                    _check_declared(other, batch, expected)

        def _check_declared(other: pa.RecordBatch, batch: pa.RecordBatch, expected: Any) -> None:
            bound = fitted(case.transform, other)
            assert exact(outputs(bound, other)) == expected
            assert exact(outputs(bound, batch)) == expected
            for row, alone in list(zip(batch.to_pylist(), expected, strict=True))[:3]:
                assert exact(row_outputs(bound, row)) == alone

        _sweep(case, check)
        FEW(given(case.batches())(check))()

    # --- statistics

    def test_the_cut_of_the_data_does_not_show_in_the_state(self, case: Case, analyzer: Analyzer) -> None:
        def check(batch: pa.RecordBatch, cut: list[int], order: list[int], rows: list[int], shards: int) -> None:
            def state(merged: pa.Table) -> Any:
                return outcome(case, lambda: state_bytes(analyzer.finish(merged)))

            parts = [batch.slice(a, b - a) for a, b in pairwise(cut)]
            parts = [parts[i] for i in order]
            partials = [partial_of(analyzer, [part]) for part in parts]
            expected = state(partial_of(analyzer, [batch]))
            assert state(partial_of(analyzer, parts)) == expected, "batches in turn"
            assert state(partial_of(analyzer, [_rows(batch, rows)])) == expected, "rows in another order"
            assert state(analyzer.merge(partials)) == expected, "one merge"
            assert state(_one_by_one(analyzer, partials)) == expected, "merged one by one"
            assert state(_in_pairs(analyzer, partials)) == expected, "merged in pairs"
            assert state(analyzer.merge([_stored(p) for p in partials])) == expected, "stored partials"
            assert state(_sharded(analyzer, partials, shards)) == expected, f"{shards} shards"

        def one_cut(batch: pa.RecordBatch) -> None:
            rows = batch.num_rows
            check(batch, [0, 1, 1, rows // 2, rows], [3, 0, 2, 1], list(range(rows))[::-1], 3)

        def any_cut(batch: pa.RecordBatch) -> st.SearchStrategy[Any]:
            rows = st.permutations(range(batch.num_rows))
            return cuts(batch.num_rows).flatmap(
                lambda cut: st.tuples(
                    st.just(batch), st.just(cut), st.permutations(range(len(cut) - 1)), rows, st.integers(1, 4)
                )
            )

        _sweep(case, one_cut)
        SETTINGS(given(case.batches().flatmap(any_cut))(lambda found: check(*found)))()

    def test_states_survive_storage(self, case: Case) -> None:
        def check(batch: pa.RecordBatch) -> None:
            pipeline = Pipeline([case.transform], batch.schema)
            states = states_of(pipeline, batch)
            stored = {key: table_from_bytes(state_bytes(state), key) for key, state in states.items()}
            for key, state in states.items():
                assert state_bytes(stored[key]) == state_bytes(state)
            fresh, loaded = pipeline.bind(states), pipeline.bind(stored)
            good = _processable(case, fresh, batch)
            assert exact(outputs(loaded, good)) == exact(outputs(fresh, good))
            slots = {s.slot: stored[s.key] for s in pipeline.slots()}
            assert all(isinstance(w, str) and w for w in case.transform.warnings(slots))

        _sweep(case, check)

    def test_a_label_changes_nothing(self, case: Case) -> None:
        batch = next(case.examples())
        bound = fitted(case.transform, batch)
        good = _processable(case, bound, batch)
        labelled = fitted(replace(case.transform, name="a label"), batch)
        assert exact(outputs(labelled, good)) == exact(outputs(bound, good))

    def test_threads_share_what_was_prepared(self, case: Case) -> None:
        batch = list(case.examples())[-1]
        bound = fitted(case.transform, batch)
        good = _processable(case, bound, batch)
        # Other dictionaries and other lengths, so that nothing remembered from one batch fits the next.
        jobs = [good, good.slice(1), *(good.set_column(0, good.schema.names[0], a) for _, a in layouts(good.column(0)))]
        expected = [exact(outputs(bound, job)) for job in jobs]
        served = good.to_pylist()[:3]
        expected_rows = [exact(row_outputs(bound, row)) for row in served]
        barrier = Barrier(2)

        def work(turn: int) -> None:
            barrier.wait()
            for i in range(turn, turn + 12):
                at = i % len(jobs)
                assert exact(outputs(bound, jobs[at])) == expected[at]
                assert [exact(row_outputs(bound, row)) for row in served] == expected_rows

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(work, (0, 1)))
        finally:
            sys.setswitchinterval(before)


def _rows(batch: pa.RecordBatch, rows: Sequence[int]) -> pa.RecordBatch:
    """Some rows of a batch in a new order (views cannot be taken)."""
    arrays = [pa.concat_arrays([a.slice(0, 0), *(a.slice(i, 1) for i in rows)]) for a in batch.columns]
    return pa.record_batch(arrays, schema=batch.schema)


def _processable(case: Case, bound: BoundPipeline, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows of a batch that can be processed, found as the engine does."""
    while True:
        found = outcome(case, partial(_bad_rows, bound, batch))
        if failed(found):
            return _rows(batch, _rows_alone(case, bound, batch))
        if not found:
            return batch
        batch = _rows(batch, [i for i in range(batch.num_rows) if i not in found])


def _rows_alone(case: Case, bound: BoundPipeline, batch: pa.RecordBatch) -> list[int]:
    """The rows that can be processed as batches of one row."""
    alone = [outcome(case, partial(outputs, bound, batch.slice(i, 1))) for i in range(batch.num_rows)]
    return [i for i, found in enumerate(alone) if not failed(found)]


def _bad_rows(bound: BoundPipeline, batch: pa.RecordBatch) -> list[int]:
    try:
        bound.apply(batch)
    except BadRows as bad:
        # Without rows to set aside, the engine would never come to an end.
        return bad.rows or pytest.fail("BadRows names no row")
    return []


def _one_by_one(analyzer: Analyzer, partials: Sequence[pa.Table]) -> pa.Table:
    merged = partials[0]
    for one in partials[1:]:
        merged = analyzer.merge([one, merged])
    return merged


def _in_pairs(analyzer: Analyzer, partials: Sequence[pa.Table]) -> pa.Table:
    pairs = [partials[i : i + 2] for i in range(0, len(partials), 2)]
    return analyzer.merge([analyzer.merge(pair) for pair in pairs])


def _stored(table: pa.Table) -> pa.Table:
    return table_from_bytes(state_bytes(table), "partial")


def _sharded(analyzer: Analyzer, partials: Sequence[pa.Table], shards: int) -> pa.Table:
    """The partials cut by key, each shard merged and trimmed apart from the others, as the engine does."""
    pieces: dict[int, list[pa.Table]] = {}
    for one in partials:
        cut = analyzer.split(one, shards)
        assert 1 <= len(cut) <= shards
        for i, piece in enumerate(cut):
            pieces.setdefault(i, []).append(piece)
    return analyzer.merge([analyzer.trim(analyzer.merge(found)) for found in pieces.values()])

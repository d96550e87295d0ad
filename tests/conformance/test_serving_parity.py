"""Every transform of the catalogue gives, in a loaded artifact, the bytes that the job gave, whichever way rows come.

The job's side is the pipeline that was fitted; the serving side is the artifact read back from its files, asked with a
table, a table of many chunks, a dict of lists, one dict, and by many threads at once.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pyarrow.types as pt
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from conformance.test_transforms import CASES
from featuremill.artifacts import Artifact
from featuremill.artifacts.errors import ParameterTypeError
from featuremill.transforms.arrays import is_list
from featuremill.transforms.pipeline import BoundPipeline, Pipeline
from featuremill.transforms.vocabulary import ComputeAndApplyVocabulary
from support.serving import artifact_of, fitted_states
from support.strategies import columns, exact
from support.transform_conformance import MOST_ROWS, SETTINGS, Case, failed, outcome

THREADS, ROUNDS = 8, 3
EXAMPLES = settings(SETTINGS, max_examples=4, phases=(Phase.generate,))


def in_an_artifact(type_: pa.DataType) -> bool:
    """Whether Arrow writes the sample rows of an artifact: of views it does not."""
    return "view" not in str(type_)


def served(case: Case) -> st.SearchStrategy[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Rows to fit a case's transform to, and others of the same types."""
    seen = case.batches(least=2).filter(lambda batch: all(map(in_an_artifact, batch.schema.types)))

    def others(batch: pa.RecordBatch) -> st.SearchStrategy[tuple[pa.RecordBatch, pa.RecordBatch]]:
        drawn = st.tuples(*(columns(t, MOST_ROWS, case.domain) for t in batch.schema.types))
        return drawn.map(lambda arrays: (batch, pa.record_batch(list(arrays), schema=batch.schema)))

    return seen.flatmap(others)


def job_rows(case: Case, bound: BoundPipeline, batch: pa.RecordBatch) -> list[Any]:
    """What the job gives for each row alone: its values, or its error."""
    return [outcome(case, lambda i=i: bound.apply(batch.slice(i, 1)).to_pylist()[0]) for i in range(batch.num_rows)]


def check_rows(case: Case, artifact: Artifact, batch: pa.RecordBatch, wanted: list[Any]) -> None:
    for row, want in zip(batch.to_pylist(), wanted, strict=True):
        for way in (artifact.transform, artifact.transform_row):
            assert exact(outcome(case, lambda way=way, row=row: way(row))) == exact(want), f"{way.__name__} of {row}"


def check_tables(artifact: Artifact, good: pa.RecordBatch, wanted: pa.RecordBatch) -> None:
    table = pa.Table.from_batches([good])
    chunks = pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(3)])
    for way, rows in (("a batch", good), ("a table", table), ("a table of chunks", chunks)):
        found = artifact.transform(rows)
        assert found.schema.equals(wanted.schema), way
        assert exact(found.to_pylist()) == exact(wanted.to_pylist()), way
    if not any(is_list(t) or pt.is_dictionary(t) for t in good.schema.types):
        # Of Python's lists Arrow makes neither dictionaries nor, where they hold nothing, lists of one size.
        assert exact(artifact.transform(good.to_pydict())) == exact(wanted.to_pydict()), "a dict of lists"


@contextmanager
def quick_switches() -> Iterator[None]:
    """Threads take turns a thousand times as often as they usually do."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("case", [c for cases in CASES.values() for c in cases], ids=str)
def test_the_artifact_gives_what_the_job_gave(case: Case) -> None:
    @EXAMPLES
    @given(served(case))
    def check(drawn: tuple[pa.RecordBatch, pa.RecordBatch]) -> None:
        fitted_to, _ = drawn
        states = outcome(case, lambda: fitted_states([case.transform], fitted_to))
        job = states if failed(states) else outcome(
            case, lambda: Pipeline([case.transform], fitted_to.schema).bind(states)
        )
        if failed(job):
            return
        with tempfile.TemporaryDirectory() as folder:
            artifact = artifact_of(Path(folder), [case.transform], fitted_to)
            for batch in drawn:
                each = job_rows(case, job, batch)
                check_rows(case, artifact, batch, each)
                good = rows_of(batch, [i for i, found in enumerate(each) if not failed(found)])
                check_tables(artifact, good, job.apply(good))

    check()


def rows_of(batch: pa.RecordBatch, wanted: list[int]) -> pa.RecordBatch:
    arrays = [pa.concat_arrays([a.slice(0, 0), *(a.slice(i, 1) for i in wanted)]) for a in batch.columns]
    return pa.record_batch(arrays, schema=batch.schema)


@pytest.mark.parametrize("name", sorted(CASES))
def test_many_threads_at_once_get_the_same(name: str, tmp_path: Path) -> None:
    """A freshly loaded artifact, asked by all threads at the same moment: they also prepare it together."""
    case = CASES[name][0]
    fitted_to = next(b for b in case.examples() if all(map(in_an_artifact, b.schema.types)))
    states = fitted_states([case.transform], fitted_to)
    job = Pipeline([case.transform], fitted_to.schema).bind(states)
    each = job_rows(case, job, fitted_to)
    good = rows_of(fitted_to, [i for i, found in enumerate(each) if not failed(found)])
    wanted = job.apply(good)
    artifact = artifact_of(tmp_path, [case.transform], fitted_to)
    barrier = Barrier(THREADS)

    def work(turn: int) -> None:
        barrier.wait()
        for i in range(ROUNDS):
            if (turn + i) % 2:
                check_rows(case, artifact, fitted_to, each)
            else:
                check_tables(artifact, good, wanted)

    with quick_switches(), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))


def test_integers_beyond_int64_come_in_lists_too(tmp_path: Path) -> None:
    fitted_to = pa.record_batch({"x": pa.array([2**64 - 1, 2**63, 3, 3], pa.uint64())})
    artifact = artifact_of(tmp_path, [ComputeAndApplyVocabulary(["x"])], fitted_to)
    assert artifact.transform({"x": [2**64 - 1, 3, None, 4]}) == {"x": [1, 0, None, -1]}
    with pytest.raises(ParameterTypeError, match="'x' is no list of values, expected uint64"):
        artifact.transform({"x": [2**64]})


def test_a_vocabulary_of_bytes_of_one_width_is_published(tmp_path: Path) -> None:
    fitted_to = pa.record_batch({"x": pa.array([b"\xff\xfe", b"ab", b"ab"], pa.binary(2))})
    artifact = artifact_of(tmp_path, [ComputeAndApplyVocabulary(["x"])], fitted_to)
    assert artifact.transform(fitted_to)["x"].to_pylist() == [1, 0, 0]
    assert (tmp_path / "vocabulary" / "x.txt").read_bytes() == b"ab\n\xff\xfe\n"

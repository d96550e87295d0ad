"""A job's memory of vectors: what a worker looks up and leaves there, and what is kept in the end."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featuremill.artifacts.errors import BadRows
from featuremill.artifacts.vector_files import VectorStore
from featuremill.transforms import vector_memory
from featuremill.transforms.embedding import EmbedText
from featuremill.transforms.vector_memory import VectorMemory, in_use, keep, space_of, working_for
from featuremill.transforms.vectors import BadItems, RememberedVectors
from support.small_bert import small_model

SPACE = space_of("ab" * 32, backend="cpu")


class Lengths(RememberedVectors[str]):
    """A vector of a text's length; texts that begin with a question mark have none."""

    def __init__(self, size: int = 2, dtype: Any = np.float32, space: Any = SPACE) -> None:
        super().__init__(normalize=False, dimension=size, dtype=dtype, space=space)
        self.asked: list[str] = []

    def computed(self, items: Sequence[str]) -> tuple[Any, dict[int, str]]:
        self.asked += items
        made = np.array([[len(i)] * self.dimension for i in items], self.dtype)
        return made, {i: "no answer" for i, item in enumerate(items) if item.startswith("?")}


def memory(tmp_path: Path, job: str = "job", cache: bool = True) -> VectorMemory:
    return VectorMemory(str(tmp_path / job), str(tmp_path / "cache") if cache else None)


def test_without_a_job_nothing_is_left(tmp_path: Path) -> None:
    assert in_use() is None
    Lengths().vectors(["a"])
    with working_for(None) as counts:
        Lengths().vectors(["a"])
    assert (counts.looked_up, counts.found, counts.computed) == (0, 0, 0) and not list(tmp_path.iterdir())


def test_what_a_job_computed_is_found_by_the_next(tmp_path: Path) -> None:
    with working_for(memory(tmp_path)) as counts:
        expected = Lengths().vectors(["a", "bb", "a"])
        Lengths(space=None).vectors(["not kept"])
    assert (counts.looked_up, counts.found, counts.computed) == (2, 0, 2) and in_use() is None
    assert not (tmp_path / "cache").exists()
    assert keep(memory(tmp_path)) == {SPACE.key: 2}
    op = Lengths()
    with working_for(memory(tmp_path, "next")) as counts:
        assert np.array_equal(op.vectors(["a", "bb", "a"]), expected)
        assert op.vectors(["ccc"]).tolist() == [[3, 3]]
    assert op.asked == ["ccc"] and (counts.looked_up, counts.found, counts.computed) == (3, 2, 1)
    # Another size, as of a folder that somebody mixed up, is no vector of ours.
    other = Lengths(size=3)
    with working_for(memory(tmp_path, "third")):
        assert other.vectors(["a"]).tolist() == [[1, 1, 1]]


def test_the_last_pass_reads_what_the_pass_before_it_left(tmp_path: Path) -> None:
    """Also without a cache, and what it finds there was counted before."""
    job = memory(tmp_path, cache=False)
    with working_for(job.in_first_pass) as counts:
        Lengths().vectors(["a", "bb"])
    assert counts.computed == 2
    op = Lengths()
    with working_for(pickle.loads(pickle.dumps(job))) as counts:
        op.vectors(["a", "bb", "ccc"])
    assert op.asked == ["ccc"] and (counts.looked_up, counts.found, counts.computed) == (1, 0, 1)
    assert keep(job) == {} and not (tmp_path / "job" / "later").exists()


def test_things_without_a_vector_are_not_kept(tmp_path: Path) -> None:
    with working_for(memory(tmp_path)), pytest.raises(BadItems):
        Lengths().vectors(["?", "a", "?b"])
    memory(tmp_path).opened().flush()
    assert keep(memory(tmp_path)) == {SPACE.key: 1}
    op = Lengths()
    with working_for(memory(tmp_path, "next")), pytest.raises(BadItems) as caught:
        op.vectors(["a", "?"])
    assert caught.value.reasons == {1: "no answer"} and op.asked == ["?"]


def test_full_buffers_are_written_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_memory, "MOST_BYTES", 16)
    monkeypatch.setattr(vector_memory, "SMALL_BYTES", 16)
    op = Lengths()
    with working_for(memory(tmp_path)):
        for i in range(10):
            op.vectors(["x" * i])
    assert len(VectorStore(str(tmp_path / "job" / "later")).names(SPACE.key)) == 5
    assert keep(memory(tmp_path)) == {SPACE.key: 10}


def test_a_space_is_everything_that_bits_depend_on() -> None:
    facts: dict[str, Any] = {"backend": "cpu", "max_tokens": 8}
    spaces = [
        space_of("ab" * 32, **facts), space_of("cd" * 32, **facts), space_of("ab" * 32, **facts | {"max_tokens": 9}),
        space_of("ab" * 32, packages=("numpy",), **facts), space_of("ab" * 32, packages=("no-such-package",), **facts),
    ]  # fmt: skip
    assert len({s.key for s in spaces}) == len(spaces)
    assert space_of("ab" * 32, **facts) == spaces[0]


def test_embed_text_uses_it(tmp_path: Path) -> None:
    op = EmbedText(["t"], small_model(), max_tokens=20)
    batch = pa.record_batch({"t": pa.array([b"a port", b"\xff", None, b"a port"])})
    with working_for(memory(tmp_path)) as counts, pytest.raises(BadRows) as caught:
        op.apply(batch, op.prepare({}, batch.schema))
    assert caught.value.facts["rows"] == [1] and counts.computed == 0
    good = batch.take(pa.array([0, 2, 3]))
    with working_for(memory(tmp_path)) as counts:
        (plain,) = op.apply(good, op.prepare({}, batch.schema))
    assert counts.computed == 1 and keep(memory(tmp_path)) != {}
    with working_for(memory(tmp_path, "next")) as counts:
        (found,) = op.apply(good, op.prepare({}, batch.schema))
    assert (counts.found, counts.computed) == (1, 0) and found.equals(plain)

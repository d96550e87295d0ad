"""Files of vectors: found by digest, immutable, and few."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts import vector_files
from featuremill.artifacts.errors import ArtifactError, MissingArtifactError
from featuremill.artifacts.vector_files import MOST_FILES, VectorFile, VectorStore, merged, vector_bytes

SPACE = "0123456789abcdef-0123456789abcdef"
keys = st.lists(st.binary(min_size=16, max_size=16), max_size=30)


def file_of(digests: list[bytes], fill: float = 0.0, size: int = 3) -> VectorFile:
    """Sorted; the vector of a digest is that of its bytes, and `fill`."""
    found = np.unique(np.array(digests, "S16"))
    values = np.array([sum(d.ljust(16, b"\0")) + fill for d in found.tolist()], np.float32)
    return VectorFile(found, np.repeat(values[:, None], size, axis=1))


@settings(max_examples=60)
@given(keys, keys)
def test_find_is_a_dictionary(there: list[bytes], wanted: list[bytes]) -> None:
    """Digests that end in zeros are like all others."""
    wanted = [*wanted, *there[::2], b"\0" * 16, b"a" + b"\0" * 15]
    at, hits = file_of(there).find(np.array(wanted, "S16"))
    assert hits.tolist() == [key in set(there) for key in wanted]
    assert [file_of(there).digests[a] for a in at[hits]] == [np.bytes_(k.rstrip(b"\0")) for k in wanted if k in there]


@settings(max_examples=30)
@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=30), st.integers(1, 4))
def test_merging_does_not_depend_on_the_cut(digests: list[bytes], pieces: int) -> None:
    whole = file_of(digests)
    cut = [file_of(digests[i::pieces]) for i in range(pieces) if digests[i::pieces]]
    again = merged([*cut, whole])
    assert vector_bytes(again, SPACE) == vector_bytes(whole, SPACE)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    assert store.spaces == [] and store.names(SPACE) == [] and store.about(SPACE) is None
    for dtype in (np.float32, np.float16):
        file = VectorFile(np.array([b"a" * 16, b"b\0" * 8]), np.arange(6, dtype=dtype).reshape(2, 3))
        found = store.read(SPACE, store.add(SPACE, file))
        assert found.digests.tolist() == file.digests.tolist() and found.vectors.dtype == dtype
        assert np.array_equal(found.vectors, file.vectors)
    assert store.add(SPACE, file) in store.names(SPACE) and len(store.names(SPACE)) == 2
    assert store.spaces == [SPACE]
    with pytest.raises(MissingArtifactError):
        store.read(SPACE, "0" * 64 + ".arrow")


def test_files_of_another_space_are_refused(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    name = store.add(SPACE, file_of([b"a" * 16]))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_bytes((tmp_path / SPACE / name).read_bytes())
    with pytest.raises(ArtifactError, match="holds no vectors of other"):
        store.read("other", name)


def test_only_new_ones_are_kept_and_many_files_become_one(tmp_path: Path) -> None:
    store = VectorStore(str(tmp_path))
    expected: set[bytes] = set()
    for i in range(MOST_FILES + 3):
        new = [bytes([i]) * 16, bytes([i + 1]) * 16]
        assert store.keep(SPACE, file_of(new)) == len(set(new) - expected)
        expected |= set(new)
        assert 1 <= len(store.names(SPACE)) <= MOST_FILES
    assert store.keep(SPACE, file_of(list(expected))) == 0
    known = np.concatenate([f.digests for _, f in store.readable(SPACE)])
    assert sorted(known.tolist()) == sorted(np.array(list(expected), "S16").tolist())


def test_large_files_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_files, "SMALL_BYTES", 100)
    store = VectorStore(str(tmp_path))
    large = store.add(SPACE, file_of([bytes([200 + i]) * 16 for i in range(10)]))
    for i in range(2 * MOST_FILES):
        assert store.keep(SPACE, file_of([bytes([i]) * 16, b"\xc8" * 16])) == 1
    assert large in store.names(SPACE) and len(store.names(SPACE)) <= MOST_FILES + 3
    assert len(merged([f for _, f in VectorStore(str(tmp_path)).readable(SPACE)]).digests) == 10 + 2 * MOST_FILES


def test_a_damaged_file_is_passed_over_and_mended_by_the_same_content(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = VectorStore(str(tmp_path))
    file = file_of([b"a" * 16, b"b" * 16])
    path = tmp_path / SPACE / VectorStore(str(tmp_path)).add(SPACE, file)
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert list(store.readable(SPACE)) == []
    assert f"{path} is damaged" in caplog.text and "It is not used" in caplog.text
    assert store.keep(SPACE, file) == 2
    assert [n for n, _ in VectorStore(str(tmp_path)).readable(SPACE)] == [path.name]


def test_a_file_that_goes_while_it_is_listed_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VectorStore(str(tmp_path))
    name = store.add(SPACE, file_of([b"a" * 16]))
    monkeypatch.setattr(VectorStore, "names", lambda *_: ["1" * 64 + ".arrow", name])
    assert [n for n, _ in store.readable(SPACE)] == [name]

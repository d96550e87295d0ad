"""What every store must do. Subclass it and give the fixture `store` a fresh, empty one."""

from __future__ import annotations

import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from featuremill.artifacts.errors import AlreadyExists, MissingArtifactError, RequestError
from featuremill.artifacts.store import Store

__all__ = ["StoreConformance"]


class StoreConformance:
    """The contract of :class:`featuremill.artifacts.store.Store`."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError

    def test_it_is_a_store(self, store: Store) -> None:
        assert isinstance(store, Store)
        assert store.root

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000])
    def test_bytes_come_back(self, store: Store, data: bytes) -> None:
        store.put("a/b/c.bin", data)
        assert store.get("a/b/c.bin") == data

    @pytest.mark.parametrize("path", ["x", "a b/ü/%41%2F", "00-Op-a%2Fb.arrow", "A.b_c-~d"])
    def test_paths_come_back_as_they_were(self, store: Store, path: str) -> None:
        store.put(path, b"1")
        assert store.list() == [path]
        assert store.get(path) == b"1"

    def test_put_overwrites(self, store: Store) -> None:
        store.put("a", b"long content")
        store.put("a", b"2")
        assert store.get("a") == b"2"

    def test_create_only_never_overwrites(self, store: Store) -> None:
        store.put("a/b", b"first", create_only=True)
        with pytest.raises(AlreadyExists) as caught:
            store.put("a/b", b"second", create_only=True)
        assert caught.value.path == "a/b"
        assert store.get("a/b") == b"first"
        assert pickle.loads(pickle.dumps(caught.value)).path == "a/b"

    def test_of_many_creators_one_wins(self, store: Store) -> None:
        writers = 8
        for step in range(5):
            barrier = Barrier(writers)

            def create(writer: int, path: str = f"race/{step}", barrier: Barrier = barrier) -> bool:
                barrier.wait()
                try:
                    store.put(path, b"%d" % writer * 1000, create_only=True)
                except AlreadyExists:
                    return False
                return True

            with ThreadPoolExecutor(writers) as pool:
                won = list(pool.map(create, range(writers)))
            assert won.count(True) == 1
            assert store.get(f"race/{step}") == b"%d" % won.index(True) * 1000

    def test_missing_files(self, store: Store) -> None:
        store.put("folder/file", b"")
        for path in ("nothing", "folder", "folder/nothing"):
            assert not store.exists(path)
            with pytest.raises(MissingArtifactError):
                store.get(path)
            with pytest.raises(MissingArtifactError):
                store.modified(path)
            store.delete(path)
        assert store.exists("folder/file")

    def test_list_goes_below_a_folder_and_no_further(self, store: Store) -> None:
        for path in ("a/2", "a/10", "a/deep/er/x", "ab/1", "b"):
            store.put(path, b"")
        assert store.list("a") == ["a/10", "a/2", "a/deep/er/x"]
        assert store.list() == ["a/10", "a/2", "a/deep/er/x", "ab/1", "b"]
        assert store.list("nothing") == []

    def test_folders_are_the_direct_ones(self, store: Store) -> None:
        for path in ("a/2", "a/deep/er/x", "ab/1", "b"):
            store.put(path, b"")
        assert list(store.folders()) == ["a", "ab"]
        assert list(store.folders("a")) == ["deep"]
        assert list(store.folders("nothing")) == []

    def test_delete(self, store: Store) -> None:
        store.put("a/b", b"1")
        store.put("a/c", b"2")
        store.delete("a/b")
        store.delete("a/b")
        assert store.list() == ["a/c"]
        store.put("a/b", b"3", create_only=True)
        assert store.get("a/b") == b"3"

    def test_copies_are_files_of_their_own(self, store: Store) -> None:
        store.put("a/1", b"one")
        store.put("a/ü 2%", b"two")
        store.put("b/2", b"old")
        store.copy({"a/1": "b/1", "a/ü 2%": "b/2"})
        store.delete("a/1")
        assert store.list() == ["a/ü 2%", "b/1", "b/2"]
        assert (store.get("b/1"), store.get("b/2")) == (b"one", b"two")
        store.copy({})
        with pytest.raises(MissingArtifactError):
            store.copy({"a/ü 2%": "c/1", "a/1": "c/2"})

    @pytest.mark.parametrize("size", [0, 10, 20_000_000])
    def test_files_go_up_and_come_down(self, store: Store, size: int, tmp_path: Path) -> None:
        data = random.Random(size).randbytes(size)
        (tmp_path / "up").write_bytes(data)
        store.upload("a/b.bin", tmp_path / "up")
        assert store.get("a/b.bin") == data
        store.download("a/b.bin", tmp_path / "down")
        assert (tmp_path / "down").read_bytes() == data
        with pytest.raises(MissingArtifactError):
            store.download("a/c.bin", tmp_path / "none")
        assert not (tmp_path / "none").exists()

    def test_remove_takes_a_folder(self, store: Store) -> None:
        for path in ("a/1", "a/deep/2", "a/deep/3", "ab/1", "b"):
            store.put(path, b"")
        store.remove("a", keep={"a/deep/2"})
        assert store.list() == ["a/deep/2", "ab/1", "b"]
        store.remove("nothing")
        store.remove("a")
        assert store.list() == ["ab/1", "b"]

    def test_modified_is_about_now(self, store: Store) -> None:
        store.put("a", b"1")
        assert abs(store.modified("a") - datetime.now(UTC)) < timedelta(minutes=15)

    def test_sweep_leaves_files_alone(self, store: Store) -> None:
        store.put("a/b", b"1")
        store.sweep("", datetime.now(UTC) + timedelta(days=1))
        assert store.list() == ["a/b"]

    def test_nothing_outside_the_root(self, store: Store) -> None:
        with pytest.raises(RequestError):
            store.put("../outside", b"1")

    def test_local_path_when_there_is_one(self, store: Store) -> None:
        store.put("a/b", b"12")
        path = store.local_path("a/b")
        assert path is None or path.read_bytes() == b"12"

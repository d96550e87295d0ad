"""Aliases: one winner a step, nothing lost."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from featuremill.artifacts.aliases import AliasEntry, history, list_aliases, move, read_alias, resolve, versions
from featuremill.artifacts.errors import AliasMoved, ArtifactError, MissingArtifactError, ParameterError
from featuremill.artifacts.publish import publish
from featuremill.artifacts.reader import load
from featuremill.artifacts.store import open_store
from support.faulty_store import InterruptedStore
from support.sample_artifact import label_files

THREADS = 10


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("root")
    return root, [publish(root, "tiny", label_files(f"label {i}")) for i in range(THREADS)]


def test_move_and_read(published: tuple[Path, list[str]]) -> None:
    root, (a, b, *_) = published
    first = move(root, "tiny", "one", a, "because")
    second = move(root, "tiny", "one", b, expected=a)
    assert (first.number, first.version, first.previous, first.why) == (1, a, None, "because")
    assert (second.number, second.version, second.previous) == (2, b, a)
    assert read_alias(root, "tiny", "one") == second
    assert history(root, "tiny", "one") == [first, second]
    assert list_aliases(root, "tiny")["one"] == second
    assert resolve(root, "tiny", "one") == b == resolve(root, "tiny", b)
    assert load(f"{root}/tiny@one").version == b
    assert sorted(p.name for p in (root / "tiny/aliases/one").iterdir()) == ["00000001.json", "00000002.json"]


def test_to_where_it_stands_writes_nothing(published: tuple[Path, list[str]]) -> None:
    root, (a, *_) = published
    assert move(root, "tiny", "same", a) == move(root, "tiny", "same", a, "again")
    assert len(history(root, "tiny", "same")) == 1


def test_the_ninth_and_the_tenth_entry(published: tuple[Path, list[str]]) -> None:
    root, found = published
    for i in range(12):
        move(root, "tiny", "long", found[i % 2])
    assert [e.number for e in history(root, "tiny", "long")] == list(range(1, 13))
    assert read_alias(root, "tiny", "long").version == found[1]


def test_not_as_expected(published: tuple[Path, list[str]]) -> None:
    root, (a, b, c, *_) = published
    with pytest.raises(AliasMoved, match="does not exist yet"):
        move(root, "tiny", "expected", a, expected=b)
    move(root, "tiny", "expected", a, "the reason")
    with pytest.raises(AliasMoved, match=f"stands for {a} since .*the reason") as caught:
        move(root, "tiny", "expected", b, expected=c)
    assert pickle.loads(pickle.dumps(caught.value)).entry.version == a


def test_only_published_versions(published: tuple[Path, list[str]]) -> None:
    root, (a, *_) = published
    with pytest.raises(MissingArtifactError, match="has no version 0123456789abcdef"):
        move(root, "tiny", "x", "0123456789abcdef")
    (root / "tiny/versions/fedcba9876543210").mkdir()
    (root / "tiny/versions/fedcba9876543210/golden.arrow").write_bytes(b"")
    with pytest.raises(MissingArtifactError):
        move(root, "tiny", "x", "fedcba9876543210")
    assert "fedcba9876543210" not in versions(root, "tiny")
    for bad in ("x/y", a, "..", ""):
        with pytest.raises(ParameterError):
            move(root, "tiny", bad, a)
    with pytest.raises(ParameterError, match="is no version"):
        move(root, "tiny", "x", "prod")
    assert "x" not in list_aliases(root, "tiny")


def test_missing_aliases_are_suggested(published: tuple[Path, list[str]]) -> None:
    root, (a, *_) = published
    move(root, "tiny", "production", a)
    with pytest.raises(MissingArtifactError, match="has no alias 'producton'. Did you mean 'production'"):
        read_alias(root, "tiny", "producton")
    with pytest.raises(MissingArtifactError, match="There is no artifact 'other' either"):
        read_alias(root, "other", "prod")


def test_other_files_are_no_entries(published: tuple[Path, list[str]]) -> None:
    root, (a, b, *_) = published
    move(root, "tiny", "dusty", a)
    for name in (".DS_Store", "9.json", "00000009.json.bak", "00000002.json#1"):
        (root / "tiny/aliases/dusty" / name).write_text("{}")
    (root / "tiny/aliases/empty").mkdir()
    assert move(root, "tiny", "dusty", b).number == 2
    assert "empty" not in list_aliases(root, "tiny")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"version":"prod","previous":null,"when":"2024-01-01T00:00:00+00:00","why":""}']
)
def test_a_damaged_entry(published: tuple[Path, list[str]], tmp_path: Path, data: bytes) -> None:
    version = publish(tmp_path, "tiny", label_files("x"))
    move(tmp_path, "tiny", "prod", version)
    (tmp_path / "tiny/aliases/prod/00000001.json").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"00000001\.json is damaged"):
        load(f"{tmp_path}/tiny@prod")


def race(root: Path, alias: str, found: list[str], expected: str | None) -> list[AliasEntry | AliasMoved]:
    barrier = Barrier(THREADS)

    def run(version: str) -> AliasEntry | AliasMoved:
        barrier.wait()
        try:
            return move(root, "tiny", alias, version, f"to {version}", expected=expected)
        except AliasMoved as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, found))


def test_ten_threads_with_an_expectation_one_wins_each_step(published: tuple[Path, list[str]]) -> None:
    root, found = published
    current = move(root, "tiny", "race", found[0])
    for step in range(6):
        others = [v for v in found if v != current.version]
        outcomes = race(root, "race", [*others, others[0]], current.version)
        winners = [o for o in outcomes if isinstance(o, AliasEntry)]
        assert len({w.number for w in winners}) == 1
        assert all(o.entry == winners[0] for o in outcomes if isinstance(o, AliasMoved))
        assert winners[0].number == step + 2
        assert winners[0].previous == current.version
        current = read_alias(root, "tiny", "race")
        assert current == winners[0]


def test_ten_threads_without_an_expectation_lose_nothing(published: tuple[Path, list[str]]) -> None:
    root, found = published
    wrote: set[AliasEntry] = set()
    for _ in range(5):
        wrote |= {o for o in race(root, "free", found, None) if isinstance(o, AliasEntry)}
    log = history(root, "tiny", "free")
    assert set(log) == wrote
    assert [e.number for e in log] == list(range(1, len(log) + 1))
    assert [e.previous for e in log] == [None, *(e.version for e in log[:-1])]


def test_a_version_that_is_collected_while_an_alias_moves_to_it(tmp_path: Path) -> None:
    a, b = (publish(tmp_path, "tiny", label_files(label)) for label in "ab")
    move(tmp_path, "tiny", "prod", a)
    real = open_store(tmp_path)
    store = InterruptedStore(real, before=lambda *_: real.delete(f"tiny/versions/{b}/manifest.json"))
    with pytest.raises(MissingArtifactError, match=f"has no version {b}"):
        move(store, "tiny", "prod", b)
    assert read_alias(tmp_path, "tiny", "prod").version == a
    assert [e.version for e in history(tmp_path, "tiny", "prod")] == [a, b, a]

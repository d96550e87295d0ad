"""Which files a path means, and what the folder names say."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pyarrow as pa
import pytest

from featuremill.artifacts.errors import ParameterTypeError, RequestError
from featuremill.core.files import SourceFile, filesystem, find_files, partition_columns, partition_values


def tree(root: Path, *names: str) -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * len(name))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree(
        tmp_path, "b.parquet", "a.parquet", "_SUCCESS", ".a.parquet.crc", "sub/c.parquet", "sub/deep/d.parquet",
        "sub/notes.txt", "_temporary/e.parquet", "_year=2013/f.parquet", ".hidden/g.parquet",
    )  # fmt: skip
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (
            "",
            ["_year=2013/f.parquet", "a.parquet", "b.parquet", "sub/c.parquet", "sub/deep/d.parquet", "sub/notes.txt"],
        ),
        ("a.parquet", ["a.parquet"]),
        ("*.parquet", ["a.parquet", "b.parquet"]),
        ("?.parquet", ["a.parquet", "b.parquet"]),
        ("[b-c].parquet", ["b.parquet"]),
        ("**/*.parquet", ["_year=2013/f.parquet", "a.parquet", "b.parquet", "sub/c.parquet", "sub/deep/d.parquet"]),
        ("sub/**", ["c.parquet", "deep/d.parquet", "notes.txt"]),
        ("s*/*.parquet", ["sub/c.parquet"]),
        ("su*", ["sub/c.parquet", "sub/deep/d.parquet", "sub/notes.txt"]),
        ("_temp*/*.parquet", ["_temporary/e.parquet"]),
        ("*/**/d.parquet", ["sub/deep/d.parquet"]),
    ],
)
def test_what_a_path_means(root: Path, pattern: str, names: list[str]) -> None:
    files = find_files(f"{root}/{pattern}" if pattern else root)
    assert [f.name for f in files] == names
    assert all(Path(f.path).stat().st_size == f.size for f in files)
    assert [f.path for f in files] == sorted(f.path for f in files)


def test_relative_paths_and_lists(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert [f.path for f in find_files(["sub/c.parquet", "b.parquet"])] == ["b.parquet", "sub/c.parquet"]
    assert [f.path for f in find_files("*.parquet")] == ["a.parquet", "b.parquet"]
    assert [f.name for f in find_files("sub/")] == ["c.parquet", "deep/d.parquet", "notes.txt"]
    assert [f.name for f in find_files(f"file://{root}/*.parquet")] == ["a.parquet", "b.parquet"]


def test_a_name_with_magic_characters_that_exists_is_itself(tmp_path: Path) -> None:
    tree(tmp_path, "a[1].parquet", "a1.parquet")
    assert [f.name for f in find_files(tmp_path / "a[1].parquet")] == ["a[1].parquet"]


def test_errors_name_the_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    (root / "empty" / "_logs").mkdir(parents=True)
    for path, words in [
        ("missing/x.parquet", r"missing/x.parquet: there is no such file .*\(looked from .*The folder missing does"),
        ("c.parquet", "no such file"), ("*.csv", "no file matches"), ("gone/*.parquet", "no file matches"),
        ("empty", "holds no file"),
        (["a.parquet", "*.parquet"], "a.parquet is named twice"), ("zz://bucket/a", "scheme 'zz' is not known"),
    ]:  # fmt: skip
        with pytest.raises(RequestError, match=words) as caught:
            find_files(path)
        assert caught.value.path
    for wrong in (5, [], [5], "", None):
        with pytest.raises(ParameterTypeError):
            find_files(wrong)  # type: ignore[arg-type]


def test_a_folder_without_permission(tmp_path: Path) -> None:
    tree(tmp_path, "closed/a.parquet")
    (tmp_path / "closed").chmod(0)
    as_root = os.geteuid() == 0
    try:
        if as_root:
            os.seteuid(65534)
        with pytest.raises(RequestError, match="no permission"):
            find_files(tmp_path / "closed")
    finally:
        if as_root:
            os.seteuid(0)
        (tmp_path / "closed").chmod(0o755)


def test_object_stores_are_known() -> None:
    for scheme in ("gs", "s3"):
        system, path = filesystem(f"{scheme}://bucket/folder/a?.parquet")
        assert (system.type_name, path) == (f"py::{scheme}", "bucket/folder/a?.parquet")
    with pytest.raises(RequestError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        filesystem("az://container/folder/a.parquet")
    with pytest.raises(RequestError, match="credentials or a port") as caught:
        filesystem("s3://key:secret@bucket/a.parquet")
    assert "secret" not in str(caught.value)


def partitions(*folders: str) -> tuple[pa.Schema, list[dict[str, object]]]:
    schema, values = partition_columns([SourceFile(f"{f}/p.parquet", "p.parquet", 1) for f in folders])
    return schema, [dict(v) for v in values]


def test_partition_types() -> None:
    null = "__HIVE_DEFAULT_PARTITION__"
    schema, values = partitions(
        f"d/day=2013-01-31/n=007/s=A%2FB%20c/odd=2013-02-30/x={null}/big=9999999999999999999",
        f"d/day={null}/n=-1/s=7/odd=2013-02-01/x={null}/big=1",
    )  # fmt: skip
    assert schema == pa.schema(
        {
            "day": pa.date32(),
            "n": pa.int64(),
            "s": pa.string(),
            "odd": pa.string(),
            "x": pa.string(),
            "big": pa.string(),
        }
    )
    assert values == [
        {
            "day": dt.date(2013, 1, 31),
            "n": 7,
            "s": "A/B c",
            "odd": "2013-02-30",
            "x": None,
            "big": "9999999999999999999",
        },
        {"day": None, "n": -1, "s": "7", "odd": "2013-02-01", "x": None, "big": "1"},
    ]


def test_partitions_must_agree() -> None:
    assert partitions("d/a=1/b=2", "d/b=3/a=4")[1] == [{"a": 1, "b": 2}, {"b": 3, "a": 4}]
    with pytest.raises(
        RequestError, match=r"d/b=1/p.parquet: the folders name the columns b, those of d/a=1/p.parquet name a"
    ):
        partitions("d/a=1", "d/b=1")
    with pytest.raises(RequestError, match="no columns"):
        partitions("d/a=1", "d")
    with pytest.raises(RequestError, match="twice"):
        partition_values("a=1/a=2/p.parquet")
    assert partition_values("=1/a/p=1.parquet") == {}

"""The fragments of a job: all rows for writing, those of one split for statistics, and a note when it is done."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from featuremill.core.fragments import Fragment as SourceFragment
from featuremill.core.job_fragment import JobFragment, Split
from featuremill.transforms.fragments import Fragment, TrainingFragment
from featuremill.transforms.splitting import fingerprint_keys, split_of

TABLE = pa.table({"id": list(range(100)), "x": [i / 2 for i in range(100)], "t": [f"t{i % 4}" for i in range(100)]})
SPLIT = Split(("id",), {"train": 0.5, "eval": 0.5}, "train")
CODES = split_of(fingerprint_keys([TABLE.column("id").combine_chunks()]), {"train": 0.5, "eval": 0.5})


@dataclass(frozen=True)
class Rows:
    """A source's fragment in memory, ten rows a batch, that notes what it was asked for."""

    key: str = "00007"
    rows: int | None = 100
    bytes: int | None = None
    asked: tuple[list[str] | None, ...] = ()

    def batches(
        self, columns: Sequence[str] | None = None, *, dictionary: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        table = TABLE if columns is None else TABLE.select(list(columns))
        for name in set(dictionary) & set(table.schema.names):
            position = table.schema.get_field_index(name)
            table = table.set_column(position, name, table.column(name).dictionary_encode())
        yield from table.to_batches(max_chunksize=10)


def fragment(split: Split | None = None, progress: Path | None = None) -> JobFragment:
    return JobFragment(Rows(), TABLE.schema, split, None if progress is None else str(progress))


def test_it_is_a_fragment_with_a_training_split() -> None:
    assert isinstance(Rows(), SourceFragment)
    assert isinstance(fragment(), Fragment)
    assert isinstance(fragment(), TrainingFragment)
    assert (fragment().key, fragment().schema) == ("00007", TABLE.schema)


def test_all_rows_are_there_for_writing() -> None:
    assert pa.Table.from_batches(fragment(SPLIT).batches()).equals(TABLE)
    (first, *_) = fragment(SPLIT).batches(["t"], dictionary=["t"])
    assert pa.types.is_dictionary(first.schema.field("t").type)


@pytest.mark.parametrize("fitted", [0, 1])
@pytest.mark.parametrize("columns", [["x"], ["t", "x"], ["id"], ["x", "id"]], ids=str)
def test_statistics_see_one_split_and_the_columns_that_they_asked_for(fitted: int, columns: list[str]) -> None:
    split = Split(SPLIT.by, SPLIT.shares, ["train", "eval"][fitted])
    found = pa.Table.from_batches(list(fragment(split).training_batches(columns, [], 0)))
    assert found.equals(TABLE.filter(pa.array(fitted == CODES)).select(columns))


def test_a_key_may_come_encoded() -> None:
    split = Split(("t", "id"), SPLIT.shares, "train")
    plain = pa.Table.from_batches(list(fragment(split).training_batches(["t"], [], 0)))
    encoded = pa.Table.from_batches(list(fragment(split).training_batches(["t"], ["t"], 0)))
    assert encoded.column("t").to_pylist() == plain.column("t").to_pylist()


def test_without_a_split_statistics_see_every_row() -> None:
    assert pa.Table.from_batches(fragment().training_batches(["x"], [], 0)).num_rows == 100


def test_a_scan_is_noted_when_it_is_through_and_not_before(tmp_path: Path) -> None:
    notes = tmp_path / "progress"
    reading = fragment(SPLIT, notes).training_batches(["x"], [], 1)
    next(reading)
    assert not notes.exists()
    for _ in reading:
        assert not notes.exists()
    assert notes.read_text() == "scan 2\t00007\t100\n"


def test_it_travels() -> None:
    again = pickle.loads(pickle.dumps(fragment(SPLIT)))
    assert pa.Table.from_batches(again.training_batches(["x"], [], 0)).num_rows == int((CODES == 0).sum())

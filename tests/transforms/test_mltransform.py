"""featuremill's transforms inside Beam's own MLTransform: written, read, moved, over every kind of element."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from apache_beam.ml.transforms.base import MLTransform, MLTransformProvider, ProcessHandler
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.window import FixedWindows, GlobalWindows, TimestampedValue

import featuremill.transforms as fm
from featuremill.artifacts import load
from featuremill.artifacts.build import build_files
from featuremill.artifacts.errors import JobError, MissingColumnError, RequestError
from featuremill.transforms.beam import Handler, Transforms, attributes
from featuremill.transforms.fragments import TransformedFragment
from featuremill.transforms.registry import from_config, to_config

ROWS: list[dict[str, Any]] = [
    {
        "id": 2**60 + i,
        "x": [1.0, None, float("nan"), 4.0, -2.5][i % 5],
        "n": i % 7,
        "t": ["a", "b", None, "a", ""][i % 5],
    }
    for i in range(40)
]
SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.float64()), ("n", pa.int64()), ("t", pa.string())])
TABLE = pa.Table.from_pylist(ROWS, schema=SCHEMA)


def ops() -> list[Any]:
    """One of each kind; two scans, since the buckets are of a scaled column."""
    return [
        fm.ScaleToZScore(columns=["x"], dtype="float64"),
        fm.Bucketize(columns=["x"], num_buckets=2, output="bucket"),
        fm.ComputeAndApplyVocabulary(columns=["t"]),
        fm.Clip(columns=["n"], max_value=4, output="n4"),
    ]


def expected() -> list[dict[str, Any]]:
    """By pandas and NumPy."""
    x = pd.Series([math.nan if v is None else v for v in TABLE.column("x").to_pylist()])
    z = (x - x.mean()) / x.std(ddof=0)
    counts = pd.Series([r["t"] for r in ROWS if r["t"] is not None]).value_counts()
    order = sorted(counts.index, key=lambda t: (counts[t], t.encode()), reverse=True)
    median = np.sort(z.dropna())[len(z.dropna()) // 2]
    found = []
    for row, value in zip(ROWS, z, strict=True):
        null = row["x"] is None
        found.append(
            {
                "id": row["id"],
                "x": None if null else value,
                "n": row["n"],
                "t": None if row["t"] is None else order.index(row["t"]),
                "bucket": None if null else int(not value < median),
                "n4": min(row["n"], 4),
            }
        )
    return found


def close(left: Sequence[dict[str, Any]], right: Sequence[dict[str, Any]]) -> bool:
    def value(a: Any, b: Any) -> bool:
        if isinstance(a, float) and isinstance(b, float):
            return math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12) or (a != a and b != b)
        return a is b or (type(a) is type(b) and a == b)

    return len(left) == len(right) and all(
        a.keys() == b.keys() and all(value(a[k], b[k]) for k in a) for a, b in zip(left, right, strict=True)
    )


@dataclass(frozen=True)
class Keep:
    """Writes what it sees to a folder: results of a pipeline that runs pickled."""

    folder: str

    def __call__(self, element: Any) -> None:
        if isinstance(element, TransformedFragment):
            element = pa.Table.from_batches(element.batches(), element.schema)
        rows = element.to_pylist() if isinstance(element, (pa.Table, pa.RecordBatch)) else [element._asdict()]
        kind = type(element)
        for row in rows:
            Path(self.folder, f"{row['id'] if 'id' in row else id(row)}").write_bytes(pickle.dumps((kind, row)))


def run(
    elements: Sequence[Any], transform: Any, tmp_path: Path, typed: Any = None, *, before: Any = None, cut: bool = False
) -> tuple[set[Any], list[dict[str, Any]]]:
    """The kinds of element that come out, and all rows in the order of their ids."""
    results = tmp_path / "results"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    options = PipelineOptions(["--direct_num_workers=1", "--direct_running_mode=in_memory"])
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        created = pipeline | beam.Create(list(elements), reshuffle=cut)
        if typed is not None:
            created = created.with_output_types(typed) if hasattr(created, "with_output_types") else created
            created.element_type = typed
        if before is not None:
            created = created | before
        _ = created | transform | "Keep" >> beam.Map(Keep(str(results)))
    found = [pickle.loads(path.read_bytes()) for path in results.iterdir()]
    rows = sorted((row for _, row in found), key=lambda row: row.get("id", 0))
    return {kind for kind, _ in found}, rows


def write(location: Path, transforms: Sequence[Any] | None = None) -> MLTransform:
    return MLTransform(
        write_artifact_location=str(location), transforms=ops() if transforms is None else list(transforms)
    )


def read(location: Path) -> MLTransform:
    return MLTransform(read_artifact_location=str(location))


def pieces(size: int) -> list[pa.Table]:
    return [TABLE.slice(i, size) for i in range(0, TABLE.num_rows, size)]


# --- columnar elements -----------------------------------------------------------------------------------------------


def test_tables(tmp_path: Path) -> None:
    kinds, rows = run(pieces(7), write(tmp_path / "a"), tmp_path, pa.Table)
    assert kinds == {pa.Table}
    assert close(rows, expected())


def test_record_batches(tmp_path: Path) -> None:
    batches = [b for piece in pieces(9) for b in piece.to_batches()]
    kinds, rows = run(batches, write(tmp_path / "a"), tmp_path, pa.RecordBatch)
    assert kinds == {pa.RecordBatch}
    assert close(rows, expected())


@pytest.mark.parametrize("size", [1, 13, 40])
def test_fragments(tmp_path: Path, size: int) -> None:
    parts = [OwnFragment(i) for i in range(0, 40, size)]
    parts = [replace(part, size=size) for part in parts]
    kinds, rows = run(parts, write(tmp_path / "a"), tmp_path, OwnFragment, cut=True)
    assert kinds == {pa.Table}
    assert close(rows, expected())


@dataclass(frozen=True)
class OwnFragment:
    """A fragment that makes its rows when asked."""

    start: int
    size: int = 40

    @property
    def key(self) -> str:
        return f"{self.start:05d}"

    @property
    def schema(self) -> pa.Schema:
        return SCHEMA

    def batches(self, columns: Sequence[str] | None = None, *, dictionary: Sequence[str] = ()) -> Any:
        part = TABLE.slice(self.start, self.size)
        yield from (part if columns is None else part.select(list(columns))).to_batches()


@pytest.mark.parametrize("kind", [pa.Table, pa.RecordBatch, OwnFragment])
def test_columnar_elements_whose_type_beam_does_not_know(tmp_path: Path, kind: type) -> None:
    elements: list[Any] = (
        [OwnFragment(0)] if kind is OwnFragment else pieces(10) if kind is pa.Table else TABLE.to_batches()
    )
    kinds, rows = run(elements, write(tmp_path / "a"), tmp_path, Any)
    assert kinds == ({pa.Table} if kind is OwnFragment else {kind})
    assert close(rows, expected())


def test_a_table_without_rows_keeps_its_schema(tmp_path: Path) -> None:
    run(pieces(40), write(tmp_path / "a"), tmp_path, pa.Table)
    transformed = []
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        created = pipeline | beam.Create([TABLE.slice(0, 0)])
        created.element_type = pa.Table
        _ = created | read(tmp_path / "a") | beam.Map(lambda t: (tmp_path / "schema").write_text(str(t.schema)))
        transformed.append(created)
    assert (tmp_path / "schema").read_text() == str(
        load(next(p for p in (tmp_path / "a").iterdir() if p.is_dir())).output_schema
    )


# --- rows ------------------------------------------------------------------------------------------------------------


class Flight(NamedTuple):
    id: int
    x: float | None
    n: int
    t: str | None


def stock_shape(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as Beam's own transforms shape them: arrays of one element, null as an empty one."""

    def array(value: Any) -> Any:
        if value is None:
            return []
        return [np.float32(value)] if isinstance(value, float) else [value]

    return [{k: v if k == "id" else array(v) for k, v in row.items()} for row in rows]


@pytest.mark.parametrize(
    ("make", "typed"),
    [
        (dict, None),
        (dict, dict[str, Any]),
        (dict, Any),
        (lambda row: beam.Row(**row), None),
        (lambda row: Flight(**row), None),
        (lambda row: Flight(**row), Any),
    ],
    ids=["dict", "typed dict", "any dict", "Row", "NamedTuple", "any NamedTuple"],
)
def test_rows(tmp_path: Path, make: Any, typed: Any) -> None:
    kinds, rows = run([make(row) for row in ROWS], write(tmp_path / "a"), tmp_path, typed, cut=True)
    assert kinds == {beam.Row}
    for row, wanted in zip(rows, stock_shape(expected()), strict=True):
        assert row.keys() == wanted.keys()
        assert row["id"] == wanted["id"] and type(row["id"]) is int
        for name in ("x", "n", "t", "bucket", "n4"):
            assert isinstance(row[name], np.ndarray) and row[name].shape == (len(wanted[name]),)
            np.testing.assert_array_equal(row[name], wanted[name])
        assert (row["x"].dtype, row["t"].dtype, row["n4"].dtype) == (np.float32, np.int64, np.int64)


class Opaque:
    """No type that Arrow knows."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque)

    __hash__ = None  # type: ignore[assignment]


def test_columns_that_no_transform_names_keep_their_object(tmp_path: Path) -> None:
    rows = [{"id": i, "x": float(i), "what": what} for i, what in enumerate([Opaque(), {"a": [1]}, None, "text", 3])]
    _, found = run(rows, write(tmp_path / "a", [fm.ScaleTo01(columns=["x"])]), tmp_path)
    assert [row["what"] for row in found] == [Opaque(), {"a": [1]}, None, "text", 3]


def test_rows_with_lists(tmp_path: Path) -> None:
    rows = [
        {"id": 0, "v": [1.0, 5.0], "t": ["a", "b"]},
        {"id": 1, "v": np.array([3.0]), "t": np.array(["a"])},
        {"id": 2, "v": [], "t": []},
        {"id": 3, "v": None, "t": ["c", "a"]},
        {"id": 4, "v": 2.0, "t": "a"},
    ]
    transforms = [fm.ScaleTo01(columns=["v"]), fm.ComputeAndApplyVocabulary(columns=["t"])]
    _, found = run(rows, write(tmp_path / "a", transforms), tmp_path, cut=True)
    assert [row["v"].tolist() for row in found] == [[0.0, 1.0], [0.5], [], [], [0.25]]
    assert [row["t"].tolist() for row in found] == [[0, 2], [0], [], [1, 0], [0]]


def test_integers_and_floats_of_one_column_go_together_however_they_are_batched(tmp_path: Path) -> None:
    tables = [
        pa.table({"id": [0], "x": [1]}),
        pa.table({"id": [1], "x": [2.5]}),
        pa.table({"id": [2], "x": pa.nulls(1)}),
    ]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        location = tmp_path / "".join(map(str, order))
        scale = fm.ScaleTo01(columns=["x"], dtype="float64")
        _, rows = run([tables[i] for i in order], write(location, [scale]), tmp_path, pa.Table)
        assert [row["x"] for row in rows] == [0.0, 1.0, None]
    versions = {load(p).version for p in tmp_path.glob("*/*/") if (p / "manifest.json").exists()}
    assert len(versions) == 1


def failure(elements: Sequence[Any], transform: Any, tmp_path: Path, typed: Any = None, **kwargs: Any) -> str:
    with pytest.raises(Exception) as caught:  # the runner's own, with ours in its text
        run(elements, transform, tmp_path, typed, **kwargs)
    return f"{type(caught.value).__name__}: {caught.value}"


def test_a_column_of_two_kinds_is_told(tmp_path: Path) -> None:
    scale = [fm.ScaleTo01(columns=["x"])]
    tables = [pa.table({"id": [0], "x": [1]}), pa.table({"id": [1], "x": ["a"]})]
    told = failure(tables, write(tmp_path / "a", scale), tmp_path, pa.Table)
    assert "RequestError: The column 'x' is int64 in some rows and string in others." in told
    told = failure([{"id": 0, "x": 1}, {"id": 1, "x": "a"}], write(tmp_path / "b", scale), tmp_path)
    assert "RequestError: The column 'x'" in told


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_row_that_lacks_a_column_is_told(tmp_path: Path, lacking: int) -> None:
    rows = [{"id": 0, "air_time": 1.0}, {"id": 1, "air_time": 2.0}]
    rows[lacking] = {"id": lacking, "air_tme": 1.0}
    told = failure(rows, write(tmp_path / "a", [fm.ScaleTo01(columns=["air_time"])]), tmp_path)
    assert f"{MissingColumnError.__name__}: The column 'air_time' is missing in a row. Did you mean 'air_tme'?" in told


def test_elements_that_are_no_rows_are_told(tmp_path: Path) -> None:
    assert "MLTransform was given a int" in failure([1, 2], write(tmp_path / "a"), tmp_path, Any)


# --- written, read, moved --------------------------------------------------------------------------------------------


def test_what_was_written_is_read_also_after_it_was_moved(tmp_path: Path) -> None:
    _, written = run(pieces(11), write(tmp_path / "a"), tmp_path, pa.Table)
    few = TABLE.slice(3, 9)
    for location in (tmp_path / "a", tmp_path / "b"):
        kinds, rows = run([few], read(location), tmp_path, pa.Table)
        assert kinds == {pa.Table}
        assert close(rows, written[3:12])
        if location.name == "a":
            shutil.move(location, tmp_path / "b")


def test_a_location_may_be_relative_and_read_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, written = run([TABLE], write(Path("a")), tmp_path, pa.Table)
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    _, rows = run([TABLE], read(Path("../a")), tmp_path, pa.Table)
    assert close(rows, written)


def test_written_over_tables_and_read_over_rows(tmp_path: Path) -> None:
    run([TABLE], write(tmp_path / "a"), tmp_path, pa.Table)
    kinds, rows = run(ROWS[:5], read(tmp_path / "a"), tmp_path)
    assert kinds == {beam.Row}
    assert [row["t"].tolist() for row in rows] == [row["t"] for row in stock_shape(expected()[:5])]


def test_a_published_version_is_read(tmp_path: Path) -> None:
    run([TABLE], write(tmp_path / "a"), tmp_path, pa.Table)
    (folder,) = (p for p in (tmp_path / "a").iterdir() if p.is_dir())
    fitted = load(folder)
    files = build_files(fitted.transforms, SCHEMA, dict(fitted.states), attributes=attributes(fitted.transforms))
    for path, data in files.items():
        (tmp_path / "v1" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "v1" / path).write_bytes(data)
    _, rows = run([TABLE], read(tmp_path / "v1"), tmp_path, pa.Table)
    assert close(rows, expected())


def test_attributes_hold_data_and_no_place(tmp_path: Path) -> None:
    run([TABLE], write(tmp_path / "a"), tmp_path, pa.Table)
    text = (tmp_path / "a" / "attributes.json").read_text()
    assert str(tmp_path) not in text
    (content,) = json.loads(text)
    assert set(content) == {"py/object", "py/state"}
    state = content["py/state"]
    assert set(state) == {"folder", "transforms", "shards"}
    assert state["transforms"] == to_config(ops())
    assert "/" not in state["folder"]


def test_a_location_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    run([TABLE], write(tmp_path / "a"), tmp_path, pa.Table)
    with pytest.raises(FileExistsError):
        run([TABLE], write(tmp_path / "a"), tmp_path, pa.Table)


def test_fitting_again_in_the_same_folder_sees_the_new_data(tmp_path: Path) -> None:
    transforms = [Transforms(from_config(to_config(ops())))]
    _, first = run([TABLE], write(tmp_path / "a", transforms), tmp_path, pa.Table)
    position = SCHEMA.get_field_index("x")
    tripled = TABLE.set_column(position, "x", pa.array([None if r["x"] is None else r["x"] ** 3 for r in ROWS]))
    shutil.rmtree(tmp_path / "a")
    _, again = run([tripled], write(tmp_path / "a", transforms), tmp_path, pa.Table)
    _, elsewhere = run([tripled], write(tmp_path / "b", transforms), tmp_path, pa.Table)
    assert close(again, elsewhere)
    assert not close(again, first)


# --- one import, neighbours, and what is refused ---------------------------------------------------------------------


def test_with_transform(tmp_path: Path) -> None:
    transform = MLTransform(write_artifact_location=str(tmp_path / "a"))
    for op in ops():
        transform = transform.with_transform(op)
    _, rows = run([TABLE], transform, tmp_path, pa.Table)
    assert close(rows, expected())


def test_neighbours_share_one_handler_and_one_artifact(tmp_path: Path) -> None:
    run([TABLE], write(tmp_path / "a"), tmp_path, pa.Table)
    folders = [p for p in (tmp_path / "a").iterdir() if p.is_dir()]
    assert len(folders) == 1
    assert load(folders[0]).manifest.transforms == tuple(to_config(ops()))


def test_windowed_input_is_refused_when_fitting_and_taken_when_applying(tmp_path: Path) -> None:
    run(ROWS, write(tmp_path / "a"), tmp_path)
    windowed = beam.Map(lambda row: TimestampedValue(row, row["n"])) | beam.WindowInto(FixedWindows(3))
    with pytest.raises(RequestError, match="this PCollection is windowed"):
        run(ROWS, write(tmp_path / "b"), tmp_path, before=windowed)
    _, rows = run(ROWS, read(tmp_path / "a"), tmp_path, before=windowed)
    assert [row["t"].tolist() for row in rows] == [row["t"] for row in stock_shape(expected())]
    _, rows = run(ROWS, write(tmp_path / "c"), tmp_path, before=beam.WindowInto(GlobalWindows()))
    assert len(rows) == len(ROWS)


@pytest.mark.parametrize("typed", [None, pa.Table], ids=["rows", "tables"])
def test_nothing_can_be_fitted_on_nothing(tmp_path: Path, typed: Any) -> None:
    told = failure([], write(tmp_path / "a"), tmp_path, typed)
    assert f"{JobError.__name__}: There were no rows" in told


@pytest.mark.parametrize("typed", [None, pa.Table], ids=["rows", "tables"])
def test_nothing_can_be_transformed(tmp_path: Path, typed: Any) -> None:
    run([TABLE], write(tmp_path / "a"), tmp_path, pa.Table)
    assert run([], read(tmp_path / "a"), tmp_path, typed) == (set(), [])


def test_exception_handling_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="with_exception_handling"):
        run(ROWS, write(tmp_path / "a").with_exception_handling(), tmp_path)


def test_a_handler_without_a_location_is_refused() -> None:
    with pytest.raises(RequestError, match="artifact_location"):
        fm.Clip(columns=["x"], max_value=1.0).get_ptransform_for_processing()


def test_a_handler_survives_pickling() -> None:
    handler = Handler("/somewhere/abc123", transforms=from_config(to_config(ops())), shards=3)
    again = pickle.loads(pickle.dumps(handler))
    assert (again.artifact_location, again.artifact_mode, again.shards) == ("abc123", "consume", 3)
    assert again.transforms == handler.transforms


@pytest.mark.differential
def test_stock_transforms_come_before_ours_in_one_mltransform_and_after_them_in_another(tmp_path: Path) -> None:
    from support.stock import stock_ops

    stock = stock_ops()
    rows = [{"id": i, "x": float(i), "y": float(i * i), "t": "ab"[i % 2]} for i in range(8)]
    ours = [fm.ScaleTo01(columns=["x"]), fm.ComputeAndApplyVocabulary(columns=["t"])]
    kinds, found = run(rows, write(tmp_path / "a", [stock.ScaleTo01(columns=["y"]), *ours]), tmp_path)
    assert kinds == {beam.Row}
    # Beam's own handler takes dicts, and no rows whose fields it does not know.
    then = write(tmp_path / "b", ours) | "Dicts" >> beam.Map(lambda row: row.as_dict())
    _, after = run(rows, then | "Stock" >> write(tmp_path / "c", [stock.ScaleTo01(columns=["y"])]), tmp_path)
    for made in (found, after):
        np.testing.assert_allclose([row["x"][0] for row in made], np.arange(8) / 7, rtol=1e-6)
        np.testing.assert_allclose([row["y"][0] for row in made], np.arange(8) ** 2 / 49, rtol=1e-6)
        assert [row["t"].tolist() for row in made] == [[(i + 1) % 2] for i in range(8)]
    _, again = run(rows[2:4], read(tmp_path / "a"), tmp_path)
    for left, right in zip(again, found[2:4], strict=True):
        assert all(np.array_equal(left[k], right[k]) for k in left)


def test_a_stock_neighbour_may_stand_between_two_of_our_handlers(tmp_path: Path) -> None:
    transforms = [fm.ScaleTo01(columns=["x"], dtype="float64"), Untouched(), fm.Bucketize(columns=["x"], num_buckets=2)]
    _, rows = run([TABLE.select(["id", "x"])], write(tmp_path / "a", transforms), tmp_path, pa.Table)
    assert {row["x"] for row in rows} == {None, 0, 1}
    _, again = run([TABLE.select(["id", "x"])], read(tmp_path / "a"), tmp_path, pa.Table)
    assert again == rows


class Untouched(MLTransformProvider):
    """A provider of somebody else's, whose transform gives what it gets."""

    def get_ptransform_for_processing(self, **kwargs: Any) -> beam.PTransform:
        return Identity()


class Identity(ProcessHandler):
    """Changes nothing."""

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[Any]:
        return elements | beam.Map(lambda element: element).with_output_types(elements.element_type)

    def append_transform(self, transform: Any) -> None:
        """Takes whatever comes."""

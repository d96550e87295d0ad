"""Writes the input of the flights benchmark: a key and seven columns of the 336,776 flights, in twelve files.

    python benchmarks/prepare_flights.py benchmarks/data/flights8           # with its nulls
    python benchmarks/prepare_flights.py benchmarks/data/flights8-filled --filled

The second has 0 and "unknown" in place of the nulls, which the stock MLTransform cannot read: on it, and only on it,
all tools can be held against one another row by row.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from featuremill.jobs.flights import write_flights

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from common import FILLERS, FLIGHTS_COLUMNS


def prepare(folder: Path, filled: bool) -> None:
    """Writes one file per month; the row groups are those of the demo data."""
    source = write_flights(folder.parent / "flights")
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.glob("*.parquet")):
        table = pq.read_table(file, columns=FLIGHTS_COLUMNS)
        if filled:
            table = pa.table({n: table[n].fill_null(FILLERS[n]) if n in FILLERS else table[n] for n in FLIGHTS_COLUMNS})
        pq.write_table(table, folder / file.name, row_group_size=10_000, compression="snappy")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--filled", action="store_true", help="put 0 and 'unknown' in place of nulls")
    arguments = parser.parse_args()
    prepare(arguments.folder, arguments.filled)

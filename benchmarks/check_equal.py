"""Says whether two tools wrote the same features: the same rows and nulls, equal indices, floats that agree.

    python benchmarks/check_equal.py EXPECTED FOUND                  # rows in the same order
    python benchmarks/check_equal.py EXPECTED FOUND --key flight_id  # rows in any order, matched by a key
    python benchmarks/check_equal.py EXPECTED FOUND --key label,C1   # or by as many columns as tell the rows apart
    python benchmarks/check_equal.py EXPECTED FOUND --key id --part  # FOUND has only some of the rows

Both are folders, searched for Parquet files at any depth, read in the order of their paths. Integers of different
widths compare by value. Floats must agree to 1e-5 of the value or 1e-6, whichever is more: all tools write float32.
Prints one JSON line; the exit status is 1 when anything differs, with a line for each column that does.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

RELATIVE, ABSOLUTE = 1e-5, 1e-6


def files_of(folder: Path) -> list[Path]:
    """The Parquet files below a folder, in the order of their paths; names that begin with `.` or `_` are left out."""
    found = sorted(folder.rglob("*.parquet"))
    found = [file for file in found if not any(part[0] in "._" for part in file.relative_to(folder).parts)]
    if not found:
        sys.exit(f"{folder}: there are no Parquet files.")
    return found


def read(folder: Path, columns: list[str]) -> pa.Table:
    """The columns of all files; dictionaries are decoded."""
    parts = [pq.ParquetFile(f).read(columns=columns) for f in files_of(folder)]
    return pa.concat_tables(
        pa.table({n: p[n].cast(p[n].type.value_type) if pa.types.is_dictionary(p[n].type) else p[n] for n in columns})
        for p in parts
    )


def names_of(folder: Path) -> list[str]:
    """The column names of the first file."""
    return list(pq.read_schema(files_of(folder)[0]).names)


def difference(expected: pa.ChunkedArray, found: pa.ChunkedArray) -> str | None:
    """What differs between two columns, in one line; None when nothing does."""
    nulls = pc.not_equal(expected.is_null(), found.is_null())
    if wrong := pc.sum(nulls).as_py():
        return f"{wrong} rows are null on one side only, first in row {pc.index(nulls, True).as_py()}"
    if pa.types.is_floating(expected.type) or pa.types.is_floating(found.type):
        a, b = (x.cast(pa.float64()).fill_null(0.0).to_numpy() for x in (expected, found))
        differs = ~np.isclose(a, b, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    else:
        a, b = (x.cast(pa.int64()) if pa.types.is_integer(x.type) else x for x in (expected, found))
        differs = pc.not_equal(a, b).fill_null(False).to_numpy()
    if not differs.any():
        return None
    row = int(differs.argmax())
    return f"{int(differs.sum())} rows differ, first row {row}: {expected[row].as_py()!r} and {found[row].as_py()!r}"


def check(expected: Path, found: Path, key: list[str], columns: list[str], part: bool = False) -> list[str]:
    """One line for each difference; with `part`, over the rows of `expected` that have a key of `found`."""
    names = columns or names_of(expected)
    if missing := sorted(set(names) ^ set(columns or names_of(found))):
        return [f"only one of the two has the columns {', '.join(missing)}"]
    orders: list[pa.Array | None] = [None, None]
    chosen = pc.is_in(read(expected, key)[key[0]], value_set=read(found, key)[key[0]]) if part else None
    rows = [sum(pq.read_metadata(f).num_rows for f in files_of(x)) for x in (expected, found)]
    if chosen is not None:
        rows[0] = pc.sum(chosen).as_py() or 0
    if rows[0] != rows[1]:
        return [f"{rows[0]} rows and {rows[1]} rows"]
    if key:
        keys = [(name, "ascending") for name in key]
        tables = [read(x, key) for x in (expected, found)]
        if chosen is not None:
            tables[0] = tables[0].filter(chosen)
        orders = [pc.sort_indices(table, sort_keys=keys) for table in tables]
    wrong = []
    for name in names:
        # One column at a time: neither side needs to fit into memory as a whole.
        sides = [read(x, [name])[name] for x in (expected, found)]
        if chosen is not None:
            sides[0] = sides[0].filter(chosen)
        a, b = (s if order is None else s.take(order) for s, order in zip(sides, orders, strict=True))
        if line := difference(a, b):
            wrong.append(f"{name}: {line}")
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("expected", type=Path)
    parser.add_argument("found", type=Path)
    parser.add_argument("--key", default="", help="columns, separated by commas, that both sides are sorted by first")
    parser.add_argument("--columns", default="", help="compare only these columns, separated by commas")
    parser.add_argument("--part", action="store_true", help="FOUND has only some rows, told by the one column of --key")
    arguments = parser.parse_args()
    key, columns = ([c for c in x.split(",") if c] for x in (arguments.key, arguments.columns))
    if arguments.part and len(key) != 1:
        parser.error("--part needs one column as --key")
    lines = check(arguments.expected, arguments.found, key, columns, arguments.part)
    print(json.dumps({"equal": not lines, "expected": str(arguments.expected), "found": str(arguments.found)}))
    for line in lines:
        print(f"  {line}")
    sys.exit(1 if lines else 0)

"""Writes a table shaped like the Criteo click logs: a label, 13 skewed counts, 26 string categories.

    python benchmarks/generate_criteo.py benchmarks/data/criteo-4m --rows 4000000

The values are random and the shape is what matters: ``label`` (int32), ``I1`` to ``I13`` (float64 counts, log-normal,
up to 45 % null), ``C1`` to ``C26`` (eight hexadecimal digits, Zipf frequencies, from 3 up to 1,000,000 possible values,
up to 45 % null). The same seed gives the same bytes, and a longer table begins with the files of a shorter one.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_FILE = 500_000
ROWS_PER_GROUP = 250_000
NUMBERS = [f"I{i}" for i in range(1, 14)]
CATEGORIES = [f"C{i}" for i in range(1, 27)]
SMALLEST, LARGEST = 3, 1_000_000
ZIPF = 0.98
"""The exponent: the value of rank r is drawn about r ** -0.98 times as often as the first."""
NULL_SHARES = (0.0, 0.0, 0.03, 0.12, 0.45)
"""The columns take these in turn."""
CLICK_RATE = 0.256

SCHEMA: pa.Schema = pa.schema(
    [("label", pa.int32())] + [(n, pa.float64()) for n in NUMBERS] + [(c, pa.string()) for c in CATEGORIES]
)


def cardinalities() -> list[int]:
    """How many different values each category can take: a geometric series, in an order that mixes small and large."""
    spread = np.geomspace(SMALLEST, LARGEST, len(CATEGORIES)).round().astype(int)
    # 7 and 26 share no factor, so that every size comes once.
    return [int(spread[(7 * i) % len(CATEGORIES)]) for i in range(len(CATEGORIES))]


def tokens(column: int, count: int) -> pa.Array:
    """`count` different strings of eight hexadecimal digits, which look random: a bijection of the 32-bit integers."""
    x = np.arange(count, dtype=np.uint32) + np.uint32((column * 0x9E3779B9) & 0xFFFFFFFF)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    nibbles = (x[:, None] >> np.arange(28, -4, -4, dtype=np.uint32)) & np.uint32(15)
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)[nibbles]
    offsets = np.arange(0, 8 * (count + 1), 8, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(digits)))


def zipf_ranks(rng: np.random.Generator, rows: int, count: int) -> npt.NDArray[np.int32]:
    """Ranks below `count` with Zipf frequencies, by inverting the distribution function of the bounded power law."""
    power = 1.0 - ZIPF
    u = rng.random(rows)
    ranks = ((((count + 1.0) ** power - 1.0) * u + 1.0) ** (1.0 / power)).astype(np.int64) - 1
    return np.clip(ranks, 0, count - 1).astype(np.int32)


def one_file(seed: int, index: int, rows: int, dictionaries: list[pa.Array]) -> pa.Table:
    """The table of file `index`."""
    rng = np.random.default_rng([seed, index])
    columns = [pa.array((rng.random(rows) < CLICK_RATE).astype(np.int32))]
    for i in range(len(NUMBERS)):
        values = np.floor(rng.lognormal(mean=0.4 * i, sigma=1.0 + 0.1 * i, size=rows))
        columns.append(pa.array(values, mask=rng.random(rows) < NULL_SHARES[i % len(NULL_SHARES)]))
    for i, dictionary in enumerate(dictionaries):
        ranks = zipf_ranks(rng, rows, len(dictionary))
        share = NULL_SHARES[(i + 2) % len(NULL_SHARES)]
        columns.append(dictionary.take(pa.array(ranks, mask=rng.random(rows) < share)))
    return pa.table(columns, schema=SCHEMA)


def generate(folder: Path, rows: int, seed: int) -> None:
    """Writes the files that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    dictionaries: list[pa.Array] = []
    for index, start in enumerate(range(0, rows, ROWS_PER_FILE)):
        count = min(ROWS_PER_FILE, rows - start)
        target = folder / f"part-{index:05}.parquet"
        if target.exists() and pq.read_metadata(target).num_rows == count:
            continue
        dictionaries = dictionaries or [tokens(i, count) for i, count in enumerate(cardinalities())]
        partial = target.with_suffix(".partial")
        pq.write_table(
            one_file(seed, index, count, dictionaries), partial, row_group_size=ROWS_PER_GROUP, compression="snappy"
        )
        os.replace(partial, target)
        print(f"{target}: {count} rows, {target.stat().st_size / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--seed", type=int, default=20130101)
    arguments = parser.parse_args()
    generate(arguments.folder, arguments.rows, arguments.seed)

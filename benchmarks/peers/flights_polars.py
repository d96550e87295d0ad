"""The flights job in Polars: lazy frames on the streaming engine, vocabularies as enums. Nulls stay null."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from common import (
    FLIGHTS_CATEGORIES,
    FLIGHTS_KEY,
    FLIGHTS_MIN_MAX,
    FLIGHTS_Z_SCORES,
    ROWS_PER_GROUP,
    main,
)
from criteo_polars import vocabulary


def work(source: Path, target: Path) -> int:
    frame = pl.scan_parquet(source / "*.parquet")
    numbers = frame.select(
        *(pl.col(n).mean().name.suffix("_mean") for n in FLIGHTS_Z_SCORES),
        *(pl.col(n).std(ddof=0).name.suffix("_std") for n in FLIGHTS_Z_SCORES),
        *(pl.col(n).min().name.suffix("_min") for n in FLIGHTS_MIN_MAX),
        *(pl.col(n).max().name.suffix("_max") for n in FLIGHTS_MIN_MAX),
    )
    *found, statistics = pl.collect_all(
        [*(vocabulary(frame, c) for c in FLIGHTS_CATEGORIES), numbers], engine="streaming"
    )
    vocabularies = {c: pl.Enum(table[c]) for c, table in zip(FLIGHTS_CATEGORIES, found, strict=True)}
    (values,) = statistics.to_dicts()
    frame.select(
        FLIGHTS_KEY,
        *(pl.col(c).cast(vocabularies[c]).to_physical().cast(pl.Int64) for c in FLIGHTS_CATEGORIES),
        *(((pl.col(n) - values[f"{n}_mean"]) / values[f"{n}_std"]).cast(pl.Float32) for n in FLIGHTS_Z_SCORES),
        *(
            ((pl.col(n) - values[f"{n}_min"]) / (values[f"{n}_max"] - values[f"{n}_min"])).cast(pl.Float32)
            for n in FLIGHTS_MIN_MAX
        ),
    ).sink_parquet(
        target / "part-00000.parquet", compression="snappy", row_group_size=ROWS_PER_GROUP, engine="streaming"
    )
    return int(pl.scan_parquet(target / "part-00000.parquet").select(pl.len()).collect().item())


if __name__ == "__main__":
    main(work)

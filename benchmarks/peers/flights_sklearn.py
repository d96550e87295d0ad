"""The flights job in pandas and scikit-learn. Nulls stay null: the scalers and the encoder pass NaN through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from common import FLIGHTS_CATEGORIES, FLIGHTS_COLUMNS, FLIGHTS_MIN_MAX, FLIGHTS_Z_SCORES, ROWS_PER_GROUP, main
from sklearn.preprocessing import MinMaxScaler, OrdinalEncoder, StandardScaler


def vocabulary(column: pd.Series) -> list[str]:
    """The values by count, descending; equal counts in reverse lexicographic order."""
    counts = column.value_counts().rename_axis("value").reset_index(name="count")
    return list(counts.sort_values(["count", "value"], ascending=False)["value"])


def work(source: Path, target: Path) -> int:
    frame = pd.read_parquet(source, columns=FLIGHTS_COLUMNS)
    encoder = OrdinalEncoder(
        categories=[[*vocabulary(frame[c]), np.nan] for c in FLIGHTS_CATEGORIES], encoded_missing_value=np.nan
    )
    categories = frame[FLIGHTS_CATEGORIES].astype(object).where(frame[FLIGHTS_CATEGORIES].notna(), np.nan)
    codes = pd.DataFrame(encoder.fit_transform(categories), columns=FLIGHTS_CATEGORIES)
    frame[FLIGHTS_CATEGORIES] = codes.astype("Int64")
    frame[FLIGHTS_Z_SCORES] = StandardScaler().fit_transform(frame[FLIGHTS_Z_SCORES]).astype(np.float32)
    frame[FLIGHTS_MIN_MAX] = MinMaxScaler().fit_transform(frame[FLIGHTS_MIN_MAX]).astype(np.float32)
    frame.to_parquet(
        target / "part-00000.parquet", compression="snappy", row_group_size=ROWS_PER_GROUP, index=False
    )
    return len(frame)


if __name__ == "__main__":
    main(work)

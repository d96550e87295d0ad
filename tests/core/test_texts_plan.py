"""When texts are embedded, as far as it is known before any row was read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.core.parquet_source import ParquetSource
from featuremill.core.texts_plan import plan_texts, stored_bytes
from featuremill.transforms.embedding import EmbedText
from featuremill.transforms.imputation import Impute
from featuremill.transforms.numeric import Clip

ROWS = 40_000
OP = EmbedText(["plane"], digest="ab" * 32, dimension=384, output="v")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ParquetSource:
    folder = tmp_path_factory.mktemp("planes")
    columns = {
        "plane": [f"Fixed wing multi engine BOEING 737-{i % 90}" for i in range(ROWS)],
        "tail": [f"N{i:06}XX" for i in range(ROWS)], "x": np.arange(ROWS),
    }  # fmt: skip
    for i in range(2):
        pq.write_table(pa.table(columns), folder / f"{i}.parquet", row_group_size=ROWS // 2)
    return ParquetSource(str(folder))


def planned(source: ParquetSource, *ops: Any, **changes: Any) -> list[tuple[str, str, str]]:
    facts: dict[str, Any] = {"rows": 2 * ROWS, "cached": False, "alone": False} | changes
    return [(t.column, t.when, t.why) for t in plan_texts(ops, source.fragments(), **facts)]


def test_footers_tell_texts_that_repeat_from_those_that_do_not(source: ParquetSource) -> None:
    fragments = source.fragments()
    repeated, distinct = (stored_bytes(fragments, name) or 0 for name in ("plane", "tail"))
    assert 0 < repeated < 2
    assert distinct > 8
    assert stored_bytes(fragments, "nothing") is None and stored_bytes([object()], "plane") is None
    ((_, when, why),) = planned(source, OP)
    assert when == "counted" and "seem to repeat, with 1" in why and "hardly" not in why
    ((_, when, why),) = planned(source, EmbedText(["tail"], digest="ab" * 32, dimension=384))
    assert when == "counted" and "hardly seem to repeat" in why
    assert "do not tell" in plan_texts([OP], [], rows=1, cached=False, alone=False)[0].why


def test_what_decides(source: ParquetSource) -> None:
    assert planned(source, OP, cached=True)[0][1] == "first"
    assert planned(source, OP, alone=True)[0][1] == "counted"
    # One worker remembers the vectors of 43,690 texts.
    assert planned(source, OP, alone=True, rows=43_690)[0][1] == "as they come"
    filled = Impute(["plane"], strategy="constant", fill_value="none")
    assert planned(source, filled, OP, cached=True) == [
        ("plane", "as they come", "another transform makes the column")
    ]
    assert planned(source, OP, filled, cached=True)[0][1] == "first"
    assert planned(source, Clip(["x"], max_value=1.0), cached=True) == []
    assert planned(source, OP, filled, only={1}) == []


def test_each_column_has_a_transform_of_its_own() -> None:
    both = EmbedText(["a", "b"], digest="ab" * 32, dimension=8, output="{column}_v", name="both", truncate_dim=4)
    found = plan_texts([both], [], rows=1, cached=True, alone=False)
    assert [(t.column, t.output, t.model) for t in found] == [("a", "a_v", "minilm"), ("b", "b_v", "minilm")]
    first = [t.first for t in found]
    assert [f.key for f in first if f] == ["00-0", "00-1"]
    assert [f.op.columns for f in first if f] == [("a",), ("b",)]
    assert all(f.op.truncate_dim == 4 and f.op.digest == "ab" * 32 for f in first if f)

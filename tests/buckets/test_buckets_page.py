"""docs/buckets.md: its job runs, from a bucket into a bucket."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featuremill.artifacts import load
from featuremill.artifacts.store import open_store
from featuremill.core.loading import load_job
from featuremill.jobs.prepare import run
from support.buckets import Cloud

PAGE = (Path(__file__).parents[2] / "docs" / "buckets.md").read_text()


@pytest.mark.parametrize("cloud", ["s3"], indirect=True)
def test_the_job_runs(cloud: Cloud, tmp_path: Path) -> None:
    bucket = cloud.bucket()
    rows = {"flight_id": list(range(50)), "air_time": [float(i) for i in range(50)], "carrier": ["UA", "AA"] * 25}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    open_store(bucket).upload("flights/month=1/a.parquet", tmp_path / "a.parquet")
    (job,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "job.yaml").write_text(job.replace("s3://a-bucket", bucket))
    record = run(load_job(tmp_path / "job.yaml"))  # type: ignore[arg-type]  # the page's is a prepare job
    assert sum(record.splits.values()) == 50
    assert load(f"{bucket}/artifacts/flights@candidate").verify().rows == 8


def test_its_addresses_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    addresses = re.findall(r"^\| `([a-z]\w*://[^`]+)`", PAGE, re.MULTILINE)
    assert {a.partition("://")[0] for a in addresses} == {"s3", "gs", "az", "abfss"}
    for address in addresses:
        assert open_store(address).root == address

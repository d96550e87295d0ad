"""The page on BigQuery says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from featuremill.core.bigquery.spec import BigQuerySpec
from featuremill.core.bigquery.types import ALIASES, SCALARS
from featuremill.core.bigquery.write_spec import BigQueryDataset
from featuremill.core.jobfile import DatasetSpec, PrepareJob, RunnerSpec
from featuremill.core.loading import load_job

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/bigquery.md").read_text()


def test_the_job_files_can_be_read() -> None:
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    whole, query, runner, sink = blocks
    assert PrepareJob.model_validate(whole).source.given.table == "my-project.my_dataset.flights"
    assert BigQuerySpec.model_validate(query["source"]["bigquery"]).max_bytes_billed == 10**10
    assert RunnerSpec.model_validate(runner["runner"]).options["region"] == "europe-west1"
    table = DatasetSpec.model_validate(sink["dataset"]).bigquery
    assert table is not None and table.write == "replace" and table.partition_by is not None


def test_the_example_is_the_flights_job_with_another_source() -> None:
    folder = ROOT / "jobs/featuremill/jobs/examples"
    ours, files = load_job(folder / "flights_bigquery.yaml"), load_job(folder / "flights.yaml")
    assert isinstance(ours, PrepareJob) and isinstance(files, PrepareJob)
    assert ours.transforms == files.transforms and ours.split == files.split
    assert ours.source.given.where == files.source.given.where


def test_all_keys_and_types_are_listed() -> None:
    for key in (*BigQuerySpec.model_fields, *BigQueryDataset.model_fields):
        assert f"`{key}`" in PAGE or f"{key}:" in PAGE, key
    names = {alias: name for name, alias in ALIASES.items()}
    for name in SCALARS:
        assert f"\n| {names.get(name, name)} |" in PAGE, name

"""Every job file, example and command of docs/quality.md and of the README's part on data quality does what it says."""

from __future__ import annotations

import doctest
import io
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from featuremill.core.loading import job_from_mapping
from featuremill.core.quality.profiles.drift import DriftSpec
from featuremill.core.quality.reports.report_files import read_report
from featuremill.core.quality.schema_contract import ColumnContract, SchemaContract
from featuremill.core.quality.spec import QualitySpec
from featuremill.jobs import prepare, report
from featuremill.jobs.cli import main

DOCS = Path(__file__).parents[2]
PAGE = (DOCS / "docs" / "quality.md").read_text(encoding="utf-8")
README = (DOCS / "README.md").read_text(encoding="utf-8").split("## Data quality")[1].split("\n## ")[0]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS: list[tuple[str, str]] = FENCE.findall(PAGE)
YAML: list[dict[str, Any]] = [
    yaml.safe_load(text) for language, text in [*BLOCKS, *FENCE.findall(README)] if language == "yaml"
]
SECTIONS = [content["quality"] for content in YAML if "quality" in content and "kind" not in content]
(JOB,) = [content for content in YAML if "kind" in content]
(CONTRACT,) = [content for content in YAML if "columns" in content]
PLAIN = "".join(block for text in (PAGE, README) for language, block in FENCE.findall(text) if not language)
COMMANDS = [line for line in PLAIN.splitlines() if line.startswith("featuremill ")]

ROWS = 600


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that the page speaks of."""
    home = tmp_path_factory.mktemp("quality")
    (home / "data/flights").mkdir(parents=True)
    (home / "quality").mkdir()
    (home / "suites").mkdir()
    rng = np.random.default_rng(5)
    delay = rng.integers(-20, 300, ROWS).astype(np.int32)
    table = pa.table(
        {
            "flight_id": [f"F{i:04}" for i in range(ROWS)],
            "dep_delay": pa.array(delay, mask=rng.random(ROWS) < 0.05),
            "late": delay > 15,
            "origin": rng.choice(["EWR", "JFK", "LGA"], ROWS),
            "carrier": rng.choice(["AA", "B6", "UA"], ROWS),
            "air_time": rng.normal(150, 10, ROWS),
            "price": rng.normal(100, 20, ROWS),
        }
    )
    pq.write_table(table, home / "data/flights/0.parquet")
    (inline,) = [s["suite"] for s in SECTIONS if isinstance(s.get("suite"), dict)]
    (home / "suites/flights.json").write_text(json.dumps(inline))
    known = [field.name for field in table.schema]
    contract = CONTRACT | {"columns": [c for c in CONTRACT["columns"] if c["name"] in known]}
    extra = [{"name": n, "type": str(table.schema.field(n).type)} for n in known[3:]]
    (home / "quality/flights.schema.yaml").write_text(
        yaml.safe_dump(contract | {"columns": [*contract["columns"], *extra]})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        yield home


def prepare_job(quality: dict[str, Any]) -> Any:
    return job_from_mapping(
        {
            "kind": "prepare",
            "name": "flights",
            "source": JOB["source"],
            "transforms": [{"type": "ScaleToZScore", "config": {"columns": ["air_time"]}}],
            "quality": quality,
            "artifact": {"root": "artifacts"},
            "dataset": {"path": "datasets/flights"},
            "runner": {"mode": "in_memory"},
        }
    )


@pytest.mark.parametrize("number", range(len(SECTIONS)))
def test_every_section_runs(number: int, home: Path) -> None:
    record = prepare.run(prepare_job(SECTIONS[number]))
    assert record.rows is not None and record.rows.written == ROWS
    found = read_report(str(record.report))
    suite, contract = "suite" in SECTIONS[number], "schema" in SECTIONS[number]
    assert found.status == "passed" and bool(found.checks) == (suite or contract)


def test_the_job_file_runs(home: Path) -> None:
    record = report.run(job_from_mapping(JOB | {"runner": {"mode": "in_memory"}}))
    assert read_report(str(record.report)).kind == "report"


def test_the_commands_are_run(home: Path) -> None:
    prepare.run(prepare_job({}))
    assert {line.split()[1] for line in COMMANDS} == {"report", "suggest"}
    with redirect_stdout(io.StringIO()) as printed:
        for line in COMMANDS:
            words = shlex.split(line, comments=True)[1:]
            # The page's contract stands where suggest would write one, and it overwrites nothing.
            assert main([*words, "--dir", "suggested"] if words[0] == "suggest" else words) == 0, line
        assert main(["run", "suggested/flights.yaml"]) == 0
    assert "flights: passed" in printed.getvalue()


def test_the_examples_are_right() -> None:
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    text = "".join(block for language, block in BLOCKS if language == "python" and ">>>" in block)
    found.run(doctest.DocTestParser().get_doctest(text, {}, "quality.md", None, 0))
    assert found.tries > 4 and not found.failures


@pytest.mark.parametrize("kind", [QualitySpec, DriftSpec, SchemaContract, ColumnContract])
def test_every_key_is_on_the_page(kind: Any) -> None:
    for name, field in kind.model_fields.items():
        assert re.search(rf"\b{field.alias or name}\b", PAGE), name
        for choice in get_args(field.annotation):
            assert not isinstance(choice, str) or choice in PAGE, choice


def test_the_limits_of_drift_are_those_on_the_page() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| ([\d., ]+) \|$", PAGE, re.MULTILINE))
    limits = DriftSpec().thresholds
    assert {n: tuple(float(x) for x in text.split(",")) for n, text in table.items()} == {
        name: (getattr(limits, name).warn, getattr(limits, name).drifted) for name in type(limits).model_fields
    }

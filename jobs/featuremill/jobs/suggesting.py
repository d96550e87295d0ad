"""``featuremill suggest``: a source is profiled, and becomes a first suite, a schema contract and a report job."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from featuremill.artifacts.errors import AlreadyExists, RequestError
from featuremill.core.progress import Progress
from featuremill.core.quality.profiles.profile import Profile
from featuremill.core.quality.reports.report_files import read_report
from featuremill.core.quality.suggest import suggest_contract, suggest_suite
from featuremill.core.reportfile import ReportJob

__all__ = ["suggest_files"]

LINE = 120


def suggest_files(
    source: str,
    folder: Path,
    *,
    name: str | None = None,
    where: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[tuple[Path, str]]:
    """The files written for a source, each with what it is; the rows are read once, in bounded memory.

    Parameters
    ----------
    source
        Parquet files: a file, a folder or a glob.
    folder
        Where the files go; made when it is not there.
    name
        What they are called; by default as the source.
    where
        Only these rows, as a SQL condition.

    Raises
    ------
    RequestError
        When one of the files is there already, or the source is missing; nothing was written.
    """
    name = name or _name_of(source)
    suite, contract, job = (folder / f"{name}{end}" for end in (".suite.json", ".schema.yaml", ".yaml"))
    there = [path for path in (suite, contract, job) if path.exists()]
    if there:
        raise RequestError(
            f"{there[0]} is there already, and nothing is overwritten. Choose another --dir or --name.",
            path=str(there[0]),
        )
    place: dict[str, Any] = {"path": source} | ({"where": where} if where else {})
    profile = _profile(name, place, progress)
    content = {
        "kind": "report",
        "name": name,
        "source": {"parquet": place},
        "quality": {"suite": str(suite), "schema": str(contract), "on_failure": "stop"},
        "output": {"path": str(folder / "reports")},
    }
    texts = {
        suite: json.dumps(suggest_suite(profile, name=name), indent=2, ensure_ascii=False) + "\n",
        contract: _yaml(_contract(profile)),
        job: _yaml(content),
    }
    _write(folder, texts)
    return [
        (suite, "what held for these rows: edit it into what must hold"),
        (contract, "the columns, their types, and which are never null"),
        (job, "a job that checks the source by both"),
    ]


def _profile(name: str, place: dict[str, Any], progress: Callable[[Progress], None] | None) -> Profile:
    """The profile of a source, by a report job that nobody sees."""
    from featuremill.jobs import report

    with tempfile.TemporaryDirectory(prefix="featuremill-") as scratch:
        content = {"name": name, "source": {"parquet": place}, "output": {"path": scratch}}
        record = report.run(ReportJob.model_validate(content), progress=progress)
        return read_report(str(record.report)).profiles[0].profile


def _name_of(source: str) -> str:
    """A plain name after a path.

    >>> _name_of("data/flights/*.parquet"), _name_of("s3://bucket/Some Rows.parquet"), _name_of("*")
    ('flights', 'Some-Rows', 'source')
    """
    parts = [part for part in re.split(r"[/\\]+", source) if part and "*" not in part]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", parts[-1].removesuffix(".parquet") if parts else "").strip("-._")
    return plain or "source"


def _contract(profile: Profile) -> dict[str, Any]:
    """The contract as a person would write it: defaults left out, but for what becomes of new columns."""
    contract = suggest_contract(profile)
    columns = [column.model_dump(exclude_defaults=True) for column in contract.columns]
    return {"new_columns": contract.new_columns, "columns": columns}


def _yaml(content: Any) -> str:
    # None: the innermost mappings stand on one line each.
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=LINE, default_flow_style=None)
    return text


def _write(folder: Path, texts: dict[Path, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            # "x": of two who write the same, the second is told.
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except FileExistsError as error:
        raise AlreadyExists(f"{error.filename} appeared meanwhile; it was left as it is.") from error
    except OSError as error:
        raise RequestError(f"{folder} cannot be written to: {error.strerror}. Choose another --dir.") from error

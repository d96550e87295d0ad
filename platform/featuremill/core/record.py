"""The run record: what ran, on what, for how long, with what result. Data only; every run leaves one."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

__all__ = ["RowAccount", "RunRecord", "package_versions"]

PACKAGES = ("featuremill", "apache-beam", "pyarrow", "numpy", "pydantic", "obstore", "tensorflow-transform")


@dataclass(frozen=True)
class RowAccount:
    """Where every row of the source went.

    >>> RowAccount(source=10, filtered=2, written=7, aside=1).balanced
    True
    """

    source: int
    """Rows that the source has, counted from its metadata where it has any."""
    filtered: int
    """Rows that the job's filter, or its choice of splits, left out."""
    written: int
    """Rows in the dataset, or with a prediction; for a job that only reports, rows that were checked."""
    aside: int
    """Rows in the dead letters, each with its reason."""
    quarantined: int = 0
    """Of those set aside, the ones that a check took out."""

    @property
    def balanced(self) -> bool:
        """Whether every row is accounted for."""
        return self.source == self.filtered + self.written + self.aside


@dataclass(frozen=True)
class RunRecord:
    """What one run did. Serialised as ``run.json`` in the run's folder."""

    run: str
    """The run's identity; the name of its folder below the dataset's path."""
    job: str
    kind: str
    status: Literal["done", "failed"]
    started: str
    """ISO 8601, UTC."""
    seconds: float
    """From the start of the run to its commit, without the start of the process."""
    stages: Mapping[str, float]
    """Seconds by stage."""
    rows: RowAccount | None
    splits: Mapping[str, int] = field(default_factory=dict)
    """Rows by split."""
    dataset: str | None = None
    """The folder with the splits, or the predictions, and the manifest."""
    table: str | None = None
    """The BigQuery table with the rows, where they went to one."""
    dead_letters: str | None = None
    """The folder with the rows set aside, when there are any."""
    artifact: Mapping[str, Any] = field(default_factory=dict)
    """``{root, name, version, path, alias, reference}``."""
    features: tuple[Mapping[str, Any], ...] = ()
    """The columns of the dataset: ``{name, type, made_by}``; made_by is the last transform or the model, or None."""
    models: tuple[Mapping[str, Any], ...] = ()
    """``{name, path, framework, version, rows, seconds}``; rows that the model predicted, and seconds in its calls."""
    backends: tuple[Mapping[str, Any], ...] = ()
    """``{model, backend, device, refused}`` of the ONNX models: where each ran, and why not on what comes before."""
    embeddings: Mapping[str, Any] = field(default_factory=dict)
    """``{cache, looked_up, found, computed, kept, columns}`` where texts became vectors: how many distinct ones were
    looked up in the cache, found there and computed, how many of them it has now in addition; and for each column
    ``{column, output, model, when, why, texts, distinct}``, the last two where they were counted."""
    vocabularies: tuple[Mapping[str, Any], ...] = ()
    """``{column, size, top: [[token, count], …]}``, the largest first."""
    checks: Mapping[str, int] = field(default_factory=dict)
    """``{passed, failed, gating}``: expectations that held, that did not, and of the latter those that are critical."""
    report: str | None = None
    """The folder of the report: index.html, report.json, report.md."""
    warnings: tuple[str, ...] = ()
    error: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    """The source as it was described: files, rows, bytes, digest."""
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The record as indented JSON."""
        return json.dumps(asdict(self), indent=2, default=str, ensure_ascii=False) + "\n"


@cache
def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that the result may depend on; those that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

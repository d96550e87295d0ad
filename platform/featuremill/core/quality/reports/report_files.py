"""The files of a report in a run's folder: the page for people, JSON for programs, Markdown for everything between."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from featuremill.artifacts.errors import MissingArtifactError
from featuremill.artifacts.store import Store, as_store
from featuremill.core.quality.reports.report import Report

__all__ = ["JSON_FILE", "PAGE_FILE", "REPORT_FOLDER", "TEXT_FILE", "read_report", "runs_with_reports", "write_report"]

REPORT_FOLDER = "report"
"""In a run's folder, beside its run record."""

PAGE_FILE, JSON_FILE, TEXT_FILE = "index.html", "report.json", "report.md"

_LOOKS = 16
"""So many runs are looked at at a time, which takes a while in a bucket."""


def write_report(report: Report, place: Store | str | os.PathLike[str]) -> dict[str, int]:
    """Write the report into a folder, a bucket's address or a store; the size of each file in bytes, by name.

    The page comes last: whoever finds it finds the others.

    Raises
    ------
    StoreError
        When the place cannot be written.
    MissingExtraError
        When Jinja2, which makes the page, is not installed. The JSON and the Markdown are written by then.

    Examples
    --------
    >>> import tempfile
    >>> from featuremill.core.quality.reports.report import ReportRows
    >>> report = Report("r1", "flights", "report", "passed", "2026-01-01T00:00:00Z", 1.0, ReportRows(5))
    >>> folder = tempfile.mkdtemp()
    >>> list(write_report(report, folder))
    ['report.json', 'report.md', 'index.html']
    >>> read_report(folder) == report
    True
    """
    from featuremill.core.quality.reports.report_page import report_page
    from featuremill.core.quality.reports.report_text import report_text

    store, sizes = as_store(place), {}
    for name, make in ((JSON_FILE, Report.to_json), (TEXT_FILE, report_text), (PAGE_FILE, report_page)):
        made = make(report)
        data = made if isinstance(made, bytes) else made.encode("utf-8", "backslashreplace")
        store.put(name, data)
        sizes[name] = len(data)
    return sizes


def read_report(place: Store | str | os.PathLike[str]) -> Report:
    """The report in such a folder.

    Raises
    ------
    MissingArtifactError
        When there is none.
    ArtifactError
        When it cannot be read: damaged, or of a newer release.
    """
    store = as_store(place)
    return Report.from_json(store.get(JSON_FILE), f"{store.root}/{JSON_FILE}")


def runs_with_reports(place: Store | str | os.PathLike[str]) -> list[str]:
    """The names of the runs in a folder of runs that left a report, the latest first; none where there is no folder.

    >>> runs_with_reports("no/such/folder")
    []
    """
    store = as_store(place)

    def written(run: str) -> datetime | None:
        try:
            return store.modified(f"{run}/{REPORT_FOLDER}/{JSON_FILE}")
        except MissingArtifactError:
            return None

    try:
        # Runs that are under way, or were killed, have hidden folders.
        runs = [name for name in store.folders() if not name.startswith(".")]
    except MissingArtifactError:
        return []
    with ThreadPoolExecutor(_LOOKS) as pool:
        found = [(when, run) for run, when in zip(runs, pool.map(written, runs), strict=True) if when is not None]
    return [run for _, run in sorted(found, reverse=True)]

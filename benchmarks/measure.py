"""Runs a command and says how long it took, how much memory its process tree held, and what JSON it printed."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
ROOTS = ("artifacts", "transforms", "platform", "jobs")
POLL_SECONDS = 0.02


@dataclass
class Run:
    """One run of a command.

    ``wall_seconds`` is the whole process, from its start to its end. ``seconds`` is what the program itself reported
    for its work, imports excluded; the wall time where it reported nothing. ``peak_mb`` is the largest sum of the
    resident memory of the process and all its descendants, sampled fifty times a second; pages that they share count
    for each. ``rows`` is how many the program said it wrote.
    """

    command: list[str]
    wall_seconds: float
    seconds: float
    peak_mb: float
    rows: int = 0
    report: dict[str, Any] = field(default_factory=dict)


class RunFailed(Exception):
    """The command ended with another status than 0."""


def resident_kb(pid: int) -> int:
    """The resident memory of a process and its descendants; 0 when it is gone."""
    try:
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
        children = " ".join(task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children"))
    except (OSError, IndexError):
        return 0
    return total + sum(resident_kb(int(child)) for child in children.split())


def own_report(output: str) -> dict[str, Any]:
    """The last JSON object that a program printed: all of its output, or the last line that is one."""
    for text in (output, *reversed(output.splitlines())):
        try:
            found = json.loads(text)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}


def run(command: list[str]) -> Run:
    """Runs a command from the repository's root and waits for it.

    Raises
    ------
    RunFailed
        With the end of what it printed.
    """
    roots = [str(REPOSITORY / root) for root in ROOTS] + [p for p in [os.environ.get("PYTHONPATH")] if p]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(POLL_SECONDS):
            peak[0] = max(peak[0], resident_kb(process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    output, errors = process.communicate()
    wall = time.perf_counter() - start
    done.set()
    watcher.join()
    if process.returncode != 0:
        raise RunFailed(f"{' '.join(command)} ended with status {process.returncode}:\n{(output + errors)[-3000:]}")
    report = own_report(output)
    peak_mb = max(peak[0] / 1024, float(report.get("peak_rss_mb", 0.0)))
    rows = report.get("rows") or 0
    written = int(rows["written"] if isinstance(rows, dict) else rows)
    return Run(command, round(wall, 3), float(report.get("seconds", wall)), round(peak_mb, 1), written, report)

"""How far a run is: workers note each fragment they finish in a small file, and the launcher reads it.

A file works for threads and for processes of one machine alike. On a runner whose workers are elsewhere there is no
such file, and the runner's own pages tell.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Progress", "ProgressReader", "note"]

INTERVAL = 0.2
"""Seconds between two looks at the file."""


@dataclass(frozen=True)
class Progress:
    """One look at a run.

    >>> Progress("scan 1 of 2", done=2, total=8, rows=1000, seconds=4.0).seconds_left
    12.0
    """

    stage: str
    """``scan 1 of 2``, …, ``write``, ``commit``."""
    done: int
    """Fragments finished in this stage."""
    total: int
    rows: int
    """Rows read in this stage."""
    seconds: float
    """Since this stage began."""

    @property
    def rows_per_second(self) -> float:
        """Rows read per second in this stage; 0.0 before the first fragment is done."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate for this stage, from the fragments that are done; None before the first."""
        if not self.done or self.seconds <= 0:
            return None
        return self.seconds / self.done * (self.total - self.done)


def note(path: str, stage: str, fragment: str, rows: int) -> None:
    """A worker's line: one `write` in append mode, so that lines of several workers never mix."""
    line = f"{stage}\t{fragment}\t{rows}\n".encode()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)


class ProgressReader:
    """Reads the workers' notes in a thread and hands every news to `listener`; a context manager.

    Parameters
    ----------
    path
        The file that :func:`note` writes.
    stages
        The stages in their order, with the number of fragments of each.
    listener
        Called with the latest :class:`Progress`, from the reader's thread, whenever something moved.
    """

    def __init__(self, path: Path, stages: dict[str, int], listener: Callable[[Progress], None]) -> None:
        self._path = path
        self._stages = stages
        self._listener = listener
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="featuremill-progress", daemon=True)
        self._offset = 0
        self._rest = b""
        self._seen: dict[str, dict[str, int]] = {stage: {} for stage in stages}
        self._began: dict[str, float] = {}

    def __enter__(self) -> Self:
        first = next(iter(self._stages), None)
        if first is not None:
            self._began[first] = time.monotonic()
            self._listener(Progress(first, 0, self._stages[first], 0, 0.0))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._look()
        self._look()

    def _look(self) -> None:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                news = file.read()
        except FileNotFoundError:
            return
        if not news:
            return
        self._offset += len(news)
        *lines, self._rest = (self._rest + news).split(b"\n")
        moved: dict[str, None] = {}
        for line in lines:
            stage, fragment, rows = line.decode().split("\t")
            if stage in self._seen:
                self._seen[stage][fragment] = int(rows)  # a retried fragment counts once
                self._began.setdefault(stage, time.monotonic() - INTERVAL)
                moved[stage] = None
        for stage in moved:
            seen = self._seen[stage]
            seconds = time.monotonic() - self._began[stage]
            self._listener(Progress(stage, len(seen), self._stages[stage], sum(seen.values()), seconds))

"""How far a run is, for people: a bar on a terminal, a line now and then otherwise. On standard error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

from featuremill.jobs.render import clean, count_text, seconds_text

if TYPE_CHECKING:
    from types import TracebackType

    from featuremill.core.progress import Progress

__all__ = ["Display", "display_for", "progress_line"]

LINE_INTERVAL = 5.0
"""Seconds between two lines about the same stage, where there is no terminal."""


class Display(Protocol):
    """Shows each :class:`~featuremill.core.progress.Progress` it is called with; a context manager."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what is shown."""

    def __call__(self, progress: Progress) -> None:
        """The latest of a run; from any thread."""


def progress_line(progress: Progress) -> str:
    """One look at a run, in words.

    >>> from featuremill.core.progress import Progress
    >>> progress_line(Progress("scan 1", done=2, total=8, rows=1000, seconds=4.0))
    'scan 1: 2 of 8 fragments, 1,000 rows, 250 rows/s, 12 s left'
    """
    fragments, rows = count_text(progress.total, "fragment"), count_text(progress.rows, "row")
    text = f"{clean(progress.stage)}: {progress.done:,} of {fragments}, {rows}"
    if progress.rows and progress.seconds > 0:
        text += f", {progress.rows_per_second:,.0f} rows/s"
    if progress.seconds_left:
        text += f", {seconds_text(progress.seconds_left)} left"
    return text


class _Lines:
    """A line when a stage is finished, and every few seconds in between."""

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._last: Progress | None = None
        self._said: Progress | None = None
        self._when = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._last is not None and self._last.done:
                self._say(self._last)

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            last, self._last = self._last, progress
            if last is not None and last.done and last.stage != progress.stage:
                self._say(last)
            if progress.done >= progress.total > 0 or self._clock() - self._when >= LINE_INTERVAL:
                self._say(progress)

    def _say(self, progress: Progress) -> None:
        if progress != self._said:
            self._said, self._when = progress, self._clock()
            print(progress_line(progress), file=self._file, flush=True)


class _Bar:
    """A bar for each stage; gone when the run is over."""

    def __init__(self, file: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[facts]}"),
            console=Console(file=file, highlight=False),
            transient=True,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, progress: Progress) -> None:
        if progress.stage not in self._tasks:
            self._tasks[progress.stage] = self._bars.add_task(clean(progress.stage), total=progress.total, facts="")
        facts = progress_line(progress).partition(": ")[2]
        self._bars.update(self._tasks[progress.stage], completed=progress.done, total=progress.total, facts=facts)


def display_for(file: TextIO) -> Display:
    """The display that suits a stream: a bar where it is a terminal, lines otherwise."""
    return _Bar(file) if file.isatty() else _Lines(file)

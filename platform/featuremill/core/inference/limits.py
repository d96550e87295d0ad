"""Time limits on loading and calling models.

A call into a framework cannot be interrupted, so it runs in a thread of its own, and past its limit that thread is left
to itself: it ends with the call, or with the process. Without a limit nothing is started.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

from featuremill.artifacts.errors import JobError

__all__ = ["Limit", "ModelTimeout"]

T = TypeVar("T")


class ModelTimeout(JobError):
    """A model that was not loaded, or did not answer, within its limit."""


class Limit:
    """Runs calls within a number of seconds. Threads share it; each of their calls has a thread that is used again.

    Parameters
    ----------
    seconds
        The limit; None: none.
    what
        What is done, for the message: ``late: a call``.
    setting
        The key of the job file that sets it.

    >>> Limit(60, what="late: a call", setting="timeout").run(sum, [1, 2])
    3
    >>> import time
    >>> Limit(0.01, what="late: a call", setting="timeout").run(time.sleep, 0.5)
    Traceback (most recent call last):
    ...
    featuremill.core.inference.limits.ModelTimeout: late: a call took longer than its limit of 0.01 s. Set timeout \
to more seconds, or leave it out.
    """

    def __init__(self, seconds: float | None, *, what: str, setting: str, hint: str = "") -> None:
        self._seconds = seconds
        self._what = what
        self._setting = setting
        self._hint = hint
        self._idle: list[_Worker] = []
        self._lock = Lock()

    def run(self, call: Callable[..., T], *args: Any) -> T:
        """What the call returns or raises.

        Raises
        ------
        ModelTimeout
            Past the limit.
        """
        if self._seconds is None:
            return call(*args)
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or _Worker()
        try:
            result, error = worker.run(call, args, self._seconds)
        except Empty:
            worker.leave()
            raise ModelTimeout(
                f"{self._what} took longer than its limit of {self._seconds:g} s. Set {self._setting} to more seconds"
                f"{self._hint}, or leave it out.",
                seconds=self._seconds,
                parameter=self._setting,
            ) from None
        with self._lock:
            self._idle.append(worker)
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]  # a queue does not know what it carries


class _Worker:
    """A thread that makes one call after the other."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        Thread(target=self._work, daemon=True, name="model call").start()

    def run(self, call: Callable[..., Any], args: tuple[Any, ...], seconds: float) -> tuple[Any, BaseException | None]:
        self._calls.put((call, args))
        return self._results.get(timeout=seconds)

    def leave(self) -> None:
        """End after the call that runs."""
        self._calls.put(None)

    def _work(self) -> None:
        while (task := self._calls.get()) is not None:
            call, args = task
            done: tuple[Any, BaseException | None]
            try:
                done = (call(*args), None)
            except BaseException as error:  # noqa: BLE001 -- it is raised again in the thread that waits for it
                done = (None, error)
            self._results.put(done)
            # Else the last batch stays in memory until the next comes.
            del task, call, args, done

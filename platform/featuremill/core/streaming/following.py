"""Something that a worker uses while another may take its place: looked after now and then, replaced when that is safe.

What is new is made ready beside what is in use, by one thread, while the others go on; the change is a single
assignment. What is new and does not fit is refused: what is in use stays, and the log and a counter say so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

from featuremill.artifacts.errors import FeaturemillError, JobError

__all__ = ["Follower", "Refused", "logger"]

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

logger = logging.getLogger("featuremill.streaming")


class Refused(JobError):
    """What would have been used from now on does not fit what is in use."""


class Follower(Generic[K, T]):
    """The thing in use, and what it is known by.

    Parameters
    ----------
    what
        What it is called in the log.
    known_as, current
        The identity of the first one, and itself.
    find
        The identity of the one that is to be used now.
    make
        Makes the one of an identity ready. Whatever it raises refuses that one, for good unless it is a
        :class:`Refused` with the fact ``again``.
    every
        Seconds between two looks; the first is taken at once.
    tell
        How an identity is written in the log.
    note
        Called with ``"refreshed"``, ``"refused"`` or ``"not_found"``, in the thread that looked.

    >>> shelf = ["one"]
    >>> def make(name):
    ...     if name == "bad":
    ...         raise Refused("bad does not fit")
    ...     return name.upper()
    >>> follower = Follower("a word", "one", "ONE", find=lambda: shelf[-1], make=make, every=0)
    >>> shelf.append("two"); follower.get()
    'TWO'
    >>> shelf.append("bad"); follower.get()
    'TWO'
    """

    def __init__(
        self,
        what: str,
        known_as: K,
        current: T,
        *,
        find: Callable[[], K],
        make: Callable[[K], T],
        every: float,
        note: Callable[[str], None] = lambda _: None,
        tell: Callable[[K], str] = repr,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what = what
        self._known_as = known_as
        self._current = current
        self._find = find
        self._make = make
        self._every = every
        self._note = note
        self._tell = tell
        self._clock = clock
        self._due = clock()
        self._looking = Lock()
        self._refused: K | None = None
        self._told: K | None = None

    def get(self) -> T:
        """The one to use now."""
        if self._clock() >= self._due and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._due = self._clock() + self._every
                self._looking.release()
        return self._current

    @property
    def _known(self) -> str:
        return self._tell(self._known_as)

    def _look(self) -> None:
        try:
            found = self._find()
        except (FeaturemillError, OSError) as error:
            logger.warning("%s: looking for a newer one failed, %s stays in use: %s", self.what, self._known, error)
            self._note("not_found")
            return
        if found in (self._known_as, self._refused):
            return
        try:
            made = self._make(found)
        except Exception as error:  # noqa: BLE001  # a file of somebody else's; whatever is wrong with it, work goes on
            again = isinstance(error, Refused) and error.facts.get("again", False)
            self._refused = None if again else found
            self._note("refused")
            if found != self._told:
                self._told = found
                logger.error(  # noqa: TRY400  # the message says it all
                    "%s: %s is refused, %s stays in use: %s", self.what, self._tell(found), self._known, error
                )
            return
        logger.warning("%s: from now on %s, after %s", self.what, self._tell(found), self._known)
        self._known_as, self._current, self._refused = found, made, None
        self._note("refreshed")

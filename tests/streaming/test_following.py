"""What is followed: when it is looked at, what is refused, and that nobody waits."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

from featuremill.artifacts.errors import JobError
from featuremill.core.streaming.following import Follower, Refused


class Shelf:
    """Words that are made ready by putting them in capitals."""

    def __init__(self, every: float = 10.0) -> None:
        self.now = 0.0
        self.word: Any = "one"
        self.looks = 0
        self.made: list[str] = []
        self.notes: list[str] = []
        self.follower = Follower(
            "the word", "one", "ONE", find=self.find, make=self.make, every=every, note=self.notes.append,
            clock=lambda: self.now,
        )

    def find(self) -> str:
        self.looks += 1
        if isinstance(self.word, Exception):
            raise self.word
        return str(self.word)

    def make(self, word: str) -> str:
        self.made.append(word)
        if word.startswith("bad"):
            raise Refused(f"{word} does not fit", again=word.endswith("again"))
        return word.upper()


def test_it_looks_no_more_often_than_told() -> None:
    shelf = Shelf(every=10)
    assert [shelf.follower.get() for _ in range(3)] == ["ONE"] * 3
    assert shelf.looks == 1
    shelf.word = "two"
    shelf.now = 9.9
    assert shelf.follower.get() == "ONE"
    shelf.now = 10
    assert shelf.follower.get() == "TWO"
    assert shelf.looks == 2
    assert shelf.notes == ["refreshed"]


def test_what_does_not_fit_is_refused_once_and_loudly(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(every=1)
    shelf.word = "bad"
    with caplog.at_level(logging.WARNING, "featuremill.streaming"):
        for shelf.now in (0.0, 1.0, 2.0):
            assert shelf.follower.get() == "ONE"
    assert shelf.made == ["bad"]
    assert [r.getMessage() for r in caplog.records] == [
        "the word: 'bad' is refused, 'one' stays in use: bad does not fit"
    ]
    shelf.word, shelf.now = "three", 3.0
    assert shelf.follower.get() == "THREE"
    assert shelf.notes == ["refused", "refreshed"]


def test_what_may_fit_later_is_tried_again_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(every=1)
    shelf.word = "bad again"
    with caplog.at_level(logging.WARNING, "featuremill.streaming"):
        for shelf.now in (0.0, 1.0, 2.0):
            shelf.follower.get()
    assert shelf.made == ["bad again"] * 3
    assert len(caplog.records) == 1


def test_going_back_to_what_was_refused_before_another_is_tried_anew() -> None:
    shelf = Shelf(every=1)
    for shelf.now, shelf.word in enumerate(["bad", "two", "bad"]):
        shelf.follower.get()
    assert shelf.made == ["bad", "two", "bad"]
    assert shelf.follower.get() == "TWO"


def test_a_place_that_cannot_be_looked_at_changes_nothing() -> None:
    shelf = Shelf(every=1)
    shelf.word = JobError("the store is away")
    assert shelf.follower.get() == "ONE"
    shelf.word, shelf.now = "two", 1.0
    assert shelf.follower.get() == "TWO"
    assert shelf.notes == ["not_found", "refreshed"]


def test_others_go_on_while_one_makes_the_next_ready() -> None:
    entered, leave = threading.Event(), threading.Event()

    def make(word: str) -> str:
        entered.set()
        assert leave.wait(10)
        return word.upper()

    follower = Follower("a word", "one", "ONE", find=lambda: "two", make=make, every=0)
    found: list[str] = []
    slow = threading.Thread(target=lambda: found.append(follower.get()))
    slow.start()
    assert entered.wait(10)
    began = time.monotonic()
    assert follower.get() == "ONE"
    assert time.monotonic() - began < 5
    leave.set()
    slow.join(10)
    assert found == ["TWO"]
    assert follower.get() == "TWO"

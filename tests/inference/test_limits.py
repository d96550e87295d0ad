"""Time limits."""

from __future__ import annotations

import pickle
import threading
import time

import pytest

from featuremill.artifacts.errors import JobError
from featuremill.core.inference.limits import Limit, ModelTimeout


def limit(seconds: float | None) -> Limit:
    return Limit(seconds, what="late: a call", setting="timeout")


def test_without_a_limit_the_call_stays_in_its_thread() -> None:
    assert limit(None).run(threading.get_ident) == threading.get_ident()


def test_a_thread_is_used_again() -> None:
    timed = limit(30)
    seen = {timed.run(threading.get_ident) for _ in range(5)}
    assert len(seen) == 1 and threading.get_ident() not in seen


def test_errors_come_back_as_they_were() -> None:
    def fail() -> None:
        raise KeyError("inner")

    timed = limit(30)
    with pytest.raises(KeyError, match="inner"):
        timed.run(fail)
    assert timed.run(int) == 0


def test_past_the_limit_one_clear_error_and_life_goes_on() -> None:
    timed, started = limit(0.05), time.monotonic()
    with pytest.raises(
        ModelTimeout, match=r"late: a call took longer than its limit of 0\.05 s\. Set timeout"
    ) as error:
        timed.run(time.sleep, 5)
    assert time.monotonic() - started < 4
    assert isinstance(error.value, JobError) and pickle.loads(pickle.dumps(error.value)).seconds == 0.05
    assert timed.run(lambda: "next") == "next"


def test_a_late_result_is_not_taken_for_that_of_another_call() -> None:
    timed = limit(0.2)

    def late() -> str:
        time.sleep(0.4)
        return "late"

    with pytest.raises(ModelTimeout):
        timed.run(late)
    for i in range(5):
        assert timed.run(lambda i=i: (time.sleep(0.1), i)[1]) == i


def test_calls_run_side_by_side() -> None:
    timed, barrier = limit(10), threading.Barrier(3)
    threads = [threading.Thread(target=timed.run, args=(barrier.wait, 5)) for _ in range(2)]
    for t in threads:
        t.start()
    timed.run(barrier.wait, 5)
    for t in threads:
        t.join()
    assert not barrier.broken

"""The bound on loaded models, with threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from apache_beam.ml.inference.base import ModelHandler

from featuremill.artifacts.errors import ParameterError
from featuremill.core.inference.pool import ModelPool
from featuremill.core.models.contract import Arrays, Model
from featuremill.core.models.spec import ModelSpec

ALIVE: dict[str, int] = {"now": 0, "most": 0, "loads": 0, "calls": 0, "calls_at_once": 0}
LOCK = threading.Lock()


class Weights:
    """Counts how many of it are in memory."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        with LOCK:
            ALIVE["now"] += 1
            ALIVE["loads"] += 1
            ALIVE["most"] = max(ALIVE["most"], ALIVE["now"])

    def __del__(self) -> None:
        with LOCK:
            ALIVE["now"] -= 1


class Counting(ModelHandler):
    def __init__(self, factor: float, *, broken: bool = False) -> None:
        super().__init__()
        self.factor, self.broken = factor, broken

    def load_model(self) -> Weights:
        if self.broken:
            raise ParameterError("this one does not load")
        return Weights(self.factor)

    def run_inference(
        self, batch: Sequence[Any], model: Weights, inference_args: Mapping[str, Any] | None = None
    ) -> list[Any]:
        return [model.factor * x for x in batch]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import sys

    # The class is found by name, as one of a job file is.
    monkeypatch.setitem(sys.modules, "counting_for_pools", sys.modules[__name__])
    ALIVE.update(dict.fromkeys(ALIVE, 0))
    yield
    assert ALIVE["now"] == 0


def specs(n: int, **more: Any) -> dict[str, ModelSpec]:
    return {
        f"k{i}": ModelSpec.model_validate({"class": "counting_for_pools:Counting", "arguments": {"factor": i, **more}})
        for i in range(n)
    }


def ask(pool: ModelPool, name: str) -> list[float]:
    found: list[float] = pool.answer(name, {"x": np.array([1.0, 2.0])})[0].outputs["prediction"].tolist()
    return found


def hammer(pool: ModelPool, names: Sequence[str], threads: int = 6, rounds: int = 40) -> None:
    wrong: list[Any] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for i in rng.integers(0, len(names), rounds):
            try:
                if ask(pool, names[i]) != [float(names[i][1:]), 2 * float(names[i][1:])]:
                    wrong.append(names[i])
            except Exception as error:  # noqa: BLE001 -- told by the thread that waits
                wrong.append(error)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(60)
    assert not any(w.is_alive() for w in workers)
    assert wrong == []


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_never_more_than_the_bound(keep: int) -> None:
    hammer(ModelPool(specs(5), keep=keep), list(specs(5)))
    assert ALIVE["most"] == keep


def test_without_a_bound_each_is_loaded_once() -> None:
    hammer(ModelPool(specs(5)), list(specs(5)))
    assert ALIVE["loads"] == ALIVE["most"] == 5


def test_the_one_used_longest_ago_goes() -> None:
    pool = ModelPool(specs(3), keep=2)
    for name in ["k0", "k1", "k0", "k2", "k0"]:
        ask(pool, name)
    assert ALIVE["loads"] == 3
    ask(pool, "k1")
    assert ALIVE["loads"] == 4


def test_describing_does_not_load_again() -> None:
    pool = ModelPool(specs(2), keep=1)
    version = pool.describe("k0").version
    ask(pool, "k1")
    assert pool.describe("k0").version == version
    assert ALIVE["loads"] == 2


def test_a_load_that_fails_holds_nobody_up() -> None:
    pool = ModelPool({**specs(1), "bad": specs(1, broken=True)["k0"]}, keep=1)
    for _ in range(3):
        with pytest.raises(ParameterError, match="does not load"):
            pool.describe("bad")
    assert ask(pool, "k0") == [0.0, 0.0]


class Widths(Model):
    """Tells each row how many it came with; by itself it wants four at most."""

    batch_rows = 4

    def predict(self, inputs: Arrays) -> dict[str, np.ndarray]:
        return {"rows": np.full(len(inputs["x"]), len(inputs["x"]))}


@pytest.mark.parametrize(("asked", "most"), [(None, 4), (6, 6)])
def test_a_model_is_given_as_many_rows_as_it_wants_unless_the_job_says(asked: int | None, most: int) -> None:
    spec = ModelSpec.model_validate({"class": f"{__name__}:Widths", "batch_rows": asked, "inputs": {"x": "x"}})
    answer, _ = ModelPool({"m": spec}).answer("m", {"x": np.arange(10.0)})
    assert answer.outputs["rows"].max() == most

"""A batch through a model: bad rows, wrong numbers of rows, memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from featuremill.artifacts.errors import BadRows, JobError, ParameterError
from featuremill.core.inference.attempts import HOPELESS_ROWS, Attempts, out_of_memory
from featuremill.core.models.contract import Arrays, PredictionError


class Doubles:
    """Doubles x, refuses negative numbers, and notes how many rows each call had."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, arrays: Arrays) -> Mapping[str, Any]:
        self.calls.append(len(arrays["x"]))
        if (arrays["x"] < 0).any():
            raise ValueError("x is negative\nand this is why")
        return {"y": arrays["x"] * 2}


def numbers(n: int, **bad: float) -> dict[str, Any]:
    x = np.arange(n, dtype=np.float64)
    for row, value in bad.items():
        x[int(row[1:])] = value
    return {"x": x}


def test_a_batch_without_trouble_is_one_call_and_not_copied() -> None:
    y = np.arange(8)
    answer = Attempts(lambda _: {"y": y}, what="m")({"x": np.arange(8)})
    assert answer.outputs["y"] is y
    assert answer.kept is None
    assert answer.rejects == ()


def test_batch_rows_divides() -> None:
    model = Doubles()
    answer = Attempts(model, what="m", batch_rows=4)(numbers(10))
    assert model.calls == [4, 4, 2]
    assert answer.outputs["y"].tolist() == [2.0 * i for i in range(10)]
    assert answer.kept is None


@pytest.mark.parametrize("batch_rows", [None, 1, 3, 100])
def test_a_bad_row_costs_itself(batch_rows: int | None) -> None:
    answer = Attempts(Doubles(), what="m", batch_rows=batch_rows)(numbers(50, _7=-1, _8=-1, _49=-1))
    assert [r.row for r in answer.rejects] == [7, 8, 49]
    assert {r.reason for r in answer.rejects} == {"ValueError: x is negative"}
    assert answer.kept is not None
    assert answer.kept.tolist() == [i for i in range(50) if i not in (7, 8, 49)]
    assert answer.outputs["y"].tolist() == [2.0 * i for i in answer.kept]


def test_finding_one_bad_row_takes_few_calls() -> None:
    model = Doubles()
    Attempts(model, what="m")(numbers(1 << 16, _40000=-1))
    assert len(model.calls) == 2 * 16 + 1


def test_a_nan_costs_its_row_in_scikit_learn() -> None:
    x = np.random.default_rng(0).normal(size=(200, 3))
    fitted = LogisticRegression().fit(x, x[:, 0] > 0)
    x[17, 1] = np.nan
    answer = Attempts(lambda a: {"label": fitted.predict(a["x"])}, what="late")({"x": x})
    assert [(r.row, r.reason) for r in answer.rejects] == [(17, "ValueError: Input X contains NaN.")]
    assert answer.outputs["label"].tolist() == fitted.predict(np.delete(x, 17, axis=0)).tolist()


def test_a_model_may_name_its_bad_rows() -> None:
    calls = []

    def model(arrays: Arrays) -> Mapping[str, Any]:
        calls.append(len(arrays["x"]))
        bad = np.flatnonzero(arrays["x"] < 0)
        if len(bad):
            raise BadRows("negative", rows=bad, column="x")
        return {"y": arrays["x"]}

    answer = Attempts(model, what="m", batch_rows=20)(numbers(30, _3=-1, _29=-1))
    assert [(r.row, r.reason, r.column) for r in answer.rejects] == [(3, "negative", "x"), (29, "negative", "x")]
    assert answer.outputs["y"].tolist() == [i for i in range(30) if i not in (3, 29)]
    assert calls == [20, 19, 10, 9]


@pytest.mark.parametrize("returned", [0, 9, 11, None])
def test_another_number_of_rows_fails_and_is_never_cut(returned: int | None) -> None:
    calls = []

    def model(arrays: Arrays) -> Mapping[str, Any]:
        calls.append(1)
        return {"y": np.float64(1) if returned is None else np.zeros(returned)}

    with pytest.raises(PredictionError, match=r"late returned .* for 10 \(y\)"):
        Attempts(model, what="late")(numbers(10))
    assert len(calls) == 1


def test_no_output_fails() -> None:
    with pytest.raises(PredictionError, match="late returned nothing"):
        Attempts(lambda _: {}, what="late")(numbers(2))


def test_errors_about_the_model_pass_through() -> None:
    def model(arrays: Arrays) -> Mapping[str, Any]:
        raise ParameterError("this model has no such output")

    with pytest.raises(ParameterError, match="no such output"):
        Attempts(model, what="m")(numbers(10))


def test_a_model_that_never_works_stops_soon() -> None:
    calls = []

    def model(arrays: Arrays) -> Mapping[str, Any]:
        calls.append(len(arrays["x"]))
        raise ValueError("X has 3 features, expected 4")

    with pytest.raises(JobError, match=r"late fails for every row; .* ValueError: X has 3 features, expected 4"):
        Attempts(model, what="late")(numbers(1_000_000))
    assert calls.count(1) == HOPELESS_ROWS
    assert len(calls) < 3 * HOPELESS_ROWS


def test_a_model_that_never_works_is_noticed_over_batches() -> None:
    attempts = Attempts(Doubles(), what="late")
    for _ in range(9):
        assert len(attempts({"x": -np.ones(11)}).rejects) == 11
    with pytest.raises(JobError, match="fails for every row"):
        attempts({"x": -np.ones(11)})


def test_after_a_success_any_number_of_rows_may_be_bad() -> None:
    attempts = Attempts(Doubles(), what="m")
    attempts(numbers(1))
    answer = attempts({"x": -np.ones(500)})
    assert len(answer.rejects) == 500
    assert answer.outputs == {} and answer.kept is not None and len(answer.kept) == 0


class Narrow:
    """Fits so many rows into memory."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error, self.calls = most, error, []  # type: int, Exception, list[int]

    def __call__(self, arrays: Arrays) -> Mapping[str, Any]:
        self.calls.append(len(arrays["x"]))
        if len(arrays["x"]) > self.most:
            raise self.error
        return {"y": arrays["x"] + 1}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((10**9,), np.dtype(float)),  # type: ignore[attr-defined]
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_how_frameworks_say_that_memory_did_not_suffice(error: Exception) -> None:
    assert out_of_memory(error)


def test_out_of_memory_halves_and_remembers() -> None:
    error = RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
    model = Narrow(20, error)
    attempts = Attempts(model, what="m")
    answer = attempts(numbers(100))
    assert answer.outputs["y"].tolist() == [i + 1.0 for i in range(100)]
    assert answer.kept is None and answer.rejects == ()
    assert model.calls == [100, 50, 25, 12, 12, 1, 12, 12, 1, 12, 12, 12, 12, 2]
    model.calls.clear()
    attempts(numbers(24))
    assert model.calls == [12, 12]
    assert attempts.batch_rows == 12


def test_onnx_runtime_out_of_memory_is_known() -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

    assert out_of_memory(
        RuntimeException("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer")
    )
    assert out_of_memory(Fail("std::bad_alloc: bad allocation"))
    assert not out_of_memory(Fail("invalid dimensions"))


def test_torch_out_of_memory_is_known() -> None:
    import torch

    assert out_of_memory(torch.OutOfMemoryError("no"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 62, dtype=torch.uint8)
    assert out_of_memory(caught.value)


def test_one_row_that_does_not_fit_fails() -> None:
    with pytest.raises(JobError, match="late does not fit into memory even with a single row: MemoryError"):
        Attempts(Narrow(0, MemoryError("no")), what="late")(numbers(8))


def test_memory_and_bad_rows_together() -> None:
    narrow, doubles = Narrow(10, MemoryError()), Doubles()

    def model(arrays: Arrays) -> Mapping[str, Any]:
        narrow(arrays)
        return doubles(arrays)

    answer = Attempts(model, what="m")(numbers(100, _55=-1))
    assert [r.row for r in answer.rejects] == [55]
    assert answer.outputs["y"].tolist() == [2.0 * i for i in range(100) if i != 55]


def test_an_empty_batch_calls_nothing() -> None:
    model = Doubles()
    answer = Attempts(model, what="m")(numbers(0))
    assert model.calls == [] and answer.outputs == {} and answer.kept is None


def test_outputs_of_different_widths_fail() -> None:
    widths = iter([2, 3])
    with pytest.raises(PredictionError, match="different shapes"):
        Attempts(lambda a: {"y": np.zeros((len(a["x"]), next(widths)))}, what="m", batch_rows=5)(numbers(10))


def test_threads_learn_together() -> None:
    attempts = Attempts(Narrow(64, MemoryError()), what="m")
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(20):
            answer = attempts(numbers(1000))
            if answer.outputs["y"].tolist() != [i + 1.0 for i in range(1000)]:
                wrong.append(answer)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
    assert attempts.batch_rows is not None and 31 <= attempts.batch_rows <= 64

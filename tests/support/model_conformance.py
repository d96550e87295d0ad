"""What every framework's model must do. Subclass it and say which model and what rows it is given.

::

    class TestScikitLearn(ModelConformance):
        @pytest.fixture(scope="class")
        @classmethod
        def spec(cls, tmp_path_factory) -> ModelSpec:
            path = tmp_path_factory.mktemp("model") / "model.skops"
            ...
            return ModelSpec(path=str(path))

        def inputs(self, rows: int) -> dict[str, np.ndarray]:
            return {"X": np.random.default_rng(0).normal(size=(rows, 4))}
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from featuremill.core.models.contract import Model, TensorSpec, rows_of
from featuremill.core.models.loading import load_model, model_version
from featuremill.core.models.spec import ModelSpec

__all__ = ["ModelConformance", "assert_same"]

Arrays = dict[str, npt.NDArray[Any]]


def assert_same(got: Mapping[str, npt.NDArray[Any]], wanted: Mapping[str, npt.NDArray[Any]], *, rtol: float) -> None:
    """Same names, types and shapes; numbers equal to `rtol`, everything else equal."""
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        assert got[name].dtype == array.dtype, name
        assert got[name].shape == array.shape, name
        if array.dtype.kind == "f":
            np.testing.assert_allclose(got[name], array, rtol=rtol, atol=rtol)
        else:
            np.testing.assert_array_equal(got[name], array)


class ModelConformance:
    """The contract of :class:`featuremill.core.models.contract.Model`, for a file of some framework."""

    rows: ClassVar[int] = 33
    """Rows of a batch that is many."""
    rtol: ClassVar[float] = 1e-5
    """By how much a number may depend on the rows beside it: matrix products round by their shape."""

    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls) -> ModelSpec:
        """The model; override with the same scope."""
        raise NotImplementedError

    def inputs(self, rows: int) -> Arrays:
        """Inputs of so many rows, the same at every call: those of fewer rows are the first of those of more."""
        raise NotImplementedError

    def wrong_width(self, inputs: Arrays) -> Arrays | None:
        """Inputs that the model cannot take; None where any width will do."""
        matrices = [name for name, array in inputs.items() if array.ndim == 2]
        return {**inputs, matrices[0]: inputs[matrices[0]][:, :-1]} if matrices else None

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, spec: ModelSpec) -> Model:
        return load_model(spec)

    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, model: Model) -> Arrays:
        return model.predict(cls().inputs(cls.rows))

    def test_it_is_a_model(self, model: Model) -> None:
        assert isinstance(model, Model)

    def test_many_rows(self, model: Model, expected: Arrays) -> None:
        assert expected
        assert rows_of(expected) == self.rows
        assert all(isinstance(array, np.ndarray) for array in expected.values())

    def test_the_rows_are_told_apart(self, expected: Arrays) -> None:
        # Otherwise the tests of order below would see nothing.
        texts = {name: a.astype("U") if a.dtype == object else a for name, a in expected.items()}
        assert any(len({row.tobytes() for row in array}) > 1 for array in texts.values())

    @pytest.mark.parametrize("size", [1, 2, 7, 32])
    def test_any_cut_gives_the_same_predictions(self, model: Model, expected: Arrays, size: int) -> None:
        inputs = self.inputs(self.rows)
        parts = [
            model.predict({name: array[start : start + size] for name, array in inputs.items()})
            for start in range(0, self.rows, size)
        ]
        assert_same({name: np.concatenate([p[name] for p in parts]) for name in parts[0]}, expected, rtol=self.rtol)

    def test_one_row(self, model: Model, expected: Arrays) -> None:
        assert_same(model.predict(self.inputs(1)), {n: a[:1] for n, a in expected.items()}, rtol=self.rtol)

    def test_no_rows(self, model: Model, expected: Arrays) -> None:
        assert_same(model.predict(self.inputs(0)), {n: a[:0] for n, a in expected.items()}, rtol=self.rtol)

    def test_the_order_of_memory_does_not_matter(self, model: Model, expected: Arrays) -> None:
        inputs = {name: np.asfortranarray(array) for name, array in self.inputs(self.rows).items()}
        assert_same(model.predict(inputs), expected, rtol=self.rtol)

    def test_inputs_are_left_alone_and_may_be_read_only(self, model: Model, expected: Arrays) -> None:
        inputs, untouched = self.inputs(self.rows), self.inputs(self.rows)
        for array in inputs.values():
            array.setflags(write=False)
        assert_same(model.predict(inputs), expected, rtol=self.rtol)
        assert_same(inputs, untouched, rtol=0)

    def test_results_are_not_overwritten_by_the_next_call(self, model: Model) -> None:
        first = model.predict(self.inputs(self.rows))
        copy = {name: array.copy() for name, array in first.items()}
        model.predict({name: array[::-1].copy() for name, array in self.inputs(self.rows).items()})
        assert_same(first, copy, rtol=0)

    def test_threads_share_it(self, model: Model, expected: Arrays) -> None:
        threads = 4
        barrier = Barrier(threads)

        def predict(_: int) -> Arrays:
            barrier.wait()
            return [model.predict(self.inputs(self.rows)) for _ in range(5)][-1]

        with ThreadPoolExecutor(threads) as pool:
            for got in pool.map(predict, range(threads)):
                assert_same(got, expected, rtol=self.rtol)

    def test_another_process_loads_the_same_from_the_pickled_spec(self, spec: ModelSpec, expected: Arrays) -> None:
        copy = pickle.loads(pickle.dumps(spec))
        assert copy == spec
        assert model_version(copy) == model_version(spec)
        assert_same(load_model(copy).predict(self.inputs(self.rows)), expected, rtol=self.rtol)

    def test_the_version_is_16_hex_digits(self, spec: ModelSpec) -> None:
        assert len(model_version(spec)) == 16
        assert int(model_version(spec), 16) >= 0

    def test_the_signature_says_what_goes_in(self, model: Model) -> None:
        declared = {t.name: t for t in model.signature.inputs}
        inputs = self.inputs(3)
        if declared:
            assert set(inputs) <= set(declared)
        for name, array in inputs.items():
            if name in declared:
                _fits(array, declared[name])

    def test_the_signature_says_what_comes_out(self, model: Model, expected: Arrays) -> None:
        declared = {t.name: t for t in model.signature.outputs}
        if declared:
            assert list(declared) == list(expected)
        for name, tensor in declared.items():
            _fits(expected[name], tensor)

    def test_a_wrong_width_is_an_error(self, model: Model) -> None:
        wrong = self.wrong_width(self.inputs(3))
        if wrong is None:
            pytest.skip("the model takes any width")
        with pytest.raises(Exception, match=r"."):
            model.predict(wrong)


def _fits(array: npt.NDArray[Any], tensor: TensorSpec) -> None:
    assert tensor.dtype is None or array.dtype == np.dtype(tensor.dtype), tensor
    if tensor.shape is not None:
        assert array.ndim == 1 + len(tensor.shape), tensor
        assert all(want is None or got == want for got, want in zip(array.shape[1:], tensor.shape, strict=True)), tensor

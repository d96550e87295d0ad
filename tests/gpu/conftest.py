"""What the tests here need: skipped with the reason in a run of all tests, failed with it when they were asked for."""

from __future__ import annotations

import importlib.util
import os

import pytest

ASKED_FOR = "FEATUREMILL_GPU_TESTS"


def lacking(*packages: str) -> str | None:
    """What keeps this machine from running a path for GPUs; None: nothing."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed"
    import onnxruntime
    import torch

    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no GPU"
    if "tensorrt" not in packages and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return f"ONNX Runtime {onnxruntime.__version__} has no CUDA: install onnxruntime-gpu instead of onnxruntime"
    return None


def _needs(reason: str | None) -> None:
    if reason is None:
        return
    if os.environ.get(ASKED_FOR):
        pytest.fail(f"make test-gpu: {reason}. docs/gpus.md says what has to be installed.", pytrace=False)
    pytest.skip(f"{reason}; make test-gpu runs it where there is one")


@pytest.fixture
def cuda() -> None:
    """ONNX Runtime with CUDA."""
    _needs(lacking())


@pytest.fixture
def tensorrt() -> None:
    """TensorRT and a PyTorch with CUDA."""
    _needs(lacking("tensorrt"))

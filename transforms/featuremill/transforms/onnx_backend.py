"""Where an ONNX model runs: on TensorRT, on ONNX Runtime with CUDA, or on ONNX Runtime on the processor.

They are tried in this order, or in one that a job gives, by the process that loads the model; the launcher of a job may
have no GPU, or another. What was chosen, and why the others were not, is logged once and kept by :func:`choices`, which
is where a job's record has it from.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from featuremill.artifacts.errors import FeaturemillError, ParameterError, ParameterTypeError, suggest
from featuremill.transforms.onnx_sessions import Choice, Session, open_cpu, open_cuda
from featuremill.transforms.tensorrt_profiles import Profiles

__all__ = [
    "BACKENDS", "CACHE", "SWITCH", "Wanted", "choices", "models_of", "open_model", "open_tensorrt", "wanted_here",
    "wanted_of",
]  # fmt: skip

LOG = logging.getLogger(__name__)

BACKENDS = ("tensorrt", "cuda", "cpu")
"""The order in which they are tried."""
SWITCH = "FEATUREMILL_ONNX_BACKEND"
"""The environment variable that has the last word in a process, for transforms: ``cpu``, or ``tensorrt,cpu``."""
CACHE = "~/.cache/featuremill/tensorrt"
"""Where TensorRT's plans are kept unless a job says."""


@dataclass(frozen=True)
class Wanted:
    """What is said of where a model is to run; see :func:`wanted_of`."""

    order: tuple[str, ...] = BACKENDS
    required: bool = False
    """Whether the first of the order is a demand, and not the first to be tried."""
    gpu: int = 0
    """Which one, where there are several."""
    threads: int = 1
    """Of one call on the processor: a worker makes as many calls at a time as it has processors."""
    cache: str = CACHE
    """A folder or bucket for TensorRT's plans."""


# --- what a job says --------------------------------------------------------------------------------------------------


def wanted_of(
    backend: str | Sequence[str] | None, require: str | None = None, *, cache: str | None = None, gpu: int = 0,
    threads: int = 1,
) -> Wanted:  # fmt: skip
    """What a job says, checked.

    Parameters
    ----------
    backend
        One of :data:`BACKENDS`, several in the order in which they are tried, or None for all.
    require
        The one without which nothing is to run.

    Raises
    ------
    ParameterError, ParameterTypeError
        For a backend that is not known, comes twice, or is required and not among those to be tried.

    >>> wanted_of(["cuda", "cpu"]).order, wanted_of(None, "tensorrt").order
    (('cuda', 'cpu'), ('tensorrt',))
    >>> wanted_of("gpu")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: backend got 'gpu', expected some of tensorrt, cuda, cpu.
    """
    given = BACKENDS if backend is None else (backend,) if isinstance(backend, str) else backend
    if not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise ParameterTypeError(
            f"backend got {backend!r}, expected some of {', '.join(BACKENDS)}.", parameter="backend", value=backend
        )
    order = tuple(given)
    if not order or set(order) - set(BACKENDS) or len(set(order)) < len(order):
        raise ParameterError(
            f"backend got {backend!r}, expected some of {', '.join(BACKENDS)}.", parameter="backend", value=backend
        )
    if require is not None and require not in order:
        raise ParameterError(
            f"require got {require!r}, expected one of {', '.join(order)}. {suggest(str(require), order)}",
            parameter="require", value=require,
        )
    place = CACHE if cache is None else cache
    if not isinstance(place, str) or not place:
        raise ParameterTypeError(
            f"engine_cache got {cache!r}, expected a folder or a bucket URL.", parameter="engine_cache", value=cache
        )
    return Wanted((require,) if require else order, require is not None, gpu, threads, place)


def wanted_here(wanted: Wanted) -> Wanted:
    """The same, unless :data:`SWITCH` says otherwise for this process: a service without a GPU, say.

    Raises
    ------
    ParameterError
        When the variable names a backend that is not known.
    """
    said = os.environ.get(SWITCH)
    if not said:
        return wanted
    try:
        order = wanted_of([name.strip() for name in said.split(",")]).order
    except ParameterError as error:
        raise ParameterError(f"The environment variable {SWITCH}: {error}", parameter=SWITCH, value=said) from error
    return replace(wanted, order=order, required=len(order) == 1)


# --- loading ----------------------------------------------------------------------------------------------------------



class _Asked(NamedTuple):
    """The arguments of :func:`open_model`."""

    model: bytes | Path
    where: str
    wanted: Wanted
    profiles: Profiles
    digest: str | None


_chosen: dict[Choice, None] = {}
_lock = Lock()


def choices() -> list[Choice]:
    """Where the models that this process has loaded run, each once."""
    with _lock:
        return list(_chosen)


def models_of(transforms: Iterable[Any]) -> set[str]:
    """What the models of a list of transforms are called, of those that have one."""
    return {transform.model for transform in transforms if isinstance(getattr(transform, "model", None), str)}


def open_model(
    model: bytes | Path, where: str, *, wanted: Wanted, profiles: Profiles, digest: str | None = None
) -> Session:
    """The model in an ONNX file, on the first of the wanted backends that takes it.

    Parameters
    ----------
    model
        The file's content, or where it is; weights beside it are read in the second case only.
    where
        What to call it in messages.
    profiles
        From the shapes of the inputs to the sizes that a TensorRT engine is built for.
    digest
        The SHA-256 that stands for the model; by default that of the bytes.

    Raises
    ------
    ModelFileError
        When it is none that ONNX Runtime can load.
    ParameterError
        When the backend that is required, or every one of those wanted, cannot be used here; it says why.
    MissingExtraError
        When ONNX Runtime is not installed.
    """
    asked = _Asked(model, where, wanted, profiles, digest)
    refused: list[tuple[str, str]] = []
    for name in wanted.order:
        try:
            session = _OPENERS[name](asked)
        except Exception as error:
            # Drivers and CUDA libraries raise anything; what is wrong with the model itself shows on the processor.
            if name == "cpu":
                raise
            if name == wanted.order[-1]:
                raise _unusable(where, wanted, [*refused, (name, _reason(error))]) from error
            refused.append((name, _reason(error)))
        else:
            return _Told(session, replace(session.choice, refused=tuple(refused)))
    raise AssertionError("an order of backends is never empty")


def _unusable(where: str, wanted: Wanted, refused: Sequence[tuple[str, str]]) -> ParameterError:
    reasons = " ".join(f"{name}: {reason}" for name, reason in refused)
    if wanted.required:
        what = f"{where} is to run on {wanted.order[0]} and nothing else, which cannot be had here. {reasons}"
    else:
        what = f"{where} can run on none of {', '.join(wanted.order)} here. {reasons} Add cpu to backend."
    return ParameterError(what, parameter="require" if wanted.required else "backend", model=where, refused=refused)


def _reason(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return f"{text}." if isinstance(error, FeaturemillError) else f"{type(error).__name__}: {text}."


class _Told:
    """A session whose choice has been told."""

    def __init__(self, session: Session, choice: Choice) -> None:
        self._session = session
        self.choice = choice
        self.inputs = session.inputs
        self.outputs = session.outputs
        self.run = session.run
        with _lock:
            new = choice not in _chosen
            _chosen[choice] = None
        if new:
            LOG.info("%s", choice)


# --- TensorRT ---------------------------------------------------------------------------------------------------------


def open_tensorrt(
    model: bytes | Path, where: str, wanted: Wanted, profiles: Profiles, digest: str | None = None
) -> Session:
    """The engine for an ONNX file, fetched or built; parameters as of :func:`open_model`.

    Raises
    ------
    MissingExtraError
        When TensorRT or PyTorch is not installed.
    RequestError
        When there is no GPU, or TensorRT is too old.
    ModelFileError, ParameterError, JobError
        When TensorRT cannot parse the file, the sizes are not known, or the engine cannot be built.
    """
    from featuremill.transforms.tensorrt_plans import build_or_fetch
    from featuremill.transforms.tensorrt_runner import TensorRTSession, gpu_of, require_tensorrt

    require_tensorrt(where)
    device, gpu = gpu_of(where, wanted.gpu)
    known = digest or hashlib.sha256(model if isinstance(model, bytes) else model.read_bytes()).hexdigest()
    engine = build_or_fetch(model, where, profiles=profiles, digest=known, gpu=gpu, device=device, cache=wanted.cache)
    return TensorRTSession(engine, device=device, where=where, gpu=gpu)


def _on_cpu(asked: _Asked) -> Session:
    return open_cpu(asked.model, asked.where, threads=asked.wanted.threads)


def _on_cuda(asked: _Asked) -> Session:
    return open_cuda(asked.model, asked.where, gpu=asked.wanted.gpu, threads=asked.wanted.threads)


def _on_tensorrt(asked: _Asked) -> Session:
    return open_tensorrt(*asked)


_OPENERS: Mapping[str, Callable[[_Asked], Session]] = {"tensorrt": _on_tensorrt, "cuda": _on_cuda, "cpu": _on_cpu}

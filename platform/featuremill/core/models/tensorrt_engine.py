"""TensorRT engines built from ONNX files, and kept.

Building takes seconds to minutes, and what comes out fits one release of TensorRT, one kind of GPU and the sizes that
it was built for. So plans are kept in a folder or bucket under a digest of all of these; a worker that starts later, or
the next job, finds them there. A plan that is damaged, or that TensorRT does not take, is built again.

The network is strongly typed, the one kind that TensorRT 10 and 11 have in common: half precision is in the ONNX file
or not at all.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featuremill.artifacts.errors import FeaturemillError, JobError, MissingArtifactError, ParameterError
from featuremill.artifacts.manifest import canonical_json
from featuremill.artifacts.store import Store, open_store
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.files import digest_of
from featuremill.core.models.spec import ModelSpec

__all__ = ["Bounds", "Profile", "engine_for", "profiles_of"]

LOG = logging.getLogger(__name__)
CACHE = "~/.cache/featuremill/tensorrt"
ROWS = 1024
"""Rows of a call when the job sets no batch_rows."""
WORKSPACE_BYTES = 1 << 30
DIGEST_BYTES = 32

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Bounds:
    """Shapes of one input that an engine takes, and the one that it is tuned for."""

    least: Shape
    best: Shape
    most: Shape

    def hold(self, shape: Shape) -> bool:
        """Whether a shape is within."""
        sizes = zip(self.least, shape, self.most, strict=False)
        return len(shape) == len(self.least) and all(low <= n <= high for low, n, high in sizes)


Profile = Mapping[str, Bounds]
"""Bounds by input."""


def engine_for(trt: Any, path: str, spec: ModelSpec, gpu: str) -> Any:
    """The engine for an ONNX file: from the cache, or built and put there.

    Parameters
    ----------
    gpu
        What tells this kind of GPU from others.

    Raises
    ------
    ModelFileError
        When TensorRT cannot parse the file.
    ParameterError
        When a size is neither in the file nor in the job.
    JobError
        When TensorRT cannot build the engine.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = _parsed(trt, builder, logger, path)
    shapes = {t.name: tuple(t.shape) for t in (network.get_input(i) for i in range(network.num_inputs))}
    profiles = profiles_of(shapes, spec, path)
    store = open_store(str(spec.options.get("cache", CACHE)))
    model = digest_of(Path(path), weights=True)
    runtime = trt.Runtime(logger)
    name = f"{_key(trt, model, profiles, gpu)}.plan"
    plan = _kept(store, name)
    engine = None if plan is None else runtime.deserialize_cuda_engine(plan)
    if engine is None:
        if plan is not None:
            LOG.warning("%s/%s is not taken by TensorRT %s, and is built again.", store.root, name, trt.__version__)
        timing = f"timing-{hashlib.sha256(f'{trt.__version__} {gpu}'.encode()).hexdigest()[:16]}.cache"
        plan = _build(trt, builder, network, profiles, store, timing, path)
        _keep(store, name, plan)
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise JobError(f"{path}: TensorRT {trt.__version__} does not take the engine that it has built.", path=path)
    return engine


def profiles_of(shapes: Mapping[str, Shape], spec: ModelSpec, path: str) -> tuple[Profile, ...]:
    """The optimisation profiles of a network with inputs of these shapes, -1 where they vary; none when none does.

    Rows may be 1 to ``batch_rows``. Other sizes come from the ``pad`` and ``max_length`` of the job's inputs, with a
    profile for each bucket; or everything is said by ``options: {profiles: [{ids: [[1, 1], [64, 32], [256, 128]]}]}``,
    the least, the best and the greatest shape of each input.

    Raises
    ------
    ParameterError
        When a size is nowhere said, or what is said does not fit the inputs.

    >>> profiles_of({"x": (-1, 4)}, ModelSpec(path="m.onnx", batch_rows=64), "m.onnx")[0]["x"]
    Bounds(least=(1, 4), best=(64, 4), most=(64, 4))
    >>> profiles_of({"ids": (-1, -1)}, ModelSpec(path="m.onnx"), "m.onnx")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: m.onnx: the input 'ids' has the shape (-1, -1), and nothing says how \
long its rows get. Set max_length or pad for it in inputs, or options: {profiles: …}.
    """
    told = spec.options.get("profiles")
    if told is not None:
        return tuple(_told(profile, shapes, path) for profile in told)
    if all(n >= 0 for shape in shapes.values() for n in shape):
        return ()
    sizes = {name: _sizes(name, spec) for name in shapes}
    count = max(len(s) for s in sizes.values())
    rows = spec.batch_rows or ROWS
    return tuple(
        {name: _bounds(name, shape, sizes[name], i, rows, path) for name, shape in shapes.items()}
        for i in range(max(count, 1))
    )


def _sizes(name: str, spec: ModelSpec) -> list[tuple[int, int]]:
    """The least and greatest lengths of an input's rows, by bucket, as far as the job says."""
    for given_name, given in (spec.inputs or {}).items():
        if given_name != name and (given.pad is None or given.pad.mask != name):
            continue
        if given.pad is not None and given.pad.buckets:
            return [(n, n) for n in given.pad.buckets]
        if given.pad is not None and isinstance(given.pad.to, int):
            return [(given.pad.to, given.pad.to)]
        return [(1, given.max_length)] if given.max_length else []
    return []


def _bounds(name: str, shape: Shape, sizes: Sequence[tuple[int, int]], bucket: int, rows: int, path: str) -> Bounds:
    inner = [i for i, n in enumerate(shape) if n < 0 and i > 0]
    if len(inner) > 1 or (inner and not sizes):
        raise ParameterError(
            f"{path}: the input {name!r} has the shape {shape}, and nothing says how long its rows get. Set max_length "
            "or pad for it in inputs, or options: {profiles: …}.",
            parameter="profiles", input=name,
        )
    low, high = sizes[min(bucket, len(sizes) - 1)] if inner else (0, 0)
    first_low, first_high = (1, rows) if shape[0] < 0 else (shape[0], shape[0])
    least = (first_low, *(low if n < 0 else n for n in shape[1:]))
    most = (first_high, *(high if n < 0 else n for n in shape[1:]))
    return Bounds(least, most, most)


def _told(profile: Any, shapes: Mapping[str, Shape], path: str) -> Profile:
    try:
        bounds = {name: Bounds(*(tuple(map(int, shape)) for shape in three)) for name, three in profile.items()}
        fit = bounds.keys() == shapes.keys() and all(
            b.hold(b.best) and b.hold(b.most) and _is_one_of(b, shapes[name]) for name, b in bounds.items()
        )
    except (TypeError, ValueError, AttributeError):
        fit = False
    if not fit:
        raise ParameterError(
            f"{path}: options.profiles got {profile!r}, expected for each of the inputs {dict(shapes)} three shapes: "
            "the least, the best and the greatest.",
            parameter="profiles",
        )
    return bounds


def _is_one_of(bounds: Bounds, shape: Shape) -> bool:
    return all(n in (-1, low) and (n < 0 or n == high) for n, low, high in zip(shape, bounds.least, bounds.most,
    strict=True))


# --- building ---------------------------------------------------------------------------------------------------------


def _parsed(trt: Any, builder: Any, logger: Any, path: str) -> Any:
    # The flag's value differs between 10 and 11.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(path):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ModelFileError(
            f"{path} cannot be parsed by TensorRT {trt.__version__}: {reasons or 'no reason given'}. Run it with "
            "framework: onnx instead.",
            path=path,
        )
    return network


def _build(
    trt: Any, builder: Any, network: Any, profiles: Sequence[Profile], store: Store, timing: str, path: str
) -> bytes:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    cache = config.create_timing_cache(_kept(store, timing) or b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    for profile in profiles:
        made = builder.create_optimization_profile()
        for name, bounds in profile.items():
            made.set_shape(name, bounds.least, bounds.best, bounds.most)
        config.add_optimization_profile(made)
    LOG.info("%s: building a TensorRT engine with %d profiles.", path, len(profiles))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise JobError(
            f"{path}: TensorRT {trt.__version__} cannot build an engine; its log says why. Run it with framework: onnx "
            "instead.",
            path=path,
        )
    _keep(store, timing, bytes(cache.serialize()))
    return bytes(plan)


# --- the cache --------------------------------------------------------------------------------------------------------


def _key(trt: Any, model: str, profiles: Sequence[Profile], gpu: str) -> str:
    sizes = [{name: [list(b.least), list(b.best), list(b.most)] for name, b in p.items()} for p in profiles]
    return hashlib.sha256(canonical_json([model, trt.__version__, gpu, sizes])).hexdigest()


def _kept(store: Store, name: str) -> bytes | None:
    """What is kept under a name, less its digest; None when there is none, or it is damaged."""
    try:
        data = store.get(name)
    except MissingArtifactError:
        return None
    if hashlib.sha256(data[DIGEST_BYTES:]).digest() != data[:DIGEST_BYTES]:
        LOG.warning("%s/%s is damaged, and is made again.", store.root, name)
        return None
    return data[DIGEST_BYTES:]


def _keep(store: Store, name: str, content: bytes) -> None:
    try:
        store.put(name, hashlib.sha256(content).digest() + content)
    except FeaturemillError as error:
        # The job does without; the next one builds again.
        LOG.warning("%s/%s cannot be kept: %s", store.root, name, error)

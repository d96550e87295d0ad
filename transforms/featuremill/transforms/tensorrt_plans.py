"""TensorRT engines built from ONNX files, and kept.

Building takes seconds to minutes, and what comes out fits one release of TensorRT, one kind of GPU and the sizes that
it was built for. So plans are kept in a folder or bucket under a digest of all of these; a worker that starts later, or
the next job, finds them there. A plan that is damaged, or that TensorRT does not take, is built again. Two workers that
build the same one at once both write it whole, and whose stays does not matter.

The network is strongly typed, the one kind that TensorRT 10 and 11 have in common: half precision is in the ONNX file
or not at all. TensorFloat-32, which cuts the products of float32 to ten bits, is off.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featuremill.artifacts.errors import FeaturemillError, JobError, MissingArtifactError
from featuremill.artifacts.manifest import canonical_json
from featuremill.artifacts.store import Store, open_store
from featuremill.transforms.onnx_sessions import ModelFileError
from featuremill.transforms.tensorrt_profiles import Profile, Profiles

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["build_or_fetch"]

LOG = logging.getLogger(__name__)
WORKSPACE_BYTES = 1 << 30
DIGEST_BYTES = 32
RECIPE = 2
"""Part of a plan's name; to be raised when engines are built in another way."""


def build_or_fetch(
    model: bytes | Path, where: str, *, profiles: Profiles, digest: str, gpu: str, device: Any, cache: str
) -> trt.ICudaEngine:
    """The engine for an ONNX file: from the cache, or built and put there.

    Parameters
    ----------
    model
        The file's content, or where it is.
    where
        What to call it in messages.
    profiles
        From the shapes of the inputs to the sizes to build for.
    digest
        The SHA-256 that stands for the model.
    gpu
        What tells this kind of GPU from others.
    device
        PyTorch's, the one to build on.
    cache
        A folder or bucket URL.

    Raises
    ------
    ModelFileError
        When TensorRT cannot parse the file.
    ParameterError
        When a size is not known.
    JobError
        When TensorRT cannot build the engine.
    """
    import torch

    with torch.cuda.device(device if device.type == "cuda" else -1):  # does nothing for -1
        return _engine(model, where, profiles, digest, gpu, cache)


def _engine(
    model: bytes | Path, where: str, profiles: Profiles, digest: str, gpu: str, cache: str
) -> trt.ICudaEngine:
    import tensorrt as trt

    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = _parsed(builder, logger, model, where)
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    made = profiles({tensor.name: tuple(tensor.shape) for tensor in inputs})
    store = open_store(cache)
    runtime = trt.Runtime(logger)
    name = f"{_key(digest, gpu, made)}.plan"
    plan = _kept(store, name)
    engine = None if plan is None else runtime.deserialize_cuda_engine(plan)
    if engine is None:
        if plan is not None:
            LOG.warning("%s/%s is not taken by TensorRT %s, and is built again.", store.root, name, trt.__version__)
        plan = _built(builder, network, made, store, _timing(gpu), where)
        _keep(store, name, plan)
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise JobError(f"{where}: TensorRT {trt.__version__} does not take the engine that it has built.", path=where)
    return engine


def _parsed(builder: trt.Builder, logger: trt.Logger, model: bytes | Path, where: str) -> trt.INetworkDefinition:
    import tensorrt as trt

    # The flag's value differs between 10 and 11.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    done = parser.parse(model) if isinstance(model, bytes) else parser.parse_from_file(str(model))
    if not done:
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ModelFileError(
            f"{where} cannot be parsed by TensorRT {trt.__version__}: {reasons or 'no reason given'}. Run it with ONNX "
            "Runtime instead.",
            path=where,
        )
    return network


def _built(
    builder: trt.Builder, network: trt.INetworkDefinition, profiles: Sequence[Profile], store: Store, timing: str,
    where: str,
) -> bytes:  # fmt: skip
    import tensorrt as trt

    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.clear_flag(trt.BuilderFlag.TF32)
    cache = config.create_timing_cache(_kept(store, timing) or b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    for profile in profiles:
        made = builder.create_optimization_profile()
        for name, bounds in profile.items():
            made.set_shape(name, bounds.least, bounds.best, bounds.most)
        config.add_optimization_profile(made)
    LOG.info("%s: building a TensorRT engine with %d profiles.", where, len(profiles))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise JobError(
            f"{where}: TensorRT {trt.__version__} cannot build an engine; its log says why. Run it with ONNX Runtime "
            "instead.",
            path=where,
        )
    _keep(store, timing, bytes(cache.serialize()))
    return bytes(plan)


# --- the cache --------------------------------------------------------------------------------------------------------


def _key(model: str, gpu: str, profiles: Sequence[Profile]) -> str:
    import tensorrt as trt

    sizes = [{name: [list(b.least), list(b.best), list(b.most)] for name, b in p.items()} for p in profiles]
    return hashlib.sha256(canonical_json([RECIPE, model, trt.__version__, gpu, sizes])).hexdigest()


def _timing(gpu: str) -> str:
    import tensorrt as trt

    return f"timing-{hashlib.sha256(f'{trt.__version__} {gpu}'.encode()).hexdigest()[:16]}.cache"


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

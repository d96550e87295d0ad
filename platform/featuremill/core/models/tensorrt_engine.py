"""The sizes that a score job's TensorRT engines are built for: what the job says of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featuremill.artifacts.errors import ParameterError
from featuremill.core.models.spec import ModelSpec
from featuremill.transforms.tensorrt_profiles import Bounds, Profile, Shape, bounds_of, varies

__all__ = ["profiles_of"]

ROWS = 1024
"""Rows of a call when the job sets no batch_rows."""
HINT = "Set max_length or pad for it in inputs, or options: {profiles: …}."


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
    if not varies(shapes):
        return ()
    sizes = {name: _sizes(name, spec) for name in shapes}
    count = max(len(s) for s in sizes.values())
    rows = spec.batch_rows or ROWS
    return tuple(
        {
            name: bounds_of(name, shape, _bucket(sizes[name], i), rows, path, HINT) for name, shape in shapes.items()
        }
        for i in range(max(count, 1))
    )


def _bucket(sizes: Sequence[tuple[int, int]], number: int) -> tuple[int, int] | None:
    return sizes[min(number, len(sizes) - 1)] if sizes else None


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

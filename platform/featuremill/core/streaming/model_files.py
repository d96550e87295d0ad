"""Which file a model's path means now: the newest that a pattern matches, of those that fit the artifact."""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import cast

from featuremill.artifacts.store import is_url
from featuremill.core.inference.handler import StepModels, members
from featuremill.core.models.contract import ModelFileError
from featuremill.core.models.files import SIDE_SUFFIXES
from featuremill.core.models.groups import ByKey, Models
from featuremill.core.models.spec import ModelSpec
from featuremill.core.models.stamp import SUFFIX, read_stamp

__all__ = ["ModelFile", "StampsFit", "candidates", "is_pattern", "newest", "pinned", "with_paths"]

MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, order=True)
class ModelFile:
    """A file or folder with a model; the later one is the greater."""

    changed: float
    """Seconds since 1970; of a folder, those of its newest file."""
    path: str
    size: int

    def __repr__(self) -> str:
        return self.path


def is_pattern(path: str | None) -> bool:
    """Whether a model's path stands for the newest of several.

    >>> is_pattern("models/late-*.onnx"), is_pattern("models/late.onnx")
    (True, False)
    """
    return path is not None and MAGIC.search(path) is not None


def candidates(path: str) -> list[ModelFile]:
    """The files, or folders, that a path or pattern stands for; the newest first.

    Names that begin with ``_`` or ``.`` are skipped by patterns, and so are stamps and other files that lie beside a
    model.
    """
    if is_url(path):
        from apache_beam.io.filesystems import FileSystems

        (matched,) = FileSystems.match([path])
        found = [ModelFile(m.last_updated_in_seconds, m.path, m.size_in_bytes) for m in matched.metadata_list]
    else:
        here = os.path.abspath(os.path.expanduser(path))
        paths = glob.glob(here, recursive=True) if is_pattern(path) else [here]
        found = [file for p in paths if (file := _look_at(Path(p))) is not None]
    if is_pattern(path):
        found = [f for f in found if not _is_beside(f.path.rstrip("/").rpartition("/")[2])]
    return sorted(found, reverse=True)


def _is_beside(name: str) -> bool:
    return name.startswith(("_", ".")) or name.endswith((SUFFIX, *SIDE_SUFFIXES))


def _look_at(path: Path) -> ModelFile | None:
    try:
        files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        stats = [p.stat() for p in files]
    except FileNotFoundError:
        return None
    if not stats:
        return None
    return ModelFile(max(s.st_mtime_ns for s in stats) / 1e9, str(path), sum(s.st_size for s in stats))


def newest(path: str, fits: Callable[[str], str | None] = lambda _: None) -> ModelFile:
    """The newest model behind a path or pattern.

    Parameters
    ----------
    fits
        Why a model cannot be used, by its path; None: it can.

    Raises
    ------
    ModelFileError
        When there is none, or none that fits; then with the reason of the newest.
    """
    found = candidates(path)
    for file in found:
        if fits(file.path) is None:
            return file
    if found:
        raise ModelFileError(f"{path}: none of {len(found)} models fits. {fits(found[0].path)}", path=path)
    raise ModelFileError(f"{path}: there is no model.", path=path)


class StampsFit:
    """Why a model cannot be used with a version of the artifact, as its stamp says; None: it can, or has no stamp.

    Parameters
    ----------
    artifact
        The artifact's name; None for a job without one.
    """

    def __init__(self, artifact: str | None) -> None:
        self.artifact = artifact

    def __call__(self, spec: ModelSpec, path: str, version: str | None) -> str | None:
        if spec.stamp == "ignore":
            return None
        trained = _trained_with(path, _changed(path), _changed(path + SUFFIX))
        if isinstance(trained, str):
            return trained
        if trained is None or trained == (self.artifact, version):
            return None
        return f"{path} was trained with {'@'.join(trained)}, not with {self.artifact}@{version}."


@lru_cache(maxsize=256)
def _trained_with(path: str, _model: float, _stamp: float) -> tuple[str, str] | str | None:
    """Artifact and version, or why the stamp cannot be read, or None; the times tell when to read it again."""
    try:
        found = read_stamp(path)
    except ModelFileError as error:
        return str(error)
    return None if found is None else (found.artifact, found.version)


def _changed(path: str) -> float:
    if is_url(path):
        return time.monotonic()
    file = _look_at(Path(path))
    return 0.0 if file is None else file.changed


def with_paths(models: StepModels, paths: Mapping[str, str]) -> StepModels:
    """The models of a step, each with another path.

    >>> with_paths(ModelSpec(path="late-*.onnx"), {"model": "late-2.onnx"}).path
    'late-2.onnx'
    """
    found = {name: spec.model_copy(update={"path": paths[name]}) for name, spec in members(models).items()
             if name in paths}
    if isinstance(models, ModelSpec):
        return next(iter(found.values()), models)
    if isinstance(models, ByKey):
        below = {name: found.pop(name, spec) for name, spec in models.models.items()}
        return models.model_copy(update={**found, "models": below})
    return models.model_copy(update=found)


def pinned(models: ModelSpec | Models, fits: Callable[[ModelSpec, str], str | None]) -> ModelSpec | Models:
    """The models with the newest file in the place of each pattern, as they are now.

    Raises
    ------
    ModelFileError
        When a pattern matches nothing, or nothing that fits.
    """
    if isinstance(models, list):
        return cast(Models, [_pinned_step(step, fits) for step in models])
    return _pinned_step(models, fits)


def _pinned_step(step: StepModels, fits: Callable[[ModelSpec, str], str | None]) -> StepModels:
    paths = {n: s.path for n, s in members(step).items() if s.path is not None and is_pattern(s.path)}
    return with_paths(step, {n: newest(p, partial(fits, members(step)[n])).path for n, p in paths.items()})

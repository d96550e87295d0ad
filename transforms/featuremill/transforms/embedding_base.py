"""What the transforms that apply a model have in common: where it is, how it is pinned, what is made of its vectors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import pyarrow as pa

from featuremill.artifacts.errors import ParameterError, ParameterTypeError
from featuremill.artifacts.layout import model_path
from featuremill.transforms.contract import State, Transform
from featuremill.transforms.embedding_models import Described, describe, model_files
from featuremill.transforms.onnx_backend import Wanted, wanted_here, wanted_of
from featuremill.transforms.vectors import DTYPES
from featuremill.transforms.vocabulary import check_whole_number

__all__ = ["Embedding"]

DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Embedding(Transform):
    """A transform that makes vectors with a model.

    Parameters
    ----------
    model
        Where it is; see the transform.
    normalize
        Whether vectors get the length 1; by default as the model says.
    dtype
        float32, or float16 to store half as much; the computation is the model's own.
    truncate_dim
        Keep so many of the first numbers of each vector only, before it is normalised; for models trained for it.
    carry
        Whether the artifact has a copy of the model. Without one, it is looked up under its name again by every process
        that loads the artifact, and has to be the same.
    digest
        The SHA-256 that the model must have; artifacts have it written into them.
    dimension
        How many numbers the model gives; artifacts have it written into them.
    backend
        Where the model runs: ``tensorrt``, ``cuda`` or ``cpu``, or several in the order in which they are tried; by
        default all three in this order, by the process that loads the model.
    require
        The one of them without which nothing is to run.
    engine_cache
        A folder or bucket for the engines that TensorRT builds; by default a folder of the worker's own.
    """

    kind: ClassVar[str]
    """Which models it takes, for :func:`~featuremill.transforms.embedding_models.describe`."""
    files: ClassVar[tuple[str, ...]]
    """The names of the files that a model becomes."""

    model: str
    normalize: bool | None = field(default=None, kw_only=True)
    dtype: str = field(default="float32", kw_only=True)
    truncate_dim: int | None = field(default=None, kw_only=True)
    carry: bool = field(default=True, kw_only=True)
    digest: str | None = field(default=None, kw_only=True)
    dimension: int | None = field(default=None, kw_only=True)
    backend: str | Sequence[str] | None = field(default=None, kw_only=True)
    require: str | None = field(default=None, kw_only=True)
    engine_cache: str | None = field(default=None, kw_only=True)

    def check(self) -> None:
        if not isinstance(self.model, str):
            raise self.wrong("model", self.model, "a path, a URL or a name", wrong_type=True)
        if not self.model:
            raise self.wrong("model", self.model, "a path, a URL or a name")
        if not (self.normalize is None or isinstance(self.normalize, bool)):
            raise self.wrong("normalize", self.normalize, "true, false or None", wrong_type=True)
        if not isinstance(self.carry, bool):
            raise self.wrong("carry", self.carry, "true or false", wrong_type=True)
        for name in ("truncate_dim", "dimension"):
            if getattr(self, name) is not None:
                check_whole_number(self, name, least=1)
        if self.dtype not in DTYPES:
            raise self.wrong("dtype", self.dtype, f"one of {', '.join(DTYPES)}")
        if self.digest is not None and not isinstance(self.digest, str):
            raise self.wrong("digest", self.digest, "64 hex digits", wrong_type=True)
        if self.digest is not None and not DIGEST.fullmatch(self.digest):
            raise self.wrong("digest", self.digest, "64 hex digits")
        if isinstance(self.backend, Sequence) and not isinstance(self.backend, str):
            object.__setattr__(self, "backend", tuple(self.backend))
        try:
            wanted_of(self.backend, self.require, cache=self.engine_cache)
        except (ParameterError, ParameterTypeError) as error:
            columns = ", ".join(repr(c) for c in self.columns)
            raise type(error)(f"{self.type_name}({columns}): {error}", **error.facts) from error

    # --- the model's files -------------------------------------------------------------------------------------------

    def pinned(self) -> Self:
        if self.digest is not None and self.dimension is not None:
            return self
        found = describe(self.model, self.kind)
        self.check_fits(found)
        return replace(self, digest=found.digest, dimension=found.dimension)

    def check_fits(self, found: Described) -> None:
        """Refuse a model that is another than the parameters say."""
        if self.digest not in (None, found.digest):
            raise self.wrong(
                "digest", self.digest, f"{found.digest}, that of the model {self.model}: another is under that name"
            )
        if self.dimension not in (None, found.dimension):
            raise self.wrong("dimension", self.dimension, f"{found.dimension}, that of the model {self.model}")

    @property
    def file_paths(self) -> tuple[str, ...]:
        if not self.carry:
            return ()
        digest = self.pinned().digest or ""
        return tuple(model_path(digest, name) for name in self.files)

    def file_contents(self) -> dict[str, bytes]:
        if not self.carry:
            return {}
        digest = self.pinned().digest or ""
        return {model_path(digest, name): data for name, data in model_files(self.model, digest, self.kind).items()}

    def prepare(self, states: Mapping[str, State], schema: pa.Schema) -> Any:
        return self.prepare_with({}, states, schema)

    def content(self, files: Mapping[str, Any]) -> Mapping[str, Any]:
        """The model's files by name: those that an artifact brought, else made from the model under its name."""
        paths = {path.rpartition("/")[2]: path for path in self.file_paths}
        if paths and all(path in files for path in paths.values()):
            return {name: files[path] for name, path in paths.items()}
        return model_files(self.model, self.pinned().digest, self.kind)

    # --- the work ----------------------------------------------------------------------------------------------------

    @property
    def wanted(self) -> Wanted:
        """Where the model is to run, in this process."""
        return wanted_here(wanted_of(self.backend, self.require, cache=self.engine_cache))

    def check_dimension(self, found: int) -> None:
        """Refuse a loaded model whose vectors are of another size than the one that was pinned."""
        pinned = self.pinned().dimension
        if found != pinned:
            raise self.wrong("dimension", pinned, f"{found}, that of the model {self.model}")

    def vector_size(self) -> int:
        """How many numbers the vectors have that come out."""
        whole = self.pinned().dimension or 0
        if self.truncate_dim is not None and self.truncate_dim > whole:
            raise self.wrong("truncate_dim", self.truncate_dim, f"at most {whole}, what the model {self.model} gives")
        return self.truncate_dim or whole

    def vector_type(self) -> pa.DataType:
        """The type of the column of vectors."""
        return pa.list_(DTYPES[self.dtype][1], self.vector_size())

"""Encoders of images: an ONNX file with a ``preprocessor_config.json``, in the layout of Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import FeaturemillError, JobError, ParameterError, StoreError
from featuremill.artifacts.manifest import canonical_json, digest
from featuremill.artifacts.store import Store, is_url, open_store
from featuremill.transforms.image_pixels import Preprocessing, configuration_of, preprocessing_of
from featuremill.transforms.model_sources import MODEL, SETTINGS, Described, Source, as_bytes
from featuremill.transforms.onnx_backend import Wanted, open_model
from featuremill.transforms.onnx_sessions import Session, Tensor, dtype_of, open_cpu
from featuremill.transforms.tensorrt_profiles import rows_only
from featuremill.transforms.vectors import BadItems, Floats, RememberedVectors, finished

__all__ = ["POOLINGS", "ImageEmbedder", "ImageEncoder", "image_encoder", "image_model"]

CONFIG = "preprocessor_config.json"
ONNX_FILES = ("model.onnx", "onnx/model.onnx")
"""Where a folder has its graph; the second is where Hugging Face's exporters put it."""
OUTPUTS = ("image_embeds", "pooler_output", "last_hidden_state")
"""Which of a model's outputs is taken, the first that is there; else its first."""
POOLINGS = ("cls", "mean", "max")
IMAGES_PER_GPU_RUN = 32
"""Not measured: no GPU was at hand. On the processor images go one by one: they fill it, and an image's vector cannot
depend on others."""
FLOATS = ("tensor(float)", "tensor(float16)")

Float32 = npt.NDArray[np.float32]

_encoders: WeakValueDictionary[Any, ImageEncoder] = WeakValueDictionary()
_lock = Lock()


def image_model(reference: str) -> Source:
    """The model in a folder or an ONNX file, on a disk or in a bucket."""
    if reference.endswith(".onnx"):
        parent, slash, name = reference.rpartition("/")
        return _VisionModel(open_store(parent or slash or "."), reference, (name,))
    return _VisionModel(open_store(reference), reference, ONNX_FILES)


class _VisionModel(Source):
    def __init__(self, store: Store, where: str, graphs: Sequence[str]) -> None:
        super().__init__(store, where)
        self._graphs = graphs

    @cached_property
    def _graph(self) -> str:
        found = next((name for name in self._graphs if self.has(name)), None)
        if found is None:
            raise ParameterError(
                f"There is no model {self.where}: it has no {' or '.join(self._graphs)}. Export its vision encoder to "
                "ONNX.",
                parameter="model", model=self.where,
            )  # fmt: skip
        return found

    @cached_property
    def names(self) -> list[str]:
        return sorted({self._graph, *([CONFIG] if self.has(CONFIG) else [])})

    @cached_property
    def _told(self) -> tuple[Tensor, str, int]:
        return told(open_cpu(self.read(self._graph), self.where), self.where)

    def described(self) -> Described:
        configuration_of(self.json(CONFIG, {}), self.where)
        return Described(self.digest(), self._told[2], None)

    def files(self) -> dict[str, bytes]:
        config = configuration_of(self.json(CONFIG, {}), self.where)
        settings = {"output": self._told[1], "normalize": False, "image": config}
        return {MODEL: self.read(self._graph), SETTINGS: canonical_json(settings)}


def told(session: Session, where: str) -> tuple[Tensor, str, int]:
    """``(the input, the output to take, how many numbers a vector has)``.

    Raises
    ------
    ParameterError
        When the model takes something else than images, or gives no vectors of a known size.
    """
    images = [i for i in session.inputs if len(i.shape) == 4 and i.shape[1] == 3 and i.type in FLOATS]
    if len(session.inputs) != 1 or not images or isinstance(images[0].shape[0], int):
        shown = ", ".join(f"{i.name} ({i.type} of shape {list(i.shape)})" for i in session.inputs)
        raise ParameterError(
            f"The model {where} takes {shown}; expected images alone, floats of shape (images, 3, height, width) with "
            "any number of images.",
            parameter="model", model=where,
        )  # fmt: skip
    outputs = {o.name: o for o in session.outputs}
    output = outputs[next((n for n in OUTPUTS if n in outputs), next(iter(outputs)))]
    axis = 1 if len(output.shape) == 4 else -1
    size = output.shape[axis] if len(output.shape) in (2, 3, 4) else None
    if not isinstance(size, int) or output.type not in FLOATS:
        raise ParameterError(
            f"The model {where} gives {output.name!r} as {output.type} of shape {list(output.shape)}; expected floats "
            "of shape (images, size), (images, patches, size) or (images, size, height, width) with a size that is "
            "known.",
            parameter="model", model=where, output=output.name,
        )  # fmt: skip
    return images[0], output.name, size


def image_encoder(
    files: Mapping[str, Any], overrides: Mapping[str, Any], pooling: str, where: str, wanted: Wanted
) -> ImageEncoder:
    """The encoder of a model's files by name, shared by all in the process that have it at a time."""
    content = {name: as_bytes(files[name]) for name in (MODEL, SETTINGS)}
    key = (*(digest(data) for data in content.values()), canonical_json(dict(overrides)), pooling, wanted)
    with _lock:
        found = _encoders.get(key)
        if found is None:
            found = _encoders[key] = ImageEncoder(content, overrides, pooling, where, wanted)
        return found


class ImageEncoder:
    """A model of images and what is done to them before. Threads may share it.

    Parameters
    ----------
    files
        ``model.onnx`` and ``embedding.json``.
    overrides
        What is to be done otherwise than the model's own configuration says.
    pooling
        How the vectors of patches become one: ``cls`` takes the first.
    where
        What to call the model in errors.
    wanted
        Where it is to run.
    """

    def __init__(
        self, files: Mapping[str, bytes], overrides: Mapping[str, Any], pooling: str, where: str, wanted: Wanted
    ) -> None:
        settings = json.loads(files[SETTINGS])
        self.normalize: bool = settings["normalize"]
        self._where = where
        self._output: str = settings["output"]
        self._pooling = pooling
        looked_at = open_cpu(files[MODEL], where)
        self.preprocessing = fitting(settings["image"], overrides, told(looked_at, where)[0], where)
        del looked_at
        height, width = self.preprocessing.shape or (0, 0)
        profiles = rows_only(IMAGES_PER_GPU_RUN, where, (3, height, width))
        self._session = open_model(files[MODEL], where, wanted=wanted, profiles=profiles)
        self._input, _, self.dimension = told(self._session, where)

    @property
    def images_per_run(self) -> int:
        """How many images go through the model together."""
        return 1 if self._session.choice.backend == "cpu" else IMAGES_PER_GPU_RUN

    def vectors(self, pixels: Float32) -> Float32:
        """The vectors of images, shape (n_images, dimension), from their pixels, (n_images, 3, height, width)."""
        given = pixels.astype(dtype_of(self._input) or np.dtype(np.float32), copy=False)
        try:
            (found,) = self._session.run([self._output], {self._input.name: given})
        except FeaturemillError:
            raise
        except Exception as error:  # ONNX Runtime has a class for each kind of failure, and no base class.
            raise JobError(
                f"The model {self._where} failed on images of {pixels.shape[2]} by {pixels.shape[3]} pixels: "
                f"{str(error).strip()} Change size or crop_size.",
                model=self._where,
            ) from error
        found = found.astype(np.float32, copy=False)
        if found.ndim == 4:
            return np.asarray(found.mean(axis=(2, 3)))
        if found.ndim == 2:
            return found
        return found[:, 0] if self._pooling == "cls" else np.asarray(getattr(found, self._pooling)(axis=1))


def fitting(told_: Mapping[str, Any], overrides: Mapping[str, Any], images: Tensor, where: str) -> Preprocessing:
    """What is done to images so that a model takes them.

    Raises
    ------
    ParameterError
        When the result would not have the size that the model takes, or no size that is the same for all.
    """
    config = {**told_, **overrides}
    sizes = images.shape[2:]
    fixed = {"height": sizes[0], "width": sizes[1]} if all(isinstance(n, int) for n in sizes) else None
    if fixed is not None:
        config = {"size": fixed, **config}
    place = f"The preprocessing of the model {where}"
    made = preprocessing_of(config, place)
    if made.shape is None or (fixed is not None and made.shape != tuple(fixed.values())):
        wanted = f"{sizes[0]} by {sizes[1]}" if fixed else "one size for all images"
        raise ParameterError(
            f"{place} gives images of {made.shape or 'different sizes'}, and the model takes {wanted}. Set size or "
            "crop_size in preprocessing.",
            parameter="preprocessing", model=where,
        )  # fmt: skip
    return made


class ImageEmbedder(RememberedVectors[bytes]):
    """An encoder and what is made of its vectors; of files' contents, or of paths below `root`.

    Parameters
    ----------
    store
        Where files are by their paths; None: what is given is the content itself.
    """

    def __init__(
        self, encoder: ImageEncoder, *, normalize: bool | None, dimension: int, dtype: npt.DTypeLike,
        files: ImageFiles | None,
    ) -> None:  # fmt: skip
        normal = encoder.normalize if normalize is None else normalize
        super().__init__(normalize=normal, dimension=dimension, dtype=dtype)
        self._encoder = encoder
        self._files = files

    def computed(self, items: Sequence[bytes]) -> tuple[Floats, dict[int, str]]:
        """The vectors of distinct images, and why some have none."""
        made = np.zeros((len(items), self.dimension), self.dtype)
        bad: dict[int, str] = {}
        at_once = self._encoder.images_per_run
        for start in range(0, len(items), at_once):
            pixels: dict[int, Float32] = {}
            for i, item in enumerate(items[start : start + at_once], start):
                try:
                    data = item if self._files is None else self._files.read(item)
                    pixels[i] = self._encoder.preprocessing.pixels(data)
                except BadItems as error:
                    bad[i] = error.reasons[0]
            if pixels:
                found = self._encoder.vectors(np.stack(list(pixels.values())))
                made[list(pixels)] = finished(found, self.dimension, normalize=self._normalize)
        return made, bad


class ImageFiles:
    """Image files by their paths or URLs.

    Parameters
    ----------
    root
        A folder or bucket that they are relative to, and outside of which none is read; None: anywhere.
    """

    def __init__(self, root: str | None) -> None:
        self._root = root
        self._stores: dict[str, Store] = {}

    def read(self, told: bytes) -> bytes:
        """A file's content, by its path in UTF-8.

        Raises
        ------
        BadItems
            When there is no such file, or it may not be read.
        """
        try:
            path = told.decode()
        except UnicodeDecodeError as error:
            raise BadItems({0: "the path is no valid UTF-8"}) from error
        parent, slash, name = path.rpartition("/")
        folder = parent or slash or "."
        if self._root is not None:
            folder, name = self._root, path
            if ".." in path.split("/") or path.startswith("/"):
                raise BadItems({0: "the path leads out of root"})
        try:
            store = self._stores.get(folder)
            if store is None:
                store = self._stores[folder] = open_store(folder)
            return store.get(name)
        except FeaturemillError as error:
            if isinstance(error, StoreError) and is_url(folder):
                raise  # The connection has failed, and not the row.
            raise BadItems({0: "there is no such file, or it may not be read"}) from error

"""Images decoded and made ready for a model, as Hugging Face's ``preprocessor_config.json`` says, with Pillow."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featuremill.artifacts.errors import ParameterError
from featuremill.transforms.onnx_sessions import import_for
from featuremill.transforms.vectors import BadItems

__all__ = ["KEYS", "Preprocessing", "configuration_of", "preprocessing_of"]

KEYS = (
    "do_center_crop", "crop_size", "do_normalize", "image_mean", "image_std", "do_rescale", "rescale_factor",
    "do_resize", "size", "resample",
)  # fmt: skip
"""Of the configuration's keys, those that decide about the pixels."""

HARMLESS = frozenset({
    "_processor_class", "auto_map", "data_format", "default_to_square", "device", "disable_grouping", "do_convert_rgb",
    "feature_extractor_type", "image_processor_type", "image_seq_length", "input_data_format", "processor_class",
    "return_tensors",
})  # fmt: skip
"""Keys that change nothing here: an image is always made RGB, and its channels come first."""

CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
HALVES = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
CROPPED = {"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 224}
PROCESSORS: Mapping[str, Mapping[str, Any]] = {
    "BitImageProcessor": {**CLIP, **CROPPED},
    "BlipImageProcessor": {**CLIP, "size": {"height": 384, "width": 384}},
    "CLIPImageProcessor": {**CLIP, **CROPPED},
    "DeiTImageProcessor": {
        **HALVES, "size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": 224,
    },
    "SiglipImageProcessor": {**HALVES, "size": {"height": 224, "width": 224}},
    "ViTImageProcessor": {**HALVES, "size": {"height": 224, "width": 224}, "resample": 2},
}  # fmt: skip
"""The processors of Hugging Face that do nothing else, and what they do where a configuration leaves it out."""

RESAMPLINGS = range(6)
"""Pillow's numbers: nearest, Lanczos, bilinear, bicubic, box, Hamming."""
DEFAULTS: Mapping[str, Any] = {
    "do_resize": True, "resample": 3, "do_center_crop": False, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True,
}  # fmt: skip
NO_IMAGE = "the bytes are no image that can be decoded"


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image, in this order: resized, cropped around its centre, scaled, shifted."""

    resize: tuple[int, int] | int | None
    """(height, width); or the length of the shorter edge, the other in proportion."""
    resample: int
    crop: tuple[int, int] | None
    """(height, width); what lies outside of the image is black."""
    scale: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    @property
    def shape(self) -> tuple[int, int] | None:
        """(height, width) of the result; None where it depends on the image."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)

    def pixels(self, data: bytes) -> npt.NDArray[np.float32]:
        """An image file's content as an array of shape (3, height, width).

        Raises
        ------
        BadItems
            When Pillow cannot decode it.
        MissingExtraError
            When Pillow is not installed.
        """
        images = import_for("PIL.Image", "images", "of images")
        try:
            with images.open(io.BytesIO(data)) as file:
                image = file.convert("RGB")
        except Exception as error:
            # Decoders fail in any way: OSError, SyntaxError, struct.error; and too many pixels in one of their own.
            raise BadItems({0: NO_IMAGE}) from error
        if self.resize is not None:
            height, width = self.resize if isinstance(self.resize, tuple) else _in_proportion(image.size, self.resize)
            image = image.resize((width, height), self.resample)
        values = np.asarray(image)
        if self.crop is not None:
            values = centre(values, *self.crop)
        found: npt.NDArray[np.float32] = values.astype(np.float32)
        if self.scale is not None:
            found *= np.float32(self.scale)
        if self.mean is not None and self.std is not None:
            found -= np.asarray(self.mean, np.float32)
            found /= np.asarray(self.std, np.float32)
        return np.ascontiguousarray(found.transpose(2, 0, 1))


def _in_proportion(size: tuple[int, int], shortest: int) -> tuple[int, int]:
    """(height, width) with the shorter edge so long; `size` is (width, height)."""
    width, height = size
    if width <= height:
        return max(1, int(shortest * height / width)), shortest
    return shortest, max(1, int(shortest * width / height))


def centre(values: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """The middle of an image of shape (height, width, 3); where it is smaller, black around it.

    >>> centre(np.ones((2, 4, 3), np.uint8), 4, 2)[:, :, 0].tolist()
    [[0, 0], [1, 1], [1, 1], [0, 0]]
    """
    above, left = (values.shape[0] - height) // 2, (values.shape[1] - width) // 2
    if above < 0 or left < 0:
        # As Hugging Face's crop does it, where the odd row or column more is before the image.
        tall, wide = max(height, values.shape[0]), max(width, values.shape[1])
        top, start = -(-(tall - values.shape[0]) // 2), -(-(wide - values.shape[1]) // 2)
        padded = np.zeros((tall, wide, values.shape[2]), values.dtype)
        padded[top : top + values.shape[0], start : start + values.shape[1]] = values
        values, above, left = padded, above + top, left + start
    return values[above : above + height, left : left + width]


def configuration_of(file: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a ``preprocessor_config.json`` says of the pixels, with its processor's defaults.

    Raises
    ------
    ParameterError
        For a processor that is not known, or a step that is not done here.

    >>> configuration_of({"image_processor_type": "ViTImageProcessor", "size": 384}, "models/vit")["size"]
    {'height': 384, 'width': 384}
    >>> configuration_of({"image_processor_type": "MobileViTImageProcessor"}, "models/x")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: The model models/x: its images go through a MobileViTImageProcessor, \
expected one of BitImageProcessor, BlipImageProcessor, CLIPImageProcessor, DeiTImageProcessor, SiglipImageProcessor, \
ViTImageProcessor. Put what it does into the ONNX graph, and give the .onnx file alone.
    """
    told = str(file.get("image_processor_type") or file.get("feature_extractor_type") or "")
    kind = told.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    mend = "Put what it does into the ONNX graph, and give the .onnx file alone."
    if kind and kind not in PROCESSORS:
        raise ParameterError(
            f"The model {where}: its images go through a {told}, expected one of {', '.join(PROCESSORS)}. {mend}",
            parameter="model", model=where, processor=told,
        )  # fmt: skip
    for key, value in file.items():
        if value and key not in KEYS and key not in HARMLESS:
            raise ParameterError(
                f"The model {where}: its preprocessor_config.json has {key}: {value!r}, which is not done here. {mend}",
                parameter="model", model=where, key=key,
            )  # fmt: skip
    defaults = PROCESSORS.get(kind, {})
    found = {**defaults, **{k: v for k, v in file.items() if k in KEYS and v is not None}}
    if _size_number(found.get("size")):
        # Old files have a number, and each processor its own idea of what it is the size of.
        edges = defaults.get("size", {"height": 0, "width": 0})
        found["size"] = dict.fromkeys(edges, found["size"])
    return found


def preprocessing_of(config: Mapping[str, Any], where: str) -> Preprocessing:
    """What is to be done, as :func:`configuration_of` and a job say.

    Raises
    ------
    ParameterError
        For a key or a value that is not known.

    >>> told = {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224, "do_normalize": False}
    >>> preprocessing_of(told, "m").shape
    (224, 224)
    >>> preprocessing_of({**told, "resample": 9}, "m")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: m: resample is 9, expected one of Pillow's numbers, 0 to 5.
    """
    told = {**DEFAULTS, **config}
    for key in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
        if not isinstance(told[key], bool):
            raise _wrong(where, key, told[key], "true or false")
    if told["resample"] not in RESAMPLINGS:
        raise _wrong(where, "resample", told["resample"], "one of Pillow's numbers, 0 to 5")
    resize = _size(told.get("size"), "size", where) if told["do_resize"] else None
    crop = _size(told.get("crop_size"), "crop_size", where) if told["do_center_crop"] else None
    assert not isinstance(crop, int)  # only an edge is one number
    scale = told["rescale_factor"] if told["do_rescale"] else None
    if scale is not None and not _number(scale):
        raise _wrong(where, "rescale_factor", scale, "a number")
    mean = _channels(told.get("image_mean"), "image_mean", where) if told["do_normalize"] else None
    std = _channels(told.get("image_std"), "image_std", where) if told["do_normalize"] else None
    if std is not None and 0 in std:
        raise _wrong(where, "image_std", list(std), "numbers other than 0")
    return Preprocessing(resize, told["resample"], crop, None if scale is None else float(scale), mean, std)


def _size(value: Any, key: str, where: str) -> tuple[int, int] | int:
    if isinstance(value, Mapping):
        if value.keys() == {"height", "width"} and all(_size_number(v) for v in value.values()):
            return value["height"], value["width"]
        if value.keys() == {"shortest_edge"} and key == "size" and _size_number(value["shortest_edge"]):
            return int(value["shortest_edge"])
    elif key == "crop_size" and _size_number(value):
        return int(value), int(value)
    other = "{shortest_edge: …}" if key == "size" else "a number"
    raise _wrong(where, key, value, f"{{height: …, width: …}} or {other}")


def _size_number(value: Any) -> bool:
    return type(value) is int and value > 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _channels(value: Any, key: str, where: str) -> tuple[float, ...]:
    values = [value] * 3 if _number(value) else value
    if not isinstance(values, list | tuple) or len(values) != 3 or not all(map(_number, values)):
        raise _wrong(where, key, value, "a number, or three")
    return tuple(float(v) for v in values)


def _wrong(where: str, key: str, got: Any, expected: str) -> ParameterError:
    return ParameterError(f"{where}: {key} is {got!r}, expected {expected}.", parameter=key, value=got)

"""Small encoders of images and of columns, made anew by every test process: as ONNX, and as the same in torch."""

from __future__ import annotations

import atexit
import io
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["COLUMNS", "PREPROCESSING", "image_bytes", "make_columns", "make_vision", "small_columns", "small_vision"]

COLUMNS = 2
"""That the small encoder of columns takes."""
PREPROCESSING: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True, "do_resize": True,
    "size": {"shortest_edge": 14}, "resample": 3, "do_center_crop": True, "crop_size": {"height": 12, "width": 12},
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.48, 0.45, 0.4],
    "image_std": [0.26, 0.26, 0.27],
}  # fmt: skip


def weights(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {name: draw.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], numbers: dict[str, np.ndarray]) -> None:
    initial = [numpy_helper.from_array(array, name) for name, array in numbers.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initial)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def make_vision(
    folder: Path, *, seed: int = 3, output: str = "image_embeds", size: tuple[Any, Any] = ("h", "w"),
    config: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """A vision encoder in a folder: patches of 4 by 4, a nonlinearity, and a vector of 6 for each image.

    `output` is ``image_embeds``, ``last_hidden_state`` (a vector for each patch) or ``pooler_output`` (a map).
    """
    folder.mkdir(parents=True)
    numbers = weights(seed, conv=(5, 3, 4, 4), bias=(5,), head=(5, 6))
    nodes = [
        helper.make_node("Conv", ["pixel_values", "conv", "bias"], ["map"], strides=[4, 4]),
        helper.make_node("Tanh", ["map"], ["bent"]),
    ]
    if output == "pooler_output":
        nodes[1].output[0] = output
        shape: list[Any] = ["n", 5, "a", "b"]
    else:
        numbers["flat"] = np.array([0, 5, -1])
        nodes += [
            helper.make_node("Reshape", ["bent", "flat"], ["patches"]),
            helper.make_node("Transpose", ["patches"], ["tokens"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["tokens", "head"], ["last_hidden_state"]),
        ]
        shape = ["n", "p", 6]
        if output == "image_embeds":
            nodes.append(helper.make_node("ReduceMean", ["last_hidden_state"], [output], axes=[1], keepdims=0))
            shape = ["n", 6]
    inputs = [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, *size])]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
    save(folder / "model.onnx", nodes, inputs, outputs, numbers)
    told = PREPROCESSING if config is None else config
    if told:
        (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder


def vision_in_torch(pixels: np.ndarray, seed: int = 3) -> np.ndarray:
    """What the encoder gives for pixels of shape (images, 3, height, width), computed by torch."""
    import torch

    held = {n: torch.from_numpy(a) for n, a in weights(seed, conv=(5, 3, 4, 4), bias=(5,), head=(5, 6)).items()}
    found = torch.nn.functional.conv2d(torch.from_numpy(pixels), held["conv"], held["bias"], stride=4).tanh()
    vectors: np.ndarray = (found.flatten(2).transpose(1, 2) @ held["head"]).mean(1).numpy()
    return vectors


def make_columns(folder: Path, *, seed: int = 5, width: int | str = COLUMNS) -> Path:
    """An encoder of rows of numbers, as a file: two layers, and a vector of 4 for each row."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = weights(seed, first=(COLUMNS, 15), shift=(15,), last=(15, 4))
    nodes = [
        helper.make_node("Gemm", ["x", "first", "shift"], ["wide"]),
        helper.make_node("Elu", ["wide"], ["bent"]),
        helper.make_node("MatMul", ["bent", "last"], ["vector"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", width])]
    outputs = [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["rows", 4])]
    save(folder / "columns.onnx", nodes, inputs, outputs, numbers)
    return folder / "columns.onnx"


def columns_in_torch(rows: np.ndarray, seed: int = 5) -> np.ndarray:
    """What the encoder gives for rows of shape (rows, columns), computed by torch."""
    import torch

    held = weights(seed, first=(COLUMNS, 15), shift=(15,), last=(15, 4))
    first, shift, last = (torch.from_numpy(held[n]) for n in ("first", "shift", "last"))
    bent = torch.nn.functional.elu(torch.from_numpy(rows.astype(np.float32)) @ first + shift)
    vectors: np.ndarray = (bent @ last).numpy()
    return vectors


def image_bytes(seed: int, size: tuple[int, int] = (20, 16), *, mode: str = "RGB", format_: str = "PNG") -> bytes:
    """The content of an image file with random pixels; `size` is (width, height)."""
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, format_)
    return stream.getvalue()


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="featuremill-encoders-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def small_vision() -> str:
    """The folder of one vision encoder for the whole process."""
    return str(make_vision(_folder() / "vision"))


@cache
def small_columns() -> str:
    """The file of one encoder of columns for the whole process."""
    return str(make_columns(_folder() / "columns"))

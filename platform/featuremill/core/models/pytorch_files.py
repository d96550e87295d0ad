"""PyTorch's files: which of them run no code, and what is in them."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from featuremill.artifacts.errors import RequestError
from featuremill.core.models.contract import ModelFileError, Signature, TensorSpec
from featuremill.core.models.extras import import_extra, named_class
from featuremill.core.models.pickles import trusted_bytes
from featuremill.core.models.pytorch_export import checked_archive
from featuremill.core.models.sniff import looks_pickled
from featuremill.core.models.spec import ModelSpec

__all__ = ["Program", "exported_program", "open_model"]

SAFE_SINCE = (2, 10)
"""Before this release of PyTorch a crafted file got round ``weights_only=True``."""

SHOWN = 5
"""Names of weights in an error."""

Kind = Literal["safetensors", "exported", "torchscript", "pickle"]


@dataclass(frozen=True)
class Program:
    """An exported program."""

    module: Any
    signature: Signature
    positional: int
    """How many of its inputs go by position; the rest by name."""


def open_model(path: str, spec: ModelSpec) -> Any:
    """The module in a file, in evaluation mode and on its device; or the :class:`Program`.

    Raises
    ------
    ModelFileError
        When the file is missing, damaged, of another framework, could run code, or does not fit the class.
    RequestError
        When the class cannot be imported or made, or the device is not there.
    MissingExtraError
        When PyTorch is not installed.
    """
    torch = import_extra("torch", "torch", path)
    if not Path(path).is_file():
        raise ModelFileError(f"{path}: there is no such file.", path=path)
    device = _device(spec)
    kind = _kind(path)
    if kind == "torchscript":
        raise ModelFileError(
            f"{path} is a TorchScript archive, which PyTorch deprecated and which holds code. Save the model with "
            "torch.export.save, or its weights as .safetensors and name its class.",
            path=path,
        )
    if kind == "exported":
        return _program(path, spec, device)
    held = _safe_tensors(path) if kind == "safetensors" else _unpickled(path, spec)
    if isinstance(held, torch.nn.Module):
        module = held
    else:
        weights = _weights(held, path, spec)
        module = _made(path, spec)
        _fill(module, weights, path, spec)
    return module.to(device).eval().requires_grad_(False)


def _device(spec: ModelSpec) -> Any:
    import torch

    try:
        device = torch.device(spec.device)
    except RuntimeError as error:
        raise RequestError(
            f"device got {spec.device!r}, expected cpu, cuda or cuda:1.", parameter="device", value=spec.device
        ) from error
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if not count or (device.type == "cuda" and (device.index or 0) >= count):
        raise RequestError(
            f"device got {spec.device!r}, but PyTorch {torch.__version__} sees {count or 'no'} GPU here. Use device: "
            "cpu, or a machine and a build of PyTorch with CUDA.",
            parameter="device", value=spec.device,
        )
    return device


def _kind(path: str) -> Kind:
    """By the content where it tells; PyTorch's names for files do not."""
    if path.endswith(".safetensors"):
        return "safetensors"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()} | set(archive.namelist())
        if "archive_format" in names or "serialized_exported_program.json" in names:
            return "exported"
        if "constants.pkl" in names:
            return "torchscript"
    return "exported" if path.endswith(".pt2") else "pickle"


# --- tensors ----------------------------------------------------------------------------------------------------------


def _safe_tensors(path: str) -> Mapping[str, Any]:
    safetensors = import_extra("safetensors", "torch", path)
    try:
        weights: Mapping[str, Any] = import_extra("safetensors.torch", "torch", path).load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is no safetensors file: {error}.", path=path) from error
    return weights


def _unpickled(path: str, spec: ModelSpec) -> Any:
    import torch

    if spec.allow_pickle:
        return torch.load(io.BytesIO(trusted_bytes(path, spec)), map_location="cpu", weights_only=False)
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < SAFE_SINCE:
        raise ModelFileError(
            f"{path}: PyTorch {torch.__version__} does not keep a crafted pickle from running code. Install PyTorch "
            f"{SAFE_SINCE[0]}.{SAFE_SINCE[1]} or newer, or save the weights as .safetensors.",
            path=path,
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error)
        if "GLOBAL " not in reason and not zipfile.is_zipfile(path) and not looks_pickled(Path(path)):
            raise _damaged(path, "it is neither an archive nor a pickle") from error
        wanted = reason.split("GLOBAL ", 1)[-1].split(" ", 1)[0] if "GLOBAL " in reason else "more than tensors"
        raise ModelFileError(
            f"{path} is a pickle that asks for {wanted}: loading it would run code, so it is refused. Save the weights "
            "alone, as .safetensors or with torch.save(model.state_dict(), …). If you trust this very file, set "
            "allow_pickle: true and its sha256.",
            path=path, wanted=wanted,
        ) from error
    except Exception as error:
        # Whatever a damaged or crafted file brings about in torch's reader: a RuntimeError, an EOFError, a KeyError …
        raise _damaged(path, _line(error)) from error


def _weights(held: Any, path: str, spec: ModelSpec) -> Mapping[str, Any]:
    """The state dict in what a file held."""
    import torch

    key = spec.options.get("state_dict")
    if key is not None:
        if not isinstance(held, Mapping) or key not in held:
            raise ModelFileError(
                f"{path}: options.state_dict got {key!r}, the file holds {_keys(held)}.", path=path, key=key
            )
        held = held[key]
    if isinstance(held, Mapping) and held and all(isinstance(v, torch.Tensor) for v in held.values()):
        return held
    raise ModelFileError(
        f"{path} holds no weights by name but {_keys(held)}. If they are under one of its keys, name it: "
        "options: {state_dict: KEY}.",
        path=path,
    )


def _keys(held: Any) -> str:
    if isinstance(held, Mapping):
        return f"a dict of {', '.join(repr(k) for k in list(held)[:SHOWN]) or 'nothing'}"
    return f"a {type(held).__name__}"


# --- the class --------------------------------------------------------------------------------------------------------


def _made(path: str, spec: ModelSpec) -> Any:
    """The module that the user names, made with his arguments."""
    import torch

    if spec.class_ is None:
        raise ModelFileError(
            f"{path} holds weights alone. Name the model that they belong to: class: package.module:Class, and its "
            "arguments; or save a program with torch.export.save.",
            path=path,
        )
    made = named_class(spec.class_)
    try:
        module = made(**spec.arguments)
    except Exception as error:
        # The class is the user's, and so is what goes wrong in it.
        raise RequestError(
            f"class: {spec.class_} cannot be made with arguments {spec.arguments}: {type(error).__name__}: {error}.",
            parameter="arguments", value=spec.class_,
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise RequestError(
            f"class: {spec.class_} made a {type(module).__name__}, expected a torch.nn.Module.",
            parameter="class", value=spec.class_,
        )
    return module


def _fill(module: Any, weights: Mapping[str, Any], path: str, spec: ModelSpec) -> None:
    """Load the weights; every one of the module must be there, with its shape, and no other."""
    own = module.state_dict(keep_vars=True)
    tied = {_place(tensor) for name, tensor in own.items() if name in weights}
    wrong = [
        *(f"{n} is missing" for n, t in own.items() if n not in weights and _place(t) not in tied),
        *(f"{n} is not known" for n in weights if n not in own),
        *(
            f"{n} has the shape {tuple(weights[n].shape)} instead of {tuple(t.shape)}"
            for n, t in own.items()
            if n in weights and weights[n].shape != t.shape
        ),
    ]
    if not wrong:
        module.load_state_dict(weights, strict=False)
        return
    shown = "; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
    prefix = next((p for p in ("module.", "_orig_mod.") if all(n.startswith(p) for n in weights)), None)
    advice = (
        f"All names begin with {prefix!r}: save the state_dict of the model inside the wrapper."
        if prefix
        else "Check the class and its arguments."
    )
    raise ModelFileError(
        f"{path} does not fit {spec.class_} with arguments {spec.arguments}: {shown}. {advice}", path=path, wrong=wrong
    )


def _place(tensor: Any) -> tuple[int, ...]:
    """Equal for tensors that are one and the same: files leave the second of tied weights out."""
    return (tensor.data_ptr(), *tensor.shape) if tensor.numel() else (id(tensor),)


# --- programs ---------------------------------------------------------------------------------------------------------


def exported_program(path: str, spec: ModelSpec) -> Any:
    """PyTorch's ``ExportedProgram`` in a file.

    Raises
    ------
    ModelFileError
        When the file could run code, is damaged, or is of another release.
    """
    import torch

    data = trusted_bytes(path, spec) if spec.allow_pickle else checked_archive(Path(path).read_bytes(), path)
    try:
        return torch.export.load(io.BytesIO(data))
    except Exception as error:
        # Files of another release fail in many ways.
        raise ModelFileError(
            f"{path} cannot be read by PyTorch {torch.__version__}: {_line(error)}. Export the model again with this "
            "release.",
            path=path,
        ) from error


def _program(path: str, spec: ModelSpec, device: Any) -> Program:
    exported = exported_program(path, spec)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        exported = move_to_device_pass(exported, device)
    arguments, _ = (exported.call_spec.in_spec.child(i) for i in range(2))
    return Program(exported.module().requires_grad_(False), _signature(exported, path), arguments.num_leaves)


def _signature(exported: Any, path: str) -> Signature:
    import torch

    values = {node.name: node.meta["val"] for node in exported.graph.nodes if node.op == "placeholder"}
    inputs: list[TensorSpec] = []
    for spec in exported.graph_signature.input_specs:
        if spec.kind.name != "USER_INPUT":
            continue
        value = values.get(spec.arg.name)
        if not isinstance(value, torch.Tensor) or not value.shape:
            raise ModelFileError(
                f"{path}: the program takes {spec.arg.name!r}, which is no batch of rows. Export a model whose inputs "
                "are all tensors with a row for each example.",
                path=path,
            )
        if isinstance(value.shape[0], int):
            _one_size(path, spec.arg.name, value.shape[0])
        shape = tuple(n if isinstance(n, int) else None for n in value.shape[1:])
        inputs.append(TensorSpec(spec.arg.name, str(value.dtype).removeprefix("torch."), shape))
    return Signature(inputs=tuple(t if t.dtype != "bfloat16" else TensorSpec(t.name, None, t.shape) for t in inputs))


def _one_size(path: str, name: str, rows: int) -> NoReturn:
    raise ModelFileError(
        f"{path} was exported for batches of exactly {rows} rows. Export it with "
        f"dynamic_shapes={{{name!r}: {{0: torch.export.Dim('rows')}}}}, and so for every input.",
        path=path, rows=rows,
    )


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _damaged(path: str, why: str) -> ModelFileError:
    return ModelFileError(f"{path} is no file that PyTorch can read, or is damaged: {why}.", path=path)


"""``featuremill export``: an artifact's transforms as one ONNX graph, alone or in front of a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

__all__ = ["export"]


def export(
    artifact: Annotated[
        str,
        typer.Argument(metavar="REF", help="ROOT/NAME@ALIAS, ROOT/NAME@VERSION, or ROOT/NAME.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="The file to write.", show_default=False)],
    format_: Annotated[Literal["onnx"], typer.Option("--format", help="What to write.")] = "onnx",
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="COLUMN", help="Give this column; by default all that the transforms make.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="MODEL.onnx", help="Put the transforms in front of it.", show_default=False),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="NAME=COLUMN,…",
            help="The columns of an input of the model, side by side in this order; by default the column of its name.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Write an artifact's transforms as one ONNX graph.

    With --model, a single graph from raw columns to the model's predictions.
    """
    from featuremill.artifacts import load
    from featuremill.transforms.onnx_export import export as export_columns
    from featuremill.transforms.onnx_fuse import fuse
    from featuremill.transforms.onnx_graph import onnx_module

    _check(model, columns or [], inputs or [])
    onnx = onnx_module()
    loaded = load(artifact)
    if model is None:
        made = export_columns(loaded, columns=columns or None)
    else:
        made = fuse(loaded, _read(onnx, model), _mapping(inputs) if inputs else None)
    _write(onnx, made, output)
    value = {
        "artifact": f"{loaded.name}@{loaded.version}", "format": format_, "output": str(output),
        "inputs": [v.name for v in made.graph.input], "outputs": [v.name for v in made.graph.output],
    }  # fmt: skip
    if as_json:
        print(json.dumps(value, indent=2, ensure_ascii=False))
        return
    print(f"{output} has {value['artifact']}{f' and {model}' if model else ''} as one ONNX graph.")
    for name in ("inputs", "outputs"):
        print(f"  {name}: {', '.join(value[name])}")


def _check(model: Path | None, columns: Sequence[str], inputs: Sequence[str]) -> None:
    from featuremill.artifacts.errors import ParameterError

    if model is None and inputs:
        raise ParameterError("--input is for the inputs of a model: say --model too.", parameter="input")
    if model is not None and columns:
        raise ParameterError("--column is for a graph without a model, which has its own outputs.", parameter="column")


def _mapping(inputs: Sequence[str]) -> dict[str, list[str]]:
    """``["x=a,b"]`` as ``{"x": ["a", "b"]}``."""
    from featuremill.artifacts.errors import ParameterError

    found: dict[str, list[str]] = {}
    for text in inputs:
        name, equals, names = text.partition("=")
        if not equals or not name or not all(names.split(",")) or name in found:
            raise ParameterError(
                f"--input got {text!r}, expected NAME=COLUMN,COLUMN, each name once.", parameter="input", value=text
            )
        found[name] = names.split(",")
    return found


def _read(onnx: Any, path: Path) -> Any:
    from google.protobuf.message import DecodeError

    from featuremill.artifacts.errors import ParameterError

    try:
        return onnx.load(path)
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror}.", path=str(path)) from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise ParameterError(f"{path} is no ONNX model: {error}.", path=str(path)) from error


def _write(onnx: Any, made: Any, path: Path) -> None:
    from featuremill.artifacts.errors import ParameterError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(made, path)
    except OSError as error:
        raise ParameterError(f"{path} cannot be written: {error.strerror}.", path=str(path)) from error

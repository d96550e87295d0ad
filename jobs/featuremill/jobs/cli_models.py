"""``featuremill models``: look at model files, convert them, and write down which artifact they were trained with."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from featuremill.core.models.spec import ModelSpec
    from featuremill.jobs.render import Block

__all__ = ["models_app"]

models_app = typer.Typer(help="Look at models, convert them, and stamp them with their artifact.", no_args_is_help=True)

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model's file or folder, or a bucket URL.", show_default=False)
]
Sha256 = Annotated[
    str | None,
    typer.Option("--sha256", metavar="DIGEST", help="The digest that the file must have.", show_default=False),
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Load a pickle, which can run any code. Needs --sha256.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def _answer(as_json: bool, value: Any, blocks: Callable[[], list[Block]]) -> None:
    if as_json:
        print(json.dumps(value, indent=2, ensure_ascii=False, default=str))
    else:
        from featuremill.jobs.render import show

        show(blocks(), sys.stdout)


def _spec(model: str, **options: Any) -> ModelSpec:
    """What the command line says of a model."""
    from pydantic import ValidationError

    from featuremill.artifacts.errors import ParameterError
    from featuremill.core.models.spec import ModelSpec

    given = {k: v for k, v in options.items() if v not in (None, False)}
    try:
        return ModelSpec.model_validate({"path": model, **given})
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"--{part}: " for part in first["loc"])
        message = f"{place}{first['msg'].removeprefix('Value error, ')}"
        raise ParameterError(message if message.endswith(".") else f"{message}.") from error


@models_app.command("show")
def show_(
    model: Model,
    framework: Annotated[
        str | None, typer.Option("--framework", help="By default what its name and content say.", show_default=False)
    ] = None,
    class_: Annotated[
        str | None,
        typer.Option("--class", metavar="MODULE:CLASS", help="What weights are put into.", show_default=False),
    ] = None,
    sha256: Sha256 = None,
    allow_pickle: AllowPickle = False,
    as_json: AsJson = False,
) -> None:
    """Show what a model is.

    Its framework, inputs, outputs, size, digest and stamp.
    """
    from featuremill.jobs.render_score import model_blocks

    facts = _facts(_spec(model, framework=framework, sha256=sha256, allow_pickle=allow_pickle, **{"class": class_}))
    _answer(as_json, facts, lambda: model_blocks(facts))


def _facts(spec: ModelSpec) -> dict[str, Any]:
    from featuremill.core.models.files import digest_of, local_path
    from featuremill.core.models.loading import framework_of, load_model, model_version
    from featuremill.core.models.stamp import read_stamp
    from featuremill.jobs.score_models import tensor_facts

    path = spec.path or ""
    framework = framework_of(spec)
    signature = load_model(spec).signature
    here = local_path(path)
    stamp = read_stamp(path)
    return {
        "path": path,
        "framework": framework,
        "bytes": sum(p.stat().st_size for p in _files(here)),
        "sha256": digest_of(here),
        "version": model_version(spec),
        "columns": list(signature.columns),
        "inputs": [tensor_facts(t) for t in signature.inputs],
        "outputs": [tensor_facts(t) for t in signature.outputs],
        "stamp": None if stamp is None else asdict(stamp),
    }


def _files(path: Path) -> list[Path]:
    return [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]


@models_app.command()
def stamp(
    model: Model,
    artifact: Annotated[
        str,
        typer.Option(
            "--artifact", metavar="REF", help="The artifact that made its training data: ROOT/NAME@ALIAS.",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Write down which artifact a model was trained with.

    Into a small file beside the model's. A score job with another artifact is refused.
    """
    from featuremill.core.models.stamp import stamp as write_stamp
    from featuremill.jobs.render import Line

    made = write_stamp(model, artifact)
    text = f"{model} is stamped: it was trained with {made.artifact}@{made.version}."
    _answer(as_json, {"model": model, **asdict(made)}, lambda: [Line(text, "good")])


@models_app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="A scikit-learn model (.skops), or a program of PyTorch (.pt2).", show_default=False
        ),
    ],
    target: Annotated[str, typer.Argument(metavar="DST", help="The ONNX file to write.", show_default=False)],
    sha256: Sha256 = None,
    allow_pickle: AllowPickle = False,
    as_json: AsJson = False,
) -> None:
    """Make an ONNX file of a scikit-learn model or a PyTorch program.

    It runs several times faster and needs neither of them. Nothing is written unless both give the same.
    """
    from featuremill.core.models.convert import convert as make
    from featuremill.jobs.render import Line

    made = make(source, target, sha256=sha256, allow_pickle=allow_pickle)
    text = (
        f"{made.path} gives what {source} gives: on {made.rows:,} rows the same labels if any, numbers at most "
        f"{made.largest_difference:.2g} apart. Its outputs: {', '.join(made.outputs)}."
    )
    _answer(as_json, asdict(made), lambda: [Line(text, "good")])

"""The JSON Schema of job files, for editors: they complete keys, parameters and values, and show what each one means.

What a transform takes is read off its class: the fields, their types and defaults, and the descriptions in its
docstring. So a transform that is added is known to editors too.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields
from typing import Any, Literal, get_type_hints

from pydantic import PydanticSchemaGenerationError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from featuremill.artifacts.errors import ParameterError, suggest
from featuremill.transforms.contract import Transform
from featuremill.transforms.registry import transform_class, transform_names

__all__ = ["job_schema", "parameter_texts", "step_schema", "transform_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

ROLE = re.compile(r":[a-z]+:`~?(?:[\w.]*\.)?(\w+)`")
"""A cross-reference in a docstring; the group is the bare name."""

STOCK: dict[str, Any] = {
    "title": "A stock MLTransform provider",
    "type": "object",
    "required": ["type"],
    "additionalProperties": False,
    "properties": {
        "type": {
            "type": "string",
            "pattern": r"^apache_beam\.ml\.transforms\.",
            "description": "The class, by its full path below apache_beam.ml.transforms.",
        },
        "config": {
            "type": "object",
            "required": ["columns"],
            "properties": {
                "columns": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "outputs": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "description": "The columns that it makes and their types, where not known: list<float32>.",
                },
            },
            "description": "Its keyword arguments. A secret is a reference, env:NAME.",
        },
    },
}


def job_schema(kind: str = "prepare") -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the job files of a kind.

    Raises
    ------
    ParameterError
        For an unknown kind.

    >>> schema = job_schema()
    >>> schema["properties"]["dataset"]["$ref"]
    '#/$defs/DatasetSpec'
    >>> job_schema("prepair")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: There is no kind of job 'prepair'. Did you mean 'prepare' or 'report'?
    """
    from featuremill.core.loading import KINDS

    if kind not in KINDS:
        raise ParameterError(f"There is no kind of job {kind!r}. {suggest(kind, list(KINDS))}", kind=kind)
    schema = KINDS[kind].model_json_schema()
    # Models may leave it out where Python code names the class; a file has to say it.
    schema["required"] = ["kind", *schema.get("required", [])]
    return {"$schema": DIALECT, "title": f"featuremill {kind} job", **{k: v for k, v in schema.items() if k != "title"}}


def step_schema() -> dict[str, Any]:
    """One entry of a job's ``transforms``: the form of each known transform, or a stock provider of Beam."""
    return {"oneOf": [*(transform_schema(transform_class(name)) for name in transform_names()), STOCK]}


def transform_schema(kind: type[Transform]) -> dict[str, Any]:
    """One transform's ``{type: …, config: …}``, with the type, default and description of each parameter.

    >>> from featuremill.transforms.numeric import Clip
    >>> config = transform_schema(Clip)["properties"]["config"]
    >>> config["required"], config["properties"]["max_value"]["default"]
    (['columns'], None)
    """
    hints, texts = get_type_hints(kind), {**parameter_texts(Transform), **parameter_texts(kind)}
    properties: dict[str, Any] = {}
    required = []
    for f in fields(kind):
        entry = _value_schema(hints[f.name])
        if f.name == "columns":
            entry["minItems"] = 1
        if f.name in texts:
            entry["description"] = texts[f.name]
        if f.default is MISSING and f.default_factory is MISSING:
            required.append(f.name)
        elif f.default is not MISSING:
            entry["default"] = list(f.default) if isinstance(f.default, tuple) else f.default
        properties[f.name] = entry
    return {
        "title": kind.__name__,
        "type": "object",
        "required": ["type", "config"],
        "additionalProperties": False,
        "properties": {
            "type": {
                "const": kind.__name__,
                "description": (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " "),
            },
            "config": {"type": "object", "required": required, "additionalProperties": False, "properties": properties},
        },
    }


def _value_schema(hint: Any) -> dict[str, Any]:
    """The JSON Schema of a parameter's type; anything, where JSON has no such type."""
    try:
        schema = TypeAdapter(hint).json_schema()
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema):
        return {}
    schema.pop("title", None)
    return schema


def parameter_texts(kind: type) -> dict[str, str]:
    """What the "Parameters" section of a class's own docstring says on each parameter, each as one line.

    >>> parameter_texts(Transform)["name"]
    'A label for people; it changes no result.'
    """
    lines = inspect.cleandoc(vars(kind).get("__doc__") or "").splitlines()
    found: dict[str, list[str]] = {}
    section: Literal["before", "inside"] = "before"
    names: list[str] = []
    for i, line in enumerate(lines):
        underline = lines[i + 1] if i + 1 < len(lines) else ""
        if line and set(underline) == {"-"}:
            section, names = ("inside" if line == "Parameters" else "before"), []
        elif section == "inside" and line and not line.startswith((" ", "-")):
            names = [n.strip() for n in line.partition(":")[0].split(",")]
        elif section == "inside" and not line:
            continue
        elif section == "inside" and line.startswith(" "):
            for name in names:
                found.setdefault(name, []).append(line.strip())
    texts = {name: ROLE.sub(r"\1", " ".join(words)).replace("``", "") for name, words in found.items()}
    return {name: text for name, text in texts.items() if text != "See Transform."}

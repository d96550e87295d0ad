"""What pydantic found wrong in a job file, in words for the person who wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any, get_args, get_origin, get_type_hints

from featuremill.artifacts.errors import FeaturemillError, suggest
from featuremill.core.models.groups import TAGS

__all__ = ["Problem", "at", "explain"]

EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "too_short": "at least {min_length} in the list",
}
"""pydantic's type of an error, and what was expected, filled from the error's context."""

UNION_TAGS = {
    "str": "a text",
    "list[str]": "a list of texts",
    "constrained-int": "a whole number above 0",
    "dict[str,literal['mean','vote']]": "a mapping of columns to these",
}
"""What pydantic adds to the place of an error for each way of reading a value that may be one thing or another."""

MAX_SHOWN = 80
"""Characters of a value in a message."""


@contextmanager
def at(*key: Any) -> Iterator[None]:
    """Errors within are about this place of the job file, unless they know better."""
    try:
        yield
    except FeaturemillError as error:
        error.facts.setdefault("key", key)
        raise


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    where: tuple[Any, ...]
    """The keys and positions that lead to it."""
    message: str


def explain(model: Any, content: Mapping[str, Any], errors: Sequence[Any]) -> list[Problem]:
    """One problem for each mistake: what was got, what was expected, and a likely correction where there is one.

    Parameters
    ----------
    model
        The pydantic model that refused the content.
    content
        What it was given.
    errors
        ``ValidationError.errors()``.
    """
    found: list[Problem] = []
    unions: dict[tuple[Any, ...], list[Any]] = {}
    misspelled: set[tuple[Any, ...]] = set()
    for error in errors:
        if error["type"] == "extra_forbidden":
            *parents, key = error["loc"]
            known = _keys_at(model, parents)
            misspelled.update((*parents, k) for k in known if f"Did you mean {k!r}?" == suggest(str(key), known))
    for error in errors:
        where, tag = _untag(content, error["loc"])
        if tag is not None:
            unions.setdefault(where[:tag], []).append((where, error))
        elif error["type"] != "missing" or where not in misspelled:
            found.append(_problem(model, content, where, error))
    return found + [_one_of_union(model, content, where, options) for where, options in unions.items()]


def _untag(content: Any, loc: Sequence[Any]) -> tuple[tuple[Any, ...], int | None]:
    """The place without pydantic's union tags, and where in it a tag stood: such a part is no key of the content."""
    where: list[Any] = []
    tag = None
    for part in loc:
        inside = (isinstance(content, Mapping) and part in content) or (
            isinstance(content, list) and isinstance(part, int) and part < len(content)
        )
        if not inside and part in TAGS:
            continue  # pydantic's word for which kind of group it is; there is only one reading
        if not inside and _union_tag(part) and not isinstance(content, Mapping):
            tag = len(where)
            continue
        where.append(part)
        content = content[part] if inside else None
    return tuple(where), tag


def _union_tag(part: Any) -> str:
    """What a part of a place stands for where it is a union tag of pydantic's; otherwise nothing."""
    if not isinstance(part, str):
        return ""
    if part.startswith("literal["):
        return "one of " + part.removeprefix("literal[").removesuffix("]").replace("'", "").replace(",", ", ")
    return UNION_TAGS.get(part, "")


def _one_of_union(model: Any, content: Any, where: tuple[Any, ...], options: list[Any]) -> Problem:
    """Where a value may be one thing or another, one sentence, about the reading that came furthest."""
    deeper = [(w, e) for w, e in options if len(w) > len(where)]
    if deeper:
        return _problem(model, content, *deeper[0])
    expected = " or ".join(dict.fromkeys(_union_tag(p) for _, e in options for p in e["loc"] if _union_tag(p)))
    value = options[0][1].get("input")
    return Problem(where, _got(value, expected) + _hint("string_type", value))


def _problem(model: Any, content: Any, where: tuple[Any, ...], error: Any) -> Problem:
    kind, value, context = error["type"], error.get("input"), error.get("ctx") or {}
    if kind == "invalid_key" or where[-1:] == ("[key]",):
        where = where[:-1] if where[-1] == "[key]" else where
        return Problem(where, f"the key {where[-1]!r} must be a text. Put it in quotes.")
    if kind == "extra_forbidden":
        known = _keys_at(model, where[:-1])
        return Problem(where, f"unknown key {where[-1]!r}. {suggest(str(where[-1]), known)}")
    if kind == "missing":
        return Problem(where, f"the key {where[-1]!r} is missing.")
    if kind == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return Problem(
            _deepest(content, where, context.get("error")), message if message[-1:] in ".?" else f"{message}."
        )
    if kind == "literal_error":
        choices = [choice.strip("'") for choice in str(context["expected"]).replace(" or ", ", ").split(", ")]
        hint = f" {suggest(value, choices)}" if isinstance(value, str) and "Did" in suggest(value, choices) else ""
        return Problem(where, f"got {_short(value)}, expected one of {', '.join(map(repr, choices))}.{hint}")
    expected = EXPECTED[kind].format(**context) if kind in EXPECTED else error["msg"]
    if kind in ("model_type", "dict_type") and (known := _keys_at(model, where)):
        expected += f" with the keys {', '.join(known)}"
    if where[:1] == ("split",) and kind == "float_type" and len(where) > 1:
        expected = f"a share between 0 and 1 for the split {where[-1]!r}"
    return Problem(where, _got(value, expected) + _hint(kind, value))


def _got(value: Any, expected: str) -> str:
    return f"there is no value, expected {expected}." if value is None else f"got {_short(value)}, expected {expected}."


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…"


def _hint(kind: str, value: Any) -> str:
    """What YAML does to values behind one's back."""
    if kind == "string_type" and isinstance(value, bool):
        return " YAML reads yes, no, on and off as true and false. Put it in quotes."
    if kind == "string_type" and isinstance(value, (int, float, date)):
        return " Put it in quotes."
    if kind == "list_type" and isinstance(value, str):
        return f" Write [{value}]."
    if kind in ("int_type", "int_from_float", "float_type", "greater_than", "greater_than_equal") and isinstance(
        value, (str, float)
    ):
        try:
            number = float(value)
        except ValueError:
            return ""
        whole = number.is_integer()
        if isinstance(value, str) and (whole or kind == "float_type"):
            return f" YAML reads it as text. Write {int(number) if whole else number}."
        if kind == "int_from_float" or (kind == "int_type" and whole):
            return f" Write {round(number)}." if whole else ""
    return ""


def _deepest(content: Any, where: tuple[Any, ...], error: Any) -> tuple[Any, ...]:
    """The place of what an error of a transform is about, where the job file has it: a parameter, or the type."""
    cause = getattr(error, "__cause__", None)
    if not isinstance(cause, FeaturemillError):
        return where
    for part in where:
        content = content[part]
    if isinstance(content.get("config"), Mapping) and cause.facts.get("parameter") in content["config"]:
        return (*where, "config", cause.facts["parameter"])
    return (*where, "type")


def _keys_at(model: Any, where: Sequence[Any]) -> list[str]:
    """The keys that the model at a place in the file has."""
    found = [model]
    for part in where:
        found = [inner for kind in found for inner in _below(kind, part)]
    fields = [f for kind in found for f in _model_of(kind).items()]
    return list(dict.fromkeys(field.alias or name for name, field in fields))


def _model_of(annotation: Any) -> dict[str, Any]:
    """The fields of a model, or of the models that an annotation lets one choose from."""
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return dict(annotation.model_fields)
    if get_origin(annotation) in (dict, list):
        return {}
    return {name: field for option in get_args(annotation) for name, field in _model_of(option).items()}


def _below(annotation: Any, part: Any) -> list[Any]:
    """What may stand below a key of a mapping, or at a position of a list."""
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        if part in annotation.model_fields:
            return [annotation.model_fields[part].annotation]
        extra = get_type_hints(annotation).get("__pydantic_extra__")
        return [get_args(extra)[1]] if get_origin(extra) is dict else []
    if get_origin(annotation) is dict:
        return [get_args(annotation)[1]]
    if get_origin(annotation) is list:
        return list(get_args(annotation))
    return [inner for option in get_args(annotation) for inner in _below(option, part)]

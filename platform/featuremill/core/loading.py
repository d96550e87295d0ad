"""Reading a job file: YAML to a model, with the place in the file of everything that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from featuremill.artifacts.errors import RequestError, suggest
from featuremill.core.explain import explain
from featuremill.core.jobfile import PrepareJob
from featuremill.core.reportfile import ReportJob
from featuremill.core.scorefile import ScoreJob

__all__ = ["KINDS", "Job", "JobFileError", "job_from_mapping", "load_job", "place_of"]

Job = PrepareJob | ScoreJob | ReportJob
KINDS: Mapping[str, type[Job]] = {"prepare": PrepareJob, "score": ScoreJob, "report": ReportJob}
"""The kinds of jobs, and the model of each."""

YAML_HINTS = {
    "mapping values are not allowed": "Is the line indented like the others? A text with ': ' in it needs quotes.",
    "'\\t'": "Indent with spaces, never with tabs.",
    "found another document": "A job file is one document; remove the line ---.",
    "could not find expected ':'": "Is there a line without a colon?",
    "could not determine a constructor": "A job file has plain values only, no !tags.",
}
"""What usually lies behind a message of the YAML parser."""


class JobFileError(RequestError, ValueError):
    """A job file that cannot be run as it is; the message has a line for each thing that is wrong."""


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> Job:
    """The job in a YAML file.

    Parameters
    ----------
    path
        The file.
    overrides
        ``key.path=value`` each, the value in YAML: ``dataset.path=/tmp/out``, ``transforms.0.config.top_k=100``. A
        later one wins over an earlier one; ``split=`` empties a key.

    Raises
    ------
    JobFileError
        Naming for each mistake its line, the value, what was expected and, where there is one, a likely correction.

    >>> load_job("nowhere/flights.yaml")
    Traceback (most recent call last):
    ...
    featuremill.core.loading.JobFileError: nowhere/flights.yaml: there is no such job file.
    """
    path = Path(path)
    text = _read(path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise JobFileError(_not_yaml(path, error), path=str(path)) from error
    _refuse_twice(path, node)
    if not isinstance(content, dict):
        got = "it is empty" if content is None else f"this is {_a_kind_of(content)}"
        raise JobFileError(
            f"{path}: a job file is a mapping that begins with kind: prepare, score or report; {got}.", path=str(path)
        )
    places = _Places(str(path), node)
    for override in overrides:
        content = _override(content, override, places)
    return _validate(content, places, path=str(path))


def job_from_mapping(content: Mapping[str, Any]) -> Job:
    """The job that a mapping (a job file's content) describes; errors as in :func:`load_job`, without lines.

    >>> job_from_mapping({"kind": "prepair"})
    Traceback (most recent call last):
    ...
    featuremill.core.loading.JobFileError: kind: got 'prepair', expected one of 'prepare', 'score', 'report'. \
Did you mean 'prepare' or 'report'?
    """
    return _validate(dict(content), _Places())


def place_of(path: str | Path, overrides: Sequence[str], facts: Mapping[str, Any]) -> str | None:
    """Where a job file says what an error is about, from the error's `facts`; None: nowhere in particular.

    For errors that only the data can tell: a column that is not in the source or of a type that a transform cannot
    take, a source that is not there, a filter that does not fit.
    """
    path = Path(path)
    try:
        text = _read(path)
        content, places = yaml.safe_load(text), _Places(str(path), yaml.compose(text, Loader=yaml.SafeLoader))
        for override in overrides:
            content = _override(content, override, places)
        where = _where(content, facts)
    except (JobFileError, yaml.YAMLError, KeyError, TypeError):
        return None
    return places(where) if where else None


def _where(content: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Any] | None:
    """The keys that lead to what an error's facts are about."""
    if "key" in facts:
        return _deeper(content, facts["key"], facts)
    kind, column, parameter = facts.get("transform"), facts.get("column"), facts.get("parameter")
    source_kind, source = next((k, v) for k, v in content["source"].items() if v)
    if isinstance(kind, str):
        for i, step in enumerate(content["transforms"]):
            columns = (step.get("config") or {}).get("columns") or []
            if step["type"] == kind and column in columns:
                return ["transforms", i, "config", "columns", columns.index(column)]
            if step["type"] == kind and column is None:
                return ["transforms", i]
        return None
    if parameter in source:
        return ["source", source_kind, parameter]
    keys = (content.get("split") or {}).get("by") or []
    if column in keys:
        return ["split", "by", keys.index(column)]
    paths = source.get("path") or ()
    if "path" in facts and (facts["path"] == paths or facts["path"] in paths):
        return ["source", source_kind, "path"]
    return None


def _deeper(content: Any, key: Sequence[Any], facts: Mapping[str, Any]) -> list[Any]:
    """The place `key`, and from there on as far down as the facts name keys, positions or values that are there."""
    for part in key:
        content = content[part]
    found = list(key)
    below = {"input": "inputs", "output": "outputs"}
    wanted = [facts.get("parameter")]
    for name in ("input", "output", "column"):
        wanted += [below.get(name), facts[name]] if name in facts else []
    for name in (w for w in wanted if isinstance(w, str)):
        at: Any = None
        if isinstance(content, Mapping):
            at = name if name in content else "columns" if name in (content.get("columns") or ()) else None
        elif isinstance(content, list) and name in content:
            at = content.index(name)
        if at is not None:
            content, found = content[at], [*found, at]
            if at == "columns" and isinstance(content, list):
                return [*found, content.index(name)]
    return found


def _validate(content: dict[str, Any], places: _Places, **facts: Any) -> Job:
    if "kind" not in content:
        place = places(["kind"])
        raise JobFileError(f"{place}: the key 'kind' is missing. Write kind: prepare, score or report.", **facts)
    kind = content["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        expected = ", ".join(repr(k) for k in KINDS)
        hint = f" {suggest(kind, list(KINDS))}" if isinstance(kind, str) else ""
        raise JobFileError(f"{places(['kind'])}: got {kind!r}, expected one of {expected}.{hint}", **facts)
    try:
        return KINDS[kind].model_validate(content)
    except ValidationError as error:
        found = explain(KINDS[kind], content, error.errors())
        ordered = sorted(found, key=lambda p: places.line(p.where))
        problems = [": ".join(part for part in (places(p.where), p.message) if part) for p in ordered]
        raise JobFileError("\n".join(problems), problems=problems, **facts) from error


# --- YAML -----------------------------------------------------------------------------------------------------------


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        hint = f" {suggest(path.name, beside)}" if beside else ""
        raise JobFileError(f"{path}: there is no such job file.{hint}", path=str(path)) from None
    except IsADirectoryError:
        raise JobFileError(f"{path}: this is a folder, expected a job file.", path=str(path)) from None
    except UnicodeDecodeError as error:
        raise JobFileError(
            f"{path}: this is no UTF-8 text ({error.reason} at byte {error.start}).", path=str(path)
        ) from error
    except OSError as error:
        raise JobFileError(f"{path}: cannot be read: {error.strerror}.", path=str(path)) from error


def _not_yaml(path: Path, error: yaml.YAMLError) -> str:
    """One line: where the parser stopped, why, and what usually lies behind it."""
    mark, opened = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    problem = " ".join((getattr(error, "problem", None) or str(error)).split()).removeprefix("but ")
    place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
    hint = next((h for sign, h in YAML_HINTS.items() if sign in problem), "")
    if not hint and mark and opened and "flow" in str(getattr(error, "context", "")) and opened.line != mark.line:
        hint = f"What opens in line {opened.line + 1} is not closed."
    return f"{path}{place}: this is not YAML: {problem}.{' ' + hint if hint else ''}"


def _refuse_twice(path: Path, node: Any) -> None:
    """YAML forbids a key that comes twice, but the parser would quietly let the last one win."""
    seen: set[int] = set()
    pending = [node]
    while pending:
        node = pending.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)
        if isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode) and key.value in first and key.value != "<<":
                    raise JobFileError(
                        f"{path}:{line}: the key {key.value!r} is in line {first[key.value]} already. Remove one.",
                        path=str(path),
                    )
                if isinstance(key, yaml.ScalarNode):
                    first[key.value] = line
                pending.append(value)


class _Places:
    """What to call a place in the file: ``file:line: key.path``, or the --set that put the value there."""

    def __init__(self, path: str = "", node: Any = None) -> None:
        self._path = path
        self._node = node
        self._overrides: dict[tuple[str, ...], str] = {}

    def note(self, parts: Iterable[str], override: str) -> None:
        self._overrides[tuple(parts)] = override

    def __call__(self, where: Sequence[Any]) -> str:
        parts = tuple(str(w) for w in where)
        key = ".".join(parts)
        for i in range(len(parts), 0, -1):
            override = self._overrides.get(parts[:i])
            if override is not None:
                return f"--set {override}" + (f": {key}" if i < len(parts) else "")
        place = f"{self._path}:{self.line(where)}" if self._path else ""
        return ": ".join(part for part in (place, key) if part)

    def line(self, where: Sequence[Any]) -> int:
        """The line of a place; of its nearest parent where the place itself is not there; 0 without a file."""
        node = self._node
        if node is None:
            return 0
        line: int = node.start_mark.line + 1
        for part in where:
            if isinstance(node, yaml.MappingNode):
                found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                found = (node.value[part], node.value[part])
            else:
                found = None
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        return line


# --- --set ----------------------------------------------------------------------------------------------------------


def _override(content: dict[str, Any], override: str, places: _Places) -> dict[str, Any]:
    """The content with one value replaced; nothing is changed in place, since YAML's anchors share values."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise JobFileError(f"--set {override}: expected key=value, such as dataset.path=/tmp/out.", override=override)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise JobFileError(f"--set {override}: the value is not YAML. Put it in quotes.", override=override) from error
    places.note(parts, override)

    def wrong(message: str) -> JobFileError:
        return JobFileError(f"--set {override}: {message}", override=override)

    replaced: dict[str, Any] = _replace(content, parts, 0, value, wrong)
    return replaced


def _replace(target: Any, parts: list[str], at: int, value: Any, wrong: Callable[[str], JobFileError]) -> Any:
    if at == len(parts):
        return value
    part, above = parts[at], ".".join(parts[:at])
    if target is None:
        target = {}
    if isinstance(target, dict):
        return {**target, part: _replace(target.get(part), parts, at + 1, value, wrong)}
    if isinstance(target, list):
        if not part.isdecimal() or int(part) >= len(target):
            raise wrong(f"{above} is a list of {len(target)}, counted from 0; {part!r} is none of its positions.")
        i = int(part)
        return [*target[:i], _replace(target[i], parts, at + 1, value, wrong), *target[i + 1 :]]
    raise wrong(f"{above} is {_a_kind_of(target)}, {target!r}; it has no {part!r}.")


def _a_kind_of(value: Any) -> str:
    kinds: list[tuple[type, str]] = [
        (bool, "true or false"),
        (str, "a text"),
        (int, "a number"),
        (float, "a number"),
        (list, "a list"),
    ]
    return next((words for kind, words in kinds if isinstance(value, kind)), "a single value")

"""Great Expectations suites: from a file or written inline, checked before anything runs.

A suite is the JSON that Great Expectations writes itself, or the same as a mapping in a job file. It is built with
Great Expectations' own classes, so what loads here means there what it means here. Nothing in a suite is ever executed:
expectations are looked up by name among those that Great Expectations ships, and conditions are data.

Great Expectations is imported when a suite is loaded and not before: it takes seconds.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featuremill.artifacts.errors import (
    FeaturemillError,
    MissingArtifactError,
    MissingExtraError,
    ParameterError,
    ParameterTypeError,
    RequestError,
    suggest,
)
from featuremill.artifacts.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SEVERITIES", "Suite", "expectation_types", "import_gx", "label", "load_suite"]

SEVERITIES = ("critical", "warning", "info")
"""How bad a failure is; only the first closes a gate. The names are those of Great Expectations."""

SUITE_KEYS = ("name", "expectations", "meta", "notes", "id", "suite_parameters")
EXPECTATION_KEYS = ("type", "kwargs", "severity", "meta", "notes", "description", "id", "rendered_content")
LEGACY_KEYS = {"expectation_suite_name": "name", "expectation_type": "type", "data_asset_type": "", "ge_cloud_id": ""}
"""Keys of releases before 1.0, with what they are called now."""

_NAME = re.compile(r"\w[\w -]*(\.[\w -]+)*")
"""What a suite may be called: its name, with a folder for each dot, is a path in Great Expectations' stores."""

OWN_EXPECTATIONS = "great_expectations.expectations.core."
NO_ANALYTICS = "GX_ANALYTICS_ENABLED"


def import_gx() -> Any:
    """The module ``great_expectations``, with its usage statistics switched off.

    Releases before 1.24 send usage statistics when the variable ``GX_ANALYTICS_ENABLED`` does not forbid it.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    os.environ[NO_ANALYTICS] = "false"
    try:
        import great_expectations
        import great_expectations.expectations
    except ImportError as error:
        raise MissingExtraError(
            'Suites need Great Expectations: pip install "featuremill[quality]".',
            package="great_expectations", extra="quality",
        ) from error
    return great_expectations


@contextmanager
def quiet() -> Iterator[None]:
    """Without Great Expectations' warnings about the suites of earlier releases, which are no fault of the reader."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def expectation_types() -> dict[str, Any]:
    """The expectation classes that Great Expectations ships, by type; never what a plugin has registered."""
    import_gx()
    from great_expectations.expectations import registry

    names = sorted(registry.list_registered_expectation_implementations())
    classes = {name: registry.get_expectation_impl(name) for name in names}
    return {name: kind for name, kind in classes.items() if kind.__module__.startswith(OWN_EXPECTATIONS)}


@dataclass(frozen=True)
class Suite:
    """A checked suite.

    Parameters
    ----------
    name
        Its name.
    where
        Where it was written down, for messages: a path, or the key of a job file.
    expectations
        Great Expectations' own expectation objects, in the order of the file.
    meta
        What the suite says about itself.
    notes
        Remarks for people.
    """

    name: str
    where: str
    expectations: tuple[Any, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)
    notes: Any = None

    def to_gx(self) -> Any:
        """A new ``great_expectations.ExpectationSuite``, belonging to no data context."""
        from great_expectations.core import ExpectationSuite

        # A suite takes only expectations that have no id yet.
        return ExpectationSuite(
            name=self.name, expectations=[e.copy(update={"id": None}) for e in self.expectations],
            meta=dict(self.meta) or None, notes=self.notes,
        )

    def to_json(self) -> dict[str, Any]:
        """The suite as Great Expectations writes it to a file; loads back to an equal suite."""
        found: dict[str, Any] = self.to_gx().to_json_dict()
        return found


def label(suite: Suite, position: int) -> str:
    """How messages name an expectation: where it stands, its type and its columns.

    >>> spec = {"expectations": [{"type": "expect_column_to_exist", "kwargs": {"column": "x"}}]}
    >>> label(load_suite(spec), 0)
    "suite, expectation 1 (expect_column_to_exist of 'x')"
    """
    expectation = suite.expectations[position]
    columns = columns_of(expectation)
    of = f" of {', '.join(repr(c) for c in columns)}" if columns else ""
    return f"{suite.where}, expectation {position + 1} ({expectation.expectation_type}{of})"


def columns_of(expectation: Any) -> tuple[str, ...]:
    """The columns that an expectation is about; none for one about the table."""
    if expectation.expectation_type.startswith("expect_table_"):
        return ()
    one_each = [getattr(expectation, name, None) for name in ("column", "column_A", "column_B")]
    return tuple(c for c in [*one_each, *(getattr(expectation, "column_list", None) or ())] if isinstance(c, str))


# --- reading --------------------------------------------------------------------------------------------------------


def load_suite(spec: str | os.PathLike[str] | Mapping[str, Any], *, where: str = "suite") -> Suite:
    """A suite from a JSON file (a path or a URL), or from a mapping of the same form.

    Written inline, a suite may go without a name. `where` says where the value stands, for messages.

    Raises
    ------
    MissingExtraError
        When Great Expectations is not installed.
    MissingArtifactError
        When there is no such file.
    ParameterError, ParameterTypeError
        When the JSON is broken (with the line), a key or an expectation is unknown (with what looks alike), a parameter
        is wrong, there is no expectation, or the suite is of a release before 1.0.

    Examples
    --------
    >>> spec = {"name": "flights", "expectations": [
    ...     {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "carrier"}, "severity": "warning"}]}
    >>> suite = load_suite(spec)
    >>> suite.name, len(suite.expectations), suite.expectations[0].severity.value
    ('flights', 1, 'warning')
    >>> spec["expectations"][0]["type"] = "expect_column_values_to_not_be_nul"
    >>> load_suite(spec)
    Traceback (most recent call last):
    featuremill.artifacts.errors.ParameterError: suite, expectation 1: there is no expectation
    'expect_column_values_to_not_be_nul'. Did you mean 'expect_column_values_to_not_be_null' ...
    """
    if isinstance(spec, str | os.PathLike):
        content, where = read_json(os.fspath(spec)), os.fspath(spec)
    else:
        content = spec
    checked_keys(content, SUITE_KEYS, where, "a suite: {name: …, expectations: [{type: …, kwargs: {…}}]}")
    name = content.get("name", "suite")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ParameterError(
            f"{where}: name got {name!r}, expected a name of letters, digits, spaces and . _ - for its file.",
            parameter="name", value=name,
        )
    listed = content.get("expectations")
    if not isinstance(listed, list | tuple) or not listed:
        raise ParameterError(
            f"{where}: expectations got {listed!r}, expected a list of at least one expectation. "
            "Leave the suite out to check nothing.", parameter="expectations",
        )
    if content.get("suite_parameters"):
        raise no_parameters(where, content["suite_parameters"])
    expectations = tuple(build(item, f"{where}, expectation {i}") for i, item in enumerate(listed, start=1))
    meta, notes = content.get("meta") or {}, content.get("notes")
    if not isinstance(meta, Mapping):
        raise ParameterTypeError(f"{where}: meta got {meta!r}, expected a mapping.", parameter="meta")
    return Suite(name=name, where=where, expectations=expectations, meta=dict(meta), notes=notes)


def read_json(path: str) -> Any:
    """The content of a JSON file; the place of what is wrong with it."""
    folder, file = posixpath.split(path)
    try:
        data = open_store(folder or ".").get(file)
    except MissingArtifactError as error:
        raise MissingArtifactError(f"There is no suite {path}.", path=path) from error
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ParameterError(f"{path} is no text in UTF-8 (byte {error.start}).", path=path) from error
    except json.JSONDecodeError as error:
        raise ParameterError(
            f"{path}, line {error.lineno}, column {error.colno}: this is no JSON: {error.msg}.",
            path=path, line=error.lineno, column=error.colno,
        ) from error
    except ValueError as error:
        raise ParameterError(f"{path}: {error}", path=path) from error


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON. Leave the bound out instead.")


def checked_keys(content: Any, known: tuple[str, ...], where: str, expected: str) -> None:
    """Refuse what is no mapping, keys of old releases, and unknown keys."""
    if not isinstance(content, Mapping):
        raise ParameterTypeError(f"{where} got {content!r:.200}, expected {expected}.", value=content)
    for key in content:
        if key in LEGACY_KEYS:
            new = LEGACY_KEYS[key]
            todo = f"Rename it to {new!r}" if new else "Remove it"
            raise ParameterError(
                f"{where}: {key!r} is of a release of Great Expectations before 1.0. {todo}.", parameter=key
            )
        if key not in known:
            raise ParameterError(
                f"{where}: unknown key {key!r}, expected {expected}. {suggest(str(key), known)}", parameter=key
            )


def build(item: Any, where: str) -> Any:
    """One expectation, made by its own class."""
    checked_keys(item, EXPECTATION_KEYS, where, "{type: …, kwargs: {…}, severity: …}")
    kind, kwargs = item.get("type"), item.get("kwargs") or {}
    types = expectation_types()
    if kind not in types:
        custom = f"{where}: there is no expectation {kind!r}. {suggest(str(kind), sorted(types))}"
        hint = "" if isinstance(kind, str) and kind.startswith(("expect_", "unexpected_")) else " Expected its type."
        raise ParameterError(f"{custom}{hint} Expectations of plugins are not run.", parameter="type", value=kind)
    where = f"{where} ({kind})"
    if not isinstance(kwargs, Mapping):
        raise ParameterTypeError(f"{where}: kwargs got {kwargs!r}, expected a mapping.", parameter="kwargs")
    if (severity := item.get("severity")) is not None and severity not in SEVERITIES:
        raise ParameterError(
            f"{where}: severity got {severity!r}, expected one of {', '.join(SEVERITIES)}.", parameter="severity"
        )
    for name, value in kwargs.items():
        if isinstance(value, Mapping) and "$PARAMETER" in value:
            raise no_parameters(f"{where}: {name}", value)
    return constructed(types[kind], item, dict(kwargs), where)


def constructed(kind: Any, item: Mapping[str, Any], kwargs: dict[str, Any], where: str) -> Any:
    """The expectation object; what its class finds wrong, in one line."""
    from great_expectations.compatibility import pydantic
    from great_expectations.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    # What was rendered when the suite was written follows from the rest.
    facts = {k: v for k, v in item.items() if k not in ("kwargs", "rendered_content") and v is not None}
    try:
        with quiet():
            return ExpectationConfiguration(kwargs=kwargs, **facts).to_domain_obj()
    except pydantic.ValidationError as error:
        raise ParameterError(f"{where}: {one_line(error, kind, kwargs)}", expectation=item["type"]) from error
    except FeaturemillError:
        raise
    except (GreatExpectationsError, TypeError, ValueError) as error:
        told = " ".join(str(error).split())
        raise ParameterError(f"{where}: {told.rstrip('.')}.", expectation=item["type"]) from error


def one_line(error: Any, kind: Any, kwargs: Mapping[str, Any]) -> str:
    """What pydantic found, a sentence for each parameter; of a union's many complaints, the first.

    Raised by Great Expectations' own classes, whose messages are about Python types.
    """
    known = [n for n in kind.__fields__ if n not in ("id", "meta", "notes", "rendered_content", "batch_id", "windows")]
    found: dict[str, str] = {}
    for fault in error.errors():
        name = str(fault["loc"][0])
        if name in found or (name == "__root__" and found):
            continue
        if fault["type"] == "value_error.extra":
            found[name] = f"unknown parameter {name!r}. {suggest(name, known)}"
        elif fault["type"] == "value_error.missing" and len(fault["loc"]) == 1:
            found[name] = f"the parameter {name!r} is missing."
        elif name == "row_condition":
            found[name] = (
                f"row_condition got {kwargs.get(name)!r}, expected a condition such as "
                "{type: comparison, column: {name: …}, operator: '>', parameter: 0}."
            )
        elif name == "__root__":
            found[name] = f"{fault['msg'].rstrip('.')}."
        else:
            found[name] = f"{name} got {kwargs.get(name)!r}: {fault['msg'].rstrip('.')}."
    return " ".join(found.values())


def no_parameters(where: str, value: Any) -> RequestError:
    """The error for a suite that waits for values from elsewhere."""
    return ParameterError(
        f"{where} got {value!r}: suite parameters get their values where Great Expectations runs a suite. "
        "Write the value itself.", value=value,
    )

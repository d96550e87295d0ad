"""Conditions on what a text can be read as: a date, JSON, JSON of a schema. They run Python for each distinct text."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import ColumnTypeError, MissingExtraError, ParameterError
from featuremill.core.predicates import family
from featuremill.core.quality.statistics.conditions import ValueCondition

__all__ = ["DateParseable", "JsonParseable", "MatchesJsonSchema", "MatchesStrftime"]


class _Readable(ValueCondition):
    """A text is read by a function that raises, or answers False, where it cannot."""

    costly: ClassVar[bool] = True

    @abstractmethod
    def reader(self) -> Callable[[str], bool]:
        """Whether one text can be read."""

    def of_values(self, values: pa.Array) -> pa.BooleanArray:
        if pt.is_null(values.type):
            return values.cast(pa.bool_())
        read = self.reader()
        return pa.array([None if v is None else read(v) for v in values.to_pylist()], pa.bool_())

    def check(self, fields: Sequence[pa.Field]) -> None:
        if family(fields[0].type) not in ("text", "null"):
            raise ColumnTypeError(
                f"{fields[0].name!r} is {fields[0].type}; {type(self).__name__} is asked of texts.",
                column=fields[0].name,
                type=str(fields[0].type),
            )
        self.reader()


@dataclass(frozen=True)
class DateParseable(_Readable):
    """``dateutil`` can read the text as a date or a time."""

    def reader(self) -> Callable[[str], bool]:
        parse = _dateutil_parse()

        def read(text: str) -> bool:
            try:
                parse(text)
            except (ValueError, OverflowError):
                return False
            return True

        return read


def _dateutil_parse() -> Callable[[str], Any]:
    try:
        from dateutil.parser import parse
    except ImportError as error:
        raise MissingExtraError(
            'This check needs python-dateutil: pip install "featuremill[quality]".', package="python-dateutil"
        ) from error
    read: Callable[[str], Any] = parse
    return read


@dataclass(frozen=True)
class MatchesStrftime(_Readable):
    """``datetime.strptime`` can read the text with a format."""

    format: str

    def reader(self) -> Callable[[str], bool]:
        def read(text: str) -> bool:
            try:
                datetime.strptime(text, self.format)  # noqa: DTZ007  # whether it parses is all that is asked
            except ValueError:
                return False
            return True

        return read


@dataclass(frozen=True)
class JsonParseable(_Readable):
    """The text is JSON."""

    def reader(self) -> Callable[[str], bool]:
        def read(text: str) -> bool:
            try:
                json.loads(text)
            except (ValueError, RecursionError):
                return False
            return True

        return read


@dataclass(frozen=True)
class MatchesJsonSchema(_Readable):
    """The text is JSON that a JSON schema (given as JSON) allows; a text that is no JSON fails."""

    schema: str

    def reader(self) -> Callable[[str], bool]:
        validator = _validator(self.schema)

        def read(text: str) -> bool:
            try:
                return bool(validator.is_valid(json.loads(text)))
            except (ValueError, RecursionError):
                return False

        return read


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    try:
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import validator_for
    except ImportError as error:
        raise MissingExtraError(
            'A JSON schema needs jsonschema: pip install "featuremill[quality]".', package="jsonschema"
        ) from error
    parsed = json.loads(schema)
    kind = validator_for(parsed)
    try:
        kind.check_schema(parsed)
    except SchemaError as error:
        raise ParameterError(f"json_schema is no JSON schema: {error.message}.", value=schema) from error
    return kind(parsed)

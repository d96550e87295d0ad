"""One metric of Great Expectations as a hashable question in plain data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from featuremill.artifacts.errors import ParameterTypeError, RequestError

__all__ = ["Metric", "UnsupportedMetric"]

BATCH_KEYS = frozenset({"batch_id", "table"})
"""Domain keyword arguments that say where the rows are, not which ones."""

TAGGED: Mapping[str, Callable[[str], Any]] = {
    "date": date.fromisoformat, "datetime": datetime.fromisoformat, "decimal": Decimal, "bytes": bytes.fromhex,
}
"""How values that JSON does not know are read back from ``{"$type": text}``."""


class UnsupportedMetric(RequestError, ValueError):
    """A metric that one pass over the rows cannot give; the message is the reason. Fact: `metric`, its name."""


@dataclass(frozen=True)
class Metric:
    """One metric of Great Expectations: its name and what it is asked of. Hashable; equal ones are the same question.

    Parameters
    ----------
    key
        The canonical JSON of name, domain and values, which :meth:`of` makes.

    >>> metric = Metric.of("column.max", {"column": "x", "batch_id": None}, {})
    >>> metric.key
    '{"domain": {"column": "x"}, "name": "column.max", "values": {}}'
    >>> metric.name, metric.domain
    ('column.max', {'column': 'x'})
    >>> Metric.of("column_values.in_set.unexpected_count", {"column": "x"}, {"value_set": [object()]})
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterTypeError: column_values.in_set.unexpected_count: <object object at ...
    """

    key: str

    @classmethod
    def of(cls, name: str, domain: Mapping[str, Any] | None = None, values: Mapping[str, Any] | None = None) -> Metric:
        """The metric of a name, domain keyword arguments and value keyword arguments, as Great Expectations names them.

        Parameters
        ----------
        domain, values
            Those of GX's ``MetricConfiguration``. Row conditions may be its condition objects.

        Raises
        ------
        ParameterTypeError
            For a value that is no plain data, date, time, decimal or bytes.
        """
        asked = {
            "name": name,
            "domain": {k: v for k, v in (domain or {}).items() if v is not None and k not in BATCH_KEYS},
            "values": {k: v for k, v in (values or {}).items() if v is not None},
        }
        try:
            return cls(json.dumps(_plain(asked), sort_keys=True, ensure_ascii=False))
        except TypeError as error:
            raise ParameterTypeError(f"{name}: {error}", metric=name) from error

    @cached_property
    def _asked(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.key, object_hook=_untagged)
        return found

    @property
    def name(self) -> str:
        """Such as "column_values.between.unexpected_count"."""
        return str(self._asked["name"])

    @property
    def domain(self) -> dict[str, Any]:
        """The domain keyword arguments that say something: without None, and without those of the batch."""
        return dict(self._asked["domain"])

    @property
    def values(self) -> dict[str, Any]:
        """The value keyword arguments, without None; sequences are lists."""
        return dict(self._asked["values"])


def _plain(value: Any) -> Any:
    """Plain data, with a tag around what JSON does not know."""
    if value is None or isinstance(value, bool | int | float | str):
        return getattr(value, "value", value)
    if isinstance(value, datetime):
        return {"$datetime": value.isoformat()}
    if isinstance(value, date):
        return {"$date": value.isoformat()}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, AbstractSet):
        return sorted((_plain(v) for v in value), key=lambda v: (type(v).__name__, str(v)))
    item: Any = getattr(value, "item", None)
    if item is not None:
        return _plain(item())
    content: Any = getattr(value, "dict", None)
    if content is not None:
        return _plain(content())
    raise TypeError(f"{value!r} is a {type(value).__name__}; expected plain data, a date, a time, a decimal or bytes.")


def _untagged(data: dict[str, Any]) -> Any:
    if len(data) == 1:
        tag, content = next(iter(data.items()))
        if tag.startswith("$") and tag[1:] in TAGGED:
            return TAGGED[tag[1:]](content)
    return data

"""The files of a model where they lie, and the digest that stands for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from featuremill.artifacts.errors import MissingArtifactError, ParameterError
from featuremill.artifacts.manifest import digest
from featuremill.artifacts.store import Store

__all__ = ["MODEL", "SETTINGS", "Described", "Source", "as_bytes"]

MODEL, SETTINGS = "model.onnx", "embedding.json"
"""The files that every model becomes."""


def as_bytes(data: Any) -> bytes:
    """The content of a file that was read, or mapped into memory."""
    return data if isinstance(data, bytes) else data.to_pybytes()


@dataclass(frozen=True)
class Described:
    """What is known of a model before it is used."""

    digest: str
    """The SHA-256 over the names and digests of all files that decide about its vectors."""
    dimension: int
    positions: int | None
    """The most tokens that it takes; None where it does not say."""
    width: int | None = None
    """How many columns it takes; None where it does not say."""


class Source:
    """The files of one model, where they lie; each is read once."""

    def __init__(self, store: Store, where: str) -> None:
        self._store = store
        self.where = where
        self._content: dict[str, bytes] = {}
        self._digests: dict[str, str] = {}

    @cached_property
    def names(self) -> list[str]:
        """The files that decide about its vectors, sorted."""
        raise NotImplementedError

    def described(self) -> Described:
        """What it is, from as little of it as will do."""
        raise NotImplementedError

    def files(self) -> dict[str, bytes]:
        """The files that it becomes, by name; they depend on it alone."""
        raise NotImplementedError

    def stamps(self) -> list[Any]:
        """When each file was written."""
        return [(name, self._store.modified(name)) for name in self.names]

    def digest(self) -> str:
        lines = [f"{self.digest_of(name)}  {name}\n" for name in self.names]
        return digest("".join(lines).encode())

    def digest_of(self, name: str) -> str:
        if name not in self._digests:
            self._digests[name] = digest(self.read(name))
        return self._digests[name]

    def read(self, name: str) -> bytes:
        if name not in self._content:
            self._content[name] = self._store.get(name)
        return self._content[name]

    def has(self, name: str) -> bool:
        try:
            return self._store.exists(name)
        except MissingArtifactError:
            return False

    def json(self, name: str, default: Any = None) -> Any:
        """What a JSON file holds; `default` where there is none."""
        if default is not None and not self.has(name):
            return default
        try:
            found = json.loads(self.read(name))
        except ValueError as error:
            raise self.wrong(f"{name} is no JSON ({error}). Copy it again") from error
        if not isinstance(found, type(default) if default is not None else dict):
            raise self.wrong(f"{name} holds no {'list' if isinstance(default, list) else 'object'}. Copy it again")
        return found

    def require(self, name: str, hint: str) -> None:
        if not self.has(name):
            raise self.wrong(f"{name} is missing. {hint}")

    def wrong(self, what: str) -> ParameterError:
        return ParameterError(f"The model {self.where}: {what}.", parameter="model", model=self.where)

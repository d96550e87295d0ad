"""The models of a step in the memory of a process: each loaded once, for all threads, and no more than allowed.

Beam's own ``KeyedModelHandler`` (2.77) is not used for models by key. Under a bound of one it had up to three models in
memory with two threads, since it counts the bound once for each and loads without a lock; all processes but one send
their rows through a socket; and a key that has no model ends the job.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition

from featuremill.core.inference.attempts import Answer, Attempts
from featuremill.core.inference.limits import Limit
from featuremill.core.models.contract import Arrays, Model, Signature
from featuremill.core.models.spec import ModelSpec
from featuremill.transforms.onnx_sessions import Choice

__all__ = ["Described", "ModelPool"]


@dataclass(frozen=True)
class Described:
    """What a model says of itself."""

    signature: Signature
    version: str
    choice: Choice | None = None
    """Where it runs, for a framework that can choose."""


class _Loaded:
    """A model in memory."""

    def __init__(self, model: Model, version: str, what: str, spec: ModelSpec, batch_rows: int | None) -> None:
        self.version = version
        self.signature = model.signature
        self.choice = model.choice
        hint = ", or batch_rows to fewer rows"
        limit = Limit(spec.timeout, what=f"{what}: one call", setting="timeout", hint=hint)
        self.attempts = Attempts(lambda arrays: limit.run(model.predict, arrays), what=what, batch_rows=batch_rows)
        self.users = 0


class ModelPool:
    """Named models, of which at most `keep` are loaded at a time.

    Its public methods take and return nothing but plain data, so that it works through Beam's ``MultiProcessShared``,
    which hands out proxies.

    Parameters
    ----------
    specs
        The models by name.
    keep
        How many stay loaded; the one that was used longest ago goes first. A model in use never goes: a call that
        would need one more waits. None: all stay.
    called
        What the models are called in messages, by name.
    """

    def __init__(
        self, specs: Mapping[str, ModelSpec], *, keep: int | None = None, called: Mapping[str, str] | None = None
    ) -> None:
        self._specs = dict(specs)
        self._keep = keep
        self._called = {name: (called or {}).get(name, name) for name in self._specs}
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self._loading: set[str] = set()
        self._described: dict[str, Described] = {}
        self._learnt = {name: spec.batch_rows for name, spec in self._specs.items()}
        """How many rows memory sufficed for, which outlives a model's stay in it."""
        self._changed = Condition()

    def load_all(self) -> None:
        """Load every model."""
        for name in self._specs:
            self.describe(name)

    def describe(self, name: str) -> Described:
        """A model's signature and version; loads it, but not once more when it was loaded before."""
        found = self._described.get(name)
        if found is None:
            with self._use(name) as loaded:
                found = Described(loaded.signature, loaded.version, loaded.choice)
        return found

    def answer(self, name: str, arrays: Arrays) -> tuple[Answer, str]:
        """What a model makes of a batch, and the version that did."""
        with self._use(name) as loaded:
            return loaded.attempts(arrays), loaded.version

    @contextmanager
    def _use(self, name: str) -> Iterator[_Loaded]:
        loaded = self._acquire(name)
        try:
            yield loaded
        finally:
            with self._changed:
                loaded.users -= 1
                self._changed.notify_all()

    def _acquire(self, name: str) -> _Loaded:
        with self._changed:
            while name not in self._loaded:
                if name not in self._loading and self._has_room():
                    self._loading.add(name)
                    break
                self._changed.wait()
            else:
                return self._used(name)
        try:
            # Without the lock: the other models go on answering meanwhile.
            loaded = self._load(name)
        except BaseException:
            with self._changed:
                self._loading.discard(name)
                self._changed.notify_all()
            raise
        with self._changed:
            self._loading.discard(name)
            self._loaded[name] = loaded
            self._described[name] = Described(loaded.signature, loaded.version, loaded.choice)
            self._changed.notify_all()
            return self._used(name)

    def _used(self, name: str) -> _Loaded:
        loaded = self._loaded[name]
        self._loaded.move_to_end(name)
        loaded.users += 1
        return loaded

    def _has_room(self) -> bool:
        """Whether one more model may be loaded, letting go of one that nobody uses if need be."""
        if self._keep is None or len(self._loaded) + len(self._loading) < self._keep:
            return True
        idle = next((name for name, loaded in self._loaded.items() if loaded.users == 0), None)
        if idle is None:
            return False
        self._learnt[idle] = self._loaded.pop(idle).attempts.batch_rows
        return True

    def _load(self, name: str) -> _Loaded:
        from featuremill.core.inference.beam_model import load_any

        spec, what = self._specs[name], self._called[name]
        limit = Limit(spec.load_timeout, what=f"{what}: loading", setting="load_timeout")
        model, version = limit.run(load_any, spec)
        return _Loaded(model, version, what, spec, self._learnt[name] or model.batch_rows)

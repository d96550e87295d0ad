"""Where a run that is under way keeps what it makes, and how that becomes a run: complete, or not at all.

Beside the place where the run will be there is a hidden one, ``.<run>.staging``, for the shards of the workers and the
states of the artifact. What becomes of it depends on where it is:

* **In a folder** everything is put together in the hidden place, and moved to its own in one step.
* **In a bucket** nothing can be moved. The shards are copied to names that tell their content, the bytes staying where
  they are; then comes the run's record, and the manifest last, by a put that fails where there is one already. The
  manifest decides: a run is there when it is, and of two runs with one name the first one's is. Whoever comes second
  takes its copies away; whoever comes first removes what a killed run may have left.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from featuremill.artifacts.errors import AlreadyExists, JobError, MissingArtifactError, RequestError
from featuremill.artifacts.store import ObjectStore

__all__ = ["MANIFEST", "RECORD", "ToBucket", "ToFolder", "Way", "way_of"]

MANIFEST = "manifest.json"
RECORD = "run.json"


def way_of(store: ObjectStore, run: str, hidden: str | None = None) -> Way:
    """The way of a run in a dataset's place; `hidden` is the staging place of one that was killed."""
    folder = store.local_path("")
    return ToBucket(store, run, hidden) if folder is None else ToFolder(folder, run)


class Way(Protocol):
    """How what is staged becomes a run."""

    hidden: str
    """The staging place, relative to the dataset's."""

    def is_taken(self) -> bool:
        """Whether there is a run of that name, or something that is none of ours."""

    def clear(self) -> None:
        """Make an empty staging place, and remove what a failed or killed run left."""

    def is_open(self) -> bool:
        """Whether the staging place is there."""

    def suffix(self, sha256: str) -> str:
        """What a shard's name ends with."""

    def take(self, shards: Mapping[str, str]) -> None:
        """Let shards, by their paths, be part of the run under names; those that are already stay so."""

    def forget(self) -> None:
        """Let no shard be part of it."""

    def publish(self, texts: Mapping[str, str]) -> None:
        """Let the run be there, with small files by their names; it is a dataset when the manifest is among them."""

    def close(self) -> None:
        """Remove the staging place."""


def _gone(path: str) -> JobError:
    return JobError(f"The shard {path} that a worker wrote has gone.", path=path)


class ToFolder:
    """On a disk: put together in a hidden folder, moved in one step."""

    def __init__(self, folder: Path, run: str) -> None:
        self.hidden = f".{run}.staging"
        self._path = folder / self.hidden
        self._final = folder / run
        self._ready = self._path / "run"

    def is_taken(self) -> bool:
        return (self._final / MANIFEST).exists() or (self._final.exists() and not (self._final / RECORD).exists())

    def clear(self) -> None:
        try:
            for leftover in (self._path, self._final):
                if leftover.exists():
                    shutil.rmtree(leftover)
            (self._path / "shards").mkdir(parents=True)
        except OSError as error:
            raise RequestError(
                f"The output folder {self._final.parent} cannot be written to: {error.strerror or error}. "
                "Choose another path or mend its permissions.",
                path=str(self._final.parent),
            ) from error

    def is_open(self) -> bool:
        return self._path.exists()

    def suffix(self, sha256: str) -> str:
        return ""

    def take(self, shards: Mapping[str, str]) -> None:
        self._ready.mkdir(parents=True, exist_ok=True)
        for path, name in shards.items():
            if not os.path.exists(path) and (self._ready / name).exists():
                continue
            if not os.path.exists(path):
                raise _gone(path)
            (self._ready / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(path, self._ready / name)

    def forget(self) -> None:
        if self._ready.exists():
            shutil.rmtree(self._ready)

    def publish(self, texts: Mapping[str, str]) -> None:
        self._ready.mkdir(exist_ok=True)
        for name, text in texts.items():
            (self._ready / name).parent.mkdir(parents=True, exist_ok=True)
            (self._ready / name).write_text(text, encoding="utf-8")
        try:
            os.rename(self._ready, self._final)
        except OSError as error:
            raise JobError(
                f"The run could not be moved to {self._final}: {error.strerror}. Another run may have taken the place.",
                path=str(self._final),
            ) from error

    def close(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


class ToBucket:
    """In a bucket: copied to final names, the manifest last and only where there is none."""

    def __init__(self, store: ObjectStore, run: str, hidden: str | None = None) -> None:
        self._store = store
        self._run = run
        # A run takes over from another of its name without seeing whether that still lives: each keeps to its own.
        self._shared = f".{run}.staging"
        self.hidden = hidden or f"{self._shared}/{uuid.uuid4().hex}"
        self._manifest = f"{run}/{MANIFEST}"
        self._copies: set[str] = set()

    def is_taken(self) -> bool:
        there = set(self._store.list(self._run))
        if self._manifest in there:
            return True
        # A run that was killed while it was copying has no record yet, but what it copied is still staged.
        return bool(there) and f"{self._run}/{RECORD}" not in there and not self._store.list(self._shared)

    def clear(self) -> None:
        self._store.check_writable()
        self._store.remove(self._run)
        self._store.remove(self._shared)
        self._store.put(f"{self.hidden}/started", b"")

    def is_open(self) -> bool:
        return self._store.exists(f"{self.hidden}/started")

    def suffix(self, sha256: str) -> str:
        # Two runs of one name never write different bytes under one name.
        return f"-{sha256[:16]}"

    def take(self, shards: Mapping[str, str]) -> None:
        root = f"{self._store.root}/"
        copies = {path.removeprefix(root): f"{self._run}/{name}" for path, name in shards.items()}
        self._copies |= set(copies.values())
        try:
            self._store.copy(copies)
        except MissingArtifactError as error:
            raise _gone(f"{root}{error.path}") from error

    def forget(self) -> None:
        self._withdraw()

    def publish(self, texts: Mapping[str, str]) -> None:
        files = {f"{self._run}/{name}": text.encode() for name, text in texts.items()}
        manifest = files.pop(self._manifest, None)
        if self._store.exists(self._manifest):
            raise self._lost()
        for path, data in files.items():
            self._store.put(path, data)
        if manifest is None:
            return
        try:
            self._store.put(self._manifest, manifest, create_only=True)
        except AlreadyExists as error:
            # The client repeats a put whose answer was an error of the server's; then what is there is ours.
            if self._store.get(self._manifest) != manifest:
                raise self._lost() from error
        # Another run of this name may have put its own record before it came second.
        for path, data in files.items():
            if not self._store.exists(path) or self._store.get(path) != data:
                self._store.put(path, data)
        self._store.remove(self._run, keep={self._manifest, *files, *self._copies})

    def _lost(self) -> JobError:
        self._withdraw()
        return JobError(
            f"{self._store.root}/{self._manifest} is there already: another run took the place. Nothing of this one "
            "was published. Run it again under another --run-id.",
            path=f"{self._store.root}/{self._run}",
        )

    def _withdraw(self) -> None:
        """Take away the copies that are not the other run's as well."""
        try:
            theirs = json.loads(self._store.get(self._manifest))["files"]
        except MissingArtifactError:
            theirs = []
        for path in self._copies - {f"{self._run}/{file['path']}" for file in theirs}:
            self._store.delete(path)
        self._copies = set()

    def close(self) -> None:
        self._store.remove(self.hidden)

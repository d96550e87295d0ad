"""Loading an artifact and applying it, in a process that has neither Beam nor TensorFlow.

Only JSON and Arrow files are read, and every one against its digest first: loading runs nothing that an artifact
brings. The classes that apply it come from ``featuremill.transforms``, the one layer above that is looked up from here,
by the names in its catalogue and when they are first needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import pyarrow as pa

from featuremill.artifacts import frames
from featuremill.artifacts.aliases import list_aliases, resolve, versions
from featuremill.artifacts.build import table_from_bytes
from featuremill.artifacts.carried import mapped_content
from featuremill.artifacts.compare import difference
from featuremill.artifacts.errors import ArtifactError, FeaturemillError, MissingArtifactError
from featuremill.artifacts.layout import GOLDEN, MODELS, PROFILE, join, version_folder
from featuremill.artifacts.manifest import MANIFEST, FileEntry, Manifest, digest
from featuremill.artifacts.names import check_name, split_reference
from featuremill.artifacts.store import Store, open_store

__all__ = ["Artifact", "Verification", "load"]

SMALL_BATCH_ROWS = 1 << 14
"""Tables cut into smaller pieces than this are put together before they are transformed."""


@dataclass(frozen=True)
class Verification:
    """What :meth:`Artifact.verify` went through."""

    files: int
    rows: int
    note: str | None = None
    """What could not be checked, and why."""


class _States(Mapping[str, pa.Table]):
    """The states by key, each decoded when it is first asked for."""

    def __init__(self, manifest: Manifest, buffers: Mapping[str, Any]) -> None:
        self._entries = {s.key: s for s in manifest.states}
        self._buffers = buffers
        self._tables: dict[str, pa.Table] = {}

    def __getitem__(self, key: str) -> pa.Table:
        if key not in self._tables:
            entry = self._entries[key]
            table = table_from_bytes(self._buffers[entry.file], entry.file)
            if table.num_rows != entry.rows:
                raise ArtifactError(
                    f"{entry.file} has {table.num_rows} rows, the manifest says {entry.rows}.", file=entry.file
                )
            self._tables[key] = table
        return self._tables[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Artifact:
    """A loaded artifact: transforms with their states, ready to apply. Get one from :func:`load`.

    It may be shared between threads, and pickled: the other process loads the same version anew.
    """

    def __init__(self, store: Store, folder: str, manifest: Manifest, buffers: Mapping[str, Any]) -> None:
        self._store = store
        self._folder = folder
        self._golden = buffers.get(GOLDEN)
        self._profile = buffers.get(PROFILE)
        self.manifest = manifest
        self.states: Mapping[str, pa.Table] = _States(manifest, buffers)
        self.files: Mapping[str, Any] = {p: data for p, data in buffers.items() if p.startswith(MODELS)}
        """What transforms brought along, by path: bytes, or a buffer mapped into memory."""

    @property
    def name(self) -> str:
        """The name under which it was published."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """16 hex digits that stand for its content."""
        return self.manifest.version

    @property
    def location(self) -> str:
        """The folder or URL of this version; :func:`load` takes it."""
        return join(self._store.root, self._folder)

    @property
    def input_schema(self) -> pa.Schema:
        """The columns of the source that it was fitted on."""
        return self.manifest.input_schema

    @property
    def output_schema(self) -> pa.Schema:
        """The columns after the last transform."""
        return self.manifest.output_schema

    def profile_json(self) -> bytes | None:
        """The profile of the rows that it was fitted on, as JSON; None where it has none."""
        return None if self._profile is None else bytes(self._profile)

    @cached_property
    def transforms(self) -> list[Any]:
        """The transforms, in order.

        Raises
        ------
        ArtifactError
            When this featuremill does not know one of them, or not with these parameters.
        """
        try:
            return list(import_module("featuremill.transforms.pipeline").from_config(self.manifest.transforms))
        except FeaturemillError as error:
            raise ArtifactError(
                f"{self.location} cannot be applied here: {error} Register your own transforms before loading; for one "
                "of featuremill's, use the release that made the artifact.",
                location=self.location,
            ) from error

    @cached_property
    def bound(self) -> Any:
        """The pipeline with its states, built when first asked for; :meth:`transform` is made of it."""
        pipeline = import_module("featuremill.transforms.pipeline").Pipeline(self.transforms, self.input_schema)
        if not pipeline.output_schema.equals(self.output_schema):
            raise ArtifactError(
                f"{self.location}: this featuremill would give {_names(pipeline.output_schema)}, the artifact promises "
                f"{_names(self.output_schema)}. Use the release that made it, or fit it again.",
                location=self.location,
            )
        return pipeline.bind(self.states, self.files)

    def transform(self, data: Any) -> Any:
        """The transformed rows, in the kind that came.

        A Table, a RecordBatch, a pandas or Polars DataFrame, a dict of lists, or one dict (one row, by the quick path).
        Row count and order stay. Columns that no transform writes pass through, and may be missing when none reads
        them. NaN in a pandas frame counts as null; integer results with nulls come back in pandas' nullable types.

        Raises
        ------
        MissingColumnError
            When a column that a transform reads is missing.
        BadRows
            When rows cannot be processed.
        ParameterTypeError
            When `data` is of another kind.
        """
        if isinstance(data, Mapping) and not self._holds_columns(data):
            return self.bound.apply_row(data)
        table, back = frames.to_table(data, self.input_schema)
        return frames.restore([self.bound.apply(batch) for batch in _batches(table)], back)

    def transform_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """One row, transformed; as :meth:`transform` does for one dict, but without asking whether it is one."""
        result: dict[str, Any] = self.bound.apply_row(row)
        return result

    @cached_property
    def _holds_columns(self) -> Callable[[Mapping[str, Any]], bool]:
        needed = self.bound.pipeline.input_columns or self.input_schema.names
        return frames.columns_test(pa.schema([self.input_schema.field(n) for n in needed]))

    def verify(self) -> Verification:
        """How many files were read again and found unchanged, and how many golden rows gave what they gave when made.

        The golden rows go through the batch path and the single-row path. Whole numbers, texts and times must be equal;
        floating-point numbers may differ in their last bits, as they do between kinds of processors.

        Raises
        ------
        ArtifactError
            Naming the file that changed, or the column and row that came out differently.
        """
        fresh = _read_manifest(self._store, self._folder)
        if fresh.to_json() != self.manifest.to_json():
            raise ArtifactError(f"{self.location}/{MANIFEST} was changed after loading.", file=MANIFEST)
        for path, entry in fresh.files.items():
            _read(self._store, self._folder, path, entry)
        note = None
        if self._golden is None:
            own = [t["type"] for t in fresh.transforms if "." in t["type"]]
            note = "There are no sample rows to be replayed" + (f": only Beam applies {own[0]}." if own else ".")
        return Verification(files=len(fresh.files) + 1, rows=self._replay(), note=note)

    def _replay(self) -> int:
        if self._golden is None:
            return 0
        table = table_from_bytes(self._golden, GOLDEN)
        rows, expected = (_struct_batch(table, side) for side in ("input", "expected"))
        got = self.bound.apply(rows)
        one_by_one = [self.bound.apply_row(row) for row in rows.to_pylist()]
        for label, found in (("the batch path", got), ("the single-row path", _like(one_by_one, got.schema))):
            what = difference(expected, found)
            if what:
                raise ArtifactError(
                    f"{self.location}: the golden rows do not come out of {label} as they did: {what}.", file=GOLDEN
                )
        return int(table.num_rows)

    def __repr__(self) -> str:
        m = self.manifest
        return f"<Artifact {self.name}@{self.version}: {len(m.transforms)} transforms, {len(m.states)} states>"

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (self.location,)


def load(reference: str | os.PathLike[str]) -> Artifact:
    """The artifact behind a reference, every file of it checked.

    Parameters
    ----------
    reference
        ``root/name@alias``, ``root/name@version``, ``root/name`` when there is exactly one version, or the folder of a
        version itself, wherever it was moved. `root` is a folder or a bucket URL.

    Raises
    ------
    MissingArtifactError
        When there is no such artifact, version or alias, or several versions and none is named.
    ArtifactError
        When a file is missing or changed, or the format is newer than this release; the message names the file.

    >>> load("/nowhere/flights@prod")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.MissingArtifactError: There is no folder /nowhere.
    """
    store, folder, wanted = _locate(os.fspath(reference))
    manifest = _read_manifest(store, folder)
    if wanted is not None and manifest.version != wanted:
        raise ArtifactError(
            f"{join(store.root, folder)} holds version {manifest.version}, not {wanted}. Restore the folder.",
            file=MANIFEST,
        )
    buffers = {path: _read(store, folder, path, entry) for path, entry in manifest.files.items()}
    return Artifact(store, folder, manifest, buffers)


def _locate(reference: str) -> tuple[Store, str, str | None]:
    """The store, the folder of the version in it, and the version that it must hold, if that is known."""
    itself = open_store(reference)
    if itself.exists(MANIFEST):
        return itself, "", None
    root, name, wanted = split_reference(reference)
    store = open_store(root)
    check_name(name, "artifact")
    version = resolve(store, name, wanted) if wanted is not None else _only_version(store, name)
    return store, version_folder(name, version), version


def _only_version(store: Store, name: str) -> str:
    there = versions(store, name)
    if len(there) == 1:
        return there[0]
    if not there:
        raise MissingArtifactError(f"There is no artifact {name!r} in {store.root}.", artifact=name)
    aliases = ", ".join(f"@{a}" for a in sorted(list_aliases(store, name))) or "none"
    raise MissingArtifactError(
        f"{store.root}/{name} has {len(there)} versions: say which. Aliases: {aliases}. "
        f"Versions: {', '.join('@' + v for v in there[:12])}{', …' if len(there) > 12 else ''}.",
        artifact=name, versions=there,
    )


def _read_manifest(store: Store, folder: str) -> Manifest:
    path = join(folder, MANIFEST)
    return Manifest.from_json(store.get(path), join(store.root, path))


def _read(store: Store, folder: str, path: str, entry: FileEntry) -> Any:
    """The checked bytes of a file, as bytes or as a mapped buffer."""
    where = join(store.root, folder, path)
    try:
        data = mapped_content(store, join(folder, path))
    except (MissingArtifactError, OSError) as error:
        raise ArtifactError(f"{where} is missing. Restore it, or publish the artifact again.", file=path) from error
    if digest(data) != entry.sha256:
        raise ArtifactError(
            f"{where} is damaged: its digest is not the one in the manifest. Restore it, or publish again.",
            file=path,
        )
    return data


def _batches(table: pa.Table) -> list[pa.RecordBatch]:
    batches = table.to_batches()
    if len(batches) > 1 and table.num_rows < SMALL_BATCH_ROWS * len(batches):
        batches = table.unify_dictionaries().combine_chunks().to_batches()
    return batches or [pa.RecordBatch.from_arrays([pa.array([], f.type) for f in table.schema], schema=table.schema)]


def _struct_batch(table: pa.Table, side: str) -> pa.RecordBatch:
    column = table.column(side).combine_chunks()
    return pa.RecordBatch.from_struct_array(column)


def _like(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array([row[f.name] for row in rows], f.type) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _names(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name}: {f.type}" for f in schema)

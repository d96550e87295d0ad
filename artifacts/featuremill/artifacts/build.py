"""The files of an artifact, made from its transforms, their states and some rows.

Equal content gives equal bytes: tables are written in one batch, without metadata, and without what Arrow leaves behind
under nulls and beyond slices.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import import_module, metadata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.carried import FolderFiles, mapped_content
from featuremill.artifacts.errors import ArtifactError, BadRows, MissingArtifactError, ParameterError
from featuremill.artifacts.layout import ATTRIBUTES, GOLDEN, STOCK, file_name, state_path
from featuremill.artifacts.manifest import MANIFEST, ROW_COUNTS, FileEntry, Manifest, StateEntry, digest
from featuremill.artifacts.names import check_name
from featuremill.artifacts.schemas import bare_schema, schema_to_json
from featuremill.artifacts.store import Store

__all__ = [
    "build_files",
    "read_state",
    "state_bytes",
    "table_from_bytes",
    "vocabulary_text",
    "write_fitted",
    "write_state",
]

UNPUBLISHED = "unpublished"
"""The name in the manifest of an artifact that has none yet; publishing gives it one."""

GOLDEN_ROWS = 8
"""At most so many example rows are kept."""

_PACKAGES = ("featuremill", "pyarrow", "numpy", "apache-beam")


def state_bytes(table: pa.Table) -> bytes:
    """An Arrow IPC file with one batch; equal tables give equal bytes, however they were chunked or sliced.

    >>> whole = pa.table({"x": [1, None, 3]})
    >>> cut = pa.concat_tables([pa.table({"x": [0, 1]}).slice(1), pa.table({"x": [None, 3]})])
    >>> state_bytes(whole) == state_bytes(cut)
    True
    """
    table = table.unify_dictionaries().combine_chunks()
    schema = bare_schema(table.schema)
    # `take` writes every slot anew: offsets from zero, zeros under nulls, no bits beyond the end.
    rows = pa.array(np.arange(table.num_rows))
    arrays = [_one_array(column).take(rows) for column in table.columns]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    if column.num_chunks == 0:
        return pa.array([], column.type)
    raise ParameterError(f"A state column of type {column.type} is too large for one batch; use a large_ type.")


def table_from_bytes(data: Any, where: str) -> pa.Table:
    """The table in an Arrow IPC file (bytes or a buffer, not copied), fully validated.

    Raises
    ------
    ArtifactError
        Naming `where`, when it is no such file, or one that lies about itself.
    """
    try:
        with pa.ipc.open_file(pa.BufferReader(data)) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ArtifactError(f"{where} is no readable Arrow file: {error}.", file=where) from error
    return table


def vocabulary_text(tokens: pa.ChunkedArray) -> bytes:
    r"""Tokens for people: one a line, in order, UTF-8; ``\n``, ``\r`` and ``\`` inside a token are written as escapes.

    Binary tokens are written as they are, null as ``\N``.

    >>> vocabulary_text(pa.chunked_array([["a", "b\nc"]]))
    b'a\nb\\nc\n'
    """
    type_ = tokens.type.value_type if pt.is_dictionary(tokens.type) else tokens.type
    if not (pt.is_binary(type_) or pt.is_large_binary(type_) or pt.is_fixed_size_binary(type_)):
        tokens = tokens.cast(pa.large_string())
    tokens = tokens.cast(pa.large_binary())
    for plain, escape in ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r")):
        if pc.any(pc.match_substring(tokens, plain)).as_py():
            tokens = pc.replace_substring(tokens, plain, escape)
    lines = pc.fill_null(tokens, b"\\N").combine_chunks()
    if not len(lines):
        return b""
    whole = pa.LargeListArray.from_arrays(pa.array([0, len(lines)], pa.int64()), lines)
    text: bytes = pc.binary_join(whole, pa.scalar(b"\n", pa.large_binary()))[0].as_py()
    return text + b"\n"


def build_files(
    transforms: Sequence[Any],
    schema: pa.Schema,
    states: Mapping[str, pa.Table],
    *,
    name: str = UNPUBLISHED,
    golden: pa.RecordBatch | None = None,
    rows: Mapping[str, int] | None = None,
    provenance: Mapping[str, Any] | None = None,
    warnings: Iterable[str] = (),
    attributes: bytes | None = None,
) -> dict[str, bytes]:
    """All files of an artifact by relative path, the manifest among them, ready for `publish`.

    Parameters
    ----------
    transforms
        The ``featuremill.transforms.Transform`` objects, in order.
    schema
        The source's.
    states
        By slot key, exactly those that the transforms need.
    golden
        A few rows of the source, of which the first 8 are kept, less those that cannot be processed; their expected
        outputs are computed here. None: no rows.
    rows
        How many rows were ``seen``, ``used`` for the statistics, and ``set_aside``.
    provenance
        JSON-ready facts: the job and its digest, the source, the split that the statistics come from. ``created`` and
        ``packages`` are filled in where they are missing.
    warnings
        Sentences for people.
    attributes
        The content of ``attributes.json`` for the stock ``MLTransform(read_artifact_location=…)``, if any.

    Raises
    ------
    ParameterError
        When states are missing or not asked for, or a fact is nothing JSON can hold.
    """
    pipeline = import_module("featuremill.transforms.pipeline").Pipeline(list(transforms), bare_schema(schema))
    needed = {slot.key for slot in pipeline.slots()}
    if needed != set(states):
        raise ParameterError(
            f"The transforms need the states {sorted(needed)}, got {sorted(states)}.", needed=sorted(needed)
        )
    files = {state_path(key): state_bytes(table) for key, table in states.items()}
    files |= pipeline.file_contents()
    files |= _accompanying(pipeline, states, golden, attributes, files)
    files[MANIFEST] = _manifest(pipeline, states, files, name, rows, provenance, warnings).to_json()
    return files


def write_state(store: Store, key: str, state: pa.Table) -> str:
    """Write a state into the folder of an artifact in the making; its path there. Writing it again changes nothing."""
    path = state_path(key)
    store.put(path, state_bytes(state))
    return path


def read_state(store: Store, path: str) -> pa.Table:
    """A state that :func:`write_state` wrote, mapped into memory where the store is a local folder.

    The caller vouches for the file: no digest is known yet.
    """
    local = store.local_path(path)
    where = f"{store.root}/{path}"
    if local is None:
        return table_from_bytes(store.get(path), where)
    try:
        with pa.memory_map(str(local)) as file:
            return table_from_bytes(file.read_buffer(), where)
    except FileNotFoundError as error:
        raise ArtifactError(f"{where} does not exist.", file=where) from error


def write_fitted(
    store: Store,
    pipeline: Any,
    paths: Mapping[str, str],
    *,
    name: str = UNPUBLISHED,
    golden: pa.RecordBatch | None = None,
    rows: Mapping[str, int] | None = None,
    provenance: Mapping[str, Any] | None = None,
    warnings: Iterable[str] = (),
    attributes: bytes | None = None,
    bound: Any = None,
    more: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Finish an artifact whose states, and files that transforms bring, lie in `store` already: write the other files,
    the manifest last.

    The parameters are those of :func:`build_files`, with a ``Pipeline`` and the states' paths by slot key. `bound` is
    that pipeline with its states, where the caller has it: binding builds the indexes of all vocabularies. `more` is
    files that go with the artifact and change nothing that it computes, by path.

    Returns
    -------
    Manifest
        As written.
    """
    needed = {slot.key for slot in pipeline.slots()}
    if needed != set(paths):
        raise ParameterError(
            f"The transforms need the states {sorted(needed)}, got {sorted(paths)}.", needed=sorted(needed)
        )
    states = {key: read_state(store, path) for key, path in paths.items()}
    brought = (*paths.values(), *_stock_files(store), *pipeline.file_paths)
    files = {path: mapped_content(store, path) for path in brought}
    beside = _accompanying(pipeline, states, golden, attributes, FolderFiles(store), bound) | dict(more or {})
    manifest = _manifest(pipeline, states, files | beside, name, rows, provenance, warnings)
    for path, data in beside.items():
        store.put(path, data)
    store.put(MANIFEST, manifest.to_json())
    return manifest


def _stock_files(store: Store) -> list[str]:
    """What Beam's own steps left in the folder, which is not there yet when nothing was written."""
    try:
        return list(store.list(STOCK.rstrip("/")))
    except MissingArtifactError:
        return []


def _accompanying(
    pipeline: Any,
    states: Mapping[str, pa.Table],
    golden: pa.RecordBatch | None,
    attributes: bytes | None,
    brought: Mapping[str, Any],
    bound: Any = None,
) -> dict[str, bytes]:
    """The files beside the states: golden rows, readable vocabularies, the stock attributes."""
    files: dict[str, bytes] = {}
    for slot in sorted(pipeline.slots(), key=lambda s: s.key):
        table = states[slot.key]
        if {"token", "count"} <= set(table.column_names):
            text = vocabulary_text(table.column("token"))
            taken = {path.removeprefix("vocabulary/") for path in files}
            files["vocabulary/" + file_name(slot.slot, taken, ".txt")] = text
    if attributes is not None:
        files[ATTRIBUTES] = attributes
    if any(getattr(t, "beam_only", False) for t in pipeline.transforms):
        return files  # What becomes of a row only Beam can tell.
    if golden is None:
        golden, expected = (pa.RecordBatch.from_pylist([], s) for s in (pipeline.input_schema, pipeline.output_schema))
    else:
        golden, expected = _golden_pair(bound or pipeline.bind(states, brought), golden.slice(0, GOLDEN_ROWS))
    pair = [golden.to_struct_array(), expected.to_struct_array()]
    files[GOLDEN] = state_bytes(pa.table(pair, names=["input", "expected"]))
    return files


def _golden_pair(bound: Any, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The rows that can be processed, and what becomes of them."""
    while True:
        try:
            return rows, bound.apply(rows)
        except BadRows as bad:
            if not bad.rows:
                raise
            good = np.ones(rows.num_rows, dtype=bool)
            good[bad.rows] = False
            rows = rows.filter(pa.array(good))


def _manifest(
    pipeline: Any,
    states: Mapping[str, pa.Table],
    files: Mapping[str, Any],
    name: str,
    rows: Mapping[str, int] | None,
    provenance: Mapping[str, Any] | None,
    warnings: Iterable[str],
) -> Manifest:
    check_name(name, "artifact")
    entries = {path: FileEntry(digest(data), len(data)) for path, data in files.items()}
    found = []
    for slot in sorted(pipeline.slots(), key=lambda s: s.key):
        path = state_path(slot.key)
        entry = entries[path]
        found.append(
            StateEntry(slot.key, slot.transform, slot.slot, path, entry.sha256, entry.bytes, states[slot.key].num_rows)
        )
    return Manifest(
        name=name,
        transforms=tuple(import_module("featuremill.transforms.pipeline").to_config(pipeline.transforms)),
        states=tuple(found),
        schemas={"input": schema_to_json(pipeline.input_schema), "output": schema_to_json(pipeline.output_schema)},
        rows=_row_counts(rows),
        provenance=_provenance(provenance),
        files=entries,
        warnings=tuple(warnings),
    )


def _row_counts(rows: Mapping[str, int] | None) -> dict[str, int]:
    counts = dict.fromkeys(ROW_COUNTS, 0) | dict(rows or {})
    whole = all(type(v) is int and v >= 0 for v in counts.values())
    if set(counts) != set(ROW_COUNTS) or not whole or counts["used"] + counts["set_aside"] > counts["seen"]:
        raise ParameterError(
            f"rows got {counts}, expected whole numbers for {', '.join(ROW_COUNTS)}, used + set_aside at most seen.",
            rows=counts,
        )
    return counts


def _provenance(given: Mapping[str, Any] | None) -> dict[str, Any]:
    created = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"created": created, "packages": dict(_packages())} | dict(given or {})


@cache
def _packages() -> Mapping[str, str]:
    packages = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return packages

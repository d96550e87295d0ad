"""Record batches into files that appear whole, when the bundle that they came in is done.

A file is written under a hidden name and renamed (in a bucket: uploaded) when Beam ends the bundle, before it takes the
bundle for done. So nobody sees half a file, and nothing that Beam counts as done can be lost. What happens when a
bundle fails after its files appeared depends on how these are named; see :class:`AppendFiles`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from featuremill.artifacts.store import open_store
from featuremill.core.feature_recipe import FRAGMENT, ROW, carried
from featuremill.core.files import is_local
from featuremill.core.parquet_sink import ShardFile

__all__ = ["AppendFiles"]

OPEN_FILES = 8
"""So many files a worker has open at a time; batches of a fragment usually come one after the other."""


class AppendFiles(beam.DoFn):  # type: ignore[misc]
    """Batches in; Parquet files in a folder, and nothing out.

    Parameters
    ----------
    folder
        Local or in a bucket; made with the first file.
    schema
        What is written. Columns of the source may be carried under other names; a column that a batch does not have is
        null.
    compression
        A codec's name, or "none".
    by_fragment
        One file for each fragment of a bundle, named by the fragment and its first row in it, so that a bundle that
        Beam runs again replaces its own files: every row once. Needs that a fragment is always cut in the same way, as
        a file is that is read from beginning to end within one bundle. Otherwise one file for each bundle with a name
        of its own: every row at least once.
    counter
        The name of the metric that counts rows.
    """

    def __init__(
        self, folder: str, schema: pa.Schema, *, compression: str = "snappy", by_fragment: bool, counter: str
    ) -> None:
        self.folder = folder
        self.schema = schema
        self.compression = compression
        self.by_fragment = by_fragment
        self.rows = Metrics.counter("featuremill", counter)
        self.files = Metrics.counter("featuremill", f"{counter}_files")

    def setup(self) -> None:
        self._open: dict[str, ShardFile] = {}
        self._closed: list[ShardFile] = []
        if is_local(self.folder):
            os.makedirs(self.folder, exist_ok=True)
            self._scratch = self.folder
        else:
            self._scratch = tempfile.mkdtemp(prefix="featuremill-")

    def start_bundle(self) -> None:
        self._discard()

    def process(self, batch: pa.RecordBatch) -> None:
        for fragment, rows in _by_fragment(batch) if self.by_fragment else [("", batch)]:
            if not rows.num_rows:
                continue
            if fragment not in self._open:
                if len(self._open) >= OPEN_FILES:
                    self._close(next(iter(self._open)))
                name = _name(fragment, rows) if self.by_fragment else uuid.uuid4().hex
                hidden = os.path.join(self._scratch, f".part-{name}.{uuid.uuid4().hex}.tmp")
                self._open[fragment] = ShardFile(hidden, self.schema, self.compression)
            self._open[fragment].write(_fitted(rows, self.schema))

    def finish_bundle(self) -> None:
        for fragment in list(self._open):
            self._close(fragment)
        for file in self._closed:
            self._publish(file)
            self.rows.inc(file.rows)
            self.files.inc()
        self._closed = []

    def teardown(self) -> None:
        self._discard()
        if not is_local(self.folder):
            os.rmdir(self._scratch)

    def _close(self, fragment: str) -> None:
        file = self._open.pop(fragment)
        file.close()
        self._closed.append(file)

    def _publish(self, file: ShardFile) -> None:
        name = Path(file.path).name.removeprefix(".").partition(".")[0] + ".parquet"
        if is_local(self.folder):
            os.replace(file.path, os.path.join(self.folder, name))
            return
        open_store(self.folder).upload(name, Path(file.path))
        os.remove(file.path)

    def _discard(self) -> None:
        """Forget a bundle that failed."""
        for file in self._open.values():
            file.discard()
        for file in self._closed:
            Path(file.path).unlink(missing_ok=True)
        self._open, self._closed = {}, []


def _name(fragment: str, rows: pa.RecordBatch) -> str:
    """A name that is the same whenever the same rows are written."""
    first = rows.column(ROW)[0].as_py()
    digest = hashlib.sha256(fragment.encode()).hexdigest()[:16]
    return f"{digest}-{'file' if first is None else f'{first:012d}'}"


def _by_fragment(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows by the fragment that they are of; most batches are of one."""
    if not batch.num_rows:
        return
    keys = batch.column(FRAGMENT)
    names = pc.unique(keys.dictionary_decode() if pa.types.is_dictionary(keys.type) else keys).to_pylist()
    for name in names:
        yield name, batch if len(names) == 1 else batch.filter(pc.equal(keys.cast(pa.string()), name))


def _fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    there = set(batch.schema.names)
    arrays = []
    for field in schema:
        name = carried(field.name) if carried(field.name) in there else field.name
        array = batch.column(name) if name in there else pa.nulls(batch.num_rows, field.type)
        arrays.append(array if array.type == field.type else array.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)

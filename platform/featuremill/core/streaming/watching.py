"""Parquet files that appear in a folder: each read once, as batches of the columns that the job needs.

The listing is Beam's ``Watch``, which keeps what was seen in the runner's own state, so that a worker that is replaced
does not read a file again. A file without a footer is still being written, or damaged: it is looked at again until it
can be read, or has not changed for a while.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.coders import StrUtf8Coder, TimestampCoder, TupleCoder
from apache_beam.io.watch import PollResult, TerminationCondition, Watch
from apache_beam.metrics import Metrics
from apache_beam.utils.timestamp import Timestamp
from pyarrow import fs

from featuremill.artifacts.errors import FeaturemillError, RequestError
from featuremill.core.feature_recipe import numbered
from featuremill.core.files import SourceFile, filesystem, find_files, is_local
from featuremill.core.parquet_fragment import open_parquet
from featuremill.core.parquet_source import ParquetSource
from featuremill.core.streaming.letters import letters_without_rows
from featuremill.transforms.arrays import is_list, is_text
from featuremill.transforms.rejects import Reject
from featuremill.transforms.row_values import conform

__all__ = ["NewFile", "ReadFiles", "WatchFiles"]

REJECTED = "rejected"
PATIENCE = 300.0
"""Seconds after which Beam's direct runner hears of a folder in which nothing happens."""

NewFile = tuple[str, str]
"""A file's path, and why it cannot be read; the reason is empty when it can."""


@dataclass(frozen=True)
class _Seen:
    """A file as the listing shows it."""

    path: str
    size: int
    changed: float
    """Seconds since 1970."""


def _listing(path: str) -> list[_Seen]:
    """The files that are there now; none when there is no folder yet."""
    try:
        found = find_files(path)
    except RequestError:
        return []
    return [seen for seen in map(_look_at, found) if seen is not None]


def _look_at(file: SourceFile) -> _Seen | None:
    path = os.path.abspath(filesystem(file.path)[1]) if is_local(file.path) else file.path
    system, inner = filesystem(path)
    info = system.get_file_info(inner)
    if info.type != fs.FileType.File:
        return None
    return _Seen(path, int(info.size), info.mtime_ns / 1e9)


@lru_cache(maxsize=100_000)
def _complete(seen: _Seen) -> bool:
    """Whether the file has its footer. Kept, so that a listing opens only what is new."""
    if seen.size == 0:
        return False
    try:
        open_parquet(seen.path).close()
    except FeaturemillError:
        return False
    return True


class _Poll:
    """One look at the folder: what can be read, and what never will be.

    Beam 2.77's own direct runner comes back at once, whatever interval it is told; so the interval is kept here. What
    one look gives is one bundle there, whose files appear when all of it is done: so a look gives a few files, and the
    next comes at once where there are more. And each bundle leaves some 25 kB in its memory for good: so with
    `patience` a look that finds nothing is repeated here.
    """

    def __init__(self, every: float, settle: float, at_once: int | None, patience: float) -> None:
        self.every = every
        self.settle = settle
        self.at_once = at_once
        self.patience = patience
        self.token = uuid.uuid4().hex

    def __call__(self, path: str) -> PollResult[NewFile]:
        polls = _polls.setdefault(self.token, _Polls())
        until = time.monotonic() + self.patience
        while True:
            polls.wait(self.every)
            now = Timestamp.now()
            found = polls.some([file for seen in _listing(path) if (file := self._judge(seen))], self.at_once)
            if polls.fresh or time.monotonic() >= until:
                return PollResult.incomplete(found, timestamp=now).with_watermark(now)

    def _judge(self, seen: _Seen) -> NewFile | None:
        if _complete(seen):
            return seen.path, ""
        if time.time() - seen.changed < self.settle:
            return None
        return seen.path, f"{seen.path}: not a complete Parquet file, and unchanged for {self.settle:g} s."


class _Polls:
    """The looks of this process at one folder. To lose them costs nothing: Beam keeps what was read."""

    def __init__(self) -> None:
        self._last = -math.inf
        self._given: set[str] = set()
        self._more = False
        self.fresh = False
        """Whether the last look found something new."""

    def wait(self, every: float) -> None:
        """Until `every` seconds have passed since the last look, unless that left something over."""
        pause = self._last + every - time.monotonic()
        if pause > 0 and not self._more:
            time.sleep(pause)
        self._last = time.monotonic()

    def some(self, found: Sequence[NewFile], at_once: int | None) -> list[NewFile]:
        """What was given before, which Beam may have forgotten, and so many others."""
        new = [file for file in found if file[0] not in self._given]
        self._more = at_once is not None and len(new) > at_once
        new = new[:at_once]
        before = [file for file in found if file[0] in self._given]
        self._given.update(path for path, _ in new)
        self.fresh = bool(new)
        return [*before, *new]


_polls: dict[str, _Polls] = {}


class _Until(TerminationCondition):  # type: ignore[misc]
    """Ends after a time in all, or after a time without a new file."""

    def __init__(self, stop_after: float | None, idle: float | None) -> None:
        self.stop_after = stop_after
        self.idle = idle

    def for_new_input(self, now: Timestamp, element: Any) -> tuple[Timestamp, Timestamp]:
        return now, now

    def on_seen_new_output(self, now: Timestamp, state: tuple[Timestamp, Timestamp]) -> tuple[Timestamp, Timestamp]:
        return state[0], now

    def can_stop_polling(self, now: Timestamp, state: tuple[Timestamp, Timestamp]) -> bool:
        total, quiet = ((now - then).micros / 1e6 for then in state)
        return (self.stop_after is not None and total >= self.stop_after) or (
            self.idle is not None and quiet >= self.idle
        )

    def state_coder(self) -> TupleCoder:
        return TupleCoder([TimestampCoder(), TimestampCoder()])


def _path_of(file: NewFile) -> str:
    return file[0]


class WatchFiles(beam.PTransform):  # type: ignore[misc]
    """The files of a folder as they appear, each once: an unbounded PCollection of :data:`NewFile`.

    A file is known by its path: another content under the same name is not a new file. Names that begin with ``_`` or
    ``.`` are skipped, so that whoever writes under such a name and then renames is never read too early.

    Parameters
    ----------
    path
        A folder, or a pattern; it need not exist yet.
    every
        Seconds between two looks.
    settle
        Seconds after its last change in which a file that cannot be read is taken for unfinished.
    stop_after, idle
        End after so many seconds in all, or without a new file. None: never.
    at_once
        For Beam's direct runner: how many new files a look gives at most. What is left over comes with the next look,
        and Beam is not told of looks that find nothing. None: all files, all looks.
    """

    def __init__(
        self,
        path: str,
        *,
        every: float,
        settle: float = 60.0,
        stop_after: float | None = None,
        idle: float | None = None,
        at_once: int | None = None,
    ) -> None:
        super().__init__()
        self.path = path
        self.every = every
        self.at_once = at_once
        self.settle = settle
        self.until = _Until(stop_after, idle)

    @property
    def _patience(self) -> float:
        """Seconds in which looks that find nothing are not told; the end is not much later than it should be."""
        if self.at_once is None:
            return 0.0
        return min([PATIENCE, *(t / 10 for t in (self.until.stop_after, self.until.idle) if t is not None)])

    def expand(self, start: beam.pvalue.PBegin) -> beam.PCollection[NewFile]:
        return (
            start
            | "Path" >> beam.Create([self.path], reshuffle=False)
            | "Watch"
            >> Watch(
                _Poll(self.every, self.settle, self.at_once, self._patience),
                poll_interval=self.every,
                termination=self.until,
                output_coder=TupleCoder([StrUtf8Coder(), StrUtf8Coder()]),
                output_key_fn=_path_of,
                output_key_coder=StrUtf8Coder(),
            )
            | "File" >> beam.Map(lambda found: found[1]).with_output_types(NewFile)
        )


class ReadFiles(beam.PTransform):  # type: ignore[misc]
    """Files in; out ``batches`` with ``_fragment`` and ``_row``, and ``rejected`` with the dead letters.

    A file that has gone, is damaged, or lacks a column costs itself: one dead letter without values. What was read
    before the damage was found goes on.

    Parameters
    ----------
    schema
        The columns to read, with the types that they get; a value that does not fit costs the file.
    where
        Which rows, as a SQL condition.
    batch_rows
        The largest number of rows of a batch.
    spread
        Whether files are dealt out to other workers than the one that found them. Beam's direct runner would hold them
        back until the watch ends.
    """

    def __init__(
        self, schema: pa.Schema, *, where: str | None = None, batch_rows: int = 131_072, spread: bool = False
    ) -> None:
        super().__init__()
        self.schema = schema
        self.where = where
        self.batch_rows = batch_rows
        self.spread = spread

    def expand(self, files: beam.PCollection[NewFile]) -> Any:
        if self.spread:
            files = files | "Spread" >> beam.Reshuffle()
        return files | "Read" >> beam.ParDo(_ReadFile(self.schema, self.where, self.batch_rows)).with_outputs(
            REJECTED, main="batches"
        )


class _ReadFile(beam.DoFn):  # type: ignore[misc]
    def __init__(self, schema: pa.Schema, where: str | None, batch_rows: int) -> None:
        self.schema = schema
        self.where = where
        self.batch_rows = batch_rows
        self.files = Metrics.counter("featuremill", "files_read")
        self.unread = Metrics.counter("featuremill", "files_not_read")
        self.rows = Metrics.counter("featuremill", "rows_read")

    def process(self, file: NewFile) -> Iterator[Any]:
        path, problem = file
        rows = 0
        try:
            for batch in () if problem else self._batches(path):
                yield numbered(batch, path, rows)
                rows += batch.num_rows
        except (FeaturemillError, pa.ArrowException, OSError) as error:
            problem = str(error)
        self.rows.inc(rows)
        if not problem:
            self.files.inc()
            return
        self.unread.inc()
        # Of a file that cannot be read it is not known how many rows it has: one letter stands for it.
        reject = Reject(rows or -1, problem.splitlines()[0])
        yield beam.pvalue.TaggedOutput(REJECTED, letters_without_rows([reject], path))

    def _batches(self, path: str) -> Iterator[pa.RecordBatch]:
        source = ParquetSource(path, where=self.where, columns=self.schema.names, batch_rows=self.batch_rows)
        text = [f.name for f in self.schema if is_text(f.type) and not is_list(f.type)]
        for fragment in source.fragments():
            for batch in fragment.batches(None, dictionary=text):
                yield _fitted(batch, self.schema, path)


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, path: str) -> pa.RecordBatch:
    """The batch in the types of `schema`; a text column may stay dictionary-encoded."""
    try:
        arrays = [conform(batch.column(field.name), field) for field in schema]
    except RequestError as error:
        raise RequestError(f"{path}: {error}", column=error.column) from error
    return pa.RecordBatch.from_arrays(arrays, schema.names)

"""Parquet files as a source of rows: which files, one schema for all, and the fragments to read.

Planning reads footers only. Files whose types differ are refused, because a silent promotion here would be another
number in a feature later. Row groups and partitions that the filter rules out are never read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from featuremill.artifacts.errors import MissingColumnError, ParameterError, ParameterTypeError, RequestError, suggest
from featuremill.core.files import SourceFile, as_paths, filesystem, find_files, is_local, partition_columns
from featuremill.core.parquet_fragment import ParquetFragment, open_parquet
from featuremill.core.predicates import Predicate, Range, T, family
from featuremill.core.where import Where

__all__ = ["ParquetSource"]

FOOTER_THREADS = 16
"""Footers read at the same time; they wait for storage more than they compute."""

TIME_UNITS = {"milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
"""Parquet's names of the units of timestamps, and Arrow's."""


@dataclass(frozen=True)
class _Group:
    """One row group: its rows, compressed bytes, bytes before compression, and the filter's possible truth values."""

    rows: int
    bytes: int
    plain_bytes: int
    outcomes: int


@dataclass(frozen=True)
class _Footer:
    file: SourceFile
    schema: pa.Schema
    groups: tuple[_Group, ...]


# --- schemas --------------------------------------------------------------------------------------------------------


def loose_type(type_: pa.DataType) -> pa.DataType:
    """A type without what only concerns its layout: nullability and names inside lists, the width of indices.

    >>> loose_type(pa.list_(pa.field("element", pa.dictionary(pa.int8(), pa.string()), nullable=False)))
    ListType(list<item: dictionary<values=string, indices=int32, ordered=0>>)
    """
    if pt.is_dictionary(type_):
        return pa.dictionary(pa.int32(), loose_type(type_.value_type))
    if pt.is_list(type_):
        return pa.list_(loose_type(type_.value_type))
    if pt.is_large_list(type_):
        return pa.large_list(loose_type(type_.value_type))
    if pt.is_fixed_size_list(type_):
        return pa.list_(loose_type(type_.value_type), type_.list_size)
    if pt.is_struct(type_):
        return pa.struct([(f.name, loose_type(f.type)) for f in type_])
    if pt.is_map(type_):
        return pa.map_(loose_type(type_.key_type), loose_type(type_.item_type))
    return type_


def common_schema(found: Sequence[tuple[str, pa.Schema]], columns: Sequence[str] | None) -> pa.Schema:
    """The schema of all files, in the order of the first, every column nullable and without metadata.

    Only `columns` are compared, where given. Where the indices of a dictionary differ in width, they become int32.

    Raises
    ------
    RequestError
        Naming the file, the column and both types, where a file does not fit the first.
    """
    first_path, first = found[0]
    names = [n for n in first.names if columns is None or n in columns]
    types = {n: first.field(n).type for n in names}
    for path, schema in found[1:]:
        _same_columns(path, schema, first_path, first, columns)
        for name in names:
            here, there = schema.field(name).type, types[name]
            if here == there:
                continue
            if loose_type(here) != loose_type(there):
                raise RequestError(
                    f"{path}: column {name!r} is {here}, but in {first_path} it is {there}. All files of a source need "
                    f"the same types: rewrite the file, leave it out, or leave the column out with columns=[…].",
                    path=path,
                    column=name,
                    type=str(here),
                    expected=str(there),
                )
            if pt.is_dictionary(here):
                types[name] = pa.dictionary(pa.int32(), there.value_type, ordered=here.ordered and there.ordered)
    return pa.schema([(n, types[n]) for n in names])


def _same_columns(
    path: str, schema: pa.Schema, first_path: str, first: pa.Schema, columns: Sequence[str] | None
) -> None:
    relevant = set(columns) if columns is not None else set(schema.names) | set(first.names)
    for name in first.names:
        if name in relevant and name not in schema.names:
            raise RequestError(
                f"{path}: column {name!r} is missing, but {first_path} has it. {suggest(name, schema.names)} All files "
                f"of a source need the same columns.",
                path=path,
                column=name,
            )
    for name in schema.names:
        if name in relevant and name not in first.names:
            raise RequestError(
                f"{path}: column {name!r} is not in {first_path}. All files of a source need the same columns: rewrite "
                f"the file, leave it out, or name the columns to read with columns=[…].",
                path=path,
                column=name,
            )


# --- footers --------------------------------------------------------------------------------------------------------


def _read_schema(file: SourceFile) -> pa.Schema:
    with open_parquet(file.path, error=RequestError) as opened:
        return _checked_schema(file, opened)


def _checked_schema(file: SourceFile, opened: pq.ParquetFile) -> pa.Schema:
    schema: pa.Schema = opened.schema_arrow.remove_metadata()
    twice = sorted({n for n in schema.names if schema.names.count(n) > 1})
    if twice:
        raise RequestError(
            f"{file.path}: two columns are named {twice[0]!r}. Rename one.", path=file.path, column=twice[0]
        )
    return schema


def _read_footer(
    file: SourceFile, filter_: Predicate | None, names: Sequence[str], known: Mapping[str, Range]
) -> _Footer:
    """The footer boiled down to what planning needs; the rest of it can be large and is let go."""
    with open_parquet(file.path, error=RequestError) as opened:
        schema = _checked_schema(file, opened)
        metadata = opened.metadata
        columns = _statistic_columns(metadata, schema, [n for n in names if n not in known])
        groups = []
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            outcomes = T
            if filter_ is not None:
                ranges = {
                    n: _range(group.column(i), metadata.schema.column(i), schema.field(n).type)
                    for n, i in columns.items()
                }
                outcomes = filter_.outcomes({**ranges, **known})
            size = sum(group.column(i).total_compressed_size for i in range(group.num_columns))
            groups.append(_Group(group.num_rows, size, group.total_byte_size, outcomes))
    return _Footer(file, schema, tuple(groups))


def _statistic_columns(metadata: pq.FileMetaData, schema: pa.Schema, names: Sequence[str]) -> dict[str, int]:
    """Where flat columns lie in the file. A name with a dot could be a path, so it is left out."""
    flat = {}
    for index in range(len(metadata.schema)) if names else ():
        column = metadata.schema.column(index)
        if column.path in names and "." not in column.path and column.max_repetition_level == 0:
            flat[column.path] = index
    return {n: i for n, i in flat.items() if n in schema.names and not pt.is_nested(schema.field(n).type)}


def _range(chunk: pq.ColumnChunkMetaData, column: pq.ColumnSchema, type_: pa.DataType) -> Range:
    """What the statistics of a column chunk say; anything odd counts as unknown."""
    statistics = chunk.statistics
    if statistics is None:
        return Range()
    may_null = not statistics.has_null_count or statistics.null_count > 0
    all_null = bool(statistics.has_null_count and statistics.null_count == chunk.num_values)
    low = high = None
    if statistics.has_min_max:
        try:
            low, high = (_bound(statistics, column, type_, end) for end in ("min", "max"))
        except (ValueError, pa.ArrowException):
            low = high = None  # such as a text that was cut within a character
    if low is None or high is None or _is_nan(low) or _is_nan(high):
        low = high = None
    return Range(low, high, may_null=may_null, all_null=all_null)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _bound(statistics: pq.Statistics, column: pq.ColumnSchema, type_: pa.DataType, end: str) -> Any:
    """One end of a column chunk's values in the terms of `Range`, or None."""
    logical = json.loads(column.logical_type.to_json())
    match family(type_):
        case "date":
            value = getattr(statistics, f"{end}_raw")
            return value if logical.get("Type") == "Date" and isinstance(value, int) else None
        case "timestamp":
            value = getattr(statistics, f"{end}_raw")
            same_unit = TIME_UNITS.get(logical.get("timeUnit", "")) == type_.unit
            return value if same_unit and isinstance(value, int) else None
        case "text" | "bytes":
            value = getattr(statistics, end)
            return value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else None
        case "boolean" | "integer":
            value = getattr(statistics, end)
            return int(value) if isinstance(value, int) else None
        case "float":
            value = getattr(statistics, end)
            return value if isinstance(value, float) else None
        case "decimal":
            value = getattr(statistics, end)
            return value if isinstance(value, Decimal) else None
        case _:
            return None


def _partition_range(value: int | date | str | None) -> Range:
    if value is None:
        return Range(all_null=True)
    known = (
        (value - date(1970, 1, 1)).days
        if isinstance(value, date)
        else value.encode()
        if isinstance(value, str)
        else value
    )
    return Range(known, known, may_null=False, may_nan=False)


def _cut(groups: Sequence[_Group], rows: int, size: int) -> Iterator[list[int]]:
    """Consecutive row groups, as many as stay within `rows` and `size` bytes before compression; at least one."""
    part: list[int] = []
    part_rows = part_size = 0
    for index, group in enumerate(groups):
        if part and (part_rows + group.rows > rows or part_size + group.plain_bytes > size):
            yield part
            part, part_rows, part_size = [], 0, 0
        part.append(index)
        part_rows += group.rows
        part_size += group.plain_bytes
    if part:
        yield part


def _absolute(path: str) -> str:
    # A worker may run in another folder.
    return os.path.abspath(filesystem(path)[1]) if is_local(path) else path


@dataclass(frozen=True)
class _Plan:
    """What planning found, once."""

    schema: pa.Schema
    footers: tuple[_Footer, ...]
    fragments: tuple[ParquetFragment, ...]


@dataclass(frozen=True)
class ParquetSource:
    """Rows of Parquet files.

    Parameters
    ----------
    path
        A file, a folder (with all folders below), a pattern such as ``"data/**/*.parquet"``, or a list of those; local,
        ``gs://``, ``s3://`` or ``az://``. Names that begin with ``_`` or ``.`` are skipped. Folders named
        ``column=value`` become columns, after those of the files: int64, date32 or string, whatever fits all values.
    where
        Which rows to keep, see :class:`Where`. Row groups and files that cannot hold such rows are not read.
    columns
        Which columns to keep, and their order; None: all, in the order of the first file. Files may differ in others.
    hive
        Whether folder names give columns.
    batch_rows
        The largest number of rows of a batch.
    batch_bytes
        About the largest size of a batch, in bytes before compression; bounds the rows where rows are wide.
    fragment_rows, fragment_bytes
        How many rows, and bytes before compression, of one file make a fragment; a row group is never split.

    Examples
    --------
    >>> import tempfile, pyarrow.parquet as pq
    >>> folder = tempfile.mkdtemp()
    >>> pq.write_table(pa.table({"origin": ["JFK", "EWR"], "dep_delay": [5, None]}), f"{folder}/a.parquet")
    >>> source = ParquetSource(folder, where="dep_delay >= 0")
    >>> source.schema.names
    ['origin', 'dep_delay']
    >>> [batch.to_pylist() for fragment in source.fragments() for batch in fragment.batches(["origin"])]
    [[{'origin': 'JFK'}]]
    >>> ParquetSource(folder, columns=["orign"]).schema
    Traceback (most recent call last):
    featuremill.artifacts.errors.MissingColumnError: columns: there is no column 'orign'. Did you mean 'origin'?
    """

    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    where: str | None = None
    columns: Sequence[str] | None = None
    hive: bool = True
    batch_rows: int = 131_072
    batch_bytes: int = 128 << 20
    fragment_rows: int = 1 << 20
    fragment_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", as_paths(self.path))
        if self.columns is not None:
            if isinstance(self.columns, str) or not all(isinstance(c, str) for c in self.columns):
                raise ParameterTypeError(f"columns must be a list of names, got {self.columns!r}.", parameter="columns")
            object.__setattr__(self, "columns", tuple(self.columns))
            twice = sorted({c for c in self.columns if list(self.columns).count(c) > 1})
            if twice or not self.columns:
                got = f"{twice[0]!r} twice" if twice else "an empty list"
                raise ParameterError(
                    f"columns got {got}, expected each column once, at least one.", parameter="columns"
                )
        for name in ("batch_rows", "batch_bytes", "fragment_rows", "fragment_bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ParameterTypeError(f"{name} must be a whole number, got {value!r}.", parameter=name, value=value)
            if value < 1:
                raise ParameterError(f"{name} got {value}, expected 1 or more.", parameter=name, value=value)
        if self.where is not None:
            Where(self.where)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_plan"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def schema(self) -> pa.Schema:
        """The columns of every batch, with their exact types; all nullable, no metadata.

        Raises
        ------
        RequestError
            When there are no files, one cannot be read, files do not fit together, or the filter does not fit them.
        """
        return self._plan.schema

    @property
    def rows(self) -> int | None:
        """How many rows the fragments give; None when a filter leaves that to the reading."""
        known = [f.rows for f in self._plan.fragments]
        return None if any(r is None for r in known) else sum(r or 0 for r in known)

    def reading(self) -> AbstractContextManager[ParquetSource]:
        """The source to read from, within the block: itself."""
        return nullcontext(self)

    def fragments(self, reads: Sequence[Sequence[str]] = ()) -> list[ParquetFragment]:
        """The rows in pieces, sorted by file and row group; empty when no row can be there.

        The sets of columns to be read make no difference here: any can be read of every fragment.

        The cut depends on the files and on `fragment_rows` and `fragment_bytes` alone: a filter leaves fragments out,
        and the others keep their keys.
        """
        return list(self._plan.fragments)

    def describe(self) -> dict[str, Any]:
        """What the source is made of, JSON-ready: for plans and provenance.

        ``digest`` covers the files' names below `path`, their sizes and rows: a moved copy has the same. ``rows`` and
        ``bytes`` are those of the files, before the filter; ``rows_planned`` those of the fragments, an upper bound.
        """
        plan = self._plan
        listing = [[f.file.name, f.file.size, sum(g.rows for g in f.groups)] for f in plan.footers]
        text = json.dumps(sorted(listing), ensure_ascii=False, separators=(",", ":"))
        return {
            "kind": "parquet",
            "path": list(self.path) if isinstance(self.path, tuple) else self.path,
            "where": None if self.where is None else str(Where(self.where)),
            "columns": None if self.columns is None else list(self.columns),
            "files": len(plan.footers),
            "rows": sum(rows for _, _, rows in listing),
            "bytes": sum(f.file.size for f in plan.footers),
            "fragments": len(plan.fragments),
            "rows_planned": sum(f.group_rows for f in plan.fragments),
            "digest": "sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        }

    # --- planning ---------------------------------------------------------------------------------------------------

    @cached_property
    def _plan(self) -> _Plan:
        files = find_files(self.path)
        partition, values = partition_columns(files) if self.hive else (pa.schema([]), [{} for _ in files])
        first = self._all_columns(_read_schema(files[0]), partition, files[0])
        self._chosen(first)
        where = None if self.where is None else Where(self.where)
        filter_ = None if where is None else where.bind(first)
        names = [] if where is None else where.columns

        def read(file_and_values: tuple[SourceFile, dict[str, Any]]) -> _Footer:
            file, known = file_and_values
            return _read_footer(file, filter_, names, {n: _partition_range(v) for n, v in known.items()})

        with ThreadPoolExecutor(min(FOOTER_THREADS, len(files))) as pool:
            footers = tuple(pool.map(read, zip(files, values, strict=True)))
        needed = None if self.columns is None else [*self.columns, *names]
        stored = common_schema([(f.file.path, f.schema) for f in footers], needed)
        whole = self._all_columns(stored, partition, files[0])
        if where is not None:
            where.bind(whole)
        schema = self._chosen(whole)
        return _Plan(schema, footers, tuple(self._fragments(footers, values, whole, schema)))

    def _all_columns(self, stored: pa.Schema, partition: pa.Schema, file: SourceFile) -> pa.Schema:
        both = sorted(set(stored.names) & set(partition.names))
        if both:
            raise RequestError(
                f"{file.path}: the column {both[0]!r} is in the file and in the folder names, and they could differ. "
                f"Read with hive=False to take the file's.",
                path=file.path,
                column=both[0],
            )
        return pa.schema([*stored, *partition])

    def _chosen(self, whole: pa.Schema) -> pa.Schema:
        if self.columns is None:
            return whole
        for name in self.columns:
            if name not in whole.names:
                raise MissingColumnError(
                    f"columns: there is no column {name!r}. {suggest(name, whole.names)}",
                    column=name,
                    parameter="columns",
                )
        return pa.schema([whole.field(name) for name in self.columns])

    def _fragments(
        self, footers: Sequence[_Footer], values: Sequence[dict[str, Any]], whole: pa.Schema, schema: pa.Schema
    ) -> Iterator[ParquetFragment]:
        parts = [
            (footer, known, part)
            for footer, known in zip(footers, values, strict=True)
            for part in _cut(footer.groups, self.fragment_rows, self.fragment_bytes)
        ]
        width = max(5, len(str(len(parts))))
        for number, (footer, known, part) in enumerate(parts):
            kept = [i for i in part if footer.groups[i].outcomes & T and footer.groups[i].rows]
            if not kept:
                continue
            groups = [footer.groups[i] for i in kept]
            proven = all(g.outcomes == T for g in groups)
            yield ParquetFragment(
                key=f"{number:0{width}d}",
                path=_absolute(footer.file.path),
                row_groups=tuple(kept),
                group_rows=sum(g.rows for g in groups),
                bytes=sum(g.bytes for g in groups),
                columns=tuple(schema.names),
                partition=tuple((n, whole.field(n).type, v) for n, v in known.items()),
                casts=tuple(
                    (f.name, whole.field(f.name).type)
                    for f in footer.schema
                    if f.name in whole.names and whole.field(f.name).type != f.type
                ),
                where=None if proven else self.where,
                batch_rows=self.batch_rows,
                batch_bytes=self.batch_bytes,
            )

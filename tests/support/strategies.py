"""Arrow columns for tests: every type, awkward values, and the many layouts that one column can have.

A column is *plain* (no offset, no dictionary, zeros under nulls) as the strategies draw it; :func:`layouts` gives the
same rows as Arrow may hold them just as well: sliced, dictionary-encoded, with rubbish under its nulls.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.types as pt
from hypothesis import strategies as st

__all__ = [
    "ALL_TYPES",
    "BINARIES",
    "BOOLEANS",
    "DATES",
    "DECIMALS",
    "FLOATS",
    "INTEGERS",
    "LEAVES",
    "NOTHING",
    "STRINGS",
    "STRUCTS",
    "TIMES",
    "TIMESTAMPS",
    "columns",
    "cuts",
    "depth_of",
    "exact",
    "example_column",
    "layouts",
    "leaf_of",
    "special_values",
    "types_with",
]

Domain = Callable[[pa.DataType], Sequence[Any]]

BOOLEANS = (pa.bool_(),)
INTEGERS = tuple(pa.type_for_alias(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64))
FLOATS = (pa.float16(), pa.float32(), pa.float64())
DECIMALS = (pa.decimal128(9, 2), pa.decimal256(40, 3))
STRINGS = (pa.string(), pa.large_string(), pa.string_view())
BINARIES = (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2))
DATES = (pa.date32(), pa.date64())
TIMES = (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))
TIMESTAMPS = (
    pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns"),
    pa.timestamp("us", "UTC"), pa.timestamp("s", "Europe/Berlin"),
)
DURATIONS = (pa.duration("s"), pa.duration("us"))
NOTHING = (pa.null(),)
STRUCTS = (pa.struct([("a", pa.int64())]),)

LEAVES = (
    *BOOLEANS, *INTEGERS, *FLOATS, *DECIMALS, *STRINGS, *BINARIES, *DATES, *TIMES, *TIMESTAMPS, *DURATIONS, *NOTHING,
    *STRUCTS,
)  # fmt: skip
"""The types of single values."""

_IN_LISTS = (
    pa.bool_(), pa.int32(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.decimal128(9, 2), pa.string(),
    pa.large_string(), pa.binary(), pa.date32(), pa.time64("us"), pa.timestamp("us"), pa.null(), STRUCTS[0],
)
_IN_DICTIONARIES = (
    pa.int64(), pa.float64(), pa.string(), pa.large_string(), pa.binary(), pa.date32(), pa.timestamp("ms"),
)  # fmt: skip
_INDICES = (pa.int8(), pa.uint16(), pa.int32(), pa.int64())


def _all_types() -> Iterator[pa.DataType]:
    yield from LEAVES
    for i, leaf in enumerate(_IN_DICTIONARIES):
        yield pa.dictionary(_INDICES[i % len(_INDICES)], leaf)
    for i, leaf in enumerate(_IN_LISTS):
        yield pa.list_(leaf)
        yield pa.list_(leaf, 2)
        yield (pa.large_list, pa.list_view, pa.large_list_view)[i % 3](leaf)
    for leaf in (pa.int64(), pa.float64(), pa.string()):
        yield pa.list_(pa.list_(leaf))
        yield pa.list_(pa.dictionary(pa.int32(), leaf))
    yield pa.list_(pa.list_(pa.float64(), 2))
    yield pa.list_(pa.list_(pa.float64()), 2)


ALL_TYPES = tuple(_all_types())
"""A type of every kind: single values, dictionary-encoded ones, lists of every layout, lists of lists."""


def is_list(type_: pa.DataType) -> bool:
    """Whether values are lists, in any of Arrow's layouts."""
    return "list" in str(type_).split("<", 1)[0]


def _inside(type_: pa.DataType) -> pa.DataType | None:
    return type_.value_type if pt.is_dictionary(type_) or is_list(type_) else None


def leaf_of(type_: pa.DataType) -> pa.DataType:
    """The type of the single values in a column, whatever is around them."""
    inner = _inside(type_)
    return type_ if inner is None else leaf_of(inner)


def depth_of(type_: pa.DataType) -> int:
    """How many lists are around a single value."""
    inner = _inside(type_)
    return 0 if inner is None else depth_of(inner) + is_list(type_)


def types_with(*leaves: pa.DataType, depths: Iterable[int] = (0, 1, 2)) -> frozenset[pa.DataType]:
    """Those of :data:`ALL_TYPES` with one of the leaf types, as single values (depth 0) or inside so many lists."""
    wanted = set(depths)
    return frozenset(t for t in ALL_TYPES if leaf_of(t) in leaves and depth_of(t) in wanted)


# --- values ----------------------------------------------------------------------------------------------------------

_DAY_MS = 86_400_000
_YEAR_1, _YEAR_9999 = -719_162, 2_932_896
"""Days since 1970: the range of Python's dates."""
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def special_values(leaf: pa.DataType) -> list[Any]:
    """Values of a type that are likely to be mistreated, as what ``pa.array`` takes; times as ticks."""
    if pt.is_boolean(leaf):
        return [True, False]
    if pt.is_integer(leaf):
        ends = (-(2 ** (leaf.bit_width - 1)), 2 ** (leaf.bit_width - 1) - 1)
        low, high = ends if pt.is_signed_integer(leaf) else (0, 2**leaf.bit_width - 1)
        return [3, 0, 1, 100, low, high, max(low, -1)]
    if pt.is_floating(leaf):
        return [1.5, 0.0, -0.0, float("nan"), 1.0, -2.25, float("inf"), float("-inf"), 1e-3, 100.0]
    if pt.is_decimal(leaf):
        return [Decimal("1.50"), Decimal("0.00"), Decimal("-3.25"), Decimal("1234567.89"), Decimal("100.00")]
    if leaf in STRINGS:
        return ["a", "", "b", "a b", "line\nbreak", "é→𝄞", "a\x00", " ", ",a,,b", "longer than twelve bytes"]
    if pt.is_fixed_size_binary(leaf):
        return [b"ab", b"\x00\x00", b"\xff\xfe", b"a "]
    if leaf in BINARIES:
        return [b"a", b"", b"b", b"a b", b"\xff\x00", b"line\nbreak", "é".encode()]
    return _special_ticks(leaf)


def _special_ticks(leaf: pa.DataType) -> list[Any]:
    if pt.is_date32(leaf):
        return [0, -1, 15_765, 19_782, _YEAR_1, _YEAR_9999]
    if pt.is_date64(leaf):
        return [d * _DAY_MS for d in special_values(pa.date32())]
    if pt.is_time(leaf):
        return [seconds * _TICKS[leaf.unit] for seconds in (0, 1, 3_600, 86_399)]
    if pt.is_timestamp(leaf) or pt.is_duration(leaf):
        seconds = (0, -1, 1_362_105_596, 1_711_846_800, 951_782_399, -2_000_000_000)
        return [s * _TICKS[leaf.unit] for s in seconds]
    if pt.is_struct(leaf):
        return [{"a": 1}, {"a": None}, {"a": 2}]
    return [None]


@cache
def _any_value(leaf: pa.DataType) -> st.SearchStrategy[Any]:
    special = st.sampled_from(special_values(leaf))
    if pt.is_integer(leaf):
        values = special_values(leaf)
        return special | st.integers(max(0, min(values)), 5) | st.integers(min(values), max(values))
    if pt.is_floating(leaf):
        return special | st.floats(-100, 100, width=leaf.bit_width) | st.floats(width=leaf.bit_width)
    if pt.is_decimal(leaf):
        return special | st.decimals(-(10**6), 10**6, places=2)
    if leaf in STRINGS:
        return special | st.text(max_size=4) | st.text("ab ,", max_size=6)
    if pt.is_fixed_size_binary(leaf):
        return special | st.binary(min_size=2, max_size=2)
    if leaf in BINARIES:
        return special | st.binary(max_size=4)
    if pt.is_date32(leaf):
        return special | st.integers(_YEAR_1, _YEAR_9999)
    if pt.is_date64(leaf):
        return special | st.integers(_YEAR_1, _YEAR_9999).map(lambda day: day * _DAY_MS)
    if pt.is_time(leaf):
        return special | st.integers(0, 86_400 * _TICKS[leaf.unit] - 1)
    if pt.is_timestamp(leaf) and leaf.unit == "ns":
        # Python's datetimes have microseconds; finer ones cannot be told as Python values without pandas.
        return special | st.integers(-(9 * 10**15), 9 * 10**15).map(lambda us: us * 1000)
    if pt.is_timestamp(leaf):
        ticks = _TICKS[leaf.unit]
        return special | st.integers((_YEAR_1 + 1) * 86_400 * ticks, (_YEAR_9999 - 1) * 86_400 * ticks)
    return special


def _of_type(type_: pa.DataType, leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    if pt.is_dictionary(type_):
        return _of_type(type_.value_type, leaf)
    if not is_list(type_):
        return leaf
    inner = st.none() | _of_type(type_.value_type, leaf)
    if pt.is_fixed_size_list(type_):
        return st.lists(inner, min_size=type_.list_size, max_size=type_.list_size)
    return st.lists(inner, max_size=4)


@cache
def columns(type_: pa.DataType, rows: int, domain: Domain | None = None) -> st.SearchStrategy[pa.Array]:
    """Plain columns of a type, shape (rows,), with nulls; of the leaf values in `domain`, or of any."""
    leaf = leaf_of(type_)
    values = _any_value(leaf) if domain is None else st.sampled_from(list(domain(leaf)))
    rows_of = st.lists(st.none() | _of_type(type_, values), min_size=rows, max_size=rows)
    return rows_of.map(lambda found: _array(found, type_))


def _array(rows: list[Any], type_: pa.DataType) -> pa.Array:
    if not pt.is_dictionary(type_):
        return pa.array(rows, type_)
    encoded = pa.array(rows, type_.value_type).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.cast(type_.index_type), encoded.dictionary)


@cache
def example_column(type_: pa.DataType, domain: Domain | None = None) -> pa.Array:
    """One column of a type with all its special values (or those of the domain), some twice, and nulls."""
    leaves = list((domain or special_values)(leaf_of(type_)))
    return _array(_example_rows(type_, [leaves[0], None, *leaves, leaves[0]]), type_)


def _example_rows(type_: pa.DataType, leaves: list[Any]) -> list[Any]:
    if pt.is_dictionary(type_):
        return _example_rows(type_.value_type, leaves)
    if not is_list(type_):
        return leaves
    inner = _example_rows(type_.value_type, leaves)
    if pt.is_fixed_size_list(type_):
        size = type_.list_size
        rows = [inner[i : i + size] for i in range(0, len(inner) - size + 1, size)]
    else:
        rows = [inner[:1], [], inner, inner[1:4], [None]]
    return [rows[0], None, *rows[1:], rows[0]]


# --- layouts ---------------------------------------------------------------------------------------------------------


def layouts(array: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """The rows of a plain column in other layouts of the same value type, each with a name for messages."""
    yield "slice", pa.concat_arrays([array, pa.nulls(3, array.type), array]).slice(len(array) + 3)
    if 0 < array.null_count < len(array) and not pt.is_null(array.type):
        yield "rubbish under nulls", _over_rubbish(array)
    if _can_be_encoded(array.type):
        yield "dictionary", array.dictionary_encode()
        yield "odd dictionary", _odd_dictionary(array)


def _can_be_encoded(type_: pa.DataType) -> bool:
    odd = pt.is_null(type_) or pt.is_dictionary(type_) or pt.is_nested(type_) or is_list(type_) or pt.is_float16(type_)
    return not (odd or pt.is_string_view(type_) or pt.is_binary_view(type_))


def _over_rubbish(array: pa.Array) -> pa.Array:
    """The same column with some of its own values in the slots of its nulls."""
    if pt.is_dictionary(array.type):
        return pa.DictionaryArray.from_arrays(_over_rubbish(array.indices), array.dictionary)
    valid = array.is_valid().to_pylist()
    bitmap = pa.array(valid).buffers()[1]
    if pt.is_string_view(array.type) or pt.is_binary_view(array.type):
        full = pa.array(["rubbish" if v is None else v for v in array.to_pylist()], array.type)
        return pa.Array.from_buffers(array.type, len(array), [bitmap, *full.buffers()[1:]])
    full = array.take(pa.array([i if one else valid.index(True) for i, one in enumerate(valid)]))
    children = [full.values] if is_list(array.type) else full.flatten() if pt.is_struct(array.type) else None
    buffers = [bitmap, *full.buffers()[1 : full.type.num_buffers]]
    return pa.Array.from_buffers(array.type, len(array), buffers, children=children)


def _odd_dictionary(array: pa.Array) -> pa.Array:
    """A dictionary in reverse order with values that come twice, are used by no row, or are null."""
    encoded = array.dictionary_encode()
    values = encoded.dictionary
    size = len(values)
    unused = pa.array(special_values(array.type)[:1], array.type)
    backwards = values.take(pa.array(range(size - 1, -1, -1), pa.int64()))
    dictionary = pa.concat_arrays([backwards, pa.nulls(1, array.type), values, unused])
    indices = []
    for row, code in enumerate(encoded.indices.to_pylist()):
        if code is None:
            indices.append(size if row % 2 else None)
        else:
            indices.append(size - 1 - code if row % 2 else size + 1 + code)
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), dictionary)


def cuts(rows: int) -> st.SearchStrategy[list[int]]:
    """Where to cut so many rows into batches, some of them empty: ascending, from 0 to `rows`."""
    return st.lists(st.integers(0, rows), max_size=4).map(lambda found: sorted([0, *found, rows]))


# --- comparing -------------------------------------------------------------------------------------------------------


def exact(value: Any) -> Any:
    """A value that equals another only where type and all bits do (any NaN equals any other)."""
    if isinstance(value, list | tuple):
        return [exact(v) for v in value]
    if isinstance(value, dict):
        return {k: exact(v) for k, v in value.items()}
    if isinstance(value, float):
        return "NaN" if value != value else struct.pack("d", value)
    return (type(value).__name__, value)

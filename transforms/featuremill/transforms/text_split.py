"""Texts cut into tokens at delimiter characters, a whole column at a time.

What ``split_string_by_delimiter`` of Beam's ops means: every character of the delimiter string is a delimiter by
itself, and empty tokens are dropped. The stock ops treat every *byte* as one, which cuts a character such as ``é`` in
half; for delimiters in ASCII, which is to say nearly always, the two are the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import ColumnTypeError, JobError
from featuremill.transforms.arrays import is_list

__all__ = ["split_text", "text_splitter"]

LARGEST_TEXT = 2**31 - 1
"""Bytes of text that one array of Arrow's `string` type can hold."""

_UTF8 = np.dtype(np.uint8)


def split_text(array: pa.Array, delimiters: str) -> pa.Array:
    """The tokens of each text as a list<string> array, shape (n_rows,); no token is empty.

    Parameters
    ----------
    array
        Texts (any of Arrow's string layouts, dictionary-encoded or not), or lists of texts, whose tokens are put one
        after the other. Null gives null; a null inside a list gives no token.
    delimiters
        Each character of it is a delimiter. Without any, each text is one token.

    Raises
    ------
    ColumnTypeError
        The values are no strings.

    >>> split_text(pa.array(["a b, c", "", None, " b"]), ", ").to_pylist()
    [['a', 'b', 'c'], [], None, ['b']]
    >>> split_text(pa.array([["a b", None], []]), " ").to_pylist()
    [['a', 'b'], []]
    >>> split_text(pa.array([1, 2]), " ")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ColumnTypeError: Only texts can be split at delimiters, got a column of int64.
    """
    type_ = array.type
    if pt.is_dictionary(type_):
        if len(array.dictionary) > len(array):
            return split_text(array.dictionary_decode(), delimiters)
        return split_text(array.dictionary, delimiters).take(array.indices)
    if is_list(type_):
        return _split_lists(array, delimiters)
    if pt.is_null(type_):
        return pa.nulls(len(array), pa.list_(pa.string()))
    if not (pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_)):
        raise ColumnTypeError(f"Only texts can be split at delimiters, got a column of {type_}.", type=str(type_))
    if not len(array):
        return pa.array([], pa.list_(pa.string()))
    return _split_strings(array.cast(pa.large_string()) if pt.is_string_view(type_) else array, delimiters)


def text_splitter(delimiters: str) -> Callable[[str], list[str]]:
    """A function that splits one Python string as :func:`split_text` does.

    >>> text_splitter(" ,")("a b,, c")
    ['a', 'b', 'c']
    """
    if not delimiters:
        return lambda text: [text] if text else []
    first, rest = delimiters[0], delimiters[1:]
    if not rest:
        return lambda text: [token for token in text.split(first) if token]
    to_first = str.maketrans(dict.fromkeys(rest, first))
    return lambda text: [token for token in text.translate(to_first).split(first) if token]


def _split_lists(array: pa.Array, delimiters: str) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    rows = np.zeros(len(array) + 1, dtype=np.int64)
    np.cumsum(lengths, out=rows[1:])
    inner = split_text(array.flatten(), delimiters)
    counts = pc.fill_null(pc.list_value_length(inner), 0).to_numpy(zero_copy_only=False)
    ends = np.zeros(len(inner) + 1, dtype=np.int32)
    np.cumsum(counts, out=ends[1:])
    return pa.ListArray.from_arrays(
        pa.array(ends[rows]), inner.flatten(), mask=array.is_null() if array.null_count else None
    )


def _split_strings(array: pa.Array, delimiters: str) -> pa.Array:
    """Tokens of a string or large_string array: the bytes that are no delimiters, cut where a run of them ends."""
    mask = array.is_null() if array.null_count else None
    if mask is not None:
        array = array.fill_null("")
    width = np.int32 if pt.is_string(array.type) else np.int64
    offsets: npt.NDArray[np.signedinteger] = np.frombuffer(array.buffers()[1], width)
    offsets = offsets[array.offset : array.offset + len(array) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    if last - first > LARGEST_TEXT:
        raise JobError("A batch holds more than 2 GiB of text to split. Make the batches smaller.", bytes=last - first)
    buffer = array.buffers()[2]
    data = np.frombuffer(buffer, _UTF8)[first:last] if buffer is not None else np.zeros(0, _UTF8)
    starts, ends, text = _runs(data, offsets[:-1] - first, delimiters)
    token_ends = np.zeros(len(starts) + 1, dtype=np.int32)
    np.cumsum(ends - starts, out=token_ends[1:])
    tokens = pa.StringArray.from_buffers(len(starts), pa.py_buffer(token_ends), pa.py_buffer(text))
    rows = np.searchsorted(starts, offsets - first).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(rows), tokens, mask=mask)


def _runs(
    data: npt.NDArray[np.uint8], rows: npt.NDArray[np.integer], delimiters: str
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.uint8]]:
    """Where runs of non-delimiter bytes start and end (no run crosses a row's start), and all those bytes together."""
    inside = _not_delimiters(data, delimiters)
    edge = np.zeros(len(data) + 1, dtype=bool)
    edge[rows] = True
    edge[-1] = True
    before = np.zeros(len(data), dtype=bool)
    before[1:] = inside[:-1]
    starts = np.flatnonzero(inside & (edge[:-1] | ~before))
    after = np.zeros(len(data), dtype=bool)
    after[:-1] = inside[1:]
    ends = np.flatnonzero(inside & (edge[1:] | ~after)) + 1
    return starts, ends, data[inside]


def _not_delimiters(data: npt.NDArray[np.uint8], delimiters: str) -> npt.NDArray[np.bool_]:
    """For each byte of UTF-8 text, whether it belongs to no delimiter."""
    keep = np.ones(256, dtype=bool)
    keep[[ord(c) for c in delimiters if ord(c) < 128]] = False
    inside = keep[data]
    for character in {c for c in delimiters if ord(c) >= 128}:
        # UTF-8 synchronises itself: the bytes of one character are never found inside or across others.
        code = character.encode()
        positions = len(data) - len(code) + 1
        if positions <= 0:
            continue
        found = data[:positions] == code[0]
        for i in range(1, len(code)):
            found &= data[i : i + positions] == code[i]
        for i in range(len(code)):
            inside[i : i + positions] &= ~found
    return inside

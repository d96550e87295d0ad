"""Regular expressions and SQL patterns over arrays of texts.

The meaning of a regular expression is Python's. Arrow's engine (RE2), many times as fast, takes its place where both
mean the same: expressions of plain constructs, over texts of printable ASCII.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featuremill.artifacts.errors import ParameterError

__all__ = ["compiled", "found_in", "matches_like"]

PLAIN_REGEX = re.compile(
    r"""(?:
      [A-Za-z0-9 _@%&=:;,"'~`<>!/#-]          # characters that stand for themselves
    | \\[dDwW.^$*+?()\[\]{}|/\\-]             # classes, and the special characters made plain
    | \[\^?(?:[A-Za-z0-9 _@%=:;,.*+?()$!/#]-[A-Za-z0-9]|\\[dDwW.\-\]\[\\/^]|[A-Za-z0-9 _@%=:;,.*+?()$!/#])+-?\]
    | \((?:\?:|(?!\?)) | [)|.^$?*+]
    | \{\d{1,3}(?:,\d{0,3})?\}
    )*""",
    re.VERBOSE | re.ASCII,
)
"""Expressions that RE2 and Python read alike over printable ASCII."""


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    """The expression, compiled once.

    Raises
    ------
    ParameterError
        When it is malformed.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ParameterError(
            f"{pattern!r} is no regular expression: {error}. Mend it, or escape special characters.", value=pattern
        ) from error


@lru_cache(maxsize=512)
def _plain(pattern: str) -> bool:
    """Whether Arrow's engine may take the expression."""
    compiled(pattern)
    if not PLAIN_REGEX.fullmatch(pattern):
        return False
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid:
        return False
    return True


def found_in(texts: pa.Array, pattern: str) -> pa.BooleanArray:
    """Where the expression is found somewhere in the text (Python's ``re.search``), shape (n_rows,); null for null.

    >>> found_in(pa.array(["N123", None, "x1"]), "^N[0-9]+$").to_pylist()
    [True, None, False]
    >>> found_in(pa.array(["a"]), "(")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ParameterError: '(' is no regular expression: missing ), unterminated subpattern at ...
    """
    if pa.types.is_null(texts.type):
        compiled(pattern)
        return texts.cast(pa.bool_())
    if _plain(pattern) and _printable(texts):
        return pc.match_substring_regex(texts, pattern)
    search = compiled(pattern).search
    return pa.array([None if t is None else search(t) is not None for t in texts.to_pylist()], pa.bool_())


def _printable(texts: pa.Array) -> bool:
    """Whether all bytes of the texts are printable ASCII."""
    wide = pa.types.is_large_string(texts.type)
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return True
    ends = np.frombuffer(offsets, np.int64 if wide else np.int32)[[texts.offset, texts.offset + len(texts)]]
    content = np.frombuffer(data, np.uint8)[ends[0] : ends[1]]
    # What lies below the space wraps around to the top.
    return not bool((content - np.uint8(0x20) > np.uint8(0x7E - 0x20)).any())


def matches_like(texts: pa.Array, pattern: str, escape: str | None = None) -> pa.BooleanArray:
    """Where the whole text is like an SQL pattern, shape (n_rows,); null for null.

    >>> matches_like(pa.array(["10%", "100"]), "10!%", "!").to_pylist()
    [True, False]
    """
    if pa.types.is_null(texts.type):
        return texts.cast(pa.bool_())
    return pc.match_like(texts, _arrow_like(pattern, escape))


def _arrow_like(pattern: str, escape: str | None) -> str:
    """The pattern with the backslash, which is what Arrow escapes with, in place of `escape`."""
    if escape is not None and len(escape) != 1:
        raise ParameterError(f"escape got {escape!r}, expected one character.", parameter="escape", value=escape)
    result, characters = [], iter(pattern)
    for character in characters:
        if character == escape:
            literal = next(characters, None)
            if literal is None:
                message = f"{pattern!r} ends in the escape character {escape!r}; write it twice."
                raise ParameterError(message, value=pattern)
            result.append("\\" + literal if literal in "%_\\" else literal)
        else:
            result.append("\\\\" if character == "\\" else character)
    return "".join(result)

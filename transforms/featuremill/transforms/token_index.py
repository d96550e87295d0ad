"""Where each value stands in a vocabulary: a hash index that is built once and asked by every batch.

``pyarrow.compute.index_in`` builds its hash table anew at every call, so that a batch pays for the whole vocabulary.
:class:`TokenIndex` keeps one: open addressing over 64-bit hashes in NumPy arrays, probed for a whole array at a time.
It never changes after it was built, so threads share it.

For vocabularies that are small against the batch Arrow's kernel is still the faster one, and is used.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from featuremill.artifacts.errors import ColumnTypeError, ParameterError
from featuremill.transforms.arrays import dictionary_parts, is_text, value_type
from featuremill.transforms.fingerprint import fingerprint64

__all__ = ["TokenIndex", "hash_values", "is_hashable"]

ARROW_ALWAYS = 8192
"""Up to this many tokens, building Arrow's table (40 ns a token) costs less than the rounds of a probe (0.3 ms)."""

ARROW_PER_VALUE = 2
"""And this many more for each value looked up: a probe takes 0.12 µs a value, Arrow's kernel a tenth of it."""

CACHED_TOKENS = 1 << 18
"""Beyond this Arrow's table leaves the cache, and building it costs 0.2 µs a token."""

BUILD_LOAD = 0.5
"""The largest share of slots in use; probes then take 1.5 rounds on average."""

Int64 = npt.NDArray[np.int64]
Array64 = npt.NDArray[np.uint64]

_U = np.uint64


def is_hashable(type_: pa.DataType) -> bool:
    """Whether values of the type (no list, no dictionary) can be tokens: text, numbers, booleans, dates and times."""
    return bool(is_text(type_) or pt.is_primitive(type_) or pt.is_decimal(type_) or pt.is_null(type_)) and not (
        pt.is_float16(type_)
    )


def hash_values(array: pa.Array) -> Array64:
    """A 64-bit hash of each value, shape (n_rows,) uint64, the same for equal values everywhere; null rows: anything.

    Texts by FarmHash, everything of up to 8 bytes by splitmix64 of its bits, decimals by FarmHash of their bytes. Equal
    floats hash equally: -0.0 as 0.0, every NaN as one.
    """
    type_ = array.type
    if pt.is_dictionary(type_):
        values, codes = dictionary_parts(array)
        return np.append(hash_values(values), _U(0))[codes]
    if is_text(type_) or pt.is_null(type_):
        return fingerprint64(array)
    if pt.is_decimal(type_):
        width = type_.bit_width // 8
        buffers = [None, array.buffers()[1]]
        return fingerprint64(pa.Array.from_buffers(pa.binary(width), len(array), buffers, offset=array.offset))
    return _splitmix64(_bits(array))


def _bits(array: pa.Array) -> Array64:
    """Values of up to 8 bytes as unsigned integers; equal values of any integer type as the same one."""
    type_ = array.type
    if pt.is_boolean(type_):
        return np.asarray(array.fill_null(False).cast(pa.uint8()), np.uint64)
    if pt.is_floating(type_):
        filled = np.asarray(array.cast(pa.float64()).fill_null(0.0), np.float64) + 0.0  # turns -0.0 into 0.0
        filled[np.isnan(filled)] = np.nan
        return filled.view(np.uint64)
    width = type_.bit_width // 8
    kind = "u" if pt.is_unsigned_integer(type_) else "i"
    values: npt.NDArray[np.integer] = (
        np.frombuffer(array.buffers()[1], f"{kind}{width}") if len(array) else np.zeros(0, "i8")
    )
    return (
        values[array.offset : array.offset + len(array)].astype(np.int64 if kind == "i" else np.uint64).view(np.uint64)
    )


def _splitmix64(x: Array64) -> Array64:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection that spreads every bit."""
    x = x + _U(0x9E3779B97F4A7C15)
    x ^= x >> _U(30)
    x *= _U(0xBF58476D1CE4E5B9)
    x ^= x >> _U(27)
    x *= _U(0x94D049BB133111EB)
    x ^= x >> _U(31)
    return x


def _normal(type_: pa.DataType) -> pa.DataType:
    """The layout that tokens are compared in: texts as their bytes."""
    if pt.is_string(type_) or pt.is_binary(type_):
        return pa.binary()
    return pa.large_binary() if is_text(type_) else type_


WORD = 8
"""Bytes that a 64-bit word holds."""


def _words(texts: pa.Array, full: bool) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Texts as unsigned integers, one to one, and which have none: those longer than a word.

    `full` is for texts that fill a word, and then the shorter ones have none; the others keep their length in the byte
    that they leave free. Null rows: anything.
    """
    offsets = np.frombuffer(texts.buffers()[1], np.int32 if texts.type == pa.binary() else np.int64)
    offsets = offsets[texts.offset : texts.offset + len(texts) + 1]
    lengths = np.diff(offsets)
    unlike = lengths != WORD if full else lengths >= WORD
    data = texts.buffers()[2]
    start, end = int(offsets[0]), int(offsets[-1])
    padded = np.zeros(end - start + WORD, np.uint8)
    if data is not None:
        padded[: end - start] = np.frombuffer(data, np.uint8)[start:end]
    at_any_byte: Array64 = np.ndarray((end - start + 1,), "<u8", padded, strides=(1,))
    words = at_any_byte[offsets[:-1] - start]
    if not full:
        bits = (WORD * np.minimum(lengths, WORD - 1)).astype(np.uint64)
        words = words & ((_U(1) << bits) - _U(1)) | bits << _U(56)
    return pa.array(words, mask=np.asarray(texts.is_null()) if texts.null_count else None), unlike


def _fit_words(tokens: pa.Array) -> bool | None:
    """Whether all tokens fill a word (True), all are shorter (False), or neither (None)."""
    if not is_text(tokens.type) or not len(tokens):
        return None
    shortest, longest = (f(pc.binary_length(tokens)).as_py() for f in (pc.min, pc.max))
    if shortest == longest == WORD:
        return True
    return False if longest < WORD else None


class TokenIndex:
    """Positions of values in a vocabulary.

    Parameters
    ----------
    tokens
        The distinct tokens, shape (n_tokens,), none null, of any type for which :func:`is_hashable` holds.

    Raises
    ------
    ParameterError
        A token is null or comes twice.
    ColumnTypeError
        Tokens of such a type cannot be looked up.

    >>> index = TokenIndex(pa.array(["b", "a", "é"]))
    >>> index.lookup(pa.array(["a", None, "x", "é"])).tolist()
    [1, -1, -1, 2]
    >>> index.lookup(pa.array([1]))
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ColumnTypeError: The vocabulary holds string, it cannot look up int64.
    """

    def __init__(self, tokens: pa.Array) -> None:
        if isinstance(tokens, pa.ChunkedArray):
            tokens = tokens.combine_chunks()
        self._type = value_type(tokens.type)
        if not is_hashable(self._type):
            raise ColumnTypeError(f"Values of {self._type} cannot be tokens of a vocabulary.", type=str(self._type))
        if pt.is_dictionary(tokens.type):
            tokens = tokens.dictionary_decode()
        if tokens.null_count:
            raise ParameterError("A token of a vocabulary cannot be null.")
        self._tokens = tokens = tokens.cast(_normal(self._type))
        self._full = _fit_words(tokens)
        if self._full is not None:
            # Short texts are looked up as integers: their hash is one to one, so that no text has to be compared.
            self._tokens, _ = _words(tokens, self._full)
        self._hashes = self._hash(self._tokens)
        self._refuse_repeats(tokens)
        self._slots = self._build()

    def __len__(self) -> int:
        return len(self._tokens)

    def lookup(self, values: pa.Array) -> Int64:
        """The position of each value among the tokens, shape (n_rows,) int64; -1 where it is none or null.

        Dictionary-encoded values are looked up through their dictionary. Texts match in any layout and integers in any
        width.

        Raises
        ------
        ColumnTypeError
            The values are of another kind than the tokens.
        """
        if pt.is_dictionary(values.type):
            distinct, codes = dictionary_parts(values)
            return np.append(self.lookup(distinct), -1)[codes]
        if pt.is_null(values.type) or not len(self) or not len(values):
            return np.full(len(values), -1, np.int64)
        values, unlike = self._converted(values)
        found = _arrow_lookup(values, self._tokens) if self._arrow_wins(len(values)) else self._probe(values)
        return found if unlike is None else np.where(unlike, -1, found)

    def _arrow_wins(self, values: int) -> bool:
        if len(self) > CACHED_TOKENS:
            return 2 * len(self) <= values
        return len(self) <= ARROW_ALWAYS + ARROW_PER_VALUE * values

    def _converted(self, values: pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_] | None]:
        """The values in the layout of the tokens, and which of them that changed (they are no tokens)."""
        to, type_ = self._tokens.type, values.type
        if type_.equals(to) and self._full is None:
            return values, None
        if is_text(self._type) and is_text(type_):
            texts = values.cast(_normal(self._type))
            return (texts, None) if self._full is None else _words(texts, self._full)
        if pt.is_integer(self._type) and pt.is_integer(type_):
            cast = values.cast(to, safe=False)
            back = cast.cast(type_, safe=False)
            negative = [pc.less(a, pa.scalar(0, a.type)) for a in (cast, values)]
            same = pc.and_(pc.equal(back, values), pc.equal(*negative))
            return cast, ~same.fill_null(False).to_numpy(zero_copy_only=False)
        raise ColumnTypeError(f"The vocabulary holds {self._type}, it cannot look up {type_}.", type=str(type_))

    def _hash(self, values: pa.Array) -> Array64:
        return hash_values(values)

    def _is_one_to_one(self) -> bool:
        """Whether equal hashes mean equal values: those of up to eight bytes, but for floats with their NaN."""
        type_ = self._tokens.type
        return bool(pt.is_integer(type_) or pt.is_temporal(type_) or pt.is_boolean(type_))

    def _build(self) -> npt.NDArray[np.signedinteger]:
        """Slots with the position of a token, -1 where free: all tokens try their slot, the losers the next one."""
        size = 8
        while len(self) > BUILD_LOAD * size:
            size *= 2
        slots: npt.NDArray[np.signedinteger] = np.full(size, -1, np.int32 if len(self) < 2**31 else np.int64)
        pending = np.arange(len(self), dtype=np.int64)
        at = (self._hashes & _U(size - 1)).astype(np.int64)
        while len(pending):
            free = slots[at] < 0
            slots[at[free]] = pending[free]
            lost = slots[at] != pending
            pending, at = pending[lost], (at[lost] + 1) & (size - 1)
        return slots

    def _refuse_repeats(self, tokens: pa.Array) -> None:
        order = np.argsort(self._hashes, kind="stable")
        ordered = self._hashes[order]
        same = np.flatnonzero(ordered[1:] == ordered[:-1])
        # Equal hashes are nearly always equal tokens; a true collision costs one comparison here.
        if len(same) and len(pc.unique(tokens)) < len(self):
            repeated = pc.value_counts(tokens)
            token = repeated.field("values").filter(pc.greater(repeated.field("counts"), 1))[0].as_py()
            raise ParameterError(f"A vocabulary holds each token once, but {token!r} comes twice.", value=token)

    def _probe(self, values: pa.Array) -> Int64:
        """Rounds over the values that are not settled: a free slot settles a miss, an equal hash makes a candidate."""
        hashes = self._hash(values)
        size = len(self._slots)
        found = np.full(len(values), -1, np.int64)
        rows = np.arange(len(values))
        if values.null_count:
            rows = np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False))
        at = (hashes[rows] & _U(size - 1)).astype(np.int64)
        while len(rows):
            positions = self._slots[at]
            taken = positions >= 0
            same = taken & (self._hashes[positions] == hashes[rows])
            right = same if self._is_one_to_one() else self._equal(values, rows, positions, same)
            found[rows[right]] = positions[right]
            more = taken & ~right
            rows, at = rows[more], (at[more] + 1) & (size - 1)
        return found

    def _equal(
        self,
        values: pa.Array,
        rows: Int64,
        positions: npt.NDArray[np.integer],
        candidates: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.bool_]:
        """Which candidates are the very value, and not only of its hash."""
        result = np.zeros(len(rows), dtype=bool)
        which = np.flatnonzero(candidates)
        wanted = values if len(which) == len(values) else values.take(pa.array(rows[which]))
        result[which] = pc.equal(self._tokens.take(pa.array(positions[which])), wanted).to_numpy(zero_copy_only=False)
        return result


def _arrow_lookup(values: pa.Array, tokens: pa.Array) -> Int64:
    """Arrow's kernel; floats first lose the sign of zero, and NaN is found nowhere, as everywhere here."""
    if pt.is_floating(tokens.type):
        zero = pa.scalar(0, pa.int8()).cast(tokens.type)
        tokens, values = pc.add(tokens, zero), pc.add(values, zero)
        values = pc.if_else(pc.is_nan(values), None, values)
    found = pc.index_in(values, tokens, skip_nulls=True)
    return np.asarray(found.fill_null(-1), np.int64)

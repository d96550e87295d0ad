"""64-bit fingerprints of texts: FarmHash and SipHash over whole Arrow arrays.

``Fingerprint64`` of FarmHash is what BigQuery calls ``FARM_FINGERPRINT`` and what TensorFlow's
``tf.strings.to_hash_bucket_fast`` and ``tf.lookup``'s out-of-vocabulary buckets reduce; SipHash-2-4 is the keyed hash
of ``tf.strings.to_hash_bucket_strong``. Both are fixed for ever, so a feature made of them can be made again elsewhere.

Values are grouped by length; within a group the arithmetic of the published algorithms runs on whole NumPy arrays,
loading eight bytes at any offset through an overlapping view of the text buffer.

Sources: FarmHash, ``farmhashna::Hash64`` (Geoff Pike, Google, https://github.com/google/farmhash); SipHash: a fast
short-input PRF (Aumasson and Bernstein, 2012).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import unpack_from

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from featuremill.artifacts.errors import ColumnTypeError
from featuremill.transforms.arrays import is_text

__all__ = [
    "TEXT_KEY_TYPES",
    "as_text",
    "can_be_text",
    "fingerprint64",
    "fingerprint64_of",
    "siphash64",
    "siphash64_of",
    "text_of",
]

Array64 = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
LongHash = Callable[["_Texts", Positions, Positions], Array64]

CHUNK_VALUES = 1 << 15
"""Values hashed at a time: the temporaries (a dozen arrays of 8 bytes per value) stay in the cache."""

CHUNK_BYTES = 1 << 20
"""Bytes of text hashed at a time, unless one value is longer."""

TEXT_KEY_TYPES = "text, bytes, integers, booleans or dates"
"""The types whose values have one undisputed text, for error messages."""

K0, K1, K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
"""FarmHash's constants: primes between 2**63 and 2**64."""

SIP_INIT = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
"""SipHash's initial state, "somepseudorandomlygeneratedbytes"."""

_MASK = (1 << 64) - 1
_U = np.uint64
_K0, _K1, _K2 = _U(K0), _U(K1), _U(K2)


# --- what the text of a value is ------------------------------------------------------------------------------------


def can_be_text(type_: pa.DataType) -> bool:
    """Whether values of the type (no list, no dictionary) have one undisputed text: :func:`as_text` takes them."""
    return bool(
        is_text(type_) or pt.is_integer(type_) or pt.is_boolean(type_) or pt.is_date(type_) or pt.is_null(type_)
    )


def as_text(array: pa.Array) -> pa.Array:
    """Each value as SQL's ``CAST(value AS STRING)`` writes it; texts and bytes as they are, null as null.

    Integers become decimals, booleans ``true`` and ``false``, dates ``2013-01-01``. A dictionary-encoded array stays
    so.

    Raises
    ------
    ColumnTypeError
        Floats, decimals, times and lists: systems do not agree on how to write them.

    >>> as_text(pa.array([True, None])).to_pylist()
    ['true', None]
    >>> as_text(pa.array([0.1]))
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ColumnTypeError: A column of double has no text that all systems agree on; \
expected text, bytes, integers, booleans or dates. Cast or round it in the source.
    """
    type_ = array.type
    if pt.is_dictionary(type_):
        return pa.DictionaryArray.from_arrays(array.indices, as_text(array.dictionary))
    if not can_be_text(type_):
        raise ColumnTypeError(
            f"A column of {type_} has no text that all systems agree on; expected {TEXT_KEY_TYPES}. "
            "Cast or round it in the source.",
            type=str(type_),
        )
    if is_text(type_):
        return array
    return array.cast(pa.date32(), safe=False).cast(pa.string()) if pt.is_date64(type_) else array.cast(pa.string())


def text_of(value: object) -> str | bytes:
    """The text of one Python value (no None), as :func:`as_text` gives it.

    >>> text_of(True), text_of(12), text_of("a")
    ('true', '12', 'a')
    """
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


# --- text buffers ---------------------------------------------------------------------------------------------------


class _Texts:
    """A chunk of texts: where each starts, how long it is, and loads at any byte offset."""

    def __init__(self, data: npt.NDArray[np.uint8], starts: Positions, lengths: Positions) -> None:
        padded = np.zeros(len(data) + 8, dtype=np.uint8)
        padded[: len(data)] = data
        self.starts, self.lengths = starts, lengths
        self._bytes = padded
        self._words: Array64 = np.ndarray((len(data) + 1,), "<u8", padded, strides=(1,))
        self._halves: npt.NDArray[np.uint32] = np.ndarray((len(data) + 5,), "<u4", padded, strides=(1,))

    def u64(self, at: Positions) -> Array64:
        return self._words[at]

    def u32(self, at: Positions) -> Array64:
        return self._halves[at].astype(np.uint64)

    def u8(self, at: Positions) -> Array64:
        return self._bytes[at].astype(np.uint64)


def _chunks(array: pa.Array) -> Iterator[tuple[int, _Texts]]:
    """The array in pieces that fit the cache, each with its first row; the text under nulls is whatever it is."""
    data, offsets = _buffers(array)
    first = 0
    while first < len(array):
        limit = int(offsets[first]) + CHUNK_BYTES
        fitting = int(np.searchsorted(offsets[first + 1 : first + 1 + CHUNK_VALUES], limit, side="right"))
        last = first + max(1, fitting)
        ends = offsets[first : last + 1].astype(np.int64)
        base = int(ends[0])
        starts = ends[:-1] - base
        yield first, _Texts(data[base : int(ends[-1])], starts, np.diff(ends))
        first = last


def _buffers(array: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer]]:
    """The bytes and the offsets, shape (n + 1,), of a text array in any layout."""
    type_ = array.type
    if pt.is_string_view(type_) or pt.is_binary_view(type_):
        array = array.cast(pa.large_string() if pt.is_string_view(type_) else pa.large_binary())
        type_ = array.type
    if pt.is_null(type_):
        return np.zeros(0, np.uint8), np.zeros(len(array) + 1, np.int64)
    if not is_text(type_) or pt.is_dictionary(type_) or pt.is_nested(type_):
        raise ColumnTypeError(f"Only texts and bytes have a fingerprint, got a column of {type_}.", type=str(type_))
    if not len(array):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    buffers = array.buffers()
    text = np.zeros(0, np.uint8) if buffers[-1] is None else np.frombuffer(buffers[-1], np.uint8)
    if pt.is_fixed_size_binary(type_):
        width = type_.byte_width
        return text, np.arange(array.offset, array.offset + len(array) + 1, dtype=np.int64) * width
    wide = pt.is_large_string(type_) or pt.is_large_binary(type_)
    offsets: npt.NDArray[np.signedinteger] = np.frombuffer(buffers[1], np.int64 if wide else np.int32)
    return text, offsets[array.offset : array.offset + len(array) + 1]


# --- FarmHash -------------------------------------------------------------------------------------------------------


def fingerprint64(array: pa.Array) -> Array64:
    """FarmHash's Fingerprint64 of each text's bytes, shape (n_rows,) uint64; read as int64 it is ``FARM_FINGERPRINT``.

    Parameters
    ----------
    array
        Texts or bytes in any of Arrow's layouts, dictionary-encoded or not. What a null row gives is unspecified: mask
        it.

    Raises
    ------
    ColumnTypeError
        The values are neither texts nor bytes; :func:`as_text` makes texts of integers, booleans and dates.

    >>> fingerprint64(pa.array(["foo", ""])).astype("int64").tolist()
    [6150913649986995171, -7286425919675154353]
    >>> fingerprint64(pa.array([1]))
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.ColumnTypeError: Only texts and bytes have a fingerprint, got a column of int64.
    """
    return _hash(array, _farm_chunk)


def _hash(array: pa.Array, chunk_hash: Callable[[_Texts], Array64]) -> Array64:
    if pt.is_dictionary(array.type):
        hashes = np.append(_hash(array.dictionary, chunk_hash), _U(0))
        indices = array.indices.fill_null(0) if array.indices.null_count else array.indices
        rows: npt.NDArray[np.integer] = indices.to_numpy(zero_copy_only=False)
        found: Array64 = hashes[rows]
        return found
    out = np.empty(len(array), dtype=np.uint64)
    for first, texts in _chunks(array):
        out[first : first + len(texts.starts)] = chunk_hash(texts)
    return out


def _farm_chunk(texts: _Texts) -> Array64:
    """Each length class by its own formula; a chunk of one class is not gathered."""
    lengths = texts.lengths
    first, last = np.searchsorted(_CLASS_ENDS, [lengths.min(), lengths.max()], side="left")
    if first == last:
        return _CLASS_HASHES[first](texts, texts.starts, lengths)
    kind = np.searchsorted(_CLASS_ENDS, lengths, side="left")
    kinds = np.flatnonzero(np.bincount(kind, minlength=len(_CLASS_HASHES)))
    out = np.empty(len(lengths), dtype=np.uint64)
    for k in kinds:
        rows = np.flatnonzero(kind == k)
        out[rows] = _CLASS_HASHES[k](texts, texts.starts[rows], lengths[rows])
    return out


def _rotate(x: Array64, bits: int) -> Array64:
    result = x >> _U(bits)
    result |= x << _U(64 - bits)
    return result


def _shift_mix(x: Array64) -> Array64:
    return x ^ (x >> _U(47))


def _mix_pair(u: Array64, v: Array64, mul: Array64) -> Array64:
    """FarmHash's HashLen16: two words to one."""
    a = u ^ v
    a *= mul
    a ^= a >> _U(47)
    a ^= v
    a *= mul
    a ^= a >> _U(47)
    a *= mul
    return a


def _multiplier(n: Positions) -> Array64:
    return _K2 + (n.astype(np.uint64) << _U(1))


def _farm_0(_t: _Texts, _s: Positions, n: Positions) -> Array64:
    return np.full(len(n), _K2)


def _farm_1_to_3(t: _Texts, s: Positions, n: Positions) -> Array64:
    y = t.u8(s) + (t.u8(s + (n >> 1)) << _U(8))
    z = n.astype(np.uint64) + (t.u8(s + n - 1) << _U(2))
    return _shift_mix(y * _K2 ^ z * _K0) * _K2


def _farm_4_to_7(t: _Texts, s: Positions, n: Positions) -> Array64:
    return _mix_pair(n.astype(np.uint64) + (t.u32(s) << _U(3)), t.u32(s + n - 4), _multiplier(n))


def _farm_8_to_16(t: _Texts, s: Positions, n: Positions) -> Array64:
    mul = _multiplier(n)
    head = t.u64(s)
    a = head + _K2
    b = head if n.max() == 8 else t.u64(s + n - 8)
    c = _rotate(b, 37)
    c *= mul
    c += a
    d = _rotate(a, 25)
    d += b
    d *= mul
    return _mix_pair(c, d, mul)


def _farm_17_to_32(t: _Texts, s: Positions, n: Positions) -> Array64:
    mul = _multiplier(n)
    a, b = t.u64(s) * _K1, t.u64(s + 8)
    c, d = t.u64(s + n - 8) * mul, t.u64(s + n - 16) * _K2
    return _mix_pair(_rotate(a + b, 43) + _rotate(c, 30) + d, a + _rotate(b + _K2, 18) + c, mul)


def _farm_33_to_64(t: _Texts, s: Positions, n: Positions) -> Array64:
    mul = _multiplier(n)
    a, b = t.u64(s) * _K2, t.u64(s + 8)
    c, d = t.u64(s + n - 8) * mul, t.u64(s + n - 16) * _K2
    y = _rotate(a + b, 43) + _rotate(c, 30) + d
    z = _mix_pair(y, a + _rotate(b + _K2, 18) + c, mul)
    e, f = t.u64(s + 16) * mul, t.u64(s + 24)
    g, h = (y + t.u64(s + n - 32)) * mul, (z + t.u64(s + n - 24)) * mul
    return _mix_pair(_rotate(e + f, 43) + _rotate(g, 30) + h, e + _rotate(f + a, 18) + g, mul)


_LONG_SEED = 81
_LONG_Y = (_LONG_SEED * K1 + 113) & _MASK
_LONG_Z = (((_LONG_Y * K2 + 113) & _MASK) ^ (((_LONG_Y * K2 + 113) & _MASK) >> 47)) * K2 & _MASK


def _weak_32(t: _Texts, s: Positions, a: Array64, b: Array64) -> tuple[Array64, Array64]:
    """FarmHash's WeakHashLen32WithSeeds of the 32 bytes at each position."""
    w, x, y, z = t.u64(s), t.u64(s + 8), t.u64(s + 16), t.u64(s + 24)
    a = a + w
    b = _rotate(b + a + z, 21)
    c = a
    a = a + x + y
    return a + z, b + _rotate(a, 44) + c


def _farm_65_on(t: _Texts, s: Positions, n: Positions) -> Array64:
    """Blocks of 64 bytes; texts are taken longest first, so that those with a block left are always a prefix."""
    order = np.argsort(-n, kind="stable")
    s, n = s[order], n[order]
    blocks = (n - 1) // 64
    x = t.u64(s) + _U((_LONG_SEED * K2) & _MASK)
    y, z = np.full(len(n), _U(_LONG_Y)), np.full(len(n), _U(_LONG_Z))
    v0, v1, w0, w1 = (np.zeros(len(n), np.uint64) for _ in range(4))
    done, alive = 0, len(n)
    while alive:
        p = slice(0, alive)
        (x[p], y[p], z[p]), (v0[p], v1[p]), (w0[p], w1[p]) = _farm_block(
            t, s[p] + 64 * done, x[p], y[p], z[p], (v0[p], v1[p]), (w0[p], w1[p])
        )
        done += 1
        alive = int(np.searchsorted(-blocks, -done, side="left"))
    result = np.empty(len(n), np.uint64)
    result[order] = _farm_tail(t, s, n, x, y, z, (v0, v1), (w0, w1))
    return result


Pair = tuple[Array64, Array64]


def _farm_block(
    t: _Texts, s: Positions, x: Array64, y: Array64, z: Array64, v: Pair, w: Pair
) -> tuple[tuple[Array64, Array64, Array64], Pair, Pair]:
    x = _rotate(x + y + v[0] + t.u64(s + 8), 37) * _K1
    y = _rotate(y + v[1] + t.u64(s + 48), 42) * _K1
    x ^= w[1]
    y += v[0] + t.u64(s + 40)
    z = _rotate(z + w[0], 33) * _K1
    v = _weak_32(t, s, v[1] * _K1, x + w[0])
    w = _weak_32(t, s + 32, z + w[1], y + t.u64(s + 16))
    return (z, y, x), v, w


def _farm_tail(t: _Texts, s: Positions, n: Positions, x: Array64, y: Array64, z: Array64, v: Pair, w: Pair) -> Array64:
    """The last 64 bytes, which overlap the block before unless the length is a multiple of 64."""
    mul = _K1 + ((z & _U(0xFF)) << _U(1))
    s = s + n - 64
    w0 = w[0] + ((n - 1) & 63).astype(np.uint64)
    v0 = v[0] + w0
    w0 = w0 + v0
    x = _rotate(x + y + v0 + t.u64(s + 8), 37) * mul
    y = _rotate(y + v[1] + t.u64(s + 48), 42) * mul
    x ^= w[1] * _U(9)
    y += v0 * _U(9) + t.u64(s + 40)
    z = _rotate(z + w0, 33) * mul
    v = _weak_32(t, s, v[1] * mul, x + w0)
    w = _weak_32(t, s + 32, z + w[1], y + t.u64(s + 16))
    return _mix_pair(_mix_pair(v[0], w[0], mul) + _shift_mix(y) * _K0 + x, _mix_pair(v[1], w[1], mul) + z, mul)


_CLASS_ENDS = np.array([0, 3, 7, 16, 32, 64])
_CLASS_HASHES = (_farm_0, _farm_1_to_3, _farm_4_to_7, _farm_8_to_16, _farm_17_to_32, _farm_33_to_64, _farm_65_on)


def fingerprint64_of(text: str | bytes) -> int:
    """Fingerprint64 of one text, as an unsigned integer; about a microsecond for short ones. Strings hash as UTF-8.

    >>> fingerprint64_of("foo") == int(fingerprint64(pa.array(["foo"]))[0])
    True
    """
    data = text.encode() if isinstance(text, str) else text
    n = len(data)
    mul = K2 + 2 * n
    if n > 16:
        return _farm_17_to_32_of(data) if n <= 32 else _farm_33_to_64_of(data) if n <= 64 else _farm_65_on_of(data)
    if n >= 8:
        a = int.from_bytes(data[:8], "little") + K2 & _MASK
        b = int.from_bytes(data[-8:], "little")
        u = ((b >> 37 | (b << 27 & _MASK)) * mul + a) & _MASK
        v = ((a >> 25 | (a << 39 & _MASK)) + b) * mul & _MASK
    elif n >= 4:
        u = n + (int.from_bytes(data[:4], "little") << 3)
        v = int.from_bytes(data[-4:], "little")
    elif n:
        y = data[0] + (data[n >> 1] << 8)
        z = n + (data[-1] << 2)
        a = (y * K2 ^ z * K0) & _MASK
        return (a ^ a >> 47) * K2 & _MASK
    else:
        return K2
    return _mix_pair_of(u, v, mul)


def _mix_pair_of(u: int, v: int, mul: int) -> int:
    a = (u ^ v) * mul & _MASK
    b = (v ^ a ^ a >> 47) * mul & _MASK
    return (b ^ b >> 47) * mul & _MASK


def _rotate_of(x: int, bits: int) -> int:
    x &= _MASK
    return (x >> bits | x << 64 - bits) & _MASK


def _farm_17_to_32_of(data: bytes) -> int:
    mul = K2 + 2 * len(data)
    a, b = int.from_bytes(data[:8], "little") * K1, int.from_bytes(data[8:16], "little")
    c, d = int.from_bytes(data[-8:], "little") * mul, int.from_bytes(data[-16:-8], "little") * K2
    u = (_rotate_of(a + b, 43) + _rotate_of(c, 30) + d) & _MASK
    v = (a + _rotate_of(b + K2, 18) + c) & _MASK
    return _mix_pair_of(u, v, mul)


def _farm_33_to_64_of(data: bytes) -> int:
    mul = K2 + 2 * len(data)
    a, b, e, f = unpack_from("<4Q", data)
    h, g, d, c = unpack_from("<4Q", data, len(data) - 32)
    a, c, d, e = a * K2, c * mul, d * K2, e * mul
    # The tail words are named in the order of the published code: c is the last one, h the fourth from the end.
    y = (_rotate_of(a + b, 43) + _rotate_of(c, 30) + d) & _MASK
    z = _mix_pair_of(y, (a + _rotate_of(b + K2, 18) + c) & _MASK, mul)
    g, h = (y + h) * mul, (z + g) * mul
    u = (_rotate_of(e + f, 43) + _rotate_of(g, 30) + h) & _MASK
    return _mix_pair_of(u, (e + _rotate_of(f + a, 18) + g) & _MASK, mul)


def _weak_32_of(w: int, x: int, y: int, z: int, a: int, b: int) -> tuple[int, int]:
    a += w
    b = _rotate_of(b + a + z, 21)
    c = a
    a += x + y
    return a + z & _MASK, b + _rotate_of(a, 44) + c & _MASK


def _farm_65_on_of(data: bytes) -> int:
    n = len(data)
    x, y, z = _LONG_SEED * K2 + int.from_bytes(data[:8], "little"), _LONG_Y, _LONG_Z
    v0 = v1 = w0 = w1 = 0
    for start in range(0, (n - 1) // 64 * 64, 64):
        s = unpack_from("<8Q", data, start)
        x = _rotate_of(x + y + v0 + s[1], 37) * K1 & _MASK ^ w1
        y = _rotate_of(y + v1 + s[6], 42) * K1 + v0 + s[5]
        z = _rotate_of(z + w0, 33) * K1
        v0, v1 = _weak_32_of(s[0], s[1], s[2], s[3], v1 * K1, x + w0)
        w0, w1 = _weak_32_of(s[4], s[5], s[6], s[7], z + w1, y + s[2])
        x, z = z & _MASK, x
    s = unpack_from("<8Q", data, n - 64)
    mul = K1 + ((z & 0xFF) << 1)
    w0 += n - 1 & 63
    v0 += w0
    w0 += v0
    x = _rotate_of(x + y + v0 + s[1], 37) * mul & _MASK ^ (w1 * 9 & _MASK)
    y = _rotate_of(y + v1 + s[6], 42) * mul + v0 * 9 + s[5] & _MASK
    z = _rotate_of(z + w0, 33) * mul & _MASK
    v0, v1 = _weak_32_of(s[0], s[1], s[2], s[3], v1 * mul, x + w0)
    w0, w1 = _weak_32_of(s[4], s[5], s[6], s[7], z + w1, y + s[2])
    u = _mix_pair_of(v0, w0, mul) + (y ^ y >> 47) * K0 + x
    return _mix_pair_of(u & _MASK, (_mix_pair_of(v1, w1, mul) + z) & _MASK, mul)


# --- SipHash --------------------------------------------------------------------------------------------------------


def siphash64(array: pa.Array, key: tuple[int, int]) -> Array64:
    """SipHash-2-4 of each text's bytes under a key of two uint64, shape (n_rows,) uint64.

    Types and nulls as in :func:`fingerprint64`.

    >>> int(siphash64(pa.array(["foo"]), (1, 2))[0]) == siphash64_of("foo", (1, 2))
    True
    """
    return _hash(array, lambda texts: _sip_chunk(texts, key))


def siphash64_of(text: str | bytes, key: tuple[int, int]) -> int:
    """SipHash-2-4 of one text under a key of two uint64, as an unsigned integer. Strings hash as UTF-8."""
    data = text.encode() if isinstance(text, str) else text
    n = len(data)
    v0, v1, v2, v3 = (s ^ k for s, k in zip(SIP_INIT, (*key, *key), strict=True))
    for i in range(0, n + 1, 8):
        word = int.from_bytes(data[i : i + 8], "little")
        if i + 8 > n:
            word |= (n & 0xFF) << 56
        v3 ^= word
        v0, v1, v2, v3 = _sip_rounds_of(v0, v1, v2, v3, 2)
        v0 ^= word
    v0, v1, v2, v3 = _sip_rounds_of(v0, v1, v2 ^ 0xFF, v3, 4)
    return v0 ^ v1 ^ v2 ^ v3


def _sip_rounds_of(v0: int, v1: int, v2: int, v3: int, rounds: int) -> tuple[int, int, int, int]:
    for _ in range(rounds):
        v0 = v0 + v1 & _MASK
        v1 = (v1 << 13 | v1 >> 51) & _MASK ^ v0
        v0 = (v0 << 32 | v0 >> 32) & _MASK
        v2 = v2 + v3 & _MASK
        v3 = (v3 << 16 | v3 >> 48) & _MASK ^ v2
        v0 = v0 + v3 & _MASK
        v3 = (v3 << 21 | v3 >> 43) & _MASK ^ v0
        v2 = v2 + v1 & _MASK
        v1 = (v1 << 17 | v1 >> 47) & _MASK ^ v2
        v2 = (v2 << 32 | v2 >> 32) & _MASK
    return v0, v1, v2, v3


def _sip_chunk(texts: _Texts, key: tuple[int, int]) -> Array64:
    """Words of 8 bytes, the last one filled up with the length; longest texts first, as in FarmHash's long ones."""
    order = np.argsort(-texts.lengths, kind="stable")
    s, n = texts.starts[order], texts.lengths[order]
    whole = n >> 3
    state = [np.full(len(n), _U(i ^ k)) for i, k in zip(SIP_INIT, (*key, *key), strict=True)]
    for i in range(int(whole[0]) if len(n) else 0):
        alive = int(np.searchsorted(-whole, -i, side="left"))
        _sip_word([v[:alive] for v in state], texts.u64(s[:alive] + 8 * i))
    used = (n & 7).astype(np.uint64) << _U(3)
    tail = texts.u64(s + 8 * whole) & ((_U(1) << used) - _U(1))
    _sip_word(state, tail | ((n & 0xFF).astype(np.uint64) << _U(56)))
    state[2] ^= _U(0xFF)
    _sip_rounds(state, 4)
    result = np.empty(len(n), np.uint64)
    result[order] = state[0] ^ state[1] ^ state[2] ^ state[3]
    return result


def _sip_word(state: list[Array64], word: Array64) -> None:
    state[3] ^= word
    _sip_rounds(state, 2)
    state[0] ^= word


def _sip_rounds(state: list[Array64], rounds: int) -> None:
    """In place, on arrays that may be views."""
    v0, v1, v2, v3 = state
    for _ in range(rounds):
        v0 += v1
        v1[:] = _rotate(v1, 51)
        v1 ^= v0
        v0[:] = _rotate(v0, 32)
        v2 += v3
        v3[:] = _rotate(v3, 48)
        v3 ^= v2
        v0 += v3
        v3[:] = _rotate(v3, 43)
        v3 ^= v0
        v2 += v1
        v1[:] = _rotate(v1, 47)
        v1 ^= v2
        v2[:] = _rotate(v2, 32)

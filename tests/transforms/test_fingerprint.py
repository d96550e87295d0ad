"""FarmHash and SipHash: against TensorFlow, published values, and one value at a time."""

from __future__ import annotations

import atexit
import gc
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError
from featuremill.transforms import fingerprint as module
from featuremill.transforms.fingerprint import (
    as_text,
    fingerprint64,
    fingerprint64_of,
    siphash64,
    siphash64_of,
    text_of,
)

KEY = (12345678901234567, 2**63 - 5)
LAYOUTS = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()]


def every_length(longest: int) -> list[bytes]:
    rng = random.Random(7)
    values = [rng.randbytes(n) for n in range(longest + 1)]
    values += ["aé→𝄞"[k % 4].encode() * (k // 3) for k in range(120)]
    rng.shuffle(values)
    return values


def test_published_values() -> None:
    texts = pa.array(["1footrue", "2applefalse", "3true", "foo"])
    expected = [-1541654101129638711, 2794438866806483259, -4880158226897771312, 6150913649986995171]
    assert fingerprint64(texts).view(np.int64).tolist() == expected
    # The reference vectors of the SipHash paper's appendix: key 00..0f, message 00..0e.
    key = (int.from_bytes(bytes(range(8)), "little"), int.from_bytes(bytes(range(8, 16)), "little"))
    assert int(siphash64(pa.array([bytes(range(15))]), key)[0]) == 0xA129CA6149BE45E5


@pytest.mark.differential
def test_every_length_equals_tensorflow() -> None:
    tf = pytest.importorskip("tensorflow")
    atexit.register(gc.freeze)
    values = every_length(300)
    array, buckets = pa.array(values, pa.binary()), 2**62 - 57
    fast = tf.strings.to_hash_bucket_fast(tf.constant(values), buckets).numpy()
    assert np.array_equal(fast, (fingerprint64(array) % np.uint64(buckets)).astype(np.int64))
    strong = tf.strings.to_hash_bucket_strong(tf.constant(values), buckets, key=list(KEY)).numpy()
    assert np.array_equal(strong, (siphash64(array, KEY) % np.uint64(buckets)).astype(np.int64))


def test_one_value_equals_the_column_at_every_length() -> None:
    values = every_length(300)
    assert fingerprint64(pa.array(values)).tolist() == [fingerprint64_of(v) for v in values]
    assert siphash64(pa.array(values), KEY).tolist() == [siphash64_of(v, KEY) for v in values]


@settings(deadline=None)
@given(st.lists(st.none() | st.text(max_size=80), max_size=30), st.integers(0, 5), st.integers(0, 30))
def test_layouts_and_slices(values: list[str | None], start: int, length: int) -> None:
    plain = pa.array(values, pa.string())
    valid = [(i, v) for i, v in enumerate(values[start : start + length]) if v is not None]
    for type_ in LAYOUTS:
        array = plain.cast(type_).slice(start, length)
        for variant in (array, array.dictionary_encode() if "view" not in str(type_) else array):
            farm, sip = fingerprint64(variant), siphash64(variant, KEY)
            assert farm.dtype == sip.dtype == np.uint64
            assert len(farm) == len(sip) == len(array)
            assert [int(farm[i]) for i, _ in valid] == [fingerprint64_of(v) for _, v in valid]
            assert [int(sip[i]) for i, _ in valid] == [siphash64_of(v, KEY) for _, v in valid]


@settings(deadline=None)
@given(st.lists(st.binary(min_size=5, max_size=5), max_size=9), st.integers(0, 3))
def test_bytes_of_fixed_size(values: list[bytes], start: int) -> None:
    array = pa.array(values, pa.binary(5)).slice(start)
    assert fingerprint64(array).tolist() == [fingerprint64_of(v) for v in values[start:]]


def test_chunks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    array = pa.array(every_length(200))
    whole_farm, whole_sip = fingerprint64(array), siphash64(array, KEY)
    monkeypatch.setattr(module, "CHUNK_VALUES", 7)
    monkeypatch.setattr(module, "CHUNK_BYTES", 100)
    assert np.array_equal(fingerprint64(array), whole_farm)
    assert np.array_equal(siphash64(array, KEY), whole_sip)


def test_nothing() -> None:
    assert len(fingerprint64(pa.array([], pa.string()))) == 0
    assert len(siphash64(pa.array([], pa.string()).dictionary_encode(), KEY)) == 0
    assert len(fingerprint64(pa.nulls(3))) == 3


def test_the_text_of_a_value() -> None:
    assert as_text(pa.array([1, None, -5])).to_pylist() == ["1", None, "-5"]
    encoded = as_text(pa.array([10, 10, None]).dictionary_encode())
    assert pa.types.is_dictionary(encoded.type)
    assert encoded.to_pylist() == ["10", "10", None]
    for array in (pa.array([True, False]), pa.array([7, -8], pa.int8()), pa.array([3], pa.date64()), pa.array(["é"])):
        assert as_text(array).to_pylist() == [text_of(v) for v in array.to_pylist()]


def test_numbers_have_no_fingerprint_of_their_own() -> None:
    with pytest.raises(ColumnTypeError, match="Only texts and bytes have a fingerprint, got a column of int64"):
        fingerprint64(pa.array([1]))

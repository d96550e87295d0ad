"""Splits by a hash of key columns: the published rule, worked out by hand, and its SQL."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuremill.artifacts.errors import ColumnTypeError, ParameterError, ParameterTypeError
from featuremill.transforms.fingerprint import fingerprint64_of
from featuremill.transforms.splitting import fingerprint_keys, split_of, split_sql


def signed(fingerprint: int) -> int:
    return fingerprint - 2**64 if fingerprint >= 2**63 else fingerprint


def test_the_values_in_bigquerys_documentation() -> None:
    keys = fingerprint_keys([pa.array(["1footrue", "2applefalse", "3true"])])
    assert keys.tolist() == [-1541654101129638711, 2794438866806483259, -4880158226897771312]


def test_each_type_is_written_as_sql_casts_it() -> None:
    columns = [
        pa.array([1, -20, None]),
        pa.array(["a", "", "é"]),
        pa.array([True, False, None]),
        pa.array([dt.date(2013, 1, 1), dt.date(999, 12, 31), None]),
        pa.array(["x", None, "x"]).dictionary_encode(),
    ]
    expected = ["1|a|true|2013-01-01|x", "-20||false|0999-12-31|", "|é|||x"]
    assert fingerprint_keys(columns).tolist() == [signed(fingerprint64_of(e)) for e in expected]
    with_bytes = [*columns, pa.array([b"\xff", b"", None])]
    assert fingerprint_keys(with_bytes)[0] == signed(fingerprint64_of(expected[0].encode() + b"|\xff"))


@settings(deadline=None)
@given(st.lists(st.none() | st.text(max_size=20), max_size=20), st.integers(0, 3))
def test_one_column_has_no_separator_and_any_layout_is_the_same(values: list[str | None], start: int) -> None:
    plain = pa.array(values, pa.string())
    expected = [signed(fingerprint64_of(v or "")) for v in values][start:]
    for array in (plain, plain.dictionary_encode(), plain.cast(pa.large_string()), plain.cast(pa.string_view())):
        assert fingerprint_keys([array.slice(start)]).tolist() == expected


def test_a_null_in_the_dictionary_is_the_empty_text() -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["a", None]))
    expected = [signed(fingerprint64_of(v)) for v in ("a", "", "")]
    assert fingerprint_keys([array]).tolist() == expected
    assert fingerprint_keys([array, pa.array(["", "", ""])]).tolist() == [
        signed(fingerprint64_of(v)) for v in ("a|", "|", "|")
    ]


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50))
def test_a_key_is_dealt_by_the_magnitude_of_its_signed_remainder(keys: list[int]) -> None:
    codes = split_of(np.array(keys, np.int64), {"train": 0.7, "eval": 0.2, "test": 0.1})
    assert codes.dtype == np.int32
    for key, code in zip(keys, codes.tolist(), strict=True):
        part = abs(key) % 1_000_000
        assert code == (0 if part < 700_000 else 1 if part < 900_000 else 2)


def test_shares_are_kept() -> None:
    codes = split_of(fingerprint_keys([pa.array(range(200_000))]), {"train": 0.8, "eval": 0.2})
    assert abs((codes == 0).mean() - 0.8) < 0.005


def test_sql_of_several_columns_and_one_split() -> None:
    assert split_sql(["a", "b`c"], {"t'r": 0.5, "e": 0.5}) == (
        "['t\\'r', 'e'][OFFSET(RANGE_BUCKET(ABS(MOD(FARM_FINGERPRINT(CONCAT(COALESCE(CAST(`a` AS STRING), ''), '|', "
        "COALESCE(CAST(`b\\`c` AS STRING), ''))), 1000000)), [500000]))]"
    )
    assert split_sql(["a"], {"all": 1.0}) == "'all'"


@pytest.mark.parametrize(
    ("shares", "error", "message"),
    [
        ({"train": 0.8, "eval": 0.1}, ParameterError, "must add up to 1, got 0.9"),
        ({"train": 1.2, "eval": -0.2}, ParameterError, "share of split 'eval' must be at least 1e-06, got -0.2"),
        ({"train": 1.0, "eval": 1e-9}, ParameterError, "Leave the split out"),
        ({"train": float("nan")}, ParameterError, "must be at least"),
        ({"train": "0.8"}, ParameterTypeError, "must be a number, got '0.8'"),
        ({}, ParameterTypeError, "mapping of names to shares"),
    ],
)
def test_wrong_shares(shares: dict[str, float], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        split_of(np.zeros(1, np.int64), shares)
    with pytest.raises(error, match=message):
        split_sql(["a"], shares)


@pytest.mark.parametrize("values", [pa.array([0.5]), pa.array([dt.datetime(2013, 1, 1)]), pa.array([[1]])])
def test_types_without_an_undisputed_text(values: pa.Array) -> None:
    with pytest.raises(ColumnTypeError, match="no text that all systems agree on; expected text, bytes, integers"):
        fingerprint_keys([values])


def test_no_key() -> None:
    with pytest.raises(ParameterError, match="at least one column"):
        fingerprint_keys([])

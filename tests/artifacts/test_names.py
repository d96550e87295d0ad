"""Names and references."""

from __future__ import annotations

import pytest

from featuremill.artifacts.errors import ParameterError, ParameterTypeError
from featuremill.artifacts.layout import alias_number, file_name, state_path
from featuremill.artifacts.names import check_name, check_version, split_reference


@pytest.mark.parametrize("name", ["a", "flights-2024", "A.b_c", "_x", "0", "x" * 128, "DEADBEEFDEADBEEF"])
def test_good_names(name: str) -> None:
    assert check_name(name, "artifact") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "-x", "a/b", "a b", "a@b", "ü", "a\n", "x" * 129, "0123456789abcdef", "a#1", "a\\b"],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(ParameterError):
        check_name(name, "alias")


def test_a_name_is_a_text() -> None:
    with pytest.raises(ParameterTypeError):
        check_name(7, "alias")


@pytest.mark.parametrize("version", ["", "prod", "0123456789abcde", "0123456789ABCDEF", None])
def test_bad_versions(version: object) -> None:
    with pytest.raises(ParameterError):
        check_version(version)


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("root/flights@prod", ("root", "flights", "prod")),
        ("/flights@prod", ("/", "flights", "prod")),
        ("flights", (".", "flights", None)),
        ("/r@t/x y/flights/", ("/r@t/x y", "flights", None)),
        ("s3://bucket/flights@prod", ("s3://bucket", "flights", "prod")),
        ("root/flights@", ("root", "flights", "")),
    ],
)
def test_references(reference: str, parts: tuple[str, str, str | None]) -> None:
    assert split_reference(reference) == parts


def test_file_names_are_safe_and_apart() -> None:
    taken: list[str] = []
    for text in ("a/b", "A/B", "..", ".", "", "x" * 500, "x" * 501, "ü\n", "a%2Fb"):
        taken.append(file_name(text, taken, ".txt"))
    assert len({t.lower() for t in taken}) == len(taken)
    for name in taken:
        assert "/" not in name
        assert not name.startswith(".")
        assert len(name) < 200


@pytest.mark.parametrize("key", ["", "../x", "a/b", "a b", ".x", "a#1"])
def test_bad_state_keys(key: str) -> None:
    with pytest.raises(ParameterError):
        state_path(key)


def test_alias_numbers() -> None:
    assert alias_number("n/aliases/prod/00000012.json") == 12
    assert alias_number("n/aliases/prod/12.json") is None
    assert alias_number("n/aliases/prod/.DS_Store") is None

"""`models:` of a job file."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from featuremill.core.models.groups import ByKey, Ensemble, Models, NamedModel, Shares

MODEL = {"path": "late.onnx"}
READ: TypeAdapter[Any] = TypeAdapter(Models)


@pytest.mark.parametrize(
    ("content", "kind", "names"),
    [
        ({"by": "carrier", "AA": MODEL, "default": MODEL, "keep_loaded": 2}, ByKey, ["AA"]),
        ({"by": "month", 1: MODEL, 12: MODEL}, ByKey, ["1", "12"]),
        ({"by": "late", True: MODEL, False: MODEL}, ByKey, ["true", "false"]),
        ({"by": "day", date(2013, 1, 1): MODEL}, ByKey, ["2013-01-01"]),
        ({"by": "kind", "models": {"name": MODEL, "by": MODEL, 3: MODEL}}, ByKey, ["name", "by", "3"]),
        ({"share_by": ["id"], "a": {"share": 0.9, **MODEL}, "b": {"share": 0.1, **MODEL}}, Shares, ["a", "b"]),
        ({"combine": "mean", "a": MODEL, "b": MODEL}, Ensemble, ["a", "b"]),
        ({"combine": {"p": "mean", "label": "vote"}, "a": MODEL, "b": MODEL}, Ensemble, ["a", "b"]),
    ],
)
def test_a_group_says_what_it_is(content: Any, kind: type, names: list[str]) -> None:
    found = READ.validate_python(content)
    assert isinstance(found, kind) and list(found.members) == names  # type: ignore[attr-defined]
    assert READ.validate_python(found.model_dump(by_alias=True)) == found  # type: ignore[attr-defined]
    assert READ.validate_python(found) is found


def test_a_sequence_holds_models_and_groups() -> None:
    group = {"combine": "vote", "a": MODEL, "b": MODEL}
    first, second = READ.validate_python([{"name": "first", **MODEL}, group])
    assert isinstance(first, NamedModel) and first.name == "first"
    assert isinstance(second, Ensemble) and second.name is None


def test_shares_in_the_order_of_the_file() -> None:
    content = {"share_by": ["id"], "z": {"share": 0.25, **MODEL}, "a": {"share": 0.75, **MODEL}}
    assert list(READ.validate_python(content).shares.items()) == [("z", 0.25), ("a", 0.75)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"by": "carrier"}, "by: carrier needs a model for each of its values"),
        ({"by": "carrier", "AA": {"pth": "x"}}, "pth"),
        ({"by": "carrier", "AA": MODEL, "models": {"AA": MODEL}}, "'AA' has two models"),
        ({"by": "carrier", "default": MODEL, "models": {"default": MODEL}}, "'default' cannot have a model of its own"),
        ({"by": "carrier", "AA": MODEL, "keep_loaded": 0}, "keep_loaded"),
        ({"share_by": ["id"], "a": {"share": 1, **MODEL}}, "share_by needs two models or more"),
        ({"share_by": ["id"], "a": {"share": 0.5, **MODEL}, "b": {"share": 0.6, **MODEL}}, "must add up to 1, got 1.1"),
        ({"share_by": ["id"], "a": MODEL, "b": {"share": 0.6, **MODEL}}, "share"),
        ({"share_by": ["id"], "a b": {"share": 0.4, **MODEL}, "b": {"share": 0.6, **MODEL}}, "cannot name a model"),
        ({"combine": "median", "a": MODEL, "b": MODEL}, "'mean' or 'vote'"),
        ({"combine": "mean", "a": MODEL}, "combine needs two models or more"),
        ([], "at least 1 item"),
        ([MODEL], "name"),
        ([{"name": "a", **MODEL}, {"name": "a", **MODEL}], "two models of a sequence are named 'a'"),
        ({"a": MODEL}, "a list of models, or a mapping with by, share_by or combine"),
        ("late.onnx", "a list of models, or a mapping with by, share_by or combine"),
    ],
)
def test_what_is_wrong_is_said(content: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        READ.validate_python(content)

"""Several models in one job: in sequence, by key, side by side, or as an ensemble.

``models:`` of a job file is a list (a sequence) or a mapping, and the mapping says by one of the keys `by`, `share_by`
and `combine` what it is. Its other keys name the models.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from featuremill.core.models.spec import ModelSpec, _Strict

__all__ = ["TAGS", "ByKey", "Ensemble", "Group", "Models", "NamedModel", "SharedModel", "Shares"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SHARES_SUM_TOLERANCE = 1e-9
TAGS = ("sequence", "model", "by_key", "shares", "ensemble")
"""What pydantic adds to the place of an error within ``models:``; no keys of the job file."""

Combine = Literal["mean", "vote"]


class NamedModel(ModelSpec):
    """A model of a sequence."""

    name: str
    """What it is called in the column `model_version`, in metrics and in the reasons of rejected rows."""

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        return _checked(value)


class SharedModel(ModelSpec):
    """A model that gets a share of the rows."""

    share: Annotated[float, Field(gt=0, le=1)]
    """The part of the keys that are its own; those of all models make 1."""


class _Group(_Strict):
    name: str | None = None
    """What the step is called, in a sequence."""

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        return None if value is None else _checked(value)


class ByKey(_Group):
    """A model for each value of a column: ``{by: carrier, AA: {path: …}, default: {path: …}}``."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, ModelSpec]

    by: str
    """The column: text, integers, booleans or dates."""
    default: ModelSpec | None = None
    """For all other values, and null; without it their rows are set aside."""
    keep_loaded: Annotated[int, Field(gt=0)] | None = None
    """How many of the models a process keeps loaded; the one that was used longest ago goes. By default all."""
    models: dict[str, ModelSpec] = Field(default_factory=dict)
    """More models by value, for values that are keys of this mapping themselves, such as ``name``."""

    @model_validator(mode="before")
    @classmethod
    def _keys_are_texts(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        texts = {_text(k): v for k, v in value.items()}
        if isinstance(texts.get("models"), dict):
            texts["models"] = {_text(k): v for k, v in texts["models"].items()}
        return texts

    @model_validator(mode="after")
    def _has_models(self) -> ByKey:
        twice = sorted(set(self.models) & set(self.__pydantic_extra__ or {}))
        if twice:
            raise ValueError(f"{twice[0]!r} has two models, one of them below models")
        if self.default is not None and "default" in self.members:
            raise ValueError("the value 'default' cannot have a model of its own beside default, that of all others")
        if not self.members:
            raise ValueError(f"by: {self.by} needs a model for each of its values, such as AA: {{path: aa.onnx}}")
        return self

    @property
    def members(self) -> dict[str, ModelSpec]:
        """The models by the text of their key, without the default."""
        return {**(self.__pydantic_extra__ or {}), **self.models}


class Shares(_Group):
    """Models side by side, each for its share of the keys: ``{share_by: [id], a: {share: 0.9, path: …}, b: …}``."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, SharedModel]

    share_by: Annotated[list[str], Field(min_length=1)]
    """The columns whose values decide, by the same hash as a split; rows that share them get the same model."""

    @model_validator(mode="after")
    def _shares_make_one(self) -> Shares:
        total = sum(m.share for m in self.members.values())
        if len(self.members) < 2:
            raise ValueError("share_by needs two models or more, each with its share")
        if abs(total - 1) > SHARES_SUM_TOLERANCE:
            raise ValueError(f"the shares must add up to 1, got {total:g}")
        for name in self.members:
            _checked(name)
        return self

    @property
    def members(self) -> dict[str, SharedModel]:
        """The models by name, in the order of the job file."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def shares(self) -> dict[str, float]:
        """The share of each model, in the order of the job file."""
        return {name: m.share for name, m in self.members.items()}


class Ensemble(_Group):
    """Models that answer together: ``{combine: mean, first: {path: …}, second: {path: …}}``."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, ModelSpec]

    combine: Combine | dict[str, Combine]
    """How: the mean of numbers, or the value that most models give (the first model's among equals). By column, where
    columns differ: ``{score: mean, label: vote}``."""

    @model_validator(mode="after")
    def _has_models(self) -> Ensemble:
        if len(self.members) < 2:
            raise ValueError("combine needs two models or more, by name")
        for name in self.members:
            _checked(name)
        return self

    @property
    def members(self) -> dict[str, ModelSpec]:
        """The models by name, in the order of the job file."""
        return dict(self.__pydantic_extra__ or {})


def _tag(value: Any) -> str | None:
    """What `value` is, of :data:`TAGS`."""
    classes = {list: "sequence", ByKey: "by_key", Shares: "shares", Ensemble: "ensemble", NamedModel: "model"}
    for kind, tag in classes.items():
        if isinstance(value, kind):
            return tag
    if not isinstance(value, dict):
        return None
    return next((t for k, t in (("by", "by_key"), ("share_by", "shares"), ("combine", "ensemble")) if k in value), None)


def _item_tag(value: Any) -> str | None:
    if isinstance(value, dict):
        return _tag(value) or "model"
    tag = _tag(value)
    return None if tag == "sequence" else tag


def _names_differ(value: list[Any]) -> list[Any]:
    counts = Counter(item.name for item in value if item.name is not None)
    twice = [name for name, n in counts.items() if n > 1]
    if twice:
        raise ValueError(f"two models of a sequence are named {twice[0]!r}; names must differ")
    return value


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a model: letters, digits, '.', '_' and '-' only")
    return name


def _text(key: Any) -> Any:
    """YAML reads ``1:`` as a number and ``true:`` as a truth; keys are compared by their texts."""
    if isinstance(key, bool):
        return str(key).lower()
    return str(key) if isinstance(key, int) or hasattr(key, "isoformat") else key


Group = Annotated[ByKey, Tag("by_key")] | Annotated[Shares, Tag("shares")] | Annotated[Ensemble, Tag("ensemble")]
Item = Annotated[
    Annotated[NamedModel, Tag("model")] | Group,
    Discriminator(
        _item_tag,
        custom_error_type="models_item",
        custom_error_message="a model (name, path, …), or a mapping with by, share_by or combine",
    ),
]
Sequence = Annotated[list[Item], Field(min_length=1), AfterValidator(_names_differ)]

Models = Annotated[
    Annotated[Sequence, Tag("sequence")] | Group,
    Discriminator(
        _tag,
        custom_error_type="models_kind",
        custom_error_message="a list of models, or a mapping with by, share_by or combine",
    ),
]
"""``models:`` of a job file."""

"""What all parts of a job file have in common."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

__all__ = ["NAME", "Name", "Strict"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""A plain name: of a job, a run, an alias."""


def _plain(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(f"{value!r}: letters, digits, '.', '_' and '-' only")
    return value


Name = Annotated[str, AfterValidator(_plain)]
"""A text that is a plain name."""


class Strict(BaseModel):
    """What all parts of a job file are: unknown keys and values of other types are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True, use_attribute_docstrings=True
    )

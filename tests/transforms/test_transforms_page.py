"""docs/transforms.md against the classes: every transform has its line, with its parameters and their defaults."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from featuremill.transforms.registry import CATALOGUE, transform_class

PAGE = Path(__file__).parents[2] / "docs" / "transforms.md"
EVERYWHERE = {"columns", "output", "name"}


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_the_page_has_every_parameter(name):
    (line,) = [row for row in PAGE.read_text().splitlines() if row.startswith(f"| `{name}` |")]
    kind = transform_class(name)
    # A line may refer to another transform's parameters.
    known = {f.name for f in fields(transform_class("NGrams"))} if "those of `NGrams`" in line else set()
    for field in fields(kind):
        if field.name in EVERYWHERE | known:
            continue
        shown = field.name if field.default is MISSING else f"{field.name}={field.default!r}".replace("'", '"')
        assert f"`{shown}`" in line

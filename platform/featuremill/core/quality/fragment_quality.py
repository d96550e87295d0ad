"""The checks and profiles of one attempt at one fragment, as its rows go through the transforms."""

from __future__ import annotations

from collections.abc import Iterable

from featuremill.core.feature_recipe import numbered
from featuremill.core.quality.riding import OUTPUT, RAW, WRITTEN, Riding
from featuremill.core.quality.screen import kept_rows, screened
from featuremill.core.quality.statistics.collecting import placed_rows
from featuremill.transforms.fragments import TransformedBatch
from featuremill.transforms.partials import Placed

__all__ = ["FragmentQuality"]


class FragmentQuality:
    """The checks and profiles of one attempt at one fragment."""

    def __init__(self, riding: Riding | None, fragment: str) -> None:
        self._riding = riding
        self._fragment = fragment
        self._collected = None if riding is None else riding.collecting.begin()
        self.screen = None if riding is None or riding.screen is None else riding.screen.rejects

    def look(self, item: TransformedBatch, before: int) -> TransformedBatch:
        """Take note of a batch, and set aside what the checks do not let pass; `before` rows came in earlier ones."""
        if self._riding is None or self._collected is None:
            return item
        rows = before + kept_rows(item.read.num_rows, item.rejects)
        self._collected.update(RAW, numbered(item.read, self._fragment, before))
        placed = placed_rows(item.result, self._fragment, rows)
        self._collected.update(OUTPUT, placed)
        kept = screened(item, self._riding.output_screen)
        if kept is not item:
            rows = before + kept_rows(kept.read.num_rows, kept.rejects)
            placed = placed_rows(kept.result, self._fragment, rows)
        self._collected.update(WRITTEN, placed)
        return kept

    def partials(self) -> Iterable[Placed]:
        return () if self._collected is None else self._collected.partials()

"""What the workers of a job are told about quality: what to collect, which rows to take out, what else to read."""

from __future__ import annotations

from dataclasses import dataclass

from featuremill.core.quality.screen import Screen
from featuremill.core.quality.statistics.collecting import Collecting

__all__ = ["OUTPUT", "RAW", "WRITTEN", "Riding"]

RAW = "raw"
"""The side of the rows as they were read, all of them."""
OUTPUT = "output"
"""The side of the rows as they came out of the transforms or the models, before any of them is quarantined."""
WRITTEN = "written"
"""The side of the rows as they were written."""


@dataclass(frozen=True)
class Riding:
    """What rides on the passes of one job. Small and picklable.

    Parameters
    ----------
    collecting
        The statistics, by side.
    screen
        The checks of the raw rows that cost a row its place; None: there are none.
    output_screen
        The same of the rows that come out.
    columns
        The columns of the source that the raw side and its screen read.
    """

    collecting: Collecting
    screen: Screen | None = None
    output_screen: Screen | None = None
    columns: tuple[str, ...] = ()

"""From what workers collected to states, in Beam."""

from __future__ import annotations

import apache_beam as beam

from featuremill.core.quality.statistics.collecting import Collecting
from featuremill.transforms.combining import CombineStates
from featuremill.transforms.partials import Placed

__all__ = ["combine_quality"]


def combine_quality(partials: beam.PCollection[Placed], collecting: Collecting, folder: str) -> None:
    """Let what workers collected be combined into states in a folder, where `collecting` finds them afterwards."""
    if not collecting.statistics:
        return
    combine = CombineStates(collecting.slots, folder, shards=collecting.shards)
    _ = partials | "Quality" >> combine

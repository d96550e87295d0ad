"""What a scoring job finds out about its predictions, on their way to the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MAX_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from featuremill.core.dataset import REJECTED
from featuremill.core.feature_recipe import FRAGMENT, ROW, carried
from featuremill.core.quality.riding import OUTPUT, WRITTEN, Riding
from featuremill.core.quality.screen import take_out
from featuremill.core.quality.statistics.collecting import QUALITY
from featuremill.core.score_io import READ, FragmentQuarantine, by_fragment, dead_letters

__all__ = ["CheckBatches"]


@beam.typehints.with_output_types(pa.RecordBatch)
class CheckBatches(beam.DoFn):  # type: ignore[misc]
    """Batches with predictions in and out; rows that a check takes out tagged ``_rejected``, how many tagged ``read``.

    What was collected is given when a bundle ends, tagged ``quality``: of bundles that fail Beam keeps nothing.

    Parameters
    ----------
    riding
        What is collected, and which rows are taken out.
    stored
        The columns that are written, and which the suite is about; those of the source are the carried ones.
    makes
        The features and the predictions, which are profiled.
    letters
        The schema of the dead letters.
    """

    def __init__(self, riding: Riding, stored: Sequence[str], makes: Sequence[str], letters: pa.Schema) -> None:
        self.riding = riding
        self.stored = tuple(stored)
        self.makes = tuple(makes)
        self.letters = letters

    def start_bundle(self) -> None:
        self._collected = self.riding.collecting.only(OUTPUT, WRITTEN).begin()

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        stored = self._stored(batch)
        self._collected.update(OUTPUT, stored)
        screen = self.riding.output_screen
        rejects = [] if screen is None else screen.rejects(stored)
        if rejects:
            batch, taken = take_out(batch, rejects)
            for fragment, rows in by_fragment(taken.rows):
                yield TaggedOutput(READ, FragmentQuarantine(fragment, rows.num_rows))
            yield TaggedOutput(REJECTED, dead_letters(taken.rows, rejects, self.letters))
        self._collected.update(WRITTEN, batch.select([*self.makes, FRAGMENT, ROW]))
        if batch.num_rows:
            yield batch

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for placed in self._collected.partials():
            yield TaggedOutput(QUALITY, WindowedValue(placed, MAX_TIMESTAMP, [GlobalWindow()]))

    def _stored(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        there, names = set(batch.schema.names), (*self.stored, FRAGMENT, ROW)
        arrays = [batch.column(carried(n) if carried(n) in there else n) for n in names]
        return pa.RecordBatch.from_arrays(arrays, list(names))

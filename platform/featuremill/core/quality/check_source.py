"""The pass of a job that only reports, in Beam: fragments in, what was found in the staging folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from featuremill.core.dataset import FragmentResult, Staging, save_results
from featuremill.core.feature_recipe import numbered
from featuremill.core.job_fragment import JobFragment
from featuremill.core.quality.riding import RAW, Riding
from featuremill.core.quality.statistics.collecting import QUALITY
from featuremill.core.quality.statistics.combine import combine_quality
from featuremill.transforms.arrays import is_list, is_text

__all__ = ["CheckSource"]


class CheckSource(beam.PTransform):  # type: ignore[misc]
    """Fragments of a source in; one element out, when the list of what was read is written."""

    def __init__(self, staging: Staging, riding: Riding) -> None:
        super().__init__()
        self.staging = staging
        self.riding = riding

    def expand(self, fragments: beam.PCollection[JobFragment]) -> beam.PCollection[str]:
        found = fragments | "Check" >> beam.ParDo(_CheckFragment(self.riding)).with_outputs(QUALITY, main="results")
        combine_quality(found[QUALITY], self.riding.collecting, self.staging.quality)
        return (
            found.results
            | "List" >> beam.combiners.ToList()
            | "WriteResults" >> beam.Map(save_results, self.staging.results)
        )


class _CheckFragment(beam.DoFn):  # type: ignore[misc]
    """What a fragment holds: a result without files, and placed partials tagged ``quality``."""

    def __init__(self, riding: Riding) -> None:
        self.riding = riding
        self.rows = Metrics.counter("featuremill", "rows_checked")

    def process(self, fragment: JobFragment) -> Iterator[Any]:
        collected, read = self.riding.collecting.begin(), 0
        columns = self.riding.columns or fragment.schema.names[:1]
        types = {name: fragment.schema.field(name).type for name in columns}
        texts = [name for name, type_ in types.items() if is_text(type_) and not is_list(type_)]
        for batch in fragment.batches(columns, dictionary=texts):
            collected.update(RAW, numbered(batch, fragment.key, read))
            read += batch.num_rows
        self.rows.inc(read)
        fragment.note("check", read)
        yield FragmentResult(fragment.key, read, fragment.source.rows, (), left_out=0)
        for placed in collected.partials():
            yield TaggedOutput(QUALITY, placed)

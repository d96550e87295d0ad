"""What workers tell the launcher of the texts that they had to have vectors of: counters of Beam's."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter

from featuremill.transforms.vector_memory import Counts

__all__ = ["TextsTold", "texts_told"]

NAMESPACE = "featuremill"


class TextsTold:
    """The counters, for a DoFn to hold."""

    def __init__(self) -> None:
        self._counters = {f.name: Metrics.counter(NAMESPACE, f"texts_{f.name}") for f in fields(Counts)}

    def tell(self, counts: Counts) -> None:
        """Add what a piece of work came to."""
        for name, count in asdict(counts).items():
            if count:
                self._counters[name].inc(count)


def texts_told(result: Any) -> Counts:
    """What all workers told, from Beam's result of a pipeline."""
    found = Counts()
    for f in fields(Counts):
        wanted = MetricsFilter().with_namespace(NAMESPACE).with_name(f"texts_{f.name}")
        setattr(found, f.name, sum(m.result for m in result.metrics().query(wanted)["counters"]))
    return found

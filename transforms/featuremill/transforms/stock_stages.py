"""Lists of transforms with steps of Beam's own among them: what runs together, in which passes, on which columns.

Neighbouring ops of TensorFlow Transform run together, as in Beam; an embedding runs alone. What such a *run* makes is
kept beside the rows, in added columns; for whatever comes later a :class:`~featuremill.transforms.stock.Given` in the
place of each step gives them their names. So everything else (statistics, applying, rows set aside) works on one list
of transforms as if the run had been a part of the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import pyarrow as pa

from featuremill.artifacts.errors import MissingExtraError, RequestError
from featuremill.transforms.contract import Transform
from featuremill.transforms.pipeline import Pipeline
from featuremill.transforms.plan import Plan, Scan
from featuremill.transforms.stock import Given, Stock

__all__ = [
    "ADDED", "StockRun", "check_fits_on_a_split", "check_installed", "passes", "reach", "stock_runs", "substituted",
    "visible", "widened_schema",
]

ADDED = "__stock_"
"""What the names of added columns begin with; no column of a source may."""


@dataclass(frozen=True)
class StockRun:
    """Neighbouring steps that Beam runs together: positions `first` up to but not including `stop`."""

    first: int
    steps: tuple[Stock, ...]

    @property
    def stop(self) -> int:
        return self.first + len(self.steps)

    @property
    def name(self) -> str:
        """For messages and plans: ``tft.ScaleTo01('x'), tft.NGrams('t')``."""
        return ", ".join(_label(s) for s in self.steps)

    @property
    def inputs(self) -> list[str]:
        """The columns that the steps read as those before the run left them, in order."""
        made: set[str] = set()
        found: dict[str, None] = {}
        for step in self.steps:
            found.update(dict.fromkeys(c for c in step.columns if c not in made))
            made.update(step.output_names)
        return list(found)

    @property
    def outputs(self) -> list[str]:
        """The columns that the run makes, in order."""
        return list(dict.fromkeys(n for step in self.steps for n in step.output_names))

    def added(self, output: str) -> str:
        """The name of the added column that holds an output."""
        return f"{ADDED}{self.first:02d}_{output}"

    def fields(self, pipeline: Pipeline) -> list[pa.Field]:
        """The types of the outputs under their own names, for the pipeline of the whole list."""
        made: dict[str, pa.Field] = {}
        for i, step in enumerate(self.steps, self.first):
            made.update({f.name: f for f in step.output_fields(pipeline.schemas[i])})
        return [made[n] for n in self.outputs]


def _label(step: Stock) -> str:
    path = ".".join(step.provider.split(".")[-2:])
    return f"{path}({', '.join(repr(c) for c in step.columns)})"


def stock_runs(transforms: Sequence[Transform]) -> list[StockRun]:
    """The runs in a list of transforms, in order; empty where all are featuremill's.

    >>> from featuremill.transforms.numeric import Clip
    >>> scale = [Stock([c], provider="apache_beam.ml.transforms.tft.ScaleTo01") for c in "xy"]
    >>> [(r.first, r.stop) for r in stock_runs([*scale, Clip(["x"], max_value=0.5), *scale])]
    [(0, 2), (3, 5)]
    """
    runs: list[StockRun] = []
    for i, transform in enumerate(transforms):
        if not isinstance(transform, Stock):
            continue
        last = runs[-1] if runs else None
        if last is not None and last.stop == i and transform.is_tft and last.steps[-1].is_tft:
            runs[-1] = StockRun(last.first, (*last.steps, transform))
        else:
            runs.append(StockRun(i, (transform,)))
    return runs


def substituted(transforms: Sequence[Transform]) -> tuple[Transform, ...]:
    """The list as workers apply it, to rows with the added columns: a `Given` in the place of every `Stock`."""
    result = list(transforms)
    for run in stock_runs(transforms):
        for i, step in enumerate(run.steps, run.first):
            names = step.output_names
            result[i] = Given([run.added(n) for n in names], output=names)
    return tuple(result)


def widened_schema(transforms: Sequence[Transform], schema: pa.Schema, *, before: int | None = None) -> pa.Schema:
    """The source's schema and after it the columns that the runs add; with `before`, the runs that end by there."""
    clash = [n for n in schema.names if n.startswith(ADDED)]
    if clash:
        raise RequestError(
            f"The column {clash[0]!r}: names that begin with {ADDED!r} are taken. Rename it.", column=clash[0]
        )
    fields = list(schema)
    pipeline = Pipeline(transforms, schema)
    for run in stock_runs(transforms):
        if before is None or run.stop <= before:
            fields += [pa.field(run.added(f.name), f.type) for f in run.fields(pipeline)]
    return pa.schema(fields)


def check_installed(transforms: Sequence[Transform]) -> None:
    """Refuse steps whose package is not here, before anything runs: a MissingExtraError."""
    for step in transforms:
        if isinstance(step, Stock) and step.is_tft and find_spec("tensorflow_transform") is None:
            raise MissingExtraError(
                f"{step.provider} needs TensorFlow Transform: pip install 'featuremill[tft]'.", extra="tft"
            )


def check_fits_on_a_split(transforms: Sequence[Transform]) -> None:
    """Refuse a step whose statistics, if it has any, could not be kept to some of the rows.

    Ops of TensorFlow Transform can, and embeddings have none; of other classes nothing is known.
    """
    for step in transforms:
        if isinstance(step, Stock) and not step.is_tft and not step.is_embedding:
            raise RequestError(
                f"{step.provider}: it is not known whether it computes statistics, and a split keeps rows back from "
                "these. Remove the split, or the step.",
                transform=step.provider,
            )


def visible(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch without added columns."""
    names = [n for n in batch.schema.names if not n.startswith(ADDED)]
    return batch if len(names) == batch.num_columns else batch.select(names)


def passes(transforms: Sequence[Transform]) -> tuple[Scan, ...]:
    """The passes over the data before the last one, in their order: scans for statistics, and those that Beam makes.

    >>> from featuremill.transforms.bucketing import Bucketize
    >>> steps = [Stock(["x"], provider="apache_beam.ml.transforms.tft.ScaleTo01"), Bucketize(["x"], 4)]
    >>> [scan.why for scan in passes(steps)]
    ["Beam's own tft.ScaleTo01('x'), row by row", 'statistics for Bucketize(x), after ScaleTo01']
    """
    work = substituted(transforms)
    found: list[Scan] = []
    fitted = 0
    for run in stock_runs(transforms):
        found += Plan(work[: run.first], fitted=fitted).scans
        applies, columns = reach(work, run)
        kept = tuple(sorted(c for c in columns if not c.startswith(ADDED)))
        found.append(Scan((), tuple(sorted(applies)), kept, f"Beam's own {run.name}, row by row"))
        fitted = run.stop
    rest = Plan(work, fitted=fitted).scans
    return tuple(_named(s, transforms) for s in (*found, *rest))


def reach(work: Sequence[Transform], run: StockRun) -> tuple[set[int], set[str]]:
    """The transforms to apply (by position, in the substituted list) and the columns to read for a run's inputs."""
    plan = Plan([*work[: run.first], Given(run.inputs, output=run.inputs)])
    return plan.reach(run.first, run.inputs)


def _named(scan: Scan, transforms: Sequence[Transform]) -> Scan:
    """A scan for people: no added columns, and the names of Beam's steps."""
    columns = tuple(c for c in scan.columns if not c.startswith(ADDED))
    after = sorted({t.type_name.rpartition(".")[2] for t in (transforms[i] for i in scan.applies)})
    why = scan.why.partition(", after ")[0] + (f", after {', '.join(after)}" if after else "")
    return Scan(scan.slots, scan.applies, columns, why)

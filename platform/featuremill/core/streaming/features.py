"""Transforms applied to batches as they come, by an artifact that may be replaced by another under the same alias."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from featuremill.artifacts.aliases import resolve
from featuremill.artifacts.names import split_reference
from featuremill.artifacts.reader import load
from featuremill.core.dataset import REJECTED
from featuremill.core.feature_recipe import BoundRecipe, FeatureRecipe
from featuremill.core.score_io import dead_letters, letters_schema
from featuremill.core.streaming.following import Follower, Refused

__all__ = ["ArtifactRefresh", "MakeFeatures"]


@dataclass(frozen=True)
class ArtifactRefresh:
    """That the artifact follows its alias.

    Parameters
    ----------
    reference
        ``root/name@alias``.
    every
        Seconds between two looks of a process at the alias.
    fits
        Whether the job's models can be used with a version of the artifact: called with the version, and raising
        :class:`~featuremill.core.streaming.following.Refused` when they cannot.
    """

    reference: str
    every: float
    fits: Callable[[str], None] | None = None


class MakeFeatures(beam.DoFn):  # type: ignore[misc]
    """Batches of the source in; batches of features out, rows set aside tagged ``_rejected``.

    Each batch names the version of the artifact that made it, in the column ``artifact_version``.

    Parameters
    ----------
    recipe
        With the artifact's version at the start of the job.
    refresh
        Whether and how the artifact follows its alias. Another version is taken when it gives the same columns with the
        same types, reads no column that is not read already, and fits the models.
    """

    def __init__(self, recipe: FeatureRecipe, refresh: ArtifactRefresh | None = None) -> None:
        self.recipe = recipe
        self.refresh = refresh
        self._shared = Shared()
        self.aside = Metrics.counter("featuremill", "rows_aside_by_transforms")

    def setup(self) -> None:
        self._first = self.recipe.bound()
        self._letters = letters_schema(self._first)
        if self.refresh is not None:
            self._following = self._shared.acquire(self._follow)

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        bound = self._first if self.refresh is None else self._following.get()
        made = bound.apply(batch)
        if made.rejects:
            self.aside.inc(len(made.rejects))
            letters = dead_letters(made.rejected, made.rejects, self._letters)
            yield beam.pvalue.TaggedOutput(REJECTED, letters)
        if made.batch.num_rows:
            yield made.batch

    def _follow(self) -> Follower[str, BoundRecipe]:
        assert self.refresh is not None
        follow = _Versions(self.recipe, self._first, self.refresh)
        return Follower(
            f"artifact {self.refresh.reference}",
            str(self._first.version),
            self._first,
            find=follow.find,
            make=follow.make,
            every=self.refresh.every,
            note=lambda what: Metrics.counter("featuremill", f"artifact_{what}").inc(),
        )


class _Versions:
    """The versions that an alias stands for in the course of a run."""

    def __init__(self, recipe: FeatureRecipe, first: BoundRecipe, refresh: ArtifactRefresh) -> None:
        # Whatever the first version read is carried along, also when a later one does not need it.
        self.recipe = replace(recipe, keep=tuple(dict.fromkeys([*recipe.keep, *first.reads])))
        self.first = first
        self.refresh = refresh
        self.root, self.name, self.alias = split_reference(refresh.reference)
        self.promised = load(str(recipe.artifact)).output_schema

    def find(self) -> str:
        return resolve(self.root, self.name, str(self.alias))

    def make(self, version: str) -> BoundRecipe:
        artifact = load(f"{self.root}/{self.name}@{version}")
        if not artifact.output_schema.equals(self.promised):
            raise Refused(
                f"{artifact.name}@{version} makes other columns than {self.first.version}: "
                f"{_difference(self.promised, artifact.output_schema)}. Start the job again to use it."
            )
        bound = replace(self.recipe, artifact=artifact.location).bound()
        more = sorted(set(bound.reads) - set(self.first.reads))
        if more:
            raise Refused(
                f"{artifact.name}@{version} needs the column {more[0]!r}, which is not read. Start the job again."
            )
        if self.refresh.fits is not None:
            self.refresh.fits(version)
        return bound


def _difference(before: pa.Schema, after: pa.Schema) -> str:
    """The first column in which two schemas differ, in words."""
    for field in before:
        if field.name not in after.names:
            return f"{field.name!r} is missing"
        if after.field(field.name).type != field.type:
            return f"{field.name!r} is {after.field(field.name).type}, it was {field.type}"
    new = [n for n in after.names if n not in before.names]
    return f"{new[0]!r} is new" if new else "their order"

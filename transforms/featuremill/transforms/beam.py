"""featuremill's transforms inside Beam's own MLTransform: the one module of this package that Beam's users meet.

`featuremill.transforms.ScaleTo01` and its siblings are made here: each is the plain transform of its family and an
`MLTransformProvider` as well, so that ``MLTransform(...).with_transform(ScaleTo01(columns=["x"]))`` takes it. All
neighbouring featuremill transforms of an MLTransform share one :class:`Handler`, which fits and applies them together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import jsonpickle
from apache_beam.ml.transforms.base import ArtifactMode, MLTransform, MLTransformProvider, ProcessHandler

from featuremill.artifacts.errors import RequestError
from featuremill.transforms.contract import Transform
from featuremill.transforms.elements import FromFragments, ToFragments
from featuremill.transforms.engine import FitArtifact
from featuremill.transforms.plan import Plan
from featuremill.transforms.registry import CATALOGUE, from_config, to_config, transform_class

__all__ = ["Handler", "Provider", "Transforms", "attributes", *CATALOGUE]


class Provider(MLTransformProvider):  # type: ignore[misc]
    """What makes a transform acceptable to MLTransform. Mixed into every transform of the catalogue below."""

    def get_ptransform_for_processing(self, **kwargs: Any) -> Handler:
        """The handler that fits or applies this transform; MLTransform appends its neighbours to it."""
        location = kwargs.get("artifact_location")
        if not location:
            raise RequestError(f"{type(self).__name__}: MLTransform gave no artifact_location.")
        return Handler(location, kwargs.get("artifact_mode") or ArtifactMode.PRODUCE)


class Transforms(Provider):
    """Several transforms as one provider: what a job hands to MLTransform, your own registered transforms included.

    Parameters
    ----------
    transforms
        In order.
    shards
        Into how many pieces vocabularies are cut while they are combined; no result depends on it.
    """

    def __init__(self, transforms: Sequence[Transform], *, shards: int = 1) -> None:
        self.transforms = tuple(transforms)
        self.shards = shards

    def get_ptransform_for_processing(self, **kwargs: Any) -> Handler:
        """A handler, which takes the transforms when MLTransform appends this provider to it."""
        handler = super().get_ptransform_for_processing(**kwargs)
        handler.shards = self.shards
        return handler


class Handler(ProcessHandler):  # type: ignore[misc]
    """Fits transforms and applies them, or applies those of an artifact that is there.

    Parameters
    ----------
    artifact_location
        The artifact's folder. A relative one is below the folder that MLTransform was given, so that the whole can be
        moved.
    artifact_mode
        "produce" or "consume", as MLTransform says.
    shards
        Into how many pieces vocabularies are cut while they are combined.

    The input is a PCollection of fragments, of Arrow tables or record batches, or of rows (dicts, `beam.Row`,
    NamedTuples). What goes in comes out: transformed fragments, tables, batches; rows come out as `beam.Row` of NumPy
    arrays, as from Beam's own transforms.
    """

    def __init__(
        self,
        artifact_location: str,
        artifact_mode: str = ArtifactMode.PRODUCE,
        transforms: Sequence[Transform] = (),
        *,
        shards: int = 1,
    ) -> None:
        super().__init__()
        self.artifact_location = artifact_location
        self.artifact_mode = artifact_mode
        self.transforms = list(transforms)
        self.shards = shards

    def append_transform(self, transform: Transform | Transforms) -> None:
        """Take one more transform (or provider of several), to be applied after those that are there."""
        self.transforms.extend(transform.transforms if isinstance(transform, Transforms) else [transform])

    def __getstate__(self) -> dict[str, Any]:
        # What MLTransform writes into attributes.json: data only, and no absolute path, so that a folder can be moved.
        return {
            "folder": os.path.basename(self.artifact_location),
            "transforms": to_config(self.transforms),
            "shards": self.shards,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(  # type: ignore[misc]  # a PTransform has state of its own to set up
            state["folder"], ArtifactMode.CONSUME, from_config(state["transforms"]), shards=state["shards"]
        )

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[Any]:
        folder = self._folder(elements)
        fragments = elements | "ToFragments" >> ToFragments(Plan(self.transforms).input_columns)
        if self.artifact_mode == ArtifactMode.PRODUCE:
            if not elements.windowing.is_default():
                raise RequestError(
                    "MLTransform computes statistics over all rows, and this PCollection is windowed. Put "
                    "beam.WindowInto(beam.transforms.window.GlobalWindows()) before it."
                )
            location = fragments | "Fit" >> FitArtifact(self.transforms, folder, shards=self.shards)
        else:
            location = elements.pipeline | "Artifact" >> beam.Create([folder])
        return fragments | "Apply" >> FromFragments(location, elements.element_type)

    def _folder(self, elements: beam.PCollection[Any]) -> str:
        if os.path.isabs(self.artifact_location) or "://" in self.artifact_location:
            return self.artifact_location
        # Read back from attributes.json: relative to the folder that the enclosing MLTransform reads.
        for applied in reversed(elements.pipeline.transforms_stack):
            if isinstance(applied.transform, MLTransform):
                return os.path.join(os.path.abspath(applied.transform._parent_artifact_location), self.artifact_location)
        return os.path.abspath(self.artifact_location)


def attributes(transforms: Sequence[Transform]) -> bytes:
    """The content of ``attributes.json``, with which MLTransform reads a published artifact from its own folder."""
    content: str = jsonpickle.encode([Handler(os.curdir, transforms=transforms)])
    return content.encode()


def _provider(name: str) -> type[Transform]:
    """The transform of that name, acceptable to MLTransform too."""
    plain = transform_class(name)
    return type(name, (plain, Provider), {"__module__": __name__, "__doc__": plain.__doc__})


for _name in CATALOGUE:
    globals()[_name] = _provider(_name)

"""featuremill's transforms inside Beam's own MLTransform: the one module of this package that Beam's users meet.

`featuremill.transforms.ScaleTo01` and its siblings are made here: each is the plain transform of its family and an
`MLTransformProvider` as well, so that ``MLTransform(...).with_transform(ScaleTo01(columns=["x"]))`` takes it. All
neighbouring featuremill transforms of an MLTransform share one :class:`Handler`, which fits and applies them together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NoReturn

import apache_beam as beam
import jsonpickle
import pyarrow as pa

from featuremill.artifacts.errors import RequestError
from featuremill.artifacts.store import open_store
from featuremill.transforms.beam_ml import ArtifactMode, MLTransform, MLTransformProvider, ProcessHandler
from featuremill.transforms.contract import Transform
from featuremill.transforms.elements import FromFragments, ToFragments
from featuremill.transforms.engine import FitArtifact
from featuremill.transforms.plan import Plan
from featuremill.transforms.registry import CATALOGUE, from_config, to_config, transform_class

__all__ = ["Handler", "Provider", "Transforms", "attributes", *CATALOGUE]  # noqa: PLE0604  # CATALOGUE: all strings


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
    schema
        The schema of the rows; needed where Beam's own steps (:class:`~featuremill.transforms.stock.Stock`) are among
        the transforms, since Beam has to know the types while the pipeline is built.
    folder
        Where the artifact goes; None: below MLTransform's location, which Beam wants on a disk or in Cloud Storage. A
        folder of its own may be in any bucket.
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        *,
        shards: int = 1,
        schema: pa.Schema | None = None,
        folder: str | None = None,
    ) -> None:
        self.transforms = tuple(transforms)
        self.shards = shards
        self.schema = schema
        self.folder = folder

    def get_ptransform_for_processing(self, **kwargs: Any) -> Handler:
        """A handler, which takes the transforms when MLTransform appends this provider to it."""
        given = {} if self.folder is None else {"artifact_location": self.folder}
        handler = super().get_ptransform_for_processing(**kwargs | given)
        handler.shards = self.shards
        handler.schema = self.schema
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
        # While it is produced the location is what MLTransform was given: relative to where the launcher stands.
        produce = artifact_mode == ArtifactMode.PRODUCE and "://" not in artifact_location
        self.artifact_location = os.path.abspath(artifact_location) if produce else artifact_location
        self.artifact_mode = artifact_mode
        self.transforms = list(transforms)
        self.shards = shards
        self.schema: pa.Schema | None = None

    def default_label(self) -> str:
        """A name of its own for each handler of an MLTransform, between two of which stock transforms may stand."""
        folder = os.path.basename(self.artifact_location)
        return "Handler" if folder in ("", os.curdir) else f"Handler_{folder}"

    def with_exception_handling(self, **_: Any) -> NoReturn:
        """Refused: MLTransform would leave out, without a word, a handler that does not have this method."""
        raise RequestError(
            "featuremill's transforms do not work with MLTransform.with_exception_handling. Run them in a prepare job, "
            "which sets bad rows aside (max_bad_rows), or remove the call."
        )

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
            location, fragments = self._fit(fragments, folder)
        else:
            location = elements.pipeline | "Artifact" >> beam.Create([folder])
            if any(t.beam_only for t in self.transforms):
                from featuremill.transforms.stock_steps import ApplyStock

                fragments = fragments | "Stock" >> ApplyStock(self.transforms, folder)
        return fragments | "Apply" >> FromFragments(location, elements.element_type)

    def _fit(self, fragments: beam.PCollection[Any], folder: str) -> tuple[Any, Any]:
        # Here and not on a worker, which need not have the files, or may have others of the same name.
        self.transforms = [transform.pinned() for transform in self.transforms]
        store = open_store(folder)
        for transform in self.transforms:
            for path, data in transform.file_contents().items():
                store.put(path, data)
        if not any(t.beam_only for t in self.transforms):
            fit = FitArtifact(self.transforms, folder, shards=self.shards, schema=self.schema)
            return fragments | "Fit" >> fit, fragments
        from featuremill.transforms.stock_steps import FitWithStock

        if self.schema is None:
            raise RequestError(
                "Steps of Beam's own between featuremill's transforms need the schema of the rows: "
                "Transforms([...], schema=...). Or give them to MLTransform themselves, beside featuremill's."
            )
        result: tuple[Any, Any] = fragments | "Fit" >> FitWithStock(
            self.transforms, folder, self.schema, shards=self.shards
        )
        return result

    def _folder(self, elements: beam.PCollection[Any]) -> str:
        if os.path.isabs(self.artifact_location) or "://" in self.artifact_location:
            return self.artifact_location
        # Read back from attributes.json: relative to the folder that the enclosing MLTransform reads.
        for applied in reversed(elements.pipeline.transforms_stack):
            if isinstance(applied.transform, MLTransform):
                parent = applied.transform._parent_artifact_location
                return os.path.join(parent if "://" in parent else os.path.abspath(parent), self.artifact_location)
        return os.path.abspath(self.artifact_location)


def attributes(transforms: Sequence[Transform]) -> bytes:
    """The content of ``attributes.json``, with which MLTransform reads a published artifact from its own folder."""
    content: str = jsonpickle.encode([Handler(os.curdir, ArtifactMode.CONSUME, transforms)])
    return content.encode()


def _provider(name: str) -> type[Transform]:
    """The transform of that name, acceptable to MLTransform too."""
    plain = transform_class(name)
    return type(name, (plain, Provider), {"__module__": __name__, "__doc__": plain.__doc__})


for _name in CATALOGUE:
    globals()[_name] = _provider(_name)

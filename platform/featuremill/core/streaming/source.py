"""The endless source of a job: what columns its rows have, and the transform that reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from featuremill.artifacts.errors import MissingExtraError, ParameterError, RequestError
from featuremill.core.files import is_local
from featuremill.core.models.outputs import parse_type
from featuremill.core.parquet_source import ParquetSource
from featuremill.core.streaming.messages import ReadMessages
from featuremill.core.streaming.spec import PubSubSpec, WatchSpec
from featuremill.core.streaming.watching import ReadFiles, WatchFiles
from featuremill.transforms.arrays import value_type

__all__ = ["ArrivingSource"]


FILES_AT_ONCE = 8
"""Files of a backlog that Beam's direct runner takes into one bundle: their results appear together."""


class ArrivingSource:
    """Rows that arrive as files or messages.

    Parameters
    ----------
    spec
        What the job file says.
    known
        The columns that the job's artifact was fitted on; None without one.

    Raises
    ------
    RequestError
        When nothing tells which columns the rows have.

    >>> spec = PubSubSpec.model_validate(
    ...     {"topic": "projects/p/topics/t", "schema": {"x": "double"}, "message_id": "id"})
    >>> ArrivingSource(spec, None).schema
    x: double
    id: string
    """

    def __init__(self, spec: WatchSpec | PubSubSpec, known: pa.Schema | None) -> None:
        self.spec = spec
        fields = {f.name: pa.field(f.name, value_type(f.type)) for f in known or ()}
        fields.update({name: pa.field(name, parse_type(type_)) for name, type_ in spec.columns.items()})
        if not fields and isinstance(spec, WatchSpec):
            fields = {f.name: pa.field(f.name, value_type(f.type)) for f in _schema_of_files(spec.path)}
        if not fields:
            raise RequestError(
                "Nothing tells which columns the messages have: write schema: {COLUMN: TYPE} below pubsub.",
                parameter="schema",
            )
        if isinstance(spec, PubSubSpec) and spec.message_id is not None:
            if spec.message_id in fields:
                raise RequestError(
                    f"message_id: {spec.message_id!r} is a column of the messages already. Choose another name.",
                    parameter="message_id",
                )
            fields[spec.message_id] = pa.field(spec.message_id, pa.string())
        self.schema = pa.schema(list(fields.values()))

    def fragments(self) -> Sequence[Any]:
        """None: what will arrive is not known."""
        return ()

    def describe(self) -> Mapping[str, Any]:
        """What the source is, JSON-ready."""
        if isinstance(self.spec, WatchSpec):
            return {"kind": "watch", "path": self.spec.path, "where": self.spec.where, "every": self.spec.every}
        return {"kind": "pubsub", "path": self.spec.subscription or self.spec.topic, "max_delay": self.spec.max_delay}

    def read(self, pipeline: beam.Pipeline, columns: Sequence[str], *, local: bool) -> Any:
        """``batches`` with these columns and where each row is from, and ``rejected`` with what could not be read.

        Parameters
        ----------
        local
            Whether Beam's direct runner runs it.
        """
        schema = pa.schema([self.schema.field(n) for n in columns])
        if isinstance(self.spec, WatchSpec):
            spec = self.spec
            watch = WatchFiles(
                os.path.abspath(os.path.expanduser(spec.path)) if is_local(spec.path) else spec.path,
                every=spec.every,
                settle=spec.settle,
                stop_after=spec.stop_after,
                idle=spec.idle,
                at_once=FILES_AT_ONCE if local else None,
            )
            files = pipeline | "Watch" >> watch
            return files | "Files" >> ReadFiles(
                schema, where=spec.where, batch_rows=spec.batch_rows, spread=not local
            )
        return self.read_messages(pipeline | "PubSub" >> _pubsub(self.spec), schema)

    def read_messages(self, messages: beam.PCollection[Any], schema: pa.Schema) -> Any:
        """The same for messages that come from elsewhere."""
        assert isinstance(self.spec, PubSubSpec)
        spec = self.spec
        return messages | "Messages" >> ReadMessages(
            pa.schema([f for f in schema if f.name != spec.message_id]),
            batch_rows=spec.batch_rows,
            max_delay=spec.max_delay,
            message_id=spec.message_id if spec.message_id in schema.names else None,
        )


def _schema_of_files(path: str) -> pa.Schema:
    try:
        return ParquetSource(path).schema
    except RequestError as error:
        raise RequestError(
            f"{error} And no artifact tells which columns the files will have: write schema: {{COLUMN: TYPE}} below "
            "watch, or let the first file be there.",
            path=path,
        ) from error


def _pubsub(spec: PubSubSpec) -> beam.PTransform:
    try:
        from apache_beam.io.gcp.pubsub import ReadFromPubSub

        return ReadFromPubSub(
            topic=spec.topic,
            subscription=spec.subscription,
            id_label=spec.id_attribute,
            with_attributes=True,
            timestamp_attribute=spec.timestamp_attribute,
        )
    except ValueError as error:
        raise ParameterError(f"pubsub: {error}", parameter="topic" if spec.topic else "subscription") from error
    except ImportError as error:
        raise MissingExtraError(
            'Reading from Pub/Sub needs Beam\'s own client: pip install "apache-beam[gcp]".', extra="gcp"
        ) from error

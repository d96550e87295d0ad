"""What a job file says of rows that keep arriving: where from, and how long they may wait."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from featuremill.core.jobfile import SourceSpec
from featuremill.core.streaming.durations import Seconds
from featuremill.core.strict import Strict

__all__ = ["PubSubSpec", "RefreshSpec", "ScoreSource", "WatchSpec"]

SUBSCRIPTION = re.compile(r"projects/[^/]+/subscriptions/[^/]+")
TOPIC = re.compile(r"projects/[^/]+/topics/[^/]+")


class WatchSpec(Strict):
    """Parquet files that appear in a folder."""

    path: str
    """The folder, with all folders below it, or a pattern such as ``incoming/**/*.parquet``."""
    every: Seconds = 10.0
    """How often to look, such as ``10s``."""
    where: str | None = None
    """Which rows, as a SQL condition."""
    columns: dict[str, str] = Field(default_factory=dict, alias="schema")
    """Columns and their Arrow types, ``{price: double}``: those that the artifact does not know. Without an artifact,
    by default what the files that are there already have."""
    batch_rows: Annotated[int, Field(gt=0)] = 131_072
    """How many rows are in memory at a time, for each worker."""
    settle: Seconds = 60.0
    """How long after its last change a file that cannot be read as Parquet is taken for one that is still being
    written. After that it goes to the dead letters."""
    stop_after: Seconds | None = None
    """Look for so long, then end. Without it, and without idle, the job runs until it is stopped."""
    idle: Seconds | None = None
    """End when no new file has come for so long; longer than settle."""

    @model_validator(mode="after")
    def _waits_for_files(self) -> WatchSpec:
        if self.idle is not None and self.idle <= self.settle:
            raise ValueError(
                f"idle ({self.idle:g}s) must be longer than settle ({self.settle:g}s), or the job could end while a "
                "file is still being written"
            )
        return self


class PubSubSpec(Strict):
    """Messages of Google Pub/Sub, one JSON object each."""

    subscription: str | None = None
    """``projects/PROJECT/subscriptions/NAME``. What was not scored when the job stops stays in it."""
    topic: str | None = None
    """``projects/PROJECT/topics/NAME``, instead: a subscription is made for the run, and sees what comes from then."""
    format: Literal["json"] = "json"
    """How a message holds its row."""
    columns: dict[str, str] = Field(default_factory=dict, alias="schema")
    """Columns and their Arrow types, ``{price: double}``: those that the artifact does not know, or all without one."""
    timestamp_attribute: str | None = None
    """The attribute that holds the event's time; by default the time of publishing."""
    id_attribute: str | None = None
    """The attribute by which the runner tells messages that were published twice, where it does that (Dataflow)."""
    message_id: str | None = None
    """The name of a column to hold Pub/Sub's id of the message, so that readers can tell a row that came twice."""
    batch_rows: Annotated[int, Field(gt=0)] = 10_000
    """A batch is scored when it has so many messages …"""
    max_delay: Seconds = 1.0
    """… or when its first message has waited for so long."""

    @field_validator("subscription")
    @classmethod
    def _a_subscription(cls, value: str | None) -> str | None:
        if value is not None and not SUBSCRIPTION.fullmatch(value):
            raise ValueError(f"a subscription is written projects/PROJECT/subscriptions/NAME, got {value!r}")
        return value

    @field_validator("topic")
    @classmethod
    def _a_topic(cls, value: str | None) -> str | None:
        if value is not None and not TOPIC.fullmatch(value):
            raise ValueError(f"a topic is written projects/PROJECT/topics/NAME, got {value!r}")
        return value

    @model_validator(mode="after")
    def _one_of_two(self) -> PubSubSpec:
        if (self.subscription is None) == (self.topic is None):
            got = "both" if self.topic else "neither"
            raise ValueError(f"pubsub needs one of subscription and topic, got {got}")
        return self


class ScoreSource(SourceSpec):
    """Where the rows to be scored come from: one of four. With the first two the job ends when all rows are read."""

    watch: WatchSpec | None = None
    """Files as they appear in a folder."""
    pubsub: PubSubSpec | None = None
    """Messages of Google Pub/Sub."""

    @property
    def arriving(self) -> WatchSpec | PubSubSpec | None:
        """The endless source, where it is one."""
        return self.watch or self.pubsub


class RefreshSpec(Strict):
    """What may be replaced while a job with an endless source runs."""

    models: Seconds | None = None
    """How often to look for newer models: at a file that may be overwritten, or at a pattern, whose newest match
    counts. By default never."""
    artifact: Seconds | None = None
    """How often to look at the artifact's alias. By default never."""
    through: Literal["workers", "beam"] = "workers"
    """Who looks for models: each worker process, on any runner; or Beam's ``WatchFilePattern``, a side input, for
    single models with a pattern and for runners that update side inputs, as Dataflow does."""

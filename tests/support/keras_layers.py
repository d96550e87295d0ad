"""A Keras layer and a subclassed model of the user's own, to be named in a job file."""

from __future__ import annotations

from typing import Any

import keras

__all__ = ["Double", "Plain"]


@keras.saving.register_keras_serializable(package="support")
class Double(keras.layers.Layer):
    """Twice its input."""

    def call(self, x: Any) -> Any:
        return x * 2


@keras.saving.register_keras_serializable(package="support")
class Plain(keras.Model):
    """A model that is written as a class, so that its file does not tell its inputs."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.dense(x)

"""Dropout that is the same on any number of replicas."""

from typing import Any

import keras
import tensorflow as tf

from tfdist.internals.access.replica import current_rows
from tfdist.ops import hashing
from tfdist.process.errors import UsageError


@keras.saving.register_keras_serializable(package="tfdist")
class RowDropout(keras.layers.Layer):
    """Sets elements to zero at random, keyed by the row's place in the global batch and the step.

    Keras' own dropout draws one mask for a replica's batch, so that a run depends on the number of replicas. Here each
    row has a stream of its own (SplitMix64, see `tfdist.ops.hashing`): N replicas drop what one device drops.
    It also works in plain Keras, as on one replica.

    Args:
        rate: fraction of the elements that are dropped, 0..1; the others are scaled by 1 / (1 - rate).
        seed: whole number, or None for one that Keras draws.
        whole_rows: whether all elements of a row are dropped together. In front of the sum of a residual block, that
            is stochastic depth (Huang et al. 2016, arXiv:1603.09382).

    Raises:
        ValueError: a rate outside 0 ≤ rate < 1.
    """

    def __init__(self, rate: float, seed: int | None = None, whole_rows: bool = False, **options: Any) -> None:
        super().__init__(**options)
        if not 0 <= rate < 1:
            raise UsageError(f"RowDropout: rate is {rate}. Use 0 ≤ rate < 1.")
        self.rate = rate
        self.whole_rows = whole_rows
        # Its state, which checkpoints keep, counts the steps.
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._seed = seed
        self.supports_masking = True
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns `inputs` (B, ...) with elements dropped where `training` is true."""
        if not training or not self.rate:
            return inputs
        state = self.seed_generator.state
        seed, step = tf.unstack(tf.cast(tf.convert_to_tensor(state.value), tf.int64))
        state.assign(tf.convert_to_tensor(state.value) + tf.constant([0, 1], state.value.dtype))
        rows = current_rows()
        first = tf.constant(0, tf.int64) if rows is None else rows.first
        places = first + tf.range(tf.shape(inputs, out_type=tf.int64)[0])
        keys = tf.stack([tf.fill(tf.shape(places), seed), step * 2**32 + places], axis=1)
        drawn = tf.shape(inputs)[1:]
        if self.whole_rows:
            drawn = tf.ones_like(drawn)
        draws = hashing.uniforms(keys, tf.reduce_prod(drawn), stream=0)
        draws = tf.reshape(draws, tf.concat([tf.shape(inputs)[:1], drawn], axis=0))
        kept = tf.cast(draws >= self.rate, inputs.dtype)
        return inputs * kept / tf.cast(1 - self.rate, inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "rate": self.rate, "seed": self._seed, "whole_rows": self.whole_rows}

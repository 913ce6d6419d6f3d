"""What two workers train for `tests/training/test_loss_watch.py`."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs

import tfdist
from tfdist.process.errors import NotFiniteError


class WithoutEffect(keras.layers.Layer):
    """Returns zeros, also for NaN, and so is its gradient."""

    def call(self, x):
        return tf.math.multiply_no_nan(x, tf.zeros((), x.dtype))


def make_model(strategy, *, optimizer=None, unused=False):
    """Returns a compiled classifier; `unused` adds a weight without an effect on the loss."""
    keras.utils.set_random_seed(7)
    with strategy.scope() if strategy else contextlib.nullcontext():
        inputs = keras.Input((jobs.WIDTH,))
        hidden = keras.layers.Dense(4, "tanh", name="hidden")(inputs)
        if unused:
            nothing = WithoutEffect()(keras.layers.Dense(4, use_bias=False, name="unused")(inputs))
            hidden = keras.layers.Add()([hidden, nothing])
        outputs = keras.layers.Dense(jobs.CLASSES, "softmax", name="classes")(hidden)
        model = keras.Model(inputs, outputs)
        model.compile(optimizer or keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


def rows_with_nan(place):
    """Returns 48 rows, one of which has a NaN."""
    x, y = jobs.make_rows(48, "float32")
    x[place, 0] = np.nan
    return x, y


class WeightsTurnNan(keras.callbacks.Callback):
    """Sets a weight to NaN that no loss reads."""

    def __init__(self, after):
        super().__init__()
        self._after = after

    def on_train_batch_end(self, batch, logs=None):
        if batch == self._after:
            kernel = self.model.get_layer("unused").kernel
            kernel.assign(np.full(kernel.shape, np.nan))


def diverge(strategy, folder):
    """Returns the message of a training whose fifth batch has a NaN, on the second worker's row."""
    model = make_model(strategy)
    with pytest.raises(NotFiniteError) as error:
        tfdist.fit(
            *(model, *rows_with_nan(39)),
            batch_size=8,
            shuffle=False,
            verbose=0,
            run_dir=folder,
            checkpoint_every_steps=2,
            steps_per_execution=2,
        )
    return str(error.value)

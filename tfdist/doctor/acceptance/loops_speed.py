"""Rows per second of loops that are measured in turns."""

import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from tfdist import training

_STEPS, _REPLICA_BATCH, _FEATURES = 200, 64, 32
_ROUNDS = 3


class _LastEpoch(keras.callbacks.Callback):
    """Times the last epoch; it has no methods for batches, which would shorten the calls."""

    def on_epoch_begin(self, epoch, logs=None):
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self._begin


def rows_per_second(names, strategy):
    """Measures loops, round after round, every second round in reverse order.

    Args:
        names: of "arrays" and "tf_data", which are `tfdist.fit`, and "stock_fit", which is Keras' own on arrays.
        strategy: the strategy of all loops.

    Returns:
        name → the median of the rounds; 0 for "stock_fit" where Keras' own loop fails.
    """
    batch = _REPLICA_BATCH * strategy.num_replicas_in_sync
    x = np.random.default_rng(0).normal(size=(_STEPS * batch, _FEATURES)).astype("float32")
    y = x.argmax(axis=1).astype("int32")
    models = {name: _make_model(strategy) for name in names}
    samples = {name: [] for name in names}
    for number in range(_ROUNDS):
        for name in names if number % 2 == 0 else names[::-1]:
            samples[name].append(_rate(name, models[name], x, y, batch))
    return {name: statistics.median(values) for name, values in samples.items()}


def _make_model(strategy):
    with strategy.scope():
        dense = [keras.layers.Dense(64, "relu"), keras.layers.Dense(_FEATURES)]
        model = keras.Sequential([keras.Input((_FEATURES,)), *dense])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def _rate(name, model, x, y, batch):
    try:
        return len(x) / _seconds(name, model, x, y, batch)
    except Exception:
        if name != "stock_fit":
            raise
        # It does not run on every strategy, and that is no fault of this machine.
        return 0.0


def _seconds(name, model, x, y, batch):
    """Returns the time of the second of two epochs, which excludes what `fit` does once."""
    clock = _LastEpoch()
    fit = keras.Model.fit if name == "stock_fit" else training.fit
    rows = {"x": x, "y": y, "batch_size": batch}
    if name == "tf_data":
        rows = {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(batch).prefetch(tf.data.AUTOTUNE)}
    fit(model, **rows, epochs=2, verbose=0, callbacks=[clock])
    return clock.seconds

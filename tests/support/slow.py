"""Delays that are known: in the input, and in the forward pass."""

import time

import keras
import numpy as np
import tensorflow as tf
from support import jobs


def slow_batches(seconds, *, batches=12, rows=8):
    """Returns a `tf.data` set whose every batch takes so long to make, one after the other."""

    def sleep(x):
        time.sleep(seconds)
        return x

    def make(x, y):
        return tf.ensure_shape(tf.numpy_function(sleep, [x], tf.float32), x.shape), y

    x, y = jobs.make_rows(batches * rows, "float32")
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(rows, drop_remainder=True)
    return data.map(make) if seconds else data


class Pause(keras.layers.Layer):
    """Lets the forward pass wait; the values stay what they are."""

    def __init__(self, seconds):
        super().__init__()
        self._seconds = seconds

    def call(self, x):
        """Returns x, later."""

        def sleep(values):
            time.sleep(self._seconds)
            return np.float32(0)

        pause = tf.numpy_function(sleep, [x], tf.float32)
        pause.set_shape([])
        return x + tf.stop_gradient(pause)


def make_model(pause=0.0):
    """Returns a compiled MLP that waits so long in each forward pass."""
    keras.utils.set_random_seed(7)
    layers = [keras.Input((jobs.WIDTH,)), *([Pause(pause)] if pause else []), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy", steps_per_execution=3)
    return model

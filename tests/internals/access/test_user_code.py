"""What is known of Keras' classes, and what a user's code may do."""

import keras
import pytest
import tensorflow as tf

import tfdist
from tfdist.internals.access import user_code

pytestmark = pytest.mark.core


def own(y_true, y_pred):
    return tf.reduce_mean(y_pred, axis=-1)


class OwnMean(keras.metrics.Mean):
    """A subclass of Keras'."""


KNOWN = [
    keras.losses.MeanSquaredError,
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.CTC,
    keras.metrics.AUC,
    keras.metrics.R2Score,
    keras.metrics.SparseCategoricalAccuracy,
    lambda: keras.metrics.MeanMetricWrapper(keras.losses.mean_squared_error),
]
OTHERS = [
    keras.losses.Dice,
    lambda: keras.losses.Dice(axis=1),
    keras.losses.Circle,
    keras.losses.Tversky,
    lambda: keras.metrics.MeanMetricWrapper(keras.losses.dice),
    lambda: keras.metrics.MeanMetricWrapper(own),
    OwnMean,
]


def test_what_is_known_of_a_loss_or_a_metric():
    assert [user_code.is_known(make()) for make in KNOWN] == [True] * len(KNOWN)
    assert [user_code.is_known(make()) for make in OTHERS] == [False] * len(OTHERS)


class Adds(keras.layers.Layer):
    """Adds a loss within a function of its own."""

    def call(self, x):
        def add(loss):
            self.add_loss(loss)

        add(tf.reduce_mean(x))
        return x


class AddsElsewhere(keras.layers.Layer):
    """Adds a loss by a function of the module."""

    def call(self, x):
        return outer(self, x)


def outer(layer, x):
    return inner(layer, x)


def inner(layer, x):
    layer.add_loss(tf.reduce_mean(x))
    return tfdist.gather_rows(x)


class Plain(keras.layers.Layer):
    """Adds nothing."""

    def call(self, x):
        return x


@pytest.mark.parametrize(
    "layer, adds, exchanges", [(Adds, True, False), (AddsElsewhere, True, True), (Plain, False, False)]
)
def test_the_code_of_layers_is_read(layer, adds, exchanges):
    model = keras.Sequential([keras.Input((2,)), layer()])
    model.compile("sgd", "mse")
    assert bool(user_code.adding_layers(model)) == adds
    assert user_code.calls_operation(model) == exchanges
    assert user_code.has_own_code(model)
    plain = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, activity_regularizer="l2")])
    plain.compile("sgd", "mse")
    assert user_code.adding_layers(plain) == []
    assert not user_code.has_own_code(plain)

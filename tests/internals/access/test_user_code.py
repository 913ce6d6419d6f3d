"""What is known of Keras' classes, and what a user's code may do."""

import functools

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
    keras.losses.CosineSimilarity,
    keras.metrics.CosineSimilarity,
    lambda: keras.metrics.IoU(2, [0], axis=-1),
]
OTHERS = [
    keras.losses.Dice,
    lambda: keras.losses.Dice(axis=1),
    keras.losses.Circle,
    keras.losses.Tversky,
    lambda: keras.metrics.MeanMetricWrapper(keras.losses.dice),
    lambda: keras.metrics.MeanMetricWrapper(own),
    OwnMean,
    lambda: keras.losses.CosineSimilarity(axis=0),
    lambda: keras.losses.CategoricalCrossentropy(axis=0),
    lambda: keras.losses.CosineSimilarity(axis=-2),
    lambda: keras.metrics.CosineSimilarity(axis=0),
]


def test_what_is_known_of_a_loss_or_a_metric():
    assert [user_code.is_known(make()) for make in KNOWN] == [True] * len(KNOWN)
    assert [user_code.is_known(make()) for make in OTHERS] == [False] * len(OTHERS)


class Calls:
    """Is called like a function."""

    def __call__(self, *arguments, **options):
        return keras.ops.zeros(arguments[0])


layers = keras.layers


@pytest.mark.parametrize(
    "make, is_tried",
    [
        (lambda: layers.Softmax(axis=0), True),
        (lambda: layers.Softmax(axis=-3), True),
        (lambda: layers.UnitNormalization(axis=[0]), True),
        (lambda: layers.Dense(2, activation=Calls()), True),
        (lambda: layers.Activation(functools.partial(keras.activations.softmax, axis=0)), True),
        (lambda: layers.Activation(lambda x: x), True),
        (layers.Softmax, False),
        (lambda: layers.Softmax(axis=-2), False),
        (lambda: layers.LayerNormalization(axis=(-2, -1)), False),
        (
            lambda: layers.Dense(2, "relu", kernel_initializer=keras.initializers.Ones(), kernel_constraint="non_neg"),
            False,
        ),
        (lambda: layers.Dense(2, bias_initializer=Calls()), False),
        (lambda: layers.TimeDistributed(layers.Dense(2, activation=keras.activations.gelu)), False),
        (lambda: layers.LSTM(2, return_sequences=True), False),
        (lambda: layers.Bidirectional(layers.GRU(2, return_sequences=True)), False),
        (lambda: layers.Conv1D(2, 3), False),
        (layers.GroupNormalization, False),
    ],
)
def test_which_layers_are_tried(make, is_tried):
    inputs = keras.Input((4, 32))
    layer = make()
    model = keras.Model(inputs, layer(inputs))
    assert (layer in user_code.own_layers(model)) == is_tried


def test_an_axis_is_counted_from_the_end_in_a_model_that_is_no_graph():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.last = layers.LayerNormalization(axis=(-2, -1)), layers.Softmax(axis=-2)

        def call(self, x):
            return self.last(self.inner(x))

    model = Net()
    model(tf.zeros([2, 4, 3]))
    assert user_code.own_layers(model) == [model.last]


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

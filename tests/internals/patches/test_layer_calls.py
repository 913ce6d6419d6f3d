"""Recorded calls of layers, from which `tfdist.verify` knows a model, and what it reads of models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.internals.access import models
from tfdist.internals.patches import layer_calls

pytestmark = pytest.mark.core


def make_model(*layers):
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2)])


def test_promise_37_names_are_counted_anew():
    layer_calls.count_names_anew()
    assert keras.layers.Dense(1).name == "dense"
    layer_calls.count_names_anew()
    assert keras.layers.Dense(1).name == "dense"


def test_promise_37_random_layers_are_silenced_by_their_seeds():
    model = make_model(
        keras.layers.Dropout(0.5, name="a"),
        keras.Sequential([keras.layers.GaussianNoise(1.0, name="b")]),
        keras.layers.Dropout(0.0, name="none"),
        keras.layers.Reshape((4, 1)),
        keras.layers.LSTM(3, name="quiet"),
        keras.layers.Reshape((3, 1)),
        keras.layers.GRU(3, dropout=0.5),
    )
    assert layer_calls.silence_random_layers(model) == ["a", "b", "gru_cell"]
    x = np.ones((5, 4), "float32")
    np.testing.assert_array_equal(model(x, training=True), model(x, training=False))


def test_promise_37_every_layer_is_recorded_in_the_order_of_its_calls_and_nothing_afterwards():
    model = make_model(keras.Sequential([keras.layers.Dense(3, name="inner")], name="nested"))
    with layer_calls.recorded() as calls:
        y = model(np.ones((5, 4), "float32"))
    assert [path.split("/")[-1] for path, _, _ in calls if "input" not in path] == [
        "inner",
        "nested",
        model.layers[-1].name,
        model.name,
    ]
    np.testing.assert_array_equal(calls[-1][2], y)
    count = len(calls)
    model(np.ones((5, 4), "float32"))
    tf.function(model)(tf.ones((5, 4)))
    assert len(calls) == count


def test_rows_of_replicas_are_joined_and_borrowed_rows_left_out():
    calls = [
        ("a", 0, np.float32([[1], [2]])),
        ("a", 1, np.float32([[3]])),
        ("a", 2, np.float32([[9]])),
        # Two outputs a row, as after a reshape.
        ("b", 0, np.float32([1, 2, 3, 4])),
        ("b", 1, np.float32([5, 6])),
        ("b", 2, np.float32([9, 9])),
        # Not made of rows.
        ("c", 0, np.float32([1, 2, 3])),
        ("c", 1, np.float32([1, 2, 3])),
        ("c", 2, np.float32([1, 2, 3])),
    ]
    a, b, c = layer_calls.joined(calls, [2, 1, 0])
    np.testing.assert_array_equal(a[1], [[1], [2], [3]])
    np.testing.assert_array_equal(b[1], [1, 2, 3, 4, 5, 6])
    assert c[1].size == 0
    assert layer_calls.joined(calls[:-1], [2, 1, 0]) == []


def test_promise_37_weights_that_replicas_share_and_the_types_of_numbers():
    model = make_model(keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(3, dtype="mixed_bfloat16"))
    model.layers[1].trainable = False
    assert models.number_types(model) == {"float32", "bfloat16"}
    names = [weight.name for weight in models.variables_alike(model) if weight.path in {w.path for w in model.weights}]
    moving = ["moving_mean", "moving_variance"]
    assert sorted(names) == ["beta", "bias", "bias", "gamma", "kernel", "kernel", *moving]


def test_promise_37_the_optimizer_counts_the_steps():
    model = make_model()
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), "mse")
    assert models.steps_done(model) == 0
    model.fit(np.ones((6, 4), "float32"), np.ones((6, 2), "float32"), batch_size=2, verbose=0)
    assert models.steps_done(model) == 3

"""BatchNormalization by fused kernels gives what Keras' own gives, and is left to Keras where it would not."""

import contextlib
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tfdist.internals.access import runtime
from tfdist.internals.access.replica import swapped
from tfdist.internals.cpu_kernels import batchnorm

pytestmark = pytest.mark.core

CHANNELS = 5
IMAGES = (6, 4, 4, CHANNELS)
KNOWS_RENORM = pytest.mark.skipif(
    "renorm" not in inspect.signature(keras.layers.BatchNormalization).parameters, reason="Keras before 3.15"
)
# Of float32, beside float64: sums of some hundred numbers.
CLOSE = {"rtol": 2e-5, "atol": 5e-6}


class OwnLayer(keras.layers.BatchNormalization):
    """A layer of a user's own, of which nothing is known."""


def make_layer(shape, kind=keras.layers.BatchNormalization, **options):
    layer = kind(**options)
    layer.build((None, *shape[1:]))
    random = np.random.RandomState(1)
    layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return layer


def make_rows(shape, dtype="float32"):
    return tf.constant(np.random.RandomState(0).normal(3.0, 2.0, shape), dtype)


def outcome(layer, x, *, training, fused, **options):
    """Returns outputs, gradients of x and of all trainable weights, and the moving statistics afterwards."""
    with swapped(*batchnorm.replacements()) if fused else contextlib.nullcontext(), tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training, **options)
        loss = tf.reduce_sum(y * tf.cast(make_rows(y.shape), y.dtype))
    weights = [weight.value for weight in layer.trainable_weights]
    return [y, *tape.gradient(loss, [x, *weights]), *(weight.value for weight in layer.non_trainable_weights)]


def kernels(layer, shape, *, training=True, dtype="float32", **options):
    """Returns for each fused kernel in the graph of a layer's call whether it takes the statistics itself."""

    @tf.function
    def call(x):
        with swapped(*batchnorm.replacements()):
            return layer(x, training=training, **options)

    operations = call.get_concrete_function(tf.TensorSpec(shape, dtype)).graph.get_operations()
    return [operation.get_attr("is_training") for operation in operations if "FusedBatchNorm" in operation.type]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"epsilon": 0.1, "momentum": 0.5}])
@pytest.mark.parametrize("shape", [(7, 6, 4, CHANNELS), (7, 9, CHANNELS), (3, 2, 4, 3, CHANNELS), (1, 1, 1, CHANNELS)])
def test_the_kernels_give_what_keras_gives_in_double_precision(shape, options, training):
    assert kernels(make_layer(shape, **options), shape, training=training) == [training]
    got = outcome(make_layer(shape, **options), make_rows(shape), training=training, fused=True)
    layer = make_layer(shape, dtype="float64", **options)
    expected = outcome(layer, make_rows(shape, "float64"), training=training, fused=False)
    for mine, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, other, **CLOSE)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_normalizes_in_float32_as_keras_does(policy):
    shape = (6, 4, 4, CHANNELS)
    x = tf.cast(make_rows(shape), policy.removeprefix("mixed_"))
    assert kernels(make_layer(shape, dtype=policy), shape, dtype=x.dtype) == [True]
    got = outcome(make_layer(shape, dtype=policy), x, training=True, fused=True)
    expected = outcome(make_layer(shape, dtype=policy), x, training=True, fused=False)
    assert got[0].dtype == x.dtype
    for mine, other in zip(got[2:], expected[2:], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "made_with", "called_with", "expected"),
    [
        ((6, CHANNELS), {}, {}, []),
        (IMAGES, {"axis": 1}, {}, []),
        (IMAGES, {"dtype": "float64"}, {"dtype": "float64"}, []),
        (IMAGES, {"kind": OwnLayer}, {}, [False]),
        (IMAGES, {}, {"mask": np.ones(IMAGES[:-1], "bool")}, [False]),
        pytest.param(IMAGES, {"renorm": True}, {}, [False], marks=KNOWS_RENORM),
    ],
    ids=["few numbers", "channels first", "float64", "a layer of one's own", "mask", "renorm"],
)
def test_what_the_kernels_do_not_know_takes_keras_own_statistics(shape, made_with, called_with, expected):
    assert kernels(make_layer(shape, **made_with), shape, **called_with) == expected


def test_on_gpus_only_images_with_their_own_statistics_take_a_kernel_and_as_they_are(monkeypatch):
    monkeypatch.setattr(runtime, "is_on_cpus", lambda strategy: False)
    assert kernels(make_layer(IMAGES), IMAGES) == [True]
    assert kernels(make_layer(IMAGES), IMAGES, training=False) == []
    sequences = (7, 9, CHANNELS)
    assert kernels(make_layer(sequences), sequences) == []
    got = outcome(make_layer(IMAGES), make_rows(IMAGES), training=True, fused=True)
    expected = outcome(make_layer(IMAGES, dtype="float64"), make_rows(IMAGES, "float64"), training=True, fused=False)
    for mine, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, other, **CLOSE)


def test_a_layer_that_is_not_to_be_trained_takes_its_moving_statistics():
    layer = make_layer(IMAGES)
    layer.trainable = False
    before = layer.get_weights()
    got = outcome(layer, make_rows(IMAGES), training=True, fused=True)
    expected = outcome(layer, make_rows(IMAGES), training=True, fused=False)
    for mine, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, other, **CLOSE)
    for now, was in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, was)


def make_convnet():
    keras.utils.set_random_seed(7)
    layers = [
        keras.layers.Conv2D(8, 3, use_bias=False),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.Conv2D(8, 3),
        keras.layers.BatchNormalization(scale=False),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    return model


@pytest.mark.slow
# 40 rows: batches of 16 and one of 8; batches of 13 and one row, which leaves replicas without any.
@pytest.mark.parametrize("batch", [16, 13])
@pytest.mark.parametrize("replicas", [1, 3])
def test_training_gives_the_weights_of_plain_keras_on_one_device(make_strategy, replicas, batch):
    x = np.random.RandomState(0).normal(1.0, 2.0, (40, 8, 8, 3)).astype("float32")
    y = np.random.RandomState(1).randint(0, 3, 40)
    wish = {"batch_size": batch, "epochs": 3, "shuffle": False, "verbose": 0}
    plain = make_convnet()
    history = plain.fit(x, y, **wish).history
    with make_strategy(replicas).scope():
        model = make_convnet()
    assert tfdist.fit(model, x, y, **wish).history["loss"] == pytest.approx(history["loss"], rel=1e-5)
    for mine, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=5e-6)
    assert tfdist.evaluate(model, x, y, verbose=0) == pytest.approx(plain.evaluate(x, y, verbose=0), rel=1e-4)

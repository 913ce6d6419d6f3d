"""One training step of each family, compiled by XLA, against the same step not compiled."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist import models

pytestmark = [pytest.mark.core, pytest.mark.slow]

LEARNING_RATE = 0.05


def make_step(model, *, jit_compile):
    """Returns a function (x, y) -> loss that also updates the weights by plain SGD."""

    @tf.function(jit_compile=jit_compile, autograph=False)
    def step(x, y):
        with tf.GradientTape() as tape:
            rows = keras.losses.sparse_categorical_crossentropy(y, model(x, training=True))
            loss = tf.reduce_mean(rows) + sum(model.losses)
        weights = [w.value for w in model.trainable_weights]
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(LEARNING_RATE * gradient)
        return loss

    return step


def run_two_steps(model, weights, *, jit_compile):
    model.set_weights(weights)
    generator = np.random.default_rng(0)
    shape = (4, *model.input_shape[1:])
    x = tf.constant(generator.normal(size=shape), tf.float32)
    y = tf.constant(generator.integers(0, 3, size=4))
    step = make_step(model, jit_compile=jit_compile)
    return [float(step(x, y)) for _ in range(2)]


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("mlp", (8, 8, 1), {"hidden": (16,)}),
        ("cnn", (8, 8, 1), {"batch_norm": True}),
        ("resnet20", (8, 8, 1), {"weight_decay": 1e-4}),
        ("resnet18", (32, 32, 3), {}),
        ("resnet50", (32, 32, 3), {}),
    ],
)
def test_a_step_compiled_by_xla_gives_the_losses_of_the_plain_step(name, shape, options):
    keras.utils.set_random_seed(0)
    model = models.build(name, classes=3, input_shape=shape, **options)
    weights = model.get_weights()
    plain = run_two_steps(model, weights, jit_compile=False)
    compiled = run_two_steps(model, weights, jit_compile=True)
    assert plain[0] != plain[1]
    np.testing.assert_allclose(compiled[0], plain[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(compiled[1], plain[1], rtol=0, atol=1e-3)

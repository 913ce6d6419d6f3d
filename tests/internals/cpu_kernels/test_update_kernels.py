"""The kernels' updates are those of Keras' optimizers, and what the kernels do not know is left to Keras."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.internals.access import runtime
from tfdist.internals.access.replica import swapped
from tfdist.internals.cpu_kernels import update_kernels

pytestmark = pytest.mark.core

SGD, ADAM, ADAMW = keras.optimizers.SGD, keras.optimizers.Adam, keras.optimizers.AdamW
DECAY = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
KNOWN = {
    "SGD": lambda: SGD(0.1),
    "momentum": lambda: SGD(0.1, momentum=0.9),
    "Nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "schedule": lambda: SGD(DECAY, momentum=0.5),
    "Adam": lambda: ADAM(0.1, beta_1=0.8, beta_2=0.95, epsilon=1e-3),
    "AdamW": lambda: ADAMW(DECAY, weight_decay=0.1),
    "average": lambda: ADAM(0.1, use_ema=True, ema_overwrite_frequency=2, global_clipnorm=0.5),
}


class OwnSGD(SGD):
    """An optimizer of a user's own, of which nothing is known."""


def gradients(step, dtype, sparse):
    random = np.random.RandomState(step)
    if sparse:
        return tf.IndexedSlices(tf.constant(random.randn(2, 3), dtype), tf.constant([0, 2]), tf.constant([4, 3]))
    return tf.constant(random.randn(4, 3), dtype)


def train(make, *, kernels, dtype="float32", sparse=False):
    """Returns a weight (4, 3) and what the optimizer keeps after three steps, and the kernels in the step's graph."""
    weight = keras.Variable(np.random.RandomState(9).randn(4, 3), dtype=dtype)
    optimizer = make()
    optimizer.build([weight])

    @tf.function(reduce_retracing=True)
    def step(gradient):
        optimizer.apply([gradient], [weight])

    with swapped(*update_kernels.replacements()) if kernels else contextlib.nullcontext():
        for number in range(3):
            step(gradients(number, dtype, sparse))
    graph = step.get_concrete_function(gradients(0, dtype, sparse)).graph
    found = [operation.type for operation in graph.get_operations() if operation.type.startswith("ResourceApply")]
    return [np.asarray(variable, "float64") for variable in [weight, *optimizer.variables]], found


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-12), ("float32", 5e-6)])
@pytest.mark.parametrize("name", KNOWN)
def test_the_kernels_update_as_keras_does(name, dtype, close):
    got, found = train(KNOWN[name], kernels=True, dtype=dtype)
    expected, none = train(KNOWN[name], kernels=False, dtype=dtype)
    assert (len(found), none) == (1, [])
    for mine, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=close, atol=close)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: OwnSGD(0.1), {}),
        (lambda: ADAM(0.1, amsgrad=True), {}),
        (KNOWN["Adam"], {"sparse": True}),
        (KNOWN["momentum"], {"dtype": "bfloat16"}),
    ],
    ids=["an optimizer of one's own", "amsgrad", "sparse", "bfloat16"],
)
def test_what_the_kernels_do_not_know_is_keras_own(make, options):
    got, found = train(make, kernels=True, **options)
    expected, _ = train(make, kernels=False, **options)
    assert found == []
    for mine, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_other_devices_have_keras_own(monkeypatch):
    monkeypatch.setattr(runtime, "is_on_cpus", lambda strategy: False)
    assert train(KNOWN["Adam"], kernels=True)[1] == []

"""The learning rate of an optimizer, against what it was given."""

import types

import keras
import pytest

from tfdist.internals.access.rates import current_learning_rate

CASES = {
    "a number": (lambda: keras.optimizers.SGD(0.1), 0.1),
    "a schedule": (lambda: keras.optimizers.Adam(keras.optimizers.schedules.PolynomialDecay(0.3, 10)), 0.3),
    "a function": (lambda: keras.optimizers.SGD(lambda: 0.25), 0.25),
    "behind a loss scale": (lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)), 0.1),
    "no optimizer": (lambda: None, None),
}


@pytest.mark.parametrize("name", CASES)
def test_the_rate_is_that_which_was_given(name):
    make, rate = CASES[name]
    assert current_learning_rate(make()) == rate


def test_the_rate_of_a_schedule_follows_the_steps():
    optimizer = keras.optimizers.SGD(keras.optimizers.schedules.PolynomialDecay(1.0, 10, 0.0))
    optimizer.iterations.assign(4)
    assert current_learning_rate(optimizer) == pytest.approx(0.6)


@pytest.mark.parametrize("rate", [None, [0.1, 0.2]])
def test_no_rate_and_several_are_none(rate):
    assert current_learning_rate(types.SimpleNamespace(learning_rate=rate)) is None

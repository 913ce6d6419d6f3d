"""An own optimizer that is not built is built for the variables that it is first given, as Keras does."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs
from support.worker_jobs import calls

import tfdist
from tfdist.gradients import updates

pytestmark = pytest.mark.core


def make_optimizers():
    return [keras.optimizers.SGD(0.3, momentum=0.9), keras.optimizers.Adam(0.05, epsilon=0.1)]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_two_optimizers_of_a_loop_equal_one_device(make_strategy, replicas):
    plain = jobs.make_mlp()
    parts = plain.trainable_variables[:2], plain.trainable_variables[2:]
    loss_fn = keras.losses.SparseCategoricalCrossentropy()
    optimizers = make_optimizers()
    for x, y in jobs.small_source(34).dataset():
        for optimizer, variables in zip(optimizers, parts, strict=True):
            with tf.GradientTape() as tape:
                loss = loss_fn(y, plain(x, training=True))
            optimizer.apply(tape.gradient(loss, variables), variables)

    strategy = make_strategy(replicas)
    with strategy.scope():
        model, own = jobs.make_mlp(), make_optimizers()
    weights, steps = calls.train_in_turns(model, own, strategy)
    np.testing.assert_allclose(weights, jobs.weights_of(plain), rtol=0, atol=1e-9)
    assert steps == [4, 4]
    # Each has the variables of its own part alone, on all replicas.
    assert [len(optimizer.variables) for optimizer in own] == [2 + 2, 2 + 2 * 2]
    if replicas > 1:
        for optimizer in own:
            assert all(isinstance(variable.value, tf.distribute.DistributedValues) for variable in optimizer.variables)


def step_with_a_later_optimizer(strategy):
    """Returns a compiled step (whether to update by the second optimizer too), its optimizers, and its traces."""
    with strategy.scope():
        first, second = keras.Variable(1.0), keras.Variable(1.0)
        optimizers = make_optimizers()
    traces = []

    @tf.function
    def step(both):
        traces.append(both)
        tfdist.apply_gradients(optimizers[0], [tf.constant(0.5)], [first])
        if both:
            tfdist.apply_gradients(optimizers[1], [tf.constant(0.5)], [second])

    return step, optimizers, traces


def test_an_optimizer_that_a_later_trace_uses_first_is_built_too(make_strategy):
    strategy = make_strategy(2)
    step, optimizers, traces = step_with_a_later_optimizer(strategy)
    for both in (False, True, True):
        strategy.run(step, args=(both,))
    assert [int(optimizer.iterations) for optimizer in optimizers] == [3, 2]
    # No trace is thrown away: one for each value on each replica.
    assert traces == [False, False, True, True]


def test_left_to_keras_it_is_refused(make_strategy, monkeypatch):
    monkeypatch.setattr(updates, "build_if_needed", lambda optimizer, variables: None)
    strategy = make_strategy(2)
    step, _, _ = step_with_a_later_optimizer(strategy)
    strategy.run(step, args=(False,))
    with pytest.raises(ValueError, match=r"only supports singleton tf\.Variables"):
        strategy.run(step, args=(True,))


def test_outside_of_a_compiled_function_too(make_strategy):
    strategy = make_strategy(2)
    with strategy.scope():
        weight, optimizer = keras.Variable(1.0), keras.optimizers.SGD(0.5)

    def step():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        tfdist.apply_gradients(optimizer, [tf.constant(0.25) + tf.cast(replica, tf.float32)], [weight])

    strategy.run(step)
    # The replicas give 0.25 and 1.25.
    assert float(weight) == 1.0 - 0.5 * 1.5


def test_what_was_made_outside_the_scope_is_refused_by_name(make_strategy):
    strategy = make_strategy(2)
    outside = keras.optimizers.SGD(0.5, name="mine"), keras.Variable(1.0, name="weight")
    with strategy.scope():
        optimizer, weight = keras.optimizers.SGD(0.5), keras.Variable(1.0)

    def update(optimizer, weight):
        strategy.run(lambda: tfdist.apply_gradients(optimizer, [tf.constant(0.25)], [weight]))

    with pytest.raises(ValueError, match=r"the optimizer 'mine' was made outside strategy\.scope\(\)"):
        update(outside[0], weight)
    with pytest.raises(ValueError, match=r"the variable 'weight' was made outside strategy\.scope\(\)"):
        update(optimizer, outside[1])


def test_without_variables_there_is_nothing_to_build_it_for(make_strategy):
    strategy = make_strategy(2)
    with strategy.scope():
        optimizer = keras.optimizers.SGD(0.5)
    with pytest.raises(ValueError, match=r"the optimizer is not built, and there are no variables to build it for"):
        strategy.run(lambda: tfdist.apply_gradients(optimizer, [], []))

"""What users write around `fit`, on two real workers: own optimizers, numbers, calls of the chief alone."""

import keras
import numpy as np
import pytest
from support import jobs
from support.worker_jobs import calls

pytestmark = pytest.mark.multi_worker


@pytest.fixture
def both(two_workers):
    """Returns a function (job, *arguments) → what the job returned on each of the two workers."""
    return lambda *job: [done.value for done in two_workers(*job)]


def test_a_callback_of_the_chief_reads_variables_as_numbers(both):
    (chief, before, weights), (other, _, _) = both(calls.read_in_callbacks)
    assert chief == [1, 2, 3, 0.25, "0.25", weights, True]
    assert before == (0, 0.25)
    assert other == []


METHODS = ["tfdist.evaluate", "tfdist.predict", "model.evaluate", "model.predict", "reading a metric"]


@pytest.mark.parametrize("method", METHODS)
def test_a_call_of_the_chief_alone_is_refused_by_name(both, method):
    chief, other = both(calls.evaluate_on_the_chief, method)
    assert chief == (
        f"{method}: callback LambdaCallback runs only on the chief, but every worker must take part in {method}. Give "
        f"the callback an attribute every_worker = True, or call {method} after fit."
    )
    assert other is None


def test_a_callback_of_every_worker_may_evaluate_and_predict(both):
    first, second = both(calls.evaluate_on_every_worker)
    assert first == second and len(first) == 2


def test_divided_data_are_trained_on_as_one_device_does(both, float64):
    plain = jobs.make_mlp()
    plain.fit(calls.global_batches(), epochs=2, shuffle=False, verbose=0)
    for weights, told in both(calls.divided_data):
        np.testing.assert_allclose(weights, jobs.weights_of(plain), rtol=0, atol=1e-9)
        assert told == []


def test_own_optimizers_are_built_on_both_workers(both):
    model = jobs.make_mlp()
    optimizers = [keras.optimizers.SGD(0.3, momentum=0.9), keras.optimizers.Adam(0.05, epsilon=0.1)]
    weights, steps = plainly_in_turns(model, optimizers)
    for found, counted in both(calls.own_optimizers):
        np.testing.assert_allclose(found, weights, rtol=0, atol=2e-5)
        assert counted == steps == [4, 4]


def plainly_in_turns(model, optimizers):
    """Does on one device, with Keras alone, what `calls.train_in_turns` does."""
    import tensorflow as tf

    loss_fn = keras.losses.SparseCategoricalCrossentropy()
    parts = model.trainable_variables[:2], model.trainable_variables[2:]
    for x, y in jobs.small_source(34).dataset():
        for optimizer, variables in zip(optimizers, parts, strict=True):
            with tf.GradientTape() as tape:
                loss = loss_fn(y, model(x, training=True))
            optimizer.apply(tape.gradient(loss, variables), variables)
    return jobs.weights_of(model), [int(optimizer.iterations) for optimizer in optimizers]

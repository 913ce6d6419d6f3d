"""Whether a traced value differs between replicas is read from the graph behind it."""

import pytest
import tensorflow as tf

from tfdist.internals.access.dependence import Dependence, note_differing, note_sums

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]


def noted(note, value):
    note([value])
    return value


def from_iterator(x, v):
    return next(iter(tf.data.Dataset.range(3)))


# What is computed from an argument x and a variable v → whether it differs.
VALUES = {
    "a mean of rows": (lambda x, v: tf.reduce_mean(x), True),
    "the number of rows": (lambda x, v: tf.shape(x)[0], True),
    "a variable": (lambda x, v: v * 2.0, False),
    "a variable and rows": (lambda x, v: v * 0.9 + tf.reduce_mean(x), True),
    "a constant": (lambda x, v: tf.constant(1.0), False),
    "a sum over the replicas": (lambda x, v: v + noted(note_sums, tf.reduce_sum(x)), False),
    "what such a sum is made of": (lambda x, v: noted(note_sums, tf.reduce_sum(x)) + tf.reduce_sum(x), True),
    "a seed of a replica": (lambda x, v: v + noted(note_differing, tf.constant(1.0)), True),
    "a random number": (lambda x, v: tf.random.uniform([]), True),
    "a random number of a known seed": (lambda x, v: tf.random.stateless_uniform([], [1, 2]), False),
    "an element of an iterator": (from_iterator, True),
    "a branch": (lambda x, v: tf.cond(v > 0.0, lambda: v, lambda: tf.reduce_mean(x)), True),
    "a branch without rows": (lambda x, v: tf.cond(v > 0.0, lambda: v, lambda: v + 1.0), False),
    "a function": (lambda x, v: tf.function(lambda y: y + v)(x), True),
    "rows that a variable picks": (lambda x, v: tf.gather(x, tf.cast(v, tf.int32)), True),
    "a row of a variable": (lambda x, v: tf.gather(tf.ones([3]) * v, 1), False),
    "a Python function": (lambda x, v: tf.py_function(lambda: 1.0, [], tf.float32), True),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_differs_where_rows_or_random_numbers_lead_to_it(name):
    compute, expected = VALUES[name]
    variable, found = tf.Variable(1.0), []

    @tf.function(autograph=False)
    def step(x):
        value = compute(x, variable)
        dependence = Dependence()
        # A second time, because the first one adds to what is known.
        found.extend(not dependence.is_alike(value) for _ in range(2))
        # Seen from a branch, too.
        tf.cond(variable > 0.0, lambda: found.append(not dependence.is_alike(tf.identity(value))), lambda: None)

    step.get_concrete_function(tf.TensorSpec([None], tf.float32))
    assert found == [expected] * 3

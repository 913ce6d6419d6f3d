"""How a `tf.data` pipeline shuffles, and whether it is sure to begin alike, is read from its parts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.internals.access.pipelines import Shuffles, is_repeatable, shuffles_of

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]

count_to = tf.data.Dataset.range


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: count_to(9).batch(3).map(lambda x: x), Shuffles(False, False, False, False)),
        (lambda: count_to(9).shuffle(9, seed=1).batch(3), Shuffles(True, False, False, False)),
        (lambda: count_to(9).shuffle(9, seed=1, reshuffle_each_iteration=False), Shuffles(False, False, False, False)),
        (lambda: count_to(9).shuffle(9, seed=1).cache().prefetch(1), Shuffles(False, True, False, False)),
        (lambda: count_to(9).shuffle(9, seed=1).repeat(2), Shuffles(True, False, True, False)),
        (lambda: tf.data.Dataset.zip(count_to(9), count_to(9).shuffle(9, seed=1)), Shuffles(True, False, False, False)),
    ],
)
def test_each_shuffle_is_found_with_what_comes_after_it(make, expected):
    assert shuffles_of(make()) == expected


def test_a_shuffle_without_a_seed_is_found_unless_a_global_seed_is_set():
    tf.random.set_seed(None)
    assert shuffles_of(count_to(9).shuffle(9)).unseeded
    keras.utils.set_random_seed(3)
    assert not shuffles_of(count_to(9).shuffle(9)).unseeded


def rows():
    return tf.data.Dataset.from_tensor_slices(np.arange(20.0))


def careless(data):
    options = tf.data.Options()
    options.deterministic = False
    return data.with_options(options)


REPEATABLE = {
    "rows": lambda: rows().map(lambda x: x + 1, num_parallel_calls=2).filter(lambda x: x > 2).batch(4).prefetch(1),
    "range": lambda: tf.data.Dataset.range(5).repeat(),
    "files": lambda: rows().interleave(lambda x: tf.data.Dataset.from_tensors(x).repeat(2)).batch(4),
    "stateless": lambda: rows().map(lambda x: x + tf.random.stateless_uniform([], (1, 2), dtype=x.dtype)).batch(4),
}
UNREPEATABLE = {
    "shuffle": lambda: rows().shuffle(4).batch(4),
    "shuffle with a seed": lambda: rows().shuffle(4, seed=1).batch(4),
    "shuffle within": lambda: rows().interleave(lambda x: tf.data.Dataset.range(3).shuffle(3)).batch(4),
    "random": lambda: rows().map(lambda x: x + tf.random.uniform([], dtype=x.dtype)).batch(4),
    "normal": lambda: rows().map(lambda x: x + tf.random.truncated_normal([], dtype=x.dtype)).batch(4),
    "random in a branch": lambda: rows().map(
        lambda x: tf.cond(x > 1, lambda: x, lambda: tf.random.normal([], 0.0, 1.0, x.dtype))
    ),
    "generator": lambda: tf.data.Dataset.from_generator(lambda: iter([1.0]), output_signature=tf.TensorSpec([])),
    "python": lambda: rows().map(lambda x: tf.py_function(lambda y: y, [x], x.dtype)).batch(4),
    "numpy": lambda: rows().map(lambda x: tf.numpy_function(lambda y: y, [x], x.dtype)).batch(4),
    "any order": lambda: careless(rows()).batch(4),
}


@pytest.mark.parametrize("name", REPEATABLE)
def test_what_depends_on_the_data_alone_is_repeatable(name):
    assert is_repeatable(REPEATABLE[name]())


@pytest.mark.parametrize("name", UNREPEATABLE)
def test_what_is_random_or_has_a_state_is_not(name):
    assert not is_repeatable(UNREPEATABLE[name]())

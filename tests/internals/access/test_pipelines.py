"""How a `tf.data` pipeline shuffles is read from its parts."""

import keras
import pytest
import tensorflow as tf

from tfdist.internals.access.pipelines import Shuffles, shuffles_of

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]

rows = tf.data.Dataset.range


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: rows(9).batch(3).map(lambda x: x), Shuffles(False, False, False, False)),
        (lambda: rows(9).shuffle(9, seed=1).batch(3), Shuffles(True, False, False, False)),
        (lambda: rows(9).shuffle(9, seed=1, reshuffle_each_iteration=False), Shuffles(False, False, False, False)),
        (lambda: rows(9).shuffle(9, seed=1).cache().prefetch(1), Shuffles(False, True, False, False)),
        (lambda: rows(9).shuffle(9, seed=1).repeat(2), Shuffles(True, False, True, False)),
        (lambda: tf.data.Dataset.zip(rows(9), rows(9).shuffle(9, seed=1)), Shuffles(True, False, False, False)),
    ],
)
def test_each_shuffle_is_found_with_what_comes_after_it(make, expected):
    assert shuffles_of(make()) == expected


def test_a_shuffle_without_a_seed_is_found_unless_a_global_seed_is_set():
    tf.random.set_seed(None)
    assert shuffles_of(rows(9).shuffle(9)).unseeded
    keras.utils.set_random_seed(3)
    assert not shuffles_of(rows(9).shuffle(9)).unseeded

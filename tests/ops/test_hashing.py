"""Numbers by hash, against Python's integers and NumPy."""

import numpy as np
import tensorflow as tf
from support.splitmix import MASK, SEEDS, numpy_uniforms, splitmix

from tfdist.ops import hashing


def test_the_hash_is_splitmix64():
    assert splitmix(0) == 0xE220A8397B1DCDAF, "the published first number of seed 0"
    words = [0, 1, 2**40, -5]
    ours = hashing.mix(tf.constant(words, tf.int64), 3)
    assert ours.numpy().tolist() == [splitmix(word & MASK, 3) for word in words]


def test_uniform_numbers_are_a_function_of_seed_stream_and_place():
    for stream in (0, 12):
        ours = hashing.uniforms(SEEDS, 3, stream=stream).numpy()
        np.testing.assert_array_equal(ours, numpy_uniforms(3, stream))


def test_uniform_numbers_are_uniform():
    seeds = tf.stack([tf.zeros(20_000, tf.int64), tf.range(20_000, dtype=tf.int64)], axis=1)
    draws = hashing.uniforms(seeds, 2, stream=1).numpy()
    np.testing.assert_allclose(np.histogram(draws[:, 0], 10, (0, 1))[0], 2000, atol=200)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.03

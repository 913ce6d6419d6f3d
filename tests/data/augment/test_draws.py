"""The tables of random numbers, against the distributions that they stand for."""

import numpy as np
import pytest
import tensorflow as tf

from tfdist.data.augment import draws

MIDDLES = (np.arange(draws.LEVELS) + 0.5) / draws.LEVELS


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 2.0, 8.0])
def test_the_quantiles_of_a_beta_distribution_are_those_of_its_integral(alpha):
    table = draws.symmetric_beta(alpha)
    assert table.dtype == np.float32 and table.shape == (draws.LEVELS,)
    # float32 next to 1 is coarse, and where the distribution is steep that counts.
    below = table[: draws.LEVELS // 2].astype(float)
    alphas = tf.constant(alpha, tf.float64)
    # What float32 cannot hold is 0.
    shown = below > 1e-37
    assert shown.mean() > 0.999
    integral = tf.math.betainc(alphas, alphas, tf.constant(below[shown]))
    np.testing.assert_allclose(integral, MIDDLES[: draws.LEVELS // 2][shown], atol=1e-6)
    np.testing.assert_allclose(table + table[::-1], 1, atol=1e-7)
    # Mean and variance of Beta(a, a): 1/2 and 1 / (4 (2 a + 1)).
    assert table.mean(dtype=float) == pytest.approx(0.5, abs=1e-7)
    assert table.var(dtype=float) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=1e-4)


def test_the_uniform_distribution_is_beta_of_one():
    np.testing.assert_allclose(draws.symmetric_beta(1.0), MIDDLES, atol=1e-6)


def test_the_logarithm_of_a_proportion_is_uniform():
    logs = np.log(draws.log_uniform(0.3, 1 / 0.3).astype(float))
    np.testing.assert_allclose(logs, np.log(0.3) * (1 - 2 * MIDDLES), atol=1e-6)


def test_a_number_picks_its_quantile_wherever_it_stands():
    table = draws.log_uniform(0.5, 2.0)
    uniforms = np.random.default_rng(0).random(1000).astype(np.float32)
    together = draws.pick(table, tf.constant(uniforms)).numpy()
    np.testing.assert_array_equal(together, table[(uniforms * 65536).astype(int)])
    assert draws.pick(table, tf.constant([0.0, 1 - 2.0**-24])).numpy().tolist() == [table[0], table[-1]]


def test_coins_fall_as_often_as_they_should():
    seeds = tf.stack([tf.zeros(20_000, tf.int64), tf.range(20_000, dtype=tf.int64)], axis=1)
    for probability in (0.0, 0.25, 0.5, 1.0):
        share = draws.coins(seeds, probability, stream=draws.FLIP).numpy().mean()
        # Four standard deviations.
        assert abs(share - probability) <= 4 * (probability * (1 - probability) / 20_000) ** 0.5

"""The hand-written loop against plain Keras on one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs

import tfdist

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("float64")]


def clipped_mlp():
    return jobs.make_mlp(keras.optimizers.SGD(0.5, momentum=0.9, global_clipnorm=0.3))


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_the_loop_of_the_readme_equals_one_device(make_strategy, replicas):
    source = jobs.small_source(34)
    plain, _ = jobs.train_plainly(source, make_model=clipped_mlp)
    model, _ = jobs.train_by_hand(make_strategy(replicas), source)
    assert np.abs(jobs.weights_of(plain) - jobs.weights_of(jobs.make_mlp())).max() > 1e-2
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-9)


def test_a_mean_over_each_replica_fails_it(make_strategy):
    def mean_of_replica(rows):
        return tf.math.divide_no_nan(tf.reduce_sum(rows), tf.cast(tf.size(rows), rows.dtype)) / 3

    source = jobs.small_source(34)
    plain, _ = jobs.train_plainly(source, make_model=clipped_mlp)
    model, _ = jobs.train_by_hand(make_strategy(3), source, mean=mean_of_replica)
    assert np.abs(jobs.weights_of(model) - jobs.weights_of(plain)).max() > 1e-3


def test_the_loss_is_the_global_mean_on_every_replica(make_strategy):
    strategy = make_strategy(3)
    rows = [np.array([1.0, 2.0]), np.array([]), np.array([6.0])]
    values = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(rows[context.replica_id_in_sync_group])
    )
    means = strategy.experimental_local_results(strategy.run(tfdist.global_mean, args=(values,)))
    assert [mean.numpy() for mean in means] == [3.0, 3.0, 3.0]


def test_a_scalar_loss_is_refused(make_strategy):
    with pytest.raises(ValueError, match=r"one loss per row is needed.*Received: shape \(\)"):
        make_strategy(1).run(tfdist.global_mean, args=(tf.constant(1.0),))


def test_gradients_are_summed_and_none_stays_none(make_strategy):
    strategy = make_strategy(3)

    def reduce():
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        mine = tf.constant([1.0, 10.0]) * (tf.cast(index, tf.float32) + 1)
        return tfdist.reduce_gradients([mine, None])

    total, nothing = strategy.run(tf.function(reduce))
    assert nothing is None
    for part in strategy.experimental_local_results(total):
        np.testing.assert_array_equal(part, [6.0, 60.0])


def test_calls_in_the_wrong_place_are_refused(make_strategy):
    weights = [tf.Variable(1.0)]
    optimizer = keras.optimizers.SGD()
    optimizer.build(weights)
    with pytest.raises(ValueError, match="2 gradients, but 1 variables"):
        tfdist.apply_gradients(optimizer, [1.0, 2.0], weights)
    with (
        make_strategy(2).scope(),
        pytest.raises(RuntimeError, match=r"apply_gradients: called outside .* strategy.run"),
    ):
        tfdist.apply_gradients(optimizer, [1.0], weights)

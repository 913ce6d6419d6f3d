"""Data of each worker's own, on replicas of one process, which share its one shard."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs

import tfdist

pytestmark = [pytest.mark.core, pytest.mark.slow]


def make_shard(context):
    return tf.data.Dataset.from_tensor_slices(jobs.make_rows(20)).batch(5)


@pytest.mark.parametrize("replicas", [1, 3])
def test_one_worker_with_its_own_shard_trains_as_one_device(make_strategy, float64, replicas):
    x, y = jobs.make_rows(41)
    data = tfdist.data.from_function(lambda context: tf.data.Dataset.from_tensor_slices((x, y)).batch(10))
    plain = jobs.make_mlp()
    plain.fit(x, y, batch_size=10, epochs=2, shuffle=False, verbose=0)
    model, history = jobs.train(make_strategy(replicas), data)
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        tfdist.evaluate(model, data, verbose=0), plain.evaluate(x, y, batch_size=10, verbose=0), atol=1e-6
    )
    np.testing.assert_allclose(tfdist.predict(model, data, verbose=0), plain.predict(x, verbose=0), atol=1e-9)
    assert len(history["loss"]) == 2


def test_what_is_no_data_set_or_has_its_own_batches_is_refused(make_strategy):
    with pytest.raises(ValueError, match=r"the function returned list\. Return a tf\.data\.Dataset"):
        tfdist.data.from_function(lambda context: [1, 2])
    data = tfdist.data.from_function(make_shard)
    with make_strategy(1).scope():
        model = jobs.make_mlp(keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match="already has its batch_size"):
        tfdist.fit(model, data, batch_size=3)

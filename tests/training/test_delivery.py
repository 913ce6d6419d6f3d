"""Shares that reach the replicas through `tf.distribute`'s iterator, as on GPUs, train to the same weights."""

import jobs
import numpy as np
import pytest
import tensorflow as tf

from tfdist.internals import runtime

DATA = {
    "a source": lambda: jobs.small_source(20),
    "fewer rows than replicas": lambda: jobs.small_source(51),
    "a data set without a known end": lambda: (
        tf.data.Dataset.from_tensor_slices(jobs.make_rows()).batch(20).filter(lambda x, y: True)
    ),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("data", DATA)
def test_both_ways_of_delivery_give_the_same_weights(data, replicas, make_strategy, monkeypatch):
    model, history = jobs.train(make_strategy(replicas), DATA[data]())
    monkeypatch.setattr(runtime, "is_on_cpus", lambda strategy: False)
    moved, its_history = jobs.train(make_strategy(replicas), DATA[data]())
    np.testing.assert_allclose(jobs.weights_of(moved), jobs.weights_of(model), rtol=0, atol=1e-12)
    assert its_history["loss"] == pytest.approx(history["loss"], abs=1e-12)

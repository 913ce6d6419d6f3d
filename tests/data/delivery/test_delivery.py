"""Shares that reach the replicas as on GPUs, such as through `tf.distribute`'s iterator, train to the same weights."""

import time
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs
from support.turns import in_turns

import tfdist
from tfdist.data.delivery import delivery
from tfdist.internals.access import runtime

pytestmark = pytest.mark.slow


def through_a_pipeline(source):
    return source.map(lambda batch, seeds: batch)


DATA = {
    "rows in memory": lambda: jobs.small_source(20),
    "a source": lambda: through_a_pipeline(jobs.small_source(20)),
    "fewer rows than replicas": lambda: through_a_pipeline(jobs.small_source(51)),
    "a data set": lambda: tf.data.Dataset.from_tensor_slices(jobs.make_rows()).batch(20),
    "a data set without a known end": lambda: (
        tf.data.Dataset.from_tensor_slices(jobs.make_rows()).batch(20).filter(lambda x, y: True)
    ),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("data", "replicas"), in_turns(DATA, [2, 1, 3]))
def test_both_ways_of_delivery_give_the_same_weights(data, replicas, make_strategy, monkeypatch):
    model, history = jobs.train(make_strategy(replicas), DATA[data]())
    monkeypatch.setattr(runtime, "is_on_cpus", lambda strategy: False)
    moved, its_history = jobs.train(make_strategy(replicas), DATA[data]())
    np.testing.assert_allclose(jobs.weights_of(moved), jobs.weights_of(model), rtol=0, atol=1e-12)
    assert its_history["loss"] == pytest.approx(history["loss"], abs=1e-12)


def test_an_iterator_at_its_end_is_dropped_while_the_run_goes_on():
    reading = delivery.StreamReading(iter(tf.data.Dataset.range(3)), delivery.ShareTaker())
    left = weakref.ref(reading.spec)
    reading.leave()
    assert reading.spec is None
    deadline = time.monotonic() + 60
    while left() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left() is None


@pytest.mark.parametrize("data", ["tf.data", "threads"])
def test_what_threads_read_ahead_of_is_waited_for(data, make_strategy, monkeypatch):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return np.ones((4, 2)), np.ones((4, 1))

    left = []
    leave = delivery.StreamReading.leave
    monkeypatch.setattr(delivery.StreamReading, "leave", lambda reading: (left.append(reading), leave(reading)))
    with make_strategy(1).scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    rows = tf.data.Dataset.from_tensor_slices((np.ones((12, 2)), np.ones((12, 1)))).batch(4)
    tfdist.fit(model, rows if data == "tf.data" else Batches(), epochs=2, verbose=0)
    assert len(left) == (2 if data == "tf.data" else 0)

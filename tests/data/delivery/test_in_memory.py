"""Rows that the compiled step picks for itself: the shares of the input pipeline, call by call."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from support import jobs

import tfdist
from tfdist import data
from tfdist.data.delivery import delivery
from tfdist.data.delivery.in_memory import RowReading
from tfdist.feeding.inputs import make_input
from tfdist.synchronous.step.step import Step

pytestmark = pytest.mark.core

ROWS = 23


def make_source(**options):
    return data.from_arrays(np.arange(ROWS), np.arange(ROWS) * 2.0, **{"global_batch": 5, "seed": 3, **options})


def read(source, strategy, calls, **start):
    """Reads calls of the given numbers of steps; returns all `Share`s of all steps as arrays."""
    reading = source.deliver(strategy, **start)()

    @tf.function
    def take(element):
        return strategy.experimental_local_results(reading.taker.share(strategy, element))

    program = take.get_concrete_function(reading.element_spec)
    shares = [program(element) for steps in calls for element in delivery.elements(strategy, reading, steps)]
    return tf.nest.map_structure(lambda part: part.numpy(), shares)


@pytest.mark.parametrize("static", [False, True], ids=["any shapes", "static shapes"])
@pytest.mark.parametrize("drop", [False, True], ids=["all rows", "remainder dropped"])
@pytest.mark.parametrize("global_batch", [5, 2, 40])
@pytest.mark.parametrize("replicas", [1, 3])
def test_the_shares_are_those_of_the_pipeline_over_the_ends_of_epochs(
    replicas, global_batch, drop, static, make_strategy
):
    if drop and global_batch > ROWS:
        pytest.skip("no batch is left")
    strategy = make_strategy(replicas)
    source = dataclasses.replace(make_source(global_batch=global_batch, drop_remainder=drop), static_shapes=static)
    start = {"epoch": 2, "step": source.cardinality - 1}
    calls = [1, 3, 2 * source.cardinality, 1]
    ours = read(source, strategy, calls, **start)
    # A source with a transformation is not read in memory.
    theirs = read(source.map(lambda batch, seeds: batch), strategy, calls, **start)
    assert isinstance(source.deliver(strategy)(), RowReading)
    assert len(ours) == sum(calls)
    tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)


def test_each_reading_begins_at_the_same_place(make_strategy):
    strategy, source = make_strategy(1), make_source()
    begin = source.deliver(strategy, epoch=1, step=2)
    first, again = [shares(strategy, reading, 7) for reading in (begin(), begin())]
    tf.nest.map_structure(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first[0].batch[0], first[1].batch[0])


def shares(strategy, reading, steps):
    """Takes shares eagerly."""
    return [reading.taker.share(strategy, element) for element in delivery.elements(strategy, reading, steps)]


@pytest.mark.parametrize("steps", [1, 4])
def test_whole_calls_end_with_each_pass_over_the_data(steps, make_strategy):
    strategy, source = make_strategy(1), make_source()
    reading = source.deliver(strategy)()
    calls = [(int(batches.first), count) for _ in range(6) for batches, count in reading.calls(steps)]
    # 23 rows in batches of 5 are five steps per pass.
    if steps == 1:
        assert calls == [(0, 1), (5, 1), (10, 1), (15, 1), (20, 1), (0, 1)]
    else:
        assert calls[:4] == [(0, 4), (20, 1), (0, 3), (15, 2)]
    assert sum(count for _, count in calls) == 6 * steps


@pytest.mark.parametrize("x", [np.ones((9, 2)), {"a": np.ones((9, 2)), "b": np.ones(9)}], ids=["one", "dict"])
def test_arrays_for_fit_are_read_in_memory_without_weights_too(x, make_strategy):
    strategy = make_strategy(2)
    source = make_input(x, np.ones(9), batch_size=4).source
    reading = source.deliver(strategy)()
    assert isinstance(reading, RowReading)
    share, _ = strategy.experimental_local_results(*shares(strategy, reading, 1))
    assert tf.nest.map_structure(lambda part: part.shape[0], share.batch[0]) == tf.nest.map_structure(lambda _: 2, x)


OTHERS = {
    "ragged": lambda: tf.ragged.constant([[1.0], [2.0, 3.0], []]),
    "sparse": lambda: tf.sparse.from_dense(np.eye(3)),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_rows_of_other_kinds_come_from_the_pipeline(kind, make_strategy):
    strategy = make_strategy(1)
    source = make_input(OTHERS[kind](), np.ones(3), batch_size=2).source
    assert not isinstance(source.deliver(strategy)(), RowReading)


def test_arrays_of_other_lengths_and_calls_of_other_lengths_trace_nothing_again(make_strategy, monkeypatch):
    strategy = make_strategy(2)
    with strategy.scope():
        model = jobs.make_mlp()
    traced = []
    train = Step.train
    monkeypatch.setattr(Step, "train", lambda *arguments, **more: traced.append(0) or train(*arguments, **more))
    for rows, steps in ((60, 1), (44, 3), (103, 50)):
        x, y = jobs.make_rows(rows, "float32")
        tfdist.fit(model, x, y, batch_size=20, epochs=2, steps_per_execution=steps, verbose=0)
    assert len(traced) == 1

"""What is traced, and how large it is: graphs and operations are counted, for they are what a first call waits for.

Each bound is a tenth above what was counted. One program has three graphs: the call, its loop's condition and its body.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import func_graph, ops

import tfdist

GRAPHS_OF_A_PROGRAM = 3
# Replicas → the most operations of the programs of `fit`, `evaluate` and `predict`, on arrays or a `tf.data` set.
MOST_OPERATIONS = {1: (175, 132, 50), 2: (392, 280, 112)}


class Counts:
    """The graphs and operations made since the last `take`."""

    def __init__(self, monkeypatch):
        self._graphs = self._operations = 0
        make_graph, make_operation = func_graph.FuncGraph.__init__, ops.Graph._create_op_internal

        def count_graph(graph, *arguments, **options):
            self._graphs += 1
            make_graph(graph, *arguments, **options)

        def count_operation(graph, *arguments, **options):
            self._operations += 1
            return make_operation(graph, *arguments, **options)

        monkeypatch.setattr(func_graph.FuncGraph, "__init__", count_graph)
        monkeypatch.setattr(ops.Graph, "_create_op_internal", count_operation)

    def take(self):
        """Returns (graphs, operations), and starts counting again."""
        taken = self._graphs, self._operations
        self._graphs = self._operations = 0
        return taken


@pytest.fixture
def counts(monkeypatch):
    return Counts(monkeypatch)


def make_model():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    return model


@pytest.mark.parametrize("kind", ["arrays", "tf.data"])
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_program_is_traced_once(replicas, kind, make_strategy, counts):
    x, y = np.random.RandomState(0).rand(128, 8).astype("float32"), np.arange(128) % 2
    given = {"x": x, "y": y, "batch_size": 32}
    if kind == "tf.data":
        given = {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(32)}
    with make_strategy(replicas).scope():
        model = make_model()
    most = MOST_OPERATIONS[replicas]
    counts.take()

    tfdist.fit(model, **given, verbose=0)
    graphs, operations = counts.take()
    assert graphs == GRAPHS_OF_A_PROGRAM
    assert 0 < operations <= most[0]

    tfdist.fit(model, **given, epochs=2, verbose=0)
    assert counts.take() == (0, 0)

    tfdist.evaluate(model, **given, verbose=0)
    graphs, operations = counts.take()
    assert graphs == GRAPHS_OF_A_PROGRAM
    assert 0 < operations <= most[1]

    tfdist.predict(model, given["x"], verbose=0)
    graphs, operations = counts.take()
    # Outputs are returned batch by batch, so there is no loop.
    assert graphs == 1
    assert 0 < operations <= most[2]

    tfdist.evaluate(model, **given, verbose=0)
    tfdist.predict(model, given["x"], verbose=0)
    assert counts.take() == (0, 0)


@pytest.mark.parametrize("replicas", [1, 2])
def test_checkpoints_and_a_validation_trace_one_program_each(replicas, make_strategy, counts, tmp_path):
    x, y = np.random.RandomState(0).rand(128, 8).astype("float32"), np.arange(128) % 2
    with make_strategy(replicas).scope():
        model = make_model()
    counts.take()
    tfdist.fit(
        *(model, x, y),
        batch_size=32,
        epochs=2,
        validation_data=(x, y),
        run_dir=tmp_path,
        checkpoint_every_steps=3,
        verbose=0,
    )
    graphs, operations = counts.take()
    # One more reads the replicas' own values, for a checkpoint within an epoch.
    assert graphs == 2 * GRAPHS_OF_A_PROGRAM + 1
    assert operations <= sum(MOST_OPERATIONS[replicas][:2]) + 20

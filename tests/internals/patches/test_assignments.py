"""What replicas assign to a state becomes what one device would assign; the rows of the table hold the values."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from equivalence.layer_states import Counters, RunningMean
from equivalence.runner import CASES, run_plain, run_tfdist
from support import jobs

import tfdist
from tfdist.internals.patches import assignments
from tfdist.synchronous.step import step

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a running mean, read after it is assigned", "counters of steps, of rows, of a sum"])
def test_a_state_of_each_replica_would_be_found(make_strategy, monkeypatch, name):
    (name,) = (each for each in CASES if each.startswith(f"layer state: {name}"))
    monkeypatch.setattr(assignments.Dependence, "is_alike", lambda self, value: True)
    monkeypatch.setattr("tfdist.callbacks.desync.check_replicas", lambda *arguments: None)
    _, planted, _ = run_tfdist(name, make_strategy(CASES[name].replicas))
    assert np.abs(planted - run_plain(name)[1]).max() > 10 * CASES[name].tolerance


@pytest.mark.parametrize(
    ("dtype", "aggregation", "rule"),
    [
        ("float32", "none", assignments.MEAN),
        ("float32", "mean", assignments.MEAN),
        ("float32", "sum", assignments.SUM),
        ("int32", "none", assignments.SUM),
        ("float32", "only_first_replica", assignments.FIRST),
        ("bool", "none", assignments.ANY),
    ],
)
def test_the_aggregation_decides_and_without_one_the_type(make_strategy, dtype, aggregation, rule):
    with make_strategy(2).scope():
        assert assignments.rule_of(keras.Variable(0, dtype=dtype, aggregation=aggregation, trainable=False)) == rule


def train(strategy, *layers):
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = keras.Sequential([keras.Input((jobs.WIDTH,)), *layers, keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x, y = jobs.make_rows(21, "float32")
    tfdist.fit(model, x, y, batch_size=8, shuffle=False, verbose=0)
    return model


def test_what_was_done_is_said_once_by_variable(make_strategy, caplog):
    strategy = make_strategy(2)
    with caplog.at_level(logging.INFO, logger="tfdist"), strategy.scope():
        model = train(strategy, RunningMean(), Counters())
        # Rows of another number, so that the step is traced again.
        x, y = jobs.make_rows(20, "float32")
        tfdist.fit(model, x, y, batch_size=7, shuffle=False, verbose=0)
    lines = sorted(line for line in caplog.messages if line.startswith("layer state"))
    assert [line.split(":")[0].split("/")[-1] for line in lines] == ["any_large", "mean", "positive"]
    assert "averaged by rows in each step. That is exact for a mean over the rows. For anything" in lines[1]
    assert "tfdist.global_sum or tfdist.gather_rows in the layer" in lines[1]
    # Of the states that one rule is for, one line has all.
    assert "/rows, " in lines[2]


def test_a_model_without_states_has_not_one_operation_more(make_strategy, monkeypatch):
    strategy = make_strategy(2)

    def operations():
        with strategy.scope():
            layers = [keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]
            model = keras.Sequential([keras.Input((jobs.WIDTH,)), *layers, keras.layers.Dense(1)])
            model.compile("adam", "mse")
        graphs = []
        original = step.Step.logs
        monkeypatch.setattr(
            step.Step, "logs", lambda self: graphs.append(tf.compat.v1.get_default_graph()) or original(self)
        )
        x, y = jobs.make_rows(16, "float32")
        tfdist.fit(model, x, y, batch_size=8, verbose=0)
        monkeypatch.undo()
        definition = graphs[0].as_graph_def(add_shapes=False)
        return sum(len(function.node_def) for function in definition.library.function) + len(definition.node)

    with_states = operations()
    with monkeypatch.context() as without:
        without.setattr(assignments, "rule_of", lambda variable: assignments.MEAN)
        without.setattr(assignments.Dependence, "is_alike", lambda self, value: True)
        assert operations() == with_states

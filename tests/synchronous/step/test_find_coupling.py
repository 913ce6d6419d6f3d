"""What `fit` says and decides of losses and metrics in which rows depend on each other, and what becomes of it."""

import logging
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from equivalence import coupled_cases as written
from equivalence.runner import CASES, run_plain, run_tfdist
from support import jobs

import tfdist
from tfdist.feeding.feed import Feed
from tfdist.feeding.inputs import make_input
from tfdist.internals.access import models, user_code
from tfdist.internals.access.coupling import Coupling, coupling_of
from tfdist.internals.patches import coupled
from tfdist.synchronous.step import find_coupling, metric_states, xla
from tfdist.synchronous.step.find_coupling import find_coupling as find

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("float64")]


def found(strategy, build, data=written.pairs, **arguments):
    """Returns (the `Coupling` of a model, what was said)."""
    with strategy.scope():
        model = build()
    given = data()
    given = given if isinstance(given, tuple) else (given,)
    feed = Feed(make_input(*given, **arguments), strategy)
    models.build(model, feed.spec)
    with jobs.lines_of_tfdist() as said:
        coupling = find(model, feed)
    assert coupling_of(model) is coupling or strategy.num_replicas_in_sync == 1
    return model, coupling, said


def test_a_model_of_keras_alone_is_not_tried(make_strategy, monkeypatch):
    monkeypatch.setattr(find_coupling, "sample_batch", None)
    metrics = lambda: ["accuracy", keras.metrics.AUC(), keras.metrics.R2Score()]  # noqa: E731
    build = lambda: written.mlp(outputs=2, loss="mse", metrics=metrics(), kernel={"activity_regularizer": "l2"})  # noqa: E731
    _, coupling, said = found(make_strategy(2), build, written.regression)
    assert (coupling, said) == (Coupling(), [])


def test_one_replica_needs_no_trial(make_strategy):
    model, coupling, said = found(make_strategy(1), written._negatives)
    assert (coupling, coupling_of(model), said) == (Coupling(), Coupling(), [])


def test_a_loss_that_couples_rows_is_named_once(make_strategy):
    model, coupling, said = found(make_strategy(2), written._two_outputs, written._two_targets)
    assert coupling.losses == (1,)
    assert [metric.name for metric in coupling.metrics] == ["largest"]
    assert coupling.exchanges
    assert len(said) == 2
    assert re.match(r"loss 'in_batch_softmax\w*' couples rows, so each replica computes it from the rows of", said[0])
    assert said[1].startswith("metric 'largest' does not add up over replicas, so each updates it with the rows of all")
    x, y = written._two_targets()
    with jobs.lines_of_tfdist() as later:
        tfdist.evaluate(model, x, y, verbose=0)
        tfdist.evaluate(model, x, y, verbose=0)
    assert later == []


def test_a_metric_that_adds_up_is_known_to(make_strategy):
    _, coupling, said = found(make_strategy(2), lambda: written.mlp(metrics=[written.Sureness()]), written.rows)
    assert [metric.name for metric in coupling.additive] == ["sureness"]
    assert (coupling.metrics, coupling.exchanges, said) == ((), False, [])


class Fails(keras.losses.Loss):
    """A loss that cannot be computed eagerly."""

    def call(self, y_true, y_pred):
        if tf.executing_eagerly():
            raise RuntimeError
        return tf.reduce_mean(y_pred**2, axis=-1)


def test_what_cannot_be_tried_is_said_with_the_cure(make_strategy):
    _, coupling, (line,) = found(make_strategy(2), lambda: written.embedder(Fails()))
    assert not coupling.exchanges
    assert re.search("loss 'fails.*' could not be tried .* counts as a mean over rows.*tfdist.global_loss", line)


class AddsByHelp(keras.layers.Layer):
    """Adds a loss in which rows depend on each other, by a function beside the class."""

    def call(self, x):
        return help_add(self, x)


def help_add(layer, x):
    layer.add_loss(written.decorrelation(x))
    return x


class CouplesItself(written.Embedder):
    """A `compute_loss` in which rows depend on each other within a loop, so that the graph does not show it."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return tf.reduce_mean(tf.map_fn(lambda row: tf.reduce_sum((row - tf.reduce_mean(y_pred, 0)) ** 2), y_pred))


class AddsToCoupled(written.Embedder):
    """A `compute_loss` that adds a mean over rows to a loss that couples them."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return super().compute_loss(x, y, y_pred, sample_weight) + tf.reduce_mean(y_pred**2)


class AddsInItsCall(written.Net):
    """A model whose `call` adds a loss in which rows depend on each other."""

    def call(self, x, training=False):
        self.add_loss(written.decorrelation(x))
        return super().call(x)


def compiled(model):
    model.compile("sgd", "mse")
    return model


def of_parts():
    """Adds a loss to rows that are no rows of the batch."""
    halves = keras.layers.Lambda(lambda x: keras.ops.reshape(x, (-1, 3)))
    whole = keras.layers.Lambda(lambda x: keras.ops.reshape(x, (-1, 6)))
    return written.mlp(hidden=[lambda: halves, AddsByHelp, lambda: whole])


@pytest.mark.parametrize(
    "build, what",
    [
        (lambda: written.mlp(hidden=[written.Decorrelated]), "layer 'decorrelated.*'"),
        (lambda: written.mlp(hidden=[AddsByHelp]), "layer 'adds_by_help.*'"),
        (lambda: written.mlp(hidden=[written.Decorrelated, keras.layers.BatchNormalization]), "layer 'decorrelated.*'"),
        (lambda: written.mlp(kernel={"activity_regularizer": written.spread_penalty}), "layer 'dense.*'"),
    ],
)
def test_a_layer_that_adds_a_loss_that_couples_rows_is_named(make_strategy, build, what):
    _, coupling, (line,) = found(make_strategy(2), build)
    assert re.match(f"the loss that {what} adds couples rows, so each replica computes it from the rows of all", line)
    assert len(coupling.layers) == 1
    assert coupling.exchanges


@pytest.mark.parametrize(
    "build, what",
    [
        (lambda: written._own_step(CouplesItself), "the model's compute_loss"),
        (lambda: compiled(AddsInItsCall()), "the loss that 'adds_in_its_call.*' adds"),
        (of_parts, "the loss that 'adds_by_help.*' adds"),
    ],
)
def test_what_adds_a_loss_that_cannot_be_computed_from_all_rows_is_said_with_the_cure(make_strategy, build, what):
    with jobs.lines_of_tfdist(logging.WARNING) as warned:
        found(make_strategy(2), build)
    (line,) = warned
    assert re.match(f"{what} is no mean over rows, but .* tfdist.global_loss, or from tfdist.gather_rows", line)


@pytest.mark.parametrize(
    "build",
    [
        lambda: written.mlp(hidden=[written.GathersRows]),
        lambda: written.mlp(hidden=[written.LosesGlobally]),
        lambda: written.mlp(hidden=[written.Attending]),
        lambda: written._own_step(written.OwnLoss),
        lambda: written._own_step(AddsToCoupled),
    ],
)
def test_what_takes_care_of_the_replicas_is_not_warned_of(make_strategy, build):
    with jobs.lines_of_tfdist(logging.WARNING) as warned:
        _, coupling, _ = found(make_strategy(2), build)
    assert warned == []
    assert coupling.exchanges


def test_a_mean_over_rows_is_not_warned_of(make_strategy):
    from equivalence import cases

    for build in (cases.add_loss_model, cases.own_compute_loss_model):
        with jobs.lines_of_tfdist(logging.WARNING) as warned:
            found(make_strategy(2), build)
        assert warned == []


def test_xla_is_refused_where_replicas_exchange_rows_and_auto_leaves_it(make_strategy):
    strategy = make_strategy(2)
    x, y = written.pairs()
    with strategy.scope():
        model = written._negatives()
    with pytest.raises(ValueError, match=r"jit_compile=True, but loss 'in_batch.*' couples rows.* Use jit_compile=F"):
        tfdist.fit(model, x, y, verbose=0, jit_compile=True)
    reason = xla.why_not(model, Feed(make_input(x, y), strategy))
    assert reason == "replicas exchange the rows of a loss or a layer"
    with strategy.scope():
        layered = written.mlp(hidden=[written.Attending])
    with pytest.raises(ValueError, match=r"jit_compile=True, but the model calls tfdist\.gather_rows"):
        tfdist.fit(layered, x, y, verbose=0, jit_compile=True)


def test_data_that_may_not_be_looked_at_are_made_up(make_strategy):
    """A shuffled data set would come in another order after it was read once more."""
    read = []

    def shuffled():
        data = tf.data.Dataset.from_tensor_slices(written.pairs())
        data = data.map(lambda x, y: (tf.py_function(lambda row: read.append(1) or row, [x], x.dtype), y))
        return data.map(lambda x, y: (tf.ensure_shape(x, [4]), y)).shuffle(29).batch(6)

    _, coupling, _ = found(make_strategy(2), written._negatives, shuffled)
    assert coupling.losses == (0,)
    assert read == []


# Each fault, planted, is to be found in these rows by ten times the tolerance.


@pytest.mark.parametrize(
    "name", ["coupled: in-batch negatives", "coupled: triplets", "coupled: Dice", "coupled: a mask", "coupled: ranking"]
)
def test_a_loss_left_to_each_replica_would_be_found(make_strategy, monkeypatch, name):
    monkeypatch.setattr(user_code, "is_known", lambda item: True)
    _, planted, _ = run_tfdist(name, make_strategy(CASES[name].replicas))
    assert np.abs(planted - run_plain(name)[1]).max() > 10 * CASES[name].tolerance


def test_a_gradient_counted_by_each_replica_would_be_found(make_strategy, monkeypatch):
    name = "coupled: in-batch negatives"
    monkeypatch.setattr(coupled, "count_once", lambda loss, replicas: loss)
    _, planted, _ = run_tfdist(name, make_strategy(CASES[name].replicas))
    assert np.abs(planted - run_plain(name)[1]).max() > 10 * CASES[name].tolerance


def test_metrics_that_are_summed_would_be_found(make_strategy, monkeypatch):
    name = "metric: a maximum"
    monkeypatch.setattr(metric_states, "alike_variables", lambda model: set())
    _, _, history = run_tfdist(name, make_strategy(CASES[name].replicas))
    assert np.abs(history["largest"] - run_plain(name)[2]["largest"]).max() > 1e-2


def test_aggregations_that_are_ignored_would_be_found(make_strategy, monkeypatch):
    name = "metric: aggregations in an own train step"
    monkeypatch.setattr(metric_states, "aggregations_of", lambda model: {})
    _, _, history = run_tfdist(name, make_strategy(CASES[name].replicas))
    plain = run_plain(name)[2]
    assert all(np.abs(history[key] - plain[key]).max() > 1e-2 for key in ("steps", "last"))

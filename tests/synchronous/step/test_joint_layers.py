"""Which layers run on the rows of all replicas, what is said of it, and what is left as it was."""

import logging
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from equivalence import coupled_cases as written
from equivalence import joint_states as joint
from equivalence.cases import mlp, rows
from equivalence.layer_states import Codebook, Counters, MeanInBranch, MeanInFunction, RunningMean
from equivalence.runner import CASES, run_plain, run_tfdist
from support import jobs

import tfdist
from tfdist.feeding.feed import Feed
from tfdist.feeding.inputs import make_input
from tfdist.internals.access import models
from tfdist.internals.patches import assignments, coupled
from tfdist.synchronous.step import joint_layers, xla
from tfdist.synchronous.step.find_coupling import find_coupling

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("float64")]


def found(strategy, *layers, build=mlp, level=logging.INFO):
    """Returns (the model, its `Coupling`, what was said) for layers in the middle of a model."""
    with strategy.scope():
        model = build(hidden=layers)
    feed = Feed(make_input(*rows()), strategy)
    models.build(model, feed.spec)
    before = [np.asarray(weight) for weight in model.weights]
    with jobs.lines_of_tfdist(level) as said:
        coupling = find_coupling(model, feed)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(np.asarray(weight), value)
    return model, coupling, said


class Scores(keras.layers.Layer):
    """Couples rows in evaluation, too."""

    def call(self, x):
        return x / tf.reduce_max(tf.abs(x), axis=0)


@pytest.mark.parametrize(
    ("layer", "when"),
    [
        (joint.FollowingCodebook, "in training "),
        (joint.MemoryBank, "in training "),
        (joint.OwnMoments, "in training "),
        (lambda: RunningMean(aggregation="sum"), "in training "),
        # What it assigns in a branch, it reads there before the replicas have met.
        (lambda: MeanInBranch(after=True), "in training "),
        (Scores, ""),
        (joint.centred, ""),
    ],
)
def test_a_layer_that_couples_rows_is_named_once(make_strategy, layer, when):
    _, coupling, (line,) = found(make_strategy(2), layer)
    assert re.match(rf"layer '\w+' couples rows in its outputs or its state, so {when}each replica computes it", line)
    assert len(coupling.joint) == 1
    assert bool(coupling.always) == (not when)
    assert coupling.exchanges


def test_of_two_layers_the_inner_one_that_couples_rows_is_enough(make_strategy):
    bank = joint.MemoryBank()
    _, coupling, _ = found(make_strategy(2), lambda: joint.Block(bank, norm=True))
    assert coupling.joint == (bank,)


class DrawsItself(keras.layers.Layer):
    """Draws random numbers of its own."""

    def __init__(self, seeded):
        super().__init__()
        self.generator = keras.random.SeedGenerator(3) if seeded else None

    def call(self, x, training=False):
        if not training:
            return x
        shape = tf.shape(x)
        noise = keras.random.normal(shape, seed=self.generator) if self.generator else tf.random.normal(shape)
        return x + 0.1 * tf.cast(noise, x.dtype)


class Fails(keras.layers.Layer):
    """A layer that cannot be computed eagerly."""

    def call(self, x):
        if not tf.is_symbolic_tensor(x) and not isinstance(x, keras.KerasTensor):
            raise RuntimeError
        return x


class KeepsOwn(keras.layers.Layer):
    """Keeps a variance for each replica."""

    def build(self, shape):
        self.own = tfdist.keep_per_replica(self.add_weight(shape=shape[1:], trainable=False, name="own"))

    def call(self, x, training=False):
        if training:
            self.own.assign(tf.math.reduce_variance(x, axis=0))
        return x


@pytest.mark.parametrize(
    "layers",
    [
        [RunningMean],
        [lambda: RunningMean(after=True)],
        [lambda: RunningMean(after=True, plain=True)],
        [Counters],
        [MeanInBranch],
        [MeanInFunction],
        [Codebook],
        [written.GathersRows],
        [lambda: keras.layers.Dropout(0.5), keras.layers.BatchNormalization, RunningMean],
        [lambda: joint.Block(keras.layers.Dropout(0.5), norm=True)],
        [lambda: DrawsItself(seeded=True)],
        [lambda: DrawsItself(seeded=False)],
        [Fails],
        [KeepsOwn],
        [lambda: keras.layers.Lambda(tf.nn.relu)],
    ],
)
def test_other_layers_work_on_the_rows_of_their_replica(make_strategy, layers):
    _, coupling, said = found(make_strategy(2), *layers)
    assert (coupling.joint, said) == ((), [])


def in_halves(hidden):
    """Puts a layer among rows that are no rows of the batch."""
    split = keras.layers.Lambda(lambda x: keras.ops.reshape(x, (-1, 3)))
    join = keras.layers.Lambda(lambda x: keras.ops.reshape(x, (-1, 6)))
    return mlp(hidden=[lambda: split, *hidden, lambda: join])


class CouplesInItsCall(written.Net):
    """Couples rows itself, and not by a layer."""

    def call(self, x, training=False):
        return super().call(x - tf.reduce_max(x, axis=0))


def with_own_call(hidden):
    model = CouplesInItsCall()
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def of_operations(hidden):
    inputs = keras.Input((4,))
    x = inputs - keras.ops.max(inputs, axis=0)
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    ("build", "layers", "what"),
    [
        (in_halves, [joint.RunningVariance], "layer 'running_variance.*'"),
        (with_own_call, [], "the model's own call"),
        (of_operations, [], "the model's own call"),
    ],
)
def test_what_cannot_run_on_all_rows_is_said_with_the_cure(make_strategy, build, layers, what):
    _, coupling, (line,) = found(make_strategy(2), *layers, build=build, level=logging.WARNING)
    assert re.match(
        f"{what} couples rows .* differs from one device's. Compute it from tfdist.gather_rows, or in", line
    )
    assert coupling.joint == ()


def test_xla_is_refused_for_such_a_layer_and_auto_leaves_it(make_strategy):
    strategy = make_strategy(2)
    x, y = rows()
    with strategy.scope():
        model = mlp(hidden=[joint.OwnMoments])
    with pytest.raises(ValueError, match=r"jit_compile=True, but layer 'own_moments.*' couples rows, .* Use jit_compi"):
        tfdist.fit(model, x, y, verbose=0, jit_compile=True)
    assert xla.why_not(model, Feed(make_input(x, y), strategy)) == "replicas exchange the rows of a loss or a layer"


@pytest.mark.parametrize("layer", [Scores, joint.OwnMoments])
def test_evaluation_and_prediction_give_what_one_device_gives(make_strategy, layer):
    x, y = rows(21)
    one = mlp(hidden=[layer])
    with make_strategy(3).scope():
        three = mlp(hidden=[layer])
    np.testing.assert_allclose(
        tfdist.predict(three, x, batch_size=8, verbose=0), one.predict(x, batch_size=8, verbose=0), rtol=0, atol=1e-12
    )
    losses = [
        each(x, y, batch_size=8, verbose=0) for each in (one.evaluate, lambda *a, **k: tfdist.evaluate(three, *a, **k))
    ]
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-6)


class Usage(joint.FollowingCodebook):
    """Returns how even the codes are used, beside the rows."""

    def call(self, x, training=False):
        outputs = super().call(x, training=training)
        return outputs, tf.reduce_max(tf.abs(x - outputs)), tf.convert_to_tensor(self.codes)


class UsesCodes(keras.layers.Layer):
    """Takes rows, a scalar and a table."""

    def __init__(self):
        super().__init__()
        self.usage = Usage()

    def call(self, x, training=False):
        outputs, largest, codes = self.usage(x, training=training)
        return outputs * (1 + 0.1 * largest) + tf.reduce_mean(codes)


@pytest.mark.parametrize("eager", [False, True])
def test_outputs_that_are_no_rows_are_those_of_all_rows(make_strategy, eager):
    x, y = rows(13)
    models_ = []
    for fit, scope in ((keras.Model.fit, None), (tfdist.fit, make_strategy(2).scope())):
        if scope:
            with scope:
                model = mlp(hidden=[UsesCodes], run_eagerly=eager)
        else:
            model = mlp(hidden=[UsesCodes])
        fit(model, x, y, batch_size=8, shuffle=False, verbose=0)
        models_.append(model)
    for one, two in zip(*(model.weights for model in models_), strict=True):
        np.testing.assert_allclose(np.asarray(two), np.asarray(one), rtol=0, atol=1e-12)


# Each fault, planted, is to be found in these rows by ten times the tolerance.


@pytest.mark.parametrize(
    "name", ["a codebook without sums", "a maximum, aggregation=mean", "moments of its own, aggregation=sum"]
)
def test_a_layer_left_to_each_replica_would_be_found(make_strategy, monkeypatch, name):
    name = f"layer state: {name}"
    monkeypatch.setattr(joint_layers.LayerTrial, "_of_layer", lambda self, layer: joint_layers.Joint.ROWS)
    _, planted, _ = run_tfdist(name, make_strategy(CASES[name].replicas))
    assert np.abs(planted - run_plain(name)[1]).max() > 10 * CASES[name].tolerance


def test_states_of_all_rows_that_are_combined_once_more_would_be_found(make_strategy, monkeypatch):
    name = "layer state: a running mean, aggregation=only_first_replica"
    monkeypatch.setattr(coupled, "note_sums", lambda sums: None)
    monkeypatch.setattr(assignments, "rule_of", lambda variable: assignments.SUM)
    _, planted, _ = run_tfdist(name, make_strategy(CASES[name].replicas))
    assert np.abs(planted - run_plain(name)[1]).max() > 10 * CASES[name].tolerance

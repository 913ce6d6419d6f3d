"""Checks where XLA is used, what the log says of it, and that "auto" refuses nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs

import tfdist
from tfdist.feeding.feed import Feed
from tfdist.feeding.inputs import make_input
from tfdist.options.step import StepOptions
from tfdist.synchronous.step import xla
from tfdist.synchronous.step.programs import Programs
from tfdist.training.loop import batch_norms_as_wanted

pytestmark = [pytest.mark.core, pytest.mark.slow]


def make(strategy, make_layers=list, jit_compile=False, model_class=keras.Sequential, **options):
    options = {"loss": "sparse_categorical_crossentropy", **options}
    with strategy.scope():
        model = model_class([keras.Input((jobs.WIDTH,)), *make_layers(), keras.layers.Dense(3, activation="softmax")])
        model.compile("sgd", jit_compile=jit_compile, **options)
    return model


def make_norm():
    return [keras.layers.BatchNormalization(name="norm")]


def make_dropout():
    return [keras.layers.Dropout(0.1)]


def make_own():
    class Own(keras.layers.Dense):
        pass

    return [Own(2)]


def make_conv():
    conv = keras.layers.Conv1D(2, 2, name="conv")
    return [keras.layers.Reshape((jobs.WIDTH, 1)), conv, keras.layers.Flatten()]


def make_lstm():
    return [keras.layers.Reshape((2, 2)), keras.layers.LSTM(3)]


def fit(model, **arguments):
    x, y = jobs.make_rows(8, "float32")
    return tfdist.fit(model, x, y, verbose=0, **arguments)


def feed_of(model, rows=8, **arguments):
    return Feed(make_input(*jobs.make_rows(rows, "float32"), **arguments), model.distribute_strategy)


def is_compiled(model):
    """Returns whether the last `fit` compiled the step of a model."""
    return Programs.of(model).options.jit_compile


def over_weights():
    return keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")


def test_promise_12_auto_compiles_where_it_was_seen_to_help_and_says_so(make_strategy, caplog):
    model = make(make_strategy(2), make_lstm)
    with caplog.at_level("INFO", "tfdist"):
        fit(model, jit_compile="auto")
        fit(model, jit_compile="auto")
    assert is_compiled(model)
    assert caplog.text.count("training: as many steps per call as take half a second, gradients compiled by XLA.") == 1


@pytest.mark.parametrize("make_layers", [list, make_norm], ids=["dense", "normalized"])
def test_promise_12_auto_compiles_whole_calls_of_small_dense_models_and_says_so(make_strategy, caplog, make_layers):
    model = make(make_strategy(1), make_layers)
    with caplog.at_level("INFO", "tfdist"):
        fit(model, jit_compile="auto")
    assert is_compiled(model)
    assert caplog.text.count("as many steps per call as take half a second, whole calls compiled by XLA.") == 1
    # Larger batches, and data that come from a pipeline.
    assert xla.why_not(model, feed_of(model, rows=300, batch_size=256)) is None
    assert xla.why_not(model, feed_of(model, rows=300, batch_size=257)).startswith("no layer was seen")
    fit(model, jit_compile="auto", class_weight={0: 1.0, 1: 2.0, 2: 1.0})
    assert is_compiled(model)


@pytest.mark.parametrize(
    "replicas, make_layers, options, reason",
    [
        (2, make_norm, {}, "layer 'norm' takes its statistics over all replicas"),
        (2, list, {}, "no layer was seen to be faster with it on CPUs"),
        (1, make_dropout, {}, "no layer was seen to be faster with it on CPUs"),
        (1, make_own, {}, "no layer was seen to be faster with it on CPUs"),
        (2, list, {"loss": over_weights()}, "the loss divides by weights or unmasked"),
        (1, list, {"run_eagerly": True}, "the model runs eagerly"),
        (1, make_conv, {}, "layer 'conv' is faster without it on CPUs"),
    ],
)
def test_promise_12_auto_leaves_xla_off_where_it_cannot_be_or_does_not_help(
    make_strategy, caplog, replicas, make_layers, options, reason
):
    model = make(make_strategy(replicas), make_layers, **options)
    with caplog.at_level("INFO", "tfdist"):
        fit(model, jit_compile="auto", sample_weight=np.ones(8))
    with batch_norms_as_wanted(model, StepOptions()):
        assert xla.why_not(model, feed_of(model)).startswith(reason)
    assert not is_compiled(model)
    assert "compiled by XLA" not in caplog.text


def make_attention(width):
    x = inputs = keras.Input((3, width))
    x = keras.layers.MultiHeadAttention(2, width)(x, x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x)))


@pytest.mark.parametrize(
    "make_model, may_be_on",
    [
        # 2.5 kB of weights, less than one pack; then 2 MiB.
        (lambda: make_attention(8), True),
        (lambda: make_attention(256), False),
        (lambda: keras.Sequential([keras.Input((3, 8)), keras.layers.LSTM(512), keras.layers.Dense(3)]), True),
    ],
    ids=["one pack", "several packs", "recurrent"],
)
def test_between_workers_auto_lets_gradients_leave_while_others_are_computed(
    make_strategy, monkeypatch, make_model, may_be_on
):
    strategy = make_strategy(2)
    with strategy.scope():
        model = make_model()
        model.compile("sgd", loss="sparse_categorical_crossentropy")
    feed = Feed(make_input(np.zeros((8, *model.input_shape[1:])), np.zeros(8)), strategy)
    assert xla.why_not(model, feed) is None
    # Such a strategy needs a process of its own, and only its type counts here.
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", type(strategy))
    reason = xla.why_not(model, feed)
    assert reason is None if may_be_on else reason.startswith("gradients must be sent")


def test_promise_12_the_log_says_that_an_own_train_step_runs_without_xla(make_strategy, caplog):
    class Own(keras.Sequential):
        def train_step(self, data):
            return super().train_step(data)

    with caplog.at_level("INFO", "tfdist"):
        fit(make(make_strategy(1), jit_compile=True, model_class=Own))
    assert "jit_compile does not apply to the model's own train_step" in caplog.text


def test_what_is_no_wish_for_xla_is_refused(make_strategy):
    with pytest.raises(ValueError, match=r"jit_compile is 'sometimes'\. Use True, False, 'auto'"):
        fit(make(make_strategy(1)), jit_compile="sometimes")


def test_a_step_that_is_traced_again_for_another_shape_is_said_once(make_strategy, caplog):
    def inputs(width):
        return np.ones((4, width), "float32"), np.zeros(4)

    with make_strategy(2).scope():
        x = keras.Input((None,))
        model = keras.Model(x, keras.layers.Dense(1)(keras.ops.mean(x, axis=1, keepdims=True)))
        model.compile("sgd", "mse")
    with caplog.at_level("INFO", "tfdist"):
        tfdist.fit(model, *inputs(3), verbose=0)
        tfdist.fit(model, *inputs(3), verbose=0, epochs=2)
        assert "traced again" not in caplog.text
        for width in (4, 5, 6):
            tfdist.fit(model, tf.data.Dataset.from_tensors(inputs(width)), verbose=0)
    assert caplog.text.count("the step was traced again") == 1


def test_on_gpus_auto_compiles_what_keras_does_and_calls_stay_loops(make_strategy, monkeypatch):
    monkeypatch.setattr(xla.runtime, "is_on_cpus", lambda strategy: False)
    model = make(make_strategy(1), make_conv)
    assert xla.why_not(model, feed_of(model)) is None
    assert xla.describe(model, feed_of(model), StepOptions(jit_compile=True)) == "gradients compiled by XLA."
    model.layers[-1].supports_jit = False
    assert xla.why_not(model, feed_of(model)) == "Keras does not compile a layer of the model"
    model = make(make_strategy(2), make_lstm)
    assert xla.why_not(model, feed_of(model)) == "it was not measured on several GPUs"


@pytest.mark.parametrize("wish", [True, "auto"])
def test_with_deterministic_kernels_xla_is_off_and_asked_for_it_is_said(make_strategy, monkeypatch, caplog, wish):
    monkeypatch.setattr(xla.runtime, "is_deterministic", lambda: True)
    model = make(make_strategy(1))
    with caplog.at_level("INFO", "tfdist"):
        assert not xla.resolve(model, wish, feed_of(model))
    assert ("jit_compile=True has no effect: deterministic kernels" in caplog.text) == (wish is True)

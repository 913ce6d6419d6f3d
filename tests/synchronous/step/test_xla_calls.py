"""Checks that whole calls compiled by XLA train as Keras on one device, and what happens if XLA cannot."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs

import tfdist
from tfdist.options.step import StepOptions
from tfdist.synchronous.exchange.exchange import AllReduce
from tfdist.synchronous.step import xla
from tfdist.synchronous.step.programs import Programs

pytestmark = [pytest.mark.core, pytest.mark.slow]

OPTIMIZERS = {
    "sgd": lambda: None,
    "adam, clipped": lambda: keras.optimizers.Adam(0.05, global_clipnorm=0.5),
    "accumulation": lambda: keras.optimizers.SGD(0.2, momentum=0.9, gradient_accumulation_steps=3),
    "average": lambda: keras.optimizers.Adam(0.05, use_ema=True, ema_overwrite_frequency=4),
    "schedule": lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.3, 9)),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.2), dynamic_growth_steps=3),
}


def train(strategy, source, make_model=jobs.make_mlp, **arguments):
    return jobs.train(strategy, source, make_model=make_model, **{"jit_compile": True, **arguments})


@pytest.fixture
def whole_calls(monkeypatch):
    """Counts the calls that were compiled whole, by their steps."""
    counts = []
    even_calls = tfdist.data.delivery.in_memory.RowReading.even_calls

    def counted(self, steps):
        counts.append(steps)
        return even_calls(self, steps)

    monkeypatch.setattr(tfdist.data.delivery.in_memory.RowReading, "even_calls", counted)
    return counts


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_promise_12_whole_calls_train_to_the_weights_of_plain_keras(optimizer, make_strategy, whole_calls):
    def make_model():
        return jobs.make_mlp(OPTIMIZERS[optimizer](), batch_norm=True)

    source = jobs.small_source(20)
    # One epoch, because averages replace the weights at the end of every `fit`.
    plain, plain_history = jobs.train_plainly(source, epochs=1, make_model=make_model)
    model, history = train(make_strategy(1), source, make_model, epochs=1, steps_per_execution=4)
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-9)
    for name, values in plain_history.items():
        assert history[name] == pytest.approx(values, abs=1e-6)
    # 103 rows in batches of 20, the last one with 3.
    assert whole_calls == [4, 2]


def test_losses_of_several_outputs_are_those_of_plain_keras(make_strategy):
    def make_model():
        keras.utils.set_random_seed(7)
        inputs = {"a": keras.Input((jobs.WIDTH,), name="a"), "b": keras.Input((2,), name="b")}
        hidden = keras.layers.Concatenate()([keras.layers.Dense(4)(inputs["a"]), keras.layers.Dense(3)(inputs["b"])])
        outputs = {"u": keras.layers.Dense(1, name="u")(hidden), "v": keras.layers.Dense(2, name="v")(hidden)}
        model = keras.Model(inputs, outputs)
        model.compile("sgd", {"u": "mse", "v": "mae"})
        return model

    (x, y), rows = jobs.make_rows(53, "float32"), {"batch_size": 7, "epochs": 2, "shuffle": False, "verbose": 0}
    data = {"a": x, "b": x[:, :2]}, {"u": y[:, np.newaxis], "v": x[:, 2:]}
    with make_strategy(1).scope():
        model = make_model()
    history = tfdist.fit(model, *data, jit_compile=True, steps_per_execution=5, **rows).history
    plain = make_model()
    for name, values in plain.fit(*data, **rows).history.items():
        assert history[name] == pytest.approx(values, rel=1e-5)
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-6)


def test_calls_of_other_lengths_give_the_same_weights_bit_for_bit(make_strategy):
    strategy = make_strategy(1)
    weights = [
        jobs.weights_of(train(strategy, jobs.small_source(20), steps_per_execution=steps)[0]) for steps in (1, 4, 50)
    ]
    np.testing.assert_array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[0], weights[2])


@pytest.mark.usefixtures("float64")
def test_noise_is_that_of_gradients_that_xla_compiles(make_strategy):
    def make_model():
        keras.utils.set_random_seed(7)
        layers = [keras.layers.Dense(8, "tanh"), keras.layers.Dropout(0.5), keras.layers.GaussianNoise(0.1)]
        model = keras.Sequential([keras.Input((jobs.WIDTH,)), *layers, keras.layers.Dense(jobs.CLASSES, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    strategy, source = make_strategy(1), jobs.small_source(20)
    model, _ = train(strategy, source, make_model)
    gradients, _ = train(strategy, source.map(lambda batch, seeds: batch), make_model)
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(gradients), rtol=0, atol=1e-9)


class Uncompilable(keras.metrics.Mean):
    """A metric that XLA cannot compile."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        moved = tf.py_function(lambda y: y + 1, [y_pred], y_pred.dtype)
        super().update_state(tf.ensure_shape(moved, y_pred.shape))


def test_what_xla_cannot_compile_whole_is_said_and_trained_with_compiled_gradients(make_strategy, caplog):
    def make_model():
        model = jobs.make_mlp()
        model.compile(keras.optimizers.SGD(0.2), "sparse_categorical_crossentropy", metrics=[Uncompilable()])
        return model

    source = jobs.small_source(20)
    plain, plain_history = jobs.train_plainly(source, make_model=make_model)
    with caplog.at_level("INFO", "tfdist"):
        model, history = train(make_strategy(1), source, make_model, steps_per_execution=4)
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-5)
    assert history["loss"] == pytest.approx(plain_history["loss"], abs=1e-5)
    assert caplog.text.count("XLA cannot compile whole calls of this model, only its gradients: ") == 1


def test_data_that_are_not_in_memory_come_to_compiled_gradients(make_strategy, whole_calls):
    source = jobs.small_source(20)
    plain, _ = train(make_strategy(1), source)
    other, _ = train(make_strategy(1), source.map(lambda batch, seeds: batch))
    np.testing.assert_allclose(jobs.weights_of(other), jobs.weights_of(plain), rtol=0, atol=1e-5)
    assert sum(whole_calls) == 12


def test_a_run_that_was_stopped_within_an_epoch_goes_on_to_the_same_weights(make_strategy, tmp_path):
    strategy, source = make_strategy(1), jobs.small_source(20)
    whole, _ = train(strategy, source, steps_per_execution=4, epochs=3)
    arguments = {"steps_per_execution": 4, "run_dir": tmp_path, "checkpoint_every_steps": 4}
    train(strategy, source, steps=8, **arguments)
    resumed, _ = train(strategy, source, epochs=3, **arguments)
    np.testing.assert_array_equal(jobs.weights_of(resumed), jobs.weights_of(whole))


def test_what_a_call_measured_is_its_time(make_strategy):
    class Times(tfdist.callbacks.Callback):
        def on_train_measured(self, steps, measured):
            seen.append((steps, *measured.sums.numpy()))

    seen = []
    train(make_strategy(1), jobs.small_source(20), callbacks=[Times()], steps_per_execution=4)
    assert [steps for steps, *_ in seen] == [4, 2] * 2
    assert all(waiting == reduced == 0 < seconds for _, waiting, seconds, reduced in seen)


def test_several_replicas_compile_their_gradients_alone(make_strategy, whole_calls):
    model, _ = train(make_strategy(2), jobs.small_source(20))
    options = Programs.of(model).options
    assert options.jit_compile
    assert whole_calls == []
    assert not xla.compiles_calls(model, options)
    assert xla.compiles_calls(train(make_strategy(1), jobs.small_source(20))[0], options)


def test_an_injected_fault_within_a_call_happens_within_it(make_strategy):
    with make_strategy(1).scope():
        model = jobs.make_mlp()
    model.build((None, jobs.WIDTH))
    programs, source = Programs.of(model), jobs.small_source(20)
    programs.use(StepOptions(jit_compile=True))

    def train(inject):
        programs.train(source.form(1), AllReduce(), in_call=inject)(source.deliver(model.distribute_strategy)(), 3)

    first, second = [], []
    train(lambda done: first.append(int(done)))
    train(lambda done: second.append(int(done)))
    train(None)
    # Each run has its own faults; a program that was kept would inject those of the run before.
    assert first == second == [0, 1, 2]

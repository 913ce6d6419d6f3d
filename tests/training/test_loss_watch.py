"""A loss or a weight that is not finite ends a run at once, with the step, the weight and the checkpoint before."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs
from support.worker_jobs.not_finite import WeightsTurnNan, diverge, make_model, rows_with_nan

import tfdist
from tfdist.process.errors import NotFiniteError
from tfdist.process.exits import NOT_FINITE
from tfdist.run.rundir import RunDir

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]


def fit(model, x, y, **arguments):
    return tfdist.fit(model, x, y, **({"batch_size": 8, "shuffle": False, "verbose": 0} | arguments))


def message(*arguments, **more):
    with pytest.raises(NotFiniteError) as error:
        fit(*arguments, **more)
    assert error.value.exit_code == NOT_FINITE
    assert isinstance(error.value, ArithmeticError)
    return str(error.value)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_the_first_step_with_a_loss_that_is_nan_is_named_within_a_long_call(make_strategy, replicas, jit_compile):
    # The fifth batch, in the first call of six steps; the row is on the last replica.
    said = message(
        make_model(make_strategy(replicas)), *rows_with_nan(39), steps_per_execution=6, jit_compile=jit_compile
    )
    assert "the loss is nan since step 5 of epoch 1, which is step 5 of the run; after it the weight " in said
    assert "hidden/kernel' is not finite, as are " in said


def test_the_step_is_counted_from_the_runs_beginning(make_strategy):
    x, y = rows_with_nan(39)
    model = make_model(make_strategy(1))
    healing = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: None)
    fit(model, x[:32], y[:32], callbacks=[healing])
    stream = tf.data.Dataset.from_tensor_slices(
        (np.concatenate([x[:32]] * 2 + [x]), np.concatenate([y[:32]] * 2 + [y]))
    )
    with pytest.raises(NotFiniteError, match="since step 1 of epoch 4, which is step 13 of the run"):
        tfdist.fit(model, stream.batch(8), epochs=5, steps_per_epoch=4, verbose=0)


def test_a_weight_that_is_nan_while_the_loss_is_finite_is_named(make_strategy):
    # The oracle: a weight is set by hand, and nothing reads it in the loss.
    model = make_model(make_strategy(2), unused=True)
    said = message(model, *jobs.make_rows(64, "float32"), epochs=2, callbacks=[WeightsTurnNan(after=3)])
    assert "after step " in said
    assert "unused/kernel' is not finite" in said


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_checkpoint_before_is_kept_and_none_of_nan_is_written(make_strategy, tmp_path, replicas):
    strategy = make_strategy(replicas)
    said = message(
        make_model(strategy), *rows_with_nan(39), run_dir=tmp_path, checkpoint_every_steps=2, steps_per_execution=2
    )
    assert "The checkpoint of step 4 is from before, and is kept." in said
    assert RunDir(tmp_path).checkpoint_steps() == [2, 4]
    # Its weights are those of training on the rows before.
    x, y = rows_with_nan(39)
    whole = make_model(strategy)
    fit(whole, x[:32], y[:32])
    resumed = make_model(strategy)
    with pytest.raises(NotFiniteError):
        fit(resumed, *rows_with_nan(39), run_dir=tmp_path, resume="must", callbacks=[Compare(whole)])


class Compare(keras.callbacks.Callback):
    """Compares the weights with those of another model before the first step."""

    def __init__(self, other):
        super().__init__()
        self._other = jobs.weights_of(other)

    def on_train_batch_begin(self, batch, logs=None):
        np.testing.assert_array_equal(jobs.weights_of(self.model), self._other)


def test_warn_goes_on_as_keras_does_and_saves_nothing_more(make_strategy, tmp_path, caplog):
    x, y = rows_with_nan(39)
    arguments = {"epochs": 2, "steps_per_execution": 2}
    history = fit(
        make_model(make_strategy(2)), x, y, on_nan="warn", run_dir=tmp_path, checkpoint_every_steps=2, **arguments
    )
    assert np.isnan(history.history["loss"]).all()
    assert caplog.text.count("the loss is nan since step 5 of epoch 1") == 1
    assert RunDir(tmp_path).checkpoint_steps() == [2, 4]


def test_keras_own_callback_ends_the_run_without_an_error(make_strategy):
    calls = [keras.callbacks.TerminateOnNaN()]
    x, y = rows_with_nan(39)
    plain = make_model(None)
    oracle = plain.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=calls)
    mine = fit(make_model(make_strategy(2)), x, y, epochs=3, callbacks=[keras.callbacks.TerminateOnNaN()])
    assert len(mine.history["loss"]) == len(oracle.history["loss"]) == 1


def test_a_loss_scale_optimizer_leaves_updates_out_on_purpose(make_strategy):
    strategy = make_strategy(2)
    with strategy.scope():
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**126)
    model = make_model(strategy, optimizer=optimizer)
    fit(model, *jobs.make_rows(64, "float32"), epochs=2)
    assert np.isfinite(np.concatenate([np.ravel(weight) for weight in model.get_weights()])).all()
    # A loss that is NaN spoils no weight there either.
    fit(model, *rows_with_nan(39))
    assert np.isfinite(np.concatenate([np.ravel(weight) for weight in model.get_weights()])).all()


def test_infinities_that_a_model_has_from_the_start_are_its_own(make_strategy):
    model = make_model(make_strategy(1), unused=True)
    model.get_layer("unused").kernel.assign(np.full((jobs.WIDTH, 4), -np.inf))
    fit(model, *jobs.make_rows(32, "float32"))


class OwnStep(keras.Model):
    """A model with a step of its own, which logs two losses by names of its own."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, self(x, training=True)))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"d_loss": loss * 2, "g_loss": loss}


@pytest.mark.parametrize("eager", [False, True])
def test_losses_of_a_step_of_the_users_own_count_too(make_strategy, eager):
    plain = make_model(None)
    with make_strategy(2).scope():
        inputs = keras.Input((jobs.WIDTH,))
        outputs = keras.layers.Dense(jobs.CLASSES, "softmax")(keras.layers.Dense(4, "tanh", name="hidden")(inputs))
        model = OwnStep(inputs, outputs)
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=eager, loss=plain.loss)
    said = message(model, *rows_with_nan(20), steps_per_execution=4)
    assert "the d_loss is nan since step 3 of epoch 1" in said


def test_two_workers_stop_alike(two_workers, tmp_path):
    both = two_workers(diverge, tmp_path)
    for done in both:
        assert "the loss is nan since step 5 of epoch 1, which is step 5 of the run" in done.value
    assert both[0].value == both[1].value
    assert RunDir(tmp_path).checkpoint_steps() == [2, 4]

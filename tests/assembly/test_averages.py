"""Moving averages of the weights are validated and saved, beside plain Keras on one device and NumPy."""

import keras
import numpy as np
import pytest
from support.jobs import make_mlp, make_rows, weights_of

import tfdist
from tfdist.assembly.averages import make_swaps
from tfdist.callbacks import Callback

MOMENTUM, BATCH, EPOCHS = 0.7, 25, 3
ROWS = 103  # five steps an epoch, the last one of three rows


class StoppedError(Exception):
    """The end of a run that is stopped."""


class Observer(Callback):
    """Keeps the weights after each step, and stops a run before one."""

    def __init__(self, stop_before=None):
        super().__init__()
        self.every_steps = 1
        self.weights = []
        self._stop_before = stop_before

    def on_train_batch_begin(self, batch, logs=None):
        if self.steps_before + batch == self._stop_before:
            raise StoppedError

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(weights_of(self.model))


def sgd():
    return keras.optimizers.SGD(0.3, momentum=0.5, use_ema=True, ema_momentum=MOMENTUM)


def fit(function, model, swaps, *more, epochs=EPOCHS, **arguments):
    x, y = make_rows(ROWS)
    given = {"batch_size": BATCH, "shuffle": False, "verbose": 0, "validation_data": (x[:40], y[:40])}
    return function(model, x, y, **given, epochs=epochs, callbacks=[*swaps(model), *more], **arguments).history


def train(strategy, *more, swaps=make_swaps, **arguments):
    """Trains on a strategy; returns (model, history)."""
    with strategy.scope():
        model = make_mlp(sgd())
        model.optimizer.build(model.trainable_variables)
    return model, fit(tfdist.fit, model, swaps, *more, **arguments)


def on_epochs(model):
    del model
    return [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("swaps", [make_swaps, on_epochs])
def test_two_replicas_validate_and_keep_the_averages_of_one_device(make_strategy, swaps):
    expected = make_mlp(sgd())
    losses = fit(keras.Model.fit, expected, swaps)["val_loss"]
    ours, history = train(make_strategy(2), swaps=swaps)
    np.testing.assert_allclose(history["val_loss"], losses, rtol=1e-9)
    np.testing.assert_allclose(weights_of(ours), weights_of(expected), rtol=1e-9, atol=1e-12)
    _, without = train(make_strategy(1), swaps=lambda model: [])
    assert np.abs(np.array(without["val_loss"]) - losses).min() > 1e-3, "the weights themselves have other losses"


@pytest.mark.usefixtures("float64")
def test_what_is_validated_and_kept_is_the_running_mean_of_the_weights(make_strategy):
    observer = Observer()
    ours, history = train(make_strategy(1), observer)
    averages = observer.weights[:1]
    for weights in observer.weights[1:]:
        averages.append(MOMENTUM * averages[-1] + (1 - MOMENTUM) * weights)
    np.testing.assert_allclose(weights_of(ours), averages[-1], rtol=1e-9, atol=1e-12)
    x, y = make_rows(ROWS)
    for epoch, loss in enumerate(history["val_loss"]):
        ours.set_weights(split(averages[5 * epoch + 4], ours.get_weights()))
        assert tfdist.evaluate(ours, x[:40], y[:40], verbose=0, return_dict=True)["loss"] == pytest.approx(loss)


def split(vector, like):
    """Returns a vector of all weights as arrays of the shapes of others."""
    ends = np.cumsum([array.size for array in like])
    return [part.reshape(array.shape) for part, array in zip(np.split(vector, ends[:-1]), like, strict=True)]


@pytest.mark.parametrize("stop_before", [7, 10])
def test_a_run_that_was_stopped_ends_with_the_averages_of_the_undisturbed_one(make_strategy, tmp_path, stop_before):
    whole, history = train(make_strategy(2))
    saved = {"run_dir": tmp_path, "checkpoint_every_steps": 1}
    with pytest.raises(StoppedError):
        train(make_strategy(2), Observer(stop_before), **saved)
    again, rest = train(make_strategy(2), **saved)
    np.testing.assert_array_equal(weights_of(again), weights_of(whole))
    assert rest["val_loss"] == history["val_loss"]


def test_a_longer_run_goes_on_from_the_weights_and_not_from_the_averages(make_strategy, tmp_path):
    whole, _ = train(make_strategy(1))
    train(make_strategy(1), epochs=2, run_dir=tmp_path)
    longer, _ = train(make_strategy(1), run_dir=tmp_path)
    np.testing.assert_array_equal(weights_of(longer), weights_of(whole))


def test_an_optimizer_without_averages_has_nothing_to_swap():
    assert make_swaps(make_mlp()) == []
    scaled = make_mlp(keras.optimizers.LossScaleOptimizer(sgd()))
    assert [type(callback) for callback in make_swaps(scaled)] == [keras.callbacks.SwapEMAWeights]

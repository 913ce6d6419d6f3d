"""The callbacks of a hand-written loop find its optimizer, and nothing else does."""

import keras
import numpy as np
import pytest

import tfdist


def train(strategy, callbacks, run_dir=None, **compiled):
    """Runs three epochs of a loop that trains nothing; returns the model and the optimizer."""
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="model")
        optimizer = keras.optimizers.SGD(0.5, name="of_the_loop")
        if compiled:
            model.compile(**compiled)
    data = tfdist.data.from_arrays(np.ones((34, 2)), np.ones(34), global_batch=8)
    with tfdist.open_run(run_dir, model, optimizer, data, callbacks=callbacks) as run:
        for batches in run.epochs(3):
            for _ in batches:
                run.log(loss=1.0)
    return model, optimizer


def test_a_tracker_and_a_schedule_of_keras_find_the_optimizer_of_the_loop(make_strategy):
    class Tracker(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.model.optimizer.name)

        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(self.model.optimizer.learning_rate))

    seen = []
    halved = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    _, optimizer = train(make_strategy(2), [halved, Tracker()])
    assert seen == ["of_the_loop", *[0.25] * 5, *[0.125] * 5, *[0.0625] * 5]
    assert float(optimizer.learning_rate.numpy()) == 0.0625


def test_what_is_saved_is_the_same_with_and_without_a_callback(make_strategy, tmp_path):
    found = []
    for folder, callbacks in ((tmp_path / "a", []), (tmp_path / "b", [keras.callbacks.Callback()])):
        model, _ = train(make_strategy(1), callbacks, folder)
        assert getattr(model, "optimizer", None) is None
        with np.load(folder / "checkpoints" / "step-00000015" / "variables.npz") as arrays:
            found.append(sorted(arrays.files))
    assert found[0] == found[1]


def test_an_error_of_a_callback_leaves_the_model_without_the_optimizer(make_strategy):
    class Fails(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            models.append(self.model)
            raise KeyError(self.model.optimizer.name)

    models = []
    with pytest.raises(KeyError, match="of_the_loop"):
        train(make_strategy(1), [Fails()])
    assert getattr(models[0], "optimizer", None) is None


def test_a_compiled_model_keeps_its_own_optimizer(make_strategy):
    class Look(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            seen.append(self.model.optimizer)

    seen = []
    given = keras.callbacks.CallbackList([Look()])
    model, optimizer = train(make_strategy(1), given, optimizer="adam", loss="mse")
    assert seen == [model.optimizer] and seen[0] is not optimizer

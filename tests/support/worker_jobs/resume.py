"""What two workers train for `tests/resume/test_saved_run.py`."""

import keras
import numpy as np
import pytest
from support import jobs

import tfdist
from tfdist.callbacks.base import Callback
from tfdist.checkpoints import checkpoint


class StopAfter(Callback):
    """Stops every worker in the second epoch, while gradients wait for their update."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.steps_before + batch == 8:
            raise InterruptedError


def stop_and_go_on(strategy, folder):
    """Stops a run and resumes it, beside the undisturbed one.

    Returns:
        (whether the weights are the undisturbed run's, whether its history is, the class of the error that refuses to
        begin anew in the folder)
    """
    whole, history = _train(strategy)
    with pytest.raises(InterruptedError):
        _train(strategy, run_dir=folder, checkpoint_every_steps=2, callbacks=[StopAfter()])
    if strategy.cluster_resolver.task_id == 0:
        # The other worker must take the chief's choice.
        (folder / "checkpoints" / "step-00000099").mkdir()
    resumed, rest = _train(strategy, run_dir=folder, resume="must")
    with pytest.raises((FileExistsError, checkpoint.CheckpointError)) as refused:
        _train(strategy, run_dir=folder, resume="never")
    return all(map(np.array_equal, whole, resumed)), rest == history, refused.typename


def _train(strategy, **arguments):
    with strategy.scope():
        model = jobs.make_mlp(keras.optimizers.Adam(0.01, gradient_accumulation_steps=3), batch_norm=True)
    source = jobs.small_source(20)
    history = tfdist.fit(model, source, epochs=3, verbose=0, validation_data=source, **arguments).history
    return [np.asarray(variable) for variable in checkpoint.variables_of(model)], history


class RateOfStep(keras.callbacks.Callback):
    """Sets the rate of each step just before it; on several workers it runs on the chief alone."""

    every_worker = False

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = 0.05 * (batch + 1)


def train_with_a_rate_for_each_step(strategy):
    """Returns the weights after a training in which the chief's callback sets the rate of each step."""
    with strategy.scope():
        model = jobs.make_mlp()
    x, y = jobs.make_rows(20)
    tfdist.fit(model, x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[RateOfStep()])
    return jobs.weights_of(model)

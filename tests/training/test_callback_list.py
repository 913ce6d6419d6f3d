"""Checks that tfdist's own callbacks count the steps of a run, and which callbacks run where."""

import types

import keras
import pytest
import tensorflow as tf
from support import jobs

import tfdist
from tfdist.assembly.assemble import make_files
from tfdist.callbacks.base import Callback
from tfdist.options.run import RunConfig
from tfdist.run.rundir import RunDir
from tfdist.strategy.workers import Workers
from tfdist.training.callback_list import for_this_worker

pytestmark = pytest.mark.core


class Steps(Callback):
    """Records the steps that its hook receives."""

    def __init__(self, every_steps=None):
        super().__init__()
        self.every_steps = every_steps
        self.seen = []

    def on_step_end(self, step, logs=None):
        self.seen.append(step)


def steps_seen(make_strategy, x, y=None, *, steps_per_execution=1, every=None, **arguments):
    with make_strategy(1).scope():
        model = jobs.make_mlp()
    steps = Steps(every)
    arguments["steps_per_execution"] = steps_per_execution
    tfdist.fit(model, x, y, callbacks=[steps], verbose=0, **arguments)
    return steps.seen


def test_steps_are_counted_over_the_whole_run(make_strategy):
    x, y = jobs.make_rows(10, "float32")
    assert steps_seen(make_strategy, x, y, batch_size=4, epochs=2) == [1, 2, 3, 4, 5, 6]
    assert steps_seen(make_strategy, x, y, batch_size=4, epochs=3, initial_epoch=2) == [7, 8, 9]
    assert steps_seen(make_strategy, x, y, batch_size=4, epochs=2, steps_per_execution=9) == [3, 6]
    assert steps_seen(make_strategy, x, y, batch_size=4, epochs=2, steps_per_execution=9, every=2) == [2, 3, 4, 6]


def test_steps_are_counted_where_nobody_knows_how_many_there_are(make_strategy):
    data = tf.data.Dataset.from_tensor_slices(jobs.make_rows(10, "float32")).batch(4).filter(lambda x, y: True)
    assert steps_seen(make_strategy, data, epochs=2) == [1, 2, 3, 4, 5, 6]


def test_on_one_worker_all_callbacks_run(make_strategy):
    callbacks = [keras.callbacks.LambdaCallback(), keras.callbacks.CSVLogger("unused")]
    assert for_this_worker(callbacks, Workers()) == callbacks


class Asking(keras.callbacks.Callback):
    """A callback that sets `every_worker`."""

    def __init__(self, every_worker):
        super().__init__()
        self.every_worker = every_worker


@pytest.mark.parametrize("chief", [True, False])
def test_a_callback_that_says_where_it_runs_is_not_told(caplog, chief):
    workers = types.SimpleNamespace(count=2, is_chief=chief)
    one, all_of_them = Asking(False), Asking(True)
    with caplog.at_level("INFO", "tfdist"):
        chosen = for_this_worker([one, all_of_them], workers)
        assert chosen == ([one, all_of_them] if chief else [all_of_them])
        assert caplog.text == ""
        for_this_worker([keras.callbacks.LambdaCallback()], workers)
        assert caplog.text.count("runs only on the chief") == chief


class Tracker(keras.callbacks.Callback):
    """A stand-in for the callback of a tracker of experiments."""

    __module__ = "wandb.integration.keras.callbacks"


class OwnTracker(Tracker):
    """A user's own subclass of it."""


@pytest.mark.parametrize("kind", [Tracker, OwnTracker])
def test_a_tracker_of_experiments_runs_on_the_chief_and_is_not_told(caplog, kind):
    tracker = kind()
    with caplog.at_level("INFO", "tfdist"):
        for chief in (True, False):
            workers = types.SimpleNamespace(count=2, is_chief=chief)
            assert for_this_worker([tracker], workers) == [tracker] * chief
    assert caplog.text == ""


def test_tfdists_own_callbacks_all_say_where_they_run(make_strategy, tmp_path):
    with make_strategy(1).scope():
        model = jobs.make_mlp()
    callbacks = make_files(RunDir(tmp_path), RunConfig(name="a"), jobs.small_source(), model).callbacks
    assert len(callbacks) == 10
    assert all(isinstance(callback.every_worker, bool) for callback in callbacks)


def test_a_callback_list_of_the_users_own_is_used_and_left_as_it_is(make_strategy):
    class Epochs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(epoch)

    seen = []
    with make_strategy(2).scope():
        model = jobs.make_mlp()
    own = keras.callbacks.CallbackList([Epochs()], model=model)
    for _ in range(2):
        assert len(tfdist.fit(model, jobs.small_source(20), epochs=2, callbacks=own).history["loss"]) == 2
    assert seen == [0, 1, 0, 1]
    assert [type(callback) for callback in own.callbacks] == [Epochs]

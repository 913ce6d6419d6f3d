"""A profile of some steps: it is written for these steps alone, and the weights stay the same."""

import numpy as np
import pytest
import tensorflow as tf
from support import jobs

import tfdist
from tfdist.callbacks.base import Callback
from tfdist.callbacks.profile import Profile


def train(make_strategy, *callbacks):
    with make_strategy(2).scope():
        model = jobs.make_mlp()
        model.steps_per_execution = 4
    tfdist.fit(model, jobs.small_source(20), epochs=2, callbacks=list(callbacks), verbose=0)
    return jobs.weights_of(model)


def test_the_files_that_tensorboard_shows_appear(make_strategy, tmp_path):
    weights = train(make_strategy, Profile(tmp_path, (3, 8)))
    (trace,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    assert trace.stat().st_size > 1000
    np.testing.assert_allclose(weights, train(make_strategy), rtol=0, atol=1e-6)


@pytest.fixture
def profiler(monkeypatch):
    """Replaces TensorFlow's profiler; returns a list of its calls."""
    told = []
    monkeypatch.setattr(tf.profiler.experimental, "start", lambda folder: told.append(("start", folder)))
    monkeypatch.setattr(tf.profiler.experimental, "stop", lambda: told.append(("stop",)))
    return told


class Told(Callback):
    """Adds the steps to the list of the profiler's calls; it comes after the profile."""

    def __init__(self, told):
        super().__init__()
        self.told = told

    def on_step_end(self, step, logs=None):
        self.told.append(step)


def test_just_the_steps_asked_for_are_profiled(make_strategy, profiler):
    train(make_strategy, Profile("here", (3, 8)), Told(profiler))
    # Six steps per epoch, four per call.
    assert profiler == [3, ("start", "here"), 6, ("stop",), 8, 12]


def test_a_run_that_ends_before_writes_what_there_was(make_strategy, profiler):
    train(make_strategy, Profile("here", (10, 99)), Told(profiler))
    assert profiler == [4, 6, 10, ("start", "here"), 12, ("stop",)]


def test_without_a_folder_calls_end_alike_and_nothing_is_written(make_strategy, profiler):
    train(make_strategy, Profile(None, (3, 8)), Told(profiler))
    assert profiler == [3, 6, 8, 12]

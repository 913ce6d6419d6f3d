"""Checks `steps_per_execution="auto"`: how calls grow, what keeps them short, and that weights do not depend on it."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import jobs

import tfdist
from tfdist.assembly.assemble import make_files
from tfdist.options.run import RunConfig
from tfdist.run.rundir import RunDir
from tfdist.training import call_length
from tfdist.training.batch_listeners import describe, find_listeners
from tfdist.training.call_length import Growth, MeasuredLength

pytestmark = [pytest.mark.core, pytest.mark.slow]


def grow(step_seconds, calls, at_most=10**9):
    """Returns (the number of steps of each call, the `Growth`); calls are cut at `at_most` steps."""
    growth, lengths = Growth(), []
    for _ in range(calls):
        steps = min(growth.steps, at_most)
        lengths.append(steps)
        growth.note(steps, steps * step_seconds)
    return lengths, growth


def test_calls_grow_until_they_take_a_quarter_of_a_second_or_more():
    lengths, growth = grow(0.01, 8)
    # The first call traces and is not counted; 37 steps take three quarters of half a second.
    assert lengths == [1, 1, 8, 37, 37, 37, 37, 37]
    assert growth.is_settled


def test_calls_grow_eightfold_at_most():
    lengths, _ = grow(1e-5, 8)
    assert lengths == [1, 1, 8, 64, 512, 4096, 32768, 32768]


@settings(max_examples=200, deadline=2000)
@given(st.floats(1e-5, 100))
def test_a_call_ends_up_between_a_quarter_and_half_a_second_or_has_one_step(step_seconds):
    lengths, growth = grow(step_seconds, 25)
    assert growth.is_settled
    assert max(lengths) == lengths[-1] == growth.steps
    assert growth.steps == 1 or growth.steps * step_seconds <= 0.5
    assert growth.steps * step_seconds > 0.25


def test_calls_that_something_cuts_do_not_grow_beyond_the_next_power_of_eight():
    lengths, growth = grow(1e-4, 9, at_most=6)
    assert lengths == [1, 1, 6, 6, 6, 6, 6, 6, 6]
    assert (growth.steps, growth.is_settled) == (8, True)


def test_the_time_of_tracing_does_not_count():
    growth = Growth()
    growth.note(1, 60)
    assert growth.steps == 1
    growth.note(1, 0.01)
    assert growth.steps == 8


def test_after_a_call_that_took_too_long_calls_are_shorter_and_grow_again():
    _, growth = grow(0.01, 20)
    assert growth.steps == 37
    growth.note(37, 3.7)
    assert growth.steps == 3
    growth.note(3, 700)
    assert growth.steps == 1
    assert not growth.is_settled
    for _ in range(9):
        growth.note(growth.steps, growth.steps * 0.01)
    assert growth.steps == 37


def test_a_little_noise_about_the_limit_does_not_send_calls_back_and_forth():
    _, growth = grow(1 / 128, 20)
    assert growth.steps == 48
    growth.note(48, 0.51)
    settled = growth.steps
    for _ in range(5):
        growth.note(settled, settled / 128)
    assert growth.steps == settled == 35


@pytest.fixture
def clock(monkeypatch):
    """Makes calls take no time for "auto", so that they grow with every call."""
    monkeypatch.setattr(call_length, "MeasuredLength", functools.partial(MeasuredLength, clock=lambda: 0.0))


def train(strategy, *callbacks, steps_per_execution="auto", make_model=jobs.make_mlp, batch=5, **arguments):
    """Trains on batches of 5 of 103 rows: 21 steps an epoch; returns (the model, where calls ended, the history)."""
    steps = jobs.StepsSeen()
    model, history = jobs.train(
        strategy,
        jobs.small_source(batch),
        make_model=make_model,
        steps_per_execution=steps_per_execution,
        callbacks=[*callbacks, steps],
        **arguments,
    )
    return model, steps.seen, history


GROWING = [1, 2, 10, 21, 42]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("replicas", [1, 2])
def test_auto_gives_the_weights_of_one_step_a_call_bit_by_bit(make_strategy, replicas):
    model, ends, history = train(make_strategy(replicas))
    assert ends == GROWING
    one, ends, history_of_one = train(make_strategy(replicas), steps_per_execution=1)
    assert ends == list(range(1, 43))
    np.testing.assert_array_equal(jobs.weights_of(model), jobs.weights_of(one))
    assert history == history_of_one


def test_auto_measures_by_the_real_clock_too(make_strategy):
    model, ends, _ = train(make_strategy(1))
    one, _, _ = train(make_strategy(1), steps_per_execution=1)
    assert ends[-1] == 42
    np.testing.assert_array_equal(jobs.weights_of(model), jobs.weights_of(one))


@pytest.mark.usefixtures("clock")
def test_what_was_chosen_is_said_once(make_strategy, caplog):
    with caplog.at_level("INFO", "tfdist"):
        train(make_strategy(1), epochs=6)
    assert "training: as many steps per call as take half a second, without XLA." in caplog.text
    assert caplog.text.count("steps_per_execution: ") == 1
    assert "steps_per_execution: auto chose up to 64 steps per call; the last call had 21 and took 0 s." in caplog.text


@pytest.mark.usefixtures("clock")
def test_a_run_that_is_over_before_says_how_far_it_came(make_strategy, caplog):
    with caplog.at_level("INFO", "tfdist"):
        train(make_strategy(1), epochs=1)
    assert caplog.text.count("auto chose up to 64 steps per call; the last call had 11 and took 0 s.") == 1


@pytest.mark.usefixtures("clock")
def test_the_number_holds_for_one_fit(make_strategy):
    with make_strategy(2).scope():
        model = jobs.make_mlp()
    model.steps_per_execution = 3
    source = jobs.small_source(5)
    for wish, longest in ((None, 3), (9, 9), ("auto", 11)):
        steps = jobs.StepsSeen()
        tfdist.fit(model, source, steps_per_execution=wish, callbacks=[steps], verbose=0)
        assert max(np.diff([0, *steps.seen])) == longest
        assert model.steps_per_execution == 3


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("replicas", [1, 2])
def test_where_nobody_said_a_number_calls_grow_without_a_word(make_strategy, caplog, replicas):
    with caplog.at_level("INFO", "tfdist"):
        model, ends, _ = train(make_strategy(replicas), steps_per_execution=None)
    assert ends == GROWING
    assert model.steps_per_execution == 1
    assert "training: as many steps per call as take half a second" in caplog.text
    assert "steps_per_execution: " not in caplog.text
    silent = ByBatch()
    with caplog.at_level("INFO", "tfdist"):
        train(make_strategy(replicas), silent, steps_per_execution=None)
    assert silent.told == [batch for step in range(21) for batch in (step, step)] * 2
    assert "training: 1 step per call, because callback ByBatch looks at each batch, without XLA." in caplog.text
    assert "steps_per_execution: " not in caplog.text


class CallsSeen(keras.callbacks.Callback):
    """Records after which batches of an evaluation calls end; as tfdist's own callback it does not shorten them."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_test_batch_end(self, batch, logs=None):
        self.seen.append(batch + 1)


CallsSeen.on_test_batch_end.__module__ = "tfdist.tests"


def test_an_evaluation_has_calls_that_grow_too(make_strategy, monkeypatch):
    clock = functools.partial(call_length.MeasuredTestLength, clock=lambda: 0.0)
    monkeypatch.setattr(call_length, "MeasuredTestLength", clock)
    with make_strategy(2).scope():
        model = jobs.make_mlp()
    calls, looking = (
        CallsSeen(),
        keras.callbacks.LambdaCallback(on_test_batch_end=lambda batch, logs: told.append(batch)),
    )
    loss = tfdist.evaluate(model, jobs.small_source(5), callbacks=[calls], verbose=0)
    assert calls.seen == [1, 2, 10, 21]
    assert model.steps_per_execution == 1
    told = []
    assert tfdist.evaluate(model, jobs.small_source(5), callbacks=[looking], verbose=0) == loss
    assert told == list(range(21))
    model.steps_per_execution = 9
    calls.seen.clear()
    assert tfdist.evaluate(model, jobs.small_source(5), callbacks=[calls], verbose=0) == loss
    assert calls.seen == [9, 18, 21]


def test_a_number_of_fits_is_that_of_compile(make_strategy, caplog):
    with caplog.at_level("INFO", "tfdist"):
        _, ends, _ = train(make_strategy(1), steps_per_execution=9)
    assert ends == [9, 18, 21, 30, 39, 42]
    assert "training: 9 steps per call" in caplog.text


@pytest.mark.parametrize("wish", [0, -1, True, 2.0, "all", ""])
def test_what_is_no_number_of_steps_is_refused(make_strategy, wish):
    message = rf"steps_per_execution is {wish!r}\. Use a whole number from 1, 'auto', or None for the value"
    with pytest.raises(ValueError, match=message):
        train(make_strategy(1), steps_per_execution=wish)


class OwnStep(keras.Sequential):
    """A model with a `train_step` of its own."""

    def train_step(self, data):
        return super().train_step(data)


def make_own():
    keras.utils.set_random_seed(7)
    model = OwnStep([keras.Input((jobs.WIDTH,)), keras.layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy")
    return model


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("make_model", [make_own, jobs.make_eager_mlp])
def test_auto_reaches_models_that_run_step_by_step(make_strategy, make_model):
    model, ends, _ = train(make_strategy(2), make_model=make_model)
    assert ends == GROWING
    one, _, _ = train(make_strategy(2), make_model=make_model, steps_per_execution=1)
    np.testing.assert_array_equal(jobs.weights_of(model), jobs.weights_of(one))


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("first", "then"), [(1, "auto"), ("auto", 1)])
def test_a_run_goes_on_with_another_kind_of_calls_to_the_same_weights(make_strategy, tmp_path, first, then):
    whole, _, _ = train(make_strategy(2), steps_per_execution=1)
    folder = {"run_dir": tmp_path, "checkpoint_every_steps": 10}
    _, before, _ = train(make_strategy(2), steps_per_execution=first, steps=33, **folder)
    model, after, _ = train(make_strategy(2), steps_per_execution=then, resume="must", **folder)
    np.testing.assert_array_equal(jobs.weights_of(model), jobs.weights_of(whole))
    # A checkpoint ends a call of any length.
    assert {10, 20, 30, 40} <= {*before, *after}


class ByBatch(keras.callbacks.Callback):
    """Records the batches that its hooks receive."""

    def __init__(self):
        super().__init__()
        self.told = []

    def on_train_batch_begin(self, batch, logs=None):
        self.told.append(batch)

    def on_batch_end(self, batch, logs=None):
        self.told.append(batch)


@pytest.mark.usefixtures("clock")
def test_a_callback_for_batches_sees_each_and_is_named(make_strategy, caplog):
    callback = ByBatch()
    with caplog.at_level("INFO", "tfdist"):
        _, ends, _ = train(make_strategy(2), callback, epochs=1)
    assert callback.told == [batch for step in range(21) for batch in (step, step)]
    assert ends == list(range(1, 22))
    line = "steps_per_execution: callback ByBatch looks at each batch, so auto keeps 1 step per call."
    assert caplog.text.count(line) == caplog.text.count("steps_per_execution: ") == 1
    assert "training: 1 step per call" in caplog.text


def test_with_a_number_a_callback_for_batches_is_told_as_in_keras(make_strategy, caplog):
    callback = ByBatch()
    with caplog.at_level("INFO", "tfdist"):
        train(make_strategy(1), callback, epochs=1, steps_per_execution=10)
    assert callback.told == [0, 9, 10, 19, 20, 20]
    assert "ByBatch" not in caplog.text


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("epochs", [{"epochs": 2}, {"epochs": 3, "initial_epoch": 1}])
def test_keras_checkpoints_within_an_epoch_are_written_after_the_steps_they_are_in_keras(
    make_strategy, tmp_path, caplog, epochs
):
    def checkpoint(folder):
        folder.mkdir()
        name = str(folder / "{epoch}-{batch}.weights.h5")
        return keras.callbacks.ModelCheckpoint(name, save_freq=8, save_weights_only=True)

    with caplog.at_level("INFO", "tfdist"):
        _, ends, _ = train(make_strategy(1), checkpoint(tmp_path / "mine"), **epochs)
    x, y = jobs.make_rows()
    jobs.make_mlp().fit(x, y, batch_size=5, verbose=0, callbacks=[checkpoint(tmp_path / "keras")], **epochs)
    mine, theirs = ([path.name for path in sorted((tmp_path / name).iterdir())] for name in ("mine", "keras"))
    assert mine == theirs != []
    assert max(np.diff(ends)) == 8
    assert "callback ModelCheckpoint saves every 8 steps, so auto ends a call there" in caplog.text


CALLBACKS = keras.callbacks
UNHURRIED = {
    "EarlyStopping": CALLBACKS.EarlyStopping,
    "CSVLogger": lambda: CALLBACKS.CSVLogger("unused"),
    "TerminateOnNaN": CALLBACKS.TerminateOnNaN,
    "ProgbarLogger": CALLBACKS.ProgbarLogger,
    "History": CALLBACKS.History,
    "TensorBoard": lambda: CALLBACKS.TensorBoard("unused"),
    "ModelCheckpoint": lambda: CALLBACKS.ModelCheckpoint("unused.keras"),
    "BackupAndRestore": lambda: CALLBACKS.BackupAndRestore("unused"),
    "BackupAndRestore, never": lambda: CALLBACKS.BackupAndRestore("unused", save_freq=False),
    "LambdaCallback": lambda: CALLBACKS.LambdaCallback(on_epoch_end=print),
    "Callback": jobs.StepsSeen,
    "a user's own": CALLBACKS.Callback,
}
LOOKING = {
    "a function": (lambda: CALLBACKS.LambdaCallback(on_train_batch_end=lambda batch, logs: None), 1),
    "a function of Python's": (lambda: CALLBACKS.LambdaCallback(on_train_batch_begin=print), 1),
    "a partial function": (lambda: CALLBACKS.LambdaCallback(on_train_batch_end=functools.partial(print, 1)), 1),
    "a method": (ByBatch, 1),
    "validation": (lambda: CALLBACKS.LambdaCallback(on_test_batch_end=lambda batch, logs: None), 1),
    "TensorBoard by batch": (lambda: CALLBACKS.TensorBoard("unused", update_freq="batch"), 1),
    "TensorBoard by 5": (lambda: CALLBACKS.TensorBoard("unused", update_freq=5), 1),
    "ModelCheckpoint by 5": (lambda: CALLBACKS.ModelCheckpoint("unused.keras", save_freq=5), 5),
    "BackupAndRestore by 5": (lambda: CALLBACKS.BackupAndRestore("unused", save_freq=5), 5),
}


@pytest.mark.parametrize("name", UNHURRIED)
def test_a_callback_that_takes_calls_as_they_come_is_left_alone(name):
    assert find_listeners([UNHURRIED[name]()]) == []


@pytest.mark.parametrize("name", LOOKING)
def test_a_callback_that_looks_within_an_epoch_is_found(name):
    make, every = LOOKING[name]
    callback = make()
    (listener,) = find_listeners([CALLBACKS.History(), callback])
    assert (listener.every, listener.steps_left()) == (every, every)
    assert type(callback).__name__ in describe(listener)


def test_tfdists_own_callbacks_keep_no_call_short(make_strategy, tmp_path):
    with make_strategy(1).scope():
        model = jobs.make_mlp()
    files = make_files(RunDir(tmp_path), RunConfig(name="a"), jobs.small_source(), model)
    assert find_listeners(files.callbacks) == []

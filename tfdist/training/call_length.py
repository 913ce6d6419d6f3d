"""Sets how many steps a call runs: a given number or, by default, a measured one ("auto")."""

import contextlib
import time

import numpy as np
import tensorflow as tf

from tfdist.callbacks.base import Callback
from tfdist.options.step import AUTO
from tfdist.process.log import say
from tfdist.strategy.workers import Workers
from tfdist.training.batch_listeners import describe, find_listeners

# The progress bar, signals, heartbeats and votes wait for the end of a call. A call costs the host at most about 1 ms.
_LIMIT_SECONDS = 0.5
# The next call aims at this fraction of the limit, so that a little noise does not make its length oscillate.
_AIM = 0.75
# The first step may be a fast one, such as a step that only accumulates gradients.
_MOST_GROWTH = 8
_CALLS_UNTIL_SETTLED = 3


class Growth:
    """Finds how many steps a call may have: it raises the number until a call takes half of the time limit.

    The first call is not counted, because it traces the program. A call that was cut short does not raise the number.

    Args:
        limit_seconds: the time limit of a call.

    Attributes:
        steps: the maximum number of steps of the next call.
    """

    def __init__(self, limit_seconds=_LIMIT_SECONDS):
        self.steps = 1
        self._limit_seconds = limit_seconds
        self._traced = False
        self._unchanged = 0

    @property
    def is_settled(self):
        """Whether the last few calls have left the number unchanged."""
        return self._unchanged >= _CALLS_UNTIL_SETTLED

    def note(self, steps, seconds):
        """Records that a call of `steps` steps took `seconds`."""
        if not self._traced:
            self._traced = True
            return
        before = self.steps
        fitting = _AIM * self._limit_seconds * steps / max(seconds, 1e-9)
        if seconds > self._limit_seconds:
            self.steps = max(1, int(fitting))
        elif steps == self.steps and seconds <= self._limit_seconds / 2:
            self.steps = int(min(_MOST_GROWTH * steps, max(2 * steps, fitting)))
        self._unchanged = self._unchanged + 1 if self.steps == before else 0


class GivenLength(Callback):
    """Keeps the model's `steps_per_execution` as it is."""

    def register_callbacks(self, callbacks):
        """Receives all callbacks of the run before they begin."""

    def timed(self, program):
        """Returns a program whose calls are timed, or the program itself if no times are needed."""
        return program

    def describe(self):
        """Returns a phrase that states how many steps a call has."""
        steps = self.model.steps_per_execution
        return "1 step per call" if steps == 1 else f"{steps} steps per call"


class MeasuredLength(GivenLength):
    """Sets the model's `steps_per_execution` before each call, from the times of earlier calls.

    In `fit` it comes after the user's callbacks and before `Decisions`, which sets every worker to the chief's number:
    all workers must run calls of equal length, but they measure different times.

    Args:
        logs_choice: whether this worker logs the chosen number.
        agree: a function (this worker's number) → the number of all workers, for runs without `Decisions`.
        clock: a function () → seconds, which tests replace.
    """

    def __init__(self, logs_choice=True, agree=lambda steps: steps, clock=time.perf_counter):
        super().__init__()
        self._growth = Growth()
        self._listeners = []
        self._last = None
        self._log = say if logs_choice else lambda line: None
        self._agree = agree
        self._clock = clock

    def register_callbacks(self, callbacks):
        """Finds and logs the callbacks that must see steps within long calls."""
        self._listeners = find_listeners(callbacks)
        for listener in self._listeners:
            self._log(f"steps_per_execution: {describe(listener)}.")

    def timed(self, program):
        """Returns a program that records how long its calls take."""
        if self._blocking_callback:
            return program

        def call(*arguments):
            begin = self._clock()
            logs, steps, measured = program(*arguments)
            for value in tf.nest.flatten(logs, expand_composites=True):
                # The host runs ahead of a GPU: a call has ended only when its results can be read.
                np.asarray(value)
            if steps:
                self._last = steps, self._clock() - begin
                self._growth.note(*self._last)
            return logs, steps, measured

        return call

    def describe(self):
        """Returns a phrase that states how many steps a call has."""
        if self._blocking_callback:
            return f"1 step per call, because callback {self._blocking_callback} looks at each batch"
        return "as many steps per call as take half a second"

    @property
    def _blocking_callback(self):
        """The name of a callback that limits calls to one step, or None."""
        return next((listener.name for listener in self._listeners if listener.every == 1), None)

    def on_train_begin(self, logs=None):
        """Begins with one step per call."""
        self._set_length()

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the next call again, because a checkpoint may have restored when a callback saved last."""
        self._set_length()

    def on_train_batch_end(self, batch, logs=None):
        """Sets the steps of the next call."""
        self._set_length()
        if self._growth.is_settled:
            self._log_choice()

    def on_train_end(self, logs=None):
        """Logs the chosen number, if the run ended before it was settled."""
        self._log_choice()

    def _set_length(self):
        limits = [listener.steps_left() for listener in self._listeners]
        self.model.steps_per_execution = self._agree(max(1, min([self._growth.steps, *limits])))

    def _log_choice(self):
        if self._last is None:
            return
        steps, seconds = self._last
        self._log(
            f"steps_per_execution: auto chose up to {self._growth.steps} steps per call; the last call had {steps} and "
            f"took {seconds:.2g} s."
        )
        self._log = lambda line: None


class MeasuredTestLength(MeasuredLength):
    """A `MeasuredLength` for `evaluate` alone; a validation within `fit` uses the number that `fit` has found."""

    def on_test_begin(self, logs=None):
        """Begins with one step per call."""
        self._set_length()

    def on_test_batch_end(self, batch, logs=None):
        """Sets the steps of the next call."""
        self._set_length()


@contextlib.contextmanager
def set_call_length(model, wish):
    """Sets the model's `steps_per_execution` for one `fit`; yields the `GivenLength` callback that controls it.

    Args:
        model: a compiled `keras.Model`.
        wish: a number; "auto"; or None for the number given to `compile`, or "auto" without log lines if that is
            Keras' default of 1.
    """
    before = model.steps_per_execution
    measures = wish == AUTO or (wish is None and before == 1)
    model.steps_per_execution = 1 if measures else wish or before
    try:
        logs_choice = wish == AUTO and Workers.of(model.distribute_strategy).is_chief
        yield MeasuredLength(logs_choice) if measures else GivenLength()
    finally:
        model.steps_per_execution = before


@contextlib.contextmanager
def set_test_call_length(model):
    """Sets the model's `steps_per_execution` for one `evaluate`; yields the `GivenLength` callback that controls it."""
    before, workers = model.steps_per_execution, Workers.of(model.distribute_strategy)
    if before > 1:
        yield GivenLength()
        return
    try:
        yield MeasuredTestLength(logs_choice=False, agree=lambda steps: int(workers.broadcast([steps])[0]))
    finally:
        model.steps_per_execution = before

"""How many steps a call runs: the number that was given, or what measuring finds, which is the default ("auto")."""

import contextlib
import time

import keras
import numpy as np
import tensorflow as tf

from tfdist.options.step import AUTO
from tfdist.process.log import say
from tfdist.strategy.choose import is_chief, worker_count
from tfdist.strategy.workers import make_broadcast
from tfdist.training.batch_listeners import describe, find_listeners

# A progress bar moves once a call; between two calls signals, heartbeats and votes are served. A call's own work on the
# host takes a millisecond or less.
_LIMIT_SECONDS = 0.5
# A next call aims here, so that a little noise does not send it back and forth.
_AIM = 0.75
# A first step may be a quick one, such as those that only accumulate.
_MOST_GROWTH = 8
_CALLS_UNTIL_SETTLED = 3


class Growth:
    """Finds how many steps a call may have: more each time, until a call takes half of the time that it may take.

    The first call is not counted, because it traces the program. A call that was cut short tells nothing about longer
    ones.

    Args:
        limit_seconds: how long a call may take.

    Attributes:
        steps: the most steps that the next call may have.
    """

    def __init__(self, limit_seconds=_LIMIT_SECONDS):
        self.steps = 1
        self._limit_seconds = limit_seconds
        self._traced = False
        self._unchanged = 0

    @property
    def is_settled(self):
        """Whether some calls in a row have changed nothing."""
        return self._unchanged >= _CALLS_UNTIL_SETTLED

    def note(self, steps, seconds):
        """Notes how long a call of so many steps took."""
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


class GivenLength(keras.callbacks.Callback):
    """Leaves the calls as many steps as the model's `steps_per_execution` says."""

    every_worker = True

    def listen(self, callbacks):
        """Hears, before they begin, of all callbacks of the run."""

    def timed(self, program):
        """Gives a program whose calls are measured, where that is of use."""
        return program

    def describe(self):
        """Gives the words that say how many steps a call has."""
        steps = self.model.steps_per_execution
        return "one step a call" if steps == 1 else f"{steps} steps a call"


class MeasuredLength(GivenLength):
    """Sets the model's `steps_per_execution` before each call, by how long the calls before it took.

    In `fit` it stands behind the user's callbacks and before `Decisions`, which gives every worker the chief's number:
    calls are collective, and workers measure different times.

    Args:
        speaks: whether this worker says what was chosen.
        agree: a function number → the number of all workers, where nobody else brings them to one.
        clock: seconds; for tests.
    """

    def __init__(self, speaks=True, agree=lambda steps: steps, clock=time.perf_counter):
        super().__init__()
        self._growth = Growth()
        self._listeners = []
        self._last = None
        self._say = say if speaks else lambda line: None
        self._agree = agree
        self._clock = clock

    def listen(self, callbacks):
        """Finds the callbacks that must see more steps than the ends of long calls."""
        self._listeners = find_listeners(callbacks)
        for listener in self._listeners:
            self._say(f"steps_per_execution: {describe(listener)}.")

    def timed(self, program):
        """Gives a program that notes how long its calls take."""
        if self._holding:
            return program

        def call(*arguments):
            begin = self._clock()
            logs, steps, measured = program(*arguments)
            for value in tf.nest.flatten(logs, expand_composites=True):
                # The host of a GPU runs ahead of it: a call is over once its numbers are there.
                np.asarray(value)
            if steps:
                self._last = steps, self._clock() - begin
                self._growth.note(*self._last)
            return logs, steps, measured

        return call

    def describe(self):
        """Gives the words that say how many steps a call has."""
        if self._holding:
            return f"one step a call, because callback {self._holding} looks at each batch"
        return "as many steps a call as take half a second"

    @property
    def _holding(self):
        """The name of a callback that keeps calls at one step, so that there is nothing to find; or None."""
        return next((listener.name for listener in self._listeners if listener.every == 1), None)

    def on_train_begin(self, logs=None):
        """Begins with one step a call."""
        self._set()

    def on_epoch_begin(self, epoch, logs=None):
        """Looks again: a checkpoint may have reminded a callback of when it saved last."""
        self._set()

    def on_train_batch_end(self, batch, logs=None):
        """Sets the steps of the next call."""
        self._set()
        if self._growth.is_settled:
            self._tell()

    def on_train_end(self, logs=None):
        """Says what was chosen, if the run ended before that was settled."""
        self._tell()

    def _set(self):
        wanted = [listener.steps_left() for listener in self._listeners]
        self.model.steps_per_execution = self._agree(max(1, min([self._growth.steps, *wanted])))

    def _tell(self):
        if self._last is None:
            return
        steps, seconds = self._last
        self._say(
            f"steps_per_execution: auto chose up to {self._growth.steps} steps a call; the last one had {steps}, in "
            f"{seconds:.2g} s."
        )
        self._say = lambda line: None


class MeasuredTestLength(MeasuredLength):
    """The same for an `evaluate` of its own; a validation within `fit` has what `fit` has found."""

    def on_test_begin(self, logs=None):
        """Begins with one step a call."""
        self._set()

    def on_test_batch_end(self, batch, logs=None):
        """Sets the steps of the next call."""
        self._set()


@contextlib.contextmanager
def set_call_length(model, wish):
    """Sets the model's `steps_per_execution` for one `fit`; yields the callback that keeps it, a `GivenLength`.

    Args:
        model: a compiled `keras.Model`.
        wish: a number, "auto", or None for what `compile` said, where that is more than Keras' default of 1, and else
            "auto" without a word.
    """
    before = model.steps_per_execution
    measures = wish == AUTO or (wish is None and before == 1)
    model.steps_per_execution = 1 if measures else wish or before
    try:
        speaks = wish == AUTO and is_chief(model.distribute_strategy)
        yield MeasuredLength(speaks) if measures else GivenLength()
    finally:
        model.steps_per_execution = before


@contextlib.contextmanager
def set_test_call_length(model):
    """Sets the model's `steps_per_execution` for one `evaluate` likewise; yields the callback that keeps it."""
    before, strategy = model.steps_per_execution, model.distribute_strategy
    if before > 1:
        yield GivenLength()
        return
    try:
        if worker_count(strategy) == 1:
            yield MeasuredTestLength(speaks=False)
        else:
            broadcast = make_broadcast(strategy)
            yield MeasuredTestLength(speaks=False, agree=lambda steps: int(broadcast([steps])[0]))
    finally:
        model.steps_per_execution = before

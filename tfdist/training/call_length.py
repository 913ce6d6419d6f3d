"""How many steps a call runs: the number that was given, or what measuring finds (`steps_per_execution="auto"`)."""

import contextlib
import time

import keras
import numpy as np
import tensorflow as tf

from tfdist.log import say
from tfdist.strategy import is_chief
from tfdist.training.batch_listeners import describe, find_listeners

AUTO = "auto"
# Between two calls signals, heartbeats and votes are served; a call's own work on the host takes some milliseconds.
_LIMIT_SECONDS = 1.0
# Where a call took longer, the next one aims here, so that a little noise does not send it back and forth.
_AIM = 0.75
_CALLS_UNTIL_SETTLED = 3


class Growth:
    """Finds how many steps a call may have: twice as many each time, until a call takes half of the time it may take.

    The first call is not counted, for it traces the program. A call that was cut short tells nothing about longer ones.

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
        if seconds > self._limit_seconds:
            self.steps = max(1, int(steps * _AIM * self._limit_seconds / seconds))
        elif steps == self.steps and seconds <= self._limit_seconds / 2:
            self.steps *= 2
        self._unchanged = self._unchanged + 1 if self.steps == before else 0


class GivenLength(keras.callbacks.Callback):
    """Leaves the calls as many steps as the model's `steps_per_execution` says."""

    every_worker = True

    def listen(self, callbacks):
        """Hears, before `on_train_begin`, of all callbacks of the run."""

    def timed(self, program):
        """Gives a training program whose calls are measured, where that is of use."""
        return program

    def describe(self):
        """Gives the words that say how many steps a call has."""
        steps = self.model.steps_per_execution
        return "one step a call" if steps == 1 else f"{steps} steps a call"


class MeasuredLength(GivenLength):
    """Sets the model's `steps_per_execution` before each call, by how long the calls before it took.

    It stands behind the user's callbacks and before `Decisions`, which gives every worker the chief's number: calls are
    collective, and workers measure different times.

    Args:
        speaks: whether this worker says what was chosen.
        clock: seconds; for tests.
    """

    def __init__(self, speaks=True, clock=time.perf_counter):
        super().__init__()
        self._growth = Growth()
        self._listeners = []
        self._last = None
        self._say = say if speaks else lambda line: None
        self._clock = clock

    def listen(self, callbacks):
        """Finds, before `on_train_begin`, the callbacks that must see more steps than the ends of long calls."""
        self._listeners = find_listeners(callbacks)
        for listener in self._listeners:
            self._say(f"steps_per_execution: {describe(listener)}.")

    def timed(self, program):
        """Gives a training program that notes how long its calls take."""
        if self._is_held:
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
        return "one step a call" if self._is_held else "as many steps a call as take about a second"

    @property
    def _is_held(self):
        """Whether a callback keeps calls at one step, so that there is nothing to find."""
        return any(listener.every == 1 for listener in self._listeners)

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
        self.model.steps_per_execution = max(1, min([self._growth.steps, *wanted]))

    def _tell(self):
        if self._last is None:
            return
        steps, seconds = self._last
        self._say(
            f"steps_per_execution: auto chose up to {self._growth.steps} steps a call; the last one had {steps}, in "
            f"{seconds:.2g} s."
        )
        self._say = lambda line: None


@contextlib.contextmanager
def set_call_length(model, wish):
    """Sets the model's `steps_per_execution` for one `fit`; yields the callback that keeps it, a `GivenLength`.

    Args:
        model: a compiled `keras.Model`.
        wish: a number, "auto", or None for what `compile` said.

    Raises:
        ValueError: another wish.
    """
    if wish is None:
        yield GivenLength()
        return
    whole = isinstance(wish, int) and not isinstance(wish, bool)
    if wish != AUTO and not (whole and wish >= 1):
        raise ValueError(
            f"tfdist.fit: steps_per_execution is {wish!r}. Use a whole number from 1, 'auto', or None for what compile "
            "said."
        )
    before = model.steps_per_execution
    model.steps_per_execution = 1 if wish == AUTO else wish
    try:
        yield MeasuredLength(is_chief(model.distribute_strategy)) if wish == AUTO else GivenLength()
    finally:
        model.steps_per_execution = before

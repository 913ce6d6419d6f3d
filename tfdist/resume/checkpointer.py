"""Decides when a run saves, and ends it after a request to stop."""

import dataclasses
import signal

from tfdist.callbacks.base import Callback
from tfdist.process.exits import StopRequest
from tfdist.process.log import say


@dataclasses.dataclass(frozen=True)
class Place:
    """The place at which a run resumes.

    Attributes:
        step: the steps done since the run began.
        epoch, step_in_epoch: the next step, counted from the epoch's beginning.
    """

    step: int
    epoch: int
    step_in_epoch: int


class Checkpointer(Callback):
    """Saves every `every_steps` steps, at the end of each epoch, and before a run ends that was asked to stop.

    The last step of an epoch is saved after the other callbacks have handled the end of the epoch, because a resumed
    run does not repeat that.

    Args:
        save: a function (`Place`, logs of an epoch or None), which all workers call after the same step.
        every_steps: steps between checkpoints; None for the ends of epochs alone.
        stop_signal: a function () → the signal that asked the run to stop, or 0; the same on all workers.
        is_left: a function () → whether the epoch that has just ended was left before its last step.
    """

    def __init__(self, save, *, every_steps=None, stop_signal=lambda: 0, is_left=lambda: False):
        super().__init__()
        self.every_steps = every_steps
        self._save_place = save
        self._stop_signal = stop_signal
        self._is_left = is_left
        self._step = self._saved = self._span = None
        self._partial = False

    def begin_epoch(self, span, *, partial):
        """Sets which steps of an epoch come next.

        Args:
            span: a `plan.Span`.
            partial: whether the run ends with it, in the middle of the epoch.
        """
        self._span = span
        self._partial = partial

    def on_step_end(self, step, logs=None):
        """Saves if it is time; if the run must stop, saves and ends it."""
        self._step = step
        in_epoch = step - self.steps_before
        if in_epoch >= self._span.last and not self._partial:
            return
        stop = self._stop_signal()
        if stop or in_epoch >= self._span.last or (self.every_steps and step % self.every_steps == 0):
            self._save(Place(step, self._span.epoch, in_epoch))
        self._end_if(stop)

    def on_epoch_end(self, epoch, logs=None):
        """Saves; if the run must stop, ends it."""
        if self._step is None:
            return
        if self._is_left():
            # A callback or the loop has stopped the run: the next start goes on with the next row.
            self._save(Place(self._step, epoch, self._step - self.steps_before))
        elif not self._partial:
            self._save(Place(self._step, epoch + 1, 0), logs)
        self._end_if(self._stop_signal())

    def _save(self, place, logs=None):
        if place != self._saved:
            self._save_place(place, logs)
            self._saved = place

    def _end_if(self, stop):
        if stop == signal.SIGINT:
            raise KeyboardInterrupt(f"stopped after step {self._step}")
        if stop:
            say(f"{signal.Signals(stop).name}: stopped after step {self._step}, which is saved. Start again to resume.")
            raise StopRequest(signal.Signals(stop).name)

"""What a launcher hears of a worker, and what it lets go wrong on purpose."""

import dataclasses
import faulthandler
import os
import signal
import sys

from tfdist.callbacks.base import StepCallback
from tfdist.process.faults import Faults, make_faults
from tfdist.process.heartbeat import FOLDER, Heartbeat, NoHeartbeat, make_heartbeat
from tfdist.strategy.choose import worker_rank


@dataclasses.dataclass(frozen=True)
class Watch:
    """What watches over this worker while it trains.

    Attributes:
        heartbeat: hears what it does; without a launcher it is deaf.
        faults: those on purpose that it has still to suffer; by default none.
    """

    heartbeat: Heartbeat | NoHeartbeat
    faults: Faults

    @property
    def callbacks(self):
        """The callbacks by which it watches."""
        return [Beats(self.heartbeat), Strikes(self.faults)]


def make_watch(strategy, environ=os.environ):
    """Makes the `Watch` that the launcher asks for, and lets SIGQUIT write all stacks to the log."""
    rank = worker_rank(strategy)
    if FOLDER in environ and hasattr(signal, "SIGQUIT"):
        # In C, so that it works while Python waits for a collective that never ends.
        faulthandler.register(signal.SIGQUIT, file=sys.__stderr__, all_threads=True)
    return Watch(make_heartbeat(environ, rank), make_faults(environ)(rank))


class Beats(StepCallback):
    """Tells the heartbeat what begins, and how many steps are done.

    Args:
        heartbeat: a `tfdist.process.heartbeat.Heartbeat`.
    """

    def __init__(self, heartbeat):
        super().__init__()
        self._heartbeat = heartbeat

    def on_epoch_begin(self, epoch, logs=None):
        """The epoch's input is made."""
        super().on_epoch_begin(epoch, logs)
        self._heartbeat.beat("input", self.steps_before)

    def on_train_batch_begin(self, batch, logs=None):
        """A call runs."""
        self._heartbeat.beat("steps")

    def on_step_end(self, step, logs=None):
        """The workers agree on how to go on."""
        self._heartbeat.beat("vote", step)

    def on_test_batch_begin(self, batch, logs=None):
        """A call of a validation runs."""
        self._heartbeat.beat("evaluate")

    def on_epoch_end(self, epoch, logs=None):
        """The epoch is settled, and saved."""
        self._heartbeat.beat("save")

    def on_train_end(self, logs=None):
        """The rest is the user's."""
        self._heartbeat.beat("end")


class Strikes(StepCallback):
    """Lets faults on purpose strike between calls, and in a call through `in_call`.

    Args:
        faults: a `tfdist.process.faults.Faults`.
    """

    def __init__(self, faults):
        super().__init__()
        self._faults = faults
        self._in_epoch = 0
        self._steps = 0
        # Calls end there on all workers, or else a fault would strike where a long call happens to end.
        self.at_steps = faults.steps

    @property
    def in_call(self):
        """None, or a function (steps done in the call) to run in each step of a call: the others wait meanwhile."""
        return self._strike_in_call if self._faults.waits_at("call") else None

    def _strike_in_call(self, done):
        self._faults.strike("call", self._steps + int(done))

    def on_epoch_begin(self, epoch, logs=None):
        """Strikes before the first step."""
        super().on_epoch_begin(epoch, logs)
        self._steps = self.steps_before
        self._faults.strike("start", self._steps)

    def on_train_batch_begin(self, batch, logs=None):
        """Keeps the steps done before the call."""
        self._steps = self.steps_before + batch

    def on_step_end(self, step, logs=None):
        """Strikes between two calls."""
        self._steps = step
        self._faults.strike("step", step)

    def on_test_batch_end(self, batch, logs=None):
        """Strikes in a validation."""
        self._faults.strike("validation", self._steps)

    def on_epoch_end(self, epoch, logs=None):
        """Strikes after the last step of an epoch."""
        self._faults.strike("epoch_end", self._steps)

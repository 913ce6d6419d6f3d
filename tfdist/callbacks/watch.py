"""The callbacks for a launcher: a worker's heartbeat, and the injected faults."""

import dataclasses
import faulthandler
import os
import signal
import sys

from tfdist.callbacks.base import Callback
from tfdist.process.faults import Faults, make_faults
from tfdist.process.heartbeat import FOLDER, Heartbeat, NoHeartbeat, make_heartbeat
from tfdist.strategy.workers import Workers


@dataclasses.dataclass(frozen=True)
class Watch:
    """The heartbeat and the injected faults of this worker.

    Attributes:
        heartbeat: records what the worker does; without a launcher it records nothing.
        faults: the faults still to be injected into this worker; by default none.
    """

    heartbeat: Heartbeat | NoHeartbeat
    faults: Faults

    def make_callbacks(self):
        """Returns (the callbacks that record the heartbeat and inject the faults, their function within a call).

        The function is None, or a function (steps done in the call) to run in each step of a call, while the other
        workers wait.
        """
        injection = FaultInjection(self.faults)
        return [HeartbeatCallback(self.heartbeat), injection], injection.in_call


def make_watch(strategy, environ=os.environ):
    """Makes the `Watch` that the launcher asks for, and makes SIGQUIT write all stacks to the log."""
    rank = Workers.of(strategy).rank
    if FOLDER in environ and hasattr(signal, "SIGQUIT"):
        # faulthandler is written in C, so it works while Python waits for a collective that never ends.
        faulthandler.register(signal.SIGQUIT, file=sys.__stderr__, all_threads=True)
    return Watch(make_heartbeat(environ, rank), make_faults(environ)(rank))


class HeartbeatCallback(Callback):
    """Records in the heartbeat which phase begins, and how many steps are done.

    Args:
        heartbeat: a `tfdist.process.heartbeat.Heartbeat`.
    """

    def __init__(self, heartbeat):
        super().__init__()
        self._heartbeat = heartbeat

    def on_epoch_begin(self, epoch, logs=None):
        """Records that the epoch's input is being made."""
        self._heartbeat.beat("input", self.steps_before)

    def on_train_batch_begin(self, batch, logs=None):
        """Records that a call runs."""
        self._heartbeat.beat("steps")

    def on_step_end(self, step, logs=None):
        """Records that the workers vote on how to go on."""
        self._heartbeat.beat("vote", step)

    def on_test_batch_begin(self, batch, logs=None):
        """Records that a call of a validation runs."""
        self._heartbeat.beat("evaluate")

    def on_epoch_end(self, epoch, logs=None):
        """Records that the epoch is finished and saved."""
        self._heartbeat.beat("save")

    def on_train_end(self, logs=None):
        """Records that training has ended and the user's code goes on."""
        self._heartbeat.beat("end")


class FaultInjection(Callback):
    """Injects faults between calls, and within a call through `in_call`.

    Args:
        faults: a `tfdist.process.faults.Faults`.
    """

    def __init__(self, faults):
        super().__init__()
        self._faults = faults
        self._in_epoch = 0
        self._steps = 0
        # Calls end at these steps on all workers; otherwise a fault would come wherever a long call happens to end.
        self.at_steps = faults.steps

    @property
    def in_call(self):
        """None, or a function (steps done in the call) to run in each step of a call, while the other workers wait."""
        return self._inject_in_call if self._faults.waits_at("call") else None

    def _inject_in_call(self, done):
        self._faults.inject("call", self._steps + int(done))

    def on_epoch_begin(self, epoch, logs=None):
        """Injects faults before the first step."""
        self._steps = self.steps_before
        self._faults.inject("start", self._steps)

    def on_train_batch_begin(self, batch, logs=None):
        """Keeps the steps done before the call."""
        self._steps = self.steps_before + batch

    def on_step_end(self, step, logs=None):
        """Injects faults between two calls."""
        self._steps = step
        self._faults.inject("step", step)

    def on_test_batch_end(self, batch, logs=None):
        """Injects faults in a validation."""
        self._faults.inject("validation", self._steps)

    def on_epoch_end(self, epoch, logs=None):
        """Injects faults after the last step of an epoch."""
        self._faults.inject("epoch_end", self._steps)

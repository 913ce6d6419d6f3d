"""Brings to all workers, after the same step, what signals and the chief's callbacks decide about a run."""

import contextlib
import signal
import threading

from tfdist.callbacks.base import Callback
from tfdist.internals.access import models
from tfdist.process.log import say
from tfdist.strategy.workers import Workers

# Ctrl-C; the signal of job systems and clouds before a kill; the signal of Slurm's `--signal=USR1@60`.
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextlib.contextmanager
def stop_requests():
    """Delays signals that ask the run to stop until the running call ends; a second Ctrl-C stops at once.

    If a signal stopped the run between two lines of Python, it would be unknown whether the call's steps were done, and
    a checkpoint would be wrong. Enter the context after the strategy is made, because `MultiWorkerMirroredStrategy`
    replaces the handler of SIGTERM.

    Yields:
        A function () → the first signal that was received, or 0.
    """
    received = []

    def handle(signum, frame):
        if received and signum == signal.SIGINT:
            signal.default_int_handler(signum, frame)
        received.append(signum)
        again = "; press Ctrl-C again to stop at once" if signum == signal.SIGINT else ""
        say(f"{signal.Signals(signum).name}: stopping after this call{again}.")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    previous = {signum: signal.signal(signum, handle) for signum in _STOPS}
    try:
        yield lambda: received[0] if received else 0
    finally:
        for signum, handler in previous.items():
            # A handler that was not set from Python cannot be restored from Python.
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)


class Decisions(Callback):
    """Sets every worker to the chief's `stop_training`, learning rate and `steps_per_execution`, and any worker's stop.

    It comes after the callbacks that decide, and before those that act on the decisions.

    Args:
        trained: the `saved_run.Trained`, on several workers.
        weights: its `FiniteWeights`, at which all workers look after the same step, when the chief does.
        stop_signal: a function () → the signal that asked this worker to stop, or 0.
    """

    def __init__(self, trained, weights, stop_signal=lambda: 0):
        super().__init__()
        self._weights = weights
        self._step = 0
        self._trained = trained
        self._workers = Workers.of(trained.distribute_strategy)
        self._own_signal = stop_signal
        self._agreed = 0
        self._settles_before_steps = False

    def register_callbacks(self, callbacks):
        """Finds out whether a callback of any worker acts before a step; all workers call it together."""
        _, (self._settles_before_steps,) = self._workers.vote([0.0], [any(map(_acts_before_steps, callbacks))])

    def stop_signal(self):
        """Returns the signal that asked a worker to stop, or 0: the same on all workers since the last vote."""
        return self._agreed

    def on_train_begin(self, logs=None):
        """Settles what callbacks have set before the first step."""
        self._settle()

    def on_epoch_begin(self, epoch, logs=None):
        """Settles the epoch's learning rate."""
        self._settle()

    def on_train_batch_begin(self, batch, logs=None):
        """Settles what a callback has just set, such as the learning rate of this very step."""
        if self._settles_before_steps:
            self._settle()

    def on_step_end(self, step, logs=None):
        """Settles after each call."""
        self._step = step
        self._settle(is_due=self._weights.is_due())

    def on_epoch_end(self, epoch, logs=None):
        """Settles after validation."""
        self._settle()

    def _settle(self, *, is_due=False):
        rate = models.settable_learning_rate(self._trained)
        own_signal = self._own_signal()
        rate_now = 0.0 if rate is None else rate
        (stop, chiefs_rate, steps, look), asked = self._workers.vote(
            [float(bool(self.model.stop_training)), rate_now, self.model.steps_per_execution, float(is_due)],
            [own_signal == signum for signum in _STOPS],
        )
        self._agreed = next((signum for signum, by_any in zip(_STOPS, asked, strict=True) if by_any), 0)
        self.model.stop_training = bool(stop)
        # A call is a collective: workers with different numbers of steps in it would wait for each other forever.
        self.model.steps_per_execution = int(steps)
        if rate is not None and rate != chiefs_rate:
            self._trained.optimizer.learning_rate = chiefs_rate
        if look:
            self._weights.check(self._step)


def _acts_before_steps(callback):
    """Returns whether a callback of the user has a method that is called before each step."""
    hooks = (getattr(callback, name, None) for name in ("on_train_batch_begin", "on_batch_begin"))
    modules = [str(getattr(hook, "__module__", "")) for hook in hooks if hook is not None]
    return not all(module.startswith(("keras.src.callbacks.", "tfdist.")) for module in modules)

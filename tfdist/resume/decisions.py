"""What decides how a run goes on: signals and the chief's callbacks; all workers hear of it after the same step."""

import contextlib
import signal
import threading

import keras

from tfdist.internals.access import models
from tfdist.process.log import say
from tfdist.strategy.workers import make_vote

# Ctrl-C; what job systems and clouds send before they kill; what Slurm can be told to send (`--signal=USR1@60`).
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextlib.contextmanager
def stop_requests():
    """Lets signals that ask the run to stop wait for the end of the running call; a second Ctrl-C stops at once.

    Between two lines of Python nobody could tell whether the call's steps were done: a checkpoint would be wrong. Enter
    it once the strategy exists, for `MultiWorkerMirroredStrategy` replaces the handler of SIGTERM.

    Yields:
        A function that gives the first signal that came, or 0.
    """
    came = []

    def handle(signum, frame):
        if came and signum == signal.SIGINT:
            signal.default_int_handler(signum, frame)
        came.append(signum)
        again = "; press Ctrl-C again to stop at once" if signum == signal.SIGINT else ""
        say(f"{signal.Signals(signum).name}: stopping after this call{again}.")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    previous = {signum: signal.signal(signum, handle) for signum in _STOPS}
    try:
        yield lambda: came[0] if came else 0
    finally:
        for signum, handler in previous.items():
            # What was not set from Python cannot be set again from there.
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)


class Decisions(keras.callbacks.Callback):
    """Gives every worker the chief's `stop_training`, learning rate and `steps_per_execution`, and any worker's stop.

    It comes behind the callbacks that decide, and before those that act on it.

    Args:
        strategy: the `tf.distribute.Strategy`, of several workers.
        stop_signal: a function that gives the signal that asked this worker to stop, or 0.
    """

    every_worker = True

    def __init__(self, strategy, stop_signal=lambda: 0):
        super().__init__()
        self._vote = make_vote(strategy)
        self._mine = stop_signal
        self._agreed = 0

    def stop_signal(self):
        """Gives the signal that asked a worker to stop, or 0: the same on all workers since the last vote."""
        return self._agreed

    def on_train_begin(self, logs=None):
        """Settles what callbacks have set before the first step."""
        self._settle()

    def on_epoch_begin(self, epoch, logs=None):
        """Settles the epoch's learning rate."""
        self._settle()

    def on_train_batch_end(self, batch, logs=None):
        """Settles after each call."""
        self._settle()

    def on_epoch_end(self, epoch, logs=None):
        """Settles after validation."""
        self._settle()

    def _settle(self):
        rate = models.settable_learning_rate(self.model)
        mine = self._mine()
        (stop, chiefs_rate, steps), asked = self._vote(
            [float(bool(self.model.stop_training)), 0.0 if rate is None else rate, self.model.steps_per_execution],
            [mine == signum for signum in _STOPS],
        )
        self._agreed = next((signum for signum, by_any in zip(_STOPS, asked, strict=True) if by_any), 0)
        self.model.stop_training = bool(stop)
        # A call is a collective: workers with another number of steps in it would wait for each other for ever.
        self.model.steps_per_execution = int(steps)
        if rate is not None and rate != chiefs_rate:
            self.model.optimizer.learning_rate = chiefs_rate

"""Where the seconds of an epoch went: training, checkpoints, validation."""

import time

from tfdist.callbacks.base import Callback


class EpochSeconds(Callback):
    """Adds up the seconds of an epoch by kind.

    Args:
        clock: a function () → seconds; for tests.
    """

    def __init__(self, clock=time.perf_counter):
        super().__init__()
        self._clock = clock
        self._begin = 0.0
        self._seconds = {"training": 0.0}

    def epoch(self):
        """Returns kind → seconds since the epoch began.

        A checkpoint at the end of an epoch is saved after that epoch's numbers are written, and is in none.
        """
        return {kind: round(seconds, 4) for kind, seconds in self._seconds.items()}

    def on_epoch_begin(self, epoch, logs=None):
        """Begins at zero."""
        self._seconds = {"training": 0.0}

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the clock of a call."""
        self._begin = self._clock()

    def on_train_batch_end(self, batch, logs=None):
        """Stops it."""
        self._add("training", self._clock() - self._begin)

    def on_test_begin(self, logs=None):
        """Starts the clock of a validation."""
        self._begin = self._clock()

    def on_test_end(self, logs=None):
        """Stops it."""
        self._add("validation", self._clock() - self._begin)

    def on_checkpoint(self, step, seconds):
        """Adds the seconds of a checkpoint."""
        self._add("checkpoint", seconds)

    def _add(self, kind, seconds):
        self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds

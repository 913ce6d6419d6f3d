"""Examples per second, measured over the calls of the training function."""

import time

import numpy as np

from tfdist.callbacks.base import Callback


class Throughput(Callback):
    """Adds `examples_per_second` to the logs of each epoch.

    The first call of a run is left out, because it traces and compiles. So is the time between epochs, such as that of
    validation.

    Args:
        rows: a function (first step, number of steps) → rows of those steps of an epoch.
        clock: a function that returns the time in seconds; for tests.

    Example:
        ```python
        import tfdist

        train = tfdist.data.load("digits", split="train", global_batch=64)
        # Given to `tfdist.fit(model, train, callbacks=[throughput])`.
        throughput = tfdist.callbacks.Throughput(train.plan.rows_of_steps)
        ```
    """

    every_worker = False

    def __init__(self, rows, clock=time.perf_counter):
        super().__init__()
        self._rows = rows
        self._clock = clock
        self._traced = False
        self._total = [0, 0.0]
        self._begin = 0.0
        self._step = 0

    @property
    def examples_per_second(self):
        """The throughput over the whole run; 0 before the second call has ended."""
        return _rate(*self._total)

    def of_epoch(self):
        """Returns the throughput of the running epoch as an entry of its logs; nothing before it is known."""
        return {"examples_per_second": round(_rate(*self._epoch), 1)} if self._epoch[1] else {}

    def on_epoch_begin(self, epoch, logs=None):
        """Resets the epoch's count."""
        self._epoch = [0, 0.0]

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the clock."""
        self._step = batch
        self._begin = self._clock()

    def on_train_batch_end(self, batch, logs=None):
        """Waits for the results, because on a GPU a call returns before its work is done; then stops the clock."""
        for value in (logs or {}).values():
            np.asarray(value)
        seconds = self._clock() - self._begin
        rows = self._rows(self._step, batch + 1 - self._step)
        if self._traced:
            for count in (self._epoch, self._total):
                count[0] += rows
                count[1] += seconds
        self._traced = True

    def on_epoch_end(self, epoch, logs=None):
        """Adds the epoch's throughput to its logs."""
        if logs is not None:
            logs["examples_per_second"] = round(_rate(*self._epoch), 1)


def _rate(rows, seconds):
    return rows / seconds if seconds else 0.0

"""The report of stragglers and input: each worker measures itself, and all exchange their numbers after an epoch."""

import dataclasses
import math
import time

import numpy as np

from tfdist.callbacks import worker_table as table
from tfdist.callbacks.base import Callback
from tfdist.process.log import warn
from tfdist.strategy.workers import Workers


class Report(Callback):
    """Adds to the logs of each epoch the step time, the share of waiting for input, and the slowest worker.

    The first call of a run is left out, because it traces and compiles. A whole step takes the same time on every
    worker, because all wait for the slowest at the reduction. So each worker measures when its own gradients are ready,
    before the reduction. On GPUs, and with a `train_step` of the user's own, that time is unknown, and no worker is
    named as the slowest. Synchronized BatchNormalization, and losses that are means over weights or masks, make the
    workers wait for each other already in the forward pass: that part of a delay is counted on all of them. With one
    GPU, the host runs ahead of the device, and its waiting time is only an upper bound of the device's.

    All workers must have the callback, because they exchange their numbers at the end of an epoch.

    Args:
        strategy: the `tf.distribute.Strategy`.
        global_batch: rows of a step over all replicas, for messages.
        advises: whether the chief warns of a problem.
        clock: a function that returns the time in seconds; for tests.

    Example:
        ```python
        import tfdist

        strategy = tfdist.choose_strategy("mirrored", replicas=2)
        # Given to `tfdist.fit(…, callbacks=[report])`; then `report.line()` says where the time went.
        report = tfdist.callbacks.Report(strategy, global_batch=64)
        ```
    """

    def __init__(self, strategy, global_batch=None, *, advises=True, clock=time.perf_counter):
        super().__init__()
        self._workers = Workers.of(strategy)
        self._replicas = strategy.num_replicas_in_sync
        self._global_batch = global_batch
        self._advises = advises and self._workers.is_chief
        self._clock = clock
        self._begin = 0.0
        self._traced = False
        self._measured = None
        self._sparse = ()
        self._calls = []
        self._epochs = []
        self._warned = set()

    @property
    def timings(self):
        """One `worker_table.Timing` per worker, over the epochs that have ended."""
        return [table.over_epochs(epochs) for epochs in zip(*self._epochs, strict=True)]

    def epoch(self):
        """Returns the results of the last epoch that are not single numbers, for a file."""
        known = self._epochs and table.scalars(self._epochs[-1])
        return {"workers": table.per_worker(self._epochs[-1])} if known else {}

    def input_seconds(self):
        """Returns the last epoch's seconds of waiting for input as an entry "input"; nothing where they are unknown."""
        waited = sum(waiting for _, _, waiting, _, _ in self._calls)
        return {} if math.isnan(waited) else {"input": round(waited, 4)}

    def summary(self):
        """Returns the numbers of the run, for its summary."""
        timings = self.timings
        return {
            "bytes_reduced_per_step": table.scalars(timings).get("bytes_reduced_per_step"),
            "workers": table.per_worker(timings),
        }

    def line(self):
        """Returns the numbers of the run in one line, or "" if nothing was measured."""
        return table.describe(self.timings)

    def on_epoch_begin(self, epoch, logs=None):
        """Resets the epoch's measurements."""
        self._calls = []

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the clock."""
        self._begin = self._clock()

    def on_train_measured(self, steps, measured):
        """Keeps the number of steps and the `Measured` of a call; runs before the call's `on_train_batch_end`."""
        self._measured = steps, *np.asarray(measured.sums).tolist()
        self._sparse = measured.sparse

    def on_train_batch_end(self, batch, logs=None):
        """Stops the clock."""
        seconds = self._clock() - self._begin
        if self._traced and self._measured:
            steps, waiting, own, sent = self._measured
            self._calls.append((steps, seconds, waiting, own, sent))
        self._traced, self._measured = True, None

    def on_epoch_end(self, epoch, logs=None):
        """Exchanges the epoch's numbers with the other workers, adds them to the logs, and warns of a problem once."""
        timings = [
            table.Timing(*row) for row in self._workers.gather(dataclasses.astuple(table.timing_of(self._calls)))
        ]
        self._epochs.append(timings)
        if logs is not None:
            logs.update(table.scalars(timings))
            if "examples_per_second" in logs:
                logs["examples_per_second_per_replica"] = round(logs["examples_per_second"] / self._replicas, 1)
        if self._advises:
            self._warn(timings)

    def _warn(self, timings):
        about = {"replicas": self._replicas, "sparse": self._sparse, "global_batch": self._global_batch}
        for kind, line in table.advice(timings, **about).items():
            # In the first epoch, later calls may compile too, so its times say nothing about the exchange.
            if kind == "exchange" and len(self._epochs) == 1 < self.params["epochs"]:
                continue
            if kind not in self._warned:
                warn(line)
            self._warned.add(kind)

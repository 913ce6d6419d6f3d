"""The report of stragglers and input: each worker measures itself, and at an epoch's end all hear of all."""

import dataclasses
import time

import keras
import numpy as np

from tfdist.callbacks import worker_table as workers
from tfdist.process.log import warn
from tfdist.strategy.choose import is_chief, worker_count
from tfdist.strategy.workers import make_gather


class Report(keras.callbacks.Callback):
    """Adds to the logs of each epoch how long a step takes, the share of waiting for input, and who is slowest.

    The first call of a run traces and compiles: it is left out. Whole steps take as long on every worker, for all wait
    for the slowest at the reduction. So each measures when its own gradients are ready, before that; on GPUs, and for
    a `train_step` of the user's own, nobody knows, and no worker is called the slowest. BatchNormalization that is
    synchronised, and losses that are means over weights or masks, let the workers wait for each other in the middle of
    the forward pass already: that part of a delay is counted on all of them. On one GPU alone the host runs ahead of
    the device, and what it waits for input is no more than an upper bound of what the device does.

    All workers must have it, for at the end of an epoch they exchange their numbers.

    Args:
        strategy: the `tf.distribute.Strategy`.
        global_batch: rows of a step over all replicas, for messages.
        clock: seconds; for tests.
    """

    every_worker = True

    def __init__(self, strategy, global_batch=None, clock=time.perf_counter):
        super().__init__()
        self._workers = worker_count(strategy)
        self._replicas = strategy.num_replicas_in_sync
        self._global_batch = global_batch
        self._gather = make_gather(strategy)
        self._speaks = is_chief(strategy)
        self._clock = clock
        self._begin = 0.0
        self._traced = False
        self._heard = None
        self._sparse = ()
        self._calls = []
        self._epochs = []
        self._said = set()

    @property
    def timings(self):
        """One `workers.Timing` a worker, over the epochs that have ended."""
        return [workers.over_epochs(epochs) for epochs in zip(*self._epochs, strict=True)]

    def epoch(self):
        """Gives what of the epoch that has just ended is no single number, for a file."""
        known = self._epochs and workers.scalars(self._epochs[-1])
        return {"workers": workers.per_worker(self._epochs[-1])} if known else {}

    def summary(self):
        """Gives the numbers of the run, for the summary that ends it."""
        timings = self.timings
        return {
            "bytes_reduced_per_step": workers.scalars(timings).get("bytes_reduced_per_step"),
            "workers": workers.per_worker(timings),
        }

    def line(self):
        """Gives the numbers of the run in one line; empty where nothing was measured."""
        return workers.describe(self.timings)

    def on_epoch_begin(self, epoch, logs=None):
        """Begins the epoch's count."""
        self._calls = []

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the clock."""
        self._begin = self._clock()

    def on_train_measured(self, steps, measured):
        """Hears, before the call's `on_train_batch_end`, how many steps it did and what `meter.Measured` it took."""
        self._heard = steps, *np.asarray(measured.sums).tolist()
        self._sparse = measured.sparse

    def on_train_batch_end(self, batch, logs=None):
        """Stops the clock."""
        seconds = self._clock() - self._begin
        if self._traced and self._heard:
            steps, waiting, own, sent = self._heard
            self._calls.append((steps, seconds, waiting, own, sent))
        self._traced, self._heard = True, None

    def on_epoch_end(self, epoch, logs=None):
        """Exchanges the epoch's numbers with the other workers, adds them to the logs, and says what is wrong, once."""
        timings = [workers.Timing(*row) for row in self._gather(dataclasses.astuple(workers.timing_of(self._calls)))]
        self._epochs.append(timings)
        if logs is not None:
            logs.update(workers.scalars(timings))
            if "examples_per_second" in logs:
                logs["examples_per_second_per_replica"] = round(logs["examples_per_second"] / self._replicas, 1)
        if self._speaks:
            self._warn(timings)

    def _warn(self, timings):
        about = {"replicas": self._replicas, "sparse": self._sparse, "global_batch": self._global_batch}
        for kind, line in workers.advice(timings, **about).items():
            # A first epoch may compile more than its first call, which says nothing about an exchange.
            if kind == "exchange" and len(self._epochs) == 1 < self.params["epochs"]:
                continue
            if kind not in self._said:
                warn(line)
            self._said.add(kind)

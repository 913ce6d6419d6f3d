"""Defines the contenders: each trains a `BenchTask` in its own way.

A contender's `run(steps)` trains `2 * steps` steps, of which the first half fills buffers, and returns the seconds of
the second half; its clock stops when the loss has been read, so that no step is still running.
"""

import time

import keras
import tensorflow as tf

from tfdist.bench.config import OURS
from tfdist.callbacks.base import Callback
from tfdist.process.errors import UsageError
from tfdist.training import fit


class SecondEpoch(Callback):
    """Times the second of two epochs, which excludes what `fit` does once; it has no batch hooks."""

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Stops the clock; the loss is a number by then."""
        self.seconds = time.perf_counter() - self._begin
        self.loss = float(logs["loss"])


class TfdistFit:
    """Trains with `tfdist.fit`.

    Args:
        task: a `BenchTask`.
        arguments: further arguments of `fit`.

    Attributes:
        model: the model that it trains.
        loss: the loss that it read last.
        calls_of: the number of steps per call.
    """

    def __init__(self, task, **arguments):
        self._task = task
        same = {name: getattr(task.config, name) for name in ("jit_compile", "sync_batchnorm")}
        self._arguments = same | arguments
        self.calls_of = task.config.steps_per_execution
        self.model = task.make_model(steps_per_execution=self.calls_of)
        self.loss = None

    def run(self, steps, callbacks=()):
        """Trains; returns the seconds of the second half."""
        clock = SecondEpoch()
        more = {"steps_per_epoch": steps, "epochs": 2, "verbose": 0, **self._arguments}
        fit(self.model, self._task.source, callbacks=[clock, *callbacks], **more)
        self.loss = clock.loss
        return clock.seconds


class KerasFit:
    """Trains with stock `keras.Model.fit`; attributes as in `TfdistFit`."""

    def __init__(self, task, steps_per_execution=1):
        self.calls_of = steps_per_execution
        self.model = task.make_model(steps_per_execution=steps_per_execution)
        self.loss = None
        self._dataset = task.dataset()

    def run(self, steps):
        """Trains; returns the seconds of the second half."""
        clock = SecondEpoch()
        self.model.fit(self._dataset, steps_per_epoch=steps, epochs=2, verbose=0, callbacks=[clock])
        self.loss = clock.loss
        return clock.seconds


class PlainLoop:
    """Trains with a hand-written loop over `tf.range` in one `tf.function`; attributes as in `TfdistFit`.

    On several replicas each computes the mean over its rows divided by the number of replicas, and the optimizer sums.
    """

    calls_of = 1

    def __init__(self, task, xla=False):
        self._strategy = strategy = task.strategy
        if xla and strategy.num_replicas_in_sync > 1:
            raise UsageError("XLA cannot compile a step with an all-reduce in it on CPUs. See plain_loop.")
        self.model = task.make_model()
        self.loss = None
        self._iterator = iter(strategy.experimental_distribute_dataset(task.dataset()))
        self._step = _make_step(self.model, strategy, xla)
        self._many_steps = tf.function(self._loop)

    def _loop(self, iterator, steps):
        loss = tf.zeros([])
        for _ in tf.range(steps):
            loss = self._step(next(iterator))
        return loss

    def run(self, steps):
        """Trains; returns the seconds of the second half."""
        for _ in range(2):
            begin = time.perf_counter()
            self.loss = float(self._many_steps(self._iterator, tf.constant(steps)))
            seconds = time.perf_counter() - begin
        return seconds


class PlainMultiWorker(PlainLoop):
    """Trains with a call of a `tf.function` per step, as in TensorFlow's guide to custom multi-worker loops."""

    def __init__(self, task):
        super().__init__(task)
        self._one_step = tf.function(self._step)

    def run(self, steps):
        """Trains; returns the seconds of the second half."""
        for _ in range(2):
            begin = time.perf_counter()
            for _ in range(steps):
                loss = self._one_step(next(self._iterator))
            self.loss = float(loss)
            seconds = time.perf_counter() - begin
        return seconds


def _make_step(model, strategy, xla):
    """Returns a function batch → the loss over all replicas, which updates the weights."""
    rows_loss = keras.losses.SparseCategoricalCrossentropy(reduction=None)
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=xla or None)
    def replica_step(x, y):
        with tf.GradientTape() as tape:
            means = [tf.reduce_mean(rows_loss(y, model(x, training=True))), *model.losses]
            loss = tf.add_n(means) / replicas
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        return loss

    def step(batch):
        return strategy.reduce("SUM", strategy.run(replica_step, args=batch), axis=None)

    return step


_MAKERS = {
    OURS: TfdistFit,
    "tfdist_all_reduce": lambda task: TfdistFit(task, exchange="all_reduce"),
    "tfdist_bfloat16": lambda task: TfdistFit(task, compression="bfloat16"),
    "keras_fit": KerasFit,
    "keras_fit_k50": lambda task: KerasFit(task, steps_per_execution=50),
    "plain_loop": PlainLoop,
    "plain_loop_xla": lambda task: PlainLoop(task, xla=True),
    "plain_multi_worker": PlainMultiWorker,
}


def make_contender(name, task):
    """Makes a contender by its name."""
    return _MAKERS[name](task)

"""A check during training that all replicas hold the same variables; the error names a replica that differs."""

import functools
import itertools

import numpy as np
import tensorflow as tf

from tfdist.callbacks.base import Callback
from tfdist.internals.access import models
from tfdist.internals.access.collectives import gather_over_replicas
from tfdist.internals.access.gathering import decode, encode
from tfdist.internals.access.kept import kept
from tfdist.internals.access.tracing import compiled
from tfdist.internals.access.variables import name_of, tf_variable
from tfdist.process.errors import StateError
from tfdist.strategy.replicas import run_on_replicas
from tfdist.strategy.workers import Workers

_STEPS_BETWEEN = 1000
# Elements of one piece of a weight: a digest needs a few times as many bytes, and the device may be nearly full.
_PIECE = 2**22
_BITS = {1: tf.int8, 2: tf.int16, 4: tf.int32, 8: tf.int64}


class DesyncCheck(Callback):
    """Compares the variables of all replicas at the start, at each epoch's end and about every 1,000 steps.

    Each replica's device computes a digest of 8 bytes per weight, and the digests are gathered. Weights themselves are
    gathered only where digests differ. All workers must run the callback, and all raise the same error.

    Args:
        strategy: the `tf.distribute.Strategy`.
        parts: None, or name → what is to be compared beside the model, such as the optimizer of a hand-written loop.

    Example:
        ```python
        import tfdist

        strategy = tfdist.choose_strategy("mirrored", replicas=2)
        # `tfdist.fit` and `tfdist.open_run` have it by themselves.
        check = tfdist.callbacks.DesyncCheck(strategy)
        ```
    """

    def __init__(self, strategy, parts=None):
        super().__init__()
        self._parts = parts
        self._strategy = strategy
        self._digests = Digests(strategy)
        self._batch = self._unchecked = 0

    def on_train_begin(self, logs=None):
        """Compares the weights at the start."""
        self._check()

    def on_epoch_begin(self, epoch, logs=None):
        """Resets the count of the epoch's steps."""
        self._batch = 0

    def on_train_batch_end(self, batch, logs=None):
        """Counts the steps, and compares the weights when enough steps are done."""
        self._unchecked += batch + 1 - self._batch
        self._batch = batch + 1
        if self._unchecked >= _STEPS_BETWEEN:
            self._check()

    def on_epoch_end(self, epoch, logs=None):
        """Compares the weights at the end of an epoch."""
        self._check()

    def _check(self):
        self._unchecked = 0
        if self._strategy.num_replicas_in_sync == 1:
            return
        when = f"after step {models.steps_done(self.model)}"
        check_replicas(self._strategy, models.variables_alike(self.model, self._parts), when, self._digests)


class Digests:
    """Computes 8 bytes for each variable of each replica, on its own device.

    Args:
        strategy: the `tf.distribute.Strategy`.
    """

    def __init__(self, strategy):
        self._strategy = strategy
        self._variables = []
        self._program = None

    def of(self, variables):
        """Returns a list with int64 (variables,) for each replica of this worker.

        On a CPU, NumPy computes them, because many small operations of TensorFlow take longer.
        """
        components = [_components(variable) for variable in variables]
        if all("CPU" in component.device for component in itertools.chain(*components)):
            replicas = zip(*components, strict=True)
            return [np.array([_digest_in_numpy(part.numpy()) for part in parts]) for parts in replicas]
        return [part.numpy() for part in self._strategy.experimental_local_results(self.program_for(variables)())]

    def program_for(self, variables):
        """Returns the compiled function that computes them on devices; it is kept for the next call."""
        if list(map(id, variables)) != list(map(id, self._variables)):
            self._variables = list(variables)
            self._program = compiled(functools.partial(run_on_replicas, self._strategy, self._on_replica))
        return self._program

    def _on_replica(self):
        return tf.stack([_digest(tf.convert_to_tensor(tf_variable(variable))) for variable in self._variables])


def check_replicas(strategy, variables, when="", digests=None):
    """Compares variables that must be equal on all replicas; all workers must call it at the same time.

    Args:
        strategy: the `tf.distribute.Strategy`.
        variables: `keras.Variable`s, in the same order on every worker.
        when: the time of the comparison, for the message.
        digests: the strategy's `Digests`, for repeated calls.

    Raises:
        RuntimeError: a replica differs by more than rounding; the message names the first one and the variable.
    """
    if strategy.num_replicas_in_sync == 1 or not variables:
        return
    found = _of_all_replicas(strategy, (digests or Digests(strategy)).of(variables))
    for index in np.flatnonzero((found != found[0]).any(axis=0)):
        values = _of_all_replicas(strategy, [np.ravel(part.numpy()) for part in _components(variables[index])])
        if differing := first_differing_replica(values):
            replica, difference = differing
            raise StateError(
                f"weights: replica {replica}{_worker_of(replica, strategy)} differs from replica 0 in "
                f"{name_of(variables[index])} {when} (max difference {difference:.3g}). Something changed it on one "
                "replica alone: a callback that runs on one worker, or a layer or train_step that assigns a value "
                "computed from its own rows only. Do it on every worker, or sum the value over the replicas first "
                "(tfdist.global_sum). If the replicas are meant to differ in it, declare that: "
                "tfdist.keep_per_replica(variable)."
            )


def first_differing_replica(values):
    """Finds the first replica whose values differ from those of replica 0.

    Workers with different processors may round differently, so only half of the digits must agree.

    Args:
        values: array (replicas, size).

    Returns:
        (replica, largest difference), or None.
    """
    rounding = np.finfo(values.dtype).eps ** 0.5 if np.issubdtype(values.dtype, np.floating) else 0
    wide = values.astype(np.float64)
    limit = rounding * np.max(np.abs(wide[0]), initial=0)
    for replica in range(1, len(wide)):
        same = (values[replica] == values[0]) | (np.isnan(wide[replica]) & np.isnan(wide[0]))
        difference = np.max(np.where(same, 0, np.abs(wide[replica] - wide[0])), initial=0)
        if not difference <= limit:
            return replica, float(difference)
    return None


def _components(variable):
    """Returns the `tf.Variable` of each replica of this worker."""
    value = tf_variable(variable)
    return value.values if isinstance(value, tf.distribute.DistributedValues) else (value,)


def _digest(value):
    """Returns the sum of a tensor's bits, element by element, each weighted by an odd number for its place: int64."""
    value = tf.reshape(tf.cast(value, tf.int8) if value.dtype == tf.bool else value, [-1])
    total = tf.zeros([], tf.int64)
    for start in range(0, value.shape[0], _PIECE):
        # Cut before it is cast to bits, because TensorFlow cuts int32 in the host's memory.
        bits = tf.bitcast(value[start : start + _PIECE], _BITS[value.dtype.size])
        places = tf.range(start, start + bits.shape[0], dtype=tf.int64)
        total += tf.reduce_sum(tf.cast(bits, tf.int64) * (2 * places + 1))
    return total


def _digest_in_numpy(array):
    bits = np.ravel(array).view(f"int{8 * array.dtype.itemsize}")
    total = np.zeros([], np.int64)
    for start in range(0, bits.size, _PIECE):
        piece = bits[start : start + _PIECE].astype(np.int64)
        # Sums wrap around, in NumPy as in TensorFlow.
        total += np.sum(piece * (2 * np.arange(start, start + piece.size) + 1))
    return total


def _of_all_replicas(strategy, mine):
    """Gathers one array (size,) from each replica: returns (replicas, size), the same on every worker."""
    if len(mine) == strategy.num_replicas_in_sync:
        return np.stack(mine)
    rows = iter(mine)
    values = strategy.experimental_distribute_values_from_function(lambda context: tf.constant(next(rows)))
    # Compiled, because an eager function would be traced at each call.
    gather = kept(strategy, "gather", lambda: compiled(functools.partial(_gathered, strategy), reduce_retracing=True))
    return gather(values).numpy()


def _gathered(strategy, values):
    return strategy.experimental_local_results(run_on_replicas(strategy, _replica_gather, values))[0]


def _replica_gather(value):
    (whole,) = gather_over_replicas([encode(value)])
    return decode(whole, value.dtype)


def _worker_of(replica, strategy):
    workers = Workers.of(strategy).count
    return f" (worker {replica * workers // strategy.num_replicas_in_sync})" if workers > 1 else ""

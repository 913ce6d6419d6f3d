"""A check during training that all replicas hold the same variables; the error names a replica that differs."""

import functools

import numpy as np
import tensorflow as tf

from tfdist.callbacks.base import Callback
from tfdist.internals.access import models
from tfdist.internals.access.kept import kept
from tfdist.internals.access.tracing import compiled
from tfdist.internals.access.variables import name_of, tf_variable
from tfdist.process.errors import StateError
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
        self._gather = compiled_gather(strategy)
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
        check_replicas(self._strategy, models.variables_alike(self.model, self._parts), when, self._gather)


def compiled_gather(strategy):
    """Returns a compiled function: per-replica values → all of them. An eager `gather` would be traced at each call."""
    gather = functools.partial(compiled, lambda values: strategy.gather(values, axis=0), reduce_retracing=True)
    return kept(strategy, "gather", gather)


def check_replicas(strategy, variables, when="", gather=None):
    """Compares variables that must be equal on all replicas; all workers must call it at the same time.

    Args:
        strategy: the `tf.distribute.Strategy`.
        variables: `keras.Variable`s, in the same order on every worker.
        when: the time of the comparison, for the message.
        gather: the result of `compiled_gather`, for repeated calls.

    Raises:
        RuntimeError: a replica differs by more than rounding; the message names the first one and the variable.
    """
    if strategy.num_replicas_in_sync == 1 or not variables:
        return
    gather = gather or compiled_gather(strategy)
    digests = _of_all_replicas(
        strategy, gather, [_digests(parts) for parts in zip(*map(_components, variables), strict=True)]
    )
    for index in np.flatnonzero((digests != digests[0]).any(axis=0)):
        values = _of_all_replicas(strategy, gather, [np.ravel(part.numpy()) for part in _components(variables[index])])
        if found := first_differing_replica(values):
            replica, difference = found
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


def _digests(components):
    """Returns int64 (variables,): for each, the sum of its elements' bits, weighted by an odd number for each place.

    The sum is computed on the device that holds the variables. On a CPU, NumPy computes it, because many small eager
    operations of TensorFlow take longer.
    """
    if all("CPU" in component.device for component in components):
        return np.array([_digest_in_numpy(component.numpy()) for component in components])
    return tf.stack([_digest(component) for component in components]).numpy()


def _digest(component):
    value = tf.reshape(tf.convert_to_tensor(component), [-1])
    bits = tf.cast(value, tf.int8) if value.dtype == tf.bool else tf.bitcast(value, _BITS[value.dtype.size])
    total = tf.zeros([], tf.int64)
    for start in range(0, value.shape[0], _PIECE):
        piece = tf.cast(bits[start : start + _PIECE], tf.int64)
        places = tf.range(start, start + tf.size(piece), dtype=tf.int64)
        total += tf.reduce_sum(piece * (2 * places + 1))
    return total


def _digest_in_numpy(array):
    bits = np.ravel(array).view(f"int{8 * array.dtype.itemsize}")
    total = np.zeros([], np.int64)
    for start in range(0, bits.size, _PIECE):
        piece = bits[start : start + _PIECE].astype(np.int64)
        # Sums wrap around, in NumPy as in TensorFlow.
        total += np.sum(piece * (2 * np.arange(start, start + piece.size) + 1))
    return total


def _of_all_replicas(strategy, gather, mine):
    """Gathers one array (size,) from each replica: returns (replicas, size), the same on every worker."""
    if len(mine) == strategy.num_replicas_in_sync:
        return np.stack(mine)
    rows = iter(mine)
    values = strategy.experimental_distribute_values_from_function(lambda context: tf.constant(next(rows)[np.newaxis]))
    return gather(values).numpy()


def _worker_of(replica, strategy):
    workers = Workers.of(strategy).count
    return f" (worker {replica * workers // strategy.num_replicas_in_sync})" if workers > 1 else ""

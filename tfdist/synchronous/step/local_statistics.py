"""Makes one value of what the replicas compute each for itself: statistics of BatchNormalization, states of layers."""

import contextlib

import tensorflow as tf

from tfdist.internals.access import models
from tfdist.internals.access.collectives import sum_over_replicas
from tfdist.strategy.replicas import run_on_replicas
from tfdist.synchronous.step.layer_states import LayerStates


class LocalStatistics:
    """Averages each replica's own statistics over the replicas, weighted by the rows that each has seen.

    Without that, replicas would save and predict differently. The moving statistics of BatchNormalization layers that
    are not synchronized are averaged once per call, other states of layers when they are assigned.

    Args:
        model: a built `keras.Model`.
        strategy: its `tf.distribute.Strategy`.

    Attributes:
        variables: the moving statistics that are averaged once per call.
        kept_back: the variables that a replica without rows must not change: these, and what each keeps for itself.
    """

    def __init__(self, model, strategy):
        self._strategy = strategy
        several = strategy.num_replicas_in_sync > 1
        self.variables = models.unsynchronized_statistics(model) if several else []
        self.kept_back = [*self.variables, *(models.states_of_replicas(model) if several else [])]
        self._states = LayerStates(model) if several else None
        if self.variables:
            with strategy.scope():
                self._seen = tf.Variable(
                    0.0,
                    trainable=False,
                    dtype="float64",
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )

    def states_are_combined(self):
        """Returns a context to enter around a step's replica function, so that `states_kept` has an effect."""
        return self._states.are_combined() if self._states else contextlib.nullcontext()

    def states_kept(self):
        """Returns a context to enter in replica context: what layers assign there counts for all replicas."""
        return self._states.kept() if self._states else contextlib.nullcontext()

    def count(self, rows):
        """Counts a replica's rows of a step; called in replica context."""
        if self.variables:
            self._seen.assign_add(tf.cast(rows.mine, "float64"))

    def average_after(self, rows):
        """Averages after a step in which each replica saw so many rows, an int64 per-replica value."""
        if self.variables:
            run_on_replicas(self._strategy, lambda mine: self._seen.assign_add(tf.cast(mine, "float64")), rows)
            self.average()

    def average(self):
        """Averages at the end of a call; called in cross-replica context."""
        if self.variables:
            run_on_replicas(self._strategy, self._replica_average)

    def _replica_average(self):
        mine = tf.convert_to_tensor(self._seen)
        (total,) = sum_over_replicas([mine])
        share = tf.math.divide_no_nan(mine, total)
        values = [tf.convert_to_tensor(variable.value) for variable in self.variables]
        means = sum_over_replicas([tf.math.multiply_no_nan(value, tf.cast(share, value.dtype)) for value in values])
        for variable, value, mean in zip(self.variables, values, means, strict=True):
            variable.assign(tf.where(total > 0, mean, value))
        self._seen.assign(tf.zeros_like(mine))

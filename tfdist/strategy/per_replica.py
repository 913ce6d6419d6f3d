"""Declares which variables the replicas are meant to differ in."""

from typing import TypeVar

import keras
import tensorflow as tf

from tfdist.internals.access import variables
from tfdist.process.errors import UsageError

Variable = TypeVar("Variable", keras.Variable, tf.Variable)


def keep_per_replica(variable: Variable) -> Variable:
    """Declares that each replica keeps a value of its own in a variable, such as a bank of the rows that it has seen.

    Without that, what a replica assigns from its rows counts for all replicas, and a difference is an error. A
    checkpoint holds the value of each replica, and a run resumes with it on the same number of replicas.

    Args:
        variable: a `keras.Variable` or `tf.Variable`.

    Returns:
        The same variable.

    Raises:
        ValueError: it is no variable, or its `aggregation` says how the replicas' values become one.

    Example:
        ```python
        import keras
        import tfdist

        class Bank(keras.layers.Layer):
            def build(self, shape):
                bank = self.add_weight(shape=(16, shape[-1]), initializer="zeros", trainable=False, name="bank")
                self.bank = tfdist.keep_per_replica(bank)

            def call(self, x, training=False):
                if training:
                    self.bank.assign(keras.ops.concatenate([self.bank, x])[-16:])
                return x
        ```
    """
    if not isinstance(variable, keras.Variable | tf.Variable):
        raise UsageError(f"keep_per_replica: {variable!r} is no variable. Give a keras.Variable or a tf.Variable.")
    declared = variable.aggregation
    if declared not in ("none", None, tf.VariableAggregation.NONE):
        raise UsageError(
            f"keep_per_replica: {variables.name_of(variable)} has aggregation {declared!r}, which makes one value of "
            'those of all replicas. Make it with aggregation="none".'
        )
    variables.mark_per_replica(variable)
    return variable

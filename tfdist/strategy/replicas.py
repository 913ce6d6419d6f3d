"""The one seam to the replicas: what may be passed to a function that runs on all of them."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def run_on_replicas(strategy: tf.distribute.Strategy, function: Callable[..., Any], *values: Any) -> Any:
    """Runs a function on all replicas; returns per-replica values, as `strategy.run` does.

    A TPU turns every argument into a tensor, so only tensors are arguments, and the function closes over all else:
    models, functions, options.

    Args:
        strategy: the `tf.distribute.Strategy`.
        function: a function of the values, called on each replica.
        values: nested tensors, variables or per-replica values; None stays None.

    Raises:
        TypeError: something else is among the values.
    """
    for value in tf.nest.flatten(values):
        if value is not None and not _is_tensor(value):
            raise TypeError(f"run_on_replicas: {value!r} is no tensor. The function must close over it.")
    return strategy.run(function, args=values)


def _is_tensor(value):
    return tf.is_tensor(value) or isinstance(value, tf.Variable | tf.distribute.DistributedValues)

"""The one seam to the replicas: what may be passed to a function that runs on all of them."""

import collections
import contextlib
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
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
    with _warnings_of_one_replica():
        return strategy.run(function, args=values)


@contextlib.contextmanager
def _warnings_of_one_replica() -> Iterator[None]:
    """Shows a warning as often as one replica gives it, because replicas are traced one after the other."""
    shown: Counter[Hashable] = collections.Counter()
    # Each replica is traced in a thread of its own.
    given: Counter[Hashable] = collections.Counter()

    def warn(message: Any, category: Any = None, stacklevel: int = 1, *arguments: Any, **options: Any) -> None:
        text = str(message), category
        here = threading.get_ident(), *text
        given[here] += 1
        if given[here] > shown[text]:
            shown[text] += 1
            before(message, category, stacklevel + 1, *arguments, **options)

    before = warnings.warn
    warnings.warn = warn
    try:
        yield
    finally:
        warnings.warn = before


def _is_tensor(value):
    return tf.is_tensor(value) or isinstance(value, tf.Variable | tf.distribute.DistributedValues)

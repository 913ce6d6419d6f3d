"""The one seam to the replicas: what may be passed to a function that runs on all of them."""

import collections
import contextlib
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import tensorflow as tf

from tfdist.internals.access import tpu


def run_on_replicas(strategy: tf.distribute.Strategy, function: Callable[..., Any], *values: Any) -> Any:
    """Runs a function on all replicas; returns per-replica values, as `strategy.run` does.

    Within the one program of a step on a TPU, the function is called on the replica that is being traced. A TPU turns
    every argument into a tensor, so only tensors are arguments, and the function closes over all else: models,
    functions, options.

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
    if tpu.program_graph() is not None:
        return function(*values)
    with _warnings_of_one_replica():
        return strategy.run(function, args=values)


def run_as_one_program(strategy: tf.distribute.Strategy, function: Callable[..., Any], *values: Any) -> Any:
    """Calls a function that itself calls `run_on_replicas`; on a TPU, where each such call would be a program, in one.

    Branches in it may hold collectives. A TPU starts each program from the host, and keeps nothing in its fast memory
    between two of them.

    Args:
        strategy: the `tf.distribute.Strategy`.
        function: a function of the values whose result is the same on all replicas: nested tensors, numbers and None.
        values: as for `run_on_replicas`.
    """
    if not tpu.is_tpu(strategy):
        return function(*values)
    whole: list[Any] = []

    def program(*mine: Any) -> list[tf.Tensor]:
        whole[:] = [function(*mine)]
        return [part for part in tf.nest.flatten(whole) if tf.is_tensor(part)]

    results = run_on_replicas(strategy, program, *values)
    tensors = (strategy.experimental_local_results(part)[0] for part in results)
    (result,) = tf.nest.map_structure(lambda part: next(tensors) if tf.is_tensor(part) else part, whole)
    return result


def merge_replicas(function: Callable[..., Any], *values: Any) -> Any:
    """Calls a function (strategy, *values), from replica context, where its branches may hold collectives.

    That is in cross-replica context, with per-replica values; in the program of a TPU, on each replica.
    """
    context = tf.distribute.get_replica_context()
    if tpu.program_graph() is not None:
        return function(context.strategy, *values)
    return context.merge_call(function, args=values)


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

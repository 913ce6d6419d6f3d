"""Jobs that fail, each in another way, for `tests/test_worker_group.py`."""

import os
import time

import tensorflow as tf


def process(strategy, number):
    """Returns the process that the job runs in; the number makes it another job."""
    return os.getpid()


def total(strategy):
    """Returns the sum over both workers, of one reduction."""
    reduced = strategy.run(lambda: tf.distribute.get_replica_context().all_reduce("SUM", tf.constant(1.0)))
    return float(reduced)


def raise_on_all(strategy, text):
    """Raises alike on all workers."""
    raise ValueError(text)


def raise_on_the_chief(strategy):
    """Raises on the chief, while the other worker waits for it."""
    if strategy.cluster_resolver.task_id == 0:
        raise ValueError("the chief alone")
    return total(strategy)


def leave(strategy):
    """Ends worker 1, while the chief waits for it."""
    if strategy.cluster_resolver.task_id == 1:
        print("worker 1 leaves", flush=True)
        os._exit(9)
    return total(strategy)


def sleep(strategy):
    """Lasts longer than any test."""
    time.sleep(1000)

"""Exchanges numbers between workers.

The chief's decisions and the flags of any worker reach all workers at the same step.
"""

import functools

import numpy as np
import tensorflow as tf

from tfdist.internals.access.collectives import sum_over_replicas
from tfdist.internals.access.tracing import compiled
from tfdist.strategy.choose import worker_count, worker_rank


# Cached for the next `fit`, because tracing takes longer than a short run.
@functools.lru_cache(maxsize=2)
def make_vote(strategy):
    """Returns a function that sends the chief's numbers to all workers and combines the flags of all workers.

    Args:
        strategy: the `tf.distribute.Strategy`.

    Returns:
        A function (numbers, flags) → (the chief's numbers, for each flag whether it is true on any worker). All workers
        must call it at the same point, with lists of the same lengths.
    """

    def replica_part(numbers, flags):
        first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
        mine = tf.where(first, numbers, tf.zeros_like(numbers))
        return sum_over_replicas([tf.concat([mine, flags], axis=0)])[0]

    def sum_of_parts(numbers, flags):
        return strategy.experimental_local_results(strategy.run(replica_part, args=(numbers, flags)))[0]

    # Traced for each pair of lengths, because collectives need known shapes.
    program = compiled(sum_of_parts)

    def vote(numbers, flags):
        totals = program(tf.constant(numbers, tf.float64), tf.constant(flags, tf.float64))
        answers = np.asarray(totals).tolist()
        return answers[: len(numbers)], [total > 0 for total in answers[len(numbers) :]]

    return vote


def make_broadcast(strategy):
    """Returns a function numbers → the chief's numbers, which all workers must call at the same point.

    Args:
        strategy: the `tf.distribute.Strategy`.
    """
    vote = make_vote(strategy)
    return lambda numbers: vote(numbers, [])[0]


@functools.lru_cache(maxsize=2)
def make_gather(strategy):
    """Returns a function that gathers each worker's numbers on all workers.

    Args:
        strategy: the `tf.distribute.Strategy`.

    Returns:
        A function numbers → one list of numbers for each worker. All workers must call it at the same point, with
        equally many numbers.
    """
    workers = worker_count(strategy)
    rank = worker_rank(strategy)
    if workers == 1:
        return lambda numbers: [list(numbers)]

    local_replicas = strategy.num_replicas_in_sync // workers

    def replica_part(rows):
        first = tf.distribute.get_replica_context().replica_id_in_sync_group % local_replicas == 0
        return sum_over_replicas([tf.where(first, rows, tf.zeros_like(rows))])[0]

    def sum_of_rows(rows):
        return strategy.experimental_local_results(strategy.run(replica_part, args=(rows,)))[0]

    program = compiled(sum_of_rows, reduce_retracing=True)

    def gather(numbers):
        # Each worker fills its own row of a table of zeros: the others add zero, so the sum is the row, also of NaN.
        rows = np.zeros([workers, len(numbers)])
        rows[rank] = numbers
        return np.asarray(program(tf.constant(rows))).tolist()

    return gather

"""Who this worker is among those that train together, and what they exchange: decisions and numbers, not gradients."""

import contextlib
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfdist.internals.access import tpu
from tfdist.internals.access.collectives import sum_over_replicas
from tfdist.internals.access.kept import kept
from tfdist.internals.access.tracing import compiled
from tfdist.strategy.peers import LOSS_ERRORS, exit_on_peer_loss, is_peer_loss
from tfdist.strategy.replicas import run_on_replicas

_LINGER_SECONDS = 0.1


class Workers:
    """The workers that train together under one strategy; this object stands for a worker that is alone.

    All workers must call `vote`, `broadcast`, `gather` and `wait` at the same points, with equally many numbers.

    Attributes:
        count: the number of workers.
        rank: the place of this worker among them, from 0.
        is_chief: whether this worker is the chief, which alone writes what must exist only once.

    Example:
        ```python
        workers = Workers.of(strategy)
        if workers.is_chief:
            print("one line, whatever the number of workers")
        ```
    """

    count: int = 1
    rank: int = 0
    is_chief: bool = True

    @staticmethod
    def of(strategy: tf.distribute.Strategy) -> "Workers":
        """Returns the workers of a strategy, the same object for each call."""
        return kept(strategy, "workers", lambda: _make_workers(strategy))

    def vote(self, numbers: Sequence[float], flags: Sequence[bool]) -> tuple[list[float], list[bool]]:
        """Returns (the chief's numbers, for each flag whether it is true on any worker)."""
        return list(numbers), list(map(bool, flags))

    def broadcast(self, numbers: Sequence[float]) -> list[float]:
        """Returns the chief's numbers."""
        return self.vote(numbers, [])[0]

    def gather(self, numbers: Sequence[float]) -> list[list[float]]:
        """Returns one list of numbers for each worker, in the order of their ranks."""
        return [list(numbers)]

    def wait(self) -> None:
        """Waits until all workers have arrived, because the others may still need each of them.

        A worker that is lost at this point is not needed any more: it left because all had arrived, or its own exit
        code reports its failure.
        """

    def exit_on_peer_loss(self) -> contextlib.AbstractContextManager[None]:
        """Returns a context in which the loss of another worker ends this one by `PeerLostError`."""
        return contextlib.nullcontext()


def _make_workers(strategy: tf.distribute.Strategy) -> Workers:
    resolver = strategy.cluster_resolver
    # This process controls all hosts of a TPU, which its resolver lists as workers.
    if tpu.is_tpu(strategy) or resolver is None or not getattr(resolver, "task_type", None):
        return Workers()
    jobs = resolver.cluster_spec().as_dict()
    chiefs = len(jobs.get("chief", ()))
    count = max(1, chiefs + len(jobs.get("worker", ())))
    rank = resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)
    is_chief = resolver.task_type == "chief" or (not chiefs and resolver.task_id == 0)
    if count == 1 and is_chief:
        return Workers()
    return SeveralWorkers(strategy, count, rank, is_chief)


class SeveralWorkers(Workers):
    """Workers that exchange numbers by collectives of their strategy.

    Args:
        strategy: the `tf.distribute.Strategy`.
        count, rank, is_chief: as in `Workers`.
    """

    def __init__(self, strategy: tf.distribute.Strategy, count: int, rank: int, is_chief: bool) -> None:
        self.count, self.rank, self.is_chief = count, rank, is_chief
        self._strategy = strategy
        # One for each pair of lengths, because collectives need known shapes; concrete, because TensorFlow warns of a
        # function that it traces for many.
        self._sum_of_votes: dict[tuple[int, int], Callable[..., tf.Tensor]] = {}
        self._sum_of_rows = compiled(self._on_replicas(self._replica_rows), reduce_retracing=True)

    def _on_replicas(self, replica_part):
        def on_replicas(*tensors):
            results = run_on_replicas(self._strategy, replica_part, *tensors)
            return self._strategy.experimental_local_results(results)[0]

        return on_replicas

    def vote(self, numbers: Sequence[float], flags: Sequence[bool]) -> tuple[list[float], list[bool]]:
        lengths = len(numbers), len(flags)
        if lengths not in self._sum_of_votes:
            specs = [tf.TensorSpec([length], tf.float64) for length in lengths]
            self._sum_of_votes[lengths] = compiled(self._on_replicas(_replica_vote)).get_concrete_function(*specs)
        totals = self._sum_of_votes[lengths](tf.constant(numbers, tf.float64), tf.constant(flags, tf.float64))
        answers = np.asarray(totals).tolist()
        return answers[: len(numbers)], [total > 0 for total in answers[len(numbers) :]]

    def gather(self, numbers: Sequence[float]) -> list[list[float]]:
        # Each worker fills its own row of a table of zeros: the others add zero, so the sum is the row, also of NaN.
        rows = np.zeros([self.count, len(numbers)])
        rows[self.rank] = numbers
        return np.asarray(self._sum_of_rows(tf.constant(rows))).tolist()

    def _replica_rows(self, rows):
        own_replicas = self._strategy.num_replicas_in_sync // self.count
        first = tf.distribute.get_replica_context().replica_id_in_sync_group % own_replicas == 0
        return sum_over_replicas([tf.where(first, rows, tf.zeros_like(rows))])[0]

    def wait(self) -> None:
        try:
            self.vote([0.0], [])
        except LOSS_ERRORS as error:
            if not is_peer_loss(error):
                raise
        # The worker that gets its sum first would otherwise leave early, and the others would log an error.
        time.sleep(_LINGER_SECONDS)

    def exit_on_peer_loss(self) -> contextlib.AbstractContextManager[None]:
        return exit_on_peer_loss()


def _replica_vote(numbers, flags):
    first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
    mine = tf.where(first, numbers, tf.zeros_like(numbers))
    return sum_over_replicas([tf.concat([mine, flags], axis=0)])[0]
